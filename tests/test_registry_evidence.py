"""Evidence packets out of a registry's database: the same code as of a journal, and the same verdict."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from evidence_case import IDENTITY as EVIDENCE_IDENTITY
from evidence_case import independent, made
from test_registry_ingest import IDENTITY, REGISTRY, Link, write

from edge_monitor.envelope.statements import Proposal
from edge_monitor.errors import UsageError
from edge_monitor.evidence.packet import Attached, JournalSource, export
from edge_monitor.evidence.verify import Trust, verify
from edge_monitor.journal.cosignatures import cosigner_of
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.notes import sign_note
from edge_registry import tables
from edge_registry.blobs import Blobs
from edge_registry.cli import group
from edge_registry.evidence import LogSource, chosen
from edge_registry.house import open_house
from edge_registry.store import Robot, Store

EXPORTER = SigningKey("assessor", bytes([3]) * 32)
TRUST = Trust([EXPORTER.verifier], [IDENTITY.verifier], [cosigner_of(REGISTRY)])


@pytest.fixture
def link(database: str, tmp_path: Path) -> Iterator[Link]:
    """A registry that holds a journal of two boots under key epochs, sent in two sessions: several receipts."""
    store = Store(database)
    with store.begin() as tx:
        tx.enrol("robot", IDENTITY.verifier, "x" * 40, 0)
    write(tmp_path / "j", 600)
    link = Link(store, tmp_path / "j")
    link.hello()
    link.sync()
    write(tmp_path / "j", 400, boot=2)
    again = Link(store, tmp_path / "j")
    again.hello()
    again.sync()
    yield again
    store.close()


def test_a_packet_of_the_registry_verifies(link: Link, tmp_path: Path, root: Path) -> None:
    """The whole log and parts of it, under the first receipt that covers them, verify by both verifiers."""
    verify_packet = independent(root)
    lines = (EXPORTER.verifier.text(), IDENTITY.verifier.text(), cosigner_of(REGISTRY).text())
    keys = [
        [verify_packet.parse_key(line, kind)] for line, kind in zip(lines, (b"\x01", b"\x01", b"\x04"), strict=True)
    ]
    size = link.outbox.head().size
    for start, end in ((0, None), (0, 300), (301, 555), (size - 1, None)):
        out = tmp_path / f"{start}.{end}.zip"
        with link.store.read() as tx:
            done = export(LogSource(tx, chosen(tx, "robot", None), end), out, EXPORTER, start=start, end=end)
        verdict = verify(out, TRUST)
        assert not verdict.failures and verdict.records == done.records == (end or size) - start
        assert verdict.logs[0]["receipted"] >= (end or size)
        assert not any("receipt" in words for words in verdict.missing)
        assert verify_packet.verify(out, *keys)[0] == verdict.word


def test_journal_and_registry_hold_the_same_bytes(link: Link, tmp_path: Path) -> None:
    """Of the same records under the same receipt, a packet of the registry is the journal's, byte for byte."""
    with link.store.read() as tx:
        log = chosen(tx, "robot", None)
        source = LogSource(tx, log)
        export(source, tmp_path / "registry.zip", EXPORTER)
        note, receipts = source.heads()
        size = log.size

    class Receipted(JournalSource):
        def heads(self) -> tuple[str, list[str]]:
            return note, list(receipts)

    journal = Receipted(link.outbox.path)
    assert link.outbox.head().size == size
    export(journal, tmp_path / "journal.zip", EXPORTER)
    journal.close()
    assert (tmp_path / "registry.zip").read_bytes() == (tmp_path / "journal.zip").read_bytes()


def test_delivered_files_go_along_and_what_is_gone_is_missing(link: Link, tmp_path: Path) -> None:
    """Of two approvals of one envelope the robot's own counts, though another's came first; a file that is no longer in the
    folder is left out."""
    blobs, wanted = Blobs(tmp_path / "blobs"), "ab" * 32
    files: dict[str, list[bytes]] = {}

    def deliver(robot: str, kind: str, content: bytes, at: int) -> bytes:
        digest = hashlib.sha256(content).digest()
        path = blobs.path(digest)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        with link.store.begin() as tx:
            values = {
                "digest": digest,
                "robot": robot,
                "kind": kind,
                "name": kind,
                "size": len(content),
                "complete_s": at,
            }
            tx.connection.execute(sa.insert(tables.blobs).values(**values))
        files.setdefault(robot, []).append(content)
        return digest

    for at, robot in enumerate(("another", "robot")):
        envelope = deliver(robot, "envelope", f"of {robot}".encode(), at)
        proposal = Proposal("yard", 1, wanted, envelope.hex(), "ann", 10**18)
        deliver(robot, "approval", sign_note(proposal.text(), EXPORTER).encode(), at)
    boot = bytes(range(16))
    tape = deliver("robot", "incident", b"EMTAPE01" + bytes(8) + boot, 3)
    deliver("another", "incident", b"EMTAPE01" + bytes(9) + boot, 3)

    def attached() -> Attached:
        with link.store.read() as tx:
            return LogSource(tx, chosen(tx, "robot", None), None, blobs).attached([wanted, "cd" * 32], [boot.hex()])

    assert attached() == Attached({wanted: (files["robot"][0], files["robot"][1])}, [(boot.hex(), blobs.path(tape))])
    shutil.rmtree(blobs.folder)
    assert attached() == Attached({}, [])


