"""``LogSource``: a log that the registry holds, as a source of evidence packets (docs/evidence.md)."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from edge_monitor.envelope.statements import MAX_FILE
from edge_monitor.errors import UsageError
from edge_monitor.evidence.events import Row
from edge_monitor.evidence.packet import Attached

from . import tables as t
from .blobs import Blobs
from .catalogue.approvals import parse
from .store import Log, Transaction

HEAD = 4096  #: bytes at the beginning of a black box that say whose it is


class LogSource:
    """One log in one snapshot; its heads are the receipts that the registry gave, each the device's checkpoint, cosigned."""

    def __init__(self, tx: Transaction, log: Log, end: int | None = None, blobs: Blobs | None = None) -> None:
        """``end``: the packet holds records below it, so that the first receipt that covers them proves them. ``blobs``: the
        files that robots delivered, where they are to go along."""
        self.origin = log.origin
        self._tx, self._log, self._blobs = tx, log, blobs
        self._subtree = tx.subtrees(log.number)
        self._receipt = _receipt(tx, log, end)

    def rows(self, start: int, end: int) -> Iterator[Row]:
        """See ``Source``."""
        return (Row(row.record, row.salt, row.payload) for row in self._tx.events(self._log.number, start, end))

    def subtree(self, level: int, index: int) -> bytes:
        """See ``Source``."""
        return self._subtree(level, index)

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
        return Attached(
            _envelopes(self._tx, self._blobs, self._log, envelopes), _tapes(self._tx, self._blobs, self._log, boots)
        )


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


def _envelopes(
    tx: Transaction, blobs: Blobs, log: Log, wanted: Collection[str]
) -> dict[str, tuple[bytes, bytes | None]]:
    """Envelopes by digest, with their approvals. A registry takes an approval's word for which file says what, the log's own
    robot's before another's, an earlier one's before a later: a verifier computes it."""
    found: dict[str, tuple[bytes, bytes | None]] = {}
    own_first = (t.blobs.c.robot != log.robot, t.blobs.c.complete_s, t.blobs.c.digest)
    query = _delivered("approval").where(t.blobs.c.size <= MAX_FILE).order_by(*own_first)
    for digest in tx.connection.execute(query).scalars():
        approval = _content(blobs.path(bytes(digest)))
        proposal = parse(approval) if approval is not None else None
        if approval is None or proposal is None or proposal.digest not in wanted or proposal.digest in found:
            continue
        file = bytes.fromhex(proposal.file_digest)
        there = tx.connection.execute(_delivered("envelope").where(t.blobs.c.digest == file)).first()
        envelope = _content(blobs.path(file)) if there is not None else None
        if envelope is not None:
            found[proposal.digest] = envelope, approval
    return found


def _tapes(tx: Transaction, blobs: Blobs, log: Log, boots: Collection[str]) -> list[tuple[str, Path]]:
    """Black boxes that the robot delivered of some boots, in the order of their digests."""
    found = []
    query = _delivered("incident", "tape").where(t.blobs.c.robot == log.robot).order_by(t.blobs.c.digest)
    for digest in tx.connection.execute(query).scalars():
        path = blobs.path(bytes(digest))
        head = _content(path, HEAD) or b""
        found += [(boot, path) for boot in boots if bytes.fromhex(boot) in head]
    return found


def _delivered(*kinds: str) -> sa.Select[Any]:
    """Digests of the files that came whole."""
    return sa.select(t.blobs.c.digest).where(t.blobs.c.kind.in_(kinds), t.blobs.c.complete_s.is_not(None))


def _content(path: Path, most: int = -1) -> bytes | None:
    """What a delivered file begins with; None where it is not there, as after a restore without the folder of files."""
    try:
        with path.open("rb") as stream:
            return stream.read(most)
    except FileNotFoundError:
        return None
