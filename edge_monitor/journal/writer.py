"""The writer: appends entries, and commits records, tree and a signed checkpoint in one transaction.

State machine: ``open`` → (append, commit)* → ``closed``; the first I/O error makes it ``failed`` for good, since what
the disk holds is no longer known (a retried fsync may report success for data that was dropped).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, EdgeMonitorError, UsageError, VerificationError
from . import records
from .keys import SigningKey
from .merkle import CompactRange, leaf_hash
from .notes import Checkpoint, open_note, parse_checkpoint, sign_note
from .records import Digests, Record, Severity, WallStatus
from .store import Reader, connect_writer, create

GROUP = 64  #: records that wait for one another at most
TILE_LEVEL = 8  #: cached subtrees have 2**8, 2**16, … leaves
WAL_PAGES = 1000  #: pages after which the WAL is moved back into the file

#: (ns since 1970, what is known of that clock, its error bound in ns; -1 for unknown numbers)
WallClock = Callable[[], tuple[int, WallStatus, int]]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a caller appends. Times in ns on the stream's clock. ``now``: commit at once, with all before it."""

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

    def __init__(
        self,
        path: Path,
        key: SigningKey,
        *,
        digests: Digests = Digests(),  # noqa: B008  (frozen)
        boot_id: bytes | None = None,
        wall: WallClock = system_wall_clock,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.path = Path(path)
        self.digests = digests
        self.state = "open"
        self._key = key
        self._wall = wall
        self._entropy = entropy
        self._boot_id = boot_id if boot_id is not None else entropy(16)
        if len(self._boot_id) != 16:
            raise UsageError("a boot id has 16 bytes")
        self._pending: list[tuple[int, bytes, bytes, bytes, bytes]] = []
        self._tiles: list[tuple[int, int, bytes]] = []
        self._lock = self._take_lock()
        try:
            self._open(entropy)
        except BaseException:
            os.close(self._lock)
            raise

    @classmethod
    def create_or_open(cls, path: Path, key: SigningKey, **options: Any) -> Journal:
        """Open the journal at ``path``, or make it. Options as of the constructor.

        Raises ``ConfigError`` when another process writes it, it was signed with another key, or the folder can't be
        written; ``VerificationError`` when its end does not match its last checkpoint.
        """
        return cls(path, key, **options)

    def _take_lock(self) -> int:
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror}; name a journal in a folder you can write to") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise ConfigError(f"{self.path}: another process writes this journal; stop it, or write another file") from None
        return descriptor

    def _open(self, entropy: Callable[[int], bytes]) -> None:
        fresh = not self.path.exists() or self.path.stat().st_size == 0
        try:
            self._db = connect_writer(self.path)
            # A crash between making the file and its first commit leaves a database without tables: begin anew.
            if fresh or not self._db.table_names():
                create(self._db, entropy(16), self._key.verifier.name)
                _sync_folder(self.path)
        except sqlite3.Error as error:
            raise ConfigError(f"{self.path}: cannot be used as a journal ({error}); name another file") from None
        with Reader(self.path) as reader:
            self.log_id = _log_id(reader)
            self._origin = origin(reader)
            self._tree = self._recover(reader)
            self.last_end_was_clean, self._last_written = _ending(reader)

    def _recover(self, reader: Reader) -> CompactRange:
        """The tree as the file has it, held against the last checkpoint: the normal way to open, after a crash or not."""
        size = reader.size()
        checkpoint = reader.last_checkpoint()
        if size == 0 and checkpoint is None:
            return CompactRange()
        if checkpoint is None or checkpoint[0] != size:
            raise VerificationError(f"{self.path}: records and checkpoints end at different places; run 'journal verify'")
        text, signers = open_note(checkpoint[1], [self._key.verifier])
        if not signers:
            name = reader.meta.get("name", "?")
            raise ConfigError(f"{self.path}: was signed by another key ({name}); use that one, or write another file")
        tree = CompactRange()
        hashes, start = [], 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                hashes.append(subtree_hash(reader, level, start >> level))
                start += 1 << level
        tree = CompactRange(size, hashes)
        if parse_checkpoint(text).root != tree.root():
            raise VerificationError(f"{self.path}: the records do not match the last checkpoint; run 'journal verify'")
        return tree

    @property
    def size(self) -> int:
        """Records appended, waiting ones included."""
        return self._tree.size

    @property
    def root(self) -> bytes:
        """Root of the tree over all appended records."""
        return self._tree.root()

    @property
    def last_t_effective(self) -> int | None:
        """``t_effective`` of the last record, ns; None for an empty journal. A heartbeat is due 10 minutes after it."""
        return self._last_written

    def append(self, entry: Entry) -> int:
        """Add one entry; answers its sequence. Raises ``UsageError`` for what no record can hold, and then adds nothing."""
        self._require_open()
        payload = records.encode_payload(entry.payload)
        salt = self._entropy(records.SALT_BYTES)
        wall_ns, status, error_ns = self._wall()
        sequence = self._tree.size
        record = records.encode_record(
            Record(
                records.VERSION, self.log_id, sequence, entry.type, int(entry.severity), self._boot_id,
                entry.t_effective, entry.t_decided, wall_ns, int(status), error_ns, _nfc(entry.actor), self.digests,
                entry.causes, tuple(map(_nfc, entry.rules)), _nfc(entry.hazard), _nfc(entry.claim),
                records.commitment(salt, payload), 0,
            )
        )  # fmt: skip
        leaf = leaf_hash(record)
        for level, index, digest in self._tree.append(leaf):
            if level % TILE_LEVEL == 0:
                self._tiles.append((level, index, digest))
        self._pending.append((sequence, record, leaf, salt, payload))
        self._last_written = entry.t_effective
        if entry.now or len(self._pending) >= GROUP:
            self.commit()
        return sequence

    def commit(self) -> None:
        """Make everything appended durable and sign the tree. Raises ``JournalError`` on the first I/O error, for good."""
        self._require_open()
        if not self._pending:
            return
        note = sign_note(Checkpoint(self._origin, self._tree.size, self._tree.root()).text(), self._key)
        connection = self._db.conn
        try:
            connection.execute("begin immediate")
            connection.executemany("insert into records values (?, ?, ?)", [row[:3] for row in self._pending])
            connection.executemany("insert into payloads values (?, ?, ?)", [(r[0], r[3], r[4]) for r in self._pending])
            if self._tiles:
                connection.executemany("insert into tiles values (?, ?, ?)", self._tiles)
            connection.execute("insert into checkpoints values (?, ?)", (self._tree.size, note))
            connection.execute("commit")
        except sqlite3.Error as error:
            # Never retried: after a failed fsync nobody knows which pages the disk holds.
            self.state = "failed"
            raise JournalError(f"{self.path}: cannot be written ({error}); the journal is stopped, check the disk") from None
        self._pending.clear()
        self._tiles.clear()
        self._move_wal_back()

    def _move_wal_back(self) -> None:
        self._commits = getattr(self, "_commits", 0) + 1
        if self._commits % 256:
            return
        try:
            self._db.conn.execute("pragma wal_checkpoint(passive)").fetchall()
        except sqlite3.Error as error:
            self.state = "failed"
            raise JournalError(f"{self.path}: cannot be written ({error}); the journal is stopped, check the disk") from None

    def close(self) -> None:
        """Commit what waits and give the file back. A failed journal is only given back."""
        if self.state == "closed":
            return
        try:
            if self.state == "open":
                self.commit()
        finally:
            self.state = "closed"
            self._db.close()
            os.close(self._lock)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_open(self) -> None:
        if self.state != "open":
            raise JournalError(f"{self.path}: the journal is {self.state}; open it again")


