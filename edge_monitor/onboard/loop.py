"""``Onboard``: the loop of the engine's thread, which owns sockets, decisions and outputs (docs/architecture.md).

One turn: receive what is queued, decide, let time pass to now, publish, and only then the heartbeat. Time comes in through
``clock`` and nowhere else.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import zmq

from ..core.commands import Command
from ..core.messages import Batch, Damage
from ..envelope import Envelope
from ..errors import UsageError
from ..events import Event, from_rejection
from ..journal import Digests
from ..journaling import at_once, entry
from ..reexecution import BESIDE
from ..runtime import Monitor
from ..sources.live import Item, LiveSource
from ..sources.topics import Status
from ..tape import Ring
from .access import Access
from .control import Reply
from .desk import Desk
from .history import kernel_boot
from .keeper import Keeper
from .own_signals import OwnState, own_batch, own_channel
from .publication import Publication
from .raw_recorder import RawRecorder
from .reloading import ACTIVE, REFUSED, SWITCHED, Job, Reloading
from .scribe import Scribe

if TYPE_CHECKING:
    from .courier import Courier

#: A turn begins so long after the last one at the earliest: what comes in between is decided together.
TURN_NS = 500_000
#: the same with a ROS 2 graph, whose messages are stamped when they come: a turn for each costs far more than taking it,
GRAPH_TURN_NS = 10_000_000
#: and, messages or not, so long after it at the latest (SEMANTICS §1).
LONGEST_MS = 10
LOOKED = 10  #: turns between looks at all sockets, heard of or not, where no poller does that
#: Between reports of the monitor's own state, where nothing of it changes.
OWN_NS = 500_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """When the monitor no longer trusts its own record. ``patience_ns``: an entry may wait so long for the disk."""

    patience_ns: int = 1_000_000_000


class Output(Protocol):
    """Someone else who is told of decisions, in the engine's thread. Never waits."""

    def tell(self, event: Event, now: int) -> None:
        """An event is published."""

    def turn(self, now: int) -> Sequence[Command]:
        """A turn is complete: send what is due. Answers commands that come of it."""


@dataclass(slots=True)
class _Account:
    """What the loop has been up to, for the own state."""

    longest_ns: int = 0
    turns: int = 0
    reported: int = 0
    own: tuple[bool, int] | None = None  #: what was reported last: failed, refused


