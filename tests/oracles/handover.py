"""Handover by its rules, one tick at a time: waits are counted up, not scheduled, and every tick looks at everything.

Written from docs/handover.md, not from the machine; it knows one gate in motion, and people who sign at once or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Wait:
    """Something that is waited for: how many ticks it has been, and how many it may be."""

    waited: int
    most: int


@dataclass
class HandoverOracle:
    """Ticks are whole numbers. ``spec`` has the waits in ticks: accept, complete, attest, mrm, lost; ``then`` or None."""

    spec: dict[str, int]
    then: int | None = None
    who: str = ""  # responsible, or the last one who was while nobody is
    lost: Wait | None = None
    absent: bool = False  # nobody is responsible now
    asked: dict[str, Any] = field(default_factory=dict)  # the open handover
    step: Wait | None = None
    total: Wait | None = None
    mrm: Wait | None = None
    unsigned: dict[str, Wait] = field(default_factory=dict)
    signers: dict[str, str] = field(default_factory=dict)
    override: bool = False
    gate: str = "never"  # never, go, stopped (has been GO), failed (has not)
    demanded: bool = False
    resume: bool = False
    count: int = 0
    out: list[tuple[str, str]] = field(default_factory=list)

    def tell(self, word: str, id_: str = "") -> None:
        """Note an event."""
        self.out.append((word, id_))

    def tick(self, inputs: list[tuple[str, Any]]) -> list[tuple[str, str]]:
        """One tick: what comes in at it, then what has waited long enough at it. Answers (type, id)."""
        self.out = []
        for word, value in inputs:
            getattr(self, f"in_{word}")(value)
            self.demand()
        while self.ring():
            self.demand()
        for wait in [self.lost, self.step, self.total, self.mrm, *self.unsigned.values()]:
            if wait:
                wait.waited += 1
        return self.out

    def ring(self) -> bool:
        """The first thing that has waited long enough: a lost controller, then the manoeuvre, the handover, a signature."""

        def over(wait: Wait | None) -> bool:
            return wait is not None and wait.waited >= wait.most

        late = over(self.step) or over(self.total)
        if over(self.lost):
            self.lost = None
            self.manoeuvre()
        elif over(self.mrm) and not (late and self.asked["to"] == "fallback"):
            self.mrm = None
            self.tell("mrm.failed")
        elif late:
            demand = self.asked["demand"]
            self.end("handover.timeout")
            if demand:
                self.manoeuvre()
        else:
            for id_, wait in self.unsigned.items():
                if over(wait):
                    del self.unsigned[id_]
                    self.tell("handover.timeout", id_)
                    return True
            return False
        return True

    def manoeuvre(self) -> None:
        """Ask for it, once."""
        if self.mrm is None and not (self.who == "fallback" and not self.absent):
            self.mrm = Wait(0, self.spec["mrm"])
            self.tell("mrm.start")

    def end(self, word: str) -> None:
        """Close the open handover."""
        self.tell(word, self.asked["id"])
        self.asked, self.step, self.total = {}, None, None

    def open(self, id_: str, to: str, *, demand: bool = False, person: str = "") -> None:
        """Open one; to autonomy its gate has accepted already."""
        self.asked = {"id": id_, "to": to, "from": self.who, "demand": demand, "accepted": to == "autonomy", "signed": False,
                      "person": person if to == "autonomy" else ""}  # fmt: skip
        most = {"human": "accept", "autonomy": "complete", "fallback": "mrm"}[to]
        self.step = Wait(0, self.spec[most])
        self.total = Wait(0, self.then) if demand and self.then is not None else None
        self.tell("handover.requested", id_)
        if to == "autonomy":
            self.tell("handover.accepted", id_)
        if to == "fallback":
            self.manoeuvre()

    def demand(self) -> None:
        """Autonomy commands, and the gate in motion does not allow it."""
        against = self.gate in ("stopped", "failed") and not self.demanded
        if against and self.who == "autonomy" and not self.absent and self.mrm is None and not self.asked.get("demand"):
            self.demanded = True
            self.count += 1
            if self.asked:
                self.end("handover.cancelled")
            self.open(f"monitor-{self.count}", "human", demand=True)

    def in_see(self, value: tuple[str, str]) -> None:
        """Who decides and who acts."""
        decision, execution = value
        had, was_absent = self.who, self.absent
        if decision == "fallback" and execution != "none":
            now = "fallback"
        elif decision == execution:
            now = decision
        elif "unknown" in value:
            now = "unknown"
        elif "none" in value:
            now = "none"
        else:
            now = had if had in value else "unknown"
        if now in ("human", "fallback", "none"):
            self.demanded = False
        if now in ("none", "unknown"):
            if now == "none" and self.mrm:
                self.mrm = None
                self.tell("mrm.succeeded")
            if now == "none" and self.override:
                self.override = False
                self.tell("override.end")
            matters = bool(self.asked) or now == "unknown"
            if not was_absent and had:
                self.absent = True
                self.lost = Wait(0, self.spec["lost"]) if matters else None
                self.who = had if matters else ""
                self.cause = now
            elif was_absent and now != self.cause:
                self.cause = now
                if now == "none" and not self.asked:
                    self.who, self.lost = "", None
            return
        self.who, self.absent, self.lost = now, False, None
        if now == had and not was_absent:
            return
        if self.mrm and now == "fallback":
            self.mrm = None
            self.tell("mrm.succeeded")
        if self.mrm and now == "human" and not (self.asked and self.asked["from"] == "human"):
            self.mrm = None
            self.tell("mrm.failed")
        if now == had:
            return
        if now != "human" and self.override:
            self.override = False
            self.tell("override.end")
        if self.asked and self.asked["to"] == now:
            self.complete(self.asked["id"], self.asked["signed"], self.asked["person"])
            return
        if self.asked and self.asked["from"] != now:
            self.end("handover.cancelled")
        if had and (now == "human" or (now == "autonomy" and had == "human")):
            if now == "human":
                self.override = True
                self.tell("override.start")
            self.count += 1
            self.asked = {"id": f"monitor-{self.count}", "to": now}
            self.complete(self.asked["id"], False, "")

    def complete(self, id_: str, signed: bool, person: str) -> None:
        """The one asked for is in command; somebody has to sign, unless it is fallback."""
        to = self.asked["to"]
        self.end("handover.completed")
        if not signed and to != "fallback":
            self.unsigned[id_] = Wait(0, self.spec["attest"])
            self.signers[id_] = person

    def in_gate(self, go: bool) -> None:
        """The gate in motion."""
        if go:
            self.gate, self.demanded = "go", False
            if self.asked.get("demand") and not self.asked["accepted"]:
                self.end("handover.cancelled")
        else:
            self.gate = "stopped" if self.gate in ("go", "stopped") else "failed"

    def in_resume(self, go: bool) -> None:
        """The gate for a handover to autonomy."""
        self.resume = go
        if not go and self.asked.get("to") == "autonomy":
            self.end("handover.cancelled")

    def in_ask(self, value: tuple[str, str]) -> None:
        """A person's request: (id, to)."""
        id_, to = value
        fine = self.who != "" and to != self.who
        fine = fine and not (to == "fallback" and self.mrm)
        fine = fine and (not self.asked or (to == "fallback" and self.asked["to"] != "fallback"))
        fine = fine and (to != "autonomy" or (not self.absent and self.resume))
        if not fine:
            self.tell("handover.refused", id_)
            return
        if self.asked:
            self.end("handover.cancelled")
        self.open(id_, to, person="ada")

    def in_accept(self, value: tuple[bool, str]) -> None:
        """A person accepts what is open, else signs the oldest that waits: (with a signature, who)."""
        signed, person = value
        if self.asked:
            asked = self.asked
            if asked["to"] == "fallback":
                return
            if not asked["accepted"]:
                asked.update(accepted=True, signed=signed, person=person)
                self.step = Wait(0, self.spec["complete"])
                self.tell("handover.accepted", asked["id"])
            elif signed and not asked["signed"] and asked["person"] == person:
                asked["signed"] = True
                self.tell("handover.accepted", asked["id"])
        elif self.unsigned:
            id_ = next(iter(self.unsigned))
            if signed and self.signers[id_] in ("", person):
                del self.unsigned[id_]
                self.tell("handover.accepted", id_)

    def in_refuse(self, _: None) -> None:
        """The person who is asked does not want to."""
        if self.asked.get("to") == "human":
            demand = self.asked["demand"]
            self.end("handover.refused")
            if demand:
                self.manoeuvre()

    def in_cancel(self, _: None) -> None:
        """A person calls back what a person asked for."""
        if self.asked and not self.asked["demand"] and self.asked["to"] != "fallback":
            self.end("handover.cancelled")
