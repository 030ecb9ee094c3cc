"""Checks across signals: ``agreement`` of two values, and ``geofence``."""

from __future__ import annotations

import math

from ..jit import inlined
from ..samples import Cause, Verdict

PASS, UNKNOWN, FAIL = int(Verdict.PASS), int(Verdict.UNKNOWN), int(Verdict.FAIL)
NONE = int(Cause.NONE)
_NAN = math.nan
_INF = math.inf


@inlined
def agreement(check, state, signals):  # type: ignore[no-untyped-def]
    """``|a - b| <= max``; on a circle of ``wrap`` units where one is given (360 for degrees)."""
    a = signals[check["a"]]
    b = signals[check["b"]]
    if a["cause"] != NONE:
        return UNKNOWN, a["cause"], _NAN, _NAN, _NAN
    if b["cause"] != NONE:
        return UNKNOWN, b["cause"], _NAN, _NAN, _NAN
    difference = abs(a["value"] - b["value"])
    limit = check["leave_max"] if state["known"] == FAIL else check["max"]
    if math.isinf(a["value"]) or math.isinf(b["value"]) or math.isinf(difference):
        return FAIL, NONE, -_INF, _INF, limit
    if check["wrap"] > 0:
        difference = difference % check["wrap"]
        difference = min(difference, check["wrap"] - difference)
    margin = limit - difference
    return FAIL if margin < 0 else PASS, NONE, margin, difference, limit


@inlined
def inside_distance(table, start, corners, x, y):  # type: ignore[no-untyped-def]
    """Distance of (x, y) to a polygon's edge in metres, positive inside (crossing number; even-odd rule)."""
    inside = False
    nearest = _INF
    j = corners - 1
    for i in range(corners):
        xi = table[start + 2 * i]
        yi = table[start + 2 * i + 1]
        xj = table[start + 2 * j]
        yj = table[start + 2 * j + 1]
        if (yi > y) != (yj > y) and x < (xj - xi) * (y - yi) / (yj - yi) + xi:
            inside = not inside
        dx = xj - xi
        dy = yj - yi
        along = ((x - xi) * dx + (y - yi) * dy) / (dx * dx + dy * dy)
        along = min(1.0, max(0.0, along))
        ex = x - (xi + along * dx)
        ey = y - (yi + along * dy)
        squared = ex * ex + ey * ey
        nearest = min(nearest, squared)
        j = i
    distance = math.sqrt(nearest)
    return distance if inside else -distance


@inlined
def geofence(check, signals, table):  # type: ignore[no-untyped-def]
    """Stay inside a prism (polygon and altitude band), or outside it (``keep_out``); margin in metres.

    The table holds latitude and longitude of the origin, metres per degree north and east there, then the corners in
    metres east and north. A part that is known to be violated fails even while the other part is unknown. An infinite
    coordinate is no place outside a forbidden zone: it violates, either way.
    """
    latitude = signals[check["a"]]
    longitude = signals[check["b"]]
    start = check["table_start"]
    corners = (check["table_len"] - 4) // 2
    cause = NONE
    horizontal = _NAN
    infinite = latitude["cause"] == NONE and math.isinf(latitude["value"])
    infinite = infinite or (longitude["cause"] == NONE and math.isinf(longitude["value"]))
    if check["c"] >= 0:
        infinite = infinite or (signals[check["c"]]["cause"] == NONE and math.isinf(signals[check["c"]]["value"]))
    if infinite:
        return FAIL, NONE, -_INF, -_INF, 0.0
    if latitude["cause"] != NONE:
        cause = latitude["cause"]
    elif longitude["cause"] != NONE:
        cause = longitude["cause"]
    else:
        x = (longitude["value"] - table[start + 1]) * table[start + 3]
        y = (latitude["value"] - table[start]) * table[start + 2]
        horizontal = inside_distance(table, start + 4, corners, x, y)
    vertical = _INF  # no altitude named: the band is endless
    if check["c"] >= 0:
        altitude = signals[check["c"]]
        if altitude["cause"] != NONE:
            vertical = _NAN
            if cause == NONE:
                cause = altitude["cause"]
        else:
            vertical = min(altitude["value"] - check["min"], check["max"] - altitude["value"])
    if check["keep_out"] != 0:
        # outside when either part is outside; inside only when both are known to be inside
        if horizontal < 0 or vertical < 0:
            if math.isnan(horizontal):
                return PASS, NONE, -vertical, vertical, 0.0
            if math.isnan(vertical):
                return PASS, NONE, -horizontal, horizontal, 0.0
            margin = -min(horizontal, vertical)
            return PASS, NONE, margin, -margin, 0.0
        if cause != NONE:
            return UNKNOWN, cause, _NAN, _NAN, _NAN
        depth = min(horizontal, vertical)
        return FAIL, NONE, -depth, depth, 0.0
    if horizontal < 0 or vertical < 0:
        margin = vertical if math.isnan(horizontal) or vertical < horizontal else horizontal
        return FAIL, NONE, margin, margin, 0.0
    if cause != NONE:
        return UNKNOWN, cause, _NAN, _NAN, _NAN
    margin = min(horizontal, vertical)
    return PASS, NONE, margin, margin, 0.0
