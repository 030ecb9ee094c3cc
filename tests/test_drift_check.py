"""The ``drift`` check in the engine: warming, alarm, recovery, modes, gaps, clock jumps, cuts, snapshots, envelopes."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_monitor.baselines import Baseline
from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.drift import adwin, compat, cusum, edetector, focus, histogram, pipeline
from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, SAMPLE, Cause, TransitionKind, Verdict
from edge_monitor.core.signals import Signal
from edge_monitor.envelope import EnvelopeError, load
from edge_replay.calibrate import Request, calibrate
from edge_replay.series import Series

MS = 1_000_000
S = 1000 * MS
PERIOD = 10 * MS
PARAMS = edetector.edetector_params(500.0, (1.3, 1.8, 2.3), (0.21, 0.08, 0.03))
ROW = pipeline.Row(PARAMS)


def table(*rows: pipeline.Row, detector: int = pipeline.EDETECTOR, block: int = 10) -> tuple[float, ...]:
    """Blocks of 100 ms at 100 Hz; gaps of more than 25 ms."""
    feed = pipeline.MAGNITUDE if detector == pipeline.EDETECTOR else pipeline.SHIFT
    return pipeline.pack(
        detector, rows or (ROW,), feed=feed, block=block, gap_ns=25 * MS, block_ns=max(block, 10) * PERIOD
    )


def engine(one: tuple[float, ...], *, mode: bool = False, resolve_for: int = 2 * S) -> Engine:
    """An engine with one drift check over ``x``, and ``mode`` where it has one."""
    signals = [Signal("x", "/x", max_age=S), Signal("mode", "/mode", max_age=None)]
    names = ("x", "mode") if mode else ("x",)
    return Engine(Plan.build(signals, [CheckSpec("d", "drift", names, table=one, pass_for=resolve_for)]))


def samples(values: np.ndarray, start: int = 0, signal: int = 0) -> np.ndarray:
    """Messages at 100 Hz."""
    items = np.zeros(len(values), SAMPLE)
    items["t"] = start + np.arange(len(values)) * PERIOD
    items["signal"] = signal
    items["flags"] = FLAG_END
    items["value"] = values
    return items


def verdicts(rows: np.ndarray) -> list[tuple[float, Verdict, Cause]]:
    """``(seconds, verdict, cause)`` of the check's transitions."""
    rows = rows[rows["kind"] == TransitionKind.CHECK]
    return [(r["t_effective"] / S, Verdict(r["verdict"]), Cause(r["cause"])) for r in rows]


def noise(n: int, seed: int = 1) -> np.ndarray:
    """Independent N(0, 1)."""
    return np.random.default_rng(seed).normal(size=n)


def test_warming_alarm_recovery() -> None:
    """PASS from the end of the first block; FAIL at the end of a block; PASS again after ``resolve_for`` below the line."""
    x = noise(4000)
    x[2000:2400] += 3
    found = verdicts(engine(table()).advance(samples(x)))
    assert found[0] == (0.09, Verdict.PASS, Cause.NONE)
    (failed, fail, _), (passed, ok, _) = found[1:]
    assert (fail, ok, len(found)) == (Verdict.FAIL, Verdict.PASS, 3)
    assert 20.0 < failed < 20.8
    assert round(failed * 100) % 10 == 9
    assert 26.0 <= passed < 28


def test_value_limit_margin() -> None:
    """E-detectors show log10 of the evidence and a margin in decades; others the statistic and a relative margin."""
    one = engine(table())
    one.advance(samples(np.full(100, 5.0)))
    state = one.checks[0]
    assert state["verdict"] == Verdict.FAIL
    assert state["margin"] == pytest.approx(state["limit"] - state["value"])
    two = engine(table(pipeline.Row(cusum.cusum_params(20.0, 0.5)), detector=pipeline.CUSUM, block=1))
    two.advance(samples(np.full(10, 1.5)))
    state = two.checks[0]
    assert (state["value"], state["limit"], state["margin"]) == (10.0, 20.0, 0.5)


