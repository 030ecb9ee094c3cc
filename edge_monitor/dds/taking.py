"""Out of Cyclone's queues into a batch without Python objects: the callback that says so, and the loop that copies.

Both are machine code: the callback runs in Cyclone's threads, which must not wait for the interpreter.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any

import numba
import numpy as np
from llvmlite import binding
from numba import types

from ..core.jit import kernel
from ..core.messages import Batch
from ..core.samples import MESSAGE
from .entities import Came
from .library import Info, library

TAKEN = 256  #: samples that are taken in one go
STAMPS = 4096  #: arrivals that are kept of a reader, a power of two: more than its queue is deep

#: What the callback of a reader writes: whether it has rung since the last look, samples so far, what to ring, where the time
#: (``timespec``) is read into, and when the last samples arrived, ns of CLOCK_BOOTTIME, each at its number modulo ``STAMPS``.
BELL = np.dtype(
    [
        ("rung", "<i8"),
        ("arrived", "<i8"),
        ("eventfd", "<i8"),
        ("time_at", "<i8"),
        ("time", "<i8", 2),
        ("stamps", "<i8", STAMPS),
    ]
)
_TIME, _FIRST, _WORDS = 4, 6, 6 + STAMPS  # places in it
#: The same as :class:`Info`, for kernels.
INFO = np.dtype(
    {
        "names": ["valid", "stamp", "publication"],
        "formats": ["u1", "<i8", "<u8"],
        "offsets": [Info.valid.offset, Info.stamp.offset, Info.publication.offset],
        "itemsize": ctypes.sizeof(Info),
    }
)

_ring = types.ExternalFunction("eventfd_write", types.int32(types.int32, types.uint64))
_tell_time = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.int64))
_size_of = types.ExternalFunction("ddsi_serdata_size", types.uint32(types.int64))
_copy_to = types.ExternalFunction(
    "ddsi_serdata_to_ser", types.void(types.int64, types.uint64, types.uint64, types.int64)
)
_give_back = types.ExternalFunction("ddsi_serdata_unref", types.void(types.int64))


def load() -> int:
    """Let kernels find the library's functions; answers the address of the callback for ``data_available``."""
    for name in ("ddsi_serdata_size", "ddsi_serdata_to_ser", "ddsi_serdata_unref"):
        binding.add_symbol(name, ctypes.cast(getattr(library(), name), ctypes.c_void_p).value)
    for name in ("eventfd_write", "clock_gettime"):
        binding.add_symbol(name, ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value)
    global _callback  # noqa: PLW0603  it is called for as long as the process lives
    if _callback is None:
        _callback = numba.cfunc(types.void(types.int32, types.voidptr))(_announce)
    return int(_callback.address)


_callback: Any = None
_BOOTTIME = time.CLOCK_BOOTTIME


def _announce(_: int, argument: int) -> None:
    bell = numba.carray(argument, (_WORDS,), dtype=np.int64)
    _tell_time(_BOOTTIME, bell[3])
    bell[_FIRST + (bell[1] & (STAMPS - 1))] = bell[_TIME] * 1_000_000_000 + bell[_TIME + 1]
    bell[1] += 1  # Cyclone calls back for one sample of a reader at a time
    if bell[0] == 0:
        bell[0] = 1
        _ring(bell[2], 1)


_NO_STAMPS = np.zeros(STAMPS, np.int64)


