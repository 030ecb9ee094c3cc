"""People, keys and an envelope that the tests of approvals share; every input is fixed, so every signature is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edge_monitor import people
from edge_monitor.envelope import Envelope, loads
from edge_monitor.envelope.statements import MAX_FILE, Consent, Proposal, join_file, note_hash, split_file
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.notes import Checkpoint, sign_note
from edge_monitor.utc import SECOND, utc_ns

DAY = 86_400 * SECOND
PROPOSED = utc_ns("2026-11-26T09:00:00Z")
APPROVED = utc_ns("2026-11-26T15:30:00Z")
EXPIRES = utc_ns("2027-02-24T15:30:00Z")
NOW = utc_ns("2026-12-01")

NAMES = ("alice", "alice-spare", "bob", "carol", "dave", "erin", "mallory")
SEEDS = {name: bytes([i]) * 32 for i, name in enumerate(NAMES, start=1)}
KEYS = {name: SigningKey(name, seed) for name, seed in SEEDS.items()}

PEOPLE = f"""\
edge_monitor_people: 1
people:
  alice:
    name: Alice Example
    roles: [planner, approver]
    keys: [{KEYS["alice"].verifier.text()}, {KEYS["alice-spare"].verifier.text()}]
  bob:
    name: Bob Example
    roles: [approver, operator]
    keys:
      - {{key: {KEYS["bob"].verifier.text()}, valid_from: 2026-01-01, valid_until: 2027-12-01}}
  carol:
    name: Carol Example
    roles: [approver, operator]
    keys: [{KEYS["carol"].verifier.text()}]
    revoked: true
  dave:
    name: Dave Example
    roles: [planner, field_engineer]
    keys: [{KEYS["dave"].verifier.text()}]
  erin:
    name: Erin Example
    roles: [approver]
    keys: [{KEYS["erin"].verifier.text()}]
    valid_from: 2026-01-01T12:00:00Z
    valid_until: 2026-11-30
"""

ENVELOPE = """\
edge_monitor: 1
envelope: {id: yard-rover, version: 4, vehicle: rover, claim: G1}
signals:
  speed: {topic: /odom, field: v, unit: m/s, max_age: 300 ms}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 2, leave: 1.8, severity: critical}   # walking pace
gates:
  takeoff: {require: all, criteria: [speed_limit]}
"""


def trusted() -> people.People:
    """The people of the tests."""
    return people.loads(PEOPLE.encode())


def envelope(text: str = ENVELOPE, source: str = "yard.yaml") -> Envelope:
    """The envelope of the tests, or one of another text."""
    return loads(text.encode(), source=source)


def proposal_note(key: str = "alice", **changes: Any) -> str:
    """A signed proposal of the tests' envelope by alice, with the changes."""
    one = envelope()
    made = Proposal(one.id, one.version, one.digest, one.file_digest, "alice", PROPOSED)
    return sign_note(replace(made, **changes).text(), KEYS[key])


def approval_file(key: str = "bob", proposal: str | None = None, **changes: Any) -> bytes:
    """An approval file: ``proposal`` (alice's where not given) and bob's approval of it, with the changes."""
    note = proposal_note() if proposal is None else proposal
    made = Consent(note_hash(note), "bob", "T-123", "Drive of 12 November looked at", APPROVED, EXPIRES)
    return join_file(note, sign_note(replace(made, **changes).text(), KEYS[key]))


def resigned(data: bytes, index: int, *names: str) -> bytes:
    """The file with the text of one of its notes signed by others."""
    notes = split_file(data)
    text = notes[index].rpartition("\n\n")[0] + "\n"
    lines = "".join(sign_note(text, KEYS[name]).rpartition("\n\n")[2] for name in names)
    notes[index] = f"{text}\n{lines}"
    return join_file(*notes)


