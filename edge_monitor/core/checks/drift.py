"""``drift``: a detector on one signal, under the reference of the mode that another signal tells.

State: ``n0`` time of the last known sample, ``n1`` samples seen, ``n2`` values since the likeliest change (FOCuS); the
rest is the pipeline's, in the pool.
"""

from __future__ import annotations

import math

from ..check_spec import CheckSpec
from ..drift import vector
from ..drift.focus import SINCE
from ..drift.pipeline import (
    ADWIN,
    ALARM,
    BLOCK_NS,
    DETECTOR,
    DETECTORS,
    DIMENSIONS,
    EDETECTOR,
    FOCUS,
    GAP_NS,
    HEAD,
    MAHALANOBIS,
    MMD,
    MODE,
    MODES,
    MULTINOMIAL,
    PARAMS,
    READY,
    RESOLVE,
    ROW,
    STATE,
    STRIDE,
    VALUE,
    absorb,
    forget_lags,
    start_block,
)
from ..elementary import log10
from ..jit import inlined, outlined
from ..samples import UNSEEN, Cause, Verdict

PASS, UNKNOWN, FAIL = int(Verdict.PASS), int(Verdict.UNKNOWN), int(Verdict.FAIL)
NONE, WARMING, DEPENDENCY = int(Cause.NONE), int(Cause.WARMING), int(Cause.DEPENDENCY)
_UNSEEN = int(UNSEEN)
_NAN = math.nan


@inlined
def reference_row(check, signals, table, start):  # type: ignore[no-untyped-def]
    """``(place, cause)`` of the reference in the table that counts in the mode in force; unknown: the mode is, or has none."""
    row = start + HEAD
    if check["b"] < 0:
        return row, NONE
    mode = signals[check["b"]]
    if mode["cause"] != NONE:
        return row, mode["cause"]
    for _ in range(int(table[start + MODES])):
        if table[row + MODE] == mode["value"]:
            return row, NONE
        row += int(table[start + STRIDE])
    return row, DEPENDENCY


@inlined
def arrive(state, t, table, start, pool, q):  # type: ignore[no-untyped-def]
    """Something known comes at ``t``: after a gap there is nothing to difference it with, after a long one no block."""
    if state["n0"] != _UNSEEN:
        gap = float(t - state["n0"])
        if gap > table[start + GAP_NS]:
            forget_lags(pool, q)
            if gap > table[start + BLOCK_NS]:
                start_block(pool, q)
    state["n0"] = t


@inlined
def judged(state, table, start, row, pool, q):  # type: ignore[no-untyped-def]
    """What the statistic in force says, where signal and mode are known."""
    if pool[q + READY] == 0:
        return UNKNOWN, WARMING, _NAN, _NAN, _NAN
    value = pool[q + VALUE]
    limit = table[row + PARAMS]
    detector = table[start + DETECTOR]
    evidence = detector == EDETECTOR or detector == MULTINOMIAL or detector == MAHALANOBIS
    if evidence:
        value = log10(value) if value > 1.0 else 0.0
        limit = log10(limit)
    alarm = pool[q + ALARM] != 0
    state["n2"] = int(pool[q + STATE + SINCE]) if detector == FOCUS else 0
    whole = limit
    if state["known"] == FAIL and not alarm:
        limit = limit * table[start + RESOLVE]
        alarm = value > limit
    margin = limit - value
    if not evidence:
        margin /= whole
    if alarm and margin > 0:  # ADWIN's and KSWIN's limits are decisions, not numbers
        margin = 0.0
    return FAIL if alarm else PASS, NONE, margin, value, limit


@outlined
def drift(check, state, signals, table, pool):  # type: ignore[no-untyped-def]
    """FAIL from the end of the block that raised the alarm until the statistic lies below ``resolve`` of the threshold.

    The value is the statistic and the margin its relative distance to the limit; for the e-detectors the value is
    log10 of the evidence (at least 0) and the margin is in decades. Unknown: the signal or the mode is, the mode has no
    reference (``dependency``), or no block has ended since the start, a change of mode or a long gap (``warming``).
    """
    signal = signals[check["a"]]
    start = check["table_start"]
    q = check["pool_start"]
    if signal["count"] == 0:
        for i in range(check["pool_len"]):
            pool[q + i] = 0.0
        state["n0"] = _UNSEEN
        state["n1"] = 0
        return UNKNOWN, signal["cause"], _NAN, _NAN, _NAN
    row, cause = reference_row(check, signals, table, start)
    if cause == NONE and pool[q + ROW] != row - start:
        pool[q + ROW] = float(row - start)
        start_block(pool, q)
    if signal["count"] != state["n1"]:
        state["n1"] = signal["count"]
        if signal["cause"] != NONE or cause != NONE:
            forget_lags(pool, q)
        else:
            arrive(state, signal["t"], table, start, pool, q)
            absorb(signal["value"], table, start, row, pool, q)
    if signal["cause"] != NONE:
        return UNKNOWN, signal["cause"], _NAN, _NAN, _NAN
    if cause != NONE:
        return UNKNOWN, cause, _NAN, _NAN, _NAN
    return judged(state, table, start, row, pool, q)


def lower_table(spec: CheckSpec) -> tuple[float, ...]:
    """The check's table, as :func:`edge_monitor.core.drift.pipeline.pack` made it.

    Raises ``ValueError`` where it is none, or where the check has what drift checks don't (``fail_for``).
    """
    table = spec.table
    if len(table) < HEAD + PARAMS or table[DETECTOR] not in DETECTORS.values():
        raise ValueError(f"check {spec.name}: has no reference table")
    if len(table) != HEAD + int(table[MODES]) * int(table[STRIDE]) or not all(map(math.isfinite, table)):
        raise ValueError(f"check {spec.name}: its reference table is damaged")
    dimensions = int(table[DIMENSIONS])
    if table[DETECTOR] in (MAHALANOBIS, MMD):
        if not vector.fits(table):
            raise ValueError(f"check {spec.name}: its reference table is damaged")
    elif dimensions:
        raise ValueError(f"check {spec.name}: its detector looks at one signal, and its reference is of {dimensions}")
    of = dimensions or 1
    if not of <= len(spec.signals) <= of + 1:
        raise ValueError(f"check {spec.name}: has {len(spec.signals)} signals, and its reference is of {of}")
    if len(spec.signals) == of and table[MODES] != 1:
        raise ValueError(f"check {spec.name}: its reference has several modes, and there is no `mode` signal")
    if spec.fail_for:
        raise ValueError(f"check {spec.name}: an alarm is an instant, so `fail_for` has no meaning here")
    if table[DETECTOR] != ADWIN and not table[HEAD + PARAMS] > 0:
        raise ValueError(f"check {spec.name}: the threshold must be above 0")
    return table
