"""Waivers: who may accept a failing criterion, for which gate, for how long, and what shows it."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gates import NAMES, at_least, clock_jump, every, leaf, rows

from edge_monitor import events
from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.commands import Waive, WithdrawWaiver
from edge_monitor.core.decision_specs import GateSpec
from edge_monitor.core.gates import LONGEST_WAIVER, MOST_WAIVERS, Decision, Gates, WaiverChange
from edge_monitor.core.samples import Verdict

S = 1_000_000_000
P, U, F = Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL
SEVERITIES = {"a": "marginal", "b": "critical", "c": "catastrophic", "d": "negligible"}


def gates(*specs: GateSpec) -> Gates:
    """Gates over the four checks, started at 0, all passing since 1 s."""
    machine = Gates(specs, NAMES, SEVERITIES)
    machine.start(0)
    machine.step(rows(1 * S, dict.fromkeys(NAMES, P)))
    return machine


def waive(t: int, check: str = "a", *persons: str, until: int = 60 * S, gates: tuple[str, ...] = ()) -> Waive:
    """A waiver until ``until``."""
    return Waive(t=t, check=check, persons=persons or ("ada",), reason="known", expires=until, gates=gates)


def brief(decisions: list[Decision]) -> list[tuple[int, str, bool]]:
    """Times, gates and GO."""
    return [(d.t_effective, d.gate, d.go) for d in decisions]


def states(changes: list[WaiverChange]) -> list[tuple[int, str]]:
    """Times and what became of it."""
    return [(change.t_effective, change.state) for change in changes]


def test_a_waived_criterion_counts_as_passed_until_it_expires() -> None:
    """GO comes with the waiver and goes at its deadline, at that very time; both decisions tell what the check says."""
    machine = gates(GateSpec("g", every("a", "b")))
    machine.step(rows(5 * S, {"a": F}))
    ruling = machine.command(waive(10 * S))
    assert (ruling.refused, brief(ruling.decisions)) == ("", [(10 * S, "g", True)])
    (go,) = ruling.decisions
    assert [w.persons for w in go.waivers] == [("ada",)]
    assert [(r.check, r.verdict) for r in go.reasons] == [("a", F), ("b", P)]
    assert states(machine.waiver_changes()) == [(10 * S, "granted")]
    assert machine.advance(60 * S, 60 * S) == []
    (no_go,) = machine.advance(100 * S, 100 * S)
    assert (no_go.t_effective, no_go.go, no_go.waivers) == (60 * S, False, ())
    assert states(machine.waiver_changes()) == [(60 * S, "expired")]
    assert machine.waiver_changes() == []


def test_a_dwell_starts_with_the_waiver() -> None:
    """`go_after` counts from when the criterion counts as passed."""
    machine = gates(GateSpec("g", leaf("a"), go_after=2 * S))
    machine.step(rows(2 * S, {"a": F}))
    assert machine.command(waive(10 * S)).decisions == []
    assert brief(machine.advance(20 * S, 20 * S)) == [(12 * S, "g", True)]


def test_a_waiver_is_for_one_criterion_in_its_gates() -> None:
    """Other criteria and other gates go on as before."""
    machine = gates(GateSpec("g", every("a", "d")), GateSpec("h", every("a")))
    machine.step(rows(5 * S, {"a": F}))
    assert brief(machine.command(waive(10 * S, gates=("h",))).decisions) == [(10 * S, "h", True)]
    assert (machine.waivers("g"), len(machine.waivers("h"))) == ((), 1)
    assert brief(machine.step(rows(11 * S, {"d": F}))) == []
    assert brief(machine.command(waive(12 * S, gates=("g",))).decisions) == []
    assert brief(machine.step(rows(13 * S, {"d": P}))) == [(13 * S, "g", True)]


def test_withdrawn_is_over_at_once() -> None:
    """Anyone named may end a waiver, with a reason; the gate is judged at that instant."""
    machine = gates(GateSpec("g", leaf("a")))
    machine.step(rows(5 * S, {"a": F}))
    machine.command(waive(10 * S))
    machine.waiver_changes()
    order = WithdrawWaiver(t=20 * S, check="a", person="bob", reason="wind")
    assert brief(machine.command(order).decisions) == [(20 * S, "g", False)]
    (change,) = machine.waiver_changes()
    assert (change.state, change.person, change.reason) == ("withdrawn", "bob", "wind")
    assert machine.command(order).refused == "no waiver of a is in force"


@pytest.mark.parametrize(("order", "message"), [
    (waive(10 * S, "b"), "b is critical: two people must waive it"),
    (waive(10 * S, "c"), "c is catastrophic: two people must waive it"),
    (waive(10 * S, "x"), "no check is named x"),
    (waive(10 * S, "d"), "no gate reads d: there is nothing to waive"),
    (waive(10 * S, "a", gates=("h",)), "gate h does not read a"),
    (waive(10 * S, "a", until=10 * S + LONGEST_WAIVER + 1), "a waiver lasts a day at most"),
])  # fmt: skip
def test_what_is_refused_changes_nothing(order: Waive, message: str) -> None:
    """A waiver that may not be leaves gates as they are, and says why."""
    machine = gates(GateSpec("g", every("a", "b", "c")), GateSpec("h", every("b")))
    before = machine.snapshot()
    assert machine.command(order).refused == message
    assert (machine.snapshot(), machine.waiver_changes()) == (before, [])


def test_a_waiver_may_last_a_day_however_late_it_is_given() -> None:
    """A day is the limit, and counts from the order, not from the start of the stream."""
    machine = gates(GateSpec("g", leaf("a")))
    assert LONGEST_WAIVER == 24 * 3600 * S
    assert machine.command(waive(90_000 * S, until=90_000 * S + LONGEST_WAIVER)).refused == ""


def test_two_people_waive_what_is_critical() -> None:
    """Two different people may; without severities every check counts as critical."""
    assert gates(GateSpec("g", leaf("b"))).command(waive(10 * S, "b", "ada", "bob")).refused == ""
    machine = Gates([GateSpec("g", leaf("a"))], NAMES)
    assert "two people" in machine.command(waive(10 * S)).refused


def test_a_criterion_is_waived_once_at_a_time() -> None:
    """A second waiver for the same gate is refused while the first one holds, and so is one too many."""
    machine = gates(GateSpec("g", leaf("a")))
    machine.command(waive(10 * S, until=20 * S))
    assert machine.command(waive(15 * S)).refused == "a is waived already: withdraw that first"
    assert machine.command(waive(21 * S)).refused == ""
    names = [f"c{i}" for i in range(MOST_WAIVERS + 1)]
    assert MOST_WAIVERS == 64
    many = Gates([GateSpec("g", at_least(1, *names))], names, dict.fromkeys(names, "marginal"))
    refused = [many.command(waive(10 * S, name)).refused for name in names]
    assert refused == [""] * MOST_WAIVERS + [f"{MOST_WAIVERS} waivers are in force: withdraw one first"]


def test_every_decision_it_touches_carries_it() -> None:
    """A decision of the gate names the waiver in force, also where another criterion made it."""
    machine = gates(GateSpec("g", every("a", "d")))
    machine.command(waive(10 * S))
    (no_go,) = machine.step(rows(11 * S, {"d": F}))
    assert [w.reason for w in no_go.waivers] == ["known"]
    specs = {name: CheckSpec(name, "bounds", ("s",), severity=SEVERITIES[name]) for name in NAMES}
    payload = events.from_decision(no_go, specs, S).payload
    assert payload["waivers"] == [{
        "criterion": "a", "gates": ["g"], "persons": ["ada"], "reason": "known", "granted_ns": 10 * S, "expires_ns": 60 * S,
    }]  # fmt: skip
    assert (
        "waivers"
        not in events.from_decision(gates(GateSpec("h", leaf("d"))).step(rows(2 * S, {"d": F}))[0], specs, S).payload
    )


def test_its_event_says_who_why_and_how_long() -> None:
    """`gate.waived` has the state, the people, the reason, the time and the signatures."""
    machine = gates(GateSpec("g", leaf("b")))
    signed = Waive(t=10 * S, check="b", persons=("ada", "bob"), reason="known", expires=60 * S,
                   signatures=(b"\x01" * 64, b"\x02" * 64), checkpoint="head")  # fmt: skip
    machine.command(signed)
    specs = {"b": CheckSpec("b", "bounds", ("s",), severity="critical", hazard="H1", claim="G1")}
    (event,) = [events.from_waiver(change, specs) for change in machine.waiver_changes()]
    assert (event.type, event.subject, event.severity, event.hazard) == ("gate.waived", "b", "critical", "H1")
    assert event.payload["state"] == "granted"
    assert event.payload["signatures"] == ["01" * 64, "02" * 64]
    assert (event.payload["persons"], event.payload["checkpoint"]) == (["ada", "bob"], "head")
    machine.command(WithdrawWaiver(t=20 * S, check="b", person="eve", reason="wind"))
    (event,) = [events.from_waiver(change, specs) for change in machine.waiver_changes()]
    assert (event.payload["state"], event.payload["person"], event.payload["cause"]) == ("withdrawn", "eve", "wind")


def test_a_step_of_the_clock_keeps_what_was_left_of_it() -> None:
    """A waiver with 50 s to go lasts 50 s after the stream stepped back."""
    machine = gates(GateSpec("g", leaf("a")))
    machine.command(waive(100 * S, until=150 * S))
    machine.step(clock_jump(10 * S, -90 * S, {"a": F}))
    (waiver,) = machine.waivers("g")
    assert (waiver.granted, waiver.expires) == (10 * S, 60 * S)
    assert brief(machine.advance(500 * S, 500 * S)) == [(60 * S, "g", False)]


def test_its_end_does_not_end_a_hold() -> None:
    """A waiver that expires over a criterion that is unknown leaves the gate to the hold that another one began."""
    machine = gates(GateSpec("g", every("a", "d"), hold=5 * S))
    machine.command(waive(10 * S, until=14 * S))
    machine.step(rows(11 * S, {"a": U}))
    machine.step(rows(12 * S, {"d": U}))
    assert brief(machine.advance(100 * S, 100 * S)) == [(17 * S, "g", False)]


def test_it_never_hides_what_is_unknown_elsewhere() -> None:
    """A hold and a waiver keep to their own: the gate falls when either is over."""
    machine = gates(GateSpec("g", every("a", "d"), hold=5 * S))
    machine.command(waive(10 * S, until=13 * S))
    machine.step(rows(11 * S, {"a": F, "d": U}))
    assert brief(machine.advance(500 * S, 500 * S)) == [(13 * S, "g", False)]
    other = gates(GateSpec("g", every("a", "d"), hold=5 * S))
    other.command(waive(10 * S))
    other.step(rows(11 * S, {"a": F, "d": U}))
    assert brief(other.advance(50 * S, 50 * S)) == [(16 * S, "g", False)]


def passes(changes: list[tuple[int, str, Verdict]], waivers: list[tuple[int, int, int]], t: int) -> bool:
    """Whether both criteria pass at the end of ``t``: (when, check, verdict); (from, until, ended) of waivers of ``a``."""
    latest = {check: verdict for when, check, verdict in sorted(changes, key=lambda c: c[0]) if when <= t}
    waived = any(start <= t < min(until, ended) for start, until, ended in waivers)
    return latest.get("d") == P and (waived or latest.get("a") == P)


@settings(max_examples=150)
@given(st.data())
def test_equals_the_brute_force_waiver(data: st.DataObject) -> None:
    """Over random verdicts, waivers and withdrawals a gate is GO exactly where the definition says."""
    machine = Gates([GateSpec("g", every("a", "d"))], NAMES, SEVERITIES)
    found = machine.start(0)
    changes: list[tuple[int, str, Verdict]] = []
    waivers: list[tuple[int, int, int]] = []
    told: list[WaiverChange] = []
    t = 0
    for _ in range(data.draw(st.integers(1, 15))):
        t += data.draw(st.sampled_from([1, 1, 2, 3, 7]))
        kind = data.draw(st.sampled_from(["verdict", "verdict", "waive", "withdraw"]))
        active = [i for i, (start, until, ended) in enumerate(waivers) if start <= t <= min(until, ended) and ended > t]
        if kind == "verdict":
            check, verdict = data.draw(st.sampled_from(["a", "d"])), data.draw(st.sampled_from(Verdict))
            changes.append((t, check, verdict))
            found += machine.step(rows(t, {check: verdict}))
        elif kind == "waive":
            until = t + data.draw(st.sampled_from([1, 2, 5, 10]))
            ruling = machine.command(waive(t, until=until))
            assert bool(ruling.refused) == bool(active)
            found += ruling.decisions
            if not active:
                waivers.append((t, until, 10**9))
        else:
            ruling = machine.command(WithdrawWaiver(t=t, check="a", person="bob", reason="r"))
            assert bool(ruling.refused) == (not active)
            found += ruling.decisions
            for i in active:
                waivers[i] = (waivers[i][0], waivers[i][1], t)
        told += machine.waiver_changes()
    found += machine.advance(t + 50, t + 50)
    told += machine.waiver_changes()
    flips = [b for a, b in pairwise([(0, False), *((d.t_effective, d.go) for d in found)]) if a[1] != b[1]]
    series = [(k, passes(changes, waivers, k)) for k in range(t + 50)]
    expected = [b for a, b in pairwise(series) if a[1] != b[1]]
    # What starts and ends at one time was decided, and is no state of any time.
    kept = [flip for i, flip in enumerate(flips) if i + 1 == len(flips) or flips[i + 1][0] != flip[0]]
    assert [b for a, b in pairwise([(0, False), *kept]) if a[1] != b[1]] == expected
    assert [c.state for c in told].count("granted") == len(waivers)
    ends = sorted(c.t_effective for c in told if c.state != "granted")
    assert ends == sorted(min(until, ended) for _, until, ended in waivers)


@settings(max_examples=50)
@given(st.data())
def test_a_snapshot_goes_on_bit_for_bit(data: st.DataObject) -> None:
    """Gates that were put back from a snapshot, through MessagePack, decide what those that ran on decide."""
    specs = [GateSpec("g", every("a", "d"), go_after=2), GateSpec("h", at_least(1, "a", "b"), hold=4)]
    one = Gates(specs, NAMES, SEVERITIES)
    one.start(0)
    inputs = data.draw(
        st.lists(st.tuples(st.integers(1, 5), st.sampled_from(NAMES), st.sampled_from(Verdict)), max_size=20)
    )
    cut = data.draw(st.integers(0, len(inputs)))
    t, two = 0, one
    found: list[list[str]] = [[], []]
    for k, (step, check, verdict) in enumerate(inputs):
        if k == cut:
            two = Gates(specs, NAMES, SEVERITIES)
            two.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(one.snapshot())))
        t += step
        for i, machine in enumerate((one,) if two is one else (one, two)):
            decisions = machine.step(rows(t, {check: verdict}))
            if k % 4 == 3:
                decisions += machine.command(waive(t, "a", until=t + 3)).decisions
            if k >= cut:
                found[i] += map(repr, decisions)
    if two is not one:
        found[0] += map(repr, one.advance(t + 20, t + 20))
        found[1] += map(repr, two.advance(t + 20, t + 20))
        assert found[0] == found[1]
        assert repr(one.snapshot()) == repr(two.snapshot())


def test_snapshots_belong_to_their_envelope() -> None:
    """State of other gates or other checks is refused."""
    state = gates(GateSpec("g", leaf("a"))).snapshot()
    for other in (Gates([GateSpec("h", leaf("a"))], NAMES), Gates([GateSpec("g", leaf("a"))], ("a",))):
        with pytest.raises(ValueError, match="another envelope"):
            other.restore(state)
