"""A window of a run's raw messages as one file of its own, copied chunk by chunk."""

from __future__ import annotations

import hashlib
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .mcap_file import LATCHED, McapFile, McapSource, message_at
from .mcap_records import ENTRY, HEAD, Chunk, ChunkBuilder, Op, index_entries, texts

PIECE = 1 << 20  #: bytes that are hashed at a time


@dataclass(frozen=True, slots=True)
class Extract:
    """What was copied. ``repeated``: messages of latched channels from before the window."""

    size: int
    messages: int
    repeated: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Held:
    """The last message of a latched channel before the window."""

    sequence: int
    t: int
    data: bytes


def files_of(folder: Path, boot: bytes) -> list[Path]:
    """The raw files of a run, in order."""
    return sorted(folder.glob(f"{boot.hex()[:8]}-*.mcap"))


def extract(folder: Path, boot: bytes, begin: int, end: int, out: Path) -> Extract | None:
    """Copy what was received from ``begin`` to ``end`` (ns; whole chunks, of a second at most) into a new file ``out``.

    It begins with the last messages of latched channels. None where the run has no raw messages of that time. Raises
    ``OSError``.
    """
    out.unlink(missing_ok=True)
    copy = _Copy(boot, begin, end, out)
    try:
        for path in _from(files_of(folder, boot), begin):
            with suppress(FileNotFoundError), McapSource(path) as source:  # the oldest may go meanwhile
                copy.take(source)
        return copy.done()
    except OSError:
        copy.drop()
        raise


def _from(paths: list[Path], begin: int) -> list[Path]:
    """Those from the last on that begins before the window: each begins with what its latched channels hold."""
    for number in range(len(paths) - 1, 0, -1):
        with suppress(FileNotFoundError), McapSource(paths[number]) as source:
            first = next((found.chunk for found in source.records() if found.chunk is not None), None)
            if first is not None and first.start < begin:
                return paths[number:]
    return paths


class _Copy:
    def __init__(self, boot: bytes, begin: int, end: int, out: Path) -> None:
        self._window = begin, end
        self._path = out
        self._about = {"boot": boot.hex(), "clock": "CLOCK_BOOTTIME", "from_ns": str(begin), "to_ns": str(end)}
        self._out: McapFile | None = None
        self._schemas: dict[int, bytes] = {}
        self._channels: dict[int, bytes] = {}
        self._latched: set[int] = set()
        self._held: dict[int, _Held] = {}
        self._since = begin  #: from when on it is known what they are
        self._repeated = 0

    def take(self, source: McapSource) -> None:
        """Copy what one file has of the window."""
        begin, end = self._window
        repeats = False  # the next chunk repeats what its file's latched channels held
        for found in source.records():
            if found.op == Op.SCHEMA:
                self._schemas[_number(found.body)] = found.body
            elif found.op == Op.CHANNEL:
                self._describe(found.body)
            elif found.op == Op.METADATA:
                repeats = _named(found.body, LATCHED)
            elif found.chunk is not None:
                chunk = found.chunk
                if chunk.end < begin or (repeats and self._out is None and chunk.start <= end):
                    self._hold(source, chunk)
                    self._since = max(begin, chunk.start)
                elif chunk.start <= end and not repeats:
                    self._begun(chunk.start).copy(source.stored(chunk), chunk.index)
                repeats = False

    def done(self) -> Extract | None:
        """The end of it."""
        if self._out is None:
            if not self._held:
                return None
            self._begun(self._window[0])
        out, self._out = self._out, None
        assert out is not None
        out.close()
        digest = hashlib.sha256()
        with out.path.open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
        return Extract(out.size, out.contents.messages, self._repeated, digest.hexdigest())

    def drop(self) -> None:
        """There was no room for it."""
        if self._out is not None:
            self._out.close(whole=False)
        self._path.unlink(missing_ok=True)

    def _describe(self, body: bytes) -> None:
        number = _number(body)
        self._channels[number] = body
        if texts({"latched": "true"})[4:] in body:
            self._latched.add(number)
        if self._out is not None:
            self._out.describe(self._schemas.get(_schema_of(body), b""), body)

    def _hold(self, source: McapSource, chunk: Chunk) -> None:
        wanted = [(number, entries) for number, entries in index_entries(chunk.index) if number in self._latched]
        raw = source.messages(chunk) if wanted else b""
        for _, entries in wanted if raw else ():
            number, sequence, t, data = message_at(raw, ENTRY.unpack(entries[-ENTRY.size :])[1])
            self._held[number] = _Held(sequence, t, data)

    def _begun(self, first: int) -> McapFile:
        """The file, begun with what held before ``first`` (ns) where it is new."""
        if self._out is None:
            self._out = McapFile(self._path, self._about)
            for body in self._channels.values():
                self._out.describe(self._schemas.get(_schema_of(body), b""), body)
            if self._held:
                self._out.say(LATCHED, {})
                t = min(first, self._since)  # what comes later in the file is newer
                self._out.add(repeated({n: (h.sequence, h.t, h.data) for n, h in self._held.items()}, t))
                self._repeated = len(self._held)
        return self._out


def repeated(held: dict[int, tuple[int, int, bytes]], t: int) -> ChunkBuilder:
    """A chunk of the last messages (sequence, time of reception, payload) of latched channels, as of ``t`` (ns)."""
    builder = ChunkBuilder()
    for number, (sequence, received, data) in held.items():
        builder.add(number, sequence, t, received, data)
    return builder


def _number(body: bytes) -> int:
    number: int = struct.unpack_from("<H", body, HEAD.size)[0]
    return number


def _schema_of(channel: bytes) -> int:
    number: int = struct.unpack_from("<H", channel, HEAD.size + 2)[0]
    return number


def _named(body: bytes, name: str) -> bool:
    (size,) = struct.unpack_from("<I", body, HEAD.size)
    return body[HEAD.size + 4 : HEAD.size + 4 + size] == name.encode()
