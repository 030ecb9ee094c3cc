"""What comes into the catalogue: statements, whoever signed them; and things, where a statement that holds registers them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from edge_monitor.errors import UsageError, VerificationError
from edge_monitor.journal.keys import SigningKey
from edge_monitor.utc import SECOND, utc_text

from ..store import Transaction
from . import tables as t
from .kinds import KINDS, RELATIONS, alias, check_name
from .statements import PROVENANCE, REGISTRATION, TEST_RESULT, Standing, Statement, Trust, digest_of, opened, sign

MAX_ABOUT = 4096  #: characters of one text about a thing
MAX_LINKS = 256
MAX_EDGES = 4096  #: of one statement


class Link(NamedTuple):
    """``relation`` of a thing to another, which it names by kind and digest."""

    relation: str
    kind: str
    digest: str


@dataclass(frozen=True, slots=True)
class Registration:
    """What a registration says. ``file_digest``: of the file, where the thing's digest is of what the file says (envelopes)."""

    kind: str
    name: str
    version: str
    digest: str
    owner: str
    about: Mapping[str, str]
    links: tuple[Link, ...]
    file_digest: str = ""

    def signed(self, person: str, key: SigningKey, now_ns: int) -> bytes:
        """The statement of ``person``, who registers it."""
        predicate: dict[str, Any] = {
            "kind": self.kind,
            "version": self.version,
            "owner": self.owner,
            "person": person,
            "time": utc_text(now_ns // SECOND * SECOND),
            "about": dict(self.about),
            "links": [{"relation": r, "kind": k, "digest": {"sha256": d}} for r, k, d in self.links],
        }
        if self.file_digest:
            predicate["file"] = self.file_digest
        return sign(REGISTRATION, [(self.name, self.digest)], predicate, key)


def parse_registration(statement: Statement) -> Registration:
    """Raises ``VerificationError`` for what registers nothing."""
    said = statement.predicate
    kind, links, about = said.get("kind"), said.get("links", []), said.get("about", {})
    if kind not in KINDS or len(statement.subjects) != 1:
        raise VerificationError(f"registers no single thing of a kind that is known: {', '.join(KINDS)}")
    (name, digest), version = statement.subjects[0], statement.text("version")
    try:
        check_name(name, version)
    except UsageError as error:
        raise VerificationError(str(error)) from None
    if not isinstance(about, dict) or not all(
        isinstance(value, str) and len(value) <= MAX_ABOUT and len(word) <= 64 for word, value in about.items()
    ):
        raise VerificationError(f"says about it what is no text of at most {MAX_ABOUT} characters")
    if not isinstance(links, list) or len(links) > MAX_LINKS:
        raise VerificationError("has no list of links")
    found = tuple(_link(kind, one) for one in links)
    return Registration(kind, name, version, digest, statement.text("owner"), about, found, statement.text("file"))


def _link(kind: str, one: Any) -> Link:
    if not isinstance(one, dict):
        raise VerificationError("has a link that is none")
    link = Link(str(one.get("relation")), str(one.get("kind")), digest_of(one))
    check_link(kind, link)
    return link


def check_link(kind: str, link: Link) -> None:
    """Raises ``VerificationError`` where a thing of this kind can't be related so."""
    allowed = RELATIONS.get(link.relation, ())
    if not link.digest or (kind, link.kind) not in allowed:
        words = "; ".join(f"{a} {link.relation} {b}" for a, b in allowed) or f"relations are {', '.join(RELATIONS)}"
        raise VerificationError(f"a {kind} can't be '{link.relation}' a {link.kind} ({words})")


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of something that was brought: kept anew or known; what it is worth; the thing that it registered, if any."""

    digest: str
    type: str
    standing: Standing
    new: bool
    alias: str = ""


def take(tx: Transaction, data: bytes, trust: Trust, now_ns: int, documents: Iterable[bytes] = ()) -> Taken:
    """Keep a statement. What it says becomes part of the catalogue only as far as it holds.

    ``documents``: files to be kept with it. Raises ``VerificationError`` for what is no statement or says what can't be, and
    ``UsageError`` where another thing has the name already.
    """
    statement = opened(data)
    standing = trust.standing(statement, now_ns)
    known = tx.connection.execute(
        sa.select(t.statements.c.id).where(t.statements.c.digest == statement.digest)
    ).scalar()
    registers = parse_registration(statement) if statement.type == REGISTRATION else None
    called = alias(registers.kind, registers.name, registers.version) if registers is not None else ""
    if known is not None:
        # Its signer may have become known since: then it registers now what it claimed before.
        if registers is not None and standing.holds:
            register(tx, registers, int(known), now_ns // SECOND)
        return Taken(statement.digest, statement.type, standing, False, called if standing.holds else "")
    number = keep(tx, data, "dsse", statement.type, [*statement.subjects], now_ns // SECOND)
    _keep_edges(tx, number, _edges(statement, registers))
    if registers is not None and standing.holds:
        register(tx, registers, number, now_ns // SECOND)
        for document in documents:
            keep_document(tx, document)
    return Taken(statement.digest, statement.type, standing, True, called if standing.holds else "")


def keep(
    tx: Transaction, data: bytes, form: str, predicate_type: str, subjects: Sequence[tuple[str, str]], now_s: int
) -> int:
    """Add signed bytes, and what they are about; answers their number."""
    values = {
        "digest": hashlib.sha256(data).hexdigest(), "form": form, "type": predicate_type, "data": data, "received_s": now_s,
    }  # fmt: skip
    result = tx.connection.execute(sa.insert(t.statements).values(**values))
    assert result.inserted_primary_key is not None
    number = int(result.inserted_primary_key[0])
    rows = [{"statement": number, "digest": digest, "name": name} for name, digest in subjects]
    tx.connection.execute(sa.insert(t.subjects), rows)
    return number


def keep_document(tx: Transaction, data: bytes) -> None:
    """Add a file that people want to read here, once."""
    digest = hashlib.sha256(data).hexdigest()
    if tx.connection.execute(sa.select(t.documents.c.digest).where(t.documents.c.digest == digest)).first() is None:
        tx.connection.execute(sa.insert(t.documents).values(digest=digest, data=data))


def register(tx: Transaction, one: Registration, statement: int, now_s: int) -> None:
    """Add a thing by a statement that holds, once. Raises ``UsageError`` where it, or its name, is another already."""
    same = sa.select(t.items).where(t.items.c.digest == one.digest)
    named = sa.select(t.items.c.digest).where(
        t.items.c.kind == one.kind, t.items.c.name == one.name, t.items.c.version == one.version
    )
    row = tx.connection.execute(same).first()
    if row is not None:
        if (row.kind, row.name, row.version) == (one.kind, one.name, one.version):
            return  # said again, by another or with more about it: the statement is kept
        raise UsageError(f"it is in the catalogue already, as {alias(row.kind, row.name, row.version)}")
    taken = tx.connection.execute(named).scalar()
    if taken is not None:
        raise UsageError(
            f"{alias(one.kind, one.name, one.version)} is another thing already (sha256:{taken[:16]}…): give it a new version"
        )
    values = {
        "digest": one.digest, "kind": one.kind, "name": one.name, "version": one.version, "owner": one.owner,
        "statement": statement, "added_s": now_s,
    }  # fmt: skip
    tx.connection.execute(sa.insert(t.items).values(**values))


def _edges(statement: Statement, registers: Registration | None) -> list[tuple[str, str, str]]:
    """What a statement says comes from what: (source, relation, target)."""
    if registers is not None:
        return [(registers.digest, link.relation, link.digest) for link in registers.links]
    said = statement.predicate
    if statement.type == PROVENANCE:
        build = said.get("buildDefinition")
        relation, named = "built_from", build.get("resolvedDependencies") if isinstance(build, dict) else None
    elif statement.type == TEST_RESULT:
        relation, named = "tested_with", said.get("configuration")
    else:
        return []
    targets = [digest_of(one) for one in named[:MAX_LINKS]] if isinstance(named, list) else []
    found = [(source, relation, target) for _, source in statement.subjects for target in targets if target]
    return found[:MAX_EDGES]


def _keep_edges(tx: Transaction, statement: int, edges: Sequence[tuple[str, str, str]]) -> None:
    rows = [{"statement": statement, "source": a, "relation": r, "target": b} for a, r, b in dict.fromkeys(edges)]
    if rows:
        tx.connection.execute(sa.insert(t.edges), rows)
