"""``Decider``: samples, commands and time in, events out; all that a decision depends on, and nothing else.

Live, replayed and re-executed streams go through this one door, so that the same items give the same events. What it is
fed is what the black box records.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np

from . import __version__, events
from .core.advance import JUMP_NS
from .core.authority import Authority
from .core.check_spec import CheckSpec
from .core.engine import Engine
from .core.gates import Decision, Gates, instants
from .core.layout.text import TextTable
from .core.messages import Damage
from .core.plan import Plan
from .core.samples import UNSEEN, TransitionKind
from .envelope import Envelope
from .events import Event
from .whereabouts import Whereabouts, Witness

if TYPE_CHECKING:
    from .hard_cases import Capture, HardCaseMiner

#: A heartbeat is due this long after the last one, in the stream's time (SEMANTICS §7: at least every 10 minutes).
HEARTBEAT_NS = 600_000_000_000
BEATS_AT_ONCE = 144

CHECK, INPUT, CLOCK, LATCH = (
    int(k) for k in (TransitionKind.CHECK, TransitionKind.INPUT, TransitionKind.CLOCK, TransitionKind.LATCH)
)


class Vocabulary(Protocol):
    """What the numbers of text signals stand for: an ``Extractor``, or what a tape kept of one."""

    @property
    def texts(self) -> TextTable: ...

    def is_text(self, signal: str) -> bool: ...


def constants(envelope: Envelope) -> list[str]:
    """The texts that an envelope names itself: the first in every text table."""
    return [text for check in envelope.checks for text in check.texts]


class Decider:
    """Engine, authority, gates, declared domain and hard cases over one stream of items.

    Deterministic: no clock, no randomness; the same items give the same events and ``engine.digest()``, however they are
    cut into calls.
    """

    def __init__(self, envelope: Envelope, vocabulary: Vocabulary, witness: Witness | None = None) -> None:
        """``witness`` is told of each cell and of each event in it."""
        self.envelope = envelope
        self._vocabulary = vocabulary
        names = tuple(signal.name for signal in envelope.signals)
        spec = envelope.authority
        active = None
        if spec is not None and spec.active:
            value = spec.active_value
            active = (spec.active, float(vocabulary.texts.code(value)) if isinstance(value, str) else value)
        self.plan = Plan.build(
            envelope.signals,
            envelope.checks,
            mode=spec.mode if spec else None,
            active=active,
            text_code=vocabulary.texts.code,
            references=envelope.reference_digests,
        )
        self.engine = Engine(self.plan)
        self.gates = Gates(envelope.gates, [check.name for check in envelope.checks])
        self.authority = Authority(spec, names, text=self._text, label=self._label) if spec else None
        self.whereabouts = Whereabouts(envelope, witness)
        self.miner = _miner(envelope)
        self._by_name = {signal.name: signal for signal in envelope.signals}
        self._checks = {check.name: check for check in envelope.checks}
        self._leases = {gate.name: gate.lease for gate in envelope.gates}
        self.started = False
        self._beat = 0  # when the next heartbeat is due, ns
        self._damaged = 0  # parts that could not be read, in all
        self.told = 0  #: events so far; the next one has this number
        self.damages: list[Damage] = []

    @property
    def now(self) -> int:
        """Time reached, ns; 0 before the first item."""
        now = int(self.engine.head["now"])
        return 0 if now == UNSEEN else now

    def take(self, items: np.ndarray) -> list[Event]:
        """Take items ((n,) SAMPLE, whole instants in stream order); answers the events that they decided."""
        if len(items) == 0:
            return []
        return self._told(self._begin(int(items[0]["t"])) + self._run(items))

    def damage(self, damage: Damage) -> list[Event]:
        """A part of the input could not be read."""
        self.damages.append(damage)
        self._damaged += 1
        if not self.started:  # told once the stream has a time
            return []
        return self._told([events.from_damage(damage, self.now)])

    def until(self, t: int) -> list[Event]:
        """Promise that nothing earlier than ``t`` (ns) will come: deadlines before it take effect."""
        return self._told(self._begin(t) + self._beats(t) + self._reach(t))

    def finish(self) -> list[Event]:
        """End the stream where it stands: deadlines at that very time take effect too."""
        if not self.started:
            return self._told([events.from_damage(damage, 0) for damage in self.damages])
        t = self.now
        found = self._beats(t + 1)
        found += self._events(self.engine.finish(t)) + self._waiting(t, inclusive=True)
        return self._told([*found, self._account("monitor.stopped", t)])

    def snapshot(self) -> bytes:
        """All state, for :meth:`restore`: from there on the same items give the same events."""
        machines = [self.gates.snapshot(), self.authority.snapshot() if self.authority else None]
        own = [self.started, self._beat, self._damaged, self.told]
        return msgspec.msgpack.encode([self.engine.snapshot(), *machines, self.whereabouts.snapshot(), *own])

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot of a decider of the same envelope. Raises ``ValueError`` where it is none."""
        try:
            engine, gates, authority, whereabouts, started, beat, damaged, told = msgspec.msgpack.decode(snapshot)
            self.engine.restore(engine)
            self.gates.restore(gates)
            if self.authority is not None:
                self.authority.restore(authority)
            self.whereabouts.restore(whereabouts)
        except (msgspec.MsgspecError, TypeError) as error:
            raise ValueError(f"no snapshot of a decider of this envelope: {error}") from None
        self.started, self._beat, self._damaged, self.told = bool(started), int(beat), int(damaged), int(told)

    def start(self, t: int) -> list[Event]:
        """Begin the stream at ``t`` (ns), unless it has begun: its first event, and the first decisions."""
        return self._told(self._begin(t))

    def _begin(self, t: int) -> list[Event]:
        if self.started:
            return []
        self.started = True
        self._beat = t + HEARTBEAT_NS
        envelope = self.envelope
        payload = {
            "version": __version__,
            "envelope": envelope.id,
            "envelope_version": envelope.version,
            "envelope_digest": envelope.digest,
            "plan_digest": self.plan.digest(),
            "risk": envelope.risk,
        }
        started = Event("monitor.started", envelope.id, t, t, "negligible", payload, claim=envelope.claim)
        early = [events.from_damage(damage, t) for damage in self.damages]
        self.whereabouts.start(t)
        return [started, *early, *self._decisions(self.gates.start(t))]

    def _told(self, found: list[Event]) -> list[Event]:
        self.told += len(found)
        return found

    def _run(self, items: np.ndarray) -> list[Event]:
        """Take items, with heartbeats between the instants where they are due, wherever the batch was cut."""
        found: list[Event] = []
        while len(items):
            times = items["t"]
            if times.max() <= self._beat and np.ptp(times) <= HEARTBEAT_NS:
                break
            reached = np.maximum.accumulate(np.maximum(times, self.now))
            jump, late = first(reached - times > JUMP_NS), first(times > self._beat)
            if jump < late:  # heartbeats count anew from there
                cut = jump + 1
                found += self._events(self.engine.advance(items[:cut]))
            elif late < len(items):
                cut = late
                found += self._events(self.engine.advance(items[:cut])) + self._beats(int(times[late]))
            else:
                break
            items = items[cut:]
        return found + self._events(self.engine.advance(items))

    def _beats(self, until: int) -> list[Event]:
        """Heartbeats due before ``until`` (ns), each after everything that took effect before it.

        A stream that leaps ahead by more than a day (a wrong clock) gets a day's worth.
        """
        found: list[Event] = []
        for _ in range(BEATS_AT_ONCE):
            if self._beat >= until:
                return found
            found += [*self._reach(self._beat), self._account("monitor.heartbeat", self._beat)]
            self._beat += HEARTBEAT_NS
        self._beat += max(0, until - self._beat + HEARTBEAT_NS - 1) // HEARTBEAT_NS * HEARTBEAT_NS
        return found

    def _reach(self, t: int) -> list[Event]:
        return self._events(self.engine.advance(until=t)) + self._waiting(t)

    def _account(self, name: str, t: int) -> Event:
        """What the stream has been up to ``t``, and the digest of the state that it led to."""
        head = self.engine.head
        payload = {
            "samples": int(head["samples"]),
            "dropped_out_of_order": int(head["dropped"]),
            "clock_jumps": int(head["jumps"]),
            "damages": self._damaged,
            "engine_digest": self.engine.digest(),
        }
        return Event(name, self.envelope.id, t, t, "negligible", payload)

    def _events(self, rows: np.ndarray) -> list[Event]:
        found: list[Event] = []
        for instant in instants(rows):
            for event in self._instant(instant):
                self.whereabouts.told(event.type, event.t_effective)
                found.append(event)
        return found

    def _instant(self, rows: np.ndarray) -> Iterator[Event]:
        """Name what one instant did: inputs, then who commands, then checks, then what the gates make of it."""
        t, decided = int(rows[0]["t_effective"]), int(rows[0]["t_decided"])
        if self.miner is not None:
            yield from self._captures(self.miner.step(rows))
        yield from map(events.from_odd, self.whereabouts.advance(t, decided))
        yield from self._decisions(self.gates.advance(t, decided))
        kinds = rows["kind"].tolist()
        inputs: dict[str, list[np.void]] = {}
        for kind, row in zip(kinds, rows, strict=True):
            if kind == CLOCK:
                self._beat = int(row["t_effective"]) + HEARTBEAT_NS
                yield events.from_jump(row)
            elif kind == INPUT and self.envelope.signals[row["subject"]].topic:  # the bins' inputs speak for them
                inputs.setdefault(self.envelope.signals[row["subject"]].topic, []).append(row)
        for group in inputs.values():
            yield events.from_inputs(group, self.envelope.signals)
        yield from map(events.from_odd, self.whereabouts.step(rows))
        if self.authority is not None:
            for change in self.authority.step(rows):
                yield events.from_change(change)
        for kind, row in zip(kinds, rows, strict=True):
            if kind in (CHECK, LATCH):
                spec = self.envelope.checks[row["subject"]]
                yield events.from_check(row, spec, self._state(spec, float(row["value"])))
        yield from self._decisions(self.gates.step(rows))

    def _waiting(self, t: int, *, inclusive: bool = False) -> list[Event]:
        """What hard cases, domain and gates waited for until ``t``."""
        captures: list[Capture] = []
        if self.miner is not None:
            captures = self.miner.finish(t, t) if inclusive else self.miner.advance(t, t)
        changes = self.whereabouts.advance(t, t, inclusive=inclusive)
        decisions = self.gates.advance(t, t, inclusive=inclusive)
        return [*self._captures(captures), *map(events.from_odd, changes), *self._decisions(decisions)]

    def _captures(self, captures: list[Capture]) -> Iterator[Event]:
        spec = self.envelope.hard_cases
        if spec is None:
            return
        for capture in captures:
            score, mode = spec.scores[capture.stream], ""
            if spec.mode is not None:
                name = self.envelope.signals[spec.mode].name
                mode = self._text(name, capture.mode) or self._label(name, capture.mode)
            yield events.from_capture(capture, self.envelope.signals[score.signal], score.topic, mode)

    def _decisions(self, decisions: list[Decision]) -> Iterator[Event]:
        for decision in decisions:
            yield events.from_decision(decision, self._checks, self._leases[decision.gate])

    def _text(self, signal: str, value: float) -> str | None:
        return self._vocabulary.texts.text(int(value)) if self._vocabulary.is_text(signal) else None

    def _state(self, spec: CheckSpec, value: float) -> str:
        """The name of the state that a check on states saw; empty for other checks, and where there is no value."""
        if spec.kind not in ("one_of", "equals") or math.isnan(value):
            return ""
        return self._text(spec.signals[0], value) or self._label(spec.signals[0], value)

    def _label(self, signal: str, value: float) -> str:
        names = {number: name for name, number in self._by_name[signal].values}
        return names.get(value, f"{value:g}")


def _miner(envelope: Envelope) -> HardCaseMiner | None:
    """What follows hard cases; nothing is imported where the envelope asks for none."""
    if envelope.hard_cases is None:
        return None
    from .hard_cases import HardCaseMiner

    return HardCaseMiner(envelope.hard_cases)


def first(where: np.ndarray) -> int:
    """Index of the first True; the length where there is none."""
    return int(where.argmax()) if where.any() else len(where)
