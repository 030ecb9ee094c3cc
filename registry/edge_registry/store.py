"""``Store``: the registry's database, SQLite or PostgreSQL, and what ingest and readers do in it.

A transaction that changes a log holds that log's row; one that gives receipts takes the head of the registry's own log last, and
briefly. SQLite: WAL with ``synchronous=FULL``; what a transaction has committed is on the disk.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from edge_monitor.errors import ConfigError, VerificationError
from edge_monitor.journal.epochs import ROTATED, KeyChain
from edge_monitor.journal.keys import VerifierKey, parse_verifier_key
from edge_monitor.journal.merkle import CompactRange
from edge_monitor.journal.records import VERSION, decode_record
from edge_monitor.sync.packing import Block, Stored

from . import tables as t
from .catalogue import tables as _catalogue_tables  # noqa: F401  (made with the others)
from .copying import Additions
from .siem import tables as _siem_tables  # noqa: F401
from .subtrees import Subtrees

BUSY_S = 30.0


@dataclass(frozen=True, slots=True)
class Robot:
    """An enrolled device."""

    id: str
    identity: VerifierKey
    curve: str
    state: str


@dataclass(frozen=True, slots=True)
class Log:
    """A log as the registry holds it; ``tree`` and ``chain`` are of its ``size`` records."""

    number: int
    log_id: bytes
    robot: str
    origin: str
    tree: CompactRange
    chain: KeyChain
    state: str
    session: int
    boot: bytes
    receipt: str
    receipt_s: int
    valid_size: int | None
    recovery: str = ""

    @property
    def size(self) -> int:
        """Records that are held."""
        return self.tree.size


@dataclass(frozen=True, slots=True)
class Event:
    """A row of ``events``."""

    seq: int
    type: str
    severity: int
    t_effective: int
    t_decided: int
    wall_ns: int
    record: bytes
    salt: bytes | None
    payload: bytes | None


class Store:
    """One database. Safe to share between threads and processes; every method is one transaction or part of the caller's."""

    def __init__(self, url: str) -> None:
        """``url``: of SQLAlchemy, such as ``sqlite:///registry.db`` or ``postgresql://user@host/name``.

        Raises ``ConfigError`` where it can't be opened, or is a database of something else.
        """
        self.engine = open_engine(url)
        try:
            _create(self.engine)
            self._index_later()
        except sa.exc.SQLAlchemyError as error:
            raise ConfigError(f"{_shown(url)}: cannot be used as a registry ({_first_line(error)})") from None

    def _index_later(self) -> None:
        """Give records that came before this program knew their version the columns that it reads in them, once."""
        known = sa.select(t.settings.c.value).where(t.settings.c.key == "records")
        with self.read() as tx:
            if tx.connection.execute(known).scalar() == str(VERSION):
                return
        opaque = sa.select(t.events.c.log, t.events.c.seq, t.events.c.record).where(t.events.c.type == "")
        with self.begin() as tx:
            for log, seq, data in tx.connection.execute(opaque).all():
                with suppress(VerificationError):
                    r = decode_record(data)
                    values = {
                        "type": r.type, "severity": int(r.severity), "t_effective": r.t_effective, "t_decided": r.t_decided,
                        "wall_ns": r.wall_ns,
                    }  # fmt: skip
                    where = (t.events.c.log == log, t.events.c.seq == seq)
                    tx.connection.execute(sa.update(t.events).where(*where).values(**values))
            tx.connection.execute(sa.delete(t.settings).where(t.settings.c.key == "records"))
            tx.connection.execute(sa.insert(t.settings).values(key="records", value=str(VERSION)))

    @property
    def is_sqlite(self) -> bool:
        """Whether one writer at a time is all that the database takes."""
        return self.engine.dialect.name == "sqlite"

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()

    @contextmanager
    def begin(self, *, derived: bool = False) -> Iterator[Transaction]:
        """A transaction that writes; committed at the end, undone by an exception.

        ``derived``: what it writes can be made again from what is there, so that nobody waits for the disk: a PostgreSQL that
        crashes may take the newest such transactions back, each whole, and in their order.
        """
        with self._writing(self.engine, derived) as tx:
            yield tx

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """One snapshot to read from."""
        with self._snapshot(self.engine) as tx:
            yield tx

    @contextmanager
    def _writing(self, engine: Engine, derived: bool) -> Iterator[Transaction]:
        with engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("begin immediate")
            elif derived:
                connection.exec_driver_sql("set local synchronous_commit = off")
            tx = Transaction(connection)
            try:
                yield tx
                tx.settle()
                connection.commit()
            except BaseException:
                tx.abandon()
                connection.rollback()
                raise

    @contextmanager
    def _snapshot(self, engine: Engine) -> Iterator[Transaction]:
        if not self.is_sqlite:
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("begin")
            try:
                yield Transaction(connection)
            finally:
                connection.rollback()


