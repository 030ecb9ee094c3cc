"""What a journal's events say a handover machine was, after each of them; and rules that few stories come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from handover_world import GATES, LEAF, SPEC, S, World, brief, demanded, driving

from edge_monitor.core.decision_specs import GateSpec
from edge_monitor.core.handover import Handover
from edge_monitor.core.handover_history import rebuild
from edge_monitor.core.handover_terms import Lost, Motion, Span
from edge_monitor.core.samples import Verdict

STORY: list[Callable[[World], Any]] = [
    lambda w: w.request(10 * S, "human"), lambda w: w.accept(11 * S, signature=None), lambda w: w.accept(12 * S),
    lambda w: w.see(13 * S, "human"), lambda w: w.judge(14 * S, "resume", True),
    lambda w: w.request(15 * S, "autonomy", "b"), lambda w: w.see(16 * S, "autonomy"), lambda w: w.accept(17 * S, "b"),
    lambda w: w.judge(20 * S, "continue", False), lambda w: w.refuse(21 * S, "monitor-1"), lambda w: w.until(30 * S),
    lambda w: w.judge(31 * S, "continue", True), lambda w: w.request(32 * S, "fallback", "c"),
    lambda w: w.see(33 * S, "fallback"), lambda w: w.see(34 * S, "human"), lambda w: w.see(35 * S, "autonomy"),
    lambda w: w.request(36 * S, "human", "d"), lambda w: w.jump(137 * S, 100 * S), lambda w: w.cancel(138 * S, "d"),
    lambda w: w.see(139 * S, "unknown"), lambda w: w.until(141 * S), lambda w: w.until(145 * S),
]  # fmt: skip


def known(machine: Handover) -> dict[str, Any]:
    """The state that a journal tells whole."""
    state = machine.snapshot()
    opened = state["open"] and [part for place, part in enumerate(state["open"]) if place != 2]  # the account goes on
    return {name: state[name] for name in ("mrm", "override", "pending", "serial", "ended")} | {"open": opened}


def test_after_each_event_the_journal_says_what_the_machine_is() -> None:
    """What is open, asked for, waited for and over is the same in the machine and in one made from its events."""
    world = driving()
    for number, act in enumerate(STORY):
        act(world)
        t = world.machine.now
        assert t is not None
        again = rebuild(world.spec, world.gates, world.told, seen=t, now=t)
        assert known(again) == known(world.machine), number
        assert again.now == t


@pytest.mark.parametrize(("seen", "due"), [(6 * S, 7 * S), (7 * S, 7 * S), (7 * S + 1, None)])
def test_a_loss_is_answered_once(seen: int, due: int | None) -> None:
    """A deadline of a lost controller stands where nothing was told after it, and is gone where it has fired."""
    world = driving()
    world.see(5 * S, "unknown")
    world.see(7 * S if seen >= 7 * S else 6 * S, "unknown", "human")
    world.restart(seen, 9 * S)
    assert world.machine.lost is not None and world.machine.lost.due == due
    world = driving()
    world.see(5 * S, "unknown")
    world.until(7 * S)
    world.restart(7 * S, 9 * S)
    assert world.machine.lost is not None and world.machine.lost.due is None


def test_what_was_seen_before_a_stop_is_not_known_after_it() -> None:
    """Absence that was seen is unknown after a restart; one with nothing before it begins with it."""
    world = driving()
    world.see(5 * S, "none")
    world.restart(12 * S, 300 * S)
    assert (world.machine.lost.cause, world.machine.now) == ("unknown", 12 * S)
    world = World()
    world.restart(5 * S, 6 * S)
    assert (world.machine.now, world.machine.lost) == (5 * S, None)


def two_gates(after: int | None) -> World:
    """Autonomy commands, two gates in motion have been GO; ``after``: the second one's time to the manoeuvre."""
    second = GateSpec("second", LEAF, demand=True, mrm_after=after)
    world = World(gates=(GATES[0], second, GATES[1]))
    world.see(0, "autonomy")
    world.judge(1 * S, "continue", True)
    world.judge(1 * S, "second", True)
    world.judge(10 * S, "continue", False)  # to be accepted until 20 s
    return world


