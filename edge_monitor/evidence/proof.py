"""``proof.json``: what leads from a range of records to a signed, receipted checkpoint (docs/evidence.md §3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ..errors import VerificationError
from ..journal.cosignatures import CosignerKey, open_receipt
from ..journal.epochs import open_certificate
from ..journal.keys import VerifierKey
from ..journal.merkle import CompactRange, node_hash
from ..journal.notes import Checkpoint, open_note, parse_checkpoint, split_note


class LogView(Protocol):
    """A log to export from: a journal, or a registry's copy. Nothing of it is verified by reading."""

    @property
    def origin(self) -> str:
        """Its checkpoints' origin."""

    def subtree(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree."""


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of ``proof.json``; hashes in hex."""

    origin: str
    first: int
    end: int
    size: int
    checkpoint: str
    receipts: list[str]
    left: list[str]
    right: list[tuple[int, int, str]]
    certificates: list[str]
    epoch: int


def covering(start: int, end: int) -> list[tuple[int, int]]:
    """The largest complete subtrees that cover leaves ``start`` to ``end - 1``, in order, as (level, index)."""
    found = []
    while start < end:
        level = (start & -start).bit_length() - 1 if start else end.bit_length()
        while start + (1 << level) > end:
            level -= 1
        found.append((level, start >> level))
        start += 1 << level
    return found


def left_of(first: int, subtree: Callable[[int, int], bytes]) -> list[str]:
    """The subtrees of the first ``first`` records, largest first."""
    return [subtree(level, index).hex() for level, index in covering(0, first)]


def right_of(end: int, size: int, subtree: Callable[[int, int], bytes]) -> list[tuple[int, int, str]]:
    """The subtrees that cover what follows record ``end - 1``."""
    return [(level, index, subtree(level, index).hex()) for level, index in covering(end, size)]


def parse(data: bytes) -> Proof:
    """The proof of its file. Raises ``VerificationError``."""
    try:
        proof = msgspec.json.decode(data, type=Proof)
        fine = 0 <= proof.first < proof.end <= proof.size < 1 << 62
        fine = fine and all(len(bytes.fromhex(text)) == 32 for text in (*proof.left, *(one[2] for one in proof.right)))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        fine = False
    if not fine:
        raise VerificationError("proof_form: a proof.json is malformed")
    if [place[:2] for place in proof.right] != covering(proof.end, proof.size) or len(
        proof.left
    ) != proof.first.bit_count():
        raise VerificationError("proof_form: a proof.json does not cover its log")
    return proof


def tree_before(proof: Proof) -> CompactRange:
    """The tree of the records before the packet's first, to append the packet's to."""
    return CompactRange(proof.first, [bytes.fromhex(text) for text in proof.left])


def root_after(proof: Proof, tree: CompactRange) -> bytes:
    """The root over all ``size`` records, from the tree over the first ``end`` and the subtrees to its right."""
    stack = _stack(tree)
    for level, index, text in proof.right:
        digest = bytes.fromhex(text)
        while stack and stack[-1][0] == level and stack[-1][1] == index - 1 and index & 1:
            _, _, before = stack.pop()
            digest, level, index = node_hash(before, digest), level + 1, index >> 1
        stack.append((level, index, digest))
    root = stack[-1][2]
    for _, _, before in reversed(stack[:-1]):
        root = node_hash(before, root)
    return root


def _stack(tree: CompactRange) -> list[tuple[int, int, bytes]]:
    places = covering(0, tree.size)
    return [(level, index, digest) for (level, index), digest in zip(places, tree.hashes, strict=True)]


def signer_keys(proof: Proof, robots: Sequence[VerifierKey]) -> list[VerifierKey]:
    """The keys one of which must have signed the checkpoint. Raises ``VerificationError`` where the chain does not hold."""
    name = proof.origin.rpartition("/")[0]
    own = [key for key in robots if key.name == name]
    if not own:
        raise VerificationError(f"robot_key: no identity key of {name[:80]} was given")
    if proof.epoch == 0:
        return own
    for note in proof.certificates:
        epoch, signers = open_certificate(note, own)
        if epoch.number == proof.epoch:
            if not signers or epoch.origin != proof.origin or epoch.sequence >= proof.size:
                raise VerificationError(f"key_chain: the certificate of key epoch {proof.epoch} does not hold")
            return [epoch.key]
    raise VerificationError(f"key_chain: the certificate of key epoch {proof.epoch} is missing")


def checked(proof: Proof, root: bytes, robots: Sequence[VerifierKey]) -> Checkpoint:
    """The checkpoint, if the records lead to it and a key of the robot signed it. Raises ``VerificationError``."""
    try:
        text, signers = open_note(proof.checkpoint, signer_keys(proof, robots))
        checkpoint = parse_checkpoint(text)
    except VerificationError as error:
        words = str(error)
        raise (
            error
            if words.split(":", maxsplit=1)[0] in ("robot_key", "key_chain")
            else VerificationError(f"checkpoint: {words}")
        ) from None
    if not signers:
        raise VerificationError("checkpoint_key: the checkpoint is not signed by the key of its place")
    if (checkpoint.origin, checkpoint.size) != (proof.origin, proof.size):
        raise VerificationError("checkpoint: the checkpoint is of another log or size")
    if checkpoint.root != root:
        raise VerificationError(
            "root: the records do not lead to the signed root: one was changed, dropped, added or moved"
        )
    return checkpoint


def receipt_sizes(proof: Proof) -> set[int]:
    """Sizes that its receipts speak of: the roots there are needed to check them."""
    sizes = set()
    for note in proof.receipts:
        try:
            sizes.add(parse_checkpoint(split_note(note)[0]).size)
        except VerificationError:
            continue
    return sizes


def receipted(proof: Proof, roots: Mapping[int, bytes], registries: Sequence[CosignerKey]) -> tuple[int, int]:
    """Records under the newest receipt that holds, and its time (s since 1970); (0, 0) without one.

    ``roots``: of the packet's own records, by size. Raises ``VerificationError`` for a receipt over another history.
    """
    best = (0, 0)
    for note in proof.receipts:
        for registry in registries:
            try:
                receipt = open_receipt(note, registry)
            except VerificationError:
                continue
            found = receipt.checkpoint
            if found.origin != proof.origin or roots.get(found.size, found.root) != found.root:
                raise VerificationError("receipt: a receipt is over another history than the packet's")
            if found.size in roots:
                best = max(best, (found.size, receipt.time))
    return best


def as_json(proof: Proof) -> bytes:
    """The file's bytes."""
    fields: dict[str, Any] = msgspec.to_builtins(proof)
    return msgspec.json.format(msgspec.json.encode(fields), indent=1) + b"\n"
