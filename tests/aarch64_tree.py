"""A Debian arm64 tree with Python and this project's dependencies, and a way to run programs in it on an x86-64 machine.

Everything lies under one folder: ``tree`` (made by debootstrap), in it ``opt/site`` (aarch64 wheels), ``opt/checkout`` (a copy
of these sources), ``opt/cache`` (compiled kernels, kept) and ``opt/cases``. Programs run under QEMU's user-mode emulation:
the kernel is told about it for as long as the run lasts (``Emulation``), whatever else is registered.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
SUITE, PYTHON = "bookworm", "3.11"  #: Debian's release, and the version of the Python in it
QEMU = "qemu-aarch64-static"
TOOLS = ("debootstrap", QEMU, "unshare", "chroot", "dpkg-deb")
BINFMT = Path("/proc/sys/fs/binfmt_misc")
#: How a program for aarch64 begins, and which bits of that count.
MAGIC = r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
#: Wheels for any glibc up to that of the release.
PLATFORMS = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 37))]
COPIED = ("edge_monitor", "replay", "configs", "tests")
LEFT_OUT = {"scipy"}  #: what only ``edge-replay calibrate`` and ``evaluate`` load


def missing() -> str:
    """Why this machine cannot run it, and how to mend that; empty: it can."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"compares aarch64 with x86-64, and this machine is {platform.system()} on {platform.machine()}"
    if os.geteuid() != 0:
        return "needs root, to make a tree of another architecture and to run programs in it: run it with sudo"
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"needs {', '.join(lacking)}: apt-get install debootstrap qemu-user-static"
    return ""


class Emulation:
    """While it lasts, programs for aarch64 run on this machine. Needs root and a mount namespace of its own."""

    def __init__(self) -> None:
        self.name = f"edge-monitor-aarch64-{os.getpid()}"

    def __enter__(self) -> Emulation:
        if not (BINFMT / "register").exists():
            subprocess.run(["mount", "-t", "binfmt_misc", "none", BINFMT], check=True)
        # F: the emulator is opened now, so that it need not lie in the tree.
        (BINFMT / "register").write_text(f":{self.name}:M::{MAGIC}:{MASK}:{shutil.which(QEMU)}:F")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        (BINFMT / self.name).write_text("-1")


class Tree:
    """The tree under ``folder``; made where it is not there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "tree"
        self.cases = self.root / "opt" / "cases"

    def make(self) -> None:
        """Packages of Debian, wheels, and the sources as they are now. What is there already is kept."""
        if not self.root.exists():
            self._debian()
        self._wheels()
        self._sources()

    def _debian(self) -> None:
        unfinished = self.folder / "tree.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        quiet = (self.folder / "debootstrap.log").open("w")
        options = ["--foreign", "--arch=arm64", "--variant=minbase", "--include=python3"]
        subprocess.run(["debootstrap", *options, SUITE, unfinished], stdout=quiet, stderr=quiet, check=True)
        # Unpacked, the packages are enough to run Python: their scripts, emulated, would take five minutes more.
        for package in sorted((unfinished / "var/cache/apt/archives").glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", package, unfinished], check=True)
        (unfinished / "proc").mkdir(exist_ok=True)
        unfinished.rename(self.root)

    def _wheels(self) -> None:
        site, stamp = self.root / "opt" / "site", self.root / "opt" / "site.json"
        wanted = requirements()
        if stamp.exists() and json.loads(stamp.read_text()) == wanted:
            return
        shutil.rmtree(site, ignore_errors=True)
        options = [
            "--only-binary=:all:",
            "--implementation=cp",
            f"--python-version={PYTHON}",
            "--no-compile",
            "--quiet",
        ]
        platforms = [f"--platform={name}" for name in PLATFORMS]
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--target", str(site)]
        subprocess.run([*pip, *options, *platforms, *wanted], check=True)
        stamp.write_text(json.dumps(wanted))

    def _sources(self) -> None:
        checkout = self.root / "opt" / "checkout"
        shutil.rmtree(checkout, ignore_errors=True)
        for name in COPIED:
            shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Python with ``arguments`` in the tree; its standard output is piped."""
        if not os.path.ismount(self.root / "proc"):
            subprocess.run(["mount", "-t", "proc", "proc", self.root / "proc"], check=True)
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0",
            "PYTHONPATH": "/opt/site:/opt/checkout:/opt/checkout/replay", "EDGE_MONITOR_CACHE_DIR": "/opt/cache",
        }  # fmt: skip
        return subprocess.Popen(
            ["chroot", self.root, "/usr/bin/python3", *arguments], env=environment, stdout=subprocess.PIPE, text=True
        )


def requirements() -> list[str]:
    """What the package and ``edge-replay`` depend on, in the versions installed here."""
    found = []
    for line in metadata.requires("edge-monitor") or []:
        name, _, marker = line.partition(";")
        name = re.split(r"[^\w.-]", name.strip())[0]
        if (not marker or "'replay'" in marker.replace('"', "'")) and name not in LEFT_OUT:
            found.append(f"{name}=={metadata.version(name)}")
    return sorted(found)
