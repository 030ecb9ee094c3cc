"""Formulas over one stream full of ties: each operator against its definition, and what it says of what it can't know."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracles.formula import Trace
from strategies import MS, S
from test_formula import NAMES, STEPS, VALUES, Case, at, equal, verdicts

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, SAMPLE, Cause, Verdict
from edge_monitor.core.signals import Signal
from edge_monitor.envelope.formulas import parse_expression, parse_formula

P, U, F = Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL

FORMULAS = (
    "once[0 ms, 100 ms](a > 1)",
    "historically[0 ms, 100 ms](a <= 1)",
    "once[50 ms, 150 ms](a > 1)",
    "historically[100 ms, 300 ms](a < 3.5 or b > 2)",
    "once(a > 2.5)",
    "historically(a < 4)",
    "(a > 0) since[0 ms, 200 ms] (b > 1)",
    "(a > 0) since (b > 1)",
    "(a >= 0) since[50 ms, 200 ms] (b >= 1)",
    "(a > -2) since[0 ms, 1 s] (b > -1)",
    "(a > 0) since[0 ms, 2 s] (b > -1)",
    "(a > -1.5) since[0 ms, 2 s] (b > -0.5 or c > 2)",
    "not ((a > 0 or b < 2) since[0 ms, 300 ms] (c == 1))",
    "lag(a, 50 ms) > 1",
    "lag(a, 100 ms) - lag(b, 300 ms) < 1",
    "once[0 ms, 100 ms](lag(a, 50 ms) > 1)",
    "prev(a) > 1",
    "prev(a > 1)",
    "prev(once[0 ms, 100 ms](a > 1))",
    "prev(a + b) > 1 or prev(c) != 1",
    "rise(a > 1)",
    "fall(a > 1 and b < 2)",
    "once[0 ms, 200 ms](rise(a > 1))",
    "diff(a) > 3",
    "diff(a) < 10 and diff(b) > -10",
    "a + b > 1 and a - b < 2",
    "a * b / c <= 1",
    "min(a, b, c) < max(a, b) - 1",
    "abs(a) >= 1 implies -b > -2",
    "a == b or a != c",
    "b > 0 implies abs(a - b) >= 1",
    "c == LOW implies a > 0",
    # Robustness 0 of either sign, one after the other.
    "once[0 ms, 200 ms](a <= 1 and b < 1)",
    "historically[0 ms, 200 ms](a < 1 or b <= 1)",
    "(a <= 1 or b < 0) since[0 ms, 300 ms] (b <= 1 and c < 1)",
    "historically[0 ms, 200 ms](once[0 ms, 100 ms](a > 1))",
    "once[50 ms, 150 ms]((a > 0) since[0 ms, 100 ms] (b > 1))",
    "once[0 ms, 100 ms]((a > 0) since[50 ms, 150 ms] (b > 1))",
    "once[0 ms, 150 ms](historically[50 ms, 100 ms](a > 0) and (b > 0) since[0 ms, 100 ms] (c > 1))",
)


def stream(seed: int, n: int = 40) -> tuple[tuple[int, int, float, bool], ...]:
    """Instants of one to three samples on a coarse grid of times and values, some of them NaN or infinite."""
    rng = np.random.default_rng(seed)
    t, rows = 10 * S, []
    for _ in range(n):
        t += int(rng.choice(STEPS[:-1]))
        carried = rng.permutation(3)[: rng.integers(1, 4)]
        for k, signal in enumerate(carried):
            odd = rng.random() < 0.08
            value = rng.choice((math.nan, math.nan, math.inf, -math.inf)) if odd else rng.choice(VALUES)
            rows.append((t, int(signal), float(value), k == len(carried) - 1))
    return tuple(rows)


def case(text: str, seed: int, *, pointwise: bool) -> Case:
    """The formula over a stream in which `a` counts for 300 ms and `c` for 100 ms."""
    known = {name: Signal(name, "/t") for name in NAMES}
    if "LOW" in text:
        known["c"] = Signal("c", "/t", values=(("LOW", 1.0), ("HIGH", 2.0)))
    return Case(parse_formula(text, known).term, pointwise, (300 * MS, None, 100 * MS), stream(seed))


@pytest.mark.parametrize("text", FORMULAS)
def test_each_operator_equals_its_definition(text: str) -> None:
    """Verdicts and margins are those of the definition at every moment, held and pointwise; with small rings, or unknown."""
    for seed, pointwise, rate in ((1, False, None), (2, False, 1e-3), (3, True, None), (4, True, 1e-3)):
        one = case(text, seed, pointwise=pointwise)
        params = {"pointwise": float(pointwise)} | ({} if rate is None else {"rate": rate})
        spec = CheckSpec("f", "formula", one.term.signals(), params, formula=one.term)
        # Behind other checks, so that nothing of it begins at the start of what all share.
        others = [CheckSpec(f"o{k}", "formula", o.term.signals(), formula=o.term) for k, o in enumerate(OTHERS)]
        engine = Engine(Plan.build(one.signals(), [*others, spec]))
        end = one.rows[-1][0] + 2 * S
        rows = np.concatenate([engine.advance(one.items()), engine.finish(end)])
        compare(one, verdicts(rows[rows["subject"] == len(others)]), end, exact=rate is None)


OTHERS = [case("once[0 ms, 20 ms](b > 7)", 1, pointwise=False), case("lag(c, 10 ms) > 7", 1, pointwise=False)]


def compare(one: Case, steps: list[tuple[int, Verdict, float]], end: int, *, exact: bool) -> None:
    """The steps are those of the definition; where not ``exact``, UNKNOWN will do."""
    trace: Trace = one.trace()
    moments = sorted({t for t in [*trace.changes(one.term), end] if one.rows[0][0] <= t <= end})
    for t in moments:
        expected, margin = trace.verdict(one.term, t)
        when, found, its_margin = at(steps, t)
        assert found == expected or (found == Verdict.UNKNOWN and not exact), (
            f"at {t}: {found}, by definition {expected}"
        )
        if when == t and found == expected and one.evaluations(t) <= 1:
            assert equal(its_margin, margin), f"at {t}: margin {its_margin}, by definition {margin}"
    assert {t for t, _, _ in steps} <= set(moments)


#: Formula, samples of ``a`` and ``b``, and after some of the times what is said. ``a`` counts for 300 ms.
#: Of two causes the second is that of samples alone: what they lost first is what was lost.
GAPS: dict[str, tuple[str, list[tuple[int, str, float]], list[tuple[int, Verdict, Cause | tuple[Cause, Cause]]]]] = {
    "a window warms": (
        "once[0 ms, 100 ms](a > 1)",
        [(0, "a", 0.0)],
        [(0, U, Cause.WARMING), (99, U, Cause.WARMING), (101, F, Cause.NONE), (299, F, Cause.NONE), (301, U, Cause.STALE)],
    ),
    "nothing known yet": (
        "once[0 ms, 100 ms](a > 1)",
        [(0, "a", math.nan)],
        [(0, U, Cause.NAN), (299, U, Cause.NAN), (301, U, Cause.STALE)],
    ),
    "known for no time": (
        "once(a > 1)",
        [(0, "a", 5.0), (0, "a", math.nan), (10, "a", 0.0), (20, "a", 3.0)],
        [(0, U, Cause.NAN), (10, F, Cause.NONE), (20, P, Cause.NONE)],
    ),
    "known for no time in a window": (
        "once[0 ms, 100 ms](a > 1)",
        [(0, "a", 5.0), (0, "a", math.nan), (10, "a", 0.0)],
        [(0, U, Cause.NAN), (10, U, Cause.WARMING), (109, U, Cause.WARMING), (111, F, Cause.NONE)],
    ),
    "a gap in a window": (
        "once[0 ms, 100 ms](b > 1)",
        [(0, "b", 0.0), (200, "b", math.nan), (220, "b", 0.0), (250, "b", 0.0)],
        [(150, F, Cause.NONE), (200, U, Cause.NAN), (230, U, Cause.NAN), (319, U, Cause.NAN), (321, F, Cause.NONE)],
    ),
    "the gap that is open": (
        "historically[0 ms, 100 ms](a < 1)",
        [(0, "a", 0.0), (150, "a", math.nan), (160, "a", 0.0), (190, "a", math.nan)],
        [(140, P, Cause.NONE), (170, U, Cause.NAN), (195, U, Cause.NAN), (491, U, (Cause.STALE, Cause.NAN))],
    ),
    "either operand": (
        "(a > 0) since[0 ms, 100 ms] (b > 1)",
        [(0, "a", 1.0), (50, "b", math.nan), (60, "b", 0.0), (170, "a", math.nan), (180, "b", math.nan), (190, "a", 1.0)],
        [
            (0, U, Cause.NEVER_RECEIVED), (50, U, Cause.NAN), (60, U, Cause.WARMING), (162, F, Cause.NONE),
            (170, F, Cause.NONE), (180, U, Cause.NAN), (190, U, Cause.NAN), (495, U, (Cause.STALE, Cause.NAN)),
        ],
    ),
    "the deeper of two": (
        "a > 1 and b > 1",
        [(0, "b", math.nan), (10, "a", 2.0), (20, "b", 2.0), (30, "a", math.nan), (40, "b", 0.0), (50, "b", math.nan)],
        [
            (0, U, Cause.NEVER_RECEIVED), (10, U, Cause.NAN), (20, P, Cause.NONE), (30, U, Cause.NAN),
            (40, F, Cause.NONE), (50, U, Cause.NAN), (331, U, Cause.STALE),
        ],
    ),
    "the deeper of two numbers": (
        "a + b > 1",
        [(0, "b", math.nan), (10, "a", 2.0), (20, "b", 2.0), (30, "b", math.nan)],
        [(0, U, Cause.NEVER_RECEIVED), (10, U, Cause.NAN), (20, P, Cause.NONE), (30, U, Cause.NAN), (311, U, Cause.STALE)],
    ),
    "what is late": (
        "lag(a, 50 ms) > 1",
        [(10, "a", 2.0), (30, "a", math.nan), (40, "a", 0.0)],
        [
            (0, U, Cause.NEVER_RECEIVED), (10, U, Cause.WARMING), (30, U, Cause.NAN), (40, U, Cause.WARMING),
            (61, P, Cause.NONE), (81, U, Cause.NAN), (91, F, Cause.NONE), (389, F, Cause.NONE), (391, U, Cause.STALE),
        ],
    ),
    "what is late beside another": (
        "lag(a, 50 ms) > b",
        [(0, "b", 0.0), (60, "a", math.nan)],
        [(0, U, Cause.NEVER_RECEIVED), (55, U, Cause.NEVER_RECEIVED), (60, U, Cause.NAN), (109, U, Cause.NAN)],
    ),
    "the one before beside another": (
        "prev(a) > b",
        [(0, "b", 0.0), (10, "a", 1.0), (20, "a", 0.0)],
        [(0, U, Cause.WARMING), (10, U, Cause.WARMING), (20, P, Cause.NONE)],
    ),
    "the one before": (
        "prev(a) > 1",
        [(0, "a", 2.0), (10, "a", math.nan), (20, "a", 0.0), (30, "a", 0.0)],
        [(0, U, Cause.WARMING), (10, P, Cause.NONE), (20, U, Cause.NAN), (30, F, Cause.NONE)],
    ),
    "a slope": (
        "diff(a) > 1",
        [(0, "a", 2.0), (10, "a", 3.0), (20, "a", math.nan), (30, "a", 0.0), (40, "a", 0.0)],
        [
            (0, U, Cause.WARMING), (10, P, Cause.NONE), (20, U, Cause.NAN), (30, U, Cause.NAN), (40, F, Cause.NONE),
            (341, U, Cause.STALE),
        ],
    ),
    "a slope that is lost": (
        "diff(a) > 1",
        [(0, "a", 2.0), (10, "a", math.nan)],
        [(10, U, Cause.NAN), (309, U, Cause.NAN), (311, U, Cause.STALE)],
    ),
    "no number": ("a / b > 1", [(0, "a", 0.0), (0, "b", 0.0), (10, "b", 1.0)], [(0, U, Cause.NAN), (10, F, Cause.NONE)]),
}  # fmt: skip


@pytest.mark.parametrize("name", GAPS)
@pytest.mark.parametrize("pointwise", [False, True])
def test_what_cannot_be_known_has_its_cause(name: str, pointwise: bool) -> None:
    """Which sample or span of history is missing is told as the cause, the deeper one of two, from its moment to its end."""
    text, samples, expected = GAPS[name]
    signals = [Signal("a", "/t", max_age=300 * MS), Signal("b", "/t")]
    term = parse_formula(text, {signal.name: signal for signal in signals}).term
    spec = CheckSpec("f", "formula", term.signals(), {"pointwise": float(pointwise)}, formula=term)
    engine, found = Engine(Plan.build(signals, [spec])), []
    waiting = [(t * MS, "ab".index(signal), FLAG_END, value) for t, signal, value in samples]
    for t, *_ in expected:
        ready = [row for row in waiting if row[0] <= t * MS]
        waiting = waiting[len(ready) :]
        engine.advance(np.array(ready, SAMPLE), until=t * MS)
        found.append((t, Verdict(engine.checks["verdict"][0]), Cause(engine.checks["cause"][0])))
    wanted = [(t, verdict, c[pointwise] if isinstance(c, tuple) else c) for t, verdict, c in expected]
    assert found == wanted


def full(*values: float) -> tuple[Engine, np.ndarray]:
    """``once`` over 100 ms, made for five values, after 0 for 200 ms and then ``values`` every 10 ms."""
    signals = [Signal("a", "/t")]
    term = parse_formula("once[0 ms, 100 ms](a > 20)", {"a": signals[0]}).term
    engine = Engine(Plan.build(signals, [CheckSpec("f", "formula", ("a",), {"rate": 1.0}, formula=term)]))
    rows = [(0, 0, FLAG_END, 0.0), *((200 * MS + k * 10 * MS, 0, FLAG_END, v) for k, v in enumerate(values))]
    return engine, engine.advance(np.array(rows, SAMPLE))


def causes(rows: np.ndarray) -> list[tuple[int, Verdict, Cause]]:
    return [(int(row["t_effective"]), Verdict(row["verdict"]), Cause(row["cause"])) for row in rows]


def test_a_value_without_bound_takes_no_place() -> None:
    """Five falling values fill the queue, and one of minus infinity after them is none of its business."""
    engine, rows = full(9.0, 8.0, 7.0, 6.0, 5.0, -math.inf, 4.0)
    assert causes(rows) == [(100 * MS, F, Cause.NONE)]
    assert causes(engine.advance(np.array([(270 * MS, 0, FLAG_END, 3.0)], SAMPLE))) == [(270 * MS, U, Cause.OVERFLOW)]


def test_a_full_queue_is_unknown_for_a_window_exactly() -> None:
    """What didn't fit counts as unknown until its last moment has left the window, and not a nanosecond less."""
    engine, rows = full(9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0)
    assert causes(rows)[1:] == [(260 * MS, U, Cause.OVERFLOW)]
    assert causes(engine.finish(10 * S)) == [(360 * MS, F, Cause.NONE)]


