"""Bad links between real processes, through a TCP proxy: whatever the link does, both ends hold the same logs in the end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from edge_monitor.journal import Severity
from edge_monitor.sync import session
from edge_registry import tables as t

from .proxy import Link, Proxy
from .serving import Robot, Serving, impatient

OVERHEAD = 1.1  #: of ZeroMQ, CURVE and greetings, beside the frames that a cap counts
ALERT_S = 30.0  #: at 8 kbit/s, with a backlog: what is on its way goes first


@contextmanager
def linked(folder: Path, link: Link, seed: int, rate: int = 0) -> Iterator[tuple[Robot, Proxy, Serving]]:
    """A robot behind a link, and a registry in front of it."""
    impatient()
    serving = Serving(folder)
    serving.start()
    proxy = Proxy(("127.0.0.1", serving.ports[0]), link, seed)
    robot = Robot(folder, serving, proxy.port, rate=rate)
    try:
        yield robot, proxy, serving
    finally:
        robot.close()
        proxy.close()
        serving.close()


def late(folder: Path, records: int, seed: int) -> str:
    """Half a second each way."""
    with linked(folder, Link(delay=0.5), seed) as (robot, _, _):
        robot.write(records)
        robot.uplink.start()
        robot.arrived()
        return f"{robot.journal.size} records over a link of 1 s there and back"


def crumbs(folder: Path, records: int, seed: int) -> str:
    """Every byte in a segment of its own."""
    with linked(folder, Link(piece=1), seed) as (robot, proxy, _):
        robot.write(records)
        robot.uplink.start()
        robot.arrived()
        return f"{robot.journal.size} records in {proxy.bytes_up} writes of 1 byte"


def lossy(folder: Path, records: int, seed: int) -> str:
    """Each 32 KiB of a connection are cut with an even chance, and the rest of the time somebody pulls the plug."""
    rng = random.Random(seed)
    with linked(folder, Link(cut=0.5), seed) as (robot, proxy, _):
        robot.uplink.start()
        while robot.written < records:
            robot.write(rng.choice((10, 300, 2000)))
            robot.keep()
            time.sleep(rng.uniform(0, 0.3))
            if rng.random() < 0.2:
                proxy.drop_all()
        robot.arrived(300)
        return f"{robot.journal.size} records over {proxy.connections} connections, {proxy.cuts} of them cut within"


def half_open(folder: Path, times: int, seed: int) -> str:
    """Connections that stand and carry nothing: the robot gives them up, and the registry loses nothing by it."""
    ping, silence = session.PING_NS, session.SILENCE_NS
    session.PING_NS, session.SILENCE_NS = 300_000_000, 900_000_000
    try:
        with linked(folder, Link(), seed) as (robot, proxy, _):
            robot.uplink.start()
            for _ in range(times):
                robot.write(200)
                robot.until(lambda: robot.receipted() > 0)
                proxy.link.silent = True
                before = robot.uplink.progress.refusal
                robot.until(lambda before=before: _silent(robot, before), 150)  # type: ignore[misc]
                proxy.drop_all()
                proxy.link.silent = False
                robot.arrived()
            return f"{times} dead connections given up, {robot.journal.size} records"
    finally:
        session.PING_NS, session.SILENCE_NS = ping, silence


def _silent(robot: Robot, before: object) -> bool:
    refusal = robot.uplink.progress.refusal
    return refusal is not None and refusal is not before and refusal.code in ("silence", "link")


def slow(folder: Path, records: int, alerts: int, seed: int) -> str:
    """8 kbit/s, a backlog, and critical events while it is carried: they are there long before it."""
    with linked(folder, Link(rate=1000, delay=0.1), seed) as (robot, proxy, serving):
        robot.write(records)
        robot.uplink.start()
        robot.until(lambda: robot.uplink.progress.state == "connected")
        begun, took = time.monotonic(), []
        for _ in range(alerts):
            robot.write(1, Severity.CRITICAL)
            sequence, since = robot.journal.size - 1, time.monotonic()
            robot.until(lambda sequence=sequence: _is_known(serving, sequence), 600)  # type: ignore[misc]
            took.append(time.monotonic() - since)
        robot.arrived(1800)
        seconds = time.monotonic() - begun
        rate, longest = proxy.bytes_up / seconds, max(took, default=0.0)
        assert longest < ALERT_S, took
        return (
            f"{robot.journal.size} records in {seconds:.0f} s at {rate:.0f} B/s; alerts after at most {longest:.1f} s"
        )


def _is_known(serving: Serving, sequence: int) -> bool:
    """Whether the registry has a record, by the bulk or as an alert."""
    with serving.store.read() as tx:
        found = sa.select(t.alerts.c.seq).where(t.alerts.c.seq == sequence)
        held = sa.select(t.events.c.seq).where(t.events.c.seq == sequence)
        return tx.connection.execute(sa.union_all(found, held)).first() is not None


def capped(folder: Path, records: int, rate: int, seed: int) -> str:
    """A cap in bytes a second is kept, greetings and encryption included, after its first second's worth."""
    with linked(folder, Link(), seed, rate) as (robot, proxy, _):
        robot.write(records)
        begun = time.monotonic()
        robot.uplink.start()
        robot.arrived(300)
        seconds = time.monotonic() - begun
        most = (rate * (seconds + 1) + session.FIRST_WINDOW) * OVERHEAD
        assert proxy.bytes_up < most, (proxy.bytes_up, most)
        return f"{proxy.bytes_up} bytes in {seconds:.1f} s under a cap of {rate} B/s"


def parted(folder: Path, times: int, seconds: float, seed: int) -> str:
    """Partitions: no connection can be made, the robot writes on, and all comes afterwards."""
    with linked(folder, Link(), seed) as (robot, proxy, _):
        robot.uplink.start()
        for _ in range(times):
            robot.write(300)
            proxy.link.open = False
            proxy.drop_all()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                robot.write(500)
                robot.keep()
                time.sleep(0.05)
            proxy.link.open = True
            robot.arrived(300)
        return f"{times} partitions, {robot.journal.size} records"


SHORT: dict[str, Callable[[Path, int], str]] = {
    "late": lambda folder, seed: late(folder, 300, seed),
    "crumbs": lambda folder, seed: crumbs(folder, 200, seed),
    "lossy": lambda folder, seed: lossy(folder, 4000, seed),
    "half open": lambda folder, seed: half_open(folder, 1, seed),
    "slow": lambda folder, seed: slow(folder, 20, 0, seed),
    "capped": lambda folder, seed: capped(folder, 1000, 60_000, seed),
    "parted": lambda folder, seed: parted(folder, 1, 0.5, seed),
}
FULL: dict[str, Callable[[Path, int], str]] = {
    "late": lambda folder, seed: late(folder, 20_000, seed),
    "crumbs": lambda folder, seed: crumbs(folder, 5_000, seed),
    "lossy": lambda folder, seed: lossy(folder, 60_000, seed),
    "half open": lambda folder, seed: half_open(folder, 5, seed),
    "slow": lambda folder, seed: slow(folder, 1200, 5, seed),
    "capped": lambda folder, seed: capped(folder, 10_000, 60_000, seed),
    "parted": lambda folder, seed: parted(folder, 4, 10.0, seed),
}