class Onboard:
    """Drives a ``Monitor`` live. Everything it needs is handed to it; ``turn`` is one turn, ``run`` many."""

    def __init__(
        self,
        monitor: Monitor,
        source: LiveSource,
        scribe: Scribe,
        publication: Publication,
        clock: Callable[[], int],
        *,
        ring: Ring | None = None,
        keeper: Keeper | None = None,
        raw: RawRecorder | None = None,
        tell: Callable[[Event], None] | None = None,
        notify: Callable[[str], None] | None = None,
        outputs: Sequence[Output] = (),
        limits: Limits = Limits(),
        simulated: bool = False,
        turn_ns: int = TURN_NS,
    ) -> None:
        """``tell``: gets each event. ``notify``: gets words for the service manager after each heartbeat and before the end.
        ``simulated``: ``clock`` is a simulator's, which no later run can go on from. ``turn_ns``: what comes within so long is
        decided together."""
        self.monitor = monitor
        self.publication = publication
        self.scribe = scribe
        self._source = source
        self._clock = clock
        self._ring = ring
        self._keeper = keeper
        self._raw = raw
        self._monitored = {signal.topic for signal in monitor.envelope.signals}
        self._desk: Desk | None = None
        self._access: Access | None = None
        self._courier: Courier | None = None
        self._reloading: Reloading | None = None
        self._switched: Job | None = None  # its envelope is in force, and the journal does not hold that yet
        self._tell = tell
        self._notify = notify
        self._outputs = outputs
        self._limits = limits
        self._turn_ns = turn_ns
        self._clock_words = {"clock": "simulated"} if simulated else {"kernel_boot": kernel_boot()}
        self._told = monitor.decider.told
        self._account = _Account()
        self._own = 1 << 20  # a channel number that no source reaches
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller = zmq.Poller()
        for socket in source.sockets:
            self._poller.register(socket, zmq.POLLIN)
        self._poller.register(self._wake, zmq.POLLIN)
        self._last = 0

    def serve(self, control: zmq.Socket[Any], answer: Callable[[bytes, int], Reply]) -> None:
        """Take requests from a ROUTER socket; ``answer`` gets each and the time, ns."""
        self._desk = Desk(control, answer)
        self._poller.register(control, zmq.POLLIN)

    def admit(self, access: Access) -> None:
        """Look after who may connect."""
        self._access = access
        access.poll_with(self._poller)

    def sync(self, courier: Courier) -> None:
        """Bring the journal to a registry for as long as the loop runs."""
        self._courier = courier

    def renewing(
        self,
        reloading: Reloading,
        digests: Callable[[Envelope], Digests],
        also: Sequence[Callable[[Envelope], None]] = (),
    ) -> None:
        """Put in force what ``reloading`` has prepared; ``digests``: what records bear under an envelope; ``also``: who else
        must know which one is."""
        self._reloading, self._digests, self._also_renewed = reloading, digests, also

    def wake(self) -> None:
        """Let the loop turn soon; any thread may call it."""
        os.eventfd_write(self._wake, 1)

    def begin(self, announced: Sequence[Event] = (), orders: Sequence[Command] = ()) -> None:
        """The first events: the stream begins now. ``announced``: the process's own, such as what it was approved by;
        ``orders``: commands that an earlier run left."""
        now = self._clock()
        self.monitor.feed(own_channel(self._own))
        own = self._report(now)
        self._hand_out(self.monitor.feed(own) if own is not None else [], now)
        for order in orders:
            self.obey(order, now)
        for event in announced:
            self.announce(replace(event, t_effective=now, t_decided=now), now)

    def run(self, stop: Callable[[], bool]) -> None:
        """Turn until ``stop`` says so, then end cleanly: no gate stays GO, and the journal gets its end mark."""
        while not stop():
            self.turn()
        self.end()

    def turn(self, wait_ms: int = LONGEST_MS) -> None:
        """One turn; waits at most ``wait_ms`` for something to come, beyond the time between turns."""
        early = self._turn_ns - (self._clock() - self._last)
        slept = 0 < early <= self._turn_ns
        if slept:  # before it is asked what has come: one that sleeps twice costs twice as much
            time.sleep(early / 1e9)
            wait_ms = max(0, wait_ms - -(-early // 1_000_000))
        # None, where there is nothing to wait for: asking ZeroMQ of all sockets costs more than the rest of an idle turn.
        ready = None if slept and not wait_ms else dict(self._poller.poll(wait_ms))
        begun = self._last = self._clock()
        if ready is not None and self._wake in ready:  # asking one that has not rung costs an exception
            os.eventfd_read(self._wake)
        items, told = self._source.drain(), self._source.status()
        now = max(self._clock(), self._source.now)
        self._hand_out(self._decide(items, told, now), now)  # before requests, whose events have later numbers
        if self._raw is not None:
            unread = [self._raw.tell(*one, self._source.now) for one in told if one.topic not in self._monitored]
            for event in (*unread, *self._raw.news(now)):
                self.announce(event, now)
        for event in self._courier.news() if self._courier is not None else ():
            self.announce(replace(event, t_effective=now, t_decided=now), now)
        look = self._account.turns % LOOKED == 0
        if self._access is not None:
            for event in self._access.attend(now, () if ready is None and not look else ready):
                self.announce(event, now)
        if self._desk is not None and (self._desk.asked(look) if ready is None else self._desk.socket in ready):
            self._desk.serve(now)
        if self._reloading is not None and (job := self._reloading.attend()) is not None:
            self._reload(job, self._reloading, now)
        if durable := self.scribe.durable():
            self.publication.durable(durable, now)
        if self._switched is not None and not self.publication.activating:
            self._switched.phase, self._switched = ACTIVE, None
        if self._desk is not None:
            self._desk.settle(durable)
        if self._keeper is not None:
            if durable:
                self._keeper.durable(durable)
            self._file(self._keeper, self._keeper.turn(now), now)
        if self.publication.beat(now) and self._notify is not None:
            self._notify("WATCHDOG=1")
        if self.publication.state_is_due(now):
            self.publication.state(now, self.beside())
        for output in self._outputs:
            for order in output.turn(now):
                self.obey(order, now)
        self._account.longest_ns = max(self._account.longest_ns, self._clock() - begun)
        self._account.turns += 1

    def _decide(self, items: list[Item], told: Sequence[Status], now: int) -> list[Event]:
        """Take what has come and what there is to tell of topics and of the monitor itself, and let time pass to ``now``."""
        if self._raw is not None:
            for item in items:
                if not isinstance(item, Damage):
                    self._raw.take(item)
        monitor, own = self.monitor, self._report(now)
        last = items.pop() if items and not told and own is None and isinstance(items[-1], Batch) else own
        found: list[Event] = []
        for item in items:
            found += monitor.feed(item)
        for topic, cause, _ in told:
            found += monitor.status(topic, cause, self._source.now)
        return found + (monitor.until(now) if last is None else monitor.step(last, now))

    def end(self) -> None:
        """Revoke every GO, write the end mark, and give everything back."""
        if self._notify is not None:
            self._notify("STOPPING=1")
        now = self._clock()
        self.publication.withhold("the monitor has stopped", now)
        self._hand_out(self.monitor.until(now), now)
        if self._keeper is not None:  # before the end mark, behind which the run has no records
            self._file(self._keeper, self._keeper.end(now), now)
        self._hand_out(self.monitor.finish(), now)
        self.publication.revoke(now)
        if self._courier is not None:
            self._courier.close()
        self.scribe.close()
        if self._keeper is not None:
            self._keeper.close(self.scribe.durable())
        if self._raw is not None:
            self._raw.close()
        self._source.close()
        if self._ring is not None:
            self._ring.close()
        os.close(self._wake)

    def beside(self) -> dict[str, Any]:
        """How journal, source and loop stand, for whoever asks."""
        health = self.scribe.health()
        return {
            "journal": {
                "failure": health.failure,
                "waiting": health.waiting,
                "refused": health.refused,
                "durable": health.durable,
                "head": health.head,
            },
            **({"sync": self._courier.status()} if self._courier is not None else {}),
            **({"reload": self._reloading.status()} if self._reloading is not None else {}),
            **({"incidents": self._keeper.status()} if self._keeper is not None else {}),
            **({"raw": self._raw.status()} if self._raw is not None else {}),
            "source": {"lost": self._source.lost},
            "loop": {"turns": self._account.turns, "samples": int(self.monitor.engine.head["samples"])},
        }

    def obey(self, order: Command, now: int) -> tuple[list[int | None], str]:
        """Carry out a command; answers the tickets of its events, and why it was not carried out."""
        found, refused = self.monitor.command(order)
        return self._hand_out(found, now), refused

    def _reload(self, job: Job, reloading: Reloading, now: int) -> None:
        """Put an envelope in force, or write down why it is not."""
        if job.prepared is None:
            self.announce(from_rejection(job.reasons, job.which, self.monitor.envelope.id, now), now)
            return
        found, refused = self.monitor.reload(job.prepared, replace(job.order, t=now))
        if refused:
            reasons = found[-1].payload["reasons"] if found else []
            job.reject([(r["code"], r["message"]) for r in reasons] or [("refused", refused)], REFUSED)
        else:
            envelope, approval = self.monitor.envelope, job.approval
            reloading.unapproved = approval is not None and approval.unapproved
            self.publication.renew(now, unapproved=reloading.unapproved)
            self.scribe.digests = self._digests(envelope)
            self._source.renew(reloading.wanted(envelope))
            self._monitored = {signal.topic for signal in envelope.signals}
            for renew in self._also_renewed:
                renew(envelope)
            if self._keeper is not None:
                self._keeper.renew(envelope.black_box)
            job.phase, self._switched = SWITCHED, job
        self._hand_out(found, now)

    def announce(self, event: Event, now: int) -> int | None:
        """Journal and publish an event that is the process's own, no decision; answers its ticket."""
        ticket = self.scribe.put(entry(event, now=at_once(event)), now)
        self._publish(event, ticket, now)
        return ticket

    def keep(self, person: str, reason: str, now: int) -> list[int | None]:
        """A person asks that the window around now be kept; answers the ticket of the event. Raises ``UsageError``."""
        if self._keeper is None:
            raise UsageError("the monitor runs without --tapes: there is nothing to keep")
        payload = {"person": person, "cause": reason}
        return [self.announce(Event("incident.requested", "operator", now, now, "negligible", payload), now)]

    def _file(self, keeper: Keeper, asked: list[Event], now: int) -> None:
        """Journal what the keeper asks for."""
        if asked:
            keeper.filed([self.announce(replace(event, t_effective=now, t_decided=now), now) for event in asked])

    def _hand_out(self, found: list[Event], now: int) -> list[int | None]:
        tickets: list[int | None] = []
        for event in found:
            urgent = at_once(event)
            own: dict[str, Any] = {"event": self._told}
            if event.type == "monitor.started":
                own |= self._clock_words
            self._told += 1
            if urgent and self._ring is not None:
                block, end, digest = self._ring.anchor()
                own["tape"] = [block, end, digest.hex()]
            ticket = self.scribe.put(entry(event, now=urgent, **{BESIDE: own}), now)
            self._publish(event, ticket, now)
            tickets.append(ticket)
        return tickets

    def _publish(self, event: Event, ticket: int | None, now: int) -> None:
        self.publication.tell(event, ticket, now)
        if self._keeper is not None:
            self._keeper.tell(event)
        for output in self._outputs:
            output.tell(event, now)
        if self._tell is not None:
            self._tell(event)

    def _report(self, now: int) -> Batch | None:
        """The monitor's own state, where it changed or some time has passed; and whether GO may be given at all."""
        account = self._account
        soon = now - account.reported < OWN_NS
        if soon and account.own == (False, self.scribe.refused) and self.scribe.idle and not self.publication.withheld:
            return None
        health = self.scribe.health()
        age = now - health.oldest if health.waiting else 0
        late = age > self._limits.patience_ns
        failed = bool(health.failure) or late
        why = health.failure or (f"the disk has not answered for {age / 1e9:.1f} s" if late else "")
        if why or self.publication.withheld:
            self.publication.withhold(f"journal: {why}" if why else "", now)
        state = (failed, health.refused)
        if soon and state == account.own:
            return None
        own = OwnState(
            float(not failed), age / 1e9, health.waiting / self.scribe.capacity, float(health.refused),
            account.longest_ns / 1e9, float(self._source.lost),
            self._courier.bundle_age() if self._courier is not None else math.nan,
        )  # fmt: skip
        account.own, account.reported, account.longest_ns = state, now, 0
        return own_batch(self._own, now, own)
