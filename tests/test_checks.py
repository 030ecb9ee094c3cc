"""Every kind of check: its definition, its edges, its deadlines, and what it says when it can't know."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import checks as oracle
from oracles.compare import assert_rows
from oracles.engine import EngineOracle
from strategies import FENCE, KINDS, MS, S, cases, check, command, engine, items, message, streams, told

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.checks import registry
from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import (
    ITEM_MISSION_END,
    ITEM_SOURCE_STATUS,
    Cause,
    TransitionKind,
    Verdict,
)
from edge_monitor.core.signals import Signal

P, U, F = Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL
INF, NAN = math.inf, math.nan


def over(
    spec: CheckSpec, *samples: tuple, end: int | None = None, max_age: int | None = None
) -> list[tuple[int, Verdict]]:
    """What one check says over samples ``(t, signal, value[, cause])``, with the stream ended at ``end``."""
    machine = engine(spec, max_age=max_age)
    rows = machine.advance(items(*samples))
    return told(rows if end is None else np.concatenate([rows, machine.finish(end)]))


def after(spec: CheckSpec, *samples: tuple, now: int | None = None, max_age: int | None = None) -> np.void:
    """State of one check after samples, once time has passed to ``now``."""
    machine = engine(spec, max_age=max_age)
    machine.advance(items(*samples), until=now)
    state: np.void = machine.checks[0]
    return state


TOP = check("bounds", {"max": 2.0})


def test_every_kind_has_an_oracle_and_a_strategy() -> None:
    """The kinds drawn by the strategies are those of the oracle, and the registry has them all."""
    assert set(KINDS) == set(oracle.KINDS)
    assert set(KINDS) <= set(registry.KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_equals_its_oracle(kind: str) -> None:
    """Over random streams with gaps, disorder, jumps and odd values each kind alone gives the oracle's transitions."""

    @settings(max_examples=25)
    @given(st.data())
    def equals(data: st.DataObject) -> None:
        case = data.draw(cases((kind,)))
        stream = data.draw(streams(case, size=60))
        end = int(stream["t"].max()) + 3 * S
        reference = EngineOracle(case.signals, case.checks, case.mode, case.active)
        expected = reference.advance(stream) + reference.finish(end)
        machine = Engine(case.plan())
        rows = np.concatenate([machine.advance(stream), machine.finish(end)])
        assert_rows(rows, expected, 2e-6 if kind == "geofence" else 1e-9)

    equals()


# Unknown is not safe


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_said_of_what_was_never_received(kind: str) -> None:
    """Before the first message every kind is UNKNOWN(never received), which is the start and no transition."""
    machine = engine(SPECS[kind])
    assert len(machine.advance(until=100 * S)) == 0
    state = machine.checks[0]
    assert (state["verdict"], state["cause"]) == (U, Cause.NEVER_RECEIVED)


SPECS = {
    "bounds": TOP,
    "latency": check("latency", {"max": 2.0}),
    "rate": check("rate", {"max": 2.0}),
    "one_of": check("one_of", {}, table=(1.0, 2.0)),
    "equals": check("equals", {}, table=(1.0,)),
    "valid": check("valid", {"covariance_max": 2.0}, "ab"),
    "stale": check("stale", {"max": 1 * S}),
    "frequency": check("frequency", {"min": 2.0, "window": 1 * S}),
    "jitter": check("jitter", {"period": 1 * S, "max": 100 * MS, "window": 5 * S}),
    "agreement": check("agreement", {"max": 2.0}, "ab"),
    "geofence": check("geofence", {"max_altitude": 9.0}, "abc", table=(-9.0, -9.0, -9.0, 9.0, 9.0, 9.0, 9.0, -9.0)),
}
OF_VALUES = ("bounds", "latency", "rate", "one_of", "equals", "agreement", "geofence")
#: What makes every one of ``OF_VALUES`` pass, twice, so that a rate is known.
GOOD = [(t, signal, 1.0) for t in (0, 1) for signal in range(3)]


