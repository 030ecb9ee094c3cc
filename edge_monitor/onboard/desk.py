"""Requests over the control socket, and their answers: each as soon as the journal holds what it led to.

A ROUTER socket, although those who ask have REQ: a REP socket of libzmq loses the answer to somebody honest after a message
without a delimiter from somebody who has gone (``router_t::rollback`` forgets that it was within a message).
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import zmq

from .control import Reply

#: Requests that are answered in one turn: whoever asks without pause must not keep decisions waiting.
REQUESTS = 8
OWED = 64  #: answers that wait for the journal; then requests wait
HOPS = 8  #: frames before a request's delimiter
#: A command is answered with its outcome once the journal holds it, and after so long with what is known: in the time of those
#: who wait, which is not a simulator's.
ANSWER_NS = 5_000_000_000
UNSURE = msgspec.msgpack.encode(
    {"ok": False, "error": "carried out, but the journal does not hold it yet: check the disk"}
)
PARTS = Reply(msgspec.msgpack.encode({"ok": False, "error": "a request has one part, a MessagePack map"}))


@dataclass(slots=True)
class _Owed:
    """An answer that waits: for whom, for which tickets of the journal, and since when (ns, CLOCK_MONOTONIC)."""

    route: list[bytes]
    body: bytes
    tickets: set[int]
    since: int


class Desk:
    """Takes requests from a ROUTER socket; ``answer`` gets each and the time, ns."""

    def __init__(self, socket: zmq.Socket[bytes], answer: Callable[[bytes, int], Reply]) -> None:
        self.socket = socket
        self._answer = answer
        self._owed: list[_Owed] = []
        self._bell = select.poll()
        self._bell.register(socket.FD, select.POLLIN)
        self._used = True  # since it was last looked at

    def asked(self, look: bool) -> bool:
        """Whether there are requests, where no poller has looked. The socket's bell rings once for what is new, and whatever is
        done with the socket silences it. ``look``: whether the bell rings or not."""
        if not (look or self._used or self._bell.poll(0)):
            return False
        self._used = False
        return bool(int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def serve(self, now: int) -> None:
        """Take what is asked, at most ``REQUESTS``, and answer it or owe the answer."""
        self._used = True
        for _ in range(REQUESTS):
            if len(self._owed) >= OWED:
                return
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                begin = frames.index(b"", 1, HOPS) + 1
            except ValueError:
                continue  # no delimiter: nobody could tell the answer from it
            route, parts = frames[:begin], frames[begin:]
            reply = self._answer(parts[0], now) if len(parts) == 1 else PARTS
            if reply.tickets:
                self._owed.append(_Owed(route, reply.body, set(reply.tickets), time.monotonic_ns()))
            else:
                self._send(route, reply.body)

    def settle(self, durable: list[int]) -> None:
        """The journal holds what ``durable`` stands for: answers that waited for it are given."""
        for owed in list(self._owed):
            owed.tickets.difference_update(durable)
            late = time.monotonic_ns() - owed.since > ANSWER_NS
            if not owed.tickets or late:
                self._send(owed.route, UNSURE if owed.tickets else owed.body)
                self._owed.remove(owed)

    def _send(self, route: list[bytes], body: bytes) -> None:
        self._used = True
        self.socket.send_multipart([*route, body])  # to one who has left, or does not read, it is dropped
