"""A registry that is killed with ``kill -9``: at random, before a commit, and after it before its answer."""

from __future__ import annotations

import random
import time
from pathlib import Path

from .serving import Robot, Serving, impatient


def kill_at_commits(folder: Path, commits: range, database: str | None = None) -> str:
    """Before and after each of these commits; what comes again has the receipt that it would have had."""
    impatient()
    serving = Serving(folder, database)
    robot = Robot(folder, serving)
    robot.uplink.start()
    try:
        for at in commits:
            for place in ("before", "after"):
                held = robot.receipted()
                serving.start(place, at)
                while not serving.died():
                    robot.write(40)
                    robot.until(lambda: serving.died() or robot.receipted() == robot.journal.size)
                robot.keep()
                serving.kill()
                robot.same()
                assert robot.receipted() >= held
        serving.start()
        robot.write(40)
        robot.arrived()
        return f"{2 * len(commits)} kills at a commit, {robot.journal.size} records, all there under their receipts"
    finally:
        robot.close()
        serving.close()


def kill_at_random(folder: Path, kills: int, seed: int, database: str | None = None) -> str:
    """So many, while records come."""
    impatient()
    rng = random.Random(seed)
    serving = Serving(folder, database)
    robot = Robot(folder, serving)
    robot.uplink.start()
    try:
        for _ in range(kills):
            serving.start()
            end = time.monotonic() + rng.uniform(0.0, 1.5)
            while time.monotonic() < end:
                robot.write(rng.choice((1, 20, 200)))
                robot.keep()
                time.sleep(rng.uniform(0, 0.05))
            serving.kill()
            robot.keep()
            robot.same()
        serving.start()
        robot.arrived()
        return f"{kills} kills, {robot.journal.size} records, all there under their receipts"
    finally:
        robot.close()
        serving.close()
