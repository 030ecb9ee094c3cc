"""Where a vehicle is among the bins of weather, light, vibration and occlusion, for how long, and whether that is its declared
domain."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from .core.odd import BINS, NOWHERE, UNKNOWN, Axis, Cell, Exposure, Odd, OddChange, name_of, names_of
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
        self._exposure = Exposure()  # told where an axis is measured
        self._since = self._at = 0  # ns: when it began, and how far it has come
        self._witness = witness
        self.cell = NOWHERE

    def start(self, t: int) -> None:
        """The stream begins at ``t`` (ns): nothing is known."""
        self._since = t
        self._tell(t, self.cell)

    def succeed(self, old: Whereabouts | None, t: int) -> None:
        """Take over at ``t`` (ns) from another envelope; ``old``: None where its bins are others, and nothing is known.

        Exposure begins anew: that of the other envelope is told when this one comes into force.
        """
        if old is not None:
            self.restore(old.snapshot()[:2])
        self._since = self._at = t
        self._exposure.step(t, self.cell)

    def bins(self) -> dict[str, str]:
        """The names of the bins in force, by axis; empty where no axis is measured."""
        return names_of(self.cell) if self._axes else {}

    def account(self, t: int) -> dict[str, Any]:
        """Time spent in each cell up to ``t`` (ns), as records tell it; empty where no axis is measured.

        ``measured``: axes; ``domain``: allowed bins by axis (an axis that is not there is no part of it); ``since_ns``: when this
        account began; ``cells``: the four bins' names and ns, of every cell with any time.
        """
        if not self._axes:
            return {}
        self._exposure.advance(t)
        self._at = t
        allowed = self._odd.spec.allowed if self._odd is not None else {}
        return {
            "odd": {
                "measured": [axis.name.lower() for axis in sorted(self._axes.values())],
                "domain": {
                    axis.name.lower(): [BINS[axis][number] for number in sorted(bins)]
                    for axis, bins in sorted(allowed.items())
                },
                "since_ns": self._since,
                "cells": [
                    [*(name_of(axis, cell[axis]) for axis in Axis), time]
                    for cell, time in sorted(self._exposure.cells.items())
                ],
            }
        }

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
                self._tell(before, NOWHERE)
                self._tell(t, NOWHERE)
                if self._odd is not None:
                    changes += [*self._odd.advance(before, before), *self._odd.jump(t, decided)]
                cell[:] = NOWHERE
            elif kind == VALUE and int(row["subject"]) in self._axes:
                known = row["verdict"] == Verdict.PASS
                cell[self._axes[int(row["subject"])]] = int(row["value"]) if known else UNKNOWN
        now = (cell[0], cell[1], cell[2], cell[3])
        if now != self.cell:
            self.cell = now
            self._tell(t, now)
        return [*changes, *self._odd.step(t, decided, now)] if self._odd is not None else []

    def advance(self, t: int, decided: int, *, inclusive: bool = False) -> list[OddChange]:
        """Let time pass to ``t`` (ns): what is due before it (``inclusive``: at it, too) takes effect."""
        return self._odd.advance(t, decided, inclusive=inclusive) if self._odd is not None else []

    def snapshot(self) -> list[Any]:
        """All state as plain data, for :meth:`restore` under the same envelope."""
        found: list[Any] = [list(self.cell), self._odd.snapshot() if self._odd is not None else None]
        if self._axes:
            cells = [[*cell, time] for cell, time in sorted(self._exposure.cells.items())]
            found.append([self._since, self._at, cells])
        return found

    def restore(self, snapshot: list[Any]) -> None:
        """Take over a snapshot. A witness is told nothing of the time before it."""
        (weather, light, vibration, occlusion), odd, *exposure = snapshot
        self.cell = weather, light, vibration, occlusion
        if self._odd is not None:
            self._odd.restore(odd)
        for since, at, cells in exposure:
            self._since, self._at, self._exposure = since, at, Exposure()
            self._exposure.cells = {(w, x, v, o): time for w, x, v, o, time in cells}
            self._exposure.step(at, self.cell)

    def _tell(self, t: int, cell: Cell) -> None:
        """The cell is ``cell`` from ``t`` on, for whoever keeps account."""
        self._at = t
        self._exposure.step(t, cell)
        if self._witness is not None:
            self._witness.step(t, cell)

    def told(self, type_: str, t: int) -> None:
        """An event was told."""
        if self._witness is not None:
            self._witness.event(type_, t)
