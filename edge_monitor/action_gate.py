"""What a vehicle may do, between the one who commands and the actuators: passes, limits or blocks (docs/consumer.md).

Pure: the consumer's answer and the time are arguments, memory is fixed at construction. ``consumer/edge_action.h`` is the same
in C. What it holds back is told as payloads of ``action.blocked`` for the monitor to journal, one a second and subject at most.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .consumer import Answer
from .errors import UsageError
from .outputs.wire import WireError, gate_bytes

MAX_NAMES = 16
UNIT_BYTES = 16
NAME_LENGTH = 64  # of a name nobody declared, as far as a record holds it
QUIET_NS = 1_000_000_000


class Outcome(IntEnum):
    """What became of a request."""

    PASSED = 0
    LIMITED = 1  #: a smaller one is granted
    BLOCKED = 2  #: nothing is granted; of a velocity, zero


class Rule(IntEnum):
    """What held a request back."""

    NONE = 0
    SCOPE = 1  #: no such command or action was declared
    NOT_FINITE = 2  #: NaN or infinite
    NO_GO = 3  #: the gate's answer
    SPEED = 4  #: faster than the greatest speed
    RANGE = 5  #: outside the command's range
    BUDGET = 6  #: the mission's number of this action is used up


@dataclass(frozen=True, slots=True)
class Range:
    """What a command's value may be, in ``unit``. Outside it is set to the nearer end or, with ``block``, not granted."""

    low: float
    high: float
    block: bool = False
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one request. ``granted``: what may be passed on (a velocity always has three values, a blocked command none).

    ``record``: the payload of an ``action.blocked`` event to hand to the monitor, or None.
    """

    outcome: Outcome
    rule: Rule
    granted: tuple[float, ...] = ()
    record: dict[str, Any] | None = None


class _Subject:
    """What was told about one subject. ``told``: the rule then; ``counts``: refusals since by rule, the first at ``since``."""

    __slots__ = ("counts", "last", "since", "told", "told_at")

    def __init__(self) -> None:
        self.told, self.told_at = Rule.NONE, -1  # -1: never
        self.counts = [0] * len(Rule)
        self.since = 0
        self.last: dict[str, Any] = {}


class ActionGate:
    """Scope of one gate's actions.

    gate: whose answers it is given. max_speed: greatest length of a velocity in m/s (None: no velocity but zero is in scope).
    commands: ranges by name. budgets: how many of an action a mission may do, by name. stops: actions that always pass.
    used: actions done already in this mission, to go on after a restart. UsageError when an argument is out of range.
    """

    def __init__(
        self,
        gate: str,
        *,
        max_speed: float | None = None,
        commands: Mapping[str, Range] | None = None,
        budgets: Mapping[str, int] | None = None,
        stops: Collection[str] = (),
        used: Mapping[str, int] | None = None,
    ) -> None:
        self.gate = gate
        self._max_speed = max_speed
        self._commands = dict(commands or {})
        self._budgets = dict(budgets or {})
        self._stops = frozenset(stops)
        if max_speed is not None and not 0 <= max_speed < math.inf:
            raise UsageError(f"max_speed is {max_speed}; give a finite number from 0 on")
        for name, allowed in self._commands.items():
            if not -math.inf < allowed.low <= allowed.high < math.inf:
                raise UsageError(
                    f"{name}: {allowed.low} … {allowed.high} is no range; give two finite numbers, the lower one first"
                )
            if len(allowed.unit.encode()) > UNIT_BYTES or not allowed.unit.isprintable():
                raise UsageError(f"{name}: {allowed.unit!r} is no unit; give at most {UNIT_BYTES} bytes, such as m/s")
        for name, most in self._budgets.items():
            if not 0 <= most < 1 << 32:
                raise UsageError(f"{name}: a budget of {most}; give 0 to 2^32 - 1")
        names = [*self._commands, *self._budgets, *self._stops]
        try:
            for name in names:
                gate_bytes(name)
        except WireError as error:
            raise UsageError(str(error).replace("gate ", "name ", 1)) from None
        if len(names) > MAX_NAMES or len(set(names)) < len(names):
            raise UsageError(
                f"an action gate has at most {MAX_NAMES} names, each in one of commands, budgets and stops"
            )
        for name, count in (used or {}).items():
            if name not in self._budgets or not 0 <= count < 1 << 32:
                raise UsageError(f"used: {count} of {name}; give numbers from 0 on, of actions that have a budget")
        #: Actions granted in this mission, by name. Keep it across restarts of the vehicle's program.
        self.used = {name: (used or {}).get(name, 0) for name in self._budgets}
        self._velocity = _Subject()
        self._unknown = _Subject()
        self._subjects = {name: _Subject() for name in (*self._commands, *self._budgets)}

    def velocity(self, requested: Sequence[float], answer: Answer, now_ns: int) -> Verdict:
        """A velocity of three components in m/s. Zero is a stop and always passes; what is too fast keeps its direction."""
        x, y, z = (float(value) for value in requested)
        rule, granted = Rule.NONE, (x, y, z)
        if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
            rule, granted = Rule.NOT_FINITE, (0.0, 0.0, 0.0)
        elif x == 0 and y == 0 and z == 0:
            pass
        elif self._max_speed is None:
            rule, granted = Rule.SCOPE, (0.0, 0.0, 0.0)
        elif not answer.go:
            rule, granted = Rule.NO_GO, (0.0, 0.0, 0.0)
        else:
            limited = shortened(x, y, z, self._max_speed)
            if limited is not None:
                rule, granted = Rule.SPEED, limited
        outcome = Outcome.PASSED if rule == Rule.NONE else Outcome.LIMITED if rule == Rule.SPEED else Outcome.BLOCKED
        return self._told(self._velocity, "velocity", [x, y, z], outcome, rule, granted, answer, now_ns, "m/s")

    def command(self, name: str, value: float, answer: Answer, now_ns: int) -> Verdict:
        """A command of one number, in its range's unit."""
        value = float(value)
        allowed = self._commands.get(name)
        if allowed is None:
            return self._told(self._unknown, name, [value], Outcome.BLOCKED, Rule.SCOPE, (), answer, now_ns)
        outcome, rule, granted = Outcome.PASSED, Rule.NONE, (value,)
        if not math.isfinite(value):
            outcome, rule = Outcome.BLOCKED, Rule.NOT_FINITE
        elif not answer.go:
            outcome, rule = Outcome.BLOCKED, Rule.NO_GO
        elif value < allowed.low or value > allowed.high:
            outcome, rule = (Outcome.BLOCKED if allowed.block else Outcome.LIMITED), Rule.RANGE
            granted = (allowed.low if value < allowed.low else allowed.high,)
        return self._told(
            self._subjects[name], name, [value], outcome, rule, () if outcome == Outcome.BLOCKED else granted, answer, now_ns,
            allowed.unit,
        )  # fmt: skip

    def action(self, name: str, answer: Answer, now_ns: int) -> Verdict:
        """A single action by name; a granted one counts against the mission's budget."""
        if name in self._stops:
            return Verdict(Outcome.PASSED, Rule.NONE)
        if name not in self._budgets:
            return self._told(self._unknown, name, [], Outcome.BLOCKED, Rule.SCOPE, (), answer, now_ns)
        rule = Rule.NONE
        if not answer.go:
            rule = Rule.NO_GO
        elif self.used[name] >= self._budgets[name]:
            rule = Rule.BUDGET
        else:
            self.used[name] += 1
        outcome = Outcome.BLOCKED if rule else Outcome.PASSED
        return self._told(self._subjects[name], name, [], outcome, rule, (), answer, now_ns)

    def new_mission(self) -> None:
        """Budgets begin anew."""
        self.used = dict.fromkeys(self.used, 0)

    def flush(self, now_ns: int) -> list[dict[str, Any]]:
        """Payloads of what was held back and not told yet: call it once a second or so, and when a mission ends."""
        payloads = []
        for subject in (self._velocity, self._unknown, *self._subjects.values()):
            if any(subject.counts):
                payloads.append(_record(subject, now_ns))
        return payloads

    def _told(
        self, subject: _Subject, name: str, requested: list[float], outcome: Outcome, rule: Rule,
        granted: tuple[float, ...], answer: Answer, now: int, unit: str = "",
    ) -> Verdict:  # fmt: skip
        """The verdict, with a record when the subject's rule has changed and the last record is a second old."""
        if rule != Rule.NONE:
            if not any(subject.counts):
                subject.since = now
            subject.counts[rule] += 1
            subject.last = {
                "subject": name[:NAME_LENGTH], "gate": self.gate, "outcome": outcome.name.lower(), "rule": rule.name.lower(),
                "requested": [_number(value) for value in requested], "granted": [float(value) for value in granted],
                "unit": unit, "reason": answer.reason.name.lower() if rule == Rule.NO_GO else "",
            }  # fmt: skip
        record = None
        if rule != subject.told and (subject.told_at < 0 or not 0 <= now - subject.told_at < QUIET_NS):
            if any(subject.counts):
                record = _record(subject, now)
            subject.told = rule
        return Verdict(outcome, rule, granted, record)


