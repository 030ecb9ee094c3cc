"""rosbag2 SQLite files, whole or damaged.

A database is read page by page (``sqlite_pages``) whether it is damaged or not, so there is one path to trust. Rows come in
order of their ids; where recorders wrote them slightly out of time order, neighbouring batches are merged.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

import numpy as np

from edge_monitor.core.messages import Damage
from edge_monitor.core.samples import MESSAGE
from edge_monitor.errors import DamagedInputError

from . import rosbag2_cells as cells
from .recording import BLOCK, MAX_CHUNK, ByteFile, Bytes, Item, MalformedError, Merger, Recording, in_time_order
from .sqlite_pages import INDEX_INTERIOR, LAST, TABLE_LEAF, Leaf, Pages, Table, rows_of_leaf, table_rows

GROUP = 256  #: leaf pages read at a time
ZSTD = b"\x28\xb5\x2f\xfd"


class Rosbag2File(Recording):
    """One rosbag2 SQLite file."""

    format = "rosbag2-sqlite3"

    def _items(self) -> Iterator[Item]:
        with ByteFile(self.path) as file:
            yield from _Bag(self, file).items()


class _Bag:
    """One pass over a file: the state that the methods share."""

    def __init__(self, recording: Rosbag2File, file: ByteFile) -> None:
        self.recording, self.table = recording, recording.table
        self.pages = Pages(file, recording.path.with_name(recording.path.name + "-wal"))
        self.visited = self.nothing_visited()
        self.columns = np.array([4, 1, 2, 3], np.int64)
        self.codes = np.full(cells.TOPICS, cells.UNKNOWN, np.int32)
        self.unwanted = np.zeros(cells.TOPICS, np.int64)
        self.tally = np.zeros(6, np.int64)
        self.compressed = False

    def items(self) -> Iterator[Item]:
        schema = {values[1]: values for _, values in table_rows(self.pages, 1, self.visited) if len(values) == 5}
        roots = {name: int(values[3] or 0) for name, values in schema.items() if isinstance(name, str)}
        if roots and not {"messages", "topics"} & set(roots) and not self.damaged():
            raise DamagedInputError(
                f"{self.recording.path}: an SQLite database, but no rosbag2 recording: it has no table 'messages'"
            )
        self.take_columns(schema)
        topics = dict(table_rows(self.pages, roots["topics"], self.visited)) if "topics" in roots else {}
        texts = []
        if "message_definitions" in roots:
            texts = [values for _, values in table_rows(self.pages, roots["message_definitions"], self.visited)]
        messages = Table(self.pages, roots.get("messages", 0))
        for _ in messages.leaves(self.visited):
            pass  # a first walk over the interior pages (a 300th of the file) tells whether anything is lost
        self.pages.problems += messages.problems
        damaged = self.damaged()
        strays: list[Leaf] = []
        if damaged:
            yield from self.report()
            self.visit_others(roots)
            strays = self.find_strays(topics, texts)
        definitions = {values[1]: (values[2], values[3]) for values in texts if len(values) >= 4}
        for number, values in sorted(topics.items()):
            yield from self.take_topic(number, values, definitions)
        leaves = heapq.merge(messages.leaves(self.nothing_visited()), sorted(strays, key=_low), key=_low)
        yield from self.deliver(leaves)
        if not damaged and not self.tally[cells.BAD] and "timestamp_idx" in roots:
            yield from self.compare_with_index(roots["timestamp_idx"])
        for topic in np.flatnonzero(self.unwanted).tolist():
            self.table.counts[-2 - int(self.codes[topic])] += int(self.unwanted[topic])
        self.recording.position = self.recording.size

    def nothing_visited(self) -> bytearray:
        return bytearray(self.pages.count + 1)

    # Damage.

    def damaged(self) -> bool:
        return bool(self.pages.problems or self.pages.cut)

    def report(self) -> Iterator[Item]:
        if self.pages.cut:
            present, stated = self.recording.size // self.pages.size, self.pages.stated
            yield self.recording.damage(f"the file has {present} of {stated} pages: it was cut", self.recording.size)
        for problem in self.pages.problems[:20]:
            yield self.recording.damage(f"{problem}; what is lost with it is looked for page by page")

    def visit_others(self, roots: dict[str, int]) -> None:
        """Mark the pages of all other tables and the unused ones, so that they are not taken for lost messages."""
        for name, root in roots.items():
            if name not in ("messages", "topics", "message_definitions"):
                for _ in Table(self.pages, root).leaves(self.visited):
                    pass
        for page in self.free_pages():
            if 0 < page < len(self.visited):
                self.visited[page] = 1

    def free_pages(self) -> Iterator[int]:
        """The pages that the file says are unused (they may hold deleted rows)."""
        head = self.pages.file.read(0, 40)
        trunk, left = int.from_bytes(head[32:36], "big"), int.from_bytes(head[36:40], "big")
        while trunk and left > 0:
            try:
                data = self.pages[trunk]
            except MalformedError:
                return
            yield trunk
            count = min(int.from_bytes(data[4:8], "big"), self.pages.usable // 4 - 2)
            for i in range(count):
                yield int.from_bytes(data[8 + 4 * i : 12 + 4 * i], "big")
            left -= count + 1
            trunk = int.from_bytes(data[:4], "big")

    def find_strays(self, topics: dict[int, list[Any]], texts: list[list[Any]]) -> list[Leaf]:
        """Leaf pages that nothing refers to and that hold messages. Rows of the small tables are put where they belong."""
        found = []
        for page in range(1, self.pages.count + 1):
            if self.visited[page]:
                continue
            try:
                data = self.pages[page]
                if data[0] != TABLE_LEAF:
                    continue
                rows = rows_of_leaf(self.pages, data)
            except MalformedError:
                continue
            if not rows:
                continue
            if all(_is_message(values) for _, values in rows):
                found.append((page, rows[0][0] - 1, rows[-1][0]))
            elif all(_is_topic(values) for _, values in rows):
                topics.update({row: values for row, values in rows if row not in topics})
            elif all(len(values) == 5 and values[2] in ("ros2msg", "ros2idl") for _, values in rows):
                texts += [values for _, values in rows]
        return found

    # What the small tables say.

    def take_columns(self, schema: dict[Any, list[Any]]) -> None:
        """Where topic_id, timestamp and data stand among the columns of the table of messages."""
        sql = schema.get("messages", [None] * 5)[4]
        match = re.search(r"\((.*)\)", sql, re.DOTALL) if isinstance(sql, str) else None
        names = [part.split()[0].strip('"`[]').lower() for part in match[1].split(",") if part.split()] if match else []
        if all(name in names for name in ("topic_id", "timestamp", "data")):
            places = [names.index(name) for name in ("topic_id", "timestamp", "data")]
            self.columns[:] = [len(names), *places]

    def take_topic(self, number: int, values: list[Any], definitions: dict[Any, tuple[Any, Any]]) -> Iterator[Item]:
        if len(values) < 4 or not all(isinstance(text, str) for text in values[1:4]) or not 0 <= number < cells.TOPICS:
            yield self.recording.damage(f"topic {number} is not described as a topic; its messages are skipped")
            return
        name, type_name, encoding = values[1:4]
        kind, definition = definitions.get(type_name) or stored_definition(type_name)
        if kind not in ("ros2msg", "ros2idl") or not isinstance(definition, str):
            kind, definition = "none", ""
        channel, new = self.table.add(name, type_name, encoding, kind, definition)
        self.codes[number] = self.table.code(channel)
        if new:
            yield channel

    # Messages.

    def deliver(self, leaves: Iterator[Leaf]) -> Iterator[Item]:
        """The messages of the leaf pages, neighbouring batches merged in order of time."""
        merger = Merger()
        held: tuple[Bytes, np.ndarray] | None = None
        for item in self.read(leaves):
            if isinstance(item, Damage):
                yield item
                continue
            if held is not None:
                yield from merger.push(*held, int(item[1]["t"][0]))
            held = item
        if held is not None:
            yield from merger.push(*held, None)

    def read(self, leaves: Iterator[Leaf]) -> Iterator[Any]:
        """The messages of the leaf pages as (buffer, rows in order of time), and damage."""
        last = self.pages.file.size // self.pages.size
        missing: list[Leaf] = []
        while group := list(islice(leaves, GROUP)):
            present = [leaf for leaf in group if leaf[0] <= last or leaf[0] in self.pages.newer]
            if len(present) < len(group):
                missing = self.join(missing, [leaf for leaf in group if leaf not in present])
            if not present:
                continue
            if missing and missing[-1][1] < present[0][1]:
                yield self.lost(missing)
                missing = []
            yield from self.read_group(present)
        if missing:
            yield self.lost(missing)

    def join(self, missing: list[Leaf], more: list[Leaf]) -> list[Leaf]:
        """Missing leaves, kept as counts: (pages, row ids above, row ids up to) of each unbroken run."""
        for _, low, high in more:
            if missing and missing[-1][2] == low:
                missing[-1] = (missing[-1][0] + 1, missing[-1][1], high)
            else:
                missing.append((1, low, high))
        return missing

    def lost(self, missing: list[Leaf]) -> Damage:
        bounded = all(low > -LAST and high < LAST for _, low, high in missing)
        lost = sum(high - low for _, low, high in missing) if bounded else None
        count = sum(pages for pages, _, _ in missing)
        return self.recording.damage(f"{count} pages with messages are not in the file", lost=lost)

    def read_group(self, group: list[Leaf]) -> Iterator[Any]:
        buffer, places = self.pages.gather([page for page, _, _ in group])
        self.recording.position += len(group) * self.pages.size
        capacity = len(group) * self.pages.size // 8
        rows, more = np.empty(capacity, MESSAGE), np.empty((capacity, 3), np.int64)
        failed = np.empty(len(group), np.int64)
        self.tally[cells.ROWS] = 0
        low, high = (np.array([leaf[i] for leaf in group], np.int64) for i in (1, 2))
        cells.decode_all(
            buffer, places, self.pages.usable, low, high, self.columns, self.codes,
            rows, more, self.tally, self.unwanted, failed,
        )  # fmt: skip
        for i in np.flatnonzero(failed).tolist():
            yield self.bad_page(group[i], int(failed[i]))
        n = int(self.tally[cells.ROWS])
        if n:
            yield from self.complete(buffer, rows[:n], more[:n])

    def bad_page(self, leaf: Leaf, count: int) -> Damage:
        page, low, high = leaf
        start = (page - 1) * self.pages.size
        if count > 0:
            return self.recording.damage(
                f"{count} rows of page {page} can't be read", start, start + self.pages.size, lost=count
            )
        lost = high - low if low > -LAST and high < LAST else None
        return self.recording.damage(
            f"page {page} should hold messages and does not", start, start + self.pages.size, lost=lost
        )

    def complete(self, buffer: Bytes, rows: np.ndarray, more: np.ndarray) -> Iterator[Any]:
        """Fetch what lies on overflow pages, and decompress, where there is need to."""
        first = buffer[rows["start"][0] : rows["start"][0] + 4].tobytes() if more[0, cells.LOCAL] >= 4 else b""
        self.compressed = self.compressed or first == ZSTD
        if not self.compressed and not more[:, cells.CHAIN].any():
            yield buffer, in_time_order(rows)
            return
        pieces: list[bytes] = []
        kept: list[int] = []
        held = 0
        for i, (start, size) in enumerate(zip(rows["start"].tolist(), rows["size"].tolist(), strict=True)):
            local, chain, row = more[i].tolist()
            try:
                piece = buffer[start : start + local].tobytes()
                if chain:
                    piece += self.pages.chain(chain, size - local)
                if self.compressed:
                    piece = _decompress(piece)
            except MalformedError as error:
                yield self.recording.damage(f"the message in row {row} is lost: {error}", lost=1)
                continue
            pieces.append(piece)
            kept.append(i)
            held += len(piece)
            if held > 4 * BLOCK:
                yield _joined(pieces, rows[kept])
                pieces, kept, held = [], [], 0
        if kept:
            yield _joined(pieces, rows[kept])

    def compare_with_index(self, root: int) -> Iterator[Item]:
        """The index over time repeats each row's stamp: the two must tell the same."""
        table = self.tally[[cells.STAMPS, cells.IDS]].copy()
        self.tally[[cells.STAMPS, cells.IDS]] = 0
        level = [root]
        try:
            while level:
                children: list[int] = []
                for page in level:
                    if not 0 < page < len(self.visited) or self.visited[page]:
                        raise MalformedError("a page of it is referred to twice, or is not there")
                    self.visited[page] = 1
                    data = self.pages[page]
                    count = cells.tally_index(np.frombuffer(data, np.uint8), 0, self.pages.usable, self.tally)
                    if count < 0:
                        raise MalformedError(f"page {page} is no page of an index")
                    if data[0] == INDEX_INTERIOR:
                        offsets = np.frombuffer(data, ">u2", count, 12).tolist()
                        children += [int.from_bytes(data[at : at + 4], "big") for at in offsets]
                        children.append(int.from_bytes(data[8:12], "big"))
                level = children
        except MalformedError as error:
            yield self.recording.damage(f"the index over time is damaged ({error}); messages were read without it")
            return
        if (table != self.tally[[cells.STAMPS, cells.IDS]]).any():
            yield self.recording.damage("times of messages and the index over time contradict each other")