def test_the_log_that_is_meant_is_asked_for(link: Link) -> None:
    """A robot that is not enrolled, or a log that it does not have, is a usage error; a log's first characters name it."""
    with link.store.read() as tx:
        log = chosen(tx, "robot", None)
        assert chosen(tx, "robot", log.origin.rpartition("/")[2][:6]).number == log.number
        with pytest.raises(UsageError, match="enrolled"):
            chosen(tx, "stranger", None)
        with pytest.raises(UsageError, match="0 logs of robot"):
            chosen(tx, "robot", "zz")


def test_the_command_exports(link: Link, database: str, tmp_path: Path) -> None:
    """``edge-registry evidence export`` writes a packet that verifies, and says what is missing."""
    open_house(tmp_path / "house", database, make="registry")
    (tmp_path / "assessor.key").write_text(EXPORTER.text())
    (tmp_path / "assessor.key").chmod(0o600)
    out = tmp_path / "p.zip"
    arguments = ["evidence", "export", "--dir", str(tmp_path / "house"), "--database", database, "--robot", "robot"]
    arguments += ["--key", str(tmp_path / "assessor.key"), "--out", str(out), "--to", "99"]
    done = CliRunner().invoke(group, arguments, catch_exceptions=False)
    assert "100 records; digest" in done.output
    assert not verify(out, TRUST).failures
    wrong = CliRunner().invoke(group, [*arguments, "--envelope", "x=y"])
    assert isinstance(wrong.exception, UsageError)


def test_an_envelope_is_attached_by_its_digest(database: str, tmp_path: Path) -> None:
    """``--envelope DIGEST=FILE`` takes an envelope along with the approval beside it: what was missing without is there, and a
    verifier holds it against its digest and the people it trusts."""
    case = made(tmp_path)
    house = open_house(tmp_path / "house", database, make="registry")
    store = house.store()
    with store.begin() as tx:
        tx.enrol("robot", EVIDENCE_IDENTITY.verifier, "x" * 40, 0)
    link = Link(store, case.journal)
    link.robot = Robot("robot", EVIDENCE_IDENTITY.verifier, "x" * 40, "active")
    link.hello()
    link.sync()
    store.close()
    ((digest, (envelope, approval)),) = case.attached.envelopes.items()
    assert approval is not None
    (tmp_path / "kept.yaml").write_bytes(envelope)
    (tmp_path / "kept.approval").write_bytes(approval)
    (tmp_path / "assessor.key").write_text(EXPORTER.text())
    (tmp_path / "assessor.key").chmod(0o600)
    arguments = ["evidence", "export", "--dir", str(tmp_path / "house"), "--database", database, "--robot", "robot"]
    arguments += ["--key", str(tmp_path / "assessor.key")]
    trust = Trust([EXPORTER.verifier], [EVIDENCE_IDENTITY.verifier], [cosigner_of(REGISTRY)], case.trust.people)
    bare, whole, wrong = (tmp_path / f"{name}.zip" for name in ("bare", "whole", "wrong"))
    said = CliRunner().invoke(group, [*arguments, "--out", str(bare)], catch_exceptions=False).output
    assert f"missing: the envelope {digest[:16]}" in said
    assert any(digest[:16] in words for words in verify(bare, trust).missing)
    option = f"--envelope={digest}={tmp_path / 'kept.yaml'}"
    said = CliRunner().invoke(group, [*arguments, "--out", str(whole), option], catch_exceptions=False).output
    assert "missing: the envelope" not in said
    assert verify(whole, trust).word == "VERIFIED"
    (tmp_path / "kept.yaml").write_bytes(envelope.replace(b"max: 2.0", b"max: 3.0"))
    CliRunner().invoke(group, [*arguments, "--out", str(wrong), option], catch_exceptions=False)
    assert [code for code, _ in verify(wrong, trust).failures] == ["envelope_digest"]
