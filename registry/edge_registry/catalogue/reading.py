"""``Catalogue``: what the catalogue says now, as plain data. What people signed is judged by the people file as it is read."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from edge_monitor.envelope.approval import MAX_TERM, Approval
from edge_monitor.errors import UsageError, VerificationError
from edge_monitor.utc import SECOND

from .. import tables as registry
from ..store import Transaction
from . import approvals
from . import tables as t
from .documents import DecisionDocument, ItemDocument, StandingDocument, StatementDocument
from .entering import parse_registration
from .kinds import KINDS, Ref, alias, parse_ref
from .statements import APPROVAL, PROMOTION, TEST_RESULT, Standing, Statement, Trust, moment, opened

MANY = 500  #: things in one list, at most
_CHUNK = 500  #: digests in one query


@dataclass(frozen=True, slots=True)
class Said:
    """Something signed, as it is kept. ``statement``: None for an envelope's approval file, or what is none any more."""

    number: int
    digest: str
    form: str
    type: str
    data: bytes
    received_ns: int
    statement: Statement | None


@dataclass(frozen=True, slots=True)
class Item:
    """A row of ``items``, or a robot that is enrolled and nobody has registered."""

    digest: str
    kind: str
    name: str
    version: str
    owner: str
    statement: int
    added_ns: int

    @property
    def alias(self) -> str:
        """How people call it."""
        return alias(self.kind, self.name, self.version)


