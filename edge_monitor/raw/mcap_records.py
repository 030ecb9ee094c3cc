"""The records of MCAP that are written here, as bytes. Format: https://mcap.dev/spec

Written here and not with the ``mcap`` package, so that a chunk is closed after a time and not only when it is full, its bytes
are at hand to be copied, and a robot needs no other packages.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import zstandard

MAGIC = b"\x89MCAP0\r\n"
HEAD = struct.Struct("<BQ")  #: opcode and size of a record
MESSAGE = struct.Struct("<BQHIQQ")  #: with the head: channel, sequence, log time, publish time; the payload follows
CHUNK = struct.Struct("<QQQI")  #: first and last time, size and CRC-32 of the records; compression and records follow
INDEX = struct.Struct("<HI")  #: channel, bytes of entries
ENTRY = struct.Struct("<QQ")  #: log time, place in the chunk's records
LEVEL = 1  #: of Zstandard


class Op(IntEnum):
    """Opcodes."""

    HEADER = 1
    FOOTER = 2
    SCHEMA = 3
    CHANNEL = 4
    MESSAGE = 5
    CHUNK = 6
    MESSAGE_INDEX = 7
    CHUNK_INDEX = 8
    STATISTICS = 11
    METADATA = 12
    METADATA_INDEX = 13
    SUMMARY_OFFSET = 14
    DATA_END = 15


def record(op: Op, body: bytes) -> bytes:
    """A record."""
    return HEAD.pack(op, len(body)) + body


def text(value: str) -> bytes:
    """A text, behind its size."""
    data = value.encode()
    return struct.pack("<I", len(data)) + data


def texts(values: Mapping[str, str]) -> bytes:
    """A map of texts, behind its size."""
    body = b"".join(text(key) + text(value) for key, value in values.items())
    return struct.pack("<I", len(body)) + body


def header(library: str) -> bytes:
    """What a file begins with, behind the magic bytes."""
    return record(Op.HEADER, text("") + text(library))


def schema(number: int, name: str, encoding: str, definition: str) -> bytes:
    """The definition of a message type."""
    return record(Op.SCHEMA, struct.pack("<H", number) + text(name) + text(encoding) + text(definition))


def channel(number: int, schema_number: int, topic: str, encoding: str, metadata: Mapping[str, str]) -> bytes:
    """A stream of messages of one type on one topic."""
    head = struct.pack("<HH", number, schema_number)
    return record(Op.CHANNEL, head + text(topic) + text(encoding) + texts(metadata))


def metadata(name: str, values: Mapping[str, str]) -> bytes:
    """What is said of the file."""
    return record(Op.METADATA, text(name) + texts(values))


@dataclass(slots=True)
class ChunkBuilder:
    """Messages on their way to a chunk."""

    records: bytearray = field(default_factory=bytearray)
    entries: dict[int, bytearray] = field(default_factory=dict)  #: of the message index, by channel
    start: int = 1 << 63
    end: int = 0

    def add(self, number: int, sequence: int, log: int, published: int, data: bytes | memoryview) -> None:
        """A message on channel ``number``; times in ns."""
        entries = self.entries.get(number)
        if entries is None:
            entries = self.entries[number] = bytearray()
        entries += ENTRY.pack(log, len(self.records))
        self.records += MESSAGE.pack(Op.MESSAGE, MESSAGE.size - HEAD.size + len(data), number, sequence, log, published)
        self.records += data
        self.start, self.end = min(self.start, log), max(self.end, log)

    def pack(self, compressor: zstandard.ZstdCompressor) -> tuple[bytes, bytes]:
        """The chunk's record, and its message index."""
        raw = bytes(self.records)
        data = compressor.compress(raw)
        body = CHUNK.pack(self.start, self.end, len(raw), zlib.crc32(raw)) + text("zstd")
        index = [
            record(Op.MESSAGE_INDEX, INDEX.pack(number, len(entries)) + entries)
            for number, entries in self.entries.items()
        ]
        return record(Op.CHUNK, body + struct.pack("<Q", len(data)) + data), b"".join(index)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk in a file, and what its message index says."""

    at: int  #: place of its record
    size: int  #: of its record
    start: int  #: times of the first and the last message, ns
    end: int
    raw: int  #: bytes of its records, before compression
    compressed: int
    index: bytes

    @property
    def counts(self) -> dict[int, int]:
        """Messages by channel."""
        return {number: len(entries) // ENTRY.size for number, entries in index_entries(self.index)}


def index_entries(index: bytes) -> list[tuple[int, bytes]]:
    """Channels and entries of message index records, one behind the other."""
    found, at = [], 0
    while at < len(index):
        _, size = HEAD.unpack_from(index, at)
        number, length = INDEX.unpack_from(index, at + HEAD.size)
        start = at + HEAD.size + INDEX.size
        found.append((number, index[start : start + length]))
        at += HEAD.size + size
    return found


@dataclass(slots=True)
class Contents:
    """What a file holds, for the summary at its end."""

    schemas: dict[int, bytes] = field(default_factory=dict)  #: records, by number
    channels: dict[int, bytes] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    metadata: list[tuple[int, bytes]] = field(default_factory=list)  #: places and records

    def summary(self, at: int) -> bytes:
        """All that comes behind the data, which ends at ``at``: the end of the data, the summary, the footer."""
        end = record(Op.DATA_END, struct.pack("<I", 0))
        start = at + len(end)
        groups = (
            (Op.SCHEMA, b"".join(self.schemas.values())),
            (Op.CHANNEL, b"".join(self.channels.values())),
            (Op.STATISTICS, self._statistics()),
            (Op.CHUNK_INDEX, b"".join(map(_chunk_index, self.chunks))),
            (Op.METADATA_INDEX, b"".join(_metadata_index(place, body) for place, body in self.metadata)),
        )
        body, offsets = b"", b""
        for op, group in groups:
            if group:
                offsets += record(Op.SUMMARY_OFFSET, struct.pack("<BQQ", op, start + len(body), len(group)))
                body += group
        head = HEAD.pack(Op.FOOTER, 20) + struct.pack("<QQ", start, start + len(body))
        crc = zlib.crc32(body + offsets + head)
        return end + body + offsets + head + struct.pack("<I", crc) + MAGIC

    @property
    def messages(self) -> int:
        """How many there are."""
        return sum(self._counts().values())

    def _counts(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for chunk in self.chunks:
            for number, count in chunk.counts.items():
                found[number] = found.get(number, 0) + count
        return found

    def _statistics(self) -> bytes:
        counts = self._counts()
        pairs = b"".join(struct.pack("<HQ", number, count) for number, count in counts.items())
        times = (min((c.start for c in self.chunks), default=0), max((c.end for c in self.chunks), default=0))
        head = struct.pack(
            "<QHIIIIQQ", sum(counts.values()), len(self.schemas), len(self.channels), 0, len(self.metadata),
            len(self.chunks), *times,
        )  # fmt: skip
        return record(Op.STATISTICS, head + struct.pack("<I", len(pairs)) + pairs)


def _chunk_index(chunk: Chunk) -> bytes:
    offsets, at = b"", chunk.at + chunk.size
    for number, entries in index_entries(chunk.index):
        offsets += struct.pack("<HQ", number, at)
        at += HEAD.size + INDEX.size + len(entries)
    body = struct.pack("<QQQQI", chunk.start, chunk.end, chunk.at, chunk.size, len(offsets)) + offsets
    body += struct.pack("<Q", len(chunk.index)) + text("zstd") + struct.pack("<QQ", chunk.compressed, chunk.raw)
    return record(Op.CHUNK_INDEX, body)


def _metadata_index(at: int, body: bytes) -> bytes:
    (size,) = struct.unpack_from("<I", body, HEAD.size)
    name = body[HEAD.size : HEAD.size + 4 + size]
    return record(Op.METADATA_INDEX, struct.pack("<QQ", at, len(body)) + name)
