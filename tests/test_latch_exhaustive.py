"""Latches over every reachable sequence of samples, modes, commands, deadlines, jumps and restarts, to a depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from strategies import ACTIVE, S, command, items

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.commands import standing_latches
from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import (
    ITEM_MISSION_END,
    ITEM_RESET_LATCH,
    ITEM_SET_LATCH,
    NEVER,
    UNSEEN,
    Latch,
    TransitionKind,
    Verdict,
)
from edge_monitor.core.signals import Signal

P, U, F = Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL
KINDS = tuple(Latch)
NAMES = tuple(kind.name.lower() for kind in KINDS)
SIGNALS = (
    Signal("a", "/t", max_age=4 * S), Signal("mode", "/t", watch="change"), Signal("active", "/t", watch="change"),
)  # fmt: skip
CLEARS = {
    "mode": (Latch.ON_MODE_CHANGE,),
    "end": (Latch.ON_MODE_CHANGE, Latch.ON_MISSION_END),
    "mission": (Latch.ON_MODE_CHANGE, Latch.ON_MISSION_END),
}


def plan(kinds: tuple[Latch, ...], fail_for: int, pass_for: int) -> Plan:
    """A check on ``a`` for each kind of latch, debounced."""
    checks = [
        CheckSpec(kind.name.lower(), "bounds", ("a",), {"max": 2.0}, latch=kind, fail_for=fail_for, pass_for=pass_for)
        for kind in kinds
    ]
    return Plan.build(SIGNALS, checks, mode="mode", active=("active", ACTIVE))


@dataclass(frozen=True)
class Node:
    """An engine's state, and the latches that its journal shows as set."""

    snapshot: bytes
    t: int
    held: tuple[str, ...] = ()


def key(engine: Engine, t: int, most: int) -> bytes:
    """What decides how the engine goes on, times as what is left or past of them; more than ``most`` past is past."""
    checks, signals = engine.checks, engine.signals
    times = np.stack([checks[name] for name in ("fail_since", "pass_since", "due", "wake")])
    unset = (times == NEVER) | (times == UNSEEN)
    deadlines = signals["deadline"]
    parts = [
        np.where(unset, times, np.maximum(np.where(unset, 0, times) - t, -most)),
        np.where(deadlines == NEVER, NEVER, np.where(deadlines == NEVER, 0, deadlines) - t),
        *(checks[name] for name in ("known", "raw", "verdict", "cause", "latched")),
        *(signals[name] for name in ("cause", "value", "shown", "shown_cause", "lost")),
    ]
    return b"".join(part.tobytes() for part in parts)


def inputs(engine: Engine, t: int) -> Iterator[tuple[str, int, np.ndarray, int]]:
    """Every input: its name, the check it is for, its items, and up to when time goes."""
    for name, signal, value in (
        ("good", 0, 1.0), ("bad", 0, 9.0), ("gap", 0, np.nan),
        ("mode", 1, 5.0), ("mode", 1, 6.0), ("end", 2, 0.0), ("begin", 2, ACTIVE),
    ):  # fmt: skip
        yield name, -1, items((t, signal, value)), t
    for i in range(len(engine.checks)):
        yield "reset", i, command(t, ITEM_RESET_LATCH, i), t
    yield "mission", -1, command(t, ITEM_MISSION_END), t
    yield "jump", -1, items((t - 10 * S, 1, 5.0)), t - 10 * S
    for step in (0, 1):
        due = min([*engine.signals["deadline"].tolist(), *engine.checks["due"].tolist()])
        if due != NEVER:
            yield "time", -1, items()[:0], due + step  # deadlines before it fire


def check(before: np.ndarray, name: str, subject: int, rows: np.ndarray, after: np.ndarray) -> None:
    """The rules of latches (SEMANTICS §2), for one input."""
    if len(rows) == 0 and name not in ("reset", "mission"):
        assert (before["latched"] == after["latched"]).all()
        assert (before["verdict"] == after["verdict"]).all()
        return
    told: dict[int, list[Verdict]] = {}
    for row in rows:
        if row["kind"] == TransitionKind.LATCH:
            told.setdefault(int(row["subject"]), []).append(Verdict(int(row["verdict"])))
    failed = {int(r["subject"]) for r in rows if r["kind"] == TransitionKind.CHECK and r["verdict"] == F}
    for i, (kind, was, now) in enumerate(zip(KINDS, before, after, strict=True)):
        verdicts = told.get(i, [])
        if kind == Latch.WHEN_CLEARED:
            assert (now["latched"], verdicts) == (0, [])
            continue
        # What is told is what happened, each change once.
        state = int(was["latched"])
        for verdict in verdicts:
            assert state == (0 if verdict == F else 1)
            state = 1 - state
        assert state == now["latched"]
        # A latched check is FAIL whatever its signal does; a failure latches.
        assert now["latched"] == 0 or now["verdict"] == F
        assert i not in failed or now["latched"] == 1
        # It goes by its occasion, or a person's word for this very check, and only once the condition has cleared.
        cleared = was["known"] == P and was["raw"] == P
        wanted = kind in CLEARS.get(name, ()) or (name == "reset" and subject == i)
        if P in verdicts:
            assert wanted
            assert cleared
        if was["latched"] and cleared and name in ("reset", "mission") and wanted:
            assert now["latched"] == 0


