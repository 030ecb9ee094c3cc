"""Checks at their edges: what every row carries, ties, deadlines met by something else, rings that have come round."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from oracles.compare import assert_rows
from oracles.engine import EngineOracle
from strategies import FENCE, MS, S, check, command, engine, items, message

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.checks import registry
from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import ITEM_SOURCE_STATUS, Cause, TransitionKind, Verdict
from edge_monitor.core.signals import Signal

P, U, F = Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL
INF, NAN = math.inf, math.nan

Answer = tuple[int, Verdict, float, float, float]


def answers(rows: np.ndarray) -> list[Answer]:
    """``(t, verdict, margin, value, limit)`` of the check's transitions."""
    rows = rows[rows["kind"] == TransitionKind.CHECK]
    return [
        (int(r["t_effective"]), Verdict(r["verdict"]), *map(float, (r["margin"], r["value"], r["limit"]))) for r in rows
    ]


def over(spec: CheckSpec, *samples: tuple, end: int | None = None) -> list[Answer]:
    """What the check answers over samples, with the stream ended at ``end``."""
    machine = engine(spec)
    rows = machine.advance(items(*samples))
    return answers(rows if end is None else np.concatenate([rows, machine.finish(end)]))


def state(machine: Engine) -> Answer:
    """What the check says now."""
    one = machine.checks[0]
    return (int(machine.head["now"]), Verdict(one["verdict"]), *map(float, (one["margin"], one["value"], one["limit"])))


def beats(times: tuple[int, ...], signal: int = 0) -> list[tuple]:
    """A message at each time, in ms."""
    return [(t * MS, signal, 0.0) for t in times]


STALE = check("stale", {"max": 1 * S})


def test_the_longest_silence_is_kept_where_it_first_was() -> None:
    """The worst margin of ``stale`` is that of the longest gap between messages; of equal ones the first counts."""
    machine = engine(STALE)
    machine.advance(items(*beats((50_000, 54_000, 58_000, 59_000))))
    assert (machine.checks["worst"][0], machine.checks["worst_t"][0]) == (-3.0, 54 * S)


def test_a_jump_of_the_clock_is_no_silence() -> None:
    """After a step back the first message ends no gap, and the second ends the one since the first."""
    machine = engine(STALE)
    machine.advance(items(*beats((50_000, 10_000, 15_000))))
    assert (machine.checks["worst"][0], machine.checks["worst_t"][0]) == (-4.0, 15 * S)


DEADLINES = {
    "stale": (STALE, (500,), 1500),
    "frequency": (check("frequency", {"min": 3.0, "window": 1 * S}), (500, 600), 1500),
    "jitter": (check("jitter", {"period": 300 * MS, "max": 200 * MS, "window": 5 * S}), (200, 500), 1000),
}


@pytest.mark.parametrize("kind", DEADLINES)
def test_news_at_the_deadline_does_not_anticipate_it(kind: str) -> None:
    """What is asked at the deadline itself is answered as before it: only once time has passed it, it has failed."""
    spec, times, deadline = DEADLINES[kind]
    machine = engine(spec)
    machine.advance(items(*beats(times)))
    before = machine.checks[0]["verdict"]
    assert before != F
    rows = machine.advance(command(deadline * MS, ITEM_SOURCE_STATUS, 0, Cause.QOS))
    assert answers(rows) == [] and machine.checks[0]["verdict"] == before
    assert answers(machine.advance(until=deadline * MS)) == []
    [(t, verdict, *_)] = answers(machine.advance(until=deadline * MS + 1))
    assert (t, verdict) == (deadline * MS, F)


def each(spec: CheckSpec, *samples: tuple) -> list[tuple[Verdict, float, float, float]]:
    """``(verdict, margin, value, limit)`` after each sample."""
    machine, said = engine(spec), []
    for sample in samples:
        machine.advance(items(sample))
        said.append(state(machine)[1:])
    return said


def test_frequency_tells_how_far_it_is_from_the_nearer_limit() -> None:
    """Rate, limit and margin in Hz: of ``max`` while the first window fills, then of the nearer one, ``min`` where they tie."""
    spec = check("frequency", {"min": 2.0, "max": 4.0, "window": 1 * S})
    said = each(spec, *beats((0, 500, 1000, 1250, 1500, 1750, 1800, 1900)))
    assert math.isnan(said[0][1]) and said[0][::2] == (U, 1.0)
    assert said[1:] == [
        (P, 2.0, 2.0, 4.0),
        (P, 1.0, 3.0, 2.0),  # both edges of the window count: 0, 500, 1000
        (P, 1.0, 3.0, 2.0),
        (P, 0.0, 4.0, 4.0),
        (P, 0.0, 4.0, 4.0),
        (P, 0.0, 5.0, 4.0),  # one more than the rate at the limit needs
        (F, -2.0, 6.0, 4.0),
    ]
    assert over(spec, *beats((0, 500, 1000)), end=9 * S)[1:] == [(1500 * MS, F, -1.0, 1.0, 2.0)]


