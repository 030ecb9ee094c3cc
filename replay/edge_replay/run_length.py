"""Thresholds from run lengths: how many independent N(0, 1) values pass, in the mean, between false alarms.

Each function answers the threshold whose mean run length is ``run_length`` values. They hold for independent Gaussian
values, which whitened blocks are only nearly: a nominal figure. What is promised comes from the e-detector alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr  # type: ignore[import-untyped]

Array = npt.NDArray[np.float64]
CELLS = 120  #: of the chains


def solve(run_length_of: Callable[[float], float], run_length: float, low: float, high: float) -> float:
    """Where an increasing ``run_length_of`` reaches ``run_length``; looks from ``low`` to ``high`` and beyond.

    Regula falsi on the logarithm, which is nearly a straight line in the threshold.
    """

    def beyond(threshold: float) -> float:
        return math.log(max(run_length_of(threshold), 1.0) / run_length)

    at_low, at_high = beyond(low), beyond(high)
    while at_high < 0 and high < 1e3:
        low, at_low = high, at_high
        high *= 1.5
        at_high = beyond(high)
    if at_low >= 0:
        return low
    middle = high
    for _ in range(60):
        middle = high - at_high * (high - low) / (at_high - at_low)
        value = beyond(middle)
        if abs(value) < 1e-6:
            break
        if value < 0:
            low, at_low = middle, value
            at_high /= 2  # Illinois: the end that stays counts half
        else:
            high, at_high = middle, value
            at_low /= 2
    return middle


def cusum_run_length(threshold: float, k: float) -> float:
    """Of the two-sided CUSUM (Siegmund 1985): half of ``(e^x - x - 1) / 2k²``, x = 2k (h + 1.166)."""
    x = 2 * k * (threshold + 1.166)
    if x > 700:
        return math.inf
    return (math.exp(x) - x - 1) / (4 * k * k)


def cusum(run_length: float, k: float) -> float:
    """Threshold of the two-sided CUSUM with allowance ``k`` > 0."""
    return solve(lambda h: cusum_run_length(h, k), run_length, 0.0, 10.0)


def focus_run_length(threshold: float) -> float:
    """Of the likelihood ratio over all change times and sizes (Siegmund, Venkatraman, Ann. Statist. 23, 1995, 255)."""
    c = math.sqrt(2 * threshold)
    x = np.linspace(1e-6, c, 400)
    half = x / 2
    density = np.exp(-half * half / 2) / math.sqrt(2 * math.pi)
    nu = (2 / x) * (ndtr(half) - 0.5) / (half * ndtr(half) + density)
    integrand = x * nu * nu
    integral = float(((integrand[1:] + integrand[:-1]) / 2 * np.diff(x)).sum())
    return math.sqrt(2 * math.pi) * math.exp(min(threshold, 700)) / (c * integral)


@cache
def focus(run_length: float) -> float:
    """Threshold of FOCuS."""
    return solve(focus_run_length, run_length, 1.0, 30.0)


def chain_run_length(cdf: Callable[[Array], Array], low: float, high: float, start: float, *, reflect: bool) -> float:
    """Mean steps until a chain on [low, high] leaves it, from ``start`` (Brook, Evans, Biometrika 59, 1972, 539).

    ``cdf`` takes an array (2, CELLS, CELLS) of edges and states: P(next value <= edge | state). ``reflect``: what falls
    below ``low`` is put back there.
    """
    edges = np.linspace(low, high, CELLS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    if reflect:
        middles[0] = low
    upper = cdf(np.stack(np.broadcast_arrays(edges[None, 1:], middles[:, None])))
    lower = cdf(np.stack(np.broadcast_arrays(edges[None, :-1], middles[:, None])))
    if reflect:
        lower[:, 0] = 0.0
    moves = upper - lower
    moves[moves < 1e-100] = 0.0  # subnormal numbers cost a hundred times as much
    length: Array = np.linalg.solve(np.eye(CELLS) - moves, np.ones(CELLS))
    return float(length[int(np.argmin(np.abs(middles - start)))])


@cache
def ewma(run_length: float, rate: float) -> float:
    """Limit L of the EWMA in deviations of the EWMA."""
    deviation = math.sqrt(rate / (2 - rate))

    def length(limit: float) -> float:
        edge = limit * deviation
        return chain_run_length(lambda a: ndtr((a[0] - (1 - rate) * a[1]) / rate), -edge, edge, 0.0, reflect=False)

    return solve(length, run_length, 0.5, 6.0)


@cache
def variance(run_length: float, ratio: float) -> float:
    """Threshold of the two variance CUSUMs together (half of the alarms each, at most)."""

    def one(threshold: float, s: float) -> float:
        slope, offset = (1 - s**-2) / 2, math.log(s)

        def cdf(a: Array) -> Array:
            square = (a[0] - a[1] + offset) / slope
            inside: Array = 2 * ndtr(np.sqrt(np.maximum(square, 0.0))) - 1
            return inside if slope > 0 else np.subtract(1.0, inside)

        return chain_run_length(cdf, 0.0, threshold, 0.0, reflect=True)

    def length(threshold: float) -> float:
        return 1 / (1 / one(threshold, ratio) + 1 / one(threshold, 1 / ratio))

    return solve(length, run_length, 0.5, 20.0)
