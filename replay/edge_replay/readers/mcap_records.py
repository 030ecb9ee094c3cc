"""The records of MCAP as bytes say them: parsing, checks, decompression, and the summary at the end of a file.

Everything here is told of nothing but bytes and answers with values or :class:`MalformedError`. Format: https://mcap.dev/spec
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from .recording import MAX_CHUNK, ByteFile, Bytes, MalformedError

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
ATTACHMENT, ATTACHMENT_INDEX, STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = range(9, 16)
NAMES = (
    *("header", "footer", "schema", "channel", "message", "chunk", "message-index", "chunk-index", "attachment"),
    *("attachment-index", "statistics", "metadata", "metadata-index", "summary-offset", "end-of-data"),
)
INDEX_ENTRY = np.dtype([("t", "<u8"), ("offset", "<u8")])


def name(opcode: int) -> str:
    """What a record of this opcode is called."""
    return NAMES[opcode - 1] if 1 <= opcode <= len(NAMES) else f"private (0x{opcode:02x})"


@dataclass(frozen=True, slots=True)
class Schema:
    id: int
    name: str
    encoding: str
    text: str


@dataclass(frozen=True, slots=True)
class ChannelRecord:
    id: int
    schema: int
    topic: str
    encoding: str
    metadata: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The fixed part of a chunk record; ``at`` is the record's position, ``data_at`` that of its stored bytes."""

    at: int
    data_at: int
    start: int
    end: int
    uncompressed: int
    crc: int
    compression: str
    compressed: int

    @property
    def stated(self) -> tuple[int, int, int, str, int, int]:
        """What the chunk index repeats of it."""
        length = self.data_at + self.compressed - self.at
        return self.start, self.end, length, self.compression, self.compressed, self.uncompressed


class Reader:
    """Cursor over a record's bytes; whatever runs past the end is malformed."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise MalformedError("a field runs past the end of the record")
        self.at += count
        return self.data[self.at - count : self.at]

    def text(self) -> str:
        try:
            return self.take(self.number(4)).decode()
        except UnicodeDecodeError:
            raise MalformedError("a text is not UTF-8") from None

    def texts(self) -> tuple[tuple[str, str], ...]:
        inner = Reader(self.take(self.number(4)))
        pairs = []
        while inner.at < len(inner.data):
            pairs.append((inner.text(), inner.text()))
        return tuple(pairs)

    def end(self) -> None:
        if self.at != len(self.data):
            raise MalformedError("bytes are left over at the end of the record")


def parse_schema(body: bytes) -> Schema:
    reader = Reader(body)
    number, name_, encoding = reader.number(2), reader.text(), reader.text()
    raw = reader.take(reader.number(4))
    reader.end()
    if number == 0:
        raise MalformedError("schema 0 is not allowed")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        if encoding in ("ros2msg", "ros2idl", "ros1msg", "ulog"):
            raise MalformedError("a definition is not UTF-8") from None
        text = ""  # protobuf and the like are binary
    return Schema(number, name_, encoding, text)


def parse_channel(body: bytes) -> ChannelRecord:
    reader = Reader(body)
    record = ChannelRecord(reader.number(2), reader.number(2), reader.text(), reader.text(), reader.texts())
    reader.end()
    return record


def parse_chunk_header(data: bytes, at: int) -> Chunk:
    """The chunk record at file position ``at``, whose first bytes (64 are enough) are ``data``."""
    size = int.from_bytes(data[1:9], "little")
    reader = Reader(data, 9)
    start, end, uncompressed, crc = reader.number(8), reader.number(8), reader.number(8), reader.number(4)
    compression, compressed = reader.text(), reader.number(8)
    if size != reader.at - 9 + compressed:
        raise MalformedError("its lengths contradict each other")
    if compression not in ("", "zstd", "lz4"):
        raise MalformedError(f"unknown compression {compression!r}")
    if max(uncompressed, compressed) > MAX_CHUNK:
        raise MalformedError(f"it claims {max(uncompressed, compressed)} bytes (limit {MAX_CHUNK})")
    if start > end or (not compression and compressed != uncompressed):
        raise MalformedError("its header contradicts itself")
    return Chunk(at, at + reader.at, start, end, uncompressed, crc, compression, compressed)


def check_message_index(body: bytes) -> None:
    reader = Reader(body)
    reader.number(2)
    if len(reader.take(reader.number(4))) % 16:
        raise MalformedError("entries of the wrong size")
    reader.end()


def check_texts(opcode: int, body: bytes) -> None:
    """Header and metadata records: nothing but texts."""
    reader = Reader(body)
    reader.text()
    if opcode == HEADER:
        reader.text()
    else:
        reader.texts()
        reader.end()


def check_attachment(file: ByteFile, start: int, size: int) -> None:
    """Read an attachment's bytes once, against its checksum (0: none)."""
    if size < 4:
        raise MalformedError("too short")
    crc, at, end = 0, start, start + size - 4
    while at < end:
        part = file.read(at, min(1 << 20, end - at))
        if not part:
            raise MalformedError("cut")
        crc = zlib.crc32(part, crc)
        at += len(part)
    stated = int.from_bytes(file.read(end, 4), "little")
    if stated and stated != crc:
        raise MalformedError("the checksum of the attachment does not match")


