"""Detectors against plain Python, cut batches, other processes, and what breaks others: NaN, constants, scales."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import drift_cases
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import drift as oracle

from edge_monitor.core.drift import cusum, edetector, focus, histogram, pipeline

HERE = Path(__file__).resolve().parent
NAMES = (*drift_cases.CASES, *drift_cases.VECTORS)


def alike(found: tuple[np.ndarray, np.ndarray, np.ndarray], expected: oracle.Result) -> None:
    """Alarms are equal and statistics nearly so (sums in another order)."""
    statistic, alarm, _ = found
    assert alarm.tolist() == [fired for _, fired in expected]
    np.testing.assert_allclose(statistic, [value for value, _ in expected], rtol=1e-9, atol=1e-12)


def finite() -> np.ndarray:
    """The common stream without infinities, which definitions don't speak of."""
    x = drift_cases.stream()
    return np.where(np.isinf(x) | (np.abs(x) > 1e100), 7.0, x)


@pytest.mark.parametrize("name", ["cusum", "ewma", "variance", "edetector"])
def test_definitions(name: str) -> None:
    """The recursive detectors are their published recursions, NaN being skipped and an alarm a restart."""
    x = finite()
    expected = {
        "cusum": lambda: oracle.cusum(x, 5.0, 0.25),
        "ewma": lambda: oracle.ewma(x, 2.5, 0.1),
        "variance": lambda: oracle.variance(x, 5.0, 1.5),
        "edetector": lambda: oracle.edetector(x, 50.0, (0.8, 1.4, 2.0), (0.25, 0.1, 0.05)),
    }[name]()
    assert sum(fired for _, fired in expected) >= 2
    alike(drift_cases.run(name, x), expected)


@given(
    st.lists(st.floats(-5, 5).map(lambda v: round(v, 3)), min_size=1, max_size=80), st.sampled_from((0.0, 0.3, -1.0))
)
def test_focus_is_the_likelihood_ratio(values: list[float], shift: float) -> None:
    """FOCuS gives the largest likelihood ratio of all change times, and a change time that attains it."""
    x = [v + shift for v in values]
    state = np.zeros(focus.FOCUS_STATE)
    for n, (expected, _) in enumerate(oracle.focus(x), 1):
        statistic, alarm = np.empty((1, 1)), np.zeros((1, 1), np.uint8)
        focus.focus_many(np.array([[x[n - 1]]]), np.array([1e9]), state, statistic, alarm)
        assert statistic[0, 0] == pytest.approx(expected, rel=1e-9, abs=1e-12)
        since = int(state[focus.SINCE])
        if since:
            assert sum(x[n - since : n]) ** 2 / (2 * since) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_focus_on_long_streams_and_bends() -> None:
    """Over 2 000 values FOCuS stays exact; where more candidates bend up than fit, it is a lower bound that still rises."""
    x = np.random.default_rng(2).normal(size=2000)
    x[1200:] += 0.4
    statistic = np.empty((1, 2000))
    focus.focus_many(x[None], np.array([1e9]), np.zeros(focus.FOCUS_STATE), statistic, np.zeros((1, 2000), np.uint8))
    np.testing.assert_allclose(statistic[0], [value for value, _ in oracle.focus(x)], rtol=1e-9, atol=1e-9)
    bend = np.linspace(0.01, 1, 300)[None]
    bent = np.empty((1, 300))
    focus.focus_many(bend, np.array([1e9]), np.zeros(focus.FOCUS_STATE), bent, np.zeros((1, 300), np.uint8))
    exact = np.array([value for value, _ in oracle.focus(bend[0])])
    assert (bent[0] <= exact * (1 + 1e-9)).all()
    assert (np.diff(bent[0]) > 0).all()
    assert bent[0, -1] > 0.8 * exact[-1]


