"""Go/no-go: Kleene logic over criteria, dwell, hold, and decisions in event time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import MS, S, cases, cuts, streams

from edge_monitor.core.decision_specs import Criterion, GateSpec
from edge_monitor.core.engine import Engine
from edge_monitor.core.gates import Decision, Gates, criteria, instants, kleene
from edge_monitor.core.samples import FLAG_INSTANT_END, TRANSITION, Cause, TransitionKind, Verdict

P, U, F = Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL
NAMES = ("a", "b", "c", "d")


def leaf(name: str) -> Criterion:
    """A check by name."""
    return Criterion(check=name)


def at_least(n: int, *children: Criterion | str) -> Criterion:
    """``n`` of the children (names or expressions)."""
    nodes = tuple(leaf(child) if isinstance(child, str) else child for child in children)
    return Criterion(at_least=n, children=nodes)


def every(*children: Criterion | str) -> Criterion:
    """All of the children."""
    return at_least(len(children), *children)


EXPRESSIONS = {
    "all": every(*NAMES),
    "any": at_least(1, *NAMES),
    "two of four": at_least(2, *NAMES),
    "three of four": at_least(3, *NAMES),
    "nested": every("a", at_least(1, "b", every("c", "d"))),
    "a check twice": at_least(2, "a", every("a", "b"), at_least(1, "c", "a", "d")),
}


def holds(node: Criterion, truth: dict[str, bool]) -> bool:
    """The expression in two-valued logic."""
    return truth[node.check] if node.check else sum(holds(child, truth) for child in node.children) >= node.at_least


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_follow_kleene_logic(name: str) -> None:
    """Every expression over every combination of verdicts passes if no unknown could spoil it, and so on."""
    for verdicts in product(Verdict, repeat=len(NAMES)):
        values = dict(zip(NAMES, verdicts, strict=True))
        if holds(EXPRESSIONS[name], {check: verdict == P for check, verdict in values.items()}):
            expected = P
        elif holds(EXPRESSIONS[name], {check: verdict != F for check, verdict in values.items()}):
            expected = U
        else:
            expected = F
        assert kleene(EXPRESSIONS[name], values) == expected, values


@pytest.mark.parametrize(("a", "b", "both", "either"), [
    (P, P, P, P), (P, U, U, P), (P, F, F, P),
    (U, P, U, P), (U, U, U, U), (U, F, F, U),
    (F, P, F, P), (F, U, F, U), (F, F, F, F),
])  # fmt: skip
def test_kleenes_tables_as_printed(a: Verdict, b: Verdict, both: Verdict, either: Verdict) -> None:
    """``all`` and ``any`` of two are the strong conjunction and disjunction of Kleene (1952, §64)."""
    assert kleene(every("a", "b"), {"a": a, "b": b}) == both
    assert kleene(at_least(1, "a", "b"), {"a": a, "b": b}) == either


def test_criteria_are_named_once_in_order() -> None:
    """A gate reads each check once, however often the expression names it."""
    assert criteria(every("c", at_least(1, "a", "c"), "b")) == ["c", "a", "b"]


def rows(t: int, verdicts: dict[str, Verdict], decided: int | None = None) -> np.ndarray:
    """One instant of check transitions."""
    out = np.zeros(len(verdicts), TRANSITION)
    out["t_effective"], out["t_decided"] = t, t if decided is None else decided
    out["subject"] = [NAMES.index(name) for name in verdicts]
    out["verdict"] = list(verdicts.values())
    out["cause"] = [Cause.STALE if verdict == U else Cause.NONE for verdict in verdicts.values()]
    out["margin"] = [-1.5 if verdict == F else 0.5 for verdict in verdicts.values()]
    out[-1]["flags"] = FLAG_INSTANT_END
    return out


def clock_jump(t: int, step: int, verdicts: dict[str, Verdict]) -> np.ndarray:
    """The instant of a clock jump: the step, then what the checks say."""
    jump = np.zeros(1, TRANSITION)
    jump["t_effective"] = jump["t_decided"] = t
    jump["kind"], jump["subject"], jump["verdict"], jump["value"] = TransitionKind.CLOCK, -1, U, step / 1e9
    return np.concatenate([jump, rows(t, verdicts)])


def gates(*specs: GateSpec) -> Gates:
    """Gates over the four checks, started at 0."""
    machine = Gates(specs, NAMES)
    machine.start(0)
    return machine


def brief(decisions: Sequence[Decision]) -> list[tuple[int, bool]]:
    """When, and whether GO."""
    return [(decision.t_effective, decision.go) for decision in decisions]


def test_starts_with_no_go_because_nothing_is_known() -> None:
    """The first decision is NO_GO at the stream's first time, with every criterion never received."""
    (decision,) = Gates([GateSpec("takeoff", every("a", "b"))], NAMES).start(7)
    assert (decision.go, decision.t_effective, decision.verdict) == (False, 7, U)
    assert [(r.check, r.verdict, r.cause, r.since) for r in decision.reasons] == [
        ("a", U, Cause.NEVER_RECEIVED, None), ("b", U, Cause.NEVER_RECEIVED, None),
    ]  # fmt: skip


