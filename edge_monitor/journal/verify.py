"""Verification from the file and public keys that come from outside: nothing in the file is believed.

Separate verdicts: *integrity* (are these the bytes that were signed?), *authorship* (by whom?), *completeness* (is anything
missing?). What can't be proven locally is said: a cut tail leaves a shorter journal that is whole in itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import VerificationError
from .keys import VerifierKey
from .merkle import CompactRange, leaf_hash
from .notes import open_note, parse_checkpoint
from .records import Record, commitment, decode_payload, decode_record
from .store import Reader, Row
from .writer import TILE_LEVEL, origin

SILENCE_NS = 600_000_000_000  #: a heartbeat is due at least this often within a run
MAX_FINDINGS = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold: at which record (-1: none in particular), and what."""

    sequence: int
    what: str


@dataclass(frozen=True, slots=True)
class Run:
    """Records between a begin mark and the next: sequences, times (ns), and whether it ended with its mark."""

    first: int
    last: int
    t_first: int
    t_last: int
    begun: bool
    ended: bool


@dataclass(slots=True)
class Report:
    """What verification found. ``findings`` empty means that integrity holds."""

    path: Path
    origin: str = ""
    records: int = 0
    erased_payloads: int = 0
    t_first: int | None = None
    t_last: int | None = None
    checkpoints: int = 0
    signers: list[str] = field(default_factory=list)
    keys_given: int = 0
    unsigned: int = 0  #: checkpoints that none of the given keys signed
    findings: list[Finding] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    silences: list[tuple[int, int]] = field(default_factory=list)  #: (sequence after it, ns)
    events: dict[str, int] = field(default_factory=dict)

    @property
    def integrity(self) -> str:
        """``verified`` or ``FAILED``."""
        return "FAILED" if self.findings else "verified"

    @property
    def authorship(self) -> str:
        """``verified``, ``FAILED``, or ``not checked`` where no key was given."""
        if not self.keys_given:
            return "not checked"
        return "FAILED" if self.unsigned or not self.signers else "verified"

    @property
    def ok(self) -> bool:
        """Whether nothing that was checked failed."""
        return self.integrity == "verified" and self.authorship != "FAILED"

    def document(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "journal": str(self.path),
            "origin": self.origin,
            "verified": self.ok,
            "integrity": self.integrity,
            "authorship": self.authorship,
            "signers": self.signers,
            "records": self.records,
            "checkpoints": self.checkpoints,
            "erased_payloads": self.erased_payloads,
            "t_first_ns": self.t_first,
            "t_last_ns": self.t_last,
            "events": dict(sorted(self.events.items())),
            "completeness": {
                "gapless": not any("missing" in f.what for f in self.findings),
                "tail": "not provable locally",
                "receipted_up_to": None,
                "runs": [
                    {"first": r.first, "last": r.last, "begin_mark": r.begun, "clean_end": r.ended} for r in self.runs
                ],
                "silences": [{"before_sequence": seq, "seconds": ns / 1e9} for seq, ns in self.silences],
            },
            "findings": [{"sequence": f.sequence, "what": f.what} for f in self.findings],
        }


def verify(path: Path, keys: list[VerifierKey]) -> Report:
    """Check a whole journal against ``keys``. Raises ``DamagedInputError`` when the file can't be read as a journal."""
    with Reader(path) as reader:
        return _Verification(reader, keys).run()


