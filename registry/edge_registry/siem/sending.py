"""``Sender``: brings the registry's tail to an output, from the cursor that the database holds, each record at least once.

The cursor moves after the acknowledgement. Who dies between the two sends a batch again, with the same ids. Where an output
can't be certain (plain TCP), the cursor stays one batch behind: a receiver that is found gone gets the batch before again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from edge_monitor.errors import ConfigError

from ..store import Store, Transaction
from ..tail import Cursor, Line, Tail, parse_cursor
from .delivery import DeliveryError, Output
from .shipment import shipment
from .tables import siem_outputs as t

BATCH = 500  #: records
RETRY_S, LONGEST_RETRY_S = 0.5, 60.0  #: after a failure, doubled each time


@dataclass(frozen=True, slots=True)
class State:
    """How an output stands."""

    name: str
    address: str
    format: str
    cursor: str
    sent: int
    at_s: int
    failure: str


class Sender:
    """One output under its name. ``start``: the cursor of one that is new, ``now`` for only what comes."""

    def __init__(
        self, store: Store, name: str, output: Output, address: str, form: str, *, start: str = "0",
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._store = store
        self._name = name
        self._output = output
        self._now = now
        self._stored = self._begun(address, form, start)
        self._tail = Tail(store, parse_cursor(self._stored))
        self._behind = self._stored  #: where the batch begins that is not certain yet
        self._waiting: list[Line] = []
        self.failures = 0  #: in a row

    @property
    def retry_s(self) -> float:
        """How long to wait after the failures so far, with jitter."""
        if not self.failures:
            return 0.0
        return min(LONGEST_RETRY_S, RETRY_S * 2.0 ** min(self.failures - 1, 10)) * random.uniform(0.5, 1.0)

    def step(self) -> int:
        """Send the next batch; answers how many records it had, 0: there is nothing new.

        Raises ``DeliveryError`` where it was not acknowledged: the next step sends it again. ``VerificationError`` and
        ``ConfigError`` are for a person.
        """
        try:
            if not self._waiting:
                self._waiting = self._tail.lines()
            batch = self._waiting[:BATCH]
            if not batch:
                return 0
            self._output.send([shipment(one) for one in batch])
        except DeliveryError as error:
            self.failures += 1
            self._fail(str(error))
            raise
        self.failures = 0
        self._waiting = self._waiting[BATCH:]
        end = batch[-1].cursor.text()
        self._move(end if self._output.certain else self._behind, len(batch))
        self._behind = end
        return len(batch)

    def close(self) -> None:
        """Give the connection back."""
        self._output.close()

    def _begun(self, address: str, form: str, start: str) -> str:
        """The cursor, of a row that is made where there is none."""
        with self._store.begin() as tx:
            row = tx.connection.execute(sa.select(t).where(t.c.name == self._name)).first()
            if row is not None:
                where = t.c.name == self._name
                tx.connection.execute(sa.update(t).where(where).values(address=address, format=form, failure=""))
                return str(row.cursor)
        if start == "now":
            tail = Tail(self._store, Cursor())
            tail.skip_to_end()
            start = tail.cursor.text()
        parse_cursor(start)
        values = {
            "name": self._name, "address": address, "format": form, "cursor": start, "sent": 0, "at_s": int(self._now()),
            "failure": "",
        }  # fmt: skip
        with self._store.begin() as tx:
            tx.connection.execute(sa.insert(t).values(**values))
        return start

    def _move(self, cursor: str, sent: int) -> None:
        """Keep what is done. Raises ``ConfigError`` where somebody else sends under this name."""
        where = (t.c.name == self._name, t.c.cursor == self._stored)
        values = {"cursor": cursor, "sent": t.c.sent + sent, "at_s": int(self._now()), "failure": ""}
        with self._store.begin() as tx:
            if not tx.connection.execute(sa.update(t).where(*where).values(values)).rowcount:
                raise ConfigError(f"another process sends as {self._name}: stop one, or give it another --name")
        self._stored = cursor

    def _fail(self, words: str) -> None:
        """Begin again where it is certain, and let it be seen why."""
        self._waiting = []
        self._tail = Tail(self._store, parse_cursor(self._stored))
        self._behind = self._stored
        with self._store.begin() as tx:
            tx.connection.execute(sa.update(t).where(t.c.name == self._name).values(failure=words[:500]))


def states(tx: Transaction) -> list[State]:
    """How all outputs stand."""
    return [State(*row) for row in tx.connection.execute(sa.select(t).order_by(t.c.name))]
