"""Options and fixtures: the monitor (started here, or elsewhere), the vehicle, what is watched, and the report at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from report import Report, Usage
from vehicle import Vehicle
from watch import Watch

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "hil"
START_S = 180  #: kernels may have to be compiled


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the monitor is, and how long nothing must happen."""
    group = parser.getgroup("hil")
    group.addoption("--monitor-in", help="address of the monitor's bind-pull source; by default one is started here")
    group.addoption("--monitor-out", help="address of the monitor's --publish")
    group.addoption("--clock-offset", type=float, default=0.0, help="the monitor's CLOCK_BOOTTIME minus ours, seconds")
    group.addoption("--nominal-seconds", type=float, default=60.0, help="of the nominal run; in full: 1800")
    group.addoption("--report", type=Path, default=BUILD, help="folder for the report")
    group.addoption("--report-key", type=Path, help="signing key of the report; by default one is made in its folder")


class Bench(NamedTuple):
    """A vehicle, the monitor's process where it runs here, and what is watched."""

    vehicle: Vehicle
    watch: Watch
    usage: Usage | None


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    """What was measured; printed, signed and written at the end."""
    found = Report(request.config.getoption("--monitor-in") or "started by the harness")
    yield found
    folder = request.config.getoption("--report")
    own = request.config.getoption("--report-key")
    text = found.write(folder, own)
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{text}\nwritten to {folder / 'report.md'}, signed with {own or folder / 'report.key'}")


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest, report: Report) -> Iterator[Bench]:
    """Everything, running, with the gate at GO."""
    into, out = request.config.getoption("--monitor-in"), request.config.getoption("--monitor-out")
    if bool(into) != bool(out):
        raise pytest.UsageError("give both --monitor-in and --monitor-out, or neither")
    offset = request.config.getoption("--clock-offset")
    with tempfile.TemporaryDirectory(prefix="hil-") as name:
        folder = Path(name)
        run = None if into else start(folder)
        vehicle = Vehicle(into or f"ipc://{folder}/in", round(offset * 1e9))
        watch = Watch(out or f"ipc://{folder}/out", other_clock=bool(offset))
        watch.start()
        try:
            assert watch.until(True, START_S), f"no GO within {START_S} s: {watch.wrong(0)[-5:]}"
            usage = Usage(run.pid) if run is not None else None
            yield Bench(vehicle, watch, usage)
            if usage is not None:
                report.usage = usage.report()
        finally:
            vehicle.end()
            watch.end()
            if run is not None:
                run.send_signal(signal.SIGTERM)
                run.wait(20)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A monitor as a robot starts it, over ipc sockets in a folder."""
    binary = Path(sys.executable).parent / "edge-monitor"
    subprocess.run([binary, "keys", "new", "hil", "--dir", folder], check=True, stdout=subprocess.DEVNULL)
    return subprocess.Popen(
        [
            binary, "run", "-e", HERE / "envelope.yaml", "--source", f"bind-pull:ipc://{folder}/in",
            "--journal", folder / "journal.db", "--key", folder / "hil.key", "--tapes", folder / "tapes",
            "--tape-size", "32", "--publish", f"ipc://{folder}/out", "--control", f"ipc://{folder}/ask", "--unapproved",
        ],
        env=os.environ,
    )  # fmt: skip
