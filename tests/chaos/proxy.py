"""A TCP proxy on the loopback whose link can be slow, late, cut, half open, or gone, as a robot's radio link is."""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

CHUNK = 1024
TOSS = 32 << 10  #: bytes of a way between two throws of the dice
QUEUED = 64 << 10  #: bytes that wait on the way, as in a modem; more stay with the sender


@dataclass(slots=True)
class Link:
    """How the link is now; may be changed from any thread.

    ``rate``: bytes a second each way, 0: no limit. ``delay``: s. ``piece``: bytes written at once. ``cut``: chance that a
    connection breaks within its next 32 KiB, at any byte. ``open``: False takes no connection and breaks none. ``silent``:
    connections stay, nothing passes.
    """

    rate: float = 0.0
    delay: float = 0.0
    piece: int = CHUNK
    cut: float = 0.0
    open: bool = True
    silent: bool = False


@dataclass(slots=True)
class _Way:
    """One direction of a connection: chunks with the time when they arrive."""

    source: socket.socket
    target: socket.socket
    up: bool
    chunks: deque[tuple[float, bytes]] = field(default_factory=deque)
    waiting: int = 0
    free_at: float = 0.0
    left: int = 0  #: bytes until the next throw of the dice
    breaks_in: int = 1 << 62


class Proxy:
    """Listens at ``port`` and connects each connection to ``target``."""

    def __init__(self, target: tuple[str, int], link: Link, seed: int) -> None:
        self.link = link
        self.bytes_up = self.cuts = self.connections = 0
        self._target = target
        self._rng = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._ways: list[_Way] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End every connection, and listen no more."""
        self._stop.set()
        self._thread.join(10)

    def drop_all(self) -> None:
        """Break what is connected now."""
        for way in list(self._ways):
            with suppress(OSError):
                way.source.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        while not self._stop.is_set():
            if self.link.open and select.select([self._listener], [], [], 0)[0]:
                self._accept()
            now = time.monotonic()
            readers = [] if self.link.silent else [way.source for way in self._ways if way.waiting < QUEUED]
            ready = set(select.select(readers, [], [], 0.002)[0]) if readers else set()
            if not readers:
                time.sleep(0.002)
            for way in list(self._ways):
                if way in self._ways and not self.link.silent:
                    self._move(way, way.source in ready, now)
        for way in self._ways:
            way.source.close()
        self._listener.close()

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(self._target, timeout=2)
        except OSError:
            near.close()
            return
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
            one.setblocking(False)
        self.connections += 1
        self._ways += [_Way(near, far, True), _Way(far, near, False)]

    def _move(self, way: _Way, readable: bool, now: float) -> None:
        link = self.link
        try:
            if readable:
                data = way.source.recv(CHUNK)
                if not data or self._breaks(way, len(data)):
                    self._end(way)
                    return
                way.free_at = max(way.free_at, now) + (len(data) / link.rate if link.rate else 0.0)
                way.chunks.append((way.free_at + link.delay, data))
                way.waiting += len(data)
            while way.chunks and way.chunks[0][0] <= now:
                due, data = way.chunks.popleft()
                sent = way.target.send(data[: link.piece])
                way.waiting -= sent
                self.bytes_up += sent if way.up else 0
                if sent < len(data):
                    way.chunks.appendleft((due, data[sent:]))
        except BlockingIOError:
            way.chunks.appendleft((due, data))
        except OSError:
            self._end(way)

    def _breaks(self, way: _Way, size: int) -> bool:
        """Whether the connection ends within these bytes."""
        if way.left <= 0:
            way.left = TOSS
            way.breaks_in = self._rng.randrange(TOSS) if self._rng.random() < self.link.cut else 1 << 62
        way.left -= size
        way.breaks_in -= size
        self.cuts += way.breaks_in < 0
        return way.breaks_in < 0

    def _end(self, way: _Way) -> None:
        """Both ways of a connection, by a reset."""
        for one in (way.source, way.target):
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.close()
        self._ways = [other for other in self._ways if other.source not in (way.source, way.target)]
