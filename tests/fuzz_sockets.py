"""Throws garbage at the sockets of a source while an honest publisher goes on; ``--full``: 100,000 messages a socket.

Run as a program it prints what was thrown and what came of it; ``test_source_zmq.py`` and ``test_source_mavlink.py`` run a
short form.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import socket
import struct
import time
from dataclasses import dataclass, field

import msgpack
import numpy as np
import zmq
from mavlink_frames import Packer, random_values
from pymavlink.dialects.v20 import all as pymavlink

from edge_monitor.core.layout import Extractor, warm
from edge_monitor.core.messages import Batch, Channel
from edge_monitor.core.samples import FLAG_CAUSE
from edge_monitor.core.signals import Signal
from edge_monitor.mavlink.dialect import dialect
from edge_monitor.mavlink.framing import DAMAGED, GARBAGE, UNKNOWN
from edge_monitor.mavlink.links import UdpLink, parse_address
from edge_monitor.sources.live import LiveSource
from edge_monitor.sources.mavlink import MavlinkSource
from edge_monitor.sources.zmq import Endpoint, Limits, ZmqSource

META = msgpack.packb({"e": "msgpack", "t": "Honest"})
SIGNALS = [
    Signal("honest", "/honest", "x"),
    Signal("a", "/mutated", "a.b[1]"),
    Signal("b", "/mutated", "c", reduce="max"),
]
WHOLE = [
    b"/mutated",
    msgpack.packb({"e": "msgpack", "t": "Mutated", "d": "c float32", "p": "me"}),
    msgpack.packb({"a": {"b": [1, 2.5, "x"]}, "c": struct.pack("<3f", 1, 2, 3), "d": [{"s": 1}] * 9}),
    struct.pack("<Qq", 7, 0),
]


@dataclass
class Outcome:
    """What came of it."""

    thrown: int = 0
    raw_bytes: int = 0
    honest_sent: int = 0
    honest_values: list[float] = field(default_factory=list)
    counts: dict[str, object] = field(default_factory=dict)
    strangers: int = 0
    rss_before: int = 0
    rss_after: int = 0


def mutated(rng: np.random.Generator) -> list[bytes]:
    """A message of the wire format with something wrong in it: bytes, frames, sizes."""
    frames = list(WHOLE)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(frames)))
        frame = bytearray(frames[at])
        what = rng.integers(0, 8)
        if what <= 3 and frame:
            frame[rng.integers(0, len(frame))] = rng.integers(0, 256)
        elif what == 4:
            del frame[rng.integers(0, len(frame) + 1) :]
        elif what == 5:
            frame += rng.bytes(rng.integers(0, 60))
        elif what == 6:
            frame = bytearray(b"\x91" * int(rng.integers(1, 2000)))
        frames[at] = bytes(frame)
        if what == 7:
            frames = frames[: rng.integers(1, 5)] + [rng.bytes(3)] * int(rng.integers(0, 4))
    if frames[0] == b"/honest":
        frames[0] = b"/mutated"
    return frames


def rss() -> int:
    """Resident memory of this process, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def throw(kind: str, count: int, seed: int = 1) -> Outcome:
    """Throw ``count`` mutated messages, and raw bytes, at one bound socket of a kind, an honest message after every ten."""
    rng = np.random.default_rng(seed)
    outcome = Outcome()
    warm()
    extractor = Extractor(SIGNALS)
    limits = Limits(frame_bytes=4096, rate=1e6, queue=5000)
    with (
        zmq.Context() as context,
        ZmqSource(
            [Endpoint("tcp://127.0.0.1:*", kind, bind=True)],
            ["/honest", "mutated"],
            time.monotonic_ns,
            limits,
        ) as source,
    ):
        address = source.addresses[0]
        evil, honest = (context.socket(zmq.PUSH if kind == "pull" else zmq.PUB) for _ in range(2))
        for publisher in (evil, honest):
            publisher.linger, publisher.sndhwm = 0, 100_000
            publisher.connect(address)
        meet(source, honest, evil)
        port = int(address.rpartition(":")[2])
        outcome.rss_before = rss()
        while outcome.thrown < count:
            for _ in range(min(200, count - outcome.thrown)):
                evil.send_multipart(mutated(rng))
                outcome.thrown += 1
                if outcome.thrown % 10 == 0:
                    mark = struct.pack("<Qq", outcome.honest_sent, 0)
                    honest.send_multipart([b"/honest", META, msgpack.packb({"x": outcome.honest_sent}), mark])
                    outcome.honest_sent += 1
            if outcome.thrown % 2000 == 0:
                outcome.raw_bytes += intrude(port, rng)
            take(source, extractor, outcome)
        deadline = time.monotonic() + 20
        while len(outcome.honest_values) < outcome.honest_sent and time.monotonic() < deadline:
            take(source, extractor, outcome)
        outcome.rss_after = rss()
        outcome.counts = dict(source.counts)
        outcome.strangers = len(source.strangers)
        evil.close()
        honest.close()
    return outcome


