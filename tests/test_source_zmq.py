"""Live input over ZeroMQ: from publishers to samples, limits that are told and healed, garbage, silence, CURVE, clocks."""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fuzz_sockets
import msgpack
import numpy as np
import pytest
import zmq
from rosbags.typesys import Stores, get_typestore
from zmq.utils import z85

from edge_monitor.core.engine import Engine
from edge_monitor.core.layout import Extractor, warm
from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import (
    FLAG_CAUSE,
    FLAG_END,
    ITEM_SHIFT,
    ITEM_SOURCE_STATUS,
    SAMPLE,
    Cause,
    Verdict,
)
from edge_monitor.core.signals import Signal
from edge_monitor.envelope import loads
from edge_monitor.errors import ConfigError
from edge_monitor.sources.curve import Gatekeeper, fingerprint, guard
from edge_monitor.sources.links import is_local
from edge_monitor.sources.wanted import Wanted
from edge_monitor.sources.zmq import Curve, Endpoint, Limits, Status, ZmqSource

S = 1_000_000_000
META = msgpack.packb({"e": "msgpack", "t": "T"})
IN = Endpoint("tcp://127.0.0.1:*", "pull", bind=True)


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.t = 1000 * S

    def __call__(self) -> int:
        return self.t


class Room:
    """A source, the samples of what it gave, and publishers that are closed at the end."""

    def __init__(self, source: ZmqSource, clock: Clock, signals: list[Signal]) -> None:
        self.source, self.clock = source, clock
        self.extractor = Extractor(signals)
        self.context = zmq.Context()
        self.problems: list[str] = []
        self.samples: list[tuple[str, float, Cause, int]] = []
        self.status: list[Status] = []
        self.damage: list[Damage] = []
        self.channels: list[Channel] = []

    def publisher(self, kind: int = zmq.PUSH, address: str = "") -> zmq.Socket:
        """A socket that is connected to the source's first address."""
        socket = self.context.socket(kind)
        socket.linger = 0
        socket.connect(address or self.source.addresses[0])
        return socket

    def drain(self) -> int:
        """Drain once; answers how many messages came."""
        count = 0
        for item in self.source.drain():
            if isinstance(item, Channel):
                self.channels.append(item)
                self.problems += [problem.message for problem in self.extractor.add_channel(item)]
            elif isinstance(item, Batch):
                count += len(item.messages)
                for sample in self.extractor.extract(item):
                    name = self.extractor.signals[sample["signal"]].name
                    cause = Cause(int(sample["flags"]) & FLAG_CAUSE)
                    self.samples.append((name, float(sample["value"]), cause, int(sample["t"])))
            else:
                self.damage.append(item)
        self.status += self.source.status()
        return count

    def until(self, condition: Callable[[], Any], seconds: float = 10) -> None:
        """Drain until something holds."""
        deadline = time.monotonic() + seconds
        while True:
            self.drain()
            if condition():
                return
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.005)

    def seen(self, topic: str = "/t") -> int:
        """Messages of a topic that came, whatever became of them."""
        counts = self.source.counts[topic]
        return counts.taken + counts.over_rate + counts.over_size + counts.invalid

    def send(self, socket: zmq.Socket, *messages: list[bytes], topic: str = "/t") -> None:
        """Send messages and wait until all have come."""
        target = self.seen(topic) + len(messages)
        for message in messages:
            socket.send_multipart(message)
        self.until(lambda: self.seen(topic) >= target)


Open = Callable[..., Room]


@pytest.fixture
def open_room() -> Iterator[Open]:
    """Makes rooms; closes them at the end."""
    rooms: list[Room] = []

    def make(*signals: Signal, endpoints: tuple[Endpoint, ...] = (IN,), **options: Any) -> Room:
        wanted = list(signals) or [Signal("x", "/t", "x")]
        warm()  # before there is a source, whose patience with silent topics begins when it is made
        clock = Clock()
        topics = dict.fromkeys(each.topic for each in wanted)
        room = Room(ZmqSource(endpoints, topics, options.pop("clock", clock), **options), clock, wanted)
        rooms.append(room)
        return room

    yield make
    for room in rooms:
        room.source.close()
        room.context.destroy(linger=0)


