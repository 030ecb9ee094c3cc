"""Coverage: time in each cell of conditions, as declared by an envelope and as robots recorded it, and what that proves.

A cell is looked at along some axes only: those of the declared domain, or a pair of them; time is added up over the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

import sqlalchemy as sa

from edge_monitor.poisson import rate

from .. import tables as t
from ..catalogue.reading import Catalogue
from ..catalogue.tables import items
from ..store import Transaction
from . import tables as w
from .conditions import AXES, UNKNOWN, UNTOLD
from .declared import Declared, declared
from .shown import State, count, grouped, log_text, span
from .vocabulary import condition, in_order

HOUR_NS = 3_600_000_000_000
LEAST_NS, LEAST_ROBOTS = HOUR_NS, 2  #: of a declared cell that counts as shown
#: What may become of a cell, the worst first (docs/odd.md).
STATUSES: dict[str, State] = {
    "seen-outside-envelope": State("bad", "seen, not declared"), "unknown": State("warn", "not known"),
    "declared-but-unseen": State("none", "declared, never seen"), "thin": State("warn", "thin"), "shown": State("ok", "shown"),
    "undeclared": State("none", "seen; nothing is declared of it"), "excluded": State("none", "neither declared nor seen"),
}  # fmt: skip
MEANT = ("declared-but-unseen", "thin", "shown")  #: what may become of a declared cell
Key = tuple[str, ...]  #: a bin for each of some axes
_UNTOLD = tuple(UNTOLD.split("/"))


@dataclass(slots=True)
class Tally:
    """What is known of a cell: time, limits passed, drifts, and of which robots (each by the number of its first log)."""

    ns: int = 0
    breaches: int = 0
    drifts: int = 0
    robots: set[str] = field(default_factory=set)

    def add(self, other: Tally) -> None:
        """What is known of another cell, too."""
        self.ns, self.breaches, self.drifts = (
            self.ns + other.ns,
            self.breaches + other.breaches,
            self.drifts + other.drifts,
        )
        self.robots |= other.robots

    @property
    def seen(self) -> bool:
        """Whether any robot was ever there."""
        return bool(self.ns or self.breaches or self.drifts)


@dataclass(slots=True)
class Seen:
    """What robots recorded under an envelope. ``untold``: of which no record tells the conditions."""

    cells: dict[Key, Tally] = field(default_factory=dict)
    untold: Tally = field(default_factory=Tally)
    runs: int = 0

    @property
    def told_ns(self) -> int:
        """Time of which the conditions are told, ns."""
        return sum(tally.ns for tally in self.cells.values())

    @property
    def robots(self) -> set[str]:
        """All robots that ran under it, as tallies have them."""
        return self.untold.robots.union(*(tally.robots for tally in self.cells.values()))

    def along(self, axes: Sequence[str]) -> dict[Key, Tally]:
        """Added up over all other axes."""
        places = [AXES.index(axis) for axis in axes]
        found: dict[Key, Tally] = {}
        for cell, tally in self.cells.items():
            found.setdefault(tuple(cell[place] for place in places), Tally()).add(tally)
        return found


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell along some axes: its bins by axis, what became of it, and what is known of it. ``parts``: where it takes declared
    cells together, how many of them are shown, and how many there are."""

    bins: dict[str, str]
    status: str
    tally: Tally
    parts: tuple[int, int] | None = None

    def state(self) -> State:
        """What became of it, in words."""
        state = STATUSES[self.status]
        if self.parts is None:
            return state
        return State(state.kind, f"{self.parts[0]} of {count(self.parts[1], 'declared cell')} shown")

    def words(self) -> str:
        """Its conditions in words."""
        return ", ".join(condition(axis, name) for axis, name in self.bins.items()) or "any conditions"

    def time(self) -> str:
        """Its exposure."""
        return span(self.tally.ns / 1e9) if self.tally.ns else "no time"


