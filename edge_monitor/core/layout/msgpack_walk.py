"""The kernel that walks a tree of field paths over a MessagePack message, once, without building an object.

MessagePack: github.com/msgpack/msgpack, spec.md. Nothing outside the message is read: every size is compared with what is
left before it is used, and every element takes at least one byte. Malformed, and with it the whole message invalid, are:
a cut or superfluous byte, the unused tag 0xc1, containers more than ``MAX_DEPTH`` deep, a list or map as a key, and a
key that a path needs twice in one map (a reader that takes the first and one that takes the last would disagree).
"""

from __future__ import annotations

import math

import numpy as np

from ..jit import inlined, outlined
from ..samples import Cause
from .definitions import MAX_DEPTH
from .load import SIZES_BY_CODE, gather, load32, load64, load_number
from .msgpack_token import ARRAY, BAD, BIN, EXT, FLOAT, INT, MAP, NIL, STR, token
from .ops import Op
from .output import put
from .program import MAX_LOOPS
from .reduce import BUCKETS, COUNT, NORM, reduce
from .text import intern

#: One step of a path in a tree. ``head``: the first eight bytes of its key, ``start``, ``size``: the whole key in the
#: pool of keys; or ``index``: which element. ``names``, ``items``: the first of its children by name (ascending in head,
#: then size) and by index (ascending), and their numbers; ``each``: the child for all elements, -1: none. ``op``, ``ops``:
#: the OP rows to fill with what lies here; ``takes``: ``TAKES_`` bits, what those do with a container; ``prim``: type of
#: the numbers in a bin, -1: not declared. ``seen``: the last map in which its key stood.
NODE = np.dtype(
    [
        ("head", "<u8"),
        ("seen", "<i8"),
        ("start", "<i4"),
        ("size", "<i4"),
        ("index", "<i4"),
        ("names", "<i4"),
        ("names_count", "<i4"),
        ("items", "<i4"),
        ("items_count", "<i4"),
        ("each", "<i4"),
        ("op", "<i4"),
        ("ops", "<i4"),
        ("takes", "<i4"),
        ("prim", "<i4"),
    ]
)
TAKES_STAMP, TAKES_NUMBERS, TAKES_COUNT = 1, 2, 4

#: What a value without a declared type has proved to be (``prim`` of the signal's row), and what this message would have it.
OPEN, NUMBER, TEXT, NEW_NUMBER, NEW_TEXT = range(5)
MALFORMED, LACKING = -2, -1  #: answers of ``unpack``
MAX_VECTOR = 16  #: entries of a map that is taken as a vector

FRAMES = (
    BUCKETS + 3 * MAX_LOOPS
)  #: where in the work array the frames begin: a serial number of maps, then four words each
FRAMES_SIZE = 1 + 4 * MAX_DEPTH
_LEFT, _NODE, _PLACE, _CURSOR = range(
    4
)  # entries left, node (-1: none), serial of the map or index, next item (-1: a map)

_READ, _STAMP, _COLLECT, _REDUCE = int(Op.READ), int(Op.STAMP), int(Op.COLLECT), int(Op.REDUCE)
_NONE, _INVALID, _OVERFLOW, _MISMATCH = (
    int(c) for c in (Cause.NONE, Cause.INVALID, Cause.OVERFLOW, Cause.TYPE_MISMATCH)
)
_NAN = math.nan
_ALL_BITS = np.uint64(0xFFFFFFFFFFFFFFFF)
_MAX_SECONDS = 9_000_000_000  # in ns within int64


