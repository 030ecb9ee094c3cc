"""Handover of command between autonomy and people (SEMANTICS §6): requested, accepted or not, completed or not.

A pure machine in event time, like gates and authority. Completion is *observed* from authority, never declared; until
then the previous controller stays responsible, or nobody is: a no-controller span. Every deadline acts at its own time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from .authority import NOT_RECORDED, Change
from .authority import Command as InCommand
from .commands import AcceptHandover, CancelHandover, Command, RefuseHandover, RequestHandover
from .decision_specs import GateSpec, HandoverSpec
from .gates import Decision
from .handover_terms import (
    MONITOR,
    Account,
    Act,
    Answer,
    Lost,
    Metrics,
    Motion,
    Open,
    Plain,
    Terms,
    doubled,
    seen_in,
)  # fmt: skip
from .samples import Verdict

CONTROLLERS = ("autonomy", "human", "fallback")
MOST_PENDING = 16  #: completed handovers that wait for a signature; one more makes the oldest one missing
MOST_IDS = 32  #: ids of ended handovers that are not taken again


class Handover:
    """The machine. ``responsible`` is empty while nobody is; ``gates``: the envelope's.

    It is told of each instant once, with all that changed at it (:meth:`step`), of commands (:meth:`command`), and of
    time (:meth:`advance`); all answer acts in order of their time.
    """

    def __init__(self, spec: HandoverSpec, gates: Sequence[GateSpec] = ()) -> None:
        self.spec = spec
        self.motions = {gate.name: Motion() for gate in gates if gate.demand}
        self._after = {gate.name: gate.mrm_after for gate in gates}
        self._needed = dict.fromkeys(spec.gates, False)
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

    def step(
        self,
        t: int,
        decided: int,
        *,
        changes: Sequence[Change] = (),
        decisions: Sequence[Decision] = (),
        jump: int = 0,
    ) -> list[Act]:
        """One instant at ``t`` (ns): changes of command and decisions of gates that took effect at it.

        ``jump``: how far the stream's clock stepped at it, ns; what was left of a deadline is left after it.
        """
        if jump:
            self.shift(jump)
        acts = self.advance(t, decided)
        self.reach(t)
        for change in changes:
            if change.type == "authority.changed":
                self._observe(change.after, t, decided, acts)
        for decision in decisions:
            self._judge(decision, t, decided, acts)
        self._demand(t, decided, acts)
        return acts

    def command(self, order: Command) -> Answer:
        """Carry out a ``handover.*`` command at its time; one that is late acts now. Raises ``TypeError`` for others."""
        t = order.t if self.now is None else max(order.t, self.now)
        acts = self.advance(t, t)
        self.reach(t)
        if isinstance(order, RequestHandover):
            refused = self._request(order, t, acts)
        elif isinstance(order, AcceptHandover):
            refused = self._accept(order, t, acts)
        elif isinstance(order, RefuseHandover):
            refused = self._refuse(order, t, acts)
        elif isinstance(order, CancelHandover):
            refused = self._cancel(order, t, acts)
        else:
            raise TypeError(f"{order.word} is no command of a handover")
        self._demand(t, t, acts)
        return Answer(acts, refused)

    def advance(self, until: int, decided: int, *, inclusive: bool = False) -> list[Act]:
        """Let time pass: deadlines before ``until`` fire (at it too where ``inclusive``), each at its own time."""
        acts: list[Act] = []
        while True:
            due = self.due
            if due is None or due > until or (due == until and not inclusive):
                break
            self.reach(due)
            self._fire(due, decided, acts)
            self._demand(due, decided, acts)
        self.reach(until)
        return acts

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

    def _fire(self, t: int, decided: int, acts: list[Act]) -> None:
        """Act on one deadline: at equal times a lost controller first, then the manoeuvre, the handover, signatures."""
        if self.lost is not None and self.lost.due == t:
            self.lost.due = None
            self._ask_mrm(f"nobody is known to be in command: {self.lost.cause}", t, decided, acts)
        elif self.mrm == t and not (self.open and self.open.terms.to == "fallback" and self.open.due == t):
            self.mrm = None
            self._tell(acts, "mrm.failed", t, decided, cause=f"no fallback within {self.spec.mrm_within / 1e9:g} s")
        elif self.open is not None and self.open.due == t:
            terms, phase = self.open.terms, self.open.phase
            self._end("handover.timeout", f"no {phase} in time", t, decided, acts, phase=phase)
            if terms.demand:
                self._ask_mrm(f"{terms.id}: no {phase} in time", t, decided, acts, terms)
        else:
            id_ = next(id_ for id_, (_, _, when) in self.pending.items() if when == t)
            self._missing(id_, t, decided, acts)

    def _missing(self, id_: str, t: int, decided: int, acts: list[Act], cause: str = "no signature in time") -> None:
        terms, person, _ = self.pending.pop(id_)
        self._tell(
            acts, "handover.timeout", t, decided, terms=terms, cause=cause, person=person, phase="attestation",
            attestation="missing",
        )  # fmt: skip

    # What is observed.

    def _observe(self, after: InCommand, t: int, decided: int, acts: list[Act]) -> None:
        blind = self.lost is not None
        was, who = self.follow(after, t)
        if who not in CONTROLLERS:
            if who == "none":
                if self.mrm is not None:
                    self._mrm_reached("the vehicle is inactive", t, decided, acts)
                self._end_override("the vehicle is inactive", t, decided, acts)
            return
        if who == was and not blind:
            return
        if self.mrm is not None and who == "fallback":
            self._mrm_reached("fallback is in command", t, decided, acts)
        elif self.mrm is not None and who == "human" and not (self.open and self.open.terms.source == "human"):
            self.mrm = None
            self._tell(acts, "mrm.failed", t, decided, cause="a person is in command")
        if who == was:
            return
        if who != "human":
            self._end_override(f"{who} is in command", t, decided, acts)
        if self.open is not None and who == self.open.terms.to:
            self._complete(self.open, t, decided, acts)
            return
        if self.open is not None and who != self.open.terms.source:
            self._end("handover.cancelled", f"{who} is in command", t, decided, acts)
        if was and (who == "human" or (who == "autonomy" and was == "human")):
            self._taken(was, who, t, decided, acts)

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

    def _complete(self, done: Open, t: int, decided: int, acts: list[Act]) -> None:
        terms = done.terms
        attestation = done.attestation or ("" if terms.to == "fallback" else "pending")
        due = t + self.spec.attest_within if attestation == "pending" else None
        metrics = self.close(t, completed=True)
        self._tell(
            acts, "handover.completed", t, decided, terms=terms, cause=f"{terms.to} is in command", person=done.person,
            due=due, attestation=attestation, metrics=metrics,
        )  # fmt: skip
        if due is not None:
            self._wait(terms, done.person, due, t, decided, acts)

    def _taken(self, was: str, who: str, t: int, decided: int, acts: list[Act]) -> None:
        """Command was taken, or given back, without a handover: it counts at once, and somebody must answer for it."""
        if who == "human":
            self.override = True
            self._tell(acts, "override.start", t, decided, cause=f"a person took over from {was}")
        terms = Terms(self._new_id(), was, who, NOT_RECORDED, "observed, not asked for", t, unasked=True)
        self.open = Open(terms, t, Account(t))
        self._complete(self.open, t, decided, acts)

    def _end_override(self, cause: str, t: int, decided: int, acts: list[Act]) -> None:
        if self.override:
            self.override = False
            self._tell(acts, "override.end", t, decided, cause=cause)

    def _mrm_reached(self, cause: str, t: int, decided: int, acts: list[Act]) -> None:
        self.mrm = None
        self._tell(acts, "mrm.succeeded", t, decided, cause=cause)

    # What gates decide.

    def _judge(self, decision: Decision, t: int, decided: int, acts: list[Act]) -> None:
        name, go = decision.gate, decision.go
        motion = self.motions.get(name)
        terms = self.open.terms if self.open else None
        if motion is not None:
            motion.go, motion.failed = go, not go and decision.verdict == Verdict.FAIL
            if go:
                motion.armed, motion.demanded = True, False
                if terms and terms.demand and terms.gate == name and self.open and self.open.accepted is None:
                    self._end("handover.cancelled", f"gate {name} is GO again", t, decided, acts)
        if name in self._needed:
            self._needed[name] = go
            if terms and terms.to == "autonomy" and not go:
                self._end("handover.cancelled", f"gate {name} is NO_GO", t, decided, acts)

    def _demand(self, t: int, decided: int, acts: list[Act]) -> None:
        """A gate in motion that is NO_GO while autonomy is responsible makes a transition demand, once."""
        for name, motion in self.motions.items():
            if motion.go or motion.demanded or not (motion.armed or motion.failed):
                continue
            if self.responsible != "autonomy" or self.mrm is not None:
                return
            after = self._after[name]
            limit = None if after is None else t + after
            due = t + self.spec.accept_within
            due = due if limit is None else min(due, limit)
            if self.open is not None and self.open.terms.demand:
                accepted = self.open.accepted is not None
                if (accepted and (limit is None or limit >= self.open.due)) or (not accepted and due >= self.open.due):
                    continue
            terms = Terms(
                self._new_id(), "autonomy", "human", MONITOR, f"gate {name} is NO_GO", t, demand=True, gate=name,
                rules=(name,), limit=limit,
            )  # fmt: skip
            self._supersede(terms, t, decided, acts)
            self._ask(Open(terms, due, Account(t)), t, decided, acts)

    # What people ask.

    def _request(self, order: RequestHandover, t: int, acts: list[Act]) -> str:
        taken = {*self.ended, *self.pending, *([self.open.terms.id] if self.open else [])}
        if order.id in taken or order.id.startswith(f"{MONITOR}-"):
            return f"the id {order.id} is taken"
        source = self.responsible or (self.lost.was if self.lost else "")
        terms = Terms(order.id, source, order.to, order.person, order.reason, t, rules=order.rules)
        refused = self._against(terms)
        if refused:
            self.ended.append(terms.id)
            self._tell(acts, "handover.refused", t, t, terms=terms, cause=refused, person=MONITOR)
            return refused
        self._supersede(terms, t, t, acts)
        within = {"human": self.spec.accept_within, "autonomy": self.spec.complete_within}
        opened = Open(terms, t + within.get(order.to, self.spec.mrm_within), Account(t))
        if order.to == "autonomy":
            opened.attestation = "pending" if order.signature is None else "signed"
            opened.person = order.person
        self._ask(opened, t, t, acts, order)
        if order.to == "autonomy":
            opened.accepted = t
            cause = ", ".join(f"gate {name} is GO" for name in self.spec.gates)
            self._tell(acts, "handover.accepted", t, t, terms=terms, cause=cause, person=MONITOR, due=opened.due)
        elif order.to == "fallback":
            self._ask_mrm(f"{terms.id}: {terms.reason}", t, t, acts, terms)
        return ""

    def _against(self, terms: Terms) -> str:
        """Why a person's request is refused; empty: it is not."""
        opened = self.open
        if not terms.source:
            return "nobody is known to be in command"
        if terms.to == terms.source:
            return f"{terms.to} is in command already"
        if terms.to == "fallback" and self.mrm is not None:
            return "fallback has been asked for already"
        if opened is not None and (terms.to != "fallback" or opened.terms.to == "fallback"):
            return f"handover {opened.terms.id} is open"
        if terms.to == "autonomy":
            if not self.responsible:
                return "nobody is known to be in command"
            if not self._needed:
                return "the envelope names no gate for a handover to autonomy"
            against = [name for name, go in self._needed.items() if not go]
            if against:
                return f"gate {', '.join(against)} is NO_GO"
        return ""

    def _accept(self, order: AcceptHandover, t: int, acts: list[Act]) -> str:
        opened = self.open
        if order.id in self.pending:
            terms, person, _ = self.pending[order.id]
            return self._attest(order, terms, person, t, acts)
        if opened is None or opened.terms.id != order.id:
            return f"no handover {order.id} is open"
        if opened.terms.to == "fallback":
            return "a handover to fallback needs nobody's acceptance"
        if opened.accepted is not None:
            return self._attest(order, opened.terms, opened.person, t, acts)
        opened.accepted, opened.person = t, order.person
        opened.attestation = "pending" if order.signature is None else "signed"
        due = t + self.spec.complete_within
        opened.due = due if opened.terms.limit is None else min(due, opened.terms.limit)
        self._tell(
            acts, "handover.accepted", t, t, terms=opened.terms, person=order.person, due=opened.due,
            attestation=opened.attestation, signature=order.signature, checkpoint=order.checkpoint,
        )  # fmt: skip
        return ""

    def _attest(self, order: AcceptHandover, terms: Terms, person: str, t: int, acts: list[Act]) -> str:
        """A signature for what was accepted, or taken, before."""
        if person and order.person != person:
            return f"handover {order.id} is {person}'s to sign"
        if self.open is not None and self.open.terms is terms and self.open.attestation == "signed":
            return f"handover {order.id} is signed already"
        if order.signature is None:
            return f"handover {order.id} waits for a signature only"
        if self.pending.pop(order.id, None) is None and self.open is not None:
            self.open.attestation = "signed"
        self._tell(
            acts, "handover.accepted", t, t, terms=terms, person=order.person, phase="attestation",
            attestation="signed", signature=order.signature, checkpoint=order.checkpoint,
        )  # fmt: skip
        return ""

    def _refuse(self, order: RefuseHandover, t: int, acts: list[Act]) -> str:
        if self.open is None or self.open.terms.id != order.id:
            return f"no handover {order.id} is open"
        terms = self.open.terms
        if terms.to != "human":
            return f"only a handover to a person can be refused; {order.id} goes to {terms.to}"
        self._end("handover.refused", order.reason, t, t, acts, person=order.person)
        if terms.demand:
            self._ask_mrm(f"{terms.id} was refused: {order.reason}", t, t, acts, terms)
        return ""

    def _cancel(self, order: CancelHandover, t: int, acts: list[Act]) -> str:
        if self.open is None or self.open.terms.id != order.id:
            return f"no handover {order.id} is open"
        terms = self.open.terms
        if terms.demand:
            return "a transition demand ends by takeover, refusal, its deadline or its gate"
        if terms.to == "fallback":
            return "fallback that was asked for can't be called back; take over instead"
        self._end("handover.cancelled", order.reason, t, t, acts, person=order.person)
        return ""

    # What the machine does itself.

    def _ask(self, opened: Open, t: int, decided: int, acts: list[Act], order: RequestHandover | None = None) -> None:
        self.admit(opened)
        self._tell(
            acts, "handover.requested", t, decided, terms=opened.terms, cause=opened.terms.reason, due=opened.due,
            person="" if opened.terms.initiator == MONITOR else opened.terms.initiator, attestation=opened.attestation,
            signature=order.signature if order else None, checkpoint=order.checkpoint if order else "",
        )  # fmt: skip

    def admit(self, opened: Open) -> None:
        """Open a handover: what is absent or double already counts from here on."""
        self.open = opened
        opened.account.absences += self.lost is not None and self.lost.cause == "none"
        opened.account.doubles += doubled(self.observed)
        if opened.terms.gate in self.motions:
            self.motions[opened.terms.gate].demanded = True

    def _supersede(self, terms: Terms, t: int, decided: int, acts: list[Act]) -> None:
        if self.open is not None:
            self._end("handover.cancelled", f"superseded by {terms.id}", t, decided, acts)

    def _ask_mrm(self, cause: str, t: int, decided: int, acts: list[Act], terms: Terms | None = None) -> None:
        """Ask for the minimal-risk manoeuvre, unless it has been, or fallback is in command."""
        if self.mrm is not None or self.responsible == "fallback":
            return
        self.mrm = t + self.spec.mrm_within
        if self.open is not None and self.open.mrm is None:
            self.open.mrm = t
        self._tell(acts, "mrm.start", t, decided, terms=terms, cause=cause, due=self.mrm)

    def _end(
        self, name: str, cause: str, t: int, decided: int, acts: list[Act], *, person: str = "", phase: str = ""
    ) -> None:
        assert self.open is not None
        terms = self.open.terms
        mrm = t if terms.demand and self.mrm is None and name in ("handover.timeout", "handover.refused") else None
        metrics = self.close(t, mrm=mrm)
        self._tell(acts, name, t, decided, terms=terms, cause=cause, person=person, phase=phase, metrics=metrics)

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

    def _wait(self, terms: Terms, person: str, due: int, t: int, decided: int, acts: list[Act]) -> None:
        if len(self.pending) >= MOST_PENDING:
            self._missing(next(iter(self.pending)), t, decided, acts, "too many wait for a signature")
        self.pending[terms.id] = (terms, person, due)

    def _new_id(self) -> str:
        self.serial += 1
        return f"{MONITOR}-{self.serial}"

    def _tell(self, acts: list[Act], name: str, t: int, decided: int, **more: object) -> None:
        acts.append(Act(name, t, decided, self.responsible, **more))  # type: ignore[arg-type]

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
            "needed": dict(self._needed),
        }

    def restore(self, state: Plain) -> None:
        """Put back a :meth:`snapshot`. Raises ``ValueError`` where it is of an envelope with other gates."""
        if set(state["motions"]) != set(self.motions) or set(state["needed"]) != set(self._needed):
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
        self._needed = {name: state["needed"][name] for name in self._needed}
