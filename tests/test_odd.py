"""Bins, the declared domain, the coverage matrix and hard cases: exact edges, exact sums, exact bounds."""

from __future__ import annotations

import json
import math
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_monitor.core.odd import (
    BINS,
    LIGHT_EDGES,
    NOWHERE,
    RAIN_EDGES,
    SECOND,
    UNKNOWN,
    VIBRATION_EDGES,
    VISIBILITY_EDGES,
    Axis,
    Bins,
    BinSpec,
    Cell,
    Exposure,
    Odd,
    OddChange,
    OddSpec,
    light,
    names_of,
    occlusion,
    vibration,
    weather,
)
from edge_monitor.core.perception.hard_cases import BOTH, HIGH, HOUR, LOW, HardCases, HardCaseSpec, ScoreSpec
from edge_monitor.core.samples import FLAG_CAUSE, FLAG_END, ITEM_SHIFT, ITEM_UNTIL, NEVER, SAMPLE, Cause
from edge_monitor.poisson import poisson_bounds, rate
from edge_replay.matrix import KINDS, Matrix, declared_cells, merged

S = SECOND


def test_edges_are_those_of_osi_and_the_matrix_has_320_cells() -> None:
    """The numeric edges are those of osi_environment.proto, and 5 x 4 x 4 x 4 named bins make the matrix."""
    assert RAIN_EDGES == (0.1, 0.5, 1.9, 8.1, 34, 149)
    assert VISIBILITY_EDGES == (50, 200, 1000, 2000, 4000, 10000, 40000)
    assert LIGHT_EDGES == (0.01, 1, 3, 10, 20, 400, 1000, 10000)
    assert [len(BINS[axis]) for axis in Axis] == [5, 4, 4, 4]
    everything = OddSpec({axis: frozenset(range(len(BINS[axis]))) for axis in Axis})
    assert len(set(declared_cells(everything))) == 320


def test_bins_are_closed_below() -> None:
    """A value at an edge belongs to the bin above; what is no value is unknown."""
    for edge, low, high in ((1, 0, 1), (20, 1, 2), (1000, 2, 3)):
        assert light(math.nextafter(edge, 0)) == low and light(edge) == high
    for edge, low, high in ((0.05, 0, 1), (0.2, 1, 2), (0.5, 2, 3)):
        assert occlusion(math.nextafter(edge, 0)) == low and occlusion(edge) == high
    for edge, low, high in zip(VIBRATION_EDGES["ground"], (0, 1, 2), (1, 2, 3), strict=True):
        assert vibration(math.nextafter(edge, 0)) == low and vibration(edge) == high
    for edge, low, high in ((0.1, 0, 1), (1.9, 1, 2), (8.1, 2, 3)):
        assert weather(math.nextafter(edge, 0)) == low and weather(edge) == high
    assert weather(0, math.nextafter(1000, 0)) == 4 and weather(0, 1000) == 0
    assert light(0) == 0 and light(math.inf) == 3 and occlusion(0) == 0 and occlusion(1) == 3
    for bad in (math.nan, -0.1):
        assert light(bad) == vibration(bad) == occlusion(bad) == weather(bad) == UNKNOWN
    assert occlusion(1.1) == UNKNOWN


def test_an_unknown_input_leaves_only_what_the_other_decides() -> None:
    """The weather is known exactly where every value of the unknown input would give the same bin."""
    rains, sights = (0.0, 0.3, 5.0, 20.0, 200.0), (10.0, 500.0, 1500.0, 50000.0)
    for rain in rains:
        possible = {weather(rain, sight) for sight in sights}
        assert weather(rain, math.nan) == (possible.pop() if len(possible) == 1 else UNKNOWN)
    for sight in sights:
        possible = {weather(rain, sight) for rain in rains}
        assert weather(math.nan, sight) == (possible.pop() if len(possible) == 1 else UNKNOWN)


def samples(*rows: tuple[int, int, int, float]) -> np.ndarray:
    return np.array(list(rows), SAMPLE)


