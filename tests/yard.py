"""A vehicle, a monitor, and people with keys who type commands."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from talkers import BIN, Talker

from edge_monitor.journal.keys import make_key
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_payload, decode_record

ENVELOPE = """
edge_monitor: 1
envelope: {id: yard, version: 1, vehicle: rover}
signals:
  speed: {topic: /state, field: speed, unit: m/s, max_age: 500 ms}
  mode: {topic: /state, field: mode, max_age: 2 s, values: {MANUAL: 0, AUTO: 1}}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, severity: critical, latch: manual}
  moving: {kind: bounds, signal: speed, max: 10}
authority: {mode: mode, map: {autonomy: [AUTO], human: [MANUAL]}}
gates:
  continue: {require: all, criteria: [moving], lease: 1 s, on_no_go: transition_demand, then: {after: 10 min, do: mrm}}
  safe: {require: all, criteria: [speed_limit], lease: 1 s}
handover: {accept_within: 5 min, complete_within: 5 min, attest_within: 5 min, gates: [continue]}
"""


class Vehicle(Talker):
    """Says its speed and its mode."""

    topic = b"/state"
    speed, mode = 5.0, 1

    def message(self) -> dict[str, Any]:
        """What it says now."""
        return {"speed": self.speed, "mode": self.mode}


class Yard:
    """A vehicle, a monitor with an approved envelope, and people with keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_key("robot", folder)
        roles = {"alice": "planner", "bob": "approver", "carol": "operator"}
        lines = []
        for name, role in roles.items():
            text = make_key(name, folder)[1].read_text().strip().splitlines()[-1]
            lines.append(f"  {name}: {{name: {name}, roles: [{role}], keys: [{text}]}}\n")
        (folder / "people.yaml").write_text("edge_monitor_people: 1\npeople:\n" + "".join(lines))
        (folder / "yard.yaml").write_text(ENVELOPE)
        self.control = f"ipc://{folder}/ask"
        self.vehicle = Vehicle(f"ipc://{folder}/in")
        self.vehicle.start()
        self.process: subprocess.Popen[bytes] | None = None

    def tell(self, *words: str, expect: int = 0) -> str:
        """Type a command; what it prints."""
        done = subprocess.run(
            [BIN / "edge-monitor", *words], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == expect, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def operator(self, *words: str, expect: int = 0) -> str:
        """What carol does."""
        return self.tell("operator", *words, "--control", self.control, "--person", "carol", expect=expect)

    def start(self) -> None:
        """Start the monitor, and wait until it answers."""
        self.process = subprocess.Popen(
            [
                BIN / "edge-monitor", "run", "-e", "yard.yaml", "--people", "people.yaml", "--journal", "j.db",
                "--key", "robot.key", "--tapes", "tapes", "--tape-size", "16", "--source", f"bind-pull:ipc://{self.folder}/in",
                "--publish", f"ipc://{self.folder}/out", "--control", self.control,
            ],
            cwd=self.folder,
        )  # fmt: skip
        end = time.monotonic() + 180
        while time.monotonic() < end:
            assert self.process.poll() is None
            if (self.folder / "ask").exists() and self.go("continue") is not None:
                return
            time.sleep(0.1)
        raise AssertionError("the monitor did not start")

    def go(self, gate: str) -> bool | None:
        """Whether a gate is GO; None where no monitor answers."""
        done = subprocess.run(
            [BIN / "edge-monitor", "go", gate, "--control", self.control], capture_output=True, text=True, check=False
        )
        return {0: True, 1: False}.get(done.returncode)

    def wait(self, gate: str, go: bool) -> None:
        """Until a gate is so."""
        end = time.monotonic() + 30
        while self.go(gate) is not go:
            assert time.monotonic() < end, (gate, go)

    def state(self) -> dict[str, Any]:
        """The monitor's state."""
        found: dict[str, Any] = json.loads(self.tell("status", "--control", self.control, "--json"))
        return found

    def events(self, family: str) -> list[tuple[str, dict[str, Any]]]:
        """Types and payloads of a family in the journal."""
        with Reader(self.folder / "j.db") as reader:
            records = [(decode_record(row.record), row.payload) for row in reader.rows()]
        return [(r.type, decode_payload(p)) for r, p in records if p is not None and r.type.startswith(family)]

    def close(self) -> None:
        """End everything."""
        self.vehicle.ending.set()
        self.vehicle.join()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
