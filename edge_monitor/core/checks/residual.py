"""The node of a residual signal: a response's sample less what an ARX model predicts of it (``core.formula.arx``)."""

from __future__ import annotations

import math

from ..formula.arx import BACK, CONSTANT, DELAY, GAP_NS, HEAD, INPUTS, LONGEST_NS, NA, NB, SHORTEST_NS
from ..jit import inlined
from ..samples import Cause

NONE, WARMING, DEPENDENCY = int(Cause.NONE), int(Cause.WARMING), int(Cause.DEPENDENCY)
_NAN = math.nan


@inlined
def residual(node, state, states, start, ring, table, now):  # type: ignore[no-untyped-def]
    """``(e, cause)`` at a sample of the response, which is the first node of the program; the commands follow.

    State: ``n`` samples since all inputs were known without a gap, ``t`` the last one's time, ``lo_head`` its row in the
    ring, an entry an input. Unknown: an input is (its cause), lags are missing (``warming``), or samples come at another
    rate than the model's (``dependency``).
    """
    p = node["table"]
    inputs = int(table[p + INPUTS])
    cause = states[start]["cause"]
    state["fresh"] = states[start]["fresh"]
    if state["fresh"] == 0:  # the response was lost
        state["n"] = 0
        return _NAN, cause
    for j in range(1, inputs):
        other = states[start + j]["cause"]
        if other != NONE and (cause == NONE or other < cause):
            cause = other
    if cause != NONE:
        state["n"] = 0
        return _NAN, cause
    if state["n"] > 0 and now - state["t"] > table[p + GAP_NS]:
        state["n"] = 0
    back = int(table[p + BACK])
    rows = node["ring_len"]
    head = state["lo_head"] + 1
    if head == rows:
        head = 0
    state["lo_head"] = head
    state["t"] = now
    place = node["ring_start"] + head * inputs
    ring[place]["t"] = now
    for j in range(inputs):
        ring[place + j]["v"] = states[start + j]["lo"]
    if state["n"] < back:
        state["n"] += 1
        return _NAN, WARMING
    oldest = head + 1 if head + 1 < rows else 0
    span = now - ring[node["ring_start"] + oldest * inputs]["t"]
    if span < table[p + SHORTEST_NS] or span > table[p + LONGEST_NS]:
        return _NAN, DEPENDENCY
    e = states[start]["lo"] - table[p + CONSTANT]
    q = p + HEAD
    for i in range(1, int(table[p + NA]) + 1):
        row = head - i if head >= i else head - i + rows
        e -= table[q] * ring[node["ring_start"] + row * inputs]["v"]
        q += 1
    delay = int(table[p + DELAY])
    for j in range(1, inputs):
        for i in range(delay, delay + int(table[p + NB])):
            row = head - i if head >= i else head - i + rows
            e -= table[q] * ring[node["ring_start"] + row * inputs + j]["v"]
            q += 1
    return e, NONE