class Takings:
    """Messages on their way into one batch. Buffers grow to what is needed and stay."""

    def __init__(self, largest: int) -> None:
        """``largest``: bytes of a message; larger ones are counted and left out."""
        self._largest = largest
        self._data = np.empty(1 << 16, np.uint8)
        self._place = self._data.ctypes.data  # asking for an address costs as much as taking a message
        self._rows = np.empty(1 << 10, MESSAGE)
        self._count = 0
        self._parts = 0  # readers' takings among them
        self.size = 0  #: bytes so far
        self._pointers = np.zeros(TAKEN, np.int64)
        self._infos = np.zeros(TAKEN, INFO)
        self._into = self._pointers.ctypes.data, self._infos.ctypes.data
        self._dds_take = library().dds_takecdr

    def take(self, reader: int) -> int:
        """Take up to ``TAKEN`` samples out of a reader's queue: to be followed by :meth:`keep` or :meth:`drop`."""
        pointers, infos = self._into
        return max(int(self._dds_take(reader, pointers, TAKEN, infos, 0)), 0)

    def keep(self, count: int, t: int, channel: int, came: Came | None = None, floor: int = 0) -> tuple[int, int]:
        """Add what was taken; answers how many messages, and how many were too large.

        Received at ``t`` (ns), or when they ``came``, but not before ``floor``.
        """
        if self._count + count > len(self._rows):
            rows = np.empty(max(2 * len(self._rows), self._count + count), MESSAGE)
            rows[: self._count] = self._rows[: self._count]
            self._rows = rows
        stamps, first, end = came or (_NO_STAMPS, 0, 0)
        while True:
            kept, large, size = copy(
                self._pointers, self._infos, count, self._largest, self._place, self.size, len(self._data), self._rows,
                self._count, t, channel, stamps, first, end, floor,
            )  # fmt: skip
            if size <= len(self._data):
                break
            # Another one, since arrays of earlier batches may still look at the old.
            data = np.empty(max(2 * len(self._data), size), np.uint8)
            data[: self.size] = self._data[: self.size]
            self._data, self._place = data, data.ctypes.data
        self.size = size
        self._parts += 1
        self._count += kept
        return kept, large

    def drop(self, count: int) -> int:
        """Give back what was taken; answers how many messages that were."""
        return int(give_back(self._pointers, self._infos, count))

    def batch(self) -> Batch | None:
        """What was kept, which holds until the next :meth:`take`; None where there is nothing."""
        if not self._count:
            return None
        rows = self._rows[: self._count]
        if self._parts > 1 and (rows["t"][1:] < rows["t"][:-1]).any():  # of several readers, each in its order
            rows = rows[np.argsort(rows["t"], kind="stable")]
        batch = Batch(self._data[: self.size], rows)
        self._count = self._parts = self.size = 0
        return batch


@kernel
def copy(pointers, infos, count, largest, place, begin, room, rows, row, t, channel, stamps, first, end, floor):  # type: ignore[no-untyped-def]
    """Copy messages behind byte ``begin`` of the batch at address ``place``, with their rows from ``row`` on, and give the
    samples back. Answers messages, those that are too large, and where the batch ends: where that is beyond ``room``, nothing
    was done."""
    done = np.int64(begin)
    for i in range(count):
        size = np.int64(_size_of(pointers[i]))
        if infos[i]["valid"] != 0 and size <= largest:
            done += size
    kept = np.int64(0)
    large = np.int64(0)
    if done > room:
        return kept, large, done
    done = np.int64(begin)
    for i in range(count):
        if infos[i]["valid"] != 0:
            size = np.int64(_size_of(pointers[i]))
            if size <= largest:
                _copy_to(pointers[i], np.uint64(0), np.uint64(size), place + done)
                came = np.int64(t)
                if first + i < end:  # a callback may not have told of it yet
                    came = min(max(stamps[(first + i) & (STAMPS - 1)], np.int64(floor)), came)
                rows[row + kept]["t"] = came
                rows[row + kept]["start"] = done
                rows[row + kept]["size"] = size
                rows[row + kept]["channel"] = channel
                kept += 1
                done += size
            else:
                large += 1
        _give_back(pointers[i])
    return kept, large, done


@kernel
def give_back(pointers, infos, count):  # type: ignore[no-untyped-def]
    """Give samples back; answers how many were messages."""
    found = np.int64(0)
    for i in range(count):
        if infos[i]["valid"] != 0:
            found += 1
        _give_back(pointers[i])
    return found
