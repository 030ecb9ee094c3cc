"""From recordings in which all was well to a reference file: fit, set thresholds, certify, each on a fold of its own.

What is promised: over *all* streams of the robot together, at most one false alarm per interval in the mean, with the
stated confidence over the choice of recordings, as long as the signal behaves as in the last fold. A stream with weight
w gets the threshold interval / (block duration x w); the weights of all streams sum to at most 1. Where an assumption
can be seen to fail, the reference is not calibrated, and says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, binom, poisson  # type: ignore[import-untyped]

from edge_monitor import __version__
from edge_monitor.baselines import ARRAYS, FORMAT, SAMPLE, SCORES, Baseline
from edge_monitor.core.drift import histogram, pipeline
from edge_monitor.core.drift.edetector import EDETECTOR_STATE, LEVELS, edetector_many, edetector_params

from . import run_length
from .series import CERTIFY, FIT, GAP_PERIODS, SET, Series, by_recording, period_of, rate_problems, regular, sources

Array = npt.NDArray[np.float64]

#: Shares of blocks that exceed the three cuts without a change.
EXCEEDANCES = (0.2, 0.07, 0.02)
SMALLEST_BLOCK = 10
#: A block spans so many times the signal's decorrelation time: a shift of one deviation is then 2.2 of a block's.
BLOCK_TAUS = 5.0
#: Blocks that the last fold needs at least, and that the choice of a block's length leaves it.
LEAST_BLOCKS, WANTED_BLOCKS = 100, 200
#: Level of the tests that can refuse a calibration.
REFUSE = 0.01
#: A reference shorter than this share of the promised interval has not seen what happens between two alarms.
LEAST_SHARE = 1 / 20
HISTOGRAM_WINDOW = 500


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. ``interval_s``: mean seconds between false alarms of the whole robot; ``weight``: this
    stream's share of them; ``score``: ``shift``, ``energy`` or ``quiet``; ``block``: samples, None to choose;
    ``signals``, ``units``: of a vector, whose name then is ``signal``."""

    signal: str
    interval_s: float
    unit: str = ""
    mode_signal: str = ""
    weight: float = 1.0
    confidence: float = 0.95
    score: str = "shift"
    block: int | None = None
    author: str = ""
    signals: tuple[str, ...] = ()
    units: tuple[str, ...] = ()


@dataclass(slots=True)
class Fit:
    """One mode: how to standardise and whiten, as fitted on the first fold."""

    mode: float
    centre: float
    scale: float
    phi: tuple[float, ...]
    tau: float
    sigma: float = 1.0

    def row(self, params: tuple[float, ...] = (0.0,)) -> pipeline.Row:
        """For the pipeline."""
        return pipeline.Row(params, self.mode, self.centre, self.scale, self.sigma, self.phi)

    @property
    def gain(self) -> float:
        """Shift of a residual for a shift of the signal by one ``scale``."""
        return max(0.0, 1 - sum(self.phi)) / self.sigma


def yule_walker(z: Array) -> tuple[tuple[float, ...], float, float]:
    """Autoregression of order 0 to 6 of ``z`` (NaN where missing), by BIC: ``(phi, sigma, tau)``.

    ``tau`` is the sum of the model's autocorrelations over all lags: so many samples are worth one independent one.
    """
    known = ~np.isnan(z)
    n = int(known.sum())
    centred = np.where(known, z - (z[known].mean() if n else 0.0), 0.0)
    size = len(centred)
    covariance = [float(centred[: size - k] @ centred[k:]) / max(n, 1) for k in range(pipeline.MAX_ORDER + 1)]
    if n < 50 or covariance[0] <= 0:
        return (), 1.0, 1.0
    best: tuple[float, list[float], float] = (n * math.log(covariance[0]), [], covariance[0])
    phi: list[float] = []
    error = covariance[0]
    for order in range(1, pipeline.MAX_ORDER + 1):  # Levinson, Durbin
        reflection = (covariance[order] - sum(phi[i] * covariance[order - 1 - i] for i in range(order - 1))) / error
        reflection = min(max(reflection, -0.999999), 0.999999)
        phi = [phi[i] - reflection * phi[order - 2 - i] for i in range(order - 1)] + [reflection]
        error *= 1 - reflection * reflection
        if error <= 1e-12 * covariance[0]:
            break
        criterion = n * math.log(error) + order * math.log(n)
        if criterion < best[0]:
            best = (criterion, list(phi), error)
    rest = max(1 - sum(best[1]), 1e-6)
    return tuple(best[1]), math.sqrt(best[2]), best[2] / (rest * rest) / covariance[0]