def test_a_second_burst_leaves_its_window_in_time() -> None:
    """Too many messages end when enough of them have left the window, wherever in its ring they stand."""
    spec = check("frequency", {"max": 2.0, "window": 1 * S})
    for first in range(5):
        said = over(spec, *beats(tuple(range(first))), *beats((10_000, 10_100, 10_200, 10_300)), end=30 * S)
        when = [(t, verdict) for t, verdict, *_ in said if t >= 10 * S]
        assert when[-2:] == [(10_300 * MS, F), (11_000 * MS, P)]


#: Several checks of each kind, which stand behind one another in what the plan's checks share.
CROWDS: dict[str, tuple[CheckSpec, ...]] = {
    "bounds": (
        check("bounds", {"max": 2.0, "leave_max": 1.0}),
        check("bounds", {"min": 0.0, "leave_min": 0.5}, "b"),
        check("bounds", {"min": 1.0, "max": 2.0}, fail_for=50 * MS, pass_for=100 * MS),
    ),
    "rate": (
        check("rate", {"max": 10.0, "leave_max": 5.0}),
        check("rate", {"min": -10.0, "max": 20.0}, "b"),
    ),
    "one_of": (check("one_of", {}, table=(1.0, 2.0)), check("one_of", {}, "b", table=(0.0, 3.0, -1.0))),
    "valid": (check("valid", {}), check("valid", {"covariance_max": 2.0}, "ab"), check("valid", {}, "ba")),
    "stale": (
        check("stale", {"max": 50 * MS}),
        check("stale", {"max": 150 * MS}, "b"),
        check("stale", {"max": 500 * MS}, fail_for=100 * MS),
    ),
    "frequency": (
        check("frequency", {"min": 10.0, "window": 200 * MS}),
        check("frequency", {"max": 10.0, "window": 500 * MS}, "b"),
        check("frequency", {"min": 4.0, "max": 20.0, "window": 500 * MS}),
        check("frequency", {"min": 10.0, "max": 10.0, "window": 200 * MS}, "b"),
    ),
    "jitter": (
        check("jitter", {"window": 200 * MS, "period": 100 * MS, "max": 20 * MS}),
        check("jitter", {"window": 500 * MS, "period": 100 * MS, "max": 50 * MS}, "b"),
        check("jitter", {"window": 300 * MS, "period": 50 * MS, "max": 100 * MS}),
    ),
    "agreement": (
        check("agreement", {"max": 1.0, "leave": 0.5}, "ab"),
        check("agreement", {"max": 1.0, "wrap": 4.0}, "ba"),
    ),
    "geofence": (
        check("geofence", {}, "ab", table=FENCE),
        check("geofence", {"keep_out": 1.0}, "ab", table=FENCE),
        check("geofence", {"max_altitude": 2.0, "min_altitude": -1.0}, "bca", table=FENCE),
        check("geofence", {"max_altitude": 2.0, "keep_out": 1.0}, "cba", table=FENCE),
    ),
}


def stream(kind: str, seed: int, n: int = 150) -> np.ndarray:
    """Messages of one to three values on coarse grids of times and values, some odd; a step back, statuses, commands."""
    rng = np.random.default_rng(seed)
    values = [(k + 0.37) * 1e-4 for k in range(-3, 13)] if kind == "geofence" else (0.0, 1.0, 1.0, 2.0, 3.0, -1.0, 2.5)
    steps = np.array((0, 1, 10, 50, 50, 100, 100, 100, 150, 250, 500)) * MS
    t, found = 10 * S, []
    for k in range(n):
        t += -4 * S if k == n // 2 else int(rng.choice(steps))
        if rng.random() < 0.05 and k != n // 2:
            found.append(command(t, ITEM_SOURCE_STATUS, int(rng.integers(0, 3)), Cause(rng.choice((0, Cause.QOS)))))
            continue
        said = {}
        for signal in rng.permutation(3)[: rng.integers(1, 4)]:
            odd = rng.random() < 0.06
            said[int(signal)] = float(rng.choice((NAN, INF, -INF) if odd else values))
        found.append(message(t, said))
    return np.concatenate(found)


