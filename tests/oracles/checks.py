"""Every check kind in plain Python, answered from whole histories: what is true of the values in force at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.samples import Cause, Verdict

NAN, INF = math.nan, math.inf


@dataclass
class Input:
    """One signal since the last clock jump. ``history`` holds values and, as None, the beginnings of gaps."""

    value: float = NAN
    cause: Cause = Cause.NEVER_RECEIVED
    arrivals: list[int] = field(default_factory=list)
    history: list[tuple[int, float | None]] = field(default_factory=list)
    gone: bool = False  # the value stopped to count (age, source status): it can't expire again
    lost: bool = False  # and watchers of inputs were told

    def receive(self, t: int, value: float, cause: Cause) -> None:
        """Put a message's value in force."""
        self.value, self.cause, self.gone = value, cause, False
        self.arrivals.append(t)
        self.history.append((t, value if cause == Cause.NONE else None))

    def lose(self, t: int, cause: Cause) -> None:
        """The value no longer counts."""
        self.cause, self.gone = cause, True
        self.lost = cause != Cause.NEVER_RECEIVED or self.lost
        self.history.append((t, None))


@dataclass(frozen=True)
class Answer:
    """What a check says before debounce and latch."""

    verdict: Verdict
    cause: Cause = Cause.NONE
    margin: float = NAN
    value: float = NAN
    limit: float = NAN


def unknown(cause: Cause) -> Answer:
    """There is no answer, for this cause."""
    return Answer(Verdict.UNKNOWN, cause)


def judge(margin: float, value: float, limit: float) -> Answer:
    """A margin below zero is a violation."""
    return Answer(Verdict.FAIL if margin < 0 else Verdict.PASS, Cause.NONE, margin, value, limit)


def say(spec: CheckSpec, inputs: list[Input], now: int, *, after: bool, failed: bool) -> Answer:
    """Answer of ``spec`` at ``now``; ``after``: just past it (nothing came at it); ``failed``: leave limits apply."""
    for source in inputs[: 0 if spec.kind in ("valid", "geofence") else None]:
        if spec.kind in ("stale", "frequency", "jitter"):
            if not source.arrivals:
                return unknown(source.cause)
        elif source.cause != Cause.NONE:
            return unknown(source.cause)
    return KINDS[spec.kind](spec, inputs, now, after, failed)


def deadlines(spec: CheckSpec, inputs: list[Input]) -> list[int]:
    """Every time at which a check of time may change its answer without a message."""
    arrivals = inputs[0].arrivals
    if not arrivals:
        return []
    if spec.kind == "stale":
        return [arrivals[-1] + int(spec.params["max"])]
    if spec.kind == "frequency":
        return [t + int(spec.params["window"]) for t in arrivals]
    if spec.kind == "jitter":
        late = arrivals[-1] + int(spec.params["period"]) + int(spec.params["max"])
        return [late, *(t + int(spec.params["window"]) for t in arrivals)]
    return []


def limits(spec: CheckSpec, failed: bool) -> tuple[float, float]:
    """Lower and upper limit in force."""
    low, high = spec.params.get("min", -INF), spec.params.get("max", INF)
    return (spec.params.get("leave_min", low), spec.params.get("leave_max", high)) if failed else (low, high)


def band(spec: CheckSpec, value: float, failed: bool) -> Answer:
    """``min <= value <= max``; an infinite value violates."""
    low, high = limits(spec, failed)
    if math.isinf(value):
        return Answer(Verdict.FAIL, Cause.NONE, -INF, value, high if value > 0 else low)
    return min((judge(high - value, value, high), judge(value - low, value, low)), key=lambda answer: answer.margin)


def bounds(spec: CheckSpec, inputs: list[Input], now: int, after: bool, failed: bool) -> Answer:
    return band(spec, inputs[0].value, failed)


def rate(spec: CheckSpec, inputs: list[Input], now: int, after: bool, failed: bool) -> Answer:
    """Slope from the last sample of the stamp before to the last sample, within one unbroken stretch."""
    stretch: dict[int, float] = {}
    for t, value in inputs[0].history:
        if value is None:
            stretch = {}
        else:
            stretch[t] = value
    if math.isinf(inputs[0].value):
        return band(spec, inputs[0].value, failed)
    if len(stretch) < 2:
        return unknown(Cause.WARMING)
    (t0, v0), (t1, v1) = list(stretch.items())[-2:]
    return band(spec, (v1 - v0) / ((t1 - t0) / 1e9), failed)


