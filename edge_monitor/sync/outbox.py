"""``Outbox``: what a journal has to say to a registry, read from the file beside whoever writes it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..errors import VerificationError
from ..journal.merkle import inclusion_proof
from ..journal.reader import Reader, certificate_of
from ..journal.records import VERSION, Severity, decode_record
from .packing import MAX_UNPACKED, Stored, pack
from .wire import MAX_BATCH, MAX_RECORDS

LOOK = 1024  #: records that are looked at together, from the newest back


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """The beginning of a record, as far as it is wanted; fields behind it are passed over."""

    version: int
    log_id: bytes
    sequence: int
    type: str
    severity: int


_head = msgspec.msgpack.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Load:
    """Records ``first`` to ``end - 1``, packed, and the signed checkpoint over the first ``end`` records."""

    first: int
    end: int
    data: bytes
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Proven:
    """One record, packed, with its audit path under a signed checkpoint."""

    sequence: int
    data: bytes
    path: tuple[bytes, ...]
    checkpoint: str
    certificate: str


@dataclass(frozen=True, slots=True)
class Head:
    """A journal as it stands: its origin, how many records are signed, under which note, and its newest receipt."""

    origin: str
    size: int
    note: str
    receipted: int
    receipt: str


class Outbox:
    """Reads a journal; each call sees the file as it is then, and lets go of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def head(self) -> Head:
        """The journal's newest checkpoint and receipt. Raises ``DamagedInputError`` where there is no journal."""
        with Reader(self.path) as reader:
            size, note = reader.last_checkpoint() or (0, "")
            receipted, receipt = reader.last_receipt() or (0, "")
            return Head(reader.origin, size, note, receipted, receipt)

    def load(self, first: int, most: int = MAX_BATCH) -> Load | None:
        """What follows record ``first - 1``: whole commits, at most ``most`` bytes or one commit; None for nothing yet.

        Raises ``VerificationError`` for a commit that is too large to travel.
        """
        with Reader(self.path) as reader:
            end = reader.next_checkpoint(first + 1)
            if end is None:
                return None
            last, note = end
            taken: list[Stored] = []
            ends: list[int] = []  # bytes up to each row
            size = 0
            for few in reader.stored(first, first + MAX_RECORDS):
                for record, _, payload in few:
                    size += len(record) + len(payload or b"")
                    ends.append(size)
                taken += map(Stored._make, few)
                if size > most and len(taken) >= last - first:
                    break
                if size > MAX_UNPACKED:
                    raise VerificationError(f"{self.path}: the commit at record {first} is too large to be sent")
            fit = max(last - first, bisect_right(ends, most))
            whole = reader.checkpoint_within(last - 1, first + min(fit, len(taken)))
            if whole is None:
                raise VerificationError(f"{self.path}: records are missing; run 'journal verify'")
            last, note = whole
            return Load(first, last, pack(taken[: last - first]), note)

    def critical(self, first: int, end: int, most: int) -> list[int]:
        """Sequences of the critical records from ``first`` to before ``end``: the newest ``most`` of them, oldest first."""
        found: list[int] = []
        with Reader(self.path) as reader:
            while end > first and len(found) < most:
                start = max(first, end - LOOK)
                rows = reader.rows(start, end)
                found[:0] = [row.seq for row in rows if _severity(row.record) <= Severity.CRITICAL]
                end = start
        return found[-most:] if most else []

    def proven(self, sequence: int) -> Proven:
        """A record with its proof under the newest checkpoint."""
        with Reader(self.path) as reader:
            size, note = reader.last_checkpoint() or (0, "")
            row = next(reader.rows(sequence, sequence + 1), None)
            if row is None or sequence >= size:
                raise VerificationError(f"{self.path}: no record {sequence} under a checkpoint")
            path = inclusion_proof(reader.subtree, sequence, size)
            last = next(reader.rows(size - 1, size), row)
            epoch = decode_record(last.record).key_epoch
            certificate = certificate_of(reader, epoch) if epoch else ""
            return Proven(sequence, pack([Stored(row.record, row.salt, row.payload)]), tuple(path), note, certificate)

    def loads(self, first: int) -> Iterator[Load]:
        """Everything from ``first`` on that is signed now."""
        end = self.head().size
        while first < end:
            load = self.load(first)
            if load is None:
                return
            yield load
            first = load.end


def _severity(record: bytes) -> int:
    """What a record says of it; one of a later version is taken in its turn, like what matters least."""
    try:
        head = _head.decode(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Severity.NEGLIGIBLE
    return head.severity if head.version == VERSION else Severity.NEGLIGIBLE
