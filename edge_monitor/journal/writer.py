"""The writer: appends entries, and commits records, tree and a signed checkpoint in one transaction.

State machine: ``open`` → (append, commit)* → ``closed``. The first I/O error makes it ``failed`` for good, since what
the disk holds is no longer known (a retried fsync may report success for data that was dropped).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, EdgeMonitorError, UsageError, VerificationError
from . import records
from .cosignatures import CosignerKey, open_receipt
from .epochs import EPOCH_NS, ROTATED, Epoch, certify, open_certificate
from .keys import SigningKey, VerifierKey
from .merkle import CompactRange, leaf_hash
from .notes import Checkpoint, open_note, sign_note, split_note
from .reader import TILE_LEVEL, Reader, certificate_of
from .records import Digests, Record, Severity, WallStatus, decode_record, nfc
from .store import Row, Store

GROUP = 64  #: records that wait for one another at most
GROUP_BYTES = 1 << 20  #: and about so many bytes of them: a commit travels to a registry as a whole
HEARTBEAT_NS = 600_000_000_000  #: a run is never silent for longer

#: (ns since 1970, what is known of that clock, its error bound in ns or -1)
WallClock = Callable[[], tuple[int, WallStatus, int]]
#: so many random bytes
Entropy = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a caller appends. Times in ns on the stream's clock; ``causes``: sequences of earlier records.

    ``now``: commit at once, with everything before it.
    """

    type: str
    severity: Severity
    t_effective: int
    t_decided: int
    payload: dict[str, Any] = field(default_factory=dict)
    actor: str = ""
    causes: tuple[int, ...] = ()
    rules: tuple[str, ...] = ()
    hazard: str = ""
    claim: str = ""
    now: bool = False


def system_wall_clock() -> tuple[int, WallStatus, int]:
    """The system's wall clock; whether it is synchronised is not asked here, hence unsynchronised."""
    return time.time_ns(), WallStatus.UNSYNCHRONISED, -1


class JournalError(EdgeMonitorError):
    """The journal can't be written (any more): disk, file, or a caller after a failure."""

    exit_code = 4


