"""The survey flight as messages in the order in which they arrive: flown in JSBSim now, or played from the recording."""

from __future__ import annotations

import ctypes
import heapq
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from edge_monitor.core.messages import Batch, Channel
from edge_replay import readers

TICK = 10_000_000  #: ns between the times that are told at least


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """What a sensor sends: ``t``, when it arrives (ns), ``number``, the order of those that arrive together, and the frames
    of the wire format (docs/wire.md)."""

    t: int
    number: int
    topic: bytes
    meta: bytes
    payload: bytes


Tick = tuple[int, list[Message]]


@cache
def meta(type_: str, definition: str) -> bytes:
    """The second frame of a ROS 2 message."""
    return msgspec.msgpack.encode({"e": "cdr", "t": type_, "d": definition})


def simulated(seed: int) -> Iterator[Tick]:
    """Fly the mission, tick by tick. Raises ``ImportError`` where JSBSim is not installed."""
    from survey_flight import Flight

    air = _Air()
    with _silent():  # JSBSim greets on stdout
        flight = Flight(seed, air)
    now = 0
    for now in flight.steps():
        if now % TICK == 0:
            yield now, air.arrived(now)
    late = air.arrived(1 << 62)
    yield max([now, *(message.t for message in late)]), late


def recorded(path: Path) -> Iterator[Tick]:
    """The same from the recording."""
    messages = _read(path)
    message = next(messages, None)
    now = 0 if message is None else message.t // TICK * TICK
    while message is not None:
        due = []
        while message is not None and message.t <= now:
            due.append(message)
            message = next(messages, None)
        yield now, due
        now += TICK


def _read(path: Path) -> Iterator[Message]:
    channels: dict[int, Channel] = {}
    number = 0
    for item in readers.open(path):
        if isinstance(item, Channel):
            channels[item.id] = item
        elif isinstance(item, Batch):
            for t, start, size, of in item.messages.tolist():
                channel, payload = channels[of], item.data[start : start + size].tobytes()
                yield Message(t, number, channel.topic.encode(), meta(channel.type, channel.definition), payload)
                number += 1


class _Air:
    """Messages on their way: out of it they come in the order of their arrival."""

    def __init__(self) -> None:
        self._waiting: list[Message] = []
        self._count = 0

    def add(self, topic: str, message: Any, *, stamp: int, arrival: int) -> None:
        """A message that will have arrived at ``arrival`` (ns)."""
        from sensors import TYPES

        name = message.__msgtype__
        data = bytes(TYPES.serialize_cdr(message, name))
        heapq.heappush(
            self._waiting, Message(arrival, self._count, topic.encode(), meta(name, _definition(name)), data)
        )
        self._count += 1

    def arrived(self, now: int) -> list[Message]:
        """What has arrived by ``now`` (ns)."""
        found = []
        while self._waiting and self._waiting[0].t <= now:
            found.append(heapq.heappop(self._waiting))
        return found


@cache
def _definition(name: str) -> str:
    from sensors import TYPES

    return TYPES.generate_msgdef(name, ros_version=2)[0]


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing that a C library prints on stdout is seen."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
