"""Pages of coverage: what envelopes declare of the conditions, what of it was seen, what was seen beside it, and what is behind
each figure."""

from __future__ import annotations

from starlette.responses import Response

from ..catalogue.reading import Catalogue
from ..store import Transaction
from .access import Visitor
from .answers import MOST_ROWS, cursor, digest, dotted, file, link, moment_of, wants_file
from .app import Asked, Refused, Site
from .catalogue_pages import catalogue
from .conditions import AXES, NAME
from .coverage import STATUSES, Cell, Coverage, Run, bounded, coverage, not_registered, runs_in, seen_of
from .coverage_interface import counted
from .declared import Declared
from .downloads import Table
from .missions import Span, behind
from .shown import short, wall
from .vocabulary import condition

MOST = 25  #: envelopes on a page
MOST_CELLS = 500  #: of a table on a page; a file has all
MOST_EPISODES = 100
CELL_COLUMNS = (
    *AXES, "status", "exposure (s)", "robots", "limits passed", "limits passed per h", "at 95 % at least", "at 95 % at most",
    "drifts", "drifts per h", "at 95 % at least (drifts)", "at 95 % at most (drifts)",
)  # fmt: skip
ENVELOPE_COLUMNS = (
    "envelope", "digest", "declares", "declared by", "declared cells", *STATUSES, "conditions told (s)",
    "conditions not told (s)", "robots", "runs",
)  # fmt: skip
RUN_COLUMNS = (
    "robot", "log", "first record", "last record", "began (UTC, robot's clock)", "exposure (s)", "limits passed", "drifts",
    "told by record",
)  # fmt: skip
Row = list[str | int | float | None]


