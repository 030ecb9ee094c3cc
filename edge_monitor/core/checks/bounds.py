"""Checks of one value against limits or a list: ``bounds``, ``latency``, ``rate``, ``one_of``/``equals``, ``valid``.

Each kernel answers ``(verdict, cause, margin, value, limit)`` for the values in force; debounce and latch are the
engine's. ``margin`` < 0 means violated; NaN where the kind has no margin.
"""

from __future__ import annotations

import math

from ..jit import inlined
from ..samples import UNSEEN, Cause, Verdict

PASS, UNKNOWN, FAIL = int(Verdict.PASS), int(Verdict.UNKNOWN), int(Verdict.FAIL)
NONE, NAN, INVALID, WARMING = int(Cause.NONE), int(Cause.NAN), int(Cause.INVALID), int(Cause.WARMING)
_UNSEEN = int(UNSEEN)
_NAN = math.nan
_INF = math.inf


@inlined
def between(check, state, v):  # type: ignore[no-untyped-def]
    """Compare ``v`` with the limits in force: the leaving ones after a FAIL. Infinite values violate (SEMANTICS §2)."""
    high = check["max"]
    low = check["min"]
    if state["known"] == FAIL:
        high = check["leave_max"]
        low = check["leave_min"]
    if math.isinf(v):
        return FAIL, NONE, -_INF, v, high if v > 0 else low
    above = high - v
    below = v - low
    if above <= below:
        return FAIL if above < 0 else PASS, NONE, above, v, high
    return FAIL if below < 0 else PASS, NONE, below, v, low


@inlined
def bounds(check, state, signals):  # type: ignore[no-untyped-def]
    """``min <= value <= max``, with hysteresis (``leave_min``, ``leave_max``)."""
    signal = signals[check["a"]]
    if signal["cause"] != NONE:
        return UNKNOWN, signal["cause"], _NAN, _NAN, _NAN
    return between(check, state, signal["value"])


@inlined
def rate(check, state, signals):  # type: ignore[no-untyped-def]
    """Rate of change between consecutive samples, in unit/s: ``min <= dv/dt <= max``.

    A gap starts anew (``warming``); of two samples with one stamp the last counts.
    State: ``n0`` time and ``x0`` value of the last sample, ``n2`` and ``x1`` those of the stamp before, ``n1`` samples seen.
    """
    signal = signals[check["a"]]
    if signal["cause"] != NONE:
        state["n0"] = _UNSEEN
        state["n1"] = signal["count"]
        state["n2"] = _UNSEEN
        return UNKNOWN, signal["cause"], _NAN, _NAN, _NAN
    if signal["count"] != state["n1"]:
        state["n1"] = signal["count"]
        if signal["t"] != state["n0"]:
            state["n2"] = state["n0"]
            state["x1"] = state["x0"]
            state["n0"] = signal["t"]
        state["x0"] = signal["value"]
    if math.isinf(state["x0"]):  # inf - inf would be no number
        return between(check, state, state["x0"])
    if state["n2"] == _UNSEEN:
        return UNKNOWN, WARMING, _NAN, _NAN, _NAN
    return between(check, state, (state["x0"] - state["x1"]) / ((state["n0"] - state["n2"]) / 1e9))


@inlined
def one_of(check, signals, table):  # type: ignore[no-untyped-def]
    """The value is one of the table's. States have no distance, hence no margin."""
    signal = signals[check["a"]]
    if signal["cause"] != NONE:
        return UNKNOWN, signal["cause"], _NAN, _NAN, _NAN
    for i in range(check["table_start"], check["table_start"] + check["table_len"]):
        if table[i] == signal["value"]:
            return PASS, NONE, _NAN, signal["value"], _NAN
    return FAIL, NONE, _NAN, signal["value"], _NAN


@inlined
def valid(check, signals):  # type: ignore[no-untyped-def]
    """The value is a finite number and, where a covariance is named, that is known (> 0) and at most ``max``.

    Unlike elsewhere NaN and ``invalid`` are what this kind looks for, hence FAIL; a missing value stays unknown.
    """
    signal = signals[check["a"]]
    if signal["cause"] == NAN or signal["cause"] == INVALID:
        return FAIL, signal["cause"], _NAN, _NAN, _NAN
    if signal["cause"] != NONE:
        return UNKNOWN, signal["cause"], _NAN, _NAN, _NAN
    if math.isinf(signal["value"]):
        return FAIL, NONE, -_INF, signal["value"], _NAN
    if check["b"] < 0:
        return PASS, NONE, _NAN, signal["value"], _NAN
    covariance = signals[check["b"]]
    if covariance["cause"] == NAN or covariance["cause"] == INVALID:
        return FAIL, covariance["cause"], _NAN, _NAN, check["max"]
    if covariance["cause"] != NONE:
        return UNKNOWN, covariance["cause"], _NAN, _NAN, _NAN
    c = covariance["value"]
    if math.isinf(c):
        return FAIL, NONE, -_INF, c, check["max"]
    if c <= 0:  # sensor_msgs: -1 = no estimate, 0 = unknown
        return FAIL, NONE, _NAN, c, check["max"]
    margin = check["max"] - c
    return FAIL if margin < 0 else PASS, NONE, margin, c, check["max"]
