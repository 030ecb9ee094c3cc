"""The DDS source against a real publisher in another process, on loopback; each test has a domain of its own."""

from __future__ import annotations

import ctypes
import math
import select
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dds_world import FLOAT, TYPES, Listener, Publisher, configure, message, next_domain, serialized

from edge_monitor.core.messages import Batch
from edge_monitor.core.samples import Cause
from edge_monitor.core.signals import Signal
from edge_monitor.dds.entities import Participant
from edge_monitor.dds.library import Info
from edge_monitor.dds.taking import INFO
from edge_monitor.envelope.delivery import Delivery
from edge_monitor.sources.addresses import open_sources, parse
from edge_monitor.sources.dds import BULK_DEPTH
from edge_monitor.sources.topics import Limits
from edge_monitor.sources.wanted import Wanted

pytest.importorskip("cyclonedds", reason="there is no wheel of cyclonedds for this machine")
S = 1_000_000_000


class World:
    """A domain with a publisher, and listeners that are closed in the end."""

    def __init__(self, publisher: Publisher) -> None:
        self.domain = next_domain()
        self.publisher = publisher
        publisher.join(self.domain)
        self.listeners: list[Listener] = []

    def listen(self, *signals: Signal, **more: object) -> Listener:
        """A source in this process."""
        self.listeners.append(Listener(self.domain, list(signals), **more))  # type: ignore[arg-type]
        return self.listeners[-1]

    def close(self) -> None:
        """End this side."""
        for listener in self.listeners:
            listener.source.close()


@pytest.fixture(scope="module")
def publisher() -> Iterator[Publisher]:
    """The other process; one for all tests, since its start takes longer than they do."""
    publisher = Publisher()
    yield publisher
    publisher.close()


@pytest.fixture
def world(publisher: Publisher) -> Iterator[World]:
    """A domain of its own."""
    world = World(publisher)
    yield world
    world.close()


def number(topic: str = "/x", type_name: str | None = FLOAT) -> Signal:
    """A signal of a topic of one number."""
    return Signal(topic.strip("/"), topic, "data", type_name)


def floats(value: float) -> bytes:
    """A std_msgs/Float64."""
    return serialized(FLOAT, data=value)


MESSAGES = {
    "sensor_msgs/msg/Imu": (
        "linear_acceleration.z",
        {"linear_acceleration": message("geometry_msgs/msg/Vector3", z=9.81)},
        9.81,
    ),
    "sensor_msgs/msg/NavSatFix": ("latitude", {"latitude": 59.9}, 59.9),
    "sensor_msgs/msg/BatteryState": ("percentage", {"percentage": 0.5}, 0.5),
    "sensor_msgs/msg/LaserScan": ("ranges[*]", {"ranges": np.array([3, 1, 2], np.float32)}, 1.0),
    "nav_msgs/msg/Odometry": ("child_frame_id", {"child_frame_id": "base"}, 0.0),
    "geometry_msgs/msg/TwistStamped": (
        "twist.linear.x",
        {"twist": message("geometry_msgs/msg/Twist", linear=message("geometry_msgs/msg/Vector3", x=-2.5))},
        -2.5,
    ),
    "std_msgs/msg/Bool": ("data", {"data": True}, 1.0),
    "sensor_msgs/msg/Image": (
        "height",
        {"height": 480, "width": 640, "data": np.zeros(640 * 480 * 3, np.uint8)},
        480.0,
    ),
}


def test_eight_message_types_are_read_as_they_were_written(world: World) -> None:
    """Each type's value is the one that the publisher serialized, an image of 0.9 MB included; types need not be named."""
    signals, send = [], {}
    for count, (type_name, (field, fields, _)) in enumerate(MESSAGES.items()):
        topic = f"/robot/{type_name.rpartition('/')[2].lower()}"
        reduce = "min" if "[*]" in field else None
        signals.append(Signal(type_name, topic, field, type_name if count % 2 else None, reduce))
        send[type_name] = (world.publisher.open(topic, type_name), serialized(type_name, **fields))
    listener = world.listen(*signals)
    listener.until(lambda: all(listener.matched(signal.topic) for signal in signals))
    time.sleep(0.3)
    for publish, body in send.values():
        publish(body)
    listener.until(lambda: all(listener.values.values()))
    for type_name, (_, _, expected) in MESSAGES.items():
        assert listener.values[type_name] == [expected]
    assert {channel.type for channel in listener.channels} == set(MESSAGES)
    assert listener.source.lost == 0 and not any(cause for _, cause, _ in listener.said)


