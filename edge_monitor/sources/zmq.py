"""Messages from ZeroMQ sockets, as ``Channel | Batch | Damage`` (the wire format: docs/wire.md).

One thread owns a source. :meth:`ZmqSource.drain` takes what is queued, never waits, and makes one batch of it. Nothing that
a publisher sends raises: what is not in the format or over a limit is dropped, counted by topic, and told once as the cause
of that topic's signals; the other topics go on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

import zmq

from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.samples import Cause
from edge_monitor.errors import ConfigError

from .batches import BatchBuilder
from .curve import PUBLISH, Curve, Gatekeeper, Refusal
from .frames import STAMPED, FrameError, Streams, stamp_of
from .gathering import FRAMES, TURN, Gatherer
from .links import Endpoint, Link
from .topics import Counts, Limits, Status, Topic
from .wanted import Wanted

__all__ = ["Curve", "Endpoint", "Limits", "Status", "ZmqSource"]

CARE = 10_000_000  #: ns between looks at the health of topics


class ZmqSource:
    """Live input over ZeroMQ. Each message is stamped with the time at which it is taken out of its socket's queue."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        topics: Iterable[str],
        clock: Callable[[], int],
        limits: Limits | None = None,
        curve: Curve | None = None,
        *,
        allow_plain: bool = False,
        chance: Callable[[], float] = random.random,
        beside: Mapping[str, Callable[[bytes], None]] = {},
    ) -> None:
        """``topics``: those that are read, with or without a leading slash; ``clock``: ns on CLOCK_BOOTTIME, 0 while there is
        no time yet; ``chance``: numbers within [0, 1) for the jitter of reconnections; ``beside``: topics that are no
        input, and what takes their payloads. Raises :class:`ConfigError`: an address, key or limit that won't do, or an
        address that is taken.
        """
        self.limits = limits = limits or Limits()
        if limits.buffer_bytes < limits.frame_bytes + STAMPED or limits.rate <= 0:
            raise ConfigError("limits: buffer_bytes must hold a payload of frame_bytes, and rate be above 0")
        self._clock, self._chance = clock, chance
        self._topics: dict[bytes, Topic] = {}
        for name in topics:
            topic = Topic(name, limits)
            bare = name.removeprefix("/").encode()
            self._topics[bare] = self._topics[b"/" + bare] = topic
        takers = {name.removeprefix("/").encode(): take for name, take in beside.items()}
        self._beside = {start + name: take for name, take in takers.items() for start in (b"", b"/")}
        self._streams = Streams(limits)
        self._batch = BatchBuilder()
        self._gatherer = Gatherer()
        self._status: list[Status] = []
        self._damage: list[Damage] = []
        self.strangers: dict[
            str, int
        ] = {}  #: messages on topics that nobody reads, by topic; ``…``: those beyond the limit
        self.now = clock()  #: time of the newest message or look, ns
        self._begun, self._cared, self._turn = self.now, self.now, 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._keeper: Gatekeeper | None = None
        self._links: list[Link] = []
        try:
            if curve is not None and any(endpoint.bind and not endpoint.keyless for endpoint in endpoints):
                self._keeper = Gatekeeper(self._context, {PUBLISH: curve.allowed})
            names = [*(topic.name for topic in self._each_topic()), *beside]
            for endpoint in endpoints:
                self._links.append(Link(self._context, endpoint, names, limits, curve, allow_plain=allow_plain))
        except BaseException:
            self.close()
            raise

    @property
    def sockets(self) -> list[zmq.Socket[bytes]]:
        """What a poller should wait on; they stay the same. Some news come without one: drain at least every 10 ms."""
        keeper = [self._keeper.socket] if self._keeper is not None else []
        return [*(link.socket for link in self._links), *keeper]

    @property
    def addresses(self) -> list[str]:
        """Where each endpoint really is (a port that the system chose)."""
        return [link.socket.getsockopt_string(zmq.LAST_ENDPOINT) for link in self._links]

    def drain(self, messages: int = 4096, size: int = 1 << 22) -> list[Channel | Batch | Damage]:
        """What is queued, at most about ``messages`` and ``size`` bytes of it: new channels, then one batch, then damage.

        The batch holds until the next call. Ask :meth:`status` once these items are fed.
        """
        now = self._tick()
        if not self._begun:  # no time yet: whatever brings it is the last that is taken
            self._begun, messages = now, min(messages, 1)
        for link in self._links:
            link.attend(now, self._chance)
        if self._keeper is not None:
            self._keeper.serve(now)
        if now - self._cared >= CARE:
            self._care(now)
        size = min(size, self.limits.buffer_bytes - self.limits.frame_bytes - STAMPED)
        idle = taken = 0
        while idle < len(self._links) and taken < messages and self._batch.size <= size:
            link = self._links[self._turn]
            self._turn = (self._turn + 1) % len(self._links)
            most = min(TURN, messages - taken)
            got = self._receive(link, most, size)
            taken += got
            idle = 0 if got >= most else idle + 1
        items: list[Channel | Batch | Damage] = list(self._streams.take_new())
        batch = self._batch.take()
        if batch is not None:
            items.append(batch)
        items += self._damage
        self._damage.clear()
        return items

    def status(self) -> list[Status]:
        """Changes in what holds for whole topics since the last call, in their order, to be taken at :attr:`now`.

        They belong behind the batch of the same drain: a topic that is held back is unknown in spite of what came before.
        """
        found, self._status = self._status, []
        return found

    def refusals(self) -> list[Refusal]:
        """Keys that were refused since the last call; of one key the first time, the tenth, the hundredth…"""
        return self._keeper.refusals() if self._keeper is not None else []

    def unable(self, wanted: Sequence[Wanted]) -> set[str]:
        """Topics that it can't begin to read while it runs: none, if there is anything to read from."""
        return set() if self._links else {one.topic for one in wanted if one.topic.encode() not in self._topics}

    def renew(self, wanted: Sequence[Wanted]) -> None:
        """Read these topics from here on, and no others."""
        now = self._tick()
        names = {one.topic.removeprefix("/"): one.topic for one in wanted}
        for topic in self._each_topic():
            bare = topic.name.removeprefix("/")
            if names.pop(bare, None) is None:
                del self._topics[bare.encode()], self._topics[b"/" + bare.encode()]
                for link in self._links:
                    link.leave(bare)
        for bare, name in names.items():
            topic = Topic(name, self.limits, now)
            self._topics[bare.encode()] = self._topics[b"/" + bare.encode()] = topic
            for link in self._links:
                link.read(bare)

    @property
    def lost(self) -> int:
        """Messages that were dropped, or lost on the way, in all."""
        counts = self.counts.values()
        return sum(c.over_rate + c.over_size + c.invalid + c.gaps for c in counts)

    @property
    def counts(self) -> dict[str, Counts]:
        """What came on each topic, by its name."""
        return {topic.name: topic.counts for topic in self._each_topic()}

    def describe(self) -> list[str]:
        """A line for each endpoint: its address, and whether anyone has ever been at the other end."""
        return [link.describe() for link in self._links]

    def close(self) -> None:
        """Close all sockets."""
        for link in self._links:
            link.close()
        self._gatherer.close()
        if self._keeper is not None:
            self._keeper.close()
        self._context.destroy(linger=0)

    def __enter__(self) -> ZmqSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tick(self) -> int:
        now = self._clock()
        self.now = max(self.now, now)
        return self.now

    def _each_topic(self) -> Iterable[Topic]:
        return dict.fromkeys(self._topics.values())

    def _receive(self, link: Link, most: int, size: int) -> int:
        """Take messages out of a socket, until about ``most`` were looked at or the batch is above ``size``; how many."""
        room = size - self._batch.size
        rows, count, link.skipping = self._gatherer.take(link.socket.underlying, most, room, skipping=link.skipping)
        for row in rows:
            self._take(row)
        return count

    def _take(self, row: Sequence[int]) -> None:
        view = self._gatherer.view
        frames, extra, at, length, meta_at, meta_length, payload_at, payload_length, mark_at, mark_length = row
        name = view[at : at + length].tobytes()
        topic = self._topics.get(name)
        if topic is None:
            take = self._beside.get(name)
            if take is not None and frames >= 3:
                take(view[payload_at : payload_at + payload_length].tobytes())
            else:
                self._stranger(name)
            return
        t = self._tick()
        if not topic.heard:
            self._tell(topic.appear())
        try:
            if extra or frames < 3:
                raise FrameError(f"a message has {frames + extra} frames, not 3 or 4")
            meta = view[meta_at : meta_at + meta_length].tobytes()
            stream = self._streams.find(name, meta) or self._streams.open(topic, name, meta)
            mark = view[mark_at : mark_at + mark_length].tobytes() if frames == FRAMES else b""
            lost = stream.count(mark) if frames == FRAMES else 0
            if lost:
                topic.counts.gaps += lost
                self._tell(topic.fault(t, Cause.OVERFLOW, f"{lost} messages were lost before they came here", lost))
            if not topic.admit(t):
                topic.counts.over_rate += 1
                message = f"more than {self.limits.rate:g} messages a second: held back until it keeps to that"
                self._tell(topic.fault(t, Cause.OVERFLOW, message, 1, hold=True))
                return
            if payload_length > self.limits.frame_bytes:
                message = f"a payload of {payload_length} bytes, more than {self.limits.frame_bytes}"
                raise FrameError(message, Cause.OVERFLOW)
            if stream.channel < 0:
                message = f"its type {stream.meta.t!r} is not known: send its definition in the meta, as `d`"
                raise FrameError(message, Cause.TYPE_MISMATCH)
        except FrameError as error:
            if error.cause == Cause.OVERFLOW:
                topic.counts.over_size += 1
            else:
                topic.counts.invalid += 1
            self._tell(topic.fault(t, error.cause, str(error), 1))
            return
        if topic.held:
            topic.counts.over_rate += 1
            topic.miss()
            return
        topic.counts.taken += 1
        payload = view[payload_at : payload_at + payload_length]
        self._batch.add(t, stream.channel, payload, stamp_of(mark) if stream.stamped else b"")

    def _stranger(self, raw: bytes) -> None:
        name = raw[:64].decode("utf-8", "replace")
        if name not in self.strangers and len(self.strangers) >= self.limits.strangers:
            name = "…"
        self.strangers[name] = self.strangers.get(name, 0) + 1

    def _care(self, now: int) -> None:
        """Tell which topics have healed, and which nobody publishes."""
        self._cared = now
        for topic in self._each_topic():
            healed = topic.heal(now)
            if healed is not None:
                status, lost = healed
                self._tell(status)
                self._damage.append(Damage(topic.name, "dropped or lost on the way", now, lost, topics=(topic.name,)))
            if (
                not topic.heard
                and topic.cause == Cause.NONE
                and now - max(self._begun, topic.begun) >= self.limits.grace
            ):
                seconds = (now - max(self._begun, topic.begun)) / 1e9
                self._tell(topic.absent(f"nothing came in {seconds:.0f} s; {'; '.join(self.describe())}"))

    def _tell(self, status: Status | None) -> None:
        if status is not None:
            self._status.append(status)
