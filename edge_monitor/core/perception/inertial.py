"""Vibration and clipping of an inertial sensor (sensor_msgs/Imu): band energies, RMS acceleration, clipped samples.

Each axis of the acceleration goes through a bank of biquads; the squared outputs of the three axes are added, so that
the mounting's orientation doesn't matter, and averaged exponentially. Filters are for a nominal rate: a gap starts them
anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..elementary import cos, exp, log, sin
from ..jit import kernel
from ..layout.load import FLOAT64, load_number
from ..samples import UNSEEN, Cause
from .cursor import enter, place
from .statistics import Statistics

BANDS = 4
NAMES = (
    *(f"band.{i}" for i in range(BANDS)),  # ln of the mean squared acceleration in the band, (m/s^2)^2
    "vibration",  # m/s^2 RMS above the lowest band edge, all axes together
    "clipped",  # samples at the end of the sensor's range since the start
)
_VIBRATION, _CLIPPED = BANDS, BANDS + 1
FLOOR = 1e-12  #: (m/s^2)^2: below any sensor's noise; keeps the logarithm finite

#: What is kept: time of the last sample, samples since the last gap, clipped samples, samples seen.
INERTIAL = np.dtype([("t", "<i8"), ("run", "<i8"), ("clipped", "<i8"), ("samples", "<i8")])
_UNSEEN = int(UNSEEN)
_NONE, _NAN, _WARMING = int(Cause.NONE), int(Cause.NAN), int(Cause.WARMING)


@dataclass(frozen=True, slots=True)
class InertialOptions:
    """``rate``: nominal sampling rate, Hz; ``edges``: five band edges, Hz (the last may be inf: up to Nyquist);
    ``average``: s, time constant of the energies; ``clip``: m/s^2 from which a sample counts as clipped (15.5 g: the
    usual 16 g sensor, as ArduPilot's clip counter); ``gap``: s without samples after which filters start anew."""

    rate: float
    edges: tuple[float, ...] = (5.0, 20.0, 60.0, 150.0, math.inf)
    average: float = 1.0
    clip: float = 152.0
    gap: float = 0.25

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in pairwise(self.edges))
        if len(self.edges) != BANDS + 1 or not rising or not self.edges[0] > 0:
            raise ValueError(f"imu: {BANDS + 1} rising band edges in Hz are needed, the first above 0")
        if not self.rate > 2.5 * self.edges[0]:
            raise ValueError(f"imu: a rate of {self.rate:g} Hz cannot show bands from {self.edges[0]:g} Hz up")
        if not (self.average > 0 and self.clip > 0 and self.gap > 0):
            raise ValueError("imu: average, clip and gap must be above 0")


class InertialStatistics(Statistics):
    """Statistics of one inertial sensor; state is two flat arrays."""

    names = NAMES

    def __init__(self, options: InertialOptions, *, ros1: bool = False) -> None:
        super().__init__(NAMES)
        self.options = options
        self.ros1 = ros1
        self.bank = filter_bank(options.rate, options.edges)
        self._head = np.zeros(1, INERTIAL)
        self._delays = np.zeros((BANDS + 1, 3, 2))
        self._energy = np.zeros(BANDS + 1)
        self._state = (self._head, self._delays, self._energy)
        self._one = np.zeros((1, 3))
        self._t = np.zeros(1, np.int64)
        self._alpha = 1.0 - exp(-1.0 / (options.average * options.rate))
        # three periods of the lowest band and half a time constant: what is left of the start is below the noise
        self._settle = math.ceil(max(3.0 / options.edges[0], 0.5 * options.average) * options.rate)
        self.reset()

    def reset(self) -> None:
        """Start the filters anew and forget clipped samples."""
        self._head["t"] = _UNSEEN
        self._head["run"] = self._head["clipped"] = self._head["samples"] = 0

    def exercise(self) -> None:
        """Measure a sensor at rest."""
        self.samples(self._t, self._one)

    def message(self, t: int, data: np.ndarray, start: int, size: int) -> None:
        """Measure a serialized sensor_msgs/Imu; ``invalid`` where it is malformed."""
        self._t[0] = t
        if not acceleration(data, start, size, self.ros1, self._one):
            self.refuse(Cause.INVALID)
            return
        self.samples(self._t, self._one)

    def samples(self, t: np.ndarray, a: np.ndarray) -> None:
        """Take ``a`` ((n, 3) float64, m/s^2) at ``t`` ((n,) int64, ns), n >= 1; the statistics are those at the last.

        A sample that is not finite is a gap, with the cause ``nan``; ``warming`` until the filters have settled; a band
        that the rate cannot show is ``dependency``.
        """
        options = self.options
        cause = inertial(
            t, a, self.bank, self._alpha, self._settle, options.clip, round(options.gap * 1e9), self._head,
            self._delays, self._energy, self.values,
        )  # fmt: skip
        self.causes[:] = cause
        if cause == Cause.NONE:
            self.causes[:BANDS][self.bank[:BANDS, 0] == 0] = int(Cause.DEPENDENCY)
        self.values[self.causes != Cause.NONE] = math.nan
        self.causes[_CLIPPED] = int(Cause.NONE)
        self.values[_CLIPPED] = float(self._head["clipped"][0])