def test_recovery_line_is_a_share_of_the_limit() -> None:
    """After an alarm the limit is ``resolve`` of the threshold until the statistic has stayed below it."""
    one = engine(
        table(pipeline.Row(cusum.ewma_params(2.0, 0.5)), detector=pipeline.EWMA, block=1), resolve_for=100 * MS
    )
    rows = one.advance(samples(np.concatenate([np.zeros(5), np.full(3, 4.0), np.full(40, 1.1), np.zeros(40)])))
    threshold = cusum.ewma_params(2.0, 0.5)[0]
    found = verdicts(rows)
    assert [v for _, v, _ in found] == [Verdict.PASS, Verdict.FAIL, Verdict.PASS]
    assert found[1][0] == 0.05
    # 1.1 is above half of the threshold (1.15 / 2): recovery starts with the zeros, when z has halved once
    assert 0.57 < threshold / 2 < 0.58
    assert found[2][0] == pytest.approx(0.48 + 0.1, abs=0.011)


def test_unknown_inputs() -> None:
    """NaN, never received and stale inputs are unknown with their cause; the detector's state is what it was."""
    one = engine(table())
    assert verdicts(one.advance(samples(noise(100)))) == [(0.09, Verdict.PASS, Cause.NONE)]
    before = one.snapshot()
    spoiled = samples(np.array([math.nan]), start=1000 * MS)
    assert verdicts(one.advance(spoiled)) == [(1.0, Verdict.UNKNOWN, Cause.NAN)]
    assert verdicts(one.advance(samples(noise(1), start=1010 * MS))) == [(1.01, Verdict.PASS, Cause.NONE)]
    assert verdicts(one.advance(until=3 * S)) == [(2.01, Verdict.UNKNOWN, Cause.STALE)]
    one.restore(before)
    assert one.checks[0]["verdict"] == Verdict.PASS
    assert Engine(one.plan).checks[0]["cause"] == Cause.NEVER_RECEIVED


def test_a_long_gap_starts_the_block_anew() -> None:
    """After a gap longer than a block the check is warming until a block has ended; the evidence is kept."""
    params = edetector.edetector_params(1e30, (1.3, 1.8, 2.3), (0.21, 0.08, 0.03))
    one = engine(table(pipeline.Row(params)))
    x = noise(1000)
    x[900:] += 2.0
    one.advance(samples(x[:940]))
    evidence = one.checks[0]["value"]
    found = verdicts(one.advance(samples(x[940:], start=9400 * MS + 500 * MS)))
    assert found[0][1:] == (Verdict.UNKNOWN, Cause.WARMING)
    assert found[1][0] == pytest.approx(9.9 + 0.09)
    assert evidence > 0.5
    assert one.checks[0]["value"] > evidence


def test_modes_have_references_of_their_own() -> None:
    """A shift that one mode's reference knows is no drift; an unknown mode or one without reference is unknown."""
    one = engine(table(pipeline.Row(PARAMS, mode=1.0), pipeline.Row(PARAMS, mode=2.0, centre=10.0)), mode=True)
    assert verdicts(one.advance(samples(noise(50)))) == []
    assert one.checks[0]["cause"] == Cause.NEVER_RECEIVED
    items = [samples(np.array([1.0]), start=500 * MS, signal=1), samples(noise(200), start=510 * MS)]
    assert verdicts(one.advance(np.concatenate(items)))[-1][1] == Verdict.PASS
    items = [samples(np.array([2.0]), start=2510 * MS, signal=1), samples(noise(300) + 10, start=2520 * MS)]
    found = verdicts(one.advance(np.concatenate(items)))
    assert [row[1:] for row in found] == [(Verdict.UNKNOWN, Cause.WARMING), (Verdict.PASS, Cause.NONE)]
    items = [samples(np.array([3.0]), start=5520 * MS, signal=1), samples(noise(100) + 50, start=5530 * MS)]
    assert [row[1:] for row in verdicts(one.advance(np.concatenate(items)))] == [(Verdict.UNKNOWN, Cause.DEPENDENCY)]


def test_a_clock_jump_starts_anew() -> None:
    """After the stream stepped back the detector has seen nothing."""
    one = engine(table())
    x = noise(1000)
    x[500:] += 1.0
    one.advance(samples(x, start=100 * S))
    assert one.checks[0]["value"] > 0.5
    rows = one.advance(samples(noise(5), start=10 * S))
    assert verdicts(rows)[-1][1:] == (Verdict.UNKNOWN, Cause.NEVER_RECEIVED)
    assert one.checks[0]["cause"] == Cause.WARMING
    fresh = engine(table())
    one.advance(samples(noise(100), start=11 * S))
    fresh.advance(samples(noise(5), start=10 * S))
    fresh.advance(samples(noise(100), start=11 * S))
    assert one.checks[0]["value"] == fresh.checks[0]["value"]


