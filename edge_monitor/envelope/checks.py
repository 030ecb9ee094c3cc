"""The kinds of check, as a mission planner writes them. The reference in docs/configuration.md is made from here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from .check_model import CheckModel, QuantityLimits, Signals, limit_findings, limit_params, unit_findings
from .derived import Formula
from .drift import Drift
from .fields import PositiveDuration, Quantity, Rate, SignalName, SignedDuration, State
from .polygon import polygon_findings
from .problems import Finding, shown
from .units import shown_duration

#: A window that holds more messages than this does not fit the memory that a check may have.
MOST_IN_WINDOW = 1_000_000


class Bounds(QuantityLimits):
    """The value is above `max` or below `min`."""

    kind: Literal["bounds"]


class RateOfChange(QuantityLimits):
    """The value rises faster than `max` or falls faster than `min`, from sample to sample, in its unit per second."""

    kind: Literal["rate"]

    def units(self, signals: Signals) -> tuple[str, ...]:
        unit = signals[self.signal].unit
        if unit.endswith("/s"):
            return (f"{unit}2", f"{unit}^2", f"{unit}²", f"{unit}/s")
        return (f"{unit}/s",) if unit else ("1/s", "")


class Latency(CheckModel):
    """A message took longer than `max` from its `header.stamp` to its reception, or is from the future (`min`)."""

    kind: Literal["latency"]
    signal: SignalName = Field(description="a signal whose field is `header.stamp`")
    max: SignedDuration | None = Field(None, description="passes up to and including it")
    min: SignedDuration | None = Field(None, description="passes down to and including it; `0 ms`: no future stamps")
    leave: SignedDuration | None = Field(None, description="after a failure, passes again at it")
    leave_max: SignedDuration | None = Field(None, description="after a failure above `max`, passes again at it")
    leave_min: SignedDuration | None = Field(None, description="after a failure below `min`, passes again at it")

    def findings(self, signals: Signals) -> Iterator[Finding]:
        yield from limit_findings(self, float, lambda nanoseconds: f"`{shown_duration(nanoseconds)}`")
        if signals[self.signal].field != "header.stamp":
            yield Finding(("signal",), f"needs a signal with `field: header.stamp`; `{self.signal}` has another field")

    def params(self) -> dict[str, float]:
        return limit_params(self, lambda nanoseconds: nanoseconds / 1e9)

    def unit(self, signals: Signals) -> str:
        return "s"


class Stale(CheckModel):
    """No message came for longer than `max`."""

    kind: Literal["stale"]
    signal: SignalName = Field(description="what is awaited")
    max: PositiveDuration = Field(description="the longest silence")

    def params(self) -> dict[str, float]:
        return {"max": float(self.max)}

    def unit(self, signals: Signals) -> str:
        return "s"


class Frequency(CheckModel):
    """Messages come less often than `min` or more often than `max`, counted over a window."""

    kind: Literal["frequency"]
    signal: SignalName = Field(description="what is counted")
    min: Rate | None = Field(None, description="the lowest rate")
    max: Rate | None = Field(None, description="the highest rate")
    window: PositiveDuration = Field(description="how long is counted; until then the check is UNKNOWN (warming)")

    def findings(self, signals: Signals) -> Iterator[Finding]:
        if self.min is None and self.max is None:
            yield Finding((), "needs `max`, `min` or both")
            return
        if self.min is not None and self.max is not None and self.min >= self.max:
            yield Finding(("min",), f"must be below `max` (`{self.max:g} Hz`), got `{self.min:g} Hz`")
        seconds = self.window / 1e9
        if (self.min or self.max or 0.0) * seconds < 1:
            yield Finding(("window",), f"is too short to hold one message at `{self.min or self.max:g} Hz`")
        elif max(self.min or 0.0, self.max or 0.0) * seconds > MOST_IN_WINDOW:
            yield Finding(("window",), f"holds more than {MOST_IN_WINDOW} messages: shorten it")

    def params(self) -> dict[str, float]:
        return {"min": self.min or 0.0, "max": self.max or math.inf, "window": float(self.window)}

    def unit(self, signals: Signals) -> str:
        return "Hz"


class Jitter(CheckModel):
    """The interval between messages differs from the nominal period by more than `max`, within a window."""

    kind: Literal["jitter"]
    signal: SignalName = Field(description="whose messages are timed")
    rate: Rate = Field(description="the nominal rate")
    max: PositiveDuration = Field(description="the largest difference")
    window: PositiveDuration = Field(description="how long a difference is remembered")

    def findings(self, signals: Signals) -> Iterator[Finding]:
        if self.window < 2e9 / self.rate:
            yield Finding(("window",), f"is shorter than two periods at `{self.rate:g} Hz`")
        elif self.window / 1e9 * self.rate > MOST_IN_WINDOW:
            yield Finding(("window",), f"holds more than {MOST_IN_WINDOW} messages: shorten it")

    def params(self) -> dict[str, float]:
        return {"period": float(round(1e9 / self.rate)), "max": float(self.max), "window": float(self.window)}

    def unit(self, signals: Signals) -> str:
        return "s"


class Agreement(CheckModel):
    """Two signals that should tell the same differ by more than `max`."""

    signal_fields: ClassVar[tuple[str, ...]] = ("signals",)

    kind: Literal["agreement"]
    signals: Annotated[tuple[SignalName, ...], Field(min_length=2, max_length=2)] = Field(
        description="the two signals; both in one unit"
    )
    max: Quantity = Field(description="the largest difference")
    leave: Quantity | None = Field(None, description="after a failure, passes again at it")
    wrap: Quantity | None = Field(None, description="the full circle, for angles: `360 deg`")

    def findings(self, signals: Signals) -> Iterator[Finding]:
        first, second = self.signals
        if first == second:
            yield Finding(("signals", 1), f"repeats `{first}`: a signal always agrees with itself")
        units = [signals[name].unit for name in self.signals]
        if units[0] != units[1]:
            message = f"have different units: `{first}` {shown(units[0])}, `{second}` {shown(units[1])}"
            yield Finding(("signals",), message)
        else:
            for field in ("max", "leave", "wrap"):
                yield from unit_findings((field,), getattr(self, field), (units[0],), first)
        if self.max.value < 0:
            yield Finding(("max",), f"must not be negative, got {shown(self.max.value)}")
        elif self.leave is not None and not 0 <= self.leave.value <= self.max.value:
            message = f"must be between 0 and `max` ({shown(self.max.value)}), got {shown(self.leave.value)}"
            yield Finding(("leave",), message)
        if self.wrap is not None and self.wrap.value <= 0:
            yield Finding(("wrap",), f"must be above 0, got {shown(self.wrap.value)}")
        elif self.wrap is not None and self.max.value >= self.wrap.value / 2:
            yield Finding(("max",), f"can never be exceeded: angles differ by at most {shown(self.wrap.value / 2)}")

    def params(self) -> dict[str, float]:
        leave = self.max if self.leave is None else self.leave
        return {"max": self.max.value, "leave": leave.value, "wrap": self.wrap.value if self.wrap else 0.0}

    def unit(self, signals: Signals) -> str:
        return signals[self.signals[0]].unit


class Geofence(CheckModel):
    """The position is outside a polygon or altitude band (`keep_in`), or inside it (`keep_out`)."""

    signal_fields: ClassVar[tuple[str, ...]] = ("latitude", "longitude", "altitude")

    kind: Literal["geofence"]
    latitude: SignalName = Field(description="signal in deg")
    longitude: SignalName = Field(description="signal in deg")
    altitude: SignalName = Field("", description="signal; needed for `min_altitude` and `max_altitude`")
    polygon: tuple[tuple[float, float], ...] = Field(
        description="corners `[latitude, longitude]` in deg, either way round, not closed",
        min_length=3,
        max_length=500,
    )
    min_altitude: Quantity | None = Field(None, description="the floor, as `altitude` measures it")
    max_altitude: Quantity | None = Field(None, description="the ceiling, as `altitude` measures it")
    mode: Literal["keep_in", "keep_out"] = Field("keep_in", description="which side is allowed")

    def findings(self, signals: Signals) -> Iterator[Finding]:
        for field, name in (("latitude", self.latitude), ("longitude", self.longitude)):
            if signals[name].unit != "deg":
                unit = shown(signals[name].unit) if signals[name].unit else "none"
                yield Finding((field,), f"needs a signal with `unit: deg`; `{name}` has {unit}")
        if self.latitude == self.longitude:
            yield Finding(("longitude",), "is the same signal as `latitude`")
        yield from polygon_findings(self.polygon)
        limits = {f: q for f in ("min_altitude", "max_altitude") if (q := getattr(self, f)) is not None}
        if limits and not self.altitude:
            yield Finding((next(iter(limits)),), "needs `altitude`: which signal is meant?")
        elif self.altitude and not limits:
            yield Finding(("altitude",), "needs `min_altitude`, `max_altitude` or both")
        elif self.altitude:
            for field, limit in limits.items():
                yield from unit_findings((field,), limit, (signals[self.altitude].unit,), self.altitude)
        if len(limits) == 2 and limits["min_altitude"].value >= limits["max_altitude"].value:
            message = f"must be below `max_altitude` ({shown(limits['max_altitude'].value)})"
            yield Finding(("min_altitude",), message)

    def params(self) -> dict[str, float]:
        return {
            "min_altitude": self.min_altitude.value if self.min_altitude else -math.inf,
            "max_altitude": self.max_altitude.value if self.max_altitude else math.inf,
            "keep_out": float(self.mode == "keep_out"),
        }

    def table(self, signals: Signals) -> tuple[float, ...]:
        return tuple(degrees for corner in self.polygon for degrees in corner)

    def unit(self, signals: Signals) -> str:
        return "m"


class Valid(CheckModel):
    """The value is NaN, infinite or unreadable, or its covariance is unknown (≤ 0) or above `covariance_max`."""

    signal_fields: ClassVar[tuple[str, ...]] = ("signal", "covariance")

    kind: Literal["valid"]
    signal: SignalName = Field(description="what must be a number")
    covariance: SignalName = Field("", description="signal with the value's variance")
    covariance_max: Quantity | None = Field(None, description="the largest variance")

    def findings(self, signals: Signals) -> Iterator[Finding]:
        if self.covariance_max is None:
            return
        if not self.covariance:
            yield Finding(("covariance_max",), "needs `covariance`: which signal is meant?")
            return
        if self.covariance_max.value <= 0:
            yield Finding(("covariance_max",), f"must be above 0, got {shown(self.covariance_max.value)}")
        unit = signals[self.covariance].unit
        yield from unit_findings(("covariance_max",), self.covariance_max, (unit,), self.covariance)

    def params(self) -> dict[str, float]:
        return {"covariance_max": self.covariance_max.value if self.covariance_max else math.inf}

    def unit(self, signals: Signals) -> str:
        return signals[self.covariance].unit if self.covariance else signals[self.signal].unit


class StateCheck(CheckModel):
    """A check of one signal against states, given by number, by the signal's names for them, or as text."""

    signal: SignalName = Field(description="the state; a number, with or without names, or text")

    def states(self) -> tuple[tuple[tuple[str | int, ...], float | str], ...]:
        """The allowed states, each with its place."""
        return ()

    def findings(self, signals: Signals) -> Iterator[Finding]:
        yield from state_findings(self.states(), signals[self.signal])

    def table(self, signals: Signals) -> tuple[float, ...]:
        numbers = (state_value(state, signals[self.signal]) for _, state in self.states())
        return tuple(number for number in numbers if isinstance(number, float))

    def texts(self, signals: Signals) -> tuple[str, ...]:
        values = (state_value(state, signals[self.signal]) for _, state in self.states())
        return tuple(value for value in values if isinstance(value, str))

    def unit(self, signals: Signals) -> str:
        return signals[self.signal].unit


