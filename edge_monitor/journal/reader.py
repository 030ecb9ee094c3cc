"""The SQLite file as everyone but its writer sees it: read-only, one snapshot, and nothing in it is believed."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import sqlite_utils

from ..errors import DamagedInputError, VerificationError
from .epochs import certificate_in
from .merkle import CompactRange, leaf_hash
from .records import MAX_PAYLOAD, MAX_RECORD, SALT_BYTES
from .store import FORMAT, Row

TILE_LEVEL = 8  #: cached subtrees have 2**8, 2**16, … leaves
_TABLES = {"meta", "records", "payloads", "tiles", "checkpoints"}
_MAX_NOTE = 1 << 16
_FEW = 64  #: rows that are fetched at once


class Reader:
    """Read-only access to a journal file, while a monitor may be writing it. Damage raises ``DamagedInputError``."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DamagedInputError(f"{path}: no such journal")
        try:
            self._db = self._connect()
            names = set(self._db.table_names())
            self.meta: dict[str, str] = {}
            if "meta" in names:
                self.meta = {
                    str(key): str(value) for key, value in self._db.execute("select key, value from meta limit 16")
                }
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise DamagedInputError(f"{path}: not a journal, or its SQLite file is damaged ({error})") from None
        self._beside = names & {"receipts", "epochs", "retention"}
        if self.meta.get("format") != FORMAT or not names >= _TABLES:
            self.close()
            raise DamagedInputError(f"{path}: not an edge-monitor journal of format v1")

    def _connect(self) -> sqlite_utils.Database:
        """One snapshot for everything that is read. A journal on a read-only medium has no WAL, and can get none."""
        address = f"{self.path.resolve().as_uri()}?mode=ro"
        wal = self.path.with_name(self.path.name + "-wal")
        try:
            return self._begin(address)
        except sqlite3.OperationalError:
            if wal.exists():
                raise
            return self._begin(address + "&immutable=1")

    @staticmethod
    def _begin(address: str) -> sqlite_utils.Database:
        connection = sqlite3.connect(address, uri=True, isolation_level=None)
        try:
            connection.execute("pragma trusted_schema=off")
            connection.execute("pragma cell_size_check=on")
            connection.execute("begin")
            connection.execute("select count(*) from sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
        return sqlite_utils.Database(connection, recursive_triggers=False, execute_plugins=False)

    def close(self) -> None:
        """Give the file back."""
        self._db.conn.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def log_id(self) -> bytes:
        """The log's 16 bytes. Raises ``VerificationError`` where the file has none."""
        text = self.meta.get("log_id", "")
        try:
            log_id = bytes.fromhex(text)
        except ValueError:
            log_id = b""
        if len(log_id) != 16 or log_id.hex() != text:
            raise VerificationError(f"{self.path}: the journal has no log id; it is damaged")
        return log_id

    @property
    def name(self) -> str:
        """Whose journal this says it is: the name of the key that signs it."""
        return self.meta.get("name", "")

    @property
    def origin(self) -> str:
        """The checkpoint origin: ``NAME/<log uuid>``."""
        return f"{self.name}/{uuid.UUID(bytes=self.log_id)}"

    def rows(self, start: int = 0, end: int = 1 << 62, holding: Sequence[bytes] = ()) -> Iterator[Row]:
        """Records from ``start`` to before ``end``, in order of sequence; with ``holding`` only those in whose bytes one of
        these stands (a tenth of the time that reading them all takes).

        A value of the wrong type, or longer than the format allows, comes as empty bytes: no such value verifies.
        """
        sql = (
            f"select records.seq, case when length(record) <= {MAX_RECORD} then record end, "
            f"case when length(leaf) <= 32 then leaf end, "
            f"case when length(salt) > {SALT_BYTES} then x'' else salt end, "
            f"case when length(payload) > {MAX_PAYLOAD} then x'' else payload end "
            "from records left join payloads on payloads.seq = records.seq "
            "where records.seq >= ? and records.seq < ?"
            + (f" and ({' or '.join(['instr(record, ?)'] * len(holding))})" if holding else "")
            + " order by records.seq"
        )
        for seq, record, leaf, salt, payload in self._query(sql, start, end, *holding):
            yield Row(
                seq if isinstance(seq, int) else -1,
                record if isinstance(record, bytes) else b"",
                leaf if isinstance(leaf, bytes) else b"",
                salt if salt is None or isinstance(salt, bytes) else b"",
                payload if payload is None or isinstance(payload, bytes) else b"",
            )

    def stored(self, start: int, end: int) -> Iterator[list[tuple[bytes, bytes | None, bytes | None]]]:
        """(record, salt, payload) of the records from ``start`` to before ``end``, in lists of a few, for who takes many of them.

        As ``rows``: what is none of the format comes as empty bytes. Ends before a record that is missing.
        """
        record = f"case when typeof(record) = 'blob' and length(record) <= {MAX_RECORD} then record else x'' end"
        salt, payload = (
            f"case when {name} is null or typeof({name}) = 'blob' and length({name}) <= {most} then {name} else x'' end"
            for name, most in (("salt", SALT_BYTES), ("payload", MAX_PAYLOAD))
        )
        sql = (
            f"select records.seq, {record}, {salt}, {payload} from records left join payloads on payloads.seq = records.seq "
            "where records.seq >= ? and records.seq < ? order by records.seq"
        )
        try:
            cursor = self._db.conn.execute(sql, (start, end))
            while found := cursor.fetchmany(_FEW):
                if found[-1][0] != start + len(found) - 1:
                    found = [row for place, row in enumerate(found, start) if row[0] == place]
                yield [row[1:] for row in found]
                start += len(found)
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            raise DamagedInputError(f"{self.path}: the SQLite file is damaged ({error})") from None

    def tiles(self) -> Iterator[tuple[int, int, bytes]]:
        """(level, tile, hash) of every cached subtree."""
        for level, tile, digest in self._query("select level, tile, hash from tiles order by level, tile"):
            if isinstance(level, int) and isinstance(tile, int) and isinstance(digest, bytes):
                yield level, tile, digest
            else:
                yield -1, -1, b""

    def checkpoints(self) -> Iterator[tuple[int, str]]:
        """(size, signed note) in order of size. A note that is no UTF-8 comes with replacement characters."""
        # As bytes: SQLite's own conversion to text fails the whole query at the first note that is not UTF-8.
        note = f"case when length(note) <= {_MAX_NOTE} then cast(note as blob) end"
        sql = f"select size, {note} from checkpoints order by size"
        for size, stored in self._query(sql):
            yield size if isinstance(size, int) else -1, _text(stored)

    def last_checkpoint(self) -> tuple[int, str] | None:
        """(size, signed note) of the newest checkpoint."""
        for size, note in self._query("select size, cast(note as blob) from checkpoints order by size desc limit 1"):
            return (size, _text(note)) if isinstance(size, int) else None
        return None

    def checkpoint(self, size: int) -> str:
        """The signed note over the first ``size`` records; empty where no commit ended there."""
        for (note,) in self._query("select cast(note as blob) from checkpoints where size = ?", size):
            return _text(note)
        return ""

    def checkpoint_within(self, above: int, most: int) -> tuple[int, str] | None:
        """(size, signed note) of the largest checkpoint over more than ``above`` records and at most ``most``."""
        sql = "select size, cast(note as blob) from checkpoints where size > ? and size <= ? order by size desc limit 1"
        for found, note in self._query(sql, above, most):
            return (found, _text(note)) if isinstance(found, int) else None
        return None

    def next_checkpoint(self, size: int) -> tuple[int, str] | None:
        """(size, signed note) of the first checkpoint over at least ``size`` records."""
        sql = "select size, cast(note as blob) from checkpoints where size >= ? order by size limit 1"
        for found, note in self._query(sql, size):
            return (found, _text(note)) if isinstance(found, int) else None
        return None

    def last_receipt(self) -> tuple[int, str] | None:
        """(size, cosigned checkpoint) of the newest receipt that a registry gave; not verified."""
        return next(self.receipts(), None)

    def receipts(self) -> Iterator[tuple[int, str]]:
        """(size, cosigned checkpoint) of every receipt, the newest first; not verified."""
        if "receipts" in self._beside:
            for size, note in self._query("select size, cast(note as blob) from receipts order by size desc"):
                yield size if isinstance(size, int) else -1, _text(note)

    def epochs(self) -> dict[int, int]:
        """Sequences of the records that began the key epochs, by number, as cached."""
        found: dict[int, int] = {}
        if "epochs" in self._beside:
            for epoch, seq in self._query("select epoch, seq from epochs order by epoch"):
                if isinstance(epoch, int) and isinstance(seq, int):
                    found[epoch] = seq
        return found

    def pruned(self) -> int:
        """Payloads of records below it have been gone through for pruning."""
        if "retention" in self._beside:
            for (upto,) in self._query("select upto from retention"):
                return upto if isinstance(upto, int) else 0
        return 0

    def size(self) -> int:
        """Number of the last record plus one; 0 for none."""
        for (last,) in self._query("select max(seq) from records"):
            return last + 1 if isinstance(last, int) else 0
        return 0

    def unmatched_payloads(self, limit: int) -> list[int]:
        """Sequences of payload rows without a record, and of records without payload row (erased ones keep theirs)."""
        sql = (
            "select seq from payloads where seq not in (select seq from records) union "
            "select seq from records where seq not in (select seq from payloads) order by 1 limit ?"
        )
        return [seq for (seq,) in self._query(sql, limit) if isinstance(seq, int)]

    def subtree(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree of ``2**level`` leaves, from the nearest cached level at or below it.

        Cached hashes are used as they are: hold the root that they lead to against a signed one. Raises
        ``VerificationError`` where a record or a cached hash is missing.
        """
        if level and level % TILE_LEVEL == 0:
            for (digest,) in self._query("select hash from tiles where level=? and tile=?", level, index):
                if isinstance(digest, bytes):
                    return digest
            raise VerificationError(f"{self.path}: a cached hash is missing; run 'journal verify'")
        below = level - level % TILE_LEVEL
        span = 1 << (level - below)
        tree = CompactRange()
        if below == 0:
            for row in self.rows(index * span, (index + 1) * span):
                tree.append(leaf_hash(row.record))
        else:
            for child in range(index * span, (index + 1) * span):
                tree.append(self.subtree(below, child))
        if tree.size != span:
            raise VerificationError(f"{self.path}: records are missing; run 'journal verify'")
        return tree.root()

    def tree(self, size: int) -> CompactRange:
        """The tree over the first ``size`` records, ready to be appended to. Raises as ``subtree`` does."""
        hashes, start = [], 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                hashes.append(self.subtree(level, start >> level))
                start += 1 << level
        return CompactRange(size, hashes)

    def _query(self, sql: str, *arguments: int | bytes) -> Iterator[tuple[object, ...]]:
        try:
            yield from self._db.conn.execute(sql, arguments)
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            raise DamagedInputError(f"{self.path}: the SQLite file is damaged ({error})") from None


def certificate_of(reader: Reader, epoch: int) -> str:
    """The certificate that began a key epoch. Raises ``VerificationError`` where the journal does not have it."""
    sequence = reader.epochs().get(epoch, -1)
    row = next(reader.rows(sequence, sequence + 1), None)
    if row is None:
        raise VerificationError(f"{reader.path}: key epoch {epoch} has no beginning here; run 'journal verify'")
    return certificate_in(row.payload)


def _text(note: object) -> str:
    return note.decode("utf-8", "replace") if isinstance(note, bytes) else ""
