"""What one robot that floods a registry does to the others: time from batch to receipt of 200 at once, without it and with it.

Each sends its next batch (a commit of 64 events) when it has the receipt for the one before. The one that floods is a process of
its own: it sends large batches as fast as the socket takes them, heeds neither credit nor receipts, and greets again when it is
refused.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from journal import entry

from edge_monitor.journal import Journal
from edge_monitor.journal.keys import SigningKey
from edge_monitor.sync import wire
from edge_monitor.sync.outbox import Head, Load, Outbox
from edge_registry.house import House

GROUP = 64  #: events of a commit
BATCHES = 6  #: that each of the others sends
FLOOD = 50_000  #: events of the one that floods; it begins anew when they are sent
PATIENCE_S = 300.0


@dataclass(slots=True)
class Robot:
    """A robot with what it will send, packed beforehand, and its keys."""

    name: str
    head: Head
    loads: list[Load]
    public: bytes
    secret: bytes
    key: SigningKey
    socket: zmq.Socket[bytes] | None = None
    session: int = 0
    waiting: deque[Load] = field(default_factory=deque)
    since: float = 0.0


def made(folder: Path, number: int, events: int, most: int) -> Robot:
    """A robot with so many events, in batches of at most ``most`` bytes (or one commit)."""
    key = SigningKey(f"robot-{number}", number.to_bytes(32, "big"))
    path = folder / f"{number}.db"
    with Journal.create_or_open(path, key, epochs=True) as journal:
        for i in range(events):
            journal.append(entry(i, now=i % GROUP == GROUP - 1))
        journal.commit()
    outbox, loads = Outbox(path), []
    while (load := outbox.load(loads[-1].end if loads else 0, most)) is not None:
        loads.append(load)
    return Robot(key.verifier.name, outbox.head(), loads, *zmq.curve_keypair(), key)


def connected(context: zmq.Context[zmq.Socket[bytes]], robot: Robot, address: str, server: str) -> zmq.Socket[bytes]:
    """A robot's socket, with its hello on the way."""
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.CURVE_SERVERKEY, server.encode())
    socket.setsockopt(zmq.CURVE_PUBLICKEY, robot.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, robot.secret)
    socket.connect(address)
    socket.send(hello(robot))
    return socket


def hello(robot: Robot) -> bytes:
    """A robot's greeting."""
    head = robot.head
    return wire.encode(wire.Hello((wire.PROTOCOL, wire.PROTOCOL), head.origin, bytes(16), head.note, "", 0, "bench"))


def batch(session: int, load: Load) -> bytes:
    """A load's frame."""
    return wire.encode(wire.Batch(session, load.first, load.end - load.first, load.data, load.checkpoint))


def flood(robot: Robot, address: str, server: str) -> None:
    """Send without end. Runs in a process of its own, until that is ended."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = connected(context, robot, address, server)
    frames: list[bytes] = []
    number = 0
    while True:
        while frames == [] or socket.poll(0):
            message = wire.decode_downlink(socket.recv())
            if isinstance(message, wire.Welcome):
                frames, number = [batch(message.session, load) for load in robot.loads], 0
            elif isinstance(message, wire.Refused):
                socket.send(hello(robot))
        socket.send(frames[number % len(frames)])
        number += 1


def latencies(robots: list[Robot], address: str, server: str) -> list[float]:
    """Seconds from batch to receipt of all robots, all at once; a receipt may cover what was sent before only."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4096)
    poller = zmq.Poller()
    found: list[float] = []
    by_socket: dict[object, Robot] = {}
    try:
        for robot in robots:
            robot.socket = connected(context, robot, address, server)
            by_socket[robot.socket] = robot
            poller.register(robot.socket, zmq.POLLIN)
        begun, open_ones = 0, len(robots)
        end = time.monotonic() + PATIENCE_S
        while open_ones:
            for socket, _ in poller.poll(1000):
                robot = by_socket[socket]
                message = wire.decode_downlink(socket.recv())
                if isinstance(message, wire.Welcome):
                    robot.session, robot.waiting = message.session, deque(robot.loads)
                    begun += 1
                    if begun == len(robots):
                        for each in robots:
                            sent(each)
                elif isinstance(message, wire.Receipt):
                    found.append(time.monotonic() - robot.since)
                    robot.waiting.popleft()
                    if robot.waiting:
                        sent(robot)
                    else:
                        open_ones -= 1
                else:
                    raise SystemExit(f"bench-sync: {robot.name}: {message}")
            if time.monotonic() > end:
                raise SystemExit("bench-sync: no receipts in time")
    finally:
        context.destroy(linger=0)
    return found


def sent(robot: Robot) -> None:
    """Send the batch that is first in turn."""
    assert robot.socket is not None
    robot.since = time.monotonic()
    robot.socket.send(batch(robot.session, robot.waiting[0]))


def enrolled(house: House, robots: list[Robot]) -> None:
    """Make a registry know them."""
    store = house.store()
    with store.begin() as tx:
        for robot in robots:
            tx.enrol(robot.name, robot.key.verifier, robot.public.decode(), 0)
    store.close()


def robots_in(folder: Path, count: int) -> tuple[list[Robot], list[Robot], Robot]:
    """Two fleets of ``count``, and the one that floods."""
    fleets = [
        [made(folder, 1000 * fleet + number, BATCHES * GROUP, 1) for number in range(1, count + 1)] for fleet in (1, 2)
    ]
    return fleets[0], fleets[1], made(folder, 9000, FLOOD, wire.MAX_BATCH)


def measured(quiet: list[Robot], beside: list[Robot], flooding: Robot, address: str, server: str) -> dict[str, float]:
    """Median and 99th percentile of the seconds to a receipt, without the flood and beside it."""
    figures = {}
    before = latencies(quiet, address, server)
    process = multiprocessing.get_context("fork").Process(target=flood, args=(flooding, address, server), daemon=True)
    process.start()
    try:
        time.sleep(2.0)  # the flood is at its height
        after = latencies(beside, address, server)
    finally:
        process.terminate()
        process.join()
    for name, times in (("without", before), ("with", after)):
        figures[f"{name}, median"] = statistics.median(times)
        figures[f"{name}, p99"] = statistics.quantiles(times, n=100)[98]
    return figures
