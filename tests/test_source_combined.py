"""Several live inputs as one: real ZeroMQ sources side by side, read through one extractor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgpack
import numpy as np
import pytest
import zmq

from edge_monitor.core.layout import Extractor
from edge_monitor.core.messages import Batch, Channel
from edge_monitor.core.samples import Cause
from edge_monitor.core.signals import Signal
from edge_monitor.errors import UsageError
from edge_monitor.sources.addresses import Address, combine, open_sources, parse
from edge_monitor.sources.live import Combined
from edge_monitor.sources.wanted import Wanted
from edge_monitor.sources.zmq import Endpoint, Limits, ZmqSource

S = 1_000_000_000
IN = Endpoint("tcp://127.0.0.1:*", "pull", bind=True)
META = msgpack.packb({"e": "msgpack"})


class Pair:
    """Two sources as one, a publisher at each, and a clock that the test sets."""

    def __init__(self, left: list[str], right: list[str]) -> None:
        self.t = 1000 * S
        self.sources = [ZmqSource([IN], topics, lambda: self.t, Limits(rate=100)) for topics in (left, right)]
        self.both = combine(self.sources)
        self.context = zmq.Context()
        self.out = [self.context.socket(zmq.PUSH) for _ in self.sources]
        for socket, source in zip(self.out, self.sources, strict=True):
            socket.connect(source.addresses[0])
        names = dict.fromkeys([*left, *right])
        self.extractor = Extractor([Signal(name, name, "x") for name in names])
        self.values: list[tuple[str, float, int]] = []
        self.numbers: list[int] = []
        self.said: list[tuple[str, Cause]] = []

    def send(self, side: int, topic: str, x: float) -> None:
        """A message, which is queued at its source when this returns."""
        self.out[side].send_multipart([topic.encode(), META, msgpack.packb({"x": x})])
        assert self.sources[side].sockets[0].poll(2000)

    def drain(self) -> None:
        """Take what is queued, a millisecond later."""
        self.t += S // 1000
        for item in self.both.drain():
            if isinstance(item, Channel):
                self.numbers.append(item.id)
                assert self.extractor.add_channel(item) == []
            elif isinstance(item, Batch):
                for sample in self.extractor.extract(item):
                    name = self.extractor.signals[sample["signal"]].name
                    self.values.append((name, float(sample["value"]), int(sample["t"])))
        self.said += [(status.topic, status.cause) for status in self.both.status()]

    def until(self, condition: Callable[[], object]) -> None:
        """Drain until something holds."""
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, (self.values, self.said)
            self.drain()
            time.sleep(0.001)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A pair that reads /a and /both on the left, /b and /both on the right."""
    pair = Pair(["/a", "/both"], ["/b", "/both"])
    yield pair
    pair.both.close()
    pair.context.destroy(linger=0)


def test_messages_of_all_sources_come_in_order_of_their_stamps(pair: Pair) -> None:
    """Each source's channels get numbers of their own, and each message is read by its own channel."""
    count = 0
    for turn in range(3):
        for side, topic in ((0, "/a"), (1, "/b"), (1, "/both"), (0, "/both")):
            pair.send(side, topic, 10 * turn + side)
            count += 1
            pair.until(lambda: len(pair.values) == count)  # noqa: B023
    assert sorted(pair.numbers) == [0, 1, 2, 3]
    assert [value for name, value, _ in pair.values if name == "/a"] == [0, 10, 20]
    assert [value for name, value, _ in pair.values if name == "/b"] == [1, 11, 21]
    assert [value for name, value, _ in pair.values if name == "/both"] == [1, 0, 11, 10, 21, 20]
    stamps = [t for *_, t in pair.values]
    assert stamps == sorted(stamps) and pair.both.now >= stamps[-1]
    assert pair.both.counts["/both"].taken == 6 and pair.both.counts["/a"].taken == 3
    assert len(pair.both.sockets) == len(pair.both.describe()) == 2