@pytest.mark.parametrize("kind", OF_VALUES)
@pytest.mark.parametrize("cause", [Cause.NAN, Cause.INVALID, Cause.CLOCK, Cause.STALE, Cause.NO_PUBLISHER])
def test_a_value_that_is_lost_is_unknown_with_its_cause(kind: str, cause: Cause) -> None:
    """NaN, an invalid field, a stale value and a missing publisher each turn PASS into UNKNOWN, with that cause."""
    machine = engine(SPECS[kind], max_age=2 * S)
    assert told(machine.advance(items(*GOOD)))[-1][1] == P
    t = 1 * S
    if cause == Cause.STALE:
        t = 2 * S + 1
        rows = machine.advance(until=10 * S)
    elif cause == Cause.NO_PUBLISHER:
        rows = machine.advance(command(t, ITEM_SOURCE_STATUS, 0, cause))
    else:
        rows = machine.advance(
            items((t, 0, NAN if cause == Cause.NAN else 1.0, *([] if cause == Cause.NAN else [cause])))
        )
    mine = rows[rows["kind"] == TransitionKind.CHECK]
    assert [(r["t_effective"], r["verdict"], r["cause"]) for r in mine] == [(t, U, cause)]


@pytest.mark.parametrize("kind", ["bounds", "latency", "rate", "one_of", "equals", "valid", "agreement", "geofence"])
@pytest.mark.parametrize("value", [INF, -INF])
def test_an_infinite_value_violates(kind: str, value: float) -> None:
    """±inf is a value and fails every kind that looks at values, on the side without a limit too, and twice running."""
    machine = engine(SPECS[kind])
    machine.advance(items(*GOOD))
    assert told(machine.advance(items((1 * S, 0, value)))) == [(1 * S, F)]
    assert told(machine.advance(items((2 * S, 0, value)))) == []


def test_infinite_coordinates_are_outside_no_forbidden_zone() -> None:
    """A keep-out fence fails on an infinite coordinate or altitude: that position is no proof of being elsewhere."""
    spec = check("geofence", {"keep_out": 1.0, "max_altitude": 1.0}, "abc", table=FENCE)
    for place in ({0: INF, 1: 9.0, 2: 9.0}, {0: 9.0, 1: -INF, 2: 9.0}, {0: 9.0, 1: 9.0, 2: INF}):
        assert told(engine(spec).advance(message(0, place))) == [(0, F)]


def test_a_source_that_is_there_again_is_known_once_it_speaks() -> None:
    """A publisher that returns brings no value back: UNKNOWN until its next message; its input is told lost once."""
    machine = engine(TOP)
    machine.advance(items((0, 0, 1.0)))
    rows = machine.advance(np.concatenate([command(k * S, ITEM_SOURCE_STATUS, 0, Cause.QOS) for k in (1, 2, 3)]))
    assert [(r["kind"], r["t_effective"]) for r in rows] == [
        (TransitionKind.INPUT, 1 * S),
        (TransitionKind.CHECK, 1 * S),
    ]
    assert len(machine.advance(command(4 * S, ITEM_SOURCE_STATUS, 0))) == 0
    assert machine.checks["cause"][0] == Cause.STALE
    rows = machine.advance(items((5 * S, 0, 1.0)))
    assert [(r["kind"], r["verdict"]) for r in rows] == [(TransitionKind.INPUT, P), (TransitionKind.CHECK, P)]


def test_a_source_said_to_be_there_leaves_a_known_value_alone() -> None:
    """A status without a cause is no news of a healthy signal: its value counts on and still expires at its age."""
    machine = engine(TOP, max_age=2 * S)
    machine.advance(items((0, 0, 1.0)))
    assert len(machine.advance(command(1 * S, ITEM_SOURCE_STATUS, 0))) == 0
    assert told(machine.advance(until=5 * S)) == [(2 * S, U)]


def test_a_signal_never_received_with_a_status_names_it() -> None:
    """A topic without a publisher is UNKNOWN(no_publisher), said once as a lost input."""
    machine = engine(TOP)
    rows = machine.advance(command(1 * S, ITEM_SOURCE_STATUS, 0, Cause.NO_PUBLISHER))
    assert [(r["kind"], r["cause"]) for r in rows] == [(TransitionKind.INPUT, Cause.NO_PUBLISHER)]
    assert machine.checks["cause"][0] == Cause.NO_PUBLISHER


# Hold and max_age


def test_a_value_counts_until_its_age_exactly() -> None:
    """The last sample holds to ``t + max_age``; a sample at that very time keeps the check known."""
    assert over(TOP, (0, 0, 1.0), (1 * S, 0, 1.0), (3 * S, 0, 1.0), max_age=1 * S) == [(0, P), (2 * S, U), (3 * S, P)]
    machine = engine(TOP, max_age=1 * S)
    machine.advance(items((0, 0, 1.0)))
    assert len(machine.advance(until=1 * S)) == 0
    assert told(machine.advance(until=1 * S + 1)) == [(1 * S, U)]