@pytest.mark.parametrize("kind", CROWDS)
def test_each_kind_equals_its_oracle_on_a_crowded_stream(kind: str) -> None:
    """Every transition of several checks of a kind, with margin, value and limit, is the oracle's, tie by tie."""
    signals = [Signal("a", "/t", max_age=300 * MS), Signal("b", "/t"), Signal("c", "/t", max_age=100 * MS)]
    specs = [replace(spec, name=f"{spec.name}{i}") for i, spec in enumerate(CROWDS[kind])]
    for seed in range(2):
        items = stream(kind, seed)
        end = int(items["t"][-1]) + 2 * S
        machine, oracle = Engine(Plan.build(signals, specs)), EngineOracle(signals, specs)
        expected = oracle.advance(items) + oracle.finish(end)
        rows = np.concatenate([machine.advance(items), machine.finish(end)])
        assert_rows(rows, expected, 2e-6 if kind == "geofence" else 1e-9)
        assert {U, F, P} <= set(rows[rows["kind"] == TransitionKind.CHECK]["verdict"])


@pytest.mark.parametrize("kind", ["stale", "frequency", "jitter"])
def test_a_jump_of_the_clock_forgets_messages(kind: str) -> None:
    """After a step back a check of time knows as little as at its start, and goes on like one that has just begun."""
    spec = CROWDS[kind][0]
    one, fresh = engine(spec), engine(spec)
    one.advance(items(*beats((50_000, 50_010, 50_020, 50_130))))
    one.advance(items((10 * S, 1, 0.0)))
    fresh.advance(items((10 * S, 1, 0.0)))
    assert (one.checks[0]["verdict"], one.checks[0]["cause"]) == (U, Cause.NEVER_RECEIVED)
    for t in (10_500, 10_600, 10_600, 10_700, 10_850, 11_500):
        one.advance(items(*beats((t,))))
        fresh.advance(items(*beats((t,))))
        assert state(one) == pytest.approx(state(fresh), nan_ok=True)
        assert one.checks[0]["cause"] == fresh.checks[0]["cause"]


NEEDS: dict[str, tuple[CheckSpec, int, dict[str, float]]] = {
    "bounds": (check("bounds", {"max": 2.0}), 0, {"max": 2.0, "min": -INF, "leave_max": 2.0, "leave_min": -INF}),
    "from below": (check("bounds", {"min": 2.0}), 0, {"max": INF, "min": 2.0, "leave_max": INF, "leave_min": 2.0}),
    "fewest": (check("frequency", {"min": 1.5, "window": 2 * S}), 4, {"n_min": 3, "min": 1.5, "max": INF}),
    "most": (check("frequency", {"max": 1.5, "window": 2 * S}), 6, {"n_min": 0, "n_max": 4, "min": 0.0, "max": 1.5}),
    "both": (check("frequency", {"min": 1.2, "max": 1.7, "window": 2 * S}), 6, {"n_min": 3, "n_max": 4}),
    "one": (check("frequency", {"min": 2.0, "max": 2.0, "window": 500 * MS}), 4, {"n_min": 1, "n_max": 2}),
    "jitter": (
        check("jitter", {"period": 3.0, "max": 1.0, "window": 10.0}),
        16,
        {"span": 1, "period": 3, "window": 10},
    ),
    "long": (check("jitter", {"period": 1.0, "max": 1.0, "window": 1.0 * S}), 1 << 20, {}),
    "limit": (check("frequency", {"min": float((1 << 20) - 1), "window": 1 * S}), 1 << 20, {"n_min": (1 << 20) - 1}),
    "agreement": (check("agreement", {"max": 2.0}, "ab"), 0, {"max": 2.0, "leave_max": 2.0, "wrap": 0.0}),
    "fence": (check("geofence", {}, "ab", table=FENCE), 0, {"min": -INF, "max": INF, "keep_out": 0}),
}


@pytest.mark.parametrize("name", NEEDS)
def test_a_check_becomes_these_numbers(name: str) -> None:
    """Limits as counts, a ring as long as the answer needs and no longer, nothing of the pool."""
    spec, ring, fields = NEEDS[name]
    lowered = registry.KINDS[spec.kind](spec)
    assert (lowered.ring, lowered.pool, lowered.program, lowered.dimensions) == (ring, 0, None, 0)
    assert {field: lowered.fields[field] for field in fields} == fields


