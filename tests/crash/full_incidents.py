"""A disk that has no room for an incident: a tmpfs of its own for incidents alone, in namespaces of its own.

``python full_incidents.py FOLDER`` is what runs inside; ``small_disk.why_not`` says whether it can be done here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from incident_cases import Vehicle, again, files, told

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
    print(f"told that there is no room; kept {kept['size']} bytes once there was, with nothing missing")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
