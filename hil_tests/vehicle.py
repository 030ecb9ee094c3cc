"""A simulated vehicle in a process of its own: five sensors at 50 and 100 Hz over a PUSH socket, and faults on demand."""

from __future__ import annotations

import gc
import heapq
import math
import multiprocessing
import random
import struct
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import msgpack
import zmq
from faults import FAULTS, Message

META = msgpack.packb({"e": "msgpack"})
MARK = struct.Struct("<Qq")
#: Messages that wait for a monitor that does not take them; what comes then is dropped, as the marks tell.
QUEUE = 1_000


def boottime() -> int:
    """Ns since the machine started."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Vehicle:
    """Starts the process; ``inject`` puts a fault on, ``healthy`` takes it off."""

    def __init__(self, address: str, clock_offset_ns: int = 0) -> None:
        """``address``: where the monitor's PULL socket is. ``clock_offset_ns``: the monitor's CLOCK_BOOTTIME minus ours."""
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=drive, args=(address, clock_offset_ns, other), daemon=True)
        self._process.start()

    def inject(self, fault: str) -> int:
        """Put a fault on; answers when, ns."""
        self._pipe.send(fault)
        return int(self._pipe.recv())

    def healthy(self) -> int:
        """Take the fault off; answers when, ns."""
        return self.inject("healthy")

    def end(self) -> None:
        """Stop the vehicle."""
        self._pipe.send(None)
        self._process.join(5)


def sensors(offset: int) -> list[tuple[str, int, Callable[[float], Message]]]:
    """Topic, period in ns, and what the sensor says at a time (s)."""
    noise = random.Random(1)

    def altitude(t: float, sigma: float) -> float:
        return 50 + 2 * math.sin(0.2 * t) + noise.gauss(0, sigma)

    def stamp() -> Message:
        return {"stamp": boottime() + offset}

    return [
        ("/imu", 10_000_000, lambda t: {
            "header": stamp(), "gyro": {"x": 0.2 * math.sin(0.7 * t) + noise.gauss(0, 0.01)},
            "acceleration": {"z": -9.81 + noise.gauss(0, 0.1)},
        }),
        ("/baro", 20_000_000, lambda t: {"value": altitude(t, 0.1)}),
        ("/gnss", 20_000_000, lambda t: {"altitude": altitude(t, 0.3)}),
        ("/odom", 20_000_000, lambda t: {"speed": 5 + 0.5 * math.sin(0.3 * t) + noise.gauss(0, 0.05)}),
        ("/range", 20_000_000, lambda t: {"value": 8 + 0.5 * math.sin(0.4 * t) + noise.gauss(0, 0.05)}),
    ]  # fmt: skip


def drive(address: str, offset: int, pipe: Connection) -> None:
    """The process: send what is due, through the fault that is on."""
    gc.disable()
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.setsockopt(zmq.SNDHWM, QUEUE)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(address)
    begun = boottime()
    fault, memory = FAULTS["healthy"], {}
    found = sensors(offset)
    due = [(begun + n * 1_500_000, n) for n in range(len(found))]
    heapq.heapify(due)
    waiting: list[tuple[int, int, str, Message]] = []
    marks: dict[str, int] = {}
    order = 0
    while True:
        at = min([due[0][0]] + [row[0] for row in waiting[:1]])
        if pipe.poll(max(0.0, (at - boottime()) / 1e9)):
            name = pipe.recv()
            if name is None:
                break
            fault, memory = FAULTS[name], {}
            pipe.send(boottime())
        now = boottime()
        while due[0][0] <= now:
            t, number = due[0]
            topic, period, say = found[number]
            heapq.heapreplace(due, (t + period, number))
            for delay, place, message in fault(topic, say((now - begun) / 1e9), memory):
                order += 1
                heapq.heappush(waiting, (now + delay, order, place, message))
        while waiting and waiting[0][0] <= boottime():
            _, _, topic, message = heapq.heappop(waiting)
            _send(socket, topic, message, marks)
    context.destroy(linger=0)


def _send(socket: Any, topic: str, message: Message, marks: dict[str, int]) -> None:
    number = marks[topic] = marks.get(topic, -1) + 1
    try:
        socket.send_multipart([topic.encode(), META, msgpack.packb(message), MARK.pack(number, 0)], zmq.NOBLOCK)
    except zmq.Again:
        return
