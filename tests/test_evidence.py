"""Evidence packets: what holds, what is refused and why, and that two verifiers agree."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import bagit
import pytest
from click.testing import CliRunner
from evidence_case import (
    EXPORTER,
    IDENTITY,
    NOW,
    REGISTRY,
    SECOND,
    Case,
    contents,
    independent,
    keys_of,
    made,
    people_of,
    refused,
    sealed,
    second,
    zipped,
)  # fmt: skip
from fuzz_packets import agreed
from securesystemslib.dsse import Envelope
from securesystemslib.signer import Key

from edge_monitor.cli import group
from edge_monitor.errors import ConfigError, DamagedInputError, UsageError, VerificationError
from edge_monitor.evidence import statement
from edge_monitor.evidence.archive import Archive
from edge_monitor.evidence.packet import Attached
from edge_monitor.evidence.proof import covering
from edge_monitor.evidence.verify import REASONS, Trust, Verdict, verify
from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.cosignatures import cosigner_of
from edge_monitor.journal.keys import SigningKey

LOG = "data/logs/0"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A log with everything in it."""
    return made(tmp_path_factory.mktemp("evidence"))


@pytest.fixture(scope="module")
def packet(case: Case) -> Path:
    """A packet of the whole log."""
    return case.packet()


@pytest.fixture(scope="module")
def other(root: Path) -> ModuleType:
    """The independent verifier."""
    return independent(root)


def reason(other: ModuleType, path: Path, **bounds: dict[str, int]) -> str:
    """Why the independent verifier refuses it: its code and words."""
    return refused(other, path, *keys_of(other), **bounds)


def codes(verdict: Verdict) -> list[str]:
    """Why it was refused."""
    return [code for code, _ in verdict.failures]


def test_a_whole_log_verifies_and_its_parts_do(case: Case, packet: Path, other: ModuleType) -> None:
    """The whole is VERIFIED; every range of records is too, under the same checkpoint, by both verifiers."""
    verdict = verify(packet, case.trust)
    assert (verdict.word, verdict.failures, verdict.missing) == ("VERIFIED", [], [])
    assert second(other, packet) == "VERIFIED"
    rng = random.Random(5)
    for number in range(12):
        start = rng.randrange(verdict.records)
        part = case.packet(f"part{number}.zip", start=start, end=rng.randrange(start + 1, verdict.records + 1))
        assert verify(part, case.trust).word == second(other, part) == "VERIFIED"


def test_the_same_query_gives_the_same_bytes(case: Case, packet: Path) -> None:
    """A packet depends on the log and the query alone."""
    assert case.packet("again.zip").read_bytes() == packet.read_bytes()


def test_covering_subtrees_are_the_leaves_between() -> None:
    """The subtrees cover each leaf once, in order, and none could be larger."""
    for start in range(40):
        for end in range(start + 1, 70):
            leaves = [
                leaf for level, index in covering(start, end) for leaf in range(index << level, (index + 1) << level)
            ]
            assert leaves == list(range(start, end))


def test_what_is_missing_makes_it_incomplete(case: Case, tmp_path: Path, other: ModuleType) -> None:
    """No receipt, an erased payload and an unclean end are each listed."""
    with Journal.create_or_open(tmp_path / "journal.db", IDENTITY) as log:
        log.append(Entry("check.fail", Severity.CRITICAL, 1, 1, {"value": 1.0}, now=True))
        log._store.erase([0], 1)
    lone = Case(tmp_path, tmp_path / "journal.db", Attached(), case.trust).packet()
    verdict = verify(lone, case.trust)
    assert verdict.word == "INCOMPLETE" == second(other, lone)
    assert [words.split()[0] for words in verdict.missing] == ["1", "the", "boot"]


def changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[dict[str, bytes]], None]:
    """A change of one file."""

    def apply(files: dict[str, bytes]) -> None:
        files[name] = change(files[name])

    return apply


def rows(data: bytes) -> list[bytes]:
    """The rows of events.bin."""
    found, place = [], 0
    while place < len(data):
        start = place
        place += 4 + struct.unpack_from(">I", data, place)[0]
        (size,) = struct.unpack_from(">I", data, place)
        place += 4 + (0 if size == 0xFFFFFFFF else 32 + size)
        found.append(data[start:place])
    return found


