"""Messages of a ROS 2 graph, as ``Channel | Batch | Damage``, without ROS installed: a participant of its domain.

One thread owns a source. Subscriptions are raw: a message is its serialized bytes, which the layout reads as those of a
recording. A reader is best-effort and volatile unless the envelope asks for more, so that no publisher ever waits for it.
What the middleware keeps quiet about is found by comparing with what is announced: no publisher, another type or another
version of it, QoS that does not fit; it becomes the cause of the topic's signals, and the other topics go on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.samples import Cause
from edge_monitor.dds.entities import Came, Gone, News, Publication, Qos
from edge_monitor.dds.taking import TAKEN, Takings
from edge_monitor.envelope.problems import nearest
from edge_monitor.ros.definitions import Definitions
from edge_monitor.ros.names import dds_topic, dds_type, full_type, is_topic, ros_type

from .topics import SECOND, Counts, Limits, Status, Topic
from .wanted import Wanted

CARE = 100_000_000  #: ns between looks at the health of topics
STEP = 5_000_000  #: ns by which the clock of stamps must step to be measured anew
DEPTH = 2_000  #: messages that wait in a reader's queue
BULK_DEPTH = 8  #: the same of images and clouds, so that a stall costs little memory
BULK = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/PointCloud2")
#: Larger and faster than what comes over ZeroMQ: whole images, and sensors at 10 kHz.
LIMITS = Limits(frame_bytes=1 << 24, rate=20_000.0, buffer_bytes=1 << 25)
POLICIES = {1: "user data", 2: "durability", 3: "presentation", 4: "deadline", 5: "latency budget", 6: "ownership",
            8: "liveliness", 10: "partition", 11: "reliability", 12: "destination order", 24: "type consistency",
            25: "data representation"}  # fmt: skip


class Tap(Protocol):
    """A reader of one topic; :class:`~edge_monitor.dds.entities.Reader` says more of each."""

    qos: Qos
    type: str

    @property
    def handle(self) -> Any:
        """What messages are taken with."""

    @property
    def rung(self) -> bool:
        """Whether there may be messages."""

    def look(self) -> int: ...
    def came(self, arrived: int) -> Came | None: ...
    def account(self, arrived: int, taken: int, *, more: bool) -> int: ...
    def news(self) -> News | None: ...
    def close(self) -> None: ...


class Graph(Protocol):
    """A place in a ROS 2 graph: a DDS participant, or a node of ROS."""

    domain: int

    def news(self) -> Sequence[Publication | Gone]:
        """Publishers that came, changed or went since the last call."""

    def reader(self, topic: str, type_name: str, qos: Qos, eventfd: int, type_hash: str = "") -> Tap:
        """A reader of serialized messages; names as DDS has them."""

    def close(self) -> None:
        """Leave."""


class Bucket(Protocol):
    """Takes messages with a reader's handle, and makes one batch of them: as ``Takings`` does."""

    size: int

    def take(self, handle: Any) -> int: ...
    def keep(self, count: int, t: int, channel: int, came: Came | None = None, floor: int = 0) -> tuple[int, int]: ...
    def drop(self, count: int) -> int: ...
    def batch(self) -> Batch | None: ...


