"""What every sensor's statistics have in common: named numbers with causes, and state that is bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from ..samples import Cause

#: A cause of its own: the message has nothing to say about this statistic, so it gives no sample (a frame without
#: detections has no confidence; what was known holds until its ``max_age``).
SILENT = -1


class FlatState:
    """State that is a few flat arrays, and so can be copied as bytes."""

    _state: tuple[np.ndarray, ...] = ()

    def snapshot(self) -> bytes:
        """State as bytes; ``restore`` into an object with equal options goes on from there, bit for bit."""
        return b"".join(array.tobytes() for array in self._state)

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot. Raises ValueError: it is of another kind."""
        if len(snapshot) != sum(array.nbytes for array in self._state):
            raise ValueError(f"snapshot of {len(snapshot)} bytes does not fit {type(self).__name__}")
        at = 0
        for array in self._state:
            array.reshape(-1).view(np.uint8)[:] = np.frombuffer(snapshot, np.uint8, array.nbytes, at)
            at += array.nbytes


class Statistics(FlatState, ABC):
    """Several named numbers out of each message of one sensor.

    After :meth:`message`, ``values[i]`` (float64) is statistic ``names[i]`` where ``causes[i]`` (int32) is NONE; else
    the cause says why it is unknown, or is :data:`SILENT`. Nothing in a message raises.
    """

    names: tuple[str, ...]
    problem = ""  #: what a person must mend before some statistics can be had, as the last message showed it

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.values = np.full(len(self.names), np.nan)
        self.causes = np.full(len(self.names), int(Cause.NEVER_RECEIVED), np.int32)

    @abstractmethod
    def message(self, t: int, data: np.ndarray, start: int, size: int) -> None:
        """Measure the serialized message ``data[start:start + size]`` ((n,) uint8) received at ``t`` (ns)."""

    @abstractmethod
    def reset(self) -> None:
        """Forget what earlier messages left behind (a clock jump, a new stream)."""

    def warm(self) -> None:
        """Compile what a message needs, without a trace in the state: a live stream cannot wait for it."""
        before = self.snapshot()
        nothing = np.zeros(0, np.uint8)
        nothing.flags.writeable = False
        self.message(0, nothing, 0, 0)
        self.exercise()
        self.restore(before)
        self.refuse(Cause.NEVER_RECEIVED)
        self.problem = ""

    @abstractmethod
    def exercise(self) -> None:
        """Measure something small, as an ordinary message would be."""

    def refuse(self, cause: Cause) -> None:
        """All statistics of this message are unknown."""
        self.values[:] = np.nan
        self.causes[:] = int(cause)
