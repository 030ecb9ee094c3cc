"""Handover across restarts, and what its events and its page say."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from handover_world import SIGNED, S, brief, demanded, driving

from edge_monitor import events
from edge_monitor.core.handover_terms import Span
from edge_monitor.journal.event_types import EVENT_TYPES
from edge_monitor.journal.records import encode_payload


def test_a_restart_reopens_what_was_open() -> None:
    """After a kill the demand goes on to its own deadline; who commands must be seen anew, and nothing is told twice."""
    world = demanded()
    world.restart(12 * S, 14 * S)
    assert (world.machine.open.due, world.machine.responsible) == (20 * S, "")
    assert world.see(15 * S, "autonomy") == []
    assert brief(world.until(20 * S)) == [(20 * S, "handover.timeout"), (20 * S, "mrm.start")]


def test_what_fell_due_while_stopped_fires_at_its_time() -> None:
    """A deadline that passed while the monitor was down is told first, at its own time."""
    world = demanded()
    world.restart(12 * S, 300 * S)
    acts = world.machine.advance(300 * S, 300 * S)
    assert brief(acts) == [(20 * S, "handover.timeout"), (20 * S, "mrm.start"), (23 * S, "mrm.failed")]


def test_a_takeover_while_stopped_is_seen_after_it() -> None:
    """Whoever is in command when the monitor comes back has taken over, if it is another."""
    world = driving()
    world.restart(12 * S, 14 * S)
    assert brief(world.see(15 * S, "human")) == [(15 * S, "override.start"), (15 * S, "handover.completed")]


def test_a_controller_that_is_not_seen_again_is_lost() -> None:
    """A restart waits for an observation as any loss does, from the restart on."""
    world = driving()
    world.restart(12 * S, 14 * S)
    assert brief(world.until(500 * S)) == [(16 * S, "mrm.start"), (19 * S, "mrm.failed")]


def test_another_boot_expires_what_was_open() -> None:
    """The clock is another one: a demand has timed out when the monitor comes back, and says that times are not known."""
    world = demanded()
    world.restart(12 * S, 3 * S, same_boot=False)
    acts = world.machine.advance(4 * S, 4 * S)
    assert brief(acts) == [(3 * S, "handover.timeout"), (3 * S, "mrm.start")]
    assert acts[0].metrics.no_controller == Span(0, None, False)


def test_signatures_are_waited_for_across_boots() -> None:
    """What was left to a signature is left to it after two reboots, each with a clock of its own."""
    world = demanded()
    world.see(12 * S, "human")  # to be signed within 60 s
    world.restart(22 * S, 1 * S, same_boot=False)
    world.see(2 * S, "human")
    world.restart(11 * S, 5000 * S, same_boot=False)
    assert world.machine.pending["monitor-1"][2] == (5000 + 60 - 10 - 10) * S
    world.see(5001 * S, "human")
    assert world.accept(5039 * S, "monitor-1").acts[0].attestation == "signed"


def test_restarts_are_invisible_to_deadlines() -> None:
    """A machine that is rebuilt after every event ends every handover when one that was never stopped does."""
    told = [(4, "request"), (6, "accept"), (7, "human"), (9, "resume"), (11, "back"), (13, "autonomy"), (20, "no_go")]

    def story(restarts: bool) -> list[tuple[int, str]]:
        world = driving()
        for (t, word), (after, _) in pairwise([*told, (21, "")]):
            {
                "request": lambda w, t: w.request(t, "human"),
                "accept": lambda w, t: w.accept(t, signature=None),
                "human": lambda w, t: w.see(t, "human"),
                "resume": lambda w, t: w.judge(t, "resume", True),
                "back": lambda w, t: w.request(t, "autonomy", "b"),
                "autonomy": lambda w, t: w.see(t, "autonomy"),
                "no_go": lambda w, t: w.judge(t, "continue", False),
            }[word](world, t * S)
            if restarts and after - t >= 2:
                seen = world.seen.decision
                world.restart(t * S + S // 2, t * S + S // 2 + 1)
                world.see(t * S + S // 2 + 2, seen)
                world.judge(t * S + S // 2 + 3, "resume", True)
        world.until(500 * S)
        return brief(world.acts)

    assert story(True) == story(False)


def test_events_say_who_what_and_why() -> None:
    """An event names the handover, who was asked, who is responsible, the deadline, and ends with its metrics."""
    world = demanded()
    world.accept(13 * S, "monitor-1")
    world.see(15 * S, "human")
    requested, accepted, completed = (events.from_handover(act, {"counts": {"late": 2}}) for act in world.acts)
    assert (requested.type, requested.subject, requested.severity) == ("handover.requested", "monitor-1", "marginal")
    assert requested.rules == ("continue",)
    assert requested.payload["handover"] == {
        "id": "monitor-1", "from": "autonomy", "to": "human", "initiator": "monitor", "reason": "gate continue is NO_GO",
        "requested_ns": 10 * S, "demand": True, "gate": "continue", "rules": ["continue"], "limit_ns": None, "unasked": False,
    }  # fmt: skip
    assert (requested.payload["schema"], requested.payload["direction"]) == (1, "autonomy->human")
    assert (requested.payload["due_ns"], requested.payload["seen"]) == (20 * S, {"counts": {"late": 2}})
    assert (accepted.payload["person"], accepted.payload["signature"]) == ("ada", SIGNED.hex())
    assert (accepted.payload["checkpoint"], accepted.payload["attestation"]) == ("head\n", "signed")
    assert (completed.payload["responsible"], completed.severity) == ("human", "negligible")
    assert completed.payload["metrics"] == {
        "acknowledge_ns": 3 * S, "completion_ns": 5 * S, "mrm_ns": None, "transition_ns": 5 * S, "unconfirmed_ns": 0,
        "no_controller": {"observed": "yes", "at_least_ns": 0, "at_most_ns": 0},
        "two_controllers": {"observed": "yes", "at_least_ns": 0, "at_most_ns": 0},
    }  # fmt: skip


def test_every_event_is_one_that_the_journal_takes() -> None:
    """All types are in the closed list, and all payloads are encoded, whatever happened."""
    world = demanded()
    world.until(500 * S)
    world.see(501 * S, "fallback")
    world.see(502 * S, "human")
    world.request(503 * S, "autonomy")
    world.request(504 * S, "fallback", "b")
    world.see(505 * S, "fallback")
    world.see(506 * S, "unknown")
    world.until(900 * S)
    types = set()
    for act in world.acts:
        event = events.from_handover(act)
        encode_payload(event.payload)
        types.add(event.type)
    assert types <= set(EVENT_TYPES)
    assert len(types) >= 8
    assert events.from_handover(world.acts[1]).severity == "critical"  # nobody answered


def test_the_rules_of_the_document_are_tested() -> None:
    """Every test that docs/handover.md names exists."""
    root = Path(__file__).resolve().parent
    named = set(re.findall(r"`(test_\w+)`", (root.parent / "docs" / "handover.md").read_text("utf-8")))
    written = "".join(path.read_text("utf-8") for path in root.glob("test_*.py"))
    assert len(named) > 25
    assert [name for name in sorted(named) if f"def {name}(" not in written] == []
