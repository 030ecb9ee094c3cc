"""Past-time signal temporal logic, evaluated node by node over a flat program (``core.formula.program``).

Every node answers an interval ``[lo, hi]`` in which its value lies: for a number, the number itself or everything; for a
truth, its robustness (Fainekos & Pappas, 2009; Donzé & Maler, 2010), positive where it holds. Zero has a sign here: ``x < 5``
at 5 is -0.0, which is false, ``x <= 5`` is +0.0, which is true. So the three-valued verdict is the sign of the interval's
ends, and minimum, maximum and negation carry verdict and margin at once.

What is in force between samples counts (hold), each value until one nanosecond before the next; a ``pointwise`` value counts
at its stamp only. Of several values at one stamp the last counts. A value leaves a window ``[now - w, now]`` one nanosecond
after its last moment has reached the left edge, so that no answer depends on who asks when.

``once`` is a sliding maximum over a monotonic queue (Lemire, 2006). ``φ since ψ`` is the same queue of the values of ψ with
one step more: a new value of φ caps all of them, which only ever shortens the queue at its front, as capped entries are
equal and the latest of equals outlives the others. Both cost O(1) a sample, amortised.
"""

from __future__ import annotations

import math

from ..formula import program as p
from ..jit import inlined, outlined
from ..samples import NEVER, UNSEEN, Cause, Verdict
from .residual import residual

PASS, UNKNOWN, FAIL = int(Verdict.PASS), int(Verdict.UNKNOWN), int(Verdict.FAIL)
NONE, NEVER_RECEIVED, NAN = int(Cause.NONE), int(Cause.NEVER_RECEIVED), int(Cause.NAN)
WARMING, OVERFLOW = int(Cause.WARMING), int(Cause.OVERFLOW)
SIGNAL, NUMBER, NEGATE, ABS, ADD, SUBTRACT, MULTIPLY = (
    p.SIGNAL,
    p.NUMBER,
    p.NEGATE,
    p.ABS,
    p.ADD,
    p.SUBTRACT,
    p.MULTIPLY,
)
DIVIDE, MIN, MAX, LESS, AT_MOST, EQUAL, IS = p.DIVIDE, p.MIN, p.MAX, p.LESS, p.AT_MOST, p.EQUAL, p.IS
AND, OR, SINCE, ONCE, DELAY, PREV, RESIDUAL = p.AND, p.OR, p.SINCE, p.ONCE, p.DELAY, p.PREV, p.RESIDUAL
FLIP, POINTWISE, EXACT, SAMPLES = p.FLIP, p.POINTWISE, p.EXACT, p.SAMPLES
_NEVER, _UNSEEN = int(NEVER), int(UNSEEN)
_NAN = math.nan
_INF = math.inf

FRESH_BIT = 256  #: of an entry of DELAY, beside its cause: it was a sample


@inlined
def holds(x):  # type: ignore[no-untyped-def]
    """The truth of a robustness: its sign, also of zero."""
    return math.copysign(1.0, x) > 0.0


@inlined
def higher(a, b):  # type: ignore[no-untyped-def]
    """The larger of two robustnesses, where -0.0 < +0.0."""
    if a == b:
        return a if holds(a) else b
    return a if a > b else b


@inlined
def lower(a, b):  # type: ignore[no-untyped-def]
    """The smaller of two robustnesses, where -0.0 < +0.0."""
    if a == b:
        return b if holds(a) else a
    return a if a < b else b


@inlined
def same(a, b):  # type: ignore[no-untyped-def]
    return a == b and holds(a) == holds(b)


@inlined
def either(a, b):  # type: ignore[no-untyped-def]
    """One cause of two, whatever their order: the smaller number, as it is the deeper reason."""
    if a == NONE or (b != NONE and b < a):
        return b
    return a


@inlined
def reset(state):  # type: ignore[no-untyped-def]
    """A node as it is before the first item, and after the stream's clock has jumped."""
    state["lo"] = -_INF
    state["hi"] = _INF
    state["x_lo"] = -_INF
    state["x_hi"] = _INF
    state["y_lo"] = -_INF
    state["y_hi"] = _INF
    state["t"] = _UNSEEN
    state["n"] = 0
    state["cause"] = NEVER_RECEIVED
    state["fresh"] = 0
    state["x_cause"] = NEVER_RECEIVED
    state["y_cause"] = WARMING
    state["lo_head"] = 0
    state["lo_len"] = 0
    state["hi_head"] = 0
    state["hi_len"] = 0


