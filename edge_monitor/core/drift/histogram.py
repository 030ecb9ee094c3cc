"""A window against the reference's quantiles: Kolmogorov-Smirnov, PSI, Jensen-Shannon, Wasserstein, and where.

The reference is kept as ``bins`` cells of equal share, so a value costs a search among the edges and a look at the
window costs ``bins`` steps, however long the reference was.

Sources: B. Yurdakul, Statistical Properties of Population Stability Index (2018): without a change PSI is about
(1/N + 1/M) chi²(bins - 1). Correlated values count as N / tau (:func:`effective_size`); fixed limits such as PSI 0.25
are crossed by chance alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist

from ..elementary import log
from ..jit import inlined, kernel

KS, PSI, JS, WASSERSTEIN = range(4)
BINS = 32
STATISTIC, WINDOW, HOP, CELLS, EDGES = 1, 2, 3, 4, 5
N, HEAD, WAIT, LAST, COUNTS = range(5)
_NAN = math.nan


def histogram_params(
    threshold: float, which: int, edges: Sequence[float], shares: Sequence[float], window: int = 500, hop: int = 10
) -> tuple[float, ...]:
    """``which``: ``KS PSI JS WASSERSTEIN``; ``edges``: ascending, one fewer than ``shares``; ``hop``: values a look."""
    if len(edges) + 1 != len(shares) or any(b <= a for a, b in pairwise(edges)):
        raise ValueError("a histogram needs ascending edges, one fewer than shares")
    if not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise ValueError("the shares of a histogram must be above 0 and sum to 1")
    return (threshold, float(which), float(window), float(hop), float(len(shares)), *edges, *shares)


def histogram_state(bins: int, window: int) -> int:
    """Numbers of state: counts and the cells of the window's values."""
    return COUNTS + bins + window


def effective_size(n: float, tau: float) -> float:
    """Independent values that ``n`` correlated ones are worth; ``tau``: sum of the autocorrelation over all lags."""
    return n / max(tau, 1.0)


def histogram_threshold(which: int, n: float, m: float, alpha: float, edges: Sequence[float]) -> float:
    """The value that is exceeded with probability ``alpha`` without a change, for effective sizes ``n`` and ``m``.

    KS: Kolmogorov's limit law (exact for edges dense in the values, else on the safe side). PSI: its chi² law, by
    Wilson and Hilferty; JS is an eighth of it. Wasserstein: the bound KS times the span of the edges.
    """
    both = 1 / n + 1 / m
    ks = math.sqrt(-log(alpha / 2) / 2 * both)
    if which == KS:
        return ks
    if which == WASSERSTEIN:
        return ks * (edges[-1] - edges[0])
    freedom = len(edges)
    part = 2 / (9 * freedom)
    chi2 = freedom * (1 - part + NormalDist().inv_cdf(1 - alpha) * math.sqrt(part)) ** 3
    return both * chi2 / (8 if which == JS else 1)


@inlined
def cell_of(x, edges, n, params):  # type: ignore[no-untyped-def]
    """How many edges lie below or at ``x``."""
    low = 0
    high = n
    while low < high:
        middle = (low + high) // 2
        if x < params[edges + middle]:
            high = middle
        else:
            low = middle + 1
    return low


@inlined
def contribution(which, i, above, params, p, state, q):  # type: ignore[no-untyped-def]
    """What cell ``i`` adds: ``(term, cumulative difference after it)``. For KS the term is the difference itself."""
    bins = int(params[p + CELLS])
    share = params[p + EDGES + bins - 1 + i]
    n = state[q + N]
    seen = state[q + COUNTS + i] / n
    above += seen - share
    if which == KS:
        return abs(above), above
    if which == WASSERSTEIN:
        width = 0.0
        if i + 2 <= bins - 1:
            width = params[p + EDGES + i + 1] - params[p + EDGES + i]
        return abs(above) * width, above
    seen = (state[q + COUNTS + i] + 0.5) / (n + 0.5 * bins)
    if which == PSI:
        return (seen - share) * log(seen / share), above
    middle = (seen + share) / 2
    return (seen * log(seen / middle) + share * log(share / middle)) / 2, above


@inlined
def distance(which, params, p, state, q):  # type: ignore[no-untyped-def]
    """The statistic of the window as it is."""
    above = 0.0
    result = 0.0
    for i in range(int(params[p + CELLS])):
        term, above = contribution(which, i, above, params, p, state, q)
        if which == KS:
            result = term if term > result else result
        else:
            result += term
    return result


@kernel
def contributions(which, params, p, state, q, out):  # type: ignore[no-untyped-def]
    """Each cell's part of the statistic into ``out`` (bins,): where the window differs from the reference."""
    above = 0.0
    for i in range(int(params[p + CELLS])):
        out[i], above = contribution(which, i, above, params, p, state, q)


@inlined
def histogram(x, params, p, state, q):  # type: ignore[no-untyped-def]
    """One value; looks each ``hop`` values once the window is full. Alarm above the threshold; the window is kept."""
    if math.isnan(x):
        return state[q + LAST] if state[q + N] == params[p + WINDOW] else _NAN, False
    window = params[p + WINDOW]
    bins = int(params[p + CELLS])
    ring = q + COUNTS + bins
    cell = cell_of(x, p + EDGES, bins - 1, params)
    head = int(state[q + HEAD])
    if state[q + N] == window:
        state[q + COUNTS + int(state[ring + head])] -= 1.0
    else:
        state[q + N] += 1.0
    state[q + COUNTS + cell] += 1.0
    state[ring + head] = float(cell)
    state[q + HEAD] = 0.0 if head + 1 == window else head + 1.0
    if state[q + N] < window:
        return _NAN, False
    state[q + WAIT] -= 1.0
    if state[q + WAIT] > 0:
        return state[q + LAST], False
    state[q + WAIT] = params[p + HOP]
    statistic = distance(int(params[p + STATISTIC]), params, p, state, q)
    state[q + LAST] = statistic
    return statistic, statistic > params[p]


@kernel
def histogram_many(x, params, state, statistic, alarm):  # type: ignore[no-untyped-def]
    """:func:`histogram` over (streams, samples)."""
    streams = x.shape[0]
    p = len(params) // streams
    q = len(state) // streams
    for i in range(streams):
        for j in range(x.shape[1]):
            statistic[i, j], alarm[i, j] = histogram(x[i, j], params, i * p, state, i * q)
