"""The kernel that walks extraction programs over the messages of a batch. No object is made for a message.

Whatever the bytes are, nothing outside ``[start, start + size)`` of a message is read: every length is compared with
what is left before it is used, and every loop takes at least one byte an element. A message that does not hold what its
definition promises gives all its samples the cause ``invalid``: a value read before the bad spot is not trusted.
"""

from __future__ import annotations

import math

import numpy as np

from ..jit import inlined, kernel
from ..samples import FLAG_CAUSE, Cause
from .load import FLOAT32, FLOAT64, UINT8, load32, load_number
from .ops import Op
from .program import MAX_LOOPS
from .reduce import BUCKETS, reduce
from .text import intern

#: What the walker knows of a channel: its program, its samples, the encoding's header, and how many messages it had.
CHANNEL = np.dtype([("program", "<i8"), ("slot", "<i4"), ("slots", "<i4"), ("header", "<i8"), ("messages", "<i8")])
#: One sample of a channel, as it is when its message cannot be read. ``present``: 1 where it needs no reading.
SLOT = np.dtype([("signal", "<i4"), ("flags", "<i4"), ("present", "<i8")])
#: Length of the int64 work array: the buckets of the percentiles, then (index, count, saved cursor) of each loop.
WORK = BUCKETS + 3 * MAX_LOOPS

_END, _RUN, _READ, _STAMP, _CHARS = int(Op.END), int(Op.RUN), int(Op.READ), int(Op.STAMP), int(Op.CHARS)
_PRESENT, _ABSENT, _STRING, _TEXT, _LIST = int(Op.PRESENT), int(Op.ABSENT), int(Op.STRING), int(Op.TEXT), int(Op.LIST)
_INDEX, _CLEAR, _GATHER = int(Op.INDEX), int(Op.CLEAR), int(Op.GATHER)
_COLLECT, _REDUCE, _COUNT, _FOR, _NEXT = int(Op.COLLECT), int(Op.REDUCE), int(Op.COUNT), int(Op.FOR), int(Op.NEXT)
_GUARD, _SAVE, _RESTORE = int(Op.GUARD), int(Op.SAVE), int(Op.RESTORE)
_NONE, _INVALID, _OVERFLOW = int(Cause.NONE), int(Cause.INVALID), int(Cause.OVERFLOW)
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


