"""Live input over ZeroMQ with keys: who is admitted, who is told of, and who comes back."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable, Iterator

import pytest
import zmq
from zmq.utils import z85
from zmq_room import Open, Room, S, keys, message, rooms

from edge_monitor.core.samples import (
    Cause,
)
from edge_monitor.sources.curve import Gatekeeper, fingerprint, guard
from edge_monitor.sources.zmq import Curve, Endpoint, Limits


@pytest.fixture
def open_room() -> Iterator[Open]:
    """Makes rooms; closes them at the end."""
    yield from rooms()


def dial(room: Room, mine: tuple[str, str], server: str) -> zmq.Socket:
    """A PUSH socket with keys, connected to the source."""
    socket = room.context.socket(zmq.PUSH)
    socket.linger = 0
    socket.curve_publickey, socket.curve_secretkey = mine[0].encode(), mine[1].encode()
    socket.curve_serverkey = server.encode()
    socket.connect(room.source.addresses[0])
    return socket


def test_curve_admits_the_list_and_tells_of_others(open_room: Open) -> None:
    """A key on the list comes through; another, and a client without any, do not; the refusal has its fingerprint."""
    server, friend, other = keys(), keys(), keys()
    curve = Curve(*server, allowed={friend[0]: "driver"})
    room = open_room(curve=curve)
    good, bad, plain = dial(room, friend, server[0]), dial(room, other, server[0]), room.publisher()
    for socket in (good, bad, plain):
        socket.send_multipart(message(float([good, bad, plain].index(socket))))
    room.until(lambda: room.samples)
    found = []
    room.until(lambda: found.extend(room.source.refusals()) or found)
    (refusal,) = found
    assert refusal.fingerprint == fingerprint(z85.decode(other[0])) and refusal.address == "127.0.0.1"
    assert refusal.t == room.clock.t and refusal.count == 1
    time.sleep(0.2)
    room.drain()
    assert [value for _, value, _, _ in room.samples] == [0.0]
    assert other[1] not in repr(curve) and server[1] not in repr(curve)


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    """A context of the other side; its sockets are closed at the end, whatever happens."""
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


def test_refusals_are_told_at_the_first_the_tenth_and_the_hundredth_time(context: zmq.Context) -> None:
    """A client that tries for ever fills no log, and many keys no memory."""
    keeper = Gatekeeper(context, {"publish": {}})
    asker = context.socket(zmq.REQ)
    asker.connect("inproc://zeromq.zap.01")

    def ask(key: bytes) -> None:
        asker.send_multipart([b"1.0", b"1", b"edge-monitor/publish", b"10.0.0.9", b"", b"CURVE", key])
        keeper.serve(5)
        assert asker.recv_multipart()[2] == b"400"

    for _ in range(100):
        ask(bytes(32))
    assert [refusal.count for refusal in keeper.refusals()] == [1, 10, 100]
    for number in range(300):
        ask(struct.pack("<Q24x", number + 1))
    names = [refusal.fingerprint for refusal in keeper.refusals()]
    assert len(names) == 255 + 2 and names[-2:] == ["others", "others"] and keeper.refused == 400
    asker.send_multipart([b"nonsense"])
    keeper.serve(5)
    assert asker.recv_multipart()[2] == b"500"


def test_a_refused_monitor_comes_back_by_itself_once_it_is_allowed(open_room: Open, context: zmq.Context) -> None:
    """ZeroMQ gives up after a refusal; the source tries again after a time that doubles, with jitter, and then listens."""
    server, mine = keys(), keys()
    keeper = Gatekeeper(context, {"publish": {}})
    publisher = context.socket(zmq.PUB)
    guard(publisher, *server, "publish")
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    chances = iter([0.5, 0.0, 0.99, 0.5, 0.5, 0.5])
    room = open_room(
        endpoints=(Endpoint(f"tcp://127.0.0.1:{port}", "sub", server_key=server[0]),),
        curve=Curve(*mine), chance=lambda: next(chances),
    )  # fmt: skip
    (link,) = room.source._links

    def refused(times: int) -> Callable[[], bool]:
        return lambda: keeper.serve(0) or link.refused == times

    room.until(refused(1))
    assert "refused our key" in room.source.describe()[0]
    waits = []
    for attempt in range(2, 5):
        begin = room.clock.t
        while link.refused < attempt:  # event time goes on by 10 ms a look until the next attempt is made
            room.clock.t += S // 100
            due = link._due
            room.drain()
            if due is not None and link._due is None:
                waits.append((room.clock.t - begin) / S)
                room.until(refused(attempt))
    assert waits == pytest.approx([0.05 + 0.25, 0.1, 0.2 + 1.98], abs=0.011)
    keeper._doors[b"edge-monitor/publish"][1][z85.decode(mine[0])] = "monitor"
    room.clock.t += 60 * S

    def heard() -> bool:
        keeper.serve(0)
        publisher.send_multipart(message(4))
        return bool(room.samples)

    room.until(heard)
    assert room.samples[0][1] == 4 and link.met == 1 and "somebody has connected" in room.source.describe()[0]


def test_a_wrong_server_key_is_named(open_room: Open, context: zmq.Context) -> None:
    """The handshake fails for another reason than a refused key, and the topic's line says so."""
    server, mine, other = keys(), keys(), keys()
    publisher = context.socket(zmq.PUB)
    publisher.curve_server, publisher.curve_secretkey = True, server[1].encode()
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    endpoint = Endpoint(f"tcp://127.0.0.1:{port}", "sub", server_key=other[0])
    room = open_room(endpoints=(endpoint,), curve=Curve(*mine), limits=Limits(grace=0))
    room.until(lambda: room.source.describe()[0].endswith("nobody has connected") and time.sleep(0.3) is None)
    room.clock.t += S
    room.until(lambda: room.status)
    assert room.status[0].cause == Cause.NO_PUBLISHER
    assert re.search("nobody has connected|the handshake failed", room.status[0].message)
