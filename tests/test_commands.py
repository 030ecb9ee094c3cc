"""Commands as data: what is taken from outside, what is refused, and how it goes there and back."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_monitor.core.commands import COMMANDS, Waive, from_payload, standing_latches
from edge_monitor.errors import UsageError

SIGNATURE = b"\x01" * 64
EXAMPLES: dict[str, dict[str, Any]] = {
    "latch.reset": {"check": "fence", "person": "ada", "reason": "inspected"},
    "latch.restore": {"check": "fence"},
    "handover.request": {"id": "h-1", "to": "human", "person": "ada", "reason": "crossing", "rules": ["fence"],
                         "signature": SIGNATURE, "checkpoint": "robot/1\n7\nabc\n"},
    "handover.accept": {"id": "h-1", "person": "ada", "signature": SIGNATURE, "checkpoint": "robot/1\n7\nabc\n"},
    "handover.refuse": {"id": "h-1", "person": "ada", "reason": "busy"},
    "handover.cancel": {"id": "h-1", "person": "ada", "reason": "not needed"},
    "waiver.grant": {"check": "fence", "persons": ["ada", "bob"], "reason": "survey outside", "expires": 10_000,
                     "gates": ["takeoff"], "signatures": [SIGNATURE, SIGNATURE], "checkpoint": "robot/1\n7\nabc\n"},
    "waiver.withdraw": {"check": "fence", "person": "ada", "reason": "done"},
    "mission.end": {"person": "ada", "reason": "landed"},
    "envelope.reload": {"path": "configs/a.yaml", "file": "0b" * 32, "risk": "high", "person": "ada", "reason": "new limit",
                        "digest": "0a" * 32, "approval": {"approver": "bob", "expires_ns": 7, "reasons": ["x"]}},
    "action.report": {"subject": "climb", "gate": "drive", "outcome": "limited", "rule": "range", "unit": "m/s", "reason": "late",
                      "requested": [3.0, None, "inf"], "granted": [2.5], "rules": ["range"], "counts": [4],
                      "since": 3, "reports": 2},
}  # fmt: skip


def document(word: str, **more: Any) -> dict[str, Any]:
    """A valid command with some fields changed."""
    return {"command": word, "t": 7, **EXAMPLES[word], **more}


def test_every_command_has_an_example() -> None:
    """The examples below cover the whole list, each with every field."""
    assert EXAMPLES.keys() == COMMANDS.keys()
    for word, kind in COMMANDS.items():
        assert {"t", *EXAMPLES[word]} == {field.name for field in fields(kind)}


@pytest.mark.parametrize("word", EXAMPLES)
def test_there_and_back(word: str) -> None:
    """A command is the same after its payload went through MessagePack; what is optional may be left out."""
    command = from_payload(document(word))
    assert command.payload() == document(word)
    assert from_payload(msgspec.msgpack.decode(msgspec.msgpack.encode(command.payload()))) == command
    optional = [f.name for f in fields(command) if isinstance(f.default, (str, tuple, type(None)))]
    short = {name: value for name, value in document(word).items() if name not in optional}
    assert from_payload(short).payload() == short


@pytest.mark.parametrize(("word", "field", "value", "message"), [
    ("latch.reset", "check", "a b", "check: must be a name"),
    ("latch.reset", "check", 7, "check: must be a name"),
    ("latch.reset", "person", "", "person: must be a person's name"),
    ("latch.reset", "person", " ada", "person: must be a person's name"),
    ("latch.reset", "person", "a" * 65, "person: has 65 bytes, at most 64"),
    ("latch.reset", "person", "ä" * 33, "person: has 66 bytes, at most 64"),
    ("latch.reset", "reason", "  ", "reason: is empty"),
    ("latch.reset", "reason", None, "reason: must be text"),
    ("latch.reset", "reason", "x" * 1025, "reason: has 1025 bytes, at most 1024"),
    ("latch.reset", "reason", "a\x1b[2Jb", "reason: has control characters"),
    ("latch.reset", "reason", "a\nb", "reason: has control characters"),
    ("latch.reset", "reason", "a\u202eb", "reason: has control characters"),
    ("latch.reset", "reason", "\ud800", "reason: is no valid text"),
    ("latch.reset", "t", -1, "t: must be nanoseconds"),
    ("latch.reset", "t", 2**63, "t: must be nanoseconds"),
    ("latch.reset", "t", 1.0, "t: must be nanoseconds"),
    ("latch.reset", "t", True, "t: must be nanoseconds"),
    ("handover.request", "to", "robot", "to: must be one of autonomy, human, fallback"),
    ("handover.request", "to", ["human"], "to: must be one of"),
    ("handover.request", "id", "", "id: must be an id"),
    ("handover.request", "id", "a" * 65, "id: must be an id"),
    ("handover.request", "id", "a/b", "id: must be an id"),
    ("handover.request", "rules", ["a", "a"], "rules: has a name twice"),
    ("handover.request", "rules", ["a"] * 65, "rules: must be a list of at most 64"),
    ("handover.request", "rules", [7], "rules[0]: must be a name"),
    ("handover.accept", "signature", b"short", "signature: must be the 64 bytes"),
    ("handover.accept", "signature", "x" * 64, "signature: must be the 64 bytes"),
    ("handover.accept", "checkpoint", "x" * 1025, "checkpoint: has 1025 bytes"),
    ("waiver.grant", "persons", [], "persons: must be a list of one to four"),
    ("waiver.grant", "persons", ["ada", "Ada"], "persons: names one person twice"),
    ("waiver.grant", "persons", "ada", "persons: must be a list"),
    ("waiver.grant", "expires", 7, "expires: must be later than now"),
    ("waiver.grant", "signatures", [SIGNATURE], "signatures: are 1 for 2 people"),
    ("waiver.grant", "signatures", [SIGNATURE, None], "signatures[1]: is missing"),
    ("waiver.grant", "signatures", [SIGNATURE] * 5, "signatures: must be a list of at most four"),
    ("envelope.reload", "digest", "0A" * 32, "digest: must be a SHA-256"),
    ("envelope.reload", "file", "", "file: must be a SHA-256"),
    ("envelope.reload", "path", "", "path: is empty"),
    ("envelope.reload", "approval", [], "approval: must be a map"),
    ("envelope.reload", "approval", {"a b": 1}, "approval: must be a name"),
    ("envelope.reload", "approval", {"a": 1.5}, "approval.a: must be text, a whole number"),
    ("envelope.reload", "approval", {"a": {"b": 1}}, "approval.a: must be text, a whole number"),
    ("envelope.reload", "approval", {f"a{i}": i for i in range(25)}, "approval: must be a map of at most 24"),
])  # fmt: skip
def test_what_is_refused(word: str, field: str, value: object, message: str) -> None:
    """Each wrong field is named in one line, with the command it is of."""
    with pytest.raises(UsageError) as caught:
        from_payload(document(word, **{field: value}))
    assert str(caught.value).startswith(f"{word}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("given_document", "message"), [
    ({}, "command: must be one of latch.reset"),
    ({"command": "reboot"}, "command: must be one of"),
    ({"command": ["latch.reset"]}, "command: must be one of"),
    ([], "a command is a map"),
    ({"command": "mission.end", "t": 7, "person": "ada"}, "mission.end: reason missing"),
    ({"command": "mission.end"}, "mission.end: person, reason, t missing"),
    ({"command": "mission.end", "t": 7, "word": "x"}, "mission.end: word is not one of person, reason, t"),
    ({"command": "mission.end", "t": 7, "a\nb": "x"}, "mission.end: a field is not one of person, reason, t"),
    ({"command": "mission.end", "t": 7, 5: "x"}, "mission.end: a field is not one of"),
])  # fmt: skip
def test_what_is_no_command(given_document: Any, message: str) -> None:
    """Unknown commands, unknown fields and missing ones are told by name."""
    with pytest.raises(UsageError) as caught:
        from_payload(given_document)
    assert str(caught.value).startswith(message)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_anything_else_is_a_usage_error(word: str, data: st.DataObject) -> None:
    """Whatever stands in a field, a command comes of it or one line; nothing else."""
    name = data.draw(st.sampled_from([*document(word), "more"]))
    value = data.draw(ANYTHING)
    try:
        command = from_payload(document(word, **{name: value}))
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert from_payload(command.payload()) == command


def test_what_is_signed_of_a_waiver_names_everything() -> None:
    """Every field that matters changes the text that people sign."""
    plain = document("waiver.grant", signatures=[])
    texts = set()
    for change in ({}, {"check": "other"}, {"persons": ["ada"]}, {"reason": "x"}, {"expires": 9}, {"gates": []},
                   {"checkpoint": ""}):  # fmt: skip
        command = from_payload(plain | change)
        assert isinstance(command, Waive)
        texts.add(command.text())
    assert len(texts) == 7


def test_latches_that_stand() -> None:
    """What was set and not reset since, in the order in which it was set."""
    told = [("latch.set", "a"), ("check.fail", "b"), ("latch.set", "b"), ("latch.reset", "a"), ("latch.set", "c"),
            ("latch.reset", "never"), ("latch.reset", "b"), ("latch.set", "b")]  # fmt: skip
    assert standing_latches(told) == ("c", "b")
