"""Little-endian numbers out of a byte array, inside kernels.

Written with shifts of Python-sized integers, so that they mean the same with and without compilation.
"""

from __future__ import annotations

import numpy as np

from edge_monitor.core.jit import kernel

from .recording import Bytes


@kernel
def u16(data: Bytes, at: int) -> int:
    """The unsigned 16-bit number at ``at``."""
    return np.int64(data[at]) | np.int64(data[at + 1]) << 8  # type: ignore[return-value]


@kernel
def u32(data: Bytes, at: int) -> int:
    """The unsigned 32-bit number at ``at``."""
    return (  # type: ignore[return-value]
        np.int64(data[at]) | np.int64(data[at + 1]) << 8 | np.int64(data[at + 2]) << 16 | np.int64(data[at + 3]) << 24
    )


@kernel
def u63(data: Bytes, at: int) -> int:
    """The unsigned 64-bit number at ``at``, or -1 where it does not fit 63 bits (no time or length is that large)."""
    if data[at + 7] >= 128:
        return -1
    return u32(data, at) | u32(data, at + 4) << 32
