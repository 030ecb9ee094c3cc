"""Durations, rates and quantities with units: the text of an envelope to exact numbers.

Durations are whole nanoseconds that a float64 holds exactly (at most 2**53 ns, 104 days), because a plan keeps a
check's numbers as floats; anything finer or longer is refused rather than rounded.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from .problems import shown

#: The largest duration, in ns: all integers up to here are exact in float64.
MAX_DURATION = 2**53

DURATION_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
RATE_UNITS = {"Hz": 1, "kHz": 1000}

NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
DURATION_PATTERN = rf"^{NUMBER} ?({'|'.join(DURATION_UNITS)})$"
RATE_PATTERN = rf"^{NUMBER} ?({'|'.join(RATE_UNITS)})$"
_UNIT = r"[^\s0-9_:;,.+\-/][^\s]{0,15}"
QUANTITY_PATTERN = rf"^{NUMBER} ?{_UNIT}$"
_MEASURED = re.compile(rf"({NUMBER}) ?({_UNIT})", re.ASCII)
_LONGEST = 64


class Quantity(NamedTuple):
    """A limit: its value, and its unit where the file gave one."""

    value: float
    unit: str = ""


def duration(value: object) -> int:
    """``200 ms`` in nanoseconds.

    Raises:
        ValueError: no unit, an unknown unit, not a whole number of ns, or longer than :data:`MAX_DURATION`.
    """
    amount, unit = _measured(value, "a duration such as `200 ms`", DURATION_UNITS)
    nanoseconds = amount * DURATION_UNITS[unit]
    if nanoseconds.denominator != 1:
        raise ValueError(f"is finer than a nanosecond: {shown(value)}")
    if abs(nanoseconds) > MAX_DURATION:
        raise ValueError(f"is too long: {shown(value)} (at most 104 days)")
    return int(nanoseconds)


def positive_duration(value: object) -> int:
    """A duration longer than nothing. Raises ValueError."""
    nanoseconds = not_negative_duration(value)
    if nanoseconds == 0:
        raise ValueError("must be longer than 0")
    return nanoseconds


def not_negative_duration(value: object) -> int:
    """A duration of zero or more. Raises ValueError."""
    nanoseconds = duration(value)
    if nanoseconds < 0:
        raise ValueError(f"must not be negative, got {shown(value)}")
    return nanoseconds


def rate(value: object) -> float:
    """``180 Hz`` in hertz, above zero.

    Raises:
        ValueError: no unit, an unknown unit, zero, negative or out of float64's range.
    """
    amount, unit = _measured(value, "a rate such as `50 Hz`", RATE_UNITS)
    hertz = _float(amount * RATE_UNITS[unit], value)
    if hertz <= 0:
        raise ValueError(f"must be above 0 Hz, got {shown(value)}")
    return hertz


def quantity(value: object) -> Quantity:
    """``12`` or ``12 m/s``. Whether the unit is right is for the one who knows the signal.

    Raises:
        ValueError: not a number, or out of float64's range.
    """
    if isinstance(value, Quantity):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Quantity(float(value) + 0.0)
    match = _MEASURED.fullmatch(value) if isinstance(value, str) and len(value) <= _LONGEST else None
    if match is None:
        raise ValueError(f"expected a number, with or without its unit, such as `12` or `12 m/s`, got {shown(value)}")
    return Quantity(_float(Fraction(match[1]), value), match[2])


def shown_duration(nanoseconds: float) -> str:
    """A duration in the largest unit that leaves it a whole number."""
    for unit in ("h", "min", "s", "ms", "us"):
        if nanoseconds % DURATION_UNITS[unit] == 0:
            return f"{int(nanoseconds) // DURATION_UNITS[unit]} {unit}"
    return f"{int(nanoseconds)} ns"


def _measured(value: object, expected: str, units: dict[str, int]) -> tuple[Fraction, str]:
    """Number and unit of ``value``; arithmetic is exact so that ``0.1 s`` is 100 ms to the nanosecond."""
    match = _MEASURED.fullmatch(value) if isinstance(value, str) and len(value) <= _LONGEST else None
    if match is None:
        raise ValueError(f"expected {expected} (with its unit), got {shown(value)}")
    if match[2] not in units:
        raise ValueError(f"unknown unit {shown(match[2])}: expected {expected} (units: {' '.join(units)})")
    return Fraction(match[1]), match[2]


def _float(amount: Fraction, value: object) -> float:
    try:
        return float(amount) + 0.0  # -0.0 becomes 0.0: they must not give two digests
    except OverflowError:
        raise ValueError(f"is too large: {shown(value)}") from None
