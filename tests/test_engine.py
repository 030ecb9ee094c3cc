"""The engine against a plain-Python reference, and against itself: cut, shifted, stopped and continued."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.compare import assert_rows, close
from oracles.engine import EngineOracle
from strategies import MS, Case, S, cases, command, cuts, items, message, streams

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import (
    FLAG_END,
    FLAG_INSTANT_END,
    ITEM_MISSION_END,
    ITEM_RESET_LATCH,
    ITEM_SHIFT,
    ITEM_SOURCE_STATUS,
    ITEM_UNTIL,
    SAMPLE,
    TRANSITION,
    Cause,
    Latch,
    TransitionKind,
    Verdict,
)
from edge_monitor.core.signals import Signal

CHECK, INPUT, CLOCK, LATCH = TransitionKind.CHECK, TransitionKind.INPUT, TransitionKind.CLOCK, TransitionKind.LATCH
P, U, F = Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL


def run(case: Case, stream: np.ndarray, end: int) -> tuple[Engine, np.ndarray]:
    """Everything in one call, finished at ``end``."""
    engine = Engine(case.plan())
    rows = engine.advance(stream)
    return engine, np.concatenate([rows, engine.finish(end)])


def ends(data: st.DataObject, stream: np.ndarray) -> int:
    """A time at or after the stream's last."""
    return int(stream["t"].max()) + data.draw(st.sampled_from((0, 100 * MS, 400 * MS, 3 * S)))


def checks_of(rows: np.ndarray, kind: TransitionKind = CHECK) -> list[tuple[int, int, int]]:
    """(effective, subject, verdict) of the rows of a kind."""
    chosen = rows[rows["kind"] == kind]
    return [(int(r["t_effective"]), int(r["subject"]), int(r["verdict"])) for r in chosen]


def engine_of(signals: dict[str, int | None], *checks: CheckSpec, watch: str = "") -> Engine:
    """An engine over signals given by name and maximum age."""
    rows = [Signal(name, "/t", max_age=age, watch=watch) for name, age in signals.items()]
    return Engine(Plan.build(rows, checks))


def most(name: str, signal: str, high: float, **more: object) -> CheckSpec:
    """``signal <= high``."""
    return CheckSpec(name, "bounds", (signal,), {"max": high}, **more)  # type: ignore[arg-type]


@settings(max_examples=300)
@given(st.data())
def test_equals_the_oracle(data: st.DataObject) -> None:
    """Random checks of every kind over random streams give exactly the transitions of the plain-Python engine."""
    case = data.draw(cases())
    stream = data.draw(streams(case))
    end = ends(data, stream)
    oracle = EngineOracle(case.signals, case.checks, case.mode, case.active)
    expected = oracle.advance(stream) + oracle.finish(end)
    engine, rows = run(case, stream, end)
    # Metres a degree come from two formulas that agree to 0.1 m in 111 km.
    fence = any(check.kind == "geofence" for check in case.checks)
    assert_rows(rows, expected, 2e-6 if fence else 1e-9)
    head = engine.head
    assert (head["dropped"], head["jumps"]) == (oracle.dropped, oracle.jumps)


@settings(max_examples=150)
@given(st.data())
def test_accounts_equal_the_oracles(data: st.DataObject) -> None:
    """Time in FAIL and in UNKNOWN, number of failures and the worst margin are what the verdicts' history says."""
    case = data.draw(cases(("bounds", "rate", "agreement", "valid", "stale", "one_of")))
    stream = data.draw(streams(case))
    oracle = EngineOracle(case.signals, case.checks, case.mode, case.active)
    rows = oracle.advance(stream)
    engine = Engine(case.plan())
    engine.advance(stream)
    for i, (state, check) in enumerate(zip(engine.checks, oracle.checks, strict=True)):
        assert (state["fail_ns"], state["unknown_ns"]) == (check.booked[F], check.booked[U])
        assert state["fails"] == sum(r.kind == CHECK and r.subject == i and r.verdict == F for r in rows)
        if check.spec.kind != "stale":  # that one also counts the gap that a message ends
            worst = min((margin for margin, _ in check.margins), default=np.inf)
            assert close(float(state["worst"]), worst)
            if np.isfinite(worst):
                assert state["worst_t"] == next(t for margin, t in check.margins if close(margin, worst))