def test_a_nan_is_no_reason_to_go_stale_later() -> None:
    """NaN says that the source lives: unknown(nan) at once, stale when it stops too, told as one unknown."""
    assert over(TOP, (0, 0, 1.0), (500 * MS, 0, NAN), max_age=1 * S, end=9 * S) == [(0, P), (500 * MS, U)]
    assert after(TOP, (0, 0, 1.0), (500 * MS, 0, NAN), now=1 * S, max_age=1 * S)["cause"] == Cause.NAN
    assert after(TOP, (0, 0, 1.0), (500 * MS, 0, NAN), now=9 * S, max_age=1 * S)["cause"] == Cause.STALE


@pytest.mark.parametrize("revealed_by", ["until", "finish", "another signal", "a command", "a time mark in a batch"])
def test_deadlines_take_effect_at_their_time_whatever_reveals_them(revealed_by: str) -> None:
    """Age, dwell, silence, rate and jitter end at their own times, however much later the engine hears of it."""
    specs = (
        TOP,
        check("bounds", {"max": 0.5}, fail_for=300 * MS),
        check("stale", {"max": 700 * MS}),
        check("frequency", {"min": 2.0, "window": 2 * S}),
        check("jitter", {"period": 500 * MS, "max": 400 * MS, "window": 2 * S}),
    )
    machine = engine(*specs, max_age=1 * S)
    machine.advance(items(*[(k * 500 * MS, 0, 0.0) for k in range(5)], (2500 * MS, 0, 1.0)))
    t = 60 * S
    rows = {
        "until": lambda: machine.advance(until=t),
        "finish": lambda: machine.finish(t),
        "another signal": lambda: machine.advance(items((t, 1, 0.0))),
        "a command": lambda: machine.advance(command(t, ITEM_MISSION_END)),
        "a time mark in a batch": lambda: machine.advance(items((t, 1, 0.0), (t + S, 1, 0.0))),
    }[revealed_by]()
    rows = rows[rows["kind"] == TransitionKind.CHECK]
    assert [(int(r["t_effective"]), int(r["subject"]), Verdict(r["verdict"])) for r in rows] == [
        (2800 * MS, 1, F),  # 300 ms above 0.5
        (3000 * MS, 3, F),  # of four messages in 2 s the first leaves
        (3200 * MS, 2, F),  # 700 ms of silence
        (3400 * MS, 4, F),  # 400 ms late
        (3500 * MS, 0, U),  # the value is a second old
        (3500 * MS, 1, U),
    ]  # fmt: skip
    assert set(rows["t_decided"]) == {t}


# Edges, hysteresis, debounce


def test_the_limit_itself_passes() -> None:
    """``v <= max`` and ``v >= min`` pass at equality; the next float beyond does not."""
    band = check("bounds", {"max": 2.0, "min": -1.0})
    assert over(band, (0, 0, 2.0), (1, 0, -1.0)) == [(0, P)]
    assert over(band, (0, 0, math.nextafter(2.0, 3.0))) == [(0, F)]
    assert over(band, (0, 0, math.nextafter(-1.0, -2.0))) == [(0, F)]


def test_after_a_failure_the_leave_limit_counts() -> None:
    """With ``leave`` a value between the two limits keeps whatever was before it; at ``leave`` itself it recovers."""
    spec = check("bounds", {"max": 2.0, "leave_max": 1.0, "min": -2.0, "leave_min": -1.0})
    samples = [(k, 0, v) for k, v in enumerate((1.5, 2.5, 1.5, 1.0, 1.5, -2.5, -1.5, -1.0))]
    assert over(spec, *samples) == [(0, P), (1, F), (3, P), (5, F), (7, P)]


def test_a_transition_carries_margin_value_and_limit_in_force() -> None:
    """The row of a failure has the value, the limit it broke and by how much; that of a recovery the leave limit."""
    machine = engine(check("bounds", {"max": 2.0, "leave_max": 1.0}))
    rows = machine.advance(items((0, 0, 2.5), (1, 0, 0.25)))
    assert [(r["margin"], r["value"], r["limit"]) for r in rows] == [(-0.5, 2.5, 2.0), (0.75, 0.25, 1.0)]
    assert (machine.checks["worst"][0], machine.checks["worst_t"][0]) == (-0.5, 0)


