"""The sections of an envelope file except the checks: header, signals, gates, authority, mission."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from ..core.decision_specs import AuthoritySpec, Criterion, GateSpec, HandoverSpec
from ..core.signals import Signal
from .checks import state_findings, state_value
from .delivery import Qos
from .fields import (
    CheckName,
    Duration,
    Identifier,
    MaxAge,
    Model,
    Name,
    PositiveDuration,
    Risk,
    SignalName,
    State,
    Text,
)
from .problems import Finding, Path
from .residual import Residual

FIELD_PATTERN = (
    r"^([A-Za-z_][A-Za-z0-9_]*|\[([0-9]{1,9}|\*)\])(\[([0-9]{1,9}|\*)\])*"
    r"(\.[A-Za-z_][A-Za-z0-9_]*(\[([0-9]{1,9}|\*)\])*)*$"
)
Reducer = Literal["min", "max", "mean", "norm", "p05", "p50", "p95", "count", "finite_ratio"]
STAMP = "header.stamp"
_FIELD = re.compile(FIELD_PATTERN)


class Header(Model):
    """Which envelope this is."""

    id: Identifier = Field(description="name of the envelope, the same in all its versions")
    version: int = Field(description="counts up with every change that is proposed", ge=1, le=2**31 - 1)
    vehicle: Text = Field(description="kind of vehicle it is for")
    claim: str = Field("", description="id of the claim in the assurance case that the envelope as a whole supports")
    description: str = Field("", description="what it is for, in a sentence")


class Defaults(Model):
    """Values for signals that do not give their own."""

    max_age: MaxAge | None = Field(None, description="`max_age` of signals without one")


class SignalModel(Model):
    """A monitored quantity: where it comes from and how long it counts."""

    topic: str = Field(
        "",
        description="topic, with a ULog instance if need be: `battery_status[1]`; required without `expr` and `residual`",
    )
    expr: str = Field(
        "",
        description="instead of a topic: arithmetic over other signals, such as `speed_command - lag(speed, 200 ms)`",
    )
    residual: Residual | None = Field(
        None,
        description="instead of a topic: what a response does beyond its commands, `{response: yaw_rate, "
        "command: [rudder], model: baselines/yaw.npz}`",
    )
    type: Text | None = Field(None, description="message type; without it, whatever the recording or publisher says")
    field: Annotated[str, Field(json_schema_extra={"pattern": FIELD_PATTERN})] = Field(
        "",
        description="path in the message: `twist.twist.linear.x`, `ranges[3]`, `detections[*].score`, `flags.bit3`, "
        "`header.stamp` (time from stamp to reception, in s); without it, the presence of a message",
    )
    reduce: Reducer | None = Field(None, description="how a list or vector becomes one number")
    statistic: str = Field(
        "", description="instead of a field: a statistic of the whole message, such as `luminance`; see `sensors`"
    )
    unit: str = Field("", description="unit of the value; limits that give a unit must give this one", max_length=16)
    max_age: MaxAge | None = Field(
        None, description="how long a value counts, then it is UNKNOWN (stale); needed here or in `defaults`"
    )
    scale: float = Field(1.0, description="value = raw × scale + offset")
    offset: float = Field(0.0, description="see `scale`")
    values: dict[str, float] = Field(default_factory=dict, description="names of states: `{MANUAL: 0, AUTO: 3}`")
    qos: Qos | None = Field(None, description="what is asked of its publishers in DDS and ROS 2: `{reliable: true}`")

    def findings(self, default_age: int | str | None) -> Iterator[Finding]:
        """What is wrong between the signal's fields."""
        if self.expr or self.residual:
            yield from self._derived_findings("expr" if self.expr else "residual")
            return
        if not self.topic:
            yield Finding(("topic",), "is required (or an `expr` or `residual`, for a signal that is made of others)")
        if self.max_age is None and default_age is None:
            yield Finding(("max_age",), "is required, here or in `defaults` (`never` if the value counts for ever)")
        if self.field and not _FIELD.match(self.field):
            yield Finding(
                ("field",), "is not a field path such as `pose.position.x`, `ranges[3]`, `detections[*].score`"
            )
        elif "[*]" in self.field and self.reduce is None:
            yield Finding(("field",), "gives many numbers: say with `reduce` how they become one")
        if self.statistic:
            yield from self._statistic_findings()
        elif self.reduce is not None and self.field in ("", STAMP):
            yield Finding(("reduce",), "has nothing to reduce: it needs a `field` that is a list or vector")
        if self.field == STAMP:
            if self.unit not in ("", "s"):
                yield Finding(("unit",), "must be `s`: the age of a stamp is in seconds")
            for name, neutral in (("scale", 1.0), ("offset", 0.0)):
                if getattr(self, name) != neutral:
                    yield Finding((name,), "is not possible for `header.stamp`")
        if self.scale == 0:
            yield Finding(("scale",), "must not be 0: every value would be the same")
        seen: dict[float, str] = {}
        for name, number in self.values.items():
            if number in seen:
                yield Finding(("values", name), f"has the same number as `{seen[number]}`")
            seen.setdefault(number, name)

    def _derived_findings(self, what: str) -> Iterator[Finding]:
        """What a derived signal can't be combined with: it is made of other signals, and counts as long as they do."""
        if self.expr and self.residual:
            yield Finding(("residual",), "is not possible with `expr`: make it a signal of its own")
        for name in ("topic", "type", "field", "reduce", "statistic", "values", "qos"):
            if getattr(self, name):
                yield Finding((name,), f"is not possible with `{what}`, which is made of other signals")
        for name, neutral in (("scale", 1.0), ("offset", 0.0)):
            if getattr(self, name) != neutral:
                yield Finding((name,), f"is not possible with `{what}`: scale it in an `expr`")

    def _statistic_findings(self) -> Iterator[Finding]:
        """What a statistic can't be combined with: it is made of the whole message, in its own unit."""
        for name, neutral in (("field", ""), ("reduce", None), ("scale", 1.0), ("offset", 0.0)):
            if getattr(self, name) != neutral:
                yield Finding((name,), "is not possible with `statistic`, which is made of the whole message")

    def lower(self, name: str, default_age: int | str | None, watch: str) -> Signal:
        """The signal as layout and plan take it."""
        max_age = default_age if self.max_age is None and not (self.expr or self.residual) else self.max_age
        return Signal(
            name=name,
            topic=self.topic,
            field=self.field,
            type=self.type,
            reduce=self.reduce,
            unit="s" if self.field == STAMP else self.unit,
            max_age=max_age if isinstance(max_age, int) else None,
            scale=self.scale,
            offset=self.offset,
            values=tuple(sorted(self.values.items(), key=lambda item: (item[1], item[0]))),
            watch=watch,
            statistic=self.statistic,
            residual=self.residual.spec() if self.residual else None,
        )


