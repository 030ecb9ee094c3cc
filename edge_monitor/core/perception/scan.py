"""Statistics of a laser scan (sensor_msgs/LaserScan): which beams return, how near, how far.

A beam returns when its range is finite and within ``range_min`` and ``range_max`` (REP 117: +inf is "nothing seen",
-inf "too near to measure", NaN an erroneous one).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..jit import kernel
from ..layout.load import FLOAT32, load_number
from ..layout.reduce import BUCKETS, select
from ..samples import Cause
from .cursor import enter, length, place
from .statistics import Statistics

SECTORS = 8
MAX_BEAMS = 1 << 16
NAMES = (
    "beams",
    "return_ratio",  # share of beams that return
    "weakest_sector",  # the smallest return ratio of the sectors
    "near_clutter",  # share of returns nearer than `near`
    "range_p50",  # m, over returns
    "range_p95",
    "erroneous",  # share of beams that are NaN
    *(f"return_ratio.{i}" for i in range(SECTORS)),  # sector 0 holds the first beams
)


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """``near``: metres below which a return counts as clutter (spray, dust, foliage, a dirty window)."""

    near: float = 3.0

    def __post_init__(self) -> None:
        if not self.near > 0:
            raise ValueError("scan: near > 0 m")


class ScanStatistics(Statistics):
    """Statistics of one laser scanner. It keeps nothing between scans."""

    names = NAMES

    def __init__(self, options: ScanOptions | None = None, *, ros1: bool = False) -> None:
        super().__init__(NAMES)
        self.options = options or ScanOptions()
        self.ros1 = ros1
        self._ranges = np.empty(MAX_BEAMS)
        self._counts = np.zeros(BUCKETS, np.int64)

    def reset(self) -> None:
        """Nothing to forget."""

    def exercise(self) -> None:
        """Measure a scan of as many beams as there are sectors."""
        self.ranges(np.ones(SECTORS))

    def message(self, t: int, data: np.ndarray, start: int, size: int) -> None:
        """Measure a serialized scan. ``invalid``: malformed or without beams; ``overflow``: beyond ``MAX_BEAMS``."""
        n, lowest, highest = scan_ranges(data, start, size, self.ros1, self._ranges)
        if n < 0:
            self.refuse(Cause.OVERFLOW if n == -2 else Cause.INVALID)
            return
        self._measure(n, lowest, highest)

    def ranges(self, ranges: np.ndarray, range_min: float = 0.0, range_max: float = math.inf) -> None:
        """Measure ``ranges`` ((n,) metres, in order of angle)."""
        if len(ranges) > MAX_BEAMS:
            self.refuse(Cause.OVERFLOW)
            return
        self._ranges[: len(ranges)] = ranges
        self._measure(len(ranges), range_min, range_max)

    def _measure(self, n: int, lowest: float, highest: float) -> None:
        if n < SECTORS or not lowest <= highest:
            self.refuse(Cause.INVALID)
            return
        scan(self._ranges, n, lowest, highest, self.options.near, self._counts, self.values)
        # where no beam returned there is no range, and NaN says so
        self.causes[:] = np.where(np.isnan(self.values), int(Cause.NAN), int(Cause.NONE))


@kernel
def scan_ranges(data, start, size, ros1, ranges):  # type: ignore[no-untyped-def]
    """The ranges of a sensor_msgs/LaserScan into ``ranges``: ``(count, range_min, range_max)``; -1: malformed, -2: too
    many."""
    origin, limit, q, swap = enter(data, start, size, ros1)
    q = place(q, 4, ros1)
    if q < 0 or limit - q < 28:  # angles (3), times (2), range_min, range_max
        return np.int64(-1), 0.0, 0.0
    lowest = load_number(data, origin + q + 20, FLOAT32, swap)
    highest = load_number(data, origin + q + 24, FLOAT32, swap)
    count, q = length(data, origin, limit, q + 28, ros1, swap)
    if q < 0 or count > (limit - q) // 4:
        return np.int64(-1), 0.0, 0.0
    if count > len(ranges):
        return np.int64(-2), 0.0, 0.0
    for i in range(count):
        ranges[i] = load_number(data, origin + q + 4 * i, FLOAT32, swap)
    return count, lowest, highest


@kernel
def scan(ranges, n, lowest, highest, near, counts, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` ((15,) float64, order of NAMES) from ``ranges[:n]``, which are reordered.

    ``counts``: (256,) int64 work.
    """
    kept, close, wrong, weakest, begin = 0, 0, 0, 2.0, 0
    for sector in range(SECTORS):
        end = n * (sector + 1) // SECTORS
        before = kept
        for i in range(begin, end):
            r = ranges[i]
            if math.isfinite(r) and lowest <= r and r <= highest:
                ranges[i] = ranges[kept]
                ranges[kept] = r
                kept += 1
                if r < near:
                    close += 1
            elif math.isnan(r):
                wrong += 1
        ratio = (kept - before) / (end - begin)
        out[7 + sector] = ratio
        weakest = min(weakest, ratio)
        begin = end
    out[0] = float(n)
    out[1] = kept / n
    out[2] = weakest
    out[6] = wrong / n
    if kept == 0:
        out[3] = math.nan
        out[4] = math.nan
        out[5] = math.nan
        return
    out[3] = close / kept
    out[4] = select(ranges, kept, max((kept * 50 + 99) // 100, 1) - 1, counts)
    out[5] = select(ranges, kept, max((kept * 95 + 99) // 100, 1) - 1, counts)
