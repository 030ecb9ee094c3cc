"""What the tests of the node share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import live_recording
import pytest
from world import ENVELOPE, World


@pytest.fixture(scope="session", autouse=True)
def kernels(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiled before any test, as ``edge-monitor warm`` does at install time: that takes minutes on a busy machine."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(100 + os.getpid() % 100))
    folder = tmp_path_factory.mktemp("kernels")
    files = {folder / "node.yaml": ENVELOPE, folder / "recording.yaml": live_recording.ENVELOPE}
    for file, envelope in files.items():
        file.write_text(envelope)
    run = [sys.executable, "-c", "from edge_monitor.cli import main; main()", "warm", *map(str, files)]
    subprocess.run(run, check=True)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes the world of a test."""
    made: list[World] = []

    def build(**given: Any) -> World:
        made.append(World(tmp_path, **given))
        return made[-1]

    yield build
    for world in made:
        world.close()
