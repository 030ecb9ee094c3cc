"""The SQLite file as its one writer sees it: schema, append-only rules, durability, and the lock that keeps it one.

WAL with ``synchronous=FULL``: a commit that returned is on the disk. One connection writes and moves the WAL back
(``wal_autocheckpoint=0``): two such connections can corrupt a database before SQLite 3.51.3.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import sqlite_utils

from ..errors import ConfigError

APPLICATION_ID = 0x454D4A31  #: "EMJ1"
FORMAT = "edge-monitor journal v1"
BUSY_MS = 5000  #: how long another connection's lock is waited for
#: About so much is written to the WAL before it is moved back into the file. From then on the WAL is written over in
#: place, which needs one flush of the disk a commit, where a file that grows often needs two.
WAL_BYTES = 2 << 20
_COMMIT_BYTES = 12 << 10  #: pages that a commit touches whatever it holds

#: The rules keep honest hands from slipping; what keeps dishonest ones out is the signed tree.
_RULES = (
    """create trigger records_in_order before insert on records
       when new.seq is not (select coalesce(max(seq), -1) + 1 from records)
       begin select raise(abort, 'records are appended in sequence'); end""",
    """create trigger records_no_update before update on records
       begin select raise(abort, 'records are append-only'); end""",
    """create trigger records_no_delete before delete on records
       begin select raise(abort, 'records are append-only'); end""",
    """create trigger payloads_in_order before insert on payloads
       when new.seq is not (select coalesce(max(seq), -1) + 1 from payloads)
       begin select raise(abort, 'payloads are appended in sequence'); end""",
    """create trigger payloads_erase_only before update on payloads
       when new.seq is not old.seq or new.salt is not null or new.payload is not null
       begin select raise(abort, 'a payload can only be erased (salt and payload set to null)'); end""",
    """create trigger payloads_no_delete before delete on payloads
       begin select raise(abort, 'payloads are erased, never deleted'); end""",
    """create trigger tiles_no_update before update on tiles
       begin select raise(abort, 'tiles are append-only'); end""",
    """create trigger tiles_no_delete before delete on tiles
       begin select raise(abort, 'tiles are append-only'); end""",
    """create trigger checkpoints_in_order before insert on checkpoints
       when new.size <= (select coalesce(max(size), 0) from checkpoints)
       begin select raise(abort, 'checkpoints only grow'); end""",
    """create trigger checkpoints_no_update before update on checkpoints
       begin select raise(abort, 'checkpoints are append-only'); end""",
    """create trigger checkpoints_no_delete before delete on checkpoints
       begin select raise(abort, 'checkpoints are append-only'); end""",
    """create trigger meta_no_update before update on meta
       begin select raise(abort, 'meta is fixed'); end""",
    """create trigger meta_no_delete before delete on meta
       begin select raise(abort, 'meta is fixed'); end""",
)
#: What a journal may hold beside, from when it is needed: receipts are a registry's word, epochs and retention caches.
_RECEIPTS = "create table if not exists receipts (size integer primary key, note text not null)"
_EPOCHS = "create table if not exists epochs (epoch integer primary key, seq integer not null)"
_RETENTION = "create table if not exists retention (id integer primary key check (id = 1), upto integer not null)"


class LockedError(ConfigError):
    """Another process writes this journal."""


@dataclass(frozen=True, slots=True)
class Row:
    """One stored record with its cached leaf hash; ``salt`` and ``payload`` are None once erased."""

    seq: int
    record: bytes
    leaf: bytes
    salt: bytes | None
    payload: bytes | None


class Store:
    """The connection that writes. Methods raise ``sqlite3.Error``; after one of those, nothing more may be written."""

    def __init__(self, path: Path, name: str, log_id: Callable[[], bytes]) -> None:
        """Open ``path``, or make a journal named ``name`` there with a new ``log_id``.

        Raises ``ConfigError`` when another process writes it, or it is no file that can be written as a journal.
        """
        self.path = path
        self._lock = _take_lock(path)
        with ExitStack() as undo:
            undo.callback(os.close, self._lock)
            try:
                connection = self._connection = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None)
                undo.callback(connection.close)
                empty = _is_empty(connection, path)
                connection.execute("pragma journal_mode=wal")
                connection.execute("pragma synchronous=full")
                connection.execute("pragma wal_autocheckpoint=0")
                connection.execute("pragma secure_delete=on")
                if empty:
                    _create(connection, log_id(), name)
                    sync_folder(path)
                self._written = 0
                self._wiping = False
                # After a crash: what the WAL holds is written to the file itself, and synced there, before anything is
                # added.
                self._move_wal_back()
            except (sqlite3.Error, OSError) as error:
                raise ConfigError(f"{path}: cannot be used as a journal ({error}); name another file") from None
            undo.pop_all()

    def append(
        self,
        rows: Sequence[Row],
        tiles: Sequence[tuple[int, int, bytes]],
        size: int,
        note: str,
        epoch: tuple[int, int] | None = None,
    ) -> None:
        """Write rows, the subtree hashes that they completed and the checkpoint over all of it in one transaction.

        ``epoch``: number and sequence of the key epoch that the last row begins.
        """
        connection = self._connection
        connection.execute("begin immediate")
        connection.executemany("insert into records values (?, ?, ?)", [(r.seq, r.record, r.leaf) for r in rows])
        connection.executemany("insert into payloads values (?, ?, ?)", [(r.seq, r.salt, r.payload) for r in rows])
        if tiles:
            connection.executemany("insert into tiles values (?, ?, ?)", tiles)
        connection.execute("insert into checkpoints values (?, ?)", (size, note))
        if epoch is not None:
            connection.execute(_EPOCHS)
            connection.execute("insert into epochs values (?, ?)", epoch)
        connection.execute("commit")
        self._written += _COMMIT_BYTES + sum(len(r.record) + len(r.payload or b"") for r in rows)
        if self._written >= WAL_BYTES:
            self._move_wal_back()

    def receive(self, size: int, note: str) -> None:
        """Keep a registry's receipt; a later one over the same records takes its place."""
        connection = self._connection
        connection.execute("begin immediate")
        connection.execute(_RECEIPTS)
        connection.execute("insert or replace into receipts values (?, ?)", (size, note))
        connection.execute("commit")

    def erase(self, sequences: Sequence[int], upto: int) -> None:
        """Erase these payloads and their salts for good, and remember that ``upto`` has been gone through."""
        connection = self._connection
        connection.execute("begin immediate")
        erasure = "update payloads set salt = null, payload = null where seq = ? and payload is not null"
        connection.executemany(erasure, [(sequence,) for sequence in sequences])
        connection.execute(_RETENTION)
        connection.execute("insert or replace into retention values (1, ?)", (upto,))
        connection.execute("commit")
        self._wiping = self._wiping or bool(sequences)
        self._move_wal_back()

    def used_bytes(self) -> int:
        """Bytes of the file that hold something."""
        pages = [self._connection.execute(f"pragma {what}").fetchone()[0] for what in ("page_count", "freelist_count")]
        (size,) = self._connection.execute("pragma page_size").fetchone()
        return int((pages[0] - pages[1]) * size)

    def close(self) -> None:
        """Give the file and its lock back; a transaction that is still open is undone."""
        self._connection.close()
        os.close(self._lock)

    def _move_wal_back(self) -> None:
        """Never waits for readers: what one of them still needs stays in the WAL until the next time.

        Pages as they were before an erasure lie in the WAL until it is cut: so it is, as soon as nobody reads.
        """
        if self._wiping:
            self._connection.execute("pragma busy_timeout=0")
            ((busy, _, _),) = self._connection.execute("pragma wal_checkpoint(truncate)").fetchall()
            self._connection.execute(f"pragma busy_timeout={BUSY_MS}")
            self._wiping = bool(busy)
        else:
            self._connection.execute("pragma wal_checkpoint(passive)").fetchall()
        self._written = 0