class OneOf(StateCheck):
    """The state is none of the allowed ones."""

    kind: Literal["one_of"]
    values: tuple[State, ...] = Field(description="the allowed states", min_length=1)

    def states(self) -> tuple[tuple[tuple[str | int, ...], float | str], ...]:
        return tuple((("values", i), state) for i, state in enumerate(self.values))


class Equals(StateCheck):
    """The state is another than the one required."""

    kind: Literal["equals"]
    value: State = Field(description="the required state")

    def states(self) -> tuple[tuple[tuple[str | int, ...], float | str], ...]:
        return ((("value",), self.value),)


def state_value(state: float | str, signal: object) -> float | str:
    """The number of a state that the signal names; the state itself where it is a number or a text signal's text."""
    return dict(getattr(signal, "values", ())).get(state, state) if isinstance(state, str) else state


def state_findings(states: tuple[tuple[tuple[str | int, ...], float | str], ...], signal: object) -> Iterator[Finding]:
    """States that the signal does not have, or that are given twice, or half of them text."""
    names = tuple(name for name, _ in getattr(signal, "values", ()))
    seen: dict[float | str, str] = {}
    texts = 0
    for path, state in states:
        value = state_value(state, signal)
        if isinstance(value, str) and names:
            message = f"signal `{getattr(signal, 'name', '')}` has no state {shown(value)}"
            yield Finding(path, message, value, names)
        elif value in seen:
            other = f" (as {seen[value]})" if seen[value] != shown(state) else ""
            yield Finding(path, f"{shown(state)} is given twice{other}")
        seen.setdefault(value, shown(state))
        texts += isinstance(value, str)
    if not names and 0 < texts < len(states):
        yield Finding(states[0][0][:-1], "mixes numbers and texts, and a signal is either (or give it `values`)")


_MODELS: tuple[type[CheckModel], ...] = (
    Bounds,
    RateOfChange,
    Stale,
    Frequency,
    Jitter,
    Latency,
    Agreement,
    Geofence,
    Valid,
    OneOf,
    Equals,
    Drift,
    Formula,
)

#: Every kind of check by its name in the file. A new kind is a model and its line above.
CHECK_MODELS: dict[str, type[CheckModel]] = {
    get_args(model.model_fields["kind"].annotation)[0]: model for model in _MODELS
}
