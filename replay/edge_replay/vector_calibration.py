"""From recordings to the reference of several signals at once: each whitened by itself, then how they go together.

Folds, blocks, cuts, bounds and what can refuse a calibration are those of one signal (``calibrate``): the promise is one of
scores of blocks, whatever they are made of. What the first fold tells badly costs delay, not false alarms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_monitor.baselines import VECTOR_ARRAYS, Baseline
from edge_monitor.core.drift import pipeline, vector

from . import calibrate
from .calibrate import Calibration, Request
from .series import CERTIFY, FIT, SET, Series

Array = npt.NDArray[np.float64]

#: Random features, and the weights of a new independent row in the fast and the slow average of them.
FEATURES, FAST, SLOW = 256, 0.05, 0.005
#: Rows that stay like each other for longer than so many are taken as if they did for so many: averages must settle.
LONGEST_TAU = 100.0
SEED = 0
#: Residuals further out than so many scaled MADs count as so far when their covariance is estimated.
WINSOR = 8.0
#: Least share of the identity in a covariance, so that signals that are copies of each other leave it invertible.
LEAST_SHRINKAGE = 1e-6
#: Rows whose distances give the kernel's bandwidth.
BANDWIDTH_ROWS = 200
#: The highest statistic of so many windows at least gives the threshold of ``mmd``.
LEAST_WINDOWS = 10


@dataclass(slots=True)
class VectorFit:
    """One mode: each signal's centre, scale and autoregression (n, order), the residuals' deviations, means and precision."""

    mode: float
    centre: Array
    scale: Array
    phi: Array
    tau: float
    sigma: Array
    mean: Array
    precision: Array
    constant: tuple[int, ...] = field(default=())

    def row(self, params: tuple[float, ...] = (0.0,)) -> pipeline.Row:
        """For the pipeline."""
        parts = (self.centre, self.scale, self.sigma, self.mean, self.phi, self.precision.ravel())
        return vector.vector_row(params, *(part.tolist() for part in parts), mode=self.mode)


def shrunk_precision(x: Array) -> tuple[Array, Array]:
    """Mean (d,) and inverse of the Ledoit-Wolf covariance (d, d) of ``x`` (n, d), n > 1.

    Source: O. Ledoit, M. Wolf, J. Multivariate Analysis 88 (2004) 365.
    """
    mean = x.mean(axis=0)
    centred = x - mean
    n, d = x.shape
    covariance = centred.T @ centred / n
    level = float(np.trace(covariance)) / d
    spread = float(((covariance - level * np.eye(d)) ** 2).sum()) / d
    noise = float(((centred**2).T @ centred**2 / n - covariance**2).sum()) / (n * d)
    weight = 1.0 if spread <= 0 else min(1.0, max(noise / spread, LEAST_SHRINKAGE))
    precision = np.linalg.inv((1 - weight) * covariance + weight * max(level, 1e-300) * np.eye(d))
    return mean, (precision + precision.T) / 2


def winsorised(x: Array) -> Array:
    """``x`` (n, d) with what lies far out of each column pulled in."""
    centre = np.median(x, axis=0)
    reach = WINSOR * 1.4826 * np.median(np.abs(x - centre), axis=0)
    reach = np.where(reach > 0, reach, WINSOR * np.maximum(x.std(axis=0), 1e-12))
    return np.clip(x, centre - reach, centre + reach)


def random_features(z: Array, features: int = FEATURES, seed: int = SEED) -> tuple[Array, Array]:
    """Weights (d, features) and phases (features,) of a Gaussian kernel over ``z`` (n, d): on distances that count every
    direction by its spread there, with the median of them as bandwidth."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(shrunk_precision(winsorised(z))[1])
    some = z[rng.choice(len(z), min(len(z), BANDWIDTH_ROWS), replace=False)] @ root
    squares = ((some[:, None] - some[None]) ** 2).sum(axis=2)
    bandwidth = math.sqrt(max(float(np.median(squares[np.triu_indices(len(some), 1)])), 1e-12) / 2)
    weights = root @ rng.normal(size=(z.shape[1], features)) / bandwidth
    return weights, rng.uniform(0, 2 * math.pi, features)


def run(x: Array, table: tuple[float, ...]) -> Array:
    """The statistic at the end of each block of ``x`` (rows, n; NaN where missing)."""
    statistic = np.empty(len(x))
    pool = np.zeros(vector.pool_size(table))
    vector.vector_many(x, np.array(table), pool, statistic, np.empty(len(x), np.uint8))
    return statistic[~np.isnan(statistic)]


def gumbel(maxima: Array, windows: float) -> float:
    """The level that the highest of so many windows exceeds once in the mean, by the moments of the ``maxima`` of some."""
    scale = float(maxima.std()) * math.sqrt(6) / math.pi
    return float(maxima.mean()) + scale * (-math.log(-math.log1p(-1 / max(windows, 2.0))) - 0.5772156649015329)


def calibrate_vector(series: Sequence[Series], request: Request) -> Baseline:
    """The reference of ``request.signals`` from ``series`` of rows, one a recording.

    Raises ``ValueError`` when there is nothing to learn from.
    """
    return _VectorCalibration(series, request).baseline()