def test_one_message_more_than_a_ring_holds_is_refused() -> None:
    """A million stamps and no more: the rate and window that need one more are told to shorten the window."""
    with pytest.raises(ValueError, match=r"rate × window is 1048577 messages; at most 1048576 fit, shorten `window`"):
        registry.KINDS["frequency"](check("frequency", {"min": float(1 << 20), "window": 1 * S}))


def test_a_formula_without_a_formula_is_refused() -> None:
    """A formula check without one is named, and not compiled."""
    with pytest.raises(ValueError, match="check formula: has no formula"):
        registry.KINDS["formula"](check("formula", {}))


@pytest.mark.parametrize(("covariance", "expected"), [
    (0.5, (P, 1.5, 0.5, 2.0)), (2.0, (P, 0.0, 2.0, 2.0)), (2.5, (F, -0.5, 2.5, 2.0)), (INF, (F, -INF, INF, 2.0)),
    (-INF, (F, -INF, -INF, 2.0)), (0.0, (F, NAN, 0.0, 2.0)), (-1.0, (F, NAN, -1.0, 2.0)), (NAN, (F, NAN, NAN, 2.0)),
])  # fmt: skip
def test_valid_tells_how_far_a_covariance_is_from_its_limit(covariance: float, expected: tuple) -> None:
    """Margin, value and limit of a covariance; -inf where it is infinite, none where it is no covariance."""
    machine = engine(check("valid", {"covariance_max": 2.0}, "ab"))
    machine.advance(message(0, {0: 7.0, 1: covariance}))
    assert state(machine)[1:] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("value", "limit"), [(INF, 2.0), (-INF, -1.0)])
def test_an_infinite_value_is_told_with_the_limit_on_its_side(value: float, limit: float) -> None:
    """The margin of an infinite value is -inf, and the limit is that which it broke."""
    assert each(check("bounds", {"max": 2.0, "min": -1.0}), (0, 0, value)) == [(F, -INF, value, limit)]
    machine = engine(check("valid", {}))
    machine.advance(message(0, {0: value}))
    assert state(machine)[1:4] == (F, -INF, value)


def test_equal_deviations_take_one_place() -> None:
    """Any number of intervals with one deviation fit the queue of ``jitter``, as the last of them outlives the others."""
    spec = check("jitter", {"period": 1 * S, "max": 999 * MS, "window": 1 * S})
    assert [verdict for _, verdict, *_ in over(spec, *beats(tuple(range(0, 900, 20))))] == [P]


def test_an_overflow_is_over_once_it_has_left_the_window() -> None:
    """UNKNOWN up to the moment itself at which the lost deviation is a window old, and never again because of it."""
    spec = check("jitter", {"period": 1 * S, "max": 999 * MS, "window": 1 * S})
    times = np.cumsum([0, *range(20, 34)])  # each deviates less than the one before, four more than the queue holds
    machine, last = engine(spec), int(times[-1])
    machine.advance(items(*beats(tuple(times.tolist()))))
    assert machine.checks[0]["cause"] == Cause.OVERFLOW
    at_the_edge = machine.advance(command((last + 1000) * MS, ITEM_SOURCE_STATUS, 0, Cause.QOS))
    assert answers(at_the_edge) == []
    rows = machine.advance(until=(last + 1100) * MS)
    assert [(t, verdict) for t, verdict, *_ in answers(rows)] == [((last + 1000) * MS, P)]
    assert answers(machine.advance(items(*beats((last + 1500, last + 2500))))) == []


def test_a_window_without_an_interval_deviates_by_nothing() -> None:
    """Where no interval has ended in the window and none is overdue, the deviation is 0 and the margin the whole limit."""
    spec = check("jitter", {"period": 100 * MS, "max": 20 * MS, "window": 50 * MS})
    machine = engine(spec)
    machine.advance(items(*beats((0, 110))))
    assert state(machine)[2:] == (0.01, 0.01, 0.02)
    machine.advance(command(170 * MS, ITEM_SOURCE_STATUS, 0, Cause.QOS))
    assert state(machine)[2:] == (0.02, 0.0, 0.02)


@pytest.mark.parametrize(("wrap", "a", "b", "distance"), [(1.0, 0.875, 0.125, 0.25), (0.5, 0.0, 0.75, 0.25)])
def test_a_circle_may_be_one_unit_round(wrap: float, a: float, b: float, distance: float) -> None:
    """Angles in turns wrap as those in degrees do."""
    machine = engine(check("agreement", {"max": 0.25, "wrap": wrap}, "ab"))
    machine.advance(message(0, {0: a, 1: b}))
    assert state(machine)[1:] == (P, 0.25 - distance, distance, 0.25)
