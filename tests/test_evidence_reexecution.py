"""Decisions made again from the black box in a packet, by someone who has nothing but the packet and keys."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from evidence_case import contents, sealed

from edge_monitor.journal.keys import load_signing_key
from edge_monitor.tape import Kind, read
from edge_monitor.tape.format import HEAD_SIZE

ROOT = Path(__file__).resolve().parent.parent


def command(*arguments: str | Path, expect: int = 0) -> str:
    """What a command prints."""
    program = Path(sys.executable).parent / str(arguments[0])
    done = subprocess.run([program, *arguments[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def packet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packet of a replayed flight with its black box, beside the keys."""
    folder = tmp_path_factory.mktemp("flight")
    config = ROOT / "configs" / "survey_plane.yaml"
    for name in ("robot", "assessor"):
        command("edge-monitor", "keys", "new", name, "--dir", folder)
    command(
        "edge-replay", "run", ROOT / "replay" / "scenarios" / "survey_flight.mcap", "-e", config, "--quiet",
        "--key", folder / "robot.key", "--journal", folder / "j.db", "--tape", folder / "t.tape",
    )  # fmt: skip
    command(
        "edge-monitor", "evidence", "export", folder / "j.db", "--key", folder / "assessor.key", "--out", folder / "p.zip",
        "--envelope", config, "--tape", folder / "t.tape",
    )  # fmt: skip
    return folder / "p.zip"


def verdict(packet: Path, folder: Path, expect: int) -> dict[str, object]:
    """What is said of it, decisions made again."""
    keys = ("--exporter", folder / "assessor.pub", "--robot", folder / "robot.pub", "--reexecute", "--json")
    found: dict[str, object] = json.loads(command("edge-monitor", "evidence", "verify", packet, *keys, expect=expect))
    return found


def test_the_decisions_come_out_again(packet: Path) -> None:
    """Every event of the flight comes out of the packet's own black box as it was recorded."""
    found = verdict(packet, packet.parent, 1)  # incomplete: nobody receipted it
    assert any("events came out as they were recorded" in str(note) for note in found["notes"])  # type: ignore[attr-defined]


def test_another_sample_in_the_black_box_is_found(packet: Path, tmp_path: Path) -> None:
    """One changed bit of a sample is refused with the reason ``reexecution``, however the packet is sealed."""
    files = contents(packet)
    (name,) = (name for name in files if name.endswith(".tape"))
    file = tmp_path / "t.tape"
    file.write_bytes(files[name])
    blocks = read(file).blocks
    item = next(item for item in blocks[-1].entries() if item.kind == Kind.ITEMS)
    data = bytearray(files.pop(name))
    data[HEAD_SIZE + (1 - len(blocks) % 2) * (4 << 20) + item.start + 40] ^= 1
    files[f"data/tapes/{hashlib.sha256(data).hexdigest()}.tape"] = bytes(data)
    forged = sealed(files, tmp_path / "forged.zip", load_signing_key(packet.parent / "assessor.key"))
    found = verdict(forged, packet.parent, 5)
    assert [failure["code"] for failure in found["failures"]] == ["reexecution"]  # type: ignore[attr-defined,index]
