"""MCAP files of ours: writing one chunk by chunk, reading what a cut one holds, and giving that an end."""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import zstandard

from .. import __version__
from .mcap_records import CHUNK, HEAD, LEVEL, MAGIC, MESSAGE, Chunk, ChunkBuilder, Contents, Op, header, metadata

LARGEST = 1 << 30  #: bytes of a record that is believed
ABOUT = "edge-monitor"  #: name of the metadata that each file has
LATCHED = "edge-monitor latched"  #: of those before a chunk that repeats the last messages of latched channels


class McapFile:
    """One file; its one writer. Methods raise ``OSError``; what was not written whole is taken away again."""

    def __init__(self, path: Path, about: Mapping[str, str]) -> None:
        """``about``: what is said of the file, in its metadata."""
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # while it is held, the file is being written
        self.size = 0
        self.contents = Contents()
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        try:
            self._write(MAGIC + header(f"edge-monitor {__version__}"))
            self.say(ABOUT, about)
        except OSError:
            self.close(whole=False)
            path.unlink(missing_ok=True)
            raise

    def describe(self, schema: bytes, channel: bytes) -> None:
        """A channel, and its schema (empty: none), as records."""
        for known, body in ((self.contents.schemas, schema), (self.contents.channels, channel)):
            if body and (number := _number(body)) not in known:
                self._write(body)
                known[number] = body

    def say(self, name: str, values: Mapping[str, str]) -> None:
        """Metadata."""
        body = metadata(name, values)
        at = self.size
        self._write(body)
        self.contents.metadata.append((at, body))

    def add(self, builder: ChunkBuilder) -> None:
        """A chunk of messages."""
        self.copy(*builder.pack(self._compressor))

    def copy(self, chunk: bytes, index: bytes) -> None:
        """A chunk as it stands in another file, with its message index. Their channels must have the same numbers here."""
        at = self.size
        self._write(chunk + index)
        self.contents.chunks.append(_chunk(at, chunk[: HEAD.size + CHUNK.size + 16], len(chunk), index))

    def close(self, *, whole: bool = True) -> None:
        """Give the file back, with an end (``whole``), and put it on the disk."""
        try:
            if whole:
                self._write(self.contents.summary(self.size))
                os.fdatasync(self._file)
        finally:
            os.close(self._file)

    def _write(self, data: bytes) -> None:
        at = self.size
        try:
            while data:
                done = os.pwrite(self._file, data, at)
                data, at = data[done:], at + done
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self.size)
            raise
        self.size = at


class Found(NamedTuple):
    """A record of a file: ``body`` of descriptions and metadata (head included), ``chunk`` of chunks."""

    op: Op
    at: int
    body: bytes = b""
    chunk: Chunk | None = None


class McapSource:
    """A file of ours, opened for reading: whole, cut, or being written. Raises ``OSError`` where it can't be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.end = 0  #: behind the last record that :meth:`records` gave

    def __enter__(self) -> McapSource:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def written(self) -> bool:
        """Whether a process still writes it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return False

    def whole(self) -> bool:
        """Whether it has its end."""
        size = os.fstat(self._file).st_size
        return size > 2 * len(MAGIC) and os.pread(self._file, len(MAGIC), size - len(MAGIC)) == MAGIC

    def records(self) -> Iterator[Found]:
        """Schemas, channels, metadata and chunks with their index, up to the end of the data or the first that is cut."""
        at = self.end = len(MAGIC)
        if os.pread(self._file, at, 0) != MAGIC:
            return
        waiting: Chunk | None = None  # its index follows
        while True:
            head = os.pread(self._file, HEAD.size, at)
            op, size = HEAD.unpack(head) if len(head) == HEAD.size else (0, 0)
            end = at + HEAD.size + size
            cut = op not in Op._value2member_map_ or size > LARGEST or end > os.fstat(self._file).st_size
            if waiting is not None:
                if op == Op.MESSAGE_INDEX and not cut:
                    waiting = replace(waiting, index=waiting.index + os.pread(self._file, HEAD.size + size, at))
                    at = end
                    continue
                if not cut or self._complete(waiting):
                    self.end = at
                    yield Found(Op.CHUNK, waiting.at, chunk=waiting)
                waiting = None
            if cut or op == Op.DATA_END:
                return
            if op == Op.CHUNK:
                front = os.pread(self._file, HEAD.size + CHUNK.size + 16, at)
                waiting = _chunk(at, front, HEAD.size + size, b"")
            else:
                self.end = end
                if op in (Op.SCHEMA, Op.CHANNEL, Op.METADATA):
                    yield Found(Op(op), at, os.pread(self._file, HEAD.size + size, at))
            at = end

    def stored(self, chunk: Chunk) -> bytes:
        """The record of a chunk."""
        return os.pread(self._file, chunk.size, chunk.at)

    def messages(self, chunk: Chunk) -> bytes:
        """The records in a chunk; empty where they are damaged."""
        data = self.stored(chunk)
        start = len(data) - chunk.compressed
        try:
            raw = zstandard.ZstdDecompressor().decompress(data[start:], max_output_size=chunk.raw)
        except zstandard.ZstdError:
            return b""
        (crc,) = struct.unpack_from("<I", data, HEAD.size + CHUNK.size - 4)
        return raw if len(raw) == chunk.raw and zlib.crc32(raw) == crc else b""

    def mend(self) -> None:
        """Give a file that was cut its end, behind the last chunk that is whole."""
        contents = Contents()
        for found in self.records():
            if found.op == Op.SCHEMA:
                contents.schemas[_number(found.body)] = found.body
            elif found.op == Op.CHANNEL:
                contents.channels[_number(found.body)] = found.body
            elif found.op == Op.METADATA:
                contents.metadata.append((found.at, found.body))
            elif found.chunk is not None:
                contents.chunks.append(found.chunk)
        times = os.fstat(self._file)
        os.ftruncate(self._file, self.end)
        os.pwrite(self._file, contents.summary(self.end), self.end)
        os.utime(self._file, ns=(times.st_atime_ns, times.st_mtime_ns))  # it is as old as it was
        os.fdatasync(self._file)

    def _complete(self, chunk: Chunk) -> bool:
        """Whether the last chunk of a cut file, and its index, are whole."""
        raw = self.messages(chunk)
        at = count = 0
        while at < len(raw):
            at += HEAD.size + HEAD.unpack_from(raw, at)[1]
            count += 1
        return bool(raw) and count == sum(chunk.counts.values())


def message_at(raw: bytes, at: int) -> tuple[int, int, int, bytes]:
    """Channel, sequence, time of reception (ns) and payload of the message at a place in a chunk's records."""
    _, size, number, sequence, _, published = MESSAGE.unpack_from(raw, at)
    return number, sequence, published, raw[at + MESSAGE.size : at + HEAD.size + size]


def _number(body: bytes) -> int:
    number: int = struct.unpack_from("<H", body, HEAD.size)[0]
    return number


def _chunk(at: int, front: bytes, size: int, index: bytes) -> Chunk:
    start, end, raw, _ = CHUNK.unpack_from(front, HEAD.size)
    (compressed,) = struct.unpack_from("<Q", front, HEAD.size + CHUNK.size + len(b"\4\0\0\0zstd"))
    return Chunk(at, size, start, end, raw, compressed, index)
