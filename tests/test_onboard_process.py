"""The whole process, started as a robot starts it, and a consumer that links nothing but the lease library."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from edge_monitor.consumer import Consumer, Subscriber
from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.keys import make_key
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_payload, decode_record
from edge_monitor.journal.verify import verify

BIN = Path(sys.executable).parent
META = msgspec.msgpack.encode({"e": "msgpack"})
ENVELOPE = """
edge_monitor: 1
envelope: {id: live, version: 1, vehicle: bench}
signals:
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 300 ms}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, leave: 11, severity: critical}
gates:
  drive: {require: all, criteria: [speed_limit], lease: 5 s}
"""


class Publisher(threading.Thread):
    """A sensor at 100 Hz."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.value = 5.0
        self.ending = threading.Event()
        self.socket = zmq.Context.instance().socket(zmq.PUSH)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, 10)
        self.socket.connect(address)

    def run(self) -> None:
        while not self.ending.wait(0.01):
            try:
                body = msgspec.msgpack.encode({"speed": self.value})
                self.socket.send_multipart([b"/odom", META, body], zmq.NOBLOCK)
            except zmq.Again:
                pass
        self.socket.close()


class Process:
    """``edge-monitor run`` in a folder, over ipc sockets."""

    def __init__(self, folder: Path, *more: str) -> None:
        """``more``: arguments of ``edge-monitor run``."""
        self.folder, self.more = folder, more
        (folder / "live.yaml").write_text(ENVELOPE)
        if not (folder / "robot.key").exists():
            make_key("robot", folder)
        self.publisher = Publisher(f"ipc://{folder}/in")
        self.subscriber = Subscriber.connect(Consumer(["drive"], accept_unapproved=True), f"ipc://{folder}/out")
        self.run: subprocess.Popen[str] | None = None
        self.publisher.start()

    def start(self, *, go: bool = True) -> None:
        """Start the process; returns once its gate is GO, where it is to be."""
        folder = self.folder
        self.run = subprocess.Popen(
            [
                BIN / "edge-monitor", "run", "-e", folder / "live.yaml", "--source", f"bind-pull:ipc://{folder}/in",
                "--journal", folder / "journal.db", "--key", folder / "robot.key", "--tapes", folder / "tapes",
                "--tape-size", "16", "--publish", f"ipc://{folder}/out", "--control", f"ipc://{folder}/ask",
                "--unapproved", "--jsonl", *self.more,
            ],
            stdout=(folder / "events.jsonl").open("a"), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert not go or self.wait_for(True, 180) < 180, self.run.poll()

    def wait_for(self, go: bool, seconds: float) -> float:
        """Seconds until the consumer's answer is ``go``; at most ``seconds``."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            self.subscriber.poll(1)
            if self.subscriber.allowed("drive").go == go:
                return time.monotonic() - begun
        return seconds

    def end(self) -> None:
        """End whatever still runs."""
        self.publisher.ending.set()
        self.publisher.join()
        if self.run is not None and self.run.poll() is None:
            self.run.send_signal(signal.SIGCONT)
            self.run.kill()
            self.run.wait()


@pytest.fixture
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A process that has not been started."""
    found = Process(tmp_path_factory.mktemp("run"))
    yield found
    found.end()


def test_whatever_happens_to_the_monitor_the_consumer_says_no_go(process: Process) -> None:
    """Stopped or killed, it is NO_GO within 200 ms; continued or started anew, it is GO again; nothing journaled is lost."""
    process.start()
    assert process.run is not None
    process.run.send_signal(signal.SIGSTOP)
    stopped = process.wait_for(False, 2)
    process.run.send_signal(signal.SIGCONT)
    assert process.wait_for(True, 30) < 30
    process.publisher.value = 13.0
    failed = process.wait_for(False, 2)
    process.publisher.value = 5.0
    assert process.wait_for(True, 30) < 30
    process.run.kill()
    killed = process.wait_for(False, 2)
    process.run.wait()
    assert max(stopped, killed, failed) < 0.2, (stopped, killed, failed)
    key = load_verifier_key(process.folder / "robot.pub")
    assert verify(process.folder / "journal.db", [key]).ok
    process.start()
    process.run.send_signal(signal.SIGTERM)
    assert process.wait_for(False, 2) < 0.2
    assert process.run.wait(20) == 0
    report = verify(process.folder / "journal.db", [key])
    assert report.ok and [run.ended for run in report.runs] == [False, True]
    told = [line for line in (process.folder / "events.jsonl").read_text().splitlines() if '"type":"gate.' in line]
    with Reader(process.folder / "journal.db") as reader:
        records = [(decode_record(row.record), decode_payload(row.payload or b"")) for row in reader.rows()]
    assert len([record for record, _ in records if record.type.startswith("gate.")]) == len(told)
    assert all(payload["unapproved"] for record, payload in records if record.type == "envelope.activated")


def test_what_is_missing_is_one_line_and_a_code(tmp_path: Path) -> None:
    """An unapproved envelope, a wrong source and a port in use end with one line that says how to mend it."""
    make_key("robot", tmp_path)
    (tmp_path / "live.yaml").write_text(ENVELOPE)
    common = [
        BIN / "edge-monitor", "run", "-e", tmp_path / "live.yaml", "--journal", tmp_path / "j.db",
        "--key", tmp_path / "robot.key",
    ]  # fmt: skip

    def told(*more: str) -> tuple[int, str]:
        done = subprocess.run([*common, *more], capture_output=True, text=True, check=False, env=os.environ)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stderr

    code, line = told("--source", "sub:tcp://127.0.0.1:7999")
    assert code == 3 and "--people" in line
    code, line = told("--source", "tcp://127.0.0.1:7999", "--unapproved")
    assert code == 2 and "expected such as" in line
    code, line = told(
        "--source",
        "sub:tcp://192.0.2.1:7999",
        "--unapproved",
        "--publish",
        f"ipc://{tmp_path}/o",
        "--control",
        f"ipc://{tmp_path}/c",
    )
    assert code == 3 and "CURVE" in line
    holder = zmq.Context.instance().socket(zmq.PUB)
    port = holder.bind_to_random_port("tcp://127.0.0.1")
    code, line = told("--source", f"sub:ipc://{tmp_path}/in", "--unapproved", "--publish", f"tcp://127.0.0.1:{port}")
    holder.close()
    assert code == 3 and "--publish" in line
