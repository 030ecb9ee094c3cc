"""Checks of arrival times: ``stale``, ``frequency``, ``jitter``. Time alone can change what they say.

Each kernel sets ``state.wake`` to the next time at which its answer changes without a new message. A deadline takes
effect just after its time (an item *at* it wins): ``after`` is true when the engine evaluates a passed deadline, and
then a window ``[now - w, now]`` no longer holds what lies at its left edge.
"""

from __future__ import annotations

import math

from ..jit import inlined
from ..samples import NEVER, UNSEEN, Cause, Verdict

PASS, UNKNOWN, FAIL = int(Verdict.PASS), int(Verdict.UNKNOWN), int(Verdict.FAIL)
NONE, WARMING, OVERFLOW = int(Cause.NONE), int(Cause.WARMING), int(Cause.OVERFLOW)
_UNSEEN, _NEVER = int(UNSEEN), int(NEVER)
_NAN = math.nan


@inlined
def stale(check, state, signals, now, after):  # type: ignore[no-untyped-def]
    """The last message is at most ``span`` old. Never received is unknown, as nothing is known to have stopped.

    State: ``n0`` time of the last message, ``n1`` messages seen.
    """
    signal = signals[check["a"]]
    if signal["count"] == 0:
        state["n1"] = 0
        state["wake"] = _NEVER
        return UNKNOWN, signal["cause"], _NAN, _NAN, _NAN
    span = check["span"]
    if signal["count"] != state["n1"]:
        if state["n1"] > 0:  # the gap that this message ends counts for the worst margin
            margin = (span - (signal["t"] - state["n0"])) / 1e9
            if margin < state["worst"]:
                state["worst"] = margin
                state["worst_t"] = now
        state["n0"] = signal["t"]
        state["n1"] = signal["count"]
    age = now - signal["t"]
    expired = age > span or (after and age >= span)
    state["wake"] = _NEVER if expired else signal["t"] + span
    return FAIL if expired else PASS, NONE, (span - age) / 1e9, age / 1e9, span / 1e9


@inlined
def frequency(check, state, signals, ring, now, after):  # type: ignore[no-untyped-def]
    """``n_min <= messages in [now - window, now] <= n_max``; margin in Hz. Unknown (``warming``) until a window has passed.

    More than ``n_max`` is known at once; fewer than ``n_min`` only when a whole window has been seen.
    State: ``n0`` first message, ``n1`` messages seen; the ring is a queue of stamps, as long as the answer needs.
    """
    signal = signals[check["a"]]
    if signal["count"] == 0:
        state["n0"] = _UNSEEN
        state["n1"] = 0
        state["len"] = 0
        state["wake"] = _NEVER
        return UNKNOWN, signal["cause"], _NAN, _NAN, _NAN
    start = check["ring_start"]
    capacity = check["ring_len"]
    window = check["window"]
    if signal["count"] != state["n1"]:
        state["n1"] = signal["count"]
        if state["n0"] == _UNSEEN:
            state["n0"] = signal["t"]
        if state["len"] == capacity:
            state["head"] = (state["head"] + 1) % capacity
            state["len"] -= 1
        ring[start + (state["head"] + state["len"]) % capacity]["t"] = signal["t"]
        state["len"] += 1
    edge = now - window
    while state["len"] > 0:
        oldest = ring[start + state["head"]]["t"]
        if oldest < edge or (after and oldest == edge):
            state["head"] = (state["head"] + 1) % capacity
            state["len"] -= 1
        else:
            break
    n = state["len"]
    hz = n / (window / 1e9)
    if n > check["n_max"]:
        leaves = ring[start + (state["head"] + n - check["n_max"] - 1) % capacity]["t"]
        state["wake"] = leaves + window
        return FAIL, NONE, check["max"] - hz, hz, check["max"]
    if n < check["n_min"]:
        full = state["n0"] + window
        if now < full or (now == full and not after):
            state["wake"] = full
            return UNKNOWN, WARMING, _NAN, hz, check["min"]
        state["wake"] = _NEVER
        if n > 0:  # it gets worse until the last one leaves
            state["wake"] = ring[start + state["head"]]["t"] + window
        return FAIL, NONE, hz - check["min"], hz, check["min"]
    state["wake"] = _NEVER
    if check["n_min"] > 0:
        state["wake"] = ring[start + (state["head"] + n - check["n_min"]) % capacity]["t"] + window
    above = check["max"] - hz
    if now < state["n0"] + window:  # what a part of a window counts is no margin to `min`
        return PASS, NONE, _NAN if math.isinf(above) else max(above, 0.0), hz, check["max"]
    below = hz - check["min"]
    # n counts both edges of a closed window, so a rate at the limit may read one message beyond it
    if above < below:
        return PASS, NONE, max(above, 0.0), hz, check["max"]
    return PASS, NONE, max(below, 0.0), hz, check["min"]