def seen_of(tx: Transaction, envelopes: Sequence[str], since_ns: int = 0, robot: str = "") -> dict[str, Seen]:
    """What robots recorded under each of some envelopes, in runs that began at ``since_ns`` or later, by their clocks."""
    c = (_since(since_ns) if since_ns else w.seen).c
    firsts = sa.select(t.logs.c.robot, sa.func.min(t.logs.c.log).label("number")).group_by(t.logs.c.robot).subquery()
    keys = (c.envelope, *(c[axis] for axis in AXES))
    sums = (sa.func.sum(column) for column in (c.ns, c.breaches, c.drifts, c.runs))
    query = sa.select(*keys, *sums, sa.func.aggregate_strings(sa.cast(firsts.c.number, sa.Text), ","))
    query = query.join(t.logs, t.logs.c.log == c.log).join(firsts, firsts.c.robot == t.logs.c.robot)
    query = query.where(c.envelope.in_(list(envelopes)), c.runs > 0)
    if robot:
        query = query.where(t.logs.c.robot == robot)
    found = {envelope: Seen() for envelope in envelopes}
    for envelope, *cell, ns, breaches, drifts, runs, robots in tx.connection.execute(query.group_by(*keys)):
        seen, key = found[envelope], tuple(cell)
        tally = Tally(int(ns), int(breaches), int(drifts), set(robots.split(",")))
        if key == _UNTOLD:  # every run has one of these
            seen.untold, seen.runs = tally, int(runs)
        else:
            seen.cells[key] = tally
    return found


def conditions_of(tx: Transaction, log: int, first: int, end: int) -> tuple[list[tuple[str, int]], int]:
    """In which conditions a mission was (its records ``first`` to before ``end``): words and ns, the longest first; and the time
    that no record tells of."""
    e = w.exposures.c
    sums = sa.select(*(e[axis] for axis in AXES), sa.func.sum(e.ns)).where(
        e.log == log, e.first >= first, e.first < end
    )
    times = {tuple(cell): int(ns) for *cell, ns in tx.connection.execute(sums.group_by(*(e[axis] for axis in AXES)))}
    untold = times.pop(_UNTOLD, 0)
    known = [place for place in range(len(AXES)) if any(cell[place] != UNKNOWN for cell in times)]
    told: dict[str, int] = {}
    for cell, ns in times.items():
        words = ", ".join(condition(AXES[place], cell[place]) for place in known) or "conditions not known"
        told[words] = told.get(words, 0) + ns
    return sorted(((words, ns) for words, ns in told.items() if ns), key=lambda one: -one[1]), untold


def _since(since_ns: int) -> sa.Subquery:
    """Rows as in the table of sums, of runs that began at ``since_ns`` or later."""
    e = w.exposures.c
    keys = (e.envelope, e.log, *(e[axis] for axis in AXES))
    sums = (sa.func.sum(column).label(column.name) for column in (e.ns, e.breaches, e.drifts))
    query = sa.select(*keys, *sums, sa.func.count().label("runs"))
    return query.where(e.wall_first >= since_ns).group_by(*keys).subquery()


def cells(said: Declared, seen: Seen, axes: Sequence[str]) -> list[Cell]:
    """All cells along some axes that are declared or seen; the worst first, then those with the most time."""
    found = seen.along(axes)
    if axes and all(axis in said.domain for axis in axes):
        found = dict.fromkeys(product(*(said.domain[axis] for axis in axes)), Tally()) | found
    listed = [cell(said, dict(zip(axes, key, strict=True)), tally) for key, tally in found.items()]
    order = list(STATUSES)
    return sorted(listed, key=lambda one: (order.index(one.status), -one.tally.ns, tuple(one.bins.values())))


def cell(said: Declared, bins: dict[str, str], tally: Tally) -> Cell:
    """What becomes of a cell."""
    against = [axis for axis, name in bins.items() if axis in said.domain and name not in said.domain[axis]]
    if not tally.seen:
        meant = not against and all(axis in said.domain for axis in bins)
        status = "declared-but-unseen" if meant else "excluded"
    elif not any(axis in said.domain for axis in bins):
        status = "undeclared"
    elif against:
        status = "unknown" if all(bins[axis] == UNKNOWN for axis in against) else "seen-outside-envelope"
    else:
        status = "shown" if tally.ns >= LEAST_NS and len(tally.robots) >= LEAST_ROBOTS else "thin"
    return Cell(bins, status, tally)