def fit(x: Array, mode: float) -> Fit:
    """Median, scaled MAD (the deviation where more than half of the values are equal), autoregression."""
    known = x[np.isfinite(x)]
    centre = float(np.median(known)) if len(known) else 0.0
    scale = 1.4826 * float(np.median(np.abs(known - centre))) if len(known) else 0.0
    if scale <= 1e-12 * abs(centre):
        scale = float(known.std()) if len(known) else 0.0
    if scale <= 1e-12 * abs(centre) or not scale > 0:
        return Fit(mode, centre, max(abs(centre), 1.0) * 1e-9, (), 1.0)
    z = np.clip((x - centre) / scale, -pipeline.FAR, pipeline.FAR)
    phi, sigma, tau = yule_walker(z)
    return Fit(mode, centre, scale, phi, tau, sigma)


def scores(x: Array, fitted: Fit, block: int, feed: int) -> Array:
    """What the pipeline gives a detector: one value a block."""
    table = pipeline.pack(pipeline.COLLECT, [fitted.row()], feed=feed, block=block)
    pool = np.zeros(pipeline.pool_size(table))
    values = np.empty((1, len(x)))
    alarm = np.empty((1, len(x)), np.uint8)
    pipeline.pipeline_many(x[None], np.array(table), pool, values, alarm)
    result: Array = values[0][~np.isnan(values[0])]
    return result


def clopper_pearson(exceed: int, n: int, alpha: float) -> float:
    """Upper bound of a probability of which ``exceed`` of ``n`` were seen, wrong with probability at most ``alpha``."""
    return 1.0 if exceed >= n else float(beta.ppf(1 - alpha, exceed + 1, n - exceed))


def dependence(values: Array, cuts: Sequence[float]) -> float:
    """Probability, at most, of exceedances following each other so often if they were independent.

    Asked of each cut: how often does an exceedance follow one in the block before, and one in the five before? All
    answers together (Bonferroni).
    """
    smallest = 1.0
    for cut in cuts:
        exceeds = values > cut
        sums = np.concatenate([[0], np.cumsum(exceeds)])
        for reach in (1, 5):
            if len(values) <= reach:
                continue
            recently = sums[reach:-1] > sums[: -1 - reach]
            before, both = int(recently.sum()), int((recently & exceeds[reach:]).sum())
            if before:
                smallest = min(smallest, float(binom.sf(both - 1, before, exceeds.mean())))
    return min(1.0, smallest * 2 * len(cuts))


def heterogeneity(values: Sequence[Array], cuts: Sequence[float]) -> float:
    """Probability, at most, of a recording exceeding so much more often than all of them if they were alike."""
    together = np.concatenate(list(values))
    smallest = 1.0
    for cut in cuts:
        share = float((together > cut).mean())
        for one in values:
            if len(one):
                smallest = min(smallest, float(binom.sf(int((one > cut).sum()) - 1, len(one), share)))
    return min(1.0, smallest * len(cuts) * len(values))


def calibrate(series: Sequence[Series], request: Request) -> Baseline:
    """The reference of one signal from ``series``, one a recording. Look at ``header["reasons"]`` where not calibrated.

    Raises ``ValueError`` when there is nothing to learn from (no two finite samples).
    """
    return Calibration(series, request).baseline()


