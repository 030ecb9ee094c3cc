"""ADWIN: an adaptive window that is cut where the means of its two parts differ too much.

Arithmetic and decisions equal river's, bit for bit (river 0.23 to 0.26) but for the logarithm in the bound, which is our
own; including its restart from nothing after an alarm, where the paper would keep the newer part. Reference-free and hence
never calibrated.

Sources: A. Bifet, R. Gavaldà, Learning from Time-Changing Data with Adaptive Windowing, SDM 2007; variance of merged
buckets after B. Babcock et al., PODS 2003.
"""

from __future__ import annotations

import math

from ..elementary import log
from ..jit import inlined, kernel

#: Rows of buckets: row r holds buckets of 2^r values. 34 rows are 10^11 values; then the oldest are forgotten.
ROWS = 34
TICK, WIDTH, TOTAL, VARIANCE, USED, DONE, HEADS = 0, 1, 2, 3, 4, 5, 6
#: Values are held to this magnitude, so that squares of sums stay finite.
LARGEST = 1e100
#: Slack of the comparison without square root and division that decides nearly all cuts.
CERTAIN = 1.0 - 1e-9


def adwin_params(
    delta: float = 0.002, clock: int = 32, max_buckets: int = 5, min_window: int = 5, grace: int = 10
) -> tuple[float, ...]:
    """River's parameters and defaults."""
    return 0.5, delta, float(clock), float(max_buckets), float(min_window), float(grace)


def adwin_state(max_buckets: int = 5) -> int:
    """Numbers of state: per row head, length and two rings of ``max_buckets + 1``."""
    return HEADS + ROWS * (2 + 2 * (max_buckets + 1))


@inlined
def insert(row, total, spread, size, state, q):  # type: ignore[no-untyped-def]
    """Append a bucket to a row."""
    head = int(state[q + HEADS + row])
    length = int(state[q + HEADS + ROWS + row])
    place = head + length
    if place >= size:
        place -= size
    at = q + HEADS + 2 * ROWS + 2 * (row * size + place)
    state[at] = total
    state[at + 1] = spread
    state[q + HEADS + ROWS + row] = length + 1.0


@inlined
def drop(row, size, state, q):  # type: ignore[no-untyped-def]
    """Take the oldest bucket from a row: ``(total, spread)``."""
    head = int(state[q + HEADS + row])
    at = q + HEADS + 2 * ROWS + 2 * (row * size + head)
    head += 1
    state[q + HEADS + row] = 0.0 if head == size else float(head)
    state[q + HEADS + ROWS + row] -= 1.0
    return state[at], state[at + 1]


@inlined
def forget_oldest(size, state, q):  # type: ignore[no-untyped-def]
    """Remove the oldest bucket from the window."""
    last = int(state[q + USED]) - 1
    n = float(1 << last)
    total, spread = drop(last, size, state, q)
    mean = total / n
    state[q + WIDTH] -= n
    state[q + TOTAL] -= total
    width = state[q + WIDTH]
    rest = state[q + TOTAL] / width
    state[q + VARIANCE] -= spread + n * width * (mean - rest) * (mean - rest) / (n + width)
    if state[q + HEADS + ROWS + last] == 0:
        state[q + USED] = float(last)


@inlined
def compress(size, state, q):  # type: ignore[no-untyped-def]
    """Merge the two oldest buckets of each row that is over full into the next row."""
    for row in range(ROWS):
        if state[q + HEADS + ROWS + row] < size:
            return
        n = float(1 << row)
        total_0, spread_0 = drop(row, size, state, q)
        total_1, spread_1 = drop(row, size, state, q)
        if row == ROWS - 1:
            state[q + WIDTH] -= 2.0 * n
            state[q + TOTAL] -= total_0 + total_1
            state[q + VARIANCE] -= spread_0 + spread_1
            return
        difference = total_0 / n - total_1 / n
        if row + 2 > state[q + USED]:
            state[q + USED] = row + 2.0
        insert(row + 1, total_0 + total_1, spread_0 + spread_1 + n * 0.5 * difference * difference, size, state, q)


@inlined
def must_cut(params, p, size, state, q):  # type: ignore[no-untyped-def]
    """Does some cut of the window leave two parts whose means differ by more than chance allows?"""
    width = state[q + WIDTH]
    n0 = 0.0
    n1 = width
    u0 = 0.0
    u1 = state[q + TOTAL]
    spread = state[q + VARIANCE] / width
    if spread < 0:  # rounding; the bound would be the root of a negative number, which nothing exceeds
        return False
    least = params[p + 4]
    d = log(2.0 * log(width) / params[p + 1])
    sure = 2.0 * spread * d * CERTAIN
    for row in range(int(state[q + USED]) - 1, -1, -1):
        n = float(1 << row)
        head = int(state[q + HEADS + row])
        length = int(state[q + HEADS + ROWS + row])
        base = q + HEADS + 2 * ROWS + 2 * row * size
        for k in range(length):
            place = head + k
            if place >= size:
                place -= size
            total = state[base + 2 * place]
            n0 += n
            n1 -= n
            u0 += total
            u1 -= total
            if n1 < least or n1 <= 0:
                return False
            if n0 < least:
                continue
            a = n0 - least + 1.0
            b = n1 - least + 1.0
            cross = u0 * n1 - u1 * n0
            product = n0 * n1
            if cross * cross * (a * b) <= sure * (a + b) * (product * product):
                continue
            m = 1.0 / a + 1.0 / b
            bound = math.sqrt(2.0 * m * spread * d) + 2.0 / 3.0 * d * m
            if abs(u0 / n0 - u1 / n1) > bound:
                return True
    return False


@inlined
def adwin(x, params, p, state, q):  # type: ignore[no-untyped-def]
    """One value; alarm when the window was cut. The statistic is 1 on an alarm and 0 otherwise."""
    if math.isnan(x):
        return 0.0, False
    x = x if x < LARGEST else LARGEST
    x = x if x > -LARGEST else -LARGEST
    size = int(params[p + 3]) + 1
    if state[q + DONE] != 0:
        for i in range(HEADS + 2 * ROWS):
            state[q + i] = 0.0
    if state[q + USED] == 0:
        state[q + USED] = 1.0
    insert(0, x, 0.0, size, state, q)
    width = state[q + WIDTH] + 1.0
    state[q + WIDTH] = width
    if width > 1.0:
        difference = x - state[q + TOTAL] / (width - 1.0)
        state[q + VARIANCE] += (width - 1.0) * difference * difference / width
    state[q + TOTAL] += x
    if state[q + HEADS + ROWS] >= size:
        compress(size, state, q)
    tick = state[q + TICK] + 1.0
    if tick < params[p + 2]:
        state[q + TICK] = tick
        return 0.0, False
    state[q + TICK] = 0.0
    if width <= params[p + 5]:
        return 0.0, False
    while must_cut(params, p, size, state, q):
        forget_oldest(size, state, q)
        state[q + DONE] = 1.0
    if state[q + DONE] != 0:
        return 1.0, True
    return 0.0, False


@kernel
def adwin_many(x, params, state, statistic, alarm):  # type: ignore[no-untyped-def]
    """:func:`adwin` over (streams, samples)."""
    streams = x.shape[0]
    p = len(params) // streams
    q = len(state) // streams
    for i in range(streams):
        for j in range(x.shape[1]):
            statistic[i, j], alarm[i, j] = adwin(x[i, j], params, i * p, state, i * q)
