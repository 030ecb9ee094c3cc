"""``edge-monitor doctor``: what must be mended is found before the vehicle moves."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from edge_monitor.journal.keys import make_key
from edge_monitor.onboard.service_manager import notify

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ENVELOPE = """
edge_monitor: 1
envelope: {id: yard, version: 1, vehicle: rover}
signals:
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 500 ms}
  height: {topic: /range, field: z, unit: m, max_age: 500 ms}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12}
  height_limit: {kind: bounds, signal: height, min: 1}
"""


def doctor(folder: Path, *words: str, expect: int) -> dict[str, dict[str, Any]]:
    """What the doctor found, by what it looked at."""
    command = [BIN / "edge-monitor", "doctor", "-e", folder / "yard.yaml", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr + done.stdout
    return {finding["what"]: finding for finding in json.loads(done.stdout)}


def test_what_has_to_be_mended_is_named(tmp_path: Path) -> None:
    """An open key, a missing folder, an unapproved envelope and a silent topic are found; what is well has its numbers."""
    (tmp_path / "yard.yaml").write_text(ENVELOPE)
    key, _ = make_key("robot", tmp_path)
    out = zmq.Context.instance().socket(zmq.PUB)
    out.bind(f"ipc://{tmp_path}/in")
    child = subprocess.Popen(
        [
            BIN / "edge-monitor", "doctor", "-e", tmp_path / "yard.yaml", "--json", "--key", key,
            "--journal", tmp_path / "journal.db", "--source", f"sub:ipc://{tmp_path}/in", "--listen", "2",
        ],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    meta, body = msgspec.msgpack.encode({"e": "msgpack"}), msgspec.msgpack.encode({"speed": 1.0})
    while child.poll() is None:
        out.send_multipart([b"/odom", meta, body])
        time.sleep(0.01)
    out.close()
    assert child.stdout is not None and child.returncode == 1
    found = {finding["what"]: finding for finding in json.loads(child.stdout.read())}
    states = {what: finding["state"] for what, finding in found.items()}
    assert states["key"] == states["clock"] == states["disk"] == states["/odom"] == "ok"
    assert states["envelope"] == states["/range"] == "FAILED" and "--people" in found["envelope"]["told"]
    assert re.search(r"[\d.]+ messages a second", found["/odom"]["told"]) and "nothing came" in found["/range"]["told"]
    assert re.search(r"takes [\d.]+ ms", found["disk"]["told"]) and not list(tmp_path.glob("*.probe"))
    os.chmod(key, 0o644)
    found = doctor(tmp_path, "--key", str(key), "--journal", str(tmp_path / "none" / "j.db"), expect=1)
    assert "chmod 600" in found["key"]["told"] and "folder" in found["disk"]["told"]


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words reach the socket that NOTIFY_SOCKET names, abstract ones too; without one, or a dead one, nothing happens."""
    for address in (str(tmp_path / "notify"), f"@edge-monitor-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind("\0" + address[1:] if address[0] == "@" else address)
            manager.settimeout(2)
            monkeypatch.setenv("NOTIFY_SOCKET", address)
            notify("READY=1")
            assert manager.recv(100) == b"READY=1"
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "")
    notify("READY=1")