@pytest.mark.parametrize(("fail_for", "pass_for"), [(0, 0), (2 * S, 1 * S)])
def test_every_sequence_keeps_the_rules(fail_for: int, pass_for: int) -> None:
    """No latch is set, kept or cleared against the rules; the journal's latches, put back, are the machine's.

    Goes on until no input leads to a state that is new: all sequences of every length.
    """
    most = max(fail_for, pass_for)
    compiled = plan(KINDS, fail_for, pass_for)
    engine, restarted = Engine(compiled), Engine(compiled)
    engine.advance(until=100 * S)
    empty = Engine(compiled).snapshot()
    start = Node(engine.snapshot(), 100 * S)
    frontier, known = [start], {key(engine, start.t, most)}
    depth = 0
    while frontier:
        depth += 1
        reached: list[Node] = []
        for node in frontier:
            engine.restore(node.snapshot)
            before = engine.checks
            for name, subject, stream, until in list(inputs(engine, node.t)):
                engine.restore(node.snapshot)
                rows = engine.advance(stream, until=until)
                after = engine.checks
                check(before, name, subject, rows, after)
                now = key(engine, until, most)
                if now in known:
                    continue
                known.add(now)
                latch = rows[rows["kind"] == TransitionKind.LATCH]
                events = [("latch.set", name) for name in node.held]
                events += [("latch.set" if r["verdict"] == F else "latch.reset", NAMES[r["subject"]]) for r in latch]
                held = standing_latches(events)
                assert set(held) == {NAMES[i] for i in np.flatnonzero(after["latched"])}
                # A restart from the journal alone.
                restarted.restore(empty)
                for i in map(NAMES.index, held):
                    back = restarted.advance(command(until, ITEM_SET_LATCH, i))
                    assert [(r["kind"], r["verdict"]) for r in back] == [(TransitionKind.CHECK, F)]
                assert restarted.checks["latched"].tolist() == after["latched"].tolist()
                reached.append(Node(engine.snapshot(), until, held))
                if (again := key(restarted, until, most)) not in known:
                    known.add(again)
                    reached.append(Node(restarted.snapshot(), until, held))
        frontier = reached
    # A machine that does nothing has fewer states, one that forgets to merge them more.
    assert (depth, len(known)) == ((10, 1416) if most == 0 else (12, 3293))


def test_a_latch_that_is_put_back_holds_until_it_has_cleared() -> None:
    """After a restart the check is FAIL before anything is received, and its reset waits for a value that passes."""
    engine = Engine(plan((Latch.MANUAL,), 0, 0))
    (row,) = engine.advance(command(1 * S, ITEM_SET_LATCH, 0))
    assert (row["kind"], row["verdict"], row["flags"] & 1) == (TransitionKind.CHECK, F, 1)
    assert len(engine.advance(command(2 * S, ITEM_SET_LATCH, 0))) == 0
    assert len(engine.advance(command(2 * S, ITEM_RESET_LATCH, 0))) == 0
    assert len(engine.advance(items((3 * S, 0, 1.0)))) == 0
    rows = engine.advance(command(4 * S, ITEM_RESET_LATCH, 0))
    assert [(r["kind"], r["verdict"]) for r in rows] == [(TransitionKind.LATCH, P), (TransitionKind.CHECK, P)]


def test_a_check_without_a_latch_takes_none_back() -> None:
    """An envelope that has dropped a latch since is not overruled by the journal; a check that is not there is refused."""
    engine = Engine(plan((Latch.WHEN_CLEARED,), 0, 0))
    assert len(engine.advance(command(1 * S, ITEM_SET_LATCH, 0))) == 0
    with pytest.raises(IndexError, match="which the plan does not have"):
        engine.advance(command(1 * S, ITEM_SET_LATCH, 1))