@inlined
def arithmetic(op, x, y):  # type: ignore[no-untyped-def]
    """A number of two numbers; NaN where there is none."""
    if op == ADD:
        return x + y
    elif op == SUBTRACT:
        return x - y
    elif op == MULTIPLY:
        return x * y
    elif op == DIVIDE:
        return x / y
    elif op == MIN:
        return lower(x, y)
    return higher(x, y)


@inlined
def comparison(op, x, y):  # type: ignore[no-untyped-def]
    """The robustness of ``x op y``. Infinite values compare as IEEE 754 says, without inf - inf."""
    if op == LESS:
        return -0.0 if x == y else y - x
    elif op == AT_MOST:
        return 0.0 if x == y else y - x
    elif op == EQUAL:
        return 0.0 if x == y else -abs(y - x)
    return _INF if x == y else -_INF


@inlined
def above(a, b):  # type: ignore[no-untyped-def]
    """``a > b``, where -0.0 < +0.0."""
    return a > b or (a == b and holds(a) and not holds(b))


@inlined
def wrapped(k, capacity):  # type: ignore[no-untyped-def]
    """A place of a queue that may lie past its end; cheaper than a remainder."""
    return k - capacity if k >= capacity else k


@inlined
def push(ring, start, capacity, head, length, t, v):  # type: ignore[no-untyped-def]
    """Append (t, v) to a queue of falling values; what it outlives and exceeds goes. False where there is no room."""
    while length > 0:
        if above(ring[start + wrapped(head + length - 1, capacity)]["v"], v):
            break
        length -= 1
    if length == capacity:
        return length, False
    place = start + wrapped(head + length, capacity)
    ring[place]["t"] = t
    ring[place]["v"] = v
    return length + 1, True


@inlined
def cap(ring, start, capacity, head, length, limit):  # type: ignore[no-untyped-def]
    """Cap all values of a queue at ``limit``: of those that reach it only the latest stays. Answers head and length."""
    while length > 1 and not above(limit, ring[start + wrapped(head + 1, capacity)]["v"]):
        head = wrapped(head + 1, capacity)
        length -= 1
    if length > 0:
        ring[start + head]["v"] = lower(ring[start + head]["v"], limit)
    return head, length


@inlined
def expire(ring, start, capacity, head, length, edge):  # type: ignore[no-untyped-def]
    """Drop what lies before the window's left edge. Answers head and length."""
    while length > 0 and ring[start + head]["t"] < edge:
        head = wrapped(head + 1, capacity)
        length -= 1
    return head, length


@inlined
def close_segment(node, state, ring, now):  # type: ignore[no-untyped-def]
    """What has been in force since ``state.t`` becomes history, as another value takes its place at ``now``.

    Until the moment before; a pointwise sample only at its stamp, unless it is not known. Where it was held, φ of the same
    span counts too: between any of its moments and the next value φ was what it was.
    """
    capacity = node["ring_len"]
    lo_start = node["ring_start"]
    hi_start = lo_start + capacity
    lo_last = now - 1
    hi_last = now - 1
    lo = state["x_lo"]
    hi = state["x_hi"]
    lo_head, lo_len = state["lo_head"], state["lo_len"]
    hi_head, hi_len = state["hi_head"], state["hi_len"]
    if node["op"] == SINCE:
        lo_head, lo_len = cap(ring, lo_start, capacity, lo_head, lo_len, state["y_lo"])
        hi_head, hi_len = cap(ring, hi_start, capacity, hi_head, hi_len, state["y_hi"])
        if node["flags"] & POINTWISE == 0:
            lo = lower(lo, state["y_lo"])
            hi = lower(hi, state["y_hi"])
    if node["flags"] & POINTWISE != 0:
        lo_last = state["t"]
        if holds(state["x_lo"]) or not holds(state["x_hi"]):
            hi_last = state["t"]
    lo_fits = True
    hi_fits = True
    if lo > -_INF:  # the maximum of nothing is -inf: it needs no entry
        lo_len, lo_fits = push(ring, lo_start, capacity, lo_head, lo_len, lo_last, lo)
    if hi > -_INF:
        hi_len, hi_fits = push(ring, hi_start, capacity, hi_head, hi_len, hi_last, hi)
    if state["x_cause"] != NONE:
        state["y_cause"] = state["x_cause"]
    # Without an end the first entry outlives and exceeds all that don't fit.
    if not (lo_fits and hi_fits) and node["window"] != _NEVER:
        hi_len, hi_fits = push(ring, hi_start, capacity, hi_head, hi_len, now - 1, _INF)
        state["y_cause"] = OVERFLOW
    state["lo_head"], state["lo_len"] = lo_head, lo_len
    state["hi_head"], state["hi_len"] = hi_head, hi_len