def meet(source: ZmqSource, honest: zmq.Socket, evil: zmq.Socket) -> None:
    """Wait until both publishers are heard (a PUB socket drops what it sends before its subscriber is known)."""
    heard = source.counts
    deadline = time.monotonic() + 10
    while not (heard["/honest"].invalid and heard["mutated"].invalid):
        assert time.monotonic() < deadline, "the publishers were not heard"
        honest.send_multipart([b"/honest"])
        evil.send_multipart([b"/mutated"])
        time.sleep(0.01)
        source.drain()
    time.sleep(0.1)
    source.drain()


def intrude(port: int, rng: np.random.Generator, *, curve: bool = False) -> int:
    """Raw bytes on a connection of their own: noise, or a greeting of ZeroMQ's (with ``curve``: of CURVE) and then noise."""
    mechanism = b"CURVE" if curve else b"NULL"
    greeting = (
        b"\xff" + bytes(8) + b"\x7f\x03\x00" + mechanism.ljust(20, b"\0") + bytes(32) if rng.integers(0, 2) else b""
    )
    noise = greeting + rng.bytes(rng.integers(1, 3000))
    with (
        socket.create_connection(("127.0.0.1", port), 5) as connection,
        contextlib.suppress(OSError),
    ):  # cut off already
        connection.sendall(noise)
    return len(noise)


def take(source: LiveSource, extractor: Extractor, outcome: Outcome) -> None:
    """Drain once, down to samples."""
    for item in source.drain():
        if isinstance(item, Channel):
            extractor.add_channel(item)
        elif isinstance(item, Batch):
            samples = extractor.extract(item)
            good = samples[(samples["signal"] == 0) & (samples["flags"] & FLAG_CAUSE == 0)]
            outcome.honest_values += good["value"].tolist()
    source.status()


VEHICLE = [
    Signal("honest", "mavlink/1/NAMED_VALUE_FLOAT[honest]", "value"),
    Signal("a", "mavlink/66/STATUSTEXT", "text"),
    Signal("b", "mavlink/66/BATTERY_STATUS", "voltages", reduce="max"),
    Signal("c", "mavlink/66/HEARTBEAT", "base_mode.bit7"),
]


def mutated_frame(rng: np.random.Generator, packer: Packer) -> bytes:
    """A datagram with something wrong in it: bytes, lengths, flags, pieces; or a whole message of any kind and any content."""
    kinds = dialect().kinds
    name = str(rng.choice(["STATUSTEXT", "BATTERY_STATUS", "HEARTBEAT", kinds[rng.integers(0, len(kinds))].name]))
    kind = pymavlink.mavlink_map[dialect()[name].number]
    raw = bytearray(
        packer.pack(name, first_version=kind.id < 256 and rng.integers(0, 2) == 0, **random_values(kind, rng))
    )
    what = rng.integers(0, 9)
    if what <= 3:
        for _ in range(rng.integers(1, 5)):
            raw[rng.integers(0, len(raw))] = rng.integers(0, 256)
    elif what == 4:
        del raw[rng.integers(0, len(raw)) :]
    elif what == 5:
        raw += rng.bytes(rng.integers(0, 300))
    elif what == 6:
        raw = bytearray(rng.bytes(rng.integers(0, 20))) + raw * int(rng.integers(1, 20))
    elif what == 7:
        raw = bytearray([int(rng.choice([0xFD, 0xFE]))]) * int(rng.integers(1, 2000))
    return bytes(raw)


def throw_datagrams(count: int, seed: int = 1) -> Outcome:
    """Throw ``count`` mutated datagrams at a MAVLink port, an honest message from another sender after every ten."""
    rng, outcome = np.random.default_rng(seed), Outcome()
    warm()
    extractor = Extractor(VEHICLE)
    evil, honest = Packer(66, 1), Packer(1, 1)
    source = MavlinkSource(
        parse_address("udpin:127.0.0.1:0"), sorted({signal.topic for signal in VEHICLE}), time.monotonic_ns
    )
    link = source._link
    assert isinstance(link, UdpLink)
    with (
        contextlib.closing(source),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wicked,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as good,
    ):
        for out in (wicked, good):
            out.connect(("127.0.0.1", link.port))
        outcome.rss_before = rss()
        while outcome.thrown < count:
            for _ in range(min(50, count - outcome.thrown)):
                raw = mutated_frame(rng, evil)
                wicked.send(raw)
                outcome.thrown += 1
                outcome.raw_bytes += len(raw)
                if outcome.thrown % 10 == 0:
                    good.send(honest.pack("NAMED_VALUE_FLOAT", name="honest", value=float(outcome.honest_sent)))
                    outcome.honest_sent += 1
            take(source, extractor, outcome)
        deadline = time.monotonic() + 20
        while len(outcome.honest_values) < outcome.honest_sent and time.monotonic() < deadline:
            take(source, extractor, outcome)
        outcome.rss_after = rss()
        tallies = source._framer.counts
        outcome.counts = {
            "damaged": int(tallies[DAMAGED]),
            "unknown": int(tallies[UNKNOWN]),
            "garbage": int(tallies[GARBAGE]),
        }
    return outcome


