"""The tape at every store and after power loss: each store and write of a real ``Ring``, and each sync, recorded."""

from __future__ import annotations

import errno
import mmap
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from edge_monitor.tape import Kind, Ring, TapeError, read
from edge_monitor.tape import ring as ring_module

from .power_loss import SECTOR

Anchor = tuple[int, int, bytes]


@dataclass
class Recording:
    """``log``: stores (place, bytes), the beginnings and ends of syncs, anchors, and anchors that are known durable.

    ``wraps``: the ring came round, and old blocks were written over.
    """

    size: int = 0
    log: list[tuple[Any, ...]] = field(default_factory=list)
    final: bytes = b""
    wraps: bool = False

    def anchors(self) -> set[Anchor]:
        """All of them: each run of entries that was ever written."""
        return {rest[0] for kind, *rest in self.log if kind == "anchor"}


def recorded(path: Path, entries: int, seed: int, *, size: int, open_size: int, failing: float = 0.0) -> Recording:
    """Drive a ring: entries of random sizes, turns where a block is full, a sync now and then.

    ``failing``: share of syncs that fail with EIO.
    """
    made = Recording()
    log = made.log

    class Stores(mmap.mmap):
        def __setitem__(self, key: Any, value: Any) -> None:
            log.append(("store", key.indices(len(self))[0], bytes(value)))
            super().__setitem__(key, value)

    real, writing = os.fdatasync, os.pwritev

    def pwritev(descriptor: int, parts: Sequence[bytes], place: int) -> int:
        if disk.random() < failing:
            raise OSError(errno.EIO, "injected")
        data = b"".join(parts)
        if disk.random() < failing:
            data = data[: len(data) // 2]
        log.append(("store", place, data))
        return writing(descriptor, [data], place)

    def fdatasync(descriptor: int) -> None:
        mark = object()
        log.append(("sync", mark))
        if disk.random() < failing:
            log.append(("failed", mark))
            raise OSError(errno.EIO, "injected")
        real(descriptor)
        log.append(("synced", mark))

    chance, disk = random.Random(seed), random.Random(seed + 1)

    def storing() -> bool:
        return not ring._idle.is_set()

    patches = mock.patch("mmap.mmap", Stores), mock.patch("os.fdatasync", fdatasync), mock.patch("os.pwritev", pwritev)
    with patches[0], patches[1], patches[2], mock.patch.object(ring_module, "RETRY_S", 0.001):
        ring = Ring(path, boot=bytes(16), envelope=bytes(32), plan=bytes(32), size=size, open_size=open_size)
        made.size = path.stat().st_size
        ring.turn(b"snapshot" * 4, 0)
        log.append(("anchor", ring.anchor()))
        for n in range(entries):
            # Few sizes: an old entry often ends where a new one begins.
            payload = chance.randbytes(chance.choice((8, 40, 40, 40, 500, 900)))
            if not ring.fits(len(payload) + 64, 0):
                for _ in range(20):
                    if not storing():
                        break
                    time.sleep(2 * ring_module.RETRY_S)
                    if ring.fits(32, 0):
                        ring.append(Kind.UNTIL, bytes(8), n)  # what a failed sync lost is written again
                        log.append(("anchor", ring.anchor()))
                if storing():
                    log.append(("given up",))
                ring.turn(b"snapshot" * 4, n)
                log.append(("anchor", ring.anchor()))
            ring.append(Kind.ITEMS, payload, n)
            anchor = ring.anchor()
            log.append(("anchor", anchor))
            if chance.random() < 0.08:
                with suppress(OSError):
                    ring.sync()
                    log.append(("durable", anchor))
        ring.close()
    made.final = path.read_bytes()
    made.wraps = read(path).blocks[0].sequence > 1
    return made


@dataclass
class State:
    """A state of the file, and what must be readable from it: the newest anchor that was known durable, if any."""

    data: bytes
    durable: Anchor | None
    whole: bool = False  #: nothing older may be missing either


def killed(recording: Recording) -> Iterator[State]:
    """The file after every single store: what a killed process leaves."""
    data, last = bytearray(recording.size), None
    yield State(bytes(data), None)
    for kind, *rest in recording.log:
        if kind == "store":
            at, stored = rest
            data[at : at + len(stored)] = stored
            yield State(bytes(data), last, not recording.wraps)
        elif kind == "anchor":
            (last,) = rest
    assert bytes(data) == recording.final, "a store was not recorded"


def after_power_loss(recording: Recording, states: int, seed: int) -> Iterator[State]:
    """Pages, and their sectors, in any order: each holds what was synced, or what any later store made of it.

    Pages of a failed sync count as clean: what they hold reaches the disk only if they are stored to again.
    """
    chance = random.Random(seed)
    log = recording.log
    moments = sorted(chance.randint(1, len(log)) for _ in range(states))
    synced, pending = bytearray(recording.size), []  # pending: stores since the begin of the last sync that ended
    limbo: dict[int, list[tuple[int, bytes]]] = {}  # by page: stores of a failed sync
    begun: dict[object, int] = {}
    at, durable, whole = 0, None, not recording.wraps
    for moment in moments:
        for kind, *rest in log[at:moment]:
            match kind:
                case "store":
                    for place, stored in _pieces(*rest, mmap.PAGESIZE):
                        pending += [*limbo.pop(place // mmap.PAGESIZE, []), (place, stored)]
                case "sync":
                    begun[rest[0]] = len(pending)
                case "synced":
                    count = begun.pop(rest[0])
                    for place, stored in pending[:count]:
                        synced[place : place + len(stored)] = stored
                    del pending[:count]
                case "failed":
                    count = begun.pop(rest[0])
                    dirty = {place // mmap.PAGESIZE for place, _ in pending[count:]}
                    for piece in pending[:count]:
                        if piece[0] // mmap.PAGESIZE not in dirty:
                            limbo.setdefault(piece[0] // mmap.PAGESIZE, []).append(piece)
                    pending = [
                        piece for k, piece in enumerate(pending) if k >= count or piece[0] // mmap.PAGESIZE in dirty
                    ]
                case "durable":
                    durable = rest[0]
                case "given up":
                    # The disk failed for as long as a block lasts: the older block in its area may be lost.
                    durable, whole = None, False
        at = moment
        yield State(_lost(synced, pending, chance), durable, whole)


def _lost(synced: bytearray, pending: list[tuple[int, bytes]], chance: random.Random) -> bytes:
    data = bytearray(synced)
    unit = chance.choice((SECTOR, mmap.PAGESIZE))
    latest = chance.random() < 0.5  # of each unit: all or nothing; else any moment of its history
    share = chance.random()
    until: dict[int, int] = {}
    for number, (place, stored) in enumerate(pending):
        for start, part in _pieces(place, stored, unit):
            piece = start // unit
            if piece not in until:
                kept = chance.random() < share
                until[piece] = (len(pending) if latest else chance.randint(0, len(pending))) if kept else 0
            if number < until[piece]:
                data[start : start + len(part)] = part
    return bytes(data)


def _pieces(place: int, stored: bytes, unit: int) -> Iterator[tuple[int, bytes]]:
    end = place + len(stored)
    while place < end:
        until = min(end, (place // unit + 1) * unit)
        yield place, stored[place - end : len(stored) + until - end]
        place = until


def check(state: State, anchors: set[Anchor], path: Path) -> int:
    """Nothing is read that was not written, and the durable anchor is there; answers the blocks that were read."""
    path.write_bytes(state.data)
    try:
        tape = read(path)
    except TapeError:
        assert state.durable is None
        return 0
    for block in tape.blocks:
        assert (block.sequence, len(block.raw), block.digest()) in anchors, f"block {block.sequence} was never so"
    for before, after in zip(tape.blocks, tape.blocks[1:], strict=False):
        assert (before.sequence + 1, before.digest()) == (after.sequence, after.before)
    if state.durable is not None:
        number, end, digest = state.durable
        there = {block.sequence: block for block in tape.blocks}
        assert number in there and (not state.whole or 1 in there), (state.durable, list(there), tape.damages)
        assert len(there[number].raw) >= end and there[number].digest(end) == digest, (number, end)
    return len(tape.blocks)
