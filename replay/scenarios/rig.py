"""The demo's rig: the monitor as a process of its own, the simulator's side of its sockets, and the pace of the flight."""

from __future__ import annotations

import math
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import zmq
from stream import Message

from edge_monitor.errors import EdgeMonitorError
from edge_monitor.onboard.client import ask
from edge_monitor.outputs.wire import HEARTBEAT_TOPIC, decode_heartbeat

CLOCK = b"/clock"
#: The flight is never farther ahead of the monitor's last heartbeat, ns of its time: on a busy machine it flies slower.
LEAD = 250_000_000
PATIENCE = 60.0  #: s without a heartbeat, or until the process answers, after which the demo gives up
PAUSE = 3_000_000_000  #: ns of the flight that a person takes at most
_META = msgspec.msgpack.encode({"e": "msgpack"})


class RigError(EdgeMonitorError):
    """The monitor's process does not do what it should."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the end of the block: a process that was started is known before anything is given up."""
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: caught.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if caught:
        signal.raise_signal(caught[0])


class Pace:
    """Holds a flight to ``rate`` times real time, and to real time while somebody is asked: for ``PAUSE`` of it, and then it
    waits, since how long a command takes to start says more of the machine than of who types it."""

    def __init__(self, rate: float) -> None:
        """``rate``: infinite for as fast as it goes."""
        self._rate = rate
        self._now = self._from = 0
        self._begun = time.monotonic()
        self.real = False

    def human(self, asked: Callable[[], bool]) -> None:
        """From now on in real time if somebody is ``asked``, or no longer; returns while the flight may go on."""
        real = asked()
        if real != self.real:
            self.real, self._from, self._begun = real, self._now, time.monotonic()
        while self.real and self._now - self._from > PAUSE and asked():
            time.sleep(0.02)

    def wait(self, now: int) -> None:
        """Return when it is ``now`` (ns of the flight)."""
        if not self._from:
            self._from = now
        self._now = now
        rate = 1.0 if self.real else self._rate
        ahead = (now - self._from) / 1e9 / rate - (time.monotonic() - self._begun) if math.isfinite(rate) else 0.0
        if ahead > 0.001:
            time.sleep(ahead)


class Rig:
    """``edge-monitor run`` on the flight's time. Leaving the context ends the process, whatever happened."""

    def __init__(self, folder: Path, command: Sequence[str | Path]) -> None:
        """``command``: without addresses. ``folder``: where its sockets and its log are; a short path, as sockets need."""
        paths = {name: f"ipc://{folder}/{name}" for name in ("messages", "decisions", "requests")}
        self.control = paths["requests"]
        self.reached = 0  #: time of the last heartbeat, ns
        self._last = -1  # time told last
        self._told: list[dict[str, Any]] = []
        self._log = folder / "monitor.log"
        self._context = zmq.Context()
        self._messages = self._socket(zmq.PUSH, paths["messages"])
        self._messages.sndtimeo = round(PATIENCE * 1000)
        self._decisions = self._socket(zmq.SUB, paths["decisions"])
        for topic in (HEARTBEAT_TOPIC, b"event/", b"state"):
            self._decisions.subscribe(topic)
        self._command = [
            *command, "--source", f"bind-pull:{paths['messages']}", "--sim-time", CLOCK.decode(),
            "--publish", paths["decisions"], "--control", self.control,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Rig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with uninterrupted():
            process = self._process
            if process is not None and process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            self._context.destroy(linger=0)

    def begin(self, now: int) -> None:
        """Start the process, tell the first time (ns), and wait until it runs and is heard. Raises ``RigError``."""
        with uninterrupted(), self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        self._tell(now)
        end = time.monotonic() + PATIENCE
        while not self._decisions.poll(50):
            self._alive(end)
            with suppress(EdgeMonitorError):
                ask(self.control, {"do": "status"}, 500)  # the state that it answers is published too
        self._decisions.unsubscribe(b"state")
        # Its first heartbeat may have gone out before anybody listened; the next needs time to go on.
        self.reached = now

    def send(self, now: int, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Send what has arrived by ``now`` (ns), each behind its time; answers the events heard since. Raises ``RigError``."""
        try:
            for message in messages:
                self._tell(message.t)
                self._messages.send_multipart([message.topic, message.meta, message.payload])
            self._tell(now)
        except zmq.Again:
            raise RigError(f"the monitor takes no messages any more; see {self._log}") from None
        end = time.monotonic() + PATIENCE
        self._listen(0)
        while self.reached < now - LEAD:
            self._alive(end)
            self._listen(50)
        told, self._told = self._told, []
        return told

    def end(self, now: int) -> list[dict[str, Any]]:
        """Let the monitor decide all up to ``now`` (ns), and end it cleanly; answers the last events. Raises ``RigError``."""
        told = self.send(now, [])
        end = time.monotonic() + PATIENCE
        while ask(self.control, {"do": "status"})["state"]["t_ns"] < now:
            self._alive(end)
        process = self._alive(end)
        process.terminate()
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise RigError(f"the monitor does not end; see {self._log}") from None
        if code != 0:
            raise RigError(f"the monitor ended with {code}; see {self._log}")
        self._listen(0)
        return told + self._told

    def _tell(self, now: int) -> None:
        if now == self._last:
            return
        self._last = now
        self._messages.send_multipart([CLOCK, _META, msgspec.msgpack.encode(now)])

    def _listen(self, wait_ms: int) -> None:
        if not self._decisions.poll(wait_ms):
            return
        while self._decisions.poll(0):
            topic, body = self._decisions.recv_multipart()
            if topic == HEARTBEAT_TOPIC:
                self.reached = decode_heartbeat(body).sent_ns
            elif topic != b"state":
                self._told.append(msgspec.msgpack.decode(body))

    def _alive(self, end: float) -> subprocess.Popen[bytes]:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RigError(f"the monitor ended with {self._process.returncode}:\n{self._log.read_text()[-2000:]}")
        if time.monotonic() > end:
            raise RigError(f"the monitor has not gone on for {PATIENCE:.0f} s; see {self._log}")
        return self._process

    def _socket(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.connect(address)
        return socket
