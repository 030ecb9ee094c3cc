"""What leaves a journal: exact record bytes for an archive, and the proof of one record for anyone."""

from __future__ import annotations

import base64
import struct
from pathlib import Path

from ..errors import UsageError, VerificationError
from .merkle import inclusion_proof, leaf_hash, root_from_inclusion
from .notes import parse_checkpoint
from .store import Reader
from .writer import subtree_hash

PROOF_HEADER = "c2sp.org/tlog-proof@v1"


def export_records(path: Path, out: Path) -> int:
    """Write each record as a 4-byte big-endian length and its exact bytes (FORMAT.md §7); answers how many.

    Beside ``out`` goes ``<out>.checkpoint``, the newest signed checkpoint. Refuses to overwrite (``UsageError``).
    """
    note_path = out.with_name(out.name + ".checkpoint")
    count = 0
    with Reader(path) as reader:
        checkpoint = reader.last_checkpoint()
        if checkpoint is None:
            raise VerificationError(f"{path}: nothing has been committed to this journal yet")
        try:
            with out.open("xb") as stream, note_path.open("x", encoding="utf-8", newline="\n") as note:
                for row in reader.rows(0, checkpoint[0]):
                    stream.write(struct.pack(">I", len(row.record)) + row.record)
                    count += 1
                note.write(checkpoint[1])
        except FileExistsError as error:
            raise UsageError(f"{error.filename} exists; name another file with --out") from None
        except OSError as error:
            raise UsageError(f"{error.filename}: {error.strerror}; name a file in a folder you can write to") from None
    return count


def prove_record(path: Path, sequence: int) -> str:
    """The C2SP tlog-proof of one record against the newest checkpoint; checked before it is given out.

    Raises ``UsageError`` for a sequence that is not there, ``VerificationError`` when the journal does not hold together.
    """
    with Reader(path) as reader:
        checkpoint = reader.last_checkpoint()
        if checkpoint is None or not 0 <= sequence < checkpoint[0]:
            last = checkpoint[0] - 1 if checkpoint else -1
            raise UsageError(f"{path}: no record {sequence}; the last one that is signed is {last}")
        size, note = checkpoint
        path_hashes = inclusion_proof(lambda level, index: subtree_hash(reader, level, index), sequence, size)
        row = next(reader.rows(sequence, sequence + 1), None)
    root = parse_checkpoint(note.rpartition("\n\n")[0] + "\n").root
    if row is None or root_from_inclusion(leaf_hash(row.record), sequence, size, path_hashes) != root:
        raise VerificationError(f"{path}: record {sequence} does not lead to the signed root; run 'journal verify'")
    lines = [PROOF_HEADER, f"index {sequence}", *(base64.b64encode(h).decode() for h in path_hashes), "", note]
    return "\n".join(lines)
