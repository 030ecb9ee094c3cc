"""Go/no-go: an expression over criteria, evaluated with Kleene logic; GO only after it has passed for a while.

A pure machine in event time (SEMANTICS §4): it sees transitions, one instant at a time, and has deadlines of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .decision_specs import Criterion, GateSpec
from .samples import FLAG_INSTANT_END, Cause, TransitionKind, Verdict

# Comparing NumPy scalars with enumerations costs a microsecond each.
CHECK, CLOCK = int(TransitionKind.CHECK), int(TransitionKind.CLOCK)


@dataclass(frozen=True, slots=True)
class Reason:
    """One criterion as a gate saw it: its verdict since ``since`` (ns; None: it never had another), and the numbers then.

    ``value``, ``limit`` and ``margin`` are in the check's unit, NaN where there is none.
    """

    check: str
    verdict: Verdict
    cause: Cause
    value: float = math.nan
    limit: float = math.nan
    margin: float = math.nan
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A gate's change: GO or NO_GO at ``t_effective``, with every criterion's reason, failed ones first."""

    gate: str
    go: bool
    t_effective: int
    t_decided: int
    verdict: Verdict  #: of the expression
    reasons: tuple[Reason, ...]
    expired_hold: bool = False  #: NO_GO because an UNKNOWN outlasted ``on_unknown: hold``


def kleene(node: Criterion, verdicts: dict[str, Verdict]) -> Verdict:
    """Evaluate an expression: PASS when enough children pass, FAIL when enough no longer can, else UNKNOWN."""
    if node.check:
        return verdicts[node.check]
    children = [kleene(child, verdicts) for child in node.children]
    passed = children.count(Verdict.PASS)
    if passed >= node.at_least:
        return Verdict.PASS
    if passed + children.count(Verdict.UNKNOWN) < node.at_least:
        return Verdict.FAIL
    return Verdict.UNKNOWN


def criteria(node: Criterion) -> list[str]:
    """Names of the checks that an expression reads, in order, each once."""
    if node.check:
        return [node.check]
    return list(dict.fromkeys(name for child in node.children for name in criteria(child)))


class _Gate:
    """State of one gate. ``due``: when time alone would change it (end of ``go_after``, or of a hold)."""

    def __init__(self, spec: GateSpec) -> None:
        self.spec = spec
        self.checks = criteria(spec.expression)
        self.go = False
        self.told: Verdict | None = None  # the worst verdict that a NO_GO was reported with since the last GO
        self.pass_since: int | None = None
        self.hold_since: int | None = None
        self.due: int | None = None