def check_datagrams(outcome: Outcome) -> None:
    """All honest messages came, in order; memory is bounded; the garbage was counted."""
    assert outcome.honest_values == list(range(outcome.honest_sent))
    assert outcome.rss_after - outcome.rss_before < 64 << 20
    assert outcome.counts["damaged"] > outcome.thrown // 10  # type: ignore[operator]


def throw_stream(count: int, seed: int = 1) -> Outcome:
    """Send honest messages with mutated ones and noise between them, ``count`` pieces, down one line."""
    rng, outcome = np.random.default_rng(seed), Outcome()
    warm()
    extractor = Extractor(VEHICLE)
    evil, honest = Packer(66, 1), Packer(1, 1)
    topics = sorted({signal.topic for signal in VEHICLE})
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with contextlib.closing(
            MavlinkSource(parse_address(f"tcp:127.0.0.1:{port}"), topics, time.monotonic_ns)
        ) as source:
            take(source, extractor, outcome)
            line, _ = server.accept()
            with line:
                outcome.rss_before = rss()
                while outcome.thrown < count:
                    pieces = []
                    for _ in range(min(50, count - outcome.thrown)):
                        piece = mutated_frame(rng, evil) if rng.integers(0, 2) else rng.bytes(rng.integers(0, 40))
                        mine = honest.pack("NAMED_VALUE_FLOAT", name="honest", value=float(outcome.honest_sent))
                        outcome.honest_sent += 1
                        outcome.thrown += 1
                        pieces += [piece, mine]
                    outcome.raw_bytes += sum(map(len, pieces))
                    line.sendall(b"".join(pieces))
                    take(source, extractor, outcome)
                line.sendall(bytes(300))  # the last one may wait for the end of what looked like a longer frame
                deadline = time.monotonic() + 2
                while time.monotonic() < deadline:
                    take(source, extractor, outcome)
                outcome.rss_after = rss()
    return outcome


def check_stream(outcome: Outcome) -> None:
    """Nearly all honest messages are found again behind the noise, none changed, none twice, in order; memory is bounded."""
    values = outcome.honest_values
    assert values == sorted(set(values)) and set(values) <= set(map(float, range(outcome.honest_sent)))
    assert len(values) > 0.95 * outcome.honest_sent
    assert outcome.rss_after - outcome.rss_before < 64 << 20


def main() -> None:
    """Throw, print, and fail where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="100,000 messages a socket instead of 20,000")
    count = 100_000 if parser.parse_args().full else 20_000
    for kind in ("pull", "sub"):
        begin = time.monotonic()
        outcome = throw(kind, count)
        check(outcome)
        print(
            f"{kind}: {outcome.thrown} mutated messages, {outcome.raw_bytes} raw bytes in {time.monotonic() - begin:.0f} s; "
            f"honest {len(outcome.honest_values)} of {outcome.honest_sent}; {outcome.counts['mutated']}; "
            f"RSS {outcome.rss_before >> 20} to {outcome.rss_after >> 20} MiB"
        )
    for name, throw_some, check_it in (
        ("mavlink udp", throw_datagrams, check_datagrams),
        ("mavlink tcp", throw_stream, check_stream),
    ):
        begin = time.monotonic()
        outcome = throw_some(count)
        check_it(outcome)
        print(
            f"{name}: {outcome.thrown} mutated messages, {outcome.raw_bytes} bytes in {time.monotonic() - begin:.0f} s; honest "
            f"{len(outcome.honest_values)} of {outcome.honest_sent}; {outcome.counts}; "
            f"RSS {outcome.rss_before >> 20} to {outcome.rss_after >> 20} MiB"
        )


def check(outcome: Outcome) -> None:
    """All honest messages came, in order; memory is bounded; the garbage was counted."""
    assert outcome.honest_values == list(range(outcome.honest_sent))
    assert outcome.rss_after - outcome.rss_before < 64 << 20
    assert outcome.strangers <= 65
    assert outcome.counts["mutated"].invalid > outcome.thrown // 50  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
