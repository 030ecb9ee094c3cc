"""Proposal and approval of an envelope: what holds, and every way in which it does not."""

from __future__ import annotations

import hashlib

import pytest
from approval_cases import (
    APPROVED,
    DAY,
    ENVELOPE,
    EXPIRES,
    KEYS,
    NOW,
    PROPOSED,
    REFUSED,
    ZERO,
    approval_file,
    envelope,
    proposal_note,
    trusted,
)
from hypothesis import given
from hypothesis import strategies as st

from edge_monitor.envelope import loads
from edge_monitor.envelope.approval import (
    TOLERANCE,
    Approval,
    ApprovalError,
    Refused,
    activated,
    approval_path,
    approve,
    exit_code,
    propose,
    read_approval,
    rejected,
    require,
    verify,
    verify_proposal,
    write_approval,
)
from edge_monitor.envelope.statements import MAX_FILE, Proposal, join_file, split_file
from edge_monitor.errors import ConfigError, UsageError
from edge_monitor.journal.notes import sign_note
from edge_monitor.journal.records import decode_payload, encode_payload
from edge_monitor.people import Refusal
from edge_monitor.utc import SECOND


def codes(data: bytes | None, now: int = NOW, text: str = ENVELOPE, receipt: int | None = None) -> list[str]:
    """The codes of all reasons against the file; none if it approves."""
    verdict = verify(envelope(text), data, trusted(), now, receipt)
    refusals = verdict.refusals if isinstance(verdict, Refused) else ()
    assert all(refusal.message.isprintable() for refusal in refusals)
    return [refusal.code for refusal in refusals]


# --- what holds -------------------------------------------------------------------------------------------------------


def test_what_two_people_signed_is_approved():
    """Proposed by a planner, approved by another approver: the answer says who, when, why, on what ticket, until when."""
    verdict = verify(envelope(), approval_file(), trusted(), NOW)
    assert verdict == Approval(
        envelope="yard-rover",
        version=4,
        digest=envelope().digest,
        proposer="alice",
        proposed=PROPOSED,
        approver="bob",
        ticket="T-123",
        reason="Drive of 12 November looked at",
        approved=APPROVED,
        expires=EXPIRES,
        file_digest=hashlib.sha256(approval_file()).hexdigest(),
        people_digest=trusted().digest,
    )


def test_the_steps_of_two_people_make_an_approval():
    """What ``propose`` and ``approve`` make is what ``verify`` takes, and is the vectors' file byte for byte."""
    one, there = envelope(), trusted()
    proposed = propose(one, KEYS["alice"], "alice", there, PROPOSED + 999)
    assert codes(proposed) == ["not_approved"]
    assert isinstance(verify_proposal(one, proposed, there, NOW), Proposal)
    reason = "Drive of 12 November looked at"
    made = approve(
        one, proposed, KEYS["bob"], "bob", there, APPROVED, ticket="T-123", reason=reason, expires_ns=EXPIRES + 1
    )
    assert made == approval_file()
    anew = approve(one, made, KEYS["bob"], "bob", there, APPROVED + DAY, ticket="T-124", expires_ns=EXPIRES)
    verdict = verify(one, anew, there, NOW)
    assert isinstance(verdict, Approval) and (verdict.ticket, verdict.reason) == ("T-124", "")


def test_an_approval_is_of_all_profiles():
    """The profile that is applied changes nothing: what is approved is the file."""
    text = ENVELOPE + "mission: {profiles: {high: {speed_limit: {max: 1, leave: 0.9}}}}\n"
    one, there = envelope(text), trusted()
    made = approve(
        one, propose(one, KEYS["alice"], "alice", there, PROPOSED), KEYS["bob"], "bob", there, APPROVED,
        ticket="T-1", expires_ns=EXPIRES,
    )  # fmt: skip
    high = loads(text.encode(), source="yard.yaml", risk="high")
    assert high.checks != one.checks
    assert isinstance(verify(high, made, there, NOW), Approval)


