"""What the handover machine holds, and how time, an observation and a handover's beginning and end change it.

Nothing here is told to anybody: the rules that tell are :class:`~edge_monitor.core.handover.Handover`'s, and
:func:`~edge_monitor.core.handover_history.rebuild` repeats what an earlier one of them told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .authority import Command as InCommand
from .decision_specs import GateSpec, HandoverSpec
from .handover_terms import Lost, Metrics, Motion, Open, Plain, Terms, doubled, seen_in

CONTROLLERS = ("autonomy", "human", "fallback")
MOST_IDS = 32  #: ids of ended handovers that are not taken again


class HandoverState:
    """The state. ``responsible`` is empty while nobody is; ``gates``: the envelope's. Times in ns on the stream's clock."""

    def __init__(self, spec: HandoverSpec, gates: Sequence[GateSpec] = ()) -> None:
        self.spec = spec
        self.motions = {gate.name: Motion() for gate in gates if gate.demand}
        self.mrm_after = {gate.name: gate.mrm_after for gate in gates}
        self.needed = dict.fromkeys(spec.gates, False)
        self.now: int | None = None
        self.observed = InCommand()
        self.responsible = ""
        self.lost: Lost | None = None
        self.open: Open | None = None
        self.mrm: int | None = None  # when an MRM that was asked for counts as failed
        self.override = False
        self.pending: dict[str, tuple[Terms, str, int]] = {}  # id: terms, who accepted, due
        self.serial = 0
        self.ended: deque[str] = deque(maxlen=MOST_IDS)

    def renew(self, spec: HandoverSpec, gates: Sequence[GateSpec], go: Mapping[str, bool]) -> None:
        """Another envelope is in force, with this ``spec`` and these ``gates``; ``go``: which of them are. Deadlines that
        have been set stay."""
        self.spec = spec
        fresh = {gate.name: Motion(go=go[gate.name], armed=go[gate.name]) for gate in gates if gate.demand}
        self.motions = {name: self.motions.get(name, motion) for name, motion in fresh.items()}
        self.mrm_after = {gate.name: gate.mrm_after for gate in gates}
        self.needed = {name: go[name] for name in spec.gates}

    @property
    def due(self) -> int | None:
        """The next deadline, ns."""
        due = min((due for _, _, due in self.pending.values()), default=None) if self.pending else None
        for other in (self.open.due if self.open else None, self.mrm, self.lost.due if self.lost else None):
            if other is not None and (due is None or other < due):
                due = other
        return due

    def status(self) -> Plain:
        """Who is responsible and what is open, for people: not for restoring."""
        opened, lost = self.open, self.lost
        return {
            "responsible": self.responsible or "none",
            "no_controller_since_ns": lost.since if lost else None,
            "open": None if opened is None else opened.terms.plain() | {"phase": opened.phase, "due_ns": opened.due},
            "mrm_due_ns": self.mrm,
            "override": self.override,
            "attestation_pending": list(self.pending),
        }

    # What time does.

    def reach(self, t: int) -> None:
        """Time has come to ``t`` (ns)."""
        self.now = t if self.now is None else max(self.now, t)

    def shift(self, jump: int) -> None:
        """The clock stepped by ``jump`` ns: everything that is under way keeps its age and what was left to it."""
        if self.now is not None:
            self.now += jump
        if self.mrm is not None:
            self.mrm += jump
        if self.lost is not None:
            self.lost.since += jump
            self.lost.due = None if self.lost.due is None else self.lost.due + jump
        for id_, (terms, person, due) in self.pending.items():
            self.pending[id_] = (terms, person, due + jump)
        if self.open is not None:
            o = self.open
            o.due += jump
            o.account.mark += jump
            o.accepted = None if o.accepted is None else o.accepted + jump
            o.mrm = None if o.mrm is None else o.mrm + jump
            limit = None if o.terms.limit is None else o.terms.limit + jump
            o.terms = replace(o.terms, requested=o.terms.requested + jump, limit=limit)

    # What is observed.

    def follow(self, after: InCommand, t: int) -> tuple[str, str]:
        """Take an observation; answers who was responsible before (also if lost since), and who is seen to command now."""
        self.book(t)
        was = self.responsible or (self.lost.was if self.lost else "")
        self.observed = after
        who = seen_in(after, was)
        if self.open is not None:
            self.open.account.doubles += doubled(after)
        if who in CONTROLLERS:
            self.responsible, self.lost = who, None
        if who not in ("autonomy", "unknown"):
            for motion in self.motions.values():
                motion.demanded = False
        if who in CONTROLLERS:
            return was, who
        if self.open is not None:
            self.open.account.absences += who == "none"
        demanded = was != "" and (who == "unknown" or self.open is not None)
        if self.responsible:
            self.lost = Lost(t, was if demanded else "", who, t + self.spec.lost_after if demanded else None)
        elif self.lost is not None and self.lost.cause != who:
            self.lost.cause = who
            if who == "none" and self.open is None:  # it has been put out of service
                self.lost.was, self.lost.due = "", None
        self.responsible = ""
        return was, who

    def book(self, t: int) -> None:
        """Book the time up to ``t`` on what has been seen of it."""
        if self.open is None:
            return
        account = self.open.account
        dt, account.mark = t - account.mark, t
        if self.lost is not None and self.lost.cause == "none":
            account.absent += dt
        elif not self.responsible:
            account.blind += dt
        if doubled(self.observed):
            account.both += dt

    # A handover's two ends.

    def admit(self, opened: Open) -> None:
        """Open a handover: what is absent or double already counts from here on."""
        self.open = opened
        opened.account.absences += self.lost is not None and self.lost.cause == "none"
        opened.account.doubles += doubled(self.observed)
        if opened.terms.gate in self.motions:
            self.motions[opened.terms.gate].demanded = True

    def close(self, t: int, *, completed: bool = False, mrm: int | None = None) -> Metrics:
        """Take the open handover off, with its account. ``mrm``: when its end asks for the manoeuvre."""
        assert self.open is not None
        self.book(t)
        opened, start = self.open, self.open.terms.requested
        self.open = None
        self.ended.append(opened.terms.id)
        account, mrm = opened.account, opened.mrm if mrm is None else mrm
        spans = account.spans(self.spec.observed_within, self.spec.sees_none, self.spec.sees_both)
        asked = not opened.terms.unasked
        return Metrics(
            None if opened.accepted is None else opened.accepted - start,
            t - start if completed and asked else None,
            None if mrm is None else mrm - start,
            t - start,
            account.absent + account.blind,
            *spans,
        )

    # As plain data.

    def snapshot(self) -> Plain:
        """All state as maps, lists, text and integers; :meth:`restore` of the same envelope goes on from there."""
        opened, lost, seen = self.open, self.lost, self.observed
        return {
            "now": self.now,
            "observed": [seen.decision, seen.execution, seen.mode, seen.intention],
            "responsible": self.responsible,
            "lost": lost and lost.plain(),
            "open": opened and opened.plain(),
            "mrm": self.mrm,
            "override": self.override,
            "pending": [[terms.plain(), person, due] for terms, person, due in self.pending.values()],
            "serial": self.serial,
            "ended": list(self.ended),
            "motions": {name: motion.plain() for name, motion in self.motions.items()},
            "needed": dict(self.needed),
        }

    def restore(self, state: Plain) -> None:
        """Put back a :meth:`snapshot`. Raises ``ValueError`` where it is of an envelope with other gates."""
        if set(state["motions"]) != set(self.motions) or set(state["needed"]) != set(self.needed):
            raise ValueError("the snapshot belongs to another envelope: its gates differ")
        self.now = state["now"]
        self.observed = InCommand(*state["observed"])
        self.responsible = state["responsible"]
        self.lost = state["lost"] and Lost(*state["lost"])
        self.open = state["open"] and Open.of(state["open"])
        self.mrm, self.override, self.serial = state["mrm"], state["override"], state["serial"]
        pending = [(Terms.of(terms), person, due) for terms, person, due in state["pending"]]
        self.pending = {terms.id: (terms, person, due) for terms, person, due in pending}
        self.ended = deque(state["ended"], maxlen=MOST_IDS)
        self.motions = {name: Motion(*state["motions"][name]) for name in self.motions}
        self.needed = {name: state["needed"][name] for name in self.needed}
