"""Crashes: whatever the moment, what was acknowledged is there, it verifies, and the journal opens as always."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.verify import verify

KEY = SigningKey("robot", bytes(range(32)))
KILLS = 20

#: Appends for ever, by itself or in groups, and says the size of the journal after each commit that returned.
WRITER = """
import sys
from pathlib import Path
from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.keys import SigningKey

journal = Journal.create_or_open(Path(sys.argv[1]), SigningKey("robot", bytes(range(32))))
print(journal.size, flush=True)
while True:
    size = journal.size
    journal.append(Entry("check.fail", Severity.CRITICAL, size, size, {"i": size, "pad": "x" * 300}, now=size % 3 == 0))
    if not journal.pending:
        print(journal.size, flush=True)
"""


def killed(path: Path, seconds: float) -> int:
    """Run the writer on ``path``, kill it so long after it has begun, and answer the last size it acknowledged."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        begun = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        lines = [begun, *process.stdout.read().splitlines(keepends=True)]
    return int([line for line in lines if line.endswith("\n")][-1])


def test_what_was_acknowledged_survives_kill_9(tmp_path):
    """A journal whose writer is killed twenty times at random moments keeps every acknowledged record, and verifies."""
    path = tmp_path / "j.db"
    chance = random.Random(3)
    sizes = [0]
    for _ in range(KILLS):
        acknowledged = killed(path, chance.uniform(0, 0.08))
        report = verify(path, [KEY.verifier])
        assert report.ok, report.findings
        assert report.records >= acknowledged >= sizes[-1]
        sizes.append(report.records)
    assert sizes[-1] > KILLS
    with Journal.create_or_open(path, KEY) as journal:
        assert journal.size == sizes[-1]
        assert not journal.last_end_was_clean
        journal.append(Entry("monitor.stopped", Severity.NEGLIGIBLE, 0, 0))
    report = verify(path, [KEY.verifier])
    assert (report.ok, report.records) == (True, sizes[-1] + 1)


def test_a_writer_killed_before_its_first_commit_leaves_a_file_that_opens(tmp_path):
    """Whatever part of making the file was done, the next start makes a journal of it."""
    for i in range(6):
        path = tmp_path / f"{i}.db"
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.DEVNULL) as process:
            while not path.exists() and process.poll() is None:
                time.sleep(0.0005)
            time.sleep(i * 0.001)
            process.kill()
        with Journal.create_or_open(path, KEY) as journal:
            journal.append(Entry("monitor.started", Severity.NEGLIGIBLE, 0, 0))
        assert verify(path, [KEY.verifier]).ok


def commit_ends(wal: bytes) -> list[int]:
    """Where each transaction in a WAL ends (SQLite file format §4): after a frame that says a database size."""
    page, *salts = struct.unpack(">8xI4x8s", wal[:24])
    ends = []
    for start in range(32, len(wal) - page - 23, page + 24):
        size, salt = struct.unpack(">4xI8s", wal[start : start + 16])
        if [salt] != salts:
            break
        if size:
            ends.append(start + 24 + page)
    return ends


@pytest.fixture(scope="module")
def commits(tmp_path_factory):
    """A journal whose records are in its WAL only, and where there each commit ends: (path, [(offset, records)])."""
    path = tmp_path_factory.mktemp("wal") / "j.db"
    wal = path.with_name("j.db-wal")
    journal = Journal.create_or_open(path, KEY)
    sizes = []
    try:
        for i in range(24):
            payload = {"i": i, "pad": "x" * (i % 5 * 1500)}
            journal.append(Entry("check.fail", Severity.CRITICAL, i, i, payload, now=i % 4 != 1))
            if not journal.pending:
                sizes.append(journal.size)
        copy = tmp_path_factory.mktemp("copy") / "j.db"
        shutil.copy(path, copy)
        shutil.copy(wal, copy.with_name("j.db-wal"))
    finally:
        journal.close()
    return copy, list(zip(commit_ends(copy.with_name("j.db-wal").read_bytes()), sizes, strict=True))


def opened(source: Path, wal: bytes, folder: Path) -> int:
    """Open a copy of ``source`` with this WAL the normal way; answers its records, all of which verify."""
    for leftover in folder.glob("j.db*"):
        leftover.unlink()
    path = folder / "j.db"
    shutil.copy(source, path)
    path.with_name("j.db-wal").write_bytes(wal)
    with Journal.create_or_open(path, KEY) as journal:
        size = journal.size
        journal.append(Entry("monitor.started", Severity.NEGLIGIBLE, 0, 0))
    report = verify(path, [KEY.verifier])
    assert report.ok, report.findings
    assert report.records == size + 1
    return size


def test_a_cut_wal_keeps_every_commit_that_is_fully_inside(tmp_path, commits):
    """Power lost while the WAL was written: wherever it is cut, the journal opens with exactly the commits before."""
    source, made = commits
    wal = source.with_name("j.db-wal").read_bytes()
    cuts = sorted({*range(0, made[-1][0], 1999), *(end + d for end, _ in made for d in (-1, 0, 1))})
    for cut in cuts:
        expected = max((records for end, records in made if end <= cut), default=0)
        assert opened(source, wal[:cut], tmp_path) == expected, cut


def test_torn_sectors_at_the_end_of_the_wal_lose_only_what_follows(tmp_path, commits):
    """512 bytes that never reached the disk end the journal at the commit before them; nothing half written appears."""
    source, made = commits
    wal = source.with_name("j.db-wal").read_bytes()
    chance = random.Random(5)
    for _ in range(40):
        sector = chance.randrange(made[-1][0] // 512)
        torn = wal[: sector * 512] + bytes(512) + wal[(sector + 1) * 512 :]
        if torn == wal:
            continue
        before = max((records for end, records in made if end <= sector * 512), default=0)
        assert opened(source, torn, tmp_path) == before, sector


def test_a_lost_wal_index_is_rebuilt(tmp_path, commits):
    """The shared-memory file is only an index: readers without it see the same records."""
    source, made = commits
    for suffix in ("", "-wal"):
        shutil.copy(source.with_name("j.db" + suffix), tmp_path / ("j.db" + suffix))
    with Reader(tmp_path / "j.db") as reader:
        assert reader.size() == made[-1][1]
