"""FOCuS: the exact likelihood-ratio test for a change of the mean from 0, over every change time and size.

The statistic is ``max over tau of (S_n - S_tau)² / (2 (n - tau))``, S the running sum. Only vertices of the convex
minorant (for a rise; of the concave majorant for a fall) of the points (tau, S_tau) whose slopes are positive
(negative) can ever be the maximum, about log n of them.

Source: G. Romano, I. Eckley, P. Fearnhead, G. Rigaill, Fast Online Changepoint Detection via Functional Pruning CUSUM
Statistics, JMLR 24:81 (2023).
"""

from __future__ import annotations

import math

from ..jit import inlined, kernel

#: Vertices kept a side. Independent values need about 2 ln n; a sum that bends ever more steeply needs more, and then
#: the second oldest goes: the statistic is then a lower bound.
CANDIDATES = 64
N, SUM, SINCE, LAST, LENGTHS, TAUS = 0, 1, 2, 3, 4, 6
FOCUS_STATE = TAUS + 4 * CANDIDATES


def focus_params(threshold: float) -> tuple[float, ...]:
    """``threshold``: of the log-likelihood ratio."""
    return (threshold,)


@inlined
def side(sign, n, total, before, state, q, lengths):  # type: ignore[no-untyped-def]
    """Keep one side's vertices: ``(largest ratio, its tau)``. ``before``: the sum at n - 1; ``sign``: +1 or -1."""
    taus = q
    sums = q + CANDIDATES
    count = int(state[lengths])
    if count == CANDIDATES:
        for i in range(1, count - 1):
            state[taus + i] = state[taus + i + 1]
            state[sums + i] = state[sums + i + 1]
        count -= 1
    state[taus + count] = n - 1.0
    state[sums + count] = sign * before
    count += 1
    now = sign * total
    while count > 0:
        last = count - 1
        slope = (now - state[sums + last]) / (n - state[taus + last])
        least = 0.0
        if count > 1:
            least = (state[sums + last] - state[sums + last - 1]) / (state[taus + last] - state[taus + last - 1])
        if slope > least:
            break
        count = last
    state[lengths] = float(count)
    best = 0.0
    onset = n
    for i in range(count):
        rise = now - state[sums + i]
        ratio = rise * rise / (2.0 * (n - state[taus + i]))
        if ratio > best:
            best = ratio
            onset = state[taus + i]
    return best, onset


@inlined
def focus(x, params, p, state, q):  # type: ignore[no-untyped-def]
    """Alarm when the statistic exceeds the threshold. ``state[q + SINCE]``: values since the likeliest change."""
    if math.isnan(x):
        return state[q + LAST], False
    before = state[q + SUM]
    n = state[q + N] + 1.0
    total = before + x
    up, since_up = side(1.0, n, total, before, state, q + TAUS, q + LENGTHS)
    down, since_down = side(-1.0, n, total, before, state, q + TAUS + 2 * CANDIDATES, q + LENGTHS + 1)
    statistic = max(up, down)
    state[q + SINCE] = n - (since_up if up >= down else since_down)
    if statistic > params[p]:
        state[q + N] = 0.0
        state[q + SUM] = 0.0
        state[q + LENGTHS] = 0.0
        state[q + LENGTHS + 1] = 0.0
        state[q + LAST] = 0.0
        return statistic, True
    state[q + N] = n
    state[q + SUM] = total
    state[q + LAST] = statistic
    return statistic, False


@kernel
def focus_many(x, params, state, statistic, alarm):  # type: ignore[no-untyped-def]
    """:func:`focus` over (streams, samples)."""
    streams = x.shape[0]
    p = len(params) // streams
    q = len(state) // streams
    for i in range(streams):
        for j in range(x.shape[1]):
            statistic[i, j], alarm[i, j] = focus(x[i, j], params, i * p, state, i * q)
