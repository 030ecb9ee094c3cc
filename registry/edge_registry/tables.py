"""The tables, for SQLite and PostgreSQL alike. What is evidence is only ever added; heads and states are derived from it.

A log is known inside by a small number. Events are keyed by log and sequence, and nothing is ever searched by arrival: an auditor
follows each log by its size, so that a commit that comes late is not skipped.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

VERSION = 2
PARTITIONS = 16  #: of events and tiles on PostgreSQL, by log

metadata = MetaData()
_KEY = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself for this type only

settings = Table("settings", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

robots = Table(
    "robots",
    metadata,
    Column("id", Text, primary_key=True),  #: the name of its identity key
    Column("identity", Text, nullable=False),  #: verifier key, one line
    Column("curve", Text, nullable=False),  #: CURVE public key, Z85
    Column("state", Text, nullable=False),  #: active, revoked
    Column("enrolled_ns", BigInteger, nullable=False),
    Column("changed_ns", BigInteger, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    UniqueConstraint("curve"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("hash", LargeBinary, primary_key=True),  #: SHA-256 of the token
    Column("robot", Text, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("used_ns", BigInteger),
)

logs = Table(
    "logs",
    metadata,
    Column("log", _KEY, primary_key=True),
    Column("log_id", LargeBinary, nullable=False, unique=True),
    Column("robot", Text, ForeignKey("robots.id"), nullable=False),
    Column("origin", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("hashes", LargeBinary, nullable=False),  #: the tree's complete subtrees, 32 bytes each
    Column("epoch_last", BigInteger, nullable=False),
    Column("epoch_open", BigInteger, nullable=False),
    Column("epoch_key", Text, nullable=False),  #: of the open epoch; empty: the identity key
    Column("state", Text, nullable=False),  #: open, quarantined, closed
    Column("session", BigInteger, nullable=False),
    Column("boot", LargeBinary, nullable=False),
    Column("receipt", Text, nullable=False),  #: the newest, empty before the first
    Column("receipt_s", BigInteger, nullable=False),
    Column("seen_s", BigInteger, nullable=False),  #: the device's last word
    Column(
        "recovery", Text, nullable=False, server_default=""
    ),  #: our receipt over more than is held: a backup was restored
    Column("valid_size", BigInteger),  #: records that count, once the robot was revoked; null: all
)

events = Table(
    "events",
    metadata,
    Column("log", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("type", Text, nullable=False),  #: empty: a record of a version that this registry does not know
    Column("severity", Integer, nullable=False),
    Column("t_effective", BigInteger, nullable=False),
    Column("t_decided", BigInteger, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("salt", LargeBinary),
    Column("payload", LargeBinary),
    PrimaryKeyConstraint("log", "seq"),
    postgresql_partition_by="HASH (log)",
    sqlite_with_rowid=False,
)
_ROTATIONS = text("type = 'key.rotated'")
Index("events_rotations", events.c.log, events.c.seq, sqlite_where=_ROTATIONS, postgresql_where=_ROTATIONS)

tiles = Table(
    "tiles",
    metadata,
    Column("log", BigInteger, nullable=False),
    Column("level", Integer, nullable=False),
    Column("tile", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("log", "level", "tile"),
    sqlite_with_rowid=False,
)

receipts = Table(
    "receipts",
    metadata,
    Column("log", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("time_s", BigInteger, nullable=False),
    Column("note", Text, nullable=False),  #: the device's checkpoint, cosigned
    PrimaryKeyConstraint("log", "size"),
    sqlite_with_rowid=False,
)

alerts = Table(
    "alerts",
    metadata,
    Column("log", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("salt", LargeBinary),
    Column("payload", LargeBinary),
    Column("size", BigInteger, nullable=False),  #: of the checkpoint
    Column("path", LargeBinary, nullable=False),
    Column("checkpoint", Text, nullable=False),
    Column("received_s", BigInteger, nullable=False),
    Column("reconciled", Integer, nullable=False),  #: 1: the bulk brought the same record
    PrimaryKeyConstraint("log", "seq"),
)

conflicts = Table(
    "conflicts",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("log", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),  #: rollback, fork
    Column("at_s", BigInteger, nullable=False),
    Column("words", Text, nullable=False),
    Column("proof", LargeBinary, nullable=False),  #: checkable without trust in this registry
    Column("resolved_s", BigInteger),
    Column("resolution", Text, nullable=False, server_default=""),
)

losses = Table(
    "losses",
    metadata,
    Column("log", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column(
        "receipt", Text, nullable=False
    ),  #: the proof that it was held once: records came back, these without payloads
    Column("at_s", BigInteger, nullable=False),
    PrimaryKeyConstraint("log", "first"),
)

#: What people decided at the registry.
decisions = Table(
    "decisions",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("at_s", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),  #: revoke, release, rotate
    Column("subject", Text, nullable=False),  #: a robot, the origin of a log, or the registry
    Column("words", Text, nullable=False),
)

#: The registry's own log: each receipt that it gave, in one order.
own_log = Table(
    "own_log", metadata, Column("seq", BigInteger, primary_key=True), Column("entry", LargeBinary, nullable=False)
)
own_tiles = Table(
    "own_tiles",
    metadata,
    Column("level", Integer, nullable=False),
    Column("tile", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("level", "tile"),
)
own_head = Table(
    "own_head",
    metadata,
    Column("id", Integer, primary_key=True),  #: 1
    Column("size", BigInteger, nullable=False),
    Column("hashes", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("robot", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("complete_s", BigInteger),  #: null: on its way
)

bundles = Table(
    "bundles",
    metadata,
    Column("version", BigInteger, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    Column("made_s", BigInteger, nullable=False),
)
