"""From a snapshot in the middle of a message, another process goes on with the same bits: every detector, every operator.

One plan holds them all. Run as a program this file takes a snapshot from its standard input, goes on from there with the
rest of the stream, and prints rows, digest and the states of what only code can use.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from strategies import MS, S

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.drift import adwin, compat, cusum, edetector, focus, histogram, pipeline, vector
from edge_monitor.core.engine import Engine
from edge_monitor.core.formula import program, term
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, SAMPLE, TRANSITION, Cause, TransitionKind
from edge_monitor.core.signals import Signal
from edge_monitor.envelope.formulas import parse_expression, parse_formula

STEPS = 1600
STATES = (("CLIMB", 1.0), ("HOVER", 2.0), ("LAND", 3.0))
EDGES = [-1.5, -0.8, -0.3, 0.0, 0.3, 0.8, 1.5]
#: The constants of each detector, by its name in ``DETECTORS``: a new one fails here until it is in the stream too.
PARAMS = {
    "cusum": cusum.cusum_params(12.0, 0.4),
    "ewma": cusum.ewma_params(3.5, 0.1),
    "variance": cusum.variance_params(12.0, 1.5),
    "focus": focus.focus_params(14.0),
    "edetector": edetector.edetector_params(500.0, (1.3, 1.8, 2.3), (0.21, 0.08, 0.03)),
    "multinomial": edetector.multinomial_params(200.0, (0.6, 0.3, 0.1), 20, 20.0),
    "histogram": histogram.histogram_params(0.35, histogram.KS, EDGES, [1 / 8] * 8, 100, 7),
    "adwin": adwin.adwin_params(),
    "page_hinkley": compat.page_hinkley_params(threshold=15.0),
    "kswin": compat.kswin_params(0.0005),
    "mahalanobis": edetector.edetector_params(500.0, (1.6, 2.6, 3.8), (0.21, 0.08, 0.03)),
    "mmd": vector.mmd_params(0.7, 16, 0.4, 0.1),
}
#: Every temporal operator, with and without a window, late and not; each is read as held and as pointwise.
FORMULAS = {
    "historically": "historically[0 s, 200 ms](x <= 1.5)",
    "historically_late": "historically[100 ms, 350 ms](x > y or x < 1)",
    "once": "once[0 s, 300 ms](x > 2)",
    "once_late": "once[50 ms, 150 ms](y < -1.5)",
    "since": "(x < 1.7) since[0 s, 400 ms] (y > 1)",
    "since_late": "(x < 1.7) since[70 ms, 400 ms] (y > 1)",
    "since_ever": "(mode == HOVER) since (x > 1)",
    "ever": "once(mode == HOVER and x > 1.5) implies historically(k != 7 and not k == 8)",
    "prev": "prev(x) <= 1.5",
    "prev_truth": "prev(x > y)",
    "rise": "not rise(x > 1.2)",
    "fall": "not fall(y >= 0.9)",
    "numbers": "min(abs(x - y), 2) * 2 <= max(-x / 2 + 3, 1.5) and diff(lag(x, 30 ms)) < 250",
    "overflowing": "historically[0 s, 2 s](x + y < 3.5)",
}
EXPRESSIONS = {
    "lagged": "x - lag(y, 120 ms)",
    "slope": "diff(x) / 100",
    "before": "prev(x) + prev(y)",
    "joined": "max(x, y) * min(x, -y) / (abs(lagged) + 1)",
    "late": "lag(joined, 60 ms)",
}
#: Of the two signals that vector detectors watch: inverse covariance, and weights and phases of random features.
_RNG = np.random.default_rng(8)
MATRICES = {
    "mahalanobis": [1.1, -0.2, -0.2, 1.2],
    "mmd": [*_RNG.normal(size=32).tolist(), *_RNG.uniform(0, 6.28, 16).tolist()],
}


@cache
def plan() -> Plan:
    """All detectors, plain and behind modes, an autoregression and blocks; all operators; all derived signals."""
    signals = [Signal("x", "/x", max_age=150 * MS), Signal("y", "/x", max_age=300 * MS), Signal("k", "/k", max_age=S)]
    signals.append(Signal("mode", "/mode", max_age=None, watch="change", values=STATES))
    for name, text in EXPRESSIONS.items():
        tree = parse_expression(text, {signal.name: signal for signal in signals}).term
        signals.append(Signal(name, "", max_age=200 * MS, watch="change", expr=tree))
    known = {signal.name: signal for signal in signals}
    checks = []
    for name in MATRICES:
        checks += vector_checks(name)
    for name, code in pipeline.DETECTORS.items():
        if name in MATRICES:
            continue
        source = "k" if name == "multinomial" else "x"
        feed = pipeline.MAGNITUDE if name == "edetector" else pipeline.SHIFT
        plain = pipeline.pack(code, [pipeline.Row(PARAMS[name])], feed=feed, block=5 if name == "edetector" else 1)
        checks.append(CheckSpec(name, "drift", (source,), table=plain, pass_for=200 * MS))
        if name != "multinomial":
            rows = [
                pipeline.Row(PARAMS[name], mode=1.0, phi=(0.2, 0.1)),
                pipeline.Row(PARAMS[name], mode=2.0, centre=0.2, scale=0.9, sigma=0.95, phi=(0.1,)),
            ]
            piped = pipeline.pack(code, rows, feed=feed, block=3, gap_ns=15 * MS, block_ns=60 * MS)
            checks.append(CheckSpec(f"{name}_piped", "drift", ("x", "mode"), table=piped, pass_for=200 * MS))
    for name, text in FORMULAS.items():
        tree = parse_formula(text, known).term
        for pointwise in (0.0, 1.0):
            params = {"pointwise": pointwise} | ({"rate": 0.5} if name == "overflowing" else {})
            kind = "pointwise" if pointwise else "held"
            checks.append(CheckSpec(f"{name}_{kind}", "formula", tree.signals(), params, formula=tree))
    for name in EXPRESSIONS:
        checks.append(CheckSpec(f"{name}_low", "bounds", (name,), {"max": 1.0, "leave_max": 0.8}))
    return Plan.build(signals, checks)


def vector_checks(name: str) -> list[CheckSpec]:
    """A detector of two signals, plain and behind modes and an autoregression."""
    block = 1 if name == "mmd" else 3

    def row(mode: float, centre: float, phi: tuple[float, ...]) -> pipeline.Row:
        return vector.vector_row(
            PARAMS[name], (centre, 0.0), (1.0, 0.9), (1.0, 1.0), (0.0, 0.1), (phi, phi), MATRICES[name], mode
        )

    tables = {"": [row(0.0, 0.0, ())], "_piped": [row(1.0, 0.0, (0.2, 0.1)), row(2.0, 0.2, (0.1, 0.0))]}
    gaps = {"gap_ns": 15 * MS, "block_ns": 60 * MS}
    return [
        CheckSpec(
            name + suffix,
            "drift",
            ("x", "y", "mode")[: 2 + (suffix != "")],
            table=pipeline.pack(pipeline.DETECTORS[name], rows, block=block, dimensions=2, **gaps),
            pass_for=200 * MS,
        )
        for suffix, rows in tables.items()
    ]


def stream() -> np.ndarray:
    """(n,) SAMPLE at 100 Hz: shifts, noise and other classes in both halves; NaN, gaps, changes of mode."""
    rng = np.random.default_rng(11)
    rows = []
    t = 10 * S
    for i in range(STEPS):
        t += int(rng.choice([10, 10, 10, 10, 10, 12, 20])) * MS + (500 * MS if i % 370 == 180 else 0)
        other = 300 <= i % 800 < 430
        x, y = rng.normal(2.5 if other else 0.0, 1.0), rng.normal(0.0, 2.0 if other else 1.0)
        if rng.random() < 0.01:
            x = np.nan
        if i % 60 == 0:
            rows.append((t, 3, FLAG_END, float(rng.choice([1, 1, 2, 2, 3]))))
        rows += [(t, 0, 0, x), (t, 1, FLAG_END, y)]
        if i % 2 == 0:
            shares = (0.1, 0.2, 0.7) if other else (0.6, 0.3, 0.1)
            rows.append((t, 2, FLAG_END, float(rng.choice(3, p=shares))))
    return np.array(rows, SAMPLE)


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
        assert spec.kind != "drift" or (engine._memory.pool[kept] != fresh._memory.pool[kept]).any(), spec.name
    remembers = plan().nodes["op"] >= program.SINCE
    for i in np.flatnonzero(remembers):
        assert engine._memory.node_states[i].tobytes() != fresh._memory.node_states[i].tobytes()
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
