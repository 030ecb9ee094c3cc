"""One robot that floods a registry, and the others: what of each a turn takes, over real sockets and on either database."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.keys import SigningKey
from edge_monitor.sync import wire
from edge_monitor.sync.outbox import Outbox
from edge_registry.blobs import Blobs
from edge_registry.ingest import Ingest
from edge_registry.server import SHARES, Addresses, Server
from edge_registry.store import Store

REGISTRY = SigningKey("registry", bytes(range(1, 33)))
OTHERS = 12
LARGE = 120_000  #: bytes of the flood's batches: one is a turn's share


class Robot:
    """A robot with one batch of so many bytes, and a socket of its own."""

    def __init__(self, folder: Path, number: int, size: int) -> None:
        self.key = SigningKey(f"robot-{number}", bytes([number]) * 32)
        path = folder / f"{number}.db"
        with Journal.create_or_open(path, self.key) as journal:
            journal.append(Entry("check.fail", Severity.CRITICAL, 0, 0, {"x": random.Random(number).randbytes(size)}))
            journal.commit()
        self.outbox = Outbox(path)
        self.public, self.secret = zmq.curve_keypair()
        self.answers: list[wire.Downlink] = []

    def connect(self, context: zmq.Context[zmq.Socket[bytes]], address: str, server: str) -> None:
        """Open the socket."""
        self.socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.CURVE_SERVERKEY, server.encode())
        self.socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public)
        self.socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret)
        self.socket.connect(address)

    def greet(self) -> None:
        """Say hello."""
        head = self.outbox.head()
        self.socket.send(
            wire.encode(wire.Hello((wire.PROTOCOL, wire.PROTOCOL), head.origin, bytes(16), head.note, "", 0, "test"))
        )

    def batch(self) -> bytes:
        """The batch's frame, in the session of the newest welcome."""
        session = next(one.session for one in reversed(self.answers) if isinstance(one, wire.Welcome))
        load = self.outbox.load(0)
        assert load is not None
        return wire.encode(wire.Batch(session, load.first, load.end - load.first, load.data, load.checkpoint))

    def told(self, kind: type) -> int:
        """How many answers of a kind have come."""
        while self.socket.poll(0):
            self.answers.append(wire.decode_downlink(self.socket.recv()))
        return sum(isinstance(answer, kind) for answer in self.answers)


class Yard:
    """A registry whose turns the test takes, the robot that floods, and the others, all welcomed."""

    def __init__(self, folder: Path, database: str) -> None:
        self.store = Store(database)
        public, secret = (key.decode() for key in zmq.curve_keypair())
        addresses = Addresses("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")
        self.server = Server(self.store, Ingest(REGISTRY), Blobs(folder / "blobs"), addresses, (public, secret))
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.flooding = Robot(folder, 1, LARGE)
        self.others = [Robot(folder, number, 10) for number in range(2, 2 + OTHERS)]
        self.robots = [self.flooding, *self.others]
        with self.store.begin() as tx:
            for robot in self.robots:
                tx.enrol(robot.key.verifier.name, robot.key.verifier, robot.public.decode(), 0)
        for robot in self.robots:
            robot.connect(self.context, self.server.addresses.sync, public)
            robot.greet()
        self.until(lambda: all(robot.told(wire.Welcome) for robot in self.robots))

    def read(self) -> None:
        """The registry reads what has come, and takes no turn."""
        self.server._gate.serve()
        self.server._receive()

    def until(self, done: Callable[[], bool]) -> None:
        """The registry serves until something is so."""
        end = time.monotonic() + 60
        while not done():
            assert time.monotonic() < end, [robot.answers for robot in self.robots]
            self.read()
            self.server._turn()
            time.sleep(0.001)

    def flood(self, frame: bytes, count: int) -> None:
        """The robot that floods sends a frame so many times, and the registry reads them all."""
        want = self.server.counts.messages + count
        while self.server.counts.messages < want:
            if count and self.flooding.socket.poll(0, zmq.POLLOUT):
                self.flooding.socket.send(frame)
                count -= 1
            self.read()

    def close(self) -> None:
        """Give sockets and database back."""
        self.context.destroy(linger=0)
        self.server.close()
        self.store.close()


@pytest.fixture
def yard(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    """All of it; the others count as heard of late, however slow the machine is."""
    monkeypatch.setattr("edge_registry.server.ALONE_S", 1e9)
    found = Yard(tmp_path, database)
    yield found
    found.close()


def test_others_have_their_receipts_in_the_next_turn_beside_a_flood(yard: Yard) -> None:
    """With 50 large batches of one robot waiting before theirs, one turn takes all others' batches, and one of the flood's."""
    yard.flood(yard.flooding.batch(), 50)
    want = yard.server.counts.messages + OTHERS
    for robot in yard.others:
        robot.socket.send(robot.batch())
    while yard.server.counts.messages < want:
        yard.read()
    before = yard.server.counts.batches
    yard.server._turn()
    assert yard.server.counts.batches - before == OTHERS + 1
    for robot in yard.others:
        assert robot.socket.poll(10_000)
        assert robot.told(wire.Receipt) == 1
    assert len(next(peer.queue for peer in yard.server._peers.values() if peer.robot == "robot-1")) == 49


def test_small_messages_of_one_robot_fill_no_turn(yard: Yard) -> None:
    """A robot that sends a thousand pings has its share of a turn in messages too."""
    yard.flood(wire.encode(wire.Ping(1)), 1000)
    turn = yard.server._next_turn()
    assert len(turn.items) == SHARES


def test_what_exceeds_a_queue_is_refused_and_taken_again_after_a_hello(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A robot that heeds no credit fills its own queue, is told so, loses what came after, and goes on once it greets again."""
    monkeypatch.setattr("edge_registry.server.QUEUE", 3 * LARGE)
    frame = yard.flooding.batch()
    yard.flood(frame, 20)
    assert yard.server._queued <= 3 * LARGE
    yard.until(lambda: yard.flooding.told(wire.Refused) == 1 and not yard.server._queued)
    refusal = next(answer for answer in yard.flooding.answers if isinstance(answer, wire.Refused))
    assert refusal.code == "busy" and wire.REFUSALS["busy"]
    yard.flooding.greet()
    yard.until(lambda: yard.flooding.told(wire.Welcome) == 2)
    receipts = yard.flooding.told(wire.Receipt)
    yard.flooding.socket.send(yard.flooding.batch())
    yard.until(lambda: yard.flooding.told(wire.Receipt) == receipts + 1)


def test_a_bundle_whose_turn_the_database_failed_comes_again(yard: Yard) -> None:
    """A bundle counts as told once it is on its way: where the turn that would have told of it failed, the next one does."""
    robot = yard.others[0]
    with yard.store.begin() as tx:
        tx.add_bundle(7, b"bundle", 0)
    want = yard.server.counts.messages + 2
    robot.socket.send(wire.encode(wire.Ping(1)))
    robot.socket.send(robot.batch())
    while yard.server.counts.messages < want:
        yard.read()
    rename = "alter table {} rename to {}"
    with yard.store.engine.begin() as connection:
        connection.exec_driver_sql(rename.format("receipts", "elsewhere"))
    yard.server._turn()
    with yard.store.engine.begin() as connection:
        connection.exec_driver_sql(rename.format("elsewhere", "receipts"))
    assert (yard.server.counts.failures, robot.told(wire.Bundle)) == (1, 0)
    robot.socket.send(wire.encode(wire.Ping(1)))
    robot.socket.send(wire.encode(wire.Ping(1)))
    yard.until(lambda: robot.told(wire.Pong) == 2)
    assert robot.told(wire.Bundle) == 1
