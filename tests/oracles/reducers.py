"""What reducers of arrays mean, in plain Python."""

from __future__ import annotations

import math


def percentile(values: list[float], percent: int) -> float:
    """Nearest rank: the smallest value that at least ``percent`` of all are not above."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(values) * percent / 100), 1) - 1]


def reduced(values: list[float], how: str) -> float:
    """What a reducer means, in plain Python."""
    finite = [value for value in values if math.isfinite(value)]
    if how == "count":
        return float(len(values))
    if how == "norm":
        total = 0.0
        for value in values:
            total += value * value
        return math.sqrt(total) if values else math.nan
    if how == "finite_ratio":
        return len(finite) / len(values) if values else math.nan
    if not finite:
        return math.nan
    if how == "mean":
        total = 0.0
        for value in finite:
            total += value
        return total / len(finite)
    if how in ("min", "max"):
        return min(finite) if how == "min" else max(finite)
    return percentile(finite, int(how[1:]))
