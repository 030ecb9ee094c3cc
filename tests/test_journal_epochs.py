"""Key epochs, receipts and pruning: who may sign where, what a registry holds, and what is erased then."""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_monitor.cli import group
from edge_monitor.errors import VerificationError
from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.cosignatures import cosign, cosigner_of
from edge_monitor.journal.epochs import EPOCH_NS, Epoch, certify
from edge_monitor.journal.export import check_proof, prove_record
from edge_monitor.journal.keys import SigningKey, make_key
from edge_monitor.journal.notes import sign_note, split_note
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_record
from edge_monitor.journal.verify import verify

IDENTITY, REGISTRY = SigningKey("robot", bytes(range(32))), SigningKey("registry", bytes(range(1, 33)))
HOUR = EPOCH_NS


def opened(path: Path, boot: int = 1, **options: bool) -> Journal:
    """The journal with epochs, under a boot id of its own."""
    return Journal.create_or_open(path, IDENTITY, boot_id=bytes([boot]) * 16, **{"epochs": True, **options})


def write(journal: Journal, t: int, kind: str = "check.fail") -> int:
    """One committed record at ``t``, and the rotation that is due after it."""
    sequence = journal.append(Entry(kind, Severity.CRITICAL, t, t, {"value": 1.0, "subject": "speed"}, now=True))
    if journal.rotation_due(t):
        journal.rotate(t)
    return sequence


