"""What acts on the monitor's answers: a GO holds here only while a lease and a fresh heartbeat say so (SEMANTICS §4).

``Consumer`` is a pure machine (time is an argument, memory is fixed at construction); ``consumer/edge_lease.h`` is the same one
in C, step for step. ``Subscriber`` feeds it from a ZeroMQ socket. The rules, numbered, are in docs/consumer.md.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from .errors import UsageError
from .outputs.wire import (
    HEARTBEAT_TOPIC,
    LEASE_TOPIC,
    TIME_LIMIT,
    Heartbeat,
    Lease,
    WireError,
    decode_heartbeat,
    decode_lease,
    gate_bytes,
)

if TYPE_CHECKING:
    import zmq

HEARTBEAT_TIMEOUT_NS = 180_000_000
#: A stamp so much ahead of the consumer's clock was not made by that clock.
AHEAD_NS = 10_000_000
MAX_GATES = 16
#: How many boots before the present one are remembered, never to be taken again.
RETIRED_BOOTS = 8
#: Two crystals part by at most 200 ppm: one ns in 5,000. So fast may the smallest offset seen be forgotten.
DRIFT = 5_000


class Reason(IntEnum):
    """Why a gate is answered so; everything but GO is a NO_GO."""

    GO = 0
    NOT_WATCHED = 1  #: the consumer was not made for this gate
    NO_HEARTBEAT = 2  #: none was ever taken
    HEARTBEAT_LATE = 3  #: the newest one is as old as the timeout, or older
    NEVER_RECEIVED = 4  #: no lease of this gate was taken
    NEW_BOOT = 5  #: the monitor has started anew and not answered for this gate yet
    LOST = 6  #: a message was lost since the lease: it may have been the NO_GO
    REVOKED = 7  #: the newest lease says NO_GO
    EXPIRED = 8  #: the newest lease said GO; its time is over
    UNAPPROVED = 9  #: the envelope is not approved, and the consumer does not accept that
    ENVELOPE = 10  #: the monitor's envelope is not the pinned one, or changed after the lease
    CLOCK = 11  #: the consumer's clock went back, or does not agree with the monitor's


class Taken(IntEnum):
    """What became of a message."""

    TAKEN = 0
    IGNORED = 1  #: another topic
    NOT_WATCHED = 2  #: in order, but a lease of a gate nobody asks for
    MALFORMED = 3  #: not a message of this format, or its topic names another gate
    OLD = 4  #: a duplicate, or overtaken by a newer one
    FOREIGN_BOOT = (
        5  #: of another boot while the present one is alive, of an earlier one, or a lease before any heartbeat
    )
    LATE = 6  #: a new boot's first heartbeat, too old to begin with
    ENVELOPE = 7  #: of another envelope than the pinned one
    CLOCK = 8  #: stamped ahead of the consumer's clock, or the time given is no time


@dataclass(frozen=True, slots=True)
class Answer:
    """May it act? ``go`` is true with ``Reason.GO`` only."""

    go: bool
    reason: Reason


_ANSWERS = {reason: Answer(reason == Reason.GO, reason) for reason in Reason}


class _Slot:
    """The newest lease of a watched gate; without one, ``why``. ``until``: the first ns at which it no longer counts."""

    __slots__ = ("go", "held", "issued", "life", "unapproved", "until", "why")

    def __init__(self) -> None:
        self.held = self.go = self.unapproved = False
        self.issued = self.life = self.until = 0
        self.why = Reason.NEVER_RECEIVED


class Consumer:
    """Takes heartbeats and leases, answers whether a gate is GO. One thread, one clock that counts suspend (CLOCK_BOOTTIME).

    gates: the ones that will be asked for, at most 16. heartbeat_timeout_ns: a heartbeat counts for less than so long.
    envelope: the digest (32 bytes) that leases must come from; None takes any. accept_unapproved: for the bench.
    other_clock: the monitor runs on another machine; ages count from the smallest transport offset seen, not from its stamps.
    every_lease: all leases are subscribed, so a gap in ``seq`` is a lost message and voids what was leased before it.
    UsageError when an argument is out of range.
    """

    def __init__(
        self,
        gates: Sequence[str],
        *,
        heartbeat_timeout_ns: int = HEARTBEAT_TIMEOUT_NS,
        envelope: bytes | None = None,
        accept_unapproved: bool = False,
        other_clock: bool = False,
        every_lease: bool = True,
    ) -> None:
        if isinstance(gates, str) or not 1 <= len(set(gates)) <= MAX_GATES:
            raise UsageError(f"a consumer watches 1 to {MAX_GATES} gates; give their names as a list")
        if not 1 <= heartbeat_timeout_ns <= 60_000_000_000:
            raise UsageError(f"heartbeat_timeout_ns is {heartbeat_timeout_ns}; give 1 ns to 60 s")
        if envelope is not None and len(envelope) != 32:
            raise UsageError(f"an envelope digest has 32 bytes, not {len(envelope)}")
        try:
            for gate in gates:
                gate_bytes(gate)
        except WireError as error:
            raise UsageError(f"{error}; name the gates as the envelope does") from None
        self._gates = tuple(dict.fromkeys(gates))
        self._timeout = heartbeat_timeout_ns
        self._pinned = envelope
        self._accept_unapproved = accept_unapproved
        self._other_clock = other_clock
        self._every_lease = every_lease
        self.counts = [0] * len(Taken)  #: messages by what became of them
        self.reset()

    def reset(self) -> None:
        """Forget everything received, earlier boots and the clock included: as new. ``counts`` stay."""
        self._slots = {gate: _Slot() for gate in self._gates}
        self._latest = 0
        self._boot: bytes | None = None
        self._retired: deque[bytes] = deque(maxlen=RETIRED_BOOTS)
        self._seq = 0
        self._envelope = b""
        self._heartbeat = False
        self._absent = Reason.NO_HEARTBEAT  # why there is no heartbeat
        self._alive_until = 0
        self._sent = 0
        self._unapproved = False
        self._offset: int | None = None  # the smallest of receive time - stamp
        self._offset_at = 0

    def take(self, topic: bytes, body: bytes, now_ns: int) -> Taken:
        """Take one message, received at ``now_ns``. Never raises for what the bytes are."""
        taken = self._take(topic, body, now_ns)
        self.counts[taken] += 1
        return taken

    def allowed(self, gate: str, now_ns: int) -> Answer:
        """Is the gate GO at ``now_ns``? A time before one already seen voids everything."""
        return _ANSWERS[self._reason(gate, now_ns)]

    def _reason(self, gate: str, now: int) -> Reason:
        if not self._passes(now):
            return Reason.CLOCK
        slot = self._slots.get(gate)
        if slot is None:
            return Reason.NOT_WATCHED
        if not self._heartbeat:
            return self._absent
        if now >= self._alive_until:
            return Reason.HEARTBEAT_LATE
        if not slot.held:
            return slot.why
        if not slot.go:
            return Reason.REVOKED
        if now >= slot.until:
            return Reason.EXPIRED
        if (slot.unapproved or self._unapproved) and not self._accept_unapproved:
            return Reason.UNAPPROVED
        return Reason.GO

    def _take(self, topic: bytes, body: bytes, now: int) -> Taken:
        if not self._passes(now):
            return Taken.CLOCK
        message: Heartbeat | Lease
        try:
            if topic == HEARTBEAT_TOPIC:
                message = decode_heartbeat(body)
                stamp = message.sent_ns
            elif topic.startswith(LEASE_TOPIC):
                message = decode_lease(body)
                stamp = message.issued_ns
                if topic[len(LEASE_TOPIC) :] != message.gate.encode():
                    return Taken.MALFORMED
            else:
                return Taken.IGNORED
        except WireError:
            return Taken.MALFORMED
        if message.boot != self._boot:
            refused = self._begin(message, stamp, now)
            if refused != Taken.TAKEN:
                return refused
        if message.seq <= self._seq:
            return Taken.OLD
        # From here on it is the newest message of this boot: whatever is wrong with it voids what came before.
        if self._every_lease and message.seq != self._seq + 1:
            self._void(Reason.LOST)
        self._seq = message.seq
        if self._pinned is not None and message.envelope != self._pinned:
            self._forget(Reason.ENVELOPE)
            return Taken.ENVELOPE
        if self._is_ahead(stamp, now):
            self._lose_clock()
            return Taken.CLOCK
        if message.envelope != self._envelope:
            self._void(Reason.ENVELOPE)
            self._envelope = message.envelope
        base = self._base(stamp, now)
        if isinstance(message, Heartbeat):
            self._heartbeat, self._sent, self._unapproved = True, stamp, message.unapproved
            self._alive_until = base + self._timeout
            return Taken.TAKEN
        slot = self._slots.get(message.gate)
        if slot is None:
            return Taken.NOT_WATCHED
        slot.held, slot.go, slot.unapproved = True, message.go, message.unapproved
        slot.issued, slot.life = stamp, message.expires_in_ns
        slot.until = base + slot.life
        return Taken.TAKEN

    def _passes(self, now: int) -> bool:
        """Let time pass; a clock that went back voids everything, and what is no time is refused."""
        if not 0 <= now < TIME_LIMIT:
            self._lose_clock()
            return False
        back = now < self._latest
        self._latest = now
        if back:
            self._lose_clock()
        return True

    def _begin(self, message: Heartbeat | Lease, stamp: int, now: int) -> Taken:
        """A message of another boot: only a fresh heartbeat begins one, only after the present one has fallen silent."""
        if not isinstance(message, Heartbeat) or message.boot in self._retired:
            return Taken.FOREIGN_BOOT
        if self._boot is not None and now < self._alive_until:
            return Taken.FOREIGN_BOOT
        if self._pinned is not None and message.envelope != self._pinned:
            self._forget(Reason.ENVELOPE)
            return Taken.ENVELOPE
        if self._is_ahead(stamp, now):
            self._lose_clock()
            return Taken.CLOCK
        if not self._other_clock and now >= stamp + self._timeout:
            return Taken.LATE
        if self._boot is not None:
            self._retired.append(self._boot)
            self._void(Reason.NEW_BOOT)
        self._boot = message.boot
        self._seq = message.seq - 1
        self._envelope = message.envelope
        self._offset = None
        return Taken.TAKEN

    def _is_ahead(self, stamp: int, now: int) -> bool:
        return not self._other_clock and stamp > now + AHEAD_NS

    def _base(self, stamp: int, now: int) -> int:
        """When a message began to count, on the consumer's clock: never later than its receipt."""
        if not self._other_clock:
            return min(now, stamp)
        offset = now - stamp
        if self._offset is not None:
            offset = min(offset, self._offset + (now - self._offset_at) // DRIFT)
        self._offset, self._offset_at = offset, now
        # A quicker message tells that the earlier ones were older than thought.
        if self._heartbeat:
            self._alive_until = min(self._alive_until, self._sent + offset + self._timeout)
        for slot in self._slots.values():
            if slot.held:
                slot.until = min(slot.until, slot.issued + offset + slot.life)
        return stamp + offset

    def _void(self, why: Reason) -> None:
        """No lease counts any more."""
        for slot in self._slots.values():
            slot.held, slot.go, slot.why = False, False, why

    def _forget(self, why: Reason) -> None:
        """Neither lease nor heartbeat counts any more."""
        self._void(why)
        self._heartbeat, self._absent = False, why

    def _lose_clock(self) -> None:
        """Nothing measured so far can be compared with the clock; the boot is presumed alive for one timeout."""
        self._forget(Reason.CLOCK)
        self._alive_until = self._latest + self._timeout
        self._offset = None


def boottime_ns() -> int:
    """The clock of the monitor and of consumers on its machine: monotonic, and suspend counts."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def headers() -> Path:
    """The folder of ``edge_lease.h``, ``edge_action.h`` and ``edge_report.h``, for a C compiler's ``-I``."""
    packaged = Path(__file__).parent / "consumer_c"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "consumer"


class Subscriber:
    """Feeds a consumer from a ZeroMQ SUB socket, and asks it only when the socket is drained.

    ``connect`` makes the socket; give an own one (subscribed to ``heartbeat`` and ``lease/``) for another transport.
    """

    #: Messages taken before an answer, at most. What stays behind is bounded by the age of the newest heartbeat taken.
    DRAIN = 4096

    def __init__(
        self, consumer: Consumer, socket: zmq.Socket[bytes], *, clock: Callable[[], int] = boottime_ns
    ) -> None:
        self.consumer = consumer
        self._socket = socket
        self._clock = clock

    @classmethod
    def connect(
        cls,
        consumer: Consumer,
        address: str,
        *,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        curve: tuple[str, str, str] | None = None,
    ) -> Subscriber:
        """Subscribe to the monitor's PUB socket at ``address``; ``curve``: own public and secret key, and the monitor's
        public one, Z85. UsageError when it is no address, or no key."""
        import zmq

        socket = (context or zmq.Context.instance()).socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, 1024)
        socket.setsockopt(zmq.SUBSCRIBE, HEARTBEAT_TOPIC)
        socket.setsockopt(zmq.SUBSCRIBE, LEASE_TOPIC)
        try:
            if curve is not None:
                socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = (key.encode() for key in curve)
            socket.connect(address)
        except (zmq.ZMQError, ValueError) as error:
            socket.close()
            raise UsageError(
                f"{address}: {error}; give the monitor's PUB address, such as ipc:///run/edge-monitor/out, and Z85 keys"
            ) from None
        return cls(consumer, socket)

    def poll(self, timeout_ms: int = 0) -> int:
        """Wait at most so long for a message, then take all that are there. Answers how many."""
        import zmq

        if not self._socket.poll(timeout_ms):
            return 0
        for taken in range(self.DRAIN):
            try:
                frames = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return taken
            topic, body = (frames[0], frames[1]) if len(frames) == 2 else (frames[0], b"")
            self.consumer.take(topic, body, self._clock())
        return self.DRAIN

    def allowed(self, gate: str) -> Answer:
        """Take what is there, then ask."""
        self.poll()
        return self.consumer.allowed(gate, self._clock())

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(0)

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
