"""Who may connect to a monitor's own sockets, and who was refused anywhere: told once a second at most."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

import zmq

from ..curve_keys import Keys
from ..errors import ConfigError
from ..events import Event
from ..sources.curve import CONTROL, LISTEN, Gatekeeper, Refusal, guard
from ..sources.links import is_guarded_by_file, is_local
from . import broadcast
from .broadcast import Broadcast

LARGEST = 1 << 16  #: bytes of a request
TOLD_NS = 1_000_000_000  #: between two events about refusals
NAMED = 8  #: refusals that one event names

Socket = zmq.Socket[bytes]


class Access:
    """The sockets for what is published and for requests, and what is to be told of keys that were refused.

    With ``keys``, TCP sockets admit only the keys that may listen, or control; ``ipc://`` is guarded by the permissions of
    files.
    """

    def __init__(self, context: zmq.Context[Socket], keys: Keys | None, *, plain: bool = False) -> None:
        """``plain``: allow addresses beyond this machine without keys."""
        self._context = context
        self._keys = keys
        self._plain = plain
        self._keeper = None if keys is None else Gatekeeper(context, keys.peers.doors)
        self._sources: list[Callable[[], list[Refusal]]] = [] if self._keeper is None else [self._keeper.refusals]
        self._broadcast: Broadcast | None = None
        self._waiting: list[Refusal] = []
        self._next = 0  # when refusals may be told again, ns

    def publisher(self, address: str) -> Broadcast:
        """The socket for what is published. Raises ``ConfigError``."""

        def bind(address: str) -> Socket:
            settings = ((zmq.RCVHWM, broadcast.WAITING), (zmq.LINGER, 200))
            return self._bound(zmq.XPUB, address, LISTEN, "--publish", broadcast.LARGEST, settings)

        self._broadcast = Broadcast(bind, address)
        return self._broadcast

    def control(self, address: str) -> Socket:
        """The socket for requests. Raises ``ConfigError``."""
        return self._bound(zmq.ROUTER, address, CONTROL, "--control", LARGEST, ((zmq.LINGER, 0),))

    def watch(self, refusals: Callable[[], list[Refusal]]) -> None:
        """Also tell what a source refused."""
        self._sources.append(refusals)

    def poll_with(self, poller: zmq.Poller) -> None:
        """Have ``poller`` wait for handshakes and subscriptions, which wait for :meth:`attend`."""
        if self._keeper is not None:
            poller.register(self._keeper.socket, zmq.POLLIN)
        if self._broadcast is not None:
            self._broadcast.poll_with(poller)

    def attend(self, now: int, ready: Container[Any] | None = None) -> list[Event]:
        """Answer the handshakes that wait, look at subscriptions; what there is to tell of it at ``now`` (ns). ``ready``: the
        sockets for which the poller has found something; None: nobody has asked it."""
        if self._keeper is not None:
            self._keeper.serve(now)
        found = []
        if self._broadcast is not None and (degraded := self._broadcast.attend(now, ready)) is not None:
            found.append(degraded)
        for refusals in self._sources:
            self._waiting += refusals()
        if self._waiting and now >= self._next:
            told, self._waiting = self._waiting, []
            self._next = now + TOLD_NS
            found.append(refused(told, now))
        return found

    def _bound(
        self, kind: int, address: str, door: str, option: str, largest: int, settings: Sequence[tuple[int, int]]
    ) -> Socket:
        curve = self._keys is not None and not is_guarded_by_file(address)
        if "://" in address and not (curve or self._plain or is_local(address)):
            raise ConfigError(
                f"{option} {address}: anyone on the network could connect there: give CURVE keys with --curve-key and "
                "--peers, use a loopback address or ipc://, or allow it with --plain"
            )
        socket: Socket = self._context.socket(kind)
        for setting, value in (*settings, (zmq.MAXMSGSIZE, largest)):
            socket.setsockopt(setting, value)
        if curve and self._keys is not None:
            guard(socket, self._keys.pair.public, self._keys.pair.secret, door)
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            socket.close(0)
            raise ConfigError(
                f"{option} {address}: {error}; give an address that is free, such as tcp://127.0.0.1:7373"
            ) from None
        return socket


def refused(refusals: Sequence[Refusal], now: int) -> Event:
    """``access.refused``: keys that tried doors they have no right to."""
    named = [
        {"door": one.door, "key": one.fingerprint, "name": one.name, "address": one.address, "times": one.count}
        for one in refusals[:NAMED]
    ]
    payload: dict[str, Any] = {"refused": named}
    if len(refusals) > NAMED:
        payload["more"] = len(refusals) - NAMED
    return Event("access.refused", "curve", refusals[0].t, now, "marginal", payload)