def test_focus_tells_when() -> None:
    """The reported onset is the change time, within a few values."""
    x = np.random.default_rng(3).normal(size=600)
    x[500:] += 3
    state = np.zeros(focus.FOCUS_STATE)
    statistic, alarm = np.empty((1, 600)), np.zeros((1, 600), np.uint8)
    focus.focus_many(x[None, :520], np.array([1e9]), state, statistic[:, :520], alarm[:, :520])
    assert abs(int(state[focus.SINCE]) - 20) <= 2


@given(st.lists(st.integers(0, 2), min_size=20, max_size=60))
def test_multinomial_is_a_ratio_of_gammas(draws: list[int]) -> None:
    """A block's e-value is DirMult / Mult of its counts, and evidence is (1 + M) times it."""
    shares = (0.5, 0.3, 0.2)
    x = np.array(draws, np.float64)
    params = np.array(edetector.multinomial_params(1e12, shares, block=20))
    statistic, alarm = np.empty((1, len(x))), np.zeros((1, len(x)), np.uint8)
    edetector.multinomial_many(x[None], params, np.zeros(edetector.multinomial_state(3)), statistic, alarm)
    evidence = 0.0
    for end in range(20, len(draws) + 1, 20):
        counts = [draws[end - 20 : end].count(k) for k in range(3)]
        evidence = (1 + evidence) * oracle.multinomial(counts, shares, 20.0)
        assert statistic[0, end - 1] == pytest.approx(evidence, rel=1e-9)


def test_multinomial_expects_one() -> None:
    """Without a change the mean e-value of a block is 1: the sum over all outcomes of a block, weighted, is 1."""
    shares = (0.6, 0.3, 0.1)
    total = 0.0
    for a in range(7):
        for b in range(7 - a):
            c = 6 - a - b
            ways = math.factorial(6) / (math.factorial(a) * math.factorial(b) * math.factorial(c))
            chance = ways * shares[0] ** a * shares[1] ** b * shares[2] ** c
            total += chance * oracle.multinomial((a, b, c), shares, 20.0)
    assert total == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(("which", "name"), list(enumerate(("ks", "psi", "js", "wasserstein"))))
def test_histogram_distances(which: int, name: str) -> None:
    """Each look is the distance of the last 100 values from the reference; the cells' contributions make it up."""
    x = finite()
    statistic, alarm, state = drift_cases.run(f"histogram {name}", x)
    known = x[~np.isnan(x)]
    looks = np.flatnonzero(~np.isnan(statistic))
    assert np.isnan(statistic[: looks[0]]).all()
    seen = 0
    for i in range(len(x)):
        if not math.isnan(x[i]):
            seen += 1
            if seen >= 100 and (seen - 100) % 7 == 0:
                expected = oracle.distances(known[seen - 100 : seen].tolist(), drift_cases.EDGES, drift_cases.SHARES)
                assert statistic[i] == pytest.approx(expected[which], rel=1e-9, abs=1e-12)
    assert 0 < alarm.sum() < len(looks)
    parts = np.empty(32)
    params = np.array(drift_cases.CASES[f"histogram {name}"][1])
    histogram.contributions(which, params, 0, state, 0, parts)
    exact = oracle.distances(known[-100:].tolist(), drift_cases.EDGES, drift_cases.SHARES)[which]
    assert (parts.max() if name == "ks" else parts.sum()) == pytest.approx(exact, rel=1e-9)


def test_histogram_thresholds_hold() -> None:
    """On independent values KS and PSI exceed their 1 % thresholds about 1 % of the time; correlated ones need N / tau."""
    rng = np.random.default_rng(4)
    edges = np.quantile(rng.normal(size=1_000_000), np.arange(1, 32) / 32)
    counts = np.stack([np.bincount(np.searchsorted(edges, rng.normal(size=500)), minlength=32) for _ in range(2000)])
    ks = np.abs(np.cumsum(counts / 500 - 1 / 32, axis=1)).max(axis=1)
    smooth = (counts + 0.5) / 516
    psi = ((smooth - 1 / 32) * np.log(smooth * 32)).sum(axis=1)
    for which, values in ((histogram.KS, ks), (histogram.PSI, psi)):
        limit = histogram.histogram_threshold(which, 500, 1e6, 0.01, edges.tolist())
        assert 0.002 < (values > limit).mean() < 0.02
    assert histogram.effective_size(500, 19.0) == pytest.approx(500 / 19)


