"""``edge-monitor envelope`` and ``edge-monitor people``: what they print, what they write, how they exit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from approval_cases import DAY, ENVELOPE, EXPIRES, NOW, PROPOSED

from edge_monitor.cli import group
from edge_monitor.command_line import run
from edge_monitor.utc import SECOND


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
def clock(monkeypatch):
    """Sets this machine's wall clock, as the commands read it."""

    def put(ns: int) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: ns)

    put(PROPOSED)
    return put


@pytest.fixture
def yard(tmp_path, command, monkeypatch, clock):
    """A folder with an envelope, keys of alice, bob and dave made by the command, and the people file of the three."""
    monkeypatch.chdir(tmp_path)
    entries = []
    for name, roles in [("alice", "planner, approver"), ("bob", "approver"), ("dave", "planner")]:
        assert command("keys", "new", name)[0] == 0
        key = command("keys", "show", f"{name}.pub")[1].strip()
        entries.append(f"  {name}: {{name: {name.title()} Example, roles: [{roles}], keys: [{key}]}}\n")
    (tmp_path / "people.yaml").write_text("edge_monitor_people: 1\npeople:\n" + "".join(entries))
    (tmp_path / "yard.yaml").write_text(ENVELOPE)
    return tmp_path


def sign(person: str = "alice", *more: str) -> list[str]:
    return [
        "envelope",
        "sign",
        "yard.yaml",
        "--key",
        f"{person}.key",
        "--person",
        person,
        "--people",
        "people.yaml",
        *more,
    ]


def approve(person: str = "bob", *more: str, ticket: str = "T-123") -> list[str]:
    words = ["--key", f"{person}.key", "--person", person, "--people", "people.yaml", "--ticket", ticket]
    return ["envelope", "approve", "yard.yaml", *words, *more]


SHOW = ["envelope", "show", "yard.yaml", "--people", "people.yaml"]


def assert_one_line(result: tuple[int, str, str], code: int, *words: str) -> None:
    assert result[0] == code
    assert result[1] == "" and result[2].count("\n") == 1
    for word in words:
        assert word in result[2]


def test_two_people_make_an_envelope_approved(yard, command, clock):
    """Signed, approved, shown: codes 3, 3 and 0 on the way, and the file says what the commands were given."""
    assert command(*SHOW)[0] == 3
    code, out, _ = command(*sign())
    assert code == 0
    assert out.startswith("yard.approval: yard-rover v4 proposed by alice, digest ")
    code, out, _ = command(*SHOW)
    assert code == 3
    assert "standing   NOT APPROVED\n           yard.approval: the envelope is proposed, not approved" in out
    clock(PROPOSED + 3600 * SECOND)
    code, out, _ = command(*approve("bob", "--reason", "Looked at the drive", "--expires", "4w"))
    assert code == 0
    assert out.startswith("yard.approval: yard-rover v4 approved by bob on T-123 until 2026-12-24T10:00:00Z, digest ")
    code, out, _ = command(*SHOW)
    assert code == 0
    for line in (
        "envelope   yard-rover v4, yard.yaml",
        "proposed   by alice (Alice Example) at 2026-11-26T09:00:00Z",
        "approved   by bob (Bob Example) at 2026-11-26T10:00:00Z",
        "ticket     T-123",
        "reason     Looked at the drive",
        "until      2026-12-24T10:00:00Z",
        "standing   approved",
    ):
        assert line in out.splitlines()
    clock(PROPOSED + 40 * DAY)
    code, out, _ = command(*SHOW)
    assert code == 3 and "the approval expired at 2026-12-24T10:00:00Z" in out


def test_show_in_json_keeps_what_is_claimed_apart(yard, command):
    """One document: the envelope's own figures, who signed where that holds, else the reasons and what the file claims."""
    assert json.loads(command(*SHOW, "--json")[1])["claimed"] == {}
    command(*sign())
    command(*approve())
    code, out, _ = command(*SHOW, "--json")
    good = json.loads(out)
    assert code == 0 and good["approved"] is True and "claimed" not in good
    assert (good["proposer"], good["approver"], good["ticket"]) == ("alice", "bob", "T-123")
    assert good["expires"] == "2027-02-24T09:00:00Z"
    (yard / "yard.yaml").write_text(ENVELOPE.replace("max: 2,", "max: 20,"))
    code, out, _ = command(*SHOW, "--json")
    bad = json.loads(out)
    assert code == 3 and bad["approved"] is False and "approver" not in bad
    assert [refusal["code"] for refusal in bad["refusals"]] == ["digest"]
    assert (bad["claimed"]["digest"], bad["claimed"]["approver"]) == (good["digest"], "bob")


