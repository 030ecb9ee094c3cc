"""A disk that is full, and one that is remounted read-only: a tmpfs of its own, in namespaces of its own.

``python small_disk.py FOLDER`` is what runs inside; it is started by ``small_disk``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

WRITER = Path(__file__).with_name("writer.py")
SIZE, LEFT = 8 << 20, 300 << 10  #: bytes of the disk, and what of it is free at first
COUNT = 400
PAD = "20000"


def why_not() -> str:
    """Why it can't be done here; empty where it can."""
    if shutil.which("unshare") is None:
        return "unshare is not installed (Debian package util-linux)"
    done = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else f"no tmpfs can be mounted here ({done.stderr.strip()})"


def small_disk(folder: Path) -> str:
    """Run it; answers what was seen."""
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, __file__, str(folder)],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), _tests()]))},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def _tests() -> str:
    return str(Path(__file__).resolve().parent.parent)


def _mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True)


def _writer(journal: Path, first: int, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, WRITER, journal, "-", str(first), str(count), PAD],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def main(folder: Path) -> None:
    """Inside the namespace."""
    from crash.checks import check_journal

    _mount("-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder))
    ballast, journal = folder / "ballast", folder / "journal.db"
    ballast.write_bytes(bytes(SIZE - LEFT))
    with _writer(journal, 0, COUNT) as process:
        assert process.stdout is not None
        acknowledged = 0
        for line in process.stdout:
            if line.startswith("ack"):
                acknowledged += 1
            if line.startswith("failed "):
                break
        else:
            raise AssertionError("the disk was never full")
        full = check_journal(journal, acknowledged)
        ballast.unlink()
        rest = process.stdout.read().splitlines()
    assert process.returncode == 0 and rest[-1] == "closed", rest
    assert check_journal(journal, COUNT) == COUNT

    _mount("-o", "remount,ro", str(folder))
    with _writer(journal, COUNT, 1) as process:
        told = process.communicate()[0].splitlines()
    assert process.returncode == 3 and len(told) == 1 and told[0].startswith("refused"), told
    check_journal(journal, COUNT)
    _mount("-o", "remount,rw", str(folder))
    with _writer(journal, COUNT, 10) as process:
        told = process.communicate()[0].splitlines()
    assert process.returncode == 0 and told[-1] == "closed", told
    assert check_journal(journal, COUNT + 10) == COUNT + 10
    print(f"full at {full} records, {COUNT} of {COUNT} once there was room; read-only refused, then {COUNT + 10}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
