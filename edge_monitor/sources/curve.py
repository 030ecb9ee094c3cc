"""CURVE: who may connect. The keys of both sides, and the answers to ZeroMQ's question about a client's key (ZAP, RFC 27)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import zmq
from zmq.utils import z85

from edge_monitor.errors import ConfigError

ZAP_ADDRESS = "inproc://zeromq.zap.01"
#: What a client may be let in to: send to a source, receive what is published, ask and command.
PUBLISH, LISTEN, CONTROL = DOORS = ("publish", "listen", "control")
REMEMBERED = 256  #: refused keys that are counted one by one
ANSWERS = 64  #: handshakes that are answered in one go


@dataclass(frozen=True, slots=True)
class Curve:
    """The keys of this side (Z85 text, 40 characters), and the public keys that may connect to what it binds."""

    public: str
    secret: str = field(repr=False)
    allowed: Mapping[str, str] = field(default_factory=dict)  #: public key to the name of who holds it

    def __post_init__(self) -> None:
        for name, key in (("public", self.public), ("secret", self.secret), *((n, k) for k, n in self.allowed.items())):
            check_key(key, f"the key of {name!r}" if key in self.allowed else f"the {name} key")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A key tried a door that it has no right to: when (ns), from where, and the how-manieth time that was.

    ``name``: whose key it is, where it is known for another door.
    """

    t: int
    address: str
    fingerprint: str
    count: int
    door: str = PUBLISH
    name: str = ""


def is_key(key: str) -> bool:
    """Whether it is a Z85 key of 32 bytes."""
    try:
        return len(key) == 40 and len(z85.decode(key.encode("ascii"))) == 32
    except (ValueError, KeyError, struct.error):
        return False


def check_key(key: str, name: str) -> None:
    """Raises :class:`ConfigError` where ``key`` is no Z85 key."""
    if not is_key(key):
        raise ConfigError(
            f"CURVE: {name} is not a Z85 key of 40 characters: make one with 'edge-monitor keys curve NAME'"
        )


def fingerprint(key: bytes) -> str:
    """A short name of a public key (its 32 bytes): the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(key).hexdigest()[:16]


def key_fingerprint(key: str) -> str:
    """The fingerprint of a Z85 key."""
    return fingerprint(z85.decode(key.encode("ascii")))


def guard(socket: zmq.Socket[bytes], public: str, secret: str, door: str) -> None:
    """Make ``socket``, before it is bound, ask for a key that may pass ``door``: without a gatekeeper nobody passes."""
    socket.curve_publickey, socket.curve_secretkey = public.encode(), secret.encode()
    socket.curve_server = True
    socket.zap_domain = _domain(door)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def _domain(door: str) -> bytes:
    return f"edge-monitor/{door}".encode()


class Gatekeeper:
    """Answers ZeroMQ's questions for one context, in the thread that owns it: a handshake waits for :meth:`serve`.

    Made before the sockets that it guards are bound, and closed after them.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], doors: Mapping[str, Mapping[str, str]]) -> None:
        """``doors``: for each door the public keys (Z85) that may pass it, and whose they are."""
        self._doors = {
            _domain(door): (door, {z85.decode(key.encode()): name for key, name in allowed.items()})
            for door, allowed in doors.items()
        }
        self._names = {key: name for _, allowed in self._doors.values() for key, name in allowed.items()}
        self._counts: dict[str, int] = {}
        self._refusals: list[Refusal] = []
        self.refused = 0  #: attempts
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(ZAP_ADDRESS)

    def serve(self, now: int) -> None:
        """Answer the questions that wait; ``now``: ns."""
        for _ in range(ANSWERS):
            if not int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return
            self.socket.send_multipart(self._answer(self.socket.recv_multipart(), now))

    def refusals(self) -> list[Refusal]:
        """Those since the last call; of one key the first, the tenth, the hundredth…"""
        found, self._refusals = self._refusals, []
        return found

    def close(self) -> None:
        """Stop answering."""
        self.socket.close()

    def _answer(self, request: list[bytes], now: int) -> list[bytes]:
        if len(request) < 6:
            return [b"1.0", b"", b"500", b"malformed", b"", b""]
        version, number, domain, address, _, mechanism, *credentials = request
        key = credentials[0] if mechanism == b"CURVE" and len(credentials) == 1 else b""
        door, allowed = self._doors.get(domain, ("", {}))
        if version == b"1.0" and key in allowed:
            return [b"1.0", number, b"200", b"OK", allowed[key].encode(), b""]
        self._refuse(key, address.decode("utf-8", "replace"), door, now)
        return [b"1.0", number, b"400", b"not on the list", b"", b""]

    def _refuse(self, key: bytes, address: str, door: str, now: int) -> None:
        self.refused += 1
        short = fingerprint(key)
        if short not in self._counts and len(self._counts) >= REMEMBERED:
            short = "others"
        count = self._counts.get(short, 0) + 1
        self._counts[short] = count
        if str(count).rstrip("0") == "1":
            self._refusals.append(Refusal(now, address, short, count, door, self._names.get(key, "")))