@dataclass(slots=True)
class Catalogue:
    """Reads within one transaction, at one moment (``now_ns``, ns since 1970)."""

    tx: Transaction
    trust: Trust
    now_ns: int
    _said: dict[str, list[Said]] = field(default_factory=dict)
    _standings: dict[str, Standing] = field(default_factory=dict)

    def items(
        self, kind: str = "", search: str = "", owner: str = "", after: str = "", limit: int = 100
    ) -> list[ItemDocument]:
        """Things, the newest first. ``search``: part of a name, or the beginning of a digest; ``after``: digest of the last one
        of the page before. Raises ``UsageError`` for a kind that there is none of."""
        if kind and kind not in KINDS:
            raise UsageError(f"{kind[:40]!r} is no kind; kinds are {', '.join(KINDS)}")
        query = sa.select(t.items)
        if kind:
            query = query.where(t.items.c.kind == kind)
        if owner:
            query = query.where(t.items.c.owner == owner)
        if search:
            text = search.removeprefix("sha256:").lower()
            part = t.items.c.name.icontains(search, autoescape=True)
            query = query.where(part | t.items.c.digest.startswith(text, autoescape=True))
        if after:
            place = sa.select(t.items.c.statement).where(t.items.c.digest == after).scalar_subquery()
            query = query.where(t.items.c.statement < place)
        rows = self.tx.connection.execute(query.order_by(t.items.c.statement.desc()).limit(max(1, min(limit, MANY))))
        found = [_item(row) for row in rows]
        self._load([item.digest for item in found])
        return [self.document(item) for item in found]

    def find(self, text: str) -> Item:
        """The thing that is meant: ``kind:name@version``, a digest or its beginning; without version the newest.

        Raises ``UsageError`` where none or several are.
        """
        ref = parse_ref(text)
        query = sa.select(t.items).where(*_wanted(ref)).order_by(t.items.c.statement.desc())
        found = [_item(row) for row in self.tx.connection.execute(query.limit(50))]
        things = {(item.kind, item.name) for item in found}
        if not found:
            raise UsageError(f"the catalogue has no {text[:100]}; 'edge-registry catalogue show' lists what it has")
        if len(things) > 1 or (ref.digest and len(found) > 1):
            meant = ", ".join(item.alias for item in found[:6])
            raise UsageError(f"{text[:100]} can be {meant}: say which")
        return found[0]

    def get(self, digest: str) -> Item | None:
        """The thing of this digest."""
        row = self.tx.connection.execute(sa.select(t.items).where(t.items.c.digest == digest)).first()
        return _item(row) if row is not None else None

    def get_many(self, digests: Collection[str]) -> dict[str, Item]:
        """Things by digest."""
        found = {}
        for part in _parts(sorted(set(digests))):
            for row in self.tx.connection.execute(sa.select(t.items).where(t.items.c.digest.in_(part))):
                found[row.digest] = _item(row)
        return found

    def preload(self, digests: Iterable[str]) -> None:
        """Read at once what is said of things that will be asked about."""
        self._load(digests)

    def versions(self, item: Item) -> list[ItemDocument]:
        """All versions of a thing, the newest first."""
        query = sa.select(t.items).where(t.items.c.kind == item.kind, t.items.c.name == item.name)
        rows = self.tx.connection.execute(query.order_by(t.items.c.statement.desc()).limit(MANY))
        found = [_item(row) for row in rows]
        self._load([one.digest for one in found])
        return [self.document(one) for one in found]

    def document(self, item: Item) -> ItemDocument:
        """A thing with what follows from all that is said of it."""
        registration = self.registration(item)
        standing = self._registration_standing(item)
        said = self.said_of(item.digest)
        return {
            "digest": item.digest,
            "kind": item.kind,
            "name": item.name,
            "version": item.version,
            "alias": item.alias,
            "owner": item.owner,
            "registered_by": standing.person,
            "added_ns": item.added_ns,
            "standing": standing_document(standing),
            "approval": self.approval(item),
            "promotion": self.promotion(item),
            "about": dict(registration.about) if registration is not None else {},
            "statements": len(said),
        }

    def registration(self, item: Item) -> Any:
        """What the statement says that registered it (``Registration``); None where it is not to be read any more."""
        one = next((one for one in self.said_of(item.digest) if one.number == item.statement), None)
        if one is not None and one.form == "approval":
            proposal = approvals.parse(one.data)
            return approvals.registration(proposal) if proposal is not None else None
        try:
            return parse_registration(one.statement) if one is not None and one.statement is not None else None
        except VerificationError:
            return None

    def builder(self, item: Item) -> str:
        """The person who registered it, by a signature that counts; empty where that can't be said."""
        standing = self._registration_standing(item)
        return standing.person if standing.holds else ""

    def approval(self, item: Item, at_ns: int | None = None) -> DecisionDocument:
        """Whether it is approved at a moment (None: now), and by whom: the newest word of somebody who may counts."""
        at = self.now_ns if at_ns is None else at_ns
        if item.kind == "envelope":
            return self._envelope_approval(item, at)
        return self._decided(item, APPROVAL, "approved", at)

    def promotion(self, item: Item, at_ns: int | None = None) -> DecisionDocument:
        """Whether it is promoted at a moment (None: now), to which robots, and by whom."""
        at = self.now_ns if at_ns is None else at_ns
        return self._decided(item, PROMOTION, "promoted", at)

    def results(self, item: Item) -> list[tuple[Said, Standing, str]]:
        """What tests of it gave, as they came: test results, and runs that evaluate it; (statement, standing, word)."""
        found = []
        for one in self.said_of(item.digest):
            if one.statement is not None and one.type == TEST_RESULT:
                found.append((one, self.standing(one), one.statement.text("result").lower()))
        edges = sa.select(t.edges.c.source).where(t.edges.c.target == item.digest, t.edges.c.relation == "evaluates")
        for run in self.get_many(list(self.tx.connection.execute(edges).scalars())).values():
            registration = self.registration(run)
            result = registration.about.get("result", "") if registration is not None else ""
            said = next((one for one in self.said_of(run.digest) if one.number == run.statement), None)
            if (
                said is not None
                and registration is not None
                and any(link.digest == item.digest and link.relation == "evaluates" for link in registration.links)
            ):
                found.append((said, self.standing(said), result))
        return sorted(found, key=lambda one: one[0].number)

    def said_of(self, digest: str) -> list[Said]:
        """Everything signed about a digest, in the order in which it came."""
        if digest not in self._said:
            self._load([digest])
        return self._said[digest]

    def statements(self, digest: str) -> list[StatementDocument]:
        """The same as plain data."""
        item = self.get(digest)
        return [self.statement_document(one, item) for one in self.said_of(digest)]

    def statement(self, digest: str) -> StatementDocument:
        """A signed statement by its own digest. Raises ``UsageError`` where it is not here."""
        row = self.tx.connection.execute(sa.select(t.statements).where(t.statements.c.digest == digest)).first()
        if row is None:
            raise UsageError(f"no statement {digest[:64]!r} is here")
        subject = sa.select(t.subjects.c.digest).where(t.subjects.c.statement == row.id)
        about = self.tx.connection.execute(subject).scalars().first()
        return self.statement_document(_said(row), self.get(about) if about is not None else None)

    def statement_document(self, one: Said, item: Item | None) -> StatementDocument:
        """A statement as plain data; ``item``: what it is about."""
        about = [digest for _, digest in one.statement.subjects] if one.statement else [item.digest] if item else []
        text = one.data if one.statement is None else one.statement.payload
        return {
            "digest": one.digest,
            "form": one.form,
            "type": one.type,
            "subjects": about,
            "received_ns": one.received_ns,
            "standing": standing_document(self.standing(one)),
            "result": one.statement.text("result") if one.statement else "",
            "text": text.decode("utf-8", "replace"),
        }

    def standing(self, one: Said, at_ns: int | None = None) -> Standing:
        """What a statement is worth at a moment (None: now)."""
        at = self.now_ns if at_ns is None else at_ns
        if one.statement is not None:
            role = "approver" if one.type in (APPROVAL, PROMOTION) else ""
            return self.trust.standing(one.statement, at, role)
        return approvals.standing(one.data, self.trust, at)

    def file(self, item: Item) -> bytes | None:
        """The file of an envelope, as it was registered."""
        registration = self.registration(item)
        if registration is None or not registration.file_digest:
            return None
        query = sa.select(t.documents.c.data).where(t.documents.c.digest == registration.file_digest)
        data = self.tx.connection.execute(query).scalar()
        return bytes(data) if data is not None else None

    def robot_digest(self, robot: str) -> str:
        """The id of an enrolled robot: SHA-256 of its identity key's line; empty where it is not enrolled."""
        query = sa.select(registry.robots.c.identity).where(registry.robots.c.id == robot)
        line = self.tx.connection.execute(query).scalar()
        return identity_digest(line) if line is not None else ""

    def _registration_standing(self, item: Item) -> Standing:
        found = self._standings.get(item.digest)
        if found is None:
            found = self._standings[item.digest] = self._registered(item)
        return found

    def _registered(self, item: Item) -> Standing:
        one = next((one for one in self.said_of(item.digest) if one.number == item.statement), None)
        if one is not None and one.form == "approval":
            return approvals.proposal_standing(one.data, self.trust, self.now_ns)
        if one is None or one.statement is None:
            return Standing("not valid", reasons=("the statement that registered it is not here",), codes=("missing",))
        return self.trust.standing(one.statement, self.now_ns)

    def _envelope_approval(self, item: Item, at: int) -> DecisionDocument:
        """By the approval files that are here: the newest that holds, else the newest that does not, with its reasons."""
        worst = decision("not approved")
        for one in self.said_of(item.digest):
            if one.form != "approval":
                continue
            verdict = approvals.verified(one.data, self.trust, at)
            if isinstance(verdict, Approval):
                worst = decision(
                    "approved", person=verdict.approver, time_ns=verdict.approved, expires_ns=verdict.expires,
                    ticket=verdict.ticket, reason=verdict.reason, statement=one.digest,
                )  # fmt: skip
                continue
            codes = [refusal.code for refusal in verdict.refusals]
            state = "expired" if codes == ["expired"] else "not approved" if codes == ["not_approved"] else "not valid"
            consent = verdict.consent
            if worst["state"] != "approved" and not (worst["state"] == "expired" and state != "expired"):
                worst = decision(
                    state, person=consent.approver if consent else "", time_ns=consent.time if consent else 0,
                    expires_ns=consent.expires if consent else 0, statement=one.digest,
                    reasons=[refusal.message for refusal in verdict.refusals], codes=codes,
                )  # fmt: skip
        return worst

    def _decided(self, item: Item, kind: str, good: str, at: int) -> DecisionDocument:
        """The newest decision of one kind about a thing that counts, else the newest that does not, else that there is none."""
        none = decision(f"not {good}")
        if all(one.type != kind for one in self.said_of(item.digest)):
            return none
        builder = self.builder(item)
        own = {builder, item.owner if kind == APPROVAL else ""} - {""}
        counting: list[tuple[int, DecisionDocument]] = []
        against: list[tuple[int, DecisionDocument]] = []
        for one in self.said_of(item.digest):
            if one.type != kind or one.statement is None:
                continue
            said = one.statement
            time = said.time_ns
            standing = self.trust.standing(said, at, "approver")
            reasons, codes = list(standing.reasons), list(standing.codes)
            if standing.person in own:
                who = "registered" if standing.person == builder else "owns"
                reasons.append(f"{standing.person} {who} it: another person must sign")
                codes.append("self_approval")
            if said.text("decision") not in (good, "refused", "withdrawn"):
                reasons.append("it decides nothing that is known")
                codes.append("malformed")
            expires = moment(said.text("expires"))
            if said.text("decision") == good and not time < expires <= time + MAX_TERM:
                reasons.append("it is for no term, or for more than 366 days")
                codes.append("term")
            robots = said.predicate.get("robots")
            document = decision(
                said.text("decision"), person=standing.person, time_ns=time, expires_ns=expires,
                ticket=said.text("ticket"), reason=said.text("reason"), statement=one.digest,
                robots=[str(robot) for robot in robots][:MANY] if isinstance(robots, list) else [],
                reasons=reasons, codes=codes,
            )  # fmt: skip
            if reasons:
                document["state"] = "not valid"
                against.append((time, document))
            elif time <= at:
                if document["state"] == good and at >= expires:
                    document["state"] = "expired"
                counting.append((time, document))
        newest = max(counting or against, key=lambda pair: pair[0], default=(0, none))
        return newest[1]

    def _load(self, digests: Iterable[str]) -> None:
        """Read what is said of digests that was not read yet, in few queries."""
        missing = [digest for digest in dict.fromkeys(digests) if digest not in self._said]
        for part in _parts(missing):
            for digest in part:
                self._said[digest] = []
            query = (
                sa.select(t.statements, t.subjects.c.digest.label("about"))
                .join(t.subjects, t.subjects.c.statement == t.statements.c.id)
                .where(t.subjects.c.digest.in_(part))
                .order_by(t.statements.c.id)
            )
            for row in self.tx.connection.execute(query):
                said = self._said[row.about]
                if not said or said[-1].number != row.id:
                    said.append(_said(row))


