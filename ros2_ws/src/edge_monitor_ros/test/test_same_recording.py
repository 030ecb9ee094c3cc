"""The recording of tests/test_same_recording.py, published into the node: it decides as ``edge-replay run`` does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import live_recording
from world import World


def test_the_same_recording_through_the_node(make: Callable[..., World]) -> None:
    """Its tape re-executes identically; transitions are those of ``edge-replay run`` within the measured delay of the
    transport, and those of a replay with the times of reception to the nanosecond."""
    world = make(envelope=live_recording.ENVELOPE)
    process = world.monitor(autostart="true", tapes=world.folder / "tapes")
    world.until(lambda: world.decisions)
    drive = live_recording.Drive(world.folder, f"ros={os.environ['ROS_DOMAIN_ID']}")
    try:
        drive.publish()
    finally:
        drive.close()
    world.tell(process, signal.SIGTERM)
    code, text = world.ended(process)
    assert code == 0, text
    (tape,) = (world.folder / "tapes").glob("*.tape")
    drive.prove("ros", world.folder / "j.db", tape, world.folder / "robot.pub")