@settings(max_examples=150)
@given(st.data())
def test_batches_do_not_matter(data: st.DataObject) -> None:
    """However a stream is cut into calls, inside messages too, transitions and digest are the same bit for bit."""
    case = data.draw(cases())
    stream = data.draw(streams(case))
    end = ends(data, stream)
    whole, rows = run(case, stream, end)
    engine = Engine(case.plan())
    parts = [engine.advance(stream[a:b]) for a, b in pairwise(data.draw(cuts(len(stream))))]
    parts.append(engine.finish(end))
    assert np.concatenate(parts).tobytes() == rows.tobytes()
    assert engine.digest() == whole.digest()


@settings(max_examples=150)
@given(st.data())
def test_time_marks_do_not_matter(data: st.DataObject) -> None:
    """``until`` at any time that it may promise changes when a deadline is revealed, and nothing else."""
    case = data.draw(cases())
    stream = data.draw(streams(case))
    end = ends(data, stream)
    whole, rows = run(case, stream, end)
    # A mark before the first item starts the clock, and with it the time that is booked as unknown: none here.
    promise = np.minimum.accumulate(stream["t"][::-1])[::-1]  # the earliest time that still comes
    engine = Engine(case.plan())
    parts = []
    for a, b in pairwise(data.draw(cuts(len(stream)))):
        back = data.draw(st.sampled_from((0, 0, 1, 20 * MS, 100 * MS)))
        parts.append(engine.advance(stream[a:b], int(promise[b]) - back if 0 < b < len(stream) else None))
    parts.append(engine.finish(end))
    found = np.concatenate(parts)
    assert (found["t_decided"] <= rows["t_decided"]).all()  # a mark can only reveal earlier
    found["t_decided"] = rows["t_decided"]
    assert found.tobytes() == rows.tobytes()
    assert engine.digest() == whole.digest()


@settings(max_examples=60)
@given(st.data())
def test_a_time_mark_in_the_stream_is_the_same_as_the_argument(data: st.DataObject) -> None:
    """An ``until`` item and the ``until`` argument of a call do the same, and a mark in the past does nothing."""
    case = data.draw(cases())
    stream = data.draw(streams(case, backward=False))
    t = int(stream["t"].max()) + data.draw(st.sampled_from((0, 50 * MS, 1 * S)))
    marks = np.concatenate([command(t, ITEM_UNTIL), command(t - 5 * S, ITEM_UNTIL)])
    a, b = Engine(case.plan()), Engine(case.plan())
    assert a.advance(stream, t).tobytes() == b.advance(np.concatenate([stream, marks])).tobytes()
    assert a.advance(until=t - 5 * S).tobytes() == b""
    assert a.digest() == b.digest()


@settings(max_examples=100)
@given(st.data())
def test_a_restored_snapshot_goes_on_as_if_nothing_had_happened(data: st.DataObject) -> None:
    """Snapshot anywhere, restore into a new engine, go on: transitions and digest equal the uninterrupted run's."""
    case = data.draw(cases())
    stream = data.draw(streams(case))
    end = ends(data, stream)
    whole, rows = run(case, stream, end)
    cut = data.draw(st.integers(0, len(stream)))
    first = Engine(case.plan())
    parts = [first.advance(stream[:cut])]
    second = Engine(case.plan())
    second.advance(stream)  # whatever it held before is gone
    second.restore(first.snapshot())
    assert second.digest() == first.digest()
    parts += [second.advance(stream[cut:]), second.finish(end)]
    assert np.concatenate(parts).tobytes() == rows.tobytes()
    assert second.digest() == whole.digest()


