"""Throws garbage at every socket of a running monitor: requests, subscriptions, inputs, and raw bytes at each port.

Meanwhile an honest publisher, consumer and asker go on. As a program (``--full``: 100,000 messages a socket) it prints what was
thrown and what came of it; ``test_fuzz_process.py`` is a short form.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq
from fuzz_sockets import intrude, mutated

from edge_monitor.consumer import Consumer, Subscriber
from edge_monitor.curve_keys import load_pair, load_public, make_pair
from edge_monitor.errors import EdgeMonitorError
from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.keys import make_key
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_record
from edge_monitor.journal.verify import verify
from edge_monitor.onboard.client import Reach, ask

CALM_S = 1.0
RATE = 4000.0  #: garbage is not to be a flood: that is what bench/live.py is for
INTRUSIONS = 50  #: times that raw bytes are sent to each port, and that a new connection is made
BIN = Path(sys.executable).parent
META = msgpack.packb({"e": "msgpack"})
ENVELOPE = """
edge_monitor: 1
envelope: {id: fuzzed, version: 1, vehicle: bench}
signals:
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 2 s}
  other: {topic: /mutated, field: "a.b[1]", max_age: 2 s}
  mode: {topic: /odom, field: mode, max_age: 2 s, values: {MANUAL: 0, AUTO: 1}}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, severity: critical}
  other_limit: {kind: bounds, signal: other, max: 12}
authority: {mode: mode, map: {autonomy: [AUTO], human: [MANUAL]}}
gates:
  drive: {require: all, criteria: [speed_limit], lease: 5 s}
