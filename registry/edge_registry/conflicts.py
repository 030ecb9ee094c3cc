"""Rollback and fork: two things that a robot signed and that can't both be true, as proof for someone who trusts nobody here.

A *fork* is proven by two checkpoints of one origin and, under each, another record at the same place. A *rollback* is a signed
head that is older than one that the device has signed before: an old disk, or a cut tail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from edge_monitor.errors import VerificationError
from edge_monitor.journal.epochs import ROTATED, KeyChain, certificate_in, open_certificate
from edge_monitor.journal.keys import VerifierKey
from edge_monitor.journal.merkle import inclusion_proof, leaf_hash, node_hash, range_hash, root_from_inclusion
from edge_monitor.journal.notes import open_note, parse_checkpoint, split_note
from edge_monitor.journal.records import Record, decode_record
from edge_monitor.sync.packing import Stored

if TYPE_CHECKING:
    from .store import Log, Transaction


@dataclass(frozen=True, slots=True)
class Conflict:
    """``kind``: ``rollback`` or ``fork``; ``proof``: a :class:`Proof`, packed."""

    kind: str
    words: str
    proof: bytes


class Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A checkpoint that a robot signed, the certificate of the epoch key that did (empty: the identity key), and, for a fork, a
    record at ``sequence`` with its audit path."""

    checkpoint: str
    certificate: str
    sequence: int
    record: bytes
    path: tuple[bytes, ...]


class Proof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Two things that can't both be true."""

    kind: str
    ours: Signed
    theirs: Signed


def check(data: bytes, identity: VerifierKey) -> Proof:
    """The proof in ``data``, to one who trusts the robot's identity key and nothing else.

    Raises ``VerificationError`` where it proves nothing.
    """
    try:
        proof = msgspec.msgpack.decode(data, type=Proof)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise VerificationError(f"not a proof: {error}") from None
    ours, theirs = (_checked(side, identity, proof.kind) for side in (proof.ours, proof.theirs))
    if ours.origin != theirs.origin:
        raise VerificationError("the two checkpoints are of different logs")
    if proof.kind == "rollback":
        if theirs.size >= ours.size:
            raise VerificationError("the later head is not older than the earlier one")
    elif proof.ours.sequence != proof.theirs.sequence or proof.ours.record == proof.theirs.record:
        raise VerificationError("the two records are not two at one place")
    return proof


def of_head(tx: Transaction, log: Log, note: str) -> Conflict | None:
    """Whether the head that a device offers contradicts what it signed before. Raises nothing: a head without a valid signature
    proves nothing, and the batches that follow it are refused by themselves."""
    if not log.size:
        return None
    if not note:
        words = f"the device has an empty journal, and {log.size} records of it are receipted"
        return Conflict("rollback", words, b"")
    try:
        head = parse_checkpoint(split_note(note)[0])
    except VerificationError:
        return None
    if head.origin != log.origin or not 0 < head.size < log.size:
        return None
    theirs = _signed(tx, log, note)
    if theirs is None or tx.tree(log.number, head.size).root() != head.root:
        return None  # another history: what parts them is in the records, and comes with the batches
    ours = _signed(tx, log, log.receipt)
    words = f"the device offers {head.size} records, {log.size} are receipted: an old disk, or a cut tail"
    proof = Proof("rollback", ours or Signed(log.receipt, "", -1, b"", ()), theirs)
    return Conflict("rollback", words, msgspec.msgpack.encode(proof))


def parting(tx: Transaction, log: Log, first: int, rows: Sequence[Stored]) -> int | None:
    """Where rows that begin within what is held first differ from it; None for nowhere."""
    held = {event.seq: event.record for event in tx.events(log.number, first, first + len(rows))}
    return next((first + i for i, row in enumerate(rows) if held.get(first + i, row.record) != row.record), None)


def of_batch(tx: Transaction, log: Log, first: int, rows: Sequence[Stored], note: str, place: int) -> Conflict | None:
    """Whether rows that differ at ``place`` from what is held are under a checkpoint that the robot signed: a fork."""
    size = first + len(rows)
    chain = _chain_at(tx, log, place)
    epoch = 0
    for sequence, row in enumerate(rows[place - first :], place):
        record = _decoded(row.record)
        if record is None:
            continue  # of a later version: whose it is, the signature says
        if record.sequence != sequence or chain.follow(record, row.payload):
            return None
        epoch = record.key_epoch
    keys = chain.keys(epoch)
    try:
        text, signers = open_note(note, keys)
        checkpoint = parse_checkpoint(text)
    except VerificationError:
        return None
    subtree = _subtree(tx, log, first, rows)
    if not signers or checkpoint.size != size or range_hash(subtree, 0, size) != checkpoint.root:
        return None
    try:
        certificate = _certificate(tx, log, epoch, rows)
    except VerificationError:
        return None
    path = tuple(inclusion_proof(subtree, place, size))
    theirs = Signed(note, certificate, place, rows[place - first].record, path)
    ours = _signed(tx, log, log.receipt, place)
    if ours is None:
        return None
    words = f"another record {place} than the one that is held was signed: a clone of the device, or an old disk"
    return Conflict("fork", words, msgspec.msgpack.encode(Proof("fork", ours, theirs)))


