"""The people file: whose key it is, what they may sign and until when; every mistake at its place."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import datetime, timezone

import pytest
from approval_cases import KEYS, PEOPLE, trusted
from hypothesis import given
from hypothesis import strategies as st

from edge_monitor.errors import ConfigError
from edge_monitor.journal.keys import VerifierKey
from edge_monitor.journal.notes import sign_note
from edge_monitor.people import MAX_KEYS, MAX_PEOPLE, PeopleError, load, loads
from edge_monitor.utc import SECOND, utc_ns, utc_text

ALICE, BOB = KEYS["alice"].verifier.text(), KEYS["bob"].verifier.text()
LOW_ORDER = VerifierKey("low", b"\x01" + bytes(31)).text()


def test_persons_are_read_as_they_are_written():
    """Ids, names, roles, keys and validity come out as they stand, and the digest is of the file's bytes."""
    people = trusted()
    assert list(people.persons) == ["alice", "bob", "carol", "dave", "erin"]
    alice, bob, erin = people.persons["alice"], people.persons["bob"], people.persons["erin"]
    assert (alice.name, alice.roles) == ("Alice Example", {"planner", "approver"})
    assert [key.key for key in alice.keys] == [KEYS["alice"].verifier, KEYS["alice-spare"].verifier]
    assert (bob.keys[0].valid_from, bob.keys[0].valid_until) == (utc_ns("2026-01-01"), utc_ns("2027-12-01"))
    assert (bob.valid_from, bob.valid_until, bob.revoked) == (None, None, False)
    assert people.persons["carol"].revoked
    assert erin.valid_from == utc_ns("2026-01-01") + 12 * 3600 * SECOND
    assert people.digest == hashlib.sha256(PEOPLE.encode()).hexdigest()


def test_a_file_is_read_as_its_bytes_are(tmp_path):
    """The file on the disk gives what its bytes give; one that is not there is one line."""
    path = tmp_path / "people.yaml"
    path.write_text(PEOPLE)
    assert load(path).persons == trusted().persons
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot read the people file: No such file") as error:
        load(tmp_path / "none.yaml")
    assert str(error.value).count("\n") == 0


