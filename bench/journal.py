"""The journal beside what it stands on: bare SQLite, WAL and ``synchronous=FULL``, one row an event, on the same disk.

Ours and the peers take turns of ten commits, so that all of them meet the same disk. Durable commits wait for the disk,
so rates are by the wall clock, from the median commit; the CPU time of a commit, from the best turn, is its own row.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sqlite_utils

from edge_monitor.journal import Digests, Entry, Journal, Severity
from edge_monitor.journal.keys import SigningKey

BUILD = Path(__file__).resolve().parent.parent / "build"
GROUP = 64
PER_TURN = 10
EVENT = bytes(600)  #: what the peers store: as many bytes as record and payload of ``entry``


def entry(i: int, *, now: bool) -> Entry:
    """A failing check, as the monitor writes it."""
    payload = {
        "subject": "speed_limit",
        "kind": "bounds",
        "verdict": "FAIL",
        "previous": "PASS",
        "cause": "",
        "value": 12.5 + i,
        "limit": 12.0,
        "margin": -0.5 - i,
        "unit": "m/s",
        "signals": ["speed"],
        "rationale": "the distance in which this vehicle brakes from 12 m/s is what its scanner can see",
    }
    t = i * 1_000_000
    return Entry(
        "check.fail", Severity.CRITICAL, t, t, payload, rules=("speed_limit",), hazard="H3", claim="G1.2", now=now
    )


def journal_at(path: Path) -> Journal:
    """A new journal, signed with a key of the bench's own."""
    digests = Digests(bytes(32), b"", b"bench")
    return Journal.create_or_open(path, SigningKey("bench", bytes(range(32))), digests=digests)


def database_at(path: Path) -> sqlite3.Connection:
    """A peer's database: the journal's durability, one table of blobs."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("create table events (seq integer primary key, event blob not null)")
    return connection


def measure(turns: int, calls: dict[str, Callable[[], object]]) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds, and least CPU seconds, of one call of each; they take turns of ``PER_TURN`` calls."""
    walls: dict[str, list[float]] = {name: [] for name in calls}
    cpus = dict.fromkeys(calls, float("inf"))
    for _ in range(turns):
        for name, call in calls.items():
            cpu = time.process_time()
            for _ in range(PER_TURN):
                started = time.perf_counter()
                call()
                walls[name].append(time.perf_counter() - started)
            cpus[name] = min(cpus[name], (time.process_time() - cpu) / PER_TURN)
    medians = {name: statistics.median(times) for name, times in walls.items()}
    return medians, cpus


def row(name: str, unit: str, figures: dict[str, float]) -> dict:
    """A row of the table from the figures of ``ours`` and the peers; ratios above 1 are in our favour."""
    ours = figures["ours"]
    peers = {peer: value for peer, value in figures.items() if peer != "ours"}
    rate = unit.endswith("/s")
    ratios = {peer: ours / value if rate else value / ours for peer, value in peers.items()}
    return {"name": name, "unit": unit, "ours": ours, "peers": peers, "ratios": ratios}


def one_a_commit(folder: Path, turns: int) -> list[dict]:
    """Each event durable and signed by itself, beside one bare row a commit."""
    with journal_at(folder / "one.db") as journal:
        bare = database_at(folder / "bare.db")
        utils = sqlite_utils.Database(database_at(folder / "utils.db"))
        calls: dict[str, Callable[[], object]] = {
            "ours": lambda: journal.append(entry(journal.size, now=True)),
            "sqlite3": lambda: bare.execute("insert into events (event) values (?)", (EVENT,)),
            "sqlite_utils": lambda: utils.table("events").insert({"event": EVENT}),
        }
        walls, cpus = measure(turns, calls)
        bare.close()
        utils.conn.close()
    return [
        row("journal, one event a commit", "commits/s", {name: 1 / seconds for name, seconds in walls.items()}),
        row("journal, CPU of such a commit", "µs", {name: seconds * 1e6 for name, seconds in cpus.items()}),
    ]


def grouped(folder: Path, turns: int) -> list[dict]:
    """Events in groups of 64 under one signature, beside bare rows in transactions of 64."""
    with journal_at(folder / "group.db") as journal:
        bare = database_at(folder / "bare_group.db")

        def ours() -> None:
            for _ in range(GROUP):
                journal.append(entry(journal.size, now=False))

        def peer() -> None:
            bare.execute("begin immediate")
            bare.executemany("insert into events (event) values (?)", [(EVENT,)] * GROUP)
            bare.execute("commit")

        walls, _ = measure(turns, {"ours": ours, "sqlite3": peer})
        bare.close()
    return [row("journal, 64 events a commit", "events/s", {name: GROUP / seconds for name, seconds in walls.items()})]


def rows(quick: bool = False) -> list[dict]:
    """Rates of durable events, and what each costs the processor."""
    turns = 10 if quick else 60
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        return one_a_commit(Path(folder), turns) + grouped(Path(folder), turns)