def filter_bank(rate: float, edges: tuple[float, ...]) -> np.ndarray:
    """(bands + 1, 5) float64 biquads b0 b1 b2 a1 a2; the last is the high-pass at the lowest edge.

    Band-passes of 0 dB peak gain at the geometric centre, high-passes of Q = 1/sqrt 2 where the upper edge is at or
    above 0.95 Nyquist, zeros where the whole band is above that (Bristow-Johnson, Audio EQ Cookbook).
    """
    bank = np.zeros((len(edges), 5))
    nyquist = 0.95 * rate / 2
    for i, (low, high) in enumerate(pairwise(edges)):
        if low >= nyquist:
            continue
        bank[i] = high_pass(rate, low) if high >= nyquist else band_pass(rate, low, high)
    bank[-1] = high_pass(rate, edges[0])
    return bank


def band_pass(rate: float, low: float, high: float) -> tuple[float, ...]:
    """Biquad with its half-power points near ``low`` and ``high`` Hz."""
    centre = math.sqrt(low * high)
    w = 2 * math.pi * centre / rate
    alpha = sin(w) * (high - low) / (2 * centre)
    a0 = 1 + alpha
    return alpha / a0, 0.0, -alpha / a0, -2 * cos(w) / a0, (1 - alpha) / a0


def high_pass(rate: float, low: float) -> tuple[float, ...]:
    """Second-order Butterworth high-pass at ``low`` Hz."""
    w = 2 * math.pi * low / rate
    alpha = sin(w) * math.sqrt(0.5)
    a0 = 1 + alpha
    b = (1 + cos(w)) / 2 / a0
    return b, -2 * b, b, -2 * cos(w) / a0, (1 - alpha) / a0


@kernel
def acceleration(data, start, size, ros1, out):  # type: ignore[no-untyped-def]
    """``linear_acceleration`` of a sensor_msgs/Imu into ``out`` ((1, 3) float64, m/s^2); whether it could be read."""
    origin, limit, q, swap = enter(data, start, size, ros1)
    q = place(q, 8, ros1)
    if q < 0 or limit - q < 296:  # orientation 4, covariance 9, rates 3, covariance 9, acceleration 3, covariance 9
        return False
    for axis in range(3):
        out[0, axis] = load_number(data, origin + q + 200 + 8 * axis, FLOAT64, swap)
    return True


@kernel
def inertial(t, a, bank, alpha, settle, clip, gap, head, delays, energy, out):  # type: ignore[no-untyped-def]
    """Filter samples (transposed direct form II); the cause of the values after the last.

    ``bank``: (filters, 5); ``delays``: (filters, 3, 2) and ``energy``: (filters,) float64, kept. After a gap the
    filters start from the first sample as if it had always been there, so that gravity makes no step, and energies are
    plain means until they have as many samples as their average covers.
    """
    state = head[0]
    cause = _NONE
    for i in range(len(t)):
        x, y, z = a[i, 0], a[i, 1], a[i, 2]
        state["samples"] += 1
        if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
            state["run"] = 0
            state["t"] = _UNSEEN
            cause = _NAN
            continue
        if abs(x) >= clip or abs(y) >= clip or abs(z) >= clip:
            state["clipped"] += 1
        if state["t"] == _UNSEEN or t[i] - state["t"] > gap or t[i] < state["t"]:
            state["run"] = 0
        state["t"] = t[i]
        first = state["run"] == 0
        state["run"] += 1
        share = max(alpha, 1.0 / state["run"])
        for f in range(len(bank)):
            b0, b1, b2, a1, a2 = bank[f, 0], bank[f, 1], bank[f, 2], bank[f, 3], bank[f, 4]
            total = 0.0
            for axis in range(3):
                v = a[i, axis]
                if first:
                    # steady state for a constant input: these filters let none of it through
                    delays[f, axis, 0] = -b0 * v
                    delays[f, axis, 1] = b2 * v
                u = b0 * v + delays[f, axis, 0]
                delays[f, axis, 0] = b1 * v - a1 * u + delays[f, axis, 1]
                delays[f, axis, 1] = b2 * v - a2 * u
                total += u * u
            if first:
                energy[f] = total
            else:
                energy[f] += share * (total - energy[f])
        cause = _WARMING if state["run"] < settle else _NONE
    if cause == _NONE:
        last = len(bank) - 1
        for f in range(last):
            out[f] = log(max(energy[f], FLOOR))
        out[last] = math.sqrt(energy[last])
    return cause
