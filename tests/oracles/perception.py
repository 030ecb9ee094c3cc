"""Sensor statistics in plain Python: one obvious loop a number, no shared sums."""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from statistics import fmean, pvariance
from typing import Any

NAN = math.nan
Grid = list[list[int]]


def sample(picture: Any, encoding: str, stride: int, bits: int = 16) -> tuple[Grid, Grid, Grid]:
    """Grey levels, smallest and largest colour of the pixels looked at; ``picture``: array as `frame` takes it."""
    height, width = picture.shape[:2]
    if encoding.startswith("bayer"):
        stride = max(2, stride)
        rows = range(height // stride)
        columns = range(width // stride)

        def quad(y: int, x: int) -> int:
            return sum(int(picture[y * stride + i, x * stride + j]) for i in (0, 1) for j in (0, 1)) // 4

        grey = [[quad(y, x) for x in columns] for y in rows]
        return grey, grey, grey
    grey, low, high = [], [], []
    for y in range(0, height, stride):
        pixels = [picture[y, x] for x in range(0, width, stride)]
        if encoding.startswith(("rgb", "bgr", "8UC3", "8UC4")):
            order = (0, 1, 2) if encoding.startswith("rgb") else (2, 1, 0)
            colours = [[int(pixel[i]) for i in order] for pixel in pixels]
            grey.append([(77 * r + 150 * g + 29 * b) // 256 for r, g, b in colours])
            low.append([min(c) for c in colours])
            high.append([max(c) for c in colours])
        else:
            row = [int(p) for p in pixels]
            if picture.dtype.itemsize == 2:
                row = [min(p // 2 ** (bits - 8), 255) for p in row]
            grey.append(row)
            low.append(row)
            high.append(row)
    return grey, low, high


def cell_of(y: int, x: int, height: int, width: int, cell: int) -> tuple[int, int]:
    """The cell of a pixel; the last ones of a row or column take the remainder."""
    return min(y // cell, height // cell - 1), min(x // cell, width // cell - 1)


def laplacian(grey: Grid) -> dict[tuple[int, int], int]:
    """The 4-neighbour Laplacian of the inner pixels."""
    height, width = len(grey), len(grey[0])
    return {
        (y, x): grey[y - 1][x] + grey[y + 1][x] + grey[y][x - 1] + grey[y][x + 1] - 4 * grey[y][x]
        for y in range(1, height - 1)
        for x in range(1, width - 1)
    }


def cells(grey: Grid, cell: int) -> dict[tuple[int, int], tuple[list[int], list[int]]]:
    """By cell: its grey levels, and the Laplacians of its inner pixels."""
    height, width = len(grey), len(grey[0])
    edges = laplacian(grey)
    found: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    for y in range(height):
        for x in range(width):
            levels, inner = found.setdefault(cell_of(y, x, height, width, cell), ([], []))
            levels.append(grey[y][x])
            if (y, x) in edges:
                inner.append(edges[y, x])
    return found


def image(picture: Any, encoding: str, *, stride: int = 1, cell: int = 16, bits: int = 16) -> dict[str, float]:
    """The statistics of one frame that need no other."""
    grey, low, high = sample(picture, encoding, stride, bits)
    height, width = len(grey), len(grey[0])
    levels = [v for row in grey for v in row]
    edges = list(laplacian(grey).values())
    smallest: dict[tuple[int, int], int] = {}
    largest: dict[tuple[int, int], int] = {}
    for y in range(height):
        for x in range(width):
            at = cell_of(y, x, height, width, cell)
            smallest[at] = min(smallest.get(at, 255), low[y][x])
            largest[at] = max(largest.get(at, 0), high[y][x])
    return {
        "luminance": fmean(levels),
        "luminance_std": math.sqrt(pvariance(levels)),
        "contrast": math.sqrt(pvariance(levels)) / 255,
        "laplacian_variance": pvariance(edges),
        "saturated": sum(v >= 250 for v in levels) / len(levels),
        "dark": sum(v <= 5 for v in levels) / len(levels),
        "dark_channel": fmean(smallest.values()),
        "bright_channel": fmean(largest.values()),
    }


def change(before: Grid, after: Grid, cell: int) -> float:
    """Change of the cell sums between two frames, a pixel."""
    a, b = cells(before, cell), cells(after, cell)
    return sum(abs(sum(a[at][0]) - sum(b[at][0])) for at in a) / (len(before) * len(before[0]))


def energies(before: Grid | None, after: Grid, cell: int) -> dict[tuple[int, int], float]:
    """Mean squared Laplacian and squared change of the mean, by cell."""
    now = cells(after, cell)
    then = cells(before, cell) if before else now
    return {at: fmean(e * e for e in now[at][1]) + (fmean(now[at][0]) - fmean(then[at][0])) ** 2 for at in now}


def largest_group(marked: set[tuple[int, int]]) -> int:
    """Size of the largest group of cells that touch at their edges."""
    best, left = 0, set(marked)
    while left:
        group, border = set(), {left.pop()}
        while border:
            y, x = border.pop()
            group.add((y, x))
            near = {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} & left
            left -= near
            border |= near
        best = max(best, len(group))
    return best


def rank(values: Sequence[float], percent: int) -> float:
    """The smallest value that at least ``percent`` of all do not exceed."""
    order = sorted(values)
    return order[max(math.ceil(len(order) * percent / 100), 1) - 1] if order else NAN


def scan(ranges: Sequence[float], lowest: float, highest: float, near: float) -> dict[str, float]:
    """The statistics of a laser scan."""
    n = len(ranges)
    good = [math.isfinite(r) and lowest <= r <= highest for r in ranges]
    kept = [r for r, ok in zip(ranges, good, strict=True) if ok]
    sectors = [good[n * i // 8 : n * (i + 1) // 8] for i in range(8)]
    ratios = [sum(sector) / len(sector) for sector in sectors]
    return {
        "beams": n,
        "return_ratio": len(kept) / n,
        "weakest_sector": min(ratios),
        "near_clutter": sum(r < near for r in kept) / len(kept) if kept else NAN,
        "range_p50": rank(kept, 50),
        "range_p95": rank(kept, 95),
        "erroneous": sum(math.isnan(r) for r in ranges) / n,
        **{f"return_ratio.{i}": ratio for i, ratio in enumerate(ratios)},
    }


def cloud(points: Sequence[dict[str, float]], near: float) -> dict[str, float]:
    """The statistics of a cloud that need no cells; points hold x, y, z and perhaps intensity."""
    kept = []
    for point in points:
        squared = point["x"] * point["x"] + point["y"] * point["y"] + point["z"] * point["z"]
        if math.isfinite(squared) and squared > 0:
            kept.append((math.sqrt(squared), point.get("intensity", NAN)))
    glow = [i for _, i in kept if math.isfinite(i)]
    return {
        "points": len(points),
        "return_ratio": len(kept) / len(points) if points else NAN,
        "near_clutter": sum(r < near for r, _ in kept) / len(kept) if kept else NAN,
        "range_p50": rank([r for r, _ in kept], 50),
        "range_p95": rank([r for r, _ in kept], 95),
        "intensity_mean": fmean(glow) if glow else NAN,
    }


def octant(x: float, y: float) -> int:
    """The eighth of the circle of a bearing, from +x anticlockwise."""
    angle = math.atan2(y, x) % (2 * math.pi)
    return min(int(angle / (math.pi / 4)), 7)


def gain(biquad: Sequence[float], frequency: float, rate: float) -> float:
    """Magnitude of a biquad's response."""
    b0, b1, b2, a1, a2 = biquad
    z = cmath.exp(-2j * math.pi * frequency / rate)
    return abs((b0 + b1 * z + b2 * z * z) / (1 + a1 * z + a2 * z * z))


def filtered(biquad: Sequence[float], values: Sequence[float]) -> list[float]:
    """Direct form I from the steady state of the first value (which none of these filters lets through)."""
    b0, b1, b2, a1, a2 = biquad
    x1 = x2 = values[0]
    y1 = y2 = 0.0
    out = []
    for x in values:
        y = b0 * x + b1 * x1 + b2 * x2 - a1 * y1 - a2 * y2
        x2, x1, y2, y1 = x1, x, y1, y
        out.append(y)
    return out


def detections(scores: Sequence[Sequence[float]]) -> dict[str, float]:
    """The statistics of scores; a list of hypotheses a detection."""
    tops = [max(s, default=0.0) for s in scores]
    margins = [sorted(s)[-1] - sorted(s)[-2] for s in scores if len(s) > 1]
    surprises = []
    for s in scores:
        total = max(sum(s), 1.0)
        parts = [p / total for p in s] + [1 - sum(s) / total]
        surprises.append(-sum(p * math.log(p) for p in parts if p > 0))
    return {
        "detections": len(scores),
        "score_mean": fmean(tops) if tops else NAN,
        "score_min": min(tops, default=NAN),
        "score_p05": rank(tops, 5),
        "entropy_mean": fmean(surprises) if surprises else NAN,
        "margin_mean": fmean(margins) if margins else NAN,
        "margin_min": min(margins, default=NAN),
    }
