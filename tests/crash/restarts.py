"""The whole process, killed at random moments and started anew: how long until it is active, and is all still there?"""

from __future__ import annotations

import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.keys import make_key
from edge_monitor.journal.verify import verify

LONGEST_S = 2.0
PATIENCE_S = 300.0  #: for the first start, which may have to compile
LONGEST_LIFE_S = 1.0
ENVELOPE = """
edge_monitor: 1
envelope: {id: restarted, version: 1, vehicle: bench}
signals:
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 300 ms}
  mode: {topic: /odom, field: mode, max_age: 2 s, values: {MANUAL: 0, AUTO: 1}}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, severity: critical, latch: manual}
authority: {mode: mode, map: {autonomy: [AUTO], human: [MANUAL]}}
gates:
  drive: {require: all, criteria: [speed_limit], lease: 1 s}
handover: {accept_within: 10 s, complete_within: 10 s, attest_within: 5 min, gates: [drive]}
"""


@dataclass
class Restarts:
    """What came of it. ``active_s``: from the start of the process to its first heartbeat; ``cpu_s``: what it computed
    until then, user and system."""

    active_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    records: int = 0
    load: float = 0.0
    cores: int = 1

    @property
    def busy(self) -> bool:
        """Whether other work had the cores: then the time says nothing of a start."""
        return self.load > self.cores + 1

    def __str__(self) -> str:
        times, work = sorted(self.active_s), sorted(self.cpu_s)
        tenth = len(times) // 10
        spread = f"a tenth below {times[tenth]:.2f}, a tenth above {times[-1 - tenth]:.2f}, at most {times[-1]:.2f}"
        machine = f"load {self.load:.1f} on {self.cores} cores{', too busy to judge the time' if self.busy else ''}"
        return (
            f"{len(times)} restarts: active after {statistics.median(times):.2f} s (median; {spread}), "
            f"{statistics.median(work):.2f} s of that on a processor (at most {work[-1]:.2f}); "
            f"{self.records} records verify; {machine}"
        )


def restart(folder: Path, count: int, seed: int, *, in_company: bool = False) -> Restarts:
    """Start the monitor, kill it at a random moment after it has become active, and start it anew, ``count`` times.

    ``in_company``: other work runs beside it; then only the least processor time of a start is held against the limit.
    """
    (folder / "live.yaml").write_text(ENVELOPE)
    make_key("robot", folder)
    chance, found = random.Random(seed), Restarts(cores=os.cpu_count() or 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        _run(folder, manager, found, 0.0, PATIENCE_S)
        found.active_s.clear()
        found.cpu_s.clear()
        for _ in range(count):
            _run(folder, manager, found, chance.uniform(0, LONGEST_LIFE_S), PATIENCE_S)
            found.load = max(found.load, os.getloadavg()[0])
    report = verify(folder / "j.db", [load_verifier_key(folder / "robot.pub")])
    assert report.ok, report.findings
    assert len(report.runs) == count + 1 and not any(run.ended for run in report.runs)
    found.records = report.records
    if in_company:
        assert min(found.cpu_s) < LONGEST_S, str(found)
    else:
        assert statistics.median(found.cpu_s) < LONGEST_S, str(found)
        assert found.busy or max(found.active_s) < LONGEST_S, str(found)
    return found


def _run(folder: Path, manager: socket.socket, found: Restarts, life: float, patience: float) -> None:
    """One life of the process: from its start to its first heartbeat, and ``life`` seconds more."""
    program = Path(sys.executable).parent / "edge-monitor"
    begun = time.monotonic()
    process = subprocess.Popen(
        [
            program, "run", "-e", "live.yaml", "--unapproved", "--source", "bind-pull:ipc://in", "--journal", "j.db",
            "--key", "robot.key", "--tapes", "tapes", "--tape-size", "16", "--publish", "ipc://out", "--control", "ipc://ask",
        ],
        cwd=folder, env=_environment(folder), stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        said = b""
        while said != b"WATCHDOG=1":  # sent with the first heartbeat
            manager.settimeout(1.0)
            try:
                said = manager.recv(100)
            except TimeoutError:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() - begun < patience, "it did not become active"
        found.active_s.append(time.monotonic() - begun)
        found.cpu_s.append(_worked(process.pid))
        time.sleep(life)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    manager.settimeout(0.0)
    try:
        while True:
            manager.recv(100)
    except BlockingIOError:
        pass


def _environment(folder: Path) -> dict[str, str]:
    """As an installation is: with compiled modules, which a checkout's environment may not want to be written."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(folder / "compiled"), "NOTIFY_SOCKET": str(folder / "notify")}


def _worked(pid: int) -> float:
    """Seconds on a processor so far, user and system."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