def epochs(path: Path) -> list[int]:
    """The key epoch of each record."""
    with Reader(path) as reader:
        return [decode_record(row.record).key_epoch for row in reader.rows()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of two boots and three epochs: 0 0 | 1 1 1 | 2 — and, after a start, 0 0 | 3."""
    with opened(tmp_path / "j", 1) as journal:
        for t in (0, 1, HOUR, HOUR + 1):
            write(journal, t)
    with opened(tmp_path / "j", 2) as journal:
        for t in (5, 6):
            write(journal, t)
    return tmp_path / "j"


def test_a_boot_signs_once_with_the_identity_key_and_then_with_a_new_key_each_hour(path: Path) -> None:
    """Epochs begin after the first commit of a boot and after an hour, and go on counting over boots."""
    assert epochs(path) == [0, 0, 1, 1, 1, 2, 0, 0, 3]
    report = verify(path, [IDENTITY.verifier])
    assert report.ok and report.signers == ["robot"] and report.authorship == "verified"


def test_the_identity_key_alone_is_trusted(path: Path) -> None:
    """Under another identity of the same name neither certificates nor checkpoints hold; without keys integrity does."""
    assert verify(path, []).ok
    report = verify(path, [SigningKey("robot", bytes(32)).verifier])
    assert not report.ok and report.integrity == "verified" and report.authorship == "FAILED"


def forged(path: Path, size: int, key: SigningKey) -> None:
    """Sign the checkpoint over ``size`` records anew, with another key."""
    db = sqlite3.connect(path)
    db.execute("drop trigger checkpoints_no_update")
    (note,) = db.execute("select note from checkpoints where size = ?", (size,)).fetchone()
    text, _ = split_note(note)
    db.execute("update checkpoints set note = ? where size = ?", (sign_note(text, key), size))
    db.commit()


def test_a_checkpoint_counts_only_under_the_key_of_its_place(path: Path) -> None:
    """The identity key can't sign where an epoch is in force: who steals it later can't sign the past anew."""
    forged(path, 4, IDENTITY)
    report = verify(path, [IDENTITY.verifier])
    assert [finding.kind for finding in report.findings] == ["signature"]


def test_a_certificate_of_another_log_or_number_is_found(tmp_path: Path) -> None:
    """Each way to certify a key out of its place is a finding."""
    stranger = SigningKey("robot", bytes(range(5, 37)))
    for name, origin, number, sequence, signer in (
        ("log", "robot/00112233-4455-6677-8899-aabbccddeeff", 1, 1, IDENTITY),
        ("number", "", 2, 1, IDENTITY),
        ("place", "", 1, 7, IDENTITY),
        ("signer", "", 1, 1, stranger),
    ):
        path = tmp_path / name
        with opened(path, epochs=False) as journal:
            write(journal, 0)
            epoch = Epoch(origin or journal.origin, number, stranger.verifier, sequence)
            payload = {"certificate": certify(epoch, signer), "epoch": number, "key": stranger.verifier.text()}
            journal.append(Entry("key.rotated", Severity.NEGLIGIBLE, 1, 1, payload))
        assert [f.kind for f in verify(path, [IDENTITY.verifier]).findings] == ["signature"], name


def test_a_crash_anywhere_between_commits_leaves_a_journal_that_goes_on(tmp_path: Path) -> None:
    """A process that dies before or after a rotation is followed by one that verifies and rotates again."""
    path = tmp_path / "j"
    for boot in range(1, 6):
        journal = opened(path, boot)
        write(journal, boot)
        if boot % 2:
            journal.append(Entry("check.pass", Severity.MARGINAL, boot, boot, {}))  # never committed
        journal._store.close()  # the process dies: nothing is committed any more
    report = verify(path, [IDENTITY.verifier])
    assert report.ok and report.records == 10 and epochs(path) == [0, 0] * 5


def test_a_proof_under_an_epoch_key_brings_its_certificate(path: Path, tmp_path: Path) -> None:
    """A proof holds under the identity key alone, and not once its certificate was changed for another."""
    file = tmp_path / "proof"
    with opened(path, 3) as journal:
        write(journal, 9)
        write(journal, 10)
    file.write_text(prove_record(path, 1))
    assert check_proof(file, [IDENTITY.verifier]).record.sequence == 1
    with pytest.raises(VerificationError, match="certificate"):
        check_proof(file, [SigningKey("robot", bytes(32)).verifier])


def receipt(path: Path, size: int, key: SigningKey = REGISTRY, time: int = 1_800_000_000) -> str:
    """A registry's receipt over a checkpoint of the journal."""
    with Reader(path) as reader:
        return cosign(reader.checkpoint(size), key, time)


def test_a_receipt_is_kept_when_it_is_over_one_of_the_journals_own_checkpoints(path: Path, tmp_path: Path) -> None:
    """Another registry's, another journal's and a changed receipt are refused; a kept one is verified with the journal."""
    with opened(tmp_path / "other") as journal:
        write(journal, 0)
    with opened(path, 4) as journal:
        with pytest.raises(VerificationError):
            journal.receive(receipt(path, 5, SigningKey("registry", bytes(32))), cosigner_of(REGISTRY))
        with pytest.raises(VerificationError, match="not of this journal"):
            journal.receive(receipt(tmp_path / "other", 1), cosigner_of(REGISTRY))
        assert journal.receive(receipt(path, 5), cosigner_of(REGISTRY)) == 5
        assert journal.receive(receipt(path, 5, time=1_800_000_100), cosigner_of(REGISTRY)) == 5
    report = verify(path, [IDENTITY.verifier], [cosigner_of(REGISTRY)])
    assert report.ok and report.receipted == 5
    assert verify(path, [IDENTITY.verifier]).receipted is None


def test_a_forged_receipt_in_the_file_is_a_finding(path: Path) -> None:
    """A receipt that the registry did not give, or that is filed elsewhere, is found."""
    with opened(path, 4) as journal:
        journal._store.receive(6, receipt(path, 6, SigningKey("registry", bytes(32))))
        journal._store.receive(9, receipt(path, 5))
    kinds = [finding.kind for finding in verify(path, [IDENTITY.verifier], [cosigner_of(REGISTRY)]).findings]
    assert kinds == ["receipt", "receipt"]


def test_nothing_unreceipted_is_ever_pruned(path: Path) -> None:
    """Payloads below the receipt go, but those that are to stay and the certificates; everything still verifies."""
    with opened(path, 4) as journal:
        assert journal.prune(1 << 60, lambda kind: False) == 0
        journal.receive(receipt(path, 5), cosigner_of(REGISTRY))
        for _ in itertools.repeat(None, 3):
            journal.prune(1 << 60, lambda kind: kind == "check.pass", limit=2)
    with Reader(path) as reader:
        there = [row.seq for row in reader.rows() if row.payload is not None]
    assert there[:2] == [1, 4] and set(range(5, 9)) <= set(there)
    assert verify(path, [IDENTITY.verifier], [cosigner_of(REGISTRY)]).ok


def test_what_is_erased_is_in_no_file_any_more(tmp_path: Path) -> None:
    """Neither payloads nor salts are left in pages, free pages or the WAL, while the journal is open; a reader delays it."""
    path = tmp_path / "j"
    with opened(path) as journal:
        for t in range(300):
            journal.append(Entry("check.fail", Severity.CRITICAL, t, t, {"secret": f"secret-{t:05}" + "x" * 200}))
        journal.commit()
        with Reader(path) as reader:
            traces = [trace for row in reader.rows(0, 200) for trace in (row.salt, (row.payload or b"")[:24])]
        journal.receive(receipt(path, 300), cosigner_of(REGISTRY))
        with Reader(path):
            assert journal.prune(200, lambda kind: False) == 200
            assert left(path, traces)
        journal.prune(201, lambda kind: False)
        assert not left(path, traces)
        journal.append(Entry("check.fail", Severity.CRITICAL, 300, 300, {}, now=True))
    assert verify(path, [IDENTITY.verifier], [cosigner_of(REGISTRY)]).ok


def left(path: Path, traces: list[bytes | None]) -> int:
    """How many of these bytes any file of the journal holds."""
    data = b"".join(file.read_bytes() for file in path.parent.iterdir() if file.name.startswith(path.name))
    return sum(trace is not None and trace in data for trace in traces)


def test_an_erased_certificate_or_a_changed_cache_of_epochs_is_found(path: Path) -> None:
    """Without its certificate a key is nobody's; the cached places of epochs are believed by nobody."""
    db = sqlite3.connect(path)
    db.execute("update epochs set seq = seq + 1 where epoch = 2")
    db.commit()
    assert [finding.kind for finding in verify(path, [IDENTITY.verifier]).findings] == ["cache"]
    db.execute("update epochs set seq = seq - 1 where epoch = 2")
    db.execute("update payloads set salt = null, payload = null where seq = 1")
    db.commit()
    assert "signature" in {finding.kind for finding in verify(path, [IDENTITY.verifier]).findings}


def test_the_command_verifies_receipts(path: Path, tmp_path: Path) -> None:
    """``journal verify --registry-key`` says up to where the registry holds the journal."""
    make_key("other", tmp_path)
    (tmp_path / "robot.pub").write_text(IDENTITY.verifier.text())
    (tmp_path / "registry.pub").write_text(cosigner_of(REGISTRY).text())
    with opened(path, 4) as journal:
        journal.receive(receipt(path, 5), cosigner_of(REGISTRY))
    arguments = ["journal", "verify", str(path), "--key", str(tmp_path / "robot.pub"), "--registry-key"]
    result = CliRunner().invoke(group, [*arguments, str(tmp_path / "registry.pub")])
    assert result.exit_code == 0 and "receipted up to: record 4" in result.output
    refused = CliRunner().invoke(group, [*arguments, str(tmp_path / "other.pub")])
    assert refused.exit_code != 0
