"""Handover of command between autonomy and people (SEMANTICS §6): requested, accepted or not, completed or not.

A pure machine in event time, like gates and authority. Completion is *observed* from authority, never declared; until
then the previous controller stays responsible, or nobody is: a no-controller span. Every deadline acts at its own time.
"""

from __future__ import annotations

from collections.abc import Sequence

from .authority import NOT_RECORDED, Change
from .authority import Command as InCommand
from .commands import AcceptHandover, CancelHandover, Command, RefuseHandover, RequestHandover
from .gates import Decision
from .handover_state import CONTROLLERS, HandoverState
from .handover_terms import MONITOR, Account, Act, Answer, Open, Terms
from .samples import Verdict

MOST_PENDING = 16  #: completed handovers that wait for a signature; one more makes the oldest one missing


class Handover(HandoverState):
    """The machine: its state (what it is made with is told there) and the rules that act on it.

    It is told of each instant once, with all that changed at it (:meth:`step`), of commands (:meth:`command`), and of
    time (:meth:`advance`); all answer acts in order of their time.
    """

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

    # What time does.

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
        if name in self.needed:
            self.needed[name] = go
            if terms and terms.to == "autonomy" and not go:
                self._end("handover.cancelled", f"gate {name} is NO_GO", t, decided, acts)

    def _demand(self, t: int, decided: int, acts: list[Act]) -> None:
        """A gate in motion that is NO_GO while autonomy is responsible makes a transition demand, once."""
        for name, motion in self.motions.items():
            if motion.go or motion.demanded or not (motion.armed or motion.failed):
                continue
            if self.responsible != "autonomy" or self.mrm is not None:
                return
            after = self.mrm_after[name]
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
            if not self.needed:
                return "the envelope names no gate for a handover to autonomy"
            against = [name for name, go in self.needed.items() if not go]
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

    def _wait(self, terms: Terms, person: str, due: int, t: int, decided: int, acts: list[Act]) -> None:
        if len(self.pending) >= MOST_PENDING:
            self._missing(next(iter(self.pending)), t, decided, acts, "too many wait for a signature")
        self.pending[terms.id] = (terms, person, due)

    def _new_id(self) -> str:
        self.serial += 1
        return f"{MONITOR}-{self.serial}"

    def _tell(self, acts: list[Act], name: str, t: int, decided: int, **more: object) -> None:
        acts.append(Act(name, t, decided, self.responsible, **more))  # type: ignore[arg-type]