def without(index: int) -> Callable[[dict[str, bytes]], None]:
    """An event dropped, from the exact and the derived file."""

    def apply(files: dict[str, bytes]) -> None:
        exact, lines = rows(files[f"{LOG}/events.bin"]), files[f"{LOG}/events.ndjson"].splitlines(keepends=True)
        del exact[index], lines[index]
        files[f"{LOG}/events.bin"], files[f"{LOG}/events.ndjson"] = b"".join(exact), b"".join(lines)

    return apply


def swapped(files: dict[str, bytes]) -> None:
    """Two segments of the log exchanged."""
    exact = rows(files[f"{LOG}/events.bin"])
    files[f"{LOG}/events.bin"] = b"".join(exact[:5] + exact[10:15] + exact[5:10] + exact[15:])


def tail_cut(files: dict[str, bytes]) -> None:
    """The last records dropped, and everything that says how many there are made to fit, but the signed checkpoint."""
    without(-1)(files)
    proof = json.loads(files[f"{LOG}/proof.json"])
    files[f"{LOG}/proof.json"] = json.dumps(proof | {"end": proof["end"] - 1, "size": proof["size"] - 1}).encode()


def forged_payload(files: dict[str, bytes]) -> None:
    """A payload with another value."""
    exact = rows(files[f"{LOG}/events.bin"])
    exact[3] = exact[3][:-1] + bytes([exact[3][-1] ^ 1])
    files[f"{LOG}/events.bin"] = b"".join(exact)


def in_proof(**fields: object) -> Callable[[dict[str, bytes]], None]:
    """Fields of proof.json set."""
    return changed(f"{LOG}/proof.json", lambda data: json.dumps(json.loads(data) | fields).encode())