def _criterion_form(value: Any) -> str:
    """Which form a criterion has; forms are told apart by their keys, so that errors speak of the right one."""
    if not isinstance(value, (dict, All, AnyOf, AtLeast)):
        return "<check>"
    for key, tag in (("any", "<any>"), ("at_least", "<at_least>"), ("of", "<at_least>")):
        if (key in value) if isinstance(value, dict) else hasattr(value, key):
            return tag
    return "<all>"


class All(Model):
    """All of the criteria."""

    all: CriterionList


class AnyOf(Model):
    """At least one of the criteria."""

    any: CriterionList


class AtLeast(Model):
    """At least so many of the criteria."""

    at_least: int = Field(ge=1)
    of: CriterionList


# The tags stand in angle brackets so that they can be told from the fields in an error's path.
AnyCriterion = Annotated[
    Annotated[CheckName, Tag("<check>")]
    | Annotated[All, Tag("<all>")]
    | Annotated[AnyOf, Tag("<any>")]
    | Annotated[AtLeast, Tag("<at_least>")],
    Discriminator(_criterion_form),
]
CriterionList = Annotated[tuple[AnyCriterion, ...], Field(min_length=1)]


class OnUnknown(Model):
    """What a gate does while its criteria are UNKNOWN."""

    hold: Duration = Field(0, description="how long a GO outlives criteria that become UNKNOWN (never a FAIL)")


class Then(Model):
    """What follows a transition demand that nobody completes."""

    after: PositiveDuration = Field(description="so long after the demand, unless a person is in command by then")
    do: Literal["mrm"] = Field(description="`mrm`: the minimal-risk manoeuvre is asked for")