def one_by_one(one: Engine, values: list[float]) -> list[tuple[Verdict, float, float, float]]:
    """``(raw verdict, margin, value, limit)`` after each sample."""
    said = []
    for k, value in enumerate(values):
        one.advance(samples(np.array([value]), start=k * PERIOD))
        state = one.checks[0]
        said.append((Verdict(state["raw"]), float(state["margin"]), float(state["value"]), float(state["limit"])))
    return said


def test_recovery_at_the_line_itself() -> None:
    """After an alarm a statistic at ``resolve`` of the threshold has recovered, and one just above it has not."""
    one = table(pipeline.Row(cusum.cusum_params(6.0, 0.25)), detector=pipeline.CUSUM, block=1)
    assert one_by_one(engine(one), [7.0, 3.25]) == [(Verdict.FAIL, -0.125, 6.75, 6.0), (Verdict.PASS, 0.0, 3.0, 3.0)]
    said = one_by_one(engine(one), [7.0, 3.5])
    assert said[1] == (Verdict.FAIL, -0.25 / 6, 3.25, 3.0)


def test_evidence_is_told_in_decades() -> None:
    """Evidence below 1 is told as 0, above it as its logarithm, whatever the threshold."""
    mix = edetector.multinomial_params(100.0, (0.5, 0.5), block=2)
    one = table(pipeline.Row(mix), detector=pipeline.MULTINOMIAL, block=1)
    for values, expected in (
        ([0.0, 0.0, 0.0, 0.0], [1.0, 1.048, 1.048, 2.145]),
        ([0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.859]),
    ):
        said = one_by_one(engine(one), values)
        assert [10**value for _, _, value, _ in said] == pytest.approx(expected, abs=1e-3)
        assert [margin for _, margin, *_ in said] == [2.0 - value for _, _, value, _ in said]


@pytest.mark.parametrize("gap", [25 * MS, 100 * MS])
@pytest.mark.parametrize("beyond", [0, 1])
def test_a_gap_is_longer_than_its_limit(gap: int, beyond: int) -> None:
    """An interval of exactly the limit keeps what the autoregression remembers, or the block; a nanosecond more does not."""
    rows = pipeline.Row(cusum.cusum_params(1e9, 0.0), phi=(0.5,))
    one = engine(table(rows, detector=pipeline.CUSUM, block=2))
    times = [0, PERIOD, 2 * PERIOD, 2 * PERIOD + gap + beyond, 3 * PERIOD + gap + beyond, 4 * PERIOD + gap + beyond]
    items = samples(np.full(6, 8.0))
    items["t"] = times
    told = []
    for k in range(6):
        one.advance(items[k : k + 1])
        told.append(float(one.checks[0]["value"]))
    # Residuals are 4 from the second sample on: a block of two gives 8 / sqrt(2), the first with samples 1 and 2.
    block = 8 / math.sqrt(2)
    if gap == 25 * MS:
        # Kept: blocks (1, 2), (3, 4). Forgotten: sample 3 has no residual, the second block is (4, 5).
        expected = [block, block, 2 * block, 2 * block] if not beyond else [block, block, block, 2 * block]
    else:
        # Longer than a block too: nothing is known until the next has ended; the detector goes on.
        expected = [block, block, block, 2 * block] if not beyond else [block, math.nan, math.nan, 2 * block]
    assert told[2:] == pytest.approx(expected, nan_ok=True)


def test_the_mode_may_be_any_signal() -> None:
    """The first signal of an envelope can be the mode of a check as well as the last."""
    signals = [Signal("mode", "/mode"), Signal("x", "/x")]
    rows = [pipeline.Row(cusum.cusum_params(9.0, 0.0), mode=m, centre=10 * m) for m in (1.0, 2.0)]
    spec = CheckSpec("d", "drift", ("x", "mode"), table=table(*rows, detector=pipeline.CUSUM, block=1))
    one = Engine(Plan.build(signals, [spec]))
    for mode, x, value in ((2.0, 21.0, 1.0), (1.0, 11.5, 2.5)):
        one.advance(samples(np.array([mode]), start=int(mode == 1.0) * PERIOD, signal=0))
        one.advance(samples(np.array([x]), start=int(mode == 1.0) * PERIOD, signal=1))
        assert float(one.checks[0]["value"]) == value
    one.advance(samples(np.array([3.0]), start=2 * PERIOD, signal=0))
    assert one.checks[0]["cause"] == Cause.DEPENDENCY