def origin(reader: Reader) -> str:
    """The checkpoint origin of a journal: ``NAME/<log uuid>``."""
    log_id = _log_id(reader).hex()
    uuid = "-".join((log_id[:8], log_id[8:12], log_id[12:16], log_id[16:20], log_id[20:]))
    return f"{reader.meta.get('name', '')}/{uuid}"


def _log_id(reader: Reader) -> bytes:
    try:
        log_id = bytes.fromhex(reader.meta.get("log_id", ""))
    except ValueError:
        log_id = b""
    if len(log_id) != 16:
        raise VerificationError(f"{reader.path}: the journal has no log id; it is damaged")
    return log_id


def subtree_hash(reader: Reader, level: int, index: int) -> bytes:
    """The hash of a complete subtree from the nearest cached level below it."""
    if level >= TILE_LEVEL and level % TILE_LEVEL == 0:
        cached = reader.tile(level, index)
        if cached is None:
            raise VerificationError(f"{reader.path}: a cached hash is missing; run 'journal verify'")
        return cached
    below = level - level % TILE_LEVEL
    span = 1 << (level - below)
    tree = CompactRange()
    if below == 0:
        for row in reader.rows(index * span, (index + 1) * span):
            tree.append(leaf_hash(row.record))
    else:
        for child in range(index * span, (index + 1) * span):
            tree.append(subtree_hash(reader, below, child))
    if tree.size != span:
        raise VerificationError(f"{reader.path}: records are missing; run 'journal verify'")
    return tree.root()


def _ending(reader: Reader) -> tuple[bool, int | None]:
    """Whether the last record is a clean end, and its time."""
    size = reader.size()
    for row in reader.rows(size - 1, size):
        record = records.decode_record(row.record)
        return record.type == "monitor.stopped", record.t_effective
    return True, None


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _sync_folder(path: Path) -> None:
    """Make the new file's name durable too."""
    descriptor = os.open(path.resolve().parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
