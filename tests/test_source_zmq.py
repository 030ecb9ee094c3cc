"""Live input over ZeroMQ: from publishers to samples, garbage, silence, clocks, and what may be configured."""

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
from zmq_room import IN, META, Open, S, keys, message, rooms

from edge_monitor.core.messages import Batch, Channel
from edge_monitor.core.samples import Cause
from edge_monitor.core.signals import Signal
from edge_monitor.envelope import loads
from edge_monitor.errors import ConfigError
from edge_monitor.sources.links import is_local
from edge_monitor.sources.wanted import Wanted
from edge_monitor.sources.zmq import Curve, Endpoint, Limits, ZmqSource


@pytest.fixture
def open_room() -> Iterator[Open]:
    """Makes rooms; closes them at the end."""
    yield from rooms()


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


@pytest.mark.parametrize("kind", ["pull", "sub"])
def test_garbage_harms_nobody(kind: str) -> None:
    """20,000 mutated messages and raw bytes: no crash, bounded memory, every honest message arrives in order."""
    fuzz_sockets.check(fuzz_sockets.throw(kind, 20_000))


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
    """120,000 messages through one source: buffers are used again."""
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
        for turn in range(120):
            for _ in range(1000):
                socket.send_multipart([b"/t", meta, payload])
            while source.counts["/t"].taken < 1000 * (turn + 1):
                source.drain()
            levels.append(rss())
        # What is in flight comes and goes, some 6 MB of it; what were kept would be 14 MB between those two times.
        assert min(levels[90:]) - max(levels[10:30]) < 4 << 20, levels
        """
    )
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=True, timeout=120
    )


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