def message(x: Any, number: int | None = None, meta: bytes = META, topic: bytes = b"/t") -> list[bytes]:
    """A message ``{"x": x}``, with a sequence number where one is given."""
    mark = [] if number is None else [struct.pack("<Qq", number, 0)]
    return [topic, meta, msgpack.packb({"x": x}), *mark]


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def test_the_publisher_of_the_page_arrives_as_samples(open_room: Open, root: Path, tmp_path: Path) -> None:
    """The ten lines of Python of the wire format's page, in a process of their own, to the envelope's signals."""
    program, yaml = blocks(root / "docs/wire.md", "python")[0], blocks(root / "docs/wire.md", "yaml")[0]
    assert len(program.strip().splitlines()) <= 11
    head = "edge_monitor: 1\nenvelope: {id: wire, version: 1, vehicle: test}\n"
    checks = "checks:\n  limit: {kind: bounds, signal: speed, max: 2, severity: critical, rationale: r}\n"
    signals = loads((head + yaml + checks).encode(), source="wire.md").signals
    address = f"ipc://{tmp_path}/in"
    room = open_room(
        *signals, endpoints=(Endpoint(address, "sub"),), clock=lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    )
    child = subprocess.Popen([sys.executable, "-c", program.replace("tcp://127.0.0.1:5556", address)])
    try:
        room.until(lambda: room.source.counts["/odom"].taken >= 10)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert room.problems == [] and [channel.type for channel in room.channels] == ["Odometry"]
    speeds = [value for name, value, cause, _ in room.samples if name == "speed" and not cause]
    ages = [value for name, value, cause, _ in room.samples if name == "latency" and not cause]
    assert len(speeds) == len(ages) >= 10 and set(speeds) == {1.5} and all(0 < age < 1 for age in ages)
    assert room.source.counts["/odom"].gaps == 0 and room.status == []
    assert room.source.describe() == [f"{address}: somebody has connected"]


