"""The demo's bench: the monitor as a process of its own, the simulator's side of its sockets, and the pace of the flight."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
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
_META = msgspec.msgpack.encode({"e": "msgpack"})


class BenchError(EdgeMonitorError):
    """The monitor's process does not do what it should."""


class Pace:
    """Holds a flight to ``rate`` times real time, and to real time while somebody is asked."""

    def __init__(self, rate: float) -> None:
        """``rate``: infinite for as fast as it goes."""
        self._rate = rate
        self._now = self._from = 0
        self._begun = time.monotonic()
        self.real = False

    def human(self, real: bool) -> None:
        """From now on in real time, or no longer."""
        if real != self.real:
            self.real, self._from, self._begun = real, self._now, time.monotonic()

    def wait(self, now: int) -> None:
        """Return when it is ``now`` (ns of the flight)."""
        if not self._from:
            self._from = now
        self._now = now
        rate = 1.0 if self.real else self._rate
        ahead = (now - self._from) / 1e9 / rate - (time.monotonic() - self._begun) if math.isfinite(rate) else 0.0
        if ahead > 0.001:
            time.sleep(ahead)


class Bench:
    """``edge-monitor run`` on the flight's time. Leaving the context ends the process, whatever happened."""

    def __init__(self, folder: Path, command: Sequence[str | Path]) -> None:
        """``command``: without addresses. ``folder``: where its sockets and its log are; a short path, as sockets need."""
        paths = {name: f"ipc://{folder}/{name}" for name in ("messages", "decisions", "requests")}
        self.control = paths["requests"]
        self.reached = 0  #: time of the last heartbeat, ns
        self._told: list[dict[str, Any]] = []
        self._log = folder / "monitor.log"
        self._context = zmq.Context()
        self._messages = self._socket(zmq.PUSH, paths["messages"])
        self._messages.sndtimeo = round(PATIENCE * 1000)
        self._decisions = self._socket(zmq.SUB, paths["decisions"])
        for topic in (HEARTBEAT_TOPIC, b"event/", b"state"):
            self._decisions.subscribe(topic)
        arguments = [
            "--source", f"bind-pull:{paths['messages']}", "--sim-time", CLOCK.decode(),
            "--publish", paths["decisions"], "--control", self.control,
        ]  # fmt: skip
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([*command, *arguments], stdout=log, stderr=log)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._process.poll() is None:
                self._process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(20)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._context.destroy(linger=0)

    def begin(self, now: int) -> None:
        """Tell the first time (ns), and wait until the monitor runs and is heard. Raises ``BenchError``."""
        self._tell(now)
        end = time.monotonic() + PATIENCE
        while not self._decisions.poll(50):
            self._alive(end)
            with suppress(EdgeMonitorError):
                ask(self.control, {"do": "status"}, 500)  # the state that it answers is published too
        self._decisions.unsubscribe(b"state")

    def send(self, now: int, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Send what has arrived by ``now`` (ns), each behind its time; answers the events heard since. Raises ``BenchError``."""
        try:
            for message in messages:
                self._tell(message.t)
                self._messages.send_multipart([message.topic, message.meta, message.payload])
            self._tell(now)
        except zmq.Again:
            raise BenchError(f"the monitor takes no messages any more; see {self._log}") from None
        end = time.monotonic() + PATIENCE
        self._listen(0)
        while self.reached < now - LEAD:
            self._alive(end)
            self._listen(50)
        told, self._told = self._told, []
        return told

    def end(self, now: int) -> list[dict[str, Any]]:
        """Let the monitor decide all up to ``now`` (ns), and end it cleanly; answers the last events. Raises ``BenchError``."""
        told = self.send(now + LEAD, [])
        self._process.terminate()
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise BenchError(f"the monitor does not end; see {self._log}") from None
        if code != 0:
            raise BenchError(f"the monitor ended with {code}; see {self._log}")
        self._listen(0)
        return told + self._told

    def _tell(self, now: int) -> None:
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

    def _alive(self, end: float) -> None:
        if self._process.poll() is not None:
            raise BenchError(f"the monitor ended with {self._process.returncode}:\n{self._log.read_text()[-2000:]}")
        if time.monotonic() > end:
            raise BenchError(f"the monitor has not gone on for {PATIENCE:.0f} s; see {self._log}")

    def _socket(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.connect(address)
        return socket