def test_a_snapshot_of_another_size_is_refused() -> None:
    """A snapshot of a plan with more checks raises, and leaves the engine as it was."""
    small, large = (
        engine_of({"a": None}, most("m", "a", 1)),
        engine_of({"a": None}, most("m", "a", 1), most("n", "a", 2)),
    )
    before = small.digest()
    with pytest.raises(ValueError, match="another plan"):
        small.restore(large.snapshot())
    assert small.digest() == before


@settings(max_examples=80)
@given(st.data(), st.sampled_from((-9 * S, 1, 12_345_678_901, 1_700_000_000 * S)))
def test_shifted_streams_give_shifted_transitions(data: st.DataObject, shift: int) -> None:
    """Only differences of time count: the same stream at another time gives the same transitions at that time."""
    case = data.draw(cases())
    stream = data.draw(streams(case))
    end = ends(data, stream)
    _, rows = run(case, stream, end)
    later = stream.copy()
    later["t"] += shift
    _, shifted = run(case, later, end + shift)
    rows["t_effective"] += shift
    rows["t_decided"] += shift
    assert shifted.tobytes() == rows.tobytes()


@settings(max_examples=80)
@given(st.data())
def test_transitions_are_in_order_of_time(data: st.DataObject) -> None:
    """No transition is decided before it takes effect, none is out of order but at a clock jump."""
    case = data.draw(cases())
    stream = data.draw(streams(case))
    _, rows = run(case, stream, ends(data, stream))
    assert (rows["t_effective"] <= rows["t_decided"]).all()
    late = np.flatnonzero(np.diff(rows["t_effective"]) < 0) + 1
    assert (rows["kind"][late] == CLOCK).all()
    if len(rows):
        assert rows["flags"][-1] & FLAG_INSTANT_END
    same = (rows["flags"][:-1] & FLAG_INSTANT_END) == 0
    assert (np.diff(rows["t_effective"])[same] == 0).all()
    assert (rows["verdict"] != rows["previous"])[rows["kind"] == CHECK].all()


@settings(max_examples=60)
@given(st.data())
def test_a_tiny_output_buffer_loses_nothing(data: st.DataObject) -> None:
    """Rows that don't fit the buffer come in several turns of the kernel: the caller sees the same rows."""
    case = data.draw(cases())
    stream = data.draw(streams(case))
    end = ends(data, stream)
    whole, rows = run(case, stream, end)
    engine = Engine(case.plan())
    room = 2 * len(case.signals) + 3 * len(case.checks) + 4
    engine._out = np.zeros(2 * room, TRANSITION)
    assert np.concatenate([engine.advance(stream), engine.finish(end)]).tobytes() == rows.tobytes()
    assert engine.digest() == whole.digest()


def test_many_checks_that_change_at_once_are_all_told() -> None:
    """200 latching checks that flip with every message write more rows than any buffer holds, all in order of index."""
    checks = [most(f"c{i}", "a", 0.5, latch=Latch.MANUAL if i % 2 else Latch.WHEN_CLEARED) for i in range(200)]
    engine = engine_of({"a": 10 * MS}, *checks)
    stream = items(*[(k * S, 0, float(k % 2)) for k in range(40)])  # stale between any two
    rows = engine.advance(stream)
    assert len(rows) > len(engine._out)
    for instant in np.split(rows, np.flatnonzero(rows["flags"] & FLAG_INSTANT_END) + 1):
        subjects = instant[instant["kind"] == CHECK]["subject"]
        assert (np.diff(subjects) > 0).all()
    plain = [(t, subject, verdict) for t, subject, verdict in checks_of(rows) if subject % 2 == 0]
    per_check = [(t, verdict) for t, subject, verdict in plain if subject == 0]
    assert len(plain) == 100 * len(per_check)
    # 0 passes, goes stale after 10 ms, 1 fails a second later, …
    assert per_check[:4] == [(0, P), (10 * MS, U), (1 * S, F), (1 * S + 10 * MS, U)]
    assert len(checks_of(rows, LATCH)) == 100


