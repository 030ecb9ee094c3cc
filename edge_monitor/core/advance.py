"""The engine's kernel: one ordered stream in, transitions out. All rules of time are here (SEMANTICS §1 and §2).

An *instant* is the samples of one message, or one command. Before an instant at ``t`` all deadlines earlier than ``t``
fire, each at its own time; checks that the instant touched are evaluated once, at its end, in order of their index.
``next`` in the head is a lower bound of all deadlines: pushing a deadline back leaves it alone, and the rows are only
searched when time passes it, which is why a sample costs no search.
"""

from __future__ import annotations

import math

from .checks.dispatch import evaluate
from .jit import inlined, kernel
from .samples import (
    FLAG_CAUSE,
    FLAG_END,
    FLAG_INSTANT_END,
    FLAG_LATCHED,
    ITEM_MISSION_END,
    ITEM_RESET_LATCH,
    ITEM_SAMPLE,
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
NAN, WARMING, CLOCK_CAUSE = int(Cause.NAN), int(Cause.WARMING), int(Cause.CLOCK)
CHECK, INPUT, VALUE = int(TransitionKind.CHECK), int(TransitionKind.INPUT), int(TransitionKind.VALUE)
CLOCK, LATCH = int(TransitionKind.CLOCK), int(TransitionKind.LATCH)
ON_MODE_CHANGE, ON_MISSION_END, MANUAL = int(Latch.ON_MODE_CHANGE), int(Latch.ON_MISSION_END), int(Latch.MANUAL)
ROLE_MODE, ROLE_ACTIVE = 1, 2
_NEVER, _UNSEEN = int(NEVER), int(UNSEEN)
_NAN = math.nan

#: A step back of at most this is disorder (the item is dropped and counted); a larger one is a clock jump.
JUMP_NS = 1_000_000_000
NO_VERDICT = -1
DONE, FULL, STRANGER = 0, 1, 2


@inlined
def emit(out, n, t, decided, kind, subject, verdict, cause, previous, margin, value, limit, flags):  # type: ignore[no-untyped-def]
    row = out[n]
    row["t_effective"] = t
    row["t_decided"] = decided
    row["kind"] = kind
    row["subject"] = subject
    row["verdict"] = verdict
    row["cause"] = cause
    row["previous"] = previous
    row["margin"] = margin
    row["value"] = value
    row["limit"] = limit
    row["flags"] = flags
    row["reserved"] = 0
    return n + 1


@inlined
def seal(out, before, n):  # type: ignore[no-untyped-def]
    """Mark the last row that an instant wrote, so that gates see an instant whole however the stream is cut."""
    if n > before:
        out[n - 1]["flags"] |= FLAG_INSTANT_END
    return n


@inlined
def account(state, head, t):  # type: ignore[no-untyped-def]
    """Book the time since the last change on the verdict that ends at ``t``."""
    since = state["t_changed"]
    if since == _UNSEEN:
        since = head["first"]
    if state["verdict"] == FAIL:
        state["fail_ns"] += t - since
    elif state["verdict"] == UNKNOWN:
        state["unknown_ns"] += t - since
    state["t_changed"] = t


@inlined
def settle(i, t, decided, after, head, checks, states, signals, table, ring, pool, out, n):  # type: ignore[no-untyped-def]
    """Evaluate check ``i`` at ``t``, debounce, latch, and write a transition where the verdict changed."""
    check = checks[i]
    state = states[i]
    raw, cause, margin, value, limit = evaluate(check, state, signals, table, ring, pool, t, after)
    state["raw"] = raw
    state["margin"] = margin
    state["value"] = value
    state["limit"] = limit
    depth = margin
    if state["known"] == FAIL and not math.isinf(margin):  # how bad it was is measured from the limit, not from `leave`
        if limit == check["leave_max"]:
            depth += check["max"] - check["leave_max"]
        elif limit == check["leave_min"]:
            depth += check["leave_min"] - check["min"]
    if depth < state["worst"]:
        state["worst"] = depth
        state["worst_t"] = t
    old = state["verdict"]
    verdict = UNKNOWN
    state["due"] = _NEVER
    if raw == UNKNOWN:
        # A gap neither resets a pending failure nor earns a pass.
        state["pass_since"] = _UNSEEN
    elif raw == FAIL:
        state["pass_since"] = _UNSEEN
        if state["known"] != FAIL:
            if state["fail_since"] == _UNSEEN:
                state["fail_since"] = t
            if t - state["fail_since"] >= check["fail_for"]:
                state["known"] = FAIL
            else:
                state["due"] = state["fail_since"] + check["fail_for"]
        if state["known"] == FAIL:
            verdict = FAIL
            state["fail_since"] = _UNSEEN
        elif old == PASS:
            verdict = PASS
        else:
            cause = WARMING
    else:
        state["fail_since"] = _UNSEEN
        if state["known"] == FAIL:
            if state["pass_since"] == _UNSEEN:
                state["pass_since"] = t
            if t - state["pass_since"] >= check["pass_for"]:
                state["known"] = PASS
            else:
                state["due"] = state["pass_since"] + check["pass_for"]
        else:
            state["known"] = PASS
        verdict = state["known"]
    if state["latched"] != 0:
        verdict = FAIL
    state["cause"] = cause if verdict == UNKNOWN else NONE
    soonest = min(state["due"], state["wake"])
    head["next"] = min(head["next"], soonest)
    if verdict != old:
        account(state, head, t)
        state["verdict"] = verdict
        if verdict == FAIL:
            state["fails"] += 1
        n = emit(
            out,
            n,
            t,
            decided,
            CHECK,
            i,
            verdict,
            cause,
            old,
            margin,
            value,
            limit,
            FLAG_LATCHED if state["latched"] != 0 else 0,
        )
        if verdict == FAIL and check["latch"] != 0 and state["latched"] == 0:
            state["latched"] = 1
            n = emit(out, n, t, decided, LATCH, i, FAIL, NONE, PASS, margin, value, limit, FLAG_LATCHED)
    return n


@inlined
def list_check(i, head, states, checks_listed):  # type: ignore[no-untyped-def]
    """Put a check on the open instant's list, once, keeping the list in ascending order."""
    if states[i]["listed"] != 0:
        return
    states[i]["listed"] = 1
    k = head["n_checks"]
    while k > 0 and checks_listed[k - 1] > i:
        checks_listed[k] = checks_listed[k - 1]
        k -= 1
    checks_listed[k] = i
    head["n_checks"] += 1


@inlined
def list_readers(s, head, plan_signals, refs, states, checks_listed):  # type: ignore[no-untyped-def]
    start = plan_signals[s]["refs_start"]
    for k in range(start, start + plan_signals[s]["refs_len"]):
        list_check(refs[k], head, states, checks_listed)


@inlined
def settle_listed(t, decided, after, head, checks, states, signals, table, ring, pool, checks_listed, out, n):  # type: ignore[no-untyped-def]
    for k in range(head["n_checks"]):
        i = checks_listed[k]
        states[i]["listed"] = 0
        n = settle(i, t, decided, after, head, checks, states, signals, table, ring, pool, out, n)
    head["n_checks"] = 0
    return n


@inlined
def unlatch(i, t, decided, head, states, checks_listed, out, n):  # type: ignore[no-untyped-def]
    """Release a latch whose condition has cleared, and restart the check's timers."""
    state = states[i]
    if state["latched"] == 0 or state["known"] != PASS or state["raw"] != PASS:
        return n
    state["latched"] = 0
    state["fail_since"] = _UNSEEN
    state["pass_since"] = _UNSEEN
    list_check(i, head, states, checks_listed)
    return emit(out, n, t, decided, LATCH, i, PASS, NONE, FAIL, state["margin"], state["value"], state["limit"], 0)


@inlined
def unlatch_all(which, t, decided, head, checks, states, checks_listed, out, n):  # type: ignore[no-untyped-def]
    for i in range(len(checks)):
        if checks[i]["latch"] == which:
            n = unlatch(i, t, decided, head, states, checks_listed, out, n)
    return n


@inlined
def show(s, t, decided, plan_signals, signals, out, n):  # type: ignore[no-untyped-def]
    """Tell watchers of a signal its new value, or that it has none."""
    signal = signals[s]
    watch = plan_signals[s]["watch"]
    if watch == 0:
        return n
    changed = signal["cause"] != signal["shown_cause"] or (
        signal["cause"] == NONE and signal["value"] != signal["shown"]
    )
    if changed or (watch == 2 and signal["cause"] == NONE):
        known = signal["cause"] == NONE
        n = emit(
            out, n, t, decided, VALUE, s, PASS if known else UNKNOWN, signal["cause"],
            PASS if signal["shown_cause"] == NONE else UNKNOWN, _NAN, signal["value"] if known else _NAN, signal["shown"], 0,
        )  # fmt: skip
        signal["shown_cause"] = signal["cause"]
        signal["shown"] = signal["value"]
    return n


@inlined
def fire(
    limit, decided, head, plan_signals, checks, refs, table, signals, states, ring, pool, checks_listed, out, n, room
):  # type: ignore[no-untyped-def]
    """Fire every deadline earlier than ``limit``, each at its own time. Answers ``(rows, done)``; not done: out is full."""
    while head["next"] < limit:
        due = _NEVER
        for s in range(len(signals)):
            due = min(due, signals[s]["deadline"])
        for i in range(len(states)):
            due = min(due, states[i]["due"])
            due = min(due, states[i]["wake"])
        head["next"] = due
        if due >= limit:
            break
        if n + room > len(out):
            return n, False
        head["now"] = due
        before = n
        for s in range(len(signals)):
            if signals[s]["deadline"] == due:
                signals[s]["deadline"] = _NEVER
                signals[s]["cause"] = STALE
                signals[s]["lost"] = 1
                n = emit(out, n, due, decided, INPUT, s, UNKNOWN, STALE, PASS, _NAN, _NAN, _NAN, 0)
                n = show(s, due, decided, plan_signals, signals, out, n)
                list_readers(s, head, plan_signals, refs, states, checks_listed)
        for i in range(len(states)):
            if states[i]["due"] == due or states[i]["wake"] == due:
                list_check(i, head, states, checks_listed)
        n = settle_listed(due, decided, True, head, checks, states, signals, table, ring, pool, checks_listed, out, n)
        seal(out, before, n)
    return n, True


@inlined
def jump(t, head, plan_signals, checks, table, signals, states, ring, pool, out, n):  # type: ignore[no-untyped-def]
    """The stream stepped back to ``t``: signals become never received, timers are cleared, latches stay."""
    start = n
    before = head["now"]
    head["jumps"] += 1
    head["next"] = _NEVER
    n = emit(out, n, t, t, CLOCK, -1, UNKNOWN, CLOCK_CAUSE, PASS, _NAN, (t - before) / 1e9, _NAN, 0)
    head["now"] = t
    for s in range(len(signals)):
        signal = signals[s]
        signal["deadline"] = _NEVER
        signal["count"] = 0
        signal["cause"] = NEVER_RECEIVED
        signal["lost"] = 0
        n = show(s, t, t, plan_signals, signals, out, n)
    for i in range(len(states)):
        state = states[i]
        account(state, head, before)
        state["t_changed"] = t
        state["fail_since"] = _UNSEEN
        state["pass_since"] = _UNSEEN
        state["wake"] = _NEVER
        state["known"] = NO_VERDICT
        n = settle(i, t, t, False, head, checks, states, signals, table, ring, pool, out, n)
    return seal(out, start, n)


@inlined
def take(sample, head, plan_signals, signals, signals_listed):  # type: ignore[no-untyped-def]
    """Put one sample in force."""
    s = sample["signal"]
    signal = signals[s]
    t = head["now"]
    cause = sample["flags"] & FLAG_CAUSE
    if cause == NONE and math.isnan(sample["value"]):
        cause = NAN
    signal["t"] = t
    signal["count"] += 1
    signal["cause"] = cause
    signal["value"] = sample["value"] if cause == NONE else _NAN
    if plan_signals[s]["max_age"] != _NEVER:
        signal["deadline"] = t + plan_signals[s]["max_age"]
        head["next"] = min(head["next"], signal["deadline"])
    if signal["listed"] == 0:
        signal["listed"] = 1
        signals_listed[head["n_signals"]] = s
        head["n_signals"] += 1


@inlined
def close(head, plan_signals, checks, refs, table, signals, states, ring, pool, signals_listed, checks_listed, out, n):  # type: ignore[no-untyped-def]
    """End an instant: tell watchers, clear latches that a mode change clears, evaluate what was touched."""
    t = head["now"]
    start = n
    for k in range(head["n_signals"]):
        s = signals_listed[k]
        signal = signals[s]
        signal["listed"] = 0
        if signal["lost"] != 0:
            signal["lost"] = 0
            n = emit(out, n, t, t, INPUT, s, PASS, NONE, UNKNOWN, _NAN, _NAN, _NAN, 0)
        role = plan_signals[s]["role"]
        if role != 0 and signal["cause"] == NONE and signal["shown_cause"] == NONE:
            if role & ROLE_MODE != 0 and signal["value"] != signal["shown"]:
                n = unlatch_all(ON_MODE_CHANGE, t, t, head, checks, states, checks_listed, out, n)
            if role & ROLE_ACTIVE != 0:
                active = plan_signals[s]["active_value"]
                if signal["shown"] == active and signal["value"] != active:
                    n = unlatch_all(ON_MODE_CHANGE, t, t, head, checks, states, checks_listed, out, n)
                    n = unlatch_all(ON_MISSION_END, t, t, head, checks, states, checks_listed, out, n)
        n = show(s, t, t, plan_signals, signals, out, n)
        list_readers(s, head, plan_signals, refs, states, checks_listed)
    head["n_signals"] = 0
    head["open"] = 0
    n = settle_listed(t, t, False, head, checks, states, signals, table, ring, pool, checks_listed, out, n)
    return seal(out, start, n)


@inlined
def command(item, kind, head, plan_signals, checks, refs, table, signals, states, ring, pool, checks_listed, out, n):  # type: ignore[no-untyped-def]
    """Carry out one command at the time reached. Commands are never dropped: an early one acts now."""
    t = head["now"]
    start = n
    if kind == ITEM_RESET_LATCH:
        n = unlatch(item["signal"], t, t, head, states, checks_listed, out, n)
    elif kind == ITEM_MISSION_END:
        n = unlatch_all(ON_MODE_CHANGE, t, t, head, checks, states, checks_listed, out, n)
        n = unlatch_all(ON_MISSION_END, t, t, head, checks, states, checks_listed, out, n)
    elif kind == ITEM_SOURCE_STATUS:
        s = item["signal"]
        signal = signals[s]
        cause = item["flags"] & FLAG_CAUSE
        if cause != NONE or signal["lost"] != 0:
            if cause == NONE:  # the source is there again: known once it speaks
                cause = NEVER_RECEIVED if signal["count"] == 0 else STALE
            elif signal["lost"] == 0 or signal["cause"] != cause:
                n = emit(out, n, t, t, INPUT, s, UNKNOWN, cause, PASS, _NAN, _NAN, _NAN, 0)
            signal["deadline"] = _NEVER
            signal["cause"] = cause
            signal["lost"] = 1
            n = show(s, t, t, plan_signals, signals, out, n)
            list_readers(s, head, plan_signals, refs, states, checks_listed)
    n = settle_listed(t, t, False, head, checks, states, signals, table, ring, pool, checks_listed, out, n)
    return seal(out, start, n)


@kernel
def advance(items, until, finish, plan_signals, checks, refs, table, head_row, signals, states, ring, pool, lists, out):  # type: ignore[no-untyped-def]
    """Walk ``items`` and then time up to ``until``. Answers ``(items consumed, rows written, status)``.

    ``FULL``: ``out`` cannot hold what one more instant may emit; called again with the rest it goes on. ``STRANGER``: the
    next item names a signal or check that the plan does not have.
    ``finish`` != 0 fires deadlines at ``until`` too. ``lists`` is room for the open instant: signals, then checks.
    """
    head = head_row[0]
    signals_listed = lists[: len(signals)]
    checks_listed = lists[len(signals) :]
    room = 2 * len(signals) + 3 * len(states) + 4
    n = 0
    for k in range(len(items)):
        item = items[k]
        kind = (item["flags"] >> ITEM_SHIFT) & 0xFF
        subjects = len(states) if kind == ITEM_RESET_LATCH else len(signals)
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
                    n = jump(t, head, plan_signals, checks, table, signals, states, ring, pool, out, n)
            if head["open"] == 0:
                n, done = fire(
                    t,
                    t,
                    head,
                    plan_signals,
                    checks,
                    refs,
                    table,
                    signals,
                    states,
                    ring,
                    pool,
                    checks_listed,
                    out,
                    n,
                    room,
                )
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
            n = command(
                item, kind, head, plan_signals, checks, refs, table, signals, states, ring, pool, checks_listed, out, n
            )
            continue
        if head["open"] == 2:
            head["dropped"] += 1
            if end:
                head["open"] = 0
            continue
        head["samples"] += 1
        take(item, head, plan_signals, signals, signals_listed)
        if end:
            n = close(
                head,
                plan_signals,
                checks,
                refs,
                table,
                signals,
                states,
                ring,
                pool,
                signals_listed,
                checks_listed,
                out,
                n,
            )
    if until > head["now"] or (finish != 0 and until == head["now"]):
        if head["now"] == _UNSEEN:
            head["now"] = until
            head["first"] = until
        n, done = fire(
            until + finish,
            until,
            head,
            plan_signals,
            checks,
            refs,
            table,
            signals,
            states,
            ring,
            pool,
            checks_listed,
            out,
            n,
            room,
        )
        if not done:
            return len(items), n, FULL
        head["now"] = until
    return len(items), n, DONE