@pytest.mark.parametrize(
    ("now", "receipt", "expected"),
    [
        (EXPIRES - 1, None, []),
        (EXPIRES, None, ["expired"]),
        (EXPIRES - DAY, EXPIRES, ["expired"]),
        (EXPIRES, EXPIRES - DAY, ["expired"]),
        (EXPIRES - DAY, EXPIRES - 1, []),
        (APPROVED - TOLERANCE, None, []),
        (APPROVED - TOLERANCE - 1, None, ["clock"]),
        (0, None, ["clock", "clock"]),
        (0, APPROVED, []),
        (0, EXPIRES, ["expired"]),
    ],
)
def test_expiry_goes_by_the_later_of_wall_clock_and_last_receipt(now, receipt, expected):
    """A clock set back brings no expired approval to life; a clock before the signatures cannot judge, unless a receipt can."""
    assert codes(approval_file(), now, receipt=receipt) == expected
    approval = verify(envelope(), approval_file(), trusted(), NOW)
    assert isinstance(approval, Approval)
    assert approval.has_expired(now, receipt) == ("expired" in expected)


# --- what does not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "expected"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_does_not_hold_is_refused_with_all_reasons(data, expected):
    """Each way to fail gives its codes; each reason is one printable line; there is an exit code for it."""
    verdict = verify(envelope(), data, trusted(), NOW)
    assert isinstance(verdict, Refused)
    assert [refusal.code for refusal in verdict.refusals] == expected
    assert all(refusal.message.isprintable() for refusal in verdict.refusals)
    broken = {"malformed", "signatures", "signature"} & set(expected)
    assert exit_code(verdict.refusals) == (5 if broken else 3)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max: 2,", "max: 20,", ["digest"]),
        ("walking pace", "running pace", ["file"]),
        ("max: 2,", "max: 2.0,", ["file"]),
        ("version: 4", "version: 5", ["version", "digest"]),
        ("id: yard-rover", "id: yard-tug", ["version", "digest"]),
        ("criteria: [speed_limit]", "criteria: [speed_limit], go_after: 2 s", ["digest"]),
    ],
)
def test_a_changed_envelope_is_not_the_approved_one(old, new, expected):
    """Any change of the file after approval is found, one of its meaning as such."""
    assert old in ENVELOPE
    assert codes(approval_file(), text=ENVELOPE.replace(old, new)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("ticket T-124", ["signature"]),
        ("ticket T 123", ["malformed"]),
        ("ticket ", ["malformed"]),
        ("ticket \u202e321-T", ["malformed"]),
        ("ticket " + "x" * 129, ["malformed"]),
        ("ticket T-123\nticket T-123", ["malformed"]),
        ("note x\nticket T-123", ["malformed"]),
    ],
)
def test_statements_have_one_form(change, expected):
    """A statement in any other form is refused even where its signature holds; one that is changed, by its signature."""
    note, other = split_file(approval_file())
    text, _, line = other.replace("ticket T-123", change).rpartition("\n\n")
    assert codes(join_file(note, f"{text}\n\n{line}")) in (["signature"], ["malformed"])
    signed = codes(join_file(note, sign_note(f"{text}\n", KEYS["bob"])))
    assert signed == ([] if expected == ["signature"] else expected)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version 4", "version 04"),
        ("version 4", "version +4"),
        ("version 4", "version 4\nversion 4"),
        ("version 4", "note x\nversion 4"),
        ("proposer alice", "proposer  alice"),
        ("T09:00:00Z", ""),
        ("digest ", "digest F"),
        ("proposal v1", "proposal v2"),
    ],
)
def test_a_proposal_has_one_form(old, new):
    """A proposal written another way is none, even with a good signature and an approval of just that."""
    text = proposal_note().rpartition("\n\n")[0] + "\n"
    assert old in text
    note = sign_note(text.replace(old, new, 1), KEYS["alice"])
    assert codes(approval_file(proposal=note)) == ["malformed"]


def test_a_file_too_large_is_said_to_be():
    """Size is judged before anything is read out of the file."""
    verdict = verify(envelope(), approval_file() + b"\xff" * MAX_FILE, trusted(), NOW)
    assert isinstance(verdict, Refused) and "is larger than 16384 bytes" in verdict.refusals[0].message


def test_several_faults_are_all_told():
    """A wrong person with a stale proposal, too late, gives every reason at once."""
    data = approval_file("carol", proposal=proposal_note("dave", version=3, digest=ZERO), time=PROPOSED - DAY)
    expected = ["wrong_person", "version", "digest", "wrong_person", "revoked", "expired", "older"]
    assert codes(data, EXPIRES) == expected


@given(st.data())
def test_no_changed_file_approves(data):
    """Bytes changed, put in, left out, or blocks exchanged: the file approves only if it is the very same bytes."""
    good = approval_file()
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 90)))
    junk = data.draw(st.one_of(st.binary(max_size=8), st.sampled_from([good[i : i + 70] for i in range(0, 600, 35)])))
    changed = good[:start] + junk + good[end:]
    assert (codes(changed) == []) == (changed == good)


