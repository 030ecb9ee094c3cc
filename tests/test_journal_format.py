"""FORMAT.md and the published vectors, held against the code and against a second implementation in plain Python.

``python tests/test_journal_format.py`` writes the vectors anew; v1 is frozen, so they must not change.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest

from edge_monitor.errors import VerificationError
from edge_monitor.journal import Digests, Entry, Journal, Severity
from edge_monitor.journal.event_types import EVENT_TYPES
from edge_monitor.journal.keys import SigningKey, parse_verifier_key
from edge_monitor.journal.notes import open_note
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import WallStatus, decode_payload, decode_record

HERE = Path(__file__).resolve().parent
VECTORS = HERE / "vectors" / "journal_v1.json"
FORMAT = (HERE.parent / "edge_monitor" / "journal" / "FORMAT.md").read_text()


def pack(value: Any) -> bytes:
    """Shortest MessagePack of FORMAT.md's values, written from the MessagePack specification."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value + 0.0)
    if isinstance(value, int):
        if -32 <= value < 128:
            return struct.pack(">b", value)
        lead, forms = (0xCC, "BHIQ") if value >= 0 else (0xD0, "bhiq")
        for i, form in enumerate(forms):
            bits = 8 << i if value >= 0 else (8 << i) - 1
            if -(2**bits) <= value < 2**bits:
                return bytes([lead + i]) + struct.pack(">" + form, value)
    if isinstance(value, str):
        raw = value.encode()
        return head(len(raw), 0xA0, 32, (0xD9, 0xDA, 0xDB)) + raw
    if isinstance(value, bytes):
        return head(len(value), 0, 0, (0xC4, 0xC5, 0xC6)) + value
    if isinstance(value, list):
        return head(len(value), 0x90, 16, (None, 0xDC, 0xDD)) + b"".join(map(pack, value))
    keys = sorted(value, key=str.encode)
    return head(len(value), 0x80, 16, (None, 0xDE, 0xDF)) + b"".join(pack(key) + pack(value[key]) for key in keys)


def head(size: int, short: int, below: int, leads: tuple[int | None, int, int]) -> bytes:
    if size < below:
        return bytes([short + size])
    for lead, form, limit in zip(leads, "BHI", (2**8, 2**16, 2**32), strict=True):
        if lead is not None and size < limit:
            return bytes([lead]) + struct.pack(">" + form, size)
    raise AssertionError(size)


def tree_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else hashlib.sha256().digest()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + tree_root(leaves[:k]) + tree_root(leaves[k:])).digest()


def key_id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]


ENTRIES = [
    Entry("monitor.started", Severity.NEGLIGIBLE, 0, 0, {"subject": "quad-inspection", "version": "0.1"}, claim="G1"),
    Entry("check.fail", Severity.CRITICAL, 1_500_000_000, 1_510_000_000, {
        "subject": "speed_limit", "value": 12.5, "limit": 12.0, "margin": -0.5, "unit": "m/s", "signals": ["speed"],
        "cause": "",
    }, rules=("speed_limit",), hazard="H3", claim="G1.2"),
    Entry("gate.no_go", Severity.MARGINAL, -1, 2**62, {
        "none": None, "yes": True, "zero": -0.0, "small": -33, "big": 2**64 - 1, "least": -(2**63),
        "bytes": bytes(range(40)), "long": "x" * 300, "list": list(range(20)), "map": {"b": 1, "a": {"": []}},
        "\u00e9": "r\u00e9sum\u00e9",
    }, actor="Ana P\u00e9rez", causes=(0, 1), rules=("a", "b" * 40)),
    Entry("monitor.stopped", Severity.NEGLIGIBLE, 3_000_000_000, 3_000_000_000, {}),
]  # fmt: skip