def test_the_worst_margin_is_measured_from_the_limit() -> None:
    """While a failure lasts the leave limit decides, and the worst margin tells how far beyond the limit it was."""
    spec = check("bounds", {"max": 12.0, "leave_max": 11.0, "min": -12.0, "leave_min": -11.0})
    state = after(spec, (0, 0, 12.5), (1, 0, 12.25), (2, 0, 11.5))
    assert (state["worst"], state["worst_t"]) == (-0.5, 0)
    assert after(spec, (0, 0, -12.5), (1, 0, -13.0))["worst"] == -1.0


def test_a_failure_must_last_and_takes_effect_inclusively() -> None:
    """FAIL comes at ``since + fail_for``, by an item at that time or by time alone; a shorter one leaves no trace."""
    spec = check("bounds", {"max": 2.0}, fail_for=1 * S)
    ok, bad = 0.0, 9.0
    assert over(spec, (0, 0, ok), (5 * S, 0, bad), (6 * S - 1, 0, bad)) == [(0, P)]
    assert over(spec, (0, 0, ok), (5 * S, 0, bad), (6 * S, 0, bad)) == [(0, P), (6 * S, F)]
    assert over(spec, (0, 0, ok), (5 * S, 0, bad), (6 * S, 0, ok)) == [(0, P)]
    assert over(spec, (0, 0, ok), (5 * S, 0, bad), end=6 * S) == [(0, P), (6 * S, F)]
    assert over(spec, (0, 0, ok), (5 * S, 0, bad), (9 * S, 0, ok)) == [(0, P), (6 * S, F), (9 * S, P)]


def test_a_recovery_must_last_and_takes_effect_inclusively() -> None:
    """PASS comes at ``since + pass_for``; a relapse starts it anew. The first PASS of all needs no wait."""
    spec = check("bounds", {"max": 2.0}, pass_for=1 * S)
    ok, bad = 0.0, 9.0
    assert over(spec, (0, 0, ok)) == [(0, P)]
    assert over(spec, (0, 0, bad), (5 * S, 0, ok), end=6 * S - 1) == [(0, F)]
    assert over(spec, (0, 0, bad), (5 * S, 0, ok), end=6 * S) == [(0, F), (6 * S, P)]
    relapse = [(0, 0, bad), (5 * S, 0, ok), (6 * S, 0, bad), (6 * S + 1, 0, ok)]
    assert over(spec, *relapse, end=20 * S) == [(0, F), (7 * S + 1, P)]


def test_a_first_failure_that_must_last_is_unknown_meanwhile() -> None:
    """A check that has never passed does not pass while its first failure is pending: UNKNOWN(warming)."""
    spec = check("bounds", {"max": 2.0}, fail_for=1 * S)
    assert over(spec, (0, 0, 9.0), end=5 * S) == [(1 * S, F)]
    assert after(spec, (0, 0, 9.0))["cause"] == Cause.WARMING


def test_a_gap_does_not_reset_a_pending_failure() -> None:
    """The time of a pending failure runs on through a gap: bad, unknown, bad is one failure since the first."""
    spec = check("bounds", {"max": 2.0}, fail_for=1 * S)
    gap = [(0, 0, 0.0), (1 * S, 0, 9.0), (1 * S + 500 * MS, 0, NAN)]
    assert over(spec, *gap, (1 * S + 900 * MS, 0, 9.0), end=9 * S) == [(0, P), (1 * S + 500 * MS, U), (2 * S, F)]
    assert over(spec, *gap, (4 * S, 0, 9.0)) == [(0, P), (1 * S + 500 * MS, U), (4 * S, F)]
    # what is not known can't be called a failure meanwhile, and a good value ends it
    assert over(spec, *gap, end=9 * S) == [(0, P), (1 * S + 500 * MS, U)]
    recovered = over(spec, *gap, (3 * S, 0, 0.0), (4 * S, 0, 9.0), (4500 * MS, 0, 0.0))
    assert recovered == [(0, P), (1 * S + 500 * MS, U), (3 * S, P)]


