"""The SQLite file: schema, append-only rules, and reading. Only the writer holds a connection that can write.

WAL with ``synchronous=FULL``: a commit that returned is on the disk. One connection writes and moves the WAL back
(``wal_autocheckpoint=0``): two such connections can corrupt a database before SQLite 3.51.3.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlite_utils

from ..errors import DamagedInputError

APPLICATION_ID = 0x454D4A31  #: "EMJ1"
FORMAT = "edge-monitor journal v1"

_RULES = """
create trigger records_no_update before update on records begin select raise(abort, 'records are append-only'); end;
create trigger records_no_delete before delete on records begin select raise(abort, 'records are append-only'); end;
create trigger payloads_no_delete before delete on payloads begin select raise(abort, 'payloads are erased, never deleted'); end;
create trigger payloads_erase_only before update on payloads
  when new.seq is not old.seq or new.salt is not null or new.payload is not null
  begin select raise(abort, 'a payload can only be erased (salt and payload set to null)'); end;
create trigger tiles_no_update before update on tiles begin select raise(abort, 'tiles are append-only'); end;
create trigger tiles_no_delete before delete on tiles begin select raise(abort, 'tiles are append-only'); end;
create trigger checkpoints_no_update before update on checkpoints begin select raise(abort, 'checkpoints are append-only'); end;
create trigger checkpoints_no_delete before delete on checkpoints begin select raise(abort, 'checkpoints are append-only'); end;
create trigger meta_no_update before update on meta begin select raise(abort, 'meta is fixed'); end;
create trigger meta_no_delete before delete on meta begin select raise(abort, 'meta is fixed'); end;
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One stored record with its cached leaf hash; ``salt`` and ``payload`` are None once erased."""

    seq: int
    record: bytes
    leaf: bytes
    salt: bytes | None
    payload: bytes | None


def create(db: sqlite_utils.Database, log_id: bytes, name: str) -> None:
    """Make the tables and rules of an empty database, in one transaction."""
    connection = db.conn
    connection.execute("begin immediate")
    db["meta"].create({"key": str, "value": str}, pk="key")
    db["records"].create({"seq": int, "record": bytes, "leaf": bytes}, pk="seq", not_null={"record", "leaf"})
    db["payloads"].create({"seq": int, "salt": bytes, "payload": bytes}, pk="seq")
    db["tiles"].create({"level": int, "tile": int, "hash": bytes}, pk=("level", "tile"), not_null={"hash"})
    db["checkpoints"].create({"size": int, "note": str}, pk="size", not_null={"note"})
    for statement in _RULES.strip().split("end;\n"):
        connection.execute(statement.removesuffix("end;") + " end" if "begin" in statement else statement)
    rows = [("format", FORMAT), ("log_id", log_id.hex()), ("name", name)]
    connection.executemany("insert into meta values (?, ?)", rows)
    connection.execute(f"pragma application_id={APPLICATION_ID}")
    connection.execute("commit")


def connect_writer(path: Path) -> sqlite_utils.Database:
    """The one connection that writes, with its durability set and checked."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("pragma wal_autocheckpoint=0")
    connection.execute("pragma secure_delete=on")
    return sqlite_utils.Database(connection)


class Reader:
    """Read-only access to a journal file. Everything in it is untrusted; damage raises ``DamagedInputError``."""

    def __init__(self, path: Path) -> None:
        if not Path(path).is_file():
            raise DamagedInputError(f"{path}: no such journal")
        self.path = Path(path)
        try:
            self._db = sqlite_utils.Database(
                sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
            )
            tables = set(self._db.table_names())
            self.meta = dict(self._db.execute("select key, value from meta")) if "meta" in tables else {}
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise DamagedInputError(f"{path}: not a journal, or its SQLite file is damaged ({error})") from None
        if self.meta.get("format") != FORMAT or not {"records", "payloads", "tiles", "checkpoints"} <= tables:
            raise DamagedInputError(f"{path}: not an edge-monitor journal of format v1")
        # One snapshot for everything that is read, while a monitor may be writing.
        self._db.execute("begin")

    def close(self) -> None:
        """Give the file back."""
        self._db.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _query(self, sql: str, *arguments: int) -> Iterator[tuple[object, ...]]:
        try:
            yield from self._db.conn.execute(sql, arguments)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise DamagedInputError(f"{self.path}: the SQLite file is damaged ({error})") from None

    def rows(self, start: int = 0, end: int = 1 << 62) -> Iterator[Row]:
        """Records from ``start`` to before ``end``, in order of sequence. Values of a wrong type come as empty bytes."""
        sql = (
            "select records.seq, record, leaf, salt, payload from records left join payloads on payloads.seq = records.seq "
            "where records.seq >= ? and records.seq < ? order by records.seq"
        )
        for seq, record, leaf, salt, payload in self._query(sql, start, end):
            yield Row(
                seq if isinstance(seq, int) else -1,
                record if isinstance(record, bytes) else b"",
                leaf if isinstance(leaf, bytes) else b"",
                salt if salt is None or isinstance(salt, bytes) else b"",
                payload if payload is None or isinstance(payload, bytes) else b"",
            )

    def tiles(self) -> Iterator[tuple[int, int, bytes]]:
        """(level, tile, hash) of every cached subtree."""
        for level, tile, digest in self._query("select level, tile, hash from tiles order by level, tile"):
            good = isinstance(level, int) and isinstance(tile, int) and isinstance(digest, bytes)
            yield (level, tile, digest) if good else (-1, -1, b"")  # type: ignore[misc]

    def tile(self, level: int, tile: int) -> bytes | None:
        """One cached subtree hash."""
        for (digest,) in self._query("select hash from tiles where level=? and tile=?", level, tile):
            return digest if isinstance(digest, bytes) else None
        return None

    def checkpoints(self) -> Iterator[tuple[int, str]]:
        """(size, signed note) in order of size."""
        for size, note in self._query("select size, note from checkpoints order by size"):
            yield (size if isinstance(size, int) else -1), (note if isinstance(note, str) else "")

    def last_checkpoint(self, at_least: int = 0) -> tuple[int, str] | None:
        """The newest checkpoint, if it covers at least so many records."""
        for size, note in self._query("select size, note from checkpoints order by size desc limit 1"):
            if isinstance(size, int) and isinstance(note, str) and size >= at_least:
                return size, note
        return None

    def size(self) -> int:
        """Number of the last record plus one; 0 for none."""
        for (last,) in self._query("select max(seq) from records"):
            return last + 1 if isinstance(last, int) else 0
        return 0

    def payload_orphans(self) -> list[int]:
        """Sequences of payload rows that have no record, or records without their payload row."""
        sql = (
            "select seq from payloads where seq not in (select seq from records) union "
            "select seq from records where seq not in (select seq from payloads) order by 1 limit 10"
        )
        return [seq for (seq,) in self._query(sql) if isinstance(seq, int)]
