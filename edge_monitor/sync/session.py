"""``Session``: the device's side of one session as a state machine; no socket, no clock, no thread (docs/sync.md §2).

It is told what came in and what time it is, and answers what to send. The registry is believed only under its receipt key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import EdgeMonitorError, VerificationError
from ..journal.cosignatures import CosignerKey, open_receipt
from . import wire
from .outbox import Head, Outbox

PING_NS = 10_000_000_000
SILENCE_NS = (
    3 * PING_NS
)  #: without an answer the session is over; what is on a slow way has four times what it needs besides
FIRST_WINDOW = 8 << 10  #: bytes without a receipt, before a link has shown what it carries
FAST_NS, SLOW_NS = (
    2_000_000_000,
    8_000_000_000,
)  #: from batch to receipt: less doubles what may be under way (a tenth of it: four times as much), more halves it
LEAST_RATE = 500.0  #: bytes a second that any link is taken to carry
ALERTS = 32  #: critical records that go ahead of a backlog, at most
BEHIND = 256  #: records that make a backlog


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a session ended; ``again``: whether trying again by itself can help."""

    code: str
    words: str
    again: bool


class Bucket:
    """A token bucket: at most ``rate`` bytes a second on average, ``rate`` at once; 0: no cap."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._tokens = float(rate)
        self._t = 0

    def wait_ns(self, now: int) -> int:
        """Ns until something may be sent."""
        if not self.rate:
            return 0
        self._tokens = min(float(self.rate), self._tokens + max(0, now - self._t) / 1e9 * self.rate)
        self._t = now
        return 0 if self._tokens > 0 else int(-self._tokens / self.rate * 1e9) + 1

    def take(self, size: int) -> None:
        """``size`` bytes are sent; what is too much is waited for afterwards."""
        self._tokens -= size


@dataclass(slots=True)
class Progress:
    """Where a session stands, for whoever asks. Sizes in records, time of the newest receipt in s since 1970."""

    state: str = "not connected"
    size: int = 0
    sent: int = 0
    receipted: int = 0
    receipt_time: int = 0
    refusal: Refusal | None = None
    held: int = -1  #: what the registry holds by its own word; -1: it was not asked since the start
    sent_bytes: int = 0
    batches: int = 0


@dataclass(frozen=True, slots=True)
class _Flying:
    """A batch without a receipt: up to which record, its bytes, and when it was sent (ns)."""

    end: int
    size: int
    since: int


@dataclass(slots=True)
class _Alerts:
    """Critical records that went ahead: up to where they were looked for, and which wait."""

    looked: int = 0
    waiting: deque[int] = field(default_factory=deque)


class Session:
    """One connection's worth. ``keep`` stores a receipt in the journal; it may do so later."""

    def __init__(
        self,
        outbox: Outbox,
        registry: CosignerKey,
        boot: bytes,
        software: str,
        keep: Callable[[str], object],
        progress: Progress,
        *,
        bundle: Callable[[wire.Bundle], None] | None = None,
        bundle_version: int = 0,
    ) -> None:
        self.progress = progress
        self.over: Refusal | None = None
        self.receipts = 0  #: in this session
        self.wanted: deque[wire.BlobWant] = deque()  #: what the registry asks for of files that it was offered
        self._outbox = outbox
        self._registry = registry
        self._boot = boot
        self._software = software
        self._keep = keep
        self._bundle = bundle
        self._bundle_version = bundle_version
        self._number = 0
        self._credit = 0
        self._flying: deque[_Flying] = deque()
        self._window = FIRST_WINDOW
        self._rate = LEAST_RATE  # bytes a second, as receipts show it
        self._next = 0
        self._alerts = _Alerts()
        self._heard = self._pinged = 0
        self._asked = -1  # since when an answer is waited for; -1: none is
        self._moved = 0  # when a receipt came
        self._short = 0  # the registry holds so many records, more than there were when it was greeted; 0: it does not

    @property
    def open(self) -> bool:
        """Whether the registry takes part."""
        return self._number > 0 and self.over is None

    def hello(self, now: int) -> bytes:
        """The first frame."""
        head = self._outbox.head()
        self._heard = self._pinged = self._asked = self._moved = now
        self._see(head)
        return self._greeting(head)

    def _greeting(self, head: Head) -> bytes:
        message = wire.Hello(
            (wire.PROTOCOL, wire.PROTOCOL), head.origin, self._boot, head.note, head.receipt, self._bundle_version, self._software
        )  # fmt: skip
        return wire.encode(message)

    def take(self, frame: bytes, now: int) -> None:
        """Something came in. What breaks the protocol ends the session."""
        self._heard, self._asked = now, -1
        try:
            message = wire.decode_downlink(frame)
            self._take(message)
        except VerificationError as error:
            self.over = Refusal("malformed", f"the registry sent what can't be: {error}", True)

    def send(self, now: int) -> list[bytes]:
        """Frames to send now: alerts, and one batch of the bulk, within credit; a ping where there is silence. Ask again at once
        where there were some."""
        if self._silent(now):
            self.over = Refusal("silence", "the registry does not answer: check the link", True)
        if not self.open:
            return []
        head = self._outbox.head()
        self._see(head)
        if head.size < self._short:
            self._short, self._number, self._asked = 0, 0, now
            return [self._greeting(head)]
        frames = [*self._alerting(head), *self._bulk(head, now)]
        if not frames and now - max(self._heard, self._pinged) >= PING_NS:
            frames = [wire.encode(wire.Ping(self._number))]
        if frames:
            self._pinged = now
            self._asked = now if self._asked < 0 else self._asked
        self.progress.sent_bytes += sum(map(len, frames))
        return frames

    def _silent(self, now: int) -> bool:
        """Whether an answer, or a receipt for what was sent, is overdue."""
        patience = SILENCE_NS + int(4e9 * sum(one.size for one in self._flying) / self._rate)
        if self._flying and now - max(self._moved, self._flying[0].since) > 2 * patience:
            return True  # it answers, and a receipt was lost on its way
        return 0 <= self._asked < now - patience

    def _see(self, head: Head) -> None:
        self.progress.size = head.size
        self.progress.receipted = max(self.progress.receipted, head.receipted)

    def _take(self, message: wire.Downlink) -> None:
        if isinstance(message, wire.Refused):
            self.over = Refusal(message.code, message.words, wire.REFUSALS.get(message.code, True))
        elif isinstance(message, wire.Welcome):
            self._welcome(message)
        elif not self.open:
            raise VerificationError("a message before its welcome")
        elif isinstance(message, wire.Receipt):
            self._received(message)
        elif isinstance(message, wire.Want):
            self._flying.clear()
            self._next = message.size
        elif isinstance(message, wire.BlobWant):
            self.wanted.append(message)
        elif isinstance(message, wire.Bundle) and self._bundle is not None:
            self._bundle(message)

    def _welcome(self, welcome: wire.Welcome) -> None:
        if self.open or welcome.protocol != wire.PROTOCOL or welcome.session < 1:
            raise VerificationError("a welcome that does not fit")
        self._number, self._credit, self._next = welcome.session, welcome.credit, welcome.size
        self._alerts.looked = welcome.size
        self._short = self.progress.held = welcome.size
        if welcome.receipt:
            self._store(welcome.receipt)
        self.progress.state = "connected"

    def _received(self, receipt: wire.Receipt) -> None:
        size = self._store(receipt.note)
        self.receipts += 1
        self._credit, self.progress.held = receipt.credit, max(self.progress.held, size)
        done = []
        while self._flying and self._flying[0].end <= size:
            done.append(self._flying.popleft())
        if done:
            self._paced(sum(one.size for one in done), self._heard - done[0].since)
            self._moved = self._heard

    def _paced(self, size: int, took: int) -> None:
        """As much goes under way as a link carries in seconds, so that it can be told from a dead one, and an alert from late."""
        # A small batch shows how long an answer takes, not what the link carries: it lets the rate fall by half at most.
        self._rate = max(LEAST_RATE, size * 1e9 / max(took, 1), self._rate / 2)
        if took < FAST_NS:
            self._window = min(self._window * (2 if took > FAST_NS // 10 else 4), wire.MAX_FRAME)
        elif took > SLOW_NS:
            self._window = max(self._window // 2, FIRST_WINDOW // 2)

    def _store(self, note: str) -> int:
        """Keep a receipt that holds; answers its size."""
        found = open_receipt(note, self._registry)
        if found.checkpoint.size > self.progress.receipted or found.time > self.progress.receipt_time:
            self._keep(note)
        self.progress.receipted = max(found.checkpoint.size, self.progress.receipted)
        self.progress.receipt_time = max(found.time, self.progress.receipt_time)
        return found.checkpoint.size

    def _alerting(self, head: Head) -> list[bytes]:
        """Critical records that would wait behind a backlog go ahead, once."""
        alerts = self._alerts
        if head.size - self._next > BEHIND and alerts.looked < head.size:
            alerts.waiting.extend(self._outbox.critical(max(alerts.looked, self._next + BEHIND), head.size, ALERTS))
        alerts.looked = max(alerts.looked, head.size)
        frames = []
        while alerts.waiting:
            p = self._outbox.proven(alerts.waiting.popleft())
            alert = wire.Alert(self._number, p.sequence, p.data, p.path, p.checkpoint, p.certificate)
            frames.append(wire.encode(alert))
        return frames

    def _bulk(self, head: Head, now: int) -> list[bytes]:
        """The next batch, where it may travel: one at a time, so that the registry has it while the one after is made."""
        flying = sum(one.size for one in self._flying)
        if self._next >= head.size or (self._flying and flying >= min(self._credit, self._window)):
            return []
        try:
            load = self._outbox.load(self._next, min(wire.MAX_BATCH, self._window))
        except EdgeMonitorError as error:
            self.over = Refusal("journal", str(error), False)
            return []
        if load is None:
            return []
        batch = wire.Batch(self._number, load.first, load.end - load.first, load.data, load.checkpoint)
        frame = wire.encode(batch)
        self._flying.append(_Flying(load.end, len(frame), now))
        self._next = self.progress.sent = load.end
        self.progress.batches += 1
        return [frame]
