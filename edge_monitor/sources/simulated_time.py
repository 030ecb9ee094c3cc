"""Time as a simulator tells it, in the same stream as its messages (docs/live.md): for the bench.

A message that comes behind a time was received at that time, however busy the machine is, so that a simulation of any speed gives
the same decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec
import zmq

from edge_monitor.core.messages import Channel
from edge_monitor.outputs.wire import TIME_LIMIT

from .live import LiveSource

LOOK_MS = 100  #: between looks at whether to wait on
_decode = msgspec.msgpack.Decoder(int).decode


class SimulatedClock:
    """Answers the last time told, in ns; 0 before the first. It never goes back."""

    def __init__(self, topic: str) -> None:
        """``topic``: on which times come, each a MessagePack integer of ns."""
        self.topic = topic
        self.ignored = 0  #: messages that told no time, or an earlier one
        self._now = 0

    def __call__(self) -> int:
        return self._now

    def take(self, payload: bytes) -> None:
        """A message on the topic; one that is no time, or goes back, changes nothing."""
        told = -1
        with suppress(msgspec.MsgspecError):
            told = _decode(payload)
        if self._now <= told < TIME_LIMIT:
            self._now = told
        else:
            self.ignored += 1

    def wait(self, source: LiveSource, feed: Callable[[Channel], object], stop: Callable[[], bool]) -> bool:
        """Wait for the first time, or for ``stop``; answers whether it came. Messages before it have none and are dropped;
        ``feed`` gets what is known of their channels."""
        poller = zmq.Poller()
        for socket in source.sockets:
            poller.register(socket, zmq.POLLIN)
        while not self._now and not stop():
            poller.poll(LOOK_MS)
            for item in source.drain():
                if isinstance(item, Channel):
                    feed(item)
        return bool(self._now)