class Gate(Model):
    """A go/no-go decision over checks."""

    require: Literal["all", "any"] = Field(description="whether all criteria must pass, or any of them")
    criteria: CriterionList = Field(
        description="names of checks, and groups: `{any: […]}`, `{all: […]}`, `{at_least: 2, of: […]}`"
    )
    go_after: Duration = Field(0, description="GO only after the criteria have passed for so long without a break")
    lease: PositiveDuration = Field(
        1_000_000_000, description="how long a published GO counts at the consumer; renewed while it holds"
    )
    on_unknown: OnUnknown = Field(OnUnknown.model_validate({}), description="`{hold: 3 s}`: see there")
    on_no_go: Literal["transition_demand"] | None = Field(
        None, description="a NO_GO while autonomy commands demands that a person takes over; needs a section `handover`"
    )
    then: Then | None = Field(None, description="`{after: 10 s, do: mrm}`: see there")

    def findings(self, checks: Collection[str], *, handover: bool = False) -> Iterator[Finding]:
        """Criteria that do not exist or stand twice in one list; counts that cannot be reached; demands without means."""
        yield from _criteria_findings(self.criteria, ("criteria",), checks)
        if self.on_no_go and not handover:
            yield Finding(("on_no_go",), "needs a section `handover`, which says how long people have to answer")
        if self.then and not self.on_no_go:
            yield Finding(("then",), "needs `on_no_go: transition_demand`: it is what follows one")

    def lower(self, name: str) -> GateSpec:
        """The gate as core.gates takes it."""
        children = tuple(_criterion(item) for item in self.criteria)
        expression = Criterion(at_least=len(children) if self.require == "all" else 1, children=children)
        return GateSpec(
            name, expression, self.go_after, self.lease, self.on_unknown.hold, self.on_no_go is not None,
            self.then.after if self.then else None,
        )  # fmt: skip


def _criterion(item: str | All | AnyOf | AtLeast) -> Criterion:
    if isinstance(item, str):
        return Criterion(check=item)
    _, members = _members(item)
    children = tuple(_criterion(member) for member in members)
    needed = item.at_least if isinstance(item, AtLeast) else len(children) if isinstance(item, All) else 1
    return Criterion(at_least=needed, children=children)


def _members(item: All | AnyOf | AtLeast) -> tuple[str, tuple[Any, ...]]:
    field = "of" if isinstance(item, AtLeast) else "all" if isinstance(item, All) else "any"
    return field, getattr(item, field)


def _criteria_findings(items: tuple[Any, ...], path: Path, checks: Collection[str]) -> Iterator[Finding]:
    seen: set[str] = set()
    for i, item in enumerate(items):
        here = (*path, i)
        if isinstance(item, str):
            if item not in checks:
                yield Finding(here, f"no check is named `{item}`", item, tuple(checks))
            elif item in seen:
                yield Finding(here, f"`{item}` is given twice")
            seen.add(item)
            continue
        field, members = _members(item)
        if isinstance(item, AtLeast) and item.at_least > len(members):
            yield Finding((*here, "at_least"), f"asks for {item.at_least} of {len(members)} criteria")
        yield from _criteria_findings(members, (*here, field), checks)


class Active(Model):
    """When somebody is in command at all."""

    signal: SignalName = Field(description="signal that says so")
    value: State = Field(description="its value while it is so; with any other, command is `none`")


class ModeMap(Model):
    """Who decides in which mode; a mode that is in no list is `unknown`."""

    autonomy: tuple[State, ...] = Field((), description="modes in which the vehicle decides")
    human: tuple[State, ...] = Field((), description="modes in which a person decides")
    fallback: tuple[State, ...] = Field((), description="modes that the vehicle enters when it gives up")


class Reasons(Model):
    """Where the vehicle says why."""

    text: tuple[SignalName, ...] = Field((), description="text signals: every message is a reason")
    flags: dict[str, SignalName] = Field(
        default_factory=dict, description="`{phrase: signal}`: the phrase is a reason while the signal is not 0"
    )
    within: Duration = Field(500_000_000, description="an older reason is not this change's")