ZERO = "0" * 64
SPARE = proposal_note("alice-spare")
OTHER = split_file(approval_file(proposal=proposal_note(version=3)))[1]
#: What it is, the file, and the codes of all reasons against it.
REFUSED: list[tuple[str, bytes | None, list[str]]] = [
    ("no file", None, ["missing"]),
    ("a proposal alone", proposal_note().encode(), ["not_approved"]),
    ("the proposer approves", approval_file("alice", approver="alice"), ["self_approval"]),
    ("with another key of theirs", approval_file("alice-spare", approver="alice"), ["self_approval"]),
    ("and the other way round", approval_file("alice", proposal=SPARE, approver="alice"), ["self_approval"]),
    (
        "in another's name",
        approval_file("alice-spare"),
        ["wrong_person", "self_approval"],
    ),
    ("a proposal in another's name", approval_file(proposal=proposal_note("dave")), ["wrong_person"]),
    (
        "a proposal in the approver's name",
        approval_file(proposal=proposal_note(proposer="bob")),
        ["wrong_person", "self_approval"],
    ),
    ("an approver without the role", approval_file("dave", approver="dave"), ["role"]),
    (
        "a proposer without the role",
        approval_file(proposal=proposal_note("bob", proposer="bob")),
        ["role", "self_approval"],
    ),
    ("a revoked person", approval_file("carol", approver="carol"), ["revoked"]),
    ("a person whose time is over", approval_file("erin", approver="erin"), ["expired_key"]),
    ("an unknown approver", approval_file("mallory"), ["unknown_key"]),
    ("an unknown proposer", approval_file(proposal=proposal_note("mallory")), ["unknown_key"]),
    ("two unknown", approval_file("mallory", proposal=proposal_note("mallory")), ["unknown_key", "unknown_key"]),
    ("two signatures of the approval", resigned(approval_file(), 1, "bob", "carol"), ["signatures"]),
    ("one signature twice", resigned(approval_file(), 1, "bob", "bob"), ["signatures"]),
    ("two signatures of the proposal", resigned(approval_file(), 0, "alice", "dave"), ["signatures", "other_proposal"]),
    ("another signature of the proposal", resigned(approval_file(), 0, "alice-spare"), ["other_proposal"]),
    ("approval of another version", join_file(proposal_note(time=PROPOSED + SECOND), OTHER), ["other_proposal"]),
    ("older than the proposal", approval_file(time=PROPOSED - SECOND), ["older"]),
    ("for no time", approval_file(expires=APPROVED), ["term", "expired"]),
    ("for too long", approval_file(expires=APPROVED + 367 * DAY), ["term"]),
    ("another version", approval_file(proposal=proposal_note(version=3)), ["version"]),
    ("another envelope", approval_file(proposal=proposal_note(envelope="yard-tug")), ["version"]),
    ("another content", approval_file(proposal=proposal_note(digest=ZERO)), ["digest"]),
    ("another file of one content", approval_file(proposal=proposal_note(file_digest=ZERO)), ["file"]),
    ("an approval twice", approval_file() + b"\n" + split_file(approval_file())[1].encode(), ["malformed"]),
    ("the approval alone", split_file(approval_file())[1].encode(), ["malformed", "not_approved"]),
    ("the proposal twice", join_file(proposal_note(), proposal_note()), ["malformed"]),
    ("the order changed", join_file(*reversed(split_file(approval_file()))), ["malformed", "malformed"]),
    ("empty", b"", ["malformed"]),
    ("not UTF-8", approval_file().replace(b"November", b"N\xf6vember"), ["malformed"]),
    ("a byte order mark", b"\xef\xbb\xbf" + approval_file(), ["signature", "other_proposal"]),
    ("line ends of another system", approval_file().replace(b"\n", b"\r\n"), ["malformed"]),
    ("too large", approval_file() + b"x" * MAX_FILE, ["malformed"]),
    ("a line more at the end", approval_file() + b"\n", ["malformed"]),
    ("no end of line", approval_file()[:-1], ["malformed"]),
]

#: A handover as an operator accepts it, and the checkpoint that was shown.
HANDOVER = {
    "id": "7d0f6c1e-0001",
    "direction": "to_human",
    "from": "autonomy",
    "to": "station-2/bob",
    "reason": "odd.exit",
    "requested_ns": 1_500_000_000,
    "deadline_ns": 11_500_000_000,
    "speed": 1.25,
    "rules": ["speed_limit"],
}
CHECKPOINT = Checkpoint("yard-rover-7/00112233-4455-6677-8899-aabbccddeeff", 1234, bytes(range(32))).text()
