"""Latches: what sets them, what clears them, and what does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from strategies import S, check, command, engine, items, told

from edge_monitor.core.samples import (
    ITEM_MISSION_END,
    ITEM_RESET_LATCH,
    Latch,
    TransitionKind,
    Verdict,
)

P, U, F = Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL
NAN = math.nan


def latch_story(latch: Latch, *commands: np.ndarray, roles: bool = True) -> list[tuple[int, Verdict]]:
    """Fail at 1 s, clear at 2 s, then ``commands``."""
    machine = engine(check("bounds", {"max": 2.0}, latch=latch), roles=roles)
    start = items((0, 2, 5.0), (0, 3, 1.0), (0, 0, 0.0), (1 * S, 0, 9.0), (2 * S, 0, 0.0))
    return told(machine.advance(np.concatenate([start, *commands])))


MODE, END = items((3 * S, 2, 6.0)), items((3 * S, 3, 0.0))
RESET, MISSION = command(3 * S, ITEM_RESET_LATCH, 0), command(3 * S, ITEM_MISSION_END)


@pytest.mark.parametrize(("latch", "clears"), [
    (Latch.WHEN_CLEARED, None),
    (Latch.ON_MODE_CHANGE, {"mode", "end", "reset", "mission"}),
    (Latch.ON_MISSION_END, {"end", "reset", "mission"}),
    (Latch.MANUAL, {"reset"}),
])  # fmt: skip
def test_what_clears_which_latch(latch: Latch, clears: set[str] | None) -> None:
    """Each latch goes by its own occasion or a person's word; the end of a mission is the end of its mode too."""
    for name, occasion in {"mode": MODE, "end": END, "reset": RESET, "mission": MISSION}.items():
        if clears is None:
            assert latch_story(latch, occasion) == [(0, P), (1 * S, F), (2 * S, P)]
        else:
            assert latch_story(latch, occasion) == [(0, P), (1 * S, F), *([(3 * S, P)] if name in clears else [])]


@pytest.mark.parametrize("occasion", [MODE, END, RESET, MISSION])
def test_no_latch_goes_while_its_condition_holds(occasion: np.ndarray) -> None:
    """A failing, an unknown and a not yet recovered check stay latched, whatever happens."""
    for latch in (Latch.ON_MODE_CHANGE, Latch.ON_MISSION_END, Latch.MANUAL):
        for value, wait in ((9.0, 0), (NAN, 0), (0.0, 5 * S)):
            machine = engine(check("bounds", {"max": 2.0}, latch=latch, pass_for=wait), roles=True)
            machine.advance(items((0, 2, 5.0), (0, 3, 1.0), (1 * S, 0, 9.0), (2 * S, 0, value)))
            assert told(machine.advance(occasion)) == []
            assert (machine.checks["latched"][0], machine.checks["verdict"][0]) == (1, F)


def test_a_latch_is_told_when_it_is_set_and_reset() -> None:
    """A latching failure is followed by its latch row, a reset by the pass that it uncovers; it may latch anew."""
    machine = engine(check("bounds", {"max": 2.0}, latch=Latch.MANUAL))
    stream = np.concatenate([items((0, 0, 9.0), (1, 0, 0.0)), command(2, ITEM_RESET_LATCH), items((3, 0, 9.0))])
    rows = machine.advance(stream)
    told_as, latched = TransitionKind.CHECK, TransitionKind.LATCH
    assert [(r["t_effective"], r["kind"], r["verdict"]) for r in rows] == [
        (0, told_as, F), (0, latched, F), (2, latched, P), (2, told_as, P), (3, told_as, F), (3, latched, F),
    ]  # fmt: skip


def test_a_latch_survives_a_clock_jump() -> None:
    """After a step back the check stays FAIL, and can be reset only once it has passed on new values."""
    machine = engine(check("bounds", {"max": 2.0}, latch=Latch.MANUAL))
    machine.advance(items((10 * S, 0, 9.0), (11 * S, 0, 0.0), (5 * S, 1, 0.0)))
    assert told(machine.advance(command(6 * S, ITEM_RESET_LATCH))) == []
    machine.advance(items((7 * S, 0, 0.0)))
    assert told(machine.advance(command(8 * S, ITEM_RESET_LATCH))) == [(8 * S, P)]


def test_a_reset_restarts_the_timers() -> None:
    """After a reset a failure must last its whole ``fail_for`` again."""
    machine = engine(check("bounds", {"max": 2.0}, latch=Latch.MANUAL, fail_for=1 * S))
    machine.advance(items((0, 0, 9.0), (1 * S, 0, 9.0), (2 * S, 0, 0.0)))
    rows = machine.advance(np.concatenate([command(3 * S, ITEM_RESET_LATCH), items((4 * S, 0, 9.0), (9 * S, 1, 0.0))]))
    assert told(rows) == [(3 * S, P), (5 * S, F)]


def test_a_mode_that_comes_back_after_a_gap_is_no_change() -> None:
    """Only from one known mode to another is a change of mode: what happened in a gap is not known, the latch stays."""
    assert latch_story(Latch.ON_MODE_CHANGE, items((3 * S, 2, NAN), (4 * S, 2, 6.0))) == [(0, P), (1 * S, F)]
    assert latch_story(Latch.ON_MODE_CHANGE, items((3 * S, 2, 5.0), (4 * S, 2, 6.0)))[-1] == (4 * S, P)
