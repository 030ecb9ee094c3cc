"""The crash matrix in short: the same code as ``make crash``, with fewer kills, calls and states."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash import read_only, small_disk, strace, vfs
from crash.full_incidents import full_incidents
from crash.incidents import kill_while_keeping
from crash.injection import inject
from crash.kills import kill_at_random
from crash.power_loss import replay, survives
from crash.restarts import restart
from crash_matrix import memory, power_loss, power_loss_vfs, tape_states

from edge_monitor.errors import ConfigError

SEED = 20261126
needs_strace = pytest.mark.skipif(bool(strace.why_not()), reason=f"not run: {strace.why_not()}")


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder on a disk without latency."""
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        yield Path(folder)


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """After each ``kill -9`` journal and tape hold all that was acknowledged or anchored, and open in under 2 s."""
    found = kill_at_random(tmp_path, 12, SEED)
    assert found.kills == 12 and found.acknowledged > 50 and found.anchors > 50, found


@needs_strace
def test_calls_that_fail(tmp_path: Path) -> None:
    """EIO or ENOSPC from any call stops the journal at most; it is opened anew, goes on, and nothing is lost or doubled."""
    found = inject(tmp_path, 5, SEED, with_tape=False)
    assert found.runs == 5 + 2 and found.stopped >= 2, found


def test_the_process_is_active_again_soon(tmp_path: Path) -> None:
    """Killed after it became active, the whole process is active again for less than 2 s of a processor's time."""
    found = restart(tmp_path, 3, SEED, in_company=True)
    assert len(found.active_s) == 3 and found.records > 6, found


@needs_strace
def test_power_lost_at_any_moment(in_memory: Path) -> None:
    """Whatever part of the unsynced writes reached the disk, the journal opens, verifies and has what was acknowledged."""
    power_loss(in_memory, 150, SEED, entries=60, pad=20_000)


def test_power_lost_with_another_sqlite(in_memory: Path) -> None:
    """The same holds for the writes that the store makes on the SQLite of apsw, recorded by a VFS."""
    power_loss_vfs(in_memory, 150, SEED)


def test_the_replay_finds_a_writer_that_does_not_sync(in_memory: Path) -> None:
    """The same run without the syncs of its WAL loses acknowledged records: the states are hard enough to show it."""
    (in_memory / "run").mkdir()
    (in_memory / "state").mkdir()
    calls = vfs.record(in_memory / "run" / "journal.db", [(40, 2_000)])
    calls = [call for call in calls if call.name != "sync" or not call.path.endswith("-wal")]
    with pytest.raises((AssertionError, ConfigError), match=r"acknowledged records are lost|malformed"):
        for state, acknowledged in replay(calls, in_memory / "run", 150, SEED):
            survives(state, acknowledged, in_memory / "state" / "journal.db")


def test_the_tape_after_every_store_and_after_power_loss(in_memory: Path) -> None:
    """No order of pages makes the tape say what was never written, or takes what a sync had put on the disk."""
    tape_states(in_memory, 900, 150, SEED)


@pytest.mark.skipif(bool(small_disk.why_not()), reason=f"not run: {small_disk.why_not()}")
def test_a_full_disk_and_a_read_only_one(tmp_path: Path) -> None:
    """A full disk loses nothing that was acknowledged and is written to once there is room; a read-only one is refused."""
    small_disk.small_disk(tmp_path)


@pytest.mark.skipif(bool(small_disk.why_not()), reason=f"not run: {small_disk.why_not()}")
def test_no_room_for_an_incident(tmp_path: Path) -> None:
    """A full disk is told once and stops nothing; what the tape still holds is kept when there is room again."""
    assert "nothing missing" in full_incidents(tmp_path)


def test_killed_while_an_incident_is_kept(in_memory: Path) -> None:
    """Whichever call of the keeper was the last, the next start completes every window, and the journal names it."""
    found = kill_while_keeping(in_memory, range(2, 60, 7))
    assert found.kills >= 9 and found.incidents >= 9, found


@pytest.mark.skipif(bool(read_only.why_not()), reason=f"not run: {read_only.why_not()}")
def test_a_disk_that_becomes_read_only_under_a_writer(tmp_path: Path) -> None:
    """An error of the file system makes the journal stop, nothing acknowledged is lost, and after a repair it goes on."""
    read_only.read_only(tmp_path)