@outlined
def unpack(data, at, end, root, t, n, nodes, keys, ops, rows, letters, filled, values, work, out):  # type: ignore[no-untyped-def]
    """Fill what the tree at node ``root`` names out of the message ``data[at:end]``; samples begin at row ``n``.

    Answers how many numbers the tree's ``[*]`` path has put into ``values`` (more than fit: all that there were),
    ``LACKING`` where it has none or an element without its number, or ``MALFORMED``.
    """
    node = np.int64(root)
    depth, collected, wanted = 0, np.int64(0), np.int64(-1)
    top = np.int64(FRAMES + 1 - 4)  # the innermost frame
    while True:
        kind, whole, number, at = token(data, at, end)
        if kind <= EXT:
            if node >= 0 and kind == BIN and nodes[node]["prim"] >= 0:
                take_bin(data, at, whole, node, t, n, nodes, ops, rows, letters, filled, values, work, out)
            elif node >= 0 and nodes[node]["ops"] > 0:
                first = np.int64(nodes[node]["op"])
                if ops[first]["code"] != _COLLECT:
                    last = first + nodes[node]["ops"]
                    take(data, at, kind, whole, number, first, last, t, n, ops, rows, letters, filled, out)
                elif kind <= FLOAT:
                    if collected < len(values):
                        values[collected] = number
                    collected += 1
            if kind > FLOAT:
                at += whole
        elif kind == BAD or depth == MAX_DEPTH:
            return MALFORMED
        else:
            past = np.int64(-1)
            if node >= 0:
                if nodes[node]["takes"] != 0:
                    past = take_container(data, at, end, whole, kind == MAP, node, t, n, nodes, ops, values, work, out)
                if nodes[node]["each"] >= 0 and kind == ARRAY:
                    wanted = whole
            if past >= 0:
                at = past
            else:
                depth += 1
                top += 4
                work[top + _LEFT] = whole
                work[top + _NODE] = node
                if kind == MAP:
                    work[FRAMES] += 1
                    work[top + _PLACE] = work[FRAMES]
                    work[top + _CURSOR] = -1
                else:
                    work[top + _PLACE] = 0
                    work[top + _CURSOR] = nodes[node]["items"] if node >= 0 else 0
        while depth > 0 and work[top + _LEFT] == 0:
            depth -= 1
            top -= 4
        if depth == 0:
            break
        work[top + _LEFT] -= 1
        parent = work[top + _NODE]
        node = np.int64(-1)
        cursor = work[top + _CURSOR]
        if cursor < 0:
            kind, whole, number, at = token(data, at, end)
            if kind > EXT:
                return MALFORMED
            if kind == STR or kind == BIN or kind == EXT:
                if kind == STR and parent >= 0:
                    node = named(data, at, whole, end, parent, nodes, keys)
                    if node >= 0:
                        if nodes[node]["seen"] == work[top + _PLACE]:
                            return MALFORMED
                        nodes[node]["seen"] = work[top + _PLACE]
                at += whole
        elif parent >= 0:
            node = np.int64(nodes[parent]["each"])
            last = nodes[parent]["items"] + nodes[parent]["items_count"]
            if cursor < last and nodes[cursor]["index"] == work[top + _PLACE]:
                node = cursor
                work[top + _CURSOR] = cursor + 1
            work[top + _PLACE] += 1
    if at != end:
        return MALFORMED
    return collected if collected == wanted else LACKING


@inlined
def named(data, at, size, end, parent, nodes, keys):  # type: ignore[no-untyped-def]
    """The child of ``parent`` whose key is ``data[at : at + size]``, or -1."""
    low = np.int64(nodes[parent]["names"])
    stop = low + nodes[parent]["names_count"]
    if low == stop:
        return np.int64(-1)
    if end - at >= 8:
        head = np.uint64(load64(data, at, False))
        if size < 8:
            head &= (np.uint64(1) << np.uint64(8 * size)) - np.uint64(1)
    else:
        head = np.uint64(0)
        for i in range(size):
            head |= np.uint64(data[at + i]) << np.uint64(8 * i)
    high = stop
    while low < high:
        middle = (low + high) >> 1
        other = nodes[middle]["head"]
        if other < head or (other == head and nodes[middle]["size"] < size):
            low = middle + 1
        else:
            high = middle
    while low < stop and nodes[low]["head"] == head and nodes[low]["size"] == size:
        start = np.int64(nodes[low]["start"])
        same = np.int64(8)
        while same < size and keys[start + same] == data[at + same]:
            same += 1
        if same >= size:
            return low
        low += 1
    return np.int64(-1)


