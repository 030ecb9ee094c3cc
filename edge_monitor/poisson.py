"""What a count in a time proves of a rate: exact Poisson bounds (Garwood 1936). No event in T proves, at 95 %, at most 3.0/T."""

from __future__ import annotations

import math
from functools import lru_cache


def rate(count: int, hours: float, confidence: float = 0.95) -> dict[str, float | None]:
    """Events an hour with one-sided exact bounds; None where no time has passed."""
    if hours <= 0:
        return {"per_hour": None, "lower": None, "upper": None}
    low, high = poisson_bounds(count, confidence)
    return {"per_hour": count / hours, "lower": low / hours, "upper": high / hours}


@lru_cache(4096)
def poisson_bounds(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """One-sided exact bounds of a Poisson mean: each holds with ``confidence``, both with ``2 confidence - 1``.

    The lower one solves P(X >= count) = 1 - confidence, the upper one P(X <= count) = 1 - confidence.
    """
    if count < 0 or not 0 < confidence < 1:
        raise ValueError("count >= 0 and a confidence between 0 and 1 are needed")
    upper = _solve(count, 1 - confidence)
    return 0.0 if count == 0 else _solve(count - 1, confidence), upper


def _solve(count: int, p: float) -> float:
    """The mean at which P(X <= count) is ``p``, by bisection to the last bit."""
    low, high = 0.0, 1.0
    while _at_most(count, high) > p:
        low, high = high, 2 * high
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        if _at_most(count, middle) > p:
            low = middle
        else:
            high = middle


def _at_most(count: int, mean: float) -> float:
    """P(X <= count): terms from the largest one outwards, so that none is lost to underflow; those that are too small to change
    the sum are left out, as are all behind them, which are smaller still."""
    middle = min(count, int(mean))
    largest = math.exp(middle * math.log(mean) - mean - math.lgamma(middle + 1))
    total, term = 0.0, largest
    for k in range(middle, -1, -1):
        if total + term == total:
            break
        total += term
        term *= k / mean
    term = largest
    for k in range(middle + 1, count + 1):
        term *= mean / k
        if total + term == total:
            break
        total += term
    return total
