"""One recording through ZeroMQ and DDS into running monitors: both decide as ``edge-replay run`` does (live_recording.py).

Through the ROS 2 node: ``ros2_ws/src/edge_monitor_ros/test``.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import live_recording
import msgspec
import pytest
import zmq
from dds_world import configure, next_domain

from edge_monitor.journal.keys import make_key

pytest.importorskip("cyclonedds", reason="there is no wheel of cyclonedds for this machine")
BIN = Path(sys.executable).parent


class Live:
    """A monitor's process that reads a source."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "envelope.yaml").write_text(live_recording.ENVELOPE)
        make_key("robot", folder)
        control = f"ipc://{folder}/control"
        self.process = subprocess.Popen(
            [
                BIN / "edge-monitor", "run", "-e", "envelope.yaml", "--source", source, "--journal", "journal.db",
                "--key", "robot.key", "--tapes", "tapes", "--tape-size", "16", "--publish", f"ipc://{folder}/out",
                "--control", control, "--unapproved",
            ],
            cwd=folder,
        )  # fmt: skip
        self._socket = zmq.Context.instance().socket(zmq.REQ)
        self._socket.connect(control)
        self._socket.send(msgspec.msgpack.encode({"do": "status"}))

    def wait(self) -> None:
        """Until it decides."""
        assert self._socket.poll(120_000) and self.process.poll() is None

    def stop(self) -> None:
        """End it, cleanly."""
        self._socket.close(0)
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0


def test_the_same_recording_through_zeromq_and_dds(tmp_path: Path) -> None:
    """Each tape re-executes identically; transitions are those of ``edge-replay run`` within the measured delay of the
    transport, and those of a replay with the times of reception to the nanosecond."""
    configure()
    address, domain = f"ipc://{tmp_path}/in", next_domain()
    monitors = {
        "zmq": Live(tmp_path / "zmq", f"bind-pull:{address}"),
        "dds": Live(tmp_path / "dds", f"dds:{domain}"),
    }
    drive = live_recording.Drive(tmp_path, f"zmq={address}", f"dds={domain}")
    try:
        for monitor in monitors.values():
            monitor.wait()
        drive.publish()
    finally:
        for monitor in monitors.values():
            monitor.stop()
        drive.close()
    for way, monitor in monitors.items():
        (tape,) = (monitor.folder / "tapes").glob("*.tape")
        drive.prove(way, monitor.folder / "journal.db", tape, monitor.folder / "robot.pub")
