"""The chaos matrix in short: the same code as ``make chaos``, with fewer records, kills, frames and steps."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos import links
from chaos.frames import bomb, fuzz
from chaos.kills import kill_at_commits, kill_at_random
from chaos.simulation import World, simulate
from crash_matrix import memory
from hypothesis import given, settings
from hypothesis import strategies as st

SEED = 20261126


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder on a disk without latency."""
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", links.SHORT)
def test_bad_links(name: str, in_memory: Path) -> None:
    """Late, in crumbs, cut, half open, at 8 kbit/s, under a cap, or gone for a time: both ends hold the same in the end."""
    assert links.SHORT[name](in_memory, SEED)


def test_a_registry_killed_at_a_commit(in_memory: Path) -> None:
    """Before it nothing is receipted, after it everything is there, and what is sent again gets the very same receipt."""
    assert "2 kills" in kill_at_commits(in_memory, range(1, 2))


def test_a_registry_killed_at_random(in_memory: Path) -> None:
    """What the robot has a receipt for is in the database after each kill, bit by bit."""
    assert "2 kills" in kill_at_random(in_memory, 2, SEED)


def test_changed_frames(in_memory: Path) -> None:
    """Frames with flipped bits, foreign fields and other columns raise nothing, and get no receipt that was not earned."""
    assert "malformed" in fuzz(in_memory, 500, SEED)


def test_bombs(in_memory: Path) -> None:
    """Bombs, nests and lies about sizes cost a registry neither its memory nor its other robots."""
    assert "MiB at most" in bomb(in_memory, 1)


def test_a_fleet_in_a_simulation(in_memory: Path) -> None:
    """Crashes, partitions of days, sticks, resends and restores in any order: no receipt without its records, nobody accused."""
    assert "steps" in simulate(in_memory, 200, SEED)


@settings(max_examples=3)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 2)), min_size=20, max_size=60))
def test_any_course_of_events(course: list[tuple[int, int]]) -> None:
    """The same world on courses that Hypothesis chooses, and makes shorter where one fails."""
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        world = World(Path(folder), SEED, devices=2)
        try:
            for which, whose in course:
                world.perform(which, whose)
            world.settle()
        finally:
            world.close()
