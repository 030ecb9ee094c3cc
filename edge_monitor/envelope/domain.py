"""The ``odd`` section: which signals say what the sensors see, and the conditions that the vehicle is made for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from ..core.odd import BINS, VIBRATION_EDGES, Axis, BinSpec, OddSpec
from ..core.signals import Signal
from .fields import Duration, Model, SignalName, Text
from .problems import Finding, Path, shown

#: Fields of the inputs of each axis; the first one is needed.
INPUTS: dict[Axis, tuple[str, ...]] = {
    Axis.WEATHER: ("rain", "visibility"),
    Axis.LIGHT: ("illuminance",),
    Axis.VIBRATION: ("vibration",),
    Axis.OCCLUSION: ("occlusion",),
}
#: Spellings of the unit that an input must have: the edges of the bins are in it.
UNITS = {
    "rain": ("mm/h",),
    "visibility": ("m",),
    "illuminance": ("lx", "lux"),
    "vibration": ("m/s2", "m/s^2", "m/s²"),
    "occlusion": ("ratio",),
}
Bins = Annotated[tuple[Text, ...], Field(min_length=1)]


class Domain(Model):
    """The allowed bins of each axis; an axis that is not named is no part of the domain."""

    weather: Bins | None = Field(None, description="of `clear`, `light_rain`, `rain`, `heavy_rain`, `low_visibility`")
    light: Bins | None = Field(None, description="of `night`, `ambient`, `artificial`, `day`")
    vibration: Bins | None = Field(None, description="of `low`, `moderate`, `high`, `severe`")
    occlusion: Bins | None = Field(None, description="of `free`, `slight`, `partial`, `blocked`")

    def allowed(self) -> Iterator[tuple[Axis, tuple[str, ...]]]:
        """The declared axes with the names of their bins."""
        for axis in Axis:
            names = getattr(self, axis.name.lower())
            if names is not None:
                yield axis, names


class Odd(Model):
    """The operational domain: how it is measured, and what is declared."""

    rain: SignalName = Field("", description="signal in mm/h; makes `odd_weather`")
    visibility: SignalName = Field("", description="signal in m; without it, fog is not observable")
    illuminance: SignalName = Field("", description="signal in lx; makes `odd_light`")
    vibration: SignalName = Field("", description="signal in m/s², an RMS; makes `odd_vibration`")
    occlusion: SignalName = Field("", description="signal, a ratio from 0 to 1; makes `odd_occlusion`")
    vehicle: Literal["ground", "multirotor"] = Field("ground", description="whose edges between bins of vibration")
    vibration_edges: Annotated[tuple[float, ...], Field(min_length=3, max_length=3)] | None = Field(
        None, description="three edges of your own instead, m/s²"
    )
    domain: Domain | None = Field(None, description="allowed bins by axis; without it nothing is left or entered")
    exit_after: Duration = Field(1_000_000_000, description="outside, or not known to be inside, for so long")
    enter_after: Duration = Field(5_000_000_000, description="inside for so long")

    def references(self) -> Iterator[tuple[Path, str]]:
        """Every signal that it reads, with its place."""
        for fields in INPUTS.values():
            yield from (((field,), getattr(self, field)) for field in fields if getattr(self, field))

    def axes(self) -> tuple[Axis, ...]:
        """The axes that are measured."""
        return tuple(axis for axis in Axis if getattr(self, INPUTS[axis][0]))

    def findings(self, signals: Mapping[str, Signal]) -> Iterator[Finding]:
        """What is wrong with it; of the signals only those that are known are looked at."""
        if not self.axes() and not self.visibility:
            yield Finding((), f"names no signal: give one of {', '.join(f'`{name}`' for name in UNITS)}")
        if self.visibility and not self.rain:
            yield Finding(("visibility",), "needs `rain`: weather is made of both")
        for path, name in self.references():
            units = UNITS[str(path[0])]
            if name in signals and signals[name].unit not in units:
                unit = shown(signals[name].unit) if signals[name].unit else "none"
                yield Finding(path, f"needs a signal with `unit: {units[0]}`; `{name}` has {unit}")
        edges = self.vibration_edges
        if edges is not None and not (edges[0] > 0 and all(a < b for a, b in pairwise(edges))):
            yield Finding(("vibration_edges",), "must be three rising numbers above 0")
        if self.domain is not None:
            yield from (found.under(("domain",)) for found in self._domain(self.domain))

    def _domain(self, domain: Domain) -> Iterator[Finding]:
        declared = list(domain.allowed())
        if not declared:
            yield Finding((), "declares no axis: leave it out, or name allowed bins")
        for axis, names in declared:
            field = axis.name.lower()
            if axis not in self.axes():
                yield Finding(
                    (field,), f"can never be known: `odd` needs `{INPUTS[axis][0]}`, the signal to tell it by"
                )
            for i, name in enumerate(names):
                if name not in BINS[axis]:
                    message = f"there is no bin {shown(name)} of {field}: one of {', '.join(BINS[axis])}"
                    yield Finding((field, i), message, name, BINS[axis])
                elif name in names[:i]:
                    yield Finding((field, i), f"{shown(name)} is given twice")

    def signals(self, signals: Mapping[str, Signal]) -> Iterator[Signal]:
        """A signal for each measured axis: the bin, which counts as long as all of its inputs would."""
        for axis in self.axes():
            inputs = [signals[name] for name in self._inputs(axis) if name in signals]
            ages = [signal.max_age for signal in inputs if signal.max_age is not None]
            values = tuple((name, float(number)) for number, name in enumerate(BINS[axis]))
            yield Signal(bin_name(axis), "", max_age=min(ages, default=None), values=values, watch="change")

    def lower(self, signals: Sequence[Signal]) -> tuple[tuple[BinSpec, ...], OddSpec | None]:
        """Bins and domain as core.odd takes them; ``signals``: all, with those of :meth:`signals`."""
        index = {signal.name: i for i, signal in enumerate(signals)}
        edges = self.vibration_edges or VIBRATION_EDGES[self.vehicle]
        bins = []
        for axis in self.axes():
            inputs = tuple(index[name] for name in self._inputs(axis))
            bins.append(BinSpec(axis, index[bin_name(axis)], inputs, tuple(signals[i].max_age for i in inputs), edges))
        if self.domain is None:
            return tuple(bins), None
        allowed = {axis: frozenset(BINS[axis].index(name) for name in names) for axis, names in self.domain.allowed()}
        return tuple(bins), OddSpec(allowed, self.exit_after, self.enter_after)

    def _inputs(self, axis: Axis) -> list[str]:
        return [name for field in INPUTS[axis] if (name := getattr(self, field))]


def bin_name(axis: Axis) -> str:
    """The name of the signal that is an axis' bin."""
    return f"odd_{axis.name.lower()}"
