"""The sensor-reality matrix: how long the fleet was in each cell of weather, light, vibration and occlusion, what
happened there, and what that proves.

Rates carry exact Poisson bounds (Garwood 1936): zero events in T prove, at 95 %, a rate of at most 3.0/T and no less.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from edge_monitor.core.odd import BINS, NOWHERE, UNKNOWN, Axis, Cell, Exposure, OddSpec, names_of
from edge_monitor.poisson import rate

COUNTED = {"check.fail": "breaches", "drift.detected": "drift_episodes", "authority.changed": "handovers"}
KINDS = ("breaches", "drift_episodes", "handovers")
HOUR_NS = 3_600_000_000_000


@dataclass(slots=True)
class Tally:
    """What is known of one cell."""

    exposure: int = 0  #: ns
    breaches: int = 0
    drift_episodes: int = 0
    handovers: int = 0
    robots: set[str] = field(default_factory=set)
    missions: set[str] = field(default_factory=set)
    sites: set[str] = field(default_factory=set)

    def add(self, other: Tally) -> None:
        """Take over what another recording says of the same cell."""
        self.exposure += other.exposure
        for kind in KINDS:
            setattr(self, kind, getattr(self, kind) + getattr(other, kind))
        self.robots |= other.robots
        self.missions |= other.missions
        self.sites |= other.sites


class Matrix:
    """Accumulates one recording; matrices of several are added up with :meth:`merge`."""

    def __init__(self, robot: str = "", mission: str = "", site: str = "") -> None:
        self._labels = (robot, mission, site)
        self._exposure = Exposure()
        self.cells: dict[Cell, Tally] = {}

    def step(self, t: int, cell: Cell) -> None:
        """The cell is ``cell`` from ``t`` (ns) on."""
        self._exposure.step(t, cell)

    def event(self, type_: str, t: int) -> None:
        """Count an event (``check.fail``, ``drift.detected``, ``authority.changed``; others are no business of this) in
        the cell that is in force at ``t``."""
        kind = COUNTED.get(type_)
        if kind:
            self._exposure.advance(t)
            tally = self._tally(self._exposure.cell)
            setattr(tally, kind, getattr(tally, kind) + 1)

    def finish(self, t: int) -> None:
        """The recording ends at ``t``: its exposure counts."""
        self._exposure.advance(t)
        for cell, time in self._exposure.cells.items():
            self._tally(cell).exposure += time
        self._exposure = Exposure()

    def merge(self, other: Matrix) -> None:
        """Add another (finished) matrix."""
        for cell, tally in other.cells.items():
            self.cells.setdefault(cell, Tally()).add(tally)

    @property
    def exposure(self) -> int:
        """All time, ns."""
        return sum(tally.exposure for tally in self.cells.values())

    def along(self, *axes: Axis) -> dict[tuple[int, ...], int]:
        """Exposure (ns) by the bins of some axes: each axis' sum is the whole exposure, exactly."""
        whole = Exposure()
        whole.cells = {cell: tally.exposure for cell, tally in self.cells.items()}
        return whole.along(*axes)

    def document(self, odd: OddSpec | None = None, least: int = HOUR_NS) -> dict[str, Any]:
        """The matrix as JSON: cells that were seen (most exposure first) with rates an hour and their bounds, the
        exposure by axis, and, where a domain is declared, each cell's status and the declared cells never seen.

        ``least``: exposure (ns) from which a cell, seen by two robots or at two sites, counts as shown.
        """
        order = sorted(self.cells, key=lambda cell: (-self.cells[cell].exposure, cell))
        document: dict[str, Any] = {
            "exposure_ns": self.exposure,
            "cells": [self._row(cell, odd, least) for cell in order],
            "axes": {
                axis.name.lower(): {
                    names_of(_only(axis, key[0]))[axis.name.lower()]: time
                    for key, time in sorted(self.along(axis).items())
                }
                for axis in Axis
            },
        }
        if odd is not None:
            declared = declared_cells(odd)
            unseen = [cell for cell in declared if self._seen(cell) == 0]
            shown = [cell for cell in declared if self._status(cell, odd, least) == "shown"]
            document["declared"] = len(declared)
            document["coverage"] = len(shown) / len(declared)
            document["unseen"] = [names_of(cell) for cell in unseen]
        return document

    def _row(self, cell: Cell, odd: OddSpec | None, least: int) -> dict[str, Any]:
        tally = self.cells[cell]
        hours = tally.exposure / HOUR_NS
        row: dict[str, Any] = {**names_of(cell), "exposure_ns": tally.exposure}
        for kind in KINDS:
            count = getattr(tally, kind)
            row[kind] = {"count": count, **rate(count, hours)}
        for kind in ("robots", "missions", "sites"):
            row[kind] = sorted(getattr(tally, kind))
        if odd is not None:
            row["status"] = self._status(cell, odd, least)
        return row

    def _status(self, cell: Cell, odd: OddSpec, least: int) -> str:
        """``shown``, ``thin`` or ``declared-but-unseen`` inside the domain; else ``seen-outside-envelope``,
        ``unknown`` or ``excluded``."""
        seen = self._seen(cell)
        against = odd.against(cell)
        if against:
            if not seen:
                return "excluded"
            return "seen-outside-envelope" if any(cell[axis] != UNKNOWN for axis in against) else "unknown"
        if not seen:
            return "declared-but-unseen"
        tally = self.cells[cell]
        several = len(tally.robots) >= 2 or len(tally.sites) >= 2
        return "shown" if seen >= least and several else "thin"

    def _seen(self, cell: Cell) -> int:
        tally = self.cells.get(cell)
        return tally.exposure if tally else 0

    def _tally(self, cell: Cell) -> Tally:
        tally = self.cells.setdefault(cell, Tally())
        for label, seen in zip(self._labels, (tally.robots, tally.missions, tally.sites), strict=True):
            if label:
                seen.add(label)
        return tally


def declared_cells(odd: OddSpec) -> list[Cell]:
    """All named cells inside a declared domain; an axis that is not declared contributes all its bins."""
    bins = [sorted(odd.allowed.get(axis, range(len(BINS[axis])))) for axis in Axis]
    return [(w, x, v, o) for w in bins[0] for x in bins[1] for v in bins[2] for o in bins[3]]


def _only(axis: Axis, number: int) -> Cell:
    cell = list(NOWHERE)
    cell[axis] = number
    return (cell[0], cell[1], cell[2], cell[3])


def merged(matrices: Iterable[Matrix]) -> Matrix:
    """One matrix of several recordings."""
    whole = Matrix()
    for matrix in matrices:
        whole.merge(matrix)
    return whole
