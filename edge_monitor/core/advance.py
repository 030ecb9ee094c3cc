"""The engine's kernel: one ordered stream in, transitions out. All rules of time are here (SEMANTICS §1 and §2).

An *instant* is the samples of one message, or one command. Before an instant at ``t`` all deadlines earlier than ``t``
fire, each at its own time; checks that the instant touched are evaluated once, at its end, in order of their index.
``next`` in the head is a lower bound of all deadlines: pushing a deadline back leaves it alone, and the rows are only
searched when time passes it, which is why a sample costs no search.
"""

from __future__ import annotations

import math

from .checks.temporal import reset, run
from .formula import program
from .instants import account, emit, list_check, list_readers, seal, settle, settle_listed, show, unlatch, unlatch_all
from .jit import inlined, kernel
from .memory import arrays_of
from .samples import (
    FLAG_CAUSE,
    FLAG_END,
    FLAG_LATCHED,
    ITEM_MISSION_END,
    ITEM_RENEWED,
    ITEM_RESET_LATCH,
    ITEM_SAMPLE,
    ITEM_SET_LATCH,
    ITEM_SHIFT,
    ITEM_SOURCE_STATUS,
    ITEM_UNTIL,
    NEVER,
    UNSEEN,
    Cause,
    Latch,
    TransitionKind,
    Verdict,
)

PASS, UNKNOWN, FAIL = int(Verdict.PASS), int(Verdict.UNKNOWN), int(Verdict.FAIL)
NONE, NEVER_RECEIVED, STALE = int(Cause.NONE), int(Cause.NEVER_RECEIVED), int(Cause.STALE)
NAN, CLOCK_CAUSE = int(Cause.NAN), int(Cause.CLOCK)
CHECK, INPUT = int(TransitionKind.CHECK), int(TransitionKind.INPUT)
CLOCK, LATCH = int(TransitionKind.CLOCK), int(TransitionKind.LATCH)
ON_MODE_CHANGE, ON_MISSION_END = int(Latch.ON_MODE_CHANGE), int(Latch.ON_MISSION_END)
SIGNAL = program.SIGNAL
ROLE_MODE, ROLE_ACTIVE, ROLE_DERIVED = 1, 2, 4
_NEVER, _UNSEEN = int(NEVER), int(UNSEEN)
_NAN = math.nan

#: A step back of at most this is disorder (the item is dropped and counted); a larger one is a clock jump.
JUMP_NS = 1_000_000_000
NO_VERDICT = -1
DONE, FULL, STRANGER = 0, 1, 2
#: Of a check's ``listed``: TOLD + the verdict that was told of it under another plan, + TELL_LATCH where it is latched now.
TOLD, TELL_LATCH = 4, 8


@inlined
def soonest(wakes, due):  # type: ignore[no-untyped-def]
    """The earlier of ``due`` and the time at which a derived signal changes by itself."""
    if wakes is None:
        return due
    for d in range(len(wakes)):
        due = min(due, wakes[d])
    return due


@inlined
def forget(node_states, wakes):  # type: ignore[no-untyped-def]
    """Put all formulas and derived signals back to their beginning."""
    if node_states is None:
        return
    for k in range(len(node_states)):
        reset(node_states[k])
    for d in range(len(wakes)):
        wakes[d] = _NEVER


