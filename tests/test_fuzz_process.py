"""Garbage at every socket of the real process, in short; ``make fuzz`` throws 100,000 messages at each."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import fuzz_process
import msgpack
import pytest
import zmq

from edge_monitor.onboard import broadcast
from edge_monitor.onboard.access import Access

S = 1_000_000_000


@pytest.mark.parametrize(("curve", "count"), [(False, 1500), (True, 300)], ids=["plain", "CURVE"])
def test_garbage_at_every_socket_harms_nobody(tmp_path: Path, curve: bool, count: int) -> None:
    """Mutated requests, subscriptions and inputs, and raw bytes: the monitor goes on, serves whoever is honest, ends cleanly."""
    fuzz_process.check(fuzz_process.throw(tmp_path, count, curve=curve), count)


def test_a_request_that_zeromq_drops_holds_nothing_up(tmp_path: Path) -> None:
    """A request without a delimiter wakes a REP socket, which then has nothing to give: the next turn comes all the same."""
    target = fuzz_process.Target(tmp_path, curve=False)
    context = zmq.Context()
    try:
        listener = target.connect(context, zmq.SUB, target.out)
        listener.subscribe(b"heartbeat")
        assert listener.poll(180_000), target.process.poll()
        dealer = target.connect(context, zmq.DEALER, target.control)
        for _ in range(5):
            dealer.send(b"no delimiter")
            dealer.send_multipart([b"", msgpack.packb({"do": "status"}), b"another part"])
            answer = msgpack.unpackb(dealer.recv_multipart()[1]) if dealer.poll(5000) else {}
            assert not answer["ok"] and "one part" in answer["error"]
        dealer.send(b"no delimiter")
        while listener.poll(0):
            listener.recv_multipart()
        assert listener.poll(5000)
    finally:
        context.destroy(linger=0)
        target.end()


def test_subscriptions_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of bytes the socket is opened anew at the same place, an event says so, and subscribers come back."""
    monkeypatch.setattr(broadcast, "MOST_TOPICS", 2000)
    context, other = zmq.Context(), zmq.Context()
    try:
        access = Access(context, None)
        out = access.publisher("tcp://127.0.0.1:*")
        poller = zmq.Poller()
        access.poll_with(poller)
        honest, evil = other.socket(zmq.SUB), other.socket(zmq.XSUB)
        honest.subscribe(b"heartbeat")
        for one in (honest, evil):
            one.connect(out.address)
        told, now = [], S

        def turn() -> bool:
            nonlocal now
            now += S // 100
            told.extend(access.attend(now, {socket for socket, _ in poller.poll(0)}))
            out.send([b"heartbeat", b"x"])
            came = bool(honest.poll(10))
            while honest.poll(0):
                honest.recv_multipart()
            return came

        def until(condition: Callable[[], bool]) -> None:
            end = time.monotonic() + 60
            while not condition():
                assert time.monotonic() < end

        until(turn)
        for number in range(30):
            evil.send(b"\x01" + b"%09d" % number)
        for number in range(30):
            evil.send(b"\x00" + b"%09d" % number)  # what has ended is not counted
        for _ in range(50):
            turn()
        assert told == []
        for number in range(300):
            evil.send(b"\x01" + b"%09d" % number)
        # It comes back with as many, once it is let (a socket works only while it is called), and is seen again.
        until(lambda: evil.poll(0) == 0 and turn() and sum(event.payload["times"] for event in told) > 1)
        evil.close(0)
        until(turn)
        assert {event.type for event in told} == {"monitor.degraded"} and "opened anew" in told[0].payload["cause"]
    finally:
        context.destroy(linger=0)
        other.destroy(linger=0)
