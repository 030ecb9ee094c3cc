"""Gates of another envelope that go on where those before stood: pure machines, without an engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pytest
from test_gates import NAMES, S, at_least, every, leaf, rows
from test_waivers import waive

from edge_monitor.core.commands import WithdrawWaiver
from edge_monitor.core.decision_specs import GateSpec
from edge_monitor.core.gates import Decision, Gates, Reason, passing_since
from edge_monitor.core.samples import TRANSITION, Cause, Verdict

P, U, F = Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL
MINOR = dict.fromkeys(NAMES, "marginal")
NOTHING = np.zeros(0, TRANSITION)
NOW = 10 * S


def passing(*specs: GateSpec, since: int = 1 * S, checks: Sequence[str] = NAMES) -> Gates:
    """Gates whose checks all pass since ``since``."""
    machine = Gates(specs, NAMES, MINOR)
    machine.start(0)
    machine.step(rows(since, dict.fromkeys(checks, P)))
    return machine


def after(
    old: Gates, *specs: GateSpec, kept: Collection[str] = NAMES, severities: Mapping[str, str] = MINOR
) -> tuple[Gates, list[Decision]]:
    """The gates that follow at ``NOW``, not yet switched, and what ended."""
    machine = Gates(specs, NAMES, severities)
    return machine, machine.succeed(old, kept, NOW)


def told(decisions: Sequence[Decision]) -> list[tuple[str, int, bool]]:
    """Gates, times and GO."""
    return [(decision.gate, decision.t_effective, decision.go) for decision in decisions]


@pytest.mark.parametrize(("n", "since", "begun"), [
    (1, {"a": 5, "b": 1, "c": 9}, 1), (2, {"a": 5, "b": 1, "c": 9}, 5), (3, {"a": 5, "b": 1, "c": 9}, 9),
    (2, {"a": 5, "c": 9}, 9), (2, {"a": 5}, None), (1, {}, None),
])  # fmt: skip
def test_an_expression_passes_since_enough_of_it_does(n: int, since: dict[str, int], begun: int | None) -> None:
    """`at_least n` passes since the n-th of its children does, in whatever depth."""
    assert passing_since(at_least(n, "a", "b", "c"), since) == begun
    assert passing_since(every(at_least(n, "a", "b", "c"), "d"), since | {"d": 0}) == begun


def test_an_unchanged_gate_goes_on() -> None:
    """A gate whose spec, checks and waivers are the same keeps GO, what was told, and a dwell that is under way."""
    specs = (
        GateSpec("going", leaf("a")),
        GateSpec("dwelling", every("b"), go_after=12 * S),
        GateSpec("failing", leaf("c")),
    )
    old = passing(*specs, checks=("a", "b"))
    old.step(rows(2 * S, {"c": F}))
    machine, ended = after(old, *specs, kept={"a", "b", "c"})
    assert ended == [] and machine.switch(NOTHING, NOW, [], {}) == []
    assert machine.snapshot() == old.snapshot() | {"reasons": machine.snapshot()["reasons"]}
    assert machine.reasons("failing") == old.reasons("failing")
    assert told(machine.advance(60 * S, 60 * S)) == [("dwelling", 13 * S, True)]


@pytest.mark.parametrize("dwell", [0, 9])
def test_what_was_not_go_is_go_after_the_switch_at_the_earliest(dwell: int) -> None:
    """A new gate, and one over a changed check, count from the switch however long all has passed: no GO by it."""
    spec = GateSpec("g", leaf("a"), go_after=30 * S)
    changed = GateSpec("g", leaf("a"), go_after=dwell * S)
    for old, kept in ((passing(), NAMES), (passing(spec), NAMES), (passing(GateSpec("g", leaf("b"))), ())):
        old.step(rows(2 * S, {"b": F}))
        machine, _ = after(old, changed, kept=kept)
        assert machine.switch(NOTHING, NOW, [], dict.fromkeys(NAMES, S)) == [] and machine.state() == {"g": False}
        assert told(machine.advance(60 * S, 60 * S)) == [("g", NOW + max(dwell * S, 1), True)]


def test_a_check_that_changed_makes_its_gate_a_new_one() -> None:
    """The same gate over a check that is not kept starts its dwell at the switch."""
    spec = GateSpec("g", every("a", "b"), go_after=12 * S)
    machine, _ = after(passing(spec), spec, kept={"a"})
    assert machine.switch(NOTHING, NOW, [], {}) == []
    assert told(machine.advance(60 * S, 60 * S)) == [("g", 22 * S, True)]
    machine, _ = after(passing(spec), spec, kept={"a", "b"})
    assert machine.switch(NOTHING, NOW, [], {}) == []
    assert told(machine.advance(60 * S, 60 * S)) == [("g", 13 * S, True)]


@pytest.mark.parametrize(("since", "stays"), [(8 * S - 1, True), (8 * S, True), (8 * S + 1, False)])
def test_go_stays_where_its_criteria_have_passed_for_its_dwell(since: int, stays: bool) -> None:
    """A changed gate that was GO stays so exactly where the new dwell is over at the switch."""
    machine, _ = after(passing(GateSpec("g", every("a", "b"))), GateSpec("g", every("a", "b"), go_after=2 * S))
    decisions = machine.switch(NOTHING, NOW, [], {"a": 0, "b": since, "c": NOW, "d": NOW})
    assert machine.state() == {"g": stays}
    assert told(decisions) == ([] if stays else [("g", NOW, False)])  # consumers hold a GO until they are told
    assert told(machine.advance(60 * S, 60 * S)) == ([] if stays else [("g", 12 * S, True)])


@pytest.mark.parametrize("verdict", [F, U])
def test_what_the_new_checks_say_decides_at_once(verdict: Verdict) -> None:
    """A changed check that passes no more revokes GO at the switch; others' verdicts are carried over."""
    spec = GateSpec("g", every("a", "b"))
    machine, _ = after(passing(spec), spec, kept={"b"})
    (decision,) = machine.switch(NOTHING, NOW, [Reason("a", verdict, Cause.NONE)], dict.fromkeys(NAMES, 0))
    assert (decision.go, decision.t_effective, decision.verdict, decision.expired_hold) == (False, NOW, verdict, False)
    assert [(reason.check, reason.verdict, reason.since) for reason in decision.reasons] == [
        ("a", verdict, S),
        ("b", P, S),
    ]
    assert machine.advance(60 * S, 60 * S) == []


