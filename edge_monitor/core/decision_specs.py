"""What gates and authority are, before they run: names and nanoseconds. Made by the envelope."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Criterion:
    """A node of a gate's expression: a check by name, or ``at_least`` of its children (``all`` = every one, ``any`` = 1)."""

    check: str = ""
    at_least: int = 0
    children: tuple[Criterion, ...] = ()


@dataclass(frozen=True, slots=True)
class GateSpec:
    """One go/no-go gate. Times in ns. ``hold``: how long an UNKNOWN expression may keep the last GO (0: not at all)."""

    name: str
    expression: Criterion
    go_after: int = 0
    lease: int = 1_000_000_000
    hold: int = 0


@dataclass(frozen=True, slots=True)
class AuthoritySpec:
    """How to tell who decides and who acts, from signals named here (SEMANTICS §5).

    ``modes`` maps a mode's value (a number; for text signals the text) to ``autonomy``, ``human`` or ``fallback``.
    ``reason_flags`` pairs a phrase with a signal: the phrase is a reason while the signal is not zero.
    """

    mode: str
    modes: tuple[tuple[float | str, str], ...]
    intention: str = ""
    failsafe: str = ""
    active: str = ""
    active_value: float | str = 1.0
    reason_texts: tuple[str, ...] = ()
    reason_flags: tuple[tuple[str, str], ...] = ()
    within: int = 500_000_000