def show_envelopes(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """All envelopes: what they declare, and how much of it was seen."""
    with catalogue(site, asked) as found:
        after = digest(asked.query, "after")
        named = [one["digest"] for one in found.items("envelope", after=after, limit=MOST + 1)]
        following = link(asked, after=named[MOST - 1]) if len(named) > MOST else ""
        rows = coverage(found, [*named[:MOST], *([] if after else not_registered(found.tx, MOST))])
        nameless = seen_of(found.tx, [""])[""]
    if wants_file(asked):
        return file(asked, Table("coverage", ENVELOPE_COLUMNS, [_envelope_cells(one) for one in rows]))
    return site.render(
        "coverages.html",
        asked,
        visitor,
        title="Coverage",
        rows=rows,
        declares=declares,
        next=following,
        nameless=nameless,
    )


def show_coverage(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """The matrix of an envelope: declared cells and seen ones, with time, events and bounds; what was never seen, in words."""
    status, since, robot = _filters(asked)
    with catalogue(site, asked) as found:
        it = _coverage(found, asked, since, robot)
    if wants_file(asked):
        return file(asked, _matrix_table(it, status, asked.query.get("pair", "")))
    rows = it.of(status) if status else [one for one in it.cells if one.tally.seen]

    def at(bins: dict[str, str]) -> str:
        """Where what is behind a cell is shown, of the same time and robot."""
        kept = {name: asked.query.get(name, "") for name in ("since", "robot")}
        return link(Asked(f"{asked.path}/cell", {}, kept, {}, asked.address, asked.now_s), **bins)

    return site.render(
        "coverage.html", asked, visitor, title=f"Coverage of {it.alias or short(it.envelope)}", it=it, rows=rows[:MOST_CELLS],
        cut=max(0, len(rows) - MOST_CELLS), statuses=STATUSES, chosen=status, since=asked.query.get("since", ""), robot=robot,
        never=it.never(), along={axis: it.along(axis) for axis in AXES}, at=at, bounded=bounded, declares=declares,
        condition=condition,
    )  # fmt: skip


def show_cell(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """What is behind a cell: the runs that were in it with the records that tell so, and what happened in it."""
    _, since, robot = _filters(asked)
    told = asked.query.get("told", "") != "no"
    bins = _bins(asked) if told else dict.fromkeys(AXES, "")
    most = MOST_ROWS if wants_file(asked) else 50
    with catalogue(site, asked) as found:
        it = _coverage(found, asked, since, robot)
        runs, more = runs_in(found.tx, it.envelope, bins, since, robot, cursor(asked.query.get("before", "")), most)
        episodes = _episodes(found.tx, runs, bins) if not wants_file(asked) else []
    if wants_file(asked):
        return file(asked, Table("coverage-runs", RUN_COLUMNS, [_run_cells(one) for one in runs]))
    one = it.cell(bins) if told else Cell(bins, "unknown", it.seen.untold)
    words = one.words() if told else "conditions that no record tells"
    return site.render(
        "coverage_cell.html", asked, visitor, title=words, it=it, words=words, cell=one, told=told, runs=runs, episodes=episodes,
        full=len(episodes) >= MOST_EPISODES, bounded=bounded, next=link(asked, before=dotted(more)) if more else "",
        since=asked.query.get("since", ""), robot=robot,
    )  # fmt: skip


def declares(said: Declared) -> str:
    """A domain in words."""
    if not said.known:
        return said.by
    if not said.domain:
        return "no domain is declared"
    return "; ".join(" or ".join(condition(axis, name) for name in bins) for axis, bins in said.domain.items())


def _filters(asked: Asked) -> tuple[str, int, str]:
    """Status, day to begin with, and robot of a query."""
    status = asked.query.get("status", "")
    if status and status not in STATUSES:
        raise Refused(400, "There is no such status of a cell.", f"There is {', '.join(STATUSES)}.")
    return status, moment_of(asked.query, "since"), asked.query.get("robot", "")[:200]


def _bins(asked: Asked) -> dict[str, str]:
    """The cell that a query names."""
    bins = {axis: asked.query[axis] for axis in AXES if asked.query.get(axis)}
    for axis, name in bins.items():
        if not NAME.fullmatch(name):
            raise Refused(400, f"That is no bin of {axis}.", "Each cell of a matrix leads here.")
    return bins


def _coverage(found: Catalogue, asked: Asked, since: int, robot: str) -> Coverage:
    """Of the envelope that the path names."""
    (it,) = coverage(found, [digest(asked.parts, "digest")], since, robot)
    if not it.is_here(found):
        words = "No envelope of this digest is registered, and no robot ran under one."
        raise Refused(404, words, "The page of coverage lists those that are.")
    return it


def _episodes(tx: Transaction, runs: list[Run], bins: dict[str, str]) -> list[Span]:
    """What happened in a cell in some runs, as far as a page shows it."""
    found: list[Span] = []
    for run in runs:
        if run.breaches or run.drifts:
            found += behind(tx, run.log, run.first, run.last, bins, MOST_EPISODES - len(found))
        if len(found) >= MOST_EPISODES:
            break
    return found


def _matrix_table(it: Coverage, status: str, pair: str) -> Table:
    """The cells of a matrix as a file; ``pair``: two axes, ``weather-light``, instead of all."""
    if pair:
        rows, _, columns = pair.partition("-")
        if rows == columns or rows not in AXES or columns not in AXES:
            raise Refused(400, "There is no such pair of axes.", f"Axes are {', '.join(AXES)}: pair=weather-light.")
        return Table(f"coverage-{pair}", CELL_COLUMNS, [_cells(one) for row in it.table(rows, columns) for one in row])
    listed = it.of(status) if status else it.cells
    untold = Cell(dict.fromkeys(AXES, "not recorded"), "unknown", it.seen.untold)
    return Table("coverage", CELL_COLUMNS, [_cells(one) for one in ([*listed] if status else [*listed, untold])])


def _cells(one: Cell) -> Row:
    row: Row = [*(one.bins.get(axis, "any") for axis in AXES), one.status, one.tally.ns / 1e9, len(one.tally.robots)]
    for number in (one.tally.breaches, one.tally.drifts):
        told = counted(number, one.tally.ns)
        row += [told["count"], told["per_hour"], told["lower"], told["upper"]]
    return row


def _envelope_cells(it: Coverage) -> Row:
    counts = [len(it.of(status)) for status in STATUSES]
    said, seen = it.declared, it.seen
    return [
        it.alias or "not registered", it.envelope, declares(said), said.by, said.cells, *counts, seen.told_ns / 1e9,
        seen.untold.ns / 1e9, len(seen.robots), seen.runs,
    ]  # fmt: skip


def _run_cells(one: Run) -> Row:
    return [
        one.robot, one.log_id, one.first, one.last, wall(one.wall_first), one.ns / 1e9, one.breaches, one.drifts, one.account,
    ]  # fmt: skip