def _take_lock(path: Path) -> int:
    lock = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name a journal in a folder you can write to") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise LockedError(f"{path}: another process writes this journal; stop it, or write another file") from None
    return descriptor


def _is_empty(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether there are no tables yet: a new file, or one that a crash left before its first commit."""
    (tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
    (application,) = connection.execute("pragma application_id").fetchone()
    if tables and application != APPLICATION_ID:
        raise ConfigError(f"{path}: is a database of something else; name another file")
    return not tables


def _create(connection: sqlite3.Connection, log_id: bytes, name: str) -> None:
    """Make the tables and rules, in one transaction."""
    db = sqlite_utils.Database(connection, execute_plugins=False)
    connection.execute("begin immediate")
    db.create_table("meta", {"key": str, "value": str}, pk="key", not_null={"value"})
    db.create_table("records", {"seq": int, "record": bytes, "leaf": bytes}, pk="seq", not_null={"record", "leaf"})
    db.create_table("payloads", {"seq": int, "salt": bytes, "payload": bytes}, pk="seq")
    db.create_table("tiles", {"level": int, "tile": int, "hash": bytes}, pk=("level", "tile"), not_null={"hash"})
    db.create_table("checkpoints", {"size": int, "note": str}, pk="size", not_null={"note"})
    for rule in _RULES:
        connection.execute(rule)
    rows = [("format", FORMAT), ("log_id", log_id.hex()), ("name", name)]
    connection.executemany("insert into meta values (?, ?)", rows)
    connection.execute(f"pragma application_id={APPLICATION_ID}")
    connection.execute("commit")


def sync_folder(path: Path) -> None:
    """Make the name of a new file durable too."""
    descriptor = os.open(path.resolve().parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
