"""Drift checks of several signals in the engine: which rows there are, and what is found in them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import vectors as oracle

from edge_monitor import baselines
from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.drift import compat, edetector, pipeline, vector
from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, SAMPLE, Cause, TransitionKind, Verdict
from edge_monitor.core.signals import Signal

MS = 1_000_000
S = 1000 * MS
PERIOD = 10 * MS
N = 3
CUTS, BOUNDS = (1.0, 1.6, 2.4), (0.3, 0.15, 0.06)
MIXING = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [-0.3, 0.4, 0.9]])
PRECISION = np.linalg.inv(MIXING @ MIXING.T).round(6)
RNG = np.random.default_rng(5)
WEIGHTS, PHASES = RNG.normal(size=(N, 8)), RNG.uniform(0, 6, 8)


def mode(shift: float, detector: str) -> oracle.Mode:
    """A reference around ``shift``."""
    whitened = detector == "mahalanobis"
    return oracle.Mode(
        centre=(shift, shift + 0.1, -shift),
        scale=(1.0, 2.0, 0.5),
        sigma=(0.9, 1.0, 1.1) if whitened else (1.0,) * N,
        mean=(0.05, 0.0, -0.1) if whitened else (0.0,) * N,
        phi=((0.3, 0.1), (0.2, 0.0), (-0.1, 0.05)) if whitened else ((),) * N,
        matrix=PRECISION.tolist() if whitened else WEIGHTS.T.tolist(),
        phases=() if whitened else tuple(PHASES.tolist()),
    )


def check(detector: str, score: str = "shift") -> oracle.Settings:
    """Blocks of two rows; gaps of more than 25 ms, of more than 100 ms for a block."""
    modes = {0.0: mode(0.0, detector), 1.0: mode(1.0, detector)}
    if detector == "mmd":
        return oracle.Settings(modes, "mmd", 0.8, fast=0.8, slow=0.25, gap=25 * MS, block_gap=100 * MS)
    cuts = tuple(-c for c in reversed(CUTS)) if score == "quiet" else CUTS
    return oracle.Settings(modes, detector, 3.0, score, 2, cuts, BOUNDS, gap=25 * MS, block_gap=100 * MS, resolve=0.5)


def table(one: oracle.Settings, *modes: float) -> tuple[float, ...]:
    """The same for the plan."""
    rows = []
    for value in modes:
        m = one.modes[value]
        matrix = np.array(m.matrix)
        if one.detector == "mmd":
            params = vector.mmd_params(one.threshold, len(m.phases), one.fast, one.slow)
            numbers = [*matrix.T.ravel().tolist(), *m.phases]
        else:
            params, numbers = edetector.edetector_params(one.threshold, one.cuts, one.bounds), matrix.ravel().tolist()
        rows.append(vector.vector_row(params, m.centre, m.scale, m.sigma, m.mean, m.phi, numbers, value))
    return pipeline.pack(
        pipeline.DETECTORS[one.detector],
        rows,
        feed=baselines.SCORES[one.score],
        block=one.block,
        gap_ns=one.gap,
        block_ns=one.block_gap,
        resolve=one.resolve,
        dimensions=N,
    )


NAMES = ("a", "b", "c", "mode")


def engine(*checks: CheckSpec) -> Engine:
    """An engine over three signals and a mode that never go stale."""
    return Engine(Plan.build([Signal(name, "/t", max_age=None) for name in NAMES], checks))


def spec(one: oracle.Settings, *modes: float, name: str = "d") -> CheckSpec:
    """The check; with a mode signal where it has several."""
    signals = NAMES if len(modes) > 1 else NAMES[:N]
    return CheckSpec(name, "drift", signals, table=table(one, *modes))


KINDS = {
    "shift": check("mahalanobis"),
    "energy": check("mahalanobis", "energy"),
    "quiet": check("mahalanobis", "quiet"),
    "mmd": check("mmd"),
}

Instant = tuple[int, dict[int, float | None]]
values = st.one_of(st.floats(-4, 4).map(lambda v: round(v, 2)), st.sampled_from((None, math.nan, math.inf, 1e9)))
components = st.dictionaries(st.integers(0, N - 1), values, min_size=1)
whole = st.lists(st.floats(-3, 3).map(lambda v: round(v, 2)), min_size=N, max_size=N).map(lambda v: dict(enumerate(v)))
modes = st.sampled_from((0.0, 1.0, 2.0, None)).map(lambda v: {N: v})
steps = st.sampled_from((10, 10, 10, 10, 20, 30, 120)).map(lambda ms: ms * MS)
streams = st.lists(st.tuples(steps, st.one_of(whole, whole, whole, components, modes)), min_size=1, max_size=50)


def items(instants: list[Instant]) -> np.ndarray:
    """The instants as messages."""
    rows = []
    for t, samples in instants:
        for k, (signal, value) in enumerate(samples.items()):
            flags = (FLAG_END if k == len(samples) - 1 else 0) | (int(Cause.INVALID) if value is None else 0)
            rows.append((t, signal, flags, math.nan if value is None else value))
    return np.array(rows, SAMPLE)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=60)
@given(streams)
def test_engine_and_definition_agree(name: str, stream: list[tuple[int, dict[int, float | None]]]) -> None:
    """Rows, unknowns, modes, gaps, scores and verdicts are those of the definition, instant by instant."""
    t, instants = 0, []
    for step, samples in [(10 * MS, {N: 0.0}), *stream]:
        t += step
        instants.append((t, samples))
    one = engine(spec(KINDS[name], 0.0, 1.0))
    expected = oracle.Check(KINDS[name], N, with_mode=True)
    for at, samples in instants:
        one.advance(items([(at, samples)]))
        said, state = expected.instant(at, samples), one.checks[0]
        assert (Verdict(state["raw"]), Cause(state["cause"])) == (said.verdict, said.cause), at
        if said.verdict != Verdict.UNKNOWN:
            assert state["value"] == pytest.approx(said.value, rel=1e-9, abs=1e-9)


def agree(one: Engine, expected: oracle.Check, t: int, given_: dict[int, float | None]) -> None:
    """The engine's second check says what the definition says of an instant."""
    one.advance(items([(t, given_)]))
    said, state = expected.instant(t, given_), one.checks[1]
    assert (Verdict(state["raw"]), Cause(state["cause"])) == (said.verdict, said.cause), t
    if said.verdict != Verdict.UNKNOWN:
        assert state["value"] == pytest.approx(said.value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_a_long_stream_equals_the_definition(name: str) -> None:
    """Whole rows and parts of them, gaps at their limits, modes and odd values, before and after a step back of the clock."""
    rng = np.random.default_rng(3)
    before = pipeline.pack(pipeline.KSWIN, [pipeline.Row(compat.kswin_params())])  # its state is longer
    one = engine(CheckSpec("one", "drift", ("a",), table=before), spec(KINDS[name], 0.0, 1.0))
    for start in (100 * S, 10 * S):
        t, expected = start, oracle.Check(KINDS[name], N, with_mode=True)
        for k in range(150):
            t += int(rng.choice((10 * MS, 10 * MS, 10 * MS, 25 * MS, 25 * MS + 1, 100 * MS, 100 * MS + 1)))
            row: dict[int, float | None] = {i: round(float(v), 2) for i, v in enumerate(rng.normal(size=N) * 2)}
            if k % 29 == 0:
                row = {N: (0.0, 1.0, 2.0, None, 0.0, 1.0)[k // 29]}
            elif k % 7 == 3:
                row = {i: row[i] for i in rng.permutation(N)[: rng.integers(1, N)].tolist()}
            elif k % 11 == 5:
                row[int(rng.integers(0, N))] = (None, math.nan, math.inf, 1e9)[k % 4]
            agree(one, expected, t, row)
    assert one.head["jumps"] == 1


def test_a_row_needs_a_new_sample_of_every_signal() -> None:
    """Signals in messages of their own make a row whenever the slowest has spoken, of the values in force then."""
    plain = oracle.Mode((0,) * N, (1,) * N, (1,) * N, (0,) * N, ((),) * N, np.eye(N).tolist())
    # The lowest cut is exceeded by (9, 0, 0), not by zeros: evidence rises above 1 with the first such row.
    one = engine(spec(oracle.Settings({0.0: plain}, "mahalanobis", 1e9, "shift", 1, CUTS, BOUNDS), 0.0))
    sent = ((0, 9.0), (1, 0.0), (0, 0.0), (2, 0.0), (0, 9.0), (2, 0.0), (0, 0.0), (2, 0.0), (0, 9.0), (1, 0.0))
    verdicts, evidence = [], []
    for t, (signal, value) in enumerate(sent):
        one.advance(items([(t * MS, {signal: value})]))
        verdicts.append(Verdict(one.checks[0]["verdict"]))
        evidence.append(float(one.checks[0]["value"]))
    # First row at 3 ms: (0, 0, 0), `a` having spoken twice. The second only when `b` speaks again: (9, 0, 0).
    assert verdicts == [Verdict.UNKNOWN] * 3 + [Verdict.PASS] * 7
    assert evidence[3:9] == [0.0] * 6
    assert evidence[9] > 0


def test_unknown_component() -> None:
    """One NaN makes the check unknown with that cause and leaves no trace; the next whole row goes on."""
    one = engine(spec(KINDS["shift"], 0.0))
    twin = engine(spec(KINDS["shift"], 0.0))
    rng = np.random.default_rng(1)
    rows = [dict(enumerate(rng.normal(size=N).tolist())) for _ in range(40)]
    for k, row in enumerate(rows[:20]):
        one.advance(items([(k * PERIOD, row)]))
        twin.advance(items([(k * PERIOD, row)]))
    spoiled = {**rows[20], 1: math.nan}
    one.advance(items([(20 * PERIOD, spoiled)]))
    assert (Verdict(one.checks[0]["verdict"]), Cause(one.checks[0]["cause"])) == (Verdict.UNKNOWN, Cause.NAN)
    for k, row in enumerate(rows[21:], 21):
        one.advance(items([(k * PERIOD, row)]))
        assert one.checks[0]["verdict"] != Verdict.UNKNOWN
    assert np.isfinite(np.frombuffer(one.snapshot()[-8 * one.plan.pool - 64 : -64], "<f8")).all()


def eventful() -> np.ndarray:
    """Rows with a shift, a broken correlation, a gap, NaN, infinities and a step back of the clock."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(600, N)) @ MIXING.T
    x[200:260, 1] += 4
    x[350:420, 2] = rng.normal(size=70) * 2
    x[[50, 300]] = np.nan
    x[301, 0] = np.inf
    t = np.arange(600) * PERIOD
    t[150:] += 500 * MS
    t[550:] -= 3 * S
    found = np.zeros((600, N), SAMPLE)
    found["t"], found["value"], found["signal"] = t[:, None], x, np.arange(N)
    found["flags"][:, -1] = FLAG_END
    return found.reshape(-1)


def every() -> Engine:
    """All kinds at once, beside a check of one signal."""
    scalar = CheckSpec("one", "drift", ("a",), table=pipeline.pack(pipeline.CUSUM, [pipeline.Row((6.0, 0.25))]))
    return engine(*(spec(one, 0.0, name=name) for name, one in KINDS.items()), scalar)


def test_every_kind_fails_in_the_engine() -> None:
    """Each kind fails on the eventful stream beside a check of one signal; after the step back all start anew."""
    one = every()
    rows = one.advance(eventful())
    changed = rows[rows["kind"] == TransitionKind.CHECK]
    for i in range(len(KINDS)):
        assert Verdict.FAIL in changed[changed["subject"] == i]["verdict"], i
    assert one.head["jumps"] == 1


@settings(max_examples=25)
@given(st.lists(st.integers(0, 1800), max_size=6), st.integers(0, 1800))
def test_cuts_and_snapshots_change_nothing(cuts: list[int], pause: int) -> None:
    """Cut anywhere, inside a message too, or restored into another engine anywhere: same transitions, same digest."""
    stream = eventful()
    whole_run = every()
    expected = whole_run.advance(stream)
    one, rows = every(), []
    for a, b in pairwise(sorted({0, *cuts, pause, len(stream)})):
        if a == pause:
            other = every()
            other.restore(one.snapshot())
            one = other
        rows.append(one.advance(stream[a:b]))
    assert np.concatenate(rows).tobytes() == expected.tobytes()
    assert one.digest() == whole_run.digest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signals": NAMES[:2]}, "has 2 signals, and its reference is of 3"),
        ({"signals": (*NAMES, "a")}, "has 5 signals"),
        ({"table": table(KINDS["mmd"], 0.0)[:-1]}, "damaged"),
        ({"table": table(KINDS["shift"], 0.0, 1.0)}, "several modes"),
        ({"table": (*table(KINDS["mmd"], 0.0)[:-1], math.inf)}, "damaged"),
    ],
)
def test_what_cannot_be_compiled(change: dict[str, Any], message: str) -> None:
    """A table that does not fit the signals, or is damaged, is refused by the plan."""
    fields: dict[str, Any] = {"signals": NAMES[:N], "table": table(KINDS["shift"], 0.0)} | change
    with pytest.raises(ValueError, match=message):
        engine(CheckSpec("d", "drift", **fields))


@pytest.mark.parametrize("at", [pipeline.DIMENSIONS, pipeline.STRIDE, pipeline.BLOCK, pipeline.HEAD + pipeline.ORDER])
@pytest.mark.parametrize("value", [0.0, 1.0, 65.0, -1.0, 1e6])
def test_damaged_heads_are_refused(at: int, value: float) -> None:
    """No head makes the kernels read beyond the table: it is refused, or right."""
    broken = list(table(KINDS["mmd"], 0.0))
    broken[at] = value
    right = broken[at] == table(KINDS["mmd"], 0.0)[at] or (at == pipeline.HEAD + pipeline.ORDER and 0 <= value <= 6)
    if right:
        engine(CheckSpec("d", "drift", NAMES[:N], table=tuple(broken)))
    else:
        with pytest.raises(ValueError, match=r"damaged|signals"):
            engine(CheckSpec("d", "drift", NAMES[:N], table=tuple(broken)))


def test_a_plan_without_vectors_does_not_compile_them() -> None:
    """Only a plan with a check of several signals asks for the kernel that has their code."""
    scalar = CheckSpec("one", "drift", ("a",), table=pipeline.pack(pipeline.CUSUM, [pipeline.Row((6.0, 0.25))]))
    assert not engine(scalar).plan.vectors
    assert every().plan.vectors
