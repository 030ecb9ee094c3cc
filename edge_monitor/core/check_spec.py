"""What a check is before it is compiled: names and numbers. Made by the envelope, lowered by the plan."""

from __future__ import annotations

from dataclasses import dataclass, field

from .formula.term import Term
from .samples import Latch


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """One check with all units resolved: durations in ns, rates in Hz, limits in the signal's unit.

    ``signals`` are names in the order that the kind expects. ``params`` are the kind's numbers by name; ``table`` its
    list, where it has one (polygon vertices, allowed values). ``fail_for``/``pass_for`` are the debounce times.
    """

    name: str
    kind: str
    signals: tuple[str, ...]
    params: dict[str, float] = field(default_factory=dict)
    table: tuple[float, ...] = ()
    formula: Term | None = None  #: of a ``formula`` check
    texts: tuple[str, ...] = ()  #: allowed texts of a text signal; the plan turns them into numbers of the text table
    fail_for: int = 0
    pass_for: int = 0
    latch: Latch = Latch.WHEN_CLEARED
    severity: str = "marginal"
    unit: str = ""
    rationale: str = ""
    hazard: str = ""
    claim: str = ""