class Subscription:
    """One topic that the envelope reads: its publishers, its reader once a type is known, and what is wrong with it."""

    def __init__(self, wanted: Wanted, limits: Limits) -> None:
        self.wanted = wanted
        self.topic = Topic(wanted.topic, limits)
        self.type = full_type(wanted.type or "")  #: the one that is read; empty: whatever comes first
        self.hash = ""  # of the definition in use
        self.channel = -1  #: -1: no definition yet
        self.reader: Tap | None = None
        self.publishers: dict[bytes, Publication] = {}
        self.had = False  #: there has been a publisher that could be read
        self.silent = False  #: all publishers broke their promise to say that they are alive
        self.refused = ""  #: a QoS policy that the middleware refused, and that the announcement did not show

    def wrong(self) -> tuple[Cause, str] | None:
        """Why a publisher's messages can't come or can't be read; None where all can."""
        found = next((wrong for one in self.publishers.values() if (wrong := self._wrong(one))), None)
        if found is None and self.refused:
            return Cause.QOS, f"a publisher's {self.refused} does not fit"
        return found

    def _wrong(self, one: Publication) -> tuple[Cause, str] | None:
        type_name = ros_type(one.type)
        if type_name != self.type:
            said = "the envelope says" if self.wanted.type else "another one"
            return Cause.TYPE_MISMATCH, f"a publisher sends {type_name}, {said} {self.type}"
        if self.channel < 0:
            message = f"the definition of {type_name} is not known here: give the folder of its package with --messages"
            return Cause.TYPE_MISMATCH, message
        if one.type_hash and self.hash and one.type_hash != self.hash:
            return Cause.TYPE_MISMATCH, f"publishers have different versions of {type_name}"
        asked = self.wanted.qos
        if asked.reliable and not one.reliable:
            return Cause.QOS, "a publisher is best_effort, the envelope asks for reliable"
        if asked.latched and not one.latched:
            return Cause.QOS, "a publisher is volatile, the envelope asks for latched (transient_local)"
        if asked.deadline and not 0 < one.deadline <= asked.deadline:
            promised = f"one of {one.deadline / 1e6:g} ms" if one.deadline else "none"
            message = (
                f"a publisher promises {promised}, the envelope asks for a deadline of {asked.deadline / 1e6:g} ms"
            )
            return Cause.QOS, message
        return None

    def describe(self) -> str:
        """The topic, who publishes it, and what was last said of it."""
        count = len(self.publishers)
        text = f"{self.topic.name}: {count} publisher{'' if count == 1 else 's'} of {self.type or 'any type'}"
        return text + (f", {self.topic.cause.name.lower()}" if self.topic.cause else "")