@outlined
def take(data, at, kind, whole, number, first, last, t, n, ops, rows, letters, filled, out):  # type: ignore[no-untyped-def]
    """What is no container (a token, its content at ``at``), where the rows ``first`` to ``last`` want something."""
    for k in range(first, last):
        op = ops[k]
        value, cause = _NAN, _INVALID
        if op["code"] == _READ:
            signal = ops[op["signal"]]
            if kind <= FLOAT:
                if signal["prim"] == TEXT:
                    cause = _MISMATCH
                else:
                    value, cause = number, _NONE
                    if kind != NIL and signal["prim"] != NUMBER:
                        signal["prim"] = NEW_NUMBER
            elif kind == STR:
                if signal["prim"] == NUMBER:
                    cause = _MISMATCH
                else:
                    text = intern(rows, letters, filled, data, at, whole)
                    if text < 0:
                        cause = _OVERFLOW
                    else:
                        value, cause = float(text), _NONE
                        if signal["prim"] != TEXT:
                            signal["prim"] = NEW_TEXT
        elif op["code"] == _STAMP:
            if kind == INT and whole > 0:
                value = (t - whole) / 1e9
            elif kind == FLOAT and number > 0.0 and number < _MAX_SECONDS:
                value = (t - np.int64(number * 1e9)) / 1e9
            elif kind == EXT and data[at - 1] == 255:
                value = timestamp_age(data, at, whole, t)
            if not math.isnan(value):
                cause = _NONE
        put(out, n + op["slot"], t, op, value, cause)


@inlined
def timestamp_age(data, at, size, t):  # type: ignore[no-untyped-def]
    """Receive time minus the timestamp extension at ``at``, seconds; NaN where it is none."""
    seconds, nanoseconds = np.int64(-1), np.int64(0)
    if size == 4:
        seconds = np.int64(load32(data, at, True))
    elif size == 8:
        word = np.uint64(load64(data, at, True))
        nanoseconds = np.int64(word >> np.uint64(34))
        seconds = np.int64(word & np.uint64(0x3FFFFFFFF))
    elif size == 12:
        nanoseconds = np.int64(load32(data, at, True))
        seconds = np.int64(np.uint64(load64(data, at + 4, True)).view(np.int64))
    return age(t, seconds, nanoseconds)


@inlined
def age(t, seconds, nanoseconds):  # type: ignore[no-untyped-def]
    """Receive time minus a stamp, seconds; NaN where it is none."""
    good = seconds >= 0 and seconds < _MAX_SECONDS and nanoseconds >= 0 and nanoseconds < 1_000_000_000
    if good and (seconds > 0 or nanoseconds > 0):
        return (t - (seconds * 1_000_000_000 + nanoseconds)) / 1e9
    return _NAN


@outlined
def take_bin(data, at, size, node, t, n, nodes, ops, rows, letters, filled, values, work, out):  # type: ignore[no-untyped-def]
    """A bin that is declared to hold numbers, little endian: reduced, or some of its elements."""
    prim = np.int64(nodes[node]["prim"])
    width = np.int64(SIZES_BY_CODE[prim])
    count = size // width
    if count * width != size:
        return
    fits = count <= len(values)
    known = False
    if nodes[node]["takes"] & TAKES_NUMBERS and fits:
        gather(data, at, count, width, prim, False, values)
        known = True
    first = np.int64(nodes[node]["op"])
    reduce_all(first, first + nodes[node]["ops"], count, fits, known, np.int64(0), t, n, ops, values, work, out)
    items = np.int64(nodes[node]["items"])
    for child in range(items, items + nodes[node]["items_count"]):
        index = np.int64(nodes[child]["index"])
        if index < count:
            number = load_number(data, at + index * width, prim, False)
            first = np.int64(nodes[child]["op"])
            last = first + nodes[child]["ops"]
            take(data, at, np.int64(FLOAT), np.int64(0), number, first, last, t, n, ops, rows, letters, filled, out)


@outlined
def take_container(data, at, end, size, is_map, node, t, n, nodes, ops, values, work, out):  # type: ignore[no-untyped-def]
    """A list or map where a stamp or a reduction is wanted; ``at``: its first entry.

    Answers the byte behind it where the tree wants nothing else of it, or -1: it is still to be walked.
    """
    takes = nodes[node]["takes"]
    first = np.int64(nodes[node]["op"])
    last = first + nodes[node]["ops"]
    if takes & TAKES_STAMP and size == 2:
        seconds, nanoseconds = stamp_pair(data, at, end, is_map)
        value = age(t, seconds, nanoseconds)
        for k in range(first, last):
            if ops[k]["code"] == _STAMP:
                put(out, n + ops[k]["slot"], t, ops[k], value, _INVALID if math.isnan(value) else _NONE)
    past = np.int64(-1)
    fits = size <= len(values)
    if takes & TAKES_NUMBERS and fits:
        past = numbers(data, at, end, size, is_map, values, work)
    if takes & (TAKES_NUMBERS | TAKES_COUNT):
        reduce_all(first, last, size, fits, past >= 0, np.int64(is_map), t, n, ops, values, work, out)
    plain = nodes[node]["names_count"] == 0 and nodes[node]["items_count"] == 0
    return past if plain else np.int64(-1)


