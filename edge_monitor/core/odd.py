"""The operational domain: bins of weather, light, vibration and occlusion; whether the vehicle is in the declared one.

Numeric edges are those of ASAM OSI (``osi_environment.proto``), names those of ASAM OpenLABEL's ODD taxonomy (the tree
of ISO 34503) where it has them; how OSI's levels are merged to 5 and 4 bins, and the bins of vibration and occlusion,
are ours (docs/odd.md). OSI forbids "unknown" in ground truth; what a vehicle saw must keep it: ``UNKNOWN`` is a bin of
every axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from .samples import FLAG_CAUSE, ITEM_SAMPLE, ITEM_SHIFT, NEVER, SAMPLE, Cause

UNKNOWN = -1  #: the bin of what is not known
SECOND = 1_000_000_000

RAIN_EDGES = (0.1, 0.5, 1.9, 8.1, 34.0, 149.0)  #: mm/h: NONE, VERY_LIGHT, LIGHT, MODERATE, HEAVY, VERY_HEAVY, EXTREME
VISIBILITY_EDGES = (50.0, 200.0, 1e3, 2e3, 4e3, 1e4, 4e4)  #: m: DENSE, THICK, LIGHT, MIST, POOR … EXCELLENT
LIGHT_EDGES = (0.01, 1.0, 3.0, 10.0, 20.0, 400.0, 1e3, 1e4)  #: lx: LEVEL1 … LEVEL9

#: Acceleration RMS (m/s^2) between the vibration bins, by class of vehicle. ``multirotor``: ArduPilot's advice on its
#: VIBE figure (from 30 harmful, from 60 unusable); ``ground``: comfort steps of ISO 2631-1 annex C.
VIBRATION_EDGES = {"ground": (0.5, 1.25, 2.5), "multirotor": (15.0, 30.0, 60.0)}


class Axis(IntEnum):
    """The four axes of the sensor-reality matrix, in the order of a cell."""

    WEATHER = 0
    LIGHT = 1
    VIBRATION = 2
    OCCLUSION = 3


#: Names of the bins, by axis; ``UNKNOWN`` is ``unknown`` everywhere.
BINS: dict[Axis, tuple[str, ...]] = {
    Axis.WEATHER: ("clear", "light_rain", "rain", "heavy_rain", "low_visibility"),
    Axis.LIGHT: ("night", "ambient", "artificial", "day"),
    Axis.VIBRATION: ("low", "moderate", "high", "severe"),
    Axis.OCCLUSION: ("free", "slight", "partial", "blocked"),
}

Cell = tuple[int, int, int, int]
NOWHERE: Cell = (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)


def name_of(axis: Axis, number: int) -> str:
    """The name of a bin."""
    return "unknown" if number == UNKNOWN else BINS[axis][number]


def names_of(cell: Cell) -> dict[str, str]:
    """The names of a cell's bins, by axis."""
    return {axis.name.lower(): name_of(axis, cell[axis]) for axis in Axis}


def bin_of(value: float, edges: Sequence[float]) -> int:
    """The number of ``edges`` at or below ``value`` (bins are closed below); UNKNOWN for NaN and negative values."""
    if math.isnan(value) or value < 0:
        return UNKNOWN
    return sum(edge <= value for edge in edges)


def weather(rain: float, visibility: float | None = None) -> int:
    """The weather bin of ``rain`` (mm/h) and ``visibility`` (m; None where the vehicle has no such sensor).

    Merged from OSI's levels, the worse one counting: heavy rain (HEAVY and up), low visibility (FOG_LIGHT and denser:
    fog, snow, dust), rain (MODERATE), light rain (VERY_LIGHT, LIGHT), clear. An unknown input (NaN) makes the bin
    unknown unless the other one decides alone: heavy rain is heavy rain in any visibility.
    """
    level = bin_of(rain, RAIN_EDGES)
    if level >= 4:
        return 3
    sight = len(VISIBILITY_EDGES) if visibility is None else bin_of(visibility, VISIBILITY_EDGES)
    if level == UNKNOWN or sight == UNKNOWN:
        return UNKNOWN
    return 4 if sight <= 2 else (0, 1, 1, 2)[level]


def light(illuminance: float) -> int:
    """The light bin of lux: night (LEVEL1, 2: < 1), ambient (LEVEL3 to 5), artificial (LEVEL6, 7), day (>= 1 000)."""
    level = bin_of(illuminance, LIGHT_EDGES)
    return UNKNOWN if level == UNKNOWN else (0, 0, 1, 1, 1, 2, 2, 3, 3)[level]


def vibration(rms: float, edges: Sequence[float] = VIBRATION_EDGES["ground"]) -> int:
    """The vibration bin of an acceleration RMS (m/s^2)."""
    return bin_of(rms, edges)


