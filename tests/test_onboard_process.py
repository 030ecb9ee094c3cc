"""The whole process, started as a robot starts it, and a consumer that links nothing but the lease library."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from lone_process import ENVELOPE, Process
from talkers import BIN

from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.keys import make_key
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_payload, decode_record
from edge_monitor.journal.verify import verify

MODEL = b"weights" * 1000


@pytest.fixture
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A process that has not been started, beside the file of a model."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "detector.onnx").write_bytes(MODEL)
    found = Process(folder, "--model", str(folder / "detector.onnx"))
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
    assert {record.digests.model for record, _ in records} == {hashlib.sha256(MODEL).digest()}
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