@pytest.mark.parametrize("flip", [1, 2, 32, 128])
def test_no_flipped_bit_of_any_byte_approves(flip):
    """Every byte of the file counts: with one bit flipped it approves nothing."""
    good, one, there = approval_file(), envelope(), trusted()
    for i in range(len(good)):
        changed = good[:i] + bytes([good[i] ^ flip]) + good[i + 1 :]
        assert isinstance(verify(one, changed, there, NOW), Refused), i


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_cleanly(data):
    """Whatever the file holds, the answer is a refusal and never an exception."""
    assert codes(data)


# --- making them -------------------------------------------------------------------------------------------------------


@given(
    ticket=st.text(max_size=140),
    reason=st.text(max_size=520),
    version=st.integers(1, 2**31 - 1),
    term=st.integers(1, 366 * 86_400),
    at=st.integers(0, 10**9),
)
def test_what_can_be_signed_can_be_read(ticket, reason, version, term, at):
    """An approval with any ticket, reason and times is made and then holds, or is refused as usage."""
    one, there = envelope(ENVELOPE.replace("version: 4", f"version: {version}")), trusted()
    now = PROPOSED + at * SECOND // 50
    proposed = propose(one, KEYS["alice"], "alice", there, PROPOSED)
    try:
        made = approve(
            one, proposed, KEYS["bob"], "bob", there, now, ticket=ticket, reason=reason, expires_ns=now + term * SECOND
        )
    except UsageError:
        return
    verdict = verify(one, made, there, now)
    assert isinstance(verdict, Approval)
    assert (verdict.ticket, verdict.reason, verdict.version) == (ticket, reason, version)
    assert decode_payload(encode_payload(activated(verdict)))["ticket"] == ticket


@pytest.mark.parametrize(
    ("key", "person", "expected"),
    [
        ("bob", "bob", "bob has not the role 'planner'"),
        ("alice", "dave", "key alice is not one of dave"),
        ("mallory", "alice", "key mallory is not one of alice"),
        ("alice", "zoe", "there is no person 'zoe'; it has: alice, bob"),
    ],
)
def test_only_planners_propose_with_their_own_key(key, person, expected):
    """A proposal by another role, with another's key, or by nobody that is known is refused before it is signed."""
    with pytest.raises(ConfigError, match=expected):
        propose(envelope(), KEYS[key], person, trusted(), PROPOSED)


@pytest.mark.parametrize(
    ("key", "person", "text", "now", "expected"),
    [
        ("alice", "alice", ENVELOPE, APPROVED, "alice approved their own proposal"),
        ("alice-spare", "alice", ENVELOPE, APPROVED, "alice approved their own proposal"),
        ("dave", "dave", ENVELOPE, APPROVED, "dave has not the role 'approver'"),
        ("carol", "carol", ENVELOPE, APPROVED, "carol is revoked"),
        ("bob", "bob", ENVELOPE.replace("max: 2,", "max: 3,"), APPROVED, "says something else than what was proposed"),
        ("bob", "bob", ENVELOPE, PROPOSED - SECOND, "is older than the proposal"),
    ],
)
def test_nobody_approves_what_would_not_hold(key, person, text, now, expected):
    """The proposer, the wrong role, a revoked person, another content, a clock behind: nothing is signed."""
    with pytest.raises(ApprovalError, match=expected):
        approve(
            envelope(text), proposal_note().encode(), KEYS[key], person, trusted(), now,
            ticket="T-1", expires_ns=EXPIRES,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("ticket", "reason", "expires", "expected"),
    [
        ("", "", EXPIRES, "a ticket is 1 to 128 characters"),
        ("T 1", "", EXPIRES, "a ticket is 1 to 128 characters"),
        ("T-1", "two\nlines", EXPIRES, "a reason is one line"),
        ("T-1", "e\u0301", EXPIRES, "a reason is one line"),
        ("T-1", "", APPROVED, "an approval expires after it is given"),
        ("T-1", "", APPROVED + 367 * DAY, "within 366 days"),
    ],
)
def test_an_approval_cites_a_ticket_and_ends(ticket, reason, expires, expected):
    """No ticket, an unreadable reason, no term or too long a one are refused as usage."""
    with pytest.raises(UsageError, match=expected):
        approve(
            envelope(), proposal_note().encode(), KEYS["bob"], "bob", trusted(), APPROVED,
            ticket=ticket, reason=reason, expires_ns=expires,
        )  # fmt: skip


