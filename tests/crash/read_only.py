"""A disk that becomes read-only under a writer that has its files open, as ext4 does at an error of its own.

A mount with open files can't be remounted read-only from outside ("busy", a tmpfs neither), so this is an ext4 of its own in
a file, whose error is triggered. ``python read_only.py FOLDER`` runs within mounts of its own; it is started by ``read_only``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

WRITER = Path(__file__).with_name("writer.py")
SIZE = 24 << 20
BEFORE = 60  #: entries that are durable before the error
MORE = 20
PAD = "5000"
TOOLS = ("unshare", "mkfs.ext4", "fsck.ext4", "mount", "umount", "findmnt")
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def why_not() -> str:
    """Why it can't be done here; empty where it can."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path=_PATH) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian packages util-linux, mount, e2fsprogs)"
    if os.geteuid() != 0:
        return "mounting a file needs root"
    if not Path("/dev/loop-control").exists() or not Path("/sys/fs/ext4").exists():
        return "this kernel mounts no ext4 in a file (no loop devices, or no ext4)"
    return ""


def read_only(folder: Path) -> str:
    """Run it; answers what was seen."""
    tests = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        ["unshare", "-m", sys.executable, __file__, str(folder)],
        capture_output=True, text=True, check=False, timeout=120,
        env={
            **os.environ, "PATH": _PATH,
            "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), tests])),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def _do(*words: object, codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode in codes, (words, done.stdout, done.stderr)
    return done.stdout.strip()


def _writer(journal: Path, first: int, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, WRITER, journal, "-", str(first), str(count), PAD],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def main(folder: Path) -> None:
    """Inside, with mounts of its own."""
    from crash.checks import check_journal

    image, disk = folder / "image", folder / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    _do("mkfs.ext4", "-q", "-F", image)
    _do("mount", "-o", "loop,errors=remount-ro", image, disk)
    device = Path(_do("findmnt", "-n", "-o", "SOURCE", disk)).name
    journal, acknowledged = disk / "journal.db", 0
    with _writer(journal, 0, 1_000_000) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                acknowledged += line.startswith("ack")
                if acknowledged == BEFORE:
                    Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")
                if line.startswith("failed "):
                    why = line.strip()
                    break
            else:
                raise AssertionError("the error was not noticed")
            assert process.poll() is None, "the writer has ended"
        finally:
            process.kill()
        acknowledged += sum(line.startswith("ack") for line in process.stdout)
    read_only_records = check_journal(journal, acknowledged)
    with _writer(journal, acknowledged, 1) as process:
        told = process.communicate()[0].splitlines()
    assert process.returncode == 3 and len(told) == 1 and told[0].startswith("refused"), told
    _do("umount", disk)
    _do("fsck.ext4", "-fy", image, codes=(0, 1))
    _do("mount", "-o", "loop", image, disk)
    repaired = check_journal(journal, acknowledged)
    with _writer(journal, repaired, MORE) as process:
        told = process.communicate()[0].splitlines()
    assert process.returncode == 0 and told[-1] == "closed", told
    assert check_journal(journal, repaired + MORE) == repaired + MORE
    _do("umount", disk)
    print(
        f"read-only after {acknowledged} acknowledged records ({read_only_records} there), {repaired} after repair, then "
        f"{repaired + MORE}; told: {why[:80]}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
