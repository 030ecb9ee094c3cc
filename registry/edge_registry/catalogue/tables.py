"""The catalogue's tables. What people said is only ever added, as the bytes that they signed: the database refuses changes.

What follows from it (what is approved, who may, what is open) is derived when it is asked for. ``spans`` and ``watch`` are
derived too, from events, and kept since nobody wants to read a million events for it.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text

from ..tables import metadata

_KEY = BigInteger().with_variant(Integer, "sqlite")

#: Signed statements of people, as they came.
statements = Table(
    "statements",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),  #: SHA-256 of ``data``, hex, as all digests here
    Column("form", Text, nullable=False),  #: dsse: an in-toto statement; approval: an envelope's approval file
    Column("type", Text, nullable=False),  #: of the predicate
    Column("data", LargeBinary, nullable=False),
    Column("received_s", BigInteger, nullable=False),
)

#: What a statement is about.
subjects = Table(
    "subjects",
    metadata,
    Column("statement", BigInteger, ForeignKey("statements.id"), nullable=False),
    Column("digest", Text, nullable=False),
    Column("name", Text, nullable=False),
    PrimaryKeyConstraint("statement", "digest", "name"),
)
Index("subjects_digest", subjects.c.digest)

#: Things, as a statement that held when it came registered them.
items = Table(
    "items",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("statement", BigInteger, ForeignKey("statements.id"), nullable=False),
    Column("added_s", BigInteger, nullable=False),
    sa.UniqueConstraint("kind", "name", "version"),
)

#: What a statement says comes from what: ``source`` is said of ``target``, "model trained_on dataset".
edges = Table(
    "edges",
    metadata,
    Column("statement", BigInteger, ForeignKey("statements.id"), nullable=False),
    Column("source", Text, nullable=False),
    Column("relation", Text, nullable=False),
    Column("target", Text, nullable=False),
    PrimaryKeyConstraint("statement", "source", "relation", "target"),
)
Index("edges_source", edges.c.source)
Index("edges_target", edges.c.target)

#: Files that a statement names by digest and that people want to read here: envelopes.
documents = Table(
    "documents", metadata, Column("digest", Text, primary_key=True), Column("data", LargeBinary, nullable=False)
)

#: What opened by itself, or by a person; what became of it is in ``exception_changes``.
exceptions = Table(
    "exceptions",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("robot", Text, nullable=False),
    Column("subject", Text, nullable=False),  #: digest
    Column("log", BigInteger, nullable=False),  #: where it was first seen
    Column("seq", BigInteger, nullable=False),
    Column("opened_s", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),  #: empty: nobody yet
    Column("deadline_s", BigInteger, nullable=False),
    Column("words", Text, nullable=False),
)
Index("exceptions_subject", exceptions.c.kind, exceptions.c.robot, exceptions.c.subject)

exception_changes = Table(
    "exception_changes",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("exception", BigInteger, ForeignKey("exceptions.id"), nullable=False),
    Column("statement", BigInteger, ForeignKey("statements.id"), nullable=False),
    Column("at_s", BigInteger, nullable=False),
)
Index("exception_changes_exception", exception_changes.c.exception)

#: Payloads that were erased, and erasures that were refused.
deletions = Table(
    "deletions",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("at_s", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),  #: window over, deletion, person
    Column("log", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("payloads", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),  #: done, refused
    Column("words", Text, nullable=False),
)

#: Stretches of a log under one boot, envelope, model and monitor: what was active when. Derived; the last one of a log grows.
spans = Table(
    "spans",
    metadata,
    Column("log", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("boot", Text, nullable=False),
    Column("envelope", Text, nullable=False),  #: digests; empty: the record names none
    Column("model", Text, nullable=False),
    Column("monitor", Text, nullable=False),
    Column("first_wall_ns", BigInteger, nullable=False),  #: by the robot's clock; -1: it knew none
    Column("last_wall_ns", BigInteger, nullable=False),
    Column("unapproved", Integer, nullable=False),  #: 1: the robot itself says that its envelope is not approved
    Column("seen_s", BigInteger, nullable=False),  #: when it was first looked at, by the registry's clock
    PrimaryKeyConstraint("log", "first"),
    sqlite_with_rowid=False,
)
Index("spans_envelope", spans.c.envelope)
Index("spans_model", spans.c.model)

#: Up to where each log was looked through.
watch = Table("watch", metadata, Column("log", BigInteger, primary_key=True), Column("seq", BigInteger, nullable=False))

APPEND_ONLY = (statements, subjects, items, edges, documents, exceptions, exception_changes, deletions)


def _ddl(text: str) -> sa.DDL:
    made: sa.DDL = sa.DDL(text)  # type: ignore[no-untyped-call]
    return made


def _refuse_changes(table: Table) -> None:
    words = f"{table.name} is only added to"
    for event in ("update", "delete"):
        sqlite = _ddl(
            f"create trigger {table.name}_no_{event} before {event} on {table.name} "
            f"begin select raise(abort, '{words}'); end"
        )
        sa.event.listen(table, "after_create", sqlite.execute_if(dialect="sqlite"))
    function = (
        f"create or replace function {table.name}_only_added() returns trigger language plpgsql as "
        f"$$ begin raise exception '{words}'; end $$"
    )
    trigger = (
        f"create trigger {table.name}_only_added before update or delete or truncate on {table.name} "
        f"for each statement execute function {table.name}_only_added()"
    )
    for text in (function, trigger):
        sa.event.listen(table, "after_create", _ddl(text).execute_if(dialect="postgresql"))


for _table in APPEND_ONLY:
    _refuse_changes(_table)