def test_go_only_after_the_whole_dwell() -> None:
    """GO takes effect exactly ``go_after`` after the last criterion passed, whatever reveals it."""
    machine = gates(GateSpec("g", every("a", "b"), go_after=2 * S))
    assert machine.step(rows(1 * S, {"a": P})) == []
    assert machine.step(rows(2 * S, {"b": P})) == []
    assert machine.advance(4 * S, 4 * S) == []  # an item at the deadline could still fail
    (decision,) = machine.advance(9 * S, 9 * S)
    assert (decision.go, decision.t_effective, decision.t_decided) == (True, 4 * S, 9 * S)


def test_a_failure_inside_the_dwell_starts_it_again() -> None:
    """GO needs the expression to pass without a break: a short failure or gap costs the whole dwell."""
    for spoiler in (F, U):
        machine = gates(GateSpec("g", leaf("a"), go_after=2 * S))
        machine.step(rows(0, {"a": P}))
        machine.step(rows(1 * S, {"a": spoiler}))
        machine.step(rows(1 * S + 1, {"a": P}))
        assert brief(machine.advance(10 * S, 10 * S)) == [(3 * S + 1, True)]


def test_an_item_at_the_end_of_the_dwell_wins() -> None:
    """A failure at exactly ``go_after`` prevents GO; the end of the stream there does not."""
    machine = gates(GateSpec("g", leaf("a"), go_after=2 * S))
    machine.step(rows(0, {"a": P}))
    assert [d.go for d in machine.step(rows(2 * S, {"a": F}))] == [False]
    machine = gates(GateSpec("g", leaf("a"), go_after=2 * S))
    machine.step(rows(0, {"a": P}))
    assert brief(machine.advance(2 * S, 2 * S, inclusive=True)) == [(2 * S, True)]


def test_no_go_at_once_on_fail_even_while_holding() -> None:
    """FAIL revokes GO at its own time; ``hold`` speaks of UNKNOWN only."""
    for hold in (0, 3 * S):
        machine = gates(GateSpec("g", every("a", "b"), hold=hold))
        assert brief(machine.step(rows(1, {"a": P, "b": P}))) == [(1, True)]
        machine.step(rows(2, {"b": U}))
        assert brief(machine.step(rows(3, {"a": F}))) == [(3, False)]


def test_unknown_is_no_go_at_once_without_a_hold() -> None:
    """A criterion that is unknown revokes GO unless the gate declares a hold."""
    machine = gates(GateSpec("g", leaf("a")))
    machine.step(rows(1, {"a": P}))
    (decision,) = machine.step(rows(5, {"a": U}))
    assert (decision.go, decision.t_effective, decision.verdict, decision.expired_hold) == (False, 5, U, False)


def test_a_hold_keeps_go_for_the_stated_time_only() -> None:
    """UNKNOWN keeps the last GO until ``hold`` has passed, then NO_GO at that very time, said to be an expired hold."""
    machine = gates(GateSpec("g", leaf("a"), hold=3 * S))
    machine.step(rows(1 * S, {"a": P}))
    assert machine.step(rows(5 * S, {"a": U})) == []
    assert machine.state() == {"g": True}
    assert machine.advance(8 * S, 8 * S) == []
    (decision,) = machine.advance(8 * S + 1, 8 * S + 1)
    assert (decision.go, decision.t_effective, decision.expired_hold) == (False, 8 * S, True)


def test_more_unknowns_do_not_extend_a_hold() -> None:
    """The hold counts from the first UNKNOWN; a second criterion that becomes unknown does not renew it."""
    machine = gates(GateSpec("g", every("a", "b"), hold=3 * S))
    machine.step(rows(1 * S, {"a": P, "b": P}))
    machine.step(rows(5 * S, {"a": U}))
    assert machine.step(rows(7 * S, {"b": U})) == []
    assert brief(machine.advance(20 * S, 20 * S)) == [(8 * S, False)]


