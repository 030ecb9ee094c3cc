"""CUSUM, EWMA and variance CUSUM on standardised values (mean 0, deviation 1).

Conditional expressions stand where ``max`` would: they compile without a jump, which random data mispredicts.

Sources: E. S. Page, Biometrika 41 (1954) 100; S. W. Roberts, Technometrics 1 (1959) 239.
"""

from __future__ import annotations

import math

from ..elementary import log
from ..jit import inlined, kernel

CUSUM_STATE = 2
EWMA_STATE = 1
VARIANCE_STATE = 2


def cusum_params(threshold: float, k: float) -> tuple[float, ...]:
    """``k``: the allowance, half of the shift that is to be found, in deviations."""
    return threshold, k


@inlined
def cusum_next(x, above, below, threshold, k):  # type: ignore[no-untyped-def]
    """S+ = max(0, S+ + x - k), S- = max(0, S- - x - k): ``(S+, S-, statistic, alarm)``."""
    if math.isnan(x):
        return above, below, above if above > below else below, False
    above = above + x - k
    above = above if above > 0.0 else 0.0
    below = below - x - k
    below = below if below > 0.0 else 0.0
    statistic = above if above > below else below
    if statistic > threshold:
        return 0.0, 0.0, statistic, True
    return above, below, statistic, False


@inlined
def cusum(x, params, p, state, q):  # type: ignore[no-untyped-def]
    """Alarm when either sum exceeds the threshold."""
    above, below, statistic, alarm = cusum_next(x, state[q], state[q + 1], params[p], params[p + 1])
    state[q] = above
    state[q + 1] = below
    return statistic, alarm


def ewma_params(limit: float, rate: float) -> tuple[float, ...]:
    """``limit``: in deviations of the EWMA (L); ``rate``: weight of the newest value (lambda)."""
    return limit * math.sqrt(rate / (2 - rate)), rate


@inlined
def ewma_next(x, z, threshold, rate):  # type: ignore[no-untyped-def]
    """z += rate (x - z): ``(z, statistic, alarm)``."""
    if math.isnan(x):
        return z, abs(z), False
    z = z + rate * (x - z)
    if abs(z) > threshold:
        return 0.0, abs(z), True
    return z, abs(z), False


@inlined
def ewma(x, params, p, state, q):  # type: ignore[no-untyped-def]
    """Alarm when |z| exceeds the threshold."""
    z, statistic, alarm = ewma_next(x, state[q], params[p], params[p + 1])
    state[q] = z
    return statistic, alarm


def variance_params(threshold: float, ratio: float) -> tuple[float, ...]:
    """``ratio``: the change of the deviation that is to be found, up (times it) and down (divided by it)."""
    up, down = ratio, 1 / ratio
    return threshold, (1 - 1 / (up * up)) / 2, log(up), (1 - 1 / (down * down)) / 2, log(down)


@inlined
def variance(x, params, p, state, q):  # type: ignore[no-untyped-def]
    """Log-likelihood-ratio CUSUMs of N(0, s²) against N(0, 1), for s = ratio (noisier) and 1/ratio (dying)."""
    if math.isnan(x):
        return max(state[q], state[q + 1]), False
    square = x * x
    up = state[q] + (params[p + 1] * square - params[p + 2])
    up = up if up > 0.0 else 0.0
    down = state[q + 1] + (params[p + 3] * square - params[p + 4])
    down = down if down > 0.0 else 0.0
    statistic = up if up > down else down
    if statistic > params[p]:
        state[q] = 0.0
        state[q + 1] = 0.0
        return statistic, True
    state[q] = up
    state[q + 1] = down
    return statistic, False


@kernel
def cusum_many(x, params, state, statistic, alarm):  # type: ignore[no-untyped-def]
    """:func:`cusum` over (streams, samples)."""
    streams = x.shape[0]
    p = len(params) // streams
    q = len(state) // streams
    for i in range(streams):
        above = state[i * q]
        below = state[i * q + 1]
        for j in range(x.shape[1]):
            above, below, value, fired = cusum_next(x[i, j], above, below, params[i * p], params[i * p + 1])
            statistic[i, j] = value
            alarm[i, j] = fired
        state[i * q] = above
        state[i * q + 1] = below


@kernel
def ewma_many(x, params, state, statistic, alarm):  # type: ignore[no-untyped-def]
    """:func:`ewma` over (streams, samples)."""
    streams = x.shape[0]
    p = len(params) // streams
    q = len(state) // streams
    for i in range(streams):
        z = state[i * q]
        for j in range(x.shape[1]):
            z, value, fired = ewma_next(x[i, j], z, params[i * p], params[i * p + 1])
            statistic[i, j] = value
            alarm[i, j] = fired
        state[i * q] = z


@kernel
def variance_many(x, params, state, statistic, alarm):  # type: ignore[no-untyped-def]
    """:func:`variance` over (streams, samples)."""
    streams = x.shape[0]
    p = len(params) // streams
    q = len(state) // streams
    for i in range(streams):
        for j in range(x.shape[1]):
            statistic[i, j], alarm[i, j] = variance(x[i, j], params, i * p, state, i * q)
