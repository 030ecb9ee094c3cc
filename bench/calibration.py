"""``make bench-calibration``: is the promise of a calibrated drift check kept, and what does keeping it cost in delay?

Per case (independent values; AR(1) 0.95 and 0.99 with Student t innovations) and seed: one hour of reference at 100 Hz in
six recordings, a calibration for one false alarm per 10 h, then hundreds of hours without a change, in which alarms are
counted. With shifts by one deviation at phi 0.95 the share found within 60 s is measured: a detector that never fires
would keep any promise. Anyone can rerun it; nothing is fitted to the simulated hours.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "replay")]

from edge_monitor.baselines import Baseline  # noqa: E402
from edge_monitor.core.drift import pipeline  # noqa: E402
from edge_monitor.core.jit import kernel  # noqa: E402
from edge_replay.calibrate import Request, calibrate  # noqa: E402
from edge_replay.series import Series  # noqa: E402

Array = npt.NDArray[np.float64]

RATE = 100  #: Hz
TARGET_H = 10.0
RECORDINGS = 6
CASES: dict[str, tuple[float, float]] = {"iid": (0.0, math.inf), "ar95": (0.95, 5.0), "ar99": (0.99, 5.0)}
CHUNK = 2_000_000


@kernel
def autoregress(innovations, phi, state):  # type: ignore[no-untyped-def]
    """AR(1) of deviation 1, in place; ``state`` (1,) carries the last value on."""
    value = state[0]
    for i in range(len(innovations)):
        value = phi * value + innovations[i]
        innovations[i] = value
    state[0] = value


class Source:
    """An endless stream of one case: deviation 1, mean 0."""

    def __init__(self, phi: float, freedom: float, seed: list[int]) -> None:
        self._rng = np.random.default_rng(seed)
        self._phi = phi
        self._freedom = freedom
        self._state = np.zeros(1)
        self.take(10_000)

    def take(self, n: int) -> Array:
        """The next ``n`` values."""
        if math.isinf(self._freedom):
            x = self._rng.normal(size=n)
        else:
            x = self._rng.standard_t(self._freedom, n) * math.sqrt((self._freedom - 2) / self._freedom)
        x *= math.sqrt(1 - self._phi**2)
        if self._phi:
            autoregress(x, self._phi, self._state)
        return x


def reference(case: str, seed: int, interval_h: float = TARGET_H) -> Baseline:
    """Calibrate on one hour of a case."""
    phi, freedom = CASES[case]
    series = []
    n = 3600 * RATE // RECORDINGS
    t = np.arange(n, dtype=np.int64) * (10**9 // RATE)
    for i in range(RECORDINGS):
        x = Source(phi, freedom, [seed, i]).take(n)
        series.append(Series(f"{case}-{seed}-{i}", "", t, x))
    return calibrate(series, Request("simulated", interval_h * 3600))


class Runner:
    """A detector on a stream, in chunks."""

    def __init__(self, baseline: Baseline, detector: str = "edetector") -> None:
        table = baseline.table(detector)
        self._table = np.array(table)
        self._pool = np.zeros(pipeline.pool_size(table))
        self._statistic = np.empty((1, CHUNK))
        self._alarm = np.empty((1, CHUNK), np.uint8)

    def alarms(self, x: Array) -> npt.NDArray[np.int64]:
        """Indices of the samples of ``x`` that raised an alarm."""
        alarm = self._alarm[:, : len(x)]
        pipeline.pipeline_many(x[None], self._table, self._pool, self._statistic[:, : len(x)], alarm)
        return np.flatnonzero(alarm[0])


def false_alarms(baseline: Baseline, case: str, seed: int, hours: float, detector: str = "edetector") -> int:
    """Alarms in ``hours`` without a change."""
    source = Source(*CASES[case], [seed, 1000])
    runner = Runner(baseline, detector)
    left = round(hours * 3600 * RATE)
    count = 0
    while left > 0:
        n = min(left, CHUNK)
        count += len(runner.alarms(source.take(n)))
        left -= n
    return count


def delays(
    baseline: Baseline, case: str, seed: int, size: float, trials: int, detector: str = "edetector"
) -> list[float]:
    """Seconds from a shift by ``size`` deviations to the alarm, after 20 to 40 s without one; inf beyond 300 s."""
    source = Source(*CASES[case], [seed, 2000])
    rng = np.random.default_rng([seed, 3000])
    result = []
    for _ in range(trials):
        before = int(rng.integers(20 * RATE, 40 * RATE))
        x = source.take(before + 300 * RATE)
        x[before:] += size
        alarms = Runner(baseline, detector).alarms(x)
        after = alarms[alarms >= before]
        result.append(float(after[0] - before + 1) / RATE if len(after) else math.inf)
    return result


def promise(case: str, seeds: range, hours: float, trials: int) -> dict[str, Any]:
    """One case: how many calibrations have a mean time between false alarms below the target, and how shifts are found."""
    below, refused, intervals = 0, 0, []
    found: dict[float, list[float]] = {0.5: [], 1.0: [], 2.0: []}
    block_s = 0.0
    for seed in seeds:
        baseline = reference(case, seed)
        refused += not baseline.calibrated
        block_s = float(baseline.header["promise"]["block_s"])
        alarms = false_alarms(baseline, case, seed, hours)
        intervals.append(hours / max(alarms, 1))
        below += hours / max(alarms, 1) < TARGET_H
        for size, times in found.items():
            times += delays(baseline, case, seed, size, trials)
    return {
        "case": case,
        "calibrations": len(seeds),
        "refused": refused,
        "below_target": below,
        "hours_each": hours,
        "least_mtbfa_h": min(intervals),
        "median_mtbfa_h": float(np.median(intervals)),
        "block_s": block_s,
        "delay_s": {
            f"{size:g}": float(np.mean([d for d in times if d < math.inf] or [math.inf]))
            for size, times in found.items()
        },
        "found_60s": {f"{size:g}": float(np.mean(np.array(times) <= 60)) for size, times in found.items()},
    }
