"""Exceptions: what they say, and what people did about them. Nothing closes by itself, and nobody closes their own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from edge_monitor.errors import UsageError
from edge_monitor.evidence.statement import compact
from edge_monitor.journal.keys import SigningKey
from edge_monitor.utc import SECOND, utc_text

from .. import tables as registry
from . import tables as t
from .documents import ChangeDocument, ExceptionDocument
from .reading import MANY, Catalogue, _said
from .statements import EXCEPTION, Standing, Statement, opened, sign

OPEN = ("open", "mitigating")
SETTLED = ("mitigated", "accepted", "closed")
STATES = (*OPEN, *SETTLED)
PIECE = 200  #: that are read at once
ROLES = ("assurance", "approver")  #: one of which whoever changes an exception must have


def exceptions(
    catalogue: Catalogue,
    *,
    only_open: bool = False,
    robot: str = "",
    subject: str = "",
    kind: str = "",
    owner: str = "",
    before: int = 0,
    limit: int = MANY,
) -> list[ExceptionDocument]:
    """Exceptions, the newest first. ``before``: number of the last one of the page before; 0 for the first page."""
    query = _query()
    for column, wanted in (
        (t.exceptions.c.robot, robot),
        (t.exceptions.c.subject, subject),
        (t.exceptions.c.kind, kind),
    ):
        if wanted:
            query = query.where(column == wanted)
    found: list[ExceptionDocument] = []
    for row, changes in _newest(catalogue, query, before):
        document = _document(catalogue, row, changes)
        if (not only_open or document["state"] in OPEN) and owner in ("", document["owner"]):
            found.append(document)
        if len(found) >= limit:
            break
    aliases = catalogue.get_many({document["subject"] for document in found})
    for document in found:
        item = aliases.get(document["subject"])
        document["subject_alias"] = item.alias if item is not None else ""
    return found


def exception(catalogue: Catalogue, number: int) -> ExceptionDocument:
    """One of them. Raises ``UsageError`` where it is not there."""
    document = _document(catalogue, _row(catalogue, number), _changes(catalogue, [number]).get(number, []))
    item = catalogue.get(document["subject"])
    document["subject_alias"] = item.alias if item is not None else ""
    return document


def changed(
    catalogue: Catalogue, number: int, key: SigningKey, person: str, state: str, reason: str, owner: str = ""
) -> bytes:
    """The statement by which a person changes an exception: its state, and its owner where one is named.

    Raises ``UsageError`` for what can't be, or may not be by this person.
    """
    current = exception(catalogue, number)
    if current["state"] in SETTLED:
        raise UsageError(f"exception {number} is {current['state']} already")
    if state not in STATES:
        raise UsageError(f"{state[:40]!r} is no state of an exception; there is {', '.join(STATES)}")
    if not reason.strip():
        raise UsageError("say why, with --reason")
    predicate = {
        "person": person, "state": state, "owner": owner, "reason": reason,
        "time": utc_text(catalogue.now_ns // SECOND * SECOND),
    }  # fmt: skip
    data = sign(EXCEPTION, [(f"exception {number}", digest(_row(catalogue, number)))], predicate, key)
    standing = _standing(catalogue, opened(data), owners(catalogue, current), state)
    if not standing.holds:
        raise UsageError(f"exception {number}: {'; '.join(standing.reasons)}")
    return data


def owners(catalogue: Catalogue, one: ExceptionDocument) -> set[str]:
    """Who owns an exception, or did: none of them settles it."""
    named = {one["owner"], _row(catalogue, one["id"]).owner, *(change["owner"] for change in one["changes"])}
    return named - {""}


def record(catalogue: Catalogue, number: int, data: bytes) -> None:
    """Keep a change that :func:`changed` has made."""
    from .entering import keep

    statement = opened(data)
    kept = keep(catalogue.tx, data, "dsse", EXCEPTION, statement.subjects, catalogue.now_ns // SECOND)
    values = {"exception": number, "statement": kept, "at_s": catalogue.now_ns // SECOND}
    catalogue.tx.connection.execute(sa.insert(t.exception_changes).values(**values))


def settlements(catalogue: Catalogue) -> dict[tuple[str, str, str], int | str]:
    """(kind, robot, subject) of all that is known: when it was settled (s); its state where it may not open again."""
    rows = catalogue.tx.connection.execute(_query().order_by(t.exceptions.c.id)).all()
    changes = _changes(catalogue)
    found: dict[tuple[str, str, str], int | str] = {}
    for row in rows:
        document = _document(catalogue, row, changes.get(row.id, []))
        state: int | str = document["state"]
        if state in ("mitigated", "closed"):
            state = max((one["time_ns"] for one in document["changes"] if one["counts"]), default=0) // SECOND
        found[row.kind, row.robot, row.subject] = state
    return found


def digest(row: Any) -> str:
    """What a change names the exception by: nobody can take a signature under one for another's."""
    said = {
        "kind": row.kind,
        "robot": row.robot,
        "subject": row.subject,
        "log": row.log,
        "seq": row.seq,
        "opened": row.opened_s,
    }
    return hashlib.sha256(b"edge-monitor exception v1\0" + compact(said)).hexdigest()


