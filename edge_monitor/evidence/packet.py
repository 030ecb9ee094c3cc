"""``export``: a part of a log as a packet (docs/evidence.md)."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .. import __version__
from ..errors import ConfigError, UsageError, VerificationError
from ..journal.epochs import certificate_in
from ..journal.keys import SigningKey
from ..journal.notes import parse_checkpoint, split_note
from ..journal.records import decode_payload, decode_record
from . import archive, events, page, statement
from .gaps import Gaps, in_words
from .proof import Proof, as_json, left_of, right_of

BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


@dataclass(frozen=True, slots=True)
class Attached:
    """Files that go with the records: envelopes by digest (their bytes, and those of the approval), and black boxes, each
    with its boot (hex): the whole of a run, or windows of it."""

    envelopes: Mapping[str, tuple[bytes, bytes | None]] = field(default_factory=dict)
    tapes: Sequence[tuple[str, Path]] = ()

    def over(self, other: Attached) -> Attached:
        """These, and those of ``other`` that are not among them."""
        boots = {boot for boot, _ in self.tapes}
        tapes = [*self.tapes, *(tape for tape in other.tapes if tape[0] not in boots)]
        return Attached({**other.envelopes, **self.envelopes}, tapes)


class Source(Protocol):
    """A log to export from: a journal on the robot or a laptop, or a registry's copy. Nothing is verified by reading it."""

    origin: str

    def rows(self, start: int, end: int) -> Iterator[events.Row]:
        """Records ``start`` to before ``end``, in order."""

    def subtree(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree."""

    def heads(self) -> tuple[str, Sequence[str]]:
        """The newest signed checkpoint, and receipts, the newest first."""

    def rotations(self, end: int) -> Iterable[tuple[int, bytes | None]]:
        """(sequence, payload) of the ``key.rotated`` records below ``end``."""

    def attached(self, envelopes: Collection[str], boots: Collection[str]) -> Attached:
        """What whoever keeps the log has of the envelopes (digests) and black boxes (boots) that records name."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported: the packet's digest (SHA-256 of its signed statement), records, and what is missing, in words."""

    digest: str
    records: int
    missing: list[str]


def export(
    source: Source,
    out: Path,
    key: SigningKey,
    *,
    start: int = 0,
    end: int | None = None,
    attached: Attached = Attached(),
) -> Exported:
    """Write records ``start`` to before ``end`` (by default all that are signed) as a packet to ``out``, and replace nothing.

    ``attached`` goes along before what the source itself has.

    Raises ``UsageError`` for an empty range, ``ConfigError`` where ``out`` exists or can't be written, ``VerificationError``
    where the log does not hold together.
    """
    if out.exists():
        raise ConfigError(f"{out} exists; name another file with --out")
    note, receipts = source.heads()
    if not note:
        raise UsageError("nothing has been committed to this log yet")
    note, receipts = _chosen(note, receipts, end)
    size = parse_checkpoint(split_note(note)[0]).size
    end = size if end is None else min(end, size)
    if not 0 <= start < end:
        raise UsageError(f"no record from {start} to before {end}; the log has {size} under its checkpoint")
    try:
        folder = tempfile.TemporaryDirectory(dir=out.resolve().parent, prefix=".packet-")
    except OSError as error:
        raise ConfigError(f"{out}: {error.strerror}; name a file in a folder you can write to") from None
    with folder as name:
        return _Export(source, Path(name), key, attached).run(out, note, receipts, start, end, size)


class _Export:
    def __init__(self, source: Source, folder: Path, key: SigningKey, attached: Attached) -> None:
        self.source, self.folder, self.key, self.attached = source, folder, key, attached
        self.files: dict[str, archive.Member] = {}

    def run(self, out: Path, note: str, receipts: Sequence[str], start: int, end: int, size: int) -> Exported:
        place = "data/logs/0"
        gaps, reader = Gaps(start), page.Page(self.source.origin)
        epoch = count = 0
        binary, text = self.folder / "events.bin", self.folder / "events.ndjson"
        with binary.open("wb") as exact, text.open("wb") as derived:
            for row in self.source.rows(start, end):
                record = decode_record(row.record)
                payload = decode_payload(row.payload) if row.payload is not None else None
                exact.write(events.pack(row))
                derived.write(events.line(record, payload))
                gaps.add(record, payload)
                reader.add(record, payload)
                count += 1
        for last in self.source.rows(size - 1, size):
            epoch = decode_record(last.record).key_epoch
        if count != end - start:
            raise VerificationError("records of the range are missing in the log; run 'journal verify'")
        self._logs(place, note, receipts, start, end, size, epoch)
        self.files[f"{place}/events.bin"] = archive.Member(binary)
        self.files[f"{place}/events.ndjson"] = archive.Member(text)
        self.attached = self.attached.over(self.source.attached(gaps.envelopes, gaps.taped))
        self._attach()
        receipted = max((parse_checkpoint(split_note(one)[0]).size for one in receipts), default=0)
        there = {boot for boot, _ in self.attached.tapes}
        tapes = [boot for boot in gaps.taped if boot not in there]
        document = gaps.document(size, receipted, set(self.attached.envelopes), tapes)
        self.files["data/gaps.json"] = archive.Member(statement.compact({"logs": [document]}) + b"\n")
        words = in_words(document)
        self.files["data/index.html"] = archive.Member(reader.html(document, words, receipts, end - start))
        predicate = {
            "exporter": statement.key_id(self.key.verifier),
            "software": f"edge-monitor {__version__}",
            "query": {"logs": [{"origin": self.source.origin, "first": start, "end": end}]},
            "counts": {"records": end - start},
            "heads": [{"origin": self.source.origin, "size": size, "receipted": receipted}],
        }
        digest = self._bag(predicate)
        self._write(out)
        return Exported(digest, end - start, words)

    def _logs(
        self, place: str, note: str, receipts: Sequence[str], start: int, end: int, size: int, epoch: int
    ) -> None:
        subtree = self.source.subtree
        certificates = [certificate_in(payload) for _, payload in self.source.rotations(size)]
        proof = Proof(
            self.source.origin, start, end, size, note, list(receipts), left_of(start, subtree),
            right_of(end, size, subtree), certificates, epoch,
        )  # fmt: skip
        self.files[f"{place}/proof.json"] = archive.Member(as_json(proof))

    def _attach(self) -> None:
        for digest, (envelope, approval) in self.attached.envelopes.items():
            self.files[f"data/envelopes/{digest}.yaml"] = archive.Member(envelope)
            if approval is not None:
                self.files[f"data/envelopes/{digest}.yaml.approval"] = archive.Member(approval)
        for _, path in self.attached.tapes:
            member = archive.Member(path)
            self.files[f"data/tapes/{member.digest()}.tape"] = member

    def _bag(self, predicate: dict[str, Any]) -> str:
        """The tag files and the signed statement over all files; answers the statement's digest."""
        self.files["README.txt"] = archive.Member(page.README.encode())
        self.files["bagit.txt"] = archive.Member(BAGIT)
        digests = {name: member.digest() for name, member in self.files.items()}
        manifest = _manifest({name: digest for name, digest in digests.items() if name.startswith("data/")})
        self.files["manifest-sha256.txt"] = archive.Member(manifest)
        digests["manifest-sha256.txt"] = hashlib.sha256(manifest).hexdigest()
        tags = _manifest({name: digest for name, digest in digests.items() if not name.startswith("data/")})
        self.files["tagmanifest-sha256.txt"] = archive.Member(tags)
        digests["tagmanifest-sha256.txt"] = hashlib.sha256(tags).hexdigest()
        signed = statement.sign(digests, predicate, self.key)
        self.files["attest/packet.dsse.json"] = archive.Member(signed)
        return hashlib.sha256(signed).hexdigest()

    def _write(self, out: Path) -> None:
        part = self.folder / "packet.zip"
        with part.open("wb") as stream:
            archive.write(stream, self.files)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(part, out)
        except FileExistsError:
            raise ConfigError(f"{out} exists; name another file with --out") from None
        except OSError:
            part.replace(out)


def _chosen(note: str, receipts: Sequence[str], end: int | None) -> tuple[str, list[str]]:
    """The checkpoint to prove under: the receipted one, where it covers what is asked for, else the newest."""
    for receipt in receipts[:1]:
        text = split_note(receipt)[0]
        size = parse_checkpoint(text).size
        if end is not None and end <= size:
            own = "\n".join(receipt.split("\n")[:5]) + "\n"
            return own, [receipt]
    return note, list(receipts[:1])


def _manifest(digests: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()


class JournalSource:
    """A journal file as a source; one snapshot."""

    def __init__(self, path: Path) -> None:
        from ..journal.reader import Reader

        self._reader = Reader(path)
        self.origin = self._reader.origin
        self.subtree = self._reader.subtree

    def rows(self, start: int, end: int) -> Iterator[events.Row]:
        """See ``Source``."""
        return (events.Row(row.record, row.salt, row.payload) for row in self._reader.rows(start, end))

    def heads(self) -> tuple[str, Sequence[str]]:
        """See ``Source``."""
        last = self._reader.last_checkpoint()
        return (last[1] if last else ""), [note for _, note in self._reader.receipts()][:1]

    def rotations(self, end: int) -> Iterable[tuple[int, bytes | None]]:
        """See ``Source``."""
        for _, sequence in sorted(self._reader.epochs().items()):
            for row in self._reader.rows(sequence, min(sequence + 1, end)):
                yield row.seq, row.payload

    def attached(self, envelopes: Collection[str], boots: Collection[str]) -> Attached:
        """See ``Source``: a journal's file has nothing beside it that is known to belong to it."""
        return Attached()

    def close(self) -> None:
        """Give the file back."""
        self._reader.close()
