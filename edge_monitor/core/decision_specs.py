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
    """One go/no-go gate. Times in ns. ``hold``: how long an UNKNOWN expression may keep the last GO (0: not at all).

    ``demand``: NO_GO while autonomy commands makes a transition demand; ``mrm_after``: the minimal-risk manoeuvre is
    asked for so long after it unless a person has taken over (None: when the handover times out).
    """

    name: str
    expression: Criterion
    go_after: int = 0
    lease: int = 1_000_000_000
    hold: int = 0
    demand: bool = False
    mrm_after: int | None = None


@dataclass(frozen=True, slots=True)
class HandoverSpec:
    """How long the steps of a handover may take, ns, and what the vehicle lets us see of it.

    ``gates`` must be GO for a handover to autonomy. ``observed_within``: a change of command is seen at most so long
    after it happened (None: no bound). ``sees_none``: the vehicle says when nobody commands; ``sees_both``: who decides
    and who acts are told apart.
    """

    accept_within: int = 10_000_000_000
    complete_within: int = 10_000_000_000
    attest_within: int = 300_000_000_000
    gates: tuple[str, ...] = ()
    mrm_within: int = 5_000_000_000
    lost_after: int = 3_000_000_000
    observed_within: int | None = None
    sees_none: bool = False
    sees_both: bool = False


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
