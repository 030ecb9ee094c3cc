"""``Ring``: the memory-mapped file that a tape is written to. A killed process loses nothing that was written.

Entries go into one of two open areas as they are, so that they are in the file at once. A full area is compressed into
the ring by a thread of its own while the other one fills; the oldest blocks are written over. What the head says is
changed only after what it speaks of is there.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from ..errors import ConfigError
from .format import (
    BLOCK,
    BLOCK_ALIGN,
    BLOCK_MAGIC,
    CRC,
    DOMAIN,
    FIXED,
    HEAD_SIZE,
    MAGIC,
    MAX_RAW,
    MOVING,
    MOVING_AT,
    NO_DIGEST,
    VERSION,
    Kind,
    pack_entry,
)

LEVEL = 1  #: of Zstandard: half a gigabyte a second
_FILLED = struct.Struct("<Q")
_AREA = struct.Struct("<QQ32s")
_AREA_AT = (MOVING_AT + 16, MOVING_AT + 16 + _AREA.size)
assert MOVING_AT + MOVING.size == _AREA_AT[1] + _AREA.size


@dataclass(slots=True)
class _Area:
    """An open area: ``filled`` bytes of the block ``sequence``, which follows the block with the digest ``before``."""

    number: int
    start: int
    filled: int = 0
    sequence: int = 0
    before: bytes = NO_DIGEST
    first: int = 0  #: time of its beginning and of the last entry, ns
    last: int = 0


class Ring:
    """The file's one writer; all methods but ``sync`` are the engine thread's."""

    def __init__(
        self,
        path: Path,
        *,
        boot: bytes,
        envelope: bytes,
        plan: bytes,
        size: int = 256 << 20,
        open_size: int = 4 << 20,
        stored: Callable[[int, bytes], None] | None = None,
    ) -> None:
        """Make the file. ``boot``: 16 bytes; ``envelope``, ``plan``: digests, 32 bytes; ``size``: of the ring, bytes.

        ``stored`` is called, by another thread, with the sequence and the bytes of each block that enters the ring.
        Raises ``ConfigError`` where the file can't be made, or the disk has no room for it: all of it is taken at once.
        """
        if not 4096 <= open_size <= min(size // 2, MAX_RAW):
            raise ConfigError(f"{path}: a tape of {size} bytes can't have blocks of {open_size}; make it larger")
        self.path = path
        self.open_size = open_size
        self._size = size
        self._stored = stored
        self._start = HEAD_SIZE + 2 * open_size
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; name a folder for tapes that can be written to") from None
        try:
            # A hole that can't be filled later would kill the process at a store into the mapping.
            os.posix_fallocate(self._file, 0, self._start + size)
            self._map = mmap.mmap(self._file, self._start + size)
        except OSError as error:
            os.close(self._file)
            path.unlink()
            raise ConfigError(
                f"{path}: no room for a tape of {size >> 20} MiB ({error.strerror}); make it smaller"
            ) from None
        FIXED.pack_into(self._map, 0, MAGIC, VERSION, 0, boot, envelope, plan, self._start, size, open_size)
        self._areas = [_Area(0, HEAD_SIZE), _Area(1, HEAD_SIZE + open_size)]
        self._area = self._areas[0]
        self._hash: Any = None
        self._worker: threading.Thread | None = None
        self._place = self._start  #: of the next block
        self._newest = 0
        self._sequence = 0
        self._digest = NO_DIGEST  #: of the block that was closed last
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)

    @property
    def room(self) -> int:
        """Bytes that the open area still takes."""
        return self.open_size - self._area.filled

    @property
    def begun(self) -> int:
        """Time at which the open block began, ns."""
        return self._area.first

    def turn(self, snapshot: bytes, t: int) -> None:
        """Close the open block, if there is one, and begin the next with ``snapshot`` (payload of a SNAPSHOT entry)."""
        if self._hash is not None:
            self._digest = self._hash.digest()
            self._wait()
            full, self._area = self._area, self._areas[1 - self._area.number]
            self._worker = threading.Thread(target=self._store, args=(full,), name="tape", daemon=True)
            self._worker.start()
        area = self._area
        self._sequence += 1
        area.filled, area.sequence, area.before, area.first, area.last = 0, self._sequence, self._digest, t, t
        self._hash = hashlib.sha256(DOMAIN + area.before)
        _AREA.pack_into(self._map, _AREA_AT[area.number], 0, area.sequence, area.before)
        self.append(Kind.SNAPSHOT, snapshot, t)

    def append(self, kind: Kind, payload: bytes, t: int) -> None:
        """Add an entry at ``t`` (ns). It must fit into ``room``."""
        entry = pack_entry(kind, payload)
        area = self._area
        if len(entry) > self.room:
            raise ConfigError(
                f"{self.path}: an entry of {len(entry)} bytes does not fit; make the tape's blocks larger"
            )
        at = area.start + area.filled
        self._map[at : at + len(entry)] = entry
        area.filled += len(entry)
        area.last = max(area.last, t)
        _FILLED.pack_into(self._map, _AREA_AT[area.number], area.filled)
        self._hash.update(entry)

    def anchor(self) -> tuple[int, int, bytes]:
        """``(block, bytes, digest)`` of all that has been written: what the journal signs."""
        return self._area.sequence, self._area.filled, self._hash.copy().digest()

    def sync(self) -> None:
        """Put on the disk what has been written. Any thread may call it; raises ``OSError``."""
        os.fdatasync(self._file)  # also writes pages that were changed through the mapping, and lets other threads run

    def close(self) -> None:
        """Give the file back; what is in the open area stays there, and is read from there."""
        self._wait()
        self._map.close()
        os.close(self._file)

    def _wait(self) -> None:
        if self._worker is not None:
            self._worker.join()
            self._worker = None

    def _store(self, area: _Area) -> None:
        """Compress a full area into the ring; only then is it free again."""
        raw = self._map[area.start : area.start + area.filled]
        digest = hashlib.sha256(DOMAIN + area.before + raw).digest()
        data = self._compressor.compress(raw)
        head = BLOCK.pack(
            BLOCK_MAGIC, area.sequence, self._newest, len(data), len(raw), area.first, area.last, area.before, digest
        )
        block = head + CRC.pack(zlib.crc32(head)) + data
        if self._place + len(block) > self._start + self._size:
            self._place = self._start
        place = self._place
        self._map[place : place + len(block)] = block
        self._place = place + -(-len(block) // BLOCK_ALIGN) * BLOCK_ALIGN
        self._newest = place
        struct.pack_into("<QQ", self._map, MOVING_AT, place, area.sequence)
        _AREA.pack_into(self._map, _AREA_AT[area.number], 0, 0, NO_DIGEST)
        if self._stored is not None:
            self._stored(area.sequence, block)
