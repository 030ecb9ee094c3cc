"""``Ring``: the memory-mapped file that a tape is written to. A killed process loses nothing that was written.

Entries go into one of two open areas as they are, so that they are in the file at once. A full area is compressed into
the ring by a thread of its own while the other one fills; the oldest blocks are written over. What the head says is
changed only after what it speaks of is on the disk, and an area is used again only after the head on the disk no longer
speaks of it: pages reach the disk in any order.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import queue
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from ..errors import ConfigError
from ..journal.store import sync_folder
from .format import (
    DOMAIN,
    ENDED,
    FIXED,
    FLAGS,
    FLAGS_AT,
    HEAD_SIZE,
    MAGIC,
    MAX_RAW,
    MOVING,
    MOVING_AT,
    NO_DIGEST,
    VERSION,
    Kind,
    aligned,
    entry_seed,
    pack_block,
    pack_entry,
)

RETRY_S = 0.1  #: between attempts to sync
LEVEL = 1  #: of Zstandard: half a gigabyte a second
_WORD = struct.Struct("<Q")
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
    seed: int = 0
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
    ) -> None:
        """Make the file. ``boot``: 16 bytes; ``envelope``, ``plan``: digests, 32 bytes; ``size``: of the ring, bytes.

        Raises ``ConfigError`` where the file can't be made, or the disk has no room for it: all of it is taken at once.
        """
        if not 4096 <= open_size <= min(size // 2, MAX_RAW):
            raise ConfigError(f"{path}: a tape of {size} bytes can't have blocks of {open_size}; make it larger")
        self.path = path
        self.open_size = open_size
        self._size = size
        self.stored: Callable[[], None] | None = None  #: called, by another thread, when a block has entered the ring
        self._start = HEAD_SIZE + 2 * open_size
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; name a folder for tapes that can be written to") from None
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # while it is held, the run is not over
        try:
            # A hole that can't be filled later would kill the process at a store into the mapping.
            os.posix_fallocate(self._file, 0, self._start + size)
            self._map = mmap.mmap(self._file, self._start + size)
            sync_folder(path)
        except OSError as error:
            os.close(self._file)
            path.unlink()
            raise ConfigError(
                f"{path}: no room for a tape of {size >> 20} MiB ({error.strerror}); make it smaller"
            ) from None
        self._map[: FIXED.size] = FIXED.pack(MAGIC, VERSION, 0, boot, envelope, plan, self._start, size, open_size)
        self._areas = [_Area(0, HEAD_SIZE), _Area(1, HEAD_SIZE + open_size)]
        self._area = self._areas[0]
        self._hash: Any = None
        self._full: queue.SimpleQueue[_Area | None] = queue.SimpleQueue()  #: areas that are to be stored
        self._idle = threading.Event()
        self._idle.set()
        self._failure: BaseException | None = None  #: of the worker: a mistake of ours
        # One for all blocks: a thread that is begun is waited for, and that took a scheduler's slice of the engine's time.
        self._worker = threading.Thread(target=self._work, name="tape", daemon=True)
        self._place = self._start  #: of the next block
        self._newest = 0
        self._sequence = 0
        self._digest = NO_DIGEST  #: of the block that was closed last
        self._disk = threading.Lock()
        self._needed = threading.Event()  #: the engine waits for the area that is being stored
        self._unsynced: list[tuple[int, int]] = []  # blocks in the ring that may not be on the disk: place, size
        self._doubted = False  #: a sync failed: what the disk holds of the head and the open areas is not known
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        self._worker.start()

    @property
    def begun(self) -> int:
        """Time at which the open block began, ns."""
        return self._area.first

    def fits(self, size: int, since: int) -> bool:
        """Whether the open area takes ``size`` bytes more, and began at ``since`` (ns) or later."""
        return self._area.filled + size <= self.open_size and self._area.first >= since

    def turn(self, snapshot: bytes, t: int) -> None:
        """Close the open block, if there is one, and begin the next with ``snapshot`` (payload of a SNAPSHOT entry)."""
        if self._hash is not None:
            self._digest = self._hash.digest()
            self._wait()
            full, self._area = self._area, self._areas[1 - self._area.number]
            self._idle.clear()
            self._full.put(full)
        area = self._area
        self._sequence += 1
        area.filled, area.sequence, area.before, area.first, area.last = 0, self._sequence, self._digest, t, t
        area.seed = entry_seed(area.before)
        self._hash = hashlib.sha256(DOMAIN + area.before)
        at = _AREA_AT[area.number]
        self._say(at, 0)
        self._map[at + 16 : at + _AREA.size] = area.before
        self._say(at + 8, area.sequence)  # last: from here on the area counts
        self.append(Kind.SNAPSHOT, snapshot, t)

    def append(self, kind: Kind, payload: bytes, t: int, *more: tuple[Kind, bytes]) -> None:
        """Add an entry at ``t`` (ns), and ``more`` that are there with it or not at all. They must fit (:meth:`fits`)."""
        area = self._area
        entry = pack_entry(kind, payload, area.seed)
        for following in more:
            entry += pack_entry(*following, area.seed)
        if area.filled + len(entry) > self.open_size:
            raise ConfigError(
                f"{self.path}: an entry of {len(entry)} bytes does not fit; make the tape's blocks larger"
            )
        if self._doubted:
            self._write_again()
        at = area.start + area.filled
        self._map[at : at + len(entry)] = entry
        area.filled += len(entry)
        area.last = max(area.last, t)
        self._say(_AREA_AT[area.number], area.filled)
        self._hash.update(entry)
        if kind == Kind.FINISH:
            self._map[FLAGS_AT : FLAGS_AT + FLAGS.size] = FLAGS.pack(ENDED)

    def anchor(self) -> tuple[int, int, bytes]:
        """``(block, bytes, digest)`` of all that has been written: what the journal signs."""
        return self._area.sequence, self._area.filled, self._hash.copy().digest()

    def sync(self) -> None:
        """Put on the disk what has been written. Any thread may call it; raises ``OSError``.

        After an error it fails until all that may have been lost was written again, at the next ``append``: the pages
        of a failed sync count as written, and a second one would succeed without them.
        """
        with self._disk:
            if self._doubted:
                raise OSError(errno.EIO, "the tape could not be written", str(self.path))
            try:
                os.fdatasync(self._file)  # also writes pages that were changed through the mapping; others may run
            except OSError:
                for place, size in self._unsynced:
                    self._map[place : place + size] = self._map[place : place + size]
                self._doubted = True
                raise
            self._unsynced.clear()

    def close(self) -> None:
        """Give the file back; what is in the open area stays there, and is read from there."""
        self._wait()
        self._full.put(None)
        self._worker.join()
        self._map.close()
        os.close(self._file)

    def _say(self, at: int, number: int) -> None:
        """Change a number of the head in one store: whenever the process is killed, it is the old one or the new one."""
        self._map[at : at + _WORD.size] = _WORD.pack(number)  # pack_into would clear it first

    def _write_again(self) -> None:
        """Change every page of the head and the open areas to what it is, so that the next sync writes it."""
        self._map[: len(MAGIC)] = MAGIC
        self._map[HEAD_SIZE : self._start] = self._map[HEAD_SIZE : self._start]
        self._doubted = False

    def _wait(self) -> None:
        self._needed.set()
        self._idle.wait()
        self._needed.clear()
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while (area := self._full.get()) is not None:
            try:
                self._store(area)
            except BaseException as error:
                self._failure = error
            finally:
                self._idle.set()

    def _store(self, area: _Area) -> None:
        """Compress a full area into the ring; only then is it free again."""
        times = area.first, area.last
        # Nothing is copied or stored into the mapping here: with megabytes that holds the interpreter, and the engine with
        # it, for milliseconds; compressing and writing do not.
        with memoryview(self._map) as whole, whole[area.start : area.start + area.filled] as raw:
            parts = pack_block(area.sequence, self._newest, times, area.before, raw, self._compressor)
        size = sum(map(len, parts))
        if self._place + size > self._start + self._size:
            self._place = self._start
        place = self._place
        with self._disk:
            end = place + size
            self._unsynced = [(at, long) for at, long in self._unsynced if at + long <= place or at >= end]
            self._unsynced.append((place, size))
            try:
                done = os.pwritev(self._file, parts, place)
            except OSError:
                done = 0
            if done < size:
                self._map[place + done : end] = b"".join(parts)[done:]
        self._settle()
        first = place // mmap.PAGESIZE * mmap.PAGESIZE
        # The pages are the file's and stay so; mapped on, the whole ring would count as memory of this process.
        self._map.madvise(mmap.MADV_DONTNEED, first, place + size - first)
        self._place = place + aligned(size)
        self._newest = place
        self._say(MOVING_AT, place)
        self._say(MOVING_AT + 8, area.sequence)
        self._say(_AREA_AT[area.number] + 8, 0)
        self._settle()
        if self.stored is not None:
            self.stored()

    def _settle(self) -> None:
        """Sync, again where it fails, until the area is needed: the tape goes on, and ``sync`` tells of the disk."""
        while True:
            try:
                self.sync()
                return
            except OSError:
                if self._needed.wait(RETRY_S):
                    return
