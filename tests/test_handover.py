"""Handover: who is asked, who answers, who is responsible meanwhile, and what happens when nobody answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from handover_world import GATES, LEAF, MS, SIGNED, SPEC, S, World, brief, demanded, driving
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.handover import HandoverOracle

from edge_monitor.core.commands import ResetLatch
from edge_monitor.core.decision_specs import GateSpec
from edge_monitor.core.handover import MOST_PENDING, Handover
from edge_monitor.core.handover_state import MOST_IDS
from edge_monitor.core.handover_terms import Span
from edge_monitor.core.samples import Verdict

WORDS = {"see": 10, "gate": 3, "resume": 2, "ask": 3, "accept": 3, "refuse": 1, "cancel": 1}
SIGHTS = [("autonomy", "autonomy"), ("human", "human"), ("fallback", "autonomy"), ("none", "none"),
          ("unknown", "unknown"), ("human", "autonomy"), ("fallback", "unknown")]  # fmt: skip


def inputs() -> st.SearchStrategy[tuple[str, Any]]:
    """One input of the oracle's language."""
    return st.sampled_from([word for word, weight in WORDS.items() for _ in range(weight)]).flatmap(
        lambda word: st.tuples(
            st.just(word),
            {
                "see": st.sampled_from(SIGHTS),
                "gate": st.booleans(),
                "resume": st.booleans(),
                "ask": st.sampled_from(["human", "autonomy", "fallback"]),
                "accept": st.tuples(st.booleans(), st.sampled_from(["ada", "bob"])),
            }.get(word, st.none()),
        )
    )


IMPOSSIBLE = object()