def test_every_instant_at_the_end_of_a_hold_may_still_end_it() -> None:
    """The deadline comes after all instants at its time: a first one that brings no recovery does not fire it."""
    machine = gates(GateSpec("g", every("a", "b"), hold=3 * S))
    machine.step(rows(1 * S, {"a": P, "b": P}))
    machine.step(rows(5 * S, {"a": U}))
    assert machine.step(rows(8 * S, {"b": U})) == []
    assert machine.step(rows(8 * S, {"a": P, "b": P})) == []
    assert machine.advance(20 * S, 20 * S) == [] and machine.state() == {"g": True}


def test_recovery_within_a_hold_is_silent_and_renews_it() -> None:
    """A criterion that passes again within the hold, even at its end, leaves GO be; the next gap is held anew."""
    machine = gates(GateSpec("g", leaf("a"), go_after=1 * S, hold=3 * S))
    machine.step(rows(0, {"a": P}))
    assert brief(machine.advance(5 * S, 5 * S)) == [(1 * S, True)]
    machine.step(rows(5 * S, {"a": U}))
    assert machine.step(rows(8 * S, {"a": P})) == []
    assert machine.step(rows(9 * S, {"a": U})) == []
    assert brief(machine.advance(20 * S, 20 * S)) == [(12 * S, False)]


def test_a_hold_never_gives_go() -> None:
    """A gate that is NO_GO stays so through UNKNOWN: only the last GO can be held."""
    machine = gates(GateSpec("g", leaf("a"), hold=3 * S))
    assert brief(machine.step(rows(1, {"a": F}))) == [(1, False)]
    assert machine.step(rows(2, {"a": U})) == []
    assert machine.advance(10 * S, 10 * S) == []
    assert machine.state() == {"g": False}


def test_an_instant_is_seen_whole() -> None:
    """Two checks that swap within one instant never show the GO that lies between their rows."""
    for order in (("a", "b"), ("b", "a")):
        machine = gates(GateSpec("g", every("a", "b")))
        machine.step(rows(1, {"a": F, "b": P}))
        verdicts = {"a": P, "b": F}
        assert machine.step(rows(2, {name: verdicts[name] for name in order})) == []


def test_a_worse_no_go_is_told_and_a_better_one_is_not() -> None:
    """NO_GO(unknown) that becomes a known failure is a new decision; back to unknown is not: FAIL > UNKNOWN > PASS."""
    machine = gates(GateSpec("g", leaf("a")))
    assert [d.verdict for d in machine.step(rows(1, {"a": F}))] == [F]
    assert machine.step(rows(2, {"a": U})) == []
    assert machine.step(rows(3, {"a": F})) == []
    assert brief(machine.step(rows(4, {"a": P}))) == [(4, True)]
    assert brief(machine.step(rows(5, {"a": F}))) == [(5, False)]


def test_reasons_list_every_criterion_worst_first() -> None:
    """A decision names every criterion with verdict, cause and numbers; failures lead, then unknowns."""
    machine = gates(GateSpec("g", every("a", "b", "c")))
    machine.step(rows(1, {"a": P, "b": U}))
    (decision,) = machine.step(rows(2, {"c": F}))
    assert [(r.check, r.verdict, r.cause, r.margin, r.since) for r in decision.reasons] == [
        ("c", F, Cause.NONE, -1.5, 2), ("b", U, Cause.STALE, 0.5, 1), ("a", P, Cause.NONE, 0.5, 1),
    ]  # fmt: skip
    assert machine.reasons("g") == decision.reasons


def test_gates_with_one_deadline_decide_in_order_of_the_envelope() -> None:
    """Deadlines that fall on one time fire by time, then by the gates' order."""
    specs = [GateSpec("late", leaf("a"), go_after=3 * S), GateSpec("x", leaf("a"), go_after=2 * S),
             GateSpec("y", leaf("b"), go_after=1 * S)]  # fmt: skip
    machine = gates(*specs)
    machine.step(rows(0, {"a": P}))
    machine.step(rows(1 * S, {"b": P}))
    decided = machine.advance(9 * S, 9 * S)
    assert [(d.gate, d.t_effective) for d in decided] == [("x", 2 * S), ("y", 2 * S), ("late", 3 * S)]


def test_a_deadline_before_an_instant_is_decided_first() -> None:
    """A transition after the end of a dwell reveals GO at the dwell's end, and then its own NO_GO."""
    machine = gates(GateSpec("g", leaf("a"), go_after=2 * S))
    machine.step(rows(0, {"a": P}))
    decisions = machine.step(rows(5 * S, {"a": F}))
    assert brief(decisions) == [(2 * S, True), (5 * S, False)]
    assert not any(decision.expired_hold for decision in decisions)


