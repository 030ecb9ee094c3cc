"""What comes out of the monitor, with the time of receipt: events, and what the lease consumer answers."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

import msgpack
import zmq
from vehicle import boottime

from edge_monitor.consumer import Consumer

GATE = "drive"
#: Told by a healthy monitor in a healthy vehicle.
NOTHING_WRONG = ("monitor.", "envelope.activated")


class Told(NamedTuple):
    """An event, and when it was received (ns)."""

    t: int
    type: str
    subject: str
    document: dict[str, Any]


class Watch(threading.Thread):
    """Takes all that the monitor publishes. ``answers``: (ns, GO or not, reason) of each change of the consumer's answer."""

    def __init__(self, address: str, *, other_clock: bool = False) -> None:
        super().__init__(daemon=True)
        self.events: list[Told] = []
        self.answers: list[tuple[int, bool, str]] = []
        self._consumer = Consumer([GATE], accept_unapproved=True, other_clock=other_clock)
        self._socket = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        for topic in (b"heartbeat", b"lease/", b"event/"):
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        self._socket.connect(address)
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.is_set():
            self._socket.poll(2)
            while True:
                try:
                    topic, body = self._socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                now = boottime()
                if topic.startswith(b"event/"):
                    document = msgpack.unpackb(body)
                    self.events.append(Told(now, document["type"], document["subject"], document))
                else:
                    self._consumer.take(topic, body, now)
            now = boottime()
            answer = self._consumer.allowed(GATE, now)
            if not self.answers or self.answers[-1][1] != answer.go:
                self.answers.append((now, answer.go, answer.reason.name))
        self._socket.close()

    @property
    def go(self) -> bool:
        """What the consumer answers now."""
        return bool(self.answers) and self.answers[-1][1]

    def until(self, go: bool, seconds: float) -> bool:
        """Wait until the consumer answers so; False where it does not in time."""
        end = time.monotonic() + seconds
        while self.go != go and time.monotonic() < end:
            time.sleep(0.005)
        return self.go == go

    def event(self, kind: str, subject: str, since: int, seconds: float) -> Told | None:
        """The first such event received since a time (ns), waited for so long."""
        end = time.monotonic() + seconds
        while True:
            for told in self.events[:]:
                if told.t >= since and told.type == kind and told.subject.strip("/") == subject.strip("/"):
                    return told
            if time.monotonic() >= end:
                return None
            time.sleep(0.005)

    def no_go_since(self, since: int) -> int | None:
        """When the consumer's answer first became NO_GO since a time; None where it did not."""
        return next((t for t, go, _ in self.answers[:] if t >= since and not go), None)

    def wrong(self, since: int) -> list[str]:
        """Events since a time that tell of a fault, and NO_GOs, a line each."""
        lines = [
            f"{told.type} {told.subject} {told.document.get('cause', '')}"
            for told in self.events[:]
            if told.t >= since and not told.type.startswith(NOTHING_WRONG)
        ]
        return lines + [f"NO_GO ({why})" for t, go, why in self.answers[:] if t >= since and not go]

    def end(self) -> None:
        """Stop."""
        self._ending.set()
        self.join(5)