def _query() -> sa.Select[Any]:
    query = sa.select(t.exceptions, registry.logs.c.origin)
    return query.join(registry.logs, registry.logs.c.log == t.exceptions.c.log, isouter=True)


def _row(catalogue: Catalogue, number: int) -> Any:
    row = catalogue.tx.connection.execute(_query().where(t.exceptions.c.id == number)).first()
    if row is None:
        raise UsageError(f"no exception {number}; 'edge-registry exceptions list' shows them")
    return row


def _newest(catalogue: Catalogue, query: sa.Select[Any], before: int) -> Iterator[tuple[Any, list[Any]]]:
    """Rows with their changes, the newest first, read piece by piece: whoever looks at a page reads little of the rest."""
    query = query.order_by(t.exceptions.c.id.desc()).limit(PIECE)
    while True:
        rows = catalogue.tx.connection.execute(query.where(t.exceptions.c.id < before) if before else query).all()
        changes = _changes(catalogue, [row.id for row in rows])
        for row in rows:
            yield row, changes.get(row.id, [])
        if len(rows) < PIECE:
            return
        before = rows[-1].id


def _changes(catalogue: Catalogue, numbers: Sequence[int] | None = None) -> dict[int, list[Any]]:
    query = sa.select(t.exception_changes.c.exception, t.statements).join(
        t.statements, t.statements.c.id == t.exception_changes.c.statement
    )
    if numbers is not None:
        query = query.where(t.exception_changes.c.exception.in_(numbers))
    found: dict[int, list[Any]] = {}
    for row in catalogue.tx.connection.execute(query.order_by(t.exception_changes.c.id)):
        found.setdefault(row.exception, []).append(row)
    return found


def _document(catalogue: Catalogue, row: Any, changes: list[Any]) -> ExceptionDocument:
    state, owner, owners = "open", row.owner, {row.owner}
    named = digest(row)
    told: list[ChangeDocument] = []
    for change in changes:
        statement = _said(change).statement
        if statement is None:
            continue
        said = statement.text("state")
        standing = _standing(catalogue, statement, owners, said)
        counts = standing.holds and said in STATES and statement.subjects[0][1] == named
        told.append(
            {
                "time_ns": statement.time_ns, "state": said, "person": standing.person or statement.text("person"),
                "owner": statement.text("owner"), "reason": statement.text("reason"), "statement": statement.digest,
                "counts": counts,
            }
        )  # fmt: skip
        if counts:
            state, owner = said, statement.text("owner") or owner
            owners.add(owner)
    deadline = row.deadline_s * SECOND
    origin = row.origin or ""
    return {
        "id": row.id,
        "kind": row.kind,
        "robot": row.robot,
        "subject": row.subject,
        "subject_alias": "",
        "log": origin.rpartition("/")[2],
        "sequence": row.seq,
        "opened_ns": row.opened_s * SECOND,
        "owner": owner,
        "deadline_ns": deadline,
        "overdue": state in OPEN and catalogue.now_ns >= deadline,
        "state": state,
        "words": row.words,
        "changes": told,
    }


def _standing(catalogue: Catalogue, statement: Statement, owners: set[str], state: str) -> Standing:
    """What a person's change is worth: of somebody with a role for it, and not of who owns or owned it where it settles."""
    standings = [catalogue.trust.standing(statement, catalogue.now_ns, role) for role in ROLES]
    standing = next((one for one in standings if one.holds), standings[0])
    if standing.holds and state in SETTLED and standing.person in owners:
        words = f"{standing.person} owns it, or did: another person must settle it"
        return Standing("not valid", standing.person, standing.key, (words,), ("own_exception",))
    return standing
