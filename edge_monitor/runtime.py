"""``Monitor``: what turns messages into items (layout, sensor statistics), in front of a ``Decider``."""

from __future__ import annotations

import numpy as np

from .core import layout
from .core.authority import Authority
from .core.commands import Command
from .core.engine import Engine
from .core.gates import Gates
from .core.layout import Extractor
from .core.messages import Batch, Channel, Damage
from .core.plan import Plan
from .core.samples import ITEM_SHIFT, ITEM_SOURCE_STATUS, SAMPLE, Cause
from .decider import Decider, constants
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
            return self._door.start(int(item.messages[0]["t"])) + self._door.take(self.items(item))
        if isinstance(item, Damage):
            return self._door.damage(item)
        for problem in self.extractor.add_channel(item) + self.surroundings.add_channel(item):
            self._status.append((problem.signal, int(problem.cause)))
            self.problems.append(problem.message)
        return []

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
        return self._door.until(t)

    def finish(self) -> list[Event]:
        """End the stream where it stands: deadlines at that very time take effect too."""
        return self._door.finish()

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
