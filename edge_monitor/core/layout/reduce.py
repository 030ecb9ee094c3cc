"""Reducers: one number out of many, by explicit loops in element order (equal with and without compilation).

Ranges use ±inf and NaN for "no return", so ``min max mean p05 p50 p95`` are taken over the finite elements, and
``finite_ratio`` says how many those are. ``norm`` is taken over all of them: the length of a vector with a component
missing is not known, hence NaN. Where there is nothing to take, the result is NaN.
"""

from __future__ import annotations

import math

import numpy as np

from ..jit import inlined

MIN, MAX, MEAN, NORM, COUNT, FINITE_RATIO, P05, P50, P95 = range(9)

#: Codes by name. The percentiles come last: they reorder the elements, which would change the rounding of a sum.
REDUCERS = {
    "min": MIN,
    "max": MAX,
    "mean": MEAN,
    "norm": NORM,
    "count": COUNT,
    "finite_ratio": FINITE_RATIO,
    "p05": P05,
    "p50": P50,
    "p95": P95,
}
BUCKETS = 256  #: length of the ``counts`` work array


@inlined
def reduce(values, n, code, counts):  # type: ignore[no-untyped-def]
    """``values[:n]`` reduced to one float64. ``counts``: (256,) int64, overwritten. Percentiles reorder ``values``."""
    if code == COUNT:
        return float(n)
    if code == NORM:
        total = 0.0
        for i in range(n):
            total += values[i] * values[i]
        return math.sqrt(total) if n else math.nan
    finite = 0
    if code == MIN or code == MAX:
        best = math.nan
        for i in range(n):
            x = values[i]
            if math.isfinite(x):
                if finite == 0 or (x < best if code == MIN else x > best):
                    best = x
                finite += 1
        return best
    if code == MEAN or code == FINITE_RATIO:
        total = 0.0
        for i in range(n):
            if math.isfinite(values[i]):
                total += values[i]
                finite += 1
        if code == FINITE_RATIO:
            return finite / n if n else math.nan
        return total / finite if finite else math.nan
    for i in range(n):  # finite ones to the front
        x = values[i]
        if math.isfinite(x):
            values[i] = values[finite]
            values[finite] = x
            finite += 1
    if finite == 0:
        return math.nan
    percent = 5 if code == P05 else (50 if code == P50 else 95)
    return select(values, finite, max((finite * percent + 99) // 100, 1) - 1, counts)


@inlined
def select(values, n, rank, counts):  # type: ignore[no-untyped-def]
    """The element of 0-based ``rank`` among the finite ``values[:n]`` in ascending order.

    Radix selection over the bits of the numbers, most significant byte first: at most eight passes whatever the input
    is, where a quickselect could be made quadratic by a hostile message. Elements are swapped, none is lost.
    """
    for byte in range(7, -1, -1):
        shift = np.uint64(8 * byte)
        for b in range(BUCKETS):
            counts[b] = 0
        for i in range(n):
            counts[_digit(values[i], shift)] += 1
        bucket = 0
        while rank >= counts[bucket]:
            rank -= counts[bucket]
            bucket += 1
        if counts[bucket] < n:
            kept = 0
            for i in range(n):
                x = values[i]
                if _digit(x, shift) == bucket:
                    values[i] = values[kept]
                    values[kept] = x
                    kept += 1
            n = kept
        if n == 1:
            break
    return values[0]


@inlined
def _digit(x, shift):  # type: ignore[no-untyped-def]
    """One byte of a key that sorts as the numbers do: sign bit flipped, all bits of negative numbers flipped."""
    bits = np.uint64(np.float64(x).view(np.uint64))
    top = np.uint64(0x8000000000000000)
    key = ~bits if bits & top else bits | top
    return np.int64((key >> shift) & np.uint64(0xFF))
