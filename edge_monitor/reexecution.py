"""Re-execution: the same items through the same code, held against what the journal says was decided.

It needs no trust in the tape: each event that the journal signed names the tape's digest up to that point, and the events
that come out must be those of the journal, payload byte for payload byte.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from .core.commands import Command, ReloadEnvelope, from_payload
from .core.messages import Damage
from .core.samples import SAMPLE
from .core.transplant import History
from .decider import Decider, made_under
from .envelope import Envelope
from .errors import UsageError, VerificationError
from .events import Event
from .journal.records import Record, encode_payload
from .journaling import entry
from .tape.format import Block, Entry, Kind
from .tape.reader import Tape
from .tape.recorder import TIME, Words, unpack_history
from .vocabulary import constants

#: What the process adds to a payload, beside what was decided: the event's number and the tape's digest, and the
#: recording's name.
BESIDE = "onboard"
ADDED = (BESIDE, "recording")


@dataclass(frozen=True, slots=True)
class Difference:
    """Where re-execution and record part. ``place``: block and byte of the tape; ``sample``: the last item before it."""

    what: str
    place: tuple[int, int]
    t: int
    sample: str = ""

    def __str__(self) -> str:
        block, byte = self.place
        after = f", after {self.sample}" if self.sample else ""
        return f"{self.what} (at {self.t / 1e9:.9f} s, block {block} byte {byte} of the tape{after})"


@dataclass(slots=True)
class Report:
    """What was compared, and the first difference (None: all is equal)."""

    blocks: int = 0
    items: int = 0
    events: int = 0  #: that came out and stand in the journal
    unmatched: int = 0  #: that came out, with no journal, or before and after what it covers
    anchors: int = 0  #: digests of the tape in the journal that hold
    snapshots: int = 0  #: states at the beginning of a block that were reached, bit for bit
    difference: Difference | None = None
    damages: tuple[str, ...] = field(default=())
    incident: int | None = None  #: sequence of the record that names this very incident
    raw: dict[str, Any] = field(default_factory=dict)  #: what that record says of the raw messages beside it


#: The envelope with a digest, under a risk profile; None where there is none.
Find = Callable[[str, str], Envelope | None]


def among(*envelopes: Envelope) -> Find:
    """The way to find an envelope among a few."""
    return lambda digest, risk: next((e for e in envelopes if (e.digest, e.risk) == (digest, risk)), None)


def reexecute(envelope: Envelope | Find, tape: Tape, records: Iterable[tuple[Record, dict[str, Any]]] = ()) -> Report:
    """Run a tape through a new decider. ``records``: the journal's records of the tape's run, with their payloads.

    ``envelope``: the one that was in force, or, where others were put in force during the run, the way to find each.
    Raises ``VerificationError`` where tape, envelope and plan do not belong together.
    """
    find = among(envelope) if isinstance(envelope, Envelope) else envelope
    return _Run(find, tape, records).report


class _DifferenceFound(Exception):  # noqa: N818
    """Ends the run at the first difference."""


class _Run:
    def __init__(self, find: Find, tape: Tape, records: Iterable[tuple[Record, dict[str, Any]]]) -> None:
        self.report = Report(damages=tape.damages)
        self.expected: dict[int, tuple[Record, dict[str, Any]]] = {}
        self.anchors: dict[int, list[tuple[int, str]]] = {}
        self.kept: list[tuple[int, dict[str, Any]]] = []  # what the journal says of incidents of this run
        for record, payload in records:
            if record.type == "incident.kept" and payload.get("boot") == tape.boot.hex():
                self.kept.append((record.sequence, payload))
            beside = payload.get(BESIDE)
            if record.boot_id != tape.boot or not isinstance(beside, dict):
                continue
            if isinstance(beside.get("event"), int):
                self.expected[beside["event"]] = record, payload
            anchor = beside.get("tape")
            if isinstance(anchor, list) and len(anchor) == 3:
                self.anchors.setdefault(anchor[0], []).append((anchor[1], anchor[2]))
        self.tape, self.find = tape, find
        self.decider, self.words = self._begun(tape)
        self.begun = False
        self.history: History | None = None
        self.place = (0, 0)
        self.sample = ""
        try:
            self._bounded(tape)
            for block in tape.blocks:
                self._anchored(block, partly=tape.note is not None and block is tape.blocks[-1])
                self._block(block)
        except _DifferenceFound:
            pass

    def _begun(self, tape: Tape) -> tuple[Decider, Words]:
        """A decider of the envelope that was in force where the tape begins."""
        first = next(tape.blocks[0].entries(), None)
        try:
            if first is None or first.kind != Kind.SNAPSHOT:
                raise ValueError("does not begin with a state")
            envelope = self._found(*made_under(msgspec.msgpack.decode(first.payload)[1]))
        except (ValueError, TypeError, IndexError, msgspec.MsgspecError) as error:
            raise VerificationError(
                f"{tape.path}: {error}; it was recorded by another version of edge-monitor"
            ) from None
        words = Words(constants(envelope))
        decider = Decider(envelope, words)
        if envelope.digest == tape.envelope.hex() and bytes.fromhex(decider.plan.digest()) != tape.plan:
            raise VerificationError(
                f"{tape.path}: the envelope compiles to another plan here; use the version of edge-monitor that recorded it "
                "(it stands in the journal's monitor.started)"
            )
        return decider, words

    def _found(self, digest: str, risk: str) -> Envelope:
        envelope = self.find(digest, risk)
        if envelope is None:
            raise VerificationError(
                f"{self.tape.path}: envelope {digest[:16]}… was in force under risk profile {risk}; name its file with -e"
            )
        return envelope

    def _differ(self, what: str) -> _DifferenceFound:
        self.report.difference = Difference(what, self.place, self.decider.now, self.sample)
        return _DifferenceFound()

    def _bounded(self, tape: Tape) -> None:
        """Nothing was taken away from the end: a whole tape goes as far as the journal, an incident as far as it says."""
        first, last = tape.blocks[0].sequence, tape.blocks[-1]
        self.place = last.sequence, len(last.raw)
        if tape.note is None:
            covered = max(self.anchors, default=0)
            if covered > last.sequence:
                raise self._differ(f"the journal covers block {covered}, the tape ends with block {last.sequence}")
            return
        ours = [first, last.sequence], len(last.raw), last.digest().hex()
        meeting = [
            (sequence, payload)
            for sequence, payload in self.kept
            if payload["blocks"][0] <= last.sequence and first <= payload["blocks"][1]
        ]
        same = [one for one in meeting if (one[1]["blocks"], one[1]["bytes"], one[1]["digest"]) == ours]
        if same:
            self.report.incident, self.report.raw = same[-1][0], same[-1][1].get("raw", {})
        elif meeting:
            sequence, payload = meeting[-1]
            a, b = payload["blocks"]
            raise self._differ(
                f"the incident is not the one that record {sequence} names (blocks {a} to {b}, {payload['bytes']} bytes of "
                f"the last): it was changed or shortened"
            )
        else:
            self.report.damages += ("the journal names no incident of these blocks: nothing says where it should end",)

    def _anchored(self, block: Block, *, partly: bool = False) -> None:
        """The tape is the one that was recorded: digests of its parts stand, signed, in the journal.

        ``partly``: the block may be the first part of one."""
        for end, digest in self.anchors.get(block.sequence, ()):
            if partly and end > len(block.raw):
                continue
            self.place = block.sequence, end
            if end > len(block.raw):
                raise self._differ(f"the journal covers {end} bytes of the block, the tape holds {len(block.raw)}")
            if block.digest(end).hex() != digest:
                raise self._differ("the tape is not the one that the journal names: it was changed")
            self.report.anchors += 1

    def _block(self, block: Block) -> None:
        self.report.blocks += 1
        for item in block.entries():
            self.place = block.sequence, item.start
            number = self.decider.told
            for event in self._entry(item):
                self._compare(number, event)
                number += 1

    def _entry(self, item: Entry) -> Iterator[Event]:
        decider, payload = self.decider, item.payload
        try:
            if item.kind == Kind.SNAPSHOT:
                self._snapshot(payload)
            elif item.kind == Kind.WORDS:
                self.words.learn(*msgspec.msgpack.decode(payload))
            elif item.kind == Kind.ITEMS:
                items = np.frombuffer(payload, SAMPLE)
                self.report.items += len(items)
                if len(items):
                    self.sample = self._named(items[-1])
                yield from decider.take(items)
            elif item.kind in (Kind.START, Kind.UNTIL):
                (t,) = TIME.unpack(payload)
                yield from decider.start(t) if item.kind == Kind.START else decider.until(t)
            elif item.kind == Kind.DAMAGE:
                yield from decider.damage(msgspec.msgpack.decode(payload, type=Damage))
            elif item.kind == Kind.COMMAND:
                yield from self._command(from_payload(msgspec.msgpack.decode(payload)))
            elif item.kind == Kind.HISTORY:
                self.history = unpack_history(payload)
            elif item.kind == Kind.FINISH:
                yield from decider.finish()
        except (ValueError, IndexError, TypeError, struct.error, msgspec.MsgspecError, UsageError) as error:
            raise self._differ(f"the tape holds what was never recorded: {error}") from None

    def _command(self, order: Command) -> list[Event]:
        if isinstance(order, ReloadEnvelope):
            self.decider.offer(self.decider.prepare(self._found(order.digest, order.risk)), self.history)
            self.history = None
        return self.decider.command(order)[0]

    def _snapshot(self, payload: bytes) -> None:
        words, state = msgspec.msgpack.decode(payload)
        self.words.learn(*words)
        if not self.begun:
            self.begun = True
            self.decider.restore(state)
        elif self.decider.snapshot() != state:
            raise self._differ("the state is another than the one recorded at the beginning of the block")
        else:
            self.report.snapshots += 1

    def _named(self, row: np.void) -> str:
        signals = self.decider.envelope.signals
        name = signals[row["signal"]].name if 0 <= row["signal"] < len(signals) else "?"
        return f"{name} = {float(row['value']):g} at {int(row['t']) / 1e9:.9f} s"

    def _compare(self, number: int, event: Event) -> None:
        found = self.expected.pop(number, None)
        if found is None:
            self.report.unmatched += 1
            return
        record, payload = found
        beside = {key: payload[key] for key in ADDED if key in payload and key not in event.payload}
        again = entry(event, **beside)
        for name, ours, theirs in (
            ("type", again.type, record.type),
            ("severity", int(again.severity), int(record.severity)),
            ("t_effective", again.t_effective, record.t_effective),
            ("t_decided", again.t_decided, record.t_decided),
            ("rules", again.rules, record.rules),
            ("hazard", again.hazard, record.hazard),
            ("claim", again.claim, record.claim),
            ("payload", encode_payload(again.payload), encode_payload(payload)),
        ):
            if ours != theirs:
                raise self._differ(
                    f"record {record.sequence} ({record.type}) is not what comes out again: its {name} differs"
                )
        self.report.events += 1