handover: {accept_within: 10 s, complete_within: 10 s, attest_within: 5 min, gates: [drive]}
"""
ORDERS: list[dict[str, Any]] = [
    {"command": "latch.reset", "check": "speed_limit", "person": "ada", "reason": "looked"},
    {"command": "handover.accept", "id": "h-1", "person": "ada", "signature": b"s" * 64, "checkpoint": "c"},
    {"command": "waiver.grant", "check": "other_limit", "persons": ["ada"], "reason": "x", "expires": 1 << 62},
    {"command": "mission.end", "person": "ada", "reason": "landed"},
    {"command": "envelope.reload", "path": "live.yaml", "digest": "0" * 64},
]
REQUESTS: list[dict[str, Any]] = [
    {"do": "status"}, {"do": "go", "gate": "drive"}, {"do": "terms", "id": "h-1"},
    *({"do": "command", "command": order} for order in ORDERS),
]  # fmt: skip
TOPICS = (b"heartbeat", b"lease/drive", b"event/gate.go", b"decision/drive", b"state", b"")
ACTION = {
    "subject": "drop",
    "gate": "drive",
    "outcome": "blocked",
    "rule": "budget",
    "requested": [1.0],
    "counts": {"budget": 1},
}


@dataclass
class Outcome:
    """What came of it."""

    thrown: dict[str, int] = field(default_factory=dict)
    raw_bytes: int = 0
    answers: int = 0
    slowest_answer_s: float = 0.0
    unanswered: list[str] = field(default_factory=list)
    before: Counter[str] = field(
        default_factory=Counter
    )  #: what the consumer said before anything was thrown, by reason
    said: Counter[str] = field(default_factory=Counter)  #: and meanwhile
    degraded: int = 0  #: times that the socket for decisions was opened anew
    rss_before: int = 0
    rss_after: int = 0
    seconds: float = 0.0


class Target:
    """A monitor on three TCP ports, with CURVE or without."""

    def __init__(self, folder: Path, *, curve: bool) -> None:
        self.folder = folder
        (folder / "live.yaml").write_text(ENVELOPE)
        make_key("robot", folder)
        held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        self.ports = [one.getsockname()[1] for one in held]
        for one in held:
            one.close()
        self.source, self.out, self.control = (f"tcp://127.0.0.1:{port}" for port in self.ports)
        self.keys: tuple[str, str, str] | None = None
        self.reach = Reach(self.control)
        words: list[str | Path] = []
        if curve:
            line = make_pair("friend", folder)[1].read_text().strip()
            make_pair("robot", folder)
            (folder / "peers").write_text(f"{line} publish listen control\n")
            pair, server = load_pair(folder / "friend.curve"), load_public(folder / "robot.curve.pub")
            self.keys = pair.public, pair.secret, server
            self.reach = Reach(self.control, pair, server)
            words = ["--curve-key", "robot.curve", "--peers", "peers"]
        self.process = subprocess.Popen(
            [
                BIN / "edge-monitor", "run", "-e", "live.yaml", "--unapproved", "--source", f"bind-pull:{self.source}",
                "--publish", self.out, "--control", self.control, "--journal", "j.db", "--key", "robot.key",
                "--tapes", "tapes", "--tape-size", "16", *words,
            ],
            cwd=folder, stderr=(folder / "stderr").open("w"),
        )  # fmt: skip

    def rss(self) -> int:
        """Resident memory of the process, in bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    def connect(self, context: zmq.Context, kind: int, address: str) -> zmq.Socket:
        """A socket of somebody who may connect, honest or not."""
        made = context.socket(kind)
        made.linger, made.sndhwm = 0, 1000
        if self.keys is not None:
            made.curve_publickey, made.curve_secretkey, made.curve_serverkey = (key.encode() for key in self.keys)
        made.connect(address)
        return made

    def end(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Honest(threading.Thread):
    """A publisher at 100 Hz, a consumer that asks as often, and a person who asks twice a second; all in one thread each."""

    def __init__(self, target: Target, outcome: Outcome) -> None:
        super().__init__(daemon=True)
        self.target, self.outcome = target, outcome
        self.ending, self.going = threading.Event(), threading.Event()
        self.count = outcome.before
        self.asker = threading.Thread(target=self._ask, daemon=True)

    def run(self) -> None:
        context = zmq.Context()
        publisher = self.target.connect(context, zmq.PUSH, self.target.source)
        consumer = Consumer(["drive"], accept_unapproved=True)
        subscriber = Subscriber.connect(consumer, self.target.out, context=context, curve=self.target.keys)
        while not self.ending.wait(0.01):
            with contextlib.suppress(zmq.Again):
                publisher.send_multipart([b"/odom", META, msgpack.packb({"speed": 5.0, "mode": 1})], zmq.NOBLOCK)
            answer = subscriber.allowed("drive")
            if answer.go:
                self.going.set()
            if self.going.is_set():
                self.count[answer.reason.name] += 1
        context.destroy(linger=0)

    def _ask(self) -> None:
        while not self.ending.wait(0.5):
            begun = time.monotonic()
            try:
                ask(self.target.reach, {"do": "go", "gate": "drive"}, 20_000)
                self.outcome.answers += 1
                self.outcome.slowest_answer_s = max(self.outcome.slowest_answer_s, time.monotonic() - begun)
            except EdgeMonitorError as error:
                self.outcome.unanswered.append(str(error))


def damaged(rng: np.random.Generator, raw: bytes) -> bytes:
    """Bytes with something wrong in them."""
    frame = bytearray(raw)
    what = rng.integers(0, 6)
    for _ in range(rng.integers(1, 4)):
        if what <= 2 and frame:
            frame[rng.integers(0, len(frame))] = rng.integers(0, 256)
    if what == 3:
        del frame[rng.integers(0, len(frame) + 1) :]
    elif what == 4:
        frame += rng.bytes(rng.integers(0, 200))
    elif what == 5:
        frame = bytearray(b"\x91" * int(rng.integers(1, 3000)))
    return bytes(frame)


def request(rng: np.random.Generator) -> list[bytes]:
    """A request as a DEALER sends it: delimiter and body, or neither, or too much."""
    body = damaged(rng, msgpack.packb(REQUESTS[rng.integers(0, len(REQUESTS))]))
    what = rng.integers(0, 20)
    if what == 0:
        return [body]
    if what == 1:
        return [b"", body, *[rng.bytes(5)] * int(rng.integers(0, 6))]
    if what == 2:
        return [rng.bytes(3), b"", body]
    return [b"", body]


def subscription(rng: np.random.Generator) -> list[bytes]:
    """A subscription, its end, or what is neither."""
    topic = damaged(rng, TOPICS[rng.integers(0, len(TOPICS))])[:2000]
    head = (b"\x01", b"\x01", b"\x00", rng.bytes(1))[rng.integers(0, 4)]
    return [head + topic, *([rng.bytes(4)] if rng.integers(0, 20) == 0 else [])]


def report(rng: np.random.Generator) -> list[bytes]:
    """Messages of the source: inputs, and reports of actions."""
    if rng.integers(0, 2):
        return mutated(rng)
    return [b"edge_monitor/action", META, damaged(rng, msgpack.packb(ACTION))]


def throw(folder: Path, count: int, seed: int = 1, *, curve: bool = False) -> Outcome:
    """``count`` mutated messages at each socket of a new monitor in ``folder``, and raw bytes at its ports.

    With ``curve`` the messages come from one whose key is on the list, and the raw bytes from anyone.
    """
    outcome, target = Outcome(), Target(folder, curve=curve)
    honest = Honest(target, outcome)
    honest.start()
    context = zmq.Context()
    try:
        while not honest.going.wait(1):
            assert target.process.poll() is None, (folder / "stderr").read_text()
        time.sleep(CALM_S)
        honest.asker.start()
        honest.count = outcome.said
        outcome.rss_before = target.rss()
        begun = time.monotonic()
        makers: dict[str, tuple[int, str, Callable[[np.random.Generator], list[bytes]]]] = {
            "control": (zmq.DEALER, target.control, request),
            "publish": (zmq.XSUB, target.out, subscription),
            "source": (zmq.PUSH, target.source, report),
        }
        for number, (name, (kind, address, make)) in enumerate(makers.items()):
            rng = np.random.default_rng(seed + number)
            outcome.thrown[name] = pelt(context, target, kind, address, make, count, rng, outcome)
        honest.going.clear()
        time.sleep(1.0)
        outcome.rss_after = target.rss()
        outcome.seconds = time.monotonic() - begun
        assert target.process.poll() is None, "the monitor has ended"
        assert honest.going.wait(20), "it is not GO again"
    finally:
        context.destroy(linger=0)
        honest.ending.set()
        honest.join()
        if honest.asker.ident is not None:
            honest.asker.join()
        if target.process.poll() is None:
            target.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                target.process.wait(30)
        target.end()
    assert target.process.returncode == 0, (target.process.returncode, (folder / "stderr").read_text()[-2000:])
    assert verify(folder / "j.db", [load_verifier_key(folder / "robot.pub")]).ok
    with Reader(folder / "j.db") as reader:
        outcome.degraded = sum(decode_record(row.record).type == "monitor.degraded" for row in reader.rows())
    return outcome


def pelt(
    context: zmq.Context, target: Target, kind: int, address: str, make: Callable[[np.random.Generator], list[bytes]],
    count: int, rng: np.random.Generator, outcome: Outcome,
) -> int:  # fmt: skip
    """Send ``count`` messages, ``RATE`` a second at most, on a new connection now and then; how many were sent."""
    sent, made = 0, target.connect(context, kind, address)
    begun = time.monotonic()
    while sent < count and time.monotonic() < begun + 600:
        if sent % 10 == 0:
            time.sleep(max(0.0, begun + sent / RATE - time.monotonic()))
        if sent and sent % (max(count // INTRUSIONS, 1)) == 0:
            made.close(1000)
            made = target.connect(context, kind, address)
            outcome.raw_bytes += sum(intrude(port, rng, curve=target.keys is not None) for port in target.ports)
        try:
            made.send_multipart(make(rng), zmq.NOBLOCK)
            sent += 1
        except zmq.Again:
            made.poll(5, zmq.POLLOUT)
        with contextlib.suppress(zmq.ZMQError):
            while kind != zmq.PUSH and made.poll(0):
                made.recv_multipart(zmq.NOBLOCK)
    made.close(1000)
    return sent


def share(said: Counter[str]) -> float:
    """Part of the answers that were GO."""
    return said["GO"] / max(1, said.total())


def check(outcome: Outcome, count: int) -> None:
    """Everything was thrown, memory is bounded, and those who were honest were served as they were before."""
    assert set(outcome.thrown.values()) == {count}, outcome
    assert outcome.rss_after - outcome.rss_before < 128 << 20, outcome
    assert outcome.answers >= 1 and not outcome.unanswered and outcome.slowest_answer_s < 5, outcome
    assert share(outcome.said) > share(outcome.before) - 0.3, outcome  # a busy machine is late with and without garbage


def main() -> None:
    """Throw, print, and fail where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="100,000 messages a socket instead of 5,000")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    count = 100_000 if given.full else 5_000
    for curve in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            outcome = throw(Path(folder), count, given.seed, curve=curve)
        check(outcome, count)
        print(
            f"process, {'CURVE' if curve else 'plain'}: {count} mutated messages at each of {', '.join(outcome.thrown)}, "
            f"{outcome.raw_bytes} raw bytes in {outcome.seconds:.0f} s; GO {share(outcome.said):.1%} of the time "
            f"({share(outcome.before):.1%} before); {outcome.answers} questions answered, the slowest in "
            f"{outcome.slowest_answer_s * 1e3:.0f} ms; subscriptions cut off {outcome.degraded} times; "
            f"RSS {outcome.rss_before >> 20} to {outcome.rss_after >> 20} MiB; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
