"""One kernel that calls the family of a check by its code. A new kind adds a code here and a line in ``evaluate``."""

from __future__ import annotations

import math

from ..jit import inlined
from ..samples import Cause, Verdict
from .bounds import bounds, one_of, rate, valid
from .drift import drift
from .relations import agreement, geofence
from .timing import frequency, jitter, stale

BOUNDS, RATE, ONE_OF, VALID, STALE, FREQUENCY, JITTER, AGREEMENT, GEOFENCE, DRIFT = range(10)

_UNKNOWN, _DEPENDENCY = int(Verdict.UNKNOWN), int(Cause.DEPENDENCY)
_NAN = math.nan


@inlined
def evaluate(check, state, signals, table, ring, pool, now, after):  # type: ignore[no-untyped-def]
    """What the check says of the values in force at ``now``: ``(verdict, cause, margin, value, limit)``."""
    code = check["code"]
    if code == BOUNDS:
        return bounds(check, state, signals)
    elif code == STALE:
        return stale(check, state, signals, now, after)
    elif code == RATE:
        return rate(check, state, signals)
    elif code == FREQUENCY:
        return frequency(check, state, signals, ring, now, after)
    elif code == JITTER:
        return jitter(check, state, signals, ring, now, after)
    elif code == AGREEMENT:
        return agreement(check, state, signals)
    elif code == ONE_OF:
        return one_of(check, signals, table)
    elif code == VALID:
        return valid(check, signals)
    elif code == GEOFENCE:
        return geofence(check, signals, table)
    elif pool is not None:  # noqa: SIM102
        # A plan without detectors hands over no pool, and its kernel compiles without this branch (13 s instead of 34).
        if code == DRIFT:
            return drift(check, state, signals, table, pool)
    return _UNKNOWN, _DEPENDENCY, _NAN, _NAN, _NAN
