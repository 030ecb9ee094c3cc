"""``Tail``: every receipted record once, in the order of the registry's receipts, and on from any cursor.

Rows become visible as their transactions end, not as they were numbered; what orders them is the registry's own log: its entries
are numbered under a lock that is held until the transaction ends, so that whoever sees an entry sees all before it, and the
records that it receipts. A tail walks that log, and for each entry the records that this receipt added to its log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from edge_monitor.errors import UsageError, VerificationError
from edge_monitor.evidence.events import line
from edge_monitor.journal.merkle import leaf_hash
from edge_monitor.journal.records import decode_payload, decode_record

from . import tables as t
from .store import Event, Store, Transaction

RECEIPTS = 64  #: that one snapshot looks at
LINES = 4096  #: of one snapshot
_json = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Cursor:
    """Behind record ``sequence`` of the receipt with number ``receipt``, whose leaf in the registry's log begins with ``leaf``.

    The leaf tells a registry that was restored from a backup, and has given other receipts since, from the one that was read.
    """

    receipt: int = 0
    sequence: int = -1
    leaf: str = ""

    def text(self) -> str:
        """The cursor as a word; ``0`` is the beginning."""
        return f"{self.receipt}.{self.sequence}.{self.leaf}" if self.leaf else "0"


def parse_cursor(text: str) -> Cursor:
    """A cursor from what :meth:`Cursor.text` said. Raises ``UsageError``."""
    if text == "0":
        return Cursor()
    match = re.fullmatch(r"(\d{1,18})\.(\d{1,18})\.([0-9a-f]{16})", text, re.ASCII)
    if match is None:
        raise UsageError(f"{text[:64]!r} is no cursor: use one that 'tail' printed, or 0 for the beginning")
    return Cursor(int(match[1]), int(match[2]), match[3])


@dataclass(frozen=True, slots=True)
class Line:
    """A record, and the cursor behind it."""

    cursor: Cursor
    robot: str
    log_id: str
    event: Event
    received_s: int

    def json(self) -> bytes:
        """One line of NDJSON: the fields of an event as evidence packets have them, and where it stands here."""
        own = {
            "cursor": self.cursor.text(),
            "robot": self.robot,
            "log": self.log_id,
            "received_s": self.received_s,
        }
        if not self.event.type:  # of a later version: its bytes
            return _json.encode({**own, "seq": self.event.seq, "type": "", "record": self.event.record.hex()}) + b"\n"
        payload = self.event.payload
        found = line(decode_record(self.event.record), None if payload is None else decode_payload(payload))
        return _json.encode(own)[:-1] + b"," + found[1:]


class Tail:
    """Reads on from a cursor; each :meth:`lines` is one short snapshot, however much ingest goes on beside it."""

    def __init__(self, store: Store, cursor: Cursor, robot: str | None = None) -> None:
        """``robot``: only its records; others are passed over."""
        self.cursor = cursor
        self.at_end = False  #: whether the newest snapshot went to its end
        self._store = store
        self._robot = robot

    def lines(self) -> list[Line]:
        """What comes next, in order; with ``at_end`` False there is more at once.

        Raises ``VerificationError`` where the cursor is of another history than this registry's, or records are missing.
        """
        with self._store.read() as tx:
            self._check(tx)
            found: list[Line] = []
            entries = self._entries(tx)
            for receipt, entry in entries:
                if not self._add(tx, receipt, entry, found):
                    break
            else:
                self.at_end = len(entries) < RECEIPTS
                return found
        self.at_end = False
        return found

    def skip_to_end(self) -> None:
        """Set the cursor behind everything that is receipted now."""
        with self._store.read() as tx:
            row = tx.connection.execute(sa.select(t.own_log).order_by(t.own_log.c.seq.desc()).limit(1)).first()
        if row is not None:
            size = int(msgspec.msgpack.decode(row.entry)[2])
            self.cursor = Cursor(row.seq, size - 1, _leaf(row.entry))

    def _entries(self, tx: Transaction) -> list[tuple[int, bytes]]:
        query = sa.select(t.own_log.c.seq, t.own_log.c.entry).where(t.own_log.c.seq >= self.cursor.receipt)
        rows = tx.connection.execute(query.order_by(t.own_log.c.seq).limit(RECEIPTS)).all()
        for place, row in enumerate(rows, self.cursor.receipt):
            if row.seq != place:
                raise VerificationError(f"receipt {place} is missing in the registry's own log")
        return [(row.seq, row.entry) for row in rows]

    def _check(self, tx: Transaction) -> None:
        cursor = self.cursor
        if not cursor.leaf:
            return
        entry = tx.connection.execute(sa.select(t.own_log.c.entry).where(t.own_log.c.seq == cursor.receipt)).scalar()
        if entry is None or _leaf(entry) != cursor.leaf:
            raise VerificationError(
                f"cursor {cursor.text()} is of another history than this registry's: was it restored from a backup? "
                "Compare its receipts with the robots', and begin again from 0"
            )

    def _add(self, tx: Transaction, receipt: int, entry: bytes, found: list[Line]) -> bool:
        """Add the records that a receipt brought, from the cursor on; False where there is no room for all of them."""
        time_s, origin, size, _, _ = msgspec.msgpack.decode(entry)
        robot, _, log_id = origin.rpartition("/")
        leaf = _leaf(entry)
        if self._robot not in (None, robot):
            self.cursor = Cursor(receipt, size - 1, leaf)
            return True
        number, start = _place(tx, origin, size)
        if receipt == self.cursor.receipt:
            start = max(start, self.cursor.sequence + 1)
        end = min(size, start + LINES - len(found))
        for sequence, event in enumerate(_rows(tx, number, start, end), start):
            if event.seq != sequence:
                raise VerificationError(f"{origin}: record {sequence} is missing, and receipted")
            self.cursor = Cursor(receipt, sequence, leaf)
            found.append(Line(self.cursor, robot, log_id, event, time_s))
        if start < end and self.cursor.sequence != end - 1:
            raise VerificationError(f"{origin}: record {end - 1} is missing, and receipted")
        return bool(end == size)


def _rows(tx: Transaction, log: int, start: int, end: int) -> Iterator[Event]:
    return tx.events(log, start, end) if start < end else iter(())


def _place(tx: Transaction, origin: str, size: int) -> tuple[int, int]:
    """A log's number, and where the records begin that its receipt of this size added."""
    query = sa.select(t.logs.c.log).where(t.logs.c.origin == origin)
    number = tx.connection.execute(query).scalar()
    if number is None:
        raise VerificationError(f"{origin}: receipted, and no such log is here")
    before = sa.select(sa.func.max(t.receipts.c.size)).where(t.receipts.c.log == number, t.receipts.c.size < size)
    return number, int(tx.connection.execute(before).scalar() or 0)


def _leaf(entry: bytes) -> str:
    return leaf_hash(entry).hex()[:16]