def index_entries(index: bytes) -> list[tuple[int, np.ndarray]]:
    """Message index records as (channel, (n,) INDEX_ENTRY) pairs; ``index`` is whole records."""
    entries, at = [], 0
    while at + 15 <= len(index):
        size, channel, length = struct.unpack_from("<QHI", index, at + 1)
        entries.append((channel, np.frombuffer(index, INDEX_ENTRY, length // 16, at + 15)))
        at += 9 + size
    return entries


def decompress(chunk: Chunk, stored: Bytes, cut: bool) -> tuple[Bytes | None, str]:
    """(the chunk's records or None where they can't be trusted, what is wrong with them).

    Of a cut chunk, whatever its codec gives before the cut; a cut takes nothing away from what stands before it.
    """
    data: bytes | Bytes
    try:
        if chunk.compression == "zstd":
            data = _zstd(chunk, stored, cut)
        elif chunk.compression == "lz4":
            from lz4.frame import LZ4FrameDecompressor

            data = LZ4FrameDecompressor().decompress(stored.data, max_length=chunk.uncompressed + 1)
        else:
            data = stored
    except (RuntimeError, ValueError, EOFError, MemoryError, MalformedError) as error:
        return None, f"chunk lost: it can't be decompressed ({str(error)[:80]})"
    array = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    if cut:
        return array, "the file ends in the middle of a chunk: it was cut"
    if len(array) != chunk.uncompressed:
        return None, f"chunk lost: {len(array)} bytes came out of it, not {chunk.uncompressed}"
    if chunk.crc and zlib.crc32(array.data) != chunk.crc:
        return None, "chunk lost: its checksum does not match"
    return array, ""


def _zstd(chunk: Chunk, stored: Bytes, cut: bool) -> bytes:
    import zstandard

    try:
        if cut:
            return zstandard.ZstdDecompressor().decompressobj().decompress(stored.data)
        if zstandard.frame_content_size(stored.data) not in (-1, chunk.uncompressed):
            raise MalformedError("its size is stated in two ways")
        return zstandard.ZstdDecompressor().decompress(stored.data, max_output_size=chunk.uncompressed)
    except zstandard.ZstdError as error:
        raise MalformedError(str(error)) from None


@dataclass
class Summary:
    """What the end of the file says about the rest of it. Empty where there is none that can be trusted."""

    complete: bool = False  #: footer and closing magic are there
    data_end: int = 0  #: position of the end-of-data record; 0 where unknown
    data_crc: int = 0
    checked: bool = False  #: it has a checksum, and that holds
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, bytes] = field(default_factory=dict)  #: channel records, undigested
    chunks: dict[int, tuple[int, int, int, str, int, int]] = field(default_factory=dict)  #: by position, Chunk.stated
    message_count: int | None = None
    _order: tuple[list[int], list[int]] | None = None

    def earliest_after(self, at: int) -> int | None:
        """The smallest time in any chunk behind the one at ``at``; None where not known, or nothing is left."""
        if self._order is None:
            positions = sorted(self.chunks)
            earliest: list[int] = []
            for position in reversed(positions):
                earliest.append(min(self.chunks[position][0], earliest[-1] if earliest else 1 << 62))
            self._order = positions, earliest[::-1]
        positions, earliest = self._order
        behind = bisect_right(positions, at)
        return earliest[behind] if behind < len(earliest) else None


def read_summary(file: ByteFile) -> tuple[Summary, str]:
    """The summary section by way of the footer, and what is wrong with it (nothing, where the file is just cut)."""
    tail_at = file.size - 37
    tail = file.read(tail_at, 37) if tail_at > 0 else b""
    is_footer = tail[:9] == struct.pack("<BQ", FOOTER, 20)
    if not is_footer:
        return Summary(), "the footer is damaged; read without index" if tail[29:] == MAGIC else ""
    start, _, crc = struct.unpack_from("<QQI", tail, 9)
    problem = "" if tail[29:] == MAGIC else "the last bytes are damaged"
    first = start or tail_at
    end_record = file.read(first - 13, 13) if len(MAGIC) + 13 <= first <= tail_at else b""
    if end_record[:9] != struct.pack("<BQ", DATA_END, 4):
        return Summary(complete=True), "the footer does not point behind the data; read without index"
    summary = Summary(complete=True, data_end=first - 13, data_crc=struct.unpack("<I", end_record[9:])[0])
    if not start:
        return summary, problem
    if tail_at - start > MAX_CHUNK:
        return summary, "the summary is larger than any can be; read without index"
    body = file.read(start, tail_at - start)
    if crc and zlib.crc32(tail[:25], zlib.crc32(body)) != crc:
        return summary, "the checksum of the summary does not match; read without index"
    summary.checked = bool(crc)
    try:
        _parse_summary(body, start, summary)
    except MalformedError as error:
        bare = Summary(complete=True, data_end=summary.data_end, data_crc=summary.data_crc)
        return bare, f"the summary is damaged ({error}); read without index"
    return summary, problem


def _parse_summary(body: bytes, start: int, summary: Summary) -> None:
    at = 0
    starts: dict[int, int] = {}
    while at < len(body):
        if at + 9 > len(body):
            raise MalformedError("a cut record")
        opcode, size = struct.unpack_from("<BQ", body, at)
        record = body[at + 9 : at + 9 + size]
        if len(record) < size:
            raise MalformedError("a record runs past the end")
        starts[at + start] = opcode
        at += 9 + size
        if opcode == SCHEMA:
            schema = parse_schema(record)
            summary.schemas[schema.id] = schema
        elif opcode == CHANNEL:
            summary.channels[parse_channel(record).id] = record
        elif opcode == CHUNK_INDEX:
            _parse_chunk_index(record, summary)
        elif opcode == STATISTICS:
            if size < 46:
                raise MalformedError("statistics of the wrong size")
            summary.message_count = struct.unpack_from("<Q", record)[0]
        elif opcode == SUMMARY_OFFSET:
            group, first, length = struct.unpack("<BQQ", Reader(record).take(17))
            # Writers name groups that they left empty, too; where one begins says nothing.
            if length and starts.get(first, group) != group:
                raise MalformedError("an offset that points at nothing")
        elif opcode not in (ATTACHMENT_INDEX, METADATA_INDEX) and opcode < 0x80:
            raise MalformedError(f"a {name(opcode)} record")


def _parse_chunk_index(record: bytes, summary: Summary) -> None:
    reader = Reader(record)
    first, last, position, length = (reader.number(8) for _ in range(4))
    reader.take(reader.number(4))
    reader.number(8)
    compression, compressed, uncompressed = reader.text(), reader.number(8), reader.number(8)
    reader.end()
    if position + length > summary.data_end:
        raise MalformedError("an index entry that points behind the data")
    summary.chunks[position] = (first, last, length, compression, compressed, uncompressed)
