"""Who proposed an envelope and who approved it: two signed statements in a file beside it, ``E.approval``.

The proposal binds the envelope's content and the very bytes of its file; the approval binds the proposal, signature
included. Both are C2SP signed notes over the text that stands in the file. ``docs/approval.md`` is the format; the rules
are in :func:`verify`, and nothing but its answer makes an envelope an approved one.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import ConfigError, UsageError, VerificationError
from ..journal.keys import SigningKey
from ..journal.notes import sign_note
from ..people import People, Refusal, Role, Signer
from ..utc import SECOND, utc_text
from .statements import (
    MAX_FILE,
    MAX_REASON,
    MAX_TICKET,
    Consent,
    Proposal,
    is_reason,
    is_ticket,
    join_file,
    note_hash,
    parse_consent,
    parse_proposal,
    split_file,
)

SUFFIX = ".approval"
MAX_TERM = 366 * 86_400 * SECOND  #: an approval is given for so long at most
TOLERANCE = 300 * SECOND  #: how far two people's clocks may be apart
#: Refusals where a signature or what carries it does not hold (exit code 5); the others are the configuration's (3).
BROKEN = frozenset({"malformed", "signatures", "signature"})


class Named(Protocol):
    """What an approval is about: an envelope, loaded or known by its digests alone."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def version(self) -> int:
        """Its version."""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what it says."""

    @property
    def file_digest(self) -> str:
        """SHA-256 (hex) of its file's bytes."""

    @property
    def source(self) -> str:
        """The file, for errors and for the approval's place."""


@dataclass(frozen=True, slots=True)
class Approval:
    """An envelope's standing: approved, or (``unapproved``) taken for the bench in spite of ``refusals``.

    Times in ns since 1970. ``people_digest``: of the people file that was trusted; ``file_digest``: of the approval file.
    """

    envelope: str
    version: int
    digest: str
    unapproved: bool = False
    refusals: tuple[Refusal, ...] = ()
    proposer: str = ""
    proposed: int = 0
    approver: str = ""
    ticket: str = ""
    reason: str = ""
    approved: int = 0
    expires: int = 0
    file_digest: str = ""
    people_digest: str = ""

    def has_expired(self, now_ns: int, last_receipt_ns: int | None = None) -> bool:
        """Whether it is over by the later of wall clock and last receipt. To be asked on the ground only."""
        return not self.unapproved and latest(now_ns, last_receipt_ns) >= self.expires


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an envelope is not approved, all reasons; the statements as they read, which nobody vouches for."""

    refusals: tuple[Refusal, ...]
    proposal: Proposal | None = None
    consent: Consent | None = None


class ApprovalError(ConfigError):
    """An envelope is not approved. ``refusals`` are the reasons; ``str`` has a line for each."""

    def __init__(self, where: str | Path, refusals: tuple[Refusal, ...]) -> None:
        self.refusals = refusals
        self.exit_code = exit_code(refusals)
        super().__init__("\n".join(f"{where}: {refusal.message}" for refusal in refusals))


def exit_code(refusals: tuple[Refusal, ...]) -> int:
    """5 where a signature does not hold, 3 for every other reason, 0 for none."""
    if any(refusal.code in BROKEN for refusal in refusals):
        return VerificationError.exit_code
    return ConfigError.exit_code if refusals else 0


def latest(now_ns: int, last_receipt_ns: int | None) -> int:
    """The moment that it is at least: a clock set back does not bring an expired approval to life."""
    return max(now_ns, last_receipt_ns if last_receipt_ns is not None else now_ns)


def approval_path(envelope: str | Path) -> Path:
    """The approval file beside an envelope file: ``E.approval`` of ``E.yaml``.

    Raises ``ConfigError`` for an envelope that would itself be in the way.
    """
    path = Path(envelope)
    if path.suffix == SUFFIX:
        raise ConfigError(f"{path}: an envelope file cannot end in {SUFFIX}: name it {path.with_suffix('.yaml').name}")
    return path.with_suffix(SUFFIX)


def read_approval(path: Path) -> bytes | None:
    """The approval file's bytes, at most one more than a good one has; None where there is none.

    Raises ``ConfigError`` when it is there and cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{path}: cannot read the approval: {reason}") from None


