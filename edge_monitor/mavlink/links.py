"""Where MAVLink comes from and goes to: UDP, TCP and serial lines. Nothing here waits."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import termios
import tty
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from edge_monitor.errors import ConfigError, UsageError
from edge_monitor.secret_files import open_to_others

from .framing import SEGMENT

BUFFER = 1 << 17  #: bytes that one look takes at most; what is more waits in the system's buffer
DATAGRAM = 1 << 16
DATAGRAMS = 2048  #: of one look
RECEIVE = 1 << 21  #: bytes that the system is asked to keep for us
RETRY_NS = 1_000_000_000  #: between attempts to open a line that is down
PEERS = 16  #: addresses that are answered
QUIET_NS = 10_000_000_000  #: an address from which nothing came for so long is not sent to any more
KEY_BYTES = 32
FORMS = (
    "mavlink:udpin:127.0.0.1:14550 (waits there), mavlink:udpout:HOST:PORT, mavlink:tcp:HOST:PORT or "
    "mavlink:serial:/dev/ttyACM0:57600, then at will ?system=10&component=191&signing=FILE&bench=yes"
)


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """``kind``: udpin, udpout, tcp or serial; ``host``: or the device; ``port``: or the baud rate; ``system``,
    ``component``: who we are; ``signing``: the 32 bytes that messages are signed with, or none; ``bench``: the vehicle stands
    on one, and may arm on what is not approved."""

    kind: str
    host: str
    port: int
    system: int = 10
    component: int = 191
    signing: bytes = b""
    bench: bool = False

    def __str__(self) -> str:
        return f"{self.kind}:{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether nothing outside this machine and its wires can be at the other end."""
        if self.kind == "serial" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> LinkAddress:
    """What stands behind ``mavlink:``. Raises ``UsageError`` where it is no address, ``ConfigError`` for a bad key file."""
    place, mark, query = text.partition("?")
    kind, _, rest = place.partition(":")
    host, _, number = rest.rpartition(":")
    options = dict(parse_qsl(query, keep_blank_values=True))
    wrong = UsageError(f"--source mavlink:{text}: expected {FORMS}")
    port = int(number) if number.isascii() and number.isdigit() else -1
    most = 4_000_000 if kind == "serial" else 65535
    if kind not in ("udpin", "udpout", "tcp", "serial") or not host or not 0 <= port <= most:
        raise wrong
    if set(options) - {"system", "component", "signing", "bench"} or (mark and not options):
        raise wrong
    me = [options.get("system", "10"), options.get("component", "191")]
    if not all(value.isascii() and value.isdigit() and 1 <= int(value) <= 255 for value in me):
        raise wrong
    if options.get("bench", "yes") != "yes":
        raise wrong
    key = read_key(Path(options["signing"])) if "signing" in options else b""
    return LinkAddress(kind, host.strip("[]"), port, int(me[0]), int(me[1]), key, "bench" in options)


def read_key(path: Path) -> bytes:
    """The signing key in a file: 64 hex digits. Raises ``ConfigError``."""
    try:
        opened, text = open_to_others(path), path.read_text("ascii").strip()
        key = bytes.fromhex(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the file of the signing key") from None
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path}: no signing key; it is 64 hex digits, as the vehicle was given them")
    if opened:
        raise ConfigError(f"{path}: others can read this key; run 'chmod 600 {path}'")
    return key


