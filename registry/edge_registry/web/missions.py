"""Missions, and what happened in them: runs of the monitor from its start to its end mark, as the follower found them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .. import tables as t
from ..store import Transaction
from . import tables as w
from .conditions import AXES, UNTOLD
from .shown import SEVERITIES, State, count, log_text, span, wall

KINDS = {
    "breach": "limit passed", "drift": "drift", "odd": "outside its domain", "gate": "gate NO_GO", "failsafe": "failsafe",
    "mrm": "minimal-risk manoeuvre", "override": "override", "latch": "latched", "handover": "handover", "control": "in control",
}  # fmt: skip
EPISODES = ("breach", "drift", "odd", "failsafe", "mrm", "override")  #: kinds that the page of episodes shows
MOST_SPANS = 2000  #: of one mission on its page
MOST_MARKS = 1000
MOST_MISSIONS = 5000  #: that are counted together
_PLURALS = {"limit passed": "limits passed", "NO_GO": "NO_GOs"}
_ENDED = {
    "clean": State("ok", "ended with an end mark"), "running": State("none", "no end mark yet: it runs, or is not synced"),
    "unclean": State("warn", "ends without an end mark: power cut, crash, or a cut record"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mission:
    """One run of a monitor: records ``first`` to before ``end``. Times in ns, on the stream's clock and the robot's own."""

    robot: str
    log_id: str
    log: int
    first: int
    end: int
    ended: str
    t_first: int
    t_last: int
    wall_first: int
    wall_last: int
    boot: str
    envelope: str
    envelope_name: str
    model: str
    monitor: str
    risk: str
    counts: dict[str, int]

    @property
    def seconds(self) -> float:
        """How long it was observed."""
        return max(0, self.t_last - self.t_first) / 1e9

    def state(self) -> State:
        """How it ended."""
        return _ENDED[self.ended]

    def name(self) -> str:
        """What a person calls it."""
        return f"{self.envelope_name or 'run'}, {wall(self.wall_first)}"

    def happened(self) -> str:
        """Counts in words."""
        found = (count(number, what, _PLURALS.get(what, "")) for what, number in sorted(self.counts.items()))
        return ", ".join(found) or "nothing that is counted"


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when something held; ``t_to`` None: not over in the records that were read."""

    robot: str
    log_id: str
    log: int
    seq: int
    lane: str
    kind: str
    mission: int
    subject: str
    label: str
    severity: str
    t_from: int
    t_to: int | None
    wall_ns: int
    end_seq: int | None
    outcome: str
    measured: str
    actions: list[tuple[int, str]]

    def lasted(self) -> str:
        """How long."""
        return "not over" if self.t_to is None else span((self.t_to - self.t_from) / 1e9)

    def acted(self) -> str:
        """What was done, in words."""
        return "; ".join(words for _, words in self.actions) or "no action recorded"


@dataclass(frozen=True, slots=True)
class Mark:
    """A record of the story."""

    seq: int
    type: str
    severity: str
    t: int
    words: str


def missions(
    tx: Transaction,
    *,
    robot: str = "",
    log: int | None = None,
    before: tuple[int, int, int] | None = None,
    most: int = 100,
) -> tuple[list[Mission], tuple[int, int, int] | None]:
    """Missions, the newest first, of a robot or of all; and where to go on, None at the end."""
    query = sa.select(w.missions, t.logs.c.log_id, t.logs.c.robot).join(t.logs, t.logs.c.log == w.missions.c.log)
    key = (w.missions.c.wall_first, w.missions.c.log, w.missions.c.first)
    if log is not None:
        query = query.where(w.missions.c.log == log)
    if robot:
        numbers = sa.select(t.logs.c.log).where(t.logs.c.robot == robot)
        query = query.where(w.missions.c.log.in_(numbers))
    if before is not None:
        query = query.where(sa.tuple_(*key) < sa.tuple_(*map(sa.literal, before)))
    rows = tx.connection.execute(query.order_by(*(column.desc() for column in key)).limit(most + 1)).all()
    found = [_mission(row) for row in rows[:most]]
    return found, (found[-1].wall_first, found[-1].log, found[-1].first) if len(rows) > most else None


@dataclass(frozen=True, slots=True)
class Shown:
    """What the field shows of an envelope in a time: counts are of its missions; ``cut``: there are more than were counted."""

    missions: int
    robots: int
    seconds: float
    counts: dict[str, int]
    unclean: int
    running: int
    models: list[str]
    first_ns: int
    last_ns: int
    cut: bool


def shown_of(tx: Transaction, envelope: str, since_ns: int) -> Shown:
    """All missions under an envelope that began at ``since_ns`` or later, by the robots' clocks."""
    columns = (
        w.missions.c[name]
        for name in ("log", "ended", "t_first", "t_last", "wall_first", "wall_last", "model", "counts")
    )
    query = sa.select(*columns, t.logs.c.robot).join(t.logs, t.logs.c.log == w.missions.c.log)
    query = query.where(w.missions.c.envelope == envelope, w.missions.c.wall_first >= since_ns)
    rows = tx.connection.execute(query.order_by(w.missions.c.wall_first).limit(MOST_MISSIONS + 1)).all()
    found: Counter[str] = Counter()
    for row in rows[:MOST_MISSIONS]:
        found.update(json.loads(row.counts))
    ends = Counter(row.ended for row in rows[:MOST_MISSIONS])
    return Shown(
        len(rows[:MOST_MISSIONS]),
        len({row.robot for row in rows}),
        sum(max(0, row.t_last - row.t_first) for row in rows) / 1e9,
        dict(found),
        ends["unclean"],
        ends["running"],
        sorted({row.model for row in rows if row.model}),
        rows[0].wall_first if rows else 0,
        max((row.wall_last for row in rows), default=0),
        len(rows) > MOST_MISSIONS,
    )


