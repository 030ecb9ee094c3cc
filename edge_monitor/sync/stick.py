"""A journal on a stick: the frames of a session in a file, for a registry that no link reaches (docs/sync.md §6).

A line, then frames of ``sync/wire.py``, each behind its length (4 bytes, big-endian): a Hello, and batches with session 0.
Whoever carries it can lose it; they can change nothing in it, as every batch is under a checkpoint that the robot signed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import DamagedInputError, UsageError
from . import wire
from .outbox import Outbox

MAGIC = b"edge-monitor stick v1\n"
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Filled:
    """What was written: records ``first`` to ``end - 1``."""

    first: int
    end: int
    bytes: int


def fill(journal: Path, out: Path, software: str, first: int | None = None) -> Filled:
    """Write what a journal holds from record ``first`` on (None: from its newest receipt on) to ``out``.

    A monitor may be writing the journal meanwhile. Raises ``UsageError`` where ``out`` exists or can't be written.
    """
    outbox = Outbox(journal)
    head = outbox.head()
    begin = head.receipted if first is None else first
    part = out.with_name(out.name + ".part")
    try:
        if out.exists():
            raise UsageError(f"{out} exists; name another file")
        with part.open("wb") as stream:
            stream.write(MAGIC)
            _write(
                stream,
                wire.Hello((wire.PROTOCOL,) * 2, head.origin, bytes(16), head.note, head.receipt, 0, software),
            )
            end = begin
            for load in outbox.loads(begin):
                _write(stream, wire.Batch(0, load.first, load.end - load.first, load.data, load.checkpoint))
                end = load.end
            size = stream.tell()
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"{out}: {error.strerror}; name a file that can be written") from None
    return Filled(begin, end, size)


def frames(path: Path) -> Iterator[wire.Uplink]:
    """The messages of a file. Raises ``DamagedInputError`` for what is cut or is no such file, where that is found."""
    try:
        with path.open("rb") as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                raise DamagedInputError(f"{path}: not written by 'edge-monitor sync export'")
            while head := stream.read(_LENGTH.size):
                size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
                frame = stream.read(size) if 0 < size <= wire.MAX_FRAME else b""
                if not frame or len(frame) != size:
                    raise DamagedInputError(f"{path}: cut or damaged at byte {stream.tell()}; copy it again")
                yield wire.decode_uplink(frame)
    except OSError as error:
        raise DamagedInputError(f"{path}: {error.strerror}") from None


def _write(stream: BinaryIO, message: wire.Uplink) -> None:
    frame = wire.encode(message)
    stream.write(_LENGTH.pack(len(frame)) + frame)
