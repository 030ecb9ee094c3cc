"""Numbers out of a byte array, inside kernels: little-endian ones, and SQLite's big-endian and variable-length ones.

Written with shifts of Python-sized integers, so that they mean the same with and without compilation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_monitor.core.jit import kernel

from .recording import Bytes


@kernel
def u16(data: Bytes, at: int) -> int:
    """The unsigned 16-bit number at ``at``."""
    return np.int64(data[at]) | np.int64(data[at + 1]) << 8  # type: ignore[no-any-return]


@kernel
def u32(data: Bytes, at: int) -> int:
    """The unsigned 32-bit number at ``at``."""
    return (  # type: ignore[no-any-return]
        np.int64(data[at]) | np.int64(data[at + 1]) << 8 | np.int64(data[at + 2]) << 16 | np.int64(data[at + 3]) << 24
    )


@kernel
def u63(data: Bytes, at: int) -> int:
    """The unsigned 64-bit number at ``at``, or -1 where it does not fit 63 bits (no time or length is that large)."""
    if data[at + 7] >= 128:
        return -1
    return u32(data, at) | u32(data, at + 4) << 32


@kernel
def be(data: Bytes, at: int, width: int) -> int:
    """The signed big-endian number of ``width`` bytes."""
    value = np.int64(data[at])
    if value >= 128:
        value -= 256
    for i in range(1, width):
        value = value << 8 | np.int64(data[at + i])
    return value  # type: ignore[no-any-return]


@kernel
def be_unsigned(data: Bytes, at: int, width: int) -> int:
    """The unsigned big-endian number of up to 7 bytes."""
    value = np.int64(0)
    for i in range(width):
        value = value << 8 | np.int64(data[at + i])
    return value  # type: ignore[no-any-return]


@kernel
def varint(data: Bytes, at: int, end: int) -> Any:
    """(value, position behind it) of a variable-length integer; position -1 where it runs past ``end``."""
    value = np.int64(0)
    for i in range(9):
        if at + i >= end:
            return value, -1
        byte = np.int64(data[at + i])
        if i == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | (byte & 0x7F)
        if byte < 128:
            return value, at + i + 1
    return value, -1
