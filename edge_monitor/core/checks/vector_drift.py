"""``drift`` over several signals at once: which values make up a row, and what its detector says.

State: ``n0`` time of the last known row; the rest is the pipeline's, in the pool. The indices of the signals stand at the end
of the check's numbers.
"""

from __future__ import annotations

import math

from ..drift.pipeline import DIMENSIONS, ROW, STATE, forget_lags
from ..drift.vector import SEEN, VALUES, absorb_row, enter_mode
from ..jit import inlined, outlined
from ..samples import UNSEEN, Cause, Verdict
from .drift import arrive, judged, reference_row

UNKNOWN = int(Verdict.UNKNOWN)
NONE = int(Cause.NONE)
_UNSEEN = int(UNSEEN)
_NAN = math.nan


@inlined
def take_row(signals, table, inputs, n, pool, q):  # type: ignore[no-untyped-def]
    """Put the values in force into the pool: ``(cause, a signal was never received, all have a new sample, time)``.

    ``cause``: of the first signal that is unknown.
    """
    values = q + STATE + VALUES * n
    seen = q + STATE + SEEN * n
    cause = NONE
    unreceived = False
    complete = True
    t = _UNSEEN
    for i in range(n):
        signal = signals[int(table[inputs + i])]
        if cause == NONE:
            cause = signal["cause"]
        unreceived = unreceived or signal["count"] == 0
        complete = complete and signal["count"] != pool[seen + i]
        t = max(t, signal["t"])
        pool[values + i] = signal["value"] if signal["cause"] == NONE else 0.0
    if complete:
        for i in range(n):
            pool[seen + i] = float(signals[int(table[inputs + i])]["count"])
    return cause, unreceived, complete, t


@outlined
def vector_drift(check, state, signals, table, pool):  # type: ignore[no-untyped-def]
    """As ``drift``, of a vector. A row are the values in force at the end of the first instant by which *every* signal
    has had a new sample since the last row; it is missing where one of them is unknown then.

    Unknown: one of the signals is (the first one's cause), or what makes ``drift`` unknown.
    """
    start = check["table_start"]
    q = check["pool_start"]
    n = int(table[start + DIMENSIONS])
    unknown, unreceived, complete, t = take_row(signals, table, start + check["table_len"] - n, n, pool, q)
    if unreceived:
        for i in range(check["pool_len"]):
            pool[q + i] = 0.0
        state["n0"] = _UNSEEN
        return UNKNOWN, unknown, _NAN, _NAN, _NAN
    row, cause = reference_row(check, signals, table, start)
    if cause == NONE and pool[q + ROW] != row - start:
        pool[q + ROW] = float(row - start)
        enter_mode(table, start, pool, q)
    if complete:
        if unknown != NONE or cause != NONE:
            forget_lags(pool, q)
        else:
            arrive(state, t, table, start, pool, q)
            absorb_row(table, start, row, pool, q)
    if unknown != NONE:
        return UNKNOWN, unknown, _NAN, _NAN, _NAN
    if cause != NONE:
        return UNKNOWN, cause, _NAN, _NAN, _NAN
    return judged(state, table, start, row, pool, q)
