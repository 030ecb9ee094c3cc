"""Incidents of the whole process, killed while it keeps one, and ``edge-replay reexecute`` on what it left."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lone_process import ENVELOPE, Process
from talkers import BIN
from test_raw import library

from edge_monitor.tape import read


@pytest.fixture
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A process whose windows are short; not started."""
    found = Process(tmp_path_factory.mktemp("run"))
    (found.folder / "live.yaml").write_text(ENVELOPE + "black_box: {before: 1 s, after: 3 s, raw: [/odom]}\n")
    yield found
    found.end()


def command(process: Process, *arguments: str | Path) -> tuple[int, str]:
    """Exit code and output of a command in the process's folder."""
    done = subprocess.run(
        [BIN / arguments[0], *arguments[1:]], cwd=process.folder, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def events(process: Process, type_: str) -> list[dict[str, Any]]:
    """Events of a type that were printed."""
    lines = (process.folder / "events.jsonl").read_text().splitlines()
    return [event for line in lines if line.endswith("}") and (event := json.loads(line))["type"] == type_]


def wait_for(process: Process, count: int, seconds: float = 30) -> list[dict[str, Any]]:
    """Events of so many kept incidents, whose files have their names."""
    end = time.monotonic() + seconds
    while True:
        found = events(process, "incident.kept")
        there = process.folder / "tapes" / "incidents"
        if len(found) >= count and all((there / event["subject"]).exists() for event in found):
            return found
        assert time.monotonic() < end, (process.folder / "events.jsonl").read_text()
        time.sleep(0.05)


def test_killed_in_a_window_it_is_kept_by_the_next_start(process: Process) -> None:
    """What was asked for, what ended in ``kill -9`` and what an operator marked re-execute alone; a changed byte is found."""
    process.start()
    process.publisher.value = 13.0
    assert process.wait_for(False, 5) < 5
    process.publisher.value = 5.0
    assert process.wait_for(True, 30) < 30
    time.sleep(1.5)  # a chunk of raw messages is closed after a second
    assert process.run is not None
    process.run.kill()
    process.run.wait()
    (part,) = (process.folder / "tapes" / "incidents").iterdir()
    assert part.suffix == ".part"
    (raw,) = (process.folder / "tapes" / "raw").iterdir()
    code, text = command(process, "edge-replay", "info", raw)
    assert code == 4 and "/odom" in text and "cut" in text, text
    process.start()
    (cut,) = wait_for(process, 1)
    assert cut["cause"] == "check.fail speed_limit" and "run.cut" in [type_ for _, type_, _ in cut["causes"]]
    assert cut["raw"]["messages"] > 20 and len(library(raw)) > 20  # two chunks at the least, however busy the machine
    code, text = command(process, "edge-replay", "run", raw, "-e", "live.yaml", "--fail-on", "breach")
    assert code == 1 and "speed_limit" in text, text
    asked = ("--person", "ann", "--reason", "a strange noise", "--control", f"ipc://{process.folder}/ask")
    assert command(process, "edge-monitor", "operator", "keep", *asked)[0] == 0
    wait_for(process, 2)
    code, text = command(process, "edge-monitor", "status", "--control", asked[-1])
    assert code == 0 and re.search(r"incidents \d+ kept", text) and re.search(r"raw \d+ written", text), text
    process.run.send_signal(signal.SIGTERM)
    assert process.run.wait(20) == 0
    incidents = sorted((process.folder / "tapes" / "incidents").iterdir())
    assert len(incidents) >= 4  # a gap on a busy machine is an incident, too
    assert [path.suffix for path in incidents] == [".mcap", ".tape"] * (len(incidents) // 2)
    incidents = incidents[1::2]
    for path in incidents:
        again = ("edge-replay", "reexecute", "journal.db", path, "-e", "live.yaml", "--key", "robot.pub")
        code, text = command(process, *again)
        assert code == 0 and "EQUAL" in text and "names it" in text and "messages, as named" in text, text
        code, text = command(process, *again, "--json")
        found = json.loads(text)
        assert found["incident"]["record"] is not None and not found["damages"]
    largest = max(incidents, key=lambda path: path.stat().st_size)
    blocks = len(read(largest).blocks)
    data = bytearray(largest.read_bytes())
    data[-20] ^= 1
    largest.write_bytes(data)
    code, _ = command(
        process, "edge-replay", "reexecute", "journal.db", largest, "-e", "live.yaml", "--key", "robot.pub"
    )
    assert code == (5 if blocks > 1 else 4)  # without its last block it is shorter than the journal says
