"""ROS 1 bags (format 2.0): an own walk over the records; needs no index, and holds one against the data where it is there.

One pass in file order: a chunk is decompressed once, one kernel call turns its records into ``MESSAGE`` rows. The index
records behind each chunk name every message of it; where chunk and index disagree, what they agree on is delivered.
Format: http://wiki.ros.org/Bags/Format/2.0
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any

import numpy as np

from edge_monitor.core.jit import kernel
from edge_monitor.core.samples import MESSAGE

from . import rosbag1_records as records
from .chunk_index import ChunkIndex
from .kernels import u32
from .recording import BLOCK, MAX_CHUNK, ByteFile, Bytes, Item, MalformedError, Merger, Recording, in_time_order
from .rosbag1_records import ClosingIndex, number, read_record

LIMIT = 65536  #: connections; ids in real bags count up from 0
UNKNOWN = -1  #: in the lookup table of connections: none; else what ChannelTable.code says
MAX_FIELDS = 256  #: bytes of header that may stand before the field ``op`` of a record searched for
OP = re.compile(rb"\x04\x00\x00\x00op=[\x02\x04-\x07]")

END, OTHER, SHORT, BAD, STRANGER, FULL = range(6)  #: why a walk stopped


@kernel
def walk(
    data: Bytes, start: int, codes: np.ndarray, rows: np.ndarray, offsets: np.ndarray, n: int, unwanted: np.ndarray
) -> Any:
    """Turn the message records from ``start`` on into rows, up to the first record of another kind.

    Returns (position, number of rows, why it stopped, connection of the last record). ``codes``: (LIMIT,) i4 by
    connection, see ChannelTable.code; ``offsets``: where the records of the rows start; ``unwanted``: (LIMIT,) i8,
    counts what is passed over.
    """
    at = start
    end = len(data)
    connection = -1
    while at < end:
        connection = -1
        if at + 8 > end:
            return at, n, SHORT, connection
        header = u32(data, at)
        if header > records.MAX_HEADER:
            return at, n, BAD, connection
        body = at + 8 + header
        if body > end:
            return at, n, SHORT, connection
        size = u32(data, body - 4)
        op = t = -1
        field = at + 4
        while field + 4 < body - 4:
            length = u32(data, field)
            field += 4
            if length > body - 4 - field:
                return at, n, BAD, connection
            if length == 4 and data[field] == 111 and data[field + 1] == 112 and data[field + 2] == 61:  # op=
                op = np.int64(data[field + 3])
            elif length == 9 and data[field] == 99 and data[field + 3] == 110 and data[field + 4] == 61:  # conn=
                connection = u32(data, field + 5)
            elif length == 13 and data[field] == 116 and data[field + 3] == 101 and data[field + 4] == 61:  # time=
                nsec = u32(data, field + 9)
                if nsec < 1000000000:
                    t = u32(data, field + 5) * 1000000000 + nsec
            field += length
        if field != body - 4:
            return at, n, BAD, connection
        if body + size > end:
            return at, n, SHORT, connection
        if op != records.MESSAGE_DATA:
            return at, n, OTHER if op > 0 else BAD, connection
        if t < 0 or connection < 0 or connection >= LIMIT or size > 0x7FFFFFFF:
            return at, n, BAD, connection
        code = codes[connection]
        if code == UNKNOWN:
            return at, n, STRANGER, connection
        if code >= 0:
            if n == len(rows):
                return at, n, FULL, connection
            offsets[n] = at
            rows[n]["t"] = t
            rows[n]["start"] = body
            rows[n]["size"] = size
            rows[n]["channel"] = code
            n += 1
        else:
            unwanted[connection] += 1
        at = body + size
    return at, n, END, connection


class Rosbag1Recording(Recording):
    """A ROS 1 bag."""

    format = "rosbag1"

    def _items(self) -> Iterator[Item]:
        with ByteFile(self.path) as file:
            yield from _Pass(self, file).items()


class _Pass:
    """One pass over a file: the state that the methods share."""

    def __init__(self, recording: Rosbag1Recording, file: ByteFile) -> None:
        self.recording, self.table, self.file = recording, recording.table, file
        self.codes = np.full(LIMIT, UNKNOWN, np.int32)
        self.unwanted = np.zeros(LIMIT, np.int64)
        self.described: dict[int, tuple[bytes, bytes]] = {}  # connections: topic and description
        self.strangers: dict[int, int] = {}  # messages of connections that nothing describes
        self.merger = Merger()
        self.closing = ClosingIndex()
        self.met: set[int] = set()

    def items(self) -> Iterator[Item]:
        self.closing, problem = records.read_closing_index(self.file)
        if problem:
            yield self.recording.damage(problem)
        at = len(records.MAGIC)
        end = self.closing.at or self.file.size
        while at < end:
            self.recording.position = at
            at = yield from self.step(at)
        yield from self.merger.flush()
        for connection, count in self.strangers.items():
            yield self.recording.damage(f"messages of connection {connection}, which nothing describes", lost=count)
        for position in sorted(set(self.closing.chunks) - self.met):
            lost = self.closing.chunks[position][1]
            yield self.recording.damage("the index names a chunk that could not be read", position, lost=lost)
        for connection in np.flatnonzero(self.unwanted).tolist():
            self.table.counts[-2 - int(self.codes[connection])] += int(self.unwanted[connection])
        self.recording.position = self.file.size

    def step(self, at: int) -> Generator[Item, None, int]:
        """Read the record at ``at``; returns the position of the next one."""
        try:
            fields, start, size = read_record(self.file, at)
            op = fields["op"][0]
            if op == records.CHUNK:
                return (yield from self.read_chunk(at, fields, start, size))
            if start + size > self.file.size:
                raise MalformedError("it runs past the end of the file")
            if op == records.MESSAGE_DATA:
                return (yield from self.read_loose(at, start + size))
            if op == records.CONNECTION:
                topic = fields.get("topic", b"")
                yield from self.take_connection(
                    number(fields, "conn"), topic, self.file.read(start, size), checked=False
                )
            elif op == records.INDEX:
                records.index_size(fields, size)  # of a chunk that was lost; the others are read with theirs
            elif op not in (records.BAG_HEADER, records.CHUNK_INFO):
                raise MalformedError(f"there is no such record (op {op})")
        except MalformedError as error:
            return (yield from self.recover(at, str(error)))
        return start + size

    def recover(self, at: int, what: str) -> Generator[Item, None, int]:
        """Report what is wrong at ``at`` and find where reading can go on (the end of the file, if nowhere)."""
        end = self.closing.at or self.file.size
        found = end
        start = at + 1
        while start < end and found == end:
            data = self.file.read(start, BLOCK + MAX_FIELDS)
            for hit in OP.finditer(data):
                found = next((p for p in range(start + hit.start(), max(at, start + hit.start() - MAX_FIELDS), -1)
                              if self.starts_at(p)), end)  # fmt: skip
                if found != end:
                    break
            start += BLOCK
        yield self.recording.damage(what, at, found)
        return found

    def starts_at(self, at: int) -> bool:
        """Whether a record that makes sense starts at ``at``, and another (or the end) behind it."""
        try:
            fields, start, size = read_record(self.file, at)
            if start + size > self.file.size:
                return False
            if fields["op"][0] == records.CHUNK:
                number(fields, "size")
            elif fields["op"][0] in (records.MESSAGE_DATA, records.INDEX):
                number(fields, "conn")
            if start + size < self.file.size:
                read_record(self.file, start + size)
        except MalformedError:
            return False
        return True

    # Connections.

    def take_connection(self, connection: int, topic: bytes, data: bytes, checked: bool) -> Iterator[Item]:
        """Let the kernel know a connection, and announce its channel where it is new. Raises MalformedError.

        The closing index repeats connections. Where it tells something else and no checksum decides (``checked``: that
        of the chunk held), the description counts whose parts agree.
        """
        if self.described.get(connection) == (topic, data):
            return
        if connection >= LIMIT:
            raise MalformedError(f"connection {connection} is out of range")
        known = self.closing.connections
        stated = known.get(connection)
        if connection in self.described or (known and stated != (topic, data)):
            yield self.recording.damage(f"connection {connection} is described in two different ways")
            if connection in self.described:
                return
            if stated is not None and not checked:
                misnumbered = (topic, data) in known.values()
                if misnumbered or records.agreement(*stated) > records.agreement(topic, data):
                    topic, data = stated
        about = records.parse_header(data)
        self.described[connection] = topic, data
        try:
            names = topic.decode(), about.get("type", b"").decode().replace("/", "/msg/", 1)
            definition = about.get("message_definition", b"").decode()
        except UnicodeDecodeError:
            raise MalformedError("a connection whose description is not UTF-8") from None
        schema = "ros1msg" if "message_definition" in about else "none"
        channel, new = self.table.add(*names, "ros1", schema, definition)
        self.codes[connection] = self.table.code(channel)
        if new:
            yield channel

    def take_stranger(self, connection: int) -> Generator[Item, None, bool]:
        """A message of a connection that was not described yet: whether the closing index describes it."""
        stated = self.closing.connections.get(connection)
        if stated is not None and connection not in self.described:
            try:
                yield from self.take_connection(connection, *stated, checked=True)
                return True
            except MalformedError:
                pass
        self.strangers[connection] = self.strangers.get(connection, 0) + 1
        return False

    # Messages.

    def read_loose(self, at: int, end: int) -> Generator[Item, None, int]:
        """Messages outside chunks: one block of the file."""
        data = self.file.array(at, max(BLOCK, min(end - at, MAX_CHUNK)))
        rows, done, problem = yield from self.read_records(data, [], loose=True)
        yield from self.merger.push(data, in_time_order(rows), self.closing.earliest_after(at))
        if done == 0:
            raise MalformedError(problem or "a message that makes no sense")
        return at + done

    def read_chunk(self, at: int, fields: dict[str, bytes], start: int, size: int) -> Generator[Item, None, int]:
        """One chunk and the index records behind it. Raises MalformedError."""
        stated = number(fields, "size")
        compression = fields.get("compression", b"").decode("latin-1")
        if compression not in ("none", "bz2", "lz4"):
            raise MalformedError(f"a chunk of unknown compression {compression[:20]!r}")
        if max(stated, size) > MAX_CHUNK or (compression == "none" and stated != size):
            raise MalformedError("a chunk whose lengths can't be right")
        end = start + size
        cut = end > self.file.size
        if cut and self.closing.at:
            raise MalformedError("a chunk that would run past the end of the file")
        after, index = self.read_index(end)
        self.met.add(at)
        named = sum(len(entries) for _, entries in index)
        try:
            data = records.decompress(compression, self.file.array(start, size), stated)
            if not cut and len(data) != stated:
                raise MalformedError(f"{len(data)} bytes came out of it, not {stated}")
        except MalformedError as error:
            yield self.recording.damage(f"chunk lost: {error}", at, min(end, self.file.size), lost=named or None)
            return after
        rows, _, problem = yield from self.read_records(data, index, checked=compression == "bz2")
        if cut:
            problem = "the file ends in the middle of a chunk: it was cut"
        elif index and compression != "bz2":  # whose own checksums hold, or it would not have come this far
            expected = self.closing.chunks.get(at, (0, named))[1]
            if expected != named:
                problem = problem or "the indexes of this chunk contradict each other"
        if problem:
            lost = max(0, self.count_wanted(index) - len(rows)) if index else None
            yield self.recording.damage(problem, at, min(end, self.file.size), lost=lost)
        yield from self.merger.push(data, in_time_order(rows), self.closing.earliest_after(at))
        return after

    def read_index(self, at: int) -> tuple[int, list[tuple[int, np.ndarray]]]:
        """The index records that start at ``at``: (where they end, their connections and entries)."""
        index = []
        while at < self.file.size:
            try:
                fields, start, size = read_record(self.file, at)
                if fields["op"][0] != records.INDEX or start + size > self.file.size:
                    break
                records.index_size(fields, size)
                entries = np.frombuffer(self.file.read(start, size), records.INDEX_ENTRY)
                index.append((number(fields, "conn"), entries))
            except MalformedError:
                break  # reported where reading goes on
            at = start + size
        return at, index

    def chunk_index(self, index: list[tuple[int, np.ndarray]]) -> ChunkIndex:
        return ChunkIndex.of(
            [
                (
                    int(self.codes[connection]) if connection < LIMIT else UNKNOWN,
                    entries["sec"].astype(np.int64) * 1_000_000_000 + entries["nsec"],
                    entries["offset"].astype(np.int64),
                )
                for connection, entries in index
            ]
        )

    def count_wanted(self, index: list[tuple[int, np.ndarray]]) -> int:
        return sum(len(entries) for connection, entries in index if connection < LIMIT and self.codes[connection] >= 0)

    def read_records(
        self, data: Bytes, index: list[tuple[int, np.ndarray]], *, checked: bool = False, loose: bool = False
    ) -> Generator[Item, None, tuple[np.ndarray, int, str]]:
        """The messages among the records in ``data``: (rows, how far it was read, what is wrong)."""
        rows = np.empty(len(data) // 30 + 1, MESSAGE)
        offsets = np.empty(len(rows), np.int64)
        at = n = 0
        problem = ""
        while True:
            at, n, why, connection = walk(data, at, self.codes, rows, offsets, n, self.unwanted)
            if why == END or (loose and why in (SHORT, BAD)):
                break
            if why in (SHORT, BAD):
                problem = problem or f"a record {at} bytes into this chunk is malformed"
                named = self.chunk_index(index)
                if (
                    len(named.entries)
                    and not named.knows(at)
                    and n
                    and rows[n - 1]["start"] + rows[n - 1]["size"] == at
                ):
                    n -= 1  # it ends where no message starts: its own length is what is wrong
                following = named.next_offset(at)
                if following is None or following >= len(data):
                    break
                at = following
                continue
            head = int(u32(data, at))
            body = at + 8 + head
            after = body + int(u32(data, body - 4))
            if why == STRANGER:
                if not (yield from self.take_stranger(connection)):
                    at = after
                continue
            try:
                fields = records.parse_header(data[at + 4 : body - 4].tobytes())
                if fields.get("op", b"")[:1] != bytes([records.CONNECTION]):
                    if loose:
                        break
                    raise MalformedError("a record that does not belong in a chunk")
                topic, about = fields.get("topic", b""), data[body:after].tobytes()
                yield from self.take_connection(number(fields, "conn"), topic, about, checked)
            except MalformedError as error:
                problem = problem or str(error)
            at = after
        rows, offsets = rows[:n], offsets[:n]
        if index:
            good, same = self.chunk_index(index).reconcile(rows, offsets, not problem, partial(self.record_at, data))
            if not same:
                problem = problem or "this chunk and its index contradict each other"
                rows = rows if checked else good
        return rows, at, problem

    def record_at(self, data: Bytes, at: int) -> tuple[int, int, int]:
        """Time and channel code of the message at a position of a chunk; -1s where there is none."""
        row, offset = np.empty(1, MESSAGE), np.empty(1, np.int64)
        if not 0 <= at < len(data) or walk(data[at:], 0, self.codes, row, offset, 0, self.unwanted.copy())[1] < 1:
            return -1, -1, -1
        return int(row["t"][0]), int(row["channel"][0]), -1
