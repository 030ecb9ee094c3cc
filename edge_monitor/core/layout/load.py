"""Numbers out of bytes at any address and in either byte order. Compiled, each is one unaligned load.

Indices are unsigned so that no load has to ask whether it counts from the end of the array.
"""

from __future__ import annotations

import numpy as np

from ..jit import inlined

BOOL, UINT8, INT8, UINT16, INT16, UINT32, INT32, UINT64, INT64, FLOAT32, FLOAT64 = range(11)

#: Code of each plain type of ``definitions.SIZES``.
CODES = {
    "bool": BOOL,
    "char": UINT8,
    "uint8": UINT8,
    "int8": INT8,
    "uint16": UINT16,
    "int16": INT16,
    "uint32": UINT32,
    "int32": INT32,
    "uint64": UINT64,
    "int64": INT64,
    "float32": FLOAT32,
    "float64": FLOAT64,
}
#: Size of each of these types in bytes, by code.
SIZES_BY_CODE = (1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8)


@inlined
def load16(data, at, swap):  # type: ignore[no-untyped-def]
    """Unsigned 16-bit number at byte ``at``, as int64; big endian where ``swap``."""
    i = np.uint64(at)
    low, high = np.int64(data[i]), np.int64(data[i + np.uint64(1)])
    return (low << 8) | high if swap else (high << 8) | low


@inlined
def load32(data, at, swap):  # type: ignore[no-untyped-def]
    """Unsigned 32-bit number at byte ``at``, as uint32; big endian where ``swap``."""
    i = np.uint64(at)
    low = np.uint32(data[i]) | (np.uint32(data[i + np.uint64(1)]) << np.uint32(8))
    high = np.uint32(data[i + np.uint64(2)]) | (np.uint32(data[i + np.uint64(3)]) << np.uint32(8))
    word = np.uint32(low | (high << np.uint32(16)))
    if swap:
        odd, even = word & np.uint32(0x00FF00FF), (word >> np.uint32(8)) & np.uint32(0x00FF00FF)
        word = np.uint32((odd << np.uint32(8)) | even)
        word = np.uint32((word << np.uint32(16)) | (word >> np.uint32(16)))
    return word


@inlined
def load64(data, at, swap):  # type: ignore[no-untyped-def]
    """Unsigned 64-bit number at byte ``at``, as uint64; big endian where ``swap``."""
    first, second = np.uint64(load32(data, at, swap)), np.uint64(load32(data, at + 4, swap))
    if swap:
        first, second = second, first
    return np.uint64(first | (second << np.uint64(32)))


@inlined
def load_number(data, at, code, swap):  # type: ignore[no-untyped-def]
    """The number of type ``code`` at byte ``at``, as float64 (64-bit integers are rounded to nearest)."""
    if code == FLOAT64:
        return np.float64(np.uint64(load64(data, at, swap)).view(np.float64))
    elif code == FLOAT32:
        return np.float64(np.uint32(load32(data, at, swap)).view(np.float32))
    elif code == UINT8:
        return np.float64(data[np.uint64(at)])
    elif code == BOOL:
        return 1.0 if data[np.uint64(at)] != 0 else 0.0
    elif code == INT8:
        return np.float64(np.uint8(data[np.uint64(at)]).view(np.int8))
    elif code == UINT16:
        return np.float64(load16(data, at, swap))
    elif code == INT16:
        short = load16(data, at, swap)
        return np.float64(short - ((short & 0x8000) << 1))
    elif code == UINT32:
        return np.float64(load32(data, at, swap))
    elif code == INT32:
        return np.float64(np.uint32(load32(data, at, swap)).view(np.int32))
    elif code == UINT64:
        return np.float64(load64(data, at, swap))
    return np.float64(np.uint64(load64(data, at, swap)).view(np.int64))


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