# `▸` marks the place that the problem must name.
MISTAKES = [
    ("a: {▸nam: A, name: A, roles: [planner], keys: [K]}", "people.a.nam: unknown field (did you mean `name`?)"),
    ("▸a: {roles: [planner], keys: [K]}", "people.a.name: is required"),
    ("▸a: {name: A, keys: [K]}", "people.a.roles: is required"),
    ("▸a: {name: A, roles: [planner]}", "people.a.keys: is required"),
    ("a: ▸planner", "people.a: expected a mapping, got `planner`"),
    ("a: {name: A, roles: [▸planer], keys: [K]}", "`key_admin`, got `planer` (did you mean `planner`?)"),
    ("a: {name: A, roles: ▸[], keys: [K]}", "people.a.roles: needs at least 1 entries, got 0"),
    ("a: {name: A, roles: [planner, ▸planner], keys: [K]}", "people.a.roles[1]: `planner` is given twice"),
    ("a: {name: A, roles: [planner], keys: ▸[]}", "people.a.keys: needs at least 1 entries, got 0"),
    ("a: {name: A, roles: [planner], keys: [▸5]}", "people.a.keys[0]: expected a mapping, got `5`"),
    ("a: {name: A, roles: [planner], keys: [{key: ▸5}]}", "keys[0].key: expected the line of a .pub file, got `5`"),
    ("a: {name: A, roles: [planner], keys: [▸abc]}", "keys[0].key: malformed key; expected NAME+ID+BASE64"),
    (f"a: {{name: A, roles: [planner], keys: [▸{LOW_ORDER}]}}", "keys[0].key: not a usable Ed25519 key (of low order"),
    (f"a: {{name: A, roles: [planner], keys: [▸{ALICE[:-4]}AAAA]}}", "the key's id does not match its content"),
    (
        f"a: {{name: A, roles: [planner], keys: [K, {BOB}, ▸K]}}",
        "keys[2]: is also a key of `a`: each key has one place",
    ),
    (
        "a: {name: A, roles: [planner], keys: [K]}\n  b: {name: B, roles: [approver], keys: [▸K]}",
        "people.b.keys[0]: is also a key of `a`: each key has one place",
    ),
    (
        f"a: {{name: Ana Pérez, roles: [planner], keys: [K]}}\n  b: {{name: ▸ana  PÉREZ, roles: [approver], keys: [{BOB}]}}",
        "people.b.name: is the name of `a` too: one person has one entry",
    ),
    (
        "a: {name: A, roles: [planner], keys: [K], valid_from: ▸yesterday}",
        "expected a moment in UTC such as `2026-11-26`",
    ),
    ("a: {name: A, roles: [planner], keys: [K], valid_until: ▸2026-02-30}", "is no moment of the calendar, got"),
    ("a: {name: A, roles: [planner], keys: [K], valid_until: ▸1200-01-01}", "is not between 1970 and 2200, got"),
    (
        "a: {name: A, roles: [planner], keys: [K], valid_from: 2026-01-02, valid_until: ▸2026-01-02}",
        "people.a.valid_until: must be after `valid_from`",
    ),
    (
        "a: {name: A, roles: [planner], keys: [K], revoked: ▸no}",
        "people.a.revoked: expected `true` or `false`, got `no`",
    ),
    ("▸a b: {name: A, roles: [planner], keys: [K]}", "people.a b: is no id: letters, digits"),
    ('▸"a\\n": {name: A, roles: [planner], keys: [K]}', "is no id: letters, digits"),
    ('a: {name: ▸"A\\nB", roles: [planner], keys: [K]}', "people.a.name: must be one line"),
    (
        "a: {name: A, roles: [planner], keys: [K]}\n  ▸a: {name: B, roles: [approver], keys: [K]}",
        "people.a: is given twice",
    ),
    ("a: {name: A, roles: [planner], keys: [▸&x K]}", "anchors are not supported"),
    ("a: {name: A, roles: [planner], keys: [K]}\n▸peple: {}", "peple: unknown section (did you mean `people`?)"),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_every_mistake_is_found_at_its_place(text, expected):
    """One problem, with line and column of what is wrong, the field, and what was expected."""
    text = "edge_monitor_people: 1\npeople:\n  " + text.replace("K]", ALICE + "]").replace("K,", ALICE + ",")
    at = text.index("▸")
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    with pytest.raises(PeopleError) as error:
        loads(text.replace("▸", "").encode(), source="people.yaml")
    assert str(error.value).startswith(f"people.yaml:{line}:{column}: ")
    assert expected in str(error.value) and len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty"),
        (b"- a", "expected a mapping (`edge_monitor_people: 1`, `people:` …)"),
        (b"people: {}", "edge_monitor_people: is required"),
        (b"edge_monitor_people: 2\npeople: {}", "must be 1, the format that this program reads; got `2`"),
        (b"edge_monitor_people: true\npeople: {}", "must be 1, the format that this program reads; got `true`"),
        (b"edge_monitor_people: 1\npeople: {}", "people: is empty: nobody could sign"),
        (b"edge_monitor_people: 1\npeople: [a]", "people: expected a mapping of ids to persons, got a list"),
        (b"\xff", "is not UTF-8"),
        (b"a: " + b"x" * (1 << 20), "is larger than 1048576 bytes: no people file"),
        (b"edge_monitor_people: 1\n---\npeople: {}", "a second document starts here: one people a file"),
    ],
)
def test_what_is_no_people_file_is_refused(data, expected):
    """Emptiness, other shapes, other formats, other encodings and sizes are refused in words about people files."""
    with pytest.raises(PeopleError) as error:
        loads(data)
    assert expected in str(error.value)


def test_sizes_are_bounded():
    """More than 1000 persons, or more than 16 keys of one, are refused."""
    many = "".join(f"\n  p{i}: {{name: P{i}, roles: [planner], keys: [{ALICE}]}}" for i in range(MAX_PEOPLE + 1))
    with pytest.raises(PeopleError, match="holds 1001 persons: at most 1000"):
        loads(f"edge_monitor_people: 1\npeople:{many}".encode())
    keys = ", ".join([ALICE] * (MAX_KEYS + 1))
    with pytest.raises(PeopleError, match="takes at most 16 entries, got 17"):
        loads(f"edge_monitor_people: 1\npeople:\n  a: {{name: A, roles: [planner], keys: [{keys}]}}".encode())