@kernel
def extract(data, messages, begin, channels, slots, ops, rows, letters, filled, values, work, out):  # type: ignore[no-untyped-def]
    """Extract the samples of ``messages[begin:]`` into ``out``, until one has no room: ``(samples, next message)``.

    ``data``: (n,) uint8; ``messages``: MESSAGE rows; ``channels``: CHANNEL rows by channel number; ``slots``: SLOT
    rows; ``ops``: OP rows; ``rows``, ``letters``, ``filled``: the text table; ``values``: float64, room for the numbers
    of one list; ``work``: (WORK,) int64; ``out``: SAMPLE rows.
    """
    n = 0
    for number in range(begin, len(messages)):
        message = messages[number]
        of = np.int64(message["channel"])
        if of < 0 or of >= len(channels):
            continue
        channel = channels[of]
        mine = np.int64(channel["slots"])
        if n + mine > len(out):
            return n, number
        channel["messages"] += 1
        if mine == 0:
            continue
        t, origin, limit = message["t"], np.int64(message["start"]), np.int64(message["size"])
        good = origin >= 0 and limit >= 0 and origin <= len(data) - limit
        swap = False
        if good and channel["header"] != 0:
            # OMG DDSI-RTPS 2.5, 10.2: 0x0000 is CDR big endian, 0x0001 little; two bytes of options are unused
            good = limit >= 4 and data[origin] == 0 and data[origin + 1] <= 1
            if good:
                swap = data[origin + 1] == 0
                origin += 4
                limit -= 4
        q = np.int64(0)  # cursor
        base, first, count, stride = origin, origin, np.int64(0), np.int64(0)
        collected = 0
        overflow = False
        pc = channel["program"]
        while good:
            op = ops[pc]
            pc += 1
            code = op["code"]
            if code == _RUN:
                align = np.int64(op["align"])
                q = (q + align - 1) & -align
                base = origin + q
                q += op["a"]
                good = q <= limit
            elif code == _READ:
                put(out, n + op["slot"], t, op, load_number(data, base + op["a"], op["prim"], swap), _NONE)
            elif code == _STRING:
                align = np.int64(op["align"])
                q = (q + align - 1) & -align
                good = q + 4 <= limit
                if good:
                    count = np.int64(load32(data, origin + q, swap))
                    q += 4
                    good = count <= limit - q
                    first = origin + q
                    q += count
                    if good and count > 0 and op["c"] != 0 and data[first + count - 1] == 0:
                        count -= 1
            elif code == _END:
                break
            elif code == _LIST:
                align = np.int64(op["align"])
                q = (q + align - 1) & -align
                good = q + 4 <= limit
                if good:
                    count = np.int64(load32(data, origin + q, swap))
                    q += 4
                    stride = op["a"]
                    last = op["b"]
                    if count > 0 and last > 0:
                        align = op["c"]
                        q = (q + align - 1) & -align
                        first = origin + q
                        # compared by division: a product with a hostile count could leave int64
                        good = last <= limit - q and count - 1 <= (limit - q - last) // stride
                        if good:
                            q += (count - 1) * stride + last
            elif code == _STAMP:
                seconds = np.int64(load_number(data, base + op["a"], op["prim"], swap))
                nanoseconds = np.int64(load32(data, base + op["a"] + 4, swap))
                if nanoseconds >= 1_000_000_000 or (seconds == 0 and nanoseconds == 0):
                    put(out, n + op["slot"], t, op, _NAN, _INVALID)
                else:
                    put(out, n + op["slot"], t, op, (t - (seconds * 1_000_000_000 + nanoseconds)) / 1e9, _NONE)
            elif code == _TEXT or code == _CHARS:
                at, size = first, count
                if code == _CHARS:
                    at, size = base + op["a"], np.int64(0)
                    while size < op["b"] and data[at + size] != 0:
                        size += 1
                text = intern(rows, letters, filled, data, at, size)
                if text < 0:
                    put(out, n + op["slot"], t, op, _NAN, _OVERFLOW)
                else:
                    put(out, n + op["slot"], t, op, float(text), _NONE)
            elif code == _INDEX:
                if op["a"] < count:
                    base = first + op["a"] * stride
                else:
                    pc += op["b"]
            elif code == _CLEAR:
                collected = 0
                overflow = False
            elif code == _GATHER:
                fixed = op["b"]
                size = fixed if fixed > 0 else count
                if size > len(values):
                    overflow = True
                elif fixed > 0:
                    gather(data, base + op["a"], size, op["c"], op["prim"], swap, values)
                else:
                    gather(data, first + op["a"], size, stride, op["prim"], swap, values)
                collected = size
            elif code == _COLLECT:
                if collected == len(values):
                    overflow = True
                else:
                    values[collected] = load_number(data, base + op["a"], op["prim"], swap)
                    collected += 1
            elif code == _REDUCE:
                if overflow:
                    put(out, n + op["slot"], t, op, _NAN, _OVERFLOW)
                else:
                    put(out, n + op["slot"], t, op, reduce(values, collected, op["prim"], work), _NONE)
            elif code == _COUNT:
                depth = op["prim"]
                size = op["b"]
                if size == 0:
                    size = count if depth < 0 else work[BUCKETS + 3 * depth + 1]
                put(out, n + op["slot"], t, op, float(size), _NONE)
            elif code == _FOR:
                loop = BUCKETS + 3 * op["prim"]
                size = op["a"]
                if size < 0:
                    align = np.int64(op["align"])
                    q = (q + align - 1) & -align
                    good = q + 4 <= limit
                    if good:
                        size = np.int64(load32(data, origin + q, swap))
                        q += 4
                if good:
                    good = size <= limit - q  # an element takes at least one byte
                    work[loop] = 0
                    work[loop + 1] = size
                    if size == 0:
                        pc += op["b"] - 1
            elif code == _NEXT:
                loop = BUCKETS + 3 * op["prim"]
                work[loop] += 1
                if work[loop] < work[loop + 1]:
                    pc += op["b"] - 1
            elif code == _GUARD:
                if work[BUCKETS + 3 * op["prim"]] != op["a"]:
                    pc += op["b"]
            elif code == _SAVE:
                work[BUCKETS + 3 * op["prim"] + 2] = q
            elif code == _RESTORE:
                q = work[BUCKETS + 3 * op["prim"] + 2]
            elif code == _PRESENT:
                put(out, n + op["slot"], t, op, 1.0, _NONE)
            else:
                put(out, n + op["slot"], t, op, _NAN, _INVALID)  # ABSENT
        if not good:
            void(out, n, t, slots, channel["slot"], mine)
        n += mine
    return n, len(messages)


@inlined
def gather(data, first, count, stride, prim, swap, values):  # type: ignore[no-untyped-def]
    """``values[i]`` = number ``i`` of a list. The usual types have loops of their own, without a branch an element."""
    if prim == FLOAT32 and not swap:
        for i in range(count):
            values[i] = load_number(data, first + i * stride, FLOAT32, False)
    elif prim == FLOAT64 and not swap:
        for i in range(count):
            values[i] = load_number(data, first + i * stride, FLOAT64, False)
    elif prim == UINT8:
        for i in range(count):
            values[i] = load_number(data, first + i * stride, UINT8, False)
    else:
        for i in range(count):
            values[i] = load_number(data, first + i * stride, prim, swap)


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