@dataclass(frozen=True, slots=True)
class Coverage:
    """An envelope's matrix. ``alias``: empty where it is not registered; ``axes``: along which it is looked at, those of its
    domain, else those of which anything is known; ``cells``: all that are declared or seen, the worst first."""

    envelope: str
    alias: str
    declared: Declared
    seen: Seen
    axes: tuple[str, ...]
    cells: list[Cell]

    def is_here(self, catalogue: Catalogue) -> bool:
        """Whether it is an envelope that is registered, or that a robot ran under at any time."""
        item = catalogue.get(self.envelope)
        if item is not None:
            return item.kind == "envelope"
        return bool(self.seen.runs or seen_of(catalogue.tx, [self.envelope])[self.envelope].runs)

    def of(self, status: str) -> list[Cell]:
        """The cells of which this became."""
        return [one for one in self.cells if one.status == status]

    @property
    def share(self) -> float | None:
        """The share of the declared cells that are shown; None where no domain is declared."""
        return len(self.of("shown")) / self.declared.cells if self.declared.cells else None

    def shown(self) -> str:
        """That share in words."""
        if self.share is None:
            return f"not measured: {self.declared.lacking()}"
        n = count(self.declared.cells, "declared cell")
        return f"{100 * self.share:.0f} % (n = {grouped(len(self.of('shown')))} of {n})"

    def never(self) -> list[str]:
        """The declared cells that were never seen, in words: an axis whose every bin is meant as such, what they share once."""
        keys = {tuple(one.bins.values()) for one in self.of("declared-but-unseen")}
        return [", ".join(parts) for parts in _phrases(list(self.declared.domain), keys, self.declared)]

    def along(self, axis: str) -> list[Cell]:
        """The cells of one axis; empty where nothing is declared, measured or seen of it."""
        known = axis in self.declared.domain or axis in self.declared.measured
        if not known and all(key == (UNKNOWN,) for key in self.seen.along((axis,))):
            return []
        found = self.seen.along((axis,))
        names = in_order(axis, (*self.declared.domain.get(axis, ()), *(name for (name,) in found)))
        return [self._together({axis: name}, found.get((name,), Tally())) for name in names]

    def pairs(self) -> list[tuple[str, str]]:
        """Two axes at a time of which anything is known."""
        return list(combinations((axis for axis in AXES if self.along(axis)), 2))

    def table(self, rows: str, columns: str) -> list[list[Cell]]:
        """Two axes against each other, row by row: of the bins of each that are declared or seen."""
        found = self.seen.along((rows, columns))
        down, across = (
            in_order(axis, (*self.declared.domain.get(axis, ()), *(key[place] for key in found)))
            for place, axis in enumerate((rows, columns))
        )
        return [[self._together({rows: a, columns: b}, found.get((a, b), Tally())) for b in across] for a in down]

    def cell(self, bins: dict[str, str]) -> Cell:
        """The cell of bins of some axes."""
        return self._together(bins, self.seen.along(tuple(bins)).get(tuple(bins.values()), Tally()))

    def _together(self, bins: dict[str, str], tally: Tally) -> Cell:
        """One that takes declared cells together is shown if all of them are: time in it may have been spent outside the domain,
        on another axis."""
        one = cell(self.declared, bins, tally)
        if one.status not in MEANT or all(axis in bins for axis in self.axes):
            return one
        parts = [
            part
            for part in self.cells
            if part.status in MEANT and all(part.bins.get(axis, name) == name for axis, name in bins.items())
        ]
        shown = sum(part.status == "shown" for part in parts)
        seen = any(part.tally.seen for part in parts)
        status = "shown" if shown == len(parts) else "thin" if seen else "declared-but-unseen"
        return Cell(bins, status, tally, (shown, len(parts)))


def coverage(catalogue: Catalogue, envelopes: Sequence[str], since_ns: int = 0, robot: str = "") -> list[Coverage]:
    """The matrices of some envelopes, of runs that began at ``since_ns`` or later, of one robot or all."""
    named = catalogue.get_many(envelopes)
    everything = seen_of(catalogue.tx, envelopes, since_ns, robot)
    found = []
    for envelope in envelopes:
        said, seen = declared(catalogue, envelope), everything[envelope]
        known = (axis for place, axis in enumerate(AXES) if any(one[place] != UNKNOWN for one in seen.cells))
        axes = tuple(said.domain) or tuple(known)
        alias = named[envelope].alias if envelope in named else ""
        found.append(Coverage(envelope, alias, said, seen, axes, cells(said, seen, axes)))
    return found