def test_only_a_likeliest_change_has_an_onset() -> None:
    """A failure tells how many values ago the change was where the detector knows, else 0."""
    for detector, params, since in (
        (pipeline.FOCUS, focus.focus_params(8.0), 2),  # 2 * 3^2 / 2 is above 8
        (pipeline.CUSUM, cusum.cusum_params(6.0, 0.25), 0),
    ):
        one = engine(table(pipeline.Row(params), detector=detector, block=1))
        rows = one.advance(samples(np.concatenate([np.zeros(20), np.full(6, 3.0)])))
        failed = rows[(rows["kind"] == TransitionKind.CHECK) & (rows["verdict"] == Verdict.FAIL)]
        assert failed["onset"][0] == since


DETECTORS: dict[int, tuple[float, ...]] = {
    pipeline.CUSUM: cusum.cusum_params(6.0, 0.25),
    pipeline.EWMA: cusum.ewma_params(3.0, 0.1),
    pipeline.VARIANCE: cusum.variance_params(6.0, 1.5),
    pipeline.FOCUS: focus.focus_params(8.0),
    pipeline.EDETECTOR: PARAMS,
    pipeline.MULTINOMIAL: edetector.multinomial_params(100.0, (0.5, 0.3, 0.2), block=20),
    pipeline.HISTOGRAM: histogram.histogram_params(0.35, histogram.KS, [0.0], [0.5, 0.5], window=40, hop=5),
    pipeline.ADWIN: adwin.adwin_params(0.05, 4),
    pipeline.PAGE_HINKLEY: compat.page_hinkley_params(threshold=15.0),
    pipeline.KSWIN: compat.kswin_params(0.01, 60, 20, 3),
}
EVERY = {k: table(pipeline.Row(p, phi=(0.2, 0.1)), detector=k, block=3) for k, p in DETECTORS.items()}


def every(*detectors: int) -> Engine:
    """One engine with these detectors, or every one."""
    tables = [EVERY[k] for k in detectors or EVERY]
    checks = [CheckSpec(f"d{i}", "drift", ("x",), table=one, pass_for=200 * MS) for i, one in enumerate(tables)]
    return Engine(Plan.build([Signal("x", "/x", max_age=S)], checks))


def eventful() -> np.ndarray:
    """Shifts, NaN, infinities, gaps and a step back."""
    x = noise(900, 7)
    x[200:300] += 3
    x[500:600] *= 5
    x[[50, 210, 211]] = math.nan
    x[[400, 401]] = math.inf, -math.inf
    items = samples(x)
    items["t"][350:] += 300 * MS
    items["t"][700:] += 5 * S
    items["t"][850:] -= 8 * S
    return items


def test_every_detector_fails_and_recovers_in_the_engine() -> None:
    """Each detector's check fails on the eventful stream, and is never without a cause when unknown."""
    rows = every().advance(eventful())
    rows = rows[rows["kind"] == TransitionKind.CHECK]
    for i, k in enumerate(DETECTORS):
        mine = rows[rows["subject"] == i]
        if k != pipeline.MULTINOMIAL:
            assert Verdict.FAIL in mine["verdict"], k
        assert (mine[mine["verdict"] == Verdict.UNKNOWN]["cause"] != Cause.NONE).all()
        assert (mine[(mine["verdict"] == Verdict.FAIL) & (mine["previous"] == Verdict.PASS)]["margin"] <= 0).all()


@pytest.mark.parametrize("detectors", [(), (pipeline.KSWIN, pipeline.CUSUM)], ids=["all", "two"])
def test_a_clock_jump_starts_every_detector_anew(detectors: tuple[int, ...]) -> None:
    """After a step back each check, wherever its state stands, goes on as one that has seen nothing."""
    one, fresh = every(*detectors), every(*detectors)
    one.advance(samples(np.concatenate([noise(150, 7), noise(150, 8) * 3, np.full(30, 0.4)]), start=100 * S))
    one.advance(samples(np.zeros(1), start=10 * S))
    assert (one.checks["n0"] == 10 * S).all()
    fresh.advance(samples(np.zeros(1), start=10 * S))
    for k in range(1, 100):
        for engine_ in (one, fresh):
            engine_.advance(samples(noise(100, 9)[k : k + 1], start=10 * S + k * PERIOD))
        for name in ("raw", "cause", "value", "margin", "limit", "n0", "n1"):
            assert np.array_equal(one.checks[name], fresh.checks[name], equal_nan=True), name


