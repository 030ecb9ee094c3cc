"""One kernel that calls the family of a check by its code. A new kind adds a code here and a line in ``evaluate``."""

from __future__ import annotations

import math

from ..drift.pipeline import DIMENSIONS
from ..jit import inlined
from ..samples import Cause, Verdict
from .bounds import bounds, one_of, rate, valid
from .drift import drift
from .relations import agreement, geofence
from .temporal import formula
from .timing import frequency, jitter, stale
from .vector_drift import vector_drift

BOUNDS, RATE, ONE_OF, VALID, STALE, FREQUENCY, JITTER, AGREEMENT, GEOFENCE, DRIFT, FORMULA = range(11)

_UNKNOWN, _DEPENDENCY = int(Verdict.UNKNOWN), int(Cause.DEPENDENCY)
_NAN = math.nan


@inlined
def one_or_several(check, state, signals, table, pool, vectors):  # type: ignore[no-untyped-def]
    """``drift`` of one signal, or, where the plan has checks of several at once, of a vector."""
    if vectors is None:
        return drift(check, state, signals, table, pool)
    if table[check["table_start"] + DIMENSIONS] != 0:
        return vector_drift(check, state, signals, table, pool)
    return drift(check, state, signals, table, pool)


@inlined
def detected(check, state, signals, table, pool, vectors):  # type: ignore[no-untyped-def]
    """``drift``, where the plan has detectors at all."""
    if pool is None:
        return _UNKNOWN, _DEPENDENCY, _NAN, _NAN, _NAN
    return one_or_several(check, state, signals, table, pool, vectors)


@inlined
def evaluate(check, state, m, now, after):  # type: ignore[no-untyped-def]
    """What the check says of the values in force at ``now``: ``(verdict, cause, margin, value, limit)``."""
    code = check["code"]
    if code == BOUNDS:
        return bounds(check, state, m.signals)
    elif code == STALE:
        return stale(check, state, m.signals, now, after)
    elif code == RATE:
        return rate(check, state, m.signals)
    elif code == FREQUENCY:
        return frequency(check, state, m.signals, m.ring, now, after)
    elif code == JITTER:
        return jitter(check, state, m.signals, m.ring, now, after)
    elif code == AGREEMENT:
        return agreement(check, state, m.signals)
    elif code == ONE_OF:
        return one_of(check, m.signals, m.table)
    elif code == VALID:
        return valid(check, m.signals)
    elif code == GEOFENCE:
        return geofence(check, m.signals, m.table)
    elif code == FORMULA:
        return formula(check, state, m.signals, m.ring, m.table, m.nodes, m.node_states, now)
    elif code == DRIFT:
        return detected(check, state, m.signals, m.table, m.pool, m.vectors)
    return _UNKNOWN, _DEPENDENCY, _NAN, _NAN, _NAN
