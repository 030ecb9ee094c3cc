"""CSV with a header line and a column of times: one topic, ``csv``, with a field for each column.

Times: a column ``t``, ``time``, ``timestamp`` or ``stamp``, optionally with its unit (``t_ns``, ``time_ms``); without one,
seconds, unless the first value can only be finer. A column of whose first thousand values nine in ten are numbers holds
numbers; an empty cell is NaN. A last line without its line feed may be cut and is not delivered.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice

from edge_monitor.core.messages import Channel
from edge_monitor.errors import DamagedInputError

from .recording import BLOCK, Item, Recording
from .rows import NUMBER, TEXT, RowBatch, Value, definition, field_names, guess_unit, nanoseconds, time_unit

SAMPLE = 1000  #: rows that decide what a column holds
Numbered = tuple[int, list[str]]  #: line number and cells


class CsvRecording(Recording):
    """A CSV file."""

    format = "csv"

    def _items(self) -> Iterator[Item]:
        with self.path.open("rb") as raw:
            raw.seek(-1, io.SEEK_END)
            self.whole = raw.read(1) in b"\r\n"
            raw.seek(0)
            with io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
                line = text.readline()
                delimiter = max(",;\t", key=line.count)
                header = next(csv.reader([line], delimiter=delimiter), [])
                rows = self._rows(csv.reader(text, delimiter=delimiter), len(header))
                for item in self._read(header, rows):
                    self.position = raw.tell()
                    yield item

    def _rows(self, reader: Iterator[list[str]], width: int) -> Iterator[Numbered]:
        """Rows of the right width; the others are counted in ``odd``."""
        self.odd: list[int] = []
        held: Numbered | None = None
        number = 1
        while True:
            try:
                row = next(reader)
            except StopIteration:
                break
            except csv.Error:
                row = []
            number = 1 + reader.line_num  # type: ignore[attr-defined]
            if not row and held is None:
                continue
            if held is not None:
                if len(held[1]) == width:
                    yield held
                elif held[1]:
                    self.odd.append(held[0])
            held = number, row
        if held is not None and held[1]:
            if self.whole and len(held[1]) == width:
                yield held
            else:
                self.odd.append(held[0])

    def _read(self, header: list[str], rows: Iterator[Numbered]) -> Iterator[Item]:
        times = [i for i, name in enumerate(header) if time_unit(name) is not None]
        if not times:
            raise DamagedInputError(
                f"{self.path}: line 1: no column of times; name one t_s (seconds), t_ms, t_us, t_ns, time or timestamp"
            )
        time = times[0]
        first = list(islice(rows, SAMPLE))
        columns = [i for i in range(len(header)) if i != time]
        kinds = {i: _kind([row[i] for _, row in first]) for i in columns}
        columns.sort(key=lambda i: kinds[i] == TEXT)  # stable: numbers first, so that their places are fixed
        unit = time_unit(header[time]) or (guess_unit(first[0][1][time]) if first else "s")
        text = definition(field_names(header[i] for i in columns), [kinds[i] for i in columns])
        channel, _ = self.table.add("csv", "csv/msg/Row", "cdr", "ros2msg", text)
        yield channel
        yield from self._messages(chain(first, rows), channel, (time, unit), [(i, kinds[i] == NUMBER) for i in columns])
        yield from self._report(header)

    def _messages(
        self, rows: Iterator[Numbered], channel: Channel, time: tuple[int, str], columns: list[tuple[int, bool]]
    ) -> Iterator[Item]:
        self.timeless: list[int] = []
        self.wrong: Counter[int] = Counter()
        wanted, batch = self.table.wants(channel), RowBatch()
        for number, row in rows:
            try:
                t = nanoseconds(row[time[0]].strip(), time[1])
            except ValueError:
                self.timeless.append(number)
                continue
            if not wanted:
                self.counts[channel.id] += 1
                continue
            values: list[Value] = []
            for i, is_number in columns:
                if is_number and not _is_number(row[i]):
                    self.wrong[i] += 1
                values.append(_number(row[i]) if is_number else row[i])
            batch.add(t, channel.id, values)
            if len(batch) > BLOCK:
                yield from batch.take()
        yield from batch.take()

    def _report(self, header: list[str]) -> Iterator[Item]:
        for lines, what in ((self.odd, "cut or of another width than the header"), (self.timeless, "without a time")):
            if lines:
                yield self.damage(f"{len(lines)} lines {what}, the first is line {lines[0]}", lost=len(lines))
        for column, count in self.wrong.items():
            yield self.damage(f"column {header[column]!r}: {count} values are no numbers; they count as missing")


def _kind(cells: list[str]) -> str:
    """What a column holds; a damaged cell must not make text of numbers."""
    filled = [cell for cell in cells if cell]
    return NUMBER if sum(map(_is_number, filled)) >= 0.9 * len(filled) else TEXT


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def _number(cell: str) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return float("nan")