def test_one_of_two_bounds_may_overflow_alone() -> None:
    """After an unknown span the upper bound has one value more to remember, and is full before the lower one."""
    engine, rows = full(math.nan, 8.0, 7.0, 6.0, 5.0, 4.0)
    assert causes(rows)[1:] == [(200 * MS, U, Cause.NAN)]
    assert engine.checks["cause"][0] == Cause.NAN
    engine.advance(np.array([(260 * MS, 0, FLAG_END, 3.0)], SAMPLE))
    assert engine.checks["cause"][0] == Cause.OVERFLOW


def held(text: str, *samples: tuple[int, str, float], **params: float) -> tuple[Engine, np.ndarray]:
    """A formula over ``a`` and ``b``, which count for ever, and its rows over samples ``(ms, signal, value)``."""
    signals = [Signal("a", "/t"), Signal("b", "/t")]
    term = parse_formula(text, {signal.name: signal for signal in signals}).term
    engine = Engine(Plan.build(signals, [CheckSpec("f", "formula", term.signals(), params, formula=term)]))
    return engine, engine.advance(np.array([(t * MS, "ab".index(name), FLAG_END, v) for t, name, v in samples], SAMPLE))


def test_a_margin_falls_when_the_better_moment_leaves_though_nothing_else_happens() -> None:
    """What an operator above remembers is the margin of then, also of a condition that stays true all the time."""
    text = "historically[100 ms, 100 ms](once[0 ms, 100 ms](a > 1)) and b > 0"
    _, rows = held(text, (0, "b", -1.0), (0, "a", 10.0), (50, "a", 2.0), (260, "b", 100.0))
    assert [(int(row["t_effective"]), float(row["margin"])) for row in rows[-1:]] == [(260 * MS, 1.0)]