class _VectorCalibration(Calibration):
    """What is different with several signals."""

    def _fit(self, x: Array, mode: float) -> VectorFit:
        n = x.shape[1]
        known = x[np.isfinite(x).all(axis=1)]
        fits = [calibrate.fit(column, mode) for column in x.T]
        order = max(len(one.phi) for one in fits)
        return VectorFit(
            mode,
            np.array([one.centre for one in fits]),
            np.array([one.scale for one in fits]),
            np.array([[*one.phi, *(0.0,) * (order - len(one.phi))] for one in fits]),
            max(one.tau for one in fits),
            np.array([one.sigma for one in fits]),
            np.zeros(n),
            np.eye(n),
            tuple(i for i in range(n) if not len(known) or np.ptp(known[:, i]) == 0),
        )

    def _residuals(self, x: Array, fitted: VectorFit, block: int) -> Array:
        """Each signal's residuals (blocks, n), summed over blocks and divided by sqrt(block)."""
        columns = []
        for i, column in enumerate(x.T):
            one = calibrate.Fit(
                fitted.mode, fitted.centre[i], fitted.scale[i], tuple(fitted.phi[i]), fitted.tau, fitted.sigma[i]
            )
            columns.append(calibrate.scores(column, one, block, pipeline.SHIFT))
        return np.stack(columns, axis=1)

    def _settle(self, mode: float | None, fitted: VectorFit, block: int) -> None:
        """How residuals go together on the first fold: those of whole blocks for shifts, single ones for their energy."""
        size = block if self.feed == pipeline.MAGNITUDE else 1
        values = self._residuals(self._grid(FIT, mode, block), fitted, size)
        if len(values) < 2 and size > 1:
            size, values = 1, self._residuals(self._grid(FIT, mode, block), fitted, 1)
        if len(values) > 1:
            mean, fitted.precision = shrunk_precision(winsorised(values))
            fitted.mean = mean / math.sqrt(size)

    def _tried(self, mode: float | None, fitted: VectorFit, block: int) -> Array:
        self._settle(mode, fitted, block)
        return super()._tried(mode, fitted, block)

    def _block_scores(self, x: Array, fitted: VectorFit, block: int) -> Array:
        n = len(self.request.signals)
        return run(x, pipeline.pack(pipeline.COLLECT, [fitted.row()], feed=self.feed, block=block, dimensions=n))

    def _constant(self, fitted: VectorFit, values: Sequence[Array]) -> str:
        names = [self.request.signals[i] for i in fitted.constant]
        return "signal " + ", ".join(names) if names else ""

    def _of(self) -> dict[str, Any]:
        return {"signals": list(self.request.signals), "units": list(self.request.units)}

    def _arrays(self) -> dict[str, Any]:
        sizes = {"m": len(self.modes), "n": len(self.request.signals), "f": FEATURES, "6": pipeline.MAX_ORDER, "3": 3}
        arrays = {name: np.zeros([sizes[axis] for axis in shape]) for name, shape in VECTOR_ARRAYS.items()}
        for i, (mode, fitted) in enumerate(zip(self.modes, self.fits, strict=True)):
            for name in ("mode", "centre", "scale", "sigma", "mean", "tau", "precision"):
                arrays[name][i] = getattr(fitted, name)
            order = arrays["order"][i] = fitted.phi.shape[1]
            arrays["phi"][i, :, :order] = fitted.phi
            arrays["cuts"][i], arrays["bounds"][i] = self.cuts[i], self.bounds[i]
            z = (self._grid(FIT, mode, 1) - fitted.centre) / fitted.scale
            z = np.clip(z[~np.isnan(z).any(axis=1)], -pipeline.FAR, pipeline.FAR)
            if len(z) > 1:
                arrays["weights"][i], arrays["phases"][i] = random_features(z)
        return arrays

    def _thresholds(self, block_s: float, arrays: dict[str, Any]) -> dict[str, dict[str, float | str]]:
        tau = min(max(fitted.tau for fitted in self.fits), LONGEST_TAU)
        fast, slow = FAST / max(tau, 1.0), SLOW / max(tau, 1.0)
        return {
            "mahalanobis": {"threshold": self._evidence(block_s)},
            "mmd": {"threshold": self._mmd_threshold(arrays, fast, slow), "fast": fast, "slow": slow},
        }

    def _mmd_threshold(self, arrays: dict[str, Any], fast: float, slow: float) -> float:
        """What the highest of the windows in the stream's share of the interval exceeds once, extrapolated (Gumbel) from the
        last two folds, and at least the highest seen there; three deviations of independent rows where they are too short."""
        window = round(1 / slow)
        windows = self.request.interval_s / self.request.weight / (window * self.period)
        threshold = 3 * math.sqrt(FAST / (2 - FAST))
        levels = []
        n = len(self.request.signals)
        for i, (mode, fitted) in enumerate(zip(self.modes, self.fits, strict=True)):
            row = vector.vector_row(
                vector.mmd_params(1e9, FEATURES, fast, slow),
                fitted.centre.tolist(), fitted.scale.tolist(), [1.0] * n, [0.0] * n, [()] * n,
                [*arrays["weights"][i].ravel().tolist(), *arrays["phases"][i].tolist()],
            )  # fmt: skip
            table = pipeline.pack(pipeline.MMD, [row], dimensions=n)
            maxima = []
            for x in (*self._parts(SET, mode, 1), *self._parts(CERTIFY, mode, 1)):
                values = run(x, table)
                maxima += [values[k : k + window].max() for k in range(0, len(values) - window + 1, window)]
            if len(maxima) >= LEAST_WINDOWS:
                levels.append(max(gumbel(np.array(maxima), windows), *maxima))
        return max(levels, default=threshold)
