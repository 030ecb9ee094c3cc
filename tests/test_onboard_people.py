"""People at a running monitor: handover to a signed end, latches, restarts; through the commands that they type."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from talkers import BIN
from yard import Yard

from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.verify import verify


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