def test_what_has_no_sample_has_never_been() -> None:
    """Of samples alone, a constant under ``once`` is unknown for ever: nothing was sampled. Held, it is what it is."""
    engine, _ = held("a > 1 or once(2 > 3)", (0, "a", 0.0), (10, "a", 0.5))
    assert (engine.checks["verdict"][0], engine.checks["cause"][0]) == (F, Cause.NONE)
    engine, _ = held("a > 1 or once(2 > 3)", (0, "a", 0.0), (10, "a", 0.5), pointwise=1.0)
    assert (engine.checks["verdict"][0], engine.checks["cause"][0]) == (U, Cause.WARMING)


def test_a_late_value_takes_one_place_at_a_stamp() -> None:
    """A second sample at one stamp takes the place of the first: five stamps fill what is made for five, and no more."""
    samples = [(0, "a", 1.0), *((t, "a", t + 2.0) for t in (0, 10, 20, 30, 40))]
    engine, rows = held("lag(a, 50 ms) > 0", *samples, rate=1.0)
    rows = np.concatenate([rows, engine.finish(10 * S)])
    assert causes(rows) == [(50 * MS, P, Cause.NONE)]
    assert float(engine.checks["margin"][0]) == 42.0


def test_a_late_condition_takes_no_place_while_it_stays_the_same() -> None:
    """Any number of samples that don't change a condition fit where it is held."""
    engine, rows = held("historically[50 ms, 150 ms](a > 1)", *((t, "a", 2.0) for t in range(0, 400, 5)), rate=1.0)
    assert causes(np.concatenate([rows, engine.finish(10 * S)])) == [(150 * MS, P, Cause.NONE)]


