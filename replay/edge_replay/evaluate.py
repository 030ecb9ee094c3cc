"""How a drift detector does on recordings: false alarms an hour with bounds, delays after injected shifts, misses.

Never a score that mixes them: beside each figure stands that of a detector which alarms at every block, so that a good
delay bought with alarms is seen for what it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2  # type: ignore[import-untyped]

from edge_monitor.baselines import Baseline
from edge_monitor.core.drift import pipeline

from .series import Series, regular

Array = npt.NDArray[np.float64]
#: Seconds before a shift that a trial replays, so that the detector is ready; at least twice the block.
RUN_UP_S = 20.0


def poisson_bounds(n: int, hours: float, confidence: float = 0.95) -> tuple[float, float]:
    """Exact bounds of a rate an hour of which ``n`` events were seen (Garwood 1936); one-sided, 3 / hours, for none."""
    if hours <= 0:
        return 0.0, math.inf
    if n == 0:
        return 0.0, float(chi2.ppf(confidence, 2)) / 2 / hours
    tail = (1 - confidence) / 2
    return float(chi2.ppf(tail, 2 * n)) / 2 / hours, float(chi2.ppf(1 - tail, 2 * n + 2)) / 2 / hours


@dataclass(frozen=True, slots=True)
class Delays:
    """Trials with one size of shift, in deviations. Delays in seconds; no ``p95`` if more were missed."""

    size: float
    trials: int
    missed: int
    mean: float | None
    p95: float | None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        share = self.missed / self.trials if self.trials else None
        return {
            "shift_deviations": self.size,
            "trials": self.trials,
            "missed_share": share,
            "delay_mean_s": self.mean,
            "delay_p95_s": self.p95,
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One detector with one reference over recordings."""

    signal: str
    detector: str
    calibrated: bool
    alarms: int
    hours: float
    block_s: float
    delays: tuple[Delays, ...]
    within_s: float

    def document(self) -> dict[str, Any]:
        """As JSON."""
        low, high = poisson_bounds(self.alarms, self.hours)
        return {
            "signal": self.signal,
            "detector": self.detector,
            "calibrated": self.calibrated,
            "hours": self.hours,
            "alarms": self.alarms,
            "alarms_per_hour": self.alarms / self.hours if self.hours else None,
            "alarms_per_hour_95": [low, high if math.isfinite(high) else None],
            "within_s": self.within_s,
            "shifts": [delays.document() for delays in self.delays],
            "always_fire": {
                "alarms_per_hour": 3600 / self.block_s,
                "delay_mean_s": self.block_s / 2,
                "missed_share": 0.0,
            },
        }


def one_mode(table: Sequence[float], i: int) -> Array:
    """A table with the row of one mode only."""
    stride = int(table[pipeline.STRIDE])
    start = pipeline.HEAD + i * stride
    row = [*table[: pipeline.HEAD], *table[start : start + stride]]
    row[pipeline.MODES] = 1.0
    return np.array(row)


def alarms_at(x: Array, table: Array) -> npt.NDArray[np.int64]:
    """Indices at which a fresh detector alarms on samples of a regular grid (NaN: missing)."""
    pool = np.zeros(pipeline.pool_size(table.tolist()))
    statistic = np.empty((1, len(x)))
    alarm = np.empty((1, len(x)), np.uint8)
    pipeline.pipeline_many(x[None], table, pool, statistic, alarm)
    return np.flatnonzero(alarm[0])


def evaluate(
    series: Sequence[Series],
    baseline: Baseline,
    detector: str = "edetector",
    *,
    settings: Mapping[str, float] | None = None,
    sizes: Sequence[float] = (0.5, 1.0, 2.0),
    trials: int = 100,
    within_s: float = 60.0,
    seed: int = 0,
) -> Evaluation:
    """Count alarms on ``series`` as they are, then shift them from random times on.

    A shift of size 1 is one ``scale`` of the reference (1.4826 MAD, a deviation where values are Gaussian). A trial
    counts as missed when no alarm comes within ``within_s``; recordings shorter than run-up and that get no trial. Each
    mode is judged by itself. ``settings``: the check's own, as :meth:`Baseline.table` takes them.
    """
    table = baseline.table(detector, **(settings or {}))
    period = float(baseline.header["period_s"])
    block = int(table[pipeline.BLOCK])
    run_up = math.ceil(max(RUN_UP_S, 2 * block * period) / period)
    after = math.ceil(within_s / period)
    rng = np.random.default_rng(seed)
    alarms = known = 0
    stretches: list[tuple[Array, Array, float]] = []
    for i, mode in enumerate(baseline.modes):
        row = one_mode(table, i)
        scale = float(baseline.arrays["scale"][i])
        for one in series:
            x = regular(one, period, block, mode if baseline.header["mode_signal"] else None)
            alarms += len(alarms_at(x, row))
            known += int(np.isfinite(x).sum())
            if len(x) >= run_up + after:
                stretches.append((x, row, scale))
    delays = []
    weights = np.array([len(x) - run_up - after + 1 for x, _, _ in stretches], np.float64)
    for size in sizes:
        times: list[float] = []
        for _ in range(trials if stretches else 0):
            x, row, scale = stretches[int(rng.choice(len(stretches), p=weights / weights.sum()))]
            onset = int(rng.integers(run_up, len(x) - after + 1))
            piece = x[onset - run_up : onset + after].copy()
            piece[run_up:] += size * scale * (1 if rng.random() < 0.5 else -1)
            found = alarms_at(piece, row)
            found = found[found >= run_up]
            times.append((float(found[0]) - run_up + 1) * period if len(found) else math.inf)
        delays.append(_summary(size, times))
    return Evaluation(
        str(baseline.header["signal"]),
        detector,
        baseline.calibrated and detector == "edetector",
        alarms,
        known * period / 3600,
        block * period,
        tuple(delays),
        within_s,
    )


def _summary(size: float, times: Sequence[float]) -> Delays:
    """Mean of the found, and the 95th percentile of all, a missed one being infinitely late."""
    found = [time for time in times if math.isfinite(time)]
    p95 = sorted(times)[math.ceil(0.95 * len(times)) - 1] if times else math.inf
    mean = float(np.mean(found)) if found else None
    return Delays(size, len(times), len(times) - len(found), mean, p95 if math.isfinite(p95) else None)
