"""Where a vehicle is among the bins of weather, light, vibration and occlusion, and whether that is its declared domain."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from .core.odd import NOWHERE, UNKNOWN, Axis, Cell, Odd, OddChange
from .core.samples import TransitionKind, Verdict
from .envelope import Envelope

VALUE, CLOCK = int(TransitionKind.VALUE), int(TransitionKind.CLOCK)


class Witness(Protocol):
    """Who keeps account of what happened in which cell: ``edge_replay.matrix.Matrix``."""

    def step(self, t: int, cell: Cell) -> None:
        """The cell is ``cell`` from ``t`` (ns) on."""

    def event(self, type_: str, t: int) -> None:
        """An event took effect at ``t``, in the cell last told."""


class Whereabouts:
    """Follows the cell that the vehicle is in, and leaves and entries of the declared domain."""

    def __init__(self, envelope: Envelope, witness: Witness | None = None) -> None:
        self._odd = Odd(envelope.odd) if envelope.odd else None
        self._axes: dict[int, Axis] = {spec.signal: spec.axis for spec in envelope.bins}
        self._witness = witness
        self.cell = NOWHERE

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

    def snapshot(self) -> list[Any]:
        """All state as plain data, for :meth:`restore` under the same envelope."""
        return [list(self.cell), self._odd.snapshot() if self._odd is not None else None]

    def restore(self, snapshot: list[Any]) -> None:
        """Take over a snapshot. A witness is told nothing of the time before it."""
        (weather, light, vibration, occlusion), odd = snapshot
        self.cell = weather, light, vibration, occlusion
        if self._odd is not None:
            self._odd.restore(odd)

    def told(self, type_: str, t: int) -> None:
        """An event was told."""
        if self._witness is not None:
            self._witness.event(type_, t)
