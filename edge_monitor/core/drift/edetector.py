"""E-detectors: alarms whose mean time between false ones is proved, not simulated.

Exceedance Shiryaev-Roberts e-detector: indicators X_j = 1{score > c_j} are bet on,
``M_jl <- (1 + M_jl)(1 + b_l / p_j (X_j - p_j))``. As long as P(X_j = 1 | past) <= p_j every factor has mean at most 1,
so mean(M) minus the number of values is a supermartingale, and stopping at mean(M) >= A gives
E[values until a false alarm] >= A.
The multinomial one bets on the counts of classes in a block with a Dirichlet mixture around the reference shares.

Source: J. Shin, A. Ramdas, A. Rinaldo, E-detectors: a nonparametric framework for sequential change detection,
New England Journal of Statistics in Data Science (2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..jit import inlined, kernel

LEVELS = 3
BETS = (0.1, 0.25, 0.5, 0.9)
N_BETS = len(BETS)
EDETECTOR_STATE = LEVELS * N_BETS
_LOSSES = 1 + LEVELS
_GAINS = _LOSSES + N_BETS
_SHARE = 1.0 / EDETECTOR_STATE
EDETECTOR_PARAMS = _GAINS + EDETECTOR_STATE


def edetector_params(threshold: float, cuts: Sequence[float], bounds: Sequence[float]) -> tuple[float, ...]:
    """``cuts``: the three c_j, ascending; ``bounds``: upper bounds p_j of P(score > c_j | past) without a change."""
    if len(cuts) != LEVELS or len(bounds) != LEVELS or not all(0 < p < 1 for p in bounds):
        raise ValueError("an exceedance e-detector needs three cuts and three probabilities between 0 and 1")
    losses = [1 - bet for bet in BETS]
    gains = [1 + bet / p * (1 - p) for p in bounds for bet in BETS]
    return (threshold, *cuts, *losses, *gains)


@inlined
def edetector(x, params, p, state, q):  # type: ignore[no-untyped-def]
    """One score; the statistic is mean(M), the evidence for a change; alarm at the threshold."""
    if math.isnan(x):
        evidence = 0.0
        for i in range(EDETECTOR_STATE):
            evidence += state[q + i]
        return evidence * _SHARE, False
    e0 = e1 = e2 = e3 = 0.0  # four bets side by side, so that their sums don't wait for each other
    for j in range(LEVELS):
        f = p + _LOSSES + (x > params[p + 1 + j]) * (1 + j) * N_BETS  # no jump
        m = q + j * N_BETS
        if m < 0 or f < 0:  # never; knowing it spares the compiler to wrap negative indices, a fifth of the time
            break
        m0 = (1.0 + state[m]) * params[f]
        m1 = (1.0 + state[m + 1]) * params[f + 1]
        m2 = (1.0 + state[m + 2]) * params[f + 2]
        m3 = (1.0 + state[m + 3]) * params[f + 3]
        state[m] = m0
        state[m + 1] = m1
        state[m + 2] = m2
        state[m + 3] = m3
        e0 += m0
        e1 += m1
        e2 += m2
        e3 += m3
    evidence = ((e0 + e1) + (e2 + e3)) * _SHARE
    if evidence >= params[p]:
        for i in range(EDETECTOR_STATE):
            state[q + i] = 0.0
        return evidence, True
    return evidence, False


M_N, M_BLOCK, M_EVIDENCE, M_COUNTS = 0, 1, 2, 3


def multinomial_params(
    threshold: float, shares: Sequence[float], block: int = 50, strength: float = 20.0
) -> tuple[float, ...]:
    """``shares``: of each class without a change, > 0, sum 1; ``block``: its length; ``strength``: the mixture's n0."""
    if len(shares) < 2 or not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise ValueError("a class mix needs at least two classes with shares above 0 that sum to 1")
    return (threshold, float(block), strength, float(len(shares)), *shares)


def multinomial_state(classes: int) -> int:
    """Numbers of state."""
    return M_COUNTS + classes


@inlined
def multinomial(x, params, p, state, q):  # type: ignore[no-untyped-def]
    """One class (its number from 0); a block's e-value is DirMult(counts; n0 q) / Mult(counts; q), draw by draw.

    A number that is no class counts as the last one. The statistic is the SR evidence after the last whole block.
    """
    if math.isnan(x):
        return state[q + M_EVIDENCE], False
    classes = int(params[p + 3])
    k = classes - 1
    if 0 <= x < classes:
        k = int(x)
    n = state[q + M_N]
    if n == 0:
        state[q + M_BLOCK] = 1.0
        for i in range(classes):
            state[q + M_COUNTS + i] = 0.0
    share = params[p + 4 + k]
    strength = params[p + 2]
    # A long block can neither overflow nor vanish for good: both ends stay far from the alarm's range.
    block = state[q + M_BLOCK] * ((strength * share + state[q + M_COUNTS + k]) / (strength + n) / share)
    state[q + M_BLOCK] = min(max(block, 1e-200), 1e200)
    state[q + M_COUNTS + k] += 1.0
    n += 1.0
    if n < params[p + 1]:
        state[q + M_N] = n
        return state[q + M_EVIDENCE], False
    state[q + M_N] = 0.0
    evidence = (1.0 + state[q + M_EVIDENCE]) * state[q + M_BLOCK]
    if evidence >= params[p]:
        state[q + M_EVIDENCE] = 0.0
        return evidence, True
    state[q + M_EVIDENCE] = evidence
    return evidence, False


@kernel
def edetector_many(x, params, state, statistic, alarm):  # type: ignore[no-untyped-def]
    """:func:`edetector` over (streams, samples)."""
    streams = x.shape[0]
    p = len(params) // streams
    q = len(state) // streams
    for i in range(streams):
        for j in range(x.shape[1]):
            statistic[i, j], alarm[i, j] = edetector(x[i, j], params, i * p, state, i * q)


@kernel
def multinomial_many(x, params, state, statistic, alarm):  # type: ignore[no-untyped-def]
    """:func:`multinomial` over (streams, samples)."""
    streams = x.shape[0]
    p = len(params) // streams
    q = len(state) // streams
    for i in range(streams):
        for j in range(x.shape[1]):
            statistic[i, j], alarm[i, j] = multinomial(x[i, j], params, i * p, state, i * q)
