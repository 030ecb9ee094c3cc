"""``Monitor``: what turns messages into items (layout, sensor statistics), in front of a ``Decider``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .action_reports import ActionReports
from .core import layout
from .core.authority import Authority
from .core.commands import Command, ReportAction
from .core.engine import Engine
from .core.gates import Gates
from .core.layout import Extractor
from .core.messages import Batch, Channel, Damage
from .core.plan import Plan
from .core.samples import ITEM_SHIFT, ITEM_SOURCE_STATUS, SAMPLE, Cause
from .decider import Decider, constants, first
from .envelope import Envelope
from .events import Event
from .surroundings import Surroundings
from .tape.recorder import Recorder
from .tape.ring import Ring
from .whereabouts import Witness


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
        self.problems: list[str] = []

    def warm(self) -> None:
        """Compile (or load) every kernel that this envelope needs, so that the first message is not late."""
        layout.warm()
        engine = Engine(self.plan)
        engine.advance(until=0)
        engine.finish(1)

    def record(self, ring: Ring) -> None:
        """Write everything from now on into a black box."""
        self._door = Recorder(self.decider, ring, self.extractor)

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
        for problem in self.extractor.add_channel(item) + self.surroundings.add_channel(item):
            self._status.append((problem.signal, int(problem.cause)))
            self.problems.append(problem.message)
        return []

    def _take(self, batch: Batch) -> list[Event]:
        if len(batch.messages) == 0:
            return []
        return self._door.start(int(batch.messages[0]["t"])) + self._door.take(self.items(batch))

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
