"""Detectors beside river's, on the same values in the same run; the engine with one detector a signal.

Peers are fed one value at a time, the only way they have; ours get the same stream as one batch, as in replay. Those
without a peer run on 256 streams. The last figure is the engine's, in batches of one millisecond, as live. Every
comparison checks that both raise the same alarms.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.drift import adwin, compat, cusum, edetector, focus, histogram, pipeline, vector
from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, SAMPLE
from edge_monitor.core.signals import Signal

Array = npt.NDArray[np.float64]

STREAMS, LENGTH, ROUNDS = 256, 4000, 5
LEVELS = ((1.28, 1.81, 2.33), (0.2, 0.07, 0.02))


def ours(many: Any, params: tuple[float, ...], state: int, x: Array) -> tuple[float, npt.NDArray[np.uint8]]:
    """CPU ns per value of a batch kernel (best round), and its alarms."""
    streams = len(x)
    flat = np.tile(np.array(params), streams)
    statistic, alarm = np.empty(x.shape), np.zeros(x.shape, np.uint8)
    many(x[:, :2].copy(), flat, np.zeros(state * streams), statistic[:, :2].copy(), alarm[:, :2].copy())
    best = np.inf
    for _ in range(ROUNDS):
        fresh = np.zeros(state * streams)
        start = time.process_time()
        many(x, flat, fresh, statistic, alarm)
        best = min(best, time.process_time() - start)
    return best / x.size * 1e9, alarm


def theirs(make: Callable[[], Any], x: list[float]) -> tuple[float, npt.NDArray[np.uint8]]:
    """CPU ns per value of a peer's detector (best of three), and its alarms."""
    best = np.inf
    alarms = np.zeros(len(x), np.uint8)
    for _ in range(3):
        detector = make()
        start = time.process_time()
        for value in x:
            detector.update(value)
        best = min(best, time.process_time() - start)
    detector = make()
    for i, value in enumerate(x):
        detector.update(value)
        alarms[i] = detector.drift_detected
    return best / len(x) * 1e9, alarms