def test_nobody_publishes_where_all_readers_say_so(pair: Pair) -> None:
    """A topic that another source brings is not missing; one that nobody brings is told once, and so is its coming."""
    pair.send(0, "/both", 1)
    pair.until(lambda: pair.values)
    pair.t += 6 * S
    pair.drain()
    assert sorted(pair.said) == [("/a", Cause.NO_PUBLISHER), ("/b", Cause.NO_PUBLISHER)]
    pair.said.clear()
    pair.send(1, "/b", 1)
    pair.until(lambda: pair.said)
    assert pair.said == [("/b", Cause.NONE)]


def test_a_fault_of_one_source_is_the_topics(pair: Pair) -> None:
    """What one source finds wrong with a topic is said of it until that source says that it is over."""
    pair.t += 6 * S
    pair.drain()
    pair.send(0, "/both", 1)
    pair.until(lambda: ("/both", Cause.NONE) in pair.said)
    for _ in range(102):
        pair.send(0, "/both", 1)
    pair.until(lambda: pair.said[-1] == ("/both", Cause.OVERFLOW))
    assert pair.both.lost > 0
    pair.t += 2 * S
    pair.until(lambda: pair.said[-1] == ("/both", Cause.NONE))


def test_one_source_is_itself_and_addresses_are_parsed() -> None:
    """A single source is not wrapped; all ZeroMQ addresses are one source; what is no address is refused with an example."""
    assert parse("bind-sub:tcp://127.0.0.1:1") == Address("bind-sub", "tcp://127.0.0.1:1")
    for wrong in ("tcp://127.0.0.1:1", "sub:127.0.0.1", "carrier:tcp://pigeon"):
        with pytest.raises(UsageError, match="expected such as"):
            parse(wrong)
    addresses = [parse("pull:tcp://127.0.0.1:9"), parse("bind-pull:tcp://127.0.0.1:*")]
    sources = open_sources(addresses, [Wanted("/a")], time.monotonic_ns)
    try:
        assert len(sources) == 1 and combine(sources) is sources[0]
        assert isinstance(combine([*sources, *sources]), Combined)
    finally:
        sources[0].close()


def test_a_batch_of_a_source_is_not_changed(pair: Pair) -> None:
    """The rows that a source hands out keep its own numbers: what is put into one stream is a copy."""
    pair.send(0, "/a", 1)
    pair.send(1, "/b", 2)
    rows: list[np.ndarray] = []
    drain = pair.sources[1].drain

    def watched() -> list[object]:
        items = drain()
        rows.extend(item.messages for item in items if isinstance(item, Batch))
        return list(items)

    pair.sources[1].drain = watched  # type: ignore[method-assign, assignment]
    pair.until(lambda: len(pair.values) == 2)
    assert rows[0]["channel"].tolist() == [0] and sorted(pair.numbers) == [0, 1]


def test_topics_come_and_go_in_all_sources() -> None:
    """Each source reads what it can of another list; one without an address can bring nothing new, and says so together with
    the others only."""
    pair = Pair(["/a"], ["/a"])
    try:
        wanted = [Wanted("/a"), Wanted("/b")]
        assert pair.both.unable(wanted) == set()
        pair.both.renew(wanted)
        pair.extractor = Extractor([Signal(one.topic, one.topic, "x") for one in wanted])
        pair.send(1, "/b", 3.0)
        pair.until(lambda: [name for name, *_ in pair.values] == ["/b"])
        pair.t += 10 * S
        pair.until(lambda: ("/a", Cause.NO_PUBLISHER) in pair.said)
        assert ("/b", Cause.NO_PUBLISHER) not in pair.said
    finally:
        pair.both.close()
        pair.context.destroy(linger=0)
    (nowhere,) = open_sources([], [Wanted("/a")], lambda: S)
    assert nowhere.unable(wanted) == {"/b"}
    nowhere.close()