def in_envelope(old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    """Words of the envelope's file replaced."""

    def apply(files: dict[str, bytes]) -> None:
        for name in files:
            if name.endswith(".yaml"):
                files[name] = files[name].replace(old, new)

    return apply


#: What an exporter did, and its code at both verifiers.
TAMPERED: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "an event dropped": (without(7), "dropped"),
    "the tail dropped": (tail_cut, "checkpoint"),
    "segments exchanged": (swapped, "reordered"),
    "a payload forged": (forged_payload, "payload"),
    "a record of another version": (changed(f"{LOG}/events.bin", lambda d: d[:7] + b"\x02" + d[8:]), "record"),
    "a record cut": (changed(f"{LOG}/events.bin", lambda data: data[:-3]), "events_form"),
    "a derived line changed": (
        changed(f"{LOG}/events.ndjson", lambda d: d.replace(b"gate.no_go", b"gate.go", 1)), "derived",
    ),
    "a gap hidden": (
        changed("data/gaps.json", lambda d: d.replace(b'"unsynchronised":0', b'"unsynchronised":1')), "derived",
    ),
    "another checkpoint": (in_proof(checkpoint="robot/x\n1\n\n\u2014 robot AAAA\n"), "checkpoint"),
    "no certificate": (in_proof(certificates=[]), "key_chain"),
    "the identity key's epoch": (in_proof(epoch=0), "checkpoint_key"),
    "a malformed proof": (in_proof(size="many"), "proof_form"),
    "the envelope changed": (in_envelope(b"max: 2.0", b"max: 3.0"), "envelope_digest"),
    "the approval dropped": (
        lambda f: [f.pop(n) for n in list(f) if n.endswith(".approval")] and None, "envelope_unapproved",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERED)
def test_a_dishonest_exporter_is_found(case: Case, packet: Path, tmp_path: Path, other: ModuleType, what: str) -> None:
    """Whoever may sign packets still can't change what the robot signed: each way has its reason."""
    change, code = TAMPERED[what]
    files = contents(packet)
    change(files)
    target = sealed(files, tmp_path / "p.zip")
    assert codes(verify(target, case.trust)) == [code]
    assert reason(other, target, people=people_of(other)).startswith(f"{code}: ")


def test_every_byte_of_the_records_counts(case: Case, packet: Path, tmp_path: Path) -> None:
    """A flipped byte anywhere in events.bin is refused, however the packet is sealed."""
    files = contents(packet)
    exact = files[f"{LOG}/events.bin"]
    for place in range(0, len(exact), max(1, len(exact) // 150)):
        files[f"{LOG}/events.bin"] = exact[:place] + bytes([exact[place] ^ 4]) + exact[place + 1 :]
        assert verify(sealed(dict(files), tmp_path / "p.zip"), case.trust).word == "FAILED", place


def test_what_is_not_signed_for_is_refused(case: Case, packet: Path, tmp_path: Path, other: ModuleType) -> None:
    """A file flipped, dropped (counter-evidence), added, or a bag that says otherwise."""
    for what, code, said in (
        ("flip", "file_changed", "not the file that was signed for"),
        ("drop", "file_missing", "signed for is missing"),
        ("add", "file_unlisted", "nobody signed for"),
    ):
        files = contents(packet)
        if what == "flip":
            files["data/index.html"] = files["data/index.html"][:-1] + b"!"
        elif what == "drop":
            del files["data/gaps.json"]
        else:
            files["data/more.txt"] = b"and another thing"
        assert codes(verify(zipped(files, tmp_path / f"{what}.zip"), case.trust)) == [code]
        assert said in reason(other, tmp_path / f"{what}.zip")
    files = contents(packet)
    envelope = json.loads(files["attest/packet.dsse.json"])
    body = json.loads(statement.decode_base64(envelope["payload"]) or b"")
    files["manifest-sha256.txt"] = b"\n"
    digests = {one["name"]: one["digest"]["sha256"] for one in body["subject"]}
    digests["manifest-sha256.txt"] = hashlib.sha256(b"\n").hexdigest()
    files["attest/packet.dsse.json"] = statement.sign(digests, body["predicate"], EXPORTER)
    assert codes(verify(zipped(files, tmp_path / "bag.zip"), case.trust)) == ["bag"]
    assert "does not list what is there" in reason(other, tmp_path / "bag.zip")


def test_keys_come_from_the_verifiers_side(case: Case, packet: Path, other: ModuleType) -> None:
    """Another exporter, another robot's key, a forged receipt and a revoked robot each have their reason."""
    stranger = SigningKey("robot", bytes(32))
    exporters, robots = [EXPORTER.verifier], [IDENTITY.verifier]
    for trust, code in (
        (Trust([stranger.verifier], robots), "exporter_key"),
        (Trust(exporters, [REGISTRY.verifier]), "robot_key"),
        (Trust(exporters, [stranger.verifier]), "key_chain"),
        (Trust(exporters, robots, case.trust.registries, revoked={"robot": 5}), "revoked_key"),
        (Trust(exporters, robots, known={verify(packet, case.trust).logs[0]["origin"]: 9999}), "older"),
    ):
        assert codes(verify(packet, trust)) == [code]
    origin, keys = verify(packet, case.trust).logs[0]["origin"], keys_of(other)
    assert "revoked" in reason(other, packet, revoked={"robot": 5})
    assert "older" in reason(other, packet, known={origin: 9999})
    for wrong, said in (
        ([keys[1], keys[1], keys[2]], "exporter"),
        ([keys[0], keys[0], keys[2]], "no identity key"),
    ):
        with pytest.raises(other.Failed, match=said):
            other.verify(packet, *wrong)
    without_registry = verify(
        packet, Trust(exporters, robots, [cosigner_of(SigningKey("registry", bytes(32)))], case.trust.people)
    )
    assert without_registry.word == "INCOMPLETE" and "receipt" in without_registry.missing[0]


def test_the_order_of_approval_and_use_is_held(tmp_path: Path) -> None:
    """An envelope that was approved after its use, or by who proposed it, is found."""
    for name, arguments, code in (
        ("late", {"approved_at": NOW + 7200 * SECOND}, "envelope_late"),
        ("own", {"own": True}, "self_approval"),
    ):
        (tmp_path / name).mkdir()
        case = made(tmp_path / name, **arguments)  # type: ignore[arg-type]
        assert codes(verify(case.packet(), case.trust)) == [code]


def test_a_payload_type_is_not_another(case: Case, packet: Path, tmp_path: Path, other: ModuleType) -> None:
    """The envelope with another payload type, or a statement about something else, is refused."""
    files = contents(packet)
    envelope = json.loads(files["attest/packet.dsse.json"])
    files["attest/packet.dsse.json"] = json.dumps(envelope | {"payloadType": "text/plain"}).encode()
    assert codes(verify(zipped(files, tmp_path / "type.zip"), case.trust)) == ["payload_type"]
    assert "payload is of another type" in reason(other, tmp_path / "type.zip")
    payload = statement.compact(
        {"_type": statement.STATEMENT, "predicateType": "other", "subject": [], "predicate": {}}
    )
    signature = EXPORTER.sign(statement.pae(statement.PAYLOAD_TYPE, payload))
    encode = base64.b64encode
    again = {
        "payloadType": statement.PAYLOAD_TYPE,
        "payload": encode(payload).decode(),
        "signatures": [{"sig": encode(signature).decode()}],
    }
    files["attest/packet.dsse.json"] = json.dumps(again).encode()
    assert codes(verify(zipped(files, tmp_path / "kind.zip"), case.trust)) == ["statement_type"]
    assert "statement is about something else" in reason(other, tmp_path / "kind.zip")
    files["attest/packet.dsse.json"] = b"[" * 10
    assert codes(verify(zipped(files, tmp_path / "json.zip"), case.trust)) == ["malformed"]


def test_hostile_zips_are_refused(case: Case, packet: Path, tmp_path: Path, other: ModuleType) -> None:
    """Paths that lead out, bombs, names twice, encryption flags and damage end in a reason; nothing is written anywhere."""
    files = contents(packet)
    for name in ("../out", "/etc/x", "a/../../b", "c:\\x", "a//b"):
        assert codes(verify(zipped(files | {name: b""}, tmp_path / "slip.zip"), case.trust)) == ["zip_path"]
        assert "leads elsewhere" in reason(other, tmp_path / "slip.zip")
    bomb = bytearray(packet.read_bytes())
    struct.pack_into("<I", bomb, bomb.rindex(b"PK\x01\x02") + 24, 2 << 30)  # the last entry's unpacked size
    (tmp_path / "bomb.zip").write_bytes(bomb)
    assert codes(verify(tmp_path / "bomb.zip", case.trust)) == ["zip_bomb"]
    assert "zip bomb" in reason(other, tmp_path / "bomb.zip")
    large = sealed(files | {"data/gaps.json": files["data/gaps.json"] + b" " * (65 << 20)}, tmp_path / "large.zip")
    assert codes(verify(large, case.trust)) == ["oversize"]
    assert "too large to be read" in reason(other, large)
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(zipped(files, tmp_path / "twice.zip"), "a") as archive,
    ):
        archive.writestr("bagit.txt", b"again")
    assert codes(verify(tmp_path / "twice.zip", case.trust)) == ["zip_names"]
    assert "a name twice" in reason(other, tmp_path / "twice.zip")
    (tmp_path / "none.zip").write_bytes(b"PK not a zip")
    with pytest.raises(DamagedInputError):
        verify(tmp_path / "none.zip", case.trust)


def test_damaged_and_oversized_files_are_refused(packet: Path, tmp_path: Path) -> None:
    """``oversize:`` before it is read, ``zip_damaged:`` where it can't be, ``zip_form:`` for what is encrypted."""
    archive = Archive(packet)
    with pytest.raises(VerificationError, match=r"^oversize:"):
        archive.read("attest/packet.dsse.json", 10)
    archive.close()
    data = bytearray(packet.read_bytes())
    with zipfile.ZipFile(packet) as found:
        place = found.getinfo("data/index.html").header_offset
    data[place + 80 : place + 120] = bytes(40)
    (tmp_path / "damaged.zip").write_bytes(data)
    with pytest.raises(VerificationError, match=r"^zip_damaged:"):
        Archive(tmp_path / "damaged.zip").read("data/index.html")
    data = bytearray(packet.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "form.zip").write_bytes(data)
    with pytest.raises(VerificationError, match=r"^zip_form:"):
        Archive(tmp_path / "form.zip")


def test_two_verifiers_agree_on_mutated_packets(case: Case, packet: Path, tmp_path: Path, other: ModuleType) -> None:
    """Over packets with random damage, sealed again or not, both say the same word; ``make fuzz`` takes 2,000."""
    seen = agreed(case, packet, tmp_path, other, count=100, seed=20261126)
    assert seen["FAILED"] > 50 and len(seen) > 1, seen


def test_other_peoples_tools_read_it(packet: Path, tmp_path: Path) -> None:
    """The bag is one to bagit-python, the envelope one to securesystemslib."""
    with zipfile.ZipFile(packet) as archive:
        archive.extractall(tmp_path)
    assert bagit.Bag(str(tmp_path)).is_valid()
    envelope = Envelope.from_dict(json.loads((tmp_path / "attest/packet.dsse.json").read_text()))
    (keyid,) = envelope.signatures
    key = Key.from_dict(
        keyid, {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": EXPORTER.verifier.public.hex()}}
    )
    assert envelope.verify([key], 1)


def test_the_page_has_no_way_in_for_what_a_robot_says(packet: Path) -> None:
    """Text from records is escaped, and the page loads and runs nothing."""
    page = contents(packet)["data/index.html"].decode()
    assert "<script" not in page and "&lt;script&gt;" in page and "http" not in page.replace("http-equiv", "")
    for words in ("What is missing", "Who was in control", "What happened", "human → autonomy"):
        assert words in page


def test_the_commands_export_and_verify(case: Case, tmp_path: Path) -> None:
    """``evidence export`` and ``verify`` give the verdict as exit code, as text and as JSON."""
    for key in (EXPORTER, IDENTITY):
        (tmp_path / f"{key.verifier.name}.pub").write_text(key.verifier.text())
    (tmp_path / "receipts.pub").write_text(cosigner_of(REGISTRY).text())
    (tmp_path / "exporter.key").write_text(EXPORTER.text())
    (tmp_path / "exporter.key").chmod(0o600)
    out = tmp_path / "p.zip"
    arguments = ["evidence", "export", str(case.journal), "--key", str(tmp_path / "exporter.key"), "--out", str(out)]
    assert "missing: the envelope" in CliRunner().invoke(group, arguments).output
    again = CliRunner().invoke(group, arguments)
    assert isinstance(again.exception, ConfigError)
    keys = ["--exporter", str(tmp_path / "assessor.pub"), "--robot", str(tmp_path / "robot.pub")]
    checked = CliRunner().invoke(
        group,
        ["evidence", "verify", str(out), *keys, "--registry-key", str(tmp_path / "receipts.pub")],
        standalone_mode=False,
    )
    assert checked.return_value == 1 and checked.output.startswith("INCOMPLETE")
    document = (
        CliRunner().invoke(group, ["evidence", "verify", str(out), *keys, "--json"], standalone_mode=False).output
    )
    assert json.loads(document)["verdict"] == "INCOMPLETE"
    wrong = CliRunner().invoke(group, ["evidence", "verify", str(out), *keys, "--known", "x"])
    assert isinstance(wrong.exception, UsageError)


def test_the_independent_verifier_runs_alone(packet: Path, root: Path, tmp_path: Path) -> None:
    """It is one file that runs without the project, and without anything but Python."""
    script = tmp_path / "verify_packet.py"
    script.write_bytes((root / "registry/verify/verify_packet.py").read_bytes())
    for name, line in (
        ("e", EXPORTER.verifier.text()),
        ("r", IDENTITY.verifier.text()),
        ("g", cosigner_of(REGISTRY).text()),
    ):
        (tmp_path / name).write_text(line)
    done = subprocess.run(
        [sys.executable, "-I", "-S", script, packet, "--exporter", "e", "--robot", "r", "--registry-key", "g"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "VERIFIED\n")


def test_every_reason_has_a_test() -> None:
    """Each reason to refuse a packet is named by a test of this file, or of re-execution's."""
    tests = Path(__file__).read_text("utf-8")
    tests += Path(__file__).with_name("test_evidence_reexecution.py").read_text("utf-8")
    assert [code for code in REASONS if f'"{code}"' not in tests and f"{code}:" not in tests] == []
