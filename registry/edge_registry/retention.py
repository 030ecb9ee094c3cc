"""How long payloads are kept: windows per event class, and what is erased when they are over. Records and proofs stay for good.

A payload goes with its salt; what is left of it is the commitment in its record, from which nothing can be learnt, and every
proof holds as before. Every erasure is written down for good, and so is every one that was refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from edge_monitor.errors import ConfigError, UsageError, VerificationError
from edge_monitor.journal.epochs import ROTATED
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.records import decode_payload, decode_record
from edge_monitor.utc import SECOND, utc_text

from . import tables as t
from .catalogue import tables as c
from .catalogue.entering import keep
from .catalogue.statements import ERASURE, Trust, opened, sign
from .configuration import DAY_S, Configuration
from .store import Store, Transaction
from .web import tables as w
from .web.pages_store import SUFFIX, PagesStore

ROWS = 2000  #: that one transaction looks at
KEPT = frozenset({ROTATED})  #: without their payloads no signature behind them could be checked


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure came to."""

    payloads: int
    words: str


@dataclass(frozen=True, slots=True)
class Class:
    """An event type as retention has it: its window, payloads that are held, and how many of them are past it."""

    type: str
    window_s: int
    payloads: int
    over: int


def classes(tx: Transaction, configuration: Configuration, now_s: int) -> list[Class]:
    """All event types that payloads are held of."""
    found: dict[str, list[int]] = {}
    for log in _logs(tx):
        query = (
            sa.select(t.events.c.type, sa.func.count())
            .where(t.events.c.log == log, t.events.c.payload.is_not(None))
            .group_by(t.events.c.type)
        )
        for kind, count in tx.connection.execute(query):
            entry = found.setdefault(kind, [0, 0])
            entry[0] += count
            end = _over(tx, log, now_s - configuration.window_s(kind))
            if end and kind not in KEPT:
                past = query.where(t.events.c.type == kind, t.events.c.seq < end)
                entry[1] += sum(row[1] for row in tx.connection.execute(past))
    return [Class(kind, configuration.window_s(kind), *counts) for kind, counts in sorted(found.items())]


def apply(store: Store, configuration: Configuration, now_s: int, who: str) -> Erased:
    """Erase the payloads whose windows are over, by the times of the registry's receipts, never by a robot's clock."""
    total, copies = 0, _Copies(store)
    with store.read() as tx:
        ends = {log: _ends(tx, log, configuration, now_s) for log in _logs(tx)}
    for log, by_type in ends.items():
        place, last = 0, max(by_type.values(), default=0)
        while place < last:
            with store.begin() as tx:
                erased = _past(tx, log, place, min(place + ROWS, last), by_type)
                if erased:
                    _write_down(tx, now_s, who, "window over", log, erased[0], erased[-1], len(erased), "done", "")
            copies.forget(log, erased, anew=False)
            total += len(erased)
            place += ROWS
    copies.close()
    _clean(store)
    return Erased(total, f"{total} payloads whose windows were over are erased")


def delete(
    store: Store, configuration: Configuration, log: int, first: int, last: int, now_s: int, who: str, reason: str
) -> Erased:
    """Erase the payloads of a range, all of them past their windows.

    Raises ``ConfigError`` where one is not: nothing is erased then, and that it was asked for is written down.
    """
    if not 0 <= first <= last:
        raise UsageError(f"no records {first} to {last}")
    with store.begin() as tx:
        rows = _held(tx, log, first, last + 1)
        ends = _ends(tx, log, configuration, now_s)
        early = [row for row in rows if row.type in KEPT or row.seq >= ends.get(row.type, 0)]
        if early:
            one = early[0]
            until = _received(tx, log, one.seq) + configuration.window_s(one.type)
            held = "never" if one.type in KEPT else f"until {utc_text(until * SECOND)}"
            words = (
                f"record {one.seq} ({one.type}) is kept {held}"
                if held != "never"
                else f"record {one.seq} is kept for good"
            )
            _write_down(tx, now_s, who, "deletion", log, first, last, 0, "refused", f"{reason}: {words}")
        else:
            _erase(tx, log, [row.seq for row in rows])
            _write_down(tx, now_s, who, "deletion", log, first, last, len(rows), "done", reason)
    if early:
        raise ConfigError(
            f"refused, and written down: {words}; {len(early)} of {len(rows)} payloads are within their windows"
        )
    copies = _Copies(store)
    copies.forget(log, [row.seq for row in rows], anew=True)
    copies.close()
    _clean(store)
    return Erased(len(rows), f"{len(rows)} payloads are erased")


