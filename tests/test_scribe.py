"""The journal's thread: bounded, never waited for, and nothing acknowledged is lost when the disk fails."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_monitor.errors import ConfigError
from edge_monitor.journal import Entry, Journal, Severity, load_verifier_key
from edge_monitor.journal.keys import SigningKey, make_key
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_payload, decode_record
from edge_monitor.journal.verify import verify
from edge_monitor.onboard.scribe import Scribe


@pytest.fixture(scope="module")
def key() -> SigningKey:
    """A robot's key."""
    return SigningKey("scribe", bytes(range(32)))


def an_entry(n: int, now: bool = False) -> Entry:
    """The n-th entry."""
    kind = "gate.no_go" if now else "check.fail"
    return Entry(kind, Severity.MARGINAL, n, n, {"n": n}, now=now)


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Until ``condition`` is true; the test fails where it does not become so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.002)


def written(path: Path) -> list[dict[str, object]]:
    """Payloads of all records."""
    with Reader(path) as reader:
        return [{"type": decode_record(row.record).type, **decode_payload(row.payload or b"")} for row in reader.rows()]


def test_all_that_is_put_is_written_in_order(tmp_path: Path, key: SigningKey) -> None:
    """Entries become durable in the order of their tickets, and stand in the journal in that order."""
    path = tmp_path / "journal.db"
    scribe = Scribe(lambda: Journal.create_or_open(path, key))
    tickets = [scribe.put(an_entry(n, n % 7 == 0), n) for n in range(500)]
    found: list[int] = []
    wait_for(lambda: found.extend(scribe.durable()) or len(found) == 500)
    assert found == tickets == list(range(500))
    assert scribe.health().waiting == 0 and scribe.close()
    assert [payload["n"] for payload in written(path)] == list(range(500))
    assert verify(path, [key.verifier]).ok


class Disk:
    """A journal whose commits wait for ``go``."""

    def __init__(self, path: Path, key: SigningKey) -> None:
        self.go = threading.Event()
        self.path, self.key = path, key

    def __call__(self) -> Journal:
        journal = Journal.create_or_open(self.path, self.key)
        commit = journal.commit
        journal.commit = lambda: self.go.wait() and commit()  # type: ignore[method-assign, func-returns-value]
        return journal


def test_a_hanging_disk_fills_the_queue_and_no_more(tmp_path: Path, key: SigningKey) -> None:
    """What does not fit is refused at once, the reserve takes what must be told, and the gap is written with counts."""
    disk = Disk(tmp_path / "journal.db", key)
    scribe = Scribe(disk, capacity=100, reserve=40)
    start = time.monotonic()
    common = [scribe.put(an_entry(n), n) for n in range(1000)]
    urgent = [scribe.put(an_entry(n, True), n) for n in range(1000, 1100)]
    assert time.monotonic() - start < 1
    taken = sum(ticket is not None for ticket in common), sum(ticket is not None for ticket in urgent)
    assert taken == (60, 40)
    health = scribe.health()
    assert (health.waiting, health.refused, health.oldest) == (100, 1000, 0)
    disk.go.set()
    wait_for(lambda: scribe.health().waiting == 0)
    scribe.put(an_entry(2000), 2000)
    assert scribe.close()
    payloads = written(disk.path)
    (gap,) = [payload for payload in payloads if payload["type"] == "journal.gap"]
    assert gap["refused"] == {"marginal": 1000} and len(payloads) == 102


