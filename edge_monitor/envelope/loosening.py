"""Whether an envelope is looser than another: may anything be GO, or go unnoticed, that the other one would not let pass?

Conservative: a change counts as loosening unless it can be seen here that it is none. What is tighter, new beside what there
was, or only said in other words is none. docs/reload.md has the rules in full.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..core.check_spec import CheckSpec
from ..core.decision_specs import Criterion, GateSpec, HandoverSpec
from ..core.formula.term import Term
from ..core.signals import Signal
from .loader import Envelope
from .units import shown_duration

SEVERITIES = ("negligible", "marginal", "critical", "catastrophic")
#: Numbers of checks that may only fall, and only rise; a check's other numbers may not change.
FALLING = {
    "bounds": ("max", "leave_max"),
    "rate": ("max", "leave_max"),
    "latency": ("max", "leave_max"),
    "stale": ("max",),
    "frequency": ("max",),
    "jitter": ("max",),
    "agreement": ("max", "leave"),
    "valid": ("covariance_max",),
}
RISING = {
    "bounds": ("min", "leave_min"),
    "rate": ("min", "leave_min"),
    "latency": ("min", "leave_min"),
    "frequency": ("min",),
    "jitter": ("window",),
}
KEEP_IN = (("max_altitude",), ("min_altitude",))  # the same of a geofence, by its mode
KEEP_OUT = (("min_altitude",), ("max_altitude",))
_FALLING_OPS, _RISING_OPS = ("<", "<="), (">", ">=")


def loosened(old: Envelope, new: Envelope) -> list[str]:
    """What is looser in ``new``, a line each; empty where nothing is."""
    return list(_loosened(old, new))


def _loosened(old: Envelope, new: Envelope) -> Iterator[str]:
    if new.version < old.version:
        yield f"version {new.version} is older than {old.version}, which is in force"
    yield from _signals(old, new)
    checks = {check.name: check for check in new.checks}
    for check in old.checks:
        if check.name not in checks:
            yield f"check {check.name}: removed"
        else:
            yield from (f"check {check.name}: {what}" for what in _check(check, checks[check.name]))
    gates = {gate.name: gate for gate in new.gates}
    for gate in old.gates:
        if gate.name not in gates:
            yield f"gate {gate.name}: removed"
        else:
            yield from (f"gate {gate.name}: {what}" for what in _gate(gate, gates[gate.name]))
    if new.authority != old.authority:
        yield "authority: who is in command is told in another way"
    if new.odd != old.odd or bins_by_name(new) != bins_by_name(old):
        yield "odd: the declared domain is another one"
    yield from (f"handover: {what}" for what in _handover(old.handover, new.handover))


def _signals(old: Envelope, new: Envelope) -> Iterator[str]:
    there = {signal.name: signal for signal in new.signals}
    measured = altered_signals(old, new)
    for was in old.signals:
        signal = there.get(was.name)
        if signal is None:  # who read it is changed, and has been told of
            continue
        if signal.meaning != was.meaning:
            yield f"signal {was.name}: is another quantity, or read in another way"
        elif was.name in measured:
            yield f"signal {was.name}: its sensor is measured in another way"
        elif _longer(was.max_age, signal.max_age):
            yield f"signal {was.name}: max_age {_age(was)} → {_age(signal)}"


def altered_signals(old: Envelope, new: Envelope) -> set[str]:
    """Signals that are read as before, and mean something else: statistics of a sensor whose settings are others, and bins
    that are made in another way."""
    changed = {topic for topic in {*old.sensors, *new.sensors} if old.sensors.get(topic) != new.sensors.get(topic)}
    bare = {topic.removeprefix("/") for topic in changed}
    found = {signal.name for signal in new.signals if signal.statistic and signal.topic.removeprefix("/") in bare}
    were, are = bins_by_name(old), bins_by_name(new)
    return found | {name for name, spec in are.items() if name in were and were[name] != spec}


def bins_by_name(envelope: Envelope) -> dict[str, Any]:
    """The bins by their signals' names, with the names of what they are made of."""
    names = [signal.name for signal in envelope.signals]
    return {
        names[spec.signal]: (spec.axis, tuple(names[i] for i in spec.inputs), spec.max_age, spec.edges)
        for spec in envelope.bins
    }


def _check(old: CheckSpec, new: CheckSpec) -> Iterator[str]:
    if (new.kind, new.signals) != (old.kind, old.signals):
        yield "is another check"
        return
    if new.fail_for > old.fail_for:
        yield f"fail_for {shown_duration(old.fail_for)} → {shown_duration(new.fail_for)}"
    if new.pass_for < old.pass_for:
        yield f"pass_for {shown_duration(old.pass_for)} → {shown_duration(new.pass_for)}"
    if new.latch < old.latch:
        yield f"latch {old.latch.name.lower()} → {new.latch.name.lower()}"
    if SEVERITIES.index(new.severity) < SEVERITIES.index(old.severity):
        yield f"severity {old.severity} → {new.severity}"
    falling, rising = FALLING.get(old.kind, ()), RISING.get(old.kind, ())
    if old.kind == "geofence":
        falling, rising = KEEP_OUT if old.params["keep_out"] else KEEP_IN
    for name in sorted({*old.params, *new.params}):
        was, now = old.params.get(name), new.params.get(name)
        if was == now or (was is not None and now is not None and _tighter(name, was, now, falling, rising)):
            continue
        yield f"{name} {_number(was, name, old)} → {_number(now, name, new)}"
    if old.kind in ("one_of", "equals"):
        more = [*(set(new.table) - set(old.table)), *(set(new.texts) - set(old.texts))]
        if more:
            yield f"allows {', '.join(map(str, sorted(more, key=str)))} too"
    elif new.table != old.table:
        yield "its polygon is another one" if old.kind == "geofence" else "its reference or threshold is another one"
    if old.formula is not None and new.formula is not None and not entails(new.formula, old.formula):
        yield "its formula may hold where the one before did not"


