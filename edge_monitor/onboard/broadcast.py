"""The socket for what is published. It never waits for a subscriber, and subscribers can't fill the memory."""

from __future__ import annotations

from collections.abc import Callable, Container
from contextlib import suppress
from typing import Any

import zmq

from ..events import Event

#: Bytes of all topics that are subscribed to. ZeroMQ keeps about fifty bytes for each, without a limit of its own.
MOST_TOPICS = 1 << 20
LARGEST = 1 << 10  #: bytes of one subscription, and of a handshake's part
WAITING = 64  #: subscriptions of one connection that wait to be looked at
NEWS = 1024  #: subscriptions that are looked at in one turn
TOLD_NS = 1_000_000_000  #: between two events

Socket = zmq.Socket[bytes]


class Broadcast:
    """An XPUB socket that is opened anew when its subscriptions take too much: subscribers then connect again by themselves."""

    def __init__(self, bind: Callable[[str], Socket], address: str) -> None:
        """``bind``: gives a bound socket. Raises what it does."""
        self._bind = bind
        self._socket: Socket | None = bind(address)
        self._address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._poller: zmq.Poller | None = None
        self._size = 0
        self._opened = 0  # times that it was opened anew, since the last event
        self._next = 0

    @property
    def address(self) -> str:
        """Where it is, with the port that the system chose."""
        return self._address

    def send(self, parts: list[bytes]) -> None:
        """Publish a message: a subscriber that does not read loses it, and nobody waits for one."""
        if self._socket is not None:
            with suppress(zmq.Again):
                self._socket.send_multipart(parts, zmq.NOBLOCK)

    def poll_with(self, poller: zmq.Poller) -> None:
        """Be among what ``poller`` waits for, also when opened anew."""
        self._poller = poller
        if self._socket is not None:
            poller.register(self._socket, zmq.POLLIN)

    def attend(self, now: int, ready: Container[Any] | None = None) -> Event | None:
        """Take the news of subscriptions; answers an event where the socket had to be opened anew. ``ready``: the sockets
        for which the poller has found something; None: nobody has asked it."""
        if self._socket is None:
            with suppress(Exception):  # the address is not given back yet: the next turn tries again
                self._socket = self._bind(self._address)
                if self._poller is not None:
                    self._poller.register(self._socket, zmq.POLLIN)
            return None
        for _ in range(NEWS if ready is None or self._socket in ready else 0):
            if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                break
            news = self._socket.recv()  # of several parts each is a message for us
            if news[:1] in (b"\0", b"\1"):
                self._size += len(news) if news[:1] == b"\1" else -len(news)
        if self._size > MOST_TOPICS:
            if self._poller is not None:
                self._poller.unregister(self._socket)
            self._socket.close(0)
            self._socket, self._size = None, 0
            self._opened += 1
        if not self._opened or now < self._next:
            return None
        payload = {
            "cause": f"subscriptions took more than {MOST_TOPICS} bytes: it was opened anew",
            "times": self._opened,
        }
        self._opened, self._next = 0, now + TOLD_NS
        return Event("monitor.degraded", "publish", now, now, "marginal", payload)
