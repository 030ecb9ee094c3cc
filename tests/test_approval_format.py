"""The vectors of envelope approvals, and a second reading of their format.

``python tests/test_approval_format.py`` writes the vectors anew; v1 is frozen, so they must not change.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import nacl.signing
from approval_cases import CHECKPOINT, ENVELOPE, HANDOVER, KEYS, NOW, PEOPLE, REFUSED, SEEDS, approval_file, envelope
from test_journal_format import pack

from edge_monitor import people
from edge_monitor.attestation import attest, attestation
from edge_monitor.envelope import loads
from edge_monitor.envelope.approval import Approval, Refused, verify
from edge_monitor.envelope.statements import MAX_FILE, note_hash, split_file

VECTORS = Path(__file__).resolve().parent / "vectors" / "approval_v1.json"


def make_vectors() -> dict[str, Any]:
    """An approved envelope with every input that decided its bytes, and files that must be refused."""
    one, good = envelope(), approval_file()
    notes = split_file(good)
    return {
        "about": "edge-monitor envelope approval v1; see docs/approval.md. Times in ns since 1970, digests in hex.",
        "seeds": {name: seed.hex() for name, seed in SEEDS.items()},
        "people": PEOPLE,
        "envelope": ENVELOPE,
        "digest": one.digest,
        "file_digest": one.file_digest,
        "now_ns": NOW,
        "proposal": notes[0],
        "proposal_hash": note_hash(notes[0]),
        "approval": notes[1],
        "file": good.decode(),
        "attestation": {
            "person": "bob",
            "handover": HANDOVER,
            "checkpoint": CHECKPOINT,
            "message_hex": attestation(HANDOVER, CHECKPOINT).hex(),
            "signature_hex": attest(KEYS["bob"], HANDOVER, CHECKPOINT).hex(),
        },
        "refused": [
            {"what": what, "file_hex": data.hex(), "codes": expected}
            for what, data, expected in REFUSED
            if data is not None and len(data) <= MAX_FILE
        ],
    }


def test_the_vectors_are_what_this_program_makes():
    """The published files are reproduced byte for byte, and judged as they say."""
    vectors = json.loads(VECTORS.read_text("utf-8"))
    assert vectors == make_vectors()
    there = people.loads(vectors["people"].encode())
    one = loads(vectors["envelope"].encode())
    assert isinstance(verify(one, vectors["file"].encode(), there, vectors["now_ns"]), Approval)
    for case in vectors["refused"]:
        verdict = verify(one, bytes.fromhex(case["file_hex"]), there, vectors["now_ns"])
        assert isinstance(verdict, Refused)
        assert [refusal.code for refusal in verdict.refusals] == case["codes"], case["what"]


def test_a_second_reading_of_the_format_agrees():
    """By docs/approval.md alone, with SHA-256 and Ed25519 from elsewhere, the vectors' file says and holds the same."""
    vectors = json.loads(VECTORS.read_text("utf-8"))
    proposal, first, approval, second = vectors["file"].split("\n\n")
    said = [dict(line.split(" ", 1) for line in text.splitlines()[1:]) for text in (proposal, approval)]
    assert proposal.splitlines()[0] == "edge-monitor envelope proposal v1"
    assert approval.splitlines()[0] == "edge-monitor envelope approval v1"
    assert list(said[0]) == ["envelope", "version", "digest", "file", "proposer", "time"]
    assert list(said[1]) == ["proposal", "approver", "ticket", "reason", "time", "expires"]
    assert said[0]["digest"] == vectors["digest"]
    assert said[0]["file"] == hashlib.sha256(vectors["envelope"].encode()).hexdigest()
    assert said[1]["proposal"] == hashlib.sha256(f"{proposal}\n\n{first}\n".encode()).hexdigest()
    for text, line, person in [(proposal, first, "alice"), (approval, second.rstrip("\n"), "bob")]:
        dash, name, encoded = line.split(" ")
        raw = base64.b64decode(encoded)
        public = nacl.signing.SigningKey(bytes.fromhex(vectors["seeds"][person])).verify_key
        assert (dash, name) == ("\N{EM DASH}", person)
        assert raw[:4] == hashlib.sha256(f"{name}\n".encode() + b"\x01" + bytes(public)).digest()[:4]
        assert public.verify(f"{text}\n".encode(), raw[4:]) == f"{text}\n".encode()


def test_an_attestation_is_what_the_format_says():
    """The signed bytes are the domain and a MessagePack map, by another writer of MessagePack and another Ed25519."""
    vectors = json.loads(VECTORS.read_text("utf-8"))
    one = vectors["attestation"]
    message = b"edge-monitor operator attestation v1\0" + pack(
        {"checkpoint": one["checkpoint"], "handover": one["handover"]}
    )
    assert message.hex() == one["message_hex"]
    public = nacl.signing.SigningKey(bytes.fromhex(vectors["seeds"][one["person"]])).verify_key
    assert public.verify(message, bytes.fromhex(one["signature_hex"])) == message


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(make_vectors(), indent=1, ensure_ascii=False) + "\n", "utf-8")