def test_a_gap_earns_no_pass() -> None:
    """The time of a pending recovery starts again after a gap, and the leave limit still counts after it."""
    spec = check("bounds", {"max": 2.0, "leave_max": 1.0}, pass_for=1 * S)
    rows = [(0, 0, 9.0), (1 * S, 0, 0.0), (1 * S + 500 * MS, 0, NAN), (1 * S + 600 * MS, 0, 0.0)]
    assert over(spec, *rows, end=9 * S) == [(0, F), (1500 * MS, U), (1600 * MS, F), (2600 * MS, P)]
    assert over(TOP_LEAVE, (0, 0, 9.0), (1, 0, NAN), (2, 0, 1.5)) == [(0, F), (1, U), (2, F)]


TOP_LEAVE = check("bounds", {"max": 2.0, "leave_max": 1.0})


def test_a_good_value_ends_unknown_at_once() -> None:
    """A check that had passed passes again with the first good value after a gap, whatever its waits."""
    spec = check("bounds", {"max": 2.0}, pass_for=5 * S, fail_for=5 * S)
    assert over(spec, (0, 0, 0.0), (1, 0, NAN), (2, 0, 0.0)) == [(0, P), (1, U), (2, P)]


# Kinds of values


def test_rate_is_the_slope_between_consecutive_samples() -> None:
    """The rate of change is in units a second; the first sample and the first after a gap are UNKNOWN(warming)."""
    spec = check("rate", {"max": 5.0, "min": -3.0})
    samples = [(0, 0, 0.0), (2 * S, 0, 10.0), (3 * S, 0, 16.0), (4 * S, 0, 13.0), (5 * S, 0, 9.0)]
    assert over(spec, *samples) == [(2 * S, P), (3 * S, F), (4 * S, P), (5 * S, F)]
    assert after(spec, *samples)["value"] == -4.0
    gap = [(0, 0, 0.0), (1 * S, 0, 1.0), (2 * S, 0, NAN), (3 * S, 0, 99.0), (4 * S, 0, 100.0)]
    assert over(spec, *gap) == [(1 * S, P), (2 * S, U), (4 * S, P)]


def test_of_samples_with_one_stamp_the_last_counts_for_the_rate() -> None:
    """A step that hides behind a second sample of the same stamp is seen; equal stamps alone never divide by zero."""
    spec = check("rate", {"max": 15.0})
    assert over(spec, (0, 0, 0.0), (1 * S, 0, 10.0), (1 * S, 0, 20.0)) == [(1 * S, P), (1 * S, F)]
    assert over(spec, (1 * S, 0, 0.0), (1 * S, 0, 1e9)) == []


def test_states_are_compared_exactly() -> None:
    """``one_of`` passes for the listed numbers only, ``equals`` for its one; there is no margin between states."""
    spec = check("one_of", {}, table=(1.0, 4.0))
    assert over(spec, (0, 0, 1.0), (1, 0, 4.0), (2, 0, 2.0), (3, 0, 1.0 + 1e-12)) == [(0, P), (2, F)]
    assert math.isnan(after(spec, (0, 0, 2.0))["margin"])
    assert over(check("equals", {}, table=(0.0,)), (0, 0, -0.0), (1, 0, 1.0)) == [(0, P), (1, F)]


def test_texts_are_compared_by_their_numbers() -> None:
    """A list of texts becomes numbers of the text table at compilation, and can't be compiled without a table."""
    spec = CheckSpec("mode", "one_of", ("a",), texts=("AUTO", "MANUAL"))
    codes = {"MANUAL": 3, "AUTO": 7}
    machine = Engine(Plan.build([Signal("a", "/t")], [spec], text_code=codes.__getitem__))
    assert told(machine.advance(items((0, 0, 7.0), (1, 0, 3.0), (2, 0, 0.0)))) == [(0, P), (2, F)]
    with pytest.raises(ValueError, match="no text table"):
        Plan.build([Signal("a", "/t")], [spec])


def test_valid_fails_on_what_others_call_unknown() -> None:
    """NaN and invalid fields are what ``valid`` looks for, hence FAIL with that cause; silence stays unknown."""
    spec = check("valid", {})
    assert over(spec, (0, 0, 5.0), (1, 0, NAN), (2, 0, 5.0), (3, 0, 5.0, Cause.INVALID)) == [
        (0, P),
        (1, F),
        (2, P),
        (3, F),
    ]
    assert over(spec, (0, 0, 5.0), max_age=1 * S, end=9 * S) == [(0, P), (1 * S, U)]
    (row,) = engine(spec).advance(items((0, 0, NAN)))
    assert row["cause"] == Cause.NAN


