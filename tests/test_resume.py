"""From a snapshot in the middle of a message, another process goes on with the same bits: every detector, every operator.

One plan holds them all. Run as a program this file takes a snapshot from its standard input, goes on from there with the
rest of the stream, and prints rows, digest and the states of what only code can use.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from every_check import PARAMS, S, plan, stream

from edge_monitor.core.drift import pipeline
from edge_monitor.core.engine import Engine
from edge_monitor.core.formula import program, term
from edge_monitor.core.samples import TRANSITION, Cause, TransitionKind


def middle(items: np.ndarray) -> int:
    """Where the first half ends: inside a message of the middle, before its second sample."""
    return next(k for k in range(len(items) // 2, len(items)) if items[k - 1]["flags"] == 0)


def rest(engine: Engine) -> bytes:
    """The second half from here: rows and digest."""
    items = stream()
    rows = engine.advance(items[middle(items) :])
    rows = np.concatenate([rows, engine.finish(int(items[-1]["t"]) + 3 * S)])
    return rows.tobytes() + engine.digest().encode()


def first_half() -> tuple[Engine, np.ndarray]:
    """An engine after the first half, and its rows."""
    items = stream()
    engine = Engine(plan())
    return engine, engine.advance(items[: middle(items)])


def changes(rows: np.ndarray) -> dict[str, int]:
    """Changes of verdict by the check's name."""
    rows = rows[rows["kind"] == TransitionKind.CHECK]
    return {spec.name: int((rows["subject"] == i).sum()) for i, spec in enumerate(plan().check_specs)}


def elsewhere(data: bytes, interpreted: bool) -> bytes:
    """What this file prints when run as a program in a process of its own."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1" if interpreted else "0"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, __file__], input=data, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_nothing_is_left_out() -> None:
    """The plan has each detector, each operator of formulas and each kind of node; each remembers, and speaks in both halves."""
    assert set(PARAMS) == set(pipeline.DETECTORS)
    trees = [spec.formula for spec in plan().check_specs if spec.formula] + [
        s.expr for s in plan().signal_specs if s.expr
    ]
    assert {part.op for tree in trees for part in parts(tree)} == term.ALL - {"text"}  # a text is a number by then
    assert set(plan().nodes["op"].tolist()) == set(range(program.DIFF + 1))
    engine, before = first_half()
    assert engine.head["open"] == 1
    fresh = Engine(plan())
    for row, spec in zip(plan().checks, plan().check_specs, strict=True):
        kept = slice(int(row["pool_start"]), int(row["pool_start"] + row["pool_len"]))
        assert spec.kind != "drift" or (engine.memory.pool[kept] != fresh.memory.pool[kept]).any(), spec.name
    remembers = plan().nodes["op"] >= program.SINCE
    for i in np.flatnonzero(remembers):
        assert engine.memory.node_states[i].tobytes() != fresh.memory.node_states[i].tobytes()
    items = stream()
    after = engine.advance(items[middle(items) :])
    assert (after["cause"] == Cause.OVERFLOW).any()
    for half in (before, after):
        silent = {name for name, count in changes(half).items() if count < 2}
        assert silent <= {"ever_held", "ever_pointwise"}


def parts(tree: term.Term) -> list[term.Term]:
    """A tree and all that is in it."""
    return [tree, *(part for arg in tree.args for part in parts(arg))]


@pytest.mark.parametrize("interpreted", [False, True], ids=["compiled", "interpreted"])
def test_another_process_goes_on_with_the_same_bits(interpreted: bool) -> None:
    """A snapshot from the middle of everything, restored in a fresh interpreter, gives what the whole run gives."""
    engine, _ = first_half()
    given = engine.snapshot()
    expected = rest(engine)
    assert elsewhere(given, interpreted) == expected
    assert len(expected) > 100 * TRANSITION.itemsize


def test_the_state_matters() -> None:
    """Without the snapshot the same second half gives other rows for every check: the comparison above can fail."""
    engine, _ = first_half()
    items = stream()
    there = items[middle(items) - 1 :]
    with_state, without = engine.advance(there[1:]), Engine(plan()).advance(there)
    for i, spec in enumerate(plan().check_specs):
        one, two = (
            rows[(rows["kind"] == TransitionKind.CHECK) & (rows["subject"] == i)] for rows in (with_state, without)
        )
        assert one.tobytes() != two.tobytes(), spec.name


def go_on(data: bytes) -> bytes:
    """The second half from a snapshot."""
    engine = Engine(plan())
    engine.restore(data)
    return rest(engine)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    sys.stdout.buffer.write(go_on(sys.stdin.buffer.read()))