def test_a_late_condition_that_overflows_is_unknown() -> None:
    """Where more changes of a condition are on their way than fit, it is not known, and never taken for true."""
    engine, rows = held(
        "once[50 ms, 150 ms](a > 1)", (0, "a", 0.0), *((t, "a", -t) for t in range(200, 245, 5)), rate=1.0
    )
    rows = np.concatenate([rows, engine.finish(10 * S)])
    assert Cause.OVERFLOW in rows["cause"] and P not in rows["verdict"]
    assert causes(rows[-1:])[0][1:] == (F, Cause.NONE)


@pytest.mark.parametrize("text", ["lag(a + b, 50 ms)", "lag(lag(a + b, 20 ms), 30 ms)"])
def test_a_late_signal_has_a_sample_for_each_stamp_of_one(text: str) -> None:
    """A stamp at which something was sampled and something lost is a sample, though of nothing known; a loss alone is none."""
    signals = [Signal("a", "/t", max_age=300 * MS), Signal("b", "/t", max_age=100 * MS)]
    term = parse_expression(text, {signal.name: signal for signal in signals}).term
    engine, counts = Engine(Plan.build([*signals, Signal("late", "", expr=term)], [])), []
    for samples, until in (([(0, 0), (0, 1)], 60), ([], 160), ([(300, 1)], 360)):
        engine.advance(np.array([(t * MS, signal, FLAG_END, 1.0) for t, signal in samples], SAMPLE), until=until * MS)
        counts.append(int(engine.signals[2]["count"]))
    assert counts == [1, 1, 2]


