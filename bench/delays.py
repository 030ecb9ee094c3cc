"""Delays at equal false-alarm rates: every detector with one false alarm per 10 000 independent N(0, 1) values, then a change.

Thresholds are found by simulation, in each run anew. ``PUBLISHED`` is the table that the choice of detectors rests on
(``docs/checks/drift.md``); ``rows`` puts what was measured beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_monitor.core.drift import adwin, compat, cusum, edetector, focus, histogram

Array = npt.NDArray[np.float64]

RUN_LENGTH = 10_000
CHANGE, LENGTH = 2000, 6000  #: a change that is not found in 4000 values counts as found after 4000
CHANGES: dict[str, Callable[[Array, Array], Array]] = {
    "mean +0.25": lambda x, k: x + 0.25,
    "mean +0.5": lambda x, k: x + 0.5,
    "mean +1": lambda x, k: x + 1,
    "mean +3": lambda x, k: x + 3,
    "ramp 5e-4": lambda x, k: x + 5e-4 * k,
    "deviation x1.5": lambda x, k: x * 1.5,
    "deviation x0.5": lambda x, k: x * 0.5,
}
MISSED = LENGTH - CHANGE


@dataclass(frozen=True, slots=True)
class Subject:
    """A detector: its batch kernel, state, constants by the number that is tuned, and the range of that number.

    ``refractory``: values within which a further alarm is the same one (detectors that keep their window);
    ``rising``: the run length rises with the number.
    """

    name: str
    many: Any
    state: int
    params: Callable[[float], tuple[float, ...]]
    low: float
    high: float
    published: tuple[float, ...]
    refractory: int = 0
    rising: bool = True
    score: Callable[[Array], Array] = lambda x: x

    def alarms(self, x: Array, number: float) -> npt.NDArray[np.bool_]:
        """(streams, samples): where it alarms."""
        streams = len(x)
        params = np.tile(np.array(self.params(number)), streams)
        alarm = np.zeros(x.shape, np.uint8)
        self.many(self.score(x), params, np.zeros(self.state * streams), np.empty(x.shape), alarm)
        return alarm != 0

    def run_length(self, x: Array, number: float) -> float:
        """Mean values between alarms."""
        at = [np.flatnonzero(row) for row in self.alarms(x, number)]
        count = sum(len(a) - int((np.diff(a) <= self.refractory).sum()) for a in at)
        return x.size / count if count else math.inf

    def tuned(self, x: Array) -> float:
        """The number with the run length asked for."""
        low, high = self.low, self.high
        for _ in range(12):
            middle = math.sqrt(low * high)
            if (self.run_length(x, middle) < RUN_LENGTH) == self.rising:
                low = middle
            else:
                high = middle
        return math.sqrt(low * high)


_BINS = histogram.BINS


def _normal_edges() -> list[float]:
    """Quantiles of N(0, 1)."""
    from statistics import NormalDist

    return [NormalDist().inv_cdf(i / _BINS) for i in range(1, _BINS)]


def _windowed(which: int) -> Callable[[float], tuple[float, ...]]:
    edges = _normal_edges()
    return lambda h: histogram.histogram_params(h, which, edges, [1 / _BINS] * _BINS, window=200, hop=10)


def _exceedance(threshold: float) -> tuple[float, ...]:
    """Cuts at the two-sided exceedance probabilities of N(0, 1) that calibration uses."""
    from statistics import NormalDist

    shares = (0.2, 0.07, 0.02)
    return edetector.edetector_params(threshold, [NormalDist().inv_cdf(1 - p / 2) for p in shares], shares)


_WINDOW_STATE = histogram.histogram_state(_BINS, 200)
NAN = math.nan
# fmt: off
SUBJECTS = (
    Subject(
        "cusum k=.25", cusum.cusum_many, cusum.CUSUM_STATE, lambda h: cusum.cusum_params(h, 0.25), 5, 30,
        (229, 53, 18, 4, 521, 298, 4000),
    ),
    Subject(
        "cusum k=.1", cusum.cusum_many, cusum.CUSUM_STATE, lambda h: cusum.cusum_params(h, 0.1), 5, 60,
        (159, 64, 28, 8, 433, 601, 4000),
    ),
    Subject(
        "ewma .01", cusum.ewma_many, cusum.EWMA_STATE, lambda h: cusum.ewma_params(h, 0.01), 1, 6,
        (167, 63, 27, 8, 438, 705, 4000),
    ),
    Subject("focus", focus.focus_many, focus.FOCUS_STATE, focus.focus_params, 4, 20, (224, 62, 17, 2, 524, 90, 4000)),
    Subject(
        "exceedance e-detector", edetector.edetector_many, edetector.EDETECTOR_STATE, _exceedance, 100, 1e6,
        (NAN,) * 7, score=np.abs,
    ),
    Subject(
        "adwin clock=1", adwin.adwin_many, adwin.adwin_state(), lambda d: adwin.adwin_params(d, 1), 1e-6, 0.9,
        (173, 54, 19, 5, 463, 749, 4000), rising=False,
    ),
    Subject(
        "adwin clock=32", adwin.adwin_many, adwin.adwin_state(), lambda d: adwin.adwin_params(d, 32), 1e-6, 0.9,
        (185, 68, 34, 15, 468, 1153, 4000), rising=False,
    ),
    Subject(
        "page_hinkley", compat.page_hinkley_many, compat.PAGE_HINKLEY_STATE,
        lambda h: compat.page_hinkley_params(threshold=h), 10, 1000, (381, 180, 87, 28, 601, 2464, 4000),
    ),
    Subject(
        "ks W=200", histogram.histogram_many, _WINDOW_STATE, _windowed(histogram.KS), 0.05, 0.4,
        (222, 104, 58, 28, 497, 207, 119), refractory=200,
    ),
    Subject(
        "psi W=200", histogram.histogram_many, _WINDOW_STATE, _windowed(histogram.PSI), 0.1, 2,
        (778, 166, 84, 28, 732, 153, 107), refractory=200,
    ),
    Subject(
        "variance cusum", cusum.variance_many, cusum.VARIANCE_STATE, lambda h: cusum.variance_params(h, 1.5), 3, 20,
        (3075, 923, 48, 3, 1179, 33, 25),
    ),
)
# fmt: on


def mean_delays(subject: Subject, number: float, runs: int, seed: int) -> list[float]:
    """Mean delay after each change, over the runs without a false alarm before it."""
    result = []
    k = np.arange(LENGTH - CHANGE, dtype=np.float64)
    for i, change in enumerate(CHANGES.values()):
        x = np.random.default_rng([seed, i]).normal(size=(runs, LENGTH))
        x[:, CHANGE:] = change(x[:, CHANGE:], k)
        alarms = subject.alarms(x, number)
        after = alarms[~alarms[:, :CHANGE].any(axis=1), CHANGE:]
        first = np.where(after.any(axis=1), after.argmax(axis=1) + 1, MISSED)
        result.append(float(first.mean()))
    return result


def table(runs: int, stream: int) -> dict[str, list[float]]:
    """Measured delays by detector, in the order of ``CHANGES``."""
    x = np.random.default_rng(7).normal(size=(8, stream // 8))
    return {one.name: mean_delays(one, one.tuned(x), runs, 8) for one in SUBJECTS}
