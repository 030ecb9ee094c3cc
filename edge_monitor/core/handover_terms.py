"""What a handover is made of: its terms, what was seen while it was open, and what the machine tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .authority import Command as InCommand

MONITOR = "monitor"
NOT_OBSERVABLE = "not observable"
Plain = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """What was asked for; never changed. Times in ns on the stream's clock.

    ``source``: who was responsible when it was asked for, and stays so until it is completed. ``initiator``: a person,
    or ``monitor``. ``demand``: a transition demand of the monitor, which a minimal-risk manoeuvre follows; of ``gate``.
    ``limit``: that follows at this time whatever has been accepted (None: the steps' own deadlines count). ``unasked``:
    nobody had asked; command was taken.
    """

    id: str
    source: str
    to: str
    initiator: str
    reason: str
    requested: int
    demand: bool = False
    gate: str = ""
    rules: tuple[str, ...] = ()
    limit: int | None = None
    unasked: bool = False

    @property
    def direction(self) -> str:
        """``autonomy→human`` and the like, in ASCII."""
        return f"{self.source or 'nobody'}->{self.to}"

    def plain(self) -> Plain:
        """As payloads hold it."""
        return {
            "id": self.id, "from": self.source, "to": self.to, "initiator": self.initiator, "reason": self.reason,
            "requested_ns": self.requested, "demand": self.demand, "gate": self.gate, "rules": list(self.rules),
            "limit_ns": self.limit, "unasked": self.unasked,
        }  # fmt: skip

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Terms:
        """From :meth:`plain`."""
        return cls(
            document["id"], document["from"], document["to"], document["initiator"], document["reason"],
            document["requested_ns"], document["demand"], document["gate"], tuple(document["rules"]),
            document["limit_ns"], document["unasked"],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """How long something lasted, ns: between ``at_least`` and ``at_most`` (None: no bound). Not ``observable``: that it
    did not happen can't be told."""

    at_least: int = 0
    at_most: int | None = 0
    observable: bool = True

    def plain(self) -> Plain:
        """As payloads hold it: what can't be observed has no least, so that nobody reads a 0."""
        if self.observable:
            return {"observed": "yes", "at_least_ns": self.at_least, "at_most_ns": self.at_most}
        return {"observed": NOT_OBSERVABLE, "at_most_ns": self.at_most}


@dataclass(frozen=True, slots=True)
class Metrics:
    """Takeover metrics, ns; None: it did not happen.

    From the request: to ``acknowledge`` (acceptance), ``completion``, ``mrm`` (request of the manoeuvre), and to the end
    (``transition``). ``unconfirmed``: time in it with nobody known to be in command.
    """

    acknowledge: int | None
    completion: int | None
    mrm: int | None
    transition: int
    unconfirmed: int
    no_controller: Span
    two_controllers: Span

    def plain(self) -> Plain:
        """As payloads hold it."""
        return {
            "acknowledge_ns": self.acknowledge,
            "completion_ns": self.completion,
            "mrm_ns": self.mrm,
            "transition_ns": self.transition,
            "unconfirmed_ns": self.unconfirmed,
            "no_controller": self.no_controller.plain(),
            "two_controllers": self.two_controllers.plain(),
        }


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that the machine tells: an event ``handover.*``, ``override.*`` or ``mrm.*``.

    ``responsible``: who is from here on; empty: nobody, a no-controller span. ``due``: the deadline that it set, ns.
    ``phase``: of a timeout, and of an acceptance that only attests: ``acceptance``, ``completion``, ``attestation``.
    ``attestation``: ``signed``, ``pending``, ``missing``, or empty where no person has to answer for it.
    ``metrics`` come with a handover's end.
    """

    type: str
    t_effective: int
    t_decided: int
    responsible: str
    terms: Terms | None = None
    cause: str = ""
    person: str = ""
    due: int | None = None
    phase: str = ""
    attestation: str = ""
    signature: bytes | None = None
    checkpoint: str = ""
    metrics: Metrics | None = None

    def plain(self) -> Plain:
        """As payloads hold it; :func:`~edge_monitor.core.handover_history.rebuild` reads it back."""
        document: Plain = {"responsible": self.responsible or "none", "cause": self.cause}
        if self.terms is not None:
            document |= {"handover": self.terms.plain(), "direction": self.terms.direction}
        for name in ("person", "phase", "attestation", "checkpoint"):
            if getattr(self, name):
                document[name] = getattr(self, name)
        if self.due is not None:
            document["due_ns"] = self.due
        if self.signature is not None:
            document["signature"] = self.signature.hex()
        if self.metrics is not None:
            document["metrics"] = self.metrics.plain()
        return document


@dataclass(slots=True)
class Account:
    """Time in a handover, by what could be seen: ``mark`` is how far it is booked.

    ``absent``, ``both``: ns with nobody, and with a person and another, in command; ``absences``, ``doubles``: how many
    times; ``blind``: ns without an observation. ``bounded``: False when a part of it has no length, as across a reboot.
    """

    mark: int
    absent: int = 0
    absences: int = 0
    both: int = 0
    doubles: int = 0
    blind: int = 0
    bounded: bool = True

    def plain(self) -> list[int]:
        """As a snapshot holds it."""
        return [
            self.mark, self.absent, self.absences, self.both, self.doubles, self.blind, int(self.bounded),
        ]  # fmt: skip

    @classmethod
    def of(cls, row: list[int]) -> Account:
        """From :meth:`plain`."""
        mark, absent, absences, both, doubles, blind, bounded = row
        return cls(mark, absent, absences, both, doubles, blind, bool(bounded))

    def spans(self, within: int | None, sees_none: bool, sees_both: bool) -> tuple[Span, Span]:
        """Bounds of the no-controller and the two-controller time.

        Each end of an observed span may be up to ``within`` ns older than its observation, so a span is up to that much
        shorter or longer; what was blind may have been all or nothing of it.
        """
        sighted = self.blind == 0 and self.bounded and within is not None

        def span(seen: int, times: int, told: bool) -> Span:
            if within is None or not self.bounded:
                return Span(0, None, False)
            return Span(max(0, seen - times * within), seen + times * within + self.blind, sighted and told)

        return span(self.absent, self.absences, sees_none), span(self.both, self.doubles, sees_both)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command did, and where it could not be carried out, why: a line for the person who gave it."""

    acts: list[Act]
    refused: str = ""


@dataclass(slots=True)
class Open:
    """The handover that is open. ``due``: the end of its step; ``phase`` names it."""

    terms: Terms
    due: int
    account: Account
    accepted: int | None = None
    person: str = ""
    attestation: str = ""
    mrm: int | None = None

    @property
    def phase(self) -> str:
        """What is waited for."""
        return "acceptance" if self.terms.to == "human" and self.accepted is None else "completion"

    def plain(self) -> list[Any]:
        """As a snapshot holds it."""
        account = self.account.plain()
        return [self.terms.plain(), self.due, account, self.accepted, self.person, self.attestation, self.mrm]

    @classmethod
    def of(cls, row: list[Any]) -> Open:
        """From :meth:`plain`."""
        terms, due, account, *more = row
        return cls(Terms.of(terms), due, Account.of(account), *more)


@dataclass(slots=True)
class Lost:
    """Nobody is known to be in command since ``since``; ``was`` was responsible (empty: nobody had to be).

    ``due``: when fallback is demanded (None: not at all, or already).
    """

    since: int
    was: str
    cause: str
    due: int | None

    def plain(self) -> list[Any]:
        """As a snapshot holds it."""
        return [self.since, self.was, self.cause, self.due]


@dataclass(slots=True)
class Motion:
    """A gate in motion as the machine sees it. ``armed``: it has been GO; ``demanded``: this NO_GO has made its demand."""

    go: bool = False
    armed: bool = False
    failed: bool = False
    demanded: bool = False

    def plain(self) -> list[bool]:
        """As a snapshot holds it."""
        return [self.go, self.armed, self.failed, self.demanded]


def seen_in(command: InCommand, responsible: str) -> str:
    """Who is confirmed to command: a controller, ``none`` or ``unknown``.

    A fallback that decided is in command whichever mode acts for it: the modes it flies are often in no list. Where one
    decides and another acts, whoever of them was responsible stays so; had it been neither, nobody is confirmed.
    """
    decision, execution = command.decision, command.execution
    if decision == "fallback" and execution != "none":
        return "fallback"
    if decision == execution:
        return decision
    for lost in ("unknown", "none"):
        if lost in (decision, execution):
            return lost
    return responsible if responsible in (decision, execution) else "unknown"


def doubled(command: InCommand) -> bool:
    """Whether a person and somebody else share command: one decides, the other acts."""
    pair = {command.decision, command.execution}
    return len(pair) == 2 and "human" in pair and not pair & {"none", "unknown"}