def erase_person(
    store: Store,
    trust: Trust,
    key: SigningKey,
    person: str,
    names: Collection[str],
    ticket: str,
    reason: str,
    now_ns: int,
) -> Erased:
    """Erase every payload that names one of ``names``, or whose record says that they acted, whatever its window.

    It is a person's right. ``person`` signs for it, with the role ``assurance``, and is another one. Raises ``ConfigError``.
    """
    subject = sorted(name for name in set(names) if name.strip())
    if not subject:
        raise UsageError("name the person whose payloads are to be erased")
    if person in subject:
        raise ConfigError(f"{person} can't order the erasure of their own: another person must")
    said = {
        "person": person, "ticket": ticket, "reason": reason, "time": utc_text(now_ns // SECOND * SECOND), "names": len(subject),
    }  # fmt: skip
    # The statement must not name whom it erases, nor give a digest that names could be tried against: it is about the ticket.
    about = hashlib.sha256(f"edge-monitor erasure v1\0{ticket}".encode()).hexdigest()
    data = sign(ERASURE, [("erasure", about)], said, key)
    statement = opened(data)
    standing = trust.standing(statement, now_ns, "assurance")
    if not standing.holds:
        raise ConfigError(f"{'; '.join(standing.reasons)}")
    now_s, total, copies = now_ns // SECOND, 0, _Copies(store)
    with store.begin() as tx:
        keep(tx, data, "dsse", ERASURE, statement.subjects, now_s)
    with store.read() as tx:
        sizes = [(log, _size(tx, log)) for log in _logs(tx)]
    for log, size in sizes:
        for place in range(0, size, ROWS):
            with store.begin() as tx:
                found = [
                    row.seq
                    for row in _held(tx, log, place, place + ROWS)
                    if row.type not in KEPT and _names(row, subject)
                ]
                if found:
                    _erase(tx, log, found)
                    words = f"{ticket}: statement {statement.digest[:16]}"
                    _write_down(tx, now_s, person, "person", log, found[0], found[-1], len(found), "done", words)
            copies.forget(log, found, anew=True)
            total += len(found)
    copies.close()
    _clean(store)
    return Erased(total, f"{total} payloads are erased; statement sha256:{statement.digest}")


def written_down(tx: Transaction) -> list[dict[str, Any]]:
    """All erasures and refusals, in order."""
    query = sa.select(c.deletions, t.logs.c.origin).join(t.logs, t.logs.c.log == c.deletions.c.log, isouter=True)
    return [dict(row) for row in tx.connection.execute(query.order_by(c.deletions.c.id)).mappings()]


def _logs(tx: Transaction) -> list[int]:
    return list(tx.connection.execute(sa.select(t.logs.c.log).order_by(t.logs.c.log)).scalars())


def _size(tx: Transaction, log: int) -> int:
    return int(tx.connection.execute(sa.select(t.logs.c.size).where(t.logs.c.log == log)).scalar() or 0)


def _over(tx: Transaction, log: int, before_s: int) -> int:
    """Records below this were all receipted before that moment."""
    query = sa.select(sa.func.max(t.receipts.c.size)).where(t.receipts.c.log == log, t.receipts.c.time_s <= before_s)
    return int(tx.connection.execute(query).scalar() or 0)


def _received(tx: Transaction, log: int, sequence: int) -> int:
    """When a record was receipted first, s since 1970."""
    query = sa.select(sa.func.min(t.receipts.c.time_s)).where(t.receipts.c.log == log, t.receipts.c.size > sequence)
    return int(tx.connection.execute(query).scalar() or 0)


def _ends(tx: Transaction, log: int, configuration: Configuration, now_s: int) -> dict[str, int]:
    """Per event type: records below this are past their window."""
    kinds = tx.connection.execute(sa.select(t.events.c.type).where(t.events.c.log == log).distinct()).scalars()
    windows = {kind: configuration.window_s(kind) for kind in kinds if kind not in KEPT}
    over = {window: _over(tx, log, now_s - window) for window in set(windows.values())}
    return {kind: over[window] for kind, window in windows.items()}


def _held(tx: Transaction, log: int, start: int, end: int) -> Sequence[Any]:
    """Records of a range whose payloads are held."""
    columns = (t.events.c.seq, t.events.c.type, t.events.c.record, t.events.c.payload)
    query = sa.select(*columns).where(
        t.events.c.log == log, t.events.c.seq >= start, t.events.c.seq < end, t.events.c.payload.is_not(None)
    )
    return tx.connection.execute(query.order_by(t.events.c.seq)).all()


def _past(tx: Transaction, log: int, start: int, end: int, ends: dict[str, int]) -> list[int]:
    found = [row.seq for row in _held(tx, log, start, end) if row.seq < ends.get(row.type, 0)]
    _erase(tx, log, found)
    return found


def _erase(tx: Transaction, log: int, sequences: Sequence[int]) -> None:
    """Take payloads and salts away, wherever they are kept."""
    for place in range(0, len(sequences), 500):
        some = sequences[place : place + 500]
        for table in (t.events, t.alerts):
            where = (table.c.log == log, table.c.seq.in_(some))
            tx.connection.execute(sa.update(table).where(*where).values(salt=None, payload=None))


class _Copies:
    """What pages wrote down of records, words of payloads among it, where they are served from this database."""

    def __init__(self, store: Store) -> None:
        self._store = (
            PagesStore(store.engine.url.render_as_string(hide_password=False)) if _serves_pages(store) else None
        )

    def forget(self, log: int, sequences: Sequence[int], *, anew: bool) -> None:
        """Take it away. ``anew``: of all of the log, which the pages' follower then reads once more."""
        if self._store is None or not sequences:
            return
        with self._store.own() as tx:
            if anew:
                for table in (w.logs, w.missions, w.spans, w.marks):
                    tx.connection.execute(sa.delete(table).where(table.c.log == log))
                return
            for place in range(0, len(sequences), 500):
                some = sequences[place : place + 500]
                tx.connection.execute(sa.delete(w.marks).where(w.marks.c.log == log, w.marks.c.seq.in_(some)))
                of_them = w.spans.c.seq.in_(some) | w.spans.c.end_seq.in_(some)
                tx.connection.execute(sa.delete(w.spans).where(w.spans.c.log == log, of_them))

    def close(self) -> None:
        """Leave nothing of it in files beside the tables."""
        if self._store is None:
            return
        if self._store.is_sqlite:
            with self._store.own() as tx:
                engine = tx.connection.engine
            with engine.connect() as connection:
                connection.exec_driver_sql("pragma wal_checkpoint(truncate)")
        self._store.close()


def _serves_pages(store: Store) -> bool:
    if store.is_sqlite:
        return Path(f"{store.engine.url.database}{SUFFIX}").exists()
    return sa.inspect(store.engine).has_table(w.marks.name)


def _write_down(
    tx: Transaction,
    at_s: int,
    who: str,
    what: str,
    log: int,
    first: int,
    last: int,
    payloads: int,
    outcome: str,
    words: str,
) -> None:
    values = {
        "at_s": at_s, "who": who, "what": what, "log": log, "first": first, "last": last, "payloads": payloads,
        "outcome": outcome, "words": words,
    }  # fmt: skip
    tx.connection.execute(sa.insert(c.deletions).values(**values))


def _names(row: Any, names: Collection[str]) -> bool:
    """Whether a record or its payload names one of these, as a whole text."""
    try:
        if decode_record(bytes(row.record)).actor in names:
            return True
        payload = decode_payload(bytes(row.payload))
    except VerificationError:
        return any(name.encode() in bytes(row.payload) for name in names)
    return any(text in names for text in _texts(payload))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _clean(store: Store) -> None:
    """What was erased must not stay behind in files beside the tables."""
    if store.is_sqlite:
        with store.engine.connect() as connection:
            connection.exec_driver_sql("pragma wal_checkpoint(truncate)")
        return
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in ("events", "alerts"):
            connection.exec_driver_sql(f"vacuum {table}")


def days(seconds: int) -> str:
    """A window for people."""
    return f"{seconds // DAY_S} d"