def test_a_key_leads_to_its_person():
    """A signature line's name and id, and a public key, find the one who owns them, and nobody for others."""
    people = trusted()
    for name, person in [("alice", "alice"), ("alice-spare", "alice"), ("bob", "bob")]:
        key = KEYS[name].verifier
        owner = people.owner(name, key.key_id)
        assert owner is not None and owner.person.id == person and owner.key.key == key
        assert people.key_of(person, key.public) == owner
    assert people.owner("alice", KEYS["bob"].verifier.key_id) is None
    assert people.owner("mallory", KEYS["mallory"].verifier.key_id) is None
    assert people.key_of("bob", KEYS["alice"].verifier.public) is None
    assert people.key_of("nobody", KEYS["alice"].verifier.public) is None


@pytest.mark.parametrize(
    ("signer", "role", "signed", "clock", "codes"),
    [
        ("alice", "planner", "2026-06-01", "2026-07-01", []),
        ("alice", "operator", "2026-06-01", "2026-07-01", ["role"]),
        ("carol", "approver", "2026-06-01", "2026-07-01", ["revoked"]),
        ("bob", "approver", "2025-12-31T23:59:59Z", "2026-07-01", ["not_yet_valid"]),
        ("bob", "approver", "2026-01-01", "2026-01-01", []),
        ("bob", "approver", "2026-06-01", "2027-11-30T23:59:59Z", []),
        ("bob", "approver", "2026-06-01", "2027-12-01", ["expired_key"]),
        ("bob", "approver", "2027-12-01", "2026-07-01", ["expired_key"]),
        ("erin", "operator", "2026-01-01", "2026-11-30", ["role", "not_yet_valid", "expired_key"]),
    ],
)
def test_a_signature_counts_while_person_and_key_are_valid(signer, role, signed, clock, codes):
    """Role, revocation and both ends of validity are judged, the end also by the clock; all reasons are given."""
    found = trusted().owner(signer, KEYS[signer].verifier.key_id)
    assert found is not None
    assert [refusal.code for refusal in found.refusals(role, utc_ns(signed), utc_ns(clock))] == codes


def test_a_note_is_opened_for_one_known_signer_only():
    """One good signature of a known key opens a note; none, several, unknown, foreign or false ones each say why."""
    people, text = trusted(), "hello\n"
    note = sign_note(text, KEYS["bob"])
    opened, signer, refusals = people.opened(note, "note")
    assert opened == text and signer is not None and signer.person.id == "bob" and refusals == []
    line = sign_note(text, KEYS["alice"]).rpartition("\n\n")[2]
    forged = note.replace("hello", "hallo")
    unknown = sign_note(text, KEYS["mallory"])
    for bad, code in [
        (note + line, "signatures"),
        (forged, "signature"),
        (unknown, "unknown_key"),
        (text, "malformed"),
    ]:
        _, signer, refusals = people.opened(bad, "note")
        assert signer is None and [refusal.code for refusal in refusals] == [code]


@given(st.integers(0, utc_ns("2200-12-31T23:59:59Z") // SECOND))
def test_moments_are_written_and_read_as_the_calendar_has_them(seconds):
    """A moment's text is ISO 8601 in UTC as the standard library has it, and reads back."""
    text = utc_text(seconds * SECOND + 999_999_999)
    assert text == datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert utc_ns(text) == seconds * SECOND


@given(
    st.one_of(
        st.text(max_size=25), st.none(), st.integers(), st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", fullmatch=True)
    )
)
def test_no_other_text_is_a_moment(value):
    """Whatever is not a moment in the one form raises ValueError, and nothing else."""
    try:
        ns = utc_ns(value)
    except ValueError:
        return
    assert utc_text(ns).startswith(value)


@given(st.binary(max_size=200), st.integers(0, len(PEOPLE)), st.integers(0, 20))
def test_no_file_raises_anything_else(junk, place, cut):
    """A people file with any bytes put into it is read, or refused with lines that have their place."""
    data = PEOPLE.encode()
    try:
        loads(data[:place] + junk + data[place + cut :], source="p")
    except PeopleError as error:
        assert all(line.startswith("p:") for line in str(error).splitlines())


def test_a_people_file_is_read_without_the_core() -> None:
    """Whoever reads one, a registry for instance, loads neither Numba nor the engine for it."""
    asked = (
        "import sys, edge_monitor.people; sys.exit(any(name in sys.modules for name in ('numba', 'edge_monitor.core')))"
    )
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