def decision(
    state: str, *, person: str = "", time_ns: int = 0, expires_ns: int = 0, ticket: str = "", reason: str = "",
    statement: str = "", robots: list[str] | None = None, reasons: list[str] | None = None, codes: list[str] | None = None,
) -> DecisionDocument:  # fmt: skip
    """A decision as plain data."""
    return {
        "state": state, "person": person, "time_ns": time_ns, "expires_ns": expires_ns, "ticket": ticket, "reason": reason,
        "statement": statement, "robots": robots or [], "reasons": reasons or [], "codes": codes or [],
    }  # fmt: skip


def standing_document(standing: Standing) -> StandingDocument:
    """A standing as plain data."""
    return {
        "word": standing.word, "person": standing.person, "key": standing.key, "reasons": list(standing.reasons),
        "codes": list(standing.codes),
    }  # fmt: skip


def identity_digest(line: str) -> str:
    """The id of a robot by its identity key's line."""
    import hashlib

    return hashlib.sha256(line.encode()).hexdigest()


def _item(row: Any) -> Item:
    return Item(row.digest, row.kind, row.name, row.version, row.owner, row.statement, row.added_s * SECOND)


def _said(row: Any) -> Said:
    data = bytes(row.data)
    statement = _opened(data) if row.form == "dsse" else None
    return Said(row.id, row.digest, row.form, row.type, data, row.received_s * SECOND, statement)


@functools.lru_cache(maxsize=4096)
def _opened(data: bytes) -> Statement | None:
    try:
        return opened(data)
    except VerificationError:
        return None


def _wanted(ref: Ref) -> list[Any]:
    if ref.digest:
        return [t.items.c.digest.startswith(ref.digest, autoescape=True)]
    where = [t.items.c.name == ref.name]
    where += [t.items.c.kind == ref.kind] if ref.kind else []
    where += [t.items.c.version == ref.version] if ref.version else []
    return where


def _parts(digests: Sequence[str]) -> Iterable[Sequence[str]]:
    return (digests[place : place + _CHUNK] for place in range(0, len(digests), _CHUNK))