class Transaction:
    """What can be done within a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._additions: Additions | None = None
        self._locked: dict[bytes, Any] = {}  # rows of logs, as they were locked, until somebody changes them

    @property
    def connection(self) -> Connection:
        """To the database, with all in it that was added so far."""
        self.settle()
        return self._connection

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file that this process works on itself."""
        return self._connection.dialect.name == "sqlite"

    def settle(self) -> None:
        """Have the database take what was added and is on its way."""
        additions, self._additions = self._additions, None
        if additions is None:
            return
        with self._errors("copy events"):
            additions.end()
        self._many(t.tiles, additions.tiles)
        self._many(t.receipts, additions.receipts)
        update = sa.update(t.logs).where(t.logs.c.log == sa.bindparam("number"))
        rows = [{"number": number, **head} for number, head in additions.heads.items()]
        self._connection.execute(update, rows)

    def abandon(self) -> None:
        """Let go of what is on its way: all of the transaction is to be undone."""
        if self._additions is not None:
            self._additions.abandon()

    def robot_of_curve(self, curve: str) -> Robot | None:
        """The robot whose CURVE key this is."""
        return self._robot(t.robots.c.curve == curve)

    def robot(self, robot: str) -> Robot | None:
        """The robot of this name."""
        return self._robot(t.robots.c.id == robot)

    def robots(self, names: Collection[str]) -> dict[str, Robot]:
        """Those of these names that are enrolled."""
        rows = self.connection.execute(sa.select(t.robots).where(t.robots.c.id.in_(names)))
        return {row.id: _robot(row) for row in rows}

    def enrol(self, robot: str, identity: VerifierKey, curve: str, now_ns: int) -> None:
        """Add a robot, or give one that was known new keys."""
        values = {"id": robot, "identity": identity.text(), "curve": curve, "state": "active", "changed_ns": now_ns}
        if self.robot(robot) is None:
            self.connection.execute(sa.insert(t.robots).values(**values, enrolled_ns=now_ns))
        else:
            self.connection.execute(sa.update(t.robots).where(t.robots.c.id == robot).values(**values))

    def invite(self, robot: str, secret: bytes, expires_ns: int) -> None:
        """A one-time token for a robot."""
        values = {"hash": hashlib.sha256(secret).digest(), "robot": robot, "expires_ns": expires_ns}
        self.connection.execute(sa.insert(t.tokens).values(**values))

    def redeem(self, secret: bytes, now_ns: int) -> str | None:
        """The robot that a token is for, once and in time; None otherwise."""
        digest = hashlib.sha256(secret).digest()
        query = sa.select(t.tokens).where(t.tokens.c.hash == digest).with_for_update()
        row = self.connection.execute(query).first()
        if row is None or row.used_ns is not None or now_ns >= row.expires_ns:
            return None
        self.connection.execute(sa.update(t.tokens).where(t.tokens.c.hash == digest).values(used_ns=now_ns))
        return str(row.robot)

    def keep_alert(self, log: Log, sequence: int, row: Stored, size: int, path: bytes, note: str, now_s: int) -> None:
        """Early evidence: a critical record that came ahead of its turn."""
        where = (t.alerts.c.log == log.number, t.alerts.c.seq == sequence)
        if self.connection.execute(sa.select(t.alerts.c.seq).where(*where)).first() is None:
            values = {
                "log": log.number, "seq": sequence, "record": row.record, "salt": row.salt, "payload": row.payload, "size": size,
                "path": path, "checkpoint": note, "received_s": now_s, "reconciled": 0,
            }  # fmt: skip
            self.connection.execute(sa.insert(t.alerts).values(**values))

    def _robot(self, where: sa.ColumnElement[bool]) -> Robot | None:
        row = self.connection.execute(sa.select(t.robots).where(where)).first()
        return _robot(row) if row else None

    def log(self, log_id: bytes, robot: Robot, *, lock: bool = False) -> Log | None:
        """A robot's log; ``lock``: nobody else changes it before this transaction ends."""
        row = self._locked.pop(log_id, None) if lock else self._locked.get(log_id)
        if row is None:
            query = sa.select(t.logs).where(t.logs.c.log_id == log_id)
            row = self.connection.execute(query.with_for_update() if lock else query).first()
        if row is None:
            return None
        key = parse_verifier_key(row.epoch_key) if row.epoch_key else None
        chain = KeyChain.resumed(row.origin, [robot.identity], row.epoch_last, row.epoch_open, key)
        hashes = [row.hashes[place : place + 32] for place in range(0, len(row.hashes), 32)]
        return Log(
            row.log, row.log_id, row.robot, row.origin, CompactRange(row.size, hashes), chain, row.state, row.session, row.boot,
            row.receipt, row.receipt_s, row.valid_size, row.recovery,
        )  # fmt: skip

    def lock_logs(self, log_ids: Collection[bytes]) -> None:
        """Hold several logs until the transaction ends: everybody takes them in one order, so that nobody waits in a circle."""
        if not self.is_sqlite and len(log_ids) > 1:
            query = sa.select(t.logs).where(t.logs.c.log_id.in_(log_ids)).order_by(t.logs.c.log_id)
            self._locked = {bytes(row.log_id): row for row in self.connection.execute(query.with_for_update())}

    def new_log(self, log_id: bytes, robot: Robot, origin: str, boot: bytes) -> Log:
        """A log that begins now, in its first session."""
        tree, chain = CompactRange(), KeyChain(origin, [robot.identity])
        values = {
            "log_id": log_id, "robot": robot.id, "origin": origin, "state": "open", "session": 1, "boot": boot,
            "receipt": "", "receipt_s": 0, "seen_s": int(time.time()), **_head(tree, chain),
        }  # fmt: skip
        result = self.connection.execute(sa.insert(t.logs).values(**values))
        assert result.inserted_primary_key is not None
        number = int(result.inserted_primary_key[0])
        return Log(number, log_id, robot.id, origin, tree, chain, "open", 1, boot, "", 0, None)

    def begin_session(self, log: Log, boot: bytes) -> Log:
        """The next session of a log: earlier ones are over."""
        session = log.session + 1
        self._update(log, session=session, boot=boot, seen_s=int(time.time()))
        return replace(log, session=session, boot=boot)

    def bundle(self) -> tuple[int, bytes] | None:
        """The newest downlink bundle: its version and bytes."""
        query = sa.select(t.bundles.c.version, t.bundles.c.data).order_by(t.bundles.c.version.desc()).limit(1)
        row = self.connection.execute(query).first()
        return (row.version, row.data) if row is not None else None

    def bundle_version(self) -> int:
        """Of the newest bundle; 0 for none."""
        return int(self.connection.execute(sa.select(sa.func.max(t.bundles.c.version))).scalar() or 0)

    def add_bundle(self, version: int, data: bytes, now_s: int) -> None:
        """A new bundle. Raises ``IntegrityError`` where this version is there already."""
        self.connection.execute(sa.insert(t.bundles).values(version=version, data=data, made_s=now_s))

    def quarantine(self, log: Log, kind: str, words: str, proof: bytes) -> None:
        """Nothing more is taken of a log until a person decides; the evidence stays."""
        self._update(log, state="quarantined")
        values = {"log": log.number, "kind": kind, "at_s": int(time.time()), "words": words, "proof": proof}
        self.connection.execute(sa.insert(t.conflicts).values(**values))

    def recover(self, log: Log, receipt: str) -> Log:
        """The log goes into recovery, from what is held to what ``receipt`` covers; empty: it is over."""
        self._update(log, recovery=receipt)
        return replace(log, recovery=receipt)

    def lose(self, log: Log, sequences: Sequence[int], receipt: str, now_s: int) -> None:
        """These records' payloads did not come back; ``receipt`` proves that they were held."""
        ranges: list[list[int]] = []
        for sequence in sequences:
            if ranges and ranges[-1][1] == sequence:
                ranges[-1][1] += 1
            else:
                ranges.append([sequence, sequence + 1])
        for first, end in ranges:
            values = {"log": log.number, "first": first, "end": end, "receipt": receipt, "at_s": now_s}
            self.connection.execute(sa.insert(t.losses).values(**values))

    def extend(
        self, log: Log, block: Block, tiles: Sequence[tuple[int, int, bytes]], receipt: str, receipt_s: int
    ) -> None:
        """Add rows, the cached subtrees that they completed and the receipt over them; ``log`` is as it is afterwards."""
        number, count = log.number, len(block)
        first = log.size - count
        head = {**_head(log.tree, log.chain), "receipt": receipt, "receipt_s": receipt_s, "seen_s": receipt_s}
        given = [(number, *tile) for tile in tiles], (number, log.size, receipt_s, receipt)
        if self.is_sqlite:
            rows = zip(
                repeat(number, count), range(first, log.size), block.types, block.severities, block.effective, block.decided,
                block.walls, block.records, block.salts, block.payloads,
                strict=True,
            )  # fmt: skip
            self._many(t.events, rows)
            self._many(t.tiles, given[0])
            self._many(t.receipts, [given[1]])
            self._update(log, **head)
            return
        if self._additions is None:
            cursor: Any = self._connection.connection.cursor()
            self._additions = Additions(cursor)
        with self._errors("copy events"):
            self._additions.events(number, first, block)
        self._additions.tiles += given[0]
        self._additions.receipts.append(given[1])
        self._additions.heads[number] = head
        if self._additions.is_full:
            self.settle()

    def touch(self, log: Log, now_s: int) -> None:
        """The device gave a sign of life."""
        self._update(log, seen_s=now_s)

    def events(self, log: int, start: int, end: int) -> Iterator[Event]:
        """Rows ``start`` to before ``end`` of a log, in order."""
        columns = [column for column in t.events.c if column.name != "log"]
        query = sa.select(*columns).where(t.events.c.log == log, t.events.c.seq >= start, t.events.c.seq < end)
        for row in self.connection.execute(query.order_by(t.events.c.seq)).yield_per(1000):
            yield Event(*row)

    def events_at(self, log: int, sequences: Sequence[int]) -> list[Event]:
        """The rows of these sequences that are held, in order."""
        columns = [column for column in t.events.c if column.name != "log"]
        query = sa.select(*columns).where(t.events.c.log == log, t.events.c.seq.in_(sequences))
        return [Event(*row) for row in self.connection.execute(query.order_by(t.events.c.seq))]

    def rotations(self, log: int, end: int) -> Iterator[Event]:
        """The records below ``end`` that began key epochs, in order."""
        columns = [column for column in t.events.c if column.name != "log"]
        where = (t.events.c.log == log, t.events.c.type == ROTATED, t.events.c.seq < end)
        for row in self.connection.execute(sa.select(*columns).where(*where).order_by(t.events.c.seq)):
            yield Event(*row)

    def subtrees(self, log: int) -> Subtrees:
        """Hashes of a log's complete subtrees, as this transaction sees it now."""
        return Subtrees(self.connection, log)

    def tree(self, log: int, size: int) -> CompactRange:
        """The tree over the first ``size`` records of a log."""
        subtree, hashes, start = self.subtrees(log), [], 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                hashes.append(subtree(level, start >> level))
                start += 1 << level
        return CompactRange(size, hashes)

    def _update(self, log: Log, **values: Any) -> None:
        self.connection.execute(sa.update(t.logs).where(t.logs.c.log == log.number).values(**values))

    def _many(self, table: sa.Table, rows: Iterable[tuple[Any, ...]]) -> None:
        """Insert rows whose values are in the order of the table's columns, past SQLAlchemy's own work for each."""
        values = list(rows)
        if not values:
            return
        if self.is_sqlite:
            marks = ", ".join("?" * len(table.c))
            self._connection.exec_driver_sql(f"insert into {table.name} values ({marks})", values)
            return
        statement = f"copy {table.name} from stdin (format binary)"
        with self._errors(statement), self._connection.connection.cursor().copy(statement) as copy:
            copy.set_types([_postgres_type(column) for column in table.c])
            for row in values:
                copy.write_row(row)

    @contextmanager
    def _errors(self, statement: str) -> Iterator[None]:
        """Raise psycopg's errors as SQLAlchemy's."""
        try:
            yield
        except self._connection.dialect.loaded_dbapi.Error as error:
            raise sa.exc.OperationalError(statement, None, error) from error


