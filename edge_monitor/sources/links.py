"""One socket to one address: how it is opened, who may be at the other end, and whether anyone has ever been."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import recv_monitor_message

from edge_monitor.errors import ConfigError

from .curve import PUBLISH, Curve, check_key, guard
from .topics import Limits

FIRST_WAIT = 500_000_000  #: ns before a refused client tries again; doubled each time
LONGEST_WAIT = 60_000_000_000
KINDS = {"sub": zmq.SUB, "pull": zmq.PULL}
_EVENTS = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
_NEWS = 256  # events that are taken in one go


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where messages come from. ``kind``: ``sub`` or ``pull``; ``bind``: wait there for publishers instead of connecting.

    ``server_key``: the public key (Z85) of what is connected to, with CURVE. ``keyless``: without CURVE, although the
    source has keys.
    """

    address: str
    kind: str = "sub"
    bind: bool = False
    server_key: str = ""
    keyless: bool = False


def is_local(address: str) -> bool:
    """Whether nothing outside this machine can be at the other end."""
    scheme, _, rest = address.partition("://")
    if scheme in ("ipc", "inproc"):
        return True
    host = rest.rpartition(":")[0].strip("[]")
    try:
        return scheme == "tcp" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False


def is_guarded_by_file(address: str) -> bool:
    """Whether the permissions of a file say who may connect; abstract sockets (``ipc://@name``) have none."""
    return address.startswith("ipc://") and not address.startswith("ipc://@")


class Link:
    """The socket of an endpoint. A client whose key was refused gives up for good in ZeroMQ (libzmq#3519): here it tries
    again, after a time that doubles and is jittered, so that a fleet does not come back at once.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: Endpoint,
        topics: Iterable[str],
        limits: Limits,
        curve: Curve | None,
        *,
        allow_plain: bool,
    ) -> None:
        curve = None if endpoint.keyless else curve
        _check(endpoint, curve, allow_plain)
        self.endpoint = endpoint
        self.met = 0  #: handshakes that succeeded
        self.refused = 0  #: times that the other end refused our key
        self.trouble = ""  #: why the last handshake failed
        self.skipping = False  #: the next frames are the rest of a message that is not looked at
        self._attempt = 0
        self._due: int | None = None  # when to connect again
        self.socket = context.socket(KINDS[endpoint.kind])
        self.socket.linger = 0
        self.socket.rcvhwm = limits.queue
        # Larger ones are refused by ZeroMQ itself, which cuts the connection; what is between is counted here by topic.
        self.socket.maxmsgsize = 2 * max(limits.frame_bytes, limits.meta_bytes)
        if curve is not None:
            if endpoint.bind:
                guard(self.socket, curve.public, curve.secret, PUBLISH)
            else:
                self.socket.curve_publickey, self.socket.curve_secretkey = curve.public.encode(), curve.secret.encode()
                self.socket.curve_serverkey = endpoint.server_key.encode()
        if endpoint.kind == "sub":
            for topic in topics:
                self.read(topic.removeprefix("/"))
        self._monitor = self.socket.get_monitor_socket(_EVENTS)
        try:
            if endpoint.bind:
                self.socket.bind(endpoint.address)
            else:
                self.socket.connect(endpoint.address)
        except zmq.ZMQError as error:
            self.close()
            verb = "bind" if endpoint.bind else "connect to"
            raise ConfigError(
                f"{endpoint.address}: cannot {verb} it ({error}): free the address or choose another"
            ) from None

    def read(self, topic: str) -> None:
        """Ask for a topic, given without a leading slash; who pushes sends what it wants."""
        if self.endpoint.kind == "sub":
            self.socket.subscribe(topic)
            self.socket.subscribe("/" + topic)

    def leave(self, topic: str) -> None:
        """The contrary of :meth:`read`."""
        if self.endpoint.kind == "sub":
            self.socket.unsubscribe(topic)
            self.socket.unsubscribe("/" + topic)

    def attend(self, now: int, chance: Callable[[], float]) -> None:
        """Take the news of handshakes, and connect again where that is due; ``now``: ns; ``chance``: within [0, 1)."""
        for _ in range(_NEWS):
            if not int(self._monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                break
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.Event.HANDSHAKE_SUCCEEDED:
                self.met += 1
                self._attempt, self.trouble = 0, ""
            elif event == zmq.Event.HANDSHAKE_FAILED_AUTH:
                self.trouble = "the other end refused our key"
                self.refused += 1
                if not self.endpoint.bind and self._due is None:
                    longest = min(LONGEST_WAIT, FIRST_WAIT << min(self._attempt, 16))
                    self._due = now + longest // 10 + int(chance() * longest)
                    self._attempt += 1
            else:
                self.trouble = "the handshake failed: another server key, or not ZeroMQ"
        if self._due is not None and now >= self._due:
            self._due = None
            with contextlib.suppress(zmq.ZMQError):  # ZeroMQ has taken it down already
                self.socket.disconnect(self.endpoint.address)
            self.socket.connect(self.endpoint.address)

    def describe(self) -> str:
        """What is known of the other end, in a few words."""
        found = "somebody has connected" if self.met else self.trouble or "nobody has connected"
        return f"{self.endpoint.address}: {found}"

    def close(self) -> None:
        """Close the socket and its monitor."""
        self.socket.disable_monitor()
        self._monitor.close()
        self.socket.close()


def _check(endpoint: Endpoint, curve: Curve | None, allow_plain: bool) -> None:
    address = endpoint.address
    if endpoint.kind not in KINDS:
        raise ConfigError(f"{address}: no socket is a {endpoint.kind!r}: use one of {' '.join(KINDS)}")
    if not re.fullmatch(r"(tcp|ipc|inproc)://\S+", address):
        raise ConfigError(f"{address!r} is no address: expected such as tcp://127.0.0.1:5556 or ipc:///run/robot/in")
    if curve is None and not (allow_plain or is_local(address)):
        raise ConfigError(
            f"{address}: anyone on the network could send there: give CURVE keys, use a loopback address or ipc://, "
            "or allow plain input explicitly"
        )
    if curve is not None and not endpoint.bind:
        check_key(endpoint.server_key, f"the key of what is connected to at {address}")