SCRIPT = """
import resource, signal, sys, time
from pathlib import Path
from edge_monitor.journal import Journal
from edge_monitor.journal.keys import load_signing_key
from edge_monitor.onboard.scribe import Scribe
sys.path.insert(0, {tests!r})
from test_scribe import an_entry, wait_for

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, key = Path(sys.argv[1]), load_signing_key(Path(sys.argv[2]))
scribe = Scribe(lambda: Journal.create_or_open(path, key))
acknowledged = []
for n in range(300):
    scribe.put(an_entry(n, True), n)
    if n == 100:
        wait_for(lambda: acknowledged.extend(scribe.durable()) or len(acknowledged) == 101)
        size = max(p.stat().st_size for p in path.parent.iterdir() if p.name.startswith("journal"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
wait_for(lambda: scribe.health().failure)
print(scribe.health().failure)
acknowledged += scribe.durable()
print(len(acknowledged))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
wait_for(lambda: acknowledged.extend(scribe.durable()) or len(acknowledged) == 300)
assert scribe.health().failure == "" and acknowledged == list(range(300))
assert scribe.close()
"""


def test_after_a_full_disk_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """Writes that fail stop the journal; once there is room again every entry is there once, in order, and verifies."""
    path = tmp_path / "journal.db"
    secret, public = make_key("scribe", tmp_path)
    script = SCRIPT.format(tests=str(Path(__file__).resolve().parent))
    done = subprocess.run([sys.executable, "-c", script, path, secret], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    failure, count = done.stdout.splitlines()
    assert "check the disk" in failure and 101 <= int(count) < 300
    assert [payload["n"] for payload in written(path)] == list(range(300))
    assert verify(path, [load_verifier_key(public)]).ok


def test_a_tape_that_cannot_be_synced_stops_the_journal(tmp_path: Path, key: SigningKey) -> None:
    """An entry that names the tape is not committed before the tape is on the disk; once that works, it goes on."""
    path = tmp_path / "journal.db"
    broken = threading.Event()
    broken.set()

    def sync() -> None:
        if broken.is_set():
            raise OSError(errno.EIO, "Input/output error", "flight.tape")

    scribe = Scribe(lambda: Journal.create_or_open(path, key), before=sync)
    tickets = [scribe.put(an_entry(n, True), n) for n in range(5)]
    wait_for(lambda: scribe.health().failure)
    assert "flight.tape: cannot be written (Input/output error)" in scribe.health().failure
    assert scribe.durable() == [] and written(path) == []
    broken.clear()
    found: list[int] = []
    wait_for(lambda: found.extend(scribe.durable()) or len(found) == 5)
    assert found == tickets and scribe.close()
    assert [payload["n"] for payload in written(path)] == list(range(5))


def test_what_no_record_can_hold_is_in_nobody_s_way(tmp_path: Path, key: SigningKey) -> None:
    """An entry that can't be written down is left out, counted, and told as a gap; all others are there."""
    path = tmp_path / "journal.db"
    scribe = Scribe(lambda: Journal.create_or_open(path, key))
    large = Entry("check.fail", Severity.CRITICAL, 2, 2, {"n": "x" * (2 << 20)}, now=True)
    tickets = [scribe.put(large if n == 2 else an_entry(n, True), n) for n in range(5)]
    found: list[int] = []
    wait_for(lambda: found.extend(scribe.durable()) or len(found) == 4)
    assert found == [ticket for n, ticket in enumerate(tickets) if n != 2]
    assert scribe.health().refused == 1 and scribe.health().failure == ""
    scribe.put(an_entry(5), 5)
    assert scribe.close()
    payloads = written(path)
    (gap,) = [payload for payload in payloads if payload["type"] == "journal.gap"]
    assert gap["refused"] == {"critical": 1} and "at most 1048576" in str(gap["cause"])
    assert [payload["n"] for payload in payloads if payload["type"] != "journal.gap"] == [0, 1, 3, 4, 5]
    assert verify(path, [key.verifier]).ok


def test_what_opens_no_journal_is_said_at_once(tmp_path: Path, key: SigningKey) -> None:
    """A journal that another process writes is an error where the scribe is made, not a thread that fails quietly."""
    with Journal.create_or_open(tmp_path / "journal.db", key), pytest.raises(ConfigError, match="another process"):
        Scribe(lambda: Journal.create_or_open(tmp_path / "journal.db", key))