class Journal:
    """One open journal file. Not thread-safe: one thread owns it.

    ``append`` answers the sequence that the record will have; it is *acknowledged* once ``commit`` has returned (an
    entry with ``now``, or the 64th waiting one, commits by itself).
    """

    @classmethod
    def create_or_open(
        cls,
        path: Path,
        key: SigningKey,
        *,
        digests: Digests = Digests(),  # noqa: B008  (frozen)
        boot_id: bytes | None = None,
        wall: WallClock = system_wall_clock,
        entropy: Entropy = os.urandom,
        epochs: bool = False,
    ) -> Journal:
        """Open the journal at ``path``, or make it. A crash needs no repair: this is the way to open after one too.

        ``key``: the identity key. ``epochs``: it signs the first commit only, and ``rotate`` is due then and each hour.
        ``boot_id``: 16 bytes, by default random. Raises ``ConfigError`` when another process writes the journal,
        another key signed it, or it can't be written there; ``VerificationError`` when its end is not what was signed.
        """
        path = Path(path)
        boot_id = entropy(16) if boot_id is None else boot_id
        if len(boot_id) != 16:
            raise UsageError("a boot id has 16 bytes")
        store = Store(path, key.verifier.name, lambda: entropy(16))
        try:
            with Reader(path) as reader:
                return cls(store, reader, key, digests, boot_id, wall, entropy, epochs)
        except BaseException:
            store.close()
            raise

    def __init__(
        self,
        store: Store,
        reader: Reader,
        key: SigningKey,
        digests: Digests,
        boot_id: bytes,
        wall: WallClock,
        entropy: Entropy,
        epochs: bool = False,
    ) -> None:
        """Continue what ``reader`` sees in the file of ``store``; see ``create_or_open``."""
        self.state = "open"
        self.path = store.path
        self.log_id = reader.log_id
        self.origin = reader.origin
        #: Whether the last run wrote its end mark, ``monitor.stopped`` (or there was none before).
        self.last_end_was_clean = _ended_cleanly(reader)
        self._store = store
        self._identity = key
        self._key = key  # what signs now: an epoch's key, where there are epochs
        self._epochs = epochs
        self._epoch = 0
        self._last_epoch = max(reader.epochs(), default=0)
        self._epoch_t = 0
        self._pruned = reader.pruned()
        self._digests = digests
        self._boot_id = boot_id
        self._wall = wall
        self._entropy = entropy
        self._tree = _recover(reader, key)
        #: The last checkpoint that was signed (C2SP, without its signatures); empty before the first.
        self.head = Checkpoint(self.origin, self._tree.size, self._tree.root()).text() if self._tree.size else ""
        self._pending: list[Row] = []
        self._pending_bytes = 0
        self._tiles: list[tuple[int, int, bytes]] = []
        self._last_t: int | None = None

    @property
    def size(self) -> int:
        """Records appended, waiting ones included."""
        return self._tree.size

    @property
    def root(self) -> bytes:
        """Root of the tree over all appended records."""
        return self._tree.root()

    @property
    def pending(self) -> int:
        """Records that are not durable yet."""
        return len(self._pending)

    def set_digests(self, digests: Digests) -> None:
        """What is active from the next record on."""
        self._digests = digests

    def silence(self, now: int) -> int:
        """Ns from the ``t_decided`` of this run's last record to ``now``; a heartbeat is due at ``HEARTBEAT_NS``."""
        return now - self._last_t if self._last_t is not None else 0

    def append(self, entry: Entry) -> int:
        """Add one entry; answers its sequence.

        Raises ``UsageError`` for what no record can hold, and then adds nothing.
        """
        self._require_open()
        payload = records.encode_payload(entry.payload)
        salt = self._entropy(records.SALT_BYTES)
        wall_ns, wall_status, wall_error_ns = self._wall()
        sequence = self._tree.size
        record = records.encode_record(
            Record(
                version=records.VERSION,
                log_id=self.log_id,
                sequence=sequence,
                type=entry.type,
                severity=entry.severity,
                boot_id=self._boot_id,
                t_effective=entry.t_effective,
                t_decided=entry.t_decided,
                wall_ns=wall_ns,
                wall_status=wall_status,
                wall_error_ns=wall_error_ns,
                actor=nfc(entry.actor),
                digests=self._digests,
                causes=entry.causes,
                rules=tuple(map(nfc, entry.rules)),
                hazard=nfc(entry.hazard),
                claim=nfc(entry.claim),
                commitment=records.commitment(salt, payload),
                key_epoch=self._epoch,
            )
        )
        leaf = leaf_hash(record)
        try:
            for level, index, digest in self._tree.append(leaf):
                if level % TILE_LEVEL == 0:
                    self._tiles.append((level, index, digest))
            self._pending.append(Row(sequence, record, leaf, salt, payload))
            self._pending_bytes += len(record) + len(payload)
        except BaseException:
            # An interrupt has left the tree half grown: nothing may be signed over it.
            self.state = "failed"
            raise
        self._last_t = entry.t_decided
        if entry.now or len(self._pending) >= GROUP or self._pending_bytes >= GROUP_BYTES:
            self.commit()
        return sequence

    def rotation_due(self, now: int) -> bool:
        """Whether a new key should sign from here on: after the first commit of a boot, and each hour (``now``: ns)."""
        return self._epochs and self._tree.size > 0 and (self._epoch == 0 or now - self._epoch_t >= EPOCH_NS)

    def rotate(self, now: int) -> None:
        """Begin a key epoch at ``now`` (ns, the stream's clock): a new key in memory, certified by the identity key.

        The commit of the certificate is signed by the key before it, which is forgotten then. Raises as ``commit`` does.
        """
        self.commit()
        seed = self._entropy(32)
        key = SigningKey(self._identity.verifier.name, seed)
        epoch = Epoch(self.origin, self._last_epoch + 1, key.verifier, self._tree.size)
        payload = {
            "subject": "signing key",
            "epoch": epoch.number,
            "key": key.verifier.text(),
            "certificate": certify(epoch, self._identity),
        }
        self.append(Entry(ROTATED, Severity.NEGLIGIBLE, now, now, payload))
        self._commit((epoch.number, epoch.sequence))
        self._key, self._epoch, self._last_epoch, self._epoch_t = key, epoch.number, epoch.number, now

    def receive(self, note: str, registry: CosignerKey) -> int:
        """Keep a registry's receipt; answers how many records it covers.

        Raises ``VerificationError`` unless ``registry`` cosigned one of this journal's own checkpoints, ``JournalError`` on
        an I/O error.
        """
        self._require_open()
        receipt = open_receipt(note, registry)
        size = receipt.checkpoint.size
        with Reader(self.path) as reader:
            own = reader.checkpoint(size)
        if not own or split_note(own)[0] != receipt.checkpoint.text():
            raise VerificationError(f"{self.path}: the receipt over {size} records is not of this journal")
        self._carefully(lambda: self._store.receive(size, note))
        return size

    def prune(self, before: int, keep: Callable[[str], bool], limit: int = 1024) -> int:
        """Erase payloads of records below ``before``, where no receipt over them is missing, oldest first.

        ``keep``: record types whose payloads stay, beside the certificates of keys. At most ``limit`` records are gone
        through; answers up to where. Proofs and records stay valid. Raises ``JournalError`` on an I/O error.
        """
        self._require_open()
        with Reader(self.path) as reader:
            receipt = reader.last_receipt()
            end = min(before, receipt[0] if receipt else 0, self._pruned + limit)
            rows = reader.rows(self._pruned, end)
            types = ((row.seq, decode_record(row.record).type) for row in rows if row.payload is not None)
            erased = [sequence for sequence, kind in types if kind != ROTATED and not keep(kind)]
        if end > self._pruned:
            self._carefully(lambda: self._store.erase(erased, end))
            self._pruned = end
        return self._pruned

    def used_bytes(self) -> int:
        """Bytes of the file that hold something; erased payloads no longer count."""
        return self._store.used_bytes()

    def commit(self) -> None:
        """Make everything appended durable and sign the tree.

        Raises ``JournalError`` on the first I/O error, for good.
        """
        self._commit(None)

    def _commit(self, epoch: tuple[int, int] | None) -> None:
        self._require_open()
        if not self._pending:
            return
        head = Checkpoint(self.origin, self._tree.size, self._tree.root()).text()
        note = sign_note(head, self._key)
        self._carefully(lambda: self._store.append(self._pending, self._tiles, self._tree.size, note, epoch))
        self.head = head
        self._pending.clear()
        self._pending_bytes = 0
        self._tiles.clear()

    def _carefully(self, write: Callable[[], None]) -> None:
        try:
            write()
        except sqlite3.Error as error:
            # Never retried: after a failed fsync nobody knows which pages the disk holds.
            self.state = "failed"
            raise JournalError(
                f"{self.path}: cannot be written ({error}); the journal is stopped, check the disk"
            ) from None
        except BaseException:
            # An interrupt: whether the commit took place will be seen when the file is opened again.
            self.state = "failed"
            raise

    def close(self) -> None:
        """Commit what waits and give the file back. A failed journal is only given back."""
        if self.state == "closed":
            return
        try:
            if self.state == "open":
                self.commit()
        finally:
            self.state = "closed"
            self._store.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_open(self) -> None:
        if self.state != "open":
            raise JournalError(f"{self.path}: the journal is {self.state}; open it again")


