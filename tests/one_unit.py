"""What systemd does for one service, as far as tests need it: reads the unit, starts it, is notified, stops it.

No more than that: it sandboxes nothing, and starts nothing anew.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def settings(*texts: str) -> dict[str, list[str]]:
    """The settings of a unit's ``[Service]`` and its drop-ins: an empty value forgets those before it, as in systemd."""
    found: dict[str, list[str]] = {}
    for text in texts:
        section = ""
        for line in re.sub(r"\\\n", " ", text).splitlines():
            if line.startswith("["):
                section = line.strip()
            elif section == "[Service]" and line and line[0] not in "#;":
                name, _, value = line.partition("=")
                found[name] = [*found.get(name, []), value.strip()] if value.strip() else []
    return found


def environment(unit: Mapping[str, list[str]]) -> dict[str, str]:
    """The variables of the ``Environment`` lines; the last of a name counts."""
    words = [word for line in unit.get("Environment", []) for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words)


def words(line: str, variables: Mapping[str, str]) -> list[str]:
    """A command line as systemd splits it: ``$NAME``, a word alone, becomes words; ``${NAME}`` becomes part of one."""
    found = []
    for word in shlex.split(line):
        if re.fullmatch(r"\$\w+", word):
            found += variables.get(word[1:], "").split()
        else:
            found.append(re.sub(r"\$\{(\w+)\}", lambda name: variables.get(name[1], ""), word))
    return found


class Service:
    """One service of ``Type=notify``. ``here`` puts paths and addresses of the unit into the test's folder."""

    def __init__(self, unit: Path, folder: Path, here: Callable[[str], str]) -> None:
        self.unit, self.folder, self.here = unit, folder, here
        self.process: subprocess.Popen[bytes] | None = None
        self.told: list[tuple[float, str]] = []  # when, what
        self.log = folder / "log"
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(folder / "notify"))

    def start(self, patience: float = 240.0) -> int | None:
        """Start it, and wait for READY=1; answers its exit code where it ends before that."""
        unit = settings(self.here(self.unit.read_text("utf-8")))
        (watchdog,) = unit["WatchdogSec"]
        given = {
            "NOTIFY_SOCKET": str(self.folder / "notify"), "WATCHDOG_USEC": str(int(watchdog) * 1_000_000),
            **environment(unit),
        }  # fmt: skip
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        for name in unit["RuntimeDirectory"]:
            (self.folder / "run" / name).mkdir(parents=True, exist_ok=True)
        (line,) = unit["ExecStart"]
        self.told = []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                words(line, given),
                env={**kept, **given},
                cwd="/",
                stdout=log,
                stderr=log,
                umask=int(unit["UMask"][0], 8),
            )
        end = time.monotonic() + patience
        while not any(word == "READY=1" for _, word in self.told):
            self.listen(0.2)
            if self.process.poll() is not None:
                return self.process.returncode
            assert time.monotonic() < end, "it did not become ready"
        return None

    def listen(self, seconds: float) -> None:
        """Take what it notifies of, for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._manager.settimeout(left)
            try:
                self.told.append((time.monotonic(), self._manager.recv(100).decode()))
            except TimeoutError:
                return

    def stop(self) -> int:
        """End it as systemd does; answers its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        while self.process.poll() is None:
            self.listen(0.05)
        self.listen(0.05)
        return self.process.returncode

    def close(self) -> None:
        """End whatever is left."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._manager.close()
