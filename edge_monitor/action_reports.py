"""What a vehicle says its action gate held back: messages on a topic of their own (docs/wire.md), made into commands.

Nothing in a message is trusted. Of one subject one report a second becomes a command; what comes between is added up and
follows when the second is over, in event time, so that a flood is a few events with their counts.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec

from .core.commands import ReportAction
from .core.messages import Channel, Damage
from .errors import UsageError
from .events import number

TOPIC = "edge_monitor/action"
QUIET_NS = 1_000_000_000  #: between two commands about one subject
SUBJECTS = 32  #: that are told apart at one time
OTHERS = "…"  #: the subject of all beyond them
COMPLAINT_NS = 60_000_000_000  #: between two damages about messages that are no reports
READ = 100  #: messages that are read in one second; a vehicle has 18 subjects and tells of each once a second at most
LARGEST = 4096  #: bytes of a message
_END = 2**62
_MOST = 2**53 - 1

_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]


class _Report(msgspec.Struct, frozen=True):
    subject: Annotated[str, msgspec.Meta(min_length=1)]
    gate: str
    outcome: str
    rule: str
    requested: list[float | str | None] = msgspec.field(default_factory=list)
    granted: list[float | str | None] = msgspec.field(default_factory=list)
    unit: str = ""
    reason: str = ""
    counts: Annotated[dict[str, _Count], msgspec.Meta(max_length=16)] = msgspec.field(default_factory=dict)
    since_ns: Annotated[int, msgspec.Meta(ge=0, lt=_END)] = 0


_decode = msgspec.msgpack.Decoder(_Report).decode


@dataclass(slots=True)
class _Subject:
    """When a command about it was given last, and what has come since."""

    told: int
    waiting: ReportAction | None = None


class ActionReports:
    """Makes commands of the messages about one monitor's gates. Memory is bounded whatever comes."""

    def __init__(self, gates: Collection[str]) -> None:
        """``gates``: names that a report may speak of."""
        self._gates = frozenset(gates)
        self._readable: dict[int, bool] = {}
        self._subjects: dict[tuple[str, str], _Subject] = {}
        self._second, self._read_in_it = -QUIET_NS, 0
        self._complained = -COMPLAINT_NS
        self._unread, self._why = 0, ""  # messages that no damage has told of yet

    def renew(self, gates: Collection[str]) -> None:
        """Another envelope is in force, with these gates."""
        self._gates = frozenset(gates)

    def add_channel(self, channel: Channel) -> None:
        """Take notice of a channel; a number that was the topic's may be another's now."""
        self._readable.pop(channel.id, None)
        if channel.topic.removeprefix("/") == TOPIC:
            self._readable[channel.id] = channel.encoding == "msgpack"

    @property
    def channels(self) -> Collection[int]:
        """Numbers of the channels whose messages are reports."""
        return self._readable.keys()

    @property
    def wanted(self) -> bool:
        """Whether there may be reports, or something of them may be due."""
        return bool(self._readable or self._subjects or self._unread)

    @property
    def due(self) -> int | None:
        """When something that was added up must be told, ns; None: nothing waits."""
        found = [s.told + QUIET_NS for s in self._subjects.values() if s.waiting is not None]
        found += [self._complained + COMPLAINT_NS] if self._unread else []
        return min(found, default=None)

    def take(self, t: int, channel: int, message: bytes) -> ReportAction | Damage | None:
        """A message that was received at ``t`` (ns): a command to carry out now, what is wrong with it, or nothing yet."""
        if not 0 <= t - self._second < QUIET_NS:
            self._second, self._read_in_it = t, 0
        self._read_in_it += 1
        if self._read_in_it > READ:
            return self._complain(t, f"more than {READ} messages in a second are not read")
        try:
            report = self._read(t, channel, message)
        except (msgspec.MsgspecError, UsageError, UnicodeDecodeError, RecursionError) as error:
            return self._complain(t, "a message is no report of an action: " + " ".join(str(error).split())[:200])
        key = report.gate, report.subject
        if key not in self._subjects and len(self._subjects) >= SUBJECTS:
            self._forget(t)
            if len(self._subjects) >= SUBJECTS:
                key, report = (OTHERS, OTHERS), replace(report, subject=OTHERS)
        subject = self._subjects.get(key)
        if subject is None:
            self._subjects[key] = _Subject(t)
            return report
        together = report if subject.waiting is None else _added(subject.waiting, report)
        if 0 <= t - subject.told < QUIET_NS:
            subject.waiting = together
            return None
        subject.told, subject.waiting = t, None
        return together

    def flush(self, t: int) -> list[ReportAction | Damage]:
        """What has to be told by ``t`` (ns), inclusive, each at its time."""
        found: list[ReportAction | Damage] = []
        for subject in self._subjects.values():
            due = subject.told + QUIET_NS
            if subject.waiting is not None and due <= t:
                found.append(replace(subject.waiting, t=due))
                subject.told, subject.waiting = due, None
        if self._unread and self._complained + COMPLAINT_NS <= t:
            found.append(self._damage(self._complained + COMPLAINT_NS))
        return sorted(found, key=lambda one: one.t or 0)

    def finish(self, t: int) -> list[ReportAction | Damage]:
        """All that waits, at ``t`` (ns)."""
        found: list[ReportAction | Damage] = [
            replace(s.waiting, t=t) for s in self._subjects.values() if s.waiting is not None
        ]
        self._subjects.clear()
        return [*found, self._damage(t)] if self._unread else found

    def _read(self, t: int, channel: int, message: bytes) -> ReportAction:
        """Raises ``UsageError``, ``MsgspecError``…"""
        if not self._readable[channel]:
            raise UsageError("a report is a MessagePack map: send it with the encoding msgpack")
        if len(message) > LARGEST:
            raise UsageError(f"a report has at most {LARGEST} bytes, this one {len(message)}")
        found = _decode(message)
        if found.gate not in self._gates:
            raise UsageError(f"the envelope has no gate {found.gate[:64]!r}")
        return ReportAction(
            t=t,
            subject=_printable(found.subject),
            gate=found.gate,
            outcome=found.outcome,
            rule=found.rule,
            requested=tuple(number(one) if isinstance(one, float) else one for one in found.requested),
            granted=tuple(number(one) if isinstance(one, float) else one for one in found.granted),
            unit=_printable(found.unit),
            reason=_printable(found.reason),
            rules=tuple(sorted(found.counts)),
            counts=tuple(found.counts[rule] for rule in sorted(found.counts)),
            since=min(found.since_ns, t),
        )

    def _complain(self, t: int, why: str) -> Damage | None:
        self._unread, self._why = self._unread + 1, why
        return None if 0 <= t - self._complained < COMPLAINT_NS else self._damage(t)

    def _damage(self, t: int) -> Damage:
        count, self._unread, self._complained = self._unread, 0, t
        return Damage(TOPIC, self._why, t, count, topics=(TOPIC,))

    def _forget(self, t: int) -> None:
        """Make room: what has been quiet for a second and has nothing to tell is as good as new."""
        for key, subject in list(self._subjects.items()):
            if subject.waiting is None and not 0 <= t - subject.told < QUIET_NS:
                del self._subjects[key]


def _added(before: ReportAction, last: ReportAction) -> ReportAction:
    """The last report with the counts of both."""
    counts = dict(zip(before.rules, before.counts, strict=True))
    for rule, count in zip(last.rules, last.counts, strict=True):
        if rule in counts or len(counts) < 16:
            counts[rule] = min(counts.get(rule, 0) + count, _MOST)
    rules = tuple(sorted(counts))
    return replace(
        last, rules=rules, counts=tuple(counts[rule] for rule in rules), since=min(before.since, last.since),
        reports=before.reports + last.reports,
    )  # fmt: skip


def _printable(text: str, most: int = 64) -> str:
    """Text in one line of at most ``most`` bytes: a request may be named anything, and stands in the record all the same."""
    line = "".join(c if c.isprintable() else "�" for c in text[:most])
    return line.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")
