"""Go/no-go: an expression over criteria, evaluated with Kleene logic; GO only after it has passed for a while.

A pure machine in event time (SEMANTICS §4): it sees transitions, one instant at a time, and has deadlines of its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .commands import Waive, WithdrawWaiver
from .decision_specs import Criterion, GateSpec
from .samples import FLAG_INSTANT_END, Cause, TransitionKind, Verdict

# Comparing NumPy scalars with enumerations costs a microsecond each.
CHECK, CLOCK = int(TransitionKind.CHECK), int(TransitionKind.CLOCK)

MOST_WAIVERS = 64
LONGEST_WAIVER = 86_400_000_000_000  #: a day, ns: what has to last longer belongs into the envelope
TWO_PEOPLE = ("catastrophic", "critical")  #: severities of checks that one person alone can't waive


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
class Waiver:
    """Persons accept one criterion: until ``expires`` (ns) it counts as passed in ``gates``, whatever its check says."""

    check: str
    gates: tuple[str, ...]
    persons: tuple[str, ...]
    reason: str
    granted: int
    expires: int

    def plain(self) -> list[Any]:
        """As a snapshot holds it."""
        return [self.check, list(self.gates), list(self.persons), self.reason, self.granted, self.expires]

    @classmethod
    def of(cls, row: Sequence[Any]) -> Waiver:
        """From :meth:`plain`."""
        return cls(row[0], tuple(row[1]), tuple(row[2]), *row[3:])


@dataclass(frozen=True, slots=True)
class WaiverChange:
    """A waiver was ``granted``, ``withdrawn`` (by ``person``, with a reason) or has ``expired``."""

    state: str
    waiver: Waiver
    t_effective: int
    t_decided: int
    person: str = ""
    reason: str = ""
    signatures: tuple[bytes, ...] = ()
    checkpoint: str = ""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a command about waivers did: the change, the decisions that follow, or why it could not be carried out."""

    decisions: list[Decision]
    refused: str = ""


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
    waivers: tuple[Waiver, ...] = ()  #: in force in this gate; the reasons keep what the checks say


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


def passing_since(node: Criterion, passing: Mapping[str, int]) -> int | None:
    """Since when an expression passes at the latest, ns; None where it does not. ``passing``: since when its checks do."""
    if node.check:
        return passing.get(node.check)
    begun = sorted(t for child in node.children if (t := passing_since(child, passing)) is not None)
    return begun[node.at_least - 1] if len(begun) >= node.at_least else None


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
        self.renewed = False  # it came with another envelope, and is judged at the switch


