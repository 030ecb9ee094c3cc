"""Messages of a vehicle over MAVLink, as ``Channel | Batch | Damage`` (docs/mavlink.md).

One thread owns a source. :meth:`MavlinkSource.drain` takes what is queued, never waits, and makes one batch of it. What is no
frame, or nobody reads, is passed over. A vehicle whose heartbeat stops is a finding, and so is a line that loses messages.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.samples import MESSAGE, Cause
from edge_monitor.errors import ConfigError
from edge_monitor.mavlink.dialect import STATUSTEXT_SIZE, Wanted, dialect
from edge_monitor.mavlink.framing import DAMAGED, DONE, FOUND, GARBAGE, REFUSED, UNKNOWN, Found, Framer, warm
from edge_monitor.mavlink.links import LinkAddress, open_link
from edge_monitor.mavlink.requests import SIZE as REQUEST_SIZE
from edge_monitor.mavlink.requests import Request, request_of
from edge_monitor.mavlink.signing import Verifier
from edge_monitor.mavlink.statustext import PIECE_SIZE, Texts

from .senders import Sender
from .topics import SECOND, Counts, Limits, Status, Topic
from .wanted import Wanted as WantedTopic

__all__ = ["MavlinkSource"]

ROWS = 4096  #: messages of one drain
CARE = 10_000_000  #: ns between looks at the health of topics
#: Bytes of checksum for each byte received: noise costs no more. What is given up is the rest of a datagram, or of all that
#: has come down a line.
EFFORT, LINE_EFFORT = 4, 64
REQUESTS = 64  #: commands to us that wait


class MavlinkSource:
    """Live input over one link. Each message is stamped with the time at which its bytes are taken."""

    def __init__(
        self,
        address: LinkAddress,
        topics: Iterable[str],
        clock: Callable[[], int],
        limits: Limits | None = None,
        *,
        allow_plain: bool = False,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        """``topics``: ``mavlink/1/ATTITUDE`` and such; ``clock``: ns on CLOCK_BOOTTIME; ``wall``: ns since 1970, for signatures.
        Raises ``ConfigError``: pymavlink is missing, a topic is none, or an address will not do.
        """
        if not (address.is_local or address.signing or allow_plain):
            raise ConfigError(
                f"{address}: anyone on the network could send there: give ?signing=FILE, use a loopback address, or allow "
                "plain input explicitly"
            )
        messages = dialect()
        warm()
        self.address = address
        self.limits = limits or Limits()
        self.requests: deque[Request] = deque(maxlen=REQUESTS)  #: to be answered by whoever speaks for us
        self._clock = clock
        self._heartbeat, self._command = messages["HEARTBEAT"].index, messages["COMMAND_LONG"].index
        self._statustext = messages["STATUSTEXT"].index
        self._verifier = Verifier(address.signing, wall) if address.signing else None
        self._texts = Texts()
        self._senders: dict[int, Sender] = {}
        self._topics: list[Topic] = []
        self._news: list[Channel | Batch | Damage] = []
        self._status: list[Status] = []
        stream = address.kind in ("tcp", "serial")
        self._framer = Framer(
            messages.rows, messages.numbers, ROWS, must_sign=bool(address.signing), stream=stream,
            effort=LINE_EFFORT if stream else EFFORT,
        )  # fmt: skip
        for wanted in map(messages.wanted, topics):
            self._add(wanted)
        for kind in (self._heartbeat, self._command, self._statustext):
            self._framer.attend(kind)
        self._taken = np.zeros(len(self._topics), np.int64)
        self._unheard = set(range(len(self._topics)))
        self._pending: np.ndarray | None = None  # received, and not yet taken
        self._link = open_link(address)
        self.now = clock()  #: time of the newest message or look, ns
        self._begun = self._cared = self.now

    @property
    def sockets(self) -> list[int]:
        """What a poller should wait on."""
        return [self._link.fd]

    def drain(self) -> list[Channel | Batch | Damage]:
        """What is queued, up to some thousands of messages: channels the first time, then a batch, then damage."""
        now = self._tick()
        if self._pending is None:
            self._pending = self._link.receive(self._tick)
            self._framer.begin()
        items, self._news = self._news, []
        status, found = self._framer.parse(self._link.data, self._pending)
        if len(found.rows):
            rows = self._sorted_out(found)
            if len(rows):
                items.append(Batch(found.payloads, rows))
                self._hear(rows)
        if status == DONE:
            self._link.parsed(self._pending, self._framer.position)
            self._pending = None
        if now - self._cared >= CARE:
            self._care(now, items)
        return items

    def status(self) -> list[Status]:
        """Changes in what holds for whole topics since the last call, to be taken at :attr:`now`."""
        found, self._status = self._status, []
        return found

    def unable(self, wanted: Sequence[WantedTopic]) -> set[str]:
        """Topics that it can't begin to read while it runs."""
        read = {topic.name for topic in self._topics}
        return {one.topic for one in wanted if one.topic not in read}

    def renew(self, wanted: Sequence[WantedTopic]) -> None:
        """What is read stays; what it is :meth:`unable` to read is not begun."""

    @property
    def lost(self) -> int:
        """Messages that were lost on the way, of the senders that topics are read of."""
        return sum(int(self._framer.senders[key]["lost"]) for key in self._senders)

    @property
    def counts(self) -> dict[str, Counts]:
        """What came on each topic, by its name."""
        for topic, taken in zip(self._topics, self._taken.tolist(), strict=True):
            topic.counts.taken = taken
        return {topic.name: topic.counts for topic in self._topics}

    def describe(self) -> list[str]:
        """One line: the address, who was heard there, and what was no message."""
        framer = self._framer
        heard = np.flatnonzero(framer.senders["frames"])[:8].tolist()
        who = ", ".join(f"{key >> 8}/{key & 255}" for key in heard) or self._link.trouble or "nobody"
        counts = framer.counts.tolist()
        odd = {"unknown": UNKNOWN, "refused": REFUSED, "damaged": DAMAGED, "bytes of garbage": GARBAGE}
        more = "".join(f", {counts[number]} {name}" for name, number in odd.items() if counts[number])
        return [f"{self.address}: heard {who}; {counts[FOUND]} messages, {self.lost} lost{more}"]

    @property
    def stamp(self) -> int:
        """Now, as signatures count it; 0 where there are none."""
        return self._verifier.stamp if self._verifier is not None else 0

    def send(self, message: bytes) -> None:
        """Send to the vehicles that were heard. What can't be sent at once is dropped."""
        self._link.send(message)

    def close(self) -> None:
        """Give the link back."""
        self._link.close()

    def _tick(self) -> int:
        self.now = max(self.now, self._clock())
        return self.now

    def _add(self, wanted: Wanted) -> None:
        number = len(self._topics)
        same = [each.name for each in self._topics if each.name.removeprefix("/") == wanted.topic.removeprefix("/")]
        if same:
            raise ConfigError(f"topics {same[0]} and {wanted.topic} are the same: write one of them")
        topic = Topic(wanted.topic, self.limits)
        self._topics.append(topic)
        sender = Sender(wanted.system, wanted.component)
        sender = self._senders.setdefault(sender.key, sender)
        sender.topics.append(topic)
        if wanted.kind.index == self._statustext:
            sender.texts.append(topic)
        self._framer.route(wanted.kind.index, wanted.system, wanted.component, number, wanted.instance)
        self._news.append(Channel(number, wanted.topic, wanted.kind.name, "packed", "ulog", wanted.kind.definition))

    def _sorted_out(self, found: Found) -> np.ndarray:
        """The rows that go on: those with a channel, believed, texts whole. What is for us is taken out."""
        rows, frames = found.rows, found.frames
        special = np.flatnonzero(frames["attend"] != 0).tolist()
        if self._verifier is not None:
            forged = [n for n in range(len(rows)) if not self._verifier.accepts(self._bytes(frames[n]))]
            rows["channel"][forged] = -1
            self._framer.counts[REFUSED] += len(forged)
            special = sorted(set(special) - set(forged))
        elif not special:
            return rows
        for n in special:
            frame, row = frames[n], rows[n]
            start, system, component = int(row["start"]), int(frame["system"]), int(frame["component"])
            if frame["kind"] == self._heartbeat:
                sender = self._senders.get(system << 8 | component)
                self._tell(*(sender.beat(int(row["t"])) if sender is not None else ()))
            elif frame["kind"] == self._command:
                payload = found.payloads[start : start + REQUEST_SIZE].tobytes()
                request = request_of(system, component, payload, self.address)
                self.requests += [request] if request is not None else []
            elif row["channel"] >= 0:
                piece = found.payloads[start : start + PIECE_SIZE].tobytes()
                text = self._texts.take(int(row["t"]), system, component, piece)
                if text is None:
                    row["channel"] = -1
                else:
                    found.payloads[start : start + STATUSTEXT_SIZE] = np.frombuffer(text, np.uint8)
        return rows[rows["channel"] >= 0]

    def _bytes(self, frame: np.void) -> bytes:
        start = int(frame["start"])
        return self._link.data[start : start + int(frame["size"])].tobytes()

    def _hear(self, rows: np.ndarray) -> None:
        self._taken += np.bincount(rows["channel"], minlength=len(self._taken))
        for number in [number for number in self._unheard if self._taken[number]]:
            self._unheard.remove(number)
            self._tell(self._topics[number].appear())

    def _care(self, now: int, items: list[Channel | Batch | Damage]) -> None:
        """Tell who is silent, what was lost, and what has healed."""
        self._cared = now
        for number in self._unheard:
            topic = self._topics[number]
            if topic.cause == Cause.NONE and now - self._begun >= self.limits.grace and not topic.heard:
                self._tell(topic.absent(f"nothing came in {(now - self._begun) / SECOND:.0f} s; {self.describe()[0]}"))
        for sender in self._senders.values():
            self._tell(*sender.count(self._framer.senders[sender.key], now), *sender.care(now))
            account = sender.account(now)
            if account is not None:
                items.append(account)
        for system, component, text in self._texts.late(now):
            channel = self._framer.channel(self._statustext, system, component)
            row = np.array([(now, 0, len(text), channel)], MESSAGE)
            items.append(Batch(np.frombuffer(text, np.uint8), row))

    def _tell(self, *found: Status | None) -> None:
        self._status += [status for status in found if status is not None]