def _phrases(axes: Sequence[str], keys: set[Key], said: Declared) -> Iterator[list[str]]:
    if not axes:
        if keys:
            yield []
        return
    axis, allowed = axes[0], said.domain[axes[0]]
    tails = {name: frozenset(key[1:] for key in keys if key[0] == name) for name in allowed}
    for tail in dict.fromkeys(one for one in tails.values() if one):
        names = [name for name in allowed if tails[name] == tail]
        words = f"any {axis}" if len(names) == len(allowed) else " or ".join(condition(axis, name) for name in names)
        for rest in _phrases(axes[1:], set(tail), said):
            yield [words, *rest]


def bounded(number: int, ns: int) -> str:
    """Events an hour with what they are of and the exact one-sided bounds at 95 %, in words."""
    told = rate(number, ns / HOUR_NS)
    of = f"{grouped(number)} in {span(ns / 1e9)}" if ns else f"{grouped(number)}, in no recorded time"
    if told["per_hour"] is None or told["upper"] is None or told["lower"] is None:
        return f"{of}: no rate"
    if not number:
        return f"{of}; at 95 % at most {told['upper']:.3g} per h"
    return f"{told['per_hour']:.3g} per h ({of}); at 95 % at least {told['lower']:.3g}, at most {told['upper']:.3g}"


@dataclass(frozen=True, slots=True)
class Run:
    """What a run under an envelope adds to a cell. ``account``: the record that tells its time; None: none does."""

    robot: str
    log_id: str
    log: int
    first: int
    last: int
    mission: int
    wall_first: int
    ns: int
    breaches: int
    drifts: int
    account: int | None


def runs_in(
    tx: Transaction, envelope: str, bins: Mapping[str, str], since_ns: int = 0, robot: str = "",
    before: tuple[int, int, int] | None = None, most: int = 50,
) -> tuple[list[Run], tuple[int, int, int] | None]:  # fmt: skip
    """Runs with anything in a cell, the newest first, and where to go on.

    ``bins``: of some axes; all of them empty: what no record tells.
    """
    e = w.exposures.c
    key = (e.wall_first, e.log, e.first)
    sums = (sa.func.sum(column).label(column.name) for column in (e.ns, e.breaches, e.drifts))
    most_of = (sa.func.max(column).label(column.name) for column in (e.last, e.mission, e.account))
    query = sa.select(*key, *sums, *most_of, t.logs.c.robot, t.logs.c.log_id).join(t.logs, t.logs.c.log == e.log)
    query = query.where(e.envelope == envelope, *(e[axis] == name for axis, name in bins.items()))
    if since_ns:
        query = query.where(e.wall_first >= since_ns)
    if any(bins.values()) or not bins:
        query = query.where(e.weather != "")
    if robot:
        query = query.where(t.logs.c.robot == robot)
    if before is not None:
        query = query.where(sa.tuple_(*key) < sa.tuple_(*map(sa.literal, before)))
    query = query.group_by(*key, t.logs.c.robot, t.logs.c.log_id)
    query = query.having(sa.func.sum(e.ns) + sa.func.sum(e.breaches) + sa.func.sum(e.drifts) > 0)
    rows = tx.connection.execute(query.order_by(*(column.desc() for column in key)).limit(most + 1)).all()
    found = [_run(row) for row in rows[:most]]
    return found, (found[-1].wall_first, found[-1].log, found[-1].first) if len(rows) > most else None


def _run(row: Any) -> Run:
    return Run(
        row.robot, log_text(row.log_id), row.log, row.first, row.last, row.mission, row.wall_first, int(row.ns),
        int(row.breaches), int(row.drifts), row.account,
    )  # fmt: skip


def not_registered(tx: Transaction, most: int) -> list[str]:
    """Envelopes that robots ran under, and that the catalogue does not have."""
    e = w.exposures.c
    query = sa.select(e.envelope).distinct().where(e.envelope != "", e.envelope.not_in(sa.select(items.c.digest)))
    return list(tx.connection.execute(query.order_by(e.envelope).limit(most)).scalars())
