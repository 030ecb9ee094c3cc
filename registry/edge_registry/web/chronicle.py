"""``Chronicle``: what a log's records tell, gathered one by one: missions, spans and marks. No clock, no database.

Everything in a payload was chosen by a robot: a field of another type than expected counts as not there, texts are cut, and what
stays open is bounded. The state is plain data, so that the follower can put it down with what it led to and go on from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edge_monitor.evidence.page import words
from edge_monitor.journal.records import Record, WallStatus
from edge_monitor.journal.writer import HEARTBEAT_NS

from .conditions import ACCOUNTS, EVENTS, Stretch, cell_of

SHORT, LONG = 120, 500  #: characters of a name, and of a sentence
MOST_OPEN = 256  #: spans of a log that are not over
MOST_ACTIONS = 8  #: that are told of a span

#: What is counted in a mission, by event type.
COUNTED = {
    "check.fail": "limit passed", "drift.detected": "drift", "odd.exit": "domain exit", "gate.no_go": "NO_GO",
    "handover.requested": "handover", "handover.timeout": "handover timeout", "override.start": "override",
    "failsafe.start": "failsafe", "mrm.start": "minimal-risk manoeuvre", "action.blocked": "blocked action",
    "gate.waived": "waiver",
}  # fmt: skip

#: Kinds of spans by the event that begins them, and how each may end: {event: how}.
LIMITS: dict[str, tuple[str, dict[str, str]]] = {
    "check.fail": ("breach", {"check.pass": "within its limit again", "check.unknown": "no longer measured"}),
    "drift.detected": ("drift", {"drift.resolved": "back in band"}),
    "odd.exit": ("odd", {"odd.enter": "within the declared domain again"}),
    "gate.no_go": ("gate", {"gate.go": "GO again"}),
    "failsafe.start": ("failsafe", {"failsafe.end": "failsafe over"}),
    "mrm.start": ("mrm", {"mrm.succeeded": "succeeded", "mrm.failed": "failed"}),
    "override.start": ("override", {"override.end": "override over"}),
    "latch.set": ("latch", {"latch.reset": "reset"}),
}
_ENDS = {end: (kind, how) for kind, ends in LIMITS.values() for end, how in ends.items()}
#: Kinds of which there is one at a time, whatever their subject says.
_SINGLE = frozenset({"failsafe", "mrm", "odd", "override"})
_ASKED_ENDS = {
    "handover.refused": "refused", "handover.completed": "completed", "handover.cancelled": "called off",
}  # fmt: skip
_UNTOLD = frozenset({"check.fail", "check.pass", "check.unknown", "monitor.heartbeat"})


@dataclass(slots=True)
class Changes:
    """Rows to be written, by their keys; a later one replaces an earlier one."""

    missions: dict[int, dict[str, Any]] = field(default_factory=dict)
    spans: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    marks: list[dict[str, Any]] = field(default_factory=list)
    exposures: dict[int, list[dict[str, Any]]] = field(default_factory=dict)  #: by the first record of their stretch
    domains: dict[str, dict[str, Any]] = field(default_factory=dict)  #: what is declared, by envelope


class State(msgspec.Struct):
    """Where a log stands."""

    mission: int = -1
    boot: str = ""
    decision: str = ""
    mode: str = ""
    envelope: str = ""
    envelope_name: str = ""
    model: str = ""
    monitor: str = ""
    wall_ns: int = -1
    t_decided: int = 0
    ended: bool = True
    row: dict[str, Any] = {}  #: the mission that runs
    counts: dict[str, int] = {}  #: of the mission
    gaps: dict[str, int] = {}  #: of the log
    open: dict[str, dict[str, Any]] = {}  #: spans that are not over, by ``kind subject``
    against: dict[str, list[str]] = {}  #: checks against each gate
    stretch: Stretch = msgspec.field(default_factory=Stretch)  #: of the mission that is under the envelope in force


class Chronicle:
    """Follows one log. ``state`` goes on from an earlier :meth:`packed`; ``changes`` holds what came since."""

    def __init__(self, packed: bytes = b"") -> None:
        self.state = msgspec.msgpack.decode(packed, type=State) if packed else State()
        self.changes = Changes()

    def finish(self) -> bytes:
        """The state as bytes; ``changes`` is whole then."""
        if self.state.mission >= 0 and not self.state.ended:
            self._mission("running")
            self._expose()
        return msgspec.msgpack.encode(self.state)

    def take(self, sequence: int, record: Record | None, payload: dict[str, Any] | None) -> None:
        """The next record; None for one that a later version wrote."""
        state = self.state
        if record is None:
            self._missing("records of a later version")
            return
        said: Mapping[str, Any] = payload if payload is not None else {}
        if payload is None:
            self._missing("payloads not here")
        self._place(sequence, record, said)
        kind = record.type
        counted = COUNTED.get(kind)
        if counted is not None and not (kind == "gate.waived" and text(said, "state") != "granted"):
            state.counts[counted] = state.counts.get(counted, 0) + 1
        if kind in EVENTS:
            state.stretch.happened(kind, said)
        elif kind in ACCOUNTS:
            state.stretch.accounted(sequence, said.get("odd"))
        if kind in LIMITS:
            self._limit(sequence, record, said)
        elif kind in _ENDS:
            name, how = _ENDS[kind]
            self._close(self._key(name, said), sequence, record, how)
        elif kind == "authority.changed":
            self._control(sequence, record, said)
        if kind.startswith("handover."):
            self._handover(sequence, record, said)
        elif kind in ("mitigation.applied", "action.blocked"):
            self._acted(tuple(record.rules), sequence, words(record, payload))
        if kind not in _UNTOLD:
            self.changes.marks.append({
                "seq": sequence, "mission": state.mission, "type": kind, "severity": int(record.severity),
                "t_effective": record.t_effective, "words": kept(words(record, payload)[:LONG]),
            })  # fmt: skip
        if kind == "monitor.stopped":
            self._leave("clean")

    def _place(self, sequence: int, record: Record, said: Mapping[str, Any]) -> None:
        """Which mission the record is of, and what is missing before it."""
        state = self.state
        boot = record.boot_id.hex()
        begins = record.type == "monitor.started" or boot != state.boot
        if begins:
            if not state.ended:
                self._missing("runs without an end mark")
                self._leave("unclean")
            state.mission, state.boot, state.ended, state.counts, state.against = sequence, boot, False, {}, {}
            state.decision = state.mode = ""
            state.row = {
                "first": sequence, "t_first": record.t_effective, "t_last": record.t_decided, "wall_first": record.wall_ns,
                "boot": boot, "risk": text(said, "risk"),
            }  # fmt: skip
            state.envelope_name = text(said, "envelope") if record.type == "monitor.started" else ""
        elif record.t_decided - state.t_decided > HEARTBEAT_NS:
            self._missing("silences longer than a heartbeat")
        if record.type == "envelope.activated":
            state.envelope_name = text(said, "envelope") or state.envelope_name
        if record.type == "journal.gap":
            self._missing("gaps that the journal declares")
        if record.type == "clock.jump":
            self._missing("jumps of the clock")
        if record.wall_status != WallStatus.SYNCHRONISED:
            self._missing("records without synchronised wall clock")
        state.envelope = record.digests.envelope.hex() or state.envelope
        state.model = record.digests.model.hex() or state.model
        state.monitor = _monitor(record.digests.monitor) or state.monitor
        state.wall_ns, state.t_decided = record.wall_ns, record.t_decided
        self._stretch(sequence, record, said, begins)
        row = state.row
        row["end"], row["t_last"], row["wall_last"] = sequence + 1, max(row["t_last"], record.t_decided), record.wall_ns

    def _stretch(self, sequence: int, record: Record, said: Mapping[str, Any], begins: bool) -> None:
        """Whether a record is under another envelope than those before it: that one's time is over, and accounted for."""
        state, stretch = self.state, self.state.stretch
        before = said.get("previous") if record.type == "envelope.activated" else None
        told = isinstance(before, Mapping) and "odd" in before
        if begins or told or (stretch.envelope and stretch.envelope != state.envelope):
            if not begins:
                if isinstance(before, Mapping) and text(before, "envelope_digest") == stretch.envelope:
                    stretch.reach(sequence, record)
                    stretch.accounted(sequence, before.get("odd"))
                self._expose()
            state.stretch = stretch = Stretch(
                first=sequence, mission=state.mission, t_first=record.t_effective, t_last=record.t_decided,
                wall_first=record.wall_ns,
            )  # fmt: skip
        stretch.envelope = state.envelope
        stretch.reach(sequence, record)

    def _expose(self) -> None:
        """Write down what is known of the stretch."""
        stretch = self.state.stretch
        self.changes.exposures[stretch.first] = stretch.rows()
        if stretch.account is not None and stretch.envelope:
            self.changes.domains[stretch.envelope] = {
                "envelope": stretch.envelope, "measured": json.dumps(stretch.measured), "domain": json.dumps(stretch.domain),
                "seq": stretch.account,
            }  # fmt: skip

    def _leave(self, how: str) -> None:
        """The mission is over, and so is what was open in it, as far as is known."""
        state = self.state
        for key in list(state.open):
            self._shut(key, None, state.row["t_last"], "open when the records of the run end")
        state.ended = True
        self._mission(how)
        self._expose()

    def _mission(self, how: str) -> None:
        state = self.state
        self.changes.missions[state.mission] = {
            **state.row, "ended": how, "envelope": state.envelope, "envelope_name": state.envelope_name, "model": state.model,
            "monitor": state.monitor, "counts": json.dumps(state.counts),
        }  # fmt: skip

    def _limit(self, sequence: int, record: Record, said: Mapping[str, Any]) -> None:
        kind = LIMITS[record.type][0]
        subject = text(said, "subject")
        label = {"odd": "outside its declared domain", "gate": f"{subject} NO_GO", "mrm": "minimal-risk manoeuvre"}.get(
            kind, subject
        )
        cause = text(said, "cause", most=LONG)
        if kind == "gate":
            self.state.against[subject] = [rule[:SHORT] for rule in record.rules[:64]]
        self._open(kind, "limit", sequence, record, said, label or kind, measured(said) or cause)
        if kind in ("breach", "drift"):
            held = [span["subject"] for span in self.state.open.values() if span["kind"] == "gate"]
            if held:
                self._add(f"{kind} {subject}", sequence, f"NO_GO already: {', '.join(held)}")
        else:
            rules = self._rules(record, said)
            self._acted(rules, sequence, {"gate": f"gate {subject} became NO_GO", "mrm": "minimal-risk manoeuvre begun",
                                          "failsafe": f"vehicle's own failsafe: {cause}"}.get(kind, ""))  # fmt: skip

    def _control(self, sequence: int, record: Record, said: Mapping[str, Any]) -> None:
        state = self.state
        after = said.get("after")
        after = after if isinstance(after, Mapping) else {}
        state.decision = text(said, "to") or "unknown"
        state.mode = text(after, "mode")
        execution = text(after, "execution")
        label = state.decision
        if execution and execution != state.decision:
            label += f" decides, {execution} acts"
        self._close("control ", sequence, record, "")
        cause = text(said, "cause", most=LONG) or "not recorded"
        self._open(
            "control",
            "control",
            sequence,
            record,
            {**said, "subject": ""},
            label,
            f"mode {state.mode or 'not recorded'}; why: {cause}",
        )

    def _handover(self, sequence: int, record: Record, said: Mapping[str, Any]) -> None:
        handover = said.get("handover")
        handover = handover if isinstance(handover, Mapping) else {}
        key = self._key("handover", {"subject": text(handover, "id") or text(said, "subject")})
        person = text(said, "person")
        if record.type == "handover.requested":
            who, to = text(handover, "initiator") or "not recorded", text(handover, "to") or "not recorded"
            why = text(handover, "reason", most=LONG) or text(said, "cause", most=LONG) or "not recorded"
            said = {**said, "subject": text(handover, "id") or text(said, "subject")}
            self._open("handover", "asked", sequence, record, said, f"{to} asked by {who}", f"why: {why}")
            if handover.get("demand") is True:
                rules = self._rules(record, said)
                self._acted(rules, sequence, f"{to} asked to take over")
        elif key in self.state.open:
            if record.type == "handover.accepted":
                self._add(key, sequence, f"accepted by {person or 'not recorded'}")
            elif record.type == "handover.timeout":
                phase = text(said, "phase") or "answer"
                self._add(key, sequence, f"no {phase} in time")
                if phase != "attestation":
                    self._close(key, sequence, record, f"timed out: no {phase} in time")
            else:
                by = f" by {person}" if person else ""
                self._close(key, sequence, record, _ASKED_ENDS.get(record.type, "ended") + by)

    def _rules(self, record: Record, said: Mapping[str, Any]) -> tuple[str, ...]:
        """The checks that an event answers to: those it names, and those against the gates that it names."""
        handover = said.get("handover")
        gate = text(handover, "gate") if isinstance(handover, Mapping) else ""
        named = [*record.rules, *([gate] if gate else [])]
        return tuple({rule for name in named for rule in (name, *self.state.against.get(name, ()))})

    def _acted(self, rules: tuple[str, ...], sequence: int, what: str) -> None:
        if what:
            for rule in rules:
                for kind in ("breach", "drift"):
                    self._add(f"{kind} {rule[:SHORT]}", sequence, what)

    def _add(self, key: str, sequence: int, what: str) -> None:
        span = self.state.open.get(key)
        if span is not None and len(span["actions"]) < MOST_ACTIONS:
            span["actions"].append([sequence, what[:SHORT]])
            self._changed(span)

    def _key(self, kind: str, said: Mapping[str, Any]) -> str:
        return f"{kind} {'' if kind in _SINGLE else text(said, 'subject')}"

    def _open(
        self, kind: str, lane: str, sequence: int, record: Record, said: Mapping[str, Any], label: str, why: str
    ) -> None:
        """Begin a span. One that is open already goes on: what limits it is the same as before."""
        key, state = self._key(kind, said), self.state
        if key in state.open:
            return
        if len(state.open) >= MOST_OPEN:
            self._missing("limits beyond those that are followed at once")
            return
        state.open[key] = span = {
            "seq": sequence, "lane": lane, "kind": kind, "mission": state.mission, "subject": text(said, "subject"),
            "label": label[:SHORT], "severity": int(record.severity), "t_from": record.t_effective, "t_to": None,
            "wall_ns": record.wall_ns, "end_seq": None, "outcome": "", "measured": why[:LONG], "actions": [],
            "bins": cell_of(said),
        }  # fmt: skip
        self._changed(span)

    def _close(self, key: str, sequence: int, record: Record, how: str) -> None:
        if key in self.state.open:
            self._shut(key, sequence, record.t_effective, how)

    def _shut(self, key: str, sequence: int | None, t: int, how: str) -> None:
        span = self.state.open.pop(key)
        span |= {"t_to": t, "end_seq": sequence, "outcome": how}
        self._changed(span)

    def _changed(self, span: dict[str, Any]) -> None:
        self.changes.spans[span["seq"], span["lane"]] = span

    def _missing(self, what: str) -> None:
        self.state.gaps[what] = self.state.gaps.get(what, 0) + 1


def text(said: Mapping[str, Any], name: str, *, most: int = SHORT) -> str:
    """A field that is text, cut; empty for anything else."""
    value = said.get(name)
    return kept(value[:most]) if isinstance(value, str) else ""


def kept(value: str) -> str:
    """Text as every database keeps it: PostgreSQL's has no NUL."""
    return value.replace("\0", "\ufffd")


def measured(said: Mapping[str, Any]) -> str:
    """Value, limit and margin with their unit in words; empty where there is no value."""
    unit = text(said, "unit")
    parts = []
    for name in ("value", "statistic", "limit", "margin"):
        value = said.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            parts.append(f"{name} {value:.6g}{' ' + unit if unit else ''}")
    state = text(said, "state")
    return ", ".join([f"value {state}", *parts[1:]] if state else parts)


def _monitor(digest: bytes) -> str:
    """The monitor's version, or digest, as text."""
    try:
        shown = digest.decode("ascii")
    except UnicodeDecodeError:
        return digest.hex()
    return shown if shown.isprintable() else digest.hex()