@inlined
def derive(derived, t, decided, m, out, n):  # type: ignore[no-untyped-def]
    """Bring derived signals up to date, each after those it is made of: where an input changed, or its time has come."""
    if derived is None:
        return n
    for d in range(len(derived)):
        row = derived[d]
        start = row["node_start"]
        touched = m.wakes[d] <= t
        for k in range(start, start + row["heard"]):
            if m.nodes[k]["op"] == SIGNAL:
                source = m.signals[m.nodes[k]["signal"]]
                if source["count"] != m.node_states[k]["n"] or source["cause"] != m.node_states[k]["cause"]:
                    touched = True
        if not touched:
            continue
        m.wakes[d] = run(start, row["node_len"], m.nodes, m.node_states, m.signals, m.ring, m.table, t)
        m.head[0]["next"] = min(m.head[0]["next"], m.wakes[d])
        root = m.node_states[start + row["node_len"] - 1]
        s = row["signal"]
        signal = m.signals[s]
        known = root["cause"] == NONE
        changed = known and (signal["cause"] != NONE or signal["value"] != root["lo"])
        if root["fresh"] == 0 and not changed and signal["cause"] == root["cause"]:
            continue
        if changed or (root["fresh"] != 0 and root["cause"] != NEVER_RECEIVED):
            signal["count"] += 1
        signal["t"] = t
        signal["cause"] = root["cause"]
        signal["value"] = root["lo"] if known else _NAN
        signal["deadline"] = _NEVER
        if known and m.plan_signals[s]["max_age"] != _NEVER:
            signal["deadline"] = t + m.plan_signals[s]["max_age"]
            m.head[0]["next"] = min(m.head[0]["next"], signal["deadline"])
        n = show(s, t, decided, m, out, n)
        list_readers(s, m)
    return n


@inlined
def fire(limit, decided, m, out, n, room):  # type: ignore[no-untyped-def]
    """Fire every deadline earlier than ``limit``, each at its own time. Answers ``(rows, done)``; not done: out is full."""
    while m.head[0]["next"] < limit:
        due = _NEVER
        for s in range(len(m.signals)):
            due = min(due, m.signals[s]["deadline"])
        for i in range(len(m.states)):
            due = min(due, m.states[i]["due"])
            due = min(due, m.states[i]["wake"])
        due = soonest(m.wakes, due)
        m.head[0]["next"] = due
        if due >= limit:
            break
        if n + room > len(out):
            return n, False
        m.head[0]["now"] = due
        before = n
        for s in range(len(m.signals)):
            if m.signals[s]["deadline"] == due:
                m.signals[s]["deadline"] = _NEVER
                m.signals[s]["cause"] = STALE
                if m.plan_signals[s]["role"] & ROLE_DERIVED == 0:
                    m.signals[s]["lost"] = 1
                    n = emit(out, n, due, decided, INPUT, s, UNKNOWN, STALE, PASS, _NAN, _NAN, _NAN, 0)
                n = show(s, due, decided, m, out, n)
                list_readers(s, m)
        n = derive(m.derived, due, decided, m, out, n)
        for i in range(len(m.states)):
            if m.states[i]["due"] == due or m.states[i]["wake"] == due:
                list_check(i, m)
        n = settle_listed(due, decided, True, m, out, n)
        seal(out, before, n)
    return n, True


@inlined
def jump(t, m, out, n):  # type: ignore[no-untyped-def]
    """The stream stepped back to ``t``: signals become never received, timers are cleared, latches stay."""
    start = n
    before = m.head[0]["now"]
    m.head[0]["jumps"] += 1
    m.head[0]["next"] = _NEVER
    n = emit(out, n, t, t, CLOCK, -1, UNKNOWN, CLOCK_CAUSE, PASS, _NAN, (t - before) / 1e9, _NAN, 0)
    m.head[0]["now"] = t
    for s in range(len(m.signals)):
        signal = m.signals[s]
        signal["deadline"] = _NEVER
        signal["count"] = 0
        signal["cause"] = NEVER_RECEIVED
        signal["lost"] = 0
        n = show(s, t, t, m, out, n)
    forget(m.node_states, m.wakes)
    for i in range(len(m.states)):
        state = m.states[i]
        account(state, m, before)
        state["t_changed"] = t
        state["fail_since"] = _UNSEEN
        state["pass_since"] = _UNSEEN
        state["wake"] = _NEVER
        state["known"] = NO_VERDICT
        n = settle(i, t, t, False, m, out, n)
    return seal(out, start, n)


