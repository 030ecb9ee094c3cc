"""``edge-monitor keys`` and ``edge-monitor journal``: what they print, what they refuse, how they exit."""

from __future__ import annotations

import base64
import json
import sqlite3
import stat
import struct
from contextlib import closing
from pathlib import Path

import pytest

from edge_monitor.cli import group
from edge_monitor.command_line import run
from edge_monitor.journal import Entry, Journal, Severity, load_signing_key
from edge_monitor.journal.merkle import CompactRange, leaf_hash

SECOND = 1_000_000_000


@pytest.fixture
def command(capsys):
    """Run ``edge-monitor`` with arguments; answers (exit code, standard output, standard error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            run(group, "edge-monitor", [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, captured.out, captured.err

    return call


@pytest.fixture
def robot(tmp_path, command):
    """A folder with robot.key, robot.pub and robot.db: five records, one of them with a payload from outside."""
    assert command("keys", "new", "robot", "--dir", tmp_path)[0] == 0
    with Journal.create_or_open(tmp_path / "robot.db", load_signing_key(tmp_path / "robot.key")) as journal:
        for i, (kind, payload) in enumerate(
            [
                ("monitor.started", {"subject": "quad"}),
                ("check.fail", {"subject": "speed", "value": 12.5, "limit": 12.0, "unit": "m/s", "seq": 99}),
                ("authority.changed", {"subject": "authority", "from": "human", "to": "autonomy", "raw": b"\x01"}),
                ("log.damage", {"subject": "x", "what": "\x1b[31mred\x07"}),
                ("monitor.stopped", {}),
            ]
        ):
            journal.append(Entry(kind, Severity.MARGINAL, i * SECOND, i * SECOND, payload))
    return tmp_path


def test_keys_are_made_and_shown_without_their_secret(tmp_path, command):
    """``keys new`` writes both files, ``keys show`` prints the public key of either, and nothing prints the secret."""
    code, out, _ = command("keys", "new", "a-robot", "--dir", tmp_path / "keys")
    secret, public = tmp_path / "keys" / "a-robot.key", tmp_path / "keys" / "a-robot.pub"
    assert code == 0
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    hidden = secret.read_text().strip().rpartition("+")[2]
    for file in (secret, public):
        code, shown, _ = command("keys", "show", file)
        assert (code, shown) == (0, public.read_text())
        assert hidden not in shown + out
    code, _, error = command("keys", "new", "a-robot", "--dir", tmp_path / "keys")
    assert (code, error.count("\n")) == (3, 1)
    assert "never overwritten" in error


def test_show_prints_lines_json_and_jsonl(robot, command):
    """The three forms hold the same records; own fields win over a payload's of the same name; bytes are hex."""
    _, lines, _ = command("journal", "show", robot / "robot.db")
    _, document, _ = command("journal", "show", robot / "robot.db", "--json")
    _, stream, _ = command("journal", "show", robot / "robot.db", "--jsonl")
    records = json.loads(document)
    assert [json.loads(line) for line in stream.splitlines()] == records
    assert [record["seq"] for record in records] == [0, 1, 2, 3, 4]
    assert len(lines.splitlines()) == 5
    assert (records[1]["t_ns"], records[1]["t_s"], records[1]["severity"]) == (SECOND, 1.0, "marginal")
    assert records[2]["raw"] == "01"
    assert "value 12.5 limit 12 m/s" in lines
    assert "human → autonomy" in lines


def test_show_selects_and_obeys_no_control_characters(robot, command):
    """Types, families and ranges select; control characters from a payload reach no terminal."""
    database = robot / "robot.db"
    assert len(command("journal", "show", database, "--type", "monitor")[1].splitlines()) == 2
    assert (
        len(command("journal", "show", database, "--type", "monitor.started", "--type", "check.")[1].splitlines()) == 2
    )
    assert [
        r["seq"] for r in json.loads(command("journal", "show", database, "--json", "--from", 1, "--to", 2)[1])
    ] == [1, 2]
    assert command("journal", "show", database, "--json", "--from", 9)[1].strip() == "[]"
    _, line, _ = command("journal", "show", database, "--type", "log.damage")
    assert "\\x1b[31mred\\x07" in line
    assert all(character.isprintable() for character in line.rstrip("\n"))


