"""What leaves a journal: exact record bytes for an archive, and the proof of one record (FORMAT.md §7)."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..errors import DamagedInputError, UsageError, VerificationError
from .epochs import open_certificate
from .keys import VerifierKey, decode_base64
from .merkle import CompactRange, inclusion_proof, leaf_hash, root_from_inclusion
from .notes import open_note, parse_checkpoint, split_note
from .reader import Reader, certificate_of
from .records import SALT_BYTES, Record, commitment, decode_payload, decode_record

PROOF_HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF = 4 << 20


class Extra(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The ``extra`` of a proof: exact record bytes, and salt and payload unless they were erased or are kept back.

    ``certificate``: of the epoch key that signed the checkpoint; left out where the identity key did.
    """

    record: bytes
    salt: bytes | None
    payload: bytes | None
    certificate: str = ""

    def packed(self) -> bytes:
        """The extra's bytes."""
        fields = [self.record, self.salt, self.payload]
        return msgspec.msgpack.encode([*fields, self.certificate] if self.certificate else fields)


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof proves: the record, its payload (None if it is not disclosed), and under which checkpoint."""

    record: Record
    payload: dict[str, Any] | None
    origin: str
    size: int
    signers: tuple[str, ...]


def export_records(path: Path, out: Path) -> int:
    """Write each record as a 4-byte big-endian length and its exact bytes; answers how many.

    Beside ``out`` goes ``<out>.checkpoint``, the newest signed checkpoint. Raises ``UsageError`` when either exists
    or can't
    be written, ``VerificationError`` when the records don't lead to the checkpoint's root (both files are there then).
    """
    note_path = out.with_name(out.name + ".checkpoint")
    with Reader(path) as reader:
        checkpoint = reader.last_checkpoint()
        if checkpoint is None:
            raise UsageError(f"{path}: nothing has been committed to this journal yet")
        size, note = checkpoint
        tree = CompactRange()
        try:
            with note_path.open("x", encoding="utf-8", newline="\n") as note_stream, out.open("xb") as stream:
                note_stream.write(note)
                for row in reader.rows(0, size):
                    stream.write(struct.pack(">I", len(row.record)) + row.record)
                    tree.append(leaf_hash(row.record))
        except FileExistsError as error:
            raise UsageError(f"{error.filename} exists; name another file with --out") from None
        except OSError as error:
            raise UsageError(f"{error.filename}: {error.strerror}; name a file in a folder you can write to") from None
    if parse_checkpoint(split_note(note)[0]).root != tree.root():
        raise VerificationError(f"{path}: the records do not lead to the signed root; run 'journal verify'")
    return tree.size


def prove_record(path: Path, sequence: int, *, disclose: bool = True) -> str:
    """The C2SP tlog-proof of one record against the newest checkpoint; checked before it is given out.

    ``disclose``: with salt and payload, so that its reader learns what happened, not only that something was recorded.
    Raises ``UsageError`` for a sequence that is not there, ``VerificationError`` when the journal does not hold
    together.
    """
    with Reader(path) as reader:
        checkpoint = reader.last_checkpoint()
        if checkpoint is None or not 0 <= sequence < checkpoint[0]:
            last = f"the last one under a checkpoint is {checkpoint[0] - 1}" if checkpoint else "it is empty"
            raise UsageError(f"{path}: no record {sequence}; {last}")
        size, note = checkpoint
        path_hashes = inclusion_proof(reader.subtree, sequence, size)
        row = next(reader.rows(sequence, sequence + 1), None)
        end = next(reader.rows(size - 1, size), None)
        number = decode_record(end.record).key_epoch if end is not None else 0
        certificate = certificate_of(reader, number) if number else ""
    root = parse_checkpoint(split_note(note)[0]).root
    if row is None or root_from_inclusion(leaf_hash(row.record), sequence, size, path_hashes) != root:
        raise VerificationError(f"{path}: record {sequence} does not lead to the signed root; run 'journal verify'")
    extra = Extra(row.record, row.salt if disclose else None, row.payload if disclose else None, certificate)
    lines = [
        PROOF_HEADER,
        f"extra {base64.b64encode(extra.packed()).decode()}",
        f"index {sequence}",
        *(base64.b64encode(digest).decode() for digest in path_hashes),
    ]
    return "\n".join([*lines, "", note])


def check_proof(path: Path, keys: Sequence[VerifierKey]) -> Proven:
    """What the proof in a file proves, to one who trusts ``keys``.

    Raises ``DamagedInputError`` when the file is no proof of ours, ``VerificationError`` when it does not hold.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_PROOF).decode()
        head, _, note = text.partition("\n\n")
        header, extra_line, index_line, *hash_lines = head.split("\n")
        packed = decode_base64(extra_line.removeprefix("extra "))
        extra = msgspec.msgpack.decode(packed or b"", type=Extra)
        index = int(index_line.removeprefix("index ")[:20])
    except OSError as error:
        raise DamagedInputError(f"{path}: {error.strerror}") from None
    except (ValueError, msgspec.MsgspecError) as error:
        raise DamagedInputError(f"{path}: not a proof made by 'journal proof' ({error})") from None
    path_hashes = [decode_base64(line) or b"" for line in hash_lines]
    if header != PROOF_HEADER or index_line != f"index {index}" or any(len(digest) != 32 for digest in path_hashes):
        raise DamagedInputError(f"{path}: not a proof made by 'journal proof'")
    epoch, certifiers = open_certificate(extra.certificate, keys) if extra.certificate else (None, [])
    if epoch is not None and not certifiers:
        raise VerificationError(f"{path}: the certificate of the key that signed is not by a key that was given")
    note_text, signers = open_note(note, keys if epoch is None else [epoch.key])
    checkpoint = parse_checkpoint(note_text)
    if epoch is not None and (epoch.origin != checkpoint.origin or epoch.sequence >= checkpoint.size):
        raise VerificationError(f"{path}: the certificate of the key that signed is of another log or place")
    name = checkpoint.origin.rpartition("/")[0]
    if name not in [key.name for key in signers]:
        raise VerificationError(
            f"{path}: the checkpoint of {checkpoint.origin} is not signed by a key of {name} that was given"
        )
    try:
        root = root_from_inclusion(leaf_hash(extra.record), index, checkpoint.size, path_hashes)
    except ValueError as error:
        raise VerificationError(f"{path}: {error}") from None
    if root != checkpoint.root:
        raise VerificationError(f"{path}: the record does not lead to the signed root")
    record = decode_record(extra.record)
    if record.sequence != index:
        raise VerificationError(f"{path}: the record says it is number {record.sequence}, the proof {index}")
    payload = None
    if extra.salt is not None or extra.payload is not None:
        salt, packed_payload = extra.salt or b"", extra.payload or b""
        if len(salt) != SALT_BYTES or commitment(salt, packed_payload) != record.commitment:
            raise VerificationError(f"{path}: the payload is not what the record commits to")
        payload = decode_payload(packed_payload)
    return Proven(record, payload, checkpoint.origin, checkpoint.size, tuple(key.name for key in signers))