# --- for the monitor --------------------------------------------------------------------------------------------------


def test_a_monitor_requires_the_approval_beside_the_envelope(tmp_path):
    """``require`` reads the file beside the envelope; without it, or with it changed, it raises with the exit code."""
    path = tmp_path / "yard.yaml"
    one = envelope(source=str(path))
    assert approval_path(path) == tmp_path / "yard.approval"
    with pytest.raises(ConfigError, match=r"cannot end in \.approval: name it yard\.yaml"):
        approval_path(tmp_path / "yard.approval")
    with pytest.raises(ApprovalError, match=r"yard\.approval: yard-rover v4 is not approved") as error:
        require(one, trusted(), NOW)
    assert error.value.exit_code == 3
    write_approval(approval_path(path), approval_file())
    assert require(one, trusted(), NOW) == verify(one, approval_file(), trusted(), NOW)
    with pytest.raises(ApprovalError, match="nobody is trusted to approve: name the people file") as error:
        require(one, None, NOW)
    write_approval(approval_path(path), approval_file().replace(b"T-123", b"T-124"))
    with pytest.raises(ApprovalError, match="does not hold") as error:
        require(one, trusted(), NOW)
    assert error.value.exit_code == 5
    assert [file.name for file in tmp_path.iterdir()] == ["yard.approval"]


def test_the_bench_is_told_from_the_field(tmp_path):
    """With ``unapproved`` a good approval is one all the same; else the answer and the payload say what is missing."""
    path = tmp_path / "yard.yaml"
    one = envelope(source=str(path))
    bench = require(one, trusted(), NOW, unapproved=True)
    assert bench.unapproved and not bench.has_expired(EXPIRES)
    assert decode_payload(encode_payload(activated(bench))) == {
        "envelope": "yard-rover",
        "envelope_version": 4,
        "envelope_digest": one.digest,
        "unapproved": True,
        "people_digest": trusted().digest,
        "reasons": ["missing"],
    }
    assert [refusal.code for refusal in require(one, None, NOW, unapproved=True).refusals] == ["no_people"]
    write_approval(approval_path(path), approval_file())
    assert not require(one, trusted(), NOW, unapproved=True).unapproved


def test_payloads_say_on_whose_word():
    """``envelope.activated`` names persons, ticket and digests; ``envelope.rejected`` every reason, envelope or none."""
    verdict = verify(envelope(), approval_file(), trusted(), NOW)
    assert isinstance(verdict, Approval)
    payload = activated(verdict)
    assert decode_payload(encode_payload(payload)) == payload
    assert (payload["proposer"], payload["approver"], payload["ticket"]) == ("alice", "bob", "T-123")
    assert payload["approval_digest"] == hashlib.sha256(approval_file()).hexdigest()
    assert payload["unapproved"] is False
    refused = verify(envelope(), proposal_note().encode(), trusted(), NOW)
    assert isinstance(refused, Refused)
    told = rejected(refused.refusals, envelope())
    assert decode_payload(encode_payload(told)) == told
    assert (told["envelope"], told["cause"]) == ("yard-rover", refused.refusals[0].message)
    assert [reason["code"] for reason in told["reasons"]] == ["not_approved"]
    assert rejected((Refusal("unreadable", "x"),)) == {
        "cause": "x",
        "reasons": [{"code": "unreadable", "message": "x"}],
    }


def test_files_are_read_and_written_whole(tmp_path):
    """Absence is None, what cannot be read or written is one line, and a failed writing leaves the old file."""
    path = tmp_path / "a.approval"
    assert read_approval(path) is None
    write_approval(path, b"one")
    write_approval(path, b"two")
    assert (read_approval(path), [file.name for file in tmp_path.iterdir()]) == (b"two", ["a.approval"])
    path.write_bytes(b"x" * (MAX_FILE + 5))
    assert len(read_approval(path) or b"") == MAX_FILE + 1
    with pytest.raises(ConfigError, match="cannot read the approval: Is a directory"):
        read_approval(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot write the approval: No such file.*choose a folder"):
        write_approval(tmp_path / "none" / "a.approval", b"")
    (tmp_path / "b.approval").mkdir()
    with pytest.raises(ConfigError, match="cannot write the approval: Is a directory"):
        write_approval(tmp_path / "b.approval", b"")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.approval", "b.approval"]