def _checked(side: Signed, identity: VerifierKey, kind: str) -> Checked:
    keys = [identity]
    if side.certificate:
        epoch, signers = open_certificate(side.certificate, [identity])
        if not signers:
            raise VerificationError("a certificate is not signed by the identity key")
        keys = [epoch.key]
    text, signed = open_note(side.checkpoint, keys)
    checkpoint = parse_checkpoint(text)
    if not signed or (side.certificate and epoch.origin != checkpoint.origin):
        raise VerificationError("a checkpoint is not signed by the robot")
    if kind == "fork":
        try:
            root = root_from_inclusion(leaf_hash(side.record), side.sequence, checkpoint.size, side.path)
        except ValueError as error:
            raise VerificationError(str(error)) from None
        if root != checkpoint.root:
            raise VerificationError("a record does not lead to the root of its checkpoint")
    elif kind != "rollback":
        raise VerificationError(f"there is no conflict of kind {kind!r}")
    return Checked(checkpoint.origin, checkpoint.size)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a side of a proof says."""

    origin: str
    size: int


def _signed(tx: Transaction, log: Log, note: str, place: int = -1) -> Signed | None:
    """A signed checkpoint over records that are held, with the certificate of its key; None where no key of the robot did."""
    try:
        checkpoint = parse_checkpoint(split_note(note)[0])
        last = next(tx.events(log.number, checkpoint.size - 1, checkpoint.size), None)
        known = _decoded(last.record) if last is not None else None
        epoch = known.key_epoch if known is not None else log.chain.current[0]
        certificate = _certificate(tx, log, epoch)
        keys = log.chain.keys(0)
        if certificate:
            keys = [open_certificate(certificate, keys)[0].key]
        if not open_note(note, keys)[1]:
            return None
    except VerificationError:
        return None
    # The device's own line alone: what others signed below it proves nothing here.
    note = "\n".join(note.split("\n")[:5]) + "\n"
    record: bytes = b""
    path: tuple[bytes, ...] = ()
    if place >= 0:
        record = next(tx.events(log.number, place, place + 1)).record
        path = tuple(inclusion_proof(tx.subtrees(log.number), place, checkpoint.size))
    return Signed(note, certificate, place, record, path)


def _certificate(tx: Transaction, log: Log, epoch: int, rows: Sequence[Stored] = ()) -> str:
    """The certificate that began an epoch: among the new rows, or among those that are held; empty for the identity key."""
    if epoch == 0:
        return ""
    for row in rows:
        record = _decoded(row.record)
        if record is not None and record.type == ROTATED:
            note = certificate_in(row.payload)
            if open_certificate(note, [])[0].number == epoch:
                return note
    for event in tx.rotations(log.number, log.size):
        note = certificate_in(event.payload)
        if open_certificate(note, [])[0].number == epoch:
            return note
    raise VerificationError(f"the certificate of epoch {epoch} is not held")


def _chain_at(tx: Transaction, log: Log, place: int) -> KeyChain:
    """The chain of keys as it was before record ``place``."""
    chain = KeyChain(log.origin, log.chain.keys(0))
    last = None
    for event in tx.rotations(log.number, place):
        chain.follow(decode_record(event.record), event.payload)
    for event in tx.events(log.number, place - 1, place):
        last = _decoded(event.record)
    if last is not None and last.type != ROTATED and last.key_epoch == 0:
        chain.follow(last, None)
    return chain


def _decoded(record: bytes) -> Record | None:
    """A record; None for one of a later version."""
    try:
        return decode_record(record)
    except VerificationError:
        return None


def _subtree(tx: Transaction, log: Log, first: int, rows: Sequence[Stored]) -> Callable[[int, int], bytes]:
    """Subtrees of the log as the other history has it: ours below ``first``, the rows from there on."""

    held = tx.subtrees(log.number)

    def subtree(level: int, index: int) -> bytes:
        start, end = index << level, (index + 1) << level
        if end <= first:
            return held(level, index)
        if level == 0:
            return leaf_hash(rows[start - first].record)
        return node_hash(subtree(level - 1, 2 * index), subtree(level - 1, 2 * index + 1))

    return subtree