def row(name: str, unit: str, figure: float, peers: dict[str, float]) -> dict[str, Any]:
    """A benchmark row."""
    return {
        "name": name,
        "unit": unit,
        "ours": figure,
        "peers": peers,
        "ratios": {k: v / figure for k, v in peers.items()},
    }


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """All figures; without river the peers' are left out."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(STREAMS, LENGTH // 4 if quick else LENGTH))
    result = []
    compared = [
        ("drift adwin", adwin.adwin_many, adwin.adwin_params(), adwin.adwin_state(), "ADWIN", {}, 1),
        ("drift page_hinkley", compat.page_hinkley_many, compat.page_hinkley_params(), 7, "PageHinkley", {}, 1),
        ("drift kswin", compat.kswin_many, compat.kswin_params(), compat.kswin_state(), "KSWIN", {"seed": 0}, 40),
    ]
    for name, many, params, state, peer, settings, smaller in compared:
        stream = rng.normal(size=(1, (20_000 if quick else 100_000) // smaller))
        stream[:, stream.size // 2 :] += 1
        figure, alarm = ours(many, params, state, stream)
        peers = {}
        try:
            from river import drift
        except ImportError:
            drift = None
        if drift is not None:
            peers["river"], expected = theirs(
                lambda d=drift, p=peer, s=settings: getattr(d, p)(**s), stream[0].tolist()
            )
            if not (alarm[0] == expected).all():
                raise AssertionError(f"{name}: alarms differ from river's")
        result.append(row(name, "ns/value", figure, peers))
    alone = [
        (
            "drift edetector",
            edetector.edetector_many,
            edetector.edetector_params(36000, *LEVELS),
            edetector.EDETECTOR_STATE,
        ),
        ("drift cusum", cusum.cusum_many, cusum.cusum_params(9, 0.25), cusum.CUSUM_STATE),
        ("drift ewma", cusum.ewma_many, cusum.ewma_params(3.24, 0.01), cusum.EWMA_STATE),
        ("drift variance cusum", cusum.variance_many, cusum.variance_params(9, 1.5), cusum.VARIANCE_STATE),
        ("drift focus", focus.focus_many, focus.focus_params(12), focus.FOCUS_STATE),
    ]
    for name, many, params, state in alone:
        result.append(row(name, "ns/value", ours(many, params, state, np.abs(x) if "edet" in name else x)[0], {}))
    edges = np.quantile(x, np.arange(1, 32) / 32).tolist()
    params = histogram.histogram_params(0.3, histogram.KS, edges, [1 / 32] * 32, 500, 10)
    state = histogram.histogram_state(32, 500)
    result.append(
        row("drift histogram ks W=500 hop 10", "ns/value", ours(histogram.histogram_many, params, state, x)[0], {})
    )
    table = live_table()
    size = pipeline.pool_size(table)
    result.append(
        row("drift edetector with pipeline", "ns/sample", ours(pipeline.pipeline_many, table, size, x)[0], {})
    )
    for dimensions in (8, 32):
        for name, detector, feed in (
            ("mahalanobis", pipeline.MAHALANOBIS, pipeline.MAGNITUDE),
            ("mahalanobis energy", pipeline.MAHALANOBIS, pipeline.ENERGY),
            ("mmd", pipeline.MMD, pipeline.MAGNITUDE),
        ):
            figure = vectors(detector, feed, dimensions, 2_000 if quick else 20_000)
            result.append(row(f"drift {name} d={dimensions}", "ns/row", figure, {}))
    result.append(row("drift 300 signals at 1 kHz", "% of a core", live(quick), {}))
    return result


def vectors(detector: int, feed: int, dimensions: int, rows_: int) -> float:
    """CPU ns a row of so many signals with its pipeline (best round); no peer has a compiled detector of vectors."""
    rng = np.random.default_rng(3)
    n, features = dimensions, 256
    if detector == pipeline.MMD:
        params, phi = vector.mmd_params(1e9, features), [()] * n
        matrix = [*rng.normal(size=n * features).tolist(), *rng.uniform(0, 6, features).tolist()]
    else:
        params, phi = edetector.edetector_params(18000, *LEVELS), [(0.5, 0.2)] * n
        matrix = np.eye(n).ravel().tolist()
    reference = vector.vector_row(params, [0.0] * n, [1.0] * n, [1.0] * n, [0.0] * n, phi, matrix)
    block = 1 if detector == pipeline.MMD else 200
    table = pipeline.pack(detector, [reference], feed=feed, block=block, dimensions=n)
    x = rng.normal(size=(rows_, n))
    statistic, alarm = np.empty(rows_), np.zeros(rows_, np.uint8)
    flat, size = np.array(table), vector.pool_size(table)
    vector.vector_many(x[:2], flat, np.zeros(size), statistic[:2], alarm[:2])
    best = np.inf
    for _ in range(ROUNDS):
        pool = np.zeros(size)
        start = time.process_time()
        vector.vector_many(x, flat, pool, statistic, alarm)
        best = min(best, time.process_time() - start)
    return best / rows_ * 1e9


def live_table() -> tuple[float, ...]:
    """An e-detector behind an autoregression of order 6 and blocks of 200."""
    reference = pipeline.Row(edetector.edetector_params(18000, *LEVELS), phi=(0.5, 0.2, 0.1, 0.05, 0.02, 0.01))
    return pipeline.pack(pipeline.EDETECTOR, [reference], feed=pipeline.MAGNITUDE, block=200)


def live(quick: bool) -> float:
    """CPU share of 300 signals at 1 kHz with ``bounds``, ``stale`` and ``drift`` each, a call each millisecond."""
    n, steps = 300, 200 if quick else 2000
    signals = [Signal(f"s{i}", f"t{i}", max_age=100_000_000) for i in range(n)]
    table = live_table()
    checks = []
    for i in range(n):
        checks.append(CheckSpec(f"b{i}", "bounds", (f"s{i}",), {"max": 8.0, "min": -8.0}))
        checks.append(CheckSpec(f"d{i}", "drift", (f"s{i}",), table=table))
        checks.append(CheckSpec(f"s{i}", "stale", (f"s{i}",), {"max": 100e6}))
    engine = Engine(Plan.build(signals, checks))
    items = np.zeros(n, SAMPLE)
    items["signal"] = np.arange(n)
    items["flags"] = FLAG_END
    values = np.random.default_rng(2).normal(size=(steps, n))
    spent = np.inf
    for turn in range(3):
        start = time.process_time()
        for step in range(steps):
            t = (turn * steps + step) * 1_000_000
            items["t"] = t
            items["value"] = values[step]
            engine.advance(items, t + 1)
        spent = min(spent, time.process_time() - start)
    return 100 * spent / (steps * 1e-3)
