"""``Uplink``: a thread that keeps a session with a registry, whatever the link does: a new socket after each failure.

A rejected key makes libzmq give up for good, and what was queued in the old socket is lost: so nothing is ever assumed to have
arrived but what a receipt says, and every attempt begins with a socket of its own.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.utils.monitor import recv_monitor_message

from ..errors import EdgeMonitorError
from ..journal.cosignatures import CosignerKey
from . import wire
from .blobs import Shelf
from .outbox import Outbox
from .session import Bucket, Progress, Refusal, Session

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 300.0
POLL_MS, IDLE_MS = 50, 250  #: between two looks at the journal: while there is something to send, and otherwise
HIGH_WATER = 8  #: messages in a socket
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH


@dataclass(frozen=True, slots=True)
class Registry:
    """Where a registry is and who it is: its address, CURVE public key (Z85) and receipt key; this device's CURVE pair."""

    address: str
    server: str
    receipts: CosignerKey
    public: str
    secret: str


class Uplink:
    """Syncs one journal. Everything it needs is handed to it; ``progress`` may be read from any thread."""

    def __init__(
        self,
        registry: Registry,
        journal: Path,
        boot: bytes,
        software: str,
        keep: Callable[[str], object],
        *,
        rate: int = 0,
        shelf: Shelf | None = None,
        bundle: Callable[[wire.Bundle], None] | None = None,
        bundle_version: Callable[[], int] = lambda: 0,
        clock: Callable[[], int] = time.monotonic_ns,
        rng: random.Random | None = None,
    ) -> None:
        """``keep``: stores a receipt (a note) in the journal. ``rate``: cap in bytes a second, 0: none. ``shelf``: files to
        deliver."""
        self.progress = Progress()
        self._registry = registry
        self._outbox = Outbox(journal)
        self._boot = boot
        self._software = software
        self._keep = keep
        self._bucket = Bucket(rate)
        self._shelf = shelf
        self._bundle = bundle
        self._bundle_version = bundle_version
        self._clock = clock
        self._rng = rng or random.Random()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self.run, args=(self._stop.is_set,), name="uplink", daemon=True)
        self._thread.start()

    def stop(self, patience: float = 2.0) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(patience)

    def run(self, done: Callable[[], bool]) -> None:
        """Keep sessions until ``done``; a failure is waited out, twice as long each time, and never raised."""
        context = zmq.Context()
        failures = 0
        try:
            while not done():
                session = self._attempt(context, done)
                if done():
                    return
                failures = 0 if session is not None and session.receipts else failures + 1
                refusal = session.over if session is not None else None
                self.progress.refusal = refusal
                self.progress.state = f"waiting: {refusal.words}" if refusal else "waiting: the link failed"
                longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(failures, 16))
                if refusal is not None and not refusal.again:
                    longest = LONGEST_WAIT_S
                self._pause(self._rng.uniform(0, longest) if failures else 0.0, done)
        finally:
            context.destroy(linger=0)

    def _pause(self, seconds: float, done: Callable[[], bool]) -> None:
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            time.sleep(min(0.05, max(0.0, end - time.monotonic())))

    def _attempt(self, context: zmq.Context[zmq.Socket[bytes]], done: Callable[[], bool]) -> Session | None:
        """One session, to its end; None where none began."""
        socket = self._socket(context)
        monitor = socket.get_monitor_socket(_FAILED | zmq.EVENT_DISCONNECTED)
        session = Session(
            self._outbox, self._registry.receipts, self._boot, self._software, self._keep, self.progress,
            bundle=self._bundle, bundle_version=self._bundle_version(),
        )  # fmt: skip
        self.progress.state = "connecting"
        if self._shelf is not None:
            self._shelf.forget_offers()
        try:
            socket.connect(self._registry.address)
            poller = zmq.Poller()
            poller.register(socket, zmq.POLLIN)
            poller.register(monitor, zmq.POLLIN)
            waiting: list[bytes] = []
            greeted, pause = False, POLL_MS
            while session.over is None and not done():
                found = dict(poller.poll(pause))
                if monitor in found:
                    failed = self._failed(monitor)
                    if failed is not None:
                        session.over = failed
                        break
                while int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN and session.over is None:
                    session.take(socket.recv(), self._clock())
                if not greeted and int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT:
                    # Only now, with a connection: a head that waited for one would be old when it arrives.
                    waiting, greeted = [session.hello(self._clock())], True
                due = self._due(session, bool(waiting)) if greeted else []
                waiting += due
                self._flush(socket, waiting)
                # After a batch that is on its way the next is made at once; what can't leave yet waits for room or the cap.
                pause = POLL_MS if waiting else 0 if due else IDLE_MS
        except EdgeMonitorError as error:
            session.over = Refusal("journal", str(error), True)
        except zmq.ZMQError as error:
            session.over = Refusal("link", f"{self._registry.address}: {error}", True)
        finally:
            socket.disable_monitor()
            monitor.close(linger=0)
            socket.close(linger=0)
        return session

    def _due(self, session: Session, busy: bool) -> list[bytes]:
        """What to send next: nothing while something waits or the cap is reached; the bulk before files."""
        now = self._clock()
        if busy or self._bucket.wait_ns(now):
            return []
        frames = session.send(now)
        if not frames and session.open and self._shelf is not None:
            frames = self._shelf.frames(session.wanted)
        return frames

    def _flush(self, socket: zmq.Socket[bytes], waiting: list[bytes]) -> None:
        while waiting and not self._bucket.wait_ns(self._clock()):
            try:
                socket.send(waiting[0], zmq.NOBLOCK)
            except zmq.Again:
                return
            self._bucket.take(len(waiting.pop(0)))

    def _failed(self, monitor: zmq.Socket[bytes]) -> Refusal | None:
        event = recv_monitor_message(monitor)["event"]
        if event == zmq.EVENT_DISCONNECTED:
            return Refusal("link", "the connection broke", True)
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return Refusal("unknown", "the registry does not know this device's CURVE key: enrol it", True)
        return Refusal("link", "no handshake: is the registry's CURVE key right?", True)

    def _socket(self, context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        socket.setsockopt(zmq.MAXMSGSIZE, wire.MAX_FRAME)
        socket.setsockopt(zmq.HANDSHAKE_IVL, 10_000)
        socket.setsockopt(zmq.CURVE_SERVERKEY, self._registry.server.encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self._registry.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._registry.secret.encode())
        return socket
