"""Verification from the file and public keys that come from outside: nothing in the file is believed.

Separate verdicts: *integrity* (are these the bytes that were signed?), *authorship* (by whom?), *completeness* (is
anything missing?). What can't be proven locally is said: a cut tail leaves a shorter journal that is whole in itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import DamagedInputError, VerificationError
from .cosignatures import CosignerKey, open_receipt
from .epochs import KeyChain
from .keys import VerifierKey
from .merkle import CompactRange, leaf_hash
from .notes import Checkpoint, open_note, parse_checkpoint, split_note
from .reader import TILE_LEVEL, Reader
from .records import SALT_BYTES, Record, commitment, decode_payload, decode_record
from .report import Finding, Report, Run
from .store import Row
from .writer import HEARTBEAT_NS

MAX_LISTED = 100  #: findings, silences and erased sequences that a report lists


def verify(path: Path, keys: Sequence[VerifierKey], registries: Sequence[CosignerKey] = ()) -> Report:
    """Check a whole journal against ``keys``; damage that ends the reading early is a finding too.

    ``registries``: whose receipts count; each must be over a checkpoint of this journal.
    Raises ``DamagedInputError`` when the file can't be opened as a journal at all.
    """
    with Reader(path) as reader:
        return _Verification(reader, keys, registries).run()


class _Verification:
    """One pass over the records; each checkpoint is held against the tree at the record where it was signed."""

    def __init__(self, reader: Reader, keys: Sequence[VerifierKey], registries: Sequence[CosignerKey]) -> None:
        self.reader = reader
        self.keys = keys
        self.registries = registries
        self.report = Report(reader.path, keys_given=bool(keys))
        self.log_id = b""
        self.expected = 0  #: sequence of the next record
        self.signed = 0  #: records under the newest checkpoint so far
        #: Tree of the stored records; None once it can't lead to a signed root any more.
        self.tree: CompactRange | None = CompactRange()
        #: The same with cached leaf hashes, since the first that differs: it tells an altered record from an altered
        #: cache.
        self.cached: CompactRange | None = None
        self.differing: list[int] = []
        self.tiles: dict[tuple[int, int], bytes] = {}
        self.cached_tiles: dict[tuple[int, int], bytes] = {}
        self.chain = KeyChain("", keys)
        self.chained = True  #: nothing was wrong with an epoch so far
        self.epoch = 0  #: key epoch of the record before
        self.shift = 0  #: own sequence minus place, of the row before
        self.last_t: int | None = None

    def find(self, sequence: int, kind: str, what: str, last: int | None = None) -> None:
        if len(self.report.findings) < MAX_LISTED:
            self.report.findings.append(Finding(sequence, sequence if last is None else last, kind, what))

    def run(self) -> Report:
        report = self.report
        try:
            report.origin = self.reader.origin
            self.log_id = self.reader.log_id
            self.chain.origin = report.origin
        except VerificationError as error:
            self.find(-1, "file", str(error))
        try:
            self._walk()
            self._check_tiles()
            if self.chained and self.reader.epochs() != self.chain.began:
                self.find(-1, "cache", "the cached places of key epochs are not those of their certificates")
            self._check_receipts()
            for sequence in self.reader.unmatched_payloads(MAX_LISTED):
                self.find(sequence, "payload", "the record or its payload row is missing")
        except DamagedInputError as error:
            self.find(self.expected, "file", f"{error}: what follows cannot be read")
        if report.keys_given and not report.signers and not report.findings:
            self.find(-1, "signature", "no checkpoint is signed by a key that was given")
        # What speaks of one record comes before what speaks of a range that ends there.
        report.findings.sort(key=lambda finding: (finding.last, -finding.sequence))
        return report

    def _walk(self) -> None:
        checkpoints = self.reader.checkpoints()
        pending = next(checkpoints, None)
        for row in self.reader.rows():
            while pending is not None and pending[0] <= self.expected:
                self._checkpoint(*pending)
                pending = next(checkpoints, None)
            self._record(row)
        while pending is not None and pending[0] <= self.expected:
            self._checkpoint(*pending)
            pending = next(checkpoints, None)
        self._settle(None)
        if pending is not None:
            what = f"records from {self.expected} on are missing: a checkpoint covers {pending[0]}"
            self.find(self.expected, "missing", what)
            self.tree = None
            for checkpoint in (pending, *checkpoints):
                self._checkpoint(*checkpoint)
        if self.signed < self.expected:
            what = f"records from {self.signed} on are not under any checkpoint"
            self.find(self.signed, "root", what, self.expected - 1)

    def _record(self, row: Row) -> None:
        self.report.records += 1
        if row.seq != self.expected:
            until = f"s {self.expected} to {row.seq - 1} are" if row.seq > self.expected + 1 else f" {self.expected} is"
            self.find(
                self.expected,
                "missing",
                f"record{until} missing" if row.seq > self.expected else "rows are out of order",
            )
            self.tree = self.cached = None
            self.expected = max(row.seq, self.expected)
        self.expected += 1
        self._leaf(row)
        try:
            record = decode_record(row.record)
        except VerificationError as error:
            self.find(row.seq, "record", str(error))
            return
        self._order(row.seq, record.sequence)
        if record.log_id != self.log_id:
            self.find(row.seq, "record", "record belongs to another log")
        self._payload(row, record)
        self._epoch(row, record)
        self._completeness(record)

    def _epoch(self, row: Row, record: Record) -> None:
        self.epoch = record.key_epoch
        wrong = self.chain.follow(record, row.payload)
        if wrong:
            self.find(row.seq, "signature" if self.keys else "record", wrong)
            self.chained = False

    def _leaf(self, row: Row) -> None:
        leaf = leaf_hash(row.record)
        if leaf != row.leaf:
            self.differing.append(row.seq)
            if self.tree is not None and self.cached is None:
                self.cached = CompactRange(self.tree.size, self.tree.hashes)
        if self.tree is not None:
            self.tiles |= _tiles(self.tree.append(leaf))
        if self.cached is not None:
            self.cached_tiles |= _tiles(self.cached.append(row.leaf))
        if len(self.differing) >= MAX_LISTED:
            self._settle(None)

    def _settle(self, root: bytes | None) -> None:
        """Say which of record and cached hash was altered, where they differ, now that the signed root is known."""
        kind, what = "record", "record and cached hash differ: one of them was altered"
        if root is not None and self.tree is not None and self.tree.root() == root:
            kind, what = "cache", "cached hash was altered; the record is what was signed"
        elif root is not None and self.cached is not None and self.cached.root() == root:
            kind, what = "record", "record was altered: it is not what was signed"
        for sequence in self.differing:
            self.find(sequence, kind, what)
        self.differing.clear()
        self.cached = None
        self.cached_tiles = {}

    def _checkpoint(self, size: int, note: str) -> None:
        """Check one checkpoint against the tree as it stands."""
        first, last = self.signed, max(size - 1, 0)
        self.signed = max(size, self.signed)
        try:
            text, signers = open_note(note, self.chain.keys(self.epoch))
            checkpoint = parse_checkpoint(text)
        except VerificationError as error:
            self.find(last, "checkpoint", f"checkpoint over {size} records: {error}")
            return
        self.report.checkpoints += 1
        self._signers(last, size, signers)
        if checkpoint.size != size:
            self.find(last, "checkpoint", f"checkpoint over {checkpoint.size} records is filed under {size}")
        elif checkpoint.origin != self.report.origin:
            self.find(last, "checkpoint", f"checkpoint belongs to another log ({checkpoint.origin})")
        elif self.tree is not None:
            self._root(self.tree, checkpoint, first)

    def _signers(self, last: int, size: int, signers: list[VerifierKey]) -> None:
        if self.keys and not signers:
            self.find(last, "signature", f"checkpoint over {size} records is not signed by a key that was given")
        for key in signers:
            if key.name != self.reader.name:
                self.find(
                    last, "signature", f"checkpoint over {size} records is signed by {key.name}, not {self.reader.name}"
                )
            if key.name not in self.report.signers:
                self.report.signers.append(key.name)

    def _root(self, tree: CompactRange, checkpoint: Checkpoint, first: int) -> None:
        root, cached, cached_tiles = checkpoint.root, self.cached, self.cached_tiles
        self._settle(root)
        if tree.root() == root:
            return
        if cached is not None and cached.root() == root:
            # Go on from what was signed, so that one altered record is one finding.
            self.tree = cached
            self.tiles |= cached_tiles
            return
        what = f"records {first} to {checkpoint.size - 1} do not lead to the root that was signed over them"
        self.find(first, "root", what, checkpoint.size - 1)
        self.tree = None

    def _order(self, place: int, own: int) -> None:
        shift = own - place
        if shift not in (0, self.shift):
            if shift == self.shift - 1:
                what = f"rows {place - 1} and {place} both are record {own}: one was inserted"
                self.find(place - 1, "order", what, place)
            else:
                self.find(place, "order", f"row {place} holds record {own}: rows were exchanged, inserted or moved")
        self.shift = shift

    def _payload(self, row: Row, record: Record) -> None:
        report = self.report
        if row.salt is None and row.payload is None:
            report.erased_payloads += 1
            if len(report.erased) < MAX_LISTED:
                report.erased.append(row.seq)
            return
        salt, payload = row.salt or b"", row.payload or b""
        if len(salt) != SALT_BYTES or commitment(salt, payload) != record.commitment:
            self.find(
                row.seq, "payload", "payload and salt are not what the record commits to: one of them was altered"
            )
            return
        try:
            decode_payload(payload)
        except VerificationError as error:
            self.find(row.seq, "payload", str(error))

    def _completeness(self, record: Record) -> None:
        report, sequence = self.report, record.sequence
        report.events[record.type] = report.events.get(record.type, 0) + 1
        report.t_first = record.t_effective if report.t_first is None else min(report.t_first, record.t_effective)
        report.t_last = record.t_decided if report.t_last is None else max(report.t_last, record.t_decided)
        begins = record.type == "monitor.started"
        run = report.runs[-1] if report.runs else None
        if run is None or begins or run.ended or record.boot_id != run.boot_id:
            run = Run(record.boot_id, sequence, sequence, begins, False)
            report.runs.append(run)
        elif (
            self.last_t is not None
            and record.t_decided - self.last_t > HEARTBEAT_NS
            and len(report.silences) < MAX_LISTED
        ):
            report.silences.append((sequence, record.t_decided - self.last_t))
        run.last = sequence
        run.ended = record.type == "monitor.stopped"
        self.last_t = record.t_decided

    def _check_receipts(self) -> None:
        """Each receipt of a registry that was given is over a checkpoint of this journal."""
        if not self.registries:
            return
        self.report.receipted = 0
        for size, note in self.reader.receipts():
            for registry in self.registries:
                try:
                    receipt = open_receipt(note, registry)
                except VerificationError as error:
                    if registry is self.registries[-1] and size > self.report.receipted:
                        self.find(size - 1, "receipt", f"receipt over {size} records: {error}")
                    continue
                own = self.reader.checkpoint(receipt.checkpoint.size)
                if receipt.checkpoint.size != size or not own or split_note(own)[0] != receipt.checkpoint.text():
                    self.find(
                        size - 1, "receipt", f"receipt over {size} records is not over a checkpoint of this journal"
                    )
                else:
                    self.report.receipted = max(size, self.report.receipted)
                break

    def _check_tiles(self) -> None:
        found = set()
        for level, tile, digest in self.reader.tiles():
            if level < 1 or tile < 0 or level > 63:
                self.find(-1, "cache", "a cached subtree hash is filed under an impossible place")
                continue
            found.add((level, tile))
            known = self.tiles.get((level, tile))
            if known is not None and known != digest:
                self.find(tile << level, "cache", f"cached hash of subtree {tile} of level {level} was altered")
            elif known is None and self.tree is not None:
                self.find(
                    tile << level, "cache", f"cached hash of subtree {tile} of level {level} does not belong there"
                )
        for level, tile in sorted(self.tiles.keys() - found):
            self.find(tile << level, "cache", f"cached hash of subtree {tile} of level {level} is missing")


def _tiles(completed: list[tuple[int, int, bytes]]) -> dict[tuple[int, int], bytes]:
    """Those of the subtrees that a leaf completed whose hashes are stored."""
    return {(level, index): digest for level, index, digest in completed if level % TILE_LEVEL == 0}
