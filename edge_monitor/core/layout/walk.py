"""The kernel that walks extraction programs over the messages of a batch. No object is made for a message.

Whatever the bytes are, nothing outside ``[start, start + size)`` of a message is read: every length is compared with
what is left before it is used, and every loop takes at least one byte an element. A message that does not hold what its
definition promises gives all its samples the cause ``invalid``: a value read before the bad spot is not trusted.
"""

from __future__ import annotations

import math

import numpy as np

from ..jit import kernel
from ..samples import Cause
from .load import gather, load32, load64, load_number
from .msgpack_walk import FRAMES, FRAMES_SIZE, LACKING, MALFORMED, settle_kinds, unpack
from .ops import Op
from .output import put, void
from .reduce import BUCKETS, reduce
from .text import intern

#: What the walker knows of a channel: its program, its samples, the encoding's header, and how many messages it had.
CHANNEL = np.dtype([("program", "<i8"), ("slot", "<i4"), ("slots", "<i4"), ("header", "<i8"), ("messages", "<i8")])
#: One sample of a channel, as it is when its message cannot be read. ``present``: 1 where it needs no reading.
SLOT = np.dtype([("signal", "<i4"), ("flags", "<i4"), ("present", "<i8")])
#: Length of the int64 work array: the buckets of the percentiles, then (index, count, saved cursor) of each loop, then
#: the frames of MessagePack containers.
WORK = FRAMES + FRAMES_SIZE

_END, _RUN, _READ, _STAMP, _CHARS = int(Op.END), int(Op.RUN), int(Op.READ), int(Op.STAMP), int(Op.CHARS)
_PRESENT, _ABSENT, _STRING, _TEXT, _LIST = int(Op.PRESENT), int(Op.ABSENT), int(Op.STRING), int(Op.TEXT), int(Op.LIST)
_INDEX, _CLEAR, _GATHER = int(Op.INDEX), int(Op.CLEAR), int(Op.GATHER)
_COLLECT, _REDUCE, _COUNT, _FOR, _NEXT = int(Op.COLLECT), int(Op.REDUCE), int(Op.COUNT), int(Op.FOR), int(Op.NEXT)
_GUARD, _SAVE, _RESTORE = int(Op.GUARD), int(Op.SAVE), int(Op.RESTORE)
_TREE, _REST, _STAMP_NS = int(Op.TREE), int(Op.REST), int(Op.STAMP_NS)
_NONE, _INVALID, _OVERFLOW = int(Cause.NONE), int(Cause.INVALID), int(Cause.OVERFLOW)
_NAN = math.nan


@kernel
def extract(data, messages, begin, channels, slots, ops, nodes, keys, rows, letters, filled, values, work, out):  # type: ignore[no-untyped-def]
    """Extract the samples of ``messages[begin:]`` into ``out``, until one has no room: ``(samples, next message)``.

    ``data``: (n,) uint8; ``messages``: MESSAGE rows; ``channels``: CHANNEL rows by channel number; ``slots``: SLOT
    rows; ``ops``: OP rows; ``nodes``, ``keys``: NODE rows and uint8, the trees of MessagePack channels; ``rows``,
    ``letters``, ``filled``: the text table; ``values``: float64, room for the numbers of one list; ``work``: (WORK,)
    int64; ``out``: SAMPLE rows.
    """
    n = np.int64(0)  # typed, as are other zeros here: a literal argument would have its callee compiled twice
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
        collected = np.int64(0)
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
                if op["b"] == 0:
                    value = load_number(data, base + op["a"], op["prim"], swap)
                else:  # out of its byte, since a number of 64 bits does not fit a float
                    bit = op["b"] - 1
                    place = op["c"] - 1 - (bit >> 3) if swap else bit >> 3
                    value = np.float64((np.int64(data[base + op["a"] + place]) >> (bit & 7)) & 1)
                put(out, n + op["slot"], t, op, value, _NONE)
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
                    put(
                        out, n + op["slot"], t, op, (t + op["b"] - (seconds * 1_000_000_000 + nanoseconds)) / 1e9, _NONE
                    )
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
                collected = np.int64(0)
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
            elif code == _REST:
                stride = op["a"]
                first = origin + q
                count = (limit - q) // stride
                good = count * stride == limit - q
                q = limit
            elif code == _STAMP_NS:
                stamp = np.int64(np.uint64(load64(data, base + op["a"], swap)).view(np.int64))
                if stamp <= 0:
                    put(out, n + op["slot"], t, op, _NAN, _INVALID)
                else:
                    put(out, n + op["slot"], t, op, (t - stamp) / 1e9, _NONE)
            elif code == _TREE:
                found = unpack(
                    data,
                    origin,
                    origin + limit,
                    op["a"],
                    t,
                    n,
                    nodes,
                    keys,
                    ops,
                    rows,
                    letters,
                    filled,
                    values,
                    work,
                    out,
                )
                good = found != MALFORMED
                settle_kinds(ops, op["c"], op["prim"], good)
                if found == LACKING:
                    pc += op["b"]
                else:
                    collected = found
                    overflow = found > len(values)
            elif code == _PRESENT:
                put(out, n + op["slot"], t, op, 1.0, _NONE)
            else:
                put(out, n + op["slot"], t, op, _NAN, _INVALID)  # ABSENT
        if not good:
            void(out, n, t, slots, channel["slot"], mine)
        n += mine
    return n, len(messages)
