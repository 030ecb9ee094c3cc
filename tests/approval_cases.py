"""People, keys and an envelope that the tests of approvals share; every input is fixed, so every signature is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edge_monitor import people
from edge_monitor.envelope import Envelope, loads
from edge_monitor.envelope.statements import Consent, Proposal, join_file, note_hash
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.notes import sign_note
from edge_monitor.utc import SECOND, utc_ns

DAY = 86_400 * SECOND
PROPOSED = utc_ns("2026-11-26T09:00:00Z")
APPROVED = utc_ns("2026-11-26T15:30:00Z")
EXPIRES = utc_ns("2027-02-24T15:30:00Z")
NOW = utc_ns("2026-12-01")

KEYS = {
    name: SigningKey(name, bytes([i]) * 32)
    for i, name in enumerate(("alice", "alice-spare", "bob", "carol", "dave", "erin", "mallory"), start=1)
}

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
