"""Envelopes' approval files (docs/approval.md) in the catalogue: a proposal registers its envelope, an approval approves it.

Both are people's signatures over the envelope's digest, made before any registry saw them; nothing is signed a second time here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from edge_monitor.envelope import approval as approvals
from edge_monitor.envelope.statements import Proposal, parse_proposal, split_file
from edge_monitor.errors import VerificationError
from edge_monitor.journal.notes import split_note
from edge_monitor.people import Refusal
from edge_monitor.utc import SECOND

from ..store import Transaction
from . import tables as t
from .entering import Registration, Taken, keep, keep_document, register
from .kinds import alias
from .statements import Standing, Trust

TYPE = "envelope approval"  #: what such a statement is called, where others have the type of their predicate


@dataclass(frozen=True, slots=True)
class Named:
    """An envelope as an approval file speaks of it, for :mod:`edge_monitor.envelope.approval`."""

    id: str
    version: int
    digest: str
    file_digest: str
    source: str


def parse(data: bytes) -> Proposal | None:
    """What an approval file proposes, whoever signed it; None where it is none."""
    try:
        return parse_proposal(split_note(split_file(data)[0])[0])
    except (ValueError, IndexError, VerificationError):
        return None


def named(proposal: Proposal) -> Named:
    """The envelope that is proposed."""
    called = alias("envelope", proposal.envelope, str(proposal.version))
    return Named(proposal.envelope, proposal.version, proposal.digest, proposal.file_digest, called)


def registration(proposal: Proposal) -> Registration:
    """What a proposal registers: the proposer built it, and answers for it."""
    return Registration(
        "envelope",
        proposal.envelope,
        str(proposal.version),
        proposal.digest,
        proposal.proposer,
        {},
        (),
        proposal.file_digest,
    )


def verified(data: bytes, trust: Trust, now_ns: int) -> approvals.Approval | approvals.Refused:
    """Whether an approval file approves its envelope at a moment."""
    proposal = parse(data)
    if proposal is None or trust.people is None:
        message = "nobody is trusted: there is no people file" if proposal else "it is no approval file"
        return approvals.Refused((Refusal("no_people" if proposal else "malformed", message),), proposal)
    return approvals.verify(named(proposal), data, trust.people, now_ns)


def standing(data: bytes, trust: Trust, now_ns: int) -> Standing:
    """What an approval file is worth at a moment, as a whole."""
    verdict = verified(data, trust, now_ns)
    if isinstance(verdict, approvals.Approval):
        return Standing("verified", verdict.approver)
    person = verdict.consent.approver if verdict.consent is not None else ""
    return _refused(verdict.refusals, person)


def proposal_standing(data: bytes, trust: Trust, now_ns: int) -> Standing:
    """What its proposal is worth, whether or not anybody approved it."""
    proposal = parse(data)
    if proposal is None or trust.people is None:
        return _refused(verified(data, trust, now_ns).refusals, "")
    verdict = approvals.verify_proposal(named(proposal), data, trust.people, now_ns)
    if isinstance(verdict, Proposal):
        return Standing("verified", verdict.proposer)
    return _refused(verdict.refusals, proposal.proposer)


def take(tx: Transaction, data: bytes, trust: Trust, now_ns: int, documents: Iterable[bytes] = ()) -> Taken:
    """Keep an approval file; its envelope is in the catalogue from then on, if somebody who may proposed it.

    ``documents``: the envelope's file. Raises ``VerificationError`` for what is none, ``UsageError`` where another thing has the
    envelope's name.
    """
    proposal = parse(data)
    if proposal is None:
        raise VerificationError("is no approval file: 'edge-monitor envelope sign' makes one")
    digest = hashlib.sha256(data).hexdigest()
    known = tx.connection.execute(sa.select(t.statements.c.id).where(t.statements.c.digest == digest)).scalar()
    number = known or keep(tx, data, "approval", TYPE, [(proposal.envelope, proposal.digest)], now_ns // SECOND)
    one = registration(proposal)
    if proposal_standing(data, trust, now_ns).holds:
        register(tx, one, number, now_ns // SECOND)
        for document in documents:
            if hashlib.sha256(document).hexdigest() == proposal.file_digest:
                keep_document(tx, document)
    return Taken(digest, TYPE, standing(data, trust, now_ns), known is None, named(proposal).source)


def _refused(refusals: tuple[Refusal, ...], person: str) -> Standing:
    codes = tuple(one.code for one in refusals)
    word = "unknown key" if set(codes) <= {"unknown_key", "no_people"} else "not valid"
    return Standing(word, person, "", tuple(one.message for one in refusals), codes)