def one_of(spec: CheckSpec, inputs: list[Input], now: int, after: bool, failed: bool) -> Answer:
    verdict = Verdict.PASS if inputs[0].value in spec.table else Verdict.FAIL
    return Answer(verdict, value=inputs[0].value)


def valid(spec: CheckSpec, inputs: list[Input], now: int, after: bool, failed: bool) -> Answer:
    high = spec.params.get("covariance_max", INF)
    for source, limit in zip(inputs, (NAN, high), strict=False):
        if source.cause in (Cause.NAN, Cause.INVALID):
            return Answer(Verdict.FAIL, source.cause, limit=limit)
        if source.cause != Cause.NONE:
            return unknown(source.cause)
        if math.isinf(source.value):
            return Answer(Verdict.FAIL, Cause.NONE, -INF, source.value, limit)
    if len(inputs) == 1:
        return Answer(Verdict.PASS, value=inputs[0].value)
    covariance = inputs[1].value
    return judge(high - covariance, covariance, high) if covariance > 0 else Answer(
        Verdict.FAIL, value=covariance, limit=high
    )  # fmt: skip


def stale(spec: CheckSpec, inputs: list[Input], now: int, after: bool, failed: bool) -> Answer:
    span, age = int(spec.params["max"]), now - inputs[0].arrivals[-1]
    late = age > span or (after and age == span)
    return Answer(Verdict.FAIL if late else Verdict.PASS, Cause.NONE, (span - age) / 1e9, age / 1e9, span / 1e9)


def in_window(times: list[int], window: int, now: int, after: bool) -> list[int]:
    """Which of ``times`` lie in the closed window that ends at ``now``; just after, its left edge is out."""
    return [i for i, t in enumerate(times) if t > now - window or (t == now - window and not after)]


def frequency(spec: CheckSpec, inputs: list[Input], now: int, after: bool, failed: bool) -> Answer:
    """At least ``min x window`` messages, and at most one more than ``max x window``: both edges are in the window."""
    arrivals, window = inputs[0].arrivals, int(spec.params["window"])
    low, high = spec.params.get("min", 0.0), spec.params.get("max", INF)
    fewest = math.ceil(low * window / 1e9 - 1e-9)
    most = math.floor(high * window / 1e9 + 1e-9) + 1 if high < INF else None
    n = len(in_window(arrivals, window, now, after))
    # The engine counts no further than the answer needs; what lies beyond shows as the count that settles it.
    n = min(n, fewest + 1) if most is None else min(n, max(fewest, most) + 2)
    hz = n / (window / 1e9)
    if most is not None and n > most:
        return Answer(Verdict.FAIL, Cause.NONE, high - hz, hz, high)
    if n >= fewest and now < arrivals[0] + window:  # a part of a window says nothing of how far `min` is
        return Answer(Verdict.PASS, Cause.NONE, NAN if high == INF else max(high - hz, 0.0), hz, high)
    if n >= fewest:
        margin, limit = (high - hz, high) if high - hz < hz - low else (hz - low, low)
        return Answer(Verdict.PASS, Cause.NONE, max(margin, 0.0), hz, limit)
    full = arrivals[0] + window
    if now < full or (now == full and not after):
        return Answer(Verdict.UNKNOWN, Cause.WARMING, NAN, hz, low)
    return Answer(Verdict.FAIL, Cause.NONE, hz - low, hz, low)


def jitter(spec: CheckSpec, inputs: list[Input], now: int, after: bool, failed: bool) -> Answer:
    """Worst deviation of the intervals that ended inside the window, and of the one still open."""
    arrivals, window = inputs[0].arrivals, int(spec.params["window"])
    period, span = int(spec.params["period"]), int(spec.params["max"])
    ended = in_window(arrivals, window, now, after)
    overdue = now - arrivals[-1] - period
    worst = max([0, overdue] + [abs(arrivals[i] - arrivals[i - 1] - period) for i in ended if i > 0])
    margin, value, limit = (span - worst) / 1e9, worst / 1e9, span / 1e9
    if worst > span or (after and overdue == span):
        return Answer(Verdict.FAIL, Cause.NONE, margin, value, limit)
    if len(arrivals) < 2:
        return unknown(Cause.WARMING)
    return Answer(Verdict.PASS, Cause.NONE, margin, value, limit)


