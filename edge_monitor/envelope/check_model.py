"""What all kinds of check share: common fields, references to signals, limits, and the way down to a CheckSpec."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field

from ..core.check_spec import CheckSpec
from ..core.samples import Latch
from ..core.signals import Signal
from .fields import Clearing, Duration, Model, Quantity, Severity, SignalName
from .problems import Finding, Path, shown

Signals = Mapping[str, Signal]
LATCHES = {"when_cleared": Latch.WHEN_CLEARED, "on_mode_change": Latch.ON_MODE_CHANGE}
LATCHES |= {"on_mission_end": Latch.ON_MISSION_END, "manual": Latch.MANUAL}


class CheckModel(Model):
    """Base of the kinds. A kind is one subclass and its line in ``CHECK_MODELS``; its docstring's first line says what
    it finds. It may override :meth:`findings`, :meth:`params`, :meth:`table`, :meth:`texts` and :meth:`unit`."""

    #: The fields that name signals, in the order that the kind's kernel expects them.
    signal_fields: ClassVar[tuple[str, ...]] = ("signal",)
    #: False where :meth:`references` may also answer other names, which :meth:`findings` tells apart.
    strict_references: ClassVar[bool] = True

    kind: str = Field(description="which kind of check this is")
    severity: Severity = Field("marginal", description="how bad a failure is (MIL-STD-882E)")
    rationale: str = Field("", description="why this limit; read by the person who approves it")
    hazard: str = Field("", description="id of the hazard that it guards against")
    claim: str = Field("", description="id of the claim in the assurance case that it supports")
    fail_for: Duration = Field(0, description="a limit must be broken for so long before the check fails")
    pass_for: Duration = Field(0, description="all must be well for so long before the check passes again")
    latch: Clearing = Field("when_cleared", description="when a failed check may pass again")

    def references(self) -> Iterator[tuple[Path, str]]:
        """The signals that the check reads, each with its place in the check; in the kernel's order."""
        return self.raw_references({field: getattr(self, field) for field in self.signal_fields})

    @classmethod
    def raw_references(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
        """The same for a check that may be wrong in other respects, so that those don't hide a misspelt signal."""
        for field in cls.signal_fields:
            named = raw.get(field)
            if isinstance(named, tuple):
                yield from (((field, i), name) for i, name in enumerate(named) if isinstance(name, str))
            elif isinstance(named, str) and named:
                yield (field,), named

    def findings(self, signals: Signals) -> Iterator[Finding]:
        """What is wrong between fields, or with what ``signals`` (all that the check names) are."""
        yield from ()

    def params(self) -> dict[str, float]:
        """The kind's numbers, in SI units and ns, as the plan expects them."""
        return {}

    def table(self, signals: Signals) -> tuple[float, ...]:
        """The kind's list of numbers."""
        return ()

    def texts(self, signals: Signals) -> tuple[str, ...]:
        """The kind's list of texts."""
        return ()

    def unit(self, signals: Signals) -> str:
        """The unit of values, limits and margins of this check."""
        return ""

    def lower(self, name: str, signals: Signals) -> CheckSpec:
        """The check as the plan takes it. Only for a check without findings."""
        return CheckSpec(
            name=name,
            kind=self.kind,
            signals=tuple(signal for _, signal in self.references()),
            params=self.params(),
            table=self.table(signals),
            texts=self.texts(signals),
            fail_for=self.fail_for,
            pass_for=self.pass_for,
            latch=LATCHES[self.latch],
            severity=self.severity,
            unit=self.unit(signals),
            rationale=self.rationale,
            hazard=self.hazard,
            claim=self.claim,
        )


class QuantityLimits(CheckModel):
    """A check of one signal against limits with hysteresis."""

    signal: SignalName = Field(description="what is checked")
    max: Quantity | None = Field(None, description="passes up to and including it")
    min: Quantity | None = Field(None, description="passes down to and including it")
    leave: Quantity | None = Field(None, description="after a failure, passes again at it; stands for the only limit's")
    leave_max: Quantity | None = Field(None, description="after a failure above `max`, passes again at it")
    leave_min: Quantity | None = Field(None, description="after a failure below `min`, passes again at it")

    def findings(self, signals: Signals) -> Iterator[Finding]:
        yield from limit_findings(self, lambda quantity: quantity.value)
        units = self.units(signals)
        for field in ("max", "min", "leave", "leave_max", "leave_min"):
            yield from unit_findings((field,), getattr(self, field), units, self.signal)

    def units(self, signals: Signals) -> tuple[str, ...]:
        """The spellings of the unit that a limit may carry."""
        return (signals[self.signal].unit,)

    def unit(self, signals: Signals) -> str:
        return self.units(signals)[0]

    def params(self) -> dict[str, float]:
        return limit_params(self, lambda quantity: quantity.value)


def limit_params(check: object, number: Callable[..., float]) -> dict[str, float]:
    """``max min leave_max leave_min`` of a check; no limit is infinite, no hysteresis the limit itself."""
    fields = ("max", "min", "leave", "leave_max", "leave_min")
    given = {field: number(getattr(check, field)) for field in fields if getattr(check, field) is not None}
    high, low = given.get("max", math.inf), given.get("min", -math.inf)
    leave_max = given.get("leave_max", given.get("leave", high) if "max" in given else high)
    leave_min = given.get("leave_min", given.get("leave", low) if "min" in given else low)
    return {"max": high, "min": low, "leave_max": leave_max, "leave_min": leave_min}


def limit_findings(
    check: object, number: Callable[..., float], show: Callable[[float], str] = shown
) -> Iterator[Finding]:
    """Limits that contradict each other; ``number`` turns a limit into a number, ``show`` the number into text."""
    given = {
        field: number(value)
        for field in ("max", "min", "leave", "leave_max", "leave_min")
        if (value := getattr(check, field)) is not None
    }
    if "max" not in given and "min" not in given:
        yield Finding((), "needs `max`, `min` or both")
        return
    if "max" in given and "min" in given and given["min"] >= given["max"]:
        yield Finding(("min",), f"must be below `max` ({show(given['max'])}), got {show(given['min'])}")
        return
    if "leave" in given:
        if "max" in given and "min" in given:
            yield Finding(("leave",), "is ambiguous where there are two limits: give `leave_max` or `leave_min`")
            return
        side = "leave_max" if "max" in given else "leave_min"
        if side in given:
            yield Finding(("leave",), f"says the same as `{side}`: keep one of them")
            return
    for side, limit in (("leave_max", "max"), ("leave_min", "min")):
        if side in given and limit not in given:
            yield Finding((side,), f"needs `{limit}`: there is no limit to come back to")
    leave = given.get("leave")
    leave_max = given.get("leave_max", leave) if "max" in given else None
    leave_min = given.get("leave_min", leave) if "min" in given else None
    field_max = "leave_max" if "leave_max" in given else "leave"
    field_min = "leave_min" if "leave_min" in given else "leave"
    if leave_max is not None and leave_max > given["max"]:
        yield Finding((field_max,), f"must not be above `max` ({show(given['max'])}), got {show(leave_max)}")
    elif leave_max is not None and leave_max < given.get("min", -math.inf):
        yield Finding((field_max,), f"is below `min` ({show(given['min'])}): the check could never recover")
    if leave_min is not None and leave_min < given["min"]:
        yield Finding((field_min,), f"must not be below `min` ({show(given['min'])}), got {show(leave_min)}")
    elif leave_min is not None and leave_min > given.get("max", math.inf):
        yield Finding((field_min,), f"is above `max` ({show(given['max'])}): the check could never recover")


def unit_findings(path: Path, quantity: Quantity | None, units: tuple[str, ...], signal: str) -> Iterator[Finding]:
    """A limit in another unit than the signal's: nothing is converted, so nothing is converted wrongly."""
    if quantity is not None and quantity.unit and quantity.unit not in units:
        has = f"calls for {shown(units[0])}" if units[0] else "has no unit"
        yield Finding(path, f"has the unit {shown(quantity.unit)}, but signal `{signal}` {has}")
