"""``edge-monitor run`` as a robot starts it, with one sensor and a consumer that watches one gate."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from talkers import BIN, Talker

from edge_monitor.consumer import Consumer, Subscriber
from edge_monitor.journal.keys import make_key

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


class Publisher(Talker):
    """A sensor of speed."""

    topic = b"/odom"
    value = 5.0

    def message(self) -> dict[str, Any]:
        """What it says now."""
        return {"speed": self.value}


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
