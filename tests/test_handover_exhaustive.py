"""Every reachable sequence of observations, decisions, commands, deadlines and restarts, to a depth, against invariants."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from handover_world import GATES, SIGNED, SPEC, S

from edge_monitor.core.authority import Change, Command
from edge_monitor.core.commands import AcceptHandover, CancelHandover, RefuseHandover, RequestHandover
from edge_monitor.core.gates import Decision
from edge_monitor.core.handover import CONTROLLERS, Handover
from edge_monitor.core.handover_history import Told, rebuild
from edge_monitor.core.handover_terms import Account, Act, Lost, Motion, Open
from edge_monitor.core.samples import Verdict

DEPTH = 8
ENDS = {"handover.refused", "handover.timeout", "handover.completed", "handover.cancelled"}
SEEN = {
    "autonomy": Command("autonomy", "autonomy"),
    "human": Command("human", "human"),
    "fallback": Command("fallback", "autonomy"),
    "none": Command("none", "none"),
    "unknown": Command("unknown", "unknown"),
    "shared": Command("human", "autonomy"),
}


@dataclass(frozen=True)
class Node:
    """A machine in some state, and the events that led here (a list linked backwards)."""

    machine: Handover
    t: int
    told: Any = None  # (earlier, event)

    def history(self) -> list[Told]:
        """All events up to here."""
        events, at = [], self.told
        while at is not None:
            at, event = at
            events.append(event)
        return events[::-1]


def clone(machine: Handover) -> Handover:
    """The same state again; restoring a snapshot would do, at ten times the time."""
    other = object.__new__(Handover)
    other.__dict__.update(machine.__dict__)
    lost, o = machine.lost, machine.open
    if lost is not None:
        other.lost = Lost(lost.since, lost.was, lost.cause, lost.due)
    if o is not None:
        a = o.account
        account = Account(a.mark, a.absent, a.absences, a.both, a.doubles, a.blind, a.bounded)
        other.open = Open(o.terms, o.due, account, o.accepted, o.person, o.attestation, o.mrm)
    other.pending = machine.pending.copy()
    other.ended = machine.ended.copy()
    other.motions = {name: Motion(m.go, m.armed, m.failed, m.demanded) for name, m in machine.motions.items()}
    other.needed = machine.needed.copy()
    return other


@cache
def orders(t: int, depth: int, ids: tuple[str, ...], taken: bool) -> list[tuple[str, Any]]:
    """The commands that people may give. Ada comes first; ``taken``: somebody has accepted, so another may try too."""
    found: list[tuple[str, Any]] = [
        (f"ask {to}", RequestHandover(t=t, id=f"p{depth}", to=to, person="ada", reason="r")) for to in CONTROLLERS
    ]
    for id_ in ids:
        found += [
            ("accept", AcceptHandover(t=t, id=id_, person="ada")),
            ("accept signed", AcceptHandover(t=t, id=id_, person="ada", signature=SIGNED)),
            *([("accept by another", AcceptHandover(t=t, id=id_, person="bob", signature=SIGNED))] if taken else []),
            ("refuse", RefuseHandover(t=t, id=id_, person="ada", reason="r")),
            ("cancel", CancelHandover(t=t, id=id_, person="ada", reason="r")),
        ]
    return found


def relative(machine: Handover, t: int) -> Any:
    """What decides how the machine goes on: what is left of deadlines; no ids, no ages, no sums of time. Of a handover
    that only waits for a signature that is who may give it, and until when; with one gate, its demand names the gate."""

    def left(value: int | None) -> int | None:
        return None if value is None else value - t

    o, lost = machine.open, machine.lost
    return (
        machine.observed, machine.responsible, lost and (lost.was, lost.cause, left(lost.due)),
        o and (
            o.terms.source, o.terms.to, o.terms.demand, left(o.terms.limit), left(o.due), o.accepted is None, o.person,
            o.attestation,
        ),
        left(machine.mrm), machine.override, tuple((person, left(due)) for _, person, due in machine.pending.values()),
        tuple((m.go, m.armed, m.failed, m.demanded) for m in machine.motions.values()), tuple(machine.needed.values()),
    )  # fmt: skip


def successors(node: Node, depth: int) -> Iterator[tuple[str, int, Handover, list[Act], list[Told]]]:
    """Every input at this state: its name, its time, the machine after it, what was told, and its own events before."""
    base, t = node.machine, node.t  # time passes by inputs of its own, so that inputs meet deadlines and each other
    for name, after in SEEN.items():
        if after == base.observed:
            continue
        machine = clone(base)
        document = {"decision": after.decision, "execution": after.execution, "mode": "", "intention": ""}
        acts = machine.step(t, t, changes=[Change("authority.changed", t, t, machine.observed, after, ())])
        yield f"see {name}", t, machine, acts, [("authority.changed", t, {"after": document})]
    for gate, known in (("continue", base.motions["continue"].go), ("resume", base.needed["resume"])):
        machine = clone(base)
        verdict = Verdict.FAIL if known else Verdict.PASS
        acts = machine.step(t, t, decisions=[Decision(gate, not known, t, t, verdict, ())])
        yield f"{gate} {'NO_GO' if known else 'GO'}", t, machine, acts, []
    taken = base.open is None or base.open.accepted is not None
    ids = ([base.open.terms.id] if base.open else []) + list(base.pending)[:1]
    for name, order in orders(t, depth, tuple(ids), taken):
        machine = clone(base)
        yield name, t, machine, machine.command(order).acts, []
    due = base.due
    if due is not None:
        for name, at, inclusive in (
            ("just before", due, False),
            ("at the deadline", due, True),
            ("leap", due + 3600 * S, True),
        ):
            machine = clone(base)
            yield name, at, machine, machine.advance(at, at, inclusive=inclusive), []
        machine = clone(base)
        acts = machine.step(t - 100 * S, t - 100 * S, jump=-100 * S)
        yield "step back", t - 100 * S, machine, acts, [("clock.jump", t - 100 * S, {"step_s": -100.0})]


def journal(acts: list[Act]) -> list[Told]:
    """The acts as a journal holds them."""
    return [(act.type, act.t_effective, act.plain()) for act in acts]


def check(node: Node, name: str, machine: Handover, acts: list[Act]) -> None:
    """The invariants that every step keeps."""
    # Someone is responsible, or a no-controller span is declared; before anybody was seen, nobody can have been.
    assert machine.responsible in (*CONTROLLERS, "")
    base = node.machine
    if base.responsible or base.lost:
        assert (machine.responsible == "") == (machine.lost is not None)
    else:
        assert machine.lost is None
    if machine.responsible:
        assert machine.responsible in (machine.observed.decision, machine.observed.execution)
    # What is open has a deadline ahead, and so have an MRM and signatures that are waited for.
    assert machine.due is None or machine.due >= (machine.now or 0)
    opened = {base.open.terms.id} if base.open else set()
    waiting = set(base.pending)
    mrm, override = base.mrm is not None, base.override
    before = node.t
    for act in acts:
        id_ = act.terms.id if act.terms else ""
        assert before <= act.t_effective <= act.t_decided or name == "step back"
        before = act.t_effective
        if act.type == "handover.requested":
            assert not opened, "one handover at a time"
            opened.add(id_)
            assert act.due is not None
        elif act.type in ENDS and act.phase != "attestation":
            unasked = act.terms is not None and act.terms.unasked
            never_opened = act.type == "handover.refused" and act.person == "monitor"
            assert id_ in opened or unasked or never_opened, "only what is open ends, and once"
            opened.discard(id_)
            if act.type == "handover.completed":
                assert act.terms is not None
                assert act.responsible == act.terms.to, "completed means in command"
                assert name.startswith("see"), "completed means observed"
                assert (act.attestation == "pending") == (act.due is not None)
                if act.attestation == "pending":
                    waiting.add(id_)
        elif act.phase == "attestation":
            assert id_ in waiting | opened
            waiting.discard(id_)
        elif act.type == "mrm.start":
            assert not mrm, "one manoeuvre at a time"
            mrm = True
        elif act.type in ("mrm.succeeded", "mrm.failed"):
            assert mrm, "a manoeuvre ends once, and after its start"
            mrm = False
        elif act.type == "override.start":
            assert not override
            assert (machine.observed.decision, machine.observed.execution) == ("human", "human")
            override = True
        elif act.type == "override.end":
            assert override
            override = False
        else:
            assert act.type == "handover.accepted"
            assert id_ in opened
    assert opened == ({machine.open.terms.id} if machine.open else set())
    assert waiting == set(machine.pending)
    assert (mrm, override) == (machine.mrm is not None, machine.override)
    # A deadline acts at its own time, whatever reveals it.
    if name in ("at the deadline", "leap"):
        silent = base.mrm is not None and base.lost is not None and base.lost.due == base.due
        assert (
            silent or acts[0].t_effective == base.due
        )  # who is lost while a manoeuvre has been asked for asks for no other
    elif name == "just before":
        assert acts == []


def check_restarted(node: Node) -> Handover:
    """A snapshot is the whole machine. From the journal alone comes one that has open what was open, with the same
    deadlines, and waits to see who commands."""
    machine = node.machine
    state = machine.snapshot()
    restored = Handover(SPEC, GATES)
    restored.restore(state)
    assert restored.snapshot() == state
    rebuilt = rebuild(SPEC, GATES, node.history(), seen=node.t, now=node.t)
    restored.book(node.t)
    assert rebuilt.open == restored.open
    assert (rebuilt.mrm, rebuilt.override, rebuilt.serial) == (machine.mrm, machine.override, machine.serial)
    assert (rebuilt.pending, rebuilt.ended) == (machine.pending, machine.ended)
    was = machine.responsible or (machine.lost.was if machine.lost else "")
    assert (rebuilt.responsible, rebuilt.lost.was if rebuilt.lost else "") == ("", was)
    return rebuilt


def test_every_sequence_keeps_the_invariants() -> None:
    """To depth 8, over all inputs and deadlines, restarts at every state: one controller or a declared span, one end each."""
    gc.disable()  # a million small objects that stay
    try:
        explore()
    finally:
        gc.enable()


def explore() -> None:
    """Breadth first, each state once."""
    start = Node(Handover(SPEC, GATES), 0)
    frontier = [start]
    known = {relative(start.machine, 0)}
    steps = 0
    for depth in range(1, DEPTH + 1):
        reached: list[Node] = []
        for node in frontier:
            for name, t, machine, acts, before in successors(node, depth):
                steps += 1
                check(node, name, machine, acts)
                key = relative(machine, t)
                if key in known:
                    continue
                known.add(key)
                told = node.told
                for event in [*before, *journal(acts)]:
                    told = (told, event)
                new = Node(machine, t, told)
                rebuilt = check_restarted(new)
                reached.append(new)
                key = relative(rebuilt, t)
                if key not in known:
                    known.add(key)
                    reached.append(Node(rebuilt, t, (told, ("monitor.started", t, {"seen_ns": t, "same_boot": True}))))
        frontier = reached
    # So that a machine that does nothing, or a world that forgets its inputs, does not pass.
    assert len(known) > 40_000
    assert steps > 300_000
