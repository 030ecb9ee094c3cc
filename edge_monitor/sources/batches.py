"""Messages packed into one batch: a buffer that is used again, and rows that point into it."""

from __future__ import annotations

import struct

import numpy as np

from edge_monitor.core.messages import Batch
from edge_monitor.core.samples import MESSAGE

_ROW = struct.Struct("<qqii")
assert _ROW.size == MESSAGE.itemsize


class BatchBuilder:
    """Collects messages; :meth:`take` makes one batch of them. Buffers grow to what is needed and stay."""

    def __init__(self) -> None:
        self._data = bytearray(1 << 16)
        self._rows = bytearray(_ROW.size << 10)
        self._count = 0
        self.size = 0  #: bytes so far

    def add(self, t: int, channel: int, payload: bytes | memoryview, front: bytes = b"") -> None:
        """A message that was received at ``t`` (ns): ``front``, then ``payload``."""
        start, size = self.size, len(front) + len(payload)
        if start + size > len(self._data):  # a new one, since arrays of earlier batches may still look at the old
            self._data = self._data + bytes(max(len(self._data), start + size - len(self._data)))
        if (self._count + 1) * _ROW.size > len(self._rows):
            self._rows = self._rows + bytes(len(self._rows))
        _ROW.pack_into(self._rows, self._count * _ROW.size, t, start, size, channel)
        if front:
            middle = start + len(front)
            self._data[start:middle] = front
            self._data[middle : start + size] = payload
        else:
            self._data[start : start + size] = payload
        self._count += 1
        self.size = start + size

    def take(self) -> Batch | None:
        """The batch, which holds until the next :meth:`add`; None where there is nothing."""
        if not self._count:
            return None
        data = np.frombuffer(self._data, np.uint8, self.size)
        rows = np.frombuffer(self._rows, MESSAGE, self._count)
        self._count = self.size = 0
        return Batch(data, rows)