@inlined
def jitter(check, state, signals, ring, now, after):  # type: ignore[no-untyped-def]
    """Largest ``|interval - period|`` of the intervals that ended in ``[now - window, now]``, and of the open one so far.

    Margin in seconds. State: ``n0`` last message, ``n1`` messages seen, ``n2`` time of the last overflow; the ring is
    a queue of decreasing deviations (the sliding maximum of Lemire, 2006).
    """
    signal = signals[check["a"]]
    if signal["count"] == 0:
        state["n0"] = _UNSEEN
        state["n1"] = 0
        state["n2"] = _UNSEEN
        state["len"] = 0
        state["x0"] = 0.0
        state["wake"] = _NEVER
        return UNKNOWN, signal["cause"], _NAN, _NAN, _NAN
    start = check["ring_start"]
    capacity = check["ring_len"]
    window = check["window"]
    span = check["span"]
    edge = now - window
    while state["len"] > 0:
        ended = ring[start + state["head"]]["t"]
        if ended < edge or (after and ended == edge):
            state["head"] = (state["head"] + 1) % capacity
            state["len"] -= 1
        else:
            break
    if signal["count"] != state["n1"]:
        if state["n1"] > 0:
            deviation = abs((signal["t"] - state["n0"]) - check["period"])
            while state["len"] > 0 and ring[start + (state["head"] + state["len"] - 1) % capacity]["v"] <= deviation:
                state["len"] -= 1
            if state["len"] == capacity:
                state["n2"] = signal["t"]
            else:
                place = start + (state["head"] + state["len"]) % capacity
                ring[place]["t"] = signal["t"]
                ring[place]["v"] = deviation
                state["len"] += 1
            state["x0"] = 1.0  # at least one interval has been seen
        state["n0"] = signal["t"]
        state["n1"] = signal["count"]
    largest = 0.0
    state["wake"] = _NEVER
    if state["len"] > 0:
        largest = ring[start + state["head"]]["v"]
        if largest > span:
            state["wake"] = ring[start + state["head"]]["t"] + window
    overdue = now - state["n0"] - check["period"]
    late = overdue > span or (after and overdue >= span)
    if not late:
        state["wake"] = min(state["wake"], state["n0"] + check["period"] + span)
    if overdue > largest:
        largest = float(overdue)
    margin = (span - largest) / 1e9
    if late or largest > span:
        return FAIL, NONE, margin, largest / 1e9, span / 1e9
    if state["n2"] != _UNSEEN and (state["n2"] > edge or (state["n2"] == edge and not after)):
        state["wake"] = min(state["wake"], state["n2"] + window)
        return UNKNOWN, OVERFLOW, _NAN, _NAN, _NAN
    if state["x0"] != 1.0:
        return UNKNOWN, WARMING, _NAN, _NAN, _NAN
    return PASS, NONE, margin, largest / 1e9, span / 1e9