def test_a_poller_sleeps_once_what_came_is_taken(world: World) -> None:
    """Each message wakes a poller, and after a few drains nothing does until the next one comes."""
    send = world.publisher.open("/x")
    listener = world.listen(number())
    listener.until(lambda: listener.matched("/x"))
    poller = select.poll()
    poller.register(listener.source.sockets[0], select.POLLIN)
    for value in range(3):
        for _ in range(3):
            listener.source.drain()
        assert not poller.poll(0)
        send(floats(value))
        assert poller.poll(2000)
        assert listener.source.drain()


def test_ten_thousand_a_second_without_loss(world: World) -> None:
    """30,000 messages at 10 kHz, best effort: all come, in order, none pushed out of the queue."""
    count = 30_000
    world.publisher.open("/x", reliable=False)
    listener = world.listen(number())
    listener.until(lambda: listener.matched("/x"))
    time.sleep(0.3)
    world.publisher.order(do="flood", name="/x", rate=10_000, count=count, wait=False)
    listener.until(lambda: len(listener.values["x"]) >= count, 30)
    world.publisher.done()
    assert listener.values["x"] == [float(n) for n in range(count)]
    assert listener.source.lost == 0 and not any(listener.causes("/x"))


def test_a_publisher_that_fits_less_is_named(world: World) -> None:
    """Reliable, latched and a deadline are asked for only where the envelope says so; a publisher that falls short is named,
    once, and so is its mending; without such a wish every publisher fits."""
    offers = {"/sure": {}, "/kept": {}, "/paced": {"deadline": 500_000_000}, "/plain": {}}
    asked = {
        "/sure": Delivery(reliable=True),
        "/kept": Delivery(reliable=True, latched=True),
        "/paced": Delivery(deadline=100_000_000),
    }
    for topic, qos in offers.items():
        world.publisher.open(topic, reliable=False, **qos)
    listener = world.listen(*(number(topic) for topic in offers), asked=asked)
    listener.until(lambda: len(listener.said) == 3)
    told = {topic: (cause, text) for topic, cause, text in listener.said}
    assert told["/sure"] == (Cause.QOS, "a publisher is best_effort, the envelope asks for reliable")
    assert told["/kept"] == (Cause.QOS, "a publisher is best_effort, the envelope asks for reliable")
    assert told["/paced"] == (
        Cause.QOS,
        "a publisher promises one of 500 ms, the envelope asks for a deadline of 100 ms",
    )
    world.publisher.order(do="close", name="/sure")
    send = world.publisher.open("/sure")
    listener.until(lambda: listener.causes("/sure") == [Cause.QOS, Cause.NONE])
    time.sleep(0.2)
    send(floats(1))
    listener.until(lambda: listener.values["sure"] == [1.0])
    assert listener.causes("/plain") == []


def test_latched_brings_what_came_before(world: World) -> None:
    """A monitor that starts later gets the last message of a latched topic, and of another none."""
    for topic, latched in (("/map", True), ("/x", False)):
        world.publisher.open(topic, latched=latched, depth=1)(floats(7))
    listener = world.listen(number("/map"), number("/x"), asked={"/map": Delivery(reliable=True, latched=True)})
    listener.until(lambda: listener.values["map"])
    assert listener.values == {"map": [7.0], "x": []}


def test_a_broken_deadline_is_stale(world: World) -> None:
    """A publisher that promised a message every 50 ms and sends none: named, and over a second after it sends again."""
    send = world.publisher.open("/x", deadline=50_000_000)
    listener = world.listen(number(), asked={"/x": Delivery(deadline=50_000_000)})
    listener.until(lambda: listener.matched("/x"))
    send(floats(1))
    listener.until(lambda: listener.causes("/x"))
    assert listener.said[0] == ("/x", Cause.STALE, "no message within the deadline of 50 ms")


