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
from edge_monitor.core.drift import pipeline, vector
from edge_monitor.envelope.drift import PROMISED

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
    """Trials with one size of shift, in deviations, or one other change. Delays in seconds; no ``p95`` if more were missed."""

    size: float | None
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
    decoupled: Delays | None = None  #: of several signals, one replaced by itself at another time

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
            **({"decoupled": self.decoupled.document()} if self.decoupled else {}),
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
    """Indices at which a fresh detector alarms on samples or rows of a regular grid (NaN: missing)."""
    if x.ndim == 2:
        alarms = np.empty(len(x), np.uint8)
        vector.vector_many(x, table, np.zeros(vector.pool_size(table.tolist())), np.empty(len(x)), alarms)
        return np.flatnonzero(alarms)
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
    mode is judged by itself. ``settings``: the check's own, as :meth:`Baseline.table` takes them. Of several signals one is
    shifted, chosen anew each time; and there are trials in which one goes on as at another time of the recording.
    """
    table = baseline.table(detector, **(settings or {}))
    period = float(baseline.header["period_s"])
    block = int(table[pipeline.BLOCK])
    run_up = math.ceil(max(RUN_UP_S, 2 * block * period) / period)
    if detector == "mmd":
        run_up = max(run_up, 2 * math.ceil(2 / table[pipeline.HEAD + pipeline.PARAMS + vector.SLOW]))
    after = math.ceil(within_s / period)
    rng = np.random.default_rng(seed)
    alarms = known = 0
    stretches: list[tuple[Array, Array, Array]] = []
    for i, mode in enumerate(baseline.modes):
        row = one_mode(table, i)
        scale = np.atleast_1d(baseline.arrays["scale"][i])
        for one in series:
            x = regular(one, period, block, mode if baseline.header["mode_signal"] else None)
            alarms += len(alarms_at(x, row))
            known += int(_known(x).sum())
            if len(x) >= run_up + after:
                stretches.append((x, row, scale))
    trial = _Trials(stretches, run_up, after, period, rng)
    delays = [_summary(size, [trial.shift(size) for _ in range(trials if stretches else 0)]) for size in sizes]
    decoupled = [trial.decouple() for _ in range(trials if stretches else 0)] if baseline.several else None
    return Evaluation(
        ", ".join(baseline.signals),
        detector,
        baseline.calibrated and detector in PROMISED,
        alarms,
        known * period / 3600,
        block * period,
        tuple(delays),
        within_s,
        None if decoupled is None else _summary(None, decoupled),
    )


def _known(x: Array) -> npt.NDArray[np.bool_]:
    """Which samples, or rows of several signals, are known."""
    finite: npt.NDArray[np.bool_] = np.isfinite(x)
    return finite if finite.ndim == 1 else finite.all(axis=1)


class _Trials:
    """Changes at random times: how long until the alarm, in seconds; infinite where there was none.

    ``stretches``: samples of a grid, the table of their mode, and the reference's scale of each signal.
    """

    def __init__(
        self,
        stretches: Sequence[tuple[Array, Array, Array]],
        run_up: int,
        after: int,
        period: float,
        rng: np.random.Generator,
    ) -> None:
        self.stretches = stretches
        self.run_up, self.after, self.period, self.rng = run_up, after, period, rng
        weights = np.array([len(x) - run_up - after + 1 for x, _, _ in stretches], np.float64)
        self.weights = weights / weights.sum()

    def shift(self, size: float) -> float:
        """One signal is shifted by so many scales, up or down."""
        piece, row, scale, _ = self._piece()
        sign = 1 if self.rng.random() < 0.5 else -1
        i = int(self.rng.integers(len(scale))) if len(scale) > 1 else 0
        part = piece if piece.ndim == 1 else piece[:, i]
        part[self.run_up :] += size * scale[i] * sign
        return self._delay(piece, row)

    def decouple(self) -> float:
        """One of several signals goes on as at another time of the recording."""
        piece, row, scale, x = self._piece()
        i = int(self.rng.integers(len(scale)))
        start = int(self.rng.integers(0, len(x) - self.after + 1))
        piece[self.run_up :, i] = x[start : start + self.after, i]
        return self._delay(piece, row)

    def _piece(self) -> tuple[Array, Array, Array, Array]:
        """A stretch around a time of change, with its table, scales, and what it was cut from."""
        x, row, scale = self.stretches[int(self.rng.choice(len(self.stretches), p=self.weights))]
        onset = int(self.rng.integers(self.run_up, len(x) - self.after + 1))
        return x[onset - self.run_up : onset + self.after].copy(), row, scale, x

    def _delay(self, piece: Array, row: Array) -> float:
        found = alarms_at(piece, row)
        found = found[found >= self.run_up]
        return (float(found[0]) - self.run_up + 1) * self.period if len(found) else math.inf


def _summary(size: float | None, times: Sequence[float]) -> Delays:
    """Mean of the found, and the 95th percentile of all, a missed one being infinitely late."""
    found = [time for time in times if math.isfinite(time)]
    p95 = sorted(times)[math.ceil(0.95 * len(times)) - 1] if times else math.inf
    mean = float(np.mean(found)) if found else None
    return Delays(size, len(times), len(times) - len(found), mean, p95 if math.isfinite(p95) else None)
