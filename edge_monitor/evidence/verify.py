"""``verify``: a packet against keys that come from outside, in one pass over its records (docs/evidence.md §5).

A refusal has a code, which is what tests and programs look at, and words that say what does not hold.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DamagedInputError, EdgeMonitorError, VerificationError
from ..journal.cosignatures import CosignerKey
from ..journal.epochs import KeyChain
from ..journal.keys import VerifierKey
from ..journal.merkle import leaf_hash
from ..journal.records import SALT_BYTES, Record, commitment, decode_payload, decode_record
from ..people import People
from . import archive, events, statement
from .gaps import Gaps, in_words
from .proof import Proof, checked, parse, receipt_sizes, receipted, root_after, tree_before

LEAVES = 4096  #: leaf hashes that are gathered before the tree takes them

#: Why a packet is refused. A test holds one refusal for each.
REASONS: dict[str, str] = {
    "zip_names": "the zip has too many files, or a name twice",
    "zip_path": "a file's name leads out of the packet",
    "zip_form": "a file is encrypted or packed in another way",
    "zip_bomb": "a file grows beyond its bounds",
    "zip_damaged": "a file of the zip can't be read",
    "oversize": "a file that is read as a whole is too large",
    "malformed": "the signed statement is not in its form",
    "payload_type": "the envelope's payload is of another type",
    "statement_type": "the statement is about something else",
    "exporter_key": "no given key of the exporter signed the packet",
    "file_missing": "a file that was signed for is not there",
    "file_unlisted": "a file is there that nobody signed for",
    "file_changed": "a file is not the one that was signed for",
    "bag": "the BagIt manifests don't say what is there",
    "proof_form": "a proof is malformed, or does not cover its log",
    "robot_key": "no identity key of the robot was given",
    "revoked_key": "the robot's key is revoked, and the records are not below what still counts",
    "key_chain": "the certificates of the epoch keys don't hold",
    "checkpoint": "the checkpoint is malformed or of another log",
    "checkpoint_key": "the checkpoint is not signed by the key of its place",
    "root": "the records do not lead to the signed root",
    "receipt": "a receipt is over another history",
    "older": "the packet is older than what the verifier knows of the log",
    "events_form": "events.bin is cut or malformed",
    "record": "a record is not in canonical form, or of another log",
    "dropped": "a record of the range is not there",
    "reordered": "records are not in their order",
    "payload": "a payload is not what its record commits to",
    "derived": "events.ndjson, gaps.json or the statement's counts don't follow from the records",
    "envelope_digest": "an envelope file is not the one its name says",
    "envelope_unapproved": "an envelope was active that the people given did not approve",
    "envelope_late": "an envelope was approved after it was used",
    "self_approval": "an envelope was approved by who proposed it",
    "reexecution": "decisions made again from the black box differ from the records",
}


@dataclass(frozen=True, slots=True)
class Trust:
    """What the verifier brings along. ``known``: sizes of logs (by origin) that it knows to exist; ``revoked``: how many records
    of a robot still count, by its name."""

    exporters: Sequence[VerifierKey]
    robots: Sequence[VerifierKey]
    registries: Sequence[CosignerKey] = ()
    people: People | None = None
    known: dict[str, int] = field(default_factory=dict)
    revoked: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Verdict:
    """The answer. ``failures``: (code, words); ``missing``: in words; ``notes``: what could not be asked."""

    path: Path
    failures: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    exporter: str = ""
    digest: str = ""
    logs: list[dict[str, Any]] = field(default_factory=list)
    records: int = 0

    @property
    def word(self) -> str:
        """The verdict."""
        return "FAILED" if self.failures else "INCOMPLETE" if self.missing else "VERIFIED"

    @property
    def exit_code(self) -> int:
        """0, 1 or 5."""
        return {"VERIFIED": 0, "INCOMPLETE": 1, "FAILED": 5}[self.word]

    def document(self) -> dict[str, Any]:
        """The verdict as JSON."""
        return {
            "packet": str(self.path), "verdict": self.word, "exporter": self.exporter, "digest": self.digest,
            "records": self.records,
            "failures": [{"code": code, "what": words} for code, words in self.failures], "missing": self.missing,
            "notes": self.notes, "logs": self.logs,
        }  # fmt: skip


def verify(path: Path, trust: Trust) -> Verdict:
    """The verdict on the packet in a file. Raises ``DamagedInputError`` where it is no zip."""
    verdict = Verdict(path)
    try:
        packet = archive.Archive(path)
    except DamagedInputError:
        raise
    except VerificationError as error:
        _fail(verdict, error)
        return verdict
    try:
        _Verification(packet, trust, verdict).run()
    except VerificationError as error:
        _fail(verdict, error)
    finally:
        packet.close()
    return verdict


def _fail(verdict: Verdict, error: EdgeMonitorError) -> None:
    code, _, words = str(error).partition(": ")
    verdict.failures.append((code, words) if code in REASONS else ("record", str(error)))


class _Verification:
    def __init__(self, packet: archive.Archive, trust: Trust, verdict: Verdict) -> None:
        self.packet, self.trust, self.verdict = packet, trust, verdict
        self.envelopes: dict[str, bytes] = {}
        self.activated: dict[str, int] = {}  # wall time of the first record under each envelope
        self.tapes: dict[str, str] = {}

    def run(self) -> None:
        signed = self.packet.read("attest/packet.dsse.json")
        files, predicate, exporter = statement.open_envelope(signed, self.trust.exporters)
        self.verdict.exporter, self.verdict.digest = exporter.name, hashlib.sha256(signed).hexdigest()
        self._files(files)
        self._bag(files)
        gaps = self._json("data/gaps.json").get("logs")
        query = predicate.get("query", {}).get("logs") if isinstance(predicate.get("query"), dict) else None
        if not isinstance(gaps, list) or not isinstance(query, list) or len(gaps) != len(query) or not gaps:
            raise VerificationError("derived: the statement and gaps.json are not about the same logs")
        self._tapes(files)
        self.envelopes = {name[15:-5]: self.packet.read(name) for name in files if _is_envelope(name)}
        for number, (gap, asked) in enumerate(zip(gaps, query, strict=True)):
            self._log(f"data/logs/{number}", gap, asked)
        if predicate.get("counts") != {"records": self.verdict.records}:
            raise VerificationError("derived: the statement's counts are not those of the records")
        self._approvals(files)

    def _files(self, files: dict[str, str]) -> None:
        """Every file is the one that was signed for, and nothing else is there."""
        there = set(self.packet.names) - {"attest/packet.dsse.json"}
        for name in sorted(set(files) - there):
            raise VerificationError(f"file_missing: {name[:100]} was signed for and is not there")
        for name in sorted(there - set(files)):
            raise VerificationError(f"file_unlisted: {name[:100]} is there, and nobody signed for it")
        for name, digest in files.items():
            found = hashlib.sha256()
            for chunk in self.packet.chunks(name):
                found.update(chunk)
            if found.hexdigest() != digest:
                raise VerificationError(f"file_changed: {name[:100]} is not the file that was signed for")

    def _bag(self, files: dict[str, str]) -> None:
        payload = {name: digest for name, digest in files.items() if name.startswith("data/")}
        tags = {
            name: digest for name, digest in files.items() if name not in payload and name != "tagmanifest-sha256.txt"
        }
        for name, expected in (("manifest-sha256.txt", payload), ("tagmanifest-sha256.txt", tags)):
            lines = self.packet.read(name).decode("utf-8", "replace").splitlines()
            if {line[66:]: line[:64] for line in lines} != expected or len(lines) != len(expected):
                raise VerificationError(f"bag: {name} does not list what is there")

    def _tapes(self, files: dict[str, str]) -> None:
        for name, digest in files.items():
            if name.startswith("data/tapes/"):
                head = next(self.packet.chunks(name), b"")[:4096]
                self.tapes[name] = head.hex()
                if name != f"data/tapes/{digest}.tape":
                    raise VerificationError(f"derived: {name[:100]} is not named after its content")

    def _log(self, place: str, told: Any, asked: Any) -> None:
        proof = parse(self.packet.read(f"{place}/proof.json"))
        gaps = Gaps(proof.first)
        tree = tree_before(proof)
        chain = KeyChain(
            proof.origin, [key for key in self.trust.robots if key.name == proof.origin.rpartition("/")[0]]
        )
        whole = proof.first == 0
        sizes, roots = receipt_sizes(proof), {}
        derived = self.packet.stream(f"{place}/events.ndjson")
        sequence = proof.first
        log_id = _log_id(proof.origin)
        leaves: list[bytes] = []
        for row in events.unpack(self.packet.stream(f"{place}/events.bin")):
            record, payload = self._record(row, log_id)
            if record.sequence != sequence:
                raise self._misplaced(place, sequence)
            if whole:
                wrong = chain.follow(record, row.payload)
                if wrong:
                    raise VerificationError(f"key_chain: record {sequence}: {wrong}")
            expected = events.line(record, payload)
            if derived.read(len(expected)) != expected:
                raise VerificationError(
                    f"derived: events.ndjson says something else of record {sequence} than its bytes"
                )
            gaps.add(record, payload)
            self._seen(record)
            leaves.append(leaf_hash(row.record))
            sequence += 1
            if sequence in sizes or len(leaves) == LEAVES:
                tree.extend(leaves)
                leaves.clear()
            if sequence in sizes:
                roots[sequence] = tree.root()
        tree.extend(leaves)
        if derived.read(1) or sequence != proof.end:
            raise VerificationError("derived: there are more or fewer records than the packet says")
        roots[proof.size] = root_after(proof, tree)
        checked(proof, roots[proof.size], self.trust.robots)
        covered, time = receipted(proof, roots, self.trust.registries)
        self._bounds(proof, covered)
        self._told(proof, gaps, told, asked, covered)
        self.verdict.records += proof.end - proof.first
        span = {"origin": proof.origin, "first": proof.first, "end": proof.end, "size": proof.size}
        self.verdict.logs.append({**span, "receipted": covered, "receipt_s": time})

    def _misplaced(self, place: str, sequence: int) -> VerificationError:
        """Why a record is not in its place: it stands elsewhere, or nowhere."""
        for row in events.unpack(self.packet.stream(f"{place}/events.bin")):
            if decode_record(row.record).sequence == sequence:
                return VerificationError(f"reordered: record {sequence} is not in its place")
        return VerificationError(f"dropped: record {sequence} is not there")

    def _record(self, row: events.Row, log_id: bytes) -> tuple[Record, dict[str, Any] | None]:
        try:
            record = decode_record(row.record)
        except VerificationError as error:
            raise VerificationError(f"record: {error}") from None
        if record.log_id != log_id:
            raise VerificationError(f"record: record {record.sequence} is of another log")
        sequence = record.sequence
        if row.salt is None or row.payload is None:
            return record, None
        if len(row.salt) != SALT_BYTES or commitment(row.salt, row.payload) != record.commitment:
            raise VerificationError(f"payload: the payload of record {sequence} is not what the record commits to")
        try:
            return record, decode_payload(row.payload)
        except VerificationError as error:
            raise VerificationError(f"payload: record {sequence}: {error}") from None

    def _seen(self, record: Record) -> None:
        digest = record.digests.envelope.hex()
        if digest and record.wall_ns > 0:
            self.activated.setdefault(digest, record.wall_ns)

    def _bounds(self, proof: Proof, covered: int) -> None:
        known = self.trust.known.get(proof.origin, 0)
        if proof.size < known:
            raise VerificationError(
                f"older: the packet knows {proof.size} records of {proof.origin}, {known} are known to exist: ask for a newer"
            )
        name = proof.origin.rpartition("/")[0]
        if name in self.trust.revoked and proof.end > min(self.trust.revoked[name], covered):
            raise VerificationError(
                f"revoked_key: {name} is revoked; only its first {self.trust.revoked[name]} receipted records count"
            )

    def _told(self, proof: Proof, gaps: Gaps, told: Any, asked: Any, covered: int) -> None:
        if asked != {"origin": proof.origin, "first": proof.first, "end": proof.end} or not isinstance(told, dict):
            raise VerificationError("derived: the statement's query is not what the packet holds")
        without = told.get("tapes")
        tapes = [boot for boot in without if isinstance(boot, str)] if isinstance(without, list) else []
        claimed = max(receipt_sizes(proof), default=0)
        found = gaps.document(proof.size, claimed, set(self.envelopes), tapes)
        if found != told:
            raise VerificationError("derived: gaps.json is not what the records say is missing")
        if tapes != [boot for boot in gaps.taped if not any(boot in head for head in self.tapes.values())]:
            raise VerificationError("derived: gaps.json does not list the black boxes that are missing")
        if not self.trust.registries:
            self.verdict.notes.append("receipts were not checked: give the registry's key to have them checked")
        elif covered < claimed:
            found = gaps.document(proof.size, covered, set(self.envelopes), tapes)
        self.verdict.missing += in_words(found)

    def _approvals(self, files: dict[str, str]) -> None:
        if not self.envelopes:
            return
        if self.trust.people is None:
            self.verdict.notes.append("approvals were not checked: give the people file to have them checked")
        for digest, data in sorted(self.envelopes.items()):
            self._approval(digest, data, f"data/envelopes/{digest}.yaml.approval" in files)

    def _approval(self, digest: str, data: bytes, has_approval: bool) -> None:
        from ..envelope import loads
        from ..envelope.approval import Approval, Refused
        from ..envelope.approval import verify as verify_approval

        try:
            envelope = loads(data, source=f"{digest[:16]}.yaml", references=False)
        except EdgeMonitorError as error:
            raise VerificationError(f"envelope_digest: {str(error).splitlines()[0]}") from None
        if envelope.digest != digest:
            raise VerificationError(f"envelope_digest: {digest[:16]}….yaml is the envelope {envelope.digest[:16]}…")
        used = self.activated.get(digest)
        if self.trust.people is None:
            return
        if used is None:
            self.verdict.notes.append(
                f"envelope {envelope.id} was not active in these records: its approval was not asked for"
            )
            return
        note = self.packet.read(f"data/envelopes/{digest}.yaml.approval", 1 << 20) if has_approval else None
        found = verify_approval(envelope, note, self.trust.people, used)
        if isinstance(found, Refused):
            codes = [refusal.code for refusal in found.refusals]
            words = "; ".join(refusal.message for refusal in found.refusals)
            late = found.consent is not None and found.consent.time > used
            code = "self_approval" if "self_approval" in codes else "envelope_late" if late else "envelope_unapproved"
            raise VerificationError(f"{code}: {envelope.id}: {words}")
        assert isinstance(found, Approval)
        if found.approved > used:
            raise VerificationError(f"envelope_late: {envelope.id} was approved after it was used")

    def _json(self, name: str) -> dict[str, Any]:
        try:
            document = json.loads(self.packet.read(name))
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise VerificationError(f"derived: {name} is no JSON object")
        return document


def _is_envelope(name: str) -> bool:
    return name.startswith("data/envelopes/") and name.endswith(".yaml") and len(name) == 15 + 64 + 5


def _log_id(origin: str) -> bytes:
    """The log's id in an origin; empty, and so no record's, where it names none in its one form."""
    text = origin.rpartition("/")[2]
    try:
        found = uuid.UUID(text)
    except ValueError:
        return b""
    return found.bytes if str(found) == text else b""


def tapes_of(packet: Path, folder: Path) -> Iterator[Path]:
    """The black boxes of a packet that verified, written into a folder."""
    found = archive.Archive(packet)
    for name in found.names:
        if name.startswith("data/tapes/"):
            target = folder / Path(name).name
            with target.open("wb") as stream:
                for chunk in found.chunks(name):
                    stream.write(chunk)
            yield target
    found.close()
