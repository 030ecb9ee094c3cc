"""``Gatherer``: out of ZeroMQ's queues without a Python object for each frame; the loop that copies is machine code.

pyzmq takes about a microsecond for a frame, of which a message has four; libzmq itself, whose functions are called here on
pyzmq's sockets, takes a tenth of that.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import zmq
from llvmlite import binding
from numba import types

from edge_monitor.core.jit import kernel

FRAMES = 4  #: the most that a message has
TURN = 64  #: messages in one go, and frames beyond those of one message
#: Columns of the table: frames of a message, how many it had beyond them, then place and size of each.
COLUMNS = 2 + 2 * FRAMES
#: Places in the state: messages and frames so far, whether the rest of a message is skipped, the frame that is next, bytes so
#: far, and whether a frame waits that did not fit, and for how much room in all.
MESSAGES, LOOKED, SKIPPING, FRAME, FILLED, WAITING, NEEDED = range(7)
_LEFT, _EMPTY, _NO_ROOM = range(3)
_DONTWAIT = int(zmq.DONTWAIT)

_receive = types.ExternalFunction("zmq_msg_recv", types.int32(types.int64, types.int64, types.int32))
_data = types.ExternalFunction("zmq_msg_data", types.int64(types.int64))
_size = types.ExternalFunction("zmq_msg_size", types.uint64(types.int64))
_more = types.ExternalFunction("zmq_msg_more", types.int32(types.int64))
_copy = types.ExternalFunction("memcpy", types.int64(types.int64, types.int64, types.uint64))


def library() -> ctypes.CDLL:
    """The libzmq that pyzmq uses, known to kernels too."""
    from zmq.backend.cython import _zmq

    found = ctypes.CDLL(_zmq.__file__)  # loaded already; its symbols are those of all that it depends on
    for name in ("zmq_msg_recv", "zmq_msg_data", "zmq_msg_size", "zmq_msg_more"):
        binding.add_symbol(name, ctypes.cast(getattr(found, name), ctypes.c_void_p).value)
    binding.add_symbol("memcpy", ctypes.cast(ctypes.CDLL(None).memcpy, ctypes.c_void_p).value)
    return found


class Gatherer:
    """Takes whole messages out of sockets. Its buffer grows to what is needed and stays."""

    def __init__(self) -> None:
        self._library = library()
        self._message = np.zeros(8, np.int64)  # a zmq_msg_t
        self._into = self._message.ctypes.data
        self._library.zmq_msg_init(ctypes.c_void_p(self._into))
        self._data = np.empty(0, np.uint8)
        self._grow(1 << 16)
        self._table = np.zeros((TURN, COLUMNS), np.int64)
        self._state = np.zeros(7, np.int64)
        self._words = self._state.data  # NumPy takes ten times as long for one of them
        self.take(0, 0, 0, skipping=False)  # nothing yet: the loop is compiled or loaded before the first message

    def take(self, socket: int, most: int, size: int, *, skipping: bool) -> tuple[Sequence[Sequence[int]], int, bool]:
        """Take messages out of the socket at an address until about ``most`` frames were looked at, or above ``size`` bytes.

        Answers a row of ``COLUMNS`` for each message, which point into :attr:`view` until the next call; how many were looked
        at (what is skipped counts by frame); and whether the last message goes on, to be skipped. ``skipping``: the first does.
        """
        words = self._words
        words[MESSAGES] = words[LOOKED] = words[FRAME] = words[FILLED] = words[WAITING] = 0
        words[SKIPPING] = int(skipping)
        while self._gather(socket, most, size) == _NO_ROOM:
            self._grow(max(2 * len(self._data), words[NEEDED]))
        return self._table[: words[MESSAGES]].tolist(), words[LOOKED], bool(words[SKIPPING])

    def _gather(self, socket: int, most: int, size: int) -> int:
        place, room = self._place, len(self._data)
        ended: int = gather(socket, most, size, self._into, place, room, self._table, self._state)  # type: ignore[no-untyped-call]
        return ended

    def close(self) -> None:
        """Give the last message back."""
        self._library.zmq_msg_close(ctypes.c_void_p(self._into))

    def _grow(self, size: int) -> None:
        data = np.empty(size, np.uint8)
        data[: len(self._data)] = self._data
        self._data, self._place = data, data.ctypes.data
        self.view = data.data  #: bytes of the messages


@kernel
def gather(socket, most, size, message, place, room, table, state):  # type: ignore[no-untyped-def]
    """Copy messages to address ``place`` until one of the limits is reached, or nothing is left: why it ended."""
    while True:
        if state[WAITING] == 0:
            enough = state[LOOKED] >= most or state[FILLED] > size or state[MESSAGES] == len(table)
            if enough and state[FRAME] == 0:
                return _LEFT
            if _receive(message, socket, _DONTWAIT) < 0:  # type: ignore[call-overload]
                return _EMPTY
        row = state[MESSAGES]
        frame = state[FRAME]
        if state[SKIPPING] == 0 and frame < FRAMES:
            length = np.int64(_size(message))
            if state[FILLED] + length > room:
                state[WAITING] = 1
                state[NEEDED] = state[FILLED] + length
                return _NO_ROOM
            _copy(place + state[FILLED], _data(message), np.uint64(length))
            table[row, 2 + 2 * frame] = state[FILLED]
            table[row, 3 + 2 * frame] = length
            state[FILLED] += length
        state[WAITING] = 0
        more = np.int64(_more(message))
        if state[SKIPPING] != 0:
            state[LOOKED] += 1
            state[SKIPPING] = more
            continue
        frame += 1
        extra = max(frame - FRAMES, 0)
        state[FRAME] = frame
        if more != 0 and extra < TURN:  # a message comes whole or not at all
            continue
        table[row, 0] = min(frame, FRAMES)
        table[row, 1] = extra
        state[SKIPPING] = more  # a message of very many frames is left over several drains
        state[MESSAGES] += 1
        state[LOOKED] += 1 + extra
        state[FRAME] = 0