@pytest.mark.parametrize("least", [8.5, 7.5, 6.5, 5.5, 4.5, -1.0])
def test_a_condition_caps_all_that_had_begun(least: float) -> None:
    """A moment at which the condition held by less, or failed, counts for every beginning before it, and ends none too soon."""
    began = [*((200 + 10 * k, "b", 9.0 - k) for k in range(5)), (250, "b", -5.0)]
    samples = [(0, "b", -5.0), (0, "a", 200.0), *began, (250, "a", least), (260, "a", 99.0), (300, "a", 200.0)]
    engine, rows = held("((a > 0) since[0 ms, 100 ms] (b > 0)) and a != 99", *samples, rate=100.0)
    rows = np.concatenate([rows, engine.finish(10 * S)])
    later = [
        (int(r["t_effective"]), Verdict(r["verdict"]), float(r["margin"])) for r in rows if r["t_effective"] > 260 * MS
    ]
    assert [step[:2] for step in later] == ([(300 * MS, P), (350 * MS, F)] if least > 0 else [])
    assert least < 0 or later[0][2] == least


def test_a_cap_reaches_past_the_first_that_is_above_it() -> None:
    """Two beginnings held by more than the condition did later, and a third by less: once the first has left, the second
    counts for no more than the condition."""
    began = [(200, "b", 9.0), (210, "b", 8.0), (220, "b", 1.0), (230, "b", -5.0)]
    samples = [
        (0, "b", -5.0),
        (0, "a", 200.0),
        *began,
        (240, "a", 5.0),
        (250, "a", 200.0),
        (312, "a", 99.0),
        (315, "a", 200.0),
    ]
    _, rows = held("((a > 0) since[0 ms, 100 ms] (b > 0)) and a != 99", *samples, rate=100.0)
    last = rows[-1]
    assert (int(last["t_effective"]), Verdict(last["verdict"]), float(last["margin"])) == (315 * MS, P, 5.0)