def test_a_clock_jump_does_not_stretch_a_hold() -> None:
    """A hold that a backward step of the clock interrupts lasts for what was left of it."""
    machine = gates(GateSpec("g", every("a", "b"), hold=3 * S))
    machine.step(rows(1 * S, {"a": P, "b": P}))
    machine.step(rows(100 * S, {"a": U}))
    assert machine.step(clock_jump(20 * S, -81 * S, {"b": U})) == []  # at 101 s by the old clock
    assert brief(machine.advance(60 * S, 60 * S)) == [(22 * S, False)]


def test_a_clock_jump_starts_a_dwell_again() -> None:
    """Time that passed before a jump counts for no dwell after it, also where none of the gate's checks changed at it."""
    machine = gates(GateSpec("g", leaf("a"), go_after=2 * S))
    machine.step(rows(100 * S, {"a": P}))
    machine.step(clock_jump(10 * S, -91 * S, {"a": U}))
    machine.step(rows(11 * S, {"a": P}))
    assert brief(machine.advance(60 * S, 60 * S)) == [(13 * S, True)]
    machine = gates(GateSpec("g", leaf("a"), go_after=2 * S))
    machine.step(rows(100 * S, {"a": P}))
    machine.step(clock_jump(10 * S, -91 * S, {"b": U}))
    assert brief(machine.advance(60 * S, 60 * S)) == [(12 * S, True)]


def expected(spec: GateSpec, changes: list[tuple[int, Verdict]], end: int) -> list[tuple[int, bool]]:
    """A gate's decisions by brute force: its state at every time at which anything can happen, from the verdicts alone.

    ``changes``: when the expression got which verdict, the first at 0. Answers (t, go) at each change of GO.
    """

    def at(t: int) -> Verdict:
        return [verdict for when, verdict in changes if when <= t][-1]

    def since(t: int, verdict: Verdict) -> int:
        times = [when for when, _ in changes if when <= t]
        start = t
        for when in reversed(times):
            if at(when) != verdict:
                break
            start = when
        return start

    times = {t for t, _ in changes}
    times |= {t + wait for t, _ in changes for wait in (spec.go_after, spec.hold) if t + wait <= end}
    go, decisions = False, []
    for t in sorted(times):
        verdict = at(t)
        if verdict == P:
            now = go or t - since(t, P) >= spec.go_after
        elif verdict == U:
            now = go and t - since(t, U) < spec.hold
        else:
            now = False
        if now != go:
            decisions.append((t, now))
        go = now
    return decisions


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 1, 2, 3, 5]), st.sampled_from(Verdict)), max_size=25),
    st.sampled_from([0, 1, 2, 4]),
    st.sampled_from([0, 1, 2, 4]),
)
def test_equals_the_brute_force_gate(steps: list[tuple[int, Verdict]], go_after: int, hold: int) -> None:
    """Over random verdicts, changes of GO lie exactly where the definition of dwell and hold puts them."""
    spec = GateSpec("g", leaf("a"), go_after=go_after, hold=hold)
    timeline: dict[int, Verdict] = {}
    t = 1
    for step, verdict in steps:
        t += step
        timeline[t] = verdict
    changes = [(0, U)]
    for when, verdict in timeline.items():
        if verdict != changes[-1][1]:
            changes.append((when, verdict))
    machine = gates(spec)
    found = [d for when, verdict in changes[1:] for d in machine.step(rows(when, {"a": verdict}))]
    found += machine.advance(t + 10, t + 10)
    states = [(0, False), *brief(found)]
    flips = [b for a, b in pairwise(states) if a[1] != b[1]]
    assert flips == expected(spec, changes, t + 10)


@settings(max_examples=60)
@given(st.data())
def test_decisions_do_not_depend_on_batches(data: st.DataObject) -> None:
    """However the engine's stream is cut into calls, gates decide the same at the same times."""
    case = data.draw(cases(("bounds", "stale", "frequency")))
    stream = data.draw(streams(case))
    names = [check.name for check in case.checks]
    specs = [
        GateSpec("all", every(*names), go_after=100 * MS),
        GateSpec("any", at_least(1, *names), hold=200 * MS),
    ]
    end = int(stream["t"].max()) + 3 * S

    def decide(edges: list[int]) -> list[Decision]:
        engine, machine = Engine(case.plan()), Gates(specs, names)
        found = machine.start(int(stream["t"][0]))
        for a, b in pairwise(edges):
            for instant in instants(engine.advance(stream[a:b])):
                found += machine.step(instant)
        for instant in instants(engine.finish(end)):
            found += machine.step(instant)
        return found + machine.advance(end, end, inclusive=True)

    # repr: reasons hold NaN, which equals nothing
    assert repr(decide([0, len(stream)])) == repr(decide(data.draw(cuts(len(stream)))))