def make_vectors() -> dict[str, Any]:
    """A journal of four records under two checkpoints, with every input that decided its bytes."""
    seed = bytes(range(32))
    salts = iter(bytes([i]) * 32 for i in range(1, 9))
    log_id, boot = bytes.fromhex("00112233445566778899aabbccddeeff"), bytes.fromhex("b0" * 16)
    digests = Digests(bytes.fromhex("ee" * 32), b"", b"edge-monitor 0.1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        key = SigningKey("example-robot", seed)
        with Journal.create_or_open(
            path,
            key,
            digests=digests,
            boot_id=boot,
            wall=lambda: (1_790_000_000_000_000_000, WallStatus.SYNCHRONISED, 2_000_000),
            entropy=lambda n: log_id if n == 16 else next(salts),
        ) as journal:
            for i, entry in enumerate(ENTRIES):
                journal.append(entry)
                if i == 2:
                    journal.commit()
        with Reader(path) as reader:
            rows, checkpoints = list(reader.rows()), list(reader.checkpoints())
    return {
        "about": "edge-monitor journal format v1; all bytes in hex. Ed25519 seed, then what follows from it.",
        "seed": seed.hex(),
        "verifier_key": key.verifier.text(),
        "log_id": log_id.hex(),
        "records": [
            {
                "record": row.record.hex(),
                "salt": (row.salt or b"").hex(),
                "payload": (row.payload or b"").hex(),
                "leaf": row.leaf.hex(),
            }
            for row in rows
        ],
        "checkpoints": [{"size": size, "note": note} for size, note in checkpoints],
    }


def test_the_vectors_are_what_the_writer_writes():
    """The frozen vectors of v1 come out of the writer, byte for byte."""
    assert make_vectors() == json.loads(VECTORS.read_text())


def test_a_second_implementation_gets_the_same_bytes():
    """Packing, commitments, leaves, roots and key ids from the text of FORMAT.md alone agree with the vectors."""
    vectors = json.loads(VECTORS.read_text())
    name, identity, encoded = vectors["verifier_key"].split("+", 2)
    public = base64.b64decode(encoded)[1:]
    assert bytes.fromhex(identity) == key_id(name, public)
    digests = [bytes.fromhex("ee" * 32), b"", b"edge-monitor 0.1"]
    leaves = []
    for sequence, (vector, entry) in enumerate(zip(vectors["records"], ENTRIES, strict=True)):
        payload, salt = pack(entry.payload), bytes([sequence + 1]) * 32
        commitment = hashlib.sha256(b"edge-monitor payload v1\0" + salt + payload).digest()
        fields = [
            1, bytes.fromhex(vectors["log_id"]), sequence, entry.type, int(entry.severity), bytes.fromhex("b0" * 16),
            entry.t_effective, entry.t_decided, 1_790_000_000_000_000_000, 2, 2_000_000, entry.actor, digests,
            list(entry.causes), list(entry.rules), entry.hazard, entry.claim, commitment, 0,
        ]  # fmt: skip
        record = pack(fields)
        leaves.append(hashlib.sha256(b"\0" + record).digest())
        assert (record.hex(), salt.hex(), payload.hex()) == (vector["record"], vector["salt"], vector["payload"])
        assert leaves[-1].hex() == vector["leaf"]
        assert decode_record(record).sequence == sequence
        assert pack(decode_payload(payload)) == payload
    for checkpoint in vectors["checkpoints"]:
        root = base64.b64encode(tree_root(leaves[: checkpoint["size"]])).decode()
        text, signers = open_note(checkpoint["note"], [parse_verifier_key(vectors["verifier_key"])])
        assert text == f"{name}/00112233-4455-6677-8899-aabbccddeeff\n{checkpoint['size']}\n{root}\n"
        assert [key.name for key in signers] == [name]


@pytest.mark.parametrize("place", range(19))
def test_every_field_of_a_record_is_held_to_its_type_and_range(place):
    """A record with any one field of another type, length or range is refused, however it is signed."""
    record = json.loads(VECTORS.read_text())["records"][1]["record"]
    log_id, boot = bytes.fromhex("00112233445566778899aabbccddeeff"), bytes.fromhex("b0" * 16)
    good = [
        1, log_id, 1, "check.fail", 2, boot, 1_500_000_000, 1_510_000_000, 1_790_000_000_000_000_000, 2, 2_000_000, "",
        [bytes.fromhex("ee" * 32), b"", b"edge-monitor 0.1"], [], ["speed_limit"], "H3", "G1.2", bytes(32), 0,
    ]  # fmt: skip
    assert pack(good)[:40] == bytes.fromhex(record)[:40]
    decode_record(pack(good))
    wrong: list[Any] = [
        [2, "1"], [log_id[1:], "x"], [-1, 2**63], ["", "x" * 65], [0, 5], [boot + b"x"], [2**63, 1.5], [None], ["now"],
        [3, -1], [-2], ["e\u0301", b"x"], [[b"", b""], [b"x" * 65, b"", b""], []], [[1], [-1], 0], ["a", [1]], [None],
        [7], [bytes(31), ""], [-1],
    ]  # fmt: skip
    for value in [*wrong[place], None, [[]]]:
        with pytest.raises(VerificationError):
            decode_record(pack([*good[:place], value, *good[place + 1 :]]))


def test_the_event_types_are_those_of_the_format():
    """FORMAT.md lists exactly the types that the writer takes, in the same order."""
    section = FORMAT[FORMAT.index("## 6.") : FORMAT.index("## 7.")]
    listed = re.findall(r"`([a-z]+\.[a-z_]+)`", section[: section.index("<!-- end -->")])
    assert tuple(listed) == EVENT_TYPES
    assert len(set(EVENT_TYPES)) == len(EVENT_TYPES)


def test_the_worked_example_is_right():
    """Each line of the worked example follows from the ones before it, by the second implementation too."""
    block = FORMAT[FORMAT.index("```text\nverifier key") :].split("```")[1]
    lines = dict(re.findall(r"^(verifier key|payload|commitment|record|leaf = root) +(\S+)$", block, re.MULTILINE))
    note = block.split("checkpoint\n", 1)[1]
    payload, record = bytes.fromhex(lines["payload"]), bytes.fromhex(lines["record"])
    assert payload == pack({"subject": "speed_limit", "value": 12.5, "limit": 12.0})
    commitment = hashlib.sha256(b"edge-monitor payload v1\0" + b"\x55" * 32 + payload).digest()
    assert commitment.hex() == lines["commitment"]
    assert record == pack([
        1, bytes.fromhex("00112233445566778899aabbccddeeff"), 0, "check.fail", 2, b"\xbb" * 16, 1_500_000_000,
        1_500_000_000, -1, 0, -1, "", [b"\xee" * 32, b"", b""], [], ["speed_limit"], "H3", "G1.2", commitment, 0,
    ])  # fmt: skip
    leaf = hashlib.sha256(b"\0" + record).digest()
    assert leaf.hex() == lines["leaf = root"]
    text, signers = open_note(note, [parse_verifier_key(lines["verifier key"])])
    assert [key.name for key in signers] == ["example-robot"]
    assert text.endswith(f"\n1\n{base64.b64encode(leaf).decode()}\n")


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(make_vectors(), indent=1, ensure_ascii=False) + "\n")
