"""Statistics of a point cloud (sensor_msgs/PointCloud2): which beams return, how near, how far, and where none do.

A point returns when x, y and z are finite and not all zero (drivers write either for "nothing seen"). In an organised
cloud (height > 1) rows are rings and columns run around; else a ``ring`` field tells rings, and the octant of (x, y)
the sector. Many drivers leave points without a return out of unorganised clouds: what is expected then comes from a
reference, fitted on clouds of the healthy sensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..jit import inlined, kernel
from ..layout.load import FLOAT32, FLOAT64, INT8, INT16, INT32, UINT8, UINT16, UINT32, load32, load_number
from ..layout.reduce import BUCKETS, select
from ..samples import Cause
from .cursor import enter, length, place, text
from .statistics import Statistics

SECTORS = 8
MAX_RINGS = 128
MAX_POINTS = 1 << 19
MAX_FIELDS = 32
NAMES = (
    "points",
    "return_ratio",  # share of points (of the reference's number, in unorganised clouds) that return
    "near_clutter",  # share of returns nearer than `near`
    "range_p50",  # m, over returns
    "range_p95",
    "intensity_mean",  # over returns, in the sensor's unit; compare only at a known gain
    "weakest_cell",  # smallest return ratio of the ring x sector cells
    "weak_cells",  # share of those cells below one half
)
_RETURN_RATIO, _NEAR, _P50, _P95, _INTENSITY, _WEAKEST, _WEAK = range(1, 8)

#: Number types and sizes of the datatypes of sensor_msgs/PointField.
DATATYPES = {1: INT8, 2: UINT8, 3: INT16, 4: UINT16, 5: INT32, 6: UINT32, 7: FLOAT32, 8: FLOAT64}
SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 8: 8}
RINGS = ("ring", "channel", "line")  #: what drivers call the number of the laser


@dataclass(frozen=True, slots=True)
class CloudReference:
    """Returns that a healthy sensor gives, by ring and sector: medians over reference clouds."""

    returns: np.ndarray  #: (MAX_RINGS x SECTORS,) float64

    @classmethod
    def fit(cls, counts: np.ndarray) -> CloudReference:
        """From ``counts`` (clouds, MAX_RINGS x SECTORS) of :class:`CloudStatistics`. Raises ValueError: no clouds."""
        if not len(counts):
            raise ValueError("a cloud reference needs at least one cloud")
        return cls(np.median(counts, axis=0))


@dataclass(frozen=True, slots=True)
class CloudOptions:
    """``near``: metres below which a return counts as clutter; ``least``: points a cell must be expected to hold to be
    judged."""

    near: float = 3.0
    least: int = 8
    reference: CloudReference | None = None

    def __post_init__(self) -> None:
        if not self.near > 0 or self.least < 1:
            raise ValueError("cloud: near > 0 m, least >= 1")
        if self.reference is not None and self.reference.returns.shape != (MAX_RINGS * SECTORS,):
            raise ValueError(f"cloud reference: {MAX_RINGS * SECTORS} cells are needed")


class CloudStatistics(Statistics):
    """Statistics of one lidar. It keeps nothing between clouds."""

    names = NAMES

    def __init__(self, options: CloudOptions | None = None, *, ros1: bool = False) -> None:
        super().__init__(NAMES)
        self.options = options or CloudOptions()
        self.ros1 = ros1
        self._head = np.zeros(7, np.int64)
        self._fields = np.zeros((MAX_FIELDS, 5), np.int64)
        self._places = np.zeros((5, 2), np.int64)
        self._ranges = np.empty(MAX_POINTS)
        self._counts = np.zeros(BUCKETS, np.int64)
        self._cells = np.zeros((2, MAX_RINGS * SECTORS), np.int64)

    def reset(self) -> None:
        """Nothing to forget."""

    def exercise(self) -> None:
        """Measure an organised cloud of two points at the origin."""
        self._head[:] = (1, 2, 0, 12, 12, 0, 24)
        self._places[:] = ((0, FLOAT32), (4, FLOAT32), (8, FLOAT32), (0, -1), (0, -1))
        points = np.zeros(24, np.uint8)
        points.flags.writeable = False
        self._measure(points)

    @property
    def returns(self) -> np.ndarray:
        """(MAX_RINGS x SECTORS,) returns of the last cloud, for fitting a reference."""
        return np.array(self._cells[0])

    def message(self, t: int, data: np.ndarray, start: int, size: int) -> None:
        """Measure a serialized cloud.

        The cause is ``invalid`` where lengths contradict each other, ``type_mismatch`` without x, y, z, ``overflow``
        beyond ``MAX_POINTS`` points or ``MAX_FIELDS`` fields.
        """
        head = self._head
        fields = cloud_header(data, start, size, self.ros1, head, self._fields)
        if fields < 0:
            self.refuse(Cause.OVERFLOW if fields == -2 else Cause.INVALID)
            return
        cause = self._find(data, fields)
        if cause == Cause.NONE:
            cause = self._check()
        if cause != Cause.NONE:
            self.refuse(cause)
            return
        self._measure(data)

    def _measure(self, data: np.ndarray) -> None:
        near = self.options.near
        kept = cloud(data, self._head, self._places, near, self._ranges, self._counts, self._cells, self.values)
        self._finish(kept)

    def _find(self, data: np.ndarray, count: int) -> Cause:
        """Look up fields by name: ``places`` gets offset and number type of x, y, z, intensity, ring (-1: none)."""
        places = self._places
        places[:, 1] = -1
        step = int(self._head[3])
        for first, letters, offset, datatype, number in self._fields[:count].tolist():
            name = data[first : first + min(letters, 16)].tobytes().decode("latin-1")
            slot = {"x": 0, "y": 1, "z": 2, "intensity": 3}.get(name, 4 if name in RINGS else -1)
            if slot < 0:
                continue
            if datatype not in DATATYPES or number < 1 or offset + SIZES[datatype] > step:
                return Cause.INVALID
            places[slot] = offset, DATATYPES[datatype]
        return Cause.NONE if (places[:3, 1] >= 0).all() else Cause.TYPE_MISMATCH

    def _check(self) -> Cause:
        """Whether width, height, steps and the number of bytes agree."""
        width, height, _, point_step, row_step, _, size = self._head.tolist()
        if width * height == 0:
            return Cause.NONE if size == 0 else Cause.INVALID
        if point_step == 0 or row_step // point_step < width:
            return Cause.INVALID
        if size % row_step or size // row_step != height:
            return Cause.INVALID
        return Cause.OVERFLOW if width * height > MAX_POINTS else Cause.NONE

    def _finish(self, kept: int) -> None:
        """What needs the reference, and causes."""
        values, causes, reference = self.values, self.causes, self.options.reference
        organised = self._head[1] > 1
        causes[:] = np.where(np.isnan(values), int(Cause.NAN), int(Cause.NONE))
        if self._places[3, 1] < 0:
            causes[_INTENSITY] = int(Cause.TYPE_MISMATCH)
        expected = self._cells[1].astype(np.float64)
        if not organised:
            if reference is None:
                for i in (_RETURN_RATIO, _WEAKEST, _WEAK):
                    values[i], causes[i] = math.nan, int(Cause.DEPENDENCY)
                return
            expected = reference.returns
            total = float(expected.sum())
            values[_RETURN_RATIO] = kept / total if total > 0 else math.nan
        weakest(self._cells[0], expected, self.options.least, values)
        for i in (_RETURN_RATIO, _WEAKEST, _WEAK):
            causes[i] = int(Cause.DEPENDENCY) if math.isnan(values[i]) else int(Cause.NONE)


@kernel
def cloud_header(data, start, size, ros1, head, fields):  # type: ignore[no-untyped-def]
    """Read a sensor_msgs/PointCloud2: the number of fields, -1 where malformed, -2 where there are too many.

    ``head``: (7,) width, height, big endian points, point_step, row_step, address and number of the data bytes.
    ``fields``: (MAX_FIELDS, 5) address and length of the name, offset, datatype, count.
    """
    bad = np.int64(-1)
    origin, limit, q, swap = enter(data, start, size, ros1)
    q = place(q, 4, ros1)
    if q < 0 or limit - q < 8:
        return bad
    head[1] = np.int64(load32(data, origin + q, swap))
    head[0] = np.int64(load32(data, origin + q + 4, swap))
    count, q = length(data, origin, limit, q + 8, ros1, swap)
    if q < 0:
        return bad
    if count > len(fields):
        return np.int64(-2)
    for i in range(count):
        fields[i, 0], fields[i, 1], q = text(data, origin, limit, q, ros1, swap)
        q = place(q, 4, ros1)
        if q < 0 or limit - q < 5:
            return bad
        fields[i, 2] = np.int64(load32(data, origin + q, swap))
        fields[i, 3] = np.int64(data[np.uint64(origin + q + 4)])
        q = place(q + 5, 4, ros1)
        if limit - q < 4:
            return bad
        fields[i, 4] = np.int64(load32(data, origin + q, swap))
        q += 4
    if limit - q < 1:
        return bad
    head[2] = np.int64(data[np.uint64(origin + q)])
    q = place(q + 1, 4, ros1)
    if limit - q < 8:
        return bad
    head[3] = np.int64(load32(data, origin + q, swap))
    head[4] = np.int64(load32(data, origin + q + 4, swap))
    bytes_, q = length(data, origin, limit, q + 8, ros1, swap)
    if q < 0 or bytes_ > limit - q:
        return bad
    head[5] = origin + q
    head[6] = bytes_
    return count


@inlined
def sector_of(x, y):  # type: ignore[no-untyped-def]
    """The octant of a bearing, counted anticlockwise from +x: comparisons, so that it is the same everywhere."""
    if y >= 0:
        if x > 0:
            return 0 if y < x else 1
        return 2 if y > -x else 3
    if x < 0:
        return 4 if -y < -x else 5
    return 6 if -y > x else 7


@kernel
def cloud(data, head, places, near, ranges, counts, cells, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` ((8,) float64, order of NAMES; the last two are :func:`weakest`'s); the number of returns.

    ``head``: see :func:`cloud_header`, checked; ``places``: (5, 2) offset and number type of x, y, z, intensity, ring
    (type -1: absent); ``ranges``: float64 work, room for all points; ``cells``: (2, rings x sectors) int64, filled with
    returns and points.
    """
    width, height, swap = head[0], head[1], head[2] != 0
    step, row, first = head[3], head[4], head[5]
    organised = height > 1
    plain = not swap and places[0, 1] == FLOAT32 and places[1, 1] == FLOAT32 and places[2, 1] == FLOAT32
    dx, dy, dz = places[0, 0], places[1, 0], places[2, 0]
    for i in range(cells.shape[1]):
        cells[0, i] = 0
        cells[1, i] = 0
    kept, close, lit = np.int64(0), np.int64(0), np.int64(0)
    brightness = 0.0
    for line in range(height):
        for column in range(width):
            at = first + line * row + column * step
            if plain:
                x = load_number(data, at + dx, FLOAT32, False)
                y = load_number(data, at + dy, FLOAT32, False)
                z = load_number(data, at + dz, FLOAT32, False)
            else:
                x = load_number(data, at + dx, places[0, 1], swap)
                y = load_number(data, at + dy, places[1, 1], swap)
                z = load_number(data, at + dz, places[2, 1], swap)
            r = math.sqrt(x * x + y * y + z * z)
            returned = math.isfinite(r) and r > 0.0
            ring = line if organised else np.int64(0)
            if places[4, 1] >= 0:
                number = load_number(data, at + places[4, 0], places[4, 1], swap)
                ring = np.int64(number) if number >= 0 and number < MAX_RINGS else np.int64(MAX_RINGS)
            if ring < MAX_RINGS and (organised or returned):
                sector = column * SECTORS // width if organised else sector_of(x, y)
                cells[1, ring * SECTORS + sector] += 1
                if returned:
                    cells[0, ring * SECTORS + sector] += 1
            if not returned:
                continue
            ranges[kept] = r
            kept += 1
            if r < near:
                close += 1
            if places[3, 1] >= 0:
                glow = load_number(data, at + places[3, 0], places[3, 1], swap)
                if math.isfinite(glow):
                    brightness += glow
                    lit += 1
    points = width * height
    out[0] = float(points)
    out[1] = kept / points if points > 0 else math.nan
    out[5] = brightness / lit if lit > 0 else math.nan
    out[6] = math.nan
    out[7] = math.nan
    if kept == 0:
        out[2] = math.nan
        out[3] = math.nan
        out[4] = math.nan
        return kept
    out[2] = close / kept
    out[3] = select(ranges, kept, max((kept * 50 + 99) // 100, 1) - 1, counts)
    out[4] = select(ranges, kept, max((kept * 95 + 99) // 100, 1) - 1, counts)
    return kept


@kernel
def weakest(returns, expected, least, out):  # type: ignore[no-untyped-def]
    """Compare ``returns`` ((cells,) int64) with ``expected`` ((cells,) float64) where that is at least ``least``."""
    smallest, weak, judged = math.inf, 0, 0
    for i in range(len(returns)):
        if expected[i] < least:
            continue
        judged += 1
        ratio = returns[i] / expected[i]
        smallest = min(smallest, ratio)
        if ratio < 0.5:
            weak += 1
    if judged > 0:
        out[6] = smallest
        out[7] = weak / judged
