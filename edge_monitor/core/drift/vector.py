"""Vectors (embeddings, several signals) to one number: Mahalanobis distance, and MMD by random Fourier features.

Sources: O. Ledoit, M. Wolf, J. Multivariate Analysis 88 (2004) 365 (shrinkage); A. Rahimi, B. Recht, NIPS 2007
(features); N. Keriven, D. Garreau, I. Poli, NEWMA, IEEE TSP 68 (2020) 3515 (two forgetting factors). ``x``
has the shape (samples, dimensions); a row with a NaN is skipped.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..jit import inlined, kernel

_NAN = math.nan
Array = npt.NDArray[np.float64]


def shrunk_precision(x: Array) -> tuple[Array, Array]:
    """Mean (d,) and inverse of the Ledoit-Wolf covariance (d, d) of the reference ``x`` (n, d), n > 1."""
    mean = x.mean(axis=0)
    centred = x - mean
    n, d = x.shape
    covariance = centred.T @ centred / n
    level = float(np.trace(covariance)) / d
    spread = float(((covariance - level * np.eye(d)) ** 2).sum()) / d
    noise = float(((centred**2).T @ centred**2 / n - covariance**2).sum()) / (n * d)
    weight = 1.0 if spread <= 0 else min(1.0, noise / spread)
    shrunk = (1 - weight) * covariance + weight * max(level, 1e-300) * np.eye(d)
    return mean, np.linalg.inv(shrunk)


def mahalanobis_params(mean: Array, precision: Array) -> tuple[float, ...]:
    """Mean (d,) and inverse covariance (d, d), in this order."""
    return (float(len(mean)), *mean.tolist(), *precision.ravel().tolist())


@inlined
def mahalanobis(x, row, params, p):  # type: ignore[no-untyped-def]
    """``(x - mean)' precision (x - mean) / d`` of a row: about 1 without a change. A score for the e-detector."""
    d = int(params[p])
    total = 0.0
    for i in range(d):
        along = 0.0
        for j in range(d):
            along += params[p + 1 + d + i * d + j] * (x[row, j] - params[p + 1 + j])
        total += along * (x[row, i] - params[p + 1 + i])
    return total / d


@kernel
def mahalanobis_many(x, params, out):  # type: ignore[no-untyped-def]
    """Scores of the rows of ``x`` (samples, d) into ``out`` (samples,); NaN where a row holds one."""
    for i in range(x.shape[0]):
        out[i] = mahalanobis(x, i, params, 0)


FAST, SLOW, DIMENSIONS, FEATURES, WEIGHTS = 1, 2, 3, 4, 5


def mmd_params(
    threshold: float, reference: Array, features: int = 256, fast: float = 0.05, slow: float = 0.005, seed: int = 0
) -> tuple[float, ...]:
    """Gaussian-kernel features of the bandwidth that the median distance in ``reference`` (n, d) gives."""
    rng = np.random.default_rng(seed)
    some = reference[rng.choice(len(reference), min(len(reference), 200), replace=False)]
    squares = ((some[:, None] - some[None]) ** 2).sum(axis=2)
    bandwidth = math.sqrt(max(float(np.median(squares[np.triu_indices(len(some), 1)])), 1e-300) / 2)
    weights = rng.normal(size=(features, reference.shape[1])) / bandwidth
    phases = rng.uniform(0, 2 * math.pi, features)
    d = reference.shape[1]
    return (threshold, fast, slow, float(d), float(features), *weights.ravel().tolist(), *phases.tolist())


def mmd_state(features: int = 256) -> int:
    """Numbers of state: a count and two averages of the features."""
    return 1 + 2 * features


@inlined
def mmd(x, row, params, p, state, q):  # type: ignore[no-untyped-def]
    """Distance of a fast and a slow average of the features; NaN until the slow one has settled (2 / slow rows)."""
    d = int(params[p + DIMENSIONS])
    features = int(params[p + FEATURES])
    for j in range(d):
        if math.isnan(x[row, j]) or math.isinf(x[row, j]):
            return _NAN, False
    scale = math.sqrt(2.0 / features)
    phases = p + WEIGHTS + features * d
    square = 0.0
    n = state[q]
    for i in range(features):
        angle = params[phases + i]
        for j in range(d):
            angle += params[p + WEIGHTS + i * d + j] * x[row, j]
        feature = scale * math.cos(angle)
        fast = feature
        slow = feature
        if n > 0:
            fast = state[q + 1 + i] + params[p + FAST] * (feature - state[q + 1 + i])
            slow = state[q + 1 + features + i] + params[p + SLOW] * (feature - state[q + 1 + features + i])
        state[q + 1 + i] = fast
        state[q + 1 + features + i] = slow
        square += (fast - slow) * (fast - slow)
    state[q] = n + 1.0
    if (n + 1.0) * params[p + SLOW] < 2.0:
        return _NAN, False
    statistic = math.sqrt(square)
    if statistic > params[p]:
        state[q] = 0.0
        return statistic, True
    return statistic, False


@kernel
def mmd_many(x, params, state, statistic, alarm):  # type: ignore[no-untyped-def]
    """:func:`mmd` over the rows of ``x`` (samples, d); ``statistic`` and ``alarm`` have the shape (samples,)."""
    for i in range(x.shape[0]):
        statistic[i], alarm[i] = mmd(x, i, params, 0, state, 0)
