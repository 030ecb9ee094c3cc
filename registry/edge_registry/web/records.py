"""Records as they were signed: lists of them, and one down to its bytes, with what proves it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from edge_monitor.errors import VerificationError
from edge_monitor.evidence.page import words
from edge_monitor.journal.cosignatures import CosignerKey, open_receipt
from edge_monitor.journal.epochs import certificate_in, open_certificate
from edge_monitor.journal.export import PROOF_HEADER, Extra
from edge_monitor.journal.merkle import inclusion_proof, leaf_hash, root_from_inclusion
from edge_monitor.journal.notes import open_note, parse_checkpoint, split_note
from edge_monitor.journal.records import Record, commitment, decode_record

from .. import tables as t
from ..store import Event, Transaction
from . import tables as w
from .follower import decoded
from .shown import SEVERITIES, State, moment

PAGE = 100  #: records of a list
LOOKED_AT = 20_000  #: records that one page searches for a type that has no index
#: Types without marks: they are found by going through the records.
UNMARKED = ("check.fail", "check.pass", "check.unknown", "monitor.heartbeat")


@dataclass(frozen=True, slots=True)
class Line:
    """A record in a list."""

    seq: int
    type: str
    severity: str
    t_effective: int
    wall_ns: int
    words: str
    payload: str  #: whether it is here


@dataclass(frozen=True, slots=True)
class Listing:
    """Some records in order; ``next`` is where to go on, None at the end; ``searched`` is how many were gone through."""

    lines: list[Line]
    next: int | None
    searched: int


@dataclass(frozen=True, slots=True)
class Proven:
    """A record, its bytes, and whether each step from them to the receipt holds. ``path``: (side, hash) from the leaf up."""

    event: Event
    record: Record | None
    payload: dict[str, Any] | None
    leaf: bytes
    path: list[tuple[str, bytes]]
    size: int
    root: bytes
    receipt: str
    certificate: str
    steps: list[tuple[State, str]]

    def holds(self) -> bool:
        """Whether all steps do."""
        return all(state.kind == "ok" for state, _ in self.steps)

    def proof(self, *, disclose: bool) -> str:
        """The C2SP tlog-proof that ``edge-monitor journal check-proof`` takes."""
        event = self.event
        salt, payload = (event.salt, event.payload) if disclose else (None, None)
        extra = Extra(event.record, salt, payload, self.certificate).packed()
        hashes = [base64.b64encode(digest).decode() for _, digest in self.path]
        head = [PROOF_HEADER, f"extra {base64.b64encode(extra).decode()}", f"index {event.seq}", *hashes]
        return "\n".join([*head, "", self.receipt])


def listing(tx: Transaction, log: int, size: int, start: int, kind: str = "") -> Listing:
    """Records from ``start`` on, of one type if ``kind`` is given."""
    if not kind:
        events = list(tx.events(log, start, min(size, start + PAGE)))
        following = start + PAGE
        return Listing([_line(event) for event in events], following if following < size else None, len(events))
    if kind not in UNMARKED:
        query = sa.select(w.marks.c.seq).where(w.marks.c.log == log, w.marks.c.type == kind, w.marks.c.seq >= start)
        found = list(tx.connection.execute(query.order_by(w.marks.c.seq).limit(PAGE + 1)).scalars())
        searched, more = size - start, found[PAGE] if len(found) > PAGE else None
        found = found[:PAGE]
    else:
        end = min(size, start + LOOKED_AT)
        among = (t.events.c.log == log, t.events.c.seq >= start, t.events.c.seq < end, t.events.c.type == kind)
        query = sa.select(t.events.c.seq).where(*among).order_by(t.events.c.seq).limit(PAGE)
        found = list(tx.connection.execute(query).scalars())
        reached = found[-1] + 1 if len(found) == PAGE else end
        searched, more = reached - start, reached if reached < size else None
    lines = [_line(event) for event in tx.events_at(log, found)]
    return Listing(lines, more, searched)


def proven(tx: Transaction, log: int, sequence: int, registry: CosignerKey, *former: CosignerKey) -> Proven | None:
    """One record with what proves it; None where it is not held."""
    event = next(tx.events(log, sequence, sequence + 1), None)
    if event is None:
        return None
    record, payload = decoded(event)
    query = sa.select(t.receipts.c.size, t.receipts.c.note).where(t.receipts.c.log == log, t.receipts.c.size > sequence)
    receipt = tx.connection.execute(query.order_by(t.receipts.c.size).limit(1)).first()
    leaf = leaf_hash(event.record)
    if receipt is None:
        missing = [(State("bad", "no receipt"), "no receipt covers this record: it is not proven")]
        return Proven(event, record, payload, leaf, [], 0, b"", "", "", missing)
    steps: list[tuple[State, str]] = []

    def step(holds: bool, good: str, bad: str) -> None:
        steps.append((State("ok", "holds") if holds else State("bad", "does not hold"), good if holds else bad))

    hashes: list[bytes] = []
    root = b""
    with suppress(VerificationError, ValueError):
        hashes = inclusion_proof(tx.subtrees(log), sequence, receipt.size)
        root = root_from_inclusion(leaf, sequence, receipt.size, hashes)
    checkpoint = parse_checkpoint(split_note(receipt.note)[0])
    step(
        root == checkpoint.root,
        f"the record's bytes and {len(hashes)} hashes beside them lead to the root of the first {receipt.size} records",
        "the record does not lead to the root that was signed",
    )
    certificate, words_ = _signed_by(tx, log, receipt.size, receipt.note)
    step(bool(words_), f"that root is signed by {words_}", "no key of the robot signed that root")
    try:
        stored = open_receipt(receipt.note, registry, *former)
        step(True, f"the registry {registry.name} receipted it on {moment(stored.time)}", "")
    except VerificationError:
        step(False, "", f"there is no receipt of the registry {registry.name} over it")
    if event.payload is not None and record is not None:
        same = event.salt is not None and commitment(event.salt, event.payload) == record.commitment
        step(
            same,
            "the payload is the one that the record commits to",
            "the payload is another than the record commits to",
        )
    return Proven(
        event, record, payload, leaf, _sides(sequence, receipt.size, hashes), receipt.size, root, receipt.note, certificate,
        steps,
    )  # fmt: skip


def _line(event: Event) -> Line:
    try:
        record, payload = decoded(event)
    except VerificationError:
        record, payload = None, None
    said = words(record, payload) if record is not None else "(of a later version of the program)"
    return Line(
        event.seq, event.type or "not known here", SEVERITIES.get(event.severity, "unknown"), event.t_effective, event.wall_ns,
        said, "here" if event.payload is not None else "not here",
    )  # fmt: skip


def _signed_by(tx: Transaction, log: int, size: int, note: str) -> tuple[str, str]:
    """The certificate of the key that signed a checkpoint (empty: the identity key), and whose key it is; empty for nobody's."""
    row = tx.connection.execute(
        sa.select(t.robots.c.id, t.logs.c.origin)
        .join(t.logs, t.logs.c.robot == t.robots.c.id)
        .where(t.logs.c.log == log)
    ).one()
    robot = tx.robot(row.id)
    last = next(tx.events(log, size - 1, size), None)
    if robot is None or last is None:
        return "", ""
    try:
        epoch = decode_record(last.record).key_epoch if last.type else None
        certificate, keys, whose = "", [robot.identity], f"the identity key of {robot.id}"
        if epoch != 0:
            certificate, number = _certificate(tx, log, size, epoch)
            found, signers = open_certificate(certificate, keys)
            if not signers or found.origin != row.origin:
                return "", ""
            keys, whose = [found.key], f"key {number} of {robot.id}, which its identity key certified"
        return (certificate, whose) if open_note(note, keys)[1] else ("", "")
    except VerificationError:
        return "", ""


def _certificate(tx: Transaction, log: int, size: int, epoch: int | None) -> tuple[str, int]:
    """The certificate of an epoch's key (None: of the newest below ``size``), and the epoch's number."""
    where = (t.events.c.log == log, t.events.c.type == "key.rotated", t.events.c.seq < size)
    query = sa.select(t.events.c.payload).where(*where).order_by(t.events.c.seq.desc()).limit(3)
    for payload in tx.connection.execute(query).scalars():
        note = certificate_in(payload)
        number = open_certificate(note, [])[0].number
        if epoch in (None, number):
            return note, number
    raise VerificationError("no certificate")


def _sides(index: int, size: int, hashes: Sequence[bytes]) -> list[tuple[str, bytes]]:
    """On which side of the path each hash of an audit path stands (RFC 6962 §2.1.1)."""
    sides, node, last = [], index, size - 1
    for digest in hashes:
        while not node & 1 and node == last:
            node, last = node >> 1, last >> 1
        sides.append(("left" if node & 1 else "right", digest))
        node, last = node >> 1, last >> 1
    return sides