def occlusion(share: float) -> int:
    """The occlusion bin of a blocked, saturated or invalid share: < 5 %, < 20 %, < 50 %, and from there."""
    return bin_of(share, (0.05, 0.2, 0.5)) if share <= 1 else UNKNOWN


@dataclass(frozen=True, slots=True)
class BinSpec:
    """A signal that is an axis' bin. ``signal``: its index; ``inputs``: indices of what it is made of (weather: rain
    and, where there is a sensor, visibility); ``max_age``: ns that an input counts, in their order (None: always)."""

    axis: Axis
    signal: int
    inputs: tuple[int, ...]
    max_age: tuple[int | None, ...] = ()
    edges: tuple[float, ...] = VIBRATION_EDGES["ground"]

    def __post_init__(self) -> None:
        allowed = (1, 2) if self.axis == Axis.WEATHER else (1,)
        if len(self.inputs) not in allowed or len(self.max_age) not in (0, len(self.inputs)):
            raise ValueError(f"{self.axis.name.lower()}: {len(self.inputs)} inputs")
        if self.axis == Axis.VIBRATION and (len(self.edges) != 3 or sorted(set(self.edges)) != list(self.edges)):
            raise ValueError("vibration: three rising edges in m/s^2 are needed")


class Bins:
    """Puts bins into the stream: each sample of an input is preceded by one of the bin, in the same instant."""

    def __init__(self, specs: Sequence[BinSpec]) -> None:
        self._specs = tuple(specs)
        self._held: list[dict[int, tuple[int, float]]] = [{} for _ in specs]

    def fill(self, samples: np.ndarray) -> np.ndarray:
        """``samples`` (SAMPLE rows) with those of the bins; a bin is unknown with the cause of its input."""
        rows: list[tuple[int, int, int, int, float]] = []
        for number, spec in enumerate(self._specs):
            kind = (samples["flags"] >> ITEM_SHIFT) & 0xFF
            mine = np.flatnonzero(np.isin(samples["signal"], spec.inputs) & (kind == ITEM_SAMPLE))
            for at in mine.tolist():
                t, cause, value = self._bin(number, spec, samples[at])
                rows.append((at, t, spec.signal, cause, value))
        if not rows:
            return samples
        rows.sort(key=lambda row: (row[0], row[2]))
        added = np.array([row[1:] for row in rows], SAMPLE)
        return np.insert(samples, [row[0] for row in rows], added)

    def succeed(self, old: Bins, there: Mapping[int, int]) -> None:
        """Hold what ``old`` held, of equal bins; ``there``: its inputs by their indices, as they are here."""
        self._held = [{there[signal]: held for signal, held in one.items()} for one in old._held]

    def _bin(self, number: int, spec: BinSpec, row: np.void) -> tuple[int, int, float]:
        t, cause, signal = int(row["t"]), int(row["flags"]) & FLAG_CAUSE, int(row["signal"])
        value = math.nan if cause else float(row["value"])
        held = self._held[number]
        held[signal] = t, value
        now = [self._value(held, spec, i, t) for i in range(len(spec.inputs))]
        if spec.axis == Axis.WEATHER:
            result = weather(now[0], now[1] if len(now) > 1 else None)
        elif spec.axis == Axis.LIGHT:
            result = light(now[0])
        elif spec.axis == Axis.VIBRATION:
            result = vibration(now[0], spec.edges)
        else:
            result = occlusion(now[0])
        if result != UNKNOWN:
            return t, int(Cause.NONE), float(result)
        return t, cause or int(Cause.INVALID if not math.isnan(value) and len(now) == 1 else Cause.DEPENDENCY), math.nan

    @staticmethod
    def _value(held: Mapping[int, tuple[int, float]], spec: BinSpec, i: int, t: int) -> float:
        """Input ``i`` as it counts at ``t``: NaN before it came, after its age, and after time stepped back."""
        since, value = held.get(spec.inputs[i], (t, math.nan))
        age = spec.max_age[i] if spec.max_age else None
        return math.nan if t < since or (age is not None and t >= since + age) else value


@dataclass(frozen=True, slots=True)
class OddSpec:
    """The declared domain: allowed bins by axis; an axis that is not named is no part of it. ``exit_after``,
    ``enter_after``: ns that the vehicle must be outside (or not known to be inside), or inside, before that counts."""

    allowed: Mapping[Axis, frozenset[int]]
    exit_after: int = SECOND
    enter_after: int = 5 * SECOND

    def __post_init__(self) -> None:
        if not self.allowed or any(
            not bins or not all(0 <= number < len(BINS[axis]) for number in bins) for axis, bins in self.allowed.items()
        ):
            raise ValueError("odd: at least one axis with at least one of its bins must be declared")
        if self.exit_after < 0 or self.enter_after < 0:
            raise ValueError("odd: exit_after and enter_after are not negative")

    def against(self, cell: Cell) -> tuple[Axis, ...]:
        """The declared axes whose bin is not allowed, or not known."""
        return tuple(axis for axis in Axis if axis in self.allowed and cell[axis] not in self.allowed[axis])