def shortened(x: float, y: float, z: float, most: float) -> tuple[float, float, float] | None:
    """The vector with its length cut to ``most`` (never longer, shorter by 2e-15 of it at most); None if it is short enough.

    Arithmetic of + × ÷ only, in this order, so that C has the same bits: Newton's square root on components scaled to 1.
    "Short enough" is exact to 4e-16 of the length.
    """
    scale = max(abs(x), abs(y), abs(z))
    x, y, z = x / scale, y / scale, z / scale
    square = x * x + y * y + z * z  # 1 … 3
    root = 1.5
    for _ in range(6):
        root = 0.5 * (root + square / root)
    if scale <= most / root:
        return None
    most = most * (1.0 - 1e-15) / root
    return x * most, y * most, z * most


def _record(subject: _Subject, now: int) -> dict[str, Any]:
    """The payload of ``action.blocked``: the last refusal, and how many there were since the record before, by rule."""
    counts = {rule.name.lower(): subject.counts[rule] for rule in Rule if subject.counts[rule]}
    subject.counts = [0] * len(Rule)
    subject.told_at = now
    return {**subject.last, "counts": counts, "since_ns": subject.since}


def _number(value: float) -> float | str | None:
    """As in ``events.number``, which a vehicle's program would load NumPy for."""
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
