"""The records of a ROS 1 bag as bytes say them: headers, connections, indexes, decompression.

Format: http://wiki.ros.org/Bags/Format/2.0
"""

from __future__ import annotations

import bz2
import struct
from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from .recording import MAX_CHUNK, ByteFile, Bytes, MalformedError

MAGIC = b"#ROSBAG V2.0\n"
MESSAGE_DATA, BAG_HEADER, INDEX, CHUNK, CHUNK_INFO, CONNECTION = range(2, 8)  # the format's ``op``
MAX_HEADER = 1 << 16  #: bytes of a record header; real ones have a few hundred at most
INDEX_ENTRY = np.dtype([("sec", "<u4"), ("nsec", "<u4"), ("offset", "<u4")])


def parse_header(data: bytes) -> dict[str, bytes]:
    """The fields of a record header. Raises MalformedError."""
    fields = {}
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        name, equals, value = data[at + 4 : at + 4 + length].partition(b"=")
        if at + 4 + length > len(data) or not equals:
            raise MalformedError("its header is no list of fields")
        fields[name.decode("latin-1")] = value
        at += 4 + length
    return fields


def number(fields: dict[str, bytes], name: str, width: int = 4) -> int:
    """An unsigned number of a header. Raises MalformedError."""
    value = fields.get(name, b"")
    if len(value) != width:
        raise MalformedError(f"it has no proper field {name!r}")
    return int.from_bytes(value, "little")


def stamp(value: bytes) -> int:
    """Seconds and nanoseconds as ns. Raises MalformedError."""
    if len(value) != 8:
        raise MalformedError("a time of the wrong size")
    sec, nsec = struct.unpack("<II", value)
    return int(sec * 1_000_000_000 + nsec)


def read_record(file: ByteFile, at: int) -> tuple[dict[str, bytes], int, int]:
    """(header fields, start of the data, its size) of the record at ``at``. Raises MalformedError."""
    head = file.peek(at, 4)
    length = int.from_bytes(head, "little")
    if len(head) < 4 or not 0 < length <= MAX_HEADER:
        raise MalformedError("no record stands here")
    raw = file.peek(at + 4, length + 4)
    if len(raw) < length + 4:
        raise MalformedError("the file ends within a record")
    fields = parse_header(raw[:length])
    if len(fields.get("op", b"")) != 1:
        raise MalformedError("no record stands here")
    return fields, at + 8 + length, int.from_bytes(raw[length:], "little")


def agreement(topic: bytes, data: bytes) -> int:
    """How well the parts of a connection record agree: its two topics, and its definition with its MD5 sum."""
    from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore

    try:
        about = parse_header(data)
        type_name = about.get("type", b"").decode().replace("/", "/msg/", 1)
        store = get_typestore(Stores.EMPTY)
        store.register(get_types_from_msg(about.get("message_definition", b"").decode(), type_name))
        digest = store.generate_msgdef(type_name, ros_version=1)[1]
    except (MalformedError, UnicodeDecodeError, TypesysError, KeyError):
        return 0
    return 1 + (about.get("topic") == topic) + (digest == about.get("md5sum", b"").decode("latin-1"))


def index_size(fields: dict[str, bytes], size: int) -> int:
    """How many entries an index record has. Raises MalformedError."""
    count = number(fields, "count")
    if number(fields, "ver") != 1 or size != count * INDEX_ENTRY.itemsize:
        raise MalformedError("an index record whose lengths contradict each other")
    return count


def decompress(compression: str, stored: Bytes, stated: int) -> Bytes:
    """A chunk's records (of a cut chunk, those before the cut). Raises MalformedError."""
    try:
        if compression == "bz2":
            data = bz2.BZ2Decompressor().decompress(stored.data, max_length=stated + 1)
        elif compression == "lz4":
            from lz4.frame import LZ4FrameDecompressor

            data = LZ4FrameDecompressor().decompress(stored.data, max_length=stated + 1)
        else:
            return stored
    except (OSError, ValueError, RuntimeError, EOFError, MemoryError) as error:
        raise MalformedError(f"it can't be decompressed ({error})") from None
    return np.frombuffer(data, np.uint8)


@dataclass
class ClosingIndex:
    """What the end of a closed bag says of the rest. Empty where there is none that can be trusted."""

    at: int = 0  #: where it starts, and the data ends; 0 in a bag that was not closed
    connections: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  #: topic and description
    chunks: dict[int, tuple[int, int]] = field(default_factory=dict)  #: by position: first time, messages
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


def read_closing_index(file: ByteFile) -> tuple[ClosingIndex, str]:
    """The index at the end, by way of the bag's header, and what is wrong with it."""
    closing = ClosingIndex()
    try:
        fields, start, size = read_record(file, len(MAGIC))
        if fields["op"][0] != BAG_HEADER:
            raise MalformedError("the bag does not start with its header")
        closing.at = number(fields, "index_pos", 8)
        if not closing.at:
            return closing, "the bag was never closed: it has no index"
        if closing.at == file.size and number(fields, "chunk_count") == 0:
            return closing, ""
        if not start + size <= closing.at < file.size:
            closing.at = 0
            raise MalformedError("its index is not in the file: it was cut")
        at = closing.at
        while at < file.size:
            at = _read_index_record(file, at, closing)
        if (number(fields, "conn_count"), number(fields, "chunk_count")) != (
            len(closing.connections),
            len(closing.chunks),
        ):
            raise MalformedError("its index is not as long as its header says")
    except MalformedError as error:
        # Where the data ends stays known if a record of the index stands there.
        at = closing.at if closing.connections else 0
        return ClosingIndex(at), f"the bag is read without index: {error}"
    return closing, ""


def _read_index_record(file: ByteFile, at: int, closing: ClosingIndex) -> int:
    fields, start, size = read_record(file, at)
    data = file.read(start, min(size, MAX_CHUNK))
    if len(data) < size:
        raise MalformedError("its index is cut")
    if fields["op"][0] == CONNECTION:
        parse_header(data)
        closing.connections[number(fields, "conn")] = fields.get("topic", b""), data
    elif fields["op"][0] == CHUNK_INFO and size == 8 * number(fields, "count") and number(fields, "ver") == 1:
        messages = int(np.frombuffer(data, "<u4")[1::2].sum())
        closing.chunks[number(fields, "chunk_pos", 8)] = (stamp(fields.get("start_time", b"")), messages)
    else:
        raise MalformedError("its index is damaged")
    return start + size
