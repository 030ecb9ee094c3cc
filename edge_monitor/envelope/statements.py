"""The two statements of an approval file as text: strict in reading, so that one content has one form.

``docs/approval.md`` is the format. Nothing is verified here; :mod:`.approval` does that.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass

from ..utc import utc_ns, utc_text
from .fields import ID_PATTERN

PROPOSAL = "edge-monitor envelope proposal v1"
APPROVAL = "edge-monitor envelope approval v1"
MAX_FILE = 16_384
MAX_TICKET = 128
MAX_REASON = 500

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(ID_PATTERN)
_VERSION = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the proposer signs. Digests in hex, time in ns since 1970, whole seconds."""

    envelope: str
    version: int
    digest: str
    file_digest: str
    proposer: str
    time: int

    def text(self) -> str:
        """The lines that are signed."""
        return (
            f"{PROPOSAL}\nenvelope {self.envelope}\nversion {self.version}\ndigest {self.digest}\n"
            f"file {self.file_digest}\nproposer {self.proposer}\ntime {utc_text(self.time)}\n"
        )


@dataclass(frozen=True, slots=True)
class Consent:
    """What the approver signs; ``proposal`` is SHA-256 (hex) of the proposal's note, its signature included."""

    proposal: str
    approver: str
    ticket: str
    reason: str
    time: int
    expires: int

    def text(self) -> str:
        """The lines that are signed; no reason, no line."""
        reason = f"reason {self.reason}\n" if self.reason else ""
        return (
            f"{APPROVAL}\nproposal {self.proposal}\napprover {self.approver}\nticket {self.ticket}\n{reason}"
            f"time {utc_text(self.time)}\nexpires {utc_text(self.expires)}\n"
        )


def split_file(data: bytes) -> list[str]:
    """The one or two notes of an approval file, each with its final newline.

    Raises:
        ValueError: anything else than that.
    """
    if len(data) > MAX_FILE:
        raise ValueError(f"is larger than {MAX_FILE} bytes: no approval file")
    try:
        parts = data.decode("utf-8").split("\n\n")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8: no approval file") from None
    if len(parts) not in (2, 4) or not parts[-1].endswith("\n"):
        raise ValueError("is not one signed proposal, or that and one signed approval")
    if len(parts) == 2:
        return ["\n\n".join(parts)]
    return [f"{parts[0]}\n\n{parts[1]}\n", f"{parts[2]}\n\n{parts[3]}"]


def join_file(proposal: str, consent: str) -> bytes:
    """The file of two notes."""
    return f"{proposal}\n{consent}".encode()


def note_hash(note: str) -> str:
    """SHA-256 of a note's bytes, in hex."""
    return hashlib.sha256(note.encode()).hexdigest()


def parse_proposal(text: str) -> Proposal | None:
    """The proposal of a note's text; None unless the text is what a proposal writes."""
    words = _words(text, PROPOSAL)
    try:
        if not _VERSION.fullmatch(words["version"]):
            return None
        proposal = Proposal(
            words["envelope"],
            int(words["version"]),
            words["digest"],
            words["file"],
            words["proposer"],
            utc_ns(words["time"]),
        )
    except (KeyError, ValueError):
        return None
    digests = (proposal.digest, proposal.file_digest)
    if proposal.text() != text or not all(_DIGEST.fullmatch(digest) for digest in digests):
        return None
    return proposal if all(_ID.fullmatch(name) for name in (proposal.envelope, proposal.proposer)) else None


def parse_consent(text: str) -> Consent | None:
    """The approver's statement of a note's text; None unless the text is what one writes."""
    words = _words(text, APPROVAL)
    try:
        consent = Consent(
            words["proposal"],
            words["approver"],
            words["ticket"],
            words.get("reason", ""),
            utc_ns(words["time"]),
            utc_ns(words["expires"]),
        )
    except (KeyError, ValueError):
        return None
    if consent.text() != text or not _DIGEST.fullmatch(consent.proposal) or not _ID.fullmatch(consent.approver):
        return None
    return consent if is_ticket(consent.ticket) and is_reason(consent.reason) else None


def is_ticket(text: str) -> bool:
    """Whether a statement can cite it: one word."""
    return 0 < len(text) <= MAX_TICKET and " " not in text and _is_plain(text)


def is_reason(text: str) -> bool:
    """Whether a statement can hold it: one line, or nothing."""
    return len(text) <= MAX_REASON and text == text.strip() and _is_plain(text)


def _words(text: str, title: str) -> dict[str, str]:
    """What each line says after its first word; the caller holds the whole against its one form."""
    lines = text.split("\n")
    pairs = [line.partition(" ") for line in lines[1:]] if lines[0] == title else []
    return {first: rest for first, _, rest in pairs}


def _is_plain(text: str) -> bool:
    """Characters that show themselves, in their one form: no control, direction-changing or odd blank ones."""
    return text.isprintable() and unicodedata.is_normalized("NFC", text)