def test_transitions_of_the_switch_touch_gates_that_did_not_change() -> None:
    """A kept check may change at the switch, since its signal did: the gate that reads it is judged, no other."""
    specs = GateSpec("g", leaf("a")), GateSpec("dwelling", leaf("b"), go_after=12 * S)
    machine, _ = after(passing(*specs), *specs)
    assert told(machine.switch(rows(NOW, {"a": F}), NOW, [], {})) == [("g", NOW, False)]
    assert told(machine.advance(60 * S, 60 * S)) == [("dwelling", 13 * S, True)]
    assert told(machine.step(rows(61 * S, {"a": P}))) == [("g", 61 * S, True)]


def test_a_hold_begins_at_a_switch_and_does_not_outlive_one() -> None:
    """UNKNOWN at the switch is held from there where the gate is the same; a hold under way in a changed gate ends."""
    spec = GateSpec("g", leaf("a"), hold=3 * S)
    machine, _ = after(passing(spec), spec)
    assert machine.switch(rows(NOW, {"a": U}), NOW, [], {}) == [] and machine.state() == {"g": True}
    assert told(machine.advance(60 * S, 60 * S)) == [("g", 13 * S, False)]
    old = passing(spec)
    old.step(rows(9 * S, {"a": U}))
    machine, _ = after(old, spec)
    assert machine.switch(NOTHING, NOW, [], {}) == []
    assert told(machine.advance(60 * S, 60 * S)) == [("g", 12 * S, False)]
    for reasons in ([], [Reason("a", P, Cause.NONE)]):
        machine, _ = after(old, GateSpec("g", leaf("a"), hold=4 * S))
        machine.switch(NOTHING, NOW, reasons, dict.fromkeys(NAMES, 0))
        assert machine.state() == {"g": False}


