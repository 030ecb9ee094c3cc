"""Whether a list of corners is a polygon that a fence can be."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from .problems import Finding

Corner = tuple[float, float]


def polygon_findings(corners: tuple[Corner, ...]) -> Iterator[Finding]:
    """What is wrong with ``corners`` (latitude, longitude in deg) under the path ``polygon``.

    The fence is computed on a plane at its middle, so one that spans the date line, or half the globe, is refused.
    """
    wrong = False
    for i, (latitude, longitude) in enumerate(corners):
        for j, (degrees, most, what) in enumerate(((latitude, 90, "latitude"), (longitude, 180, "longitude"))):
            if abs(degrees) > most:
                swapped = " (the order is latitude, longitude)" if j == 0 and abs(degrees) <= 180 else ""
                yield Finding(("polygon", i, j), f"{what} must be within ±{most} deg, got `{degrees:g}`{swapped}")
                wrong = True
    first_seen: dict[Corner, int] = {}
    for i, corner in enumerate(corners):
        if corner in first_seen:
            closing = i == len(corners) - 1 and first_seen[corner] == 0
            hint = ": leave it out, the polygon closes itself" if closing else ""
            yield Finding(("polygon", i), f"repeats corner {first_seen[corner]}{hint}")
            wrong = True
        first_seen.setdefault(corner, i)
    if wrong:
        return
    longitudes = [longitude for _, longitude in corners]
    if max(longitudes) - min(longitudes) > 180:
        yield Finding(("polygon",), "spans more than 180 deg of longitude: it must not cross the date line")
        return
    crossing = _crossing(corners)
    if crossing:
        i, j = crossing
        yield Finding(("polygon", j), f"the edge from corner {j} crosses or touches the edge from corner {i}")


def _crossing(corners: tuple[Corner, ...]) -> tuple[int, int] | None:
    """The first two edges that meet elsewhere than in the corner they share, by the index of their first corner."""
    edges = [*pairwise(corners), (corners[-1], corners[0])]
    for j, (c, d) in enumerate(edges):
        for i, (a, b) in enumerate(edges[:j]):
            if j == i + 1 or (i == 0 and j == len(edges) - 1):
                # Neighbours share a corner; they meet elsewhere only where one folds back onto the other.
                shared, before, after = (b, a, d) if j == i + 1 else (a, b, c)
                if _side(before, shared, after) == 0 and _dot(before, shared, after) > 0:
                    return i, j
            elif _meet(a, b, c, d):
                return i, j
    return None


def _side(a: Corner, b: Corner, c: Corner) -> float:
    """Sign: on which side of the line from a to b is c; 0 on it."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _dot(a: Corner, corner: Corner, c: Corner) -> float:
    return (a[0] - corner[0]) * (c[0] - corner[0]) + (a[1] - corner[1]) * (c[1] - corner[1])


def _meet(a: Corner, b: Corner, c: Corner, d: Corner) -> bool:
    """Whether the closed segments a-b and c-d have a point in common."""
    ab_c, ab_d, cd_a, cd_b = _side(a, b, c), _side(a, b, d), _side(c, d, a), _side(c, d, b)
    if ab_c * ab_d < 0 and cd_a * cd_b < 0:
        return True
    return any(
        side == 0 and min(p[0], q[0]) <= r[0] <= max(p[0], q[0]) and min(p[1], q[1]) <= r[1] <= max(p[1], q[1])
        for side, p, q, r in ((ab_c, a, b, c), (ab_d, a, b, d), (cd_a, c, d, a), (cd_b, c, d, b))
    )
