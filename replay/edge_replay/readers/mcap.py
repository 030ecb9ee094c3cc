"""MCAP: chunked or not, zstd, lz4 or plain, with or without index; damaged or cut.

One pass in file order: each chunk is decompressed once and one kernel call turns its records into ``MESSAGE`` rows that
point into the decompressed bytes. What the file says about itself (checksums, message indexes, chunk index, statistics)
is held against what was read; where a chunk has no checksum, only messages on which it and its message index agree are
delivered. Format: https://mcap.dev/spec
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from edge_monitor.core.jit import kernel
from edge_monitor.core.samples import MESSAGE

from . import mcap_records as records
from .chunk_index import ChunkIndex
from .kernels import u16, u32, u63
from .mcap_records import ChannelRecord, Chunk, Schema, Summary
from .recording import BLOCK, MAX_CHUNK, ByteFile, Bytes, Item, MalformedError, Merger, Recording, in_time_order

MAGIC = records.MAGIC
DEFINITIONS = ("ros2msg", "ros2idl", "ros1msg", "ulog", "stamp")  #: encodings of schemas that the layout knows
BINS = "edge-monitor bins"  #: of a schema that says which bins of MessagePack are numbers (edge_monitor/raw)
UNKNOWN = -1  #: in the lookup table of channels: none; else what ChannelTable.code says

END, OTHER, SHORT, BAD, STRANGER, FULL = range(6)  #: why a walk stopped


@kernel
def walk(data: Bytes, start: int, codes: np.ndarray, rows: np.ndarray, n: int, unwanted: np.ndarray) -> Any:
    """Turn the message records from ``start`` on into rows, up to the first record of another kind.

    Returns (position, number of rows, why it stopped). ``codes``: (65536,) i4 by the file's channel id, see
    ChannelTable.code; ``unwanted``: (65536,) i8, counts what is passed over.
    """
    at = start
    end = len(data)
    while at < end:
        if at + 9 > end:
            return at, n, SHORT
        size = u63(data, at + 1)
        if size < 0 or size > end - at - 9:
            return at, n, SHORT
        if data[at] != records.MESSAGE:
            return at, n, OTHER
        if size < 22 or size - 22 > 0x7FFFFFFF:
            return at, n, BAD
        channel = u16(data, at + 9)
        code = codes[channel]
        t = u63(data, at + 15)
        if t < 0:
            return at, n, BAD
        if code == UNKNOWN:
            return at, n, STRANGER
        if code >= 0:
            if n == len(rows):
                return at, n, FULL
            rows[n]["t"] = t
            rows[n]["start"] = at + 31
            rows[n]["size"] = size - 22
            rows[n]["channel"] = code
            n += 1
        else:
            unwanted[channel] += 1
        at += 9 + size
    return at, n, END


@kernel
def agrees(index: Bytes, codes: np.ndarray, rows: np.ndarray, n: int, cursor: np.ndarray, stop: np.ndarray) -> bool:
    """Whether the message index records in ``index`` name exactly these rows, each channel in the order of the chunk.

    ``cursor``, ``stop``: zeros, (channels,) i8.
    """
    at = 0
    total = 0
    while at + 15 <= len(index):
        length = u32(index, at + 11)
        code = codes[u16(index, at + 9)]
        if code >= 0:
            if stop[code] != 0 or length % 16 != 0:
                return False
            cursor[code] = at + 15
            stop[code] = at + 15 + length
            total += length // 16
        at += 15 + length
    if total != n:
        return False
    for i in range(n):
        code = rows[i]["channel"]
        entry = cursor[code]
        if entry >= stop[code] or u63(index, entry) != rows[i]["t"] or u63(index, entry + 8) != rows[i]["start"] - 31:
            return False
        cursor[code] = entry + 16
    return True


@kernel
def find_record(data: Bytes, start: int, stop: int, left: int, codes: np.ndarray) -> int:
    """First position in ``[start, stop)`` where a message of a known channel, a chunk or the end of the data stands.

    ``left``: bytes of the file from ``data[0]`` on. What follows must look like a record, too, as far as it is in
    ``data``. Returns -1 where there is none.
    """
    for at in range(start, min(stop, len(data) - 45)):
        opcode = data[at]
        if opcode != records.MESSAGE and opcode != records.CHUNK and opcode != records.DATA_END:
            continue
        size = u63(data, at + 1)
        if size < 4 or size > left - at - 9:
            continue
        if opcode == records.MESSAGE and (size < 22 or codes[u16(data, at + 9)] == UNKNOWN or u63(data, at + 15) < 0):
            continue
        if opcode == records.DATA_END and size != 4:
            continue
        if opcode == records.CHUNK:
            name = u32(data, at + 37)
            if name > 4 or at + 49 + name > len(data) or size != 40 + name + u63(data, at + 41 + name):
                continue
        following = at + 9 + size
        if following + 9 <= len(data):
            if data[following] == 0 or (data[following] > records.DATA_END and data[following] < 0x80):
                continue
            size = u63(data, following + 1)
            if size < 0 or size > left - following - 9:
                continue
        return at
    return -1


class McapRecording(Recording):
    """An MCAP file."""

    format = "mcap"

    def _items(self) -> Iterator[Item]:
        with ByteFile(self.path) as file:
            yield from _Pass(self, file).items()


class _Pass:
    """One pass over a file: the state that the methods share."""

    def __init__(self, recording: McapRecording, file: ByteFile) -> None:
        self.recording, self.table, self.file = recording, recording.table, file
        self.codes = np.full(65536, UNKNOWN, np.int32)
        self.unwanted = np.zeros(65536, np.int64)
        self.delivered = 0
        self.schemas: dict[int, Schema] = {}
        self.described: set[bytes] = set()  # channel records that were taken in
        self.strangers: dict[int, int] = {}  # messages of channels that nothing describes
        self.merger = Merger()
        self.summary = Summary()
        self.chunks_met: set[int] = set()
        self.checksum: int | None = None  # running, where the file has one over all data

    def items(self) -> Iterator[Item]:
        self.summary, problem = records.read_summary(self.file)
        if problem:
            yield self.recording.damage(problem, max(0, self.file.size - 37), self.file.size)
        if self.summary.data_crc:
            self.checksum = zlib.crc32(self.file.read(0, len(MAGIC)))
        at: int | None = len(MAGIC)
        while at is not None and at < self.file.size:
            self.recording.position = at
            at = yield from self.step(at)
        yield from self.merger.flush()
        if at is not None:
            yield self.recording.damage("the data has no end: the file was cut or never closed", self.file.size)
        elif not self.summary.complete:
            yield self.recording.damage("the summary is missing or damaged: the file was cut after its data")
        for channel, body in self.summary.channels.items():  # recorded topics that stayed silent
            if self.codes[channel] == UNKNOWN:
                yield from self.take_channel(body, checked=True)
        yield from self.compare_with_summary()
        for channel in np.flatnonzero(self.unwanted).tolist():
            self.table.counts[-2 - int(self.codes[channel])] += int(self.unwanted[channel])
        self.recording.position = self.file.size

    def step(self, at: int) -> Generator[Item, None, int | None]:
        """Read the record at ``at``; returns the position of the next one, None after the end of the data."""
        header = self.file.peek(at, 9)
        if len(header) < 9:
            return self.file.size
        opcode, size = header[0], int.from_bytes(header[1:], "little")
        end = at + 9 + size
        if opcode == records.MESSAGE:
            return (yield from self.read_loose(at))
        if opcode == records.CHUNK:
            return (yield from self.read_chunk(at, end))
        if end > self.file.size or opcode == 0:
            return (yield from self.recover(at, "no record stands here"))
        try:
            if opcode == records.DATA_END:
                yield from self.finish(at, size)
                return None
            if opcode == records.ATTACHMENT:
                records.check_attachment(self.file, at + 9, size)
            elif opcode < 0x80:
                if size > MAX_CHUNK:
                    raise MalformedError(f"it claims {size} bytes (limit {MAX_CHUNK})")
                yield from self.read_small(opcode, self.file.read(at + 9, size), checked=False)
        except MalformedError as error:
            return (yield from self.recover(at, f"{records.name(opcode)} record skipped: {error}"))
        self.add_checksum(at, end)
        return end

    def read_small(self, opcode: int, body: bytes, checked: bool) -> Iterator[Item]:
        if opcode == records.SCHEMA:
            schema = records.parse_schema(body)
            self.schemas[schema.id] = schema
        elif opcode == records.CHANNEL:
            yield from self.take_channel(body, checked)
        elif opcode == records.MESSAGE_INDEX:
            records.check_message_index(body)  # of a chunk that was lost; the others are read with theirs
        elif opcode in (records.HEADER, records.METADATA):
            records.check_texts(opcode, body)
        else:
            raise MalformedError("it does not belong among the data")

    def finish(self, at: int, size: int) -> Iterator[Item]:
        if size != 4 or self.summary.data_end not in (0, at):
            raise MalformedError("the data does not end here")
        stated = struct.unpack("<I", self.file.read(at + 9, 4))[0]
        if self.checksum is not None and stated != self.checksum:
            yield self.recording.damage("the checksum over all data does not match: something in it was changed", 0, at)

    def add_checksum(self, start: int, end: int) -> None:
        while self.checksum is not None and start < end:
            part = self.file.read(start, min(BLOCK, end - start))
            self.checksum = zlib.crc32(part, self.checksum)
            start += max(1, len(part))

    def recover(self, at: int, what: str) -> Generator[Item, None, int]:
        """Report what is wrong at ``at`` and find where reading can go on (the end of the file, if nowhere)."""
        start = at + 1
        found = self.file.size
        while start < self.file.size:
            data = self.file.array(start, BLOCK)
            whole = start + len(data) >= self.file.size
            stop = len(data) if whole else len(data) - 64
            hit = find_record(data, 0, stop, self.file.size - start, self.codes)
            if hit >= 0:
                found = start + hit
                break
            start = self.file.size if whole else start + stop
        yield self.recording.damage(what, at, found)
        self.add_checksum(at, found)
        return found

    # Channels.

    def take_channel(self, body: bytes, checked: bool) -> Iterator[Item]:
        """Let the kernels know a channel, and announce it where it is new.

        The summary repeats channels and schemas; where it tells something else, the side with a checksum is believed
        (``checked``: that of the chunk held), or what :meth:`settle` makes of the two.
        """
        if body in self.described:
            return
        self.described.add(body)
        record = records.parse_channel(body)
        schema = self.schemas.get(record.schema) or self.summary.schemas.get(record.schema)
        stated = self.stated(record.id)
        if stated is None and self.summary.channels:
            yield self.recording.damage(f"channel {record.id} ({record.topic[:80]}) is unknown to the summary")
        elif stated is not None and stated != (record, schema):
            yield self.recording.damage(
                f"channel {record.id} ({record.topic[:80]}) and the summary contradict each other"
            )
            if not checked:
                record, schema = stated if self.summary.checked else self.settle(record, schema, *stated)
        type_name, kind, definition = (schema.name, schema.encoding, schema.text) if schema else ("", "none", "")
        if kind == BINS:
            kind = "none"
        elif kind not in DEFINITIONS:
            kind, definition = "none", ""
        channel, new = self.table.add(record.topic, type_name, record.encoding, kind, definition)
        self.codes[record.id] = self.table.code(channel)
        if new:
            yield channel

    def settle(
        self, record: ChannelRecord, schema: Schema | None, stated: ChannelRecord, stated_schema: Schema | None
    ) -> tuple[ChannelRecord, Schema | None]:
        """Which of two descriptions of a channel to believe where no checksum tells.

        A description that the summary has under another id has a wrong id. Of two topics the one counts that the end of
        the file (where recorders repeat them once more, in metadata) knows better. Of two schemas none does: a channel
        that may be decoded wrongly is not decoded.
        """
        others = [records.parse_channel(body) for body in self.summary.channels.values()]
        if any(replace(other, id=record.id) == record and other.id != record.id for other in others):
            return stated, stated_schema
        tail = self.file.read(max(0, self.summary.data_end - BLOCK), self.file.size)
        knows = [len(re.findall(rb"(?<![\w/])" + re.escape(name.encode()) + rb"(?![\w/])", tail))
                 for name in (record.topic, stated.topic)]  # fmt: skip
        topic = record.topic if knows[0] or knows[1] < 2 else stated.topic
        return replace(record, topic=topic), schema if schema == stated_schema else None

    def stated(self, channel: int) -> tuple[ChannelRecord, Schema | None] | None:
        """What the summary says of a channel."""
        body = self.summary.channels.get(channel)
        if body is None:
            return None
        record = records.parse_channel(body)
        return record, self.summary.schemas.get(record.schema)

    def take_stranger(self, channel: int) -> Generator[Item, None, bool]:
        """A message of a channel that was not described yet: whether the summary knows it."""
        body = self.summary.channels.get(channel)
        if body is not None and body not in self.described:
            schema = records.parse_channel(body).schema
            if schema in self.summary.schemas:
                self.schemas[schema] = self.summary.schemas[schema]
            yield from self.take_channel(body, checked=True)
            return True
        self.strangers[channel] = self.strangers.get(channel, 0) + 1
        return False

    # Messages.

    def read_loose(self, at: int) -> Generator[Item, None, int]:
        """Messages outside chunks: one block of the file."""
        data = self.file.array(at, BLOCK)
        size = int.from_bytes(data[1:9].tobytes(), "little") + 9
        if size > len(data) and size <= min(MAX_CHUNK, self.file.size - at):
            data = self.file.array(at, size)
        rows = np.empty(len(data) // 31 + 1, MESSAGE)
        done: int = 0
        n: int = 0
        while True:
            done, n, why = walk(data, done, self.codes, rows, n, self.unwanted)
            if why != STRANGER:
                break
            if not (yield from self.take_stranger(int(u16(data, done + 9)))):
                done += 9 + int(u63(data, done + 1))
        self.add_checksum(at, at + done)
        self.delivered += n
        if n:
            yield from self.merger.push(data, in_time_order(rows[:n]), self.summary.earliest_after(at))
        if why == BAD or done == 0:
            return (yield from self.recover(at + done, "a message is malformed or runs past the end of the file"))
        return at + done

    def read_chunk(self, at: int, end: int) -> Generator[Item, None, int]:
        """One chunk and the message index behind it."""
        try:
            chunk = records.parse_chunk_header(self.file.peek(at, 64), at)
        except MalformedError as error:
            return (yield from self.recover(at, f"chunk skipped: {error}"))
        stated = self.summary.chunks.get(at, chunk.stated)
        if stated != chunk.stated:
            yield self.recording.damage("a chunk and the index of chunks contradict each other", at, end)
        self.chunks_met.add(at)
        stored = self.file.array(chunk.data_at, chunk.compressed)
        cut = len(stored) < chunk.compressed
        after = end
        if not cut:
            after = self.end_of_index(end)
            self.add_checksum(at, after)
        index = self.file.read(end, after - end)
        data, problem = records.decompress(chunk, stored, cut)
        if problem:
            lost = sum(len(entries) for _, entries in records.index_entries(index)) if index and data is None else None
            yield self.recording.damage(problem, at, min(end, self.file.size), lost=lost)
        if data is not None:
            yield from self.read_records(data, chunk, index, cut)
        return after if not cut else self.file.size

    def end_of_index(self, at: int) -> int:
        """Where the message index records that start at ``at`` end."""
        while True:
            header = self.file.peek(at, 15)
            if len(header) < 15 or header[0] != records.MESSAGE_INDEX:
                return at
            size, _, length = struct.unpack_from("<QHI", header, 1)
            if size != length + 6 or length % 16 or at + 9 + size > self.file.size:
                return at
            at += 9 + size

    def read_records(self, data: Bytes, chunk: Chunk, index: bytes, cut: bool) -> Iterator[Item]:
        """Deliver the messages of a decompressed chunk."""
        rows = np.empty(len(data) // 31 + 1, MESSAGE)
        at = n = 0
        problem = ""
        while True:
            at, n, why = walk(data, at, self.codes, rows, n, self.unwanted)
            if why == END or (why == SHORT and cut):
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
            if why == STRANGER:
                if not (yield from self.take_stranger(int(u16(data, at + 9)))):
                    at += 9 + int(u63(data, at + 1))
                continue
            size = int(u63(data, at + 1))
            body = data[at + 9 : at + 9 + size].tobytes()
            try:
                if data[at] in (records.SCHEMA, records.CHANNEL):
                    yield from self.read_small(int(data[at]), body, bool(chunk.crc))
                elif data[at] < 0x80:
                    raise MalformedError("it does not belong in a chunk")
            except MalformedError as error:
                yield self.recording.damage(f"a {records.name(int(data[at]))} record in this chunk: {error}", chunk.at)
            at += 9 + size
        rows = rows[:n]
        lost = None
        if index:
            cursor = np.zeros((2, len(self.table.channels)), np.int64)
            if problem or not agrees(np.frombuffer(index, np.uint8), self.codes, rows, n, cursor[0], cursor[1]):
                named = self.chunk_index(index)
                good, same = named.reconcile(rows, rows["start"] - 31, not problem, partial(self.record_at, data))
                if not same:
                    problem = problem or "this chunk and its message index contradict each other"
                if not chunk.crc:  # else the checksum says which of the two is right
                    lost = max(0, max(named.wanted(), n) - len(good))
                    rows = good
        if problem:
            yield self.recording.damage(problem, chunk.at, chunk.data_at + chunk.compressed, lost=lost)
        self.delivered += len(rows)
        yield from self.merger.push(data, in_time_order(rows), self.summary.earliest_after(chunk.at))

    def record_at(self, data: Bytes, at: int) -> tuple[int, int, int]:
        """Time, channel code and publication time of the message at a position of a chunk; -1s where there is none."""
        if not 0 <= at <= len(data) - 31 or data[at] != records.MESSAGE:
            return -1, -1, -1
        return int(u63(data, at + 15)), int(self.codes[u16(data, at + 9)]), int(u63(data, at + 23))

    def chunk_index(self, index: bytes) -> ChunkIndex:
        parts = [
            (int(self.codes[channel]), entries["t"].astype(np.int64), entries["offset"].astype(np.int64))
            for channel, entries in records.index_entries(index)
        ]
        return ChunkIndex.of(parts)

    def compare_with_summary(self) -> Iterator[Item]:
        for channel, count in self.strangers.items():
            yield self.recording.damage(f"messages of channel {channel}, which nothing describes", lost=count)
        missed = sorted(set(self.summary.chunks) - self.chunks_met)
        for at in missed:
            end = at + self.summary.chunks[at][2]
            yield self.recording.damage("the index names a chunk that could not be found", at, end)
        count = self.delivered + int(self.unwanted.sum()) + sum(self.strangers.values())
        if self.summary.message_count is not None and count != self.summary.message_count:
            yield self.recording.damage(
                f"the file states {self.summary.message_count} messages, {count} were read",
                lost=max(0, self.summary.message_count - count),
            )