class DdsSource:
    """Live input from a ROS 2 domain. Each message is stamped with the time at which it is taken out of its queue, or with
    that of its arrival (``reached``)."""

    def __init__(
        self,
        participant: Graph,
        wanted: Sequence[Wanted],
        clock: Callable[[], int],
        limits: Limits = LIMITS,
        definitions: Definitions | None = None,
        wall: Callable[[], int] = time.time_ns,
        takings: Bucket | None = None,
    ) -> None:
        """``participant`` belongs to this object from now on. ``clock``: ns on CLOCK_BOOTTIME; ``wall``: on the clock of the
        publishers' stamps, which measures latencies and nothing else; ``takings``: what a graph other than DDS needs."""
        self.participant = participant
        self._clock, self._wall = clock, wall
        self._limits = limits
        self._definitions = definitions or Definitions()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._unread = self._stale = False  # it may be rung; and nobody has rung since that was not heard
        self._takings: Bucket = takings or Takings(limits.frame_bytes)
        self._subscriptions = {one.topic: Subscription(one, limits) for one in wanted}
        self._by_name = {dds_topic(n): s for n, s in self._subscriptions.items() if is_topic(n)}
        self._names: dict[bytes, str] = {}  # of all topics that are published, by key of the publisher
        self._channels: dict[tuple[str, str, str], Channel] = {}
        self._new: list[Channel] = []
        self._status: list[Status] = []
        self._damage: list[Damage] = []
        self.now = clock()  #: time of the newest message or look, ns
        #: Where it is set, ``clock`` is CLOCK_BOOTTIME and messages are stamped when they came rather than when they are taken,
        #: but not before the time that this answers: what has been decided up to then stays so.
        self.reached: Callable[[], int] | None = None
        self._floor = 0
        self._begun, self._cared = self.now, 0
        self._offset = wall() - self.now
        for subscription in self._by_name.values():
            if subscription.type:
                self._read(subscription, subscription.type)

    @property
    def sockets(self) -> list[int]:
        """What a poller should wait on. News of the graph come without it: drain at least every 10 ms."""
        return [self._wake]

    def drain(self, messages: int = 4096, size: int = 1 << 22) -> list[Channel | Batch | Damage]:
        """What is queued, at most about ``messages`` and ``size`` bytes of it: new channels, then one batch, then damage.

        The batch holds until the next call. Ask :meth:`status` once these items are fed.
        """
        now = self._tick()
        if now - self._cared >= CARE:
            self._care(now)
        if self._stale:  # before it is looked who has rung: what rings from here on is for the next poller
            self._stale = self._unread = False
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)
        self._floor = now if self.reached is None else min(self.reached(), now)
        taken = 0
        heard = left = False
        for subscription in self._by_name.values():
            reader = subscription.reader
            while reader is not None and reader.rung:
                heard = True
                if taken >= messages or self._takings.size > size:
                    left = True
                    break
                taken += self._take(subscription, reader)
        # While messages come there is no need to read it, which costs as much as taking some of them.
        self._stale = self._unread and not heard
        self._unread = self._unread or heard
        if left:
            os.eventfd_write(self._wake, 1)
        items: list[Channel | Batch | Damage] = list(self._new)
        self._new.clear()
        batch = self._takings.batch()
        if batch is not None:
            items.append(batch)
        items += self._damage
        self._damage.clear()
        return items

    def status(self) -> list[Status]:
        """Changes in what holds for whole topics since the last call, in their order, to be taken at :attr:`now`."""
        found, self._status = self._status, []
        return found

    def unable(self, wanted: Sequence[Wanted]) -> set[str]:
        """Topics that it can't begin to read, or read in another way, while it runs."""
        read = {name: one.wanted for name, one in self._subscriptions.items()}
        return {one.topic for one in wanted if read.get(one.topic) != one}

    def renew(self, wanted: Sequence[Wanted]) -> None:
        """What is read stays; what it is :meth:`unable` to read is not begun."""

    @property
    def lost(self) -> int:
        """Messages that were dropped or lost, in all."""
        return sum(c.over_rate + c.over_size + c.invalid + c.gaps for c in self.counts.values())

    @property
    def counts(self) -> dict[str, Counts]:
        """What came on each topic, by its name."""
        return {name: one.topic.counts for name, one in self._subscriptions.items()}

    def describe(self) -> list[str]:
        """The domain, and a line for each topic that ROS could have."""
        lines = [one.describe() for one in self._by_name.values()]
        return [f"dds:{self.participant.domain}: {line}" for line in lines or ["nothing is read"]]

    def close(self) -> None:
        """Leave the domain."""
        for subscription in self._subscriptions.values():
            if subscription.reader is not None:
                subscription.reader.close()
        self.participant.close()
        os.close(self._wake)

    def __enter__(self) -> DdsSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tick(self) -> int:
        self.now = max(self.now, self._clock())
        return self.now

    def _take(self, subscription: Subscription, reader: Tap) -> int:
        """Take a reader's next messages; answers how many samples that were."""
        topic = subscription.topic
        arrived = reader.look()
        t = self._tick()
        count = self._takings.take(reader.handle)
        when = () if self.reached is None else (reader.came(arrived), self._floor)
        lost = reader.account(arrived, count, more=count == TAKEN)
        if lost:
            self._lose(topic, t, lost, f"{lost} messages came faster than they were taken")
        if not topic.admit(t, count):
            dropped = self._takings.drop(count)
            topic.counts.over_rate += dropped
            message = f"more than {self._limits.rate:g} messages a second: held back until it keeps to that"
            self._tell(topic.fault(t, Cause.OVERFLOW, message, dropped, hold=True))
        elif topic.held:
            dropped = self._takings.drop(count)
            topic.counts.over_rate += dropped
            topic.miss(dropped)
        else:
            kept, large = self._takings.keep(count, t, subscription.channel, *when)
            topic.counts.taken += kept
            if large:
                topic.counts.over_size += large
                message = f"a message of more than {self._limits.frame_bytes} bytes"
                self._tell(topic.fault(t, Cause.OVERFLOW, message, large))
        return count

    def _care(self, now: int) -> None:
        """Look at who publishes, and tell which topics have healed and what is wrong with the others."""
        self._cared = now
        offset = self._wall() - self._clock()
        if abs(offset - self._offset) > STEP:
            self._offset = offset
            self._channels = {key: replace(channel, stamp_offset=offset) for key, channel in self._channels.items()}
            self._new = list(self._channels.values())
        for news in self.participant.news():
            if isinstance(news, Gone):
                self._leave(news.key)
            else:
                self._appear(news)
        for subscription in self._by_name.values():
            if subscription.reader is not None:
                self._listen(subscription, subscription.reader, now)
        for subscription in self._subscriptions.values():
            self._judge(subscription, now)

    def _appear(self, one: Publication) -> None:
        """A publisher has come, or announces something else."""
        self._names[one.key] = one.topic
        subscription = self._by_name.get(one.topic)
        if subscription is None:
            return
        subscription.publishers[one.key] = one
        type_name = ros_type(one.type)
        others = [other for other in subscription.publishers.values() if other.key != one.key]
        if not subscription.wanted.type and not any(ros_type(other.type) == subscription.type for other in others):
            self._read(subscription, type_name, one.type_hash)
            return
        another = type_name == subscription.type and one.type_hash not in ("", subscription.hash)
        if another and not any(other.type_hash == subscription.hash for other in others):
            self._read(subscription, type_name, one.type_hash)

    def _leave(self, key: bytes) -> None:
        subscription = self._by_name.get(self._names.pop(key, ""))
        if subscription is not None and subscription.publishers.pop(key, None) is not None:
            subscription.refused = ""

    def _read(self, subscription: Subscription, type_name: str, type_hash: str = "") -> None:
        """Read messages of a type from now on, by the definition that has this hash."""
        if subscription.reader is not None and subscription.reader.type != dds_type(type_name):
            subscription.reader.close()
            subscription.reader = None
        subscription.type, subscription.channel = type_name, -1
        known = self._definitions.find(type_name, type_hash)
        if known is None:
            return
        subscription.hash = known.hash
        subscription.channel = self._channel(subscription.topic.name, type_name, known.text)
        if subscription.reader is None:
            asked = subscription.wanted.qos
            depth = asked.depth or (BULK_DEPTH if type_name in BULK else DEPTH)
            qos = Qos(asked.reliable, asked.latched, asked.deadline, depth)
            name = dds_topic(subscription.topic.name)
            subscription.reader = self.participant.reader(name, dds_type(type_name), qos, self._wake, known.hash)

    def _channel(self, topic: str, type_name: str, text: str) -> int:
        key = (topic, type_name, text)
        if key not in self._channels:
            channel = Channel(len(self._channels), topic, type_name, "cdr", "ros2msg", text, stamp_offset=self._offset)
            self._channels[key] = channel
            self._new.append(channel)
        return self._channels[key].id

    def _listen(self, subscription: Subscription, reader: Tap, now: int) -> None:
        """What the middleware says of a reader."""
        news, topic = reader.news(), subscription.topic
        if news is None:
            return
        if news.deadline:
            message = f"no message within the deadline of {reader.qos.deadline / 1e6:g} ms"
            self._tell(topic.fault(now, Cause.STALE, message, 0))
        if news.incompatible:
            subscription.refused = POLICIES.get(news.policy, f"policy {news.policy}")
        if news.lost:
            self._lose(topic, now, news.lost, f"{news.lost} messages were lost before they came here")
        if news.liveness is not None:
            subscription.silent = news.liveness.dead > 0 and not news.liveness.alive

    def _judge(self, subscription: Subscription, now: int) -> None:
        """Tell what has begun or ended to be wrong with a topic."""
        topic = subscription.topic
        healed = topic.heal(now)
        if healed is not None:
            status, lost = healed
            self._tell(status)
            if lost:
                self._damage.append(Damage(topic.name, "dropped or lost on the way", now, lost, topics=(topic.name,)))
        there = bool(subscription.publishers) and not subscription.silent
        if not there and topic.cause == Cause.NONE:
            if subscription.had or now - self._begun >= self._limits.grace:
                self._tell(topic.absent(self._absence(subscription, now)))
        elif there:
            wrong = subscription.wrong()
            if wrong is not None:
                self._tell(topic.fault(now, *wrong, 0))
            else:
                subscription.had = True
                self._tell(topic.appear())

    def _absence(self, subscription: Subscription, now: int) -> str:
        """Why nothing can come, in words that help."""
        if subscription.publishers:
            return "its publisher no longer says that it is alive"
        if subscription.had:
            return "its publisher is gone"
        name = subscription.topic.name
        if not is_topic(name):
            return f"{name!r} is no name of a ROS topic"
        published = {topic.removeprefix("rt") for topic in self._names.values() if topic.startswith("rt/")}
        like = nearest(f"/{name.removeprefix('/')}", published)
        hint = f"; {like} is published" if like else ""
        return f"nobody published it in {(now - self._begun) / SECOND:.0f} s on domain {self.participant.domain}{hint}"

    def _lose(self, topic: Topic, t: int, lost: int, message: str) -> None:
        topic.counts.gaps += lost
        self._tell(topic.fault(t, Cause.OVERFLOW, message, lost))

    def _tell(self, status: Status | None) -> None:
        if status is not None:
            self._status.append(status)
