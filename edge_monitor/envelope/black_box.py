"""The ``black_box`` section: what a window of the tape is kept for, how much of it, and which topics are kept as they came."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from .fields import Duration, Model, Severity, Text
from .problems import Finding

#: Events, and families of events, that a window may be kept for.
Trigger = Literal[
    "gate.no_go", "handover", "override", "failsafe", "mrm", "latch.set", "check.fail", "check.unknown", "drift.detected",
    "odd.exit", "authority.changed", "action.blocked", "input.lost", "clock.jump", "hardcase.captured",
]  # fmt: skip
DEFAULT_TRIGGERS: tuple[Trigger, ...] = ("gate.no_go", "handover", "override", "failsafe", "mrm", "check.fail")
#: Events that carry the severity of what they speak of: these are held against ``severity``.
SEVERE = ("check.", "drift.")


@dataclass(frozen=True, slots=True)
class BlackBoxSpec:
    """What is kept, as the onboard process takes it. Times in ns; ``raw``: topics, ``latched``: those that hold their value."""

    before: int = 30_000_000_000
    after: int = 10_000_000_000
    keep_on: tuple[Trigger, ...] = DEFAULT_TRIGGERS
    severities: tuple[str, ...] = ("catastrophic", "critical")
    raw: tuple[str, ...] = ()
    latched: tuple[str, ...] = ()

    def wants(self, type_: str, severity: str) -> bool:
        """Whether an event is a reason to keep a window."""
        if type_ not in self.keep_on and type_.split(".", maxsplit=1)[0] not in self.keep_on:
            return False
        return severity in self.severities or not type_.startswith(SEVERE)


class BlackBox(Model):
    """What of the tape is kept for good, and which topics are kept as they came."""

    before: Duration = Field(30_000_000_000, description="so long before each reason is kept")
    after: Duration = Field(10_000_000_000, description="and so long after it; windows that meet are one")
    keep_on: tuple[Trigger, ...] = Field(
        DEFAULT_TRIGGERS,
        description="reasons: events (`gate.no_go`: a gate that was GO is no more) and families of events (`handover`); "
        "what an operator asks for is always kept",
    )
    severity: Severity = Field("critical", description="checks and drift only from this severity on")
    raw: Annotated[tuple[Text, ...], Field(max_length=64)] = Field(
        (), description="topics whose messages are kept as they came, monitored or not"
    )
    latched: Annotated[tuple[Text, ...], Field(max_length=64)] = Field(
        (),
        description="those of `raw` whose last message holds until the next (maps, `/tf_static`): each file begins with it",
    )

    def findings(self) -> Iterator[Finding]:
        """Latched topics that are not kept; what is given twice."""
        for name in ("keep_on", "raw", "latched"):
            values: tuple[str, ...] = getattr(self, name)
            for i, value in enumerate(values):
                if value in values[:i]:
                    yield Finding((name, i), f"`{value}` is given twice")
        for i, topic in enumerate(self.latched):
            if topic not in self.raw:
                yield Finding(("latched", i), f"`{topic}` is not among `raw`: name it there, too", topic, self.raw)

    def lower(self) -> BlackBoxSpec:
        """The section as the onboard process takes it."""
        names = ("catastrophic", "critical", "marginal", "negligible")
        return BlackBoxSpec(
            self.before, self.after, self.keep_on, names[: names.index(self.severity) + 1], self.raw, self.latched
        )