def test_a_changed_signature_exits_with_5(yard, command):
    """A statement that was changed after signing, and a file that is none, are code 5; a changed envelope is 3."""
    command(*sign())
    command(*approve())
    path = yard / "yard.approval"
    good = path.read_text()
    path.write_text(good.replace("T-123", "T-124"))
    code, out, _ = command(*SHOW)
    assert code == 5 and "the signature of the approval by bob does not hold" in out
    path.write_text("nothing\n")
    assert command(*SHOW)[0] == 5
    path.write_text(good)
    assert command(*SHOW)[0] == 0


def test_signing_the_same_again_says_so(yard, command, clock):
    """The same file by the same person, and the same approval, change no byte; --replace signs anew."""
    command(*sign())
    clock(PROPOSED + DAY)
    before = (yard / "yard.approval").read_bytes()
    code, out, _ = command(*sign())
    assert (code, out) == (
        0, "yard.approval: nothing to do: yard-rover v4 was proposed by alice at 2026-11-26T09:00:00Z\n",
    )  # fmt: skip
    assert (yard / "yard.approval").read_bytes() == before
    command(*approve())
    before = (yard / "yard.approval").read_bytes()
    clock(PROPOSED + 2 * DAY)
    assert "nothing to do" in command(*sign())[1]
    code, out, _ = command(*approve())
    assert (code, out) == (
        0,
        "yard.approval: nothing to do: yard-rover v4 is approved by bob until 2027-02-25T09:00:00Z\n",
    )
    assert (yard / "yard.approval").read_bytes() == before
    assert command(*approve("bob", "--replace"))[0] == 0
    assert "until      2027-02-26T09:00:00Z" in command(*SHOW)[1]
    assert command(*sign("alice", "--replace"))[0] == 0
    assert "is proposed, not approved" in command(*SHOW)[1]


def test_another_proposal_is_replaced_on_demand_only(yard, command):
    """A stale, foreign or damaged proposal stays until --replace is given; its approval goes with it."""
    command(*sign())
    command(*approve())
    before = (yard / "yard.approval").read_bytes()
    assert_one_line(command(*sign("dave")), 3, "by alice, not this one by dave (another person)", "with --replace")
    (yard / "yard.yaml").write_text(ENVELOPE.replace("version: 4", "version: 5"))
    assert_one_line(command(*sign()), 3, "of yard-rover v4 by alice", "(version, digest)", "with --replace")
    assert_one_line_each(command(*approve("bob", "--replace")), 3, "is of yard-rover v4, the file is yard-rover v5")
    assert (yard / "yard.approval").read_bytes() == before
    assert command(*sign("alice", "--replace"))[0] == 0
    assert "yard-rover v5" in command(*SHOW)[1] and command(*SHOW)[0] == 3
    (yard / "yard.approval").write_bytes(b"\xff")
    assert_one_line(command(*sign()), 5, "is not UTF-8", "with --replace")
    assert command(*sign("alice", "--replace"))[0] == 0


def assert_one_line_each(result: tuple[int, str, str], code: int, *words: str) -> None:
    """Several reasons, a line each."""
    assert result[0] == code and result[1] == ""
    for word in words:
        assert word in result[2]


def test_another_approval_is_replaced_on_demand_only(yard, command, clock):
    """An approval on another ticket, or one that no longer counts, stays until --replace is given."""
    command(*sign("dave"))
    assert command(*approve())[0] == 0
    assert_one_line(command(*approve(ticket="T-9")), 3, "is approved already, by bob on T-123", "with --replace")
    assert_one_line(command(*approve("alice")), 3, "is approved already, by bob", "with --replace")
    clock(EXPIRES)
    assert_one_line(command(*approve()), 3, "holds an approval that does not count", "expired", "with --replace")
    assert command(*approve("alice", "--replace"))[0] == 0
    assert "approved   by alice" in command(*SHOW)[1]