def test_another_type_is_named(world: World) -> None:
    """The middleware says nothing of a type that differs: it is found by comparing, by name and by hash."""
    world.publisher.open("/name", "std_msgs/msg/Bool")
    world.publisher.open("/version", hash_="RIHS01_" + "0" * 64)
    world.publisher.open("/custom", "std_msgs/msg/String", hash_="")
    listener = world.listen(number("/name"), number("/version"), number("/custom", "my_msgs/msg/Speed"))
    listener.until(lambda: len(listener.said) == 3)
    told = {topic: text for topic, cause, text in listener.said if cause == Cause.TYPE_MISMATCH}
    assert told == {
        "/name": f"a publisher sends std_msgs/msg/Bool, the envelope says {FLOAT}",
        "/version": f"the definition of {FLOAT} is not known here: give the folder of its package with --messages",
        "/custom": "a publisher sends std_msgs/msg/String, the envelope says my_msgs/msg/Speed",
    }


def test_own_definitions_come_from_folders(world: World, tmp_path: Path) -> None:
    """A type of the robot's own is read by its .msg file and those that it uses."""
    for name, text in {
        "my_msgs/msg/Speed": "# m/s\nHeader header\nfloat32 LIMIT=2.5\nPart[<=4] parts\nstd_msgs/Float64 limit # most",
        "my_msgs/msg/Part": "float64 value 1.5\nstring<=8 unit",
        "std_msgs/msg/Header": "builtin_interfaces/Time stamp\nstring frame_id",
        "builtin_interfaces/msg/Time": "int32 sec\nuint32 nanosec",
        "std_msgs/msg/Float64": "float64 data",
    }.items():
        path = tmp_path / f"{name}.msg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    send = world.publisher.open("/speed", "my_msgs/msg/Speed", hash_="")
    listener = world.listen(Signal("limit", "/speed", "limit.data"), folders=[tmp_path])
    listener.until(lambda: listener.channels)
    time.sleep(0.3)
    send(b"\0\1\0\0" + bytes(8) + b"\1\0\0\0\0\0\0\0" + bytes(8) + np.float64(2.5).tobytes())
    listener.until(lambda: listener.values["limit"])
    assert listener.values["limit"] == [2.5]