class Calibration:
    """The steps, and the reasons collected on the way.

    What is of one signal alone is in methods that ``vector_calibration`` overrides: :meth:`_fit`, :meth:`_tried`,
    :meth:`_settle`, :meth:`_block_scores`, :meth:`_constant`, :meth:`_of`, :meth:`_arrays`, :meth:`_thresholds`.
    """

    def __init__(self, series: Sequence[Series], request: Request) -> None:
        series = [one for one in series if one.known.sum() > 1]
        period = period_of(series)
        if not series or period <= 0:
            raise ValueError(f"signal {request.signal}: no recording holds two samples of it")
        self.request = request
        self.period = period
        self.series = series
        self.reasons: list[str] = []
        self.folds, whole = by_recording(series)
        if not whole:
            self.reasons.append(
                f"only {len(series)} recording{'s' if len(series) > 1 else ''}: folds of one drive say nothing about "
                "another; three are needed at least"
            )
        seconds = sum(one.seconds for one in series)
        needed = LEAST_SHARE * request.interval_s
        if seconds < needed:
            self.reasons.append(
                f"{seconds:.4g} s of reference; for such an interval {needed:.4g} s are needed at least"
            )
        self.reasons += rate_problems(series, period)
        self.whole = whole
        self.left_out: list[str] = []
        self.modes = self._modes()
        self.fits = [self._fit(self._grid(FIT, mode, 1), mode or 0.0) for mode in self.modes]
        self.feed = SCORES[request.score]
        self.block = self._block()
        for mode, fitted in zip(self.modes, self.fits, strict=True):
            self._settle(mode, fitted, self.block)
        self.cuts, self.bounds = self._certify()
        self._try()

    def _modes(self) -> list[float | None]:
        if not self.request.mode_signal:
            return [None]
        seen = np.concatenate([one.mode for one in self.series if one.mode is not None])
        kept: list[float | None] = []
        least = LEAST_BLOCKS * SMALLEST_BLOCK
        for mode in np.unique(seen[~np.isnan(seen)]).tolist():
            counts = [sum(int(one.known[one.mode == mode].sum()) for one in fold) for fold in self.folds]
            if counts[CERTIFY] >= least and min(counts) >= least // 2:
                kept.append(mode)
            else:
                self.left_out.append(f"mode {mode:g}: {counts} samples to fit, set and certify on; {least} are needed")
        if not kept:
            name = self.request.mode_signal
            raise ValueError(
                f"signal {self.request.signal}: no mode of {name} is long enough: {'; '.join(self.left_out)}"
            )
        return kept

    def _name(self, mode: float | None) -> str:
        return "" if mode is None else f"in mode {mode:g}: "

    def _grid(self, fold: int, mode: float | None, block: int) -> Array:
        parts = self._parts(fold, mode, block)
        return np.concatenate(parts) if parts else self.series[0].x[:0]

    def _known(self, fold: int, mode: float | None) -> int:
        """How many samples of a fold are known."""
        finite = np.isfinite(self._grid(fold, mode, 1))
        return int((finite if finite.ndim == 1 else finite.all(axis=1)).sum())

    def _parts(self, fold: int, mode: float | None, block: int) -> list[Array]:
        """A fold on the grid, recording by recording; neighbouring folds are kept apart by ten decorrelation times."""
        skip = 0
        if not self.whole and fold != FIT:
            skip = math.ceil(10 * max(fitted.tau for fitted in self.fits))
        return [regular(one, self.period, block, mode, skip) for one in self.folds[fold]]

    def _longest(self, blocks: int) -> int:
        """The longest block that leaves the last fold so many, in the mode with the fewest samples."""
        counts = [self._known(CERTIFY, mode) for mode in self.modes]
        return max(1, min(counts) // blocks)

    def _block(self) -> int:
        if self.request.block is not None:
            return self.request.block
        tau = max(fitted.tau for fitted in self.fits)
        wanted = max(SMALLEST_BLOCK, math.ceil(BLOCK_TAUS * tau))
        longest = self._longest(WANTED_BLOCKS)
        if longest < tau:
            self.reasons.append(
                f"the signal stays like itself for {tau * self.period:.3g} s: the reference is too short for it"
            )
        wanted = max(SMALLEST_BLOCK, min(wanted, longest))
        while 2 * wanted <= longest:
            values = [self._tried(m, f, wanted) for m, f in zip(self.modes, self.fits, strict=True)]
            if all(len(v) < 2 or dependence(v, _cuts(v)) >= REFUSE for v in values):
                break
            wanted *= 2
        return wanted

    def _fit(self, x: Array, mode: float) -> Any:
        """How to standardise and whiten in one mode."""
        return fit(x, mode)

    def _tried(self, mode: float | None, fitted: Any, block: int) -> Array:
        """Scores of the second fold with blocks of such a length."""
        return self._block_scores(self._grid(SET, mode, block), fitted, block)

    def _settle(self, mode: float | None, fitted: Any, block: int) -> None:
        """Make a block's value have deviation 1 on the first fold."""
        values = scores(self._grid(FIT, mode, block), fitted, block, pipeline.SHIFT)
        deviation = float(values.std()) if len(values) >= 20 else 1.0
        if deviation > 0:
            fitted.sigma *= deviation

    def _block_scores(self, x: Array, fitted: Any, block: int) -> Array:
        """The scores of the blocks of ``x``."""
        return scores(x, fitted, block, self.feed)

    def _constant(self, fitted: Any, values: Sequence[Array]) -> str:
        """What is constant in the reference, nothing where all moves; ``values``: scores of the last two folds."""
        return "the signal" if any(float(one.std()) == 0 for one in values) else ""

    def _certify(self) -> tuple[list[list[float]], list[list[float]]]:
        alpha = (1 - self.request.confidence) * self.request.weight / (LEVELS * len(self.modes))
        cuts, bounds = [], []
        for mode, fitted in zip(self.modes, self.fits, strict=True):
            name = self._name(mode)
            parts = self._scores(CERTIFY, mode, fitted)
            set_on = np.concatenate([np.empty(0), *self._scores(SET, mode, fitted)])
            certified = np.concatenate([np.empty(0), *parts])
            n = len(certified)
            cut = _cuts(set_on) if len(set_on) else [0.0, 0.0, 0.0]
            if n < LEAST_BLOCKS or len(set_on) < LEAST_BLOCKS // 2:
                self.reasons.append(
                    f"{name}{len(set_on)} and {n} blocks of {self.block * self.period:.3g} s to set and certify "
                    f"thresholds on; {LEAST_BLOCKS // 2} and {LEAST_BLOCKS} are needed"
                )
            elif constant := self._constant(fitted, (certified, set_on)):
                self.reasons.append(f"{name}{constant} is constant in the reference: nothing to compare with")
            else:
                chance = dependence(certified, cut)
                if chance < REFUSE:
                    self.reasons.append(
                        f"{name}exceedances follow each other (p = {chance:.2g}), also with the longest block"
                    )
                chance = heterogeneity([*self._scores(SET, mode, fitted), *parts], cut)
                if chance < REFUSE:
                    self.reasons.append(
                        f"{name}the recordings differ from each other (p = {chance:.2g}): is a mode missing?"
                    )
            upper = [clopper_pearson(int((certified > c).sum()), n, alpha) if n else 0.999 for c in cut]
            cuts.append(cut)
            bounds.append([min(max(p, 1e-6), 0.999) for p in upper])
        return cuts, bounds

    def _scores(self, fold: int, mode: float | None, fitted: Fit) -> list[Array]:
        """The scores of a fold's blocks, recording by recording."""
        return [self._block_scores(x, fitted, self.block) for x in self._parts(fold, mode, self.block)]

    def _try(self) -> None:
        """Alarms in the reference itself, where all was well, are possible, but not many."""
        block_s = self.block * self.period
        threshold = self._evidence(block_s)
        alarms, seconds = 0, 0.0
        for i, (mode, fitted) in enumerate(zip(self.modes, self.fits, strict=True)):
            params = np.array(edetector_params(threshold, self.cuts[i], self.bounds[i]))
            for fold in range(len(self.folds)):
                values = np.concatenate([np.empty(0), *self._scores(fold, mode, fitted)])[None]
                alarm = np.zeros(values.shape, np.uint8)
                edetector_many(values, params, np.zeros(EDETECTOR_STATE), np.empty(values.shape), alarm)
                alarms += int(alarm.sum())
                seconds += values.size * block_s
        chance = float(poisson.sf(alarms - 1, seconds * self.request.weight / self.request.interval_s))
        if chance < REFUSE:
            self.reasons.append(
                f"{alarms} alarms in the {seconds / 3600:.3g} h of the reference itself (p = {chance:.2g}): it is not alike "
                "throughout"
            )

    def _evidence(self, block_s: float) -> float:
        """Threshold of the e-detector: the stream's share of the interval, in blocks."""
        return max(self.request.interval_s / self.request.weight / block_s, 2.0)

    def baseline(self) -> Baseline:
        request = self.request
        block_s = self.block * self.period
        arrays = self._arrays()
        header = {
            "format": FORMAT,
            **self._of(),
            "mode_signal": request.mode_signal,
            "author": request.author,
            "made_by": f"edge-monitor {__version__}",
            "score": request.score,
            "block": self.block,
            "period_s": self.period,
            "gap_s": GAP_PERIODS * self.period,
            "sources": sources(self.folds),
            "calibrated": not self.reasons,
            "reasons": self.reasons,
            "left_out": self.left_out,
            "promise": {
                "interval_s": request.interval_s,
                "weight": request.weight,
                "confidence": request.confidence,
                "block_s": block_s,
                "assumptions": list(ASSUMPTIONS),
            },
            "detectors": self._thresholds(block_s, arrays),
        }
        return Baseline(header, arrays)

    def _of(self) -> dict[str, Any]:
        """Of what the reference is, for the header."""
        return {"signal": self.request.signal, "unit": self.request.unit}

    def _arrays(self) -> dict[str, Any]:
        """The arrays of the file."""
        modes = len(self.modes)
        arrays: dict[str, Any] = {name: np.zeros((modes, *shape)) for name, shape in ARRAYS.items()}
        for i, (mode, fitted) in enumerate(zip(self.modes, self.fits, strict=True)):
            arrays["mode"][i], arrays["centre"][i], arrays["scale"][i] = fitted.mode, fitted.centre, fitted.scale
            arrays["sigma"][i], arrays["order"][i], arrays["gain"][i] = fitted.sigma, len(fitted.phi), fitted.gain
            arrays["phi"][i, : len(fitted.phi)] = fitted.phi
            arrays["tau"][i], arrays["cuts"][i], arrays["bounds"][i] = fitted.tau, self.cuts[i], self.bounds[i]
            arrays["edges"][i], arrays["shares"][i], arrays["size"][i] = self._histogram(mode, fitted)
            arrays["sample"][i] = self._sample(mode, fitted)
        return arrays

    def _histogram(self, mode: float | None, fitted: Fit) -> tuple[Array, Array, float]:
        """Edges and shares of cells of about equal share over the standardised samples of the first two folds."""
        x = np.concatenate([self._grid(FIT, mode, 1), self._grid(SET, mode, 1)])
        z = (x[np.isfinite(x)] - fitted.centre) / fitted.scale
        bins = histogram.BINS
        edges = np.quantile(z, np.arange(1, bins) / bins) if len(z) else np.arange(1.0, bins)
        for i in range(1, len(edges)):  # equal quantiles of a coarse signal: the cells between them are empty
            edges[i] = max(edges[i], np.nextafter(edges[i - 1] + 1e-9 * max(1.0, abs(edges[i - 1])), np.inf))
        counts = np.bincount(np.searchsorted(edges, z, side="right"), minlength=bins) + 0.5
        return edges, counts / counts.sum(), float(len(z))

    def _sample(self, mode: float | None, fitted: Fit) -> Array:
        """Values of evenly spaced rank among the standardised samples that the histogram is made of."""
        x = np.concatenate([self._grid(FIT, mode, 1), self._grid(SET, mode, 1)])
        z = np.sort(x[np.isfinite(x)] - fitted.centre) / fitted.scale
        ranks = (np.arange(SAMPLE) + 0.5) / SAMPLE * len(z)
        return z[ranks.astype(np.int64)] if len(z) else np.zeros(SAMPLE)

    def _thresholds(self, block_s: float, arrays: dict[str, Any]) -> dict[str, dict[str, float | str]]:
        """Thresholds of all detectors for the stream's share of the interval; all but the e-detector's are nominal."""
        request = self.request
        stream_s = request.interval_s / request.weight
        blocks = max(stream_s / block_s, 2.0)
        k = max(0.05, float(arrays["gain"].min()) / 2)
        looks = max(stream_s / (HISTOGRAM_WINDOW * self.period), 2.0)
        worst = int(np.argmax(arrays["tau"]))
        n = histogram.effective_size(HISTOGRAM_WINDOW, float(arrays["tau"][worst]))
        m = histogram.effective_size(float(arrays["size"][worst]), float(arrays["tau"][worst]))
        ks = histogram.histogram_threshold(
            histogram.KS, max(n, 1.0), max(m, 1.0), 1 / looks, arrays["edges"][worst].tolist()
        )
        return {
            "edetector": {"threshold": self._evidence(block_s)},
            "cusum": {"threshold": run_length.cusum(max(stream_s / self.period, 10.0), k), "k": k},
            "ewma": {"threshold": run_length.ewma(blocks, 0.1), "rate": 0.1},
            "variance": {"threshold": run_length.variance(blocks, 1.5), "ratio": 1.5},
            "focus": {"threshold": run_length.focus(blocks)},
            "histogram": {
                "threshold": ks,
                "statistic": "ks",
                "window": HISTOGRAM_WINDOW,
                "hop": HISTOGRAM_WINDOW // 10,
            },
        }


def _cuts(values: Array) -> list[float]:
    """The values that the shares of ``EXCEEDANCES`` exceed."""
    return [float(c) for c in np.quantile(values, [1 - share for share in EXCEEDANCES], method="higher")]


ASSUMPTIONS = (
    "whatever came before, a block exceeds each cut with at most the probability that the last fold bounds",
    "samples come at the rate of the reference; fewer only lengthen the time between alarms",
    "nothing is assumed of how streams depend on each other",
)
