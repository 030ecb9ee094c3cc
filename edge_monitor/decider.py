"""``Decider``: samples, commands and time in, events out; all that a decision depends on, and nothing else.

Live, replayed and re-executed streams go through this one door, so that the same items give the same events. What it is
fed is what the black box records.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from . import __version__, events
from .core.advance import JUMP_NS
from .core.authority import Change
from .core.check_spec import CheckSpec
from .core.commands import (
    Command,
    EndMission,
    ReloadEnvelope,
    ReportAction,
    ResetLatch,
    RestoreLatch,
    Waive,
    WithdrawWaiver,
)
from .core.gates import Decision, instants
from .core.handover import Handover
from .core.handover_terms import Act
from .core.messages import Damage
from .core.samples import (
    ITEM_MISSION_END,
    ITEM_RESET_LATCH,
    ITEM_SET_LATCH,
    ITEM_SHIFT,
    SAMPLE,
    UNSEEN,
    TransitionKind,
    Verdict,
)
from .core.transplant import History
from .envelope import Envelope
from .envelope.drift import Drift
from .events import Event
from .succession import Parts, Successor
from .vocabulary import Vocabulary
from .whereabouts import Witness

if TYPE_CHECKING:
    from .hard_cases import Capture

#: A heartbeat is due this long after the last one, in the stream's time (SEMANTICS §7: at least every 10 minutes).
HEARTBEAT_NS = 600_000_000_000
BEATS_AT_ONCE = 144
_UNSEEN = int(UNSEEN)
FEW = 100  #: times that are compared sooner than NumPy has begun

CHECK, INPUT, CLOCK, LATCH = (
    int(k) for k in (TransitionKind.CHECK, TransitionKind.INPUT, TransitionKind.CLOCK, TransitionKind.LATCH)
)


def made_under(snapshot: bytes) -> tuple[str, str]:
    """Digest and risk profile of the envelope that was in force when a snapshot was made. Raises ``ValueError``."""
    try:
        (digest, risk), *_ = msgspec.msgpack.decode(snapshot)
    except (msgspec.MsgspecError, TypeError, ValueError):
        raise ValueError("no snapshot of a decider") from None
    return str(digest), str(risk)


class Decider:
    """Engine, authority, gates, handover, declared domain and hard cases over one stream of items and commands.

    Deterministic: no clock, no randomness; the same items give the same events and ``engine.digest()``, however they are
    cut into calls.
    """

    def __init__(self, envelope: Envelope, vocabulary: Vocabulary, witness: Witness | None = None) -> None:
        """``witness`` is told of each cell and of each event in it."""
        self.vocabulary = vocabulary
        self._witness = witness
        self._install(Parts.of(envelope, self, vocabulary, witness))
        self._offered: tuple[Successor, History | None] | None = None
        self.started = False
        self._beat = 0  # when the next heartbeat is due, ns
        self._drifting: set[int] = set()  # drift checks in an episode
        self._damaged = 0  # parts that could not be read, in all
        self.told = 0  #: events so far; the next one has this number
        self.damages: list[Damage] = []

    def _install(self, parts: Parts) -> None:
        self.parts = parts
        self.envelope = envelope = parts.envelope
        self.engine, self.gates, self.authority = parts.engine, parts.gates, parts.authority
        self.whereabouts, self.miner = parts.whereabouts, parts.miner
        self.plan = parts.engine.plan
        self._time = parts.engine.memory.head["now"].data  # asked for often: NumPy takes ten times as long
        self._by_name = {signal.name: signal for signal in envelope.signals}
        self._checks = {check.name: check for check in envelope.checks}
        self._leases = {gate.name: gate.lease for gate in envelope.gates}
        self._said = self.gates.state()  # decisions as told: the gates are ahead of them where time has passed

    @property
    def handover(self) -> Handover | None:
        """Who is responsible, where the envelope says how that changes. An earlier run's may be put in its place."""
        return self.parts.handover

    @handover.setter
    def handover(self, machine: Handover | None) -> None:
        self.parts.handover = machine

    @property
    def now(self) -> int:
        """Time reached, ns; 0 before the first item."""
        now: int = self._time[0]
        return 0 if now == _UNSEEN else now

    def take(self, items: np.ndarray) -> list[Event]:
        """Take items ((n,) SAMPLE, whole instants in stream order); answers the events that they decided."""
        if len(items) == 0:
            return []
        return self._told(self._begin(int(items[0]["t"])) + self._run(items))

    def step(self, items: np.ndarray, t: int) -> list[Event]:
        """``take`` of items ((n,) SAMPLE), then ``until(t)`` (ns); costs less where nothing is late and no heartbeat is due."""
        if len(items) and self.started and t <= self._beat:
            earliest, latest = _span(items["t"])
            if self.now <= earliest and latest <= t:
                return self._told(self._events(self.engine.advance(items, t)) + self._waiting(t))
        return self.take(items) + self.until(t)

    def damage(self, damage: Damage) -> list[Event]:
        """A part of the input could not be read."""
        self.damages.append(damage)
        self._damaged += 1
        if not self.started:  # told once the stream has a time
            return []
        return self._told([events.from_damage(damage, self.now)])

    def command(self, order: Command) -> tuple[list[Event], str]:
        """Carry out a command at its time; one that is late acts now. Answers the events that it led to, and why it was not
        carried out (empty where it was)."""
        order = replace(order, t=max(order.t, self.now))
        found = self._begin(order.t) + self._beats(order.t) + self._reach(order.t)
        done, refused = self._obey(order)
        return self._told(found + done), refused

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
        machines = [
            self.gates.snapshot(),
            self.authority.snapshot() if self.authority else None,
            self.handover.snapshot() if self.handover else None,
            self.miner.snapshot() if self.miner else None,
        ]
        own = [self.started, self._beat, self._damaged, self.told, sorted(self._drifting)]
        which = [self.envelope.digest, self.envelope.risk]
        return msgspec.msgpack.encode([which, self.engine.snapshot(), *machines, self.whereabouts.snapshot(), *own])

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot of a decider of the same envelope. Raises ``ValueError`` where it is none."""
        try:
            which, engine, gates, authority, handover, miner, whereabouts, *own = msgspec.msgpack.decode(snapshot)
            if which != [self.envelope.digest, self.envelope.risk]:
                raise ValueError(f"the snapshot was made under envelope {which[0][:16]}…, risk {which[1]}")
            self.started, self._beat, self._damaged, self.told, drifting = own
            self._drifting = set(drifting)
            self.engine.restore(engine)
            self.gates.restore(gates)
            self._said = self.gates.state()
            if self.authority is not None:
                self.authority.restore(authority)
            if self.handover is not None:
                self.handover.restore(handover)
            if self.miner is not None:
                self.miner.restore(miner)
            self.whereabouts.restore(whereabouts)
        except (msgspec.MsgspecError, TypeError, KeyError, IndexError) as error:
            raise ValueError(f"no snapshot of a decider of this envelope: {error}") from None

    def prepare(self, envelope: Envelope) -> Successor:
        """Compile what could take over from the envelope in force. Any thread may call it, once the envelope's texts are in
        the vocabulary. Raises ``ValueError``: the plan can't be made."""
        return Successor.of(self.parts, Parts.of(envelope, self, self.vocabulary, self._witness))

    def compare(self, successor: Successor) -> Successor:
        """The same, akin to the envelope that is in force now, if another has come in between."""
        return successor if successor.before is self.parts else Successor.of(self.parts, successor.parts)

    def offer(self, successor: Successor, history: History | None = None) -> None:
        """What the next ``ReloadEnvelope`` puts in force; ``history``: the items by which it is judged."""
        self._offered = successor, history

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
        first_decisions = self.gates.start(t)
        return [started, *early, *self._decisions(first_decisions), *self._handed(t, t, (), first_decisions)]

    def _told(self, found: list[Event]) -> list[Event]:
        self.told += len(found)
        return found

    def _run(self, items: np.ndarray) -> list[Event]:
        """Take items, with heartbeats between the instants where they are due, wherever the batch was cut."""
        found: list[Event] = []
        while len(items):
            times = items["t"]
            earliest, latest = _span(times)
            if latest <= self._beat and latest - earliest <= HEARTBEAT_NS:
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
        """What the stream has been up to ``t``, and the digest of the state that it led to; and how long in which conditions."""
        head = self.engine.head
        payload = {
            "samples": int(head["samples"]),
            "dropped_out_of_order": int(head["dropped"]),
            "clock_jumps": int(head["jumps"]),
            "damages": self._damaged,
            "engine_digest": self.engine.digest(),
            **self.whereabouts.account(t),
        }
        return Event(name, self.envelope.id, t, t, "negligible", payload)

    def _events(self, rows: np.ndarray) -> list[Event]:
        found: list[Event] = []
        if not len(rows):
            return found
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
        yield from self._elapsed(t, decided)
        seen, changes = self._seen(rows)
        yield from seen
        decisions = self.gates.step(rows)
        yield from self._decisions(decisions)
        jump = sum(round(float(row["value"]) * 1e9) for row in rows[rows["kind"] == CLOCK])
        yield from self._handed(t, decided, changes, decisions, jump)

    def _seen(self, rows: np.ndarray) -> tuple[list[Event], list[Change]]:
        """What the rows of an instant say of inputs, who commands, and checks; the changes of command among it."""
        found: list[Event] = []
        kinds = rows["kind"].tolist()
        inputs: dict[str, list[np.void]] = {}
        for kind, row in zip(kinds, rows, strict=True):
            if kind == CLOCK:
                self._beat = int(row["t_effective"]) + HEARTBEAT_NS
                found.append(events.from_jump(row))
            elif kind == INPUT and self.envelope.signals[row["subject"]].topic:  # the bins' inputs speak for them
                inputs.setdefault(self.envelope.signals[row["subject"]].topic, []).append(row)
        found += [events.from_inputs(group, self.envelope.signals) for group in inputs.values()]
        found += map(events.from_odd, self.whereabouts.step(rows))
        changes = self.authority.step(rows) if self.authority is not None else []
        found += map(events.from_change, changes)
        for kind, row in zip(kinds, rows, strict=True):
            if kind in (CHECK, LATCH):
                spec = self.envelope.checks[row["subject"]]
                found.append(
                    events.from_check(row, spec, self._state(spec, float(row["value"])), self.whereabouts.bins())
                )
                if kind == CHECK and spec.kind == "drift":
                    found += self._drift(row, spec)
        return found, changes

    def _drift(self, row: np.void, spec: CheckSpec) -> Iterator[Event]:
        """An episode of drift begins when its check fails, and ends when it passes: what is unknown between ends nothing."""
        subject, verdict = int(row["subject"]), int(row["verdict"])
        if verdict == Verdict.UNKNOWN or (verdict == Verdict.FAIL) == (subject in self._drifting):
            return
        self._drifting ^= {subject}
        model = self.envelope.models[spec.name]
        assert isinstance(model, Drift)
        yield events.from_drift(row, spec, model.detector, model.value_ns, model.calibrated, self.whereabouts.bins())

    def _waiting(self, t: int, *, inclusive: bool = False) -> list[Event]:
        """What hard cases, domain and gates waited for until ``t``."""
        if self.miner is None:
            return self._elapsed(t, t, inclusive=inclusive)
        captures = self.miner.finish(t, t) if inclusive else self.miner.advance(t, t)
        return [*self._captures(captures), *self._elapsed(t, t, inclusive=inclusive)]

    def _elapsed(self, t: int, decided: int, *, inclusive: bool = False) -> list[Event]:
        """What time alone led to before ``t`` in domain, gates and handover, in order of time."""
        found = [*map(events.from_odd, self.whereabouts.advance(t, decided, inclusive=inclusive))]
        decisions = self.gates.advance(t, decided, inclusive=inclusive)
        found += self._between(decisions) if decisions else self._decisions(decisions)
        if self.handover is not None:
            found += self._acts(self.handover.advance(t, decided, inclusive=inclusive))
        return sorted(found, key=lambda event: event.t_effective) if len(found) > 1 else found

    def _captures(self, captures: list[Capture]) -> Iterator[Event]:
        spec = self.envelope.hard_cases
        if spec is None:
            return
        for capture in captures:
            score, mode = spec.scores[capture.stream], ""
            if spec.mode is not None:
                name = self.envelope.signals[spec.mode].name
                mode = self.text(name, capture.mode) or self.label(name, capture.mode)
            yield events.from_capture(capture, self.envelope.signals[score.signal], score.topic, mode)

    def _between(self, decisions: list[Decision]) -> Iterator[Event]:
        """Decisions that time alone led to, and what handover makes of each, in order of time."""
        for t, group in groupby(decisions, key=lambda decision: decision.t_effective):
            together = list(group)
            if self.handover is not None:
                yield from self._acts(self.handover.advance(t, together[0].t_decided))
            yield from self._decisions(together)
            yield from self._handed(t, together[0].t_decided, (), together)
        yield from self._decisions([])

    def _handed(
        self, t: int, decided: int, changes: Sequence[Change], decisions: Sequence[Decision], jump: int = 0
    ) -> Iterator[Event]:
        """What an instant means for the handover of command."""
        if self.handover is not None:
            yield from self._acts(self.handover.step(t, decided, changes=changes, decisions=decisions, jump=jump))

    def _acts(self, acts: list[Act]) -> Iterator[Event]:
        if acts:
            command = self.authority.command if self.authority is not None else None
            seen = {
                "mode": command.mode if command is not None else "",
                "gates": {name: "GO" if go else "NO_GO" for name, go in self._said.items()},
            }
            for act in acts:
                yield events.from_handover(act, seen)

    def _obey(self, order: Command) -> tuple[list[Event], str]:
        if isinstance(order, (Waive, WithdrawWaiver)):
            ruling = self.gates.command(order)
            return [*self._between(ruling.decisions)], ruling.refused
        if isinstance(order, (ResetLatch, RestoreLatch, EndMission)):
            return self._unlatch(order)
        if isinstance(order, ReportAction):
            return [events.from_blocked(order)], ""
        if isinstance(order, ReloadEnvelope):
            return self._reload(order)
        if self.handover is None:
            return [], "the envelope has no section `handover`: nothing can be handed over"
        answer = self.handover.command(order)
        return [*self._acts(answer.acts)], answer.refused

    def _reload(self, order: ReloadEnvelope) -> tuple[list[Event], str]:
        """Put in force what was offered, if nothing stands against it: one instant."""
        offered, self._offered = self._offered, None
        wanted = (order.digest, order.risk)
        if offered is None or wanted != (offered[0].parts.envelope.digest, offered[0].parts.envelope.risk):
            return [], f"no envelope {order.digest[:16]} has been prepared"
        successor, history = offered
        old, new, t = self.parts, successor.parts, order.t
        against = tuple(successor.against(old))
        if against:
            event = events.from_rejection(against, successor.named(order), new.envelope.id, t)
            return [event], "; ".join(message for _, message in against)
        activated = successor.told(old, order, history, t)
        found = [events.from_reload(activated, new.envelope.id, new.envelope.claim, t)]
        if old.miner is not None and not successor.goes_on_mining(old):
            found += self._captures(old.miner.finish(t, t))
        rows, since = successor.take_over(old, t, history)
        ended = new.gates.succeed(old.gates, successor.unchanged, t)
        specs = {check.name: check for check in (*new.envelope.checks, *old.envelope.checks)}
        found += [events.from_waiver(change, specs) for change in new.gates.waiver_changes()]
        found += [events.from_decision(decision, self._checks, self._leases[decision.gate]) for decision in ended]
        drifting = {old.envelope.checks[i].name for i in self._drifting}
        self._drifting = {i for i, check in enumerate(new.envelope.checks) if check.name in drifting}
        self._install(new)
        seen, changes = self._seen(rows) if len(rows) else ([], [])
        decisions = self.gates.switch(rows, t, successor.reasons(), since)
        found += [*seen, *self._decisions(decisions)]
        self._renew_handover(old, t)
        return [*found, *self._handed(t, t, changes, decisions)], ""

    def _renew_handover(self, old: Parts, t: int) -> None:
        """What is under way goes on; a machine that is new begins with who commands now."""
        spec = self.envelope.handover
        if self.handover is None or spec is None:
            return
        if old.handover is not None:
            self.handover = old.handover
        elif self.authority is not None:
            self.handover.reach(t)
            self.handover.follow(self.authority.command, t)
        self.handover.renew(spec, self.envelope.gates, self.gates.state())

    def _unlatch(self, order: ResetLatch | RestoreLatch | EndMission) -> tuple[list[Event], str]:
        """Commands about latches are items of the engine; who gave them is added to the events."""
        item = np.zeros(1, SAMPLE)
        item["t"] = order.t
        if isinstance(order, EndMission):
            item["flags"] = ITEM_MISSION_END << ITEM_SHIFT
        else:
            names = [check.name for check in self.envelope.checks]
            if order.check not in names:
                return [], f"the envelope has no check `{order.check}`"
            item["signal"] = names.index(order.check)
            kind = ITEM_RESET_LATCH if isinstance(order, ResetLatch) else ITEM_SET_LATCH
            item["flags"] = kind << ITEM_SHIFT
        found = self._events(self.engine.advance(item))
        if isinstance(order, RestoreLatch):
            return found, ""
        by = {"person": order.person, "reason": order.reason}
        found = [replace(e, payload={**e.payload, **by}) if e.type == "latch.reset" else e for e in found]
        if isinstance(order, ResetLatch) and not any(event.type == "latch.reset" for event in found):
            return found, f"the latch of `{order.check}` is not set, or its condition has not cleared"
        return found, ""

    def _decisions(self, decisions: list[Decision]) -> Iterator[Event]:
        for change in self.gates.waiver_changes():
            yield events.from_waiver(change, self._checks)
        for decision in decisions:
            self._said[decision.gate] = decision.go
            yield events.from_decision(decision, self._checks, self._leases[decision.gate])

    def text(self, signal: str, value: float) -> str | None:
        """The text that a value of a signal stands for; None where it is no text."""
        return self.vocabulary.texts.text(int(value)) if self.vocabulary.is_text(signal) else None

    def _state(self, spec: CheckSpec, value: float) -> str:
        """The name of the state that a check on states saw; empty for other checks, and where there is no value."""
        if spec.kind not in ("one_of", "equals") or math.isnan(value):
            return ""
        return self.text(spec.signals[0], value) or self.label(spec.signals[0], value)

    def label(self, signal: str, value: float) -> str:
        """The name of a state, or the number."""
        names = {number: name for name, number in self._by_name[signal].values}
        return names.get(value, f"{value:g}")


def _span(times: np.ndarray) -> tuple[int, int]:
    """The earliest and the latest of ``times`` (n >= 1)."""
    if len(times) > FEW:
        return int(times.min()), int(times.max())
    few = times.tolist()
    return min(few), max(few)


def first(where: np.ndarray) -> int:
    """Index of the first True; the length where there is none."""
    return int(where.argmax()) if where.any() else len(where)
