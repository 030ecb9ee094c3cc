"""The processes around the monitor in ``bench/live.py``: a publisher, a subscriber, and the bare echo loop as a peer.

All stamps are CLOCK_BOOTTIME. A flip is a value beyond the limit for one message; its number is the value minus ``FLIP``,
so that whoever sees the value knows which flip it was. The publisher writes when it sent each flip into a shared file.
"""

from __future__ import annotations

import gc
import struct
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq

from edge_monitor.outputs.wire import decode_lease

TOPICS = 100  #: each with the fields a and b, so 200 signals
HZ = 100  #: of each topic: 10,000 messages a second in all
TICK_NS = 1_000_000  #: a tenth of the topics is sent each millisecond
PARTS = HZ * TOPICS * TICK_NS // 1_000_000_000
LIMIT, FLIP = 100.0, 1000.0
GATE_EVERY = 20  #: every so many topics, b is a criterion of the gate: 5 of its NO_GOs a second
MARK = struct.Struct("<Qq")
META = msgpack.packb({"e": "msgpack"})
MOST = 1 << 20  #: flips that the shared file has room for
HWM = 20_000


def boottime() -> int:
    """Ns since the machine started."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def flips_file(path: Path, *, mode: str = "r+") -> np.ndarray:
    """When each flip was sent, ns; 0: not sent."""
    return np.memmap(path, np.int64, mode, shape=(MOST,))


def publisher(address: str, flips: Path, pipe: Connection) -> None:
    """Send as the orders say, ``("send", seconds, times)``: ``times`` 10,000 messages a second, from seq 0 of each topic on.

    Answers each order with a report. ``("await",)`` waits for a subscription; ``None`` ends.
    """
    gc.disable()
    sent_at = flips_file(flips)
    context = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.SNDHWM, HWM)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(address)
    state = _State()
    while (order := pipe.recv()) is not None:
        if order[0] == "await":
            found = False
            while not found and socket.poll(120_000):  # the end of a subscription comes as well, and begins with 0
                found = socket.recv().startswith(b"\1")
            time.sleep(0.5)
            pipe.send(found)
        else:
            pipe.send(_send(socket, sent_at, state, *order[1:]))
        while order[0] == "await" and socket.poll(0):
            socket.recv()
    context.destroy(linger=0)


class _State:
    def __init__(self) -> None:
        self.seq = [0] * TOPICS
        self.round = 0
        self.flip = 0
        self.names = [f"/t{topic:02}".encode() for topic in range(TOPICS)]


def _send(
    socket: Any, sent_at: np.ndarray, state: _State, seconds: float, times: float, flipping: bool
) -> dict[str, Any]:
    """``seconds`` of load. A topic's b flips once in ``HZ`` of its messages, one topic after the other."""
    pack, mark, names, seq = msgpack.packb, MARK.pack, state.names, state.seq
    step = round(TICK_NS / times)
    first_flip, sent, late, part = state.flip, 0, 0, 0
    begun = due = boottime()
    end = begun + round(seconds * 1e9)
    while due < end:
        now = boottime()
        if now < due:
            time.sleep((due - now) / 1e9)
        elif now - due > 5_000_000:
            late += 1
            if times > 1 and now >= end:
                break
        for topic in range(part * PARTS, (part + 1) * PARTS):
            number = seq[topic]
            flip = flipping and state.round % HZ == topic % HZ
            a = 50.0 + (number & 15)
            payload = pack({"a": a, "b": FLIP + state.flip if flip else a - 3.0})
            if flip:
                sent_at[state.flip] = boottime()
                state.flip += 1
            socket.send_multipart([names[topic], META, payload, mark(number, 0)], zmq.NOBLOCK)
            seq[topic] = number + 1
        sent += PARTS
        part += 1
        if part == TOPICS // PARTS:
            part = 0
            state.round += 1
        due += step
    taken = (boottime() - begun) / 1e9
    return {
        "sent": sent, "seconds": taken, "rate": sent / taken, "late_ticks": late, "flips": (first_flip, state.flip),
        "total": sum(seq),
    }  # fmt: skip


def subscriber(address: str, pipe: Connection) -> None:
    """Take decisions from ``address`` until anything comes over the pipe; answers what came when.

    ``events``: (flip, ns) of check.fail; ``leases``: ns of each GO turned NO_GO; ``beats``: longest time between heartbeats
    by second of the clock; counts of events by type; the last state.
    """
    gc.disable()
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(address)
    events: list[tuple[int, int]] = []
    leases: list[int] = []
    beats: list[int] = []
    told: list[tuple[int, str, str, str]] = []
    types: dict[str, int] = {}
    states: list[tuple[int, int, int, int]] = []
    go = False
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(pipe.fileno(), zmq.POLLIN)
    while True:
        if any(what == pipe.fileno() for what, _ in poller.poll(1000)):
            order = pipe.recv()
            pipe.send(
                {
                    "events": events,
                    "leases": leases,
                    "beats": beats,
                    "told": told,
                    "types": types,
                    "states": states,
                    "go": go,
                }
            )
            if order is None:
                break
            continue
        while True:
            try:
                topic, body = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            now = boottime()
            if topic.startswith(b"event/"):
                name = topic[6:].decode()
                types[name] = types.get(name, 0) + 1
                if name == "check.fail":
                    value = msgpack.unpackb(body)["value"]
                    if isinstance(value, float) and value >= FLIP:
                        events.append((int(value - FLIP), now))
                elif name.startswith(("input.", "gate.", "journal.")):
                    document = msgpack.unpackb(body)
                    told.append((now, name, document["subject"], str(document.get("cause", ""))))
            elif topic.startswith(b"lease/"):
                lease = decode_lease(body)
                if go and not lease.go:
                    leases.append(now)
                go = lease.go
            elif topic == b"heartbeat":
                beats.append(now)
            elif topic == b"state":
                document = msgpack.unpackb(body)
                count = sum(document["signals"]["count"][::2][:TOPICS])
                states.append((now, count, document["source"]["lost"], document["journal"]["refused"]))
    context.destroy(linger=0)


def peer(source: str, publish: str, pipe: Connection) -> None:
    """The least that could tell a flip: receive, unpack, compare, publish. Ends when anything comes over the pipe."""
    gc.disable()
    context = zmq.Context()
    incoming, outgoing = context.socket(zmq.SUB), context.socket(zmq.PUB)
    incoming.setsockopt(zmq.RCVHWM, HWM)
    for topic in range(TOPICS):
        incoming.setsockopt(zmq.SUBSCRIBE, f"/t{topic:02}".encode())
    outgoing.bind(publish)
    incoming.connect(source)
    failed = [False] * (2 * TOPICS)
    places = {f"/t{topic:02}".encode(): 2 * topic for topic in range(TOPICS)}
    poller = zmq.Poller()
    poller.register(incoming, zmq.POLLIN)
    poller.register(pipe.fileno(), zmq.POLLIN)
    taken = 0
    while all(what != pipe.fileno() for what, _ in poller.poll()):
        while True:
            try:
                name, _, payload, _ = incoming.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            taken += 1
            message = msgpack.unpackb(payload)
            for place, value in ((places[name], message["a"]), (places[name] + 1, message["b"])):
                fails = value > LIMIT
                if fails != failed[place]:
                    failed[place] = fails
                    kind = b"event/check.fail" if fails else b"event/check.pass"
                    outgoing.send_multipart([kind, msgpack.packb({"subject": place, "value": value})])
    pipe.recv()
    pipe.send(taken)
    context.destroy(linger=0)
