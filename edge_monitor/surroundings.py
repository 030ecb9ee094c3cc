"""What the sensors see around a vehicle: statistics and bins put into the samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .core.layout.extractor import Problem
from .core.messages import Batch, Channel
from .core.odd import Bins
from .envelope import Envelope
from .envelope.loosening import bins_by_name

if TYPE_CHECKING:
    from .core.perception.stage import Perception


class Surroundings:
    """Measures what sensors saw. Nothing of it runs, nor is imported, where the envelope asks for nothing."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._perception = _perception(envelope)
        self._bins = Bins(envelope.bins) if envelope.bins else None

    def add_channel(self, channel: Channel) -> list[Problem]:
        """Prepare for a channel; a problem for each statistic that can't be had from it."""
        return self._perception.add_channel(channel) if self._perception is not None else []

    def problems(self) -> list[Problem]:
        """What messages have shown to be wrong since the last call."""
        return self._perception.problems() if self._perception is not None else []

    def succeed(self, old: Surroundings) -> None:
        """Go on where ``old`` is, of the envelope before, as far as the same is measured in the same way. The same channels
        must have been added to both."""
        if self._perception is not None and old._perception is not None and self._measured == old._measured:
            self._perception.restore(old._perception.snapshot())
        mine, theirs = bins_by_name(self._envelope), bins_by_name(old._envelope)
        if self._bins is not None and old._bins is not None and mine == theirs:
            names = {signal.name: number for number, signal in enumerate(self._envelope.signals)}
            there = {n: names[signal.name] for n, signal in enumerate(old._envelope.signals) if signal.name in names}
            self._bins.succeed(old._bins, there)

    @property
    def _measured(self) -> tuple[object, object]:
        signals = (signal for signal in self._envelope.signals if signal.statistic)
        return [(one.topic, one.statistic, one.type) for one in signals], self._envelope.sensors

    def fill(self, batch: Batch, samples: np.ndarray) -> np.ndarray:
        """``samples`` (SAMPLE rows, the extractor's for ``batch``) with statistics in their places, and with bins."""
        if self._perception is not None:
            samples = self._perception.fill(batch, samples)
        return self._bins.fill(samples) if self._bins is not None else samples


def _perception(envelope: Envelope) -> Perception | None:
    """The stage that measures, or None where no signal is a statistic."""
    if not any(signal.statistic for signal in envelope.signals):
        return None
    from . import pictures
    from .core.perception.stage import Perception, Want

    wants = [
        Want(index, signal.topic, signal.statistic, signal.type)
        for index, signal in enumerate(envelope.signals)
        if signal.statistic
    ]
    options = {topic: sensor.options() for topic, sensor in envelope.sensors.items()}
    return Perception(wants, options, pictures.decode if pictures.available() else None)