@settings(max_examples=25)
@given(st.lists(st.integers(0, 900), max_size=8), st.integers(0, 900))
def test_cuts_and_snapshots_change_nothing(cuts: list[int], pause: int) -> None:
    """Cut anywhere, or snapshot and restored into another engine anywhere: same transitions, same digest."""
    items = eventful()
    whole = every()
    expected = whole.advance(items)
    one, rows = every(), []
    edges = sorted({0, *cuts, pause, len(items)})
    for a, b in pairwise(edges):
        if a == pause:
            other = every()
            other.restore(one.snapshot())
            one = other
        rows.append(one.advance(items[a:b]))
    assert np.concatenate(rows).tobytes() == expected.tobytes()
    assert one.digest() == whole.digest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": ()}, "no reference table"),
        ({"table": EVERY[0][: pipeline.HEAD]}, "no reference table"),
        ({"table": (99.0, *EVERY[0][1:])}, "no reference table"),
        ({"signals": ("x", "mode", "x")}, "has 3 signals, and its reference is of 1"),
        ({"table": table(detector=pipeline.MMD)}, "damaged"),
        (
            {"table": (*EVERY[0][: pipeline.DIMENSIONS], 1.0, *EVERY[0][pipeline.DIGEST :])},
            "looks at one signal, and its reference is of 1",
        ),
        ({"table": (*EVERY[0][:-1],)}, "damaged"),
        ({"table": (*EVERY[0][:-1], math.nan)}, "damaged"),
        ({"table": table(ROW, pipeline.Row(PARAMS, mode=1.0))}, "several modes"),
        ({"fail_for": 1}, "instant"),
        ({"table": table(pipeline.Row((0.0, 0.5)), detector=pipeline.CUSUM)}, "threshold"),
    ],
)
def test_what_cannot_be_compiled(change: dict[str, object], message: str) -> None:
    """A table that is none, or a check that contradicts itself, is refused by the plan."""
    fields: dict[str, Any] = {"signals": ("x",), "table": EVERY[0]} | change
    with pytest.raises(ValueError, match=message):
        Plan.build([Signal("x", "/x"), Signal("mode", "/mode")], [CheckSpec("d", "drift", **fields)])


HEAD = """edge_monitor: 1
envelope: {id: e, version: 1, vehicle: v}
signals:
  x: {topic: /x, field: data, unit: m, max_age: 1 s}
  y: {topic: /y, field: data, unit: m, max_age: 1 s}
checks:
"""


@pytest.fixture(scope="module")
def reference() -> Baseline:
    """Three recordings of independent noise in metres."""
    t = np.arange(20_000, dtype=np.int64) * PERIOD
    series = [Series(f"r{i}", "", t, noise(20_000, i)) for i in range(3)]
    return calibrate(series, Request("x", 3600.0, unit="m"))


def write(folder: Path, checks: str) -> Path:
    """An envelope in ``folder``."""
    path = folder / "e.yaml"
    path.write_text(HEAD + checks, "utf-8")
    return path