def _low(leaf: Leaf) -> int:
    return leaf[1]


def _is_message(values: list[Any]) -> bool:
    return (
        len(values) == 4 and isinstance(values[1], int) and isinstance(values[2], int) and isinstance(values[3], bytes)
    )


def _is_topic(values: list[Any]) -> bool:
    return len(values) in (4, 5, 6) and all(isinstance(text, str) for text in values[1:4]) and values[3] == "cdr"


def _joined(pieces: list[bytes], rows: np.ndarray) -> tuple[Bytes, np.ndarray]:
    """One buffer of the pieces, and the rows that point into it, in order of time."""
    sizes = np.array([len(piece) for piece in pieces], np.int64)
    rows["size"] = sizes
    rows["start"] = np.cumsum(sizes) - sizes
    return np.frombuffer(b"".join(pieces), np.uint8), in_time_order(rows)


def _decompress(piece: bytes) -> bytes:
    import zstandard

    try:
        if zstandard.frame_content_size(piece) > MAX_CHUNK:
            raise MalformedError("it claims more than any message has")
        return zstandard.ZstdDecompressor().decompress(piece, max_output_size=MAX_CHUNK)
    except zstandard.ZstdError as error:
        raise MalformedError(f"it can't be decompressed ({error})") from None


@cache
def stored_definition(type_name: str) -> tuple[str, str]:
    """(schema, definition) of a standard message type, for recordings that don't bring their own; none where unknown."""
    from rosbags.typesys import Stores, TypesysError, get_typestore

    try:
        return "ros2msg", get_typestore(Stores.ROS2_JAZZY).generate_msgdef(type_name, ros_version=2)[0]
    except (TypesysError, KeyError):
        return "none", ""