def test_a_hold_that_ends_at_the_switch_is_over() -> None:
    """What the switch itself leaves unknown at the end of a hold is NO_GO by the switch."""
    spec = GateSpec("g", every("a", "b"), hold=3 * S)
    old = passing(spec)
    old.step(rows(7 * S, {"a": U}))
    machine, _ = after(old, spec)
    (decision,) = machine.switch(rows(NOW, {"b": U}), NOW, [], {})
    assert (decision.go, decision.t_effective, decision.expired_hold) == (False, NOW, True)


def test_a_gate_that_is_no_more_ends_its_go() -> None:
    """GO of a gate that the new envelope lacks ends with the reasons that the old one had; one that was NO_GO is silent."""
    old = passing(GateSpec("gone", leaf("a")), GateSpec("never", leaf("b")), checks=("a",))
    _, (decision,) = after(old, GateSpec("g", leaf("c")))
    assert (decision.gate, decision.go, decision.verdict, decision.expired_hold) == ("gone", False, U, False)
    assert decision.reasons == old.reasons("gone")


def test_waivers_go_on_where_their_criterion_does() -> None:
    """A waiver goes on in the gates that still read its check, where check and severity are the same; else it ends."""
    specs = GateSpec("g", every("a", "b")), GateSpec("h", every("a", "c"))
    old = passing(*specs)
    old.step(rows(2 * S, {"a": F}))
    assert old.command(waive(3 * S)).refused == ""

    def which(machine: Gates) -> list[tuple[str, ...]]:
        return [waiver.gates for waiver in machine.all_waivers]

    machine, _ = after(old, *specs)
    assert (which(machine), machine.waiver_changes()) == ([("g", "h")], [])
    assert machine.switch(NOTHING, NOW, [], {}) == [] and machine.state() == {"g": True, "h": True}
    for following, kept, severities in (
        (specs, "bcd", MINOR), (specs, NAMES, MINOR | {"a": "negligible"}), ((GateSpec("g", leaf("b")),), NAMES, MINOR)
    ):  # fmt: skip
        machine, _ = after(old, *following, kept=kept, severities=severities)
        assert which(machine) == []
        assert [(change.state, change.t_effective) for change in machine.waiver_changes()] == [("withdrawn", NOW)]


def test_a_waiver_that_goes_on_in_fewer_gates() -> None:
    """Where one of a waiver's gates no longer reads its check, it goes on in the other, from when it was granted."""
    specs = GateSpec("g", every("a", "b")), GateSpec("h", every("a", "c"))
    old = passing(*specs)
    old.step(rows(2 * S, {"a": F}))
    old.command(waive(3 * S))
    machine, _ = after(
        old, GateSpec("g", every("a", "b"), go_after=7 * S), GateSpec("h", leaf("c")), GateSpec("i", leaf("a"))
    )
    assert [waiver.gates for waiver in machine.all_waivers] == [("g",)] and machine.waiver_changes() == []
    decisions = machine.switch(NOTHING, NOW, [], dict.fromkeys(NAMES, 0))
    assert told(decisions) == [("i", NOW, False)] and machine.state() == {"g": True, "h": True, "i": False}
    unwaived = passing(*specs)
    machine, _ = after(unwaived, *specs)
    machine.switch(rows(NOW, {"a": F}), NOW, [], {})
    assert machine.state() == {"g": False, "h": False}


def test_only_gates_that_an_instant_touches_are_judged_at_it() -> None:
    """A check of another gate that changes at the end of a dwell does not fire it: a later item there still wins."""
    machine = Gates([GateSpec("g", leaf("a"), go_after=2 * S)], NAMES)
    machine.start(0)
    machine.step(rows(0, {"a": P}))
    assert machine.step(rows(2 * S, {"b": P})) == []
    assert told(machine.step(rows(2 * S, {"a": F}))) == [("g", 2 * S, False)]


def test_a_waiver_withdrawn_at_the_end_of_a_hold_ends_it() -> None:
    """NO_GO comes with the command that reveals it, not with the item after."""
    machine = passing(GateSpec("g", every("a", "b"), hold=3 * S))
    machine.command(waive(2 * S, "b"))
    machine.step(rows(5 * S, {"a": U}))
    order = WithdrawWaiver(t=8 * S, check="b", person="bob", reason="over")
    (decision,) = machine.command(order).decisions
    assert (decision.go, decision.t_effective, decision.expired_hold) == (False, 8 * S, True)
