"""What consumers are told, and when: NO_GO at once, GO only once the journal holds it (SEMANTICS §4).

A GO is a lease that is renewed with every heartbeat for as long as its gate stays GO. Heartbeats are sent by the engine's
thread after a completed turn, and by nothing else: whoever stops turning is silent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from .. import events
from ..decider import Decider
from ..envelope import Envelope
from ..events import Event
from ..outputs.wire import (
    HEARTBEAT_TOPIC,
    Heartbeat,
    Lease,
    encode_heartbeat,
    encode_lease,
    lease_topic,
)

PERIOD_NS = 100_000_000  #: between heartbeats
STATE_NS = 1_000_000_000  #: between states, where nothing changes
QUICK_STATE_NS = 50_000_000  #: and where something does: a storm of changes is a few states
CHECK_COLUMNS = ("verdict", "cause", "margin", "value", "limit", "latched")
_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class _Gate:
    """What is published of a gate. ``ticket``: of the GO that waits for the disk, None where none does."""

    lease_ns: int
    go: bool = False
    ticket: int | None = None


class Publication:
    """A PUB socket and what goes over it. ``send``: takes the parts of a message, and never blocks."""

    def __init__(
        self,
        send: Callable[[list[bytes]], None],
        boot: bytes,
        decider: Decider,
        *,
        unapproved: bool = False,
        simulated: bool = False,
    ) -> None:
        """``simulated``: time is a simulator's; like an unapproved envelope's, such leases are for the bench alone."""
        self._send = send
        self._boot = boot
        self._decider = decider
        self._unapproved, self._simulated = unapproved, simulated
        self._bench = unapproved or simulated
        self._digest = bytes.fromhex(decider.envelope.digest)  #: that messages bear
        self._activating: int | None = None  # ticket of the event since which another is in force
        self._seq = 0
        self._gates = {gate.name: _Gate(gate.lease) for gate in decider.envelope.gates}
        self._withheld = ""
        self._next_beat = 0
        self._next_state = self._last_state = 0
        self._names = _named(decider.envelope)

    def renew(self, now: int, *, unapproved: bool) -> None:
        """The decider has another envelope. Gates that stay GO are told under the old one's digest until the journal holds
        the event ``envelope.activated``, which comes next; a gate that is no more is NO_GO at once."""
        old, self._gates = self._gates, {}
        for gate in self._decider.envelope.gates:
            was = old.pop(gate.name, None)
            self._gates[gate.name] = _Gate(gate.lease)
            if was is not None:
                shorter = min(was.lease_ns, gate.lease)
                self._gates[gate.name] = _Gate(shorter, was.go, was.ticket)
        for name, gone in old.items():
            gone.go = False
            self._send_lease(name, gone, now)
        self._unapproved = unapproved
        self._names = _named(self._decider.envelope)

    def _activate(self, now: int) -> None:
        """From here on messages bear the digest of the envelope in force."""
        envelope = self._decider.envelope
        self._activating = None
        self._digest = bytes.fromhex(envelope.digest)
        self._bench = self._unapproved or self._simulated
        for gate in envelope.gates:
            self._gates[gate.name].lease_ns = gate.lease
        self._leases(now)

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the gates, in the envelope's order."""
        return tuple(self._gates)

    @property
    def withheld(self) -> str:
        """Why no GO is given whatever the gates say; empty where that is not so."""
        return self._withheld

    @property
    def activating(self) -> bool:
        """Whether another envelope is in force, and the journal does not hold that yet."""
        return self._activating is not None

    def withhold(self, why: str, now: int) -> None:
        """Give no GO for as long as ``why`` is not empty; takes effect at once."""
        before, self._withheld = self._withheld, why
        if bool(before) != bool(why):
            self._leases(now)

    def tell(self, event: Event, ticket: int | None, now: int) -> None:
        """Publish an event; ``ticket``: the journal's, None where it had no room for it."""
        gate = self._gates.get(event.subject) if event.type.startswith("gate.") else None
        if gate is not None and event.type == "gate.no_go":
            gate.go, gate.ticket = False, None
            self._lease(event.subject, now)
        elif gate is not None and event.type == "gate.go":
            gate.go, gate.ticket = False, ticket  # without a ticket it is never durable, and stays NO_GO
        elif event.type == "envelope.activated":
            self._activating = ticket
            if ticket is None:  # no event will ever say which envelope these were decided by
                for one in self._gates.values():
                    one.go, one.ticket = False, None
                self._activate(now)
        body = _encode(event.document())
        self._send([f"event/{event.type}".encode(), body])
        if gate is not None:
            self._send([f"decision/{event.subject}".encode(), body])
        self._next_state = min(self._next_state, self._last_state + QUICK_STATE_NS)

    def durable(self, tickets: list[int], now: int) -> None:
        """The journal holds what these tickets stand for: GOs among them are given."""
        done = set(tickets)
        if self._activating in done:
            self._activate(now)
        for name, gate in self._gates.items():
            if gate.ticket in done:
                gate.go, gate.ticket = True, None
                self._lease(name, now)

    def beat(self, now: int) -> bool:
        """Heartbeat and leases, where they are due; answers whether they were. Only after a completed turn."""
        if now < self._next_beat:
            return False
        self._next_beat = max(self._next_beat + PERIOD_NS, now + PERIOD_NS // 2)
        self._seq += 1
        period = PERIOD_NS // 1_000_000
        beat = Heartbeat(self._boot, self._seq, now, self._digest, period, self._bench)
        self._send([HEARTBEAT_TOPIC, encode_heartbeat(beat)])
        self._leases(now)
        return True

    def state_is_due(self, now: int) -> bool:
        """Whether :meth:`state` wants to be called: something changed, or a second has passed."""
        return now >= self._next_state

    def state(self, now: int, beside: dict[str, Any]) -> bytes:
        """Publish how everything stands, and answer the same MessagePack. ``beside``: journal, source, tape."""
        self._next_state, self._last_state = now + STATE_NS, now
        checks, signals = self._decider.engine.checks, self._decider.engine.signals
        authority = self._decider.authority
        body = _encode(
            {
                "t_ns": now,
                "boot": self._boot,
                "clock": "simulated" if self._simulated else "boottime",
                "envelope": {
                    "id": self._decider.envelope.id,
                    "version": self._decider.envelope.version,
                    "risk": self._decider.envelope.risk,
                    "digest": self._decider.envelope.digest,
                    "approved": not self._unapproved,
                },
                "gates": {name: self.answer(name) for name in self._gates},
                "withheld": self._withheld,
                "handover": None if self._decider.handover is None else self._decider.handover.status(),
                "authority": None if authority is None else [authority.command.decision, authority.command.execution],
                "names": msgspec.Raw(self._names),
                "waivers": [events.waiver(one) for one in self._decider.gates.all_waivers],
                "checks": {name: checks[name].tolist() for name in CHECK_COLUMNS},
                "signals": {name: signals[name].tolist() for name in ("cause", "value", "t", "count")},
                **beside,
            }
        )
        self._send([b"state", body])
        return body

    def answer(self, gate: str) -> dict[str, Any]:
        """What a gate says to whoever asks now: the published decision, and every reason."""
        state = self._gates.get(gate)
        if state is None:
            cause = "the envelope has no such gate"
            return {"gate": gate, "decision": "NO_GO", "cause": cause, "lease_ns": 0, "reasons": []}
        go = state.go and not self._withheld
        why = "" if go else self._withheld or ("waits for the journal" if state.ticket is not None else "")
        return {
            "gate": gate,
            "decision": "GO" if go else "NO_GO",
            "cause": why,
            "lease_ns": state.lease_ns if go else 0,
            "reasons": [
                [r.check, r.verdict.name, r.cause.name.lower() if r.cause else ""]
                for r in self._decider.gates.reasons(gate)
                if r.verdict
            ],
        }

    def handover_terms(self, id_: str) -> dict[str, Any] | None:
        """The terms of the handover with this id that is open or waits for a signature, as they are signed."""
        machine = self._decider.handover
        if machine is None:
            return None
        if machine.open is not None and machine.open.terms.id == id_:
            return machine.open.terms.plain()
        waiting = machine.pending.get(id_)
        return waiting[0].plain() if waiting is not None else None

    def revoke(self, now: int) -> None:
        """The monitor ends: no gate is GO."""
        for name, gate in self._gates.items():
            gate.go, gate.ticket = False, None
            self._lease(name, now)

    def _leases(self, now: int) -> None:
        for name in self._gates:
            self._lease(name, now)

    def _lease(self, name: str, now: int) -> None:
        self._send_lease(name, self._gates[name], now)

    def _send_lease(self, name: str, gate: _Gate, now: int) -> None:
        go = gate.go and not self._withheld
        self._seq += 1
        lease = Lease(
            self._boot, self._seq, now, self._digest, name, go,
            gate.lease_ns if go else 0, self._bench, go and bool(self._decider.gates.waivers(name)),
        )  # fmt: skip
        self._send([lease_topic(name), encode_lease(lease)])


def _named(envelope: Envelope) -> bytes:
    """Names, units and severities, in the order of the state's columns, as MessagePack."""
    return _encode(
        {
            "checks": [check.name for check in envelope.checks],
            "severities": [check.severity for check in envelope.checks],
            "units": [check.unit for check in envelope.checks],
            "signals": [signal.name for signal in envelope.signals],
            "signal_units": [signal.unit for signal in envelope.signals],
        }
    )
