"""``Monitor``: what turns messages into items (layout, sensor statistics), in front of a ``Decider``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .action_reports import ActionReports
from .core import layout
from .core.authority import Authority
from .core.commands import Command, ReloadEnvelope, ReportAction
from .core.engine import Engine, Variant
from .core.gates import Gates
from .core.layout import Extractor
from .core.layout.extractor import Problem
from .core.messages import Batch, Channel, Damage
from .core.plan import Plan
from .core.samples import ITEM_SHIFT, ITEM_SOURCE_STATUS, SAMPLE, Cause
from .decider import Decider, first
from .envelope import Envelope
from .events import Event
from .recent import MOST, Recent
from .succession import Successor
from .surroundings import Surroundings
from .tape.recorder import Recorder
from .tape.ring import Ring
from .vocabulary import constants
from .whereabouts import Witness

_loaded: set[Variant] = set()  # kernels that this process has run


@dataclass(slots=True)
class Prepared:
    """An envelope that is compiled and can be put in force in one turn."""

    extractor: Extractor
    surroundings: Surroundings
    successor: Successor
    channels: dict[int, Channel] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, channels: Mapping[int, Channel]) -> None:
        """Prepare for the channels that have not been added yet."""
        for number, channel in list(channels.items()):
            if self.channels.get(number) is not channel:
                self.channels[number] = channel
                self.problems += self.extractor.add_channel(channel) + self.surroundings.add_channel(channel)


class Monitor:
    """Feeds one stream through an envelope's plan and answers with events. Replay and the onboard loop both drive it."""

    def __init__(self, envelope: Envelope, witness: Witness | None = None) -> None:
        """``witness`` is told of each cell and of each event in it."""
        self.envelope = envelope
        self.surroundings = Surroundings(envelope)
        self.extractor = Extractor(envelope.signals, constants(envelope))
        self.decider = Decider(envelope, self.extractor, witness)
        self._door: Decider | Recorder = self.decider
        self._reports = ActionReports([gate.name for gate in envelope.gates])
        self._status: list[tuple[int, int]] = []
        self._channels: dict[int, Channel] = {}
        self._recent: Recent | None = None
        self._most = MOST
        self.problems: list[str] = []

    def warm(self) -> None:
        """Compile (or load) every kernel that this envelope needs, so that the first message is not late."""
        _warm(self.plan)

    def record(self, ring: Ring) -> None:
        """Write everything from now on into a black box."""
        self._door = Recorder(self.decider, ring, self.extractor)
        self._most = min(MOST, self._door.most_rows)

    def keep(self) -> None:
        """Keep the items of the last while from now on, so that another envelope can be judged by them (:meth:`reload`)."""
        self._recent = Recent(len(self.envelope.signals))

    def enter(self, envelope: Envelope) -> None:
        """Put the texts of an envelope that is to be prepared into the text table. Raises ``ConfigError``: no room."""
        for text in constants(envelope):
            self.extractor.texts.code(text)

    def prepare(self, envelope: Envelope, compiled: Callable[[], None] | None = None) -> Prepared:
        """Compile an envelope, whose texts have been entered, to be put in force later; any thread may call it.

        ``compiled``: called where kernels are needed that this process has not loaded yet, to see that they can be.
        Raises ``ValueError``: its plan can't be made.
        """
        extractor, surroundings = self.extractor.renewed(envelope.signals), Surroundings(envelope)
        prepared = Prepared(extractor, surroundings, self.decider.prepare(envelope))
        prepared.add(self._channels)
        engine = prepared.successor.parts.engine
        if compiled is not None and engine.variant not in _loaded:
            compiled()
        _warm(engine.plan)
        return prepared

    def reload(self, prepared: Prepared, order: ReloadEnvelope) -> tuple[list[Event], str]:
        """Put a prepared envelope in force at the time of the command; answers events, and why it was not (empty: it was)."""
        successor = self.decider.compare(prepared.successor)
        history = None
        if self._recent is not None:
            history = self._recent.history(order.t, successor.kin.wanted, self._most)
        self._door.offer(successor, history)
        found, refused = self._door.command(order)
        if refused:
            return found, refused
        prepared.add(self._channels)
        prepared.extractor.succeed(self.extractor)
        prepared.surroundings.succeed(self.surroundings)
        self.envelope = self.decider.envelope
        self.extractor, self.surroundings = prepared.extractor, prepared.surroundings
        self.decider.vocabulary = self.extractor
        if isinstance(self._door, Recorder):
            self._door.renew(self.extractor)
        self._status = [(problem.signal, int(problem.cause)) for problem in prepared.problems]
        self.problems += [problem.message for problem in prepared.problems]
        self._reports.renew([gate.name for gate in self.envelope.gates])
        if self._recent is not None:
            self._recent = Recent(len(self.envelope.signals))
        return found, ""

    def feed(self, item: Channel | Batch | Damage) -> list[Event]:
        """Take one item of a source; answers the events that it decided."""
        if isinstance(item, Batch):
            if len(item.messages) == 0:
                return []
            if self._reports.channels:
                return self._reported(item)
            return self._take(item)
        if isinstance(item, Damage):
            return self._door.damage(item)
        self._reports.add_channel(item)
        self._channels[item.id] = item
        for problem in self.extractor.add_channel(item) + self.surroundings.add_channel(item):
            self._status.append((problem.signal, int(problem.cause)))
            self.problems.append(problem.message)
        return []

    def step(self, batch: Batch, t: int) -> list[Event]:
        """``feed(batch)``, then ``until(t)``; costs less."""
        if self._reports.wanted or not self.decider.started or len(batch.messages) == 0:
            return self.feed(batch) + self.until(t)
        items = self.items(batch)
        if self._recent is not None:
            self._recent.add(items)
        return self._door.step(items, t)

    def _take(self, batch: Batch) -> list[Event]:
        if len(batch.messages) == 0:
            return []
        return self._door.start(int(batch.messages[0]["t"])) + self._keep(self.items(batch))

    def _reported(self, batch: Batch) -> list[Event]:
        """Take a batch with reports of actions in it: each has its place between the samples, as if it had come alone."""
        found: list[Event] = []
        rows, begin = batch.messages, 0

        def take_to(end: int) -> None:
            nonlocal begin
            found.extend(self._take(Batch(batch.data, rows[begin:end])))
            begin = end

        for at in [*np.flatnonzero(np.isin(rows["channel"], list(self._reports.channels))).tolist(), len(rows)]:
            while (due := self._reports.due) is not None:
                late = first(rows["t"][begin : at + 1] > due)
                if begin + late > min(at, len(rows) - 1):
                    break
                take_to(begin + late)
                found.extend(self._carry_out(self._reports.flush(due)))
            if at == len(rows):
                break
            row = rows[at]
            message = batch.data[row["start"] : row["start"] + row["size"]].tobytes()
            report = self._reports.take(int(row["t"]), int(row["channel"]), message)
            if report is not None:
                take_to(at + 1)
                found.extend(self._carry_out([report]))
        take_to(len(rows))
        return found

    def _carry_out(self, reports: Sequence[ReportAction | Damage]) -> list[Event]:
        found: list[Event] = []
        for report in reports:
            if isinstance(report, Damage):
                found += self._door.until(report.t or 0) + self._door.damage(report)
            else:
                found += self._door.command(report)[0]
        return found

    def items(self, batch: Batch) -> np.ndarray:
        """(n,) SAMPLE: what the messages of a batch (at least one) say, in order. Valid until the next call."""
        samples = self.surroundings.fill(batch, self.extractor.extract(batch))
        self.problems += [problem.message for problem in self.surroundings.problems()]
        if not self._status:
            return samples
        status = np.zeros(len(self._status), SAMPLE)
        status["t"] = batch.messages[0]["t"]
        status["signal"] = [signal for signal, _ in self._status]
        status["flags"] = [cause | (ITEM_SOURCE_STATUS << ITEM_SHIFT) for _, cause in self._status]
        self._status.clear()
        return np.concatenate([status, samples])

    def status(self, topic: str, cause: Cause, t: int) -> list[Event]:
        """The source says at ``t`` (ns) what is wrong with a topic; ``Cause.NONE``: nothing any more."""
        signals = [number for number, signal in enumerate(self.envelope.signals) if signal.topic == topic]
        if not signals:
            return []
        items = np.zeros(len(signals), SAMPLE)
        items["t"] = t
        items["signal"] = signals
        items["flags"] = int(cause) | (ITEM_SOURCE_STATUS << ITEM_SHIFT)
        return self._keep(items)

    def _keep(self, items: np.ndarray) -> list[Event]:
        if self._recent is not None:
            self._recent.add(items)
        return self._door.take(items)

    def command(self, order: Command) -> tuple[list[Event], str]:
        """Carry out a command; answers events, and why it was not carried out (empty where it was)."""
        return self._door.command(order)

    def until(self, t: int) -> list[Event]:
        """Promise that nothing earlier than ``t`` (ns) will come: deadlines before it take effect."""
        due = self._reports.due
        told = self._carry_out(self._reports.flush(t - 1)) if due is not None and due < t else []
        return told + self._door.until(t)

    def finish(self) -> list[Event]:
        """End the stream where it stands: deadlines at that very time take effect too."""
        return self._carry_out(self._reports.finish(self.now)) + self._door.finish()

    @property
    def now(self) -> int:
        """Time reached, ns; 0 before the first item."""
        return self.decider.now

    @property
    def plan(self) -> Plan:
        """What the envelope was compiled to."""
        return self.decider.plan

    @property
    def engine(self) -> Engine:
        """The checks' state."""
        return self.decider.engine

    @property
    def gates(self) -> Gates:
        """The gates' state."""
        return self.decider.gates

    @property
    def authority(self) -> Authority | None:
        """Who is in command, where the envelope says how to tell."""
        return self.decider.authority

    @property
    def damages(self) -> list[Damage]:
        """What could not be read."""
        return self.decider.damages


def _warm(plan: Plan) -> None:
    layout.warm()
    engine = Engine(plan)
    engine.advance(until=0)
    engine.finish(1)
    _loaded.add(engine.variant)