@dataclass(frozen=True, slots=True)
class OddChange:
    """The vehicle left its declared domain (``odd.exit``) or came back (``odd.enter``)."""

    type: str
    t_effective: int
    t_decided: int
    cell: Cell
    against: tuple[Axis, ...]  #: axes to blame for an exit
    known: bool  #: False: an exit because the vehicle is no longer known to be inside


class Odd:
    """Follows the bins in event time. Until something is known nothing is said; unknown is not inside.

    A deadline takes effect at its own time, whichever item reveals it; an item at the deadline comes first. A gap
    neither resets a pending exit nor earns an entrance (SEMANTICS §2).
    """

    def __init__(self, spec: OddSpec) -> None:
        self.spec = spec
        self.cell = NOWHERE
        self.inside: bool | None = None  #: as last said; None: nothing yet
        self._pending: bool | None = None  # what is to be said, and since when it has held
        self._since = 0

    @property
    def due(self) -> int:
        """When a change takes effect if nothing happens; NEVER where none is pending."""
        if self._pending is None:
            return int(NEVER)
        return self._since + (self.spec.enter_after if self._pending else self.spec.exit_after)

    def step(self, t: int, decided: int, cell: Cell) -> list[OddChange]:
        """The bins are those of ``cell`` from ``t`` (ns) on; answers what came to be before, and at, ``t``."""
        changes = self.advance(t, decided)
        self.cell = cell
        against = self.spec.against(cell)
        wanted: bool | None = None
        if not against:
            wanted = None if self.inside else True
        elif self.inside is not False:
            outside = any(cell[axis] != UNKNOWN for axis in against)
            wanted = False if outside or self.inside or self._pending is False else None
        if wanted is not self._pending:
            self._pending, self._since = wanted, t
        return changes + self.advance(t, decided, inclusive=True)

    def advance(self, t: int, decided: int, *, inclusive: bool = False) -> list[OddChange]:
        """Let time pass to ``t``: a deadline before it (``inclusive``: at it, too) takes effect."""
        due = self.due
        if self._pending is None or due > t or (due == t and not inclusive):
            return []
        self.inside, self._pending = self._pending, None
        against = self.spec.against(self.cell)
        known = any(self.cell[axis] != UNKNOWN for axis in against)
        name = "odd.enter" if self.inside else "odd.exit"
        return [OddChange(name, due, decided, self.cell, against, self.inside or known)]

    def snapshot(self) -> list[Any]:
        """All state as plain data, for :meth:`restore` under the same specification."""
        return [list(self.cell), self.inside, self._pending, self._since]

    def restore(self, snapshot: list[Any]) -> None:
        """Take over a snapshot."""
        (weather, light, vibration, occlusion), self.inside, self._pending, self._since = snapshot
        self.cell = weather, light, vibration, occlusion

    def jump(self, t: int, decided: int) -> list[OddChange]:
        """The stream's clock stepped back to ``t``: nothing is known, and what was pending is not."""
        self._pending = None
        return self.step(t, decided, NOWHERE)


class Exposure:
    """Time spent in each cell, in integer nanoseconds: the sum over cells is the time that passed, exactly."""

    def __init__(self) -> None:
        self.cells: dict[Cell, int] = {}
        self.cell = NOWHERE
        self._t: int | None = None

    def advance(self, t: int) -> None:
        """Time has passed to ``t`` (ns) in the cell in force; the first call begins, a step back adds nothing."""
        if self._t is not None and t > self._t:
            self.cells[self.cell] = self.cells.get(self.cell, 0) + t - self._t
        self._t = t

    def step(self, t: int, cell: Cell) -> None:
        """The cell is ``cell`` from ``t`` on."""
        self.advance(t)
        self.cell = cell

    @property
    def total(self) -> int:
        """All time, ns."""
        return sum(self.cells.values())

    def along(self, *axes: Axis) -> dict[tuple[int, ...], int]:
        """Time by the bins of some axes only, ns: one axis' profile, or a table of two."""
        sums: dict[tuple[int, ...], int] = {}
        for cell, time in self.cells.items():
            key = tuple(cell[axis] for axis in axes)
            sums[key] = sums.get(key, 0) + time
        return sums
