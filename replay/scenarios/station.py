"""The ground station of the demo: a registry's process, in which the robot is enrolled before it flies."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from types import TracebackType

from crew import BIN
from rig import RigError

PATIENCE_S = 20.0


class Station:
    """``edge-registry serve`` on free ports of this machine, with its data in ``folder``; ended on leaving the context."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sync, self.enrol = (f"tcp://127.0.0.1:{port}" for port in _free_ports(2))
        self._serving: subprocess.Popen[str] | None = None

    def __enter__(self) -> Station:
        self._serving = subprocess.Popen(
            [BIN / "edge-registry", "serve", "--dir", self.folder, "--sync", self.sync, "--enrol", self.enrol],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._serving.stderr is not None
        said = self._serving.stderr.readline()
        if "takes records" not in said:
            raise RigError(f"the registry did not start: {said.strip() or 'it said nothing'}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._serving is not None
        self._serving.terminate()
        try:
            self._serving.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._serving.kill()
            self._serving.communicate()

    def token(self, robot: str) -> str:
        """A one-time token with which the robot enrols."""
        command = [
            "edge-registry",
            "enrol",
            robot,
            "--dir",
            str(self.folder),
            "--sync",
            self.sync,
            "--enrol",
            self.enrol,
        ]
        done = subprocess.run([BIN / command[0], *command[1:]], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RigError(f"'{' '.join(command)}' ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def is_free(port: int) -> bool:
    """Whether nobody listens at a port of this machine."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