def test_subjects_that_the_plan_does_not_have_raise() -> None:
    """An item that names a signal or check out of range raises IndexError, with its place."""
    for kind, subject in ((0, 2), (0, -1), (ITEM_RESET_LATCH, 1), (ITEM_RESET_LATCH, -1), (ITEM_SOURCE_STATUS, 2)):
        engine = engine_of({"a": None, "b": None}, most("m", "a", 1))
        stream = np.concatenate(
            [items((1, 0, 0.0)), np.array([(2, subject, kind << ITEM_SHIFT | FLAG_END, 0)], SAMPLE)]
        )
        with pytest.raises(IndexError, match=rf"item 1 names subject {subject}"):
            engine.advance(stream)


def test_fields_of_one_message_never_disagree() -> None:
    """Checks are evaluated at the message's end: two fields that move together never look apart."""
    apart = CheckSpec("apart", "agreement", ("a", "b"), {"max": 0.5})
    together = [message(k * S, {0: float(k), 1: float(k)} if k % 2 else {1: float(k), 0: float(k)}) for k in range(6)]
    rows = engine_of({"a": None, "b": None}, apart).advance(np.concatenate(together))
    assert checks_of(rows) == [(0, 0, P)]
    separate = np.concatenate(together)
    separate["flags"] |= FLAG_END  # the control: as messages of their own they disagree
    assert F in {v for _, _, v in checks_of(engine_of({"a": None, "b": None}, apart).advance(separate))}


def test_a_message_that_is_not_complete_decides_nothing() -> None:
    """The first fields of a message change no verdict until its last one has come, in whichever call that is."""
    engine = engine_of({"a": None, "b": None}, most("m", "a", 1))
    stream = message(1 * S, {0: 5.0, 1: 0.0})
    assert len(engine.advance(stream[:1], until=1 * S)) == 0
    assert checks_of(engine.advance(stream[1:])) == [(1 * S, 0, F)]


def test_of_a_signal_twice_in_one_message_the_last_counts() -> None:
    """A message that carries a signal twice is one arrival with the later value."""
    engine = engine_of({"a": None}, most("m", "a", 1))
    stream = items((1 * S, 0, 5.0), (1 * S, 0, 0.0))
    stream["flags"][0] = 0
    assert checks_of(engine.advance(stream)) == [(1 * S, 0, P)]


def test_equal_deadlines_fire_signals_first_then_by_index() -> None:
    """Deadlines at one time make one instant: lost signals by index, then checks by index, at that time."""
    engine = engine_of(
        {"a": 1 * S, "b": 1 * S},
        CheckSpec("late", "stale", ("b",), {"max": 1 * S}),
        most("m", "a", 1),
        CheckSpec("late too", "stale", ("a",), {"max": 1 * S}),
    )
    engine.advance(items((0, 1, 0.0), (0, 0, 0.0)))
    rows = engine.advance(until=5 * S)
    assert [(r["kind"], r["subject"], r["verdict"]) for r in rows] == [
        (INPUT, 0, U), (INPUT, 1, U), (CHECK, 0, F), (CHECK, 1, U), (CHECK, 2, F),
    ]  # fmt: skip
    assert set(rows["t_effective"]) == {1 * S}
    assert set(rows["t_decided"]) == {5 * S}
    assert [int(f & FLAG_INSTANT_END) for f in rows["flags"]] == [0, 0, 0, 0, FLAG_INSTANT_END]


def test_finish_fires_deadlines_at_its_own_time() -> None:
    """``until=t`` leaves a deadline at ``t`` to an item that may still come; ``finish(t)`` does not."""
    engine = engine_of({"a": 1 * S}, most("m", "a", 1))
    engine.advance(items((0, 0, 0.0)))
    assert len(engine.advance(until=1 * S)) == 0
    assert checks_of(engine.finish(1 * S)) == [(1 * S, 0, U)]