def test_envelope_with_reference(tmp_path: Path, reference: Baseline) -> None:
    """A reference's name is relative to the envelope; its digest is part of the table and of the envelope's digest."""
    (tmp_path / "b").mkdir()
    digest = reference.save(tmp_path / "b" / "x.npz")
    text = "  d: {kind: drift, signal: x, reference: b/x.npz, false_alarms: 1 per 1 h}\n"
    found = load(write(tmp_path, text))
    (spec,) = found.checks
    words = [int(digest[i : i + 8], 16) for i in range(0, 64, 8)]
    assert list(spec.table[pipeline.DIGEST : pipeline.HEAD]) == words
    assert spec.table[pipeline.CALIBRATED] == 1
    assert spec.pass_for == 10 * round(reference.header["block"] * 0.01 * 1e9)
    one = Engine(Plan.build(found.signals, found.checks))
    rows = one.advance(samples(np.concatenate([noise(3000, 9), noise(3000, 10) + 1])))
    assert Verdict.FAIL in [v for t, v, _ in verdicts(rows) if 30 < t < 40]
    Baseline({**reference.header, "author": "someone else"}, reference.arrays).save(tmp_path / "b" / "x.npz")
    assert load(tmp_path / "e.yaml").digest != found.digest


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("{kind: drift, signal: x}", r"e.yaml:7:\d+: checks.d.reference: is required by `edetector`"),
        ("{kind: drift, signal: x, reference: none.npz}", r"e.yaml:7:\d+: checks.d.reference: .*No such file"),
        ("{kind: drift, signal: y, reference: x.npz}", "was made of signal `x`, not of `y`"),
        ("{kind: drift, signal: x, mode: y, reference: x.npz}", "checks.d.mode: has no modes"),
        ("{kind: drift, signal: x, reference: x.npz, score: quiet}", "checks.d.score: is `shift` in the reference"),
        (
            "{kind: drift, signal: x, reference: x.npz, false_alarms: 1 per 10 h}",
            "differs from the reference's `1 per 1 h`",
        ),
        ("{kind: drift, signal: x, reference: x.npz, false_alarms: 3 a day}", "expected such as `1 per 10 h`"),
        ("{kind: drift, signal: x, reference: x.npz, fail_for: 1 s}", "an alarm is an instant"),
        ("{kind: drift, signal: x, reference: x.npz, pass_for: 1 s}", "is called `resolve_for` here"),
        ("{kind: drift, signal: x, detector: adwin, settings: {detla: 1}}", "checks.d.settings: does not fit `adwin`"),
        ("{kind: drift, signal: x, detector: multinomial}", "checks.d.shares: is required by `multinomial`"),
        ("{kind: drift, signal: x, detector: multinomial, shares: [0.5, 0.5]}", "needs a `threshold`"),
        ("{kind: drift, signal: x, detector: adwin, shares: [0.5, 0.5]}", "has no meaning for `adwin`"),
        ("{kind: drift, signal: x, detector: adwin, mode: y}", "checks.d.mode: needs `reference`"),
        ("{kind: drift, signal: x, detector: kswin, settings: {size: 90}}", "`size` must be between 1 and half"),
    ],
)
def test_envelope_mistakes(tmp_path: Path, reference: Baseline, check: str, message: str) -> None:
    """Each mistake is told with its place and how to mend it."""
    reference.save(tmp_path / "x.npz")
    with pytest.raises(EnvelopeError, match=message):
        load(write(tmp_path, f"  d: {check}\n  b: {{kind: bounds, signal: y, max: 1}}\n"))


def test_class_mix(tmp_path: Path) -> None:
    """With declared shares a class mix is watched without a reference: a class that doubles is found, the usual mix is not."""
    text = (
        "  d: {kind: drift, signal: x, detector: multinomial, shares: [0.6, 0.3, 0.1], settings: {threshold: 1000}}\n"
    )
    found = load(write(tmp_path, text))
    rng = np.random.default_rng(2)
    usual, other = rng.choice(3, 5000, p=(0.6, 0.3, 0.1)), rng.choice(3, 2000, p=(0.5, 0.3, 0.2))
    one = Engine(Plan.build(found.signals, found.checks))
    rows = one.advance(samples(np.concatenate([usual, other]).astype(np.float64)))
    failed = [t for t, v, _ in verdicts(rows) if v == Verdict.FAIL]
    assert failed[0] > 50


def test_reference_free_detectors(tmp_path: Path) -> None:
    """ADWIN, Page-Hinkley and KSWIN need no reference, and are never calibrated."""
    lines = "".join(f"  {n}: {{kind: drift, signal: x, detector: {n}}}\n" for n in ("adwin", "page_hinkley", "kswin"))
    found = load(write(tmp_path, lines))
    one = Engine(Plan.build(found.signals, found.checks))
    rows = one.advance(samples(np.concatenate([noise(1000), noise(1000) + 8])))
    failed = rows[(rows["kind"] == TransitionKind.CHECK) & (rows["verdict"] == Verdict.FAIL)]
    assert {0, 1, 2} == {int(s) for s in failed["subject"][failed["t_effective"] > 10 * S]}
    assert all(spec.table[pipeline.CALIBRATED] == 0 for spec in found.checks)
