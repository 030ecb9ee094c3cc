"""``Follower``: reads each log on from where it stopped, and writes down beside it what the records tell (`chronicle.py`).

Several may follow one database: a log's rows are written only by whoever moves its ``read`` on from where it had read.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edge_monitor.errors import VerificationError
from edge_monitor.journal.records import Record, decode_payload, decode_record

from .. import tables as t
from ..store import Event
from . import tables as w
from .chronicle import Chronicle
from .conditions import AXES
from .pages_store import PagesStore

CHUNK = 2000  #: records that one transaction takes
EVERY_S = 0.5  #: between two looks whether there is anything new
RETRY_S = 5.0  #: after the database failed


class Follower:
    """Follows all logs of a registry. ``tell``: is told in a line what went wrong."""

    def __init__(self, store: PagesStore, tell: Callable[[str], None] = lambda words: None) -> None:
        self._store = store
        self._tell = tell
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Follow in a thread of its own, until :meth:`stop`."""
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what it was at is finished."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def catch_up(self) -> int:
        """Read everything that is there now; answers how many records it was."""
        count = 0
        for log in self._behind():
            while not self._done.is_set() and (taken := self._take(log)):
                count += taken
        return count

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                self.catch_up()
            except sa.exc.SQLAlchemyError as error:
                self._tell(f"the pages' follower could not go on: {str(error).splitlines()[0]}")
                self._done.wait(RETRY_S)
            self._done.wait(EVERY_S)

    def _behind(self) -> list[int]:
        joined = sa.outerjoin(t.logs, w.logs, t.logs.c.log == w.logs.c.log)
        query = sa.select(t.logs.c.log).select_from(joined).where(t.logs.c.size > sa.func.coalesce(w.logs.c.read, 0))
        with self._store.read() as tx:
            return list(tx.connection.execute(query.order_by(t.logs.c.log)).scalars())

    def _take(self, log: int) -> int:
        """The next records of a log; answers how many were taken, 0 for none or where another follower is ahead."""
        with self._store.read() as tx:
            size = tx.connection.execute(sa.select(t.logs.c.size).where(t.logs.c.log == log)).scalar() or 0
            known = tx.connection.execute(sa.select(w.logs.c.read, w.logs.c.state).where(w.logs.c.log == log)).first()
            start = known.read if known is not None else 0
            end = min(size, start + CHUNK)
            if start >= end:
                return 0
            chronicle = Chronicle(known.state if known is not None else b"")
            for event in tx.events(log, start, end):
                chronicle.take(event.seq, *decoded(event))
        values = _standing(chronicle) | {"read": end}
        with self._store.own(derived=True) as tx:
            if known is None:
                taken = _upsert(tx.connection, w.logs, [{"log": log, **values}], keep=True)
            else:
                query = sa.update(w.logs).where(w.logs.c.log == log, w.logs.c.read == start).values(**values)
                taken = tx.connection.execute(query).rowcount
            if not taken:
                return 0
            changes = chronicle.changes
            _upsert(tx.connection, w.missions, ({"log": log, **row} for row in changes.missions.values()))
            spans = ({"log": log, **row, "actions": json.dumps(row["actions"])} for row in changes.spans.values())
            _upsert(tx.connection, w.spans, spans)
            _upsert(tx.connection, w.marks, ({"log": log, **row} for row in changes.marks))
            exposures = [{"log": log, **row} for rows in changes.exposures.values() for row in rows]
            _add_up(tx.connection, log, list(changes.exposures), exposures)
            _upsert(tx.connection, w.exposures, exposures)
            _upsert(tx.connection, w.domains, ({"log": log, **row} for row in changes.domains.values()))
        return end - start


def decoded(event: Event) -> tuple[Record | None, dict[str, Any] | None]:
    """A row's record and payload; None for what is not there or of a later version."""
    if not event.type:
        return None, None
    payload = None
    if event.payload is not None:
        with suppress(VerificationError):
            payload = decode_payload(event.payload)
    return decode_record(event.record), payload


def _standing(chronicle: Chronicle) -> dict[str, Any]:
    packed = chronicle.finish()
    state = chronicle.state
    breaches = sum(span["kind"] == "breach" for span in state.open.values())
    return {
        "state": packed, "mission": state.mission, "decision": state.decision, "mode": state.mode, "envelope": state.envelope,
        "envelope_name": state.envelope_name, "model": state.model, "monitor": state.monitor, "wall_ns": state.wall_ns,
        "gaps": json.dumps(state.gaps), "open": breaches,
    }  # fmt: skip


def _add_up(connection: Connection, log: int, runs: list[int], exposures: list[dict[str, Any]]) -> None:
    """Bring the sums of a log up to what its ``runs`` are from now on, by what is written down of them so far."""
    sums: dict[tuple[str, ...], list[int]] = {}
    written = connection.execute(sa.select(w.exposures).where(w.exposures.c.log == log, w.exposures.c.first.in_(runs)))
    for sign, rows in ((-1, [row._asdict() for row in written]), (1, exposures)):
        for row in rows:
            counts = sums.setdefault((row["envelope"], *(row[axis] for axis in AXES)), [0, 0, 0, 0])
            for place, value in enumerate((row["ns"], row["breaches"], row["drifts"], 1)):
                counts[place] += sign * value
    names = ("ns", "breaches", "drifts", "runs")
    changed = (
        {
            "log": log,
            "envelope": envelope,
            **dict(zip(AXES, cell, strict=True)),
            **dict(zip(names, counts, strict=True)),
        }
        for (envelope, *cell), counts in sums.items()
        if any(counts)
    )
    _upsert(connection, w.seen, changed, add=True)


def _upsert(
    connection: Connection, table: sa.Table, rows: Iterable[dict[str, Any]], *, keep: bool = False, add: bool = False
) -> int:
    """Insert rows, or replace those of the same key (``keep``: leave them; ``add``: add to them); answers how many it was."""
    values = list(rows)
    if not values:
        return 0
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    statement = insert(table)
    keys = [column.name for column in table.primary_key]
    parameters: Any = values
    if len(values) > 1 and not sqlite:
        # One statement for all: one for each row is most of what following costs, here and in the database.
        names = ", ".join(f'"{column.name}"' for column in table.c)
        read = f"select {names} from json_populate_recordset(cast(null as {table.name}), cast(:rows as json))"
        statement = statement.from_select([column.name for column in table.c], sa.text(read).columns(*table.c))
        newest = {tuple(row[name] for name in keys): row for row in values}  # a statement takes each key once
        parameters = {"rows": json.dumps(list(newest.values()))}
    if keep:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    else:
        others = {
            c.name: c + statement.excluded[c.name] if add else statement.excluded[c.name]
            for c in table.c
            if c.name not in keys
        }
        statement = statement.on_conflict_do_update(index_elements=keys, set_=others)
    return int(connection.execute(statement, parameters).rowcount)