def test_late_items_are_dropped_and_counted() -> None:
    """Items up to one second late change nothing but the count, whole messages of them, and time does not go back."""
    engine = engine_of({"a": None, "b": None}, most("m", "a", 1), most("n", "b", 1))
    engine.advance(items((10 * S, 0, 0.0), (10 * S, 1, 0.0)))
    assert len(engine.advance(message(9 * S, {0: 7.0, 1: 7.0}))) == 0
    assert len(engine.advance(message(10 * S - 1, {1: 7.0}))) == 0
    assert (engine.head["dropped"], engine.head["jumps"], engine.head["now"]) == (3, 0, 10 * S)
    assert list(engine.signals["value"]) == [0.0, 0.0]
    assert checks_of(engine.advance(items((10 * S, 0, 7.0)))) == [(10 * S, 0, F)]


def test_a_larger_step_back_is_a_clock_jump() -> None:
    """More than a second back: signals never received, timers cleared, latches kept, and the new message counts."""
    specs = (
        most("plain", "a", 1),
        most("latched", "b", 1, latch=Latch.MANUAL),
        most("pending", "c", 1, fail_for=5 * S),
        CheckSpec("alive", "stale", ("c",), {"max": 2 * S}),
    )
    engine = engine_of({"a": 60 * S, "b": None, "c": None}, *specs)
    engine.advance(items((100 * S, 0, 0.0), (100 * S, 1, 9.0), (100 * S, 2, 0.0), (101 * S, 2, 9.0)))
    rows = engine.advance(items((100 * S - 1, 2, 9.0)))
    assert (rows[0]["kind"], rows[0]["t_effective"], rows[0]["value"]) == (CLOCK, 100 * S - 1, (-1 * S - 1) / 1e9)
    assert rows[0]["cause"] == Cause.CLOCK
    t = 100 * S - 1
    # `latched` stays FAIL; `pending` passed before and is unknown until the failure has lasted anew
    assert checks_of(rows) == [(t, 0, U), (t, 2, U), (t, 3, U), (t, 3, P)]
    assert [int(c) for c in engine.signals["count"]] == [0, 0, 1]
    assert engine.checks["latched"][1] == 1
    assert len(engine.advance(until=t + 1 * S)) == 0
    rows = engine.finish(t + 100 * S)  # the old deadline of `a` is gone, those of the new message count
    assert checks_of(rows) == [(t + 2 * S, 3, F), (t + 5 * S, 2, F)]


def test_time_before_and_after_a_jump_both_count() -> None:
    """Accounts book the time that passed before a clock jump and go on after it; the step itself is no time."""
    engine = engine_of({"a": None}, most("m", "a", 1))
    engine.advance(items((100 * S, 0, 9.0), (103 * S, 0, 9.0), (50 * S, 0, 9.0), (57 * S, 0, 0.0)))
    assert engine.checks["fail_ns"][0] == (3 + 7) * S


def test_commands_are_never_dropped() -> None:
    """A command that comes late acts now: a person's word is not lost to disorder."""
    engine = engine_of({"a": None}, most("m", "a", 1, latch=Latch.MANUAL))
    engine.advance(items((10 * S, 0, 9.0), (11 * S, 0, 0.0)))
    rows = engine.advance(command(5 * S, ITEM_RESET_LATCH, 0))
    assert [(r["kind"], r["t_effective"], r["verdict"]) for r in rows] == [(LATCH, 11 * S, P), (CHECK, 11 * S, P)]


def test_fifty_minutes_of_an_empty_battery_are_one_failure() -> None:
    """A battery at 0.0 V for 50 minutes at 10 Hz gives exactly one check.fail, and its time in breach."""
    engine = engine_of({"volts": 1 * S}, CheckSpec("battery", "bounds", ("volts",), {"min": 14.0, "leave_min": 14.4}))
    stream = np.zeros(30_001, SAMPLE)
    stream["t"] = np.arange(30_001) * 100 * MS
    stream["flags"] = FLAG_END
    rows = engine.advance(stream)
    assert checks_of(rows) == [(0, 0, F)]
    assert len(rows) == 1
    engine.advance(items((3000 * S + 100 * MS, 0, 15.0)))
    state = engine.checks[0]
    assert (state["fails"], state["fail_ns"], state["worst"]) == (1, 3000 * S + 100 * MS, -14.0)