def test_nobody_approves_their_own_work(yard, command):
    """The proposer is refused even with the approver's role, and with a second key of theirs; nothing is written."""
    command(*sign())
    before = (yard / "yard.approval").read_bytes()
    assert_one_line(command(*approve("alice")), 3, "alice approved their own proposal: another person must approve it")
    assert command("keys", "new", "other")[0] == 0
    key = command("keys", "show", "other.pub")[1].strip()
    people = (yard / "people.yaml").read_text()
    (yard / "people.yaml").write_text(people.replace("keys: [alice", f"keys: [{key}, alice"))
    words = [word.replace("alice.key", "other.key") for word in approve("alice")]
    assert_one_line(command(*words), 3, "alice approved their own proposal")
    assert (yard / "yard.approval").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (sign("bob"), 3, ["people.yaml: bob has not the role 'planner'"]),
        (approve("dave"), 3, ["people.yaml: dave has not the role 'approver'"]),
        (sign("zoe"), 2, ["zoe.key"]),
        (approve("bob", "--expires", "never"), 2, ["--expires 'never': expected a term such as 12h, 90d or 4w"]),
        (approve("bob", "--expires", "367d"), 2, ["within 366 days"]),
        (approve("bob", "--expires", "2026-11-26"), 2, ["an approval expires after it is given"]),
        (approve("bob", "--expires", "99999w"), 2, ["within 366 days"]),
        (approve(ticket="two words"), 2, ["a ticket is 1 to 128 characters without blanks"]),
        (approve("bob", "--reason", "a\x1b[31m"), 2, ["a reason is one line"]),
        (["envelope", "sign", "yard.yaml"], 2, ["--key"]),
        (["envelope", "sing"], 2, ["sing"]),
    ],
)
def test_wrong_usage_is_one_line(yard, command, arguments, code, words):
    """Roles, terms, tickets and missing options: one line, the documented code, and nothing written."""
    if arguments[1] == "approve":
        command(*sign())
    before = sorted(path.name for path in yard.iterdir())
    assert_one_line(command(*arguments), code, *words)
    assert sorted(path.name for path in yard.iterdir()) == before


def test_approving_nothing_says_who_comes_first(yard, command):
    """Without a proposal there is nothing to approve, and the line says how to make one."""
    assert_one_line(
        command(*approve()), 3, "yard-rover v4 is not approved: have it proposed with 'edge-monitor envelope sign'"
    )


def test_a_broken_envelope_or_people_file_is_told_with_its_line(yard, command):
    """Both files' problems come with line and column and exit code 3."""
    (yard / "people.yaml").write_text("edge_monitor_people: 1\npeople:\n  a: {name: A}\n")
    code, _, error = command(*sign())
    assert code == 3 and "people.yaml:3:3: people.a.roles: is required" in error
    (yard / "yard.yaml").write_text(ENVELOPE.replace("signal: speed", "signal: sped"))
    assert_one_line(command(*sign()), 3, "yard.yaml:6:39: checks.speed_limit.signal: no signal is named `sped`")


def test_people_are_checked_and_listed(yard, command, clock):
    """``people check`` lists who may do what and how many keys are good now, or every problem with its line."""
    people = (yard / "people.yaml").read_text().replace("Bob Example", "Bob Example, valid_until: 2026-12-01")
    (yard / "people.yaml").write_text(people)
    code, out, _ = command("people", "check", "people.yaml")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "alice (Alice Example): approver, planner; 1 of 1 key(s) valid now"
    assert lines[1].endswith("approver; 1 of 1 key(s) valid now, first end of validity 2026-12-01T00:00:00Z")
    assert lines[3].startswith("people.yaml: fine: 3 person(s), digest ")
    clock(NOW)
    assert "bob (Bob Example): approver; 0 of 1 key(s)" in command("people", "check", "people.yaml")[1]
    (yard / "people.yaml").write_text("people: 1\n")
    code, out, error = command("people", "check", "people.yaml")
    assert (code, out) == (3, "") and "people.yaml:1:9: people: expected a mapping of ids to persons" in error


def test_the_real_program_signs_and_shows(yard):
    """As children, with the machine's own clock: signed, approved for 90 days, shown as JSON, exit codes as documented."""
    program = [sys.executable, "-c", "from edge_monitor.cli import main; main()"]

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, *arguments], cwd=yard, env=os.environ, capture_output=True, text=True, timeout=60, check=False
        )

    assert call(*SHOW).returncode == 3
    for arguments in (sign(), approve()):
        done = call(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
    shown = call(*SHOW, "--json")
    assert shown.returncode == 0 and json.loads(shown.stdout)["approver"] == "bob"
    (yard / "yard.approval").write_text((yard / "yard.approval").read_text().replace("T-123", "T-321"))
    assert call(*SHOW).returncode == 5
