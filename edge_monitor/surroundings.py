"""What the sensors see around a vehicle: statistics and bins put into the samples, and the declared domain followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from .core.layout.extractor import Problem
from .core.messages import Batch, Channel
from .core.odd import NOWHERE, UNKNOWN, Axis, Bins, Cell, Odd, OddChange
from .core.samples import TransitionKind, Verdict
from .envelope import Envelope

if TYPE_CHECKING:
    from .core.perception.stage import Perception

VALUE, CLOCK = int(TransitionKind.VALUE), int(TransitionKind.CLOCK)


class Witness(Protocol):
    """Who keeps account of what happened in which cell: ``edge_replay.matrix.Matrix``."""

    def step(self, t: int, cell: Cell) -> None:
        """The cell is ``cell`` from ``t`` (ns) on."""

    def event(self, type_: str, t: int) -> None:
        """An event took effect at ``t``, in the cell last told."""


class Surroundings:
    """Follows the cell that the vehicle is in. Nothing of it runs, nor is imported, where the envelope asks for nothing."""

    def __init__(self, envelope: Envelope, witness: Witness | None = None) -> None:
        self._perception = _perception(envelope)
        self._bins = Bins(envelope.bins) if envelope.bins else None
        self._odd = Odd(envelope.odd) if envelope.odd else None
        self._axes: dict[int, Axis] = {spec.signal: spec.axis for spec in envelope.bins}
        self._witness = witness
        self.cell = NOWHERE

    def add_channel(self, channel: Channel) -> list[Problem]:
        """Prepare for a channel; a problem for each statistic that can't be had from it."""
        return self._perception.add_channel(channel) if self._perception is not None else []

    def fill(self, batch: Batch, samples: np.ndarray) -> np.ndarray:
        """``samples`` (SAMPLE rows, the extractor's for ``batch``) with statistics in their places, and with bins."""
        if self._perception is not None:
            samples = self._perception.fill(batch, samples)
        return self._bins.fill(samples) if self._bins is not None else samples

    def start(self, t: int) -> None:
        """The stream begins at ``t`` (ns): nothing is known."""
        if self._witness is not None:
            self._witness.step(t, self.cell)

    def step(self, rows: np.ndarray) -> list[OddChange]:
        """Take what one instant did (its TRANSITION rows); answers what that made of the domain."""
        if not self._axes and self._witness is None:
            return []
        t, decided = int(rows[0]["t_effective"]), int(rows[0]["t_decided"])
        cell, changes = list(self.cell), list[OddChange]()
        for row in rows:
            kind = row["kind"]
            if kind == CLOCK:
                before = t - round(
                    float(row["value"]) * 1e9
                )  # all time up to the step counts; what it took back does not
                if self._witness is not None:
                    self._witness.step(before, NOWHERE)
                    self._witness.step(t, NOWHERE)
                if self._odd is not None:
                    changes += [*self._odd.advance(before, before), *self._odd.jump(t, decided)]
                cell[:] = NOWHERE
            elif kind == VALUE and int(row["subject"]) in self._axes:
                known = row["verdict"] == Verdict.PASS
                cell[self._axes[int(row["subject"])]] = int(row["value"]) if known else UNKNOWN
        now = (cell[0], cell[1], cell[2], cell[3])
        if now != self.cell:
            self.cell = now
            if self._witness is not None:
                self._witness.step(t, now)
        return [*changes, *self._odd.step(t, decided, now)] if self._odd is not None else []

    def advance(self, t: int, decided: int, *, inclusive: bool = False) -> list[OddChange]:
        """Let time pass to ``t`` (ns): what is due before it (``inclusive``: at it, too) takes effect."""
        return self._odd.advance(t, decided, inclusive=inclusive) if self._odd is not None else []

    def told(self, type_: str, t: int) -> None:
        """An event was told."""
        if self._witness is not None:
            self._witness.event(type_, t)


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