def test_bins_join_the_instant_of_their_input() -> None:
    """A bin's sample stands before its input's, so that the instant ends where it did; causes are passed on."""
    bins = Bins([BinSpec(Axis.LIGHT, 10, (0,)), BinSpec(Axis.VIBRATION, 11, (1,), edges=VIBRATION_EDGES["multirotor"])])
    rows = samples(
        (1, 0, 0, 500.0), (1, 5, FLAG_END, 1.0), (2, 1, FLAG_END, 20.0),
        (3, 0, int(Cause.NAN) | FLAG_END, math.nan), (4, 0, FLAG_END, -5.0),
        (5, 0, ITEM_UNTIL << ITEM_SHIFT, 0.0),
    )  # fmt: skip
    filled = bins.fill(rows)
    assert filled["signal"].tolist() == [10, 0, 5, 11, 1, 10, 0, 10, 0, 0]
    assert filled["t"].tolist() == [1, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert (filled["flags"] & FLAG_END).astype(bool).tolist() == [0, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    made = filled[filled["signal"] >= 10]
    assert made["value"][:2].tolist() == [2, 1]
    assert (made["flags"] & FLAG_CAUSE).tolist() == [0, 0, Cause.NAN, Cause.INVALID]
    assert filled[filled["signal"] < 10].tobytes() == rows.tobytes()
    assert bins.fill(rows[5:]).tobytes() == rows[5:].tobytes()


def test_weather_holds_each_input_for_its_age() -> None:
    """Rain and visibility come at different times; one that has not come, or is too old, counts as unknown."""
    bins = Bins([BinSpec(Axis.WEATHER, 9, (0, 1), (10, None))])
    rows = samples(
        *((t, s, FLAG_END, v) for t, s, v in [(0, 1, 5e4), (5, 0, 0.0), (14, 1, 500.0), (15, 1, 5e4), (20, 0, 9.0)])
    )
    made = bins.fill(rows)
    made = made[made["signal"] == 9]
    known = [float(v) if not f & FLAG_CAUSE else None for v, f in zip(made["value"], made["flags"], strict=True)]
    assert known == [None, 0.0, 4.0, None, 3.0]
    assert made["flags"][0] & FLAG_CAUSE == Cause.DEPENDENCY
    with pytest.raises(ValueError, match="inputs"):
        BinSpec(Axis.LIGHT, 1, (0, 1))
    with pytest.raises(ValueError, match="rising"):
        BinSpec(Axis.VIBRATION, 1, (0,), edges=(3.0, 2.0, 1.0))


DAY = OddSpec({Axis.LIGHT: frozenset({2, 3}), Axis.WEATHER: frozenset({0})}, exit_after=2 * S, enter_after=5 * S)
INSIDE: Cell = (0, 3, UNKNOWN, UNKNOWN)
NIGHT: Cell = (0, 0, UNKNOWN, UNKNOWN)
BLIND: Cell = (0, UNKNOWN, UNKNOWN, UNKNOWN)


def drive(steps: list[tuple[int, Cell]], end: int) -> list[tuple[str, int, bool]]:
    odd = Odd(DAY)
    changes: list[OddChange] = []
    for t, cell in steps:
        changes += odd.step(t * S, t * S, cell)
    changes += odd.advance(end * S, end * S)
    return [(change.type, change.t_effective // S, change.known) for change in changes]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], []),
        ([(0, INSIDE)], [("odd.enter", 5, True)]),
        ([(0, NIGHT)], [("odd.exit", 2, True)]),
        ([(0, BLIND)], []),
        ([(0, INSIDE), (10, NIGHT)], [("odd.enter", 5, True), ("odd.exit", 12, True)]),
        ([(0, INSIDE), (10, NIGHT), (11, INSIDE)], [("odd.enter", 5, True)]),
        ([(0, INSIDE), (10, NIGHT), (12, INSIDE)], [("odd.enter", 5, True)]),
        ([(0, INSIDE), (10, BLIND)], [("odd.enter", 5, True), ("odd.exit", 12, False)]),
        ([(0, INSIDE), (10, NIGHT), (11, BLIND)], [("odd.enter", 5, True), ("odd.exit", 12, False)]),
        ([(0, INSIDE), (10, BLIND), (11, NIGHT)], [("odd.enter", 5, True), ("odd.exit", 12, True)]),
        ([(0, INSIDE), (4, BLIND), (5, INSIDE)], [("odd.enter", 10, True)]),
        ([(0, BLIND), (1, NIGHT), (2, BLIND)], [("odd.exit", 3, False)]),
        ([(0, NIGHT), (10, INSIDE), (12, NIGHT), (20, INSIDE)], [("odd.exit", 2, True), ("odd.enter", 25, True)]),
    ],
)
def test_leaving_and_entering_the_domain(steps: list[tuple[int, Cell]], expected: list[tuple[str, int, bool]]) -> None:
    """Exit and entrance take effect when they have held; gaps reset no exit and earn no entrance."""
    assert drive(steps, 40) == expected


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([INSIDE, NIGHT, BLIND])), max_size=12), st.integers(0, 35)
)
def test_looking_more_often_changes_nothing(steps: list[tuple[int, Cell]], look: int) -> None:
    """Letting time pass in pieces gives the same changes at the same times."""
    steps = sorted(steps, key=lambda step: step[0])
    odd = Odd(DAY)
    changes: list[OddChange] = []
    for t, cell in steps:
        if look <= t:
            changes += odd.advance(look * S, look * S)
        changes += odd.step(t * S, t * S, cell)
    changes += odd.advance(40 * S, 40 * S)
    assert [(c.type, c.t_effective // S, c.known) for c in changes] == drive(steps, 40)
    assert all(a.type != b.type for a, b in pairwise(changes))
    assert (odd.due == NEVER) == (odd._pending is None)


def test_an_exit_names_its_axes_and_a_jump_forgets_what_was_pending() -> None:
    """The axes to blame are named; after a clock jump nothing is known, which ends the stay in the domain."""
    odd = Odd(DAY)
    assert odd.step(0, 0, INSIDE) == []
    assert odd.advance(6 * S, 6 * S)[0].type == "odd.enter"
    odd.step(7 * S, 7 * S, (4, 0, 0, 0))
    assert odd.jump(1 * S, 1 * S) == []
    (change,) = odd.advance(9 * S, 9 * S)
    assert change.t_effective == 3 * S and not change.known
    assert change.against == (Axis.WEATHER, Axis.LIGHT) and change.cell == NOWHERE
    for allowed in ({}, {Axis.LIGHT: frozenset()}, {Axis.LIGHT: frozenset({4})}):
        with pytest.raises(ValueError, match="odd"):
            OddSpec(allowed)


cells = st.tuples(*(st.integers(-1, len(BINS[axis]) - 1) for axis in Axis))


@given(st.lists(st.tuples(st.integers(0, 10**10), cells), min_size=1, max_size=30))
def test_every_nanosecond_lands_in_one_cell(steps: list[tuple[int, Cell]]) -> None:
    """Cells, each axis, and each pair of axes add up to the time that passed, exactly; steps back add nothing."""
    exposure = Exposure()
    expected: dict[Cell, int] = {}
    for (t, cell), (later, _) in pairwise(steps):
        if later > t:
            expected[cell] = expected.get(cell, 0) + later - t
    for t, cell in steps:
        exposure.step(t, cell)
    assert exposure.cells == expected
    for axes in ((axis,) for axis in Axis):
        assert sum(exposure.along(*axes).values()) == exposure.total
    for pair in product(Axis, Axis):
        assert sum(exposure.along(*pair).values()) == exposure.total


def recorded(robot: str, steps: list[tuple[int, Cell]], events: list[tuple[int, str]], end: int) -> Matrix:
    matrix = Matrix(robot=robot, mission=f"m-{robot}")
    items: list[tuple[int, Cell | str]] = sorted([*steps, *events], key=lambda item: item[0])
    for t, what in items:
        if isinstance(what, str):
            matrix.event(what, t)
        else:
            matrix.step(t, what)
    matrix.finish(end)
    return matrix


def test_the_matrix_counts_where_things_happened() -> None:
    """Breaches, drift episodes and handovers count in the cell in force; exposure, rates and statuses follow."""
    hour = HOUR
    day: Cell = (0, 3, 0, 0)
    dusk: Cell = (0, 1, 0, 0)
    one = recorded(
        "r1",
        [(0, NOWHERE), (hour // 2, day), (4 * hour, dusk)],
        [(hour, "check.fail"), (hour, "check.pass"), (2 * hour, "authority.changed"), (5 * hour, "drift.detected")],
        6 * hour,
    )
    two = recorded("r2", [(0, day)], [(1, "check.fail")], 1 * hour + 1)
    whole = merged([one, two])
    assert whole.exposure == 7 * hour + 1
    odd = OddSpec({Axis.LIGHT: frozenset({3}), Axis.WEATHER: frozenset({0, 1})})
    document = whole.document(odd)
    assert json.loads(json.dumps(document)) == document
    rows = {(row["light"], row["vibration"]): row for row in document["cells"]}
    shown = rows["day", "low"]
    assert shown["exposure_ns"] == 4 * hour + hour // 2 + 1 and shown["status"] == "shown"
    assert [shown[kind]["count"] for kind in KINDS] == [2, 0, 1]
    assert shown["robots"] == ["r1", "r2"] and shown["missions"] == ["m-r1", "m-r2"] and shown["sites"] == []
    assert rows["ambient", "low"]["status"] == "seen-outside-envelope"
    assert rows["ambient", "low"]["drift_episodes"]["count"] == 1
    assert rows["unknown", "unknown"]["status"] == "unknown"
    for axis in document["axes"].values():
        assert sum(axis.values()) == whole.exposure
    assert document["declared"] == 2 * 4 * 4 and document["coverage"] == 1 / 32
    assert len(document["unseen"]) == 31 and names_of((1, 3, 0, 0)) in document["unseen"]
    assert one.document(odd)["coverage"] == 0  # one robot alone shows nothing
    assert "status" not in whole.document()["cells"][0]


def test_poisson_bounds_are_exact() -> None:
    """Bounds equal the published ones (Garwood 1936, two-sided 95 %), and solve their equations."""
    published = {0: (0, 3.689), 1: (0.0253, 5.572), 2: (0.242, 7.225), 5: (1.624, 11.668), 10: (4.795, 18.390),
                 20: (12.217, 30.888), 50: (37.111, 65.919)}  # fmt: skip
    for count, (low, high) in published.items():
        assert poisson_bounds(count, 0.975) == pytest.approx((low, high), abs=6e-4)
    assert poisson_bounds(0) == (0, pytest.approx(-math.log(0.05), rel=1e-12))
    low, high = poisson_bounds(3)
    assert sum(math.exp(-high) * high**k / math.factorial(k) for k in range(4)) == pytest.approx(0.05, rel=1e-9)
    assert 1 - sum(math.exp(-low) * low**k / math.factorial(k) for k in range(3)) == pytest.approx(0.05, rel=1e-9)
    low, high = poisson_bounds(10_000, 0.975)
    assert low == pytest.approx(10_000 - 1.96 * 100, abs=3) and high == pytest.approx(10_000 + 1.96 * 100, abs=5)
    assert rate(0, 0) == {"per_hour": None, "lower": None, "upper": None}
    assert rate(0, 10)["upper"] == pytest.approx(0.29957, rel=1e-4)
    with pytest.raises(ValueError, match="count"):
        poisson_bounds(-1)


def oracle_of(frames: list[tuple[int, list[float]]], references: list[list[float]], top: int, worst: float) -> list:
    """The strangest frames of each hour: sort everything."""
    hours: dict[int, list[tuple[float, float, int]]] = {}
    for t, scores in frames:
        ranks = [
            ((1 + sum(r >= s for r in reference)) / (len(reference) + 1), -s)
            for s, reference in zip(scores, references, strict=True)
            if not math.isnan(s)
        ]
        if ranks and min(ranks)[0] <= worst:
            hours.setdefault(t // HOUR, []).append((*min(ranks), t))
    return [(t, p) for hour in sorted(hours) for p, _, t in sorted(hours[hour])[:top]]


score = st.one_of(st.floats(0, 12), st.just(math.nan), st.integers(0, 12).map(float))


def spec_of(references: list[list[float]], tail: int = HIGH, modes: int = 1, **options: Any) -> HardCaseSpec:
    """Streams with these references in every mode, standardised already."""
    scores = tuple(
        ScoreSpec(i, "/x", tail, (0.0,) * modes, (1.0,) * modes, (np.array(r, np.float64),) * modes)
        for i, r in enumerate(references)
    )
    return HardCaseSpec(scores, modes=tuple(map(float, range(modes))), **options)


def offered(cases: HardCases, t: int, values: list[float], mode: int = 0) -> list[Any]:
    """The rows of the hour that a frame ended, which it comes after."""
    ended = cases.finish() if cases.due is not None and t >= cases.due else []
    cases.offer(t, values, mode)
    return list(ended)


@given(
    st.lists(st.tuples(st.integers(1, HOUR), st.lists(score, min_size=2, max_size=2)), max_size=25),
    st.integers(1, 4), st.sampled_from([0.2, 1.0]), st.integers(0, 25),
)  # fmt: skip
def test_hard_cases_are_the_strangest_of_each_hour(
    gaps: list[tuple[int, list[float]]], top: int, worst: float, cut: int
) -> None:
    """What is captured is what sorting all frames of the hour would give, also through a snapshot."""
    references = [[float(k) for k in range(10)], [2.0, 3.0, 5.0]]
    spec = spec_of(references, top=top, worst_p=worst)
    frames, t = [], 0
    for gap, scores in gaps:
        t += gap
        frames.append((t, scores))
    cases = HardCases(spec)
    found = []
    for k, (t, scores) in enumerate(frames):
        if k == cut:
            moved = HardCases(spec)
            moved.restore(cases.snapshot())
            cases = moved
        found += [(int(row["t"]), float(row["p"])) for row in offered(cases, t, scores)]
    found += [(int(row["t"]), float(row["p"])) for row in cases.finish()]
    assert found == oracle_of(frames, references, top, worst)
    assert len(cases.finish()) == 0
    assert cases.snapshot() == HardCases(spec).snapshot()


def test_modes_are_ranked_apart_and_options_checked() -> None:
    """A strange mode does not crowd out another one; references must be numbers."""
    cases = HardCases(spec_of([list(range(99))], top=1, modes=2, worst_p=1.0))
    for t, value, mode in ((1, 200.0, 0), (2, 98.0, 1), (3, 97.0, 1), (4, 10.0, 1)):
        cases.offer(t, [value], mode)
    assert cases.due == HOUR and cases.seen == [(1, 1), (3, 3)]
    rows = cases.finish()
    assert rows["t"].tolist() == [1, 2] and rows["p"].tolist() == [0.01, 0.02]
    assert rows["mode"].tolist() == [0, 1]
    for bad in ([], [[math.nan]]):
        with pytest.raises(ValueError, match="hard cases"):
            spec_of(bad)


@pytest.mark.parametrize(("tail", "stranger"), [(LOW, -3.5), (HIGH, 3.5), (BOTH, -3.5), (BOTH, 3.5)])
def test_tails_say_which_end_is_strange(tail: int, stranger: float) -> None:
    """The strange end has the smallest p that there can be; the middle has a large one; no reference, no p."""
    cases = HardCases(spec_of([[-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]], tail=tail))
    assert cases.p_value(0, cases.score(0, stranger)) == 1 / 8
    assert cases.p_value(0, cases.score(0, 0.0)) == (1 if tail == BOTH else 5 / 8)
    assert math.isnan(cases.p_value(0, cases.score(0, math.nan)))
    empty = HardCases(spec_of([[]], tail=tail))
    assert math.isnan(empty.p_value(0, empty.score(0, stranger)))


def test_the_page_names_every_bin(root: Path) -> None:
    """docs/odd.md names all axes, bins and statuses."""
    page = (root / "docs" / "odd.md").read_text()
    for axis, bins in BINS.items():
        assert f"| {axis.name.lower()} |" in page
        assert all(f"`{name}`" in page for name in bins)
    assert all(f"{edge:g}" in page for edges in VIBRATION_EDGES.values() for edge in edges)
