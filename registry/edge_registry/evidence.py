"""``LogSource``: a log that the registry holds, as a source of evidence packets (docs/evidence.md)."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from edge_monitor.envelope.statements import MAX_FILE, Proposal, parse_proposal, split_file
from edge_monitor.errors import UsageError, VerificationError
from edge_monitor.evidence.events import Row
from edge_monitor.evidence.packet import Attached
from edge_monitor.journal.notes import split_note

from . import tables as t
from .blobs import Blobs
from .store import Log, Transaction

HEAD = 4096  #: bytes at the beginning of a black box that say whose it is


class LogSource:
    """One log in one snapshot; its heads are the receipts that the registry gave, each the device's checkpoint, cosigned."""

    def __init__(self, tx: Transaction, log: Log, end: int | None = None, blobs: Blobs | None = None) -> None:
        """``end``: the packet holds records below it, so that the first receipt that covers them proves them. ``blobs``: the
        files that robots delivered, where they are to go along."""
        self.origin = log.origin
        self._tx, self._log, self._blobs = tx, log, blobs
        self._receipt = _receipt(tx, log, end)

    def rows(self, start: int, end: int) -> Iterator[Row]:
        """See ``Source``."""
        return (Row(row.record, row.salt, row.payload) for row in self._tx.events(self._log.number, start, end))

    def subtree(self, level: int, index: int) -> bytes:
        """See ``Source``."""
        return self._tx.subtree(self._log.number, level, index)

    def heads(self) -> tuple[str, Sequence[str]]:
        """See ``Source``."""
        own = "\n".join(self._receipt.split("\n")[:5]) + "\n" if self._receipt else ""
        return own, [self._receipt] if self._receipt else []

    def rotations(self, end: int) -> Iterable[tuple[int, bytes | None]]:
        """See ``Source``."""
        return ((row.seq, row.payload) for row in self._tx.rotations(self._log.number, end))

    def attached(self, envelopes: Collection[str], boots: Collection[str]) -> Attached:
        """See ``Source``: envelopes that were approved, by what their approvals say, and what black boxes kept."""
        if self._blobs is None:
            return Attached()
        return Attached(_envelopes(self._tx, self._blobs, envelopes), _tapes(self._tx, self._blobs, self._log, boots))


def chosen(tx: Transaction, robot: str, wanted: str | None) -> Log:
    """The log of a robot: the one ``wanted`` (its id, or as many first characters as tell it apart), or the only one.

    Raises ``UsageError`` where none or several are meant.
    """
    known = tx.robot(robot)
    if known is None:
        raise UsageError(f"no robot {robot!r} is enrolled; 'edge-registry robots' lists those that are")
    query = sa.select(t.logs.c.log_id).where(t.logs.c.robot == robot).order_by(t.logs.c.log)
    ids = [bytes(log_id) for log_id in tx.connection.execute(query).scalars()]
    meant = [log_id for log_id in ids if str(uuid.UUID(bytes=log_id)).startswith(wanted or "")]
    if len(meant) != 1:
        which = ", ".join(str(uuid.UUID(bytes=log_id)) for log_id in ids) or "none"
        raise UsageError(f"{len(meant)} logs of {robot} are meant; name one with --log, of: {which}")
    log = tx.log(meant[0], known)
    assert log is not None
    return log


def _receipt(tx: Transaction, log: Log, end: int | None) -> str:
    """The first receipt over ``end`` records, else the newest over what is held; empty where there is none."""
    columns = (t.receipts.c.size, t.receipts.c.note)
    query = sa.select(*columns).where(t.receipts.c.log == log.number, t.receipts.c.size <= log.size)
    if end is not None:
        covering = query.where(t.receipts.c.size >= end).order_by(t.receipts.c.size).limit(1)
        row = tx.connection.execute(covering).first()
        if row is not None:
            return str(row.note)
    row = tx.connection.execute(query.order_by(t.receipts.c.size.desc()).limit(1)).first()
    return str(row.note) if row is not None else ""


def _envelopes(tx: Transaction, blobs: Blobs, wanted: Collection[str]) -> dict[str, tuple[bytes, bytes | None]]:
    """Envelopes by digest, with their approvals. A registry takes an approval's word for which file says what: a verifier
    computes it."""
    found: dict[str, tuple[bytes, bytes | None]] = {}
    for row in _delivered(tx, "approval", most=MAX_FILE):
        approval = blobs.path(bytes(row.digest)).read_bytes()
        proposal = _proposal(approval)
        if proposal is None or proposal.digest not in wanted or proposal.digest in found:
            continue
        digest = bytes.fromhex(proposal.file_digest)
        known = tx.connection.execute(sa.select(t.blobs.c.complete_s).where(t.blobs.c.digest == digest)).scalar()
        if known is not None:
            found[proposal.digest] = blobs.path(digest).read_bytes(), approval
    return found


def _tapes(tx: Transaction, blobs: Blobs, log: Log, boots: Collection[str]) -> list[tuple[str, Path]]:
    """Black boxes that the robot delivered of some boots, in the order of their digests."""
    found = []
    for row in _delivered(tx, "incident", "tape", robot=log.robot):
        path = blobs.path(bytes(row.digest))
        with path.open("rb") as stream:
            head = stream.read(HEAD)
        found += [(boot, path) for boot in boots if bytes.fromhex(boot) in head]
    return found


def _delivered(
    tx: Transaction, *kinds: str, robot: str | None = None, most: int | None = None
) -> Sequence[sa.Row[Any]]:
    """Files that are whole, in the order of their digests. ``most``: bytes of one."""
    query = sa.select(t.blobs.c.digest).where(t.blobs.c.kind.in_(kinds), t.blobs.c.complete_s.is_not(None))
    if robot is not None:
        query = query.where(t.blobs.c.robot == robot)
    if most is not None:
        query = query.where(t.blobs.c.size <= most)
    return tx.connection.execute(query.order_by(t.blobs.c.digest)).all()


def _proposal(approval: bytes) -> Proposal | None:
    """What was proposed, by an approval file; None where it is none."""
    try:
        return parse_proposal(split_note(split_file(approval)[0])[0])
    except (ValueError, IndexError, VerificationError):
        return None
