"""People at a running monitor: handover to a signed end, latches, restarts; through the commands that they type."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.keys import make_key
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_payload, decode_record
from edge_monitor.journal.verify import verify

BIN = Path(sys.executable).parent
META = msgspec.msgpack.encode({"e": "msgpack"})
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


class Vehicle(threading.Thread):
    """Says its speed and mode a hundred times a second."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.speed, self.mode = 5.0, 1
        self.ending = threading.Event()
        self.socket = zmq.Context.instance().socket(zmq.PUSH)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, 10)
        self.socket.connect(address)

    def run(self) -> None:
        while not self.ending.wait(0.01):
            try:
                body = msgspec.msgpack.encode({"speed": self.speed, "mode": self.mode})
                self.socket.send_multipart([b"/state", META, body], zmq.NOBLOCK)
            except zmq.Again:
                pass
        self.socket.close()


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


@pytest.fixture
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A yard whose monitor is not running."""
    found = Yard(tmp_path_factory.mktemp("yard"))
    yield found
    found.close()


def test_a_demand_is_accepted_completed_and_signed(yard: Yard) -> None:
    """A gate that fails in motion demands a handover; a person accepts, takes over and signs; and only as an operator."""
    yard.tell("envelope", "sign", "yard.yaml", "--key", "alice.key", "--person", "alice", "--people", "people.yaml")
    yard.tell(
        "envelope", "approve", "yard.yaml", "--key", "bob.key", "--person", "bob", "--people", "people.yaml",
        "--ticket", "T-1", "--reason", "looked at it",
    )  # fmt: skip
    yard.start()
    yard.wait("continue", True)
    assert "decides autonomy" in yard.tell("status", "--control", yard.control)
    yard.vehicle.speed = 13.0
    yard.wait("continue", False)
    opened = yard.state()["handover"]["open"]
    assert (opened["to"], opened["demand"], opened["gate"]) == ("human", True, "continue")
    no = yard.tell("operator", "accept", "--control", yard.control, "--person", "alice", expect=1)
    assert "alice" in no and "operator" in no
    wrong = yard.tell(
        "operator", "accept", "--control", yard.control, "--person", "carol", "--key", "bob.key", expect=1
    )
    assert "does not hold" in wrong
    assert "signature pending" in yard.operator("accept")
    yard.vehicle.mode, yard.vehicle.speed = 0, 5.0
    end = time.monotonic() + 20
    while yard.state()["handover"]["open"] is not None:
        assert time.monotonic() < end
    assert yard.state()["handover"]["responsible"] == "human"
    assert "signed" in yard.operator("accept", "--key", "carol.key")
    told = [(kind, payload.get("attestation", "")) for kind, payload in yard.events("handover.")]
    assert told == [
        ("handover.requested", ""), ("handover.accepted", "pending"), ("handover.completed", "pending"),
        ("handover.accepted", "signed"),
    ]  # fmt: skip
    yard.wait("continue", True)
    # The latch stands although its condition has cleared, and a kill does not take it away.
    assert yard.go("safe") is False
    assert yard.process is not None
    yard.process.kill()
    yard.process.wait()
    yard.start()
    assert yard.go("safe") is False
    assert "reset" in yard.operator("reset-latch", "speed_limit", "--reason", "looked at the brakes")
    yard.wait("safe", True)
    assert "not set" in yard.operator("reset-latch", "speed_limit", "--reason", "again", expect=1)
    (_, reset), *_ = yard.events("latch.reset")
    assert (reset["person"], reset["reason"]) == ("carol", "looked at the brakes")
    yard.process.terminate()
    assert yard.process.wait(20) == 0
    assert verify(yard.folder / "j.db", [load_verifier_key(yard.folder / "robot.pub")]).ok
    for tape in (yard.folder / "tapes").glob("*.tape"):
        done = subprocess.run(
            [BIN / "edge-replay", "reexecute", "j.db", tape, "-e", "yard.yaml", "--key", "robot.pub"],
            cwd=yard.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_nobody_s_envelope_does_not_start(yard: Yard) -> None:
    """Without an approval by a second person the monitor does not start, and says who is missing."""
    words = ["run", "-e", "yard.yaml", "--people", "people.yaml", "--journal", "j.db", "--key", "robot.key"]
    said = yard.tell(*words, "--source", f"bind-pull:ipc://{yard.folder}/in", expect=3)
    assert "envelope sign" in said or "proposed" in said
    assert not (yard.folder / "j.db").exists()


def test_where_no_monitor_runs_it_says_so(tmp_path: Path) -> None:
    """Questions to a monitor that is not there end with one line and code 3."""
    for words in (["status"], ["go", "takeoff"]):
        done = subprocess.run(
            [BIN / "edge-monitor", *words, "--control", f"ipc://{tmp_path}/none"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 3 and "no monitor answers" in done.stderr and done.stderr.count("\n") == 1