class Gates:
    """All gates of an envelope over the checks' transitions."""

    def __init__(self, specs: Sequence[GateSpec], checks: Sequence[str]) -> None:
        self._names = tuple(checks)
        self._reasons = {name: Reason(name, Verdict.UNKNOWN, Cause.NEVER_RECEIVED) for name in checks}
        self._gates = [_Gate(spec) for spec in specs]

    def start(self, t: int) -> list[Decision]:
        """The first decisions, at the stream's first time (ns): everything is unknown, hence NO_GO."""
        return [decision for gate in self._gates if (decision := self._evaluate(gate, t, t, False)) is not None]

    def step(self, rows: np.ndarray) -> list[Decision]:
        """Take the TRANSITION rows of one instant; answers the decisions up to and including it, in order."""
        t, decided = int(rows[0]["t_effective"]), int(rows[0]["t_decided"])
        decisions = self.advance(t, decided)
        touched: set[str] = set()
        jumped = False
        for kind, row in zip(rows["kind"].tolist(), rows, strict=True):
            if kind == CLOCK:
                jumped = True
                self._shift(round(float(row["value"]) * 1e9))
            elif kind == CHECK:
                name = self._names[row["subject"]]
                touched.add(name)
                self._reasons[name] = Reason(
                    name, Verdict(int(row["verdict"])), Cause(int(row["cause"])),
                    float(row["value"]), float(row["limit"]), float(row["margin"]), t,
                )  # fmt: skip
        for gate in self._gates:
            if jumped or not touched.isdisjoint(gate.checks):
                decision = self._evaluate(gate, t, decided, False)
                if decision is not None:
                    decisions.append(decision)
        return decisions

    def advance(self, until: int, decided: int, *, inclusive: bool = False) -> list[Decision]:
        """Let time pass: deadlines before ``until`` fire (at it too where ``inclusive``: the end of a stream)."""
        decisions: list[Decision] = []
        while True:
            due = min((gate.due for gate in self._gates if gate.due is not None), default=None)
            if due is None or due > until or (due == until and not inclusive):
                return decisions
            for gate in self._gates:
                if gate.due == due:
                    decision = self._evaluate(gate, due, decided, True)
                    if decision is not None:
                        decisions.append(decision)

    def state(self) -> dict[str, bool]:
        """Whether each gate is GO now."""
        return {gate.spec.name: gate.go for gate in self._gates}

    def snapshot(self) -> list[Any]:
        """All state as plain data, for :meth:`restore` of the same gates over the same checks."""
        reasons = [[r.verdict, r.cause, r.value, r.limit, r.margin, r.since] for r in self._reasons.values()]
        gates = [[g.go, g.told, g.pass_since, g.hold_since, g.due] for g in self._gates]
        return [reasons, gates]

    def restore(self, snapshot: list[Any]) -> None:
        """Take over a snapshot. Raises ``ValueError`` where it is one of other gates."""
        reasons, gates = snapshot
        for name, (verdict, cause, value, limit, margin, since) in zip(self._names, reasons, strict=True):
            self._reasons[name] = Reason(name, Verdict(verdict), Cause(cause), value, limit, margin, since)
        for gate, (go, told, pass_since, hold_since, due) in zip(self._gates, gates, strict=True):
            gate.go, gate.told = go, None if told is None else Verdict(told)
            gate.pass_since, gate.hold_since, gate.due = pass_since, hold_since, due

    def reasons(self, gate: str) -> tuple[Reason, ...]:
        """What every criterion of ``gate`` says now, failed ones first."""
        return self._explain(next(g for g in self._gates if g.spec.name == gate))

    def _shift(self, step: int) -> None:
        """The clock stepped by ``step`` ns: a hold goes on for what was left of it, a run of passes starts anew."""
        for gate in self._gates:
            gate.pass_since = None
            if gate.hold_since is not None:
                gate.hold_since += step

    def _evaluate(self, gate: _Gate, t: int, decided: int, timer: bool) -> Decision | None:
        verdict = kleene(gate.spec.expression, {name: self._reasons[name].verdict for name in gate.checks})
        gate.due = None
        if verdict == Verdict.PASS:
            gate.hold_since = None
            if gate.go:
                return None
            gate.pass_since = t if gate.pass_since is None else gate.pass_since
            if t - gate.pass_since < gate.spec.go_after:
                gate.due = gate.pass_since + gate.spec.go_after
                return None
            gate.go, gate.told = True, None
            return self._decide(gate, t, decided, verdict)
        gate.pass_since = None
        if verdict == Verdict.UNKNOWN and gate.go and gate.spec.hold > 0:
            gate.hold_since = t if gate.hold_since is None else gate.hold_since
            if not timer or t - gate.hold_since < gate.spec.hold:
                gate.due = gate.hold_since + gate.spec.hold
                return None
        expired = gate.hold_since is not None and verdict == Verdict.UNKNOWN
        gate.hold_since = None
        gate.go = False
        if gate.told is not None and verdict <= gate.told:
            return None
        gate.told = verdict
        return self._decide(gate, t, decided, verdict, expired)

    def _decide(self, gate: _Gate, t: int, decided: int, verdict: Verdict, expired: bool = False) -> Decision:
        return Decision(gate.spec.name, gate.go, t, decided, verdict, self._explain(gate), expired)

    def _explain(self, gate: _Gate) -> tuple[Reason, ...]:
        return tuple(sorted((self._reasons[name] for name in gate.checks), key=lambda reason: -reason.verdict))


def instants(rows: np.ndarray) -> Iterable[np.ndarray]:
    """Cut TRANSITION rows into instants: each ends with the row that carries ``FLAG_INSTANT_END``."""
    start = 0
    for end in np.flatnonzero(rows["flags"] & FLAG_INSTANT_END):
        yield rows[start : end + 1]
        start = int(end) + 1