def test_nobody_publishes(world: World) -> None:
    """A topic without a publisher is named after the grace, with the name that is most like it; a late publisher is found."""
    world.publisher.open("/odometry")
    listener = world.listen(number("/odometri"), limits=Limits(grace=S // 2))
    listener.until(lambda: listener.said)
    topic, cause, text = listener.said[0]
    assert (topic, cause) == ("/odometri", Cause.NO_PUBLISHER) and text.endswith("; /odometry is published")
    send = world.publisher.open("/odometri")
    listener.until(lambda: listener.causes("/odometri") == [Cause.NO_PUBLISHER, Cause.NONE])
    time.sleep(0.2)
    send(floats(3))
    listener.until(lambda: listener.values["odometri"] == [3.0])


def test_a_publisher_that_leaves_or_dies_is_missed(world: World) -> None:
    """One that closes is missed at once, one that is killed when its lease is over; a new one is welcome."""
    mortal = Publisher()
    mortal.join(world.domain)
    mortal.open("/x")
    listener = world.listen(number())
    listener.until(lambda: listener.matched("/x"))
    mortal.order(do="close", name="/x")
    listener.until(lambda: listener.said)
    assert listener.said == [("/x", Cause.NO_PUBLISHER, "its publisher is gone")]
    mortal.open("/x")
    listener.until(lambda: listener.causes("/x")[1:] == [Cause.NONE])
    mortal.kill()
    begun = time.monotonic()
    listener.until(lambda: listener.causes("/x")[2:] == [Cause.NO_PUBLISHER])
    assert time.monotonic() - begun < 5
    world.publisher.open("/x")
    listener.until(lambda: listener.causes("/x")[3:] == [Cause.NONE])


def test_a_publisher_that_hangs_is_missed(world: World) -> None:
    """A publisher that promised to say that it is alive, and does not: named though it is still there."""
    send = world.publisher.open("/x", lease=200_000_000)
    listener = world.listen(number())
    listener.until(lambda: listener.matched("/x"))
    time.sleep(0.2)
    send(floats(1))
    listener.until(lambda: listener.said and listener.values["x"])
    assert listener.said == [("/x", Cause.NO_PUBLISHER, "its publisher no longer says that it is alive")]
    send(floats(2))
    listener.until(lambda: listener.causes("/x")[1:2] == [Cause.NONE])


def test_what_a_stall_pushes_out_is_counted(world: World) -> None:
    """A monitor that does not look for a while loses the oldest messages of a short queue: counted and named."""
    send = world.publisher.open("/x")
    listener = world.listen(number(), asked={"/x": Delivery(depth=10)})
    listener.until(lambda: listener.matched("/x"))
    time.sleep(0.2)
    for n in range(50):
        send(floats(n))
    time.sleep(0.3)
    listener.until(lambda: listener.said)
    assert listener.said[0][1] == Cause.OVERFLOW
    assert listener.values["x"] == [float(n) for n in range(40, 50)]
    assert listener.source.counts["/x"].gaps == 40 == listener.source.lost


def test_messages_are_stamped_when_they_came(world: World) -> None:
    """Taken together after a while, messages of two topics have the times of their arrival and are in that order; what came
    before the time that has been decided is stamped with that; what a stall pushed out shifts no stamp."""
    send = {topic: world.publisher.open(topic) for topic in ("/x", "/y")}
    listener = world.listen(number("/x"), number("/y"), asked={"/x": Delivery(depth=10)})
    listener.until(lambda: listener.matched("/x") and listener.matched("/y"))
    time.sleep(0.2)

    def now() -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def stamps(reached: int) -> list[tuple[str, int]]:
        listener.source.reached = lambda: reached
        items = listener.source.drain()
        topics = {one.id: one.topic for one in listener.channels}
        return [
            (topics[row["channel"]], int(row["t"])) for one in items if isinstance(one, Batch) for row in one.messages
        ]

    sent: list[tuple[str, int]] = []
    for topic in ("/y", "/x", "/x", "/y"):
        sent.append((topic, now()))
        send[topic](floats(1))
        time.sleep(0.03)
    time.sleep(0.3)
    end = now()
    found = stamps(sent[0][1])
    assert [topic for topic, _ in found] == [topic for topic, _ in sent]
    assert all(at < t < end for (_, t), (_, at) in zip(found, sent, strict=True)), (found, sent)

    for _ in range(15):
        send["/x"](floats(2))
    time.sleep(0.3)
    decided = now()
    send["/x"](floats(3))
    time.sleep(0.3)
    end = now()
    times = [t for _, t in stamps(decided)]
    assert len(times) == 10 and times[:-1] == [decided] * 9 and decided < times[-1] < end


def test_too_large_and_too_fast_are_dropped_and_named(world: World) -> None:
    """A message over the size, a topic over the rate: dropped, counted, the cause of the topic; other topics go on."""
    image = "sensor_msgs/msg/Image"
    publish = world.publisher.open("/image", image)
    world.publisher.open("/x")
    send = world.publisher.open("/y")
    limits = Limits(frame_bytes=10_000, rate=100)
    listener = world.listen(Signal("height", "/image", "height"), number("/x"), number("/y"), limits=limits)
    listener.until(lambda: all(listener.matched(topic) for topic in ("/image", "/x", "/y")))
    time.sleep(0.2)
    publish(serialized(image, height=1, data=np.zeros(20_000, np.uint8)))
    world.publisher.order(do="flood", name="/x", rate=10_000, count=1000)
    send(floats(1))
    listener.until(lambda: listener.values["y"] and len(listener.said) >= 2)
    counts = listener.source.counts
    assert {(topic, cause) for topic, cause, _ in listener.said} == {
        ("/image", Cause.OVERFLOW),
        ("/x", Cause.OVERFLOW),
    }
    assert counts["/image"].over_size == 1 and not listener.values["height"]
    assert counts["/x"].over_rate + counts["/x"].taken == 1000 and counts["/x"].over_rate > 0
    listener.until(lambda: len(listener.damage) == 2)
    assert {item.lost_messages for item in listener.damage} == {1, counts["/x"].over_rate}


def test_a_publisher_of_another_make_is_read(world: World) -> None:
    """A writer of typed objects, which announces the whole type and not a hash, as other DDS programs do."""
    from dds_typed import writer_of_floats

    write = writer_of_floats(world.domain, "rt/x")
    listener = world.listen(number())
    listener.until(lambda: listener.matched("/x"))
    end = time.monotonic() + 10
    while not listener.values["x"] and time.monotonic() < end:
        write(1.25)
        listener.drain()
        time.sleep(0.01)
    assert listener.values["x"][0] == 1.25


def test_a_missing_value_is_nan_not_a_number(world: World) -> None:
    """A message that ends too early, or in an unknown encoding, has no value."""
    send = world.publisher.open("/x")
    listener = world.listen(number())
    listener.until(lambda: listener.matched("/x"))
    time.sleep(0.2)
    for body in (b"\0\1\0\0\0\0", b"\0\7\0\0" + bytes(8), floats(4)):
        send(body)
    listener.until(lambda: len(listener.values["x"]) == 3 or listener.values["x"][-1:] == [4.0])
    assert listener.values["x"][-1] == 4.0 and all(math.isnan(value) for value in listener.values["x"][:-1])


def test_latency_is_measured_on_the_clock_of_the_stamps(world: World) -> None:
    """A stamp on the wall clock is held against the wall clock; when that steps, so do latencies, and time does not."""
    kind = "geometry_msgs/msg/TwistStamped"
    step = [0]
    send = world.publisher.open("/x", kind)
    signal = Signal("age", "/x", "header.stamp", kind)
    listener = world.listen(signal, wall=lambda: time.time_ns() + step[0])
    listener.until(lambda: listener.matched("/x"))
    time.sleep(0.2)
    for expected in (0, 3600):
        step[0] = expected * S
        listener.for_(0.05)
        now = time.time_ns()
        stamp = message("builtin_interfaces/msg/Time", sec=now // S, nanosec=now % S)
        send(serialized(kind, header=message("std_msgs/msg/Header", stamp=stamp)))
        listener.until(lambda: listener.values["age"])
        assert 0 <= listener.values["age"].pop() - expected < 5
    assert [channel.id for channel in listener.channels] == [0, 0]


def test_domains_and_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """``dds`` is the environment's domain; what is no domain is refused in one line."""
    from edge_monitor.errors import UsageError

    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    assert parse("dds").rest == parse("dds:").rest == "0" and parse("dds:17").rest == "17"
    monkeypatch.setenv("ROS_DOMAIN_ID", "42")
    assert parse("dds").rest == "42"
    for wrong in ("dds:x", "dds:233", "dds:-1"):
        with pytest.raises(UsageError, match="a domain is a number from 0 to 232"):
            parse(wrong)


def test_names_that_ros_cannot_have_are_left_to_other_sources() -> None:
    """A topic of ULog is never there, and says so when nobody else brings it either."""
    configure()
    wanted = [Wanted("battery_status[1]"), Wanted("/x")]
    clock = [1000 * S]
    (source,) = open_sources([parse(f"dds:{next_domain()}")], wanted, lambda: clock[0])
    try:
        source.drain()
        clock[0] += 6 * S
        source.drain()
        said = {status.topic: status.message for status in source.status()}
        assert said["battery_status[1]"] == "'battery_status[1]' is no name of a ROS topic"
        assert said["/x"].startswith("nobody published it in 6 s on domain")
    finally:
        source.close()


def test_a_bulky_type_has_a_short_queue(world: World) -> None:
    """Images wait by the handful, so that a stall of the monitor can't fill the memory."""
    listener = world.listen(Signal("height", "/image", "height", "sensor_msgs/msg/Image"), number())
    depths = {one.topic.name: one.reader.qos.depth for one in listener.source._subscriptions.values() if one.reader}
    assert depths == {"/image": BULK_DEPTH, "/x": 2000}


def test_the_kernels_and_the_library_agree_on_the_layout() -> None:
    """The fields that the kernels read lie where the C struct has them."""
    assert INFO.itemsize == ctypes.sizeof(Info) == 64
    assert [INFO.fields[name][1] for name in ("valid", "stamp", "publication")] == [12, 16, 32]
    assert TYPES.hash_rihs01(FLOAT).startswith("RIHS01_")


def test_participants_come_and_go_without_a_trace(world: World) -> None:
    """Opening and closing many sources leaves no file descriptor behind."""
    Participant(world.domain).close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        Listener(world.domain, [number()]).source.close()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
