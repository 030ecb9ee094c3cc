"""A disk that has no room for an incident: a tmpfs of its own for incidents alone, in namespaces of its own.

``python full_incidents.py FOLDER`` is what runs inside; ``small_disk.why_not`` says whether it can be done here.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
from fuzz_readers import read
from incident_cases import Vehicle, again, files, told

from edge_monitor.core.messages import Batch, Channel
from edge_monitor.core.samples import MESSAGE
from edge_monitor.onboard.raw_recorder import RawRecorder
from edge_monitor.raw.window import files_of

SIZE = 256 << 10


def full_incidents(folder: Path) -> str:
    """Run it; answers what was seen."""
    tests = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, __file__, str(folder)],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH")]))},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def main(folder: Path) -> None:
    """Inside the namespace."""
    incidents = folder / "incidents"
    incidents.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(incidents)], check=True)
    (incidents / "ballast").write_bytes(bytes(SIZE - (16 << 10)))
    vehicle = Vehicle(folder, incidents=incidents)
    vehicle.drive(4)
    vehicle.incident()
    vehicle.drive(1)
    vehicle.until(lambda: vehicle.keeper.status()["failure"])
    vehicle.drive(6)
    vehicle.until(lambda: told(folder, "incident.failed"))
    (failed,) = told(folder, "incident.failed")
    assert "No space left on device" in failed["cause"] and failed["causes"][0][1:] == ["gate.no_go", "drive"]
    assert not files(incidents) and vehicle.scribe.health().failure == ""
    (incidents / "ballast").unlink()
    vehicle.until(lambda: vehicle.keeper.status()["kept"])
    assert vehicle.keeper.status()["failure"] == ""
    vehicle.loop.end()
    (path,) = files(incidents)
    report = again(folder, path, vehicle.envelope)
    assert report.difference is None and report.incident is not None and report.damages == ()
    (kept,) = told(folder, "incident.kept")
    assert "late_ns" not in kept and len(told(folder, "incident.failed")) == 1
    raw_messages(folder / "raw")
    print(f"told that there is no room; kept {kept['size']} bytes once there was, with nothing missing")


def raw_messages(folder: Path) -> None:
    """The same for raw messages: what there is no room for is counted and told, and the rest is whole."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={2 * SIZE}", "none", str(folder)], check=True)
    (folder / "ballast").write_bytes(bytes(SIZE))
    recorder = RawRecorder(folder, bytes(16), ["/odom"], [])
    recorder.take(Channel(0, "/odom", "", "msgpack", "none", ""))
    noise = random.Random(1)
    for n in range(60):
        if n == 40:
            (folder / "ballast").unlink()
        body = np.frombuffer(noise.randbytes(10_000), np.uint8)
        recorder.take(Batch(body, np.array([(n, 0, len(body), 0)], MESSAGE)))
        recorder.flush()
    (event,) = recorder.news(1)
    recorder.close()
    dropped = event.payload["dropped"]["/odom"]
    assert "No space left on device" in event.payload["cause"] and 5 < dropped < 40
    (path,) = files_of(folder, bytes(16))
    delivered, damages, _ = read(path)
    assert damages == [] and [t for _, t, _ in delivered][-20:] == list(range(40, 60))
    assert len(delivered) + dropped == 60


if __name__ == "__main__":
    main(Path(sys.argv[1]))
