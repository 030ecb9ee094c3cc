"""A handover machine from the events of a journal: what a monitor goes on with after it was stopped or killed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .authority import Command as InCommand
from .decision_specs import GateSpec, HandoverSpec
from .handover import Handover
from .handover_terms import MONITOR, Account, Lost, Open, Terms

#: Types of the events that :func:`rebuild` reads; others may be among them.
READ = (
    "monitor.started", "authority.changed", "clock.jump",
    "handover.requested", "handover.accepted", "handover.refused", "handover.timeout",
    "handover.completed", "handover.cancelled", "override.start", "override.end", "mrm.start", "mrm.succeeded", "mrm.failed",
)  # fmt: skip

Told = tuple[str, int, Mapping[str, Any]]  #: an event's type, ``t_effective`` (ns) and payload


def rebuild(
    spec: HandoverSpec,
    gates: Sequence[GateSpec],
    told: Iterable[Told],
    *,
    seen: int,
    now: int,
    same_boot: bool = True,
) -> Handover:
    """The machine as ``told`` left it, started again at ``now``.

    ``told``: the journal's events in order. ``seen``: the time of its last record, up to which the vehicle was watched.
    An earlier restart among them is told as ``monitor.started`` with ``seen_ns`` and ``same_boot`` in the payload, which
    the caller takes from the record before it: the same two things of that restart.

    What fell due while nobody watched fires at its own time with the first :meth:`~.Handover.advance`. Who commands is
    unknown until it is observed, and counts as lost since ``seen``. In another boot the clock is another one: an open
    handover has expired at ``now``, an MRM and signatures have what was left to them.
    """
    machine = Handover(spec, gates)
    for name, t, payload in told:
        if name == "monitor.started":
            _restart(machine, payload["seen_ns"], t, same_boot=payload["same_boot"])
        else:
            _follow(machine, name, t, payload)
    _restart(machine, seen, now, same_boot=same_boot)
    return machine


def _restart(machine: Handover, seen: int, now: int, *, same_boot: bool) -> None:
    """Nobody watched from ``seen`` to ``now``."""
    seen = seen if machine.now is None else max(seen, machine.now)
    machine.book(seen)
    lost = machine.lost
    if lost is not None and lost.due is not None and lost.due < seen:
        lost.due = None  # it has fired, and found a manoeuvre asked for
    if not same_boot:
        machine.shift(now - seen)
        if machine.open is not None:
            machine.open.due = machine.open.account.mark = now
            machine.open.account.bounded = False
        seen = now
    machine.now = min(seen, now)
    machine.observed = InCommand()
    if machine.responsible:
        machine.lost = Lost(seen, machine.responsible, "unknown", now + machine.spec.lost_after)
        machine.responsible = ""
    elif lost is not None:
        lost.cause = "unknown"


def _follow(machine: Handover, name: str, t: int, payload: Mapping[str, Any]) -> None:
    """Do to the machine what its event says it did."""
    if name == "clock.jump":
        machine.shift(round(payload["step_s"] * 1e9))
    machine.reach(t)
    lost = machine.lost
    if lost is not None and lost.due is not None and (lost.due < t or (name == "mrm.start" and lost.due == t)):
        lost.due = None  # it has fired
    if name == "authority.changed":
        after = payload["after"]
        machine.follow(InCommand(after["decision"], after["execution"], after["mode"], after["intention"]), t)
    elif name == "mrm.start":
        machine.mrm = payload["due_ns"]
        if machine.open is not None and machine.open.mrm is None:
            machine.open.mrm = t
    elif name in ("mrm.succeeded", "mrm.failed"):
        machine.mrm = None
    elif name in ("override.start", "override.end"):
        machine.override = name == "override.start"
    elif name.startswith("handover."):
        _handover(machine, name, t, payload)


def _handover(machine: Handover, name: str, t: int, payload: Mapping[str, Any]) -> None:
    terms = Terms.of(payload["handover"])
    if terms.id.startswith(f"{MONITOR}-"):
        machine.serial = max(machine.serial, int(terms.id.rpartition("-")[2]))
    opened = machine.open if machine.open is not None and machine.open.terms.id == terms.id else None
    person = payload.get("person", "")
    if name == "handover.requested":
        opened = Open(terms, payload["due_ns"], Account(t), attestation=payload.get("attestation", ""))
        opened.person = person if terms.to == "autonomy" else ""
        machine.admit(opened)
    elif payload.get("phase") == "attestation":
        if machine.pending.pop(terms.id, None) is None and opened is not None:
            opened.attestation = "signed"
    elif name == "handover.accepted" and opened is not None:
        opened.accepted, opened.due = t, payload["due_ns"]
        if terms.to == "human":
            opened.person, opened.attestation = person, payload["attestation"]
    elif opened is not None:
        machine.close(t)
    else:
        machine.ended.append(terms.id)
    if name == "handover.completed" and payload.get("attestation") == "pending":
        machine.pending[terms.id] = (terms, person, payload["due_ns"])