@inlined
def since(node, state, a, b, ring, now):  # type: ignore[no-untyped-def]
    """``once`` and ``since`` over ``[now - window, now]``. Answers when time alone may change the answer.

    ``a since b``; for ``once`` ``a`` is what was, perhaps late, and ``b`` the same on time: whose samples are its own.
    ``x``: ψ in force; ``y``: φ in force (+inf for ``once``); ``t``: since when, UNSEEN until both have been known, from
    ``n`` on; ``y_cause``: why the last unknown span of history was unknown. What was before is unknown (``warming``)
    to a window, and nothing to an operator without one: its history begins when its operands are first known.
    """
    flags = node["flags"]
    window = node["window"]
    pointwise = flags & POINTWISE != 0
    lo, hi, cause, fresh = a["lo"], a["hi"], a["cause"], a["fresh"] != 0
    y_lo = _INF
    y_hi = _INF
    state["fresh"] = b["fresh"]
    if flags & FLIP != 0:
        lo, hi = -hi, -lo
    if node["op"] == SINCE:
        y_lo, y_hi = lo, hi
        lo, hi = b["lo"], b["hi"]
        cause = either(cause, b["cause"])
        fresh = fresh or b["fresh"] != 0
        state["fresh"] = 1 if fresh else 0
    started = state["t"] != _UNSEEN
    if started and state["n"] == now and cause != NONE:  # known for no time: the last value of a stamp counts
        state["t"] = _UNSEEN
        state["lo_len"] = state["hi_len"] = 0
        started = False
    if not started:
        change = cause == NONE and (fresh or not pointwise)
    elif pointwise:
        change = fresh or (cause != NONE and state["x_cause"] == NONE)
    else:
        change = not (
            same(lo, state["x_lo"])
            and same(hi, state["x_hi"])
            and same(y_lo, state["y_lo"])
            and same(y_hi, state["y_hi"])
        )
    if change:
        if not started:
            state["n"] = now
            if window != _NEVER:
                state["hi_len"], _ = push(
                    ring, node["ring_start"] + node["ring_len"], node["ring_len"], 0, 0, now - 1, _INF
                )
        elif now > state["t"]:
            close_segment(node, state, ring, now)
        state["t"] = now
        started = True
    if change or not started:
        state["x_lo"], state["x_hi"] = lo, hi
        state["y_lo"], state["y_hi"] = y_lo, y_hi
    if change or not started or not pointwise:
        state["x_cause"] = cause

    lo_start = node["ring_start"]
    hi_start = lo_start + node["ring_len"]
    edge = _UNSEEN
    if window != _NEVER:
        edge = now - window
        state["lo_head"], state["lo_len"] = expire(
            ring, lo_start, node["ring_len"], state["lo_head"], state["lo_len"], edge
        )
        state["hi_head"], state["hi_len"] = expire(
            ring, hi_start, node["ring_len"], state["hi_head"], state["hi_len"], edge
        )
    lo = -_INF
    hi = -_INF
    wake = _NEVER
    if state["lo_len"] > 0:
        lo = ring[lo_start + state["lo_head"]]["v"]
        wake = ring[lo_start + state["lo_head"]]["t"]
    if state["hi_len"] > 0:
        hi = ring[hi_start + state["hi_head"]]["v"]
        wake = min(wake, ring[hi_start + state["hi_head"]]["t"])
    lo = lower(lo, state["y_lo"])
    hi = lower(hi, state["y_hi"])
    known = holds(state["x_lo"]) or not holds(state["x_hi"])
    if not started and (pointwise or window != _NEVER):
        hi = _INF
    inside = not pointwise or (started and state["t"] >= edge)
    if inside:
        lo = higher(lo, state["x_lo"])
    if inside or not known:
        hi = higher(hi, state["x_hi"])
    if pointwise and inside:
        wake = min(wake, state["t"])

    state["cause"] = NONE
    if not holds(lo) and holds(hi):
        state["cause"] = state["x_cause"] if state["x_cause"] != NONE else state["y_cause"]
    # What leaves can only lower a maximum: one that is false already stays so, and one that is held stays true.
    settled = not holds(hi) or (holds(state["x_lo"]) and not pointwise)
    if wake == _NEVER or window == _NEVER or (settled and flags & EXACT == 0):
        wake = _NEVER
    else:
        wake += window + 1
    if flags & FLIP != 0:
        lo, hi = -hi, -lo
    state["lo"] = lo
    state["hi"] = hi
    return wake


