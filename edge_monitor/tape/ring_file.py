"""``RingFile``: reading blocks out of a tape that may be written at this moment, or was left by a run that is over.

Everything is read with ``pread``, which lets other threads run, and nothing is believed before its digest holds: the writer
may have written over it meanwhile.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from .format import (
    BLOCK,
    CRC,
    FIXED,
    FLAGS,
    FLAGS_AT,
    MAGIC,
    MAX_RAW,
    MOVING,
    MOVING_AT,
    VERSION,
    Block,
    BlockHead,
    TapeError,
    block_entries,
    block_head,
)


class _Area(NamedTuple):
    filled: int
    sequence: int
    before: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block stands in the ring, and what its head says."""

    at: int
    head: BlockHead


class RingFile:
    """One tape, opened for reading. Raises ``TapeError`` where it is none, ``OSError`` where it can't be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            head = os.pread(self._file, FIXED.size, 0)
            if len(head) < FIXED.size or head[: len(MAGIC)] != MAGIC:
                raise TapeError(f"{path}: is not a tape of edge-monitor")
            _, version, self.flags, self.boot, self.envelope, self.plan, self._start, self._size, self._open = (
                FIXED.unpack(head)
            )
            if version != VERSION or self._open > MAX_RAW:
                raise TapeError(f"{path}: tape version {version}; this program knows {VERSION}")
        except BaseException:
            os.close(self._file)
            raise
        self.fixed = head

    def __enter__(self) -> RingFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def written(self) -> bool:
        """Whether a process still writes it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return False

    def mark(self, flag: int) -> None:
        """Set a flag of a tape whose run is over."""
        self.flags |= flag
        os.pwrite(self._file, FLAGS.pack(self.flags), FLAGS_AT)

    def places(self, least: int = 0) -> list[Place]:
        """Blocks in the ring with a sequence of at least ``least``, oldest first."""
        found: list[Place] = []
        at = self._moving()[0]
        while at:
            head = self._head(at)
            if head is None or (found and head.sequence != found[-1].head.sequence - 1) or head.sequence < least:
                break
            found.append(Place(at, head))
            at = head.previous
        return found[::-1]

    def stored(self, place: Place) -> bytes | None:
        """A block as it is stored; None where it was written over."""
        data = os.pread(self._file, place.head.size, place.at)
        head = block_head(data)
        if head != place.head or block_entries(head, data[BLOCK.size + CRC.size :]) is None:
            return None
        return data

    def opened(self) -> list[Block]:
        """What the open areas hold, oldest first; of a run that is over, else use :meth:`prefix`."""
        found = [
            Block(area.sequence, self._area(number, area.filled), area.before, False)
            for number, area in enumerate(self._moving()[1])
            if area.sequence and area.filled <= self._open
        ]
        return sorted(found, key=lambda block: block.sequence)

    def prefix(self, sequence: int, size: int) -> Block | None:
        """The first ``size`` bytes of a block's entries, wherever it stands now; None where it stands nowhere."""
        for _ in range(3):  # it may be on its way from an area to the ring
            for number, area in enumerate(self._moving()[1]):
                if area.sequence == sequence and size <= area.filled <= self._open:
                    raw = self._area(number, size)
                    if self._moving()[1][number].sequence == sequence:  # the area is still this block's
                        return Block(sequence, raw, area.before, False)
            for place in self.places(sequence)[:1]:
                data = self.stored(place)
                if place.head.sequence == sequence and data is not None:
                    raw = block_entries(place.head, data[BLOCK.size + CRC.size :]) or b""
                    return Block(sequence, raw[:size], place.head.before, False)
        return None

    def _moving(self) -> tuple[int, tuple[_Area, _Area]]:
        """Place of the newest block, and what is said of the open areas."""
        newest, _, *areas = MOVING.unpack(os.pread(self._file, MOVING.size, MOVING_AT))
        return newest, (_Area(*areas[:3]), _Area(*areas[3:]))

    def _area(self, number: int, size: int) -> bytes:
        return os.pread(self._file, size, self._start - (2 - number) * self._open)

    def _head(self, at: int) -> BlockHead | None:
        if not self._start <= at <= self._start + self._size - BLOCK.size - CRC.size:
            return None
        head = block_head(os.pread(self._file, BLOCK.size + CRC.size, at))
        return None if head is None or at + head.size > self._start + self._size else head