def drive(world: World, t: int, word: str, value: Any, number: int) -> Any:
    """Give the machine one input; answers it as the oracle takes it, ``IMPOSSIBLE`` where it can't come now."""
    machine = world.machine
    if word == "see":
        if (world.seen.decision, world.seen.execution) == value:
            return IMPOSSIBLE
        world.see(t, *value)
    elif word in ("gate", "resume"):
        world.judge(t, "continue" if word == "gate" else "resume", value)
    elif word == "ask":
        world.request(t, value, f"p{number}")
        return (f"p{number}", value)
    else:
        ids = [machine.open.terms.id] if machine.open else list(machine.pending)
        if not ids:
            return IMPOSSIBLE
        if word == "accept":
            world.accept(t, ids[0], value[1], SIGNED if value[0] else None)
        elif word == "refuse":
            world.refuse(t, ids[0])
        else:
            world.cancel(t, ids[0])
    return value


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 1, 1, 2, 3, 5, 8]), inputs()), max_size=30),
    st.sampled_from([None, 2, 4, 7]),
    st.sampled_from(["autonomy", "human"]),
)
def test_equals_the_rules_tick_by_tick(story: list[tuple[int, tuple[str, Any]]], then: int | None, first: str) -> None:
    """Over random stories the machine tells what counting ticks by the rules tells, at the same ticks, in the same order."""
    ticks = {"accept": 5, "complete": 3, "attest": 9, "mrm": 2, "lost": 2}
    spec = replace(
        SPEC, accept_within=5 * S, complete_within=3 * S, attest_within=9 * S, mrm_within=2 * S, lost_after=2 * S
    )
    gates = (replace(GATES[0], mrm_after=None if then is None else then * S), GATES[1])
    world, oracle = World(spec, gates), HandoverOracle(ticks, then)
    story = [(0, ("see", (first, first))), *story]
    expected: list[tuple[int, str, str]] = []
    now, waiting = 0, []

    def tick_to(t: int) -> None:
        nonlocal now, waiting
        while now < t:
            expected.extend((now, *told) for told in oracle.tick(waiting))
            now, waiting = now + 1, []

    t = 0
    for number, (wait, (word, value)) in enumerate(story):
        t += wait
        tick_to(t)
        world.before(t * S)
        taken = drive(world, t * S, word, value, number)
        if taken is not IMPOSSIBLE:
            waiting.append((word, taken))
    end = t + 40
    tick_to(end)
    world.until((end - 1) * S)
    found = [
        (act.t_effective // S, act.type, act.terms.id if act.terms and act.type != "mrm.start" else "")
        for act in world.acts
    ]
    assert found == expected


def test_a_demand_that_nobody_answers_becomes_a_manoeuvre_at_its_deadline() -> None:
    """Timeout and request of the manoeuvre are at the deadline, however late it is revealed; then it must be seen."""
    world = demanded()
    assert world.machine.advance(20 * S, 20 * S) == []
    acts = world.until(500 * S)
    assert brief(acts) == [(20 * S, "handover.timeout"), (20 * S, "mrm.start"), (23 * S, "mrm.failed")]
    assert {act.t_decided for act in acts} == {500 * S}
    assert (acts[0].phase, acts[0].metrics.mrm) == ("acceptance", 10 * S)
    assert acts[0].responsible == acts[2].responsible == "autonomy"


def test_the_manoeuvre_is_reached_when_it_is_seen() -> None:
    """Fallback in command, or a vehicle that nobody commands any more, is the end that was asked for."""
    for condition in ("fallback", "none"):
        world = demanded()
        world.until(20 * S)
        assert brief(world.see(21 * S, condition))[:1] == [(21 * S, "mrm.succeeded")]


def test_accepted_in_time_and_completed_when_seen() -> None:
    """The one asked stays asked until command is seen to change; autonomy is responsible till then."""
    world = demanded()
    (accepted,) = world.accept(13 * S, "monitor-1").acts
    assert (accepted.due, accepted.responsible, accepted.attestation) == (18 * S, "autonomy", "signed")
    (completed,) = world.see(15 * S, "human")
    assert (completed.type, completed.responsible, completed.person) == ("handover.completed", "human", "ada")
    assert (completed.metrics.acknowledge, completed.metrics.completion) == (3 * S, 5 * S)
    assert world.until(500 * S) == []


def test_accepted_but_not_completed() -> None:
    """Whoever accepts and does not take over has let the demand time out."""
    world = demanded()
    world.accept(13 * S, "monitor-1")
    assert brief(world.until(500 * S))[:2] == [(18 * S, "handover.timeout"), (18 * S, "mrm.start")]


def test_the_manoeuvre_waits_no_longer_than_the_gate_says() -> None:
    """With `then: {after: 7 s}` neither an unanswered nor an accepted demand outlasts 7 s."""
    for accept in (False, True):
        world = demanded(then=7 * S)
        if accept:
            assert world.accept(13 * S, "monitor-1").acts[0].due == 17 * S
        acts = world.until(17 * S)
        assert brief(acts) == [(17 * S, "handover.timeout"), (17 * S, "mrm.start")]
        assert acts[0].phase == ("completion" if accept else "acceptance")


def test_a_refused_demand_is_a_manoeuvre_at_once() -> None:
    """Autonomy may not go on and the person does not want to: fallback is asked for without waiting."""
    world = demanded()
    assert brief(world.refuse(12 * S, "monitor-1").acts) == [(12 * S, "handover.refused"), (12 * S, "mrm.start")]


def test_a_request_of_a_person_ends_without_a_manoeuvre() -> None:
    """Refused, timed out or cancelled: autonomy goes on, since nothing was wrong with it."""
    for end, word in (("refuse", "handover.refused"), ("cancel", "handover.cancelled"), ("", "handover.timeout")):
        world = driving()
        world.request(10 * S, "human")
        acts = getattr(world, end)(12 * S).acts if end else world.until(500 * S)
        assert brief(acts) == [(12 * S if end else 20 * S, word)]
        assert world.machine.responsible == "autonomy"


def test_a_demand_goes_when_its_gate_is_go_again() -> None:
    """Before anybody has accepted, a gate that recovers calls its demand back; later it does not."""
    world = demanded()
    (cancelled,) = world.judge(12 * S, "continue", True)
    assert (cancelled.type, cancelled.cause) == ("handover.cancelled", "gate continue is GO again")
    assert brief(world.judge(14 * S, "continue", False)) == [(14 * S, "handover.requested")]
    world.accept(15 * S, "monitor-2")
    assert world.judge(16 * S, "continue", True) == []


def test_nobody_can_cancel_a_demand() -> None:
    """A person takes over, or refuses; calling the demand back is the gate's."""
    assert "gate" in demanded().cancel(12 * S, "monitor-1").refused


def test_an_unknown_gate_after_a_start_demands_nothing() -> None:
    """What was never GO and is only unknown is a warm-up; a criterion that is known to fail is not."""
    world = World()
    world.see(0, "autonomy")
    assert world.judge(1 * S, "continue", False, Verdict.UNKNOWN) == []
    assert brief(world.judge(2 * S, "continue", False, Verdict.FAIL)) == [(2 * S, "handover.requested")]


def test_a_gate_demands_when_autonomy_takes_command() -> None:
    """NO_GO while a person drives demands nothing; handing over to autonomy then does, at once."""
    world = World()
    world.see(0, "human")
    assert world.judge(1 * S, "continue", False) == []
    assert brief(world.see(2 * S, "autonomy")) == [(2 * S, "handover.completed"), (2 * S, "handover.requested")]


def test_the_stricter_of_two_gates_sets_the_deadline() -> None:
    """A second gate's demand replaces an open one only where it would end sooner."""
    gates = (replace(GATES[0], mrm_after=8 * S), GateSpec("strict", LEAF, demand=True, mrm_after=2 * S))
    world = World(replace(SPEC, gates=()), gates)
    world.see(0, "autonomy")
    world.judge(1 * S, "continue", False)
    assert brief(world.judge(2 * S, "strict", False)) == [(2 * S, "handover.cancelled"), (2 * S, "handover.requested")]
    other = World(replace(SPEC, gates=()), gates)
    other.see(0, "autonomy")
    other.judge(1 * S, "strict", False)
    assert other.judge(2 * S, "continue", False) == []
    assert brief(other.judge(2 * S, "strict", True)) == [(2 * S, "handover.cancelled"), (2 * S, "handover.requested")]


def test_a_physical_takeover_waits_for_nobody() -> None:
    """Seen before acceptance it is completed at once; the signature may come later, from anyone who may sign."""
    world = demanded()
    (completed,) = world.see(12 * S, "human")
    assert (completed.type, completed.attestation, completed.due) == ("handover.completed", "pending", 72 * S)
    assert world.accept(13 * S, "monitor-1", signature=None).refused
    (signed,) = world.accept(14 * S, "monitor-1").acts
    assert (signed.type, signed.phase, signed.attestation) == ("handover.accepted", "attestation", "signed")
    assert (signed.signature, signed.checkpoint) == (SIGNED, "head\n")
    assert world.accept(15 * S, "monitor-1").refused
    assert world.until(500 * S) == []


def test_a_missing_signature_is_told_at_its_deadline() -> None:
    """Nobody signed: the record says so, and a signature after it is too late."""
    world = demanded()
    world.see(12 * S, "human")
    (missing,) = world.until(500 * S)
    assert (missing.t_effective, missing.type, missing.phase) == (72 * S, "handover.timeout", "attestation")
    assert missing.attestation == "missing"
    assert world.accept(501 * S, "monitor-1").refused


def test_who_accepted_signs() -> None:
    """An acceptance without a signature is attested by the same person only."""
    world = demanded()
    (accepted,) = world.accept(11 * S, "monitor-1", "ada", None).acts
    assert accepted.attestation == "pending"
    assert world.accept(12 * S, "monitor-1", "bob").refused == "handover monitor-1 is ada's to sign"
    (signed,) = world.accept(12 * S, "monitor-1", "ada").acts
    assert (signed.phase, signed.due) == ("attestation", None)
    assert world.accept(12 * S, "monitor-1", "ada").refused
    (completed,) = world.see(13 * S, "human")
    assert (completed.attestation, completed.due) == ("signed", None)


def test_an_override_is_a_persons_alone() -> None:
    """A person who takes over without a handover overrides; a fallback that nobody asked for does not."""
    world = driving()
    start, completed = world.see(5 * S, "human")
    assert (start.type, completed.type, completed.terms.unasked) == ("override.start", "handover.completed", True)
    assert completed.attestation == "pending"
    assert brief(world.see(9 * S, "autonomy")) == [(9 * S, "override.end"), (9 * S, "handover.completed")]
    assert driving().see(5 * S, "fallback") == []
    assert driving().see(5 * S, "fallback", "human") == []


def test_back_to_autonomy_needs_its_gate() -> None:
    """A person's request is accepted by the gate's GO, refused by its NO_GO, and called back when it turns."""
    world = World()
    world.see(0, "human")
    refused = world.request(1 * S, "autonomy")
    assert (brief(refused.acts), refused.refused) == ([(1 * S, "handover.refused")], "gate resume is NO_GO")
    world.judge(2 * S, "resume", True)
    assert brief(world.request(3 * S, "autonomy", "b", signature=SIGNED).acts) == [
        (3 * S, "handover.requested"), (3 * S, "handover.accepted"),
    ]  # fmt: skip
    assert world.judge(4 * S, "resume", False)[0].cause == "gate resume is NO_GO"
    world.judge(5 * S, "resume", True)
    world.request(6 * S, "autonomy", "c", signature=SIGNED)
    (completed,) = world.see(8 * S, "autonomy")
    assert (completed.attestation, completed.responsible) == ("signed", "autonomy")
    without = World(replace(SPEC, gates=()))
    without.see(0, "human")
    assert "names no gate" in without.request(1 * S, "autonomy").refused


def test_one_handover_at_a_time() -> None:
    """A second request is refused with the reason, unless it is for fallback, which replaces what is open."""
    world = driving()
    world.request(5 * S, "human", "a")
    refused = world.request(6 * S, "human", "b")
    assert (brief(refused.acts), refused.refused) == ([(6 * S, "handover.refused")], "handover a is open")
    assert brief(world.request(7 * S, "fallback", "c").acts) == [
        (7 * S, "handover.cancelled"), (7 * S, "handover.requested"), (7 * S, "mrm.start"),
    ]  # fmt: skip
    assert brief(world.see(8 * S, "fallback")) == [(8 * S, "mrm.succeeded"), (8 * S, "handover.completed")]


def test_fallback_that_does_not_come() -> None:
    """A handover to fallback fails with its manoeuvre; it can't be called back, refused or accepted."""
    world = driving()
    world.request(5 * S, "fallback")
    assert world.cancel(5 * S).refused
    assert world.refuse(5 * S).refused
    assert world.accept(5 * S).refused
    assert brief(world.until(500 * S)) == [(8 * S, "handover.timeout"), (8 * S, "mrm.failed")]


def test_ids_are_taken_once() -> None:
    """The id of an open, waiting or lately ended handover, and the monitor's own, name no new one; nothing is told."""
    world = driving()
    for i in range(MOST_IDS + 1):
        world.request((10 + i) * S, "human", f"p{i}")
        assert world.request((10 + i) * S, "human", f"p{i}").acts == []
        world.refuse((10 + i) * S, f"p{i}")
    assert world.request(900 * S, "human", "p1").refused == "the id p1 is taken"
    assert world.request(900 * S, "human", "monitor-7").refused
    assert not world.request(900 * S, "human", "p0").refused  # long ago


def test_a_lost_controller_is_a_declared_span_and_a_demand() -> None:
    """Who commands is not known: nobody is responsible from that time on, and fallback is demanded when it lasts."""
    world = driving()
    assert world.see(5 * S, "unknown") == []
    assert (world.machine.responsible, world.machine.lost.since) == ("", 5 * S)
    (start,) = world.until(7 * S)
    assert (start.t_effective, start.type, start.responsible) == (7 * S, "mrm.start", "")
    brief_gap = driving()
    brief_gap.see(5 * S, "unknown")
    brief_gap.see(6 * S, "autonomy")
    assert brief_gap.until(500 * S) == []


def test_a_vehicle_out_of_service_is_no_lost_controller() -> None:
    """Disarmed after a landing: nobody commands and nothing is demanded. Disarmed in a handover: it is."""
    world = driving()
    world.see(5 * S, "none")
    assert world.until(500 * S) == []
    assert world.machine.status()["responsible"] == "none"
    assert brief(world.see(501 * S, "human")) == []  # armed again: there is nobody to take over from
    world = demanded()
    world.see(12 * S, "none")
    assert brief(world.until(14 * S)) == [(14 * S, "mrm.start")]


def test_unknown_and_out_of_service_follow_each_other() -> None:
    """A vehicle that turns out to be inactive was not lost; in a handover it still is. One that was inactive is not lost."""
    world = driving()
    world.see(5 * S, "unknown")
    world.see(6 * S, "none")
    assert world.until(500 * S) == []
    assert world.see(501 * S, "human") == []
    world = demanded()
    world.see(11 * S, "unknown")
    world.see(12 * S, "none")
    assert brief(world.until(13 * S)) == [(13 * S, "mrm.start")]
    assert brief(world.see(14 * S, "human")) == [(14 * S, "mrm.failed"), (14 * S, "handover.completed")]
    assert world.acts[-1].metrics.no_controller == Span(1500 * MS, 3500 * MS, False)
    world = driving()
    world.see(5 * S, "none")
    world.see(6 * S, "unknown")
    assert world.until(500 * S) == []
    assert world.see(501 * S, "human") == []


def test_spans_have_bounds() -> None:
    """Time with nobody in command is known up to the age of observations, and what can't be seen is never 0."""
    world = demanded()
    world.see(11 * S, "none")
    world.see(12 * S, "autonomy")
    world.see(13 * S, "human", "autonomy")
    (completed,) = world.see(15 * S, "human")
    metrics = completed.metrics
    assert metrics.no_controller == Span(500 * MS, 1500 * MS)
    assert metrics.two_controllers == Span(1500 * MS, 2500 * MS)
    assert (metrics.unconfirmed, metrics.transition) == (1 * S, 5 * S)
    world = demanded()
    world.see(11 * S, "unknown")
    (completed,) = world.see(12 * S, "human")
    assert completed.metrics.no_controller.plain() == {"observed": "not observable", "at_most_ns": 1 * S}
    world = World(replace(SPEC, observed_within=None, sees_none=False, sees_both=False))
    world.see(0, "autonomy")
    world.request(1 * S, "human")
    (completed,) = world.see(2 * S, "human")
    assert completed.metrics.two_controllers.plain() == {"observed": "not observable", "at_most_ns": None}


def test_a_step_of_the_clock_keeps_what_was_left() -> None:
    """A demand with 6 s to go has 6 s to go after the stream stepped back by 5 s, and its metrics stay."""
    world = demanded()
    world.jump(9 * S, -5 * S)  # at 14 s by the old clock
    acts = world.until(500 * S)
    assert brief(acts)[0] == (15 * S, "handover.timeout")
    assert acts[0].metrics.transition == 10 * S
    world = demanded()
    world.jump(9 * S, -5 * S)
    assert world.accept(10 * S, "monitor-1").acts[0].t_effective == 10 * S
    world = driving()
    world.see(5 * S, "unknown")  # to be seen again by 7 s
    world.jump(3 * S, -3 * S)
    assert brief(world.until(4 * S)) == [(4 * S, "mrm.start")]  # to be reached by 7 s
    world.jump(1 * S, -4 * S)
    assert brief(world.until(500 * S)) == [(3 * S, "mrm.failed")]
    world = driving()
    world.see(5 * S, "human")  # to be signed by 65 s
    world.jump(1 * S, -6 * S)
    assert brief(world.until(500 * S)) == [(59 * S, "handover.timeout")]


def test_a_suspend_expires_handovers_in_order() -> None:
    """After a leap everything that fell due in it fires at its own time, before what comes after."""
    world = driving()
    world.see(5 * S, "human")  # to be signed by 65 s
    world.judge(6 * S, "resume", True)
    world.request(10 * S, "autonomy")
    acts = world.see(3600 * S, "autonomy")
    assert brief(acts)[:2] == [(3600 * S, "override.end"), (3600 * S, "handover.completed")]
    assert brief(world.acts)[-4:-2] == [(15 * S, "handover.timeout"), (65 * S, "handover.timeout")]


def test_too_many_unsigned() -> None:
    """A person who keeps grabbing the stick fills no memory: the oldest signature counts as missing."""
    world = driving()
    t = 10
    while len(world.machine.pending) < MOST_PENDING:
        world.see(t * 10 * MS + S, "human" if t % 2 == 0 else "autonomy")
        t += 1
    missing = world.see(t * 10 * MS + S, "human" if t % 2 == 0 else "autonomy")
    assert [act.cause for act in missing if act.phase] == ["too many wait for a signature"]
    assert len(world.machine.pending) == MOST_PENDING


def test_a_late_command_acts_now() -> None:
    """A command that was on its way while time went on can't change what is past."""
    world = demanded()
    world.machine.advance(15 * S, 15 * S)
    assert world.accept(12 * S, "monitor-1").acts[0].t_effective == 15 * S


def test_other_commands_are_a_mistake() -> None:
    """The machine takes commands of handovers only."""
    with pytest.raises(TypeError, match=r"latch\.reset"):
        Handover(SPEC).command(ResetLatch(t=0, check="a", person="ada", reason="r"))


def test_snapshots_belong_to_their_envelope() -> None:
    """State of an envelope with other gates is refused."""
    with pytest.raises(ValueError, match="another envelope"):
        Handover(replace(SPEC, gates=())).restore(demanded().machine.snapshot())
