"""Units as products of powers, so that a formula's arithmetic can be checked: ``m/s2`` is m¹ s⁻²."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Powers by the name of the base, without zeros; a mapping that is empty is a plain number (``ratio``).
Dimension = Mapping[str, int]

_FACTOR = re.compile(r"([^\s\d^*/·.+-]+)(?:\^?(-?[1-9])|([²³]))?")
_POWERS = {"²": 2, "³": 3}
_PLAIN = frozenset({"", "1", "ratio"})


def dimension(unit: str) -> Dimension:
    """The powers of a unit's text; a text that is no product of powers is a base of its own."""
    powers: dict[str, int] = {}
    for place, part in enumerate(unit.split("/")):
        for factor in re.split(r"[*·]", part.strip()):
            if factor in _PLAIN:
                continue
            match = _FACTOR.fullmatch(factor)
            if match is None:
                return {unit: 1}
            power = int(match[2] or _POWERS.get(match[3], 1))
            powers[match[1]] = powers.get(match[1], 0) + (power if place == 0 else -power)
    return {base: power for base, power in powers.items() if power}


def product(a: Dimension, b: Dimension, sign: int = 1) -> Dimension:
    """The dimension of a product, or with ``sign`` -1 of a quotient."""
    powers = {base: a.get(base, 0) + sign * b.get(base, 0) for base in [*a, *b]}
    return {base: power for base, power in powers.items() if power}


def unit_text(powers: Dimension) -> str:
    """A dimension as one writes it: ``m/s2``, ``1/s``; a plain number is empty."""
    above = "*".join(base + (str(power) if power > 1 else "") for base, power in powers.items() if power > 0)
    below = "".join("/" + base + (str(-power) if power < -1 else "") for base, power in powers.items() if power < 0)
    return (above or "1") + below if above or below else ""
