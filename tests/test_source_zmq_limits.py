"""Live input over ZeroMQ beyond its limits: what is held back, told and healed, and who is not touched by it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgpack
import numpy as np
import pytest
import zmq
from zmq_room import IN, META, Open, S, message, rooms

from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import (
    FLAG_END,
    ITEM_SHIFT,
    ITEM_SOURCE_STATUS,
    SAMPLE,
    Cause,
    Verdict,
)
from edge_monitor.core.signals import Signal
from edge_monitor.sources.zmq import Endpoint, Limits, Status


@pytest.fixture
def open_room() -> Iterator[Open]:
    """Makes rooms; closes them at the end."""
    yield from rooms()


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