@inlined
def delay(node, state, a, ring, now):  # type: ignore[no-untyped-def]
    """What the operand was ``window`` ns ago. Answers when the next change arrives.

    ``x``: the operand's last recorded answer; ``y``: what has arrived; an entry takes two places of the ring.
    """
    start = node["ring_start"]
    capacity = node["ring_len"]
    length = state["lo_len"]
    changed = not (same(a["lo"], state["x_lo"]) and same(a["hi"], state["x_hi"])) or a["cause"] != state["x_cause"]
    if changed or (a["fresh"] != 0 and node["flags"] & SAMPLES != 0):
        state["x_lo"], state["x_hi"], state["x_cause"] = a["lo"], a["hi"], a["cause"]
        mark = a["fresh"] * FRESH_BIT
        place = start + 2 * wrapped(max(state["lo_head"] + length - 1, 0), capacity)
        if length > 0 and ring[place]["t"] == now:
            mark = mark | (
                ring[place + 1]["t"] & FRESH_BIT
            )  # a second answer at one stamp takes the place of the first
        elif length < capacity:
            place = start + 2 * wrapped(state["lo_head"] + length, capacity)
            ring[place]["t"] = now
            length += 1
        else:
            # From the last entry on nothing is known, until a change finds room again.
            state["x_lo"], state["x_hi"], state["x_cause"] = -_INF, _INF, OVERFLOW
        ring[place]["v"] = state["x_lo"]
        ring[place + 1]["v"] = state["x_hi"]
        ring[place + 1]["t"] = state["x_cause"] | mark
    state["fresh"] = a["fresh"]
    if node["flags"] & SAMPLES != 0:
        state["fresh"] = 0
    while length > 0 and ring[start + 2 * state["lo_head"]]["t"] + node["window"] <= now:
        place = start + 2 * state["lo_head"]
        mark = ring[place + 1]["t"]
        state["y_lo"] = ring[place]["v"]
        state["y_hi"] = ring[place + 1]["v"]
        state["y_cause"] = mark & (FRESH_BIT - 1)
        if node["flags"] & SAMPLES != 0 and mark & FRESH_BIT != 0:
            state["fresh"] = 1
        state["n"] = 1
        state["lo_head"] = wrapped(state["lo_head"] + 1, capacity)
        length -= 1
    state["lo_len"] = length
    state["lo"], state["hi"], state["cause"] = state["y_lo"], state["y_hi"], state["y_cause"]
    if state["n"] == 0 and a["cause"] != NONE:
        state["cause"] = a["cause"]
    return ring[start + 2 * state["lo_head"]]["t"] + node["window"] if length > 0 else _NEVER


@inlined
def previous(node, state, a, now):  # type: ignore[no-untyped-def]
    """``prev`` and ``diff``: the operand at the stamp before its last sample or change (pointwise: sample or loss), and the
    slope between the two.

    ``x`` and ``t``: the last one; ``y`` and ``n``: the one before.
    """
    state["fresh"] = a["fresh"]
    if node["flags"] & POINTWISE != 0:
        changed = a["cause"] != NONE and state["x_cause"] == NONE
    else:
        changed = not (same(a["lo"], state["x_lo"]) and same(a["hi"], state["x_hi"]))
    if changed or a["fresh"] != 0:
        if now > state["t"] and state["t"] != _UNSEEN:
            state["y_lo"], state["y_hi"], state["y_cause"] = state["x_lo"], state["x_hi"], state["x_cause"]
            state["n"] = state["t"]
        state["x_lo"], state["x_hi"], state["x_cause"] = a["lo"], a["hi"], a["cause"]
        state["t"] = now
    elif a["cause"] != NONE:
        state["x_cause"] = a["cause"]
    if node["op"] == PREV:
        state["lo"], state["hi"], state["cause"] = state["y_lo"], state["y_hi"], state["y_cause"]
        return
    cause = state["x_cause"] if state["x_cause"] != NONE else state["y_cause"]
    slope = _NAN
    if cause == NONE:
        slope = (state["x_lo"] - state["y_lo"]) / ((state["t"] - state["n"]) / 1e9)
    answer_number(state, slope, cause)