def mission(tx: Transaction, log: int, first: int) -> Mission | None:
    """The mission that begins with this record."""
    query = sa.select(w.missions, t.logs.c.log_id, t.logs.c.robot).join(t.logs, t.logs.c.log == w.missions.c.log)
    row = tx.connection.execute(query.where(w.missions.c.log == log, w.missions.c.first == first)).first()
    return _mission(row) if row is not None else None


def mission_of(tx: Transaction, log: int, seq: int) -> int | None:
    """The first record of the mission that a record is of."""
    query = sa.select(w.missions.c.first).where(
        w.missions.c.log == log, w.missions.c.first <= seq, w.missions.c.end > seq
    )
    return tx.connection.execute(query.order_by(w.missions.c.first.desc()).limit(1)).scalar()


def spans(tx: Transaction, log: int, first: int) -> list[Span]:
    """The spans of a mission, in order; one more than MOST_SPANS where there are more."""
    query = _spans().where(w.spans.c.log == log, w.spans.c.mission == first)
    return [_span(row) for row in tx.connection.execute(query.order_by(w.spans.c.seq).limit(MOST_SPANS + 1))]


def episodes(
    tx: Transaction, kind: str, *, robot: str = "", only_open: bool = False, before: tuple[int, int, int] | None = None,
    most: int = 100,
) -> tuple[list[Span], tuple[int, int, int] | None]:  # fmt: skip
    """Spans of a kind, the newest first; and where to go on, None at the end."""
    query = _spans().where(w.spans.c.kind == kind)
    key: tuple[sa.Column[Any], ...] = (w.spans.c.wall_ns, w.spans.c.log, w.spans.c.seq)
    if robot:
        key = key[1:]  # a log's records are in order, and there is an index for that
        numbers = list(tx.connection.execute(sa.select(t.logs.c.log).where(t.logs.c.robot == robot)).scalars())
        query = query.where(w.spans.c.log.in_(numbers))
    if only_open:
        query = query.where(w.spans.c.t_to.is_(None))
    if before is not None:
        query = query.where(sa.tuple_(*key) < sa.tuple_(*map(sa.literal, before[-len(key) :])))
    rows = tx.connection.execute(query.order_by(*(column.desc() for column in key)).limit(most + 1)).all()
    found = [_span(row) for row in rows[:most]]
    return found, (found[-1].wall_ns, found[-1].log, found[-1].seq) if len(rows) > most else None


def behind(tx: Transaction, log: int, first: int, last: int, bins: Mapping[str, str], most: int) -> list[Span]:
    """Limits passed and drifts between two records, in a cell of conditions (a bin by axis; any of an axis that is not there)."""
    cell = "/".join(
        bins[axis].replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%") if axis in bins else "%"
        for axis in AXES
    )
    query = _spans().where(w.spans.c.log == log, w.spans.c.seq >= first, w.spans.c.seq <= last)
    query = query.where(w.spans.c.kind.in_(("breach", "drift")), w.spans.c.bins.like(cell, escape="\\"))
    if cell != UNTOLD:
        query = query.where(w.spans.c.bins != UNTOLD)
    return [_span(row) for row in tx.connection.execute(query.order_by(w.spans.c.seq).limit(max(0, most)))]


def marks(tx: Transaction, log: int, first: int, end: int) -> list[Mark]:
    """The records of a mission that are told, in order; one more than MOST_MARKS where there are more."""
    query = sa.select(w.marks).where(w.marks.c.log == log, w.marks.c.seq >= first, w.marks.c.seq < end)
    rows = tx.connection.execute(query.order_by(w.marks.c.seq).limit(MOST_MARKS + 1))
    return [Mark(row.seq, row.type, SEVERITIES[row.severity], row.t_effective, row.words) for row in rows]


def _spans() -> sa.Select[Any]:
    return sa.select(w.spans, t.logs.c.log_id, t.logs.c.robot).join(t.logs, t.logs.c.log == w.spans.c.log)


def _mission(row: Any) -> Mission:
    return Mission(
        row.robot, log_text(row.log_id), row.log, row.first, row.end, row.ended, row.t_first, row.t_last, row.wall_first,
        row.wall_last, row.boot, row.envelope, row.envelope_name, row.model, row.monitor, row.risk, json.loads(row.counts),
    )  # fmt: skip


def _span(row: Any) -> Span:
    return Span(
        row.robot, log_text(row.log_id), row.log, row.seq, row.lane, row.kind, row.mission, row.subject, row.label,
        SEVERITIES[row.severity], row.t_from, row.t_to, row.wall_ns, row.end_seq, row.outcome, row.measured,
        [(seq, words) for seq, words in json.loads(row.actions)],
    )  # fmt: skip
