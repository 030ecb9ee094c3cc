"""Plans and streams in which nothing is left out: every kind of check, detector, operator and derived signal.

Numbers come from integers and IEEE arithmetic alone, and neither pytest nor Hypothesis is needed, so that the same can run
on any machine. ``EVERYTHING`` names them, for what runs them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.checks.registry import KINDS
from edge_monitor.core.drift import adwin, compat, cusum, edetector, focus, histogram, pipeline, vector
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import (
    FLAG_END,
    ITEM_MISSION_END,
    ITEM_RESET_LATCH,
    ITEM_SET_LATCH,
    ITEM_SHIFT,
    ITEM_SOURCE_STATUS,
    ITEM_UNTIL,
    SAMPLE,
    Cause,
    Latch,
)
from edge_monitor.core.signals import Signal
from edge_monitor.envelope.formulas import parse_expression, parse_formula

MS = 1_000_000
S = 1_000_000_000


def uniform(rng: np.random.Generator) -> float:
    """A number in [0, 1)."""
    return int(rng.integers(0, 1 << 53)) / (1 << 53)


def bell(rng: np.random.Generator) -> float:
    """A nearly normal number, of mean 0 and variance 1 (the generator's own take logarithms, which are libm's)."""
    return sum(int(k) for k in rng.integers(0, 1 << 49, 12)) / (1 << 49) - 6.0


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
#: The other statistics of the histogram.
STATISTICS = {"histogram_psi": histogram.PSI, "histogram_js": histogram.JS, "histogram_span": histogram.WASSERSTEIN}
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
    "mmd": [*(bell(_RNG) for _ in range(32)), *(6.28 * uniform(_RNG) for _ in range(16))],
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
    for name, which in STATISTICS.items():
        params = histogram.histogram_params(0.35, which, EDGES, [1 / 8] * 8, 100, 7)
        plain = pipeline.pack(pipeline.DETECTORS["histogram"], [pipeline.Row(params)])
        checks.append(CheckSpec(name, "drift", ("x",), table=plain, pass_for=200 * MS))
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
    rng = np.random.default_rng(14)
    rows = []
    t = 10 * S
    for i in range(STEPS):
        t += int(rng.choice([10, 10, 10, 10, 10, 12, 20])) * MS + (500 * MS if i % 370 == 180 else 0)
        other = 300 <= i % 800 < 430
        x, y = (2.5 if other else 0.0) + bell(rng), (2.0 if other else 1.0) * bell(rng)
        if uniform(rng) < 0.01:
            x = math.nan
        if i % 60 == 0:
            rows.append((t, 3, FLAG_END, float(rng.choice([1, 1, 2, 2, 3]))))
        rows += [(t, 0, 0, x), (t, 1, FLAG_END, y)]
        if i % 2 == 0:
            rows.append((t, 2, FLAG_END, float(uniform(rng) > (0.1 if other else 0.6)) + float(uniform(rng) > 0.8)))
    return np.array(rows, SAMPLE)


def extreme() -> np.ndarray:
    """(n,) SAMPLE: the same signals with infinities, the largest and the smallest numbers, and every sign of zero and NaN."""
    rng = np.random.default_rng(12)
    items = stream()[:4000]
    odd = (math.inf, -math.inf, math.nan, -math.nan, 1e308, -1e308, 5e-324, -0.0, 1e19, -1e19, 2.0**63, 1e-300)
    for i in np.flatnonzero(items["signal"] < 2):
        if uniform(rng) < 0.1:
            items["value"][i] = odd[int(rng.integers(len(odd)))]
    return items


#: Of the kinds that have neither detector nor formula: signals, parameters, table.
PLAIN: dict[str, list[tuple[tuple[str, ...], dict[str, float], tuple[float, ...]]]] = {
    "bounds": [(("a",), {"max": 2.0, "leave_max": 1.5, "min": -2.0, "leave_min": -1.5}, ())],
    "rate": [(("a",), {"max": 20.0, "min": -20.0, "leave_max": 15.0}, ())],
    "stale": [(("b",), {"max": 90 * MS}, ())],
    "frequency": [
        (("a",), {"min": 30.0, "max": 45.0, "window": 500 * MS}, ()),
        (("b",), {"max": 30.0, "window": 300 * MS}, ()),
    ],
    "jitter": [(("b",), {"period": 25 * MS, "max": 5 * MS, "window": 500 * MS}, ())],
    "latency": [(("b",), {"max": 1.5, "min": -1.5}, ())],
    "agreement": [
        (("a", "b"), {"max": 2.0, "leave": 1.0}, ()),
        (("heading", "course"), {"max": 20.0, "wrap": 360.0}, ()),
    ],
    "geofence": [
        (("latitude", "longitude"), {}, (47.0, 8.0, 47.0, 8.001, 47.001, 8.001, 47.001, 8.0005, 47.0005, 8.0006)),
        (("latitude", "longitude", "b"), {"min_altitude": -1.0, "max_altitude": 1.5, "keep_out": 1.0},
         (47.0, 8.0, 47.0007, 8.0007, 47.001, 8.0002, 47.001, 8.0)),
    ],
    "valid": [(("a",), {}, ()), (("a", "b"), {"covariance_max": 2.0}, ())],
    "equals": [(("mode",), {}, (1.0,))],
    "one_of": [(("mode",), {}, (1.0, 2.0))],
}  # fmt: skip
INPUTS = ("a", "b", "heading", "course", "latitude", "longitude", "mode", "active")


@cache
def plain_plan() -> Plan:
    """All other kinds, each as it is, debounced, and with every latch."""
    assert set(PLAIN) == set(KINDS) - {"drift", "formula"}
    signals = [Signal(name, "/t", max_age=None if i % 3 == 2 else 200 * MS) for i, name in enumerate(INPUTS)]
    checks = []
    for kind, variants in PLAIN.items():
        for i, (names, params, table) in enumerate(variants):
            for latch in Latch:
                spans = {"fail_for": 60 * MS * (latch % 2), "pass_for": 100 * MS * (latch // 2)}
                checks.append(CheckSpec(f"{kind}_{i}_{latch.name}", kind, names, params, table, latch=latch, **spans))
    return Plan.build(signals, checks, mode="mode", active=("active", 1.0))


def plain_stream() -> np.ndarray:
    """(n,) SAMPLE at about 40 Hz: everything changes, some values are odd; commands, time marks, late items, clock jumps."""
    rng = np.random.default_rng(13)
    odd = (math.inf, -math.inf, math.nan, -math.nan, 1e308, -1e308, 5e-324, -0.0)
    commands = (ITEM_RESET_LATCH, ITEM_SET_LATCH, ITEM_SOURCE_STATUS, ITEM_MISSION_END, ITEM_UNTIL)
    statuses = (Cause.NO_PUBLISHER, Cause.NONE, Cause.QOS, Cause.NONE)
    rows: list[tuple[int, int, int, float]] = []
    t, turn = 10 * S, 0.0
    for i in range(2500):
        t += int(rng.choice([20, 25, 25, 25, 25, 27, 60])) * MS + (900 * MS if i % 400 == 399 else 0)
        t -= {1003: 300 * MS, 1004: -300 * MS, 1800: 20 * S}.get(i, 0)
        turn += bell(rng)
        values = [
            1.2 * bell(rng), 0.9 * bell(rng), turn * 7 % 360, (turn * 7 + 12 * bell(rng)) % 360,
            47.0005 + 4e-4 * bell(rng), 8.0005 + 4e-4 * bell(rng),
        ]  # fmt: skip
        if i % 40 == 0:
            values += [float(rng.choice([1, 1, 2, 3])), float(rng.choice([0, 1, 1]))]
        if uniform(rng) < 0.05:
            values[int(rng.integers(len(values)))] = odd[int(rng.integers(len(odd)))]
        rows += [(t, k, FLAG_END if k == len(values) - 1 else 0, value) for k, value in enumerate(values)]
        if uniform(rng) < 0.03:
            kind = commands[int(rng.integers(len(commands)))]
            of = len(plain_plan().checks) if kind in (ITEM_RESET_LATCH, ITEM_SET_LATCH) else len(INPUTS)
            cause = statuses[int(rng.integers(len(statuses)))] if kind == ITEM_SOURCE_STATUS else Cause.NONE
            rows.append((t, int(rng.integers(of)), int(cause) | kind << ITEM_SHIFT, 0.0))
    return np.array(rows, SAMPLE)


#: What to run, by name: the plan and its stream.
EVERYTHING: dict[str, tuple[Callable[[], Plan], Callable[[], np.ndarray]]] = {
    "plain": (plain_plan, plain_stream),
    "detectors_and_formulas": (plan, stream),
    "extreme": (plan, extreme),
}