@inlined
def take(sample, m):  # type: ignore[no-untyped-def]
    """Put one sample in force."""
    s = sample["signal"]
    signal = m.signals[s]
    t = m.head[0]["now"]
    cause = sample["flags"] & FLAG_CAUSE
    if cause == NONE and math.isnan(sample["value"]):
        cause = NAN
    signal["t"] = t
    signal["count"] += 1
    signal["cause"] = cause
    signal["value"] = sample["value"] if cause == NONE else _NAN
    if m.plan_signals[s]["max_age"] != _NEVER:
        signal["deadline"] = t + m.plan_signals[s]["max_age"]
        m.head[0]["next"] = min(m.head[0]["next"], signal["deadline"])
    if signal["listed"] == 0:
        signal["listed"] = 1
        m.signals_listed[m.head[0]["n_signals"]] = s
        m.head[0]["n_signals"] += 1


@inlined
def close(m, out, n):  # type: ignore[no-untyped-def]
    """End an instant: tell watchers, clear latches that a mode change clears, evaluate what was touched."""
    t = m.head[0]["now"]
    start = n
    for k in range(m.head[0]["n_signals"]):
        s = m.signals_listed[k]
        signal = m.signals[s]
        signal["listed"] = 0
        if signal["lost"] != 0:
            signal["lost"] = 0
            n = emit(out, n, t, t, INPUT, s, PASS, NONE, UNKNOWN, _NAN, _NAN, _NAN, 0)
        role = m.plan_signals[s]["role"]
        if role != 0 and signal["cause"] == NONE and signal["shown_cause"] == NONE:
            if role & ROLE_MODE != 0 and signal["value"] != signal["shown"]:
                n = unlatch_all(ON_MODE_CHANGE, t, t, m, out, n)
            if role & ROLE_ACTIVE != 0:
                active = m.plan_signals[s]["active_value"]
                if signal["shown"] == active and signal["value"] != active:
                    n = unlatch_all(ON_MODE_CHANGE, t, t, m, out, n)
                    n = unlatch_all(ON_MISSION_END, t, t, m, out, n)
        n = show(s, t, t, m, out, n)
        list_readers(s, m)
    m.head[0]["n_signals"] = 0
    m.head[0]["open"] = 0
    n = derive(m.derived, t, t, m, out, n)
    n = settle_listed(t, t, False, m, out, n)
    return seal(out, start, n)


@inlined
def show_renewed(t, m, out, n):  # type: ignore[no-untyped-def]
    """Tell the listed signals, which came with another plan (``core.transplant``)."""
    for k in range(m.head[0]["n_signals"]):
        s = m.signals_listed[k]
        signal = m.signals[s]
        signal["listed"] = 0
        if signal["cause"] == STALE and signal["lost"] == 0:  # by the new plan it has been for a while
            if m.plan_signals[s]["role"] & ROLE_DERIVED == 0:
                signal["lost"] = 1
                n = emit(out, n, t, t, INPUT, s, UNKNOWN, STALE, PASS, _NAN, _NAN, _NAN, 0)
            list_readers(s, m)
        n = show(s, t, t, m, out, n)
    m.head[0]["n_signals"] = 0
    return n


@inlined
def tell_renewed(t, m, out, n):  # type: ignore[no-untyped-def]
    """Tell what has become of checks that came with another plan: ``listed`` says what was told of them before."""
    for i in range(len(m.states)):
        state = m.states[i]
        if state["listed"] < TOLD:
            continue
        told = state["listed"] & 3
        latches = state["listed"] & TELL_LATCH != 0
        state["listed"] = 0
        numbers = (state["margin"], state["value"], state["limit"])
        if state["verdict"] != told:
            flags = FLAG_LATCHED if state["latched"] != 0 and not latches else 0
            n = emit(out, n, t, t, CHECK, i, state["verdict"], state["cause"], told, *numbers, flags)
        if latches:
            n = emit(out, n, t, t, LATCH, i, FAIL, NONE, PASS, *numbers, FLAG_LATCHED)
    return n