@pytest.mark.parametrize(("covariance", "verdict"), [
    (1.0, P), (2.0, P), (2.1, F), (0.0, F), (-1.0, F), (NAN, F), (INF, F),
])  # fmt: skip
def test_a_covariance_must_be_known_and_small(covariance: float, verdict: Verdict) -> None:
    """-1 (no estimate), 0 (unknown), NaN and infinity are no covariance; at most ``covariance_max`` passes."""
    spec = check("valid", {"covariance_max": 2.0}, "ab")
    assert told(engine(spec).advance(message(0, {0: 1.0, 1: covariance}))) == [(0, verdict)]


def test_an_infinite_covariance_is_no_covariance_without_a_limit_too() -> None:
    """A named covariance without a limit must still be finite and positive."""
    spec = check("valid", {}, "ab")
    assert told(engine(spec).advance(message(0, {0: 1.0, 1: INF}))) == [(0, F)]
    assert told(engine(spec).advance(message(0, {0: 1.0, 1: 1e12}))) == [(0, P)]


def test_agreement_needs_both_values() -> None:
    """Two values agree up to ``max``, part at more, and meet again at ``leave``; one alone says nothing."""
    spec = check("agreement", {"max": 2.0, "leave": 1.0}, "ab")
    samples = [(0, 0, 5.0), (1, 1, 7.0), (2, 1, 7.5), (3, 1, 6.5), (4, 1, 6.0), (5, 1, 3.0), (6, 1, 2.9)]
    assert over(spec, *samples) == [(1, P), (2, F), (4, P), (6, F)]


@pytest.mark.parametrize(("a", "b", "distance"), [
    (359.0, 1.0, 2.0), (1.0, 359.0, 2.0), (-179.0, 179.0, 2.0), (0.0, 180.0, 180.0), (10.0, 370.0, 0.0),
    (0.0, 3600.0 + 7.0, 7.0), (-720.0, 355.0, 5.0), (90.0, 100.0, 10.0),
])  # fmt: skip
def test_angles_wrap(a: float, b: float, distance: float) -> None:
    """On a circle the shorter way round counts, over any number of turns."""
    spec = check("agreement", {"max": 360.0, "wrap": 360.0}, "ab")
    assert after(spec, (0, 0, a), (1, 1, b))["value"] == pytest.approx(distance, abs=1e-9)


def test_huge_differences_on_a_circle_are_finite_or_fail() -> None:
    """A difference beyond any integer wraps without error, one that overflows fails; neither raises."""
    spec = check("agreement", {"max": 1.0, "wrap": 360.0}, "ab")
    state = after(spec, (0, 0, 1e300), (1, 1, 0.0))
    assert state["value"] == min(math.fmod(1e300, 360.0), 360.0 - math.fmod(1e300, 360.0))
    assert over(spec, (0, 0, 1.7e308), (1, 1, -1.7e308)) == [(1, F)]


# Kinds of time


def test_stale_counts_silence_from_the_last_message() -> None:
    """FAIL exactly when no message came for longer than ``max``; one at the deadline is in time; NaN is a message."""
    spec = check("stale", {"max": 1 * S})
    assert over(spec, (0, 0, 0.0), (1 * S, 0, NAN), (2 * S, 0, 0.0), end=3 * S) == [(0, P), (3 * S, F)]
    assert over(spec, (0, 0, 0.0), (1 * S + 1, 0, 0.0)) == [(0, P), (1 * S, F), (1 * S + 1, P)]
    assert after(spec, (0, 0, 0.0), (4 * S, 0, 0.0))["worst"] == -3.0


def test_stale_outlives_the_age_of_the_value() -> None:
    """A signal whose value no longer counts was still received: silence is a FAIL, not an unknown."""
    assert over(check("stale", {"max": 2 * S}), (0, 0, 0.0), max_age=1 * S, end=9 * S) == [(0, P), (2 * S, F)]


def test_frequency_warms_until_a_window_has_passed() -> None:
    """Too few messages are known only once a whole window was seen, enough or too many at once."""
    few = check("frequency", {"min": 3.0, "window": 1 * S})
    assert over(few, (0, 0, 0.0), (500 * MS, 0, 0.0), end=1 * S - 1) == []
    assert after(few, (0, 0, 0.0))["cause"] == Cause.WARMING
    assert over(few, (0, 0, 0.0), (500 * MS, 0, 0.0), end=1 * S) == [(1 * S, F)]
    assert over(few, (0, 0, 0.0), (1, 0, 0.0), (2, 0, 0.0)) == [(2, P)]
    many = check("frequency", {"max": 2.0, "window": 1 * S})
    assert over(many, *[(k, 0, 0.0) for k in range(5)]) == [(0, P), (3, F)]


