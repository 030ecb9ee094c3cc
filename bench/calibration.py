"""``make bench-calibration``: is the promise of a calibrated drift check kept, and what does keeping it cost in delay?

Per case (independent values; AR(1) 0.95 and 0.99 with Student t innovations) and seed: one hour of reference at 100 Hz
in six recordings, a calibration for one false alarm per 10 h, then 100 hours without a change, in which alarms are
counted. With shifts by one deviation at phi 0.95 the share found within 60 s is measured: a detector that never fires
would keep any promise. Anyone can rerun it; nothing is fitted to the simulated hours. Then the delays of all detectors
at equal false-alarm rates (:mod:`delays`). Exits with 1 where a claim does not hold; writes build/bench-calibration.json.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "replay")]

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


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case over all seeds. ``intervals``: hours between false alarms by calibration; ``delays``: s by shift."""

    case: str
    refused: int
    intervals: tuple[float, ...]
    delays: dict[float, tuple[float, ...]]
    block_s: float

    @property
    def below(self) -> int:
        """Calibrations whose simulated mean time between false alarms is below the target."""
        return sum(interval < TARGET_H for interval in self.intervals)

    def found(self, size: float, within: float = 60.0) -> float:
        """Share of shifts found in time."""
        return float(np.mean(np.array(self.delays[size]) <= within))


def promise(case: str, seeds: range, hours: float, trials: int) -> Outcome:
    """Calibrate with each seed, count false alarms in ``hours``, and time ``trials`` shifts of each size."""
    refused, intervals = 0, []
    found: dict[float, list[float]] = {0.5: [], 1.0: [], 2.0: []}
    block_s = 0.0
    for seed in seeds:
        baseline = reference(case, seed)
        refused += not baseline.calibrated
        block_s = float(baseline.header["promise"]["block_s"])
        # Without an alarm the hours themselves are a lower bound.
        intervals.append(hours / max(false_alarms(baseline, case, seed, hours), 1))
        for size, times in found.items():
            times += delays(baseline, case, seed, size, trials)
    return Outcome(case, refused, tuple(intervals), {size: tuple(t) for size, t in found.items()}, block_s)


def kept(outcomes: Sequence[Outcome]) -> float:
    """Probability of at least so many calibrations below the target if one in twenty were (binomial)."""
    below, n = sum(one.below for one in outcomes), sum(len(one.intervals) for one in outcomes)
    return sum(math.comb(n, k) * 0.05**k * 0.95 ** (n - k) for k in range(below, n + 1))


def row(name: str, unit: str, ours: float, **peers: float) -> dict[str, Any]:
    """A benchmark row; peers here are what is asked for or was published."""
    return {
        "name": name,
        "unit": unit,
        "ours": ours,
        "peers": peers,
        "ratios": {k: ours / v for k, v in peers.items() if v},
    }


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """The promise, then the delays. ``quick``: fewer seeds, hours and runs."""
    from delays import CHANGES, SUBJECTS, table

    seeds, hours, trials = (range(4), 20.0, 5) if quick else (range(20), 100.0, 20)
    outcomes = [promise(case, seeds, hours, trials) for case in CASES]
    result = []
    for one in outcomes:
        below = 100 * one.below / len(one.intervals)
        result.append(row(f"calibration {one.case}: below {TARGET_H:g} h", "% of runs", below, asked_at_most=5.0))
        result.append(row(f"calibration {one.case}: refused", "% of runs", 100 * one.refused / len(one.intervals)))
        least = min(one.intervals)
        result.append(row(f"calibration {one.case}: least interval", "h", least, target=TARGET_H))
        for size in one.delays:
            found = [d for d in one.delays[size] if math.isfinite(d)]
            mean = float(np.mean(found)) if found else math.nan
            result.append(row(f"calibration {one.case}: delay of {size:g} sd", "s", mean))
            result.append(row(f"calibration {one.case}: {size:g} sd in 60 s", "% found", 100 * one.found(size)))
    result.append(row("calibration: chance of such a count at 5 %", "probability", kept(outcomes)))
    measured = table(100 if quick else 400, 1_000_000 if quick else 4_000_000)
    for subject in SUBJECTS:
        for change, ours, published in zip(CHANGES, measured[subject.name], subject.published, strict=True):
            peers = {} if math.isnan(published) else {"published": published}
            result.append(row(f"delay {subject.name}: {change}", "values", ours, **peers))
    return result


def failures(result: Sequence[dict[str, Any]]) -> list[str]:
    """Claims that the figures do not bear out."""
    found = []
    of = {one["name"]: one for one in result}
    if of["calibration: chance of such a count at 5 %"]["ours"] < 0.05:
        found.append("more than one calibration in twenty is below its target")
    if of["calibration ar95: 1 sd in 60 s"]["ours"] < 95:
        found.append("fewer than 95 % of shifts by one deviation at phi 0.95 are found in 60 s")
    for one in result:
        published = one["peers"].get("published")
        if published and abs(one["ours"] - published) > max(3.0, 0.25 * published):
            found.append(f"{one['name']}: {one['ours']:.0f}, published {published:.0f}")
    return found


def main() -> int:
    """Measure, print, write, judge."""
    quick = "--quick" in sys.argv[1:]
    result = rows(quick)
    for one in result:
        peers = ", ".join(f"{name} {value:g}" for name, value in one["peers"].items())
        print(f"{one['name']:48} {one['ours']:10.4g} {one['unit']:12} {peers}")
    build = HERE.parent / "build"
    build.mkdir(exist_ok=True)
    (build / "bench-calibration.json").write_text(json.dumps(result, indent=1) + "\n")
    wrong = failures(result)
    for line in wrong:
        print(f"not borne out: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