@pytest.mark.parametrize("block", [1, 4])
def test_pipeline_blocks(block: int) -> None:
    """Standardising, whitening and blocks are as defined, missing samples and long gaps included."""
    x = finite()
    row = pipeline.Row((0.0,), 0.0, 0.2, 1.5, 0.8, (0.4, -0.2, 0.1))
    table = pipeline.pack(pipeline.COLLECT, [row], block=block)
    statistic, alarm = np.empty((1, len(x))), np.zeros((1, len(x)), np.uint8)
    pipeline.pipeline_many(x[None], np.array(table), np.zeros(pipeline.pool_size(table)), statistic, alarm)
    expected = oracle.blocks(x.tolist(), 0.2, 1.5, 0.8, (0.4, -0.2, 0.1), block)
    np.testing.assert_allclose(statistic[0][~np.isnan(statistic[0])], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("feed", "expected"),
    [(pipeline.SHIFT, -2.0), (pipeline.MAGNITUDE, 2.0), (pipeline.ENERGY, 5.5), (pipeline.QUIET, -5.5)],
)
def test_feeds(feed: int, expected: float) -> None:
    """A block gives its mean times sqrt(n), its size, its mean square, or minus that."""
    table = pipeline.pack(pipeline.COLLECT, [pipeline.Row((0.0,))], feed=feed, block=4)
    statistic = np.empty((1, 4))
    x = np.array([[-1.0, -4.0, -1.0, 2.0]])
    pipeline.pipeline_many(
        x, np.array(table), np.zeros(pipeline.pool_size(table)), statistic, np.zeros((1, 4), np.uint8)
    )
    assert statistic[0, 3] == expected


@pytest.mark.parametrize("name", NAMES)
@given(st.lists(st.integers(0, 399), max_size=6))
def test_cuts_change_nothing(name: str, cuts: list[int]) -> None:
    """However a stream is cut into batches, statistics, alarms and state are the same bits."""
    run = drift_cases.run_vector if name in drift_cases.VECTORS else drift_cases.run
    x = drift_cases.stream()
    whole = run(name, x, None)
    pieces, state = [], None
    for a, b in pairwise([0, *sorted(3 * cut for cut in cuts), len(x)]):
        statistic, alarm, state = run(name, x[a:b], state)
        pieces.append((statistic, alarm))
    joined = np.concatenate([piece[0] for piece in pieces])
    np.testing.assert_array_equal(joined, whole[0])
    assert (np.concatenate([piece[1] for piece in pieces]) == whole[1]).all()
    np.testing.assert_array_equal(state, whole[2])