@inlined
def answer_number(state, value, cause):  # type: ignore[no-untyped-def]
    """Put a number, or that there is none, into a node."""
    if cause == NONE and math.isnan(value):
        cause = NAN
    state["cause"] = cause
    state["lo"] = value if cause == NONE else -_INF
    state["hi"] = value if cause == NONE else _INF


@outlined
def run(start, length, nodes, states, signals, ring, table, now):  # type: ignore[no-untyped-def]
    """Evaluate a program on the values in force at ``now``; its answer is in its last node's state.

    Answers when time alone may change it. Equal however often it is called, as nodes know samples by their count and
    changes by their stamps.
    """
    wake = _NEVER
    for i in range(start, start + length):
        node = nodes[i]
        state = states[i]
        op = node["op"]
        if op == SIGNAL:
            signal = signals[node["signal"]]
            state["fresh"] = 1 if signal["count"] != state["n"] else 0
            state["n"] = signal["count"]
            answer_number(state, signal["value"], signal["cause"])
        elif op == NUMBER:
            state["fresh"] = 0
            answer_number(state, node["number"], NONE)
        elif op == SINCE or op == ONCE:
            wake = min(wake, since(node, state, states[start + node["a"]], states[start + node["b"]], ring, now))
        elif op == DELAY:
            wake = min(wake, delay(node, state, states[start + node["a"]], ring, now))
        elif op == RESIDUAL:
            value, cause = residual(node, state, states, start, ring, table, now)
            answer_number(state, value, cause)
        elif op >= PREV:
            previous(node, state, states[start + node["a"]], now)
        elif op == NEGATE:
            a = states[start + node["a"]]
            state["lo"] = -a["hi"]
            state["hi"] = -a["lo"]
            state["cause"] = a["cause"]
            state["fresh"] = a["fresh"]
        elif op == ABS:
            a = states[start + node["a"]]
            state["fresh"] = a["fresh"]
            answer_number(state, abs(a["lo"]), a["cause"])
        else:
            a = states[start + node["a"]]
            b = states[start + node["b"]]
            state["fresh"] = a["fresh"] | b["fresh"]
            cause = either(a["cause"], b["cause"])
            if op >= AND:
                if op == AND:
                    state["lo"] = lower(a["lo"], b["lo"])
                    state["hi"] = lower(a["hi"], b["hi"])
                else:
                    state["lo"] = higher(a["lo"], b["lo"])
                    state["hi"] = higher(a["hi"], b["hi"])
                state["cause"] = cause if not holds(state["lo"]) and holds(state["hi"]) else NONE
            elif cause != NONE:
                answer_number(state, _NAN, cause)
            elif op >= LESS:
                answer_number(state, comparison(op, a["lo"], b["lo"]), NONE)
            else:
                answer_number(state, arithmetic(op, a["lo"], b["lo"]), NONE)
    return wake


@inlined
def formula(check, state, signals, ring, table, nodes, node_states, now):  # type: ignore[no-untyped-def]
    """The verdict of a formula: PASS and FAIL where the interval decides, else UNKNOWN with the cause; margin as known."""
    if nodes is None:
        return UNKNOWN, NONE, _NAN, _NAN, _NAN
    state["wake"] = run(check["node_start"], check["node_len"], nodes, node_states, signals, ring, table, now)
    root = node_states[check["node_start"] + check["node_len"] - 1]
    if holds(root["lo"]):
        return PASS, NONE, root["lo"], _NAN, _NAN
    if not holds(root["hi"]):
        return FAIL, NONE, root["hi"], _NAN, _NAN
    return UNKNOWN, root["cause"], _NAN, _NAN, _NAN