def test_verify_says_its_verdicts_and_exits_by_them(robot, command):
    """A good journal exits 0, and says so when no key was given; another key or an altered byte exits 5."""
    database, key = robot / "robot.db", robot / "robot.pub"
    code, out, _ = command("journal", "verify", database, "--key", key)
    assert code == 0
    for words in ("integrity     verified", "authorship    verified, signed by robot", "no gap", "1 run(s)\n",
                  "not provable locally", "receipts not checked", "5 records", "0.000 s to 4.000 s"):  # fmt: skip
        assert words in out
    code, out, _ = command("journal", "verify", database)
    assert code == 0
    assert "authorship    not checked" in out
    command("keys", "new", "other", "--dir", robot)
    code, out, _ = command("journal", "verify", database, "--key", robot / "other.pub")
    assert code == 5
    assert "integrity     verified" in out
    assert "authorship    FAILED" in out
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("drop trigger payloads_erase_only")
        connection.execute("update payloads set payload = x'81a1780f' where seq = 3")
    code, out, _ = command("journal", "verify", database, "--key", key, "--json")
    report = json.loads(out)
    assert code == 5
    assert (report["verified"], report["integrity"], report["authorship"]) == (False, "FAILED", "verified")
    assert [(finding["sequence"], finding["kind"]) for finding in report["findings"]] == [(3, "payload")]
    assert "FAILED        record 3: payload" in command("journal", "verify", database, "--key", key)[1]


@pytest.mark.parametrize("action", ["verify", "show", "proof", "export"])
def test_a_file_that_is_no_journal_exits_4_in_one_line(tmp_path, command, action):
    """No traceback for a file of something else: the path, what is wrong, exit code 4."""
    file = tmp_path / "notes.txt"
    file.write_text("not a database at all" * 99)
    rest = {"proof": ["0"], "export": ["--out", tmp_path / "out"]}.get(action, [])
    code, out, error = command("journal", action, file, *rest)
    assert (code, out) == (4, "")
    assert error.startswith(f"edge-monitor: {file}: ")
    assert error.count("\n") == 1


def test_a_proof_stands_alone(robot, command):
    """A proof verifies with the public key alone, discloses its payload or not, and no altered one passes."""
    file, key = robot / "one.tlog-proof", robot / "robot.pub"
    file.write_text(command("journal", "proof", robot / "robot.db", 1)[1])
    (robot / "robot.db").rename(robot / "moved.db")
    code, out, _ = command("journal", "check-proof", file, "--key", key)
    assert code == 0
    assert "speed value 12.5" in out
    assert "among the first 5 records, signed by robot" in out
    proven = json.loads(command("journal", "check-proof", file, "--key", key, "--json")[1])
    assert (proven["size"], proven["record"]["type"], proven["record"]["value"]) == (5, "check.fail", 12.5)

    text = file.read_text()
    survived = 0
    for place in range(0, len(text), 3):
        file.write_text(text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :])
        survived += command("journal", "check-proof", file, "--key", key)[0] not in (4, 5)
    assert survived == 0

    file.write_text(command("journal", "proof", robot / "moved.db", 1, "--no-payload")[1])
    code, out, _ = command("journal", "check-proof", file, "--key", key)
    assert code == 0
    assert "speed" not in out
    command("keys", "new", "stranger", "--dir", robot)
    code, _, error = command("journal", "check-proof", file, "--key", robot / "stranger.pub")
    assert code == 5
    assert "not signed by a key of robot" in error
    code, _, error = command("journal", "proof", robot / "moved.db", 5)
    assert code == 2
    assert "the last one under a checkpoint is 4" in error


def read_export(path: Path) -> list[bytes]:
    """The records of an export, as FORMAT.md §7 says."""
    data, records = path.read_bytes(), []
    while data:
        (size,) = struct.unpack(">I", data[:4])
        records.append(data[4 : 4 + size])
        data = data[4 + size :]
    return records


def test_an_export_leads_to_its_checkpoint_and_overwrites_nothing(robot, command):
    """The exported bytes give the root in the checkpoint beside them; a second export to the same name is refused."""
    out = robot / "events.bin"
    code, said, _ = command("journal", "export", robot / "robot.db", "--out", out)
    assert code == 0
    assert said.startswith("5 records")
    tree = CompactRange()
    for record in read_export(out):
        tree.append(leaf_hash(record))
    checkpoint = (robot / "events.bin.checkpoint").read_text()
    assert checkpoint.split("\n")[1:3] == ["5", base64.b64encode(tree.root()).decode()]
    before = out.read_bytes()
    code, _, error = command("journal", "export", robot / "robot.db", "--out", out)
    assert code == 2
    assert "exists" in error
    assert out.read_bytes() == before


def test_nothing_to_prove_or_export_is_said(tmp_path, command):
    """An empty journal has no record to prove and nothing to export."""
    command("keys", "new", "robot", "--dir", tmp_path)
    Journal.create_or_open(tmp_path / "j.db", load_signing_key(tmp_path / "robot.key")).close()
    code, _, error = command("journal", "proof", tmp_path / "j.db", 0)
    assert (code, "it is empty" in error) == (2, True)
    code, _, error = command("journal", "export", tmp_path / "j.db", "--out", tmp_path / "out")
    assert (code, "nothing has been committed" in error) == (2, True)