class Link:
    """A line to vehicles. ``fd`` stays the same for good, also where the line is opened anew behind it."""

    stream = False  #: whether frames may be cut anywhere

    def __init__(self, address: LinkAddress) -> None:
        self.address = address
        self.fd = -1
        self.trouble = ""  #: why nothing can come
        self.unsent = 0  #: messages that the line did not take
        self.data = np.zeros(BUFFER + DATAGRAM, np.uint8)  #: what :meth:`receive` filled; used again
        self._view = memoryview(self.data.data)
        self._segments = np.zeros(DATAGRAMS, SEGMENT)

    def receive(self, clock: Callable[[], int]) -> np.ndarray:
        """What is queued: SEGMENT rows of ``data``, each stamped as it was taken."""
        raise NotImplementedError

    def parsed(self, segments: np.ndarray, position: int) -> None:
        """What was received has been looked at: up to ``position``, where frames may be cut."""

    def send(self, message: bytes) -> None:
        """Send to all who are known. What can't be sent at once is dropped."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the line back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class UdpLink(Link):
    """Datagrams, of whole frames each. ``udpin`` answers all from whom frames came lately; ``udpout`` knows one address."""

    def __init__(self, address: LinkAddress) -> None:
        super().__init__(address)
        family, place = _resolve(address, socket.SOCK_DGRAM)
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE)
        self._peers: dict[Any, int] = {}
        self._from: list[Any] = []
        try:
            if address.kind == "udpin":
                self._socket.bind(place)
            else:
                self._socket.connect(place)
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"{address}: {error.strerror}; free the port or give another") from None
        self.fd = self._socket.fileno()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._socket.getsockname()[1])

    def receive(self, clock: Callable[[], int]) -> np.ndarray:
        """Datagrams that wait, until the buffer is full."""
        used, count = 0, 0
        self._from.clear()
        while count < DATAGRAMS and used < BUFFER:
            try:
                size, peer = self._socket.recvfrom_into(self._view[used:])
            except BlockingIOError:
                break
            except OSError:  # nobody was there for what was sent before
                break
            self._segments[count] = (clock(), used, used + size, 0)
            self._from.append(peer)
            used, count = used + size, count + 1
        return self._segments[:count]

    def parsed(self, segments: np.ndarray, position: int) -> None:
        """Take note of who sent frames."""
        if self.address.kind != "udpin":
            return
        for peer, t, frames in zip(self._from, segments["t"].tolist(), segments["frames"].tolist(), strict=True):
            if frames and (peer in self._peers or len(self._peers) < PEERS):
                self._peers[peer] = t

    def send(self, message: bytes) -> None:
        """To each peer, or to the one address."""
        now = max(self._peers.values(), default=0)
        self._peers = {peer: t for peer, t in self._peers.items() if now - t <= QUIET_NS}
        for peer in [None] if self.address.kind == "udpout" else list(self._peers):
            try:
                self._socket.send(message) if peer is None else self._socket.sendto(message, peer)
            except OSError:
                self.unsent += 1

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class StreamLink(Link):
    """Bytes in a row, over TCP or a serial line. Where it breaks it is opened anew, once a second."""

    stream = True

    def __init__(self, address: LinkAddress) -> None:
        super().__init__(address)
        self.trouble = "it is not open yet"
        self._kept = 0  # bytes of a frame that is not whole yet
        self._due = 0
        self._open = self._serial if address.kind == "serial" else self._connect
        if address.kind == "serial":
            self._speed = getattr(termios, f"B{address.port}", None)
            if self._speed is None:
                raise ConfigError(
                    f"{address}: {address.port} is no baud rate of a serial line; usual is 57600 or 921600"
                )
        else:
            self._family, self._place = _resolve(address, socket.SOCK_STREAM)
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # stands in while the line is down: never readable

    def receive(self, clock: Callable[[], int]) -> np.ndarray:
        """What has come, behind what was kept of the last time."""
        now = clock()
        if self.trouble:
            self._reopen(now)
        size = 0
        while self._kept + size < BUFFER:
            try:
                more = os.readv(self.fd, [self._view[self._kept + size : self._kept + size + DATAGRAM]])
            except BlockingIOError:
                break
            except OSError as error:
                self._down(error.strerror or str(error))
                break
            if more == 0:
                self._down("the other end has closed it")
                break
            size += more
        self._segments[0] = (now, 0, self._kept + size, 0)
        return self._segments[: int(size > 0)]

    def parsed(self, segments: np.ndarray, position: int) -> None:
        """Keep the start of a frame for the next time."""
        if len(segments):
            end = int(segments[0]["end"])
            self._kept = end - position
            self.data[: self._kept] = self.data[position:end]

    def send(self, message: bytes) -> None:
        """A message that the line takes in part only is lost, and its receiver finds the next one."""
        if self.trouble:
            self.unsent += 1
            return
        try:
            whole = os.write(self.fd, message) == len(message)
        except OSError:
            whole = False
        self.unsent += not whole

    def _reopen(self, now: int) -> None:
        if now < self._due:
            return
        self._due = now + RETRY_NS
        try:
            fresh = self._open()
        except OSError as error:
            self.trouble = error.strerror or str(error)
            return
        self.trouble, self._kept = "", 0
        os.dup2(fresh, self.fd, inheritable=False)
        os.close(fresh)

    def _down(self, why: str) -> None:
        self.trouble = why
        idle = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        os.dup2(idle, self.fd, inheritable=False)
        os.close(idle)

    def _connect(self) -> int:
        made = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        failed = made.connect_ex(self._place)
        if failed not in (0, errno.EINPROGRESS):
            made.close()
            raise OSError(failed, os.strerror(failed))
        return made.detach()

    def _serial(self) -> int:
        line = os.open(self.address.host, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            tty.setraw(line)
            settings = termios.tcgetattr(line)
            settings[2] |= termios.CLOCAL | termios.CREAD
            settings[4] = settings[5] = self._speed
            termios.tcsetattr(line, termios.TCSANOW, settings)
        except termios.error as error:
            os.close(line)
            raise OSError(*error.args) from None
        return line


def open_link(address: LinkAddress) -> UdpLink | StreamLink:
    """The line of an address. Raises ``ConfigError`` where it can't be had."""
    return UdpLink(address) if address.kind.startswith("udp") else StreamLink(address)


def _resolve(address: LinkAddress, kind: int) -> tuple[int, Any]:
    try:
        family, _, _, _, place = socket.getaddrinfo(address.host, address.port, type=kind)[0]
    except OSError as error:
        raise ConfigError(f"{address}: {error.strerror}; give an IP address or a name that is known") from None
    return family, place
