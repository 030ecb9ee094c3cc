"""Another plan in the middle of a stream: what is the same goes on as though nothing had happened, and what is not, as
though it had been there all the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import test_resume
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Case, S, cases, cuts, streams

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, FLAG_INSTANT_END, SAMPLE, TRANSITION, Cause, TransitionKind, Verdict
from edge_monitor.core.signals import Signal
from edge_monitor.core.transplant import kinship, renewed, transplant
from edge_monitor.recent import Recent

CHECK, LATCH = TransitionKind.CHECK, TransitionKind.LATCH


def switched(old: Engine, plan: Plan, recent: Recent | None, most: int = 1 << 15) -> tuple[Engine, np.ndarray]:
    """``old`` under another plan; the engine, and the rows of the instant."""
    now = int(old.head["now"])
    kin = kinship(old.plan, plan)
    engine = Engine(plan)
    transplant(old, engine, kin, recent.history(now, kin.wanted, most) if recent is not None else None)
    return engine, engine.advance(renewed(now))


def of_check(rows: np.ndarray, plan: Plan, name: str, after: int = 0) -> list[tuple]:
    """All that is told of a check, by name, later than ``after``."""
    number = [spec.name for spec in plan.check_specs].index(name)
    mine = rows[np.isin(rows["kind"], (CHECK, LATCH)) & (rows["subject"] == number) & (rows["t_effective"] > after)]
    told = [name for name in TRANSITION.names if name not in ("subject", "flags")]
    return [tuple(row[name].item() for name in told) for row in mine]


def equal(one: list[tuple], other: list[tuple]) -> bool:
    """Equality where NaN equals NaN."""
    return repr(one) == repr(other)


@st.composite
def switches(draw: Callable) -> tuple[Case, Case, np.ndarray, int, list[int]]:
    """Two plans over the same signals that share some checks, a stream, where in it to switch, and cuts."""
    one = draw(cases())
    other = draw(cases())
    shared = draw(st.lists(st.sampled_from(one.checks), unique_by=lambda check: check.name, max_size=3))
    mine = tuple(replace(check, name=f"other_{check.name}") for check in other.checks)
    checks = tuple(draw(st.permutations([*shared, *mine])))
    other = Case(one.signals, checks, one.mode, one.active)
    stream = draw(streams(one, backward=False, commands=False))
    at = draw(st.integers(0, len(stream)))
    while 0 < at < len(stream) and stream["t"][at] == stream["t"][at - 1]:  # between instants
        at -= 1
    return one, other, stream, at, draw(cuts(len(stream)))


@settings(max_examples=150, deadline=None)
@given(switches())
def test_a_plan_goes_on_as_though_it_had_been_there_all_the_time(case: tuple) -> None:
    """Where all items are kept, new checks are where they would be without the switch, and shared ones where they were."""
    one, other, stream, at, pieces = case
    old, alone = Engine(one.plan()), Engine(other.plan())
    recent = Recent(len(one.signals))
    t = int(stream["t"][at - 1]) if at else 10 * S
    old.advance(stream[:at])
    for a, b in pairwise(pieces):
        recent.add(stream[a : min(b, at)])
    alone.advance(stream[:at])
    old.advance(until=t)
    alone.advance(until=t)
    engine, rows = switched(old, other.plan(), recent)
    due = [one.advance(until=t + 1) for one in (engine, alone, old)]  # what falls due at the very time of the switch
    for ours, theirs in zip(engine.checks, alone.checks, strict=True):
        assert (ours["verdict"], ours["latched"]) == (theirs["verdict"], theirs["latched"])
    rest, end = stream[at:], int(stream["t"][-1]) + 10 * S
    ours, theirs, before = (
        np.concatenate([part, one.advance(rest), one.advance(until=end)])
        for part, one in zip(due, (engine, alone, old), strict=True)
    )
    for spec in other.checks:
        if spec in one.checks:
            assert equal(of_check(ours, other.plan(), spec.name), of_check(before, one.plan(), spec.name))
            assert not of_check(rows, other.plan(), spec.name)
        else:
            assert equal(of_check(ours, other.plan(), spec.name, t), of_check(theirs, other.plan(), spec.name, t))
    assert len(rows) == 0 or rows[-1]["flags"] & FLAG_INSTANT_END


@pytest.mark.parametrize("most", [1 << 15, 700], ids=["all items", "some items"])
def test_every_kind_of_check_goes_on(most: int) -> None:
    """Every detector, operator and derived signal, shared by two plans with other indices, keeps its bits; copies of them
    with other names, where all items are kept, come to the same verdicts at the same times."""
    full, items = test_resume.plan(), test_resume.stream()
    half = len(items) // 2
    while items["t"][half] == items["t"][half - 1]:
        half += 1
    copies = [replace(spec, name=f"a_{spec.name}") for spec in full.check_specs[::3]]
    signals = (Signal("extra", "/extra"), *reversed(full.signal_specs))
    plan = Plan.build(signals, [*copies, *reversed(full.check_specs)])
    number = {signal.name: i for i, signal in enumerate(signals)}
    there = np.array([number[signal.name] for signal in full.signal_specs])
    old, recent = Engine(full), Recent(len(full.signals))
    for part in np.array_split(items[:half], 7):
        old.advance(part)
        recent.add(part)
    engine, rows = switched(old, plan, recent, most)
    again, _ = switched(old, plan, recent, most)
    assert engine.digest() == again.digest()
    rest = items[half:].copy()
    before = old.advance(rest)
    rest["signal"] = there[rest["signal"]]
    after = np.concatenate([rows, engine.advance(rest)])
    for spec in full.check_specs:
        assert equal(of_check(after, plan, spec.name), of_check(before, full, spec.name)), spec.name
    t = int(old.head["now"]) if not len(rows) else int(rows[0]["t_effective"])
    for spec in copies if most > half else ():
        assert equal(of_check(after, plan, spec.name, t), of_check(before, full, spec.name[2:])), spec.name


def test_what_fails_for_as_long_as_is_known_has_failed_long_enough() -> None:
    """Where older items are gone, a limit broken since then is not given `fail_for` again; where none are, it is."""
    plan = Plan.build([Signal("a", "/a"), Signal("b", "/b")], [CheckSpec("x", "bounds", ("a",), {"max": 1.0})])
    other = Plan.build(plan.signal_specs, [CheckSpec("x", "bounds", ("a",), {"max": 0.0}, fail_for=60 * S)])
    for capacity, told in ((16, [Verdict.FAIL]), (4096, [Verdict.UNKNOWN])):
        old, recent = Engine(plan), Recent(2, capacity)
        for k in range(100):
            item = np.array([((10 + k // 10) * S + k % 10, k % 2, FLAG_END, 0.5)], SAMPLE)
            old.advance(item)
            recent.add(item)
        _, rows = switched(old, other, recent)
        assert [row["verdict"] for row in rows] == told


@pytest.mark.parametrize("backward", [False, True], ids=["in order", "late items and jumps"])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_kept_is_what_was_taken(backward: bool, data: st.DataObject) -> None:
    """However little is kept, base and items give an engine the values in force and the items that were taken after it."""
    case = data.draw(cases(kinds=("bounds", "stale")))
    stream = data.draw(streams(case, backward=backward, commands=False, size=60))
    pieces = data.draw(cuts(len(stream)))
    capacity, most = data.draw(st.sampled_from([8, 16, 64, 4096])), data.draw(st.sampled_from([2, 5, 1000]))
    whole, recent = Engine(case.plan()), Recent(len(case.signals), capacity)
    for a, b in pairwise(pieces):
        whole.advance(stream[a:b])
        recent.add(stream[a:b])
    now = int(whole.head["now"])
    found = recent.history(now, np.ones(len(case.signals), np.bool_), most)
    assert len(found.items) <= most and (np.diff(found.items["t"]) >= 0).all()
    assert (found.base["t"] <= found.t).all() and (found.items["t"] >= found.t).all()
    again = Engine(case.plan())
    again.advance(found.base)
    again.advance(until=found.t)
    again.advance(found.items)
    again.advance(until=now)
    np.testing.assert_array_equal(again.signals["cause"], whole.signals["cause"])
    known = whole.signals["cause"] != Cause.NEVER_RECEIVED
    for name in ("value", "t"):
        np.testing.assert_array_equal(again.signals[name][known], whole.signals[name][known])
