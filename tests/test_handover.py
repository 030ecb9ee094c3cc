"""Handover: who is asked, who answers, who is responsible meanwhile, and what happens when nobody answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from handover_world import GATES, SIGNED, SPEC, S, World
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.handover import HandoverOracle

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


def drive(world: World, t: int, word: str, value: Any, number: int) -> Any:
    """Give the machine one input; answers it as the oracle takes it, None where the world can't produce it now."""
    machine = world.machine
    if word == "see":
        if (world.seen.decision, world.seen.execution) == value:
            return None
        world.see(t, *value)
    elif word in ("gate", "resume"):
        world.judge(t, "continue" if word == "gate" else "resume", value)
    elif word == "ask":
        world.request(t, value, f"p{number}")
        return (f"p{number}", value)
    else:
        ids = [machine.open.terms.id] if machine.open else list(machine.pending)
        if not ids:
            return None
        if word == "accept":
            world.accept(t, ids[0], value[1], SIGNED if value[0] else None)
        elif word == "refuse":
            world.refuse(t, ids[0])
        else:
            world.cancel(t, ids[0])
    return (value,)[0] if value is not None else ()


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 1, 1, 2, 3, 5, 8]), inputs()), max_size=30),
    st.sampled_from([None, 2, 4, 7]),
)
def test_equals_the_rules_tick_by_tick(story: list[tuple[int, tuple[str, Any]]], then: int | None) -> None:
    """Over random stories the machine tells what counting ticks by the rules tells, at the same ticks, in the same order."""
    ticks = {"accept": 5, "complete": 3, "attest": 9, "mrm": 2, "lost": 2}
    spec = replace(
        SPEC, accept_within=5 * S, complete_within=3 * S, attest_within=9 * S, mrm_within=2 * S, lost_after=2 * S
    )
    gates = (replace(GATES[0], mrm_after=None if then is None else then * S), GATES[1])
    world, oracle = World(spec, gates), HandoverOracle(ticks, then)
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
        world.machine.now is None or world._keep(world.machine.advance(t * S, t * S))
        taken = drive(world, t * S, word, value, number)
        if taken is not None:
            waiting.append((word, None if taken == () else taken))
    end = t + 40
    tick_to(end)
    world.until((end - 1) * S)
    found = [
        (act.t_effective // S, act.type, act.terms.id if act.terms and act.type != "mrm.start" else "")
        for act in world.acts
    ]
    assert found == expected
