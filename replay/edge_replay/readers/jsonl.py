"""JSONL: one JSON object a line, with a time and, where there are several, a ``topic`` (otherwise the topic is ``jsonl``).

Times as in CSV (``t``, ``t_ns``, ``time_ms``, …). Numbers, true and false become ``float64`` fields, texts ``string``,
lists of numbers ``float64[]``; the fields of an object inside get its name in front (``pose_x``). The first object of a
topic says what its fields are: what later ones lack is NaN or empty, what they have more is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from edge_monitor.core.messages import Channel

from .recording import BLOCK, MAX_CHUNK, Item, Recording
from .rows import NUMBER, NUMBERS, TEXT, RowBatch, Value, definition, field_names, guess_unit, nanoseconds, time_unit


class JsonlRecording(Recording):
    """A JSONL file."""

    format = "jsonl"

    def _items(self) -> Iterator[Item]:
        self.topics_met: dict[str, tuple[Channel, str, str, dict[str, str]]] = {}
        bad: list[int] = []
        batch = RowBatch()
        with self.path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_CHUNK):
                number += 1
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                    yield from self._take(record, batch)
                except (ValueError, TypeError, RecursionError):
                    bad.append(number)
                if len(batch) > BLOCK:
                    self.position = file.tell()
                    yield from batch.take()
        yield from batch.take()
        if bad:
            what = f"{len(bad)} lines that are no JSON object with a time, the first is line {bad[0]}"
            yield self.damage(what, lost=len(bad))

    def _take(self, record: Any, batch: RowBatch) -> Iterator[Item]:
        """Add one object. Raises ValueError or TypeError where it is none, or has no time."""
        topic = record.pop("topic", "jsonl") if isinstance(record, dict) else None
        if not isinstance(topic, str):
            raise ValueError
        if topic not in self.topics_met:
            time = next(name for name in [*record, ""] if not name or time_unit(name) is not None)
            if not time:
                raise ValueError
            unit = time_unit(time) or guess_unit(record[time])
            nanoseconds(record[time], unit)
            kinds = {name: _kind(value) for name, value in _flat(record) if name != time}
            kinds = dict(sorted(kinds.items(), key=lambda item: item[1] != NUMBER))
            text = definition(field_names(kinds), list(kinds.values()))
            channel, new = self.table.add(topic, "jsonl/msg/Row", "cdr", "ros2msg", text)
            self.topics_met[topic] = channel, time, unit, kinds
            if new:
                yield channel
        channel, time, unit, kinds = self.topics_met[topic]
        if time not in record:
            raise ValueError
        t = nanoseconds(record[time], unit)
        if not self.table.wants(channel):
            self.counts[channel.id] += 1
            return
        given = dict(_flat(record))
        batch.add(t, channel.id, [_value(given.get(name), kind) for name, kind in kinds.items()])


def _flat(record: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}_")
        else:
            yield above + name, value


def _kind(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, (int, float)) for each in value):
        return NUMBERS
    return NUMBER if value is None or isinstance(value, (int, float)) else TEXT


def _value(value: Any, kind: str) -> Value:
    """A value as its field's kind has it; what does not fit is missing."""
    if kind == NUMBER:
        return _number(value)
    if kind == NUMBERS:
        return [_number(each) for each in value] if isinstance(value, list) else []
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, (int, float)) else float("nan")
    except OverflowError:  # an integer of more than 308 digits
        return float("nan")
