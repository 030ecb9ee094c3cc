"""What a sample and a check of each kind cost inside the engine, and what a call costs from Python."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, SAMPLE
from edge_monitor.core.signals import Signal

SIGNALS = 20
SQUARE = (-1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0, -1.0)
KINDS: dict[str, dict[str, Any]] = {
    "bounds": {"params": {"max": 6.0, "min": -6.0}},
    "rate": {"params": {"max": 1e4, "min": -1e4}},
    "stale": {"params": {"max": 100_000_000}},
    "frequency": {"params": {"min": 80.0, "max": 120.0, "window": 10**9}},
    "jitter": {"params": {"period": 10_000_000, "max": 5_000_000, "window": 10**9}},
    "agreement": {"params": {"max": 20.0}, "signals": 2},
    "geofence": {"params": {}, "signals": 2, "table": SQUARE},
    "valid": {"params": {}},
    "one_of": {"params": {}, "table": (0.0, 1.0)},
}


def stream(rounds: int) -> np.ndarray:
    """Samples of 20 signals at 100 Hz, each a message of its own; seeded."""
    items = np.zeros(rounds * SIGNALS, SAMPLE)
    items["t"] = np.repeat(np.arange(rounds) * 10_000_000, SIGNALS)
    items["signal"] = np.tile(np.arange(SIGNALS), rounds)
    items["flags"] = FLAG_END
    items["value"] = np.random.default_rng(7).normal(size=len(items))
    return items


def plan(kind: str | None) -> Plan:
    """A plan with one check of ``kind`` on each signal, or with none."""
    signals = [Signal(f"s{i}", "t", max_age=500_000_000) for i in range(SIGNALS)]
    if kind is None:
        return Plan.build(signals, [])
    make = KINDS[kind]
    n = make.get("signals", 1)
    checks = [
        CheckSpec(
            f"c{i}", kind, tuple(f"s{(i + k) % SIGNALS}" for k in range(n)), make["params"], make.get("table", ())
        )
        for i in range(SIGNALS)
    ]
    return Plan.build(signals, checks)


def per_sample(kind: str | None, items: np.ndarray) -> float:
    """CPU ns a sample, best of five."""
    best = float("inf")
    made = plan(kind)
    Engine(made).advance(items[:100])
    for _ in range(5):
        engine = Engine(made)
        start = time.process_time()
        engine.advance(items)
        best = min(best, (time.process_time() - start) / len(items) * 1e9)
    return best


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """ns a sample without checks; ns that one evaluation of each kind adds; µs a call with one message of ten samples."""
    items = stream(2_000 if quick else 20_000)
    bare = per_sample(None, items)
    found = [row("engine_sample_without_checks", "ns/sample", bare)]
    for kind, make in KINDS.items():
        evaluations = make.get("signals", 1)  # a check on two signals is evaluated at the samples of both
        found.append(row(f"check_{kind}", "ns/evaluation", (per_sample(kind, items) - bare) / evaluations))
    return [*found, row("engine_call_of_10_samples", "us/call", call_cost(2_000 if quick else 20_000))]


def call_cost(calls: int) -> float:
    """Median µs of one ``advance`` call that carries one message with ten samples and ten bounds checks."""
    engine = Engine(plan("bounds"))
    message = stream(1)[:10].copy()
    message["flags"] = 0
    message["flags"][-1] = FLAG_END
    times = np.empty(calls)
    for k in range(calls):
        message["t"] = k * 10_000_000
        start = time.perf_counter()
        engine.advance(message)
        times[k] = time.perf_counter() - start
    return float(np.median(times)) * 1e6


def row(name: str, unit: str, ours: float) -> dict[str, Any]:
    """A figure without a peer."""
    return {"name": name, "unit": unit, "ours": ours, "peers": {}, "ratios": {}}