@pytest.mark.parametrize("hz", [1, 3, 10, 200])
def test_a_stream_at_exactly_the_limits_passes(hz: int) -> None:
    """A stream at exactly the smallest and largest rate passes for good, though a closed window shows one more."""
    spec = check("frequency", {"min": float(hz), "max": float(hz), "window": 2 * S})
    samples = [(k * S // hz, 0, 0.0) for k in range(6 * hz)]
    verdicts = over(spec, *samples)
    assert [verdict for _, verdict in verdicts] == [P]


def test_frequency_falls_and_recovers_with_its_window() -> None:
    """A sensor that stops fails when the window holds too few, and its worst margin reaches the whole limit."""
    spec = check("frequency", {"min": 3.0, "window": 1 * S})
    beat = [(k * 250 * MS, 0, 0.0) for k in range(9)]
    assert over(spec, *beat, end=20 * S) == [(500 * MS, P), (2500 * MS, F)]
    assert after(spec, *beat, now=20 * S)["worst"] == -3.0
    again = [(10 * S + k * 250 * MS, 0, 0.0) for k in range(4)]
    assert over(spec, *beat, *again) == [(500 * MS, P), (2500 * MS, F), (10_500 * MS, P)]
    burst = check("frequency", {"max": 2.0, "window": 1 * S})
    samples = [(k * 100 * MS, 0, 0.0) for k in range(5)]
    # 0..400 ms: five in a window that bears three; the second leaves just after 1.1 s
    assert over(burst, *samples, end=9 * S) == [(0, P), (300 * MS, F), (1100 * MS, P)]


def test_a_window_too_long_for_its_ring_is_refused() -> None:
    """Memory is bounded: a rate and window that would need more than a million stamps don't compile, and say so."""
    with pytest.raises(ValueError, match="shorten `window`"):
        engine(check("frequency", {"min": 1e6, "window": 60 * S}))


def test_jitter_is_unknown_before_its_first_interval() -> None:
    """One message has no interval: UNKNOWN(warming), never a pass."""
    spec = check("jitter", {"period": 100 * MS, "max": 20 * MS, "window": 1 * S})
    assert over(spec, (0, 0, 0.0)) == []
    assert after(spec, (0, 0, 0.0))["cause"] == Cause.WARMING
    assert over(spec, (0, 0, 0.0), (110 * MS, 0, 0.0)) == [(110 * MS, P)]


def test_jitter_remembers_a_bad_interval_for_its_window() -> None:
    """A deviation beyond ``max`` fails when the interval ends, or as soon as it is too long, while in the window."""
    spec = check("jitter", {"period": 100 * MS, "max": 20 * MS, "window": 1 * S})
    early = [(0, 0, 0.0), (100 * MS, 0, 0.0), (179 * MS, 0, 0.0), *[((279 + 100 * k) * MS, 0, 0.0) for k in range(20)]]
    assert over(spec, *early) == [(100 * MS, P), (179 * MS, F), (1179 * MS, P)]
    assert over(spec, (0, 0, 0.0), (100 * MS, 0, 0.0), end=5 * S) == [(100 * MS, P), (220 * MS, F)]
    assert over(spec, (0, 0, 0.0), (100 * MS, 0, 0.0), (220 * MS, 0, 0.0)) == [(100 * MS, P)]


def test_a_jitter_queue_that_overflows_is_unknown() -> None:
    """More falling deviations than the queue holds are UNKNOWN(overflow) until the lost one has left the window."""
    spec = check("jitter", {"period": 1 * S, "max": 999 * MS, "window": 1 * S})
    t, samples = 0, [(0, 0, 0.0)]
    for k in range(14):  # intervals of 20, 21, … ms: each deviates less than the one before
        t += (20 + k) * MS
        samples.append((t, 0, 0.0))
    rows = over(spec, *samples, end=t + 1 * S)
    assert [verdict for _, verdict in rows] == [P, U, P]
    assert rows[-1][0] == t + 1 * S