def _tighter(name: str, was: float, now: float, falling: tuple[str, ...], rising: tuple[str, ...]) -> bool:
    return (name in falling and now < was) or (name in rising and now > was)


def entails(new: Term, old: Term) -> bool:
    """Whether ``old`` holds wherever ``new`` does, as far as that can be seen: the same formula with stricter limits,
    longer ``historically``, shorter ``once``, a ``since`` of stricter parts, or more to be true at once."""
    if new == old:
        return True
    if new.op == "and" and old.op != "and":
        return any(entails(arg, old) for arg in new.args)
    if old.op == "and":
        parts = new.args if new.op == "and" else (new,)
        return all(any(entails(part, arg) for part in parts) for arg in old.args)
    if old.op == "or":
        return all(any(entails(part, arg) for arg in old.args) for part in (new.args if new.op == "or" else (new,)))
    if new.op != old.op or len(new.args) != len(old.args):
        return False
    if new.op in (*_FALLING_OPS, *_RISING_OPS):
        return _stricter(new, old)
    window = (new.start, new.end) == (old.start, old.end)
    if new.op == "not":
        return entails(old.args[0], new.args[0])
    if new.op == "implies":
        return entails(old.args[0], new.args[0]) and entails(new.args[1], old.args[1])
    if new.op == "historically":
        return _within(old, new) and entails(new.args[0], old.args[0])
    if new.op == "once":
        return _within(new, old) and entails(new.args[0], old.args[0])
    if new.op == "since":
        return window and all(entails(a, b) for a, b in zip(new.args, old.args, strict=True))
    return False


def _stricter(new: Term, old: Term) -> bool:
    """Two comparisons of one quantity with a number, on either side."""
    (left, right), (was_left, was_right) = new.args, old.args
    falling = new.op in _FALLING_OPS
    if left == was_left and right.op == was_right.op == "number":
        return right.number <= was_right.number if falling else right.number >= was_right.number
    if right == was_right and left.op == was_left.op == "number":
        return left.number >= was_left.number if falling else left.number <= was_left.number
    return False


def _within(inner: Term, outer: Term) -> bool:
    """Whether one window lies in another."""
    if inner.start < outer.start:
        return False
    return outer.end is None or (inner.end is not None and inner.end <= outer.end)


def _gate(old: GateSpec, new: GateSpec) -> Iterator[str]:
    if not _asks_as_much(new.expression, old.expression):
        yield "its criteria ask for less, or for something else"
    if new.go_after < old.go_after:
        yield f"go_after {shown_duration(old.go_after)} → {shown_duration(new.go_after)}"
    for name, was, now in (("lease", old.lease, new.lease), ("hold", old.hold, new.hold)):
        if now > was:
            yield f"{name} {shown_duration(was)} → {shown_duration(now)}"
    if old.demand and not new.demand:
        yield "makes no transition demand any more"
    if old.mrm_after is not None and (new.mrm_after is None or new.mrm_after > old.mrm_after):
        yield "the minimal-risk manoeuvre comes later, or not at all"


def _asks_as_much(new: Criterion, old: Criterion) -> bool:
    """Whether ``new`` can pass only where ``old`` does, as far as that can be seen."""
    if new == old:
        return True
    is_all = not new.check and new.at_least == len(new.children)
    if is_all and any(_asks_as_much(child, old) for child in new.children):
        return True
    if old.check or not old.children:
        return False
    if old.at_least == len(old.children) and all(_asks_as_much(new, child) for child in old.children):
        return True
    return not new.check and new.at_least >= old.at_least and set(new.children) <= set(old.children)


def _handover(old: HandoverSpec | None, new: HandoverSpec | None) -> Iterator[str]:
    if (old is None) != (new is None):
        yield "the section is removed" if new is None else "the section is new"
    if old is None or new is None:
        return
    for name in ("accept_within", "complete_within", "attest_within", "mrm_within", "lost_after"):
        was, now = getattr(old, name), getattr(new, name)
        if now > was:
            yield f"{name} {shown_duration(was)} → {shown_duration(now)}"
    less = [gate for gate in old.gates if gate not in new.gates]
    if less:
        yield f"autonomy takes over without gate {', '.join(less)}"
    if not old.gates and new.gates:
        yield "autonomy can take over"


def _longer(was: int | None, now: int | None) -> bool:
    return was is not None and (now is None or now > was)


def _age(signal: Signal) -> str:
    return "never" if signal.max_age is None else shown_duration(signal.max_age)


def _number(value: float | None, name: str, spec: CheckSpec) -> str:
    if value is None:
        return "none"
    if name in ("window", "period") or (name == "max" and spec.kind in ("stale", "jitter")):
        return shown_duration(round(value))
    return f"{value:g}"


def differences(old: Envelope, new: Envelope) -> dict[str, dict[str, list[str]]]:
    """Names of signals, checks and gates that are added, removed or changed in what they decide."""
    return {
        "signals": _names({s.name: s for s in old.signals}, {s.name: s for s in new.signals}),
        "checks": _names({c.name: c for c in old.checks}, {c.name: c for c in new.checks}),
        "gates": _names({g.name: g for g in old.gates}, {g.name: g for g in new.gates}),
    }


def _names(old: Mapping[str, object], new: Mapping[str, object]) -> dict[str, list[str]]:
    found = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [name for name in new if name in old and new[name] != old[name]],
    }
    return {word: names for word, names in found.items() if names}