def _robot(row: Any) -> Robot:
    return Robot(row.id, parse_verifier_key(row.identity), row.curve, row.state)


def _postgres_type(column: sa.Column[Any]) -> str:
    kinds = {sa.BigInteger: "int8", sa.Integer: "int4", sa.Text: "text", sa.LargeBinary: "bytea"}
    return kinds[type(column.type)]


def _head(tree: CompactRange, chain: KeyChain) -> dict[str, Any]:
    number, key = chain.current
    return {
        "size": tree.size,
        "hashes": b"".join(tree.hashes),
        "epoch_last": chain.last,
        "epoch_open": number,
        "epoch_key": key.text() if key is not None else "",
    }


def open_engine(url: str) -> Engine:
    """The engine of an address, with the rules of this registry. Raises ``ConfigError`` where it is none."""
    try:
        parsed = sa.make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(parsed)
    except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
        raise ConfigError(
            f"{_shown(url)}: no database address ({error}); use sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from None
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise ConfigError(f"{_shown(url)}: use sqlite:///FILE or postgresql://USER@HOST/NAME")
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _sqlite_rules)
    return engine


def _sqlite_rules(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by hand: a reader's is not a writer's
    for pragma in ("journal_mode=wal", "synchronous=full", f"busy_timeout={int(BUSY_S * 1000)}", "secure_delete=on"):
        connection.execute(f"pragma {pragma}")


def _create(engine: Engine) -> None:
    """Make what is missing. Two processes that begin at once get in each other's way once, and one tries again."""
    for attempt in range(3):
        try:
            with engine.begin() as connection:
                t.metadata.create_all(connection)
                if engine.dialect.name == "postgresql":
                    for number in range(t.PARTITIONS):
                        part = f"for values with (modulus {t.PARTITIONS}, remainder {number})"
                        connection.execute(
                            sa.text(f"create table if not exists events_{number} partition of events {part}")
                        )
                have = connection.execute(sa.select(t.settings.c.value).where(t.settings.c.key == "version")).scalar()
                if have is None:
                    connection.execute(sa.insert(t.settings).values(key="version", value=str(t.VERSION)))
                    connection.execute(sa.insert(t.own_head).values(id=1, size=0, hashes=b"", note=""))
                elif have != str(t.VERSION):
                    raise ConfigError(f"the registry's tables are of version {have}; this program reads {t.VERSION}")
            return
        except (sa.exc.ProgrammingError, sa.exc.IntegrityError, sa.exc.OperationalError):
            if attempt == 2:
                raise
            time.sleep(0.2)


def _shown(url: str) -> str:
    """The address without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "the database address"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