def write_approval(path: Path, data: bytes) -> None:
    """Put the approval file in its place at once, durably. Raises ``ConfigError`` when it cannot be written."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o644)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot write the approval: {error.strerror}; choose a folder you can write to"
        ) from None


def verify(
    envelope: Named, data: bytes | None, people: People, now_ns: int, last_receipt_ns: int | None = None
) -> Approval | Refused:
    """Whether ``data`` (the approval file) approves this envelope now, by these people; else every reason why not.

    ``now_ns``: wall clock; ``last_receipt_ns``: the newest moment that a registry has vouched for; ns since 1970.
    """
    clock = latest(now_ns, last_receipt_ns)
    if data is None:
        return Refused((Refusal("missing", f"{_called(envelope)} is not approved: {_MEND}"),))
    try:
        notes = split_file(data)
    except ValueError as error:
        return Refused((_malformed(str(error)),))
    proposal, proposer, refusals = _proposal(envelope, notes[0], people, clock)
    if len(notes) == 1:
        message = (
            "the envelope is proposed, not approved: another person approves it with 'edge-monitor envelope approve'"
        )
        return Refused((*refusals, Refusal("not_approved", message)), proposal)
    text, approver, found = people.opened(notes[1], "approval")
    consent = parse_consent(text)
    refusals += found
    if consent is None:
        refusals += [] if found else [_malformed(f"the approval {_FORM}")]
    elif not found:
        refusals += _consent_refusals(consent, approver, notes[0], clock)
        if proposal is not None and proposer is not None:
            refusals += _between(proposal, proposer, consent, approver)
    if refusals or proposal is None or consent is None:
        return Refused(tuple(refusals), proposal, consent)
    return Approval(
        envelope=envelope.id,
        version=envelope.version,
        digest=envelope.digest,
        proposer=proposal.proposer,
        proposed=proposal.time,
        approver=consent.approver,
        ticket=consent.ticket,
        reason=consent.reason,
        approved=consent.time,
        expires=consent.expires,
        file_digest=hashlib.sha256(data).hexdigest(),
        people_digest=people.digest,
    )


def verify_proposal(envelope: Named, data: bytes, people: People, now_ns: int) -> Proposal | Refused:
    """Whether the file proposes this envelope, whatever else is in it; else every reason why not."""
    try:
        notes = split_file(data)
    except ValueError as error:
        return Refused((_malformed(str(error)),))
    proposal, _, refusals = _proposal(envelope, notes[0], people, now_ns)
    return proposal if proposal is not None and not refusals else Refused(tuple(refusals), proposal)


def require(
    envelope: Named,
    people: People | None,
    now_ns: int,
    unapproved: bool = False,
    last_receipt_ns: int | None = None,
) -> Approval:
    """The approval of an envelope by the file beside it, before it may become active.

    With ``unapproved`` (the bench) an envelope that is not approved is taken all the same, and the answer says so.

    Raises:
        ApprovalError: a ConfigError with a line for every reason.
        ConfigError: the approval file cannot be read.
    """
    path = approval_path(envelope.source)
    if people is None:
        refused = Refused((Refusal("no_people", "nobody is trusted to approve: name the people file with --people"),))
    else:
        verdict = verify(envelope, read_approval(path), people, now_ns, last_receipt_ns)
        if isinstance(verdict, Approval):
            return verdict
        refused = verdict
    if not unapproved:
        raise ApprovalError(path, refused.refusals)
    return Approval(
        envelope.id,
        envelope.version,
        envelope.digest,
        unapproved=True,
        refusals=refused.refusals,
        people_digest=people.digest if people else "",
    )


def activated(approval: Approval) -> dict[str, Any]:
    """The payload of ``envelope.activated``: what is active, and on whose word."""
    payload: dict[str, Any] = {
        "envelope": approval.envelope,
        "envelope_version": approval.version,
        "envelope_digest": approval.digest,
        "unapproved": approval.unapproved,
        "people_digest": approval.people_digest,
    }
    if approval.unapproved:
        return payload | {"reasons": [refusal.code for refusal in approval.refusals]}
    return payload | {
        "proposer": approval.proposer,
        "proposed_ns": approval.proposed,
        "approver": approval.approver,
        "approved_ns": approval.approved,
        "ticket": approval.ticket,
        "reason": approval.reason,
        "expires_ns": approval.expires,
        "approval_digest": approval.file_digest,
    }


def rejected(refusals: tuple[Refusal, ...], envelope: Named | None = None) -> dict[str, Any]:
    """The payload of ``envelope.rejected``: which envelope, if it could be read at all, and every reason."""
    payload: dict[str, Any] = {
        "cause": refusals[0].message if refusals else "",
        "reasons": [{"code": refusal.code, "message": refusal.message} for refusal in refusals],
    }
    if envelope is None:
        return payload
    which = {"envelope": envelope.id, "envelope_version": envelope.version, "envelope_digest": envelope.digest}
    return which | payload


def propose(envelope: Named, key: SigningKey, person: str, people: People, now_ns: int) -> bytes:
    """A new approval file with the proposal alone.

    Raises ``ConfigError`` when the key is not the person's, or the person may not propose.
    """
    signer = _own(key, person, people)
    proposal = Proposal(
        envelope.id, envelope.version, envelope.digest, envelope.file_digest, person, now_ns // SECOND * SECOND
    )
    _may(signer, "planner", proposal.time, people)
    return sign_note(proposal.text(), key).encode()


def approve(
    envelope: Named,
    data: bytes,
    key: SigningKey,
    person: str,
    people: People,
    now_ns: int,
    *,
    ticket: str,
    reason: str = "",
    expires_ns: int,
) -> bytes:
    """The approval file ``data`` with the approval of ``person``, in the place of any that was there.

    Raises:
        ApprovalError: the proposal in it does not hold for this envelope, or the approval would not.
        ConfigError: the key is not the person's.
        UsageError: a ticket, reason or term that no approval can have.
    """
    signer = _own(key, person, people)
    if not is_ticket(ticket):
        raise UsageError(f"a ticket is 1 to {MAX_TICKET} characters without blanks, such as T-123")
    if not is_reason(reason):
        raise UsageError(f"a reason is one line of at most {MAX_REASON} plain characters (Unicode NFC)")
    time, expires = now_ns // SECOND * SECOND, expires_ns // SECOND * SECOND
    if not time < expires <= time + MAX_TERM:
        raise UsageError("an approval expires after it is given, and within 366 days: choose another --expires")
    path = approval_path(envelope.source)
    _may(signer, "approver", time, people)
    proposal = verify_proposal(envelope, data, people, now_ns)
    if isinstance(proposal, Refused):
        raise ApprovalError(path, proposal.refusals)
    note = split_file(data)[0]
    consent = Consent(note_hash(note), person, ticket, reason, time, expires)
    made = join_file(note, sign_note(consent.text(), key))
    verdict = verify(envelope, made, people, now_ns)
    if isinstance(verdict, Refused):
        raise ApprovalError(path, verdict.refusals)
    return made


_FORM = "is not in the one form that a statement has"
_MEND = "have it proposed with 'edge-monitor envelope sign', and approved by another person"


def _called(envelope: Named) -> str:
    return f"{envelope.id} v{envelope.version}"


def _own(key: SigningKey, person: str, people: People) -> Signer:
    if person not in people.persons:
        raise ConfigError(f"{people.source}: there is no person '{person}'; it has: {', '.join(people.persons)}")
    signer = people.key_of(person, key.verifier.public)
    if signer is None or signer.key.key != key.verifier:
        raise ConfigError(
            f"{people.source}: key {key.verifier.name} is not one of {person}: sign with your own key, or have it added"
        )
    return signer


def _may(signer: Signer, role: Role, time: int, people: People) -> None:
    refusals = tuple(signer.refusals(role, time, time))
    if refusals:
        raise ApprovalError(people.source, refusals)


def _malformed(what: str) -> Refusal:
    return Refusal("malformed", f"{what}: sign anew with --replace")


def _proposal(
    envelope: Named, note: str, people: People, clock: int
) -> tuple[Proposal | None, Signer | None, list[Refusal]]:
    """What the note proposes, who signed it, and why that is no proposal of this envelope."""
    text, signer, refusals = people.opened(note, "proposal")
    proposal = parse_proposal(text)
    if proposal is None:
        return None, signer, refusals or [_malformed(f"the proposal {_FORM}")]
    if refusals:
        return proposal, None, refusals
    refusals = list(_claim_refusals("proposal", proposal.proposer, signer, "planner", proposal.time, clock))
    again = "propose and approve this one, or bring the approved file back"
    if (proposal.envelope, proposal.version) != (envelope.id, envelope.version):
        approved = f"{proposal.envelope} v{proposal.version}"
        refusals.append(Refusal("version", f"is of {approved}, the file is {_called(envelope)}: {again}"))
    if proposal.digest != envelope.digest:
        was, now = proposal.digest[:16], envelope.digest[:16]
        message = f"the envelope says something else than what was proposed (digest {now}…, proposed {was}…): {again}"
        refusals.append(Refusal("digest", message))
    elif proposal.file_digest != envelope.file_digest:
        message = f"the envelope's file was changed after it was proposed, though not what it says (comments?): {again}"
        refusals.append(Refusal("file", message))
    return proposal, signer, refusals


def _claim_refusals(
    what: str, claimed: str, signer: Signer | None, role: Role, time: int, clock: int
) -> Iterator[Refusal]:
    """Whether a statement is of the one who signed it, who may, and at a time that can be."""
    assert signer is not None
    if signer.person.id != claimed:
        message = f"the {what} is in the name of {claimed}, but signed by {signer.person.id}: have it signed anew"
        yield Refusal("wrong_person", message)
    yield from signer.refusals(role, time, clock)
    if time > clock + TOLERANCE:
        message = f"the {what} was signed at {utc_text(time)}, but the clock says {utc_text(clock)}: set the clock"
        yield Refusal("clock", message)


def _consent_refusals(consent: Consent, approver: Signer | None, proposal_note: str, clock: int) -> Iterator[Refusal]:
    yield from _claim_refusals("approval", consent.approver, approver, "approver", consent.time, clock)
    if consent.proposal != note_hash(proposal_note):
        message = "the approval is of another proposal than the one in the file: approve this one with --replace"
        yield Refusal("other_proposal", message)
    if not consent.time < consent.expires <= consent.time + MAX_TERM:
        yield Refusal("term", "the approval is for no time, or for more than 366 days: approve anew with --replace")
    if clock >= consent.expires:
        message = f"the approval expired at {utc_text(consent.expires)} (now {utc_text(clock)}): approve anew"
        yield Refusal("expired", f"{message} with --replace")


def _between(proposal: Proposal, proposer: Signer, consent: Consent, approver: Signer | None) -> Iterator[Refusal]:
    """What holds between the two statements."""
    assert approver is not None
    if approver.person.id in (proposer.person.id, proposal.proposer) or consent.approver == proposer.person.id:
        message = f"{proposer.person.id} approved their own proposal: another person must approve it"
        yield Refusal("self_approval", message)
    if consent.time < proposal.time:
        message = f"the approval ({utc_text(consent.time)}) is older than the proposal ({utc_text(proposal.time)})"
        yield Refusal("older", f"{message}: check the clocks, and approve anew with --replace")
