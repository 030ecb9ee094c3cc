"""A ZeroMQ source in a test: its clock, its publishers, and what came of their messages."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import zmq

from edge_monitor.core.layout import Extractor, warm
from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.samples import (
    FLAG_CAUSE,
    Cause,
)
from edge_monitor.core.signals import Signal
from edge_monitor.sources.zmq import Endpoint, Status, ZmqSource

S = 1_000_000_000
META = msgpack.packb({"e": "msgpack", "t": "T"})
IN = Endpoint("tcp://127.0.0.1:*", "pull", bind=True)


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.t = 1000 * S

    def __call__(self) -> int:
        return self.t


class Room:
    """A source, the samples of what it gave, and publishers that are closed at the end."""

    def __init__(self, source: ZmqSource, clock: Clock, signals: list[Signal]) -> None:
        self.source, self.clock = source, clock
        self.extractor = Extractor(signals)
        self.context = zmq.Context()
        self.problems: list[str] = []
        self.samples: list[tuple[str, float, Cause, int]] = []
        self.status: list[Status] = []
        self.damage: list[Damage] = []
        self.channels: list[Channel] = []

    def publisher(self, kind: int = zmq.PUSH, address: str = "") -> zmq.Socket:
        """A socket that is connected to the source's first address."""
        socket = self.context.socket(kind)
        socket.linger = 0
        socket.connect(address or self.source.addresses[0])
        return socket

    def drain(self) -> int:
        """Drain once; answers how many messages came."""
        count = 0
        for item in self.source.drain():
            if isinstance(item, Channel):
                self.channels.append(item)
                self.problems += [problem.message for problem in self.extractor.add_channel(item)]
            elif isinstance(item, Batch):
                count += len(item.messages)
                for sample in self.extractor.extract(item):
                    name = self.extractor.signals[sample["signal"]].name
                    cause = Cause(int(sample["flags"]) & FLAG_CAUSE)
                    self.samples.append((name, float(sample["value"]), cause, int(sample["t"])))
            else:
                self.damage.append(item)
        self.status += self.source.status()
        return count

    def until(self, condition: Callable[[], Any], seconds: float = 10) -> None:
        """Drain until something holds."""
        deadline = time.monotonic() + seconds
        while True:
            self.drain()
            if condition():
                return
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.005)

    def seen(self, topic: str = "/t") -> int:
        """Messages of a topic that came, whatever became of them."""
        counts = self.source.counts[topic]
        return counts.taken + counts.over_rate + counts.over_size + counts.invalid

    def send(self, socket: zmq.Socket, *messages: list[bytes], topic: str = "/t") -> None:
        """Send messages and wait until all have come."""
        target = self.seen(topic) + len(messages)
        for message in messages:
            socket.send_multipart(message)
        self.until(lambda: self.seen(topic) >= target)


Open = Callable[..., Room]


def rooms() -> Iterator[Open]:
    """Makes rooms; closes them at the end."""
    made: list[Room] = []

    def make(*signals: Signal, endpoints: tuple[Endpoint, ...] = (IN,), **options: Any) -> Room:
        wanted = list(signals) or [Signal("x", "/t", "x")]
        warm()  # before there is a source, whose patience with silent topics begins when it is made
        clock = Clock()
        topics = dict.fromkeys(each.topic for each in wanted)
        room = Room(ZmqSource(endpoints, topics, options.pop("clock", clock), **options), clock, wanted)
        made.append(room)
        return room

    yield make
    for room in made:
        room.source.close()
        room.context.destroy(linger=0)


def message(x: Any, number: int | None = None, meta: bytes = META, topic: bytes = b"/t") -> list[bytes]:
    """A message ``{"x": x}``, with a sequence number where one is given."""
    mark = [] if number is None else [struct.pack("<Qq", number, 0)]
    return [topic, meta, msgpack.packb({"x": x}), *mark]


def keys() -> tuple[str, str]:
    """A new pair: public, secret."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()