@pytest.mark.parametrize(("t", "after", "accepted", "another"), [
    (10, None, False, False), (12, None, False, False), (12, 8, False, False), (12, 7, False, True),
    (12, None, True, False), (12, 4, True, False), (12, 5, True, False), (12, 3, True, True),
])  # fmt: skip
def test_a_second_demand_counts_where_it_ends_sooner(t: int, after: int | None, accepted: bool, another: bool) -> None:
    """Another gate's NO_GO takes the open demand's place only if its deadline is earlier than that one's."""
    world = two_gates(None if after is None else after * S)
    if accepted:
        world.accept(11 * S, "monitor-1")  # to be completed until 16 s
    found = brief(world.judge(t * S, "second", False))
    assert ("handover.requested" in [name for _, name in found]) == another
    assert world.machine.open is not None and (world.machine.open.terms.gate == "second") == another


def test_fallback_that_is_seen_again_is_the_manoeuvre() -> None:
    """A fallback that was lost, and is in command again, has succeeded."""
    world = World()
    world.see(0, "fallback")
    world.see(5 * S, "unknown")
    assert brief(world.until(7 * S)) == [(7 * S, "mrm.start")]
    assert brief(world.see(8 * S, "fallback")) == [(8 * S, "mrm.succeeded")]
    assert world.until(60 * S) == []


def test_an_override_ends_once() -> None:
    """Whoever follows the one after the person ends nothing more."""
    world = driving()
    world.see(5 * S, "human")
    assert "override.end" in [name for _, name in brief(world.see(6 * S, "autonomy"))]
    assert "override.end" not in [name for _, name in brief(world.see(7 * S, "fallback"))]


def test_a_gate_that_was_go_demands_when_it_is_unknown() -> None:
    """Once armed, a gate in motion need not be known to fail; each GO arms it anew."""
    world = driving()
    for t in (10, 20):
        assert "handover.requested" in [n for _, n in brief(world.judge(t * S, "continue", False, Verdict.UNKNOWN))]
        world.judge((t + 1) * S, "continue", True)


def test_a_signature_is_for_its_own_handover() -> None:
    """What is signed late leaves alone the handover that is open meanwhile; and nothing is cancelled where none is."""
    world = driving()
    assert "no handover" in world.cancel(2 * S).refused
    world.request(3 * S, "human")
    world.accept(4 * S, signature=None)
    world.see(5 * S, "human")
    world.judge(6 * S, "resume", True)
    world.request(7 * S, "autonomy", "b")
    assert world.accept(8 * S, "a").refused == ""
    assert world.machine.open is not None and world.machine.open.attestation == "pending"


def test_the_manoeuvre_is_asked_for_once_and_counted_where_it_ended_a_handover() -> None:
    """A loss meanwhile asks for nothing more; metrics have the manoeuvre of a demand that failed, or was for fallback."""
    world = demanded()
    assert [act.person for act in world.acts] == [""]
    refused, _ = world.refuse(12 * S, "monitor-1").acts
    assert refused.metrics is not None and refused.metrics.mrm == 2 * S
    world.see(12 * S + 1, "unknown")
    assert world.before(15 * S) == []
    assert brief(world.until(15 * S)) == [(15 * S, "mrm.failed")]
    world = driving()
    (asked,) = world.request(2 * S, "human").acts
    assert asked.person == "ada"
    (ended,) = world.cancel(3 * S).acts
    assert ended.metrics is not None and ended.metrics.mrm is None
    world.request(4 * S, "fallback", "b")
    ended = world.see(5 * S, "fallback")[-1]
    assert (ended.type, ended.metrics is not None and ended.metrics.mrm) == ("handover.completed", 0)
    world = demanded()
    (ended,) = world.judge(12 * S, "continue", True)
    assert ended.metrics is not None and ended.metrics.mrm is None


def test_an_accepted_demand_is_compared_by_its_completion() -> None:
    """What was accepted is not asked again by a gate whose own limit is not sooner, however short acceptance may take."""
    world = World(
        replace(SPEC, accept_within=3 * S, complete_within=50 * S),
        (GATES[0], GateSpec("second", LEAF, demand=True), GATES[1]),
    )
    world.see(0, "autonomy")
    world.judge(1 * S, "second", True)
    world.judge(10 * S, "continue", False)
    world.accept(11 * S, "monitor-1")
    assert world.judge(12 * S, "second", False) == []