def agreement(spec: CheckSpec, inputs: list[Input], now: int, after: bool, failed: bool) -> Answer:
    """Distance of two values, on a line or on a circle."""
    a, b = inputs[0].value, inputs[1].value
    high = spec.params["max"]
    limit = spec.params.get("leave", high) if failed else high
    wrap = spec.params.get("wrap", 0.0)
    distance = abs(a - b)
    if math.isinf(a) or math.isinf(b) or math.isinf(distance):
        return Answer(Verdict.FAIL, Cause.NONE, -INF, INF, limit)
    if wrap:
        turn = math.fmod(distance, wrap)
        distance = min(turn, wrap - turn)
    return judge(limit - distance, distance, limit)


def winding(corners: list[tuple[float, float]], x: float, y: float) -> float:
    """Turns of a polygon around a point: the sum of the signed angles under which its edges are seen, over 2 pi."""
    total = 0.0
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        ax, ay, bx, by = x0 - x, y0 - y, x1 - x, y1 - y
        total += math.atan2(ax * by - ay * bx, ax * bx + ay * by)
    return total / math.tau


def to_edge(corners: list[tuple[float, float]], x: float, y: float) -> float:
    """Distance to the nearest edge: to its line where the foot lies on it, else to the nearer corner."""
    best = INF
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        length = math.dist((x0, y0), (x1, y1))
        before = (x - x0) * (x1 - x0) + (y - y0) * (y1 - y0) < 0
        beyond = (x - x1) * (x0 - x1) + (y - y1) * (y0 - y1) < 0
        if before or beyond or length == 0:
            best = min(best, math.dist((x, y), (x0, y0)), math.dist((x, y), (x1, y1)))
        else:
            best = min(best, abs((x1 - x0) * (y0 - y) - (x0 - x) * (y1 - y0)) / length)
    return best


def metres(latitude: float) -> tuple[float, float]:
    """Length of a degree of latitude and of longitude on WGS 84, by the series of the US NGA (to 0.1 m)."""
    p = math.radians(latitude)
    north = 111132.92 - 559.82 * math.cos(2 * p) + 1.175 * math.cos(4 * p) - 0.0023 * math.cos(6 * p)
    east = 111412.84 * math.cos(p) - 93.5 * math.cos(3 * p) + 0.118 * math.cos(5 * p)
    return north, east


def geofence(spec: CheckSpec, inputs: list[Input], now: int, after: bool, failed: bool) -> Answer:
    """Depth inside a prism: how far from the nearest wall, negative outside. Unknown parts are all depths at once."""
    points = list(zip(spec.table[::2], spec.table[1::2], strict=True))
    keep_out = bool(spec.params.get("keep_out", 0))
    known = [source.value for source in inputs if source.cause == Cause.NONE]
    if any(math.isinf(value) for value in known):
        return Answer(Verdict.FAIL, Cause.NONE, -INF, -INF, 0.0)
    latitude, longitude = inputs[0], inputs[1]
    parts: list[float | None] = []
    if latitude.cause or longitude.cause:
        parts.append(None)
    else:
        centre = [sum(axis) / len(points) for axis in zip(*points, strict=True)]
        north, east = metres(centre[0])
        corners = [(lon * east, lat * north) for lat, lon in points]
        x, y = longitude.value * east, latitude.value * north
        depth = to_edge(corners, x, y)
        parts.append(depth if abs(winding(corners, x, y)) > 0.5 else -depth)
    if len(inputs) > 2:
        altitude = inputs[2]
        low, high = spec.params.get("min_altitude", -INF), spec.params.get("max_altitude", INF)
        parts.append(None if altitude.cause else min(altitude.value - low, high - altitude.value))
    values = [part for part in parts if part is not None]
    outside = [value for value in values if value < 0]
    if outside or len(values) == len(parts):
        depth = min(values)
        if keep_out:
            return Answer(Verdict.PASS if outside else Verdict.FAIL, Cause.NONE, -depth, depth, 0.0)
        return Answer(Verdict.FAIL if outside else Verdict.PASS, Cause.NONE, depth, depth, 0.0)
    return unknown(next(source.cause for source in inputs if source.cause))


#: Every kind; a test asserts that the registry has the same.
KINDS = {
    "bounds": bounds,
    "latency": bounds,
    "rate": rate,
    "equals": one_of,
    "one_of": one_of,
    "valid": valid,
    "stale": stale,
    "frequency": frequency,
    "jitter": jitter,
    "agreement": agreement,
    "geofence": geofence,
}