class Authority(Model):
    """Who is in command, and how to tell."""

    mode: SignalName = Field(description="signal: the mode in force, a number with `values` or text")
    intention: SignalName = Field(
        "",
        description="signal: the mode asked for; differs during a failsafe; without `values` it has those of `mode`",
    )
    failsafe: SignalName = Field("", description="signal: not 0 while a failsafe is active")
    active: Active | None = Field(None, description="`{signal: …, value: …}`: otherwise nobody is in command")
    map: ModeMap = Field(description="`autonomy`, `human` and `fallback`: lists of modes")
    reasons: Reasons = Field(Reasons.model_validate({}), description="where the vehicle says why")

    def references(self) -> Iterator[tuple[Path, str, str]]:
        """Signals that authority reads: place, name, and how they are watched."""
        for field in ("mode", "intention", "failsafe"):
            if getattr(self, field):
                yield (field,), getattr(self, field), "change"
        if self.active:
            yield ("active", "signal"), self.active.signal, "change"
        for i, name in enumerate(self.reasons.text):
            yield ("reasons", "text", i), name, "each"
        for phrase, name in self.reasons.flags.items():
            yield ("reasons", "flags", phrase), name, "change"

    def states(self) -> tuple[tuple[Path, float | str], ...]:
        """All mapped modes, each with its place."""
        roles = ((role, getattr(self.map, role)) for role in ("autonomy", "human", "fallback"))
        return tuple((("map", role, i), state) for role, modes in roles for i, state in enumerate(modes))

    def findings(self, signals: Mapping[str, Signal]) -> Iterator[Finding]:
        """What is wrong with modes and reasons; of the signals only those that are known are looked at."""
        if not self.states():
            yield Finding(("map",), "names no mode: nobody would ever be in command")
        if self.mode in signals:
            yield from state_findings(self.states(), signals[self.mode])
        if self.active and self.active.signal in signals:
            yield from state_findings(((("active", "value"), self.active.value),), signals[self.active.signal])
        if self.intention == self.mode:
            yield Finding(("intention",), "is the same signal as `mode`: they could never differ")
        both = [signals[name] for name in (self.mode, self.intention) if name in signals]
        if len(both) == 2 and both[1].values and dict(both[0].values) != dict(both[1].values):
            yield Finding(("intention",), f"names its states differently from `{self.mode}`: leave out its `values`")
        for field in ("text", "flags"):
            named: Any = getattr(self.reasons, field)
            seen: set[str] = set()
            for place, name in named.items() if isinstance(named, dict) else enumerate(named):
                if name in seen:
                    yield Finding(("reasons", field, place), f"`{name}` is given twice")
                seen.add(name)

    def lower(self, signals: Mapping[str, Signal]) -> AuthoritySpec:
        """Authority as core.authority takes it."""
        active = self.active
        return AuthoritySpec(
            mode=self.mode,
            modes=tuple((state_value(state, signals[self.mode]), str(path[1])) for path, state in self.states()),
            intention=self.intention,
            failsafe=self.failsafe,
            active=active.signal if active else "",
            active_value=state_value(active.value, signals[active.signal]) if active else 1.0,
            reason_texts=self.reasons.text,
            reason_flags=tuple(sorted(self.reasons.flags.items())),
            within=self.reasons.within,
        )


class Mrm(Model):
    """The minimal-risk manoeuvre."""

    confirm_within: PositiveDuration = Field(
        5_000_000_000, description="fallback must be in command, or nobody, so long after it was asked for"
    )


class Handover(Model):
    """How command goes from autonomy to people and back; with this section the monitor follows and demands handovers."""

    accept_within: PositiveDuration = Field(10_000_000_000, description="from a request to a person to its acceptance")
    complete_within: PositiveDuration = Field(
        10_000_000_000, description="from the acceptance to the observed change of command"
    )
    attest_within: PositiveDuration = Field(
        300_000_000_000, description="from a change of command to the signature of who answers for it"
    )
    gates: tuple[Name, ...] = Field(
        (), description="gates that must be GO for a handover to autonomy; none: there is none"
    )
    mrm: Mrm = Field(Mrm.model_validate({}), description="`{confirm_within: 5 s}`: see there")
    lost_after: Duration = Field(
        3_000_000_000, description="fallback is demanded when nobody is known to be in command for so long"
    )

    def findings(self, gates: Collection[str], *, authority: bool) -> Iterator[Finding]:
        """Gates that do not exist or are given twice; a handover that nobody could observe."""
        if not authority:
            yield Finding((), "needs a section `authority`: a handover is completed when it is observed")
        for i, name in enumerate(self.gates):
            if name not in gates:
                yield Finding(("gates", i), f"no gate is named `{name}`", name, tuple(gates))
            elif name in self.gates[:i]:
                yield Finding(("gates", i), f"`{name}` is given twice")

    def lower(self, authority: AuthoritySpec, signals: Mapping[str, Signal]) -> HandoverSpec:
        """Handover as core.handover takes it. A change of command is at most as old as a value of the mode may be."""
        ages = [signals[name].max_age for name in (authority.mode, authority.active) if name]
        return HandoverSpec(
            accept_within=self.accept_within,
            complete_within=self.complete_within,
            attest_within=self.attest_within,
            gates=self.gates,
            mrm_within=self.mrm.confirm_within,
            lost_after=self.lost_after,
            observed_within=None if None in ages else max(age for age in ages if age is not None),
            sees_none=bool(authority.active),
            sees_both=bool(authority.failsafe),
        )


class Mission(Model):
    """How risky the mission is, and what that changes."""

    risk: Risk = Field("medium", description="the profile in force unless another is asked for (`--risk`)")
    profiles: dict[Risk, dict[str, dict[str, Any]]] = Field(
        default_factory=dict, description="`{high: {check: {field: value}}}`: fields of checks that a profile changes"
    )


for _model in (All, AnyOf, AtLeast, Gate):
    _model.model_rebuild()