def test_the_publisher_in_c_compiles(root: Path, tmp_path: Path) -> None:
    """The C example of the page is correct C99 for libzmq's own header."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    probe = ["gcc", "-fsyntax-only", "-x", "c", "-"]
    if subprocess.run(probe, input=b"#include <zmq.h>\n", capture_output=True, check=False).returncode:
        pytest.skip("no zmq.h: install libzmq3-dev")
    (program,) = blocks(root / "docs/wire.md", "c")
    done = subprocess.run(
        ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-x", "c", "-"],
        input=program.encode(), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()


def test_the_page_says_what_the_code_holds(root: Path) -> None:
    """The limits' defaults, and the C example's bytes, are those that the code has."""
    text, limits = (root / "docs/wire.md").read_text("utf-8"), Limits()
    for words in (
        f"| payload | {limits.frame_bytes >> 10} KiB |",
        f"| meta | {limits.meta_bytes >> 10} KiB |",
        f"| {limits.rate:,.0f}, and a second's worth at once |",
        f"| messages that wait in a socket | {limits.queue:,} |",
        f"| different metas of a topic | {limits.metas} |",
        f"| {limits.strangers} by name |",
        f"for {limits.grace // S} s since the start",
    ):
        assert words in text, words
    (program,) = blocks(root / "docs/wire.md", "c")
    literal = re.search(r"meta\[\] = (.*?);", program)
    assert literal is not None
    meta = b"".join(eval("b" + part) for part in re.findall(r'"[^"]*"', literal[1]))  # C and Python agree on these
    assert msgpack.unpackb(meta) == {"e": "f64", "t": "Accel"}


def test_the_curve_example_of_the_page_runs(root: Path) -> None:
    """The page's last block opens an encrypted source as it stands."""
    program = blocks(root / "docs/wire.md", "python")[-1].replace("tcp://*:5558", "tcp://127.0.0.1:*")
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_raw_arrays_and_their_stamp(open_room: Open) -> None:
    """Doubles and floats by element and reduced; the latency is that of the mark."""
    wanted = [Signal("z", "/a", "[2]"), Signal("n", "/a", "[*]", reduce="norm"), Signal("age", "/a", "header.stamp")]
    room = open_room(*wanted, Signal("f", "b", "[0]"))
    publisher = room.publisher()
    mark = struct.pack("<Qq", 1, room.clock.t - S // 4)
    double, single = msgpack.packb({"e": "f64"}), msgpack.packb({"e": "f32"})
    room.send(publisher, [b"/a", double, struct.pack("<3d", 2, 3, 6), mark], topic="/a")
    room.send(publisher, [b"a", double, struct.pack("<3d", 2, 3, 6)], topic="/a")
    room.send(publisher, [b"/b", single, struct.pack("<f", 1.5)], topic="b")
    t = room.clock.t
    assert room.samples[:3] == [("z", 6, 0, t), ("n", 7, 0, t), ("age", 0.25, 0, t)]
    assert [(name, cause) for name, _, cause, _ in room.samples[3:6]] == [("z", 0), ("n", 0), ("age", Cause.INVALID)]
    assert room.samples[6] == ("f", 1.5, 0, t)


def test_cdr_with_its_definition_in_one_meta(open_room: Open) -> None:
    """CDR is read once a definition of its type has come; until then the topic's cause is ``type_mismatch``."""
    store = get_typestore(Stores.ROS2_JAZZY)
    name = "geometry_msgs/msg/Vector3"
    raw = bytes(store.serialize_cdr(store.types[name](1.0, 2.0, 3.0), name))
    bare = msgpack.packb({"e": "cdr", "t": name})
    full = msgpack.packb({"e": "cdr", "t": name, "d": store.generate_msgdef(name, ros_version=2)[0]})
    room = open_room(Signal("y", "/v", "y", type=name))
    publisher = room.publisher()
    room.send(publisher, [b"/v", bare, raw], topic="/v")
    ((topic, cause, words),) = room.status
    assert (topic, cause) == ("/v", Cause.TYPE_MISMATCH) and name in words and "`d`" in words
    room.send(publisher, [b"/v", full, raw], [b"/v", bare, raw], topic="/v")
    assert [sample[:3] for sample in room.samples] == [("y", 2.0, 0)] * 2
    assert len(room.channels) == 1 and room.source.counts["/v"].invalid == 1


def test_a_drain_is_one_batch_in_one_buffer_and_time_never_steps_back(open_room: Open) -> None:
    """Messages of all topics and sockets in the order in which they were taken, whatever the clock does."""
    steps = iter(range(10**6))
    base = 5 * S
    room = open_room(
        Signal("x", "/t", "x"), Signal("u", "/u", "x"),
        endpoints=(IN, Endpoint("tcp://127.0.0.1:*", "sub", bind=True)),
        clock=lambda: base + (next(steps) * 7919 % 13 - 6) * S,
    )  # fmt: skip
    push, publish = room.publisher(), room.publisher(zmq.PUB, room.source.addresses[1])
    room.until(lambda: publish.send_multipart(message(0, topic=b"/u")) or room.source.counts["/u"].taken)
    for number in range(300):
        push.send_multipart(message(number))
        publish.send_multipart(message(number, topic=b"/u"))
    time.sleep(0.3)
    items = room.source.drain()
    batches = [item for item in items if isinstance(item, Batch)]
    assert len(batches) == 1 and isinstance(items[0], Channel) and len(batches[0].messages) >= 600
    rows = batches[0].messages
    assert (np.diff(rows["t"]) >= 0).all() and (np.diff(rows["start"]) == rows["size"][:-1]).all()
    assert rows["start"][-1] + rows["size"][-1] == len(batches[0].data)


def test_a_drain_keeps_its_budget(open_room: Open) -> None:
    """No more messages and bytes than asked for, sockets in turn; the rest stays queued."""
    room = open_room(limits=Limits(frame_bytes=1000, buffer_bytes=20_000))
    publisher = room.publisher()
    for number in range(500):
        publisher.send_multipart([b"/t", META, msgpack.packb({"x": number, "y": b"y" * 900})])
    time.sleep(0.3)
    (channel, batch) = room.source.drain(messages=100, size=5000)
    assert isinstance(channel, Channel) and room.extractor.add_channel(channel) == []
    assert isinstance(batch, Batch) and 5 <= len(batch.messages) <= 7
    (batch,) = room.source.drain(messages=100)
    assert isinstance(batch, Batch) and len(batch.data) <= 20_000 and len(batch.messages) <= 21
    room.until(lambda: room.source.counts["/t"].taken == 500)
    assert [value for _, value, _, _ in room.samples][-1] == 499


def test_over_its_rate_a_topic_is_held_back_and_others_are_not(open_room: Open) -> None:
    """Told once as overflow, nothing of it is delivered until a second within the rate; then what it took is damage."""
    room = open_room(Signal("x", "/t", "x"), Signal("u", "/u", "x"), limits=Limits(rate=100))
    publisher = room.publisher()
    room.send(publisher, *(message(n) for n in range(100)))
    assert len(room.samples) == 100 and room.status == []  # a second's worth may come at once
    room.send(publisher, *(message(n) for n in range(50)))
    assert room.source.counts["/t"].over_rate == 50 and len(room.samples) == 100
    assert [(topic, cause) for topic, cause, _ in room.status] == [("/t", Cause.OVERFLOW)]
    assert "100 messages a second" in room.status[0].message
    room.send(publisher, message(1, topic=b"/u"), topic="/u")
    assert room.samples[-1][:3] == ("u", 1.0, 0)
    room.clock.t += S // 2
    room.send(publisher, message(7))  # within the rate again, not yet healthy
    assert len(room.samples) == 101 and room.damage == []
    room.clock.t += S // 2
    room.drain()
    assert room.status[1:] == [Status("/t", Cause.NONE, "healthy again")]
    assert [(damage.where, damage.lost_messages) for damage in room.damage] == [("/t", 51)]
    room.send(publisher, message(8))
    assert room.samples[-1][:3] == ("x", 8.0, 0)


def test_a_topic_that_is_held_back_is_unknown_to_the_engine_until_it_speaks_again(open_room: Open) -> None:
    """Fed behind the batch of its drain, a status outlasts the good messages before it; the first one after ends it."""
    wanted = [Signal("x", "/t", "x", max_age=10 * S)]
    room = open_room(*wanted, limits=Limits(rate=5))
    engine = Engine(Plan.build(wanted, [], mode=None, active=None))
    publisher, found = room.publisher(), []

    def feed() -> None:
        items = np.zeros(len(room.samples) + len(room.status), SAMPLE)
        for item, (_, value, cause, t) in zip(items, room.samples, strict=False):
            item["t"], item["value"], item["flags"] = t, value, int(cause) | FLAG_END
        for item, status in zip(items[len(room.samples) :], room.status, strict=True):
            item["t"], item["flags"] = room.source.now, int(status.cause) | ITEM_SOURCE_STATUS << ITEM_SHIFT
        room.samples.clear()
        room.status.clear()
        for row in engine.advance(items, until=room.source.now + 1):
            found.append((Verdict(row["verdict"]), Cause(row["cause"])))

    room.send(publisher, *(message(n) for n in range(9)))
    feed()
    assert found == [(Verdict.UNKNOWN, Cause.OVERFLOW)]
    for _ in range(3):  # good messages and the end of the episode between them
        room.clock.t += S // 2
        room.send(publisher, message(1))
        feed()
    assert found[1:] == [(Verdict.PASS, Cause.NONE)]


def test_steady_traffic_at_the_rate_is_never_held_back(open_room: Open) -> None:
    """Exactly the rate, for ten seconds of event time."""
    room = open_room(limits=Limits(rate=100))
    publisher = room.publisher()
    for _ in range(100):
        room.clock.t += S // 10
        room.send(publisher, *(message(n) for n in range(10)))
    assert room.status == [] and len(room.samples) == 1000


MALFORMED = [
    ([b"/t"], Cause.INVALID, "1 frames"),
    ([b"/t", META], Cause.INVALID, "2 frames"),
    ([*message(1, 1), b"", b"", b""], Cause.INVALID, "7 frames"),
    ([b"/t", b"", b""], Cause.INVALID, "meta"),
    ([b"/t", b"\xc1", b""], Cause.INVALID, "meta"),
    ([b"/t", msgpack.packb(["msgpack"]), b""], Cause.INVALID, "meta"),
    ([b"/t", msgpack.packb({"e": 5}), b""], Cause.INVALID, "meta"),
    ([b"/t", msgpack.packb({"e": "msgpack", "t": b"\xff"}), b""], Cause.INVALID, "meta"),
    ([b"/t", msgpack.packb({"t": "T"}), b""], Cause.INVALID, "meta"),
    ([b"/t", b"\x81\xa1e\xa1\xff", b""], Cause.INVALID, "meta"),
    ([b"/t", b"\x82\xa1e\xa3cdr\xa1d" + b"\x91" * 60_000, b""], Cause.INVALID, "meta"),
    ([b"/t", b"\x82\xa1e\xa3cdr\xa1q" + b"\x91" * 60_000, b""], Cause.INVALID, "meta"),
    ([b"/t", msgpack.packb({"e": "json"}), b""], Cause.INVALID, "'json'"),
    ([b"/t", msgpack.packb({"e": "cdr", "f": "xml"}), b""], Cause.INVALID, "'xml'"),
    ([b"/t", META, b"\x80", b"short"], Cause.INVALID, "5 bytes"),
    ([b"/t", META, b"\x80", b""], Cause.INVALID, "0 bytes"),
    ([b"/t", b"x" * 70_000, b""], Cause.OVERFLOW, "70000 bytes"),
    ([b"/t", META, b"x" * 300_000], Cause.OVERFLOW, "300000 bytes"),
]


@pytest.mark.parametrize(("frames", "cause", "words"), MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_not_in_the_format_is_told_once_and_the_rest_goes_on(
    open_room: Open, frames: list[bytes], cause: Cause, words: str
) -> None:
    """Three bad messages are one episode; good ones before, between and after arrive."""
    room = open_room()
    publisher = room.publisher()
    room.send(publisher, message(1), frames, frames, message(2), frames, message(3))
    assert [value for _, value, _, _ in room.samples] == [1, 2, 3]
    (status,) = room.status
    assert (status.topic, status.cause) == ("/t", cause) and words in status.message
    room.clock.t += 2 * S
    room.drain()
    assert room.status[1:] == [Status("/t", Cause.NONE, "healthy again")]
    assert [damage.lost_messages for damage in room.damage] == [3]


def test_a_payload_that_is_no_message_is_a_sample_with_a_cause(open_room: Open) -> None:
    """What the layout can't read is unknown like any other value; the topic's other messages count."""
    room = open_room()
    publisher = room.publisher()
    room.send(publisher, [b"/t", META, b"\xc1"], message(5))
    assert [(cause, value) for _, value, cause, _ in room.samples][1] == (Cause.NONE, 5)
    assert room.samples[0][2] == Cause.INVALID and room.status == []


def test_a_frame_beyond_what_zeromq_takes_costs_its_connection_only(open_room: Open) -> None:
    """More than twice the limit never gets into memory; the publisher comes back, another does not notice."""
    room = open_room(Signal("x", "/t", "x"), Signal("u", "/u", "x"))
    large, other = room.publisher(), room.publisher()
    room.send(large, message(1))
    room.send(other, message(1, topic=b"/u"), topic="/u")
    large.send_multipart([b"/t", META, bytes(600_000)])
    room.send(other, message(2, topic=b"/u"), topic="/u")
    room.until(lambda: large.send_multipart(message(3)) or room.samples[-1][:2] == ("x", 3.0))
    assert room.source.counts["/t"].over_size == 0 and room.status == []


def test_a_message_of_very_many_frames_stops_nobody(open_room: Open) -> None:
    """It is invalid, and thrown away in pieces, none of which takes long; what follows it arrives."""
    room = open_room()
    publisher = room.publisher()
    publisher.send_multipart([b"/t"] * 100_000)
    publisher.send_multipart(message(2))
    drains: list[float] = []
    deadline = time.monotonic() + 10
    while not room.source.counts["/t"].taken:
        begin = time.thread_time()
        room.source.drain(messages=1000)
        drains.append(time.thread_time() - begin)
        assert time.monotonic() < deadline
    assert max(drains) < 0.05 and len(drains) > 20
    counts = room.source.counts["/t"]
    assert (counts.invalid, counts.taken) == (1, 1)
    assert "frames, not 3 or 4" in room.source.status()[0].message


def test_a_definition_that_explodes_is_a_problem_in_no_time(open_room: Open) -> None:
    """Types that double at each of 31 levels: one line, and the process goes on."""
    levels = [f"===\nMSG: p/T{n}\np/T{n - 1} a\np/T{n - 1} b\nstring s\n" for n in range(30, 0, -1)]
    bomb = "p/T30 a\np/T30 b\nfloat64 x\n" + "".join(levels) + "===\nMSG: p/T0\nfloat64 v\nstring s\n"
    room = open_room()
    begin = time.process_time()
    room.send(
        room.publisher(), [b"/t", msgpack.packb({"e": "cdr", "t": "p/msg/R", "d": bomb}), b"\0\1\0\0" + bytes(99)]
    )
    assert time.process_time() - begin < 5
    assert len(room.problems) == 1 and len(room.samples) == 0


def test_gaps_in_sequence_numbers_are_counted(open_room: Open) -> None:
    """What ZeroMQ dropped is overflow; a publisher that starts anew is not, nor two publishers who give their names."""
    room = open_room()
    publisher = room.publisher()
    one, two = (msgpack.packb({"e": "msgpack", "t": "T", "p": name}) for name in ("one", "two"))
    room.send(publisher, message(1, 7, one), message(1, 100, two), message(1, 8, one), message(1, 0, one))
    room.send(publisher, message(1, 101, two), message(1, 2**63, two), message(1, 1, two))
    assert room.source.counts["/t"].gaps == 0 and room.status == [] and len(room.channels) == 1
    room.send(publisher, message(1, 5, one))
    assert room.source.counts["/t"].gaps == 4
    assert room.status == [Status("/t", Cause.OVERFLOW, "4 messages were lost before they came here")]
    assert len(room.samples) == 8


def test_one_topic_has_a_bounded_number_of_metas(open_room: Open) -> None:
    """A meta that changes with each message is an error of the publisher's, and costs no memory."""
    room = open_room(limits=Limits(metas=3))
    publisher = room.publisher()
    room.send(publisher, *(message(n, meta=msgpack.packb({"e": "msgpack", "t": f"T{n}"})) for n in range(50)))
    assert len(room.channels) == 3 and len(room.samples) == 3
    assert room.status[0].cause == Cause.OVERFLOW and "3 different metas" in room.status[0].message


def test_topics_that_nobody_reads_are_dropped_and_counted(open_room: Open) -> None:
    """Each under its name as long as there are few; a SUB socket does not even get them."""
    room = open_room(
        Signal("x", "/t", "x"),
        limits=Limits(strangers=3),
        endpoints=(IN, Endpoint("tcp://127.0.0.1:*", "sub", bind=True)),
    )
    publisher = room.publisher()
    for topic in (*(b"/other%d" % n for n in range(10)), b"/tt"):
        publisher.send_multipart(message(1, topic=topic))
    room.send(publisher, message(2))
    assert len(room.samples) == 1 and room.source.strangers == {"/other0": 1, "/other1": 1, "/other2": 1, "…": 8}
    broadcast = room.publisher(zmq.PUB, room.source.addresses[1])

    def both() -> bool:
        broadcast.send_multipart(message(3, topic=b"/other0"))
        broadcast.send_multipart(message(3, topic=b"t"))
        return len(room.samples) > 5

    room.until(both)
    assert room.source.strangers["/other0"] == 1


def test_a_topic_on_which_nothing_comes_has_no_publisher(open_room: Open) -> None:
    """Told after the grace time, with what is known of connections; taken back by the first message."""
    room = open_room(Signal("x", "/t", "x"), Signal("u", "/u", "x"))
    publisher = room.publisher()
    room.send(publisher, message(1, topic=b"/u"), topic="/u")
    room.clock.t += 5 * S - 1
    room.drain()
    assert room.status == []
    room.clock.t += S // 100
    room.until(lambda: room.status)
    ((topic, cause, words),) = room.status
    assert (topic, cause) == ("/t", Cause.NO_PUBLISHER) and "5 s" in words and "somebody has connected" in words
    room.clock.t += 3600 * S
    room.drain()
    assert len(room.status) == 1
    room.send(publisher, message(2))
    assert room.status[1:] == [Status("/t", Cause.NONE, "a publisher has appeared")] and room.samples[-1][1] == 2


@pytest.mark.parametrize(("kind", "side"), [("pull", zmq.PUSH), ("sub", zmq.PUB)])
def test_topics_come_and_go_while_it_runs(open_room: Open, kind: str, side: int) -> None:
    """Another list of topics is read from the next message on; what both have goes on, what is new has time to appear."""
    one, two = Signal("x", "/t", "x"), Signal("y", "/new", "x")
    room = open_room(one, two, endpoints=(Endpoint("tcp://127.0.0.1:*", kind, bind=True),))
    room.source.renew([Wanted("/t"), Wanted("/old")])
    out = room.publisher(side)

    def send(*topics: str) -> None:
        for topic in topics:
            out.send_multipart(message(1.0, topic=topic.encode()))

    def heard() -> set[str]:
        send("/t", "/new", "/old")
        room.drain()
        return {name for name, *_ in room.samples}

    room.until(lambda: heard() == {"x"})
    room.clock.t += 60 * S
    assert room.source.unable([Wanted("/new")]) == set()
    room.source.renew([Wanted("new"), Wanted("/t")])
    room.drain()
    assert [status.topic for status in room.status if status.cause == Cause.NO_PUBLISHER] == []
    room.until(lambda: heard() == {"x", "y"})
    assert room.source.counts.keys() == {"/t", "new"}
    room.clock.t += 6 * S
    room.source.renew([Wanted("/silent")])
    room.clock.t += 4 * S
    room.drain()
    assert not any(status.topic == "/silent" for status in room.status)
    room.clock.t += 2 * S
    room.until(lambda: any(status.topic == "/silent" for status in room.status))


@pytest.mark.parametrize("jump", [3600 * S, 10 * 365 * 86400 * S, -3600 * S])
def test_jumps_of_the_clock_break_nothing(open_room: Open, jump: int) -> None:
    """After a suspend everything counts from the new time; a clock that steps back stands still until it has caught up."""
    room = open_room(limits=Limits(rate=10))
    publisher = room.publisher()
    room.send(publisher, *(message(n) for n in range(12)))
    before = room.clock.t
    room.clock.t += jump
    room.drain()
    room.send(publisher, *(message(n) for n in range(5)))
    times = [t for *_, t in room.samples]
    assert times == sorted(times) and times[-1] == max(before, before + jump if len(times) > 10 else before)
    causes = [status.cause for status in room.status]
    assert causes == ([Cause.OVERFLOW, Cause.NONE] if jump > 0 else [Cause.OVERFLOW])
    assert len(room.samples) == (15 if jump > 0 else 10)


def test_a_publisher_is_never_blocked_by_what_another_sends(open_room: Open) -> None:
    """A flood over the limit is taken out and dropped, so that the honest one's PUSH never waits."""
    room = open_room(Signal("x", "/t", "x"), Signal("u", "/u", "x"), limits=Limits(rate=1000, queue=100))
    flood, honest = room.publisher(), room.publisher()
    for number in range(200):
        for _ in range(50):
            try:
                flood.send_multipart(message(1), zmq.NOBLOCK)
            except zmq.Again:
                break
        honest.send_multipart(message(number, topic=b"/u"), zmq.NOBLOCK)
        room.drain()
    room.until(lambda: sum(name == "u" for name, *_ in room.samples) == 200)
    assert room.source.counts["/t"].over_rate > 0


@pytest.mark.parametrize("kind", ["pull", "sub"])
def test_garbage_harms_nobody(kind: str) -> None:
    """20,000 mutated messages and raw bytes: no crash, bounded memory, every honest message arrives in order."""
    fuzz_sockets.check(fuzz_sockets.throw(kind, 20_000))


def keys() -> tuple[str, str]:
    """A new pair: public, secret."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


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


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("tcp://127.0.0.1:5", True), ("tcp://127.8.9.1:*", True), ("tcp://[::1]:5", True), ("tcp://localhost:5", True),
        ("ipc:///tmp/x", True), ("inproc://x", True), ("tcp://*:5", False), ("tcp://0.0.0.0:5", False),
        ("tcp://10.0.0.2:5", False), ("tcp://[::]:5", False), ("tcp://eth0:5", False), ("tcp://robot:5", False),
        ("tcp://localhost.evil.org:5", False), ("tcp://10.0.0.2:1;127.0.0.1:5", False), ("udp://127.0.0.1:5", False),
    ],
)  # fmt: skip
def test_plain_input_comes_from_this_machine_only(address: str, local: bool) -> None:
    """Loopback, ipc and inproc are local; all else is refused without keys, with how to mend it."""
    assert is_local(address) is local
    if not local:
        with pytest.raises(ConfigError) as caught:
            ZmqSource([Endpoint(address, "pull", bind=True)], ["/t"], lambda: 0)
        assert "CURVE" in str(caught.value) or "is no address" in str(caught.value)


def test_plain_input_from_elsewhere_can_be_allowed() -> None:
    """With the flag, any address is taken (bound to this machine's own here)."""
    with ZmqSource([Endpoint("tcp://0.0.0.0:*", "pull", bind=True)], ["/t"], lambda: 0, allow_plain=True) as source:
        assert source.addresses[0].startswith("tcp://0.0.0.0:") and len(source.sockets) == 1


def test_mistakes_in_the_configuration_are_said_in_one_line() -> None:
    """An address that is taken, a kind, key or limit that won't do: one line each, and nothing is left open."""
    with ZmqSource([IN], [], lambda: 0) as source:
        taken = source.addresses[0]
        cases: list[tuple[Callable[[], Any], str]] = [
            (lambda: ZmqSource([Endpoint(taken, "pull", bind=True)], [], lambda: 0), "cannot bind"),
            (lambda: ZmqSource([Endpoint(taken, "rep")], [], lambda: 0), "'rep'"),
            (lambda: ZmqSource([Endpoint("127.0.0.1:5")], [], lambda: 0), "is no address"),
            (lambda: ZmqSource([IN], [], lambda: 0, Limits(buffer_bytes=5)), "buffer_bytes"),
            (lambda: ZmqSource([IN], [], lambda: 0, Limits(rate=0)), "rate"),
            (lambda: Curve("short", "x" * 40), "public key"),
            (lambda: Curve(*keys(), allowed={"\\" * 40: "ann"}), "'ann'"),
            (lambda: ZmqSource([Endpoint(taken)], [], lambda: 0, curve=Curve(*keys())), "connected to at"),
        ]
        for call, words in cases:
            with pytest.raises(ConfigError) as caught:
                call()
            assert words in str(caught.value) and "\n" not in str(caught.value)


def test_memory_stays_flat_over_many_drains(tmp_path: Path) -> None:
    """60,000 messages through one source: buffers are used again."""
    program = textwrap.dedent(
        """
        import msgpack, zmq
        from fuzz_sockets import rss
        from edge_monitor.sources.zmq import Endpoint, Limits, ZmqSource
        source = ZmqSource([Endpoint("ipc://in", "pull", bind=True)], ["/t"], iter(range(10**18)).__next__, Limits(rate=1e9))
        socket = zmq.Context().socket(zmq.PUSH)
        socket.connect("ipc://in")
        meta, payload = msgpack.packb({"e": "msgpack"}), msgpack.packb({"x": 1.0, "y": b"y" * 200})
        taken, levels = 0, []
        for turn in range(60):
            for _ in range(1000):
                socket.send_multipart([b"/t", meta, payload])
            while source.counts["/t"].taken < 1000 * (turn + 1):
                source.drain()
            levels.append(rss())
        assert min(levels[40:]) - min(levels[10:30]) < 2 << 20, levels  # what is in flight comes and goes
        """
    )
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=True, timeout=120
    )