def test_another_envelope_s_gates_go_on_where_they_are_the_same() -> None:
    """Gates in motion that both have keep what was seen of them, new ones are as they are now, others are gone."""
    machine = demanded().machine
    second = GateSpec("second", LEAF, demand=True, mrm_after=3 * S)
    machine.renew(replace(SPEC, lost_after=9 * S), (*GATES, second), {"continue": True, "resume": True, "second": True})
    assert machine.motions == {"continue": Motion(False, True, True, True), "second": Motion(True, True, False, False)}
    assert machine.mrm_after == {"continue": None, "resume": None, "second": 3 * S}
    assert (machine.needed, machine.spec.lost_after) == ({"resume": True}, 9 * S)
    machine.renew(SPEC, (GATES[1],), {"resume": False})
    assert (machine.motions, machine.needed) == ({}, {"resume": False})


def test_a_jump_of_the_clock_moves_all_times() -> None:
    """Everything under way keeps its age and what was left to it."""
    world = demanded(then=40 * S)
    world.accept(12 * S, "monitor-1")
    world.see(13 * S, "unknown")
    machine, o, lost = world.machine, world.machine.open, world.machine.lost
    assert o is not None and lost is not None
    machine.mrm, o.mrm = 30 * S, 14 * S
    machine.pending["x"] = (o.terms, "ada", 50 * S)

    def times() -> list[int | None]:
        return [
            machine.now, machine.mrm, lost.since, lost.due, machine.pending["x"][2],
            o.due, o.account.mark, o.accepted, o.mrm, o.terms.limit, o.terms.requested,
        ]  # fmt: skip

    before = times()
    assert machine.status()["no_controller_since_ns"] == 13 * S
    machine.shift(100 * S)
    assert times() == [None if t is None else t + 100 * S for t in before]
    assert driving().machine.status()["no_controller_since_ns"] is None


def test_a_snapshot_is_put_back_whole_and_into_the_same_gates_only() -> None:
    """With and without something open and somebody lost; another set of gates is refused."""
    world = demanded()
    for machine in (driving().machine, world.machine):
        again = Handover(SPEC, GATES)
        again.restore(machine.snapshot())
        assert again.snapshot() == machine.snapshot()
    world.see(13 * S, "unknown")
    again.restore(world.machine.snapshot())
    assert again.snapshot() == world.machine.snapshot()
    for other in (Handover(SPEC, GATES[1:]), Handover(replace(SPEC, gates=()), GATES)):
        with pytest.raises(ValueError, match="another envelope"):
            other.restore(world.machine.snapshot())


def test_what_is_absent_or_double_already_counts() -> None:
    """A handover opened while nobody is seen, or two share command, begins with that; its account adds up all blind time."""
    world = World()
    assert world.see(0, "unknown") == [] and world.machine.lost is None
    for cause, absences in (("none", 1), ("unknown", 0)):
        world = demanded()
        opened = world.machine.open
        assert opened is not None
        world.machine.lost = Lost(5 * S, "autonomy", cause, None)
        world.machine.admit(opened)
        assert opened.account.absences == absences
    world = driving()
    world.see(2 * S, "human", "autonomy")
    world.request(3 * S, "human")
    assert world.machine.open is not None and world.machine.open.account.doubles == 1
    world = demanded()
    for t, who in ((11, "none"), (12, "unknown")):
        world.see(t * S, who)
    metrics = world.see(14 * S, "human")[-1].metrics
    assert metrics is not None and metrics.unconfirmed == 3 * S
    (ended,) = demanded().judge(12 * S, "continue", True)
    assert ended.metrics is not None and ended.metrics.completion is None
    assert Span(observable=False) == Span(0, 0, False)


def test_a_third_controller_calls_a_request_off() -> None:
    """Whoever takes command and is neither asked nor asking ends what was asked; the one who has it does not."""
    for first, to, third in (("autonomy", "human", "fallback"), ("human", "autonomy", "fallback")):
        world = World()
        world.see(0, first)
        world.judge(1 * S, "resume", True)
        assert world.request(2 * S, to).refused == ""
        world.see(3 * S, "unknown")
        assert "handover.cancelled" not in [name for _, name in brief(world.see(4 * S, first))]
        assert "handover.cancelled" in [name for _, name in brief(world.see(5 * S, third))]
