"""What people do at the registry: look at conflicts and carry their proofs away, revoke robots, release logs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.keys import load_signing_key, make_key
from edge_monitor.sync import wire
from edge_monitor.sync.outbox import Outbox
from edge_registry.house import open_house
from edge_registry.ingest import Ingest


class Fleet:
    """A registry in a folder, one robot whose key is in a file, and the command line."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder, self.database = folder, database
        self.house = open_house(folder / "registry", database, make="registry")
        make_key("robot", folder)
        self.key = load_signing_key(folder / "robot.key")
        self.journal = folder / "journal.db"
        self.write(self.journal, 1, 50)
        self.store = self.house.store()
        with self.store.begin() as tx:
            tx.enrol("robot", self.key.verifier, "x" * 40, 0)

    def write(self, path: Path, boot: int, count: int) -> None:
        """A boot's events."""
        with Journal.create_or_open(path, self.key, boot_id=bytes([boot]) * 16, epochs=True) as journal:
            for t in range(count):
                journal.append(Entry("check.fail", Severity.CRITICAL, t, t, {"value": float(boot)}))

    def sync(self, path: Path) -> list[wire.Downlink]:
        """A session with a journal: all answers."""
        ingest, outbox = Ingest(self.house.key), Outbox(path)
        head = outbox.head()
        log_id = bytes.fromhex(head.origin.rpartition("/")[2].replace("-", ""))
        with self.store.begin() as tx:
            robot = tx.robot("robot")
            assert robot is not None
            answers = ingest.hello(tx, robot, wire.Hello((1, 1), head.origin, bytes(16), head.note, "", 0, "t"))
        first = answers[0]
        if not isinstance(first, wire.Welcome):
            return answers
        start = first.size
        while (load := outbox.load(start)) is not None:
            batch = wire.Batch(first.session, load.first, load.end - load.first, load.data, load.checkpoint)
            with self.store.begin() as tx:
                answers += ingest.batches(tx, robot, log_id, [batch])
            if isinstance(answers[-1], wire.Refused):
                break
            start = answers[-1].size if isinstance(answers[-1], wire.Want) else load.end
        return answers

    def run(self, *arguments: str, code: int = 0) -> str:
        """What ``edge-registry`` prints."""
        command = [sys.executable, "-c", "from edge_registry.cli import main; main()", *arguments]
        if arguments[:2] != ("conflicts", "check"):
            command += ["--dir", str(self.house.folder), "--database", self.database]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def fleet(tmp_path: Path, database: str) -> Fleet:
    """A registry and a robot with a journal."""
    return Fleet(tmp_path, database)


def test_a_clone_is_proven_to_a_stranger_and_released_by_a_person(fleet: Fleet) -> None:
    """The proof of a fork leaves the registry as a file, holds under the robot's key alone, and outlives the release."""
    fleet.sync(fleet.journal)
    clone = fleet.folder / "clone.db"
    clone.write_bytes(fleet.journal.read_bytes())
    fleet.write(fleet.journal, 2, 10)
    fleet.write(clone, 3, 30)
    fleet.sync(fleet.journal)
    assert [a.code for a in fleet.sync(clone) if isinstance(a, wire.Refused)] == ["fork"]
    (listed,) = json.loads(fleet.run("conflicts", "list", "--json"))
    assert listed["kind"] == "fork" and listed["resolved_s"] is None and listed["proof"] > 0
    proof = fleet.folder / "fork.proof"
    fleet.run("conflicts", "show", str(listed["id"]), "--out", str(proof))
    said = fleet.run("conflicts", "check", str(proof), str(fleet.folder / "robot.pub"))
    assert said.startswith("proven: robot signed two records")
    make_key("other", fleet.folder)
    fleet.run("conflicts", "check", str(proof), str(fleet.folder / "other.pub"), code=5)
    proof.write_bytes(proof.read_bytes()[:-1])
    fleet.run("conflicts", "check", str(proof), str(fleet.folder / "robot.pub"), code=5)

    fleet.write(fleet.journal, 4, 10)
    assert isinstance(fleet.sync(fleet.journal)[0], wire.Refused)
    log = listed["origin"].rpartition("/")[2]
    fleet.run("release", log, "--reason", "the clone is scrapped", "--by", "kim")
    assert isinstance(fleet.sync(fleet.journal)[-1], wire.Receipt)
    (listed,) = json.loads(fleet.run("conflicts", "list", "--json"))
    assert listed["resolution"] == "kim: the clone is scrapped"
    assert "nothing to release" in fleet.run("release", log, "--reason", "again", code=2)
    fleet.store.close()


def test_a_revoked_robot_is_refused_and_counts_up_to_a_record(fleet: Fleet) -> None:
    """After a revocation nothing more is taken, what is held stays, and who decided it is recorded."""
    size = Outbox(fleet.journal).head().size
    fleet.sync(fleet.journal)
    assert f"no record {size}" in fleet.run("revoke", "robot", "--after", str(size), "--reason", "x", code=2)
    fleet.run("revoke", "robot", "--after", "19", "--reason", "stolen", "--by", "kim")
    fleet.write(fleet.journal, 2, 10)
    (refused,) = fleet.sync(fleet.journal)
    assert isinstance(refused, wire.Refused) and refused.code == "revoked"
    (robot,) = json.loads(fleet.run("robots", "--json"))
    assert robot["state"] == "revoked" and robot["reason"].startswith("stolen")
    (log,) = robot["logs"]
    assert log["valid_size"] == 20 and log["size"] == size and log["state"] == "closed"
    assert "revoked" in fleet.run("release", log["origin"], "--reason", "x", code=2)
    assert "no robot" in fleet.run("revoke", "nobody", "--reason", "x", code=2)
    with fleet.store.read() as tx:
        decided = tx.connection.exec_driver_sql("select who, what, subject from decisions").all()
    assert [tuple(row) for row in decided] == [("kim", "revoke", "robot")]
    fleet.store.close()