def other_process(*arguments: str, jit: bool = True) -> str:
    """What ``drift_cases.py`` prints."""
    environment = os.environ | {"NUMBA_DISABLE_JIT": "0" if jit else "1"}
    command = [sys.executable, str(HERE / "drift_cases.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_interpreted_and_compiled_agree() -> None:
    """Without compilation every detector gives the same statistics, alarms and state, bit for bit."""
    expected = drift_cases.digest(drift_cases.everything(drift_cases.stream())).splitlines()
    assert other_process("run", jit=False).splitlines() == expected


def test_states_resume_in_another_process(tmp_path: Path) -> None:
    """States saved in the middle and loaded by another process go on with the same bits."""
    x = drift_cases.stream()
    first = drift_cases.everything(x[:600])
    states = {name: state for name, (_, _, state) in first.items()}
    np.savez(tmp_path / "states.npz", **states)  # type: ignore[arg-type]
    second = drift_cases.digest(drift_cases.everything(x[600:], states))
    assert other_process("resume", str(tmp_path / "states.npz")) == second
    whole = drift_cases.everything(x)
    for name in NAMES:
        assert (
            whole[name][1][-1000:]
            == np.concatenate([first[name][1], drift_cases.everything(x[600:], states)[name][1]])[-1000:]
        ).all()


@pytest.mark.parametrize("name", NAMES)
def test_all_detectors_alarm_and_recover(name: str) -> None:
    """On the common stream each detector alarms after something changed, and its state is finite at the end."""
    found = drift_cases.everything(drift_cases.stream())[name]
    assert found[1].any()
    assert np.isfinite(found[2]).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("spoiled", ["nan", "gap", "constant", "infinity"])
@pytest.mark.parametrize(
    "detector", ["edetector", "cusum", "ewma", "variance", "focus", "adwin", "page_hinkley", "kswin"]
)
def test_nothing_disables_a_detector(detector: str, spoiled: str, scale: float) -> None:
    """After a NaN, a gap, a constant stretch or an infinity, at any scale, a shift of eight deviations is still found."""
    rng = np.random.default_rng(9)
    x = rng.normal(size=4000)
    if spoiled == "nan":
        x[1000] = np.nan
    elif spoiled == "gap":
        x[1000:1400] = np.nan
    elif spoiled == "constant":
        x[1000:1400] = x[999]
    else:
        x[1000] = np.inf
    x[3000:] += 8
    params = {
        "edetector": edetector.edetector_params(5000.0, (1.3, 1.8, 2.3), (0.21, 0.08, 0.03)),
        "cusum": cusum.cusum_params(12.0, 0.25),
        "ewma": cusum.ewma_params(4.0, 0.1),
        "variance": cusum.variance_params(15.0, 1.5),
        "focus": focus.focus_params(15.0),
        "adwin": (0.5, 0.002, 32.0, 5.0, 5.0, 10.0),
        "page_hinkley": drift_cases.compat.page_hinkley_params(),
        "kswin": drift_cases.compat.kswin_params(1e-4),
    }[detector]
    row = pipeline.Row(params, 0.0, 5.0 * scale, scale)
    feed = pipeline.MAGNITUDE if detector == "edetector" else pipeline.SHIFT
    block = 10 if detector in ("edetector", "focus") else 1
    table = pipeline.pack(pipeline.DETECTORS[detector], [row], feed=feed, block=block)
    statistic, alarm = np.empty((1, 4000)), np.zeros((1, 4000), np.uint8)
    values = ((x + 5) * scale)[None]
    pipeline.pipeline_many(values, np.array(table), np.zeros(pipeline.pool_size(table)), statistic, alarm)
    assert alarm[0, 3000:3300].any()
    assert np.isfinite(statistic[0][~np.isnan(statistic[0])]).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: edetector.edetector_params(10.0, (1.0, 2.0), (0.1, 0.1)),
        lambda: edetector.edetector_params(10.0, (1.0, 2.0, 3.0), (0.1, 0.0, 0.1)),
        lambda: edetector.multinomial_params(10.0, (0.5, 0.4)),
        lambda: edetector.multinomial_params(10.0, (1.0, 0.0)),
        lambda: histogram.histogram_params(0.1, 0, (1.0, 1.0), (0.3, 0.3, 0.4)),
        lambda: histogram.histogram_params(0.1, 0, (1.0, 2.0), (0.3, 0.3)),
        lambda: drift_cases.compat.kswin_params(window=30, size=20),
        lambda: pipeline.pack(pipeline.CUSUM, [pipeline.Row((1.0, math.nan))]),
        lambda: pipeline.pack(pipeline.CUSUM, [pipeline.Row((1.0, 0.2), scale=0.0)]),
        lambda: pipeline.pack(pipeline.CUSUM, [pipeline.Row((1.0, 0.2))], block=0),
    ],
)
def test_constants_that_cannot_be(make: object) -> None:
    """Constants that a kernel could not work with are refused when they are put together."""
    with pytest.raises(ValueError, match=r"."):
        make()  # type: ignore[operator]