def test_the_order_of_verdicts_is_policy() -> None:
    """FAIL > UNKNOWN > PASS, as numbers too: the worst of several is their maximum."""
    assert Verdict.FAIL > Verdict.UNKNOWN > Verdict.PASS
    assert max(Verdict) == F and min(Verdict) == P
    assert [int(v) for v in (P, U, F)] == [0, 1, 2]


def test_rows_are_free_of_padding() -> None:
    """Every dtype of stream and state is as long as its fields, so that bytes and digests hold nothing by chance."""
    from edge_monitor.core import samples, state

    for dtype in (samples.SAMPLE, samples.MESSAGE, samples.TRANSITION, state.SIGNAL_ROW, state.SIGNAL_STATE,
                  state.CHECK_ROW, state.CHECK_STATE, state.HEAD, state.RING):  # fmt: skip
        assert dtype.itemsize == sum(dtype[name].itemsize for name in dtype.names or ())


def test_an_engine_without_items_knows_only_time() -> None:
    """Without an item the engine writes nothing, and books all time as unknown once the check is known."""
    engine = engine_of({"a": 1 * S}, most("m", "a", 1))
    assert len(engine.advance(until=5 * S)) == 0
    engine.advance(items((9 * S, 0, 0.0)))
    assert engine.checks["unknown_ns"][0] == 4 * S


def test_a_plan_refuses_names_that_it_does_not_know() -> None:
    """Unknown signals and kinds, and signals of one name, are errors of the caller, said at once."""
    signals = [Signal("a", "/t")]
    with pytest.raises(KeyError):
        Plan.build(signals, [most("m", "b", 1)])
    with pytest.raises(KeyError):
        Plan.build(signals, [CheckSpec("m", "no such kind", ("a",))])
    with pytest.raises(ValueError, match="same name"):
        Plan.build([*signals, *signals], [])


def test_a_plan_is_frozen_and_its_digest_tells_every_difference() -> None:
    """Plans can't be changed, and a plan that differs in a limit, an age or a name has another digest."""
    signals = [Signal("a", "/t", max_age=1 * S)]
    plan = Plan.build(signals, [most("m", "a", 1)])
    with pytest.raises(ValueError, match="read-only"):
        plan.checks["max"] = 2
    others = [
        Plan.build(signals, [most("m", "a", 2)]),
        Plan.build(signals, [most("n", "a", 1)]),
        Plan.build([Signal("a", "/t", max_age=2 * S)], [most("m", "a", 1)]),
        Plan.build(signals, [most("m", "a", 1, latch=Latch.MANUAL)]),
    ]
    assert len({plan.digest(), *(other.digest() for other in others)}) == 5
    assert Plan.build(signals, [most("m", "a", 1)]).digest() == plan.digest()


def test_a_mission_end_releases_what_cleared_and_nothing_else() -> None:
    """The command frees mission and mode latches of checks that pass again; failing ones and manual ones stay."""
    latches = (Latch.ON_MISSION_END, Latch.ON_MODE_CHANGE, Latch.MANUAL, Latch.ON_MISSION_END)
    checks = [most(f"c{i}", "b" if i == 3 else "a", 1, latch=latch) for i, latch in enumerate(latches)]
    engine = engine_of({"a": None, "b": None}, *checks)
    engine.advance(items((0, 0, 9.0), (0, 1, 9.0), (1 * S, 0, 0.0)))
    rows = engine.advance(command(2 * S, ITEM_MISSION_END))
    assert checks_of(rows) == [(2 * S, 0, P), (2 * S, 1, P)]
    assert list(engine.checks["latched"]) == [0, 0, 1, 1]
