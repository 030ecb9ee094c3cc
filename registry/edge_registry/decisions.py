"""What people decide at the registry: that a robot's key no longer counts, that a log may go on. Each is recorded, for good."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa

from edge_monitor.errors import UsageError

from . import tables as t
from .store import Transaction


def revoke(
    tx: Transaction, robot: str, who: str, words: str, now_s: int, *, after: int | None = None, log: str = ""
) -> None:
    """Take nothing more from a robot. ``after``: the last record of ``log`` (its only one by default) that counts; None: all do.

    What is held stays. Raises ``UsageError`` for what is not there.
    """
    if tx.robot(robot) is None:
        raise UsageError(f"no robot {robot[:64]!r} is enrolled; 'edge-registry robots' lists them")
    query = sa.select(t.logs).where(t.logs.c.robot == robot).order_by(t.logs.c.log_id).with_for_update()
    logs = tx.connection.execute(query).all()
    if after is not None:
        chosen = [row for row in logs if not log or row.log_id == _log_id(log)]
        if len(chosen) != 1:
            raise UsageError(f"{robot} has {len(chosen)} such logs: name the one that --after is about with --log")
        if not 0 <= after < chosen[0].size:
            raise UsageError(f"the log of {robot} has no record {after}: {chosen[0].size} are held, from 0 on")
        _set(tx, chosen[0].log, valid_size=after + 1)
        words += f" (records of {chosen[0].origin} count up to {after})"
    for row in logs:
        if row.state == "open":
            _set(tx, row.log, state="closed")
    values = {"state": "revoked", "reason": words, "changed_ns": now_s * 1_000_000_000}
    tx.connection.execute(sa.update(t.robots).where(t.robots.c.id == robot).values(**values))
    _record(tx, who, "revoke", robot, words, now_s)


def release(tx: Transaction, log: str, who: str, words: str, now_s: int) -> str:
    """Take records of a quarantined or closed log again; its conflicts are resolved and stay. Answers its origin.

    Raises ``UsageError`` where it is not there, not held back, or its robot is revoked.
    """
    row = tx.connection.execute(sa.select(t.logs).where(t.logs.c.log_id == _log_id(log)).with_for_update()).first()
    if row is None:
        raise UsageError(f"no log {log[:64]!r} is here; 'edge-registry robots' lists them")
    if row.state == "open":
        raise UsageError(f"{row.origin} is open: there is nothing to release")
    robot = tx.robot(row.robot)
    if robot is None or robot.state != "active":
        raise UsageError(f"{row.robot} is revoked: enrol it anew first")
    _set(tx, row.log, state="open")
    open_ones = (t.conflicts.c.log == row.log, t.conflicts.c.resolved_s.is_(None))
    values = {"resolved_s": now_s, "resolution": f"{who}: {words}"}
    tx.connection.execute(sa.update(t.conflicts).where(*open_ones).values(**values))
    _record(tx, who, "release", row.origin, words, now_s)
    return str(row.origin)


def rotated(tx: Transaction, registry: str, key: str, who: str, words: str, now_s: int) -> None:
    """Record that a registry has another receipt key; ``key``: the one before, as its verifier key."""
    _record(tx, who, "rotate", registry, f"{words} (before: {key})", now_s)


def _set(tx: Transaction, log: int, **values: Any) -> None:
    tx.connection.execute(sa.update(t.logs).where(t.logs.c.log == log).values(**values))


def _record(tx: Transaction, who: str, what: str, subject: str, words: str, now_s: int) -> None:
    values = {"at_s": now_s, "who": who, "what": what, "subject": subject, "words": words}
    tx.connection.execute(sa.insert(t.decisions).values(**values))


def _log_id(text: str) -> bytes:
    try:
        return uuid.UUID(text.rpartition("/")[2]).bytes
    except ValueError:
        raise UsageError(f"{text[:64]!r} names no log; 'edge-registry robots' lists them") from None