class _Verification:
    def __init__(self, reader: Reader, keys: list[VerifierKey]) -> None:
        self.reader = reader
        self.keys = keys
        self.report = Report(reader.path, keys_given=len(keys))
        self.tree = CompactRange()
        self.log_id = b""
        self.tiles: dict[tuple[int, int], bytes] = {}
        self.last_t: int | None = None

    def find(self, sequence: int, what: str) -> None:
        if len(self.report.findings) < MAX_FINDINGS:
            self.report.findings.append(Finding(sequence, what))

    def run(self) -> Report:
        report = self.report
        try:
            report.origin = origin(self.reader)
            self.log_id = bytes.fromhex(self.reader.meta["log_id"])
        except VerificationError as error:
            self.find(-1, str(error))
        checkpoints = self.reader.checkpoints()
        pending = next(checkpoints, None)
        signed = 0
        for row in self.reader.rows():
            self._record(row)
            while pending is not None and pending[0] <= self.tree.size:
                signed = self._checkpoint(*pending, signed)
                pending = next(checkpoints, None)
        while pending is not None:
            self.find(self.tree.size, f"records from {self.tree.size} on are missing: a checkpoint covers {pending[0]}")
            pending = next(checkpoints, None)
        if signed < self.tree.size:
            self.find(signed, f"records from {signed} on are not covered by any checkpoint")
        self._check_tiles()
        for sequence in self.reader.payload_orphans():
            self.find(sequence, "record and payload rows don't match: one is missing")
        report.records = self.tree.size
        return report

    def _record(self, row: Row) -> None:
        expected = self.tree.size
        if row.seq != expected:
            missing = f"record {expected} is missing" if row.seq == expected + 1 else f"records {expected} to {row.seq - 1} are missing"
            self.find(expected, missing)
            # go on as if they were there, so that one loss is one finding
            while self.tree.size < row.seq and row.seq - self.tree.size < 1 << 20:
                self._append(bytes(32))
        leaf = leaf_hash(row.record)
        if leaf != row.leaf:
            self.find(row.seq, "record does not match its cached hash: one of them was altered")
        self._append(leaf)
        try:
            record = decode_record(row.record)
        except VerificationError as error:
            self.find(row.seq, str(error))
            return
        if record.sequence != row.seq:
            self.find(row.seq, f"this record's own sequence is {record.sequence}: records were exchanged or inserted")
        if record.log_id != self.log_id:
            self.find(row.seq, "record belongs to another log")
        self._payload(row, record)
        self._times(record)

    def _append(self, leaf: bytes) -> None:
        for level, index, digest in self.tree.append(leaf):
            if level % TILE_LEVEL == 0:
                self.tiles[level, index] = digest

    def _payload(self, row: Row, record: Record) -> None:
        if row.salt is None and row.payload is None:
            self.report.erased_payloads += 1
            return
        if row.salt is None or row.payload is None or commitment(row.salt, row.payload) != record.commitment:
            self.find(row.seq, "payload or salt does not match the record's commitment")
            return
        try:
            decode_payload(row.payload)
        except VerificationError as error:
            self.find(row.seq, str(error))

    def _times(self, record: Record) -> None:
        report, sequence, t = self.report, record.sequence, record.t_effective
        report.events[record.type] = report.events.get(record.type, 0) + 1
        report.t_first = t if report.t_first is None else min(report.t_first, t)
        report.t_last = t if report.t_last is None else max(report.t_last, t)
        begins = record.type == "monitor.started"
        last = report.runs[-1] if report.runs else None
        if last is None or begins or last.ended:
            report.runs.append(Run(sequence, sequence, t, t, begins, record.type == "monitor.stopped"))
            return
        if t - last.t_last > SILENCE_NS:
            report.silences.append((sequence, t - last.t_last))
        report.runs[-1] = Run(last.first, sequence, last.t_first, t, last.begun, record.type == "monitor.stopped")

    def _checkpoint(self, size: int, note: str, signed: int) -> int:
        """Check one checkpoint against the tree as it stands; answers how many records are covered now."""
        last = max(size - 1, 0)
        try:
            text, signers = open_note(note, self.keys)
            checkpoint = parse_checkpoint(text)
        except VerificationError as error:
            self.find(last, f"checkpoint over {size} records: {error}")
            return max(signed, size)
        self.report.checkpoints += 1
        if not signers:
            self.report.unsigned += 1
        for key in signers:
            if key.name not in self.report.signers:
                self.report.signers.append(key.name)
        if checkpoint.size != size or size != self.tree.size:
            self.find(last, f"checkpoint says {checkpoint.size} records and is filed under {size}")
        elif checkpoint.origin != self.report.origin:
            self.find(last, f"checkpoint belongs to another log ({checkpoint.origin})")
        elif checkpoint.root != self.tree.root():
            self.find(signed, f"records {signed} to {size - 1} don't lead to the root that was signed for {size} records")
        return max(signed, size)

    def _check_tiles(self) -> None:
        found = {}
        for level, tile, digest in self.reader.tiles():
            found[level, tile] = digest
            if self.tiles.get((level, tile)) != digest:
                self.find(max(tile, 0) << max(level, 0), f"cached hash of level {level}, number {tile}, is wrong")
        for level, tile in self.tiles.keys() - found.keys():
            self.find(tile << level, f"cached hash of level {level}, number {tile}, is missing")
