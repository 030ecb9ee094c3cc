"""Samples as the walkers write them."""

from __future__ import annotations

import math

from ..jit import inlined
from ..samples import FLAG_CAUSE, Cause

_NONE, _INVALID = int(Cause.NONE), int(Cause.INVALID)
_NAN = math.nan


@inlined
def put(out, at, t, op, value, cause):  # type: ignore[no-untyped-def]
    """Write the sample of instruction ``op`` into row ``at`` of ``out``; a cause in its flags outranks ``cause``."""
    scale, offset, flags = op["scale"], op["offset"], op["flags"]
    if scale != 1.0 or offset != 0.0:
        value = value * scale + offset
    if cause != _NONE and flags & FLAG_CAUSE == _NONE:
        flags |= cause
    row = out[at]
    row["t"] = t
    row["signal"] = op["signal"]
    row["flags"] = flags
    row["value"] = _NAN if math.isnan(value) else value  # one NaN, whatever bits the message had


@inlined
def void(out, at, t, slots, slot, count):  # type: ignore[no-untyped-def]
    """The samples of a message that cannot be read: invalid, but for mere presence."""
    for i in range(count):
        source = slots[slot + i]
        flags = source["flags"]
        row = out[at + i]
        row["t"] = t
        row["signal"] = source["signal"]
        if source["present"] != 0:
            row["value"] = 1.0
        else:
            row["value"] = _NAN
            if flags & FLAG_CAUSE == _NONE:
                flags |= _INVALID
        row["flags"] = flags
