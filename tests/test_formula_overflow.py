"""More samples than a formula's rings were made for: unknown, with the cause, never a wrong verdict; known again later."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import MS, S
from test_formula import Case, at, cases, verdicts

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, SAMPLE, Cause, TransitionKind, Verdict
from edge_monitor.core.signals import Signal
from edge_monitor.envelope.formulas import parse_expression, parse_formula

SIGNALS = [Signal("x", "/t")]
KNOWN = {"x": SIGNALS[0]}


def engine(text: str, rate: float | None = None) -> Engine:
    """An engine with one formula over ``x``, made for so many samples a second."""
    term = parse_formula(text, KNOWN).term
    params = {} if rate is None else {"rate": rate}
    return Engine(Plan.build(SIGNALS, [CheckSpec("f", "formula", ("x",), params, formula=term)]))


def told(rows: np.ndarray) -> list[tuple[float, Verdict, Cause]]:
    """``(seconds, verdict, cause)`` of the check's transitions."""
    rows = rows[rows["kind"] == TransitionKind.CHECK]
    return [(r["t_effective"] / S, Verdict(r["verdict"]), Cause(r["cause"])) for r in rows]


def samples(values: np.ndarray, period: int, start: int = 0) -> np.ndarray:
    items = np.zeros(len(values), SAMPLE)
    items["t"], items["value"], items["flags"] = start + np.arange(len(values)) * period, values, FLAG_END
    return items


def test_a_full_ring_is_unknown_until_its_window_has_passed() -> None:
    """Falling values all count, so 100 of them fill a ring made for ten: UNKNOWN (overflow), and PASS a window after the last."""
    one = engine("historically[0 s, 10 s](x <= 100)", rate=1.0)
    one.advance(samples(np.full(120, 50.0), 100 * MS))
    assert one.checks[0]["verdict"] == Verdict.PASS
    found = told(one.advance(samples(50 - np.arange(30.0), 100 * MS, 12 * S)))
    assert [row[1:] for row in found] == [(Verdict.UNKNOWN, Cause.OVERFLOW)]
    last = 12 * S + 2900 * MS
    found = told(one.finish(30 * S))
    assert [row[1:] for row in found] == [(Verdict.PASS, Cause.NONE)]
    assert last < found[0][0] * S <= last + 10 * S


def test_a_full_ring_does_not_hide_a_failure() -> None:
    """What breaks the limit while the ring is full is FAIL at once; a ring that is large enough never is unknown."""
    values = np.concatenate([np.full(120, 50.0), 50 - np.arange(40.0), [150.0], np.zeros(20)])
    small, large = (
        engine("historically[0 s, 10 s](x <= 100)", rate=1.0),
        engine("historically[0 s, 10 s](x <= 100)", 10.0),
    )
    found = told(small.advance(samples(values, 100 * MS)))
    assert [row[1:] for row in found][1:] == [(Verdict.UNKNOWN, Cause.OVERFLOW), (Verdict.FAIL, Cause.NONE)]
    assert found[-1][0] == 16.0
    assert Cause.OVERFLOW not in {cause for _, _, cause in told(large.advance(samples(values, 100 * MS)))}


def test_without_a_window_nothing_can_overflow() -> None:
    """`historically` and `once` without a window need one entry, however long the stream."""
    one = engine("historically(x <= 100) and not once(x < -1e6)", rate=1e-3)
    rows = np.concatenate([one.advance(samples(50 - np.arange(2000.0), MS)), one.finish(10 * S)])
    assert told(rows) == [(0.0, Verdict.PASS, Cause.NONE)]


def test_a_late_signal_that_overflows_is_unknown() -> None:
    """A derived signal whose lag holds more samples than its ring is UNKNOWN (overflow) for its checks, and comes back."""
    late = Signal("late", "", expr=parse_expression("lag(x, 100 ms)", KNOWN).term)
    check = CheckSpec("b", "bounds", ("late",), {"max": 1e9})
    one = Engine(Plan.build([*SIGNALS, late], [check]))
    rows = one.advance(samples(np.arange(5000.0), MS // 5))  # five times the rate that rings are made for
    causes = [cause for _, _, cause in told(rows)]
    assert Cause.OVERFLOW in causes
    rows = one.advance(samples(np.arange(500.0), 2 * MS, 2 * S))
    assert told(rows)[-1][1] == Verdict.PASS
    assert one.signals[1]["value"] == 449.0


@settings(max_examples=200)
@given(cases(), st.sampled_from((1e-3, 1.0, 3.0)))
def test_what_a_full_ring_says_is_true(case: Case, rate: float) -> None:
    """With rings far too small each verdict is that of the definition, or UNKNOWN."""
    spec = CheckSpec(
        "f", "formula", case.term.signals(), {"pointwise": float(case.pointwise), "rate": rate}, formula=case.term
    )
    one = Engine(Plan.build(case.signals(), [spec]))
    end = case.rows[-1][0] + 2 * S
    steps = verdicts(np.concatenate([one.advance(case.items()), one.finish(end)]))
    trace = case.trace()
    for t in sorted({t for t in [*trace.changes(case.term), end] if case.rows[0][0] <= t <= end}):
        found = at(steps, t)[1]
        assert found in (trace.verdict(case.term, t)[0], Verdict.UNKNOWN)


@settings(max_examples=60)
@given(cases(size=40), st.data())
def test_overflow_does_not_depend_on_calls(case: Case, data: st.DataObject) -> None:
    """Also with rings that overflow, rows and digest are the same however the stream is cut."""
    spec = CheckSpec(
        "f", "formula", case.term.signals(), {"pointwise": float(case.pointwise), "rate": 1e-3}, formula=case.term
    )
    plan = Plan.build(case.signals(), [spec])
    items = case.items()
    whole, parts = Engine(plan), Engine(plan)
    cut = data.draw(st.integers(0, len(items)))
    rows = whole.advance(items)
    again = np.concatenate([parts.advance(items[:cut]), parts.advance(items[cut:])])
    assert again.tobytes() == rows.tobytes() and parts.digest() == whole.digest()
