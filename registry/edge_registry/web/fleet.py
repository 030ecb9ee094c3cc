"""The fleet and one robot: what is held of each, how old it is, and what is missing, in words."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from .. import tables as t
from ..store import Transaction
from . import tables as w
from .shown import NOT_RECORDED, State, ago, count, log_text, moment, short, span

LIVE_S = 60  #: a robot that was heard of so lately is in touch: it pings every 10 s
LATE_S = 86_400  #: and after so long it is missed
#: What is told of by itself, and is no gap.
_TOLD_APART = "records without synchronised wall clock"


@dataclass(frozen=True, slots=True)
class Standing:
    """A log of a robot, and what its newest records say."""

    number: int
    log_id: str
    origin: str
    state: str
    held: int
    read: int  #: records that have been read for these pages
    seen_s: int
    receipt_s: int
    valid_size: int | None
    recovery: bool
    mission: int
    decision: str
    mode: str
    envelope: str
    envelope_name: str
    model: str
    monitor: str
    wall_ns: int
    open_breaches: int
    counted: dict[str, int]
    losses: list[tuple[int, int]]
    conflicts: int
    alerts: int

    def gaps(self) -> list[str]:
        """What is missing or in doubt, in words; empty where nothing is known to be."""
        found = []
        if self.conflicts:
            found.append(f"{count(self.conflicts, 'conflict')} undecided: two signed histories that can't both be true")
        if self.state == "quarantined":
            found.append(f"quarantined: nothing after record {self.held - 1} is taken until a person decides")
        if self.state == "closed":
            found.append("closed: nothing more is taken")
        if self.valid_size is not None:
            found.append(f"only records 0–{self.valid_size - 1} count: the robot was revoked")
        if self.recovery:
            found.append("in recovery: the registry was restored from a backup and is taking this log up again")
        found += [f"payloads of records {first}–{end - 1} lost" for first, end in self.losses]
        if self.alerts:
            found.append(f"{count(self.alerts, 'urgent record')} arrived ahead of the records before it")
        found += [f"{words}: {number}" for words, number in self.counted.items() if words != _TOLD_APART]
        return found

    def unread(self) -> str:
        """What these pages have not read yet; empty for nothing."""
        return (
            f"{count(self.held - self.read, 'newer record')} not read for these pages yet"
            if self.read < self.held
            else ""
        )


@dataclass(frozen=True, slots=True)
class RobotRow:
    """A robot of the fleet; ``log`` is the one it wrote last, None where nothing ever came."""

    robot: str
    state: str
    identity: str
    enrolled_ns: int
    reason: str
    log: Standing | None
    others: list[Standing] = field(default_factory=list)

    def sync(self, now_s: int) -> State:
        """Whether it is in touch."""
        if self.state != "active":
            return State("bad", self.state)
        if self.log is None:
            return State("none", "enrolled, nothing received")
        age = now_s - self.log.seen_s
        if age <= LIVE_S:
            return State("ok", f"in touch, heard {ago(now_s, self.log.seen_s)}")
        kind = "warn" if age < LATE_S else "bad"
        return State(kind, f"offline for {span(age)}; events {self.log.held}–? missing, if it recorded any")

    def whole(self) -> State:
        """Whether what is held has gaps."""
        if self.log is None:
            return State("none", "no records")
        gaps = [words for one in (self.log, *self.others) for words in one.gaps()]
        if not gaps:
            return State("ok", f"records 0–{self.log.held - 1} gapless" if self.log.held else "no records")
        doubt = any(one.conflicts or one.state == "quarantined" for one in (self.log, *self.others))
        return State("bad" if doubt else "warn", gaps[0] + (f"; and {len(gaps) - 1} more" if len(gaps) > 1 else ""))

    def command(self) -> State:
        """Who decides, and in which mode."""
        if self.log is None or not self.log.decision:
            return State("none", f"who is in control is {NOT_RECORDED}")
        kind = {"autonomy": "ok", "human": "ok", "none": "none", "fallback": "warn"}.get(self.log.decision, "bad")
        return State(kind, f"{self.log.decision}, mode {self.log.mode or NOT_RECORDED}")

    def triple(self) -> str:
        """Model, envelope and monitor that its newest record names."""
        if self.log is None:
            return "not measured"
        log = self.log
        envelope = (
            f"{log.envelope_name or 'envelope'} ({short(log.envelope)})" if log.envelope else f"envelope {NOT_RECORDED}"
        )
        return f"model {short(log.model)}; {envelope}; monitor {log.monitor or NOT_RECORDED}"


def fleet(tx: Transaction, *, after: str = "", like: str = "", most: int = 250) -> tuple[list[RobotRow], str]:
    """Robots by name behind ``after``, whose names contain ``like``; and the name to go on behind, empty at the end."""
    query = sa.select(t.robots).where(t.robots.c.id > after).order_by(t.robots.c.id).limit(most + 1)
    if like:
        query = query.where(t.robots.c.id.icontains(like, autoescape=True))
    robots = tx.connection.execute(query).all()
    more = robots[most - 1].id if len(robots) > most else ""
    return _rows(tx, robots[:most]), more


def robot(tx: Transaction, name: str) -> RobotRow | None:
    """One robot."""
    found = tx.connection.execute(sa.select(t.robots).where(t.robots.c.id == name)).all()
    return _rows(tx, found)[0] if found else None


def standing(tx: Transaction, log_id: bytes) -> tuple[str, Standing] | None:
    """A log, and whose it is."""
    found = _standings(tx, t.logs.c.log_id == log_id)
    return next(((name, logs[0]) for name, logs in found.items()), None)


def totals(tx: Transaction, now_s: int) -> Counter[str]:
    """How many robots there are, in touch, and never heard of."""
    seen = sa.select(t.logs.c.robot, sa.func.max(t.logs.c.seen_s).label("seen")).group_by(t.logs.c.robot).subquery()
    query = sa.select(t.robots.c.state, seen.c.seen).select_from(
        sa.outerjoin(t.robots, seen, t.robots.c.id == seen.c.robot)
    )
    found: Counter[str] = Counter()
    for state, last in tx.connection.execute(query):
        found["all"] += 1
        if state != "active":
            found["revoked"] += 1
        elif last is None:
            found["nothing received"] += 1
        else:
            found["in touch" if now_s - last <= LIVE_S else "offline"] += 1
    return found


def losses(tx: Transaction, log: int) -> list[dict[str, Any]]:
    """What was lost of a log, with the moments at which that was found."""
    query = sa.select(t.losses).where(t.losses.c.log == log).order_by(t.losses.c.first).limit(200)
    return [{"records": f"{r.first}–{r.end - 1}", "found": moment(r.at_s)} for r in tx.connection.execute(query)]


def _rows(tx: Transaction, robots: Any) -> list[RobotRow]:
    logs = _standings(tx, t.logs.c.robot.in_([row.id for row in robots]))
    rows = []
    for row in robots:
        own = logs.get(row.id, [])
        newest = own[0] if own else None
        rows.append(RobotRow(row.id, row.state, row.identity, row.enrolled_ns, row.reason, newest, own[1:]))
    return rows


def _standings(tx: Transaction, where: sa.ColumnElement[bool]) -> dict[str, list[Standing]]:
    """Logs by robot, the one that was heard of last first."""
    joined = sa.outerjoin(t.logs, w.logs, t.logs.c.log == w.logs.c.log)
    own = [t.logs.c[name] for name in (
        "log", "log_id", "robot", "origin", "size", "state", "seen_s", "receipt_s", "valid_size", "recovery",
    )]  # fmt: skip
    told = [c for c in w.logs.c if c.name not in ("log", "state")]
    # For each log from its place in the index: what it has left behind, thousands of them, is not looked at.
    place = (t.alerts.c.log == t.logs.c.log, t.alerts.c.seq >= t.logs.c.size, t.alerts.c.reconciled == 0)
    ahead = sa.select(sa.func.count()).select_from(t.alerts).where(*place).correlate(t.logs).scalar_subquery()
    rows = tx.connection.execute(
        sa.select(*own, *told, ahead.label("ahead")).select_from(joined).where(where).order_by(t.logs.c.seen_s.desc())
    ).all()
    numbers = [row.log for row in rows]
    lost: dict[int, list[tuple[int, int]]] = {}
    query = sa.select(t.losses.c.log, t.losses.c.first, t.losses.c.end).where(t.losses.c.log.in_(numbers))
    for log, first, end in tx.connection.execute(query.order_by(t.losses.c.log, t.losses.c.first).limit(1000)):
        lost.setdefault(log, []).append((first, end))
    query = sa.select(t.conflicts.c.log, sa.func.count()).where(t.conflicts.c.log.in_(numbers))
    query = query.where(t.conflicts.c.resolved_s.is_(None)).group_by(t.conflicts.c.log)
    conflicts = {row[0]: row[1] for row in tx.connection.execute(query)}
    found: dict[str, list[Standing]] = {}
    for row in rows:
        read = row.read is not None
        found.setdefault(row.robot, []).append(Standing(
            row.log, log_text(row.log_id), row.origin, row.state, row.size, row.read if read else 0, row.seen_s, row.receipt_s,
            row.valid_size, bool(row.recovery), row.mission if read else -1, row.decision or "", row.mode or "",
            row.envelope or "", row.envelope_name or "", row.model or "", row.monitor or "", row.wall_ns if read else -1,
            row.open or 0, json.loads(row.gaps) if read else {}, lost.get(row.log, []), conflicts.get(row.log, 0),
            row.ahead,
        ))  # fmt: skip
    return found