class Gates:
    """All gates of an envelope over the checks' transitions.

    ``severities``: of the checks, by name; one that is not told counts as critical. Waivers that were granted, withdrawn
    or have expired are told by :meth:`waiver_changes`, to be asked for after each call: they come before the decisions
    of the same time.
    """

    def __init__(
        self, specs: Sequence[GateSpec], checks: Sequence[str], severities: Mapping[str, str] | None = None
    ) -> None:
        self._names = tuple(checks)
        self._severities = dict(severities or {})
        self._waivers: list[Waiver] = []
        self._changes: list[WaiverChange] = []
        self._reasons = {name: Reason(name, Verdict.UNKNOWN, Cause.NEVER_RECEIVED) for name in checks}
        self._gates = [_Gate(spec) for spec in specs]

    def start(self, t: int) -> list[Decision]:
        """The first decisions, at the stream's first time (ns): everything is unknown, hence NO_GO."""
        return [decision for gate in self._gates if (decision := self._evaluate(gate, t, t, False)) is not None]

    def step(self, rows: np.ndarray) -> list[Decision]:
        """Take the TRANSITION rows of one instant; answers the decisions up to and including it, in order."""
        t, decided = int(rows[0]["t_effective"]), int(rows[0]["t_decided"])
        decisions = self.advance(t, decided)
        touched, jumped = self._take(rows, t)
        for gate in self._gates:
            if jumped or not touched.isdisjoint(gate.checks):
                decision = self._evaluate(gate, t, decided, False)
                if decision is not None:
                    decisions.append(decision)
        return decisions

    def _take(self, rows: np.ndarray, t: int) -> tuple[set[str], bool]:
        """Put verdicts in force; answers whose, and whether the clock jumped."""
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
        return touched, jumped

    def succeed(self, old: Gates, kept: Collection[str], t: int) -> list[Decision]:
        """Go on at ``t`` (ns) from where ``old`` stands, the gates of the envelope before; :meth:`switch` must follow.

        ``kept``: checks that are the same in both. A waiver goes on where its check, severity included, is the same; one
        that does not is withdrawn. Answers the NO_GO of gates that are no more.
        """
        self._reasons |= {name: reason for name, reason in old._reasons.items() if name in self._reasons}
        for waiver in old._waivers:
            gates = tuple(gate.spec.name for gate in self._gates if waiver.check in gate.checks)
            gates = tuple(name for name in waiver.gates if name in gates)
            same = self._severities.get(waiver.check) == old._severities.get(waiver.check)
            if waiver.check in kept and same and gates:
                self._waivers.append(replace(waiver, gates=gates))
            else:
                self._changes.append(WaiverChange("withdrawn", waiver, t, t, reason="another envelope is in force"))
        were = {gate.spec.name: gate for gate in old._gates}
        for gate in self._gates:
            was = were.pop(gate.spec.name, None)
            if was is None:
                gate.renewed = True
                continue
            gate.go, gate.hold_since = was.go, was.hold_since
            gate.renewed = was.spec != gate.spec or not set(gate.checks) <= set(kept)
            gate.renewed |= self.waivers(gate.spec.name) != old.waivers(gate.spec.name)
            if not gate.renewed:
                gate.told, gate.pass_since, gate.due = was.told, was.pass_since, was.due
        return [Decision(name, False, t, t, Verdict.UNKNOWN, old.reasons(name)) for name, was in were.items() if was.go]

    def switch(self, rows: np.ndarray, t: int, checks: Iterable[Reason], since: Mapping[str, int]) -> list[Decision]:
        """The instant ``t`` (ns) at which these gates begin to decide: TRANSITION rows of it, and what the checks that
        are not the same say now; ``since`` when each check has said what it says.

        A gate that was GO stays so where its criteria have passed for its ``go_after``; none becomes GO here. What else
        passes now has passed since ``t``, and is GO after that at the earliest.
        """
        for reason in checks:
            self._reasons[reason.check] = replace(reason, since=self._reasons[reason.check].since)
        touched, _ = self._take(rows, t) if len(rows) else (set[str](), False)
        decisions = []
        for gate in self._gates:
            if gate.renewed or not touched.isdisjoint(gate.checks):
                was = gate.go
                if gate.renewed and gate.go:
                    gate.go = gate.hold_since is None and self._has_passed(gate, t, since)
                    gate.hold_since = None
                decision = self._evaluate(gate, t, t, True, switching=True)
                if decision is None and was and not gate.go:  # all passes, but not for long enough
                    gate.told = Verdict.PASS
                    decision = self._decide(gate, t, t, Verdict.PASS)
                if decision is not None:
                    decisions.append(decision)
            gate.renewed = False
        return decisions

    def _has_passed(self, gate: _Gate, t: int, since: Mapping[str, int]) -> bool:
        """Whether a gate's criteria have passed for its ``go_after`` at ``t``, as far as is known."""
        passing = {name: since[name] for name in gate.checks if self._reasons[name].verdict == Verdict.PASS}
        passing |= {waiver.check: waiver.granted for waiver in self.waivers(gate.spec.name)}
        begun = passing_since(gate.spec.expression, passing)
        return begun is not None and t - begun >= gate.spec.go_after

    def advance(self, until: int, decided: int, *, inclusive: bool = False) -> list[Decision]:
        """Let time pass: deadlines before ``until`` fire (at it too where ``inclusive``: the end of a stream)."""
        decisions: list[Decision] = []
        while True:
            dues = [gate.due for gate in self._gates if gate.due is not None]
            dues += [waiver.expires for waiver in self._waivers]
            due = min(dues, default=None)
            if due is None or due > until or (due == until and not inclusive):
                return decisions
            ended = [waiver for waiver in self._waivers if waiver.expires == due]
            for waiver in ended:
                self._end_waiver(waiver, WaiverChange("expired", waiver, due, decided))
            decisions += self._reevaluate([waiver.check for waiver in ended], due, decided)
            for gate in self._gates:
                if gate.due == due:
                    decision = self._evaluate(gate, due, decided, True)
                    if decision is not None:
                        decisions.append(decision)

    def command(self, order: Waive | WithdrawWaiver) -> Ruling:
        """Grant or withdraw a waiver at its time; nothing changes where it is refused.

        A waiver touches its gates alone: never a check's verdict, never a latch.
        """
        t = order.t
        decisions = self.advance(t, t)
        if isinstance(order, WithdrawWaiver):
            held = [waiver for waiver in self._waivers if waiver.check == order.check]
            if not held:
                return Ruling(decisions, f"no waiver of {order.check} is in force")
            for waiver in held:
                self._end_waiver(waiver, WaiverChange("withdrawn", waiver, t, t, order.person, order.reason))
        else:
            refused, gates = self._against(order)
            if refused:
                return Ruling(decisions, refused)
            waiver = Waiver(order.check, gates, order.persons, order.reason, t, order.expires)
            self._waivers.append(waiver)
            self._changes.append(
                WaiverChange("granted", waiver, t, t, signatures=order.signatures, checkpoint=order.checkpoint)
            )
        return Ruling(decisions + self._reevaluate([order.check], t, t))

    def waiver_changes(self) -> list[WaiverChange]:
        """What has become of waivers since this was last asked, in order of time."""
        changes, self._changes = self._changes, []
        return changes

    @property
    def all_waivers(self) -> tuple[Waiver, ...]:
        """All waivers in force."""
        return tuple(self._waivers)

    def waivers(self, gate: str) -> tuple[Waiver, ...]:
        """The waivers in force in ``gate``."""
        return tuple(waiver for waiver in self._waivers if gate in waiver.gates)

    def _against(self, order: Waive) -> tuple[str, tuple[str, ...]]:
        """Why a waiver is refused (empty: it is not), and the gates it is for."""
        reading = [gate.spec.name for gate in self._gates if order.check in gate.checks]
        gates = order.gates or tuple(reading)
        strange = [gate for gate in gates if gate not in reading]
        if order.check not in self._reasons:
            return f"no check is named {order.check}", ()
        if not gates:
            return f"no gate reads {order.check}: there is nothing to waive", ()
        if strange:
            return f"gate {', '.join(strange)} does not read {order.check}", ()
        severity = self._severities.get(order.check, "critical")
        if severity in TWO_PEOPLE and len(order.persons) < 2:
            return f"{order.check} is {severity}: two people must waive it", ()
        if order.expires - order.t > LONGEST_WAIVER:
            return "a waiver lasts a day at most", ()
        if any(waiver.check == order.check and set(waiver.gates) & set(gates) for waiver in self._waivers):
            return f"{order.check} is waived already: withdraw that first", ()
        if len(self._waivers) >= MOST_WAIVERS:
            return f"{MOST_WAIVERS} waivers are in force: withdraw one first", ()
        return "", gates

    def _end_waiver(self, waiver: Waiver, change: WaiverChange) -> None:
        self._waivers.remove(waiver)
        self._changes.append(change)

    def _reevaluate(self, checks: Iterable[str], t: int, decided: int) -> list[Decision]:
        touched = set(checks)
        decided_now = [
            self._evaluate(gate, t, decided, gate.due == t)
            for gate in self._gates
            if not touched.isdisjoint(gate.checks)
        ]
        return [decision for decision in decided_now if decision is not None]

    def snapshot(self) -> dict[str, Any]:
        """All state as maps, lists, text and numbers (NaN among them); :meth:`restore` goes on from there."""
        return {
            "reasons": [
                [r.check, int(r.verdict), int(r.cause), r.value, r.limit, r.margin, r.since]
                for r in self._reasons.values()
            ],
            "gates": [
                [g.spec.name, g.go, None if g.told is None else int(g.told), g.pass_since, g.hold_since, g.due]
                for g in self._gates
            ],
            "waivers": [waiver.plain() for waiver in self._waivers],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back a :meth:`snapshot`. Raises ``ValueError`` where it is of an envelope with other gates or checks."""
        rows = {row[0]: row for row in state["gates"]}
        if set(rows) != {gate.spec.name for gate in self._gates} or {r[0] for r in state["reasons"]} != set(
            self._reasons
        ):
            raise ValueError("the snapshot belongs to another envelope: its gates or checks differ")
        for name, verdict, cause, value, limit, margin, since in state["reasons"]:
            self._reasons[name] = Reason(name, Verdict(verdict), Cause(cause), value, limit, margin, since)
        for gate in self._gates:
            _, gate.go, told, gate.pass_since, gate.hold_since, gate.due = rows[gate.spec.name]
            gate.told = None if told is None else Verdict(told)
        self._waivers = [Waiver.of(row) for row in state["waivers"]]
        self._changes = []

    def state(self) -> dict[str, bool]:
        """Whether each gate is GO now."""
        return {gate.spec.name: gate.go for gate in self._gates}

    def reasons(self, gate: str) -> tuple[Reason, ...]:
        """What every criterion of ``gate`` says now, failed ones first."""
        return self._explain(next(g for g in self._gates if g.spec.name == gate))

    def _shift(self, step: int) -> None:
        """The clock stepped by ``step`` ns: a hold goes on for what was left of it, a run of passes starts anew;
        a waiver lasts for what was left of it."""
        for gate in self._gates:
            gate.pass_since = None
            if gate.hold_since is not None:
                gate.hold_since += step
        self._waivers = [
            replace(waiver, granted=waiver.granted + step, expires=waiver.expires + step) for waiver in self._waivers
        ]

    def _evaluate(self, gate: _Gate, t: int, decided: int, timer: bool, *, switching: bool = False) -> Decision | None:
        verdicts = {name: self._reasons[name].verdict for name in gate.checks}
        verdicts |= {waiver.check: Verdict.PASS for waiver in self.waivers(gate.spec.name)}
        verdict = kleene(gate.spec.expression, verdicts)
        gate.due = None
        if verdict == Verdict.PASS:
            gate.hold_since = None
            if gate.go:
                return None
            gate.pass_since = t if gate.pass_since is None else gate.pass_since
            if switching or t - gate.pass_since < gate.spec.go_after:
                gate.due = max(gate.pass_since + gate.spec.go_after, t + switching)
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
        name = gate.spec.name
        return Decision(name, gate.go, t, decided, verdict, self._explain(gate), expired, self.waivers(name))

    def _explain(self, gate: _Gate) -> tuple[Reason, ...]:
        return tuple(sorted((self._reasons[name] for name in gate.checks), key=lambda reason: -reason.verdict))


def instants(rows: np.ndarray) -> Iterable[np.ndarray]:
    """Cut TRANSITION rows into instants: each ends with the row that carries ``FLAG_INSTANT_END``."""
    start = 0
    for end in np.flatnonzero(rows["flags"] & FLAG_INSTANT_END):
        yield rows[start : end + 1]
        start = int(end) + 1
