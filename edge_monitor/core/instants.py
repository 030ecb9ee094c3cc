"""What an instant does to checks: evaluate, debounce, latch, account, and write down what changed (SEMANTICS §2)."""

from __future__ import annotations

import math

from .checks.dispatch import DRIFT, evaluate
from .jit import inlined
from .samples import FLAG_INSTANT_END, FLAG_LATCHED, NEVER, UNSEEN, Cause, TransitionKind, Verdict

PASS, UNKNOWN, FAIL = int(Verdict.PASS), int(Verdict.UNKNOWN), int(Verdict.FAIL)
NONE, WARMING = int(Cause.NONE), int(Cause.WARMING)
CHECK, VALUE, LATCH = int(TransitionKind.CHECK), int(TransitionKind.VALUE), int(TransitionKind.LATCH)
_NEVER, _UNSEEN = int(NEVER), int(UNSEEN)
_NAN = math.nan


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
    row["onset"] = 0
    return n + 1


@inlined
def seal(out, before, n):  # type: ignore[no-untyped-def]
    """Mark the last row that an instant wrote, so that gates see an instant whole however the stream is cut."""
    if n > before:
        out[n - 1]["flags"] |= FLAG_INSTANT_END
    return n


@inlined
def account(state, m, t):  # type: ignore[no-untyped-def]
    """Book the time since the last change on the verdict that ends at ``t``."""
    since = state["t_changed"]
    if since == _UNSEEN:
        since = m.head[0]["first"]
    if state["verdict"] == FAIL:
        state["fail_ns"] += t - since
    elif state["verdict"] == UNKNOWN:
        state["unknown_ns"] += t - since
    state["t_changed"] = t


@inlined
def settle(i, t, decided, after, m, out, n):  # type: ignore[no-untyped-def]
    """Evaluate check ``i`` at ``t``, debounce, latch, and write a transition where the verdict changed."""
    check = m.checks[i]
    state = m.states[i]
    raw, cause, margin, value, limit = evaluate(check, state, m, t, after)
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
    m.head[0]["next"] = min(m.head[0]["next"], state["due"], state["wake"])
    if verdict != old:
        account(state, m, t)
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
        if verdict == FAIL and check["code"] == DRIFT:
            out[n - 1]["onset"] = state["n2"]
        if verdict == FAIL and check["latch"] != 0 and state["latched"] == 0:
            state["latched"] = 1
            n = emit(out, n, t, decided, LATCH, i, FAIL, NONE, PASS, margin, value, limit, FLAG_LATCHED)
    return n


@inlined
def list_check(i, m):  # type: ignore[no-untyped-def]
    """Put a check on the open instant's list, once, keeping the list in ascending order."""
    if m.states[i]["listed"] != 0:
        return
    m.states[i]["listed"] = 1
    k = m.head[0]["n_checks"]
    while k > 0 and m.checks_listed[k - 1] > i:
        m.checks_listed[k] = m.checks_listed[k - 1]
        k -= 1
    m.checks_listed[k] = i
    m.head[0]["n_checks"] += 1


@inlined
def list_readers(s, m):  # type: ignore[no-untyped-def]
    start = m.plan_signals[s]["refs_start"]
    for k in range(start, start + m.plan_signals[s]["refs_len"]):
        list_check(m.refs[k], m)


@inlined
def settle_listed(t, decided, after, m, out, n):  # type: ignore[no-untyped-def]
    for k in range(m.head[0]["n_checks"]):
        i = m.checks_listed[k]
        m.states[i]["listed"] = 0
        n = settle(i, t, decided, after, m, out, n)
    m.head[0]["n_checks"] = 0
    return n


@inlined
def unlatch(i, t, decided, m, out, n):  # type: ignore[no-untyped-def]
    """Release a latch whose condition has cleared, and restart the check's timers."""
    state = m.states[i]
    if state["latched"] == 0 or state["known"] != PASS or state["raw"] != PASS:
        return n
    state["latched"] = 0
    state["fail_since"] = _UNSEEN
    state["pass_since"] = _UNSEEN
    list_check(i, m)
    return emit(out, n, t, decided, LATCH, i, PASS, NONE, FAIL, state["margin"], state["value"], state["limit"], 0)


@inlined
def unlatch_all(which, t, decided, m, out, n):  # type: ignore[no-untyped-def]
    for i in range(len(m.checks)):
        if m.checks[i]["latch"] == which:
            n = unlatch(i, t, decided, m, out, n)
    return n


@inlined
def show(s, t, decided, m, out, n):  # type: ignore[no-untyped-def]
    """Tell watchers of a signal its new value, or that it has none."""
    signal = m.signals[s]
    watch = m.plan_signals[s]["watch"]
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