def _recover(reader: Reader, key: SigningKey) -> CompactRange:
    """The tree as the file has it, held against the last checkpoint."""
    size, checkpoint = reader.size(), reader.last_checkpoint()
    if reader.name != key.verifier.name:
        raise ConfigError(f"{reader.path}: is the journal of key '{reader.name}'; use that one, or write another file")
    if checkpoint is None and size == 0:
        return CompactRange()
    if checkpoint is None or checkpoint[0] != size:
        raise VerificationError(f"{reader.path}: records and checkpoints end at different places; run 'journal verify'")
    text, signers = open_note(checkpoint[1], [_signer(reader, size, key)])
    if not signers:
        raise ConfigError(f"{reader.path}: another key of the same name signed it; use that one, or write another file")
    tree = reader.tree(size)
    if text != Checkpoint(reader.origin, size, tree.root()).text():
        raise VerificationError(f"{reader.path}: the records do not match the last checkpoint; run 'journal verify'")
    return tree


def _signer(reader: Reader, size: int, key: SigningKey) -> VerifierKey:
    """Who must have signed the checkpoint over ``size`` records: the identity key, or one that it certified."""
    for row in reader.rows(size - 1, size):
        number = decode_record(row.record).key_epoch
        if number == 0:
            break
        epoch, signers = open_certificate(certificate_of(reader, number), [key.verifier])
        if signers and (epoch.origin, epoch.number) == (reader.origin, number):
            return epoch.key
    return key.verifier


def _ended_cleanly(reader: Reader) -> bool:
    size = reader.size()
    for row in reader.rows(size - 1, size):
        return decode_record(row.record).type == "monitor.stopped"
    return True
