"""``LogSource``: a log that the registry holds, as a source of evidence packets (docs/evidence.md)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence

import sqlalchemy as sa

from edge_monitor.errors import UsageError
from edge_monitor.evidence.events import Row

from . import tables as t
from .store import Log, Transaction


class LogSource:
    """One log in one snapshot; its heads are the receipts that the registry gave, each the device's checkpoint, cosigned."""

    def __init__(self, tx: Transaction, log: Log, end: int | None = None) -> None:
        """``end``: the packet holds records below it, so that the first receipt that covers them proves them."""
        self.origin = log.origin
        self._tx, self._log = tx, log
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
