"""The vectors of envelope approvals, and a second reading of their format.

``python tests/test_approval_format.py`` writes the vectors anew; v1 is frozen, so they must not change.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
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

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT / "tests/vectors/approval_v1.json"


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


def test_the_page_names_tests_that_are_there():
    """Each rule of docs/approval.md names a test that exists, and every code that the program gives has its row."""
    page = (ROOT / "docs/approval.md").read_text("utf-8")
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).resolve().parent.glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 10 and all(f"def {name}(" in tests for name in named)
    program = (ROOT / "edge_monitor/envelope/approval.py").read_text() + (ROOT / "edge_monitor/people.py").read_text()
    codes = set(re.findall(r'Refusal\(\s*"(\w+)"', program))
    rows = " ".join(re.findall(r"^\| (`[^|]*) \| [^|]* \| `test_", page, re.MULTILINE))
    assert codes == set(re.findall(r"`(\w+)`", rows))


def test_the_recipes_of_the_page_work(tmp_path):
    """The shell and the Python of docs/approval.md run as they stand, in their order."""
    page = (ROOT / "docs/approval.md").read_text("utf-8")
    (shell,) = re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (python,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for program, script, expected in (
        (["sh", "-e"], shell, "standing   approved\n"),
        ([sys.executable], python, "alice bob DEMO-1\n"),
    ):
        done = subprocess.run(
            program, input=script, cwd=tmp_path, env={**os.environ, "PATH": path},
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith(expected)


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(make_vectors(), indent=1, ensure_ascii=False) + "\n", "utf-8")