@inlined
def command(item, kind, m, out, n):  # type: ignore[no-untyped-def]
    """Carry out one command at the time reached. Commands are never dropped: an early one acts now."""
    t = m.head[0]["now"]
    start = n
    derives = False
    if kind == ITEM_RESET_LATCH:
        n = unlatch(item["signal"], t, t, m, out, n)
    elif kind == ITEM_SET_LATCH:
        s = item["signal"]
        if m.checks[s]["latch"] != 0:  # the envelope may have changed since
            m.states[s]["latched"] = 1
            list_check(s, m)
    elif kind == ITEM_MISSION_END:
        n = unlatch_all(ON_MODE_CHANGE, t, t, m, out, n)
        n = unlatch_all(ON_MISSION_END, t, t, m, out, n)
    elif kind == ITEM_RENEWED:
        n = show_renewed(t, m, out, n)
        derives = True
    elif kind == ITEM_SOURCE_STATUS:
        s = item["signal"]
        signal = m.signals[s]
        cause = item["flags"] & FLAG_CAUSE
        if cause != NONE or signal["lost"] != 0:
            if cause == NONE:  # the source is there again: known once it speaks
                cause = NEVER_RECEIVED if signal["count"] == 0 else STALE
            elif signal["lost"] == 0 or signal["cause"] != cause:
                n = emit(out, n, t, t, INPUT, s, UNKNOWN, cause, PASS, _NAN, _NAN, _NAN, 0)
            signal["deadline"] = _NEVER
            signal["cause"] = cause
            signal["lost"] = 1
            n = show(s, t, t, m, out, n)
            list_readers(s, m)
            derives = True
    if derives:
        n = derive(m.derived, t, t, m, out, n)
    n = settle_listed(t, t, False, m, out, n)
    if kind == ITEM_RENEWED:
        n = tell_renewed(t, m, out, n)
    return seal(out, start, n)


@kernel
def advance(items, until, finish, plan, state, formulas, detectors, vectors, out):  # type: ignore[no-untyped-def]
    """Walk ``items`` and then time up to ``until``. Answers ``(items consumed, rows written, status)``.

    ``FULL``: ``out`` cannot hold what one more instant may emit; called again with the rest it goes on. ``STRANGER``: the
    next item names a signal or check that the plan does not have.
    ``finish`` != 0 fires deadlines at ``until`` too. ``plan`` and ``state`` are the buffers of ``core.memory``.
    """
    m = arrays_of(plan, state, formulas, detectors, vectors)
    head = m.head[0]
    room = 2 * len(m.signals) + 3 * len(m.states) + 4
    n = 0
    for k in range(len(items)):
        item = items[k]
        kind = (item["flags"] >> ITEM_SHIFT) & 0xFF
        subjects = len(m.states) if kind == ITEM_RESET_LATCH or kind == ITEM_SET_LATCH else len(m.signals)
        if (item["signal"] < 0 or item["signal"] >= subjects) and kind != ITEM_UNTIL and kind != ITEM_MISSION_END:
            return k, n, STRANGER
        end = kind != ITEM_SAMPLE or (item["flags"] & FLAG_END) != 0
        if head["open"] == 0:
            t = item["t"]
            if head["now"] == _UNSEEN:
                head["now"] = t
                head["first"] = t
            if t < head["now"]:
                if kind != ITEM_SAMPLE:
                    t = head["now"]
                elif head["now"] - t <= JUMP_NS:
                    head["open"] = 2
                else:
                    if n + 2 * room > len(out):
                        return k, n, FULL
                    n = jump(t, m, out, n)
            if head["open"] == 0:
                n, done = fire(t, t, m, out, n, room)
                if not done:
                    return k, n, FULL
                head["now"] = t
                if kind == ITEM_SAMPLE:
                    head["open"] = 1
        if n + room > len(out):
            return k, n, FULL
        if kind == ITEM_UNTIL:
            continue
        if kind != ITEM_SAMPLE:
            n = command(item, kind, m, out, n)
            continue
        if head["open"] == 2:
            head["dropped"] += 1
            if end:
                head["open"] = 0
            continue
        head["samples"] += 1
        take(item, m)
        if end:
            n = close(m, out, n)
    if until > head["now"] or (finish != 0 and until == head["now"]):
        if head["now"] == _UNSEEN:
            head["now"] = until
            head["first"] = until
        n, done = fire(until + finish, until, m, out, n, room)
        if not done:
            return len(items), n, FULL
        head["now"] = until
    return len(items), n, DONE
