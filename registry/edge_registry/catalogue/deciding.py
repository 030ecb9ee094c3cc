"""What people decide of things: approvals and promotions, each refused before it is signed where it could not count."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from edge_monitor.envelope.approval import approve as approve_envelope
from edge_monitor.envelope.statements import MAX_REASON, MAX_TICKET, is_reason, is_ticket
from edge_monitor.errors import ConfigError, UsageError
from edge_monitor.journal.keys import SigningKey
from edge_monitor.utc import SECOND, utc_text

from .. import tables as registry
from . import approvals
from .entering import Taken, take
from .judging import release_problems
from .kinds import APPROVABLE, PROMOTABLE
from .reading import Catalogue, Item
from .statements import APPROVAL, PROMOTION, opened, sign

DECISIONS = ("approved", "refused", "withdrawn")
PROMOTIONS = ("promoted", "withdrawn")


def approve(
    catalogue: Catalogue,
    item: Item,
    key: SigningKey,
    person: str,
    decision: str,
    ticket: str,
    reason: str,
    expires_ns: int,
) -> Taken:
    """Sign that a thing may be used (or not), and keep it.

    An envelope's approval is the file that robots take (docs/approval.md), made from its proposal. Raises ``ConfigError`` for
    what this person may not decide, ``UsageError`` for what nobody can.
    """
    if item.kind not in APPROVABLE:
        raise UsageError(f"a {item.kind} is not approved; {', '.join(APPROVABLE)} are")
    _check_words(ticket, reason)
    if item.kind == "envelope" and decision == "approved":
        return _approve_envelope(catalogue, item, key, person, ticket, reason, expires_ns)
    if item.kind == "envelope":
        raise UsageError(
            "an envelope's approval ends with its term; 'edge-registry bundle --revocations' ends it earlier"
        )
    _refuse_own(catalogue, item, person, {catalogue.builder(item), item.owner})
    said = {"decision": decision, "expires": utc_text(expires_ns)}
    return _decide(catalogue, item, APPROVAL, key, person, ticket, reason, said)


def promote(
    catalogue: Catalogue, item: Item, key: SigningKey, person: str, decision: str, robots: tuple[str, ...], ticket: str,
    reason: str, expires_ns: int,
) -> Taken:  # fmt: skip
    """Sign that robots run a thing from now on, and keep it. A new promotion replaces the one before: it names all robots.

    Raises as :func:`approve`, and ``ConfigError`` with every reason where the thing is not approved, tested and registered.
    """
    if item.kind not in PROMOTABLE:
        raise UsageError(f"a {item.kind} is not promoted; {', '.join(PROMOTABLE)} are")
    _check_words(ticket, reason)
    _refuse_own(catalogue, item, person, {catalogue.builder(item)})
    if decision == "promoted":
        known = set(catalogue.tx.connection.execute(sa.select(registry.robots.c.id)).scalars())
        unknown = [robot for robot in robots if robot not in known]
        if unknown or not robots:
            raise UsageError(
                f"no robot {', '.join(unknown) or 'is named'}; 'edge-registry robots' lists those that are enrolled"
            )
        problems = release_problems(catalogue, item)
        if problems:
            raise ConfigError("\n".join(f"{item.alias}: {problem}" for problem in problems))
    said = {"decision": decision, "robots": sorted(set(robots)), "expires": utc_text(expires_ns)}
    return _decide(catalogue, item, PROMOTION, key, person, ticket, reason, said)


def _decide(
    catalogue: Catalogue,
    item: Item,
    kind: str,
    key: SigningKey,
    person: str,
    ticket: str,
    reason: str,
    said: dict[str, Any],
) -> Taken:
    now = catalogue.now_ns // SECOND * SECOND
    predicate = {"person": person, "kind": item.kind, "ticket": ticket, "reason": reason, "time": utc_text(now), **said}
    data = sign(kind, [(item.alias, item.digest)], predicate, key)
    standing = catalogue.trust.standing(opened(data), catalogue.now_ns, "approver")
    if not standing.holds:
        raise ConfigError("\n".join(f"{item.alias}: {reason}" for reason in standing.reasons))
    return take(catalogue.tx, data, catalogue.trust, catalogue.now_ns)


def _approve_envelope(
    catalogue: Catalogue, item: Item, key: SigningKey, person: str, ticket: str, reason: str, expires_ns: int
) -> Taken:
    people = catalogue.trust.people
    files = [one.data for one in catalogue.said_of(item.digest) if one.form == "approval"]
    proposal = approvals.parse(files[-1]) if files else None
    if proposal is None or people is None:
        raise UsageError(
            f"nobody proposed {item.alias}: sign it with 'edge-monitor envelope sign', and add it again with its .approval file"
        )
    named = approvals.named(proposal)
    made = approve_envelope(
        named, files[-1], key, person, people, catalogue.now_ns, ticket=ticket, reason=reason, expires_ns=expires_ns
    )
    return approvals.take(catalogue.tx, made, catalogue.trust, catalogue.now_ns)


def _refuse_own(catalogue: Catalogue, item: Item, person: str, own: set[str]) -> None:
    if person in own:
        what = "registered" if person == catalogue.builder(item) else "owns"
        raise ConfigError(f"{item.alias}: {person} {what} it: another person must sign")


def _check_words(ticket: str, reason: str) -> None:
    if not is_ticket(ticket):
        raise UsageError(f"a ticket is 1 to {MAX_TICKET} characters without blanks, such as T-123")
    if not is_reason(reason):
        raise UsageError(f"a reason is one line of at most {MAX_REASON} plain characters (Unicode NFC)")
