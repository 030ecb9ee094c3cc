"""Reading serialized sensor messages inside kernels: header, strings and list lengths, each checked before it is used.

A message is ``data[start:start + size]``, as CDR (with its four-byte header) or, where ``ros1``, without alignment and
with a sequence number in front of the stamp. A position of -1 says that the message does not hold what was asked.
"""

from __future__ import annotations

import numpy as np

from ..jit import inlined
from ..layout.load import load32


@inlined
def place(q, align, ros1):  # type: ignore[no-untyped-def]
    """The next position for something of alignment ``align`` at or behind ``q``; -1 stays -1."""
    if q < 0 or ros1:
        return q
    return (q + align - 1) & -align


@inlined
def length(data, origin, limit, q, ros1, swap):  # type: ignore[no-untyped-def]
    """A list's or string's length: ``(count, position behind it)``."""
    q = place(q, 4, ros1)
    if q < 0 or limit - q < 4:
        return np.int64(0), np.int64(-1)
    return np.int64(load32(data, origin + q, swap)), np.int64(q + 4)


@inlined
def text(data, origin, limit, q, ros1, swap):  # type: ignore[no-untyped-def]
    """A string: ``(address, bytes without a final NUL, position behind it)``."""
    count, q = length(data, origin, limit, q, ros1, swap)
    if q < 0 or count > limit - q:
        return np.int64(0), np.int64(0), np.int64(-1)
    first, behind = origin + q, q + count
    if count > 0 and not ros1 and data[np.uint64(first + count - 1)] == 0:
        count -= 1
    return np.int64(first), np.int64(count), np.int64(behind)


@inlined
def enter(data, start, size, ros1):  # type: ignore[no-untyped-def]
    """Step over encoding header and ``std_msgs/Header``: ``(origin, limit, position, big endian)``.

    ``origin``: where alignment counts from; ``limit``: bytes from there. OMG DDSI-RTPS 2.5, 10.2: identifier 0x0000 is
    CDR big endian, 0x0001 little endian; two bytes of options are unused.
    """
    origin, limit, swap = np.int64(start), np.int64(size), False
    if origin < 0 or limit < 0 or origin > len(data) - limit:
        return origin, limit, np.int64(-1), swap
    if not ros1:
        if limit < 4 or data[np.uint64(origin)] != 0 or data[np.uint64(origin + 1)] > 1:
            return origin, limit, np.int64(-1), swap
        swap = data[np.uint64(origin + 1)] == 0
        origin += 4
        limit -= 4
    q = inner_header(data, origin, limit, np.int64(0), ros1, swap)
    return origin, limit, q, swap


@inlined
def inner_header(data, origin, limit, q, ros1, swap):  # type: ignore[no-untyped-def]
    """Step over a ``std_msgs/Header`` at ``q``: the position behind it."""
    q = place(q, 4, ros1)
    fixed = 12 if ros1 else 8
    if q < 0 or limit - q < fixed:
        return np.int64(-1)
    _, _, q = text(data, origin, limit, q + fixed, ros1, swap)
    return q