@outlined
def reduce_all(first, last, count, fits, known, is_map, t, n, ops, values, work, out):  # type: ignore[no-untyped-def]
    """The reductions among the rows ``first`` to ``last``, of ``count`` entries whose numbers are in ``values`` if ``known``."""
    for k in range(first, last):
        op = ops[k]
        if op["code"] != _REDUCE:
            continue
        value, cause = _NAN, _INVALID
        if op["prim"] == COUNT:
            if is_map == 0:
                value, cause = float(count), _NONE
        elif not fits:
            cause = _OVERFLOW
        elif known and (is_map == 0 or op["prim"] == NORM):
            value, cause = reduce(values, count, op["prim"], work), _NONE
        put(out, n + op["slot"], t, op, value, cause)


@outlined
def numbers(data, at, end, count, is_map, values, work):  # type: ignore[no-untyped-def]
    """The numbers of a list, or of a map of few different names such as x, y and z, into ``values``.

    Answers the byte behind them, or -1: something is no number, or a name stands twice.
    """
    if is_map and count > MAX_VECTOR:
        return np.int64(-1)
    entries = count + count if is_map else count
    for i in range(entries):
        kind, size, number, at = token(data, at, end)
        if not is_map:
            if kind > FLOAT:
                return np.int64(-1)
            values[i] = number
        elif i & 1:
            if kind > FLOAT:
                return np.int64(-1)
            values[i >> 1] = number
        else:
            if kind != STR:
                return np.int64(-1)
            for j in range(0, i, 2):
                if work[j + 1] == size:
                    other, same = work[j], 0
                    while same < size and data[other + same] == data[at + same]:
                        same += 1
                    if same == size:
                        return np.int64(-1)
            work[i], work[i + 1] = at, size
            at += size
    return at


@outlined
def stamp_pair(data, at, end, is_map):  # type: ignore[no-untyped-def]
    """Seconds and nanoseconds out of two entries: ``[sec, nanosec]``, or a map of both; seconds are -1 where it is none."""
    seconds, nanoseconds = np.int64(-1), np.int64(-1)
    which = 0
    for i in range(4 if is_map else 2):
        kind, whole, _, at = token(data, at, end)
        if is_map and i & 1 == 0:
            if kind != STR or whole < 3 or whole > 8:
                return np.int64(-1), np.int64(-1)
            # sec, secs; nsec, nsecs, nanosec, nanosecs: what is left without an s at the end
            bare = whole - 1 if data[at + whole - 1] == 115 else whole
            ends = data[at + bare - 3] == 115 and data[at + bare - 2] == 101 and data[at + bare - 1] == 99
            short = bare == 4 and data[at] == 110
            long = bare == 7 and data[at] == 110 and data[at + 1] == 97 and data[at + 2] == 110 and data[at + 3] == 111
            if not ends or not (bare == 3 or short or long):
                return np.int64(-1), np.int64(-1)
            which = 0 if bare == 3 else 1
            at += whole
        elif kind != INT:
            return np.int64(-1), np.int64(-1)
        else:
            if not is_map:
                which = i
            if which == 0:
                seconds = whole
            else:
                nanoseconds = whole
    return seconds, nanoseconds


@inlined
def settle_kinds(ops, first, count, good):  # type: ignore[no-untyped-def]
    """A whole message settles whether its signals are numbers or texts; a malformed one settles nothing."""
    for k in range(first, first + count):
        if ops[k]["code"] == _READ:
            signal = ops[ops[k]["signal"]]
            if signal["prim"] == NEW_NUMBER:
                signal["prim"] = NUMBER if good else OPEN
            elif signal["prim"] == NEW_TEXT:
                signal["prim"] = TEXT if good else OPEN
