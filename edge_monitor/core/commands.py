"""What people and programs ask of a monitor, as data: items of the stream, on the tape like samples (SEMANTICS §1).

A command is one frozen row. ``payload`` gives it as a map of text, integers, bytes and lists; :func:`from_payload` reads
one back and trusts nothing in it. Who a person is, and whether a signature is theirs, is settled before a command
becomes an item: re-execution must not need keys.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar

from ..errors import UsageError

MOST_TEXT = 1024  #: bytes of a reason, path or checkpoint
MOST_ID = 64  #: bytes of an id, a name or a person
MOST_RULES = 64
MOST_NUMBERS = 8
MOST_FACTS = 24
SIGNATURE = 64  #: bytes of an Ed25519 signature
CONTROLLERS = ("autonomy", "human", "fallback")

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_END = 2**63 - 1

Rule = Callable[[str, Any], None]


def _no(name: str, what: str) -> UsageError:
    return UsageError(f"{name}: {what}")


def _time(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _END:
        raise _no(name, "must be nanoseconds, a whole number from 0 to 2^63")


def _bounded(name: str, value: Any, most: int, *, lines: bool = False) -> None:
    if not isinstance(value, str):
        raise _no(name, "must be text")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise _no(name, "is no valid text") from None
    if size > most:
        raise _no(name, f"has {size} bytes, at most {most} are taken")
    if any(unicodedata.category(c)[0] == "C" and not (lines and c == "\n") for c in value):
        raise _no(name, "has control characters: write it in one line of plain text")


def _text(name: str, value: Any) -> None:
    _bounded(name, value, MOST_TEXT)
    if not value.strip():
        raise _no(name, "is empty: say it in a few words")


def _note(name: str, value: Any) -> None:
    _bounded(name, value, MOST_TEXT, lines=True)


def _person(name: str, value: Any) -> None:
    _bounded(name, value, MOST_ID)
    if not value or value != value.strip():
        raise _no(name, "must be a person's name, without spaces around it")


def _maybe_person(name: str, value: Any) -> None:
    if value != "":
        _person(name, value)


def _people(name: str, value: Any) -> None:
    if not isinstance(value, tuple) or not 1 <= len(value) <= 4:
        raise _no(name, "must be a list of one to four people")
    for i, one in enumerate(value):
        _person(f"{name}[{i}]", one)
    if len({one.casefold() for one in value}) != len(value):
        raise _no(name, "names one person twice: two people are two different ones")


def _matching(pattern: re.Pattern[str], what: str) -> Rule:
    def rule(name: str, value: Any) -> None:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _no(name, f"must be {what}")

    return rule


_id = _matching(_ID, "an id: letters, digits and `. _ : -`, at most 64")
_name = _matching(_NAME, "a name of the envelope: letters, digits and `_`, at most 64")
_digest = _matching(_DIGEST, "a SHA-256 in 64 hexadecimal digits")


def _maybe_name(name: str, value: Any) -> None:
    if value != "":
        _name(name, value)


def _maybe_digest(name: str, value: Any) -> None:
    if value != "":
        _digest(name, value)


def _names(name: str, value: Any) -> None:
    if not isinstance(value, tuple) or len(value) > MOST_RULES:
        raise _no(name, f"must be a list of at most {MOST_RULES} names")
    for i, one in enumerate(value):
        _name(f"{name}[{i}]", one)
    if len(set(value)) != len(value):
        raise _no(name, "has a name twice")


def _controller(name: str, value: Any) -> None:
    if value not in CONTROLLERS:
        raise _no(name, f"must be one of {', '.join(CONTROLLERS)}")


def _signature(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, bytes) or len(value) != SIGNATURE):
        raise _no(name, f"must be the {SIGNATURE} bytes of an Ed25519 signature")


def _signatures(name: str, value: Any) -> None:
    if not isinstance(value, tuple) or len(value) > 4:
        raise _no(name, "must be a list of at most four signatures")
    for i, one in enumerate(value):
        if one is None:
            raise _no(f"{name}[{i}]", "is missing")
        _signature(f"{name}[{i}]", one)


def _brief(name: str, value: Any) -> None:
    _bounded(name, value, MOST_ID)


def _numbers(name: str, value: Any) -> None:
    """Numbers as payloads hold them: finite, None for NaN, `inf` and `-inf` as words."""
    if not isinstance(value, tuple) or len(value) > MOST_NUMBERS:
        raise _no(name, f"must be a list of at most {MOST_NUMBERS} numbers")
    for i, one in enumerate(value):
        if not (one is None or one in ("inf", "-inf") or (isinstance(one, float) and math.isfinite(one))):
            raise _no(f"{name}[{i}]", "must be a finite number, nothing, `inf` or `-inf`")


def _counts(name: str, value: Any) -> None:
    if not isinstance(value, tuple) or len(value) > MOST_RULES:
        raise _no(name, f"must be a list of at most {MOST_RULES} counts")
    for i, one in enumerate(value):
        _time(f"{name}[{i}]", one)


def _outcome(name: str, value: Any) -> None:
    if value not in ("limited", "blocked"):
        raise _no(name, "must be limited or blocked")


def _said(name: str, value: Any) -> None:
    """A flat map of what was found out beside the command."""
    if value is None:
        return
    if not isinstance(value, Mapping) or len(value) > MOST_FACTS:
        raise _no(name, f"must be a map of at most {MOST_FACTS} names")
    for key, one in value.items():
        _name(name, key)
        for part in one if isinstance(one, (list, tuple)) else (one,):
            if not isinstance(part, (int, str)):
                raise _no(f"{name}.{key}", "must be text, a whole number, or a list of them")
            if isinstance(part, str):
                _note(f"{name}.{key}", part)


def _row(rule: Rule, **more: Any) -> Any:
    return field(metadata={"rule": rule}, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What every command has: ``t``, when it was received, in ns on the stream's clock. Raises ``UsageError``."""

    word: ClassVar[str] = ""
    t: int = _row(_time)

    def __post_init__(self) -> None:
        for one in fields(self):
            one.metadata["rule"](one.name, getattr(self, one.name))

    def payload(self) -> dict[str, Any]:
        """The command as a map of text, integers, bytes and lists; what is not given is left out."""
        document: dict[str, Any] = {"command": self.word}
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None and value not in ("", ()):
                document[one.name] = (
                    list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
                )
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetLatch(Command):
    """Release a latch whose condition has cleared. ``manual`` ones go only by this, hence a name and a reason."""

    word: ClassVar[str] = "latch.reset"
    check: str = _row(_name)
    person: str = _row(_person)
    reason: str = _row(_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreLatch(Command):
    """Put back a latch that the journal shows as set; a monitor gives this to itself when it starts."""

    word: ClassVar[str] = "latch.restore"
    check: str = _row(_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHandover(Command):
    """A person asks that ``to`` take command. ``signature``: the person's, an attestation of :meth:`signed`, since the
    terms are not open yet."""

    word: ClassVar[str] = "handover.request"
    id: str = _row(_id)
    to: str = _row(_controller)
    person: str = _row(_person)
    reason: str = _row(_text)
    rules: tuple[str, ...] = _row(_names, default=())
    signature: bytes | None = _row(_signature, default=None)
    checkpoint: str = _row(_note, default="")

    def signed(self) -> dict[str, Any]:
        """The parameters that the person attests: of the request, all that they choose."""
        return {
            "request": self.id, "to": self.to, "person": self.person, "reason": self.reason, "rules": list(self.rules),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptHandover(Command):
    """A person takes over. Without a ``signature`` the acceptance counts and its attestation is pending; the same
    command with one, then or later, attests. ``checkpoint``: the signed head of the journal that the person saw."""

    word: ClassVar[str] = "handover.accept"
    id: str = _row(_id)
    person: str = _row(_person)
    signature: bytes | None = _row(_signature, default=None)
    checkpoint: str = _row(_note, default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseHandover(Command):
    """A person does not take over."""

    word: ClassVar[str] = "handover.refuse"
    id: str = _row(_id)
    person: str = _row(_person)
    reason: str = _row(_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelHandover(Command):
    """A person calls back what a person has asked for."""

    word: ClassVar[str] = "handover.cancel"
    id: str = _row(_id)
    person: str = _row(_person)
    reason: str = _row(_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waive(Command):
    """Persons accept one criterion until ``expires`` (ns on the stream's clock) in ``gates`` (none named: in all that
    read it). ``signatures``: one a person, in their order, over :meth:`text`."""

    word: ClassVar[str] = "waiver.grant"
    check: str = _row(_name)
    persons: tuple[str, ...] = _row(_people)
    reason: str = _row(_text)
    expires: int = _row(_time)
    gates: tuple[str, ...] = _row(_names, default=())
    signatures: tuple[bytes, ...] = _row(_signatures, default=())
    checkpoint: str = _row(_note, default="")

    def __post_init__(self) -> None:
        Command.__post_init__(self)
        if self.expires <= self.t:
            raise _no("expires", "must be later than now")
        if self.signatures and len(self.signatures) != len(self.persons):
            raise _no(
                "signatures", f"are {len(self.signatures)} for {len(self.persons)} people: one each, in their order"
            )

    def text(self) -> bytes:
        """What every one of ``persons`` signs."""
        rows = (self.check, " ".join(self.gates), ", ".join(self.persons), self.reason, self.expires, self.checkpoint)
        return signed_text("waiver", rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawWaiver(Command):
    """A person ends the waivers of a criterion before their time."""

    word: ClassVar[str] = "waiver.withdraw"
    check: str = _row(_name)
    person: str = _row(_person)
    reason: str = _row(_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndMission(Command):
    """The mission is over: latches ``on_mission_end`` go."""

    word: ClassVar[str] = "mission.end"
    person: str = _row(_person)
    reason: str = _row(_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadEnvelope(Command):
    """Put the envelope at ``path`` in force. ``file``: SHA-256 of the file's bytes that the person means; ``risk``: the
    profile (empty: the one in force).

    ``digest`` and ``approval`` (whose word it is) are filled in once it has been read and found to be approved: then it is
    an item of the stream.
    """

    word: ClassVar[str] = "envelope.reload"
    path: str = _row(_text)
    file: str = _row(_digest)
    risk: str = _row(_maybe_name, default="")
    person: str = _row(_maybe_person, default="")
    reason: str = _row(_note, default="")
    digest: str = _row(_maybe_digest, default="")
    approval: Mapping[str, Any] | None = _row(_said, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportAction(Command):
    """The vehicle says what its action gate held back: the last refusal, and how many there were since the report before,
    ``counts`` by ``rules``, the first at ``since`` (ns). ``reports``: how many reports this one stands for."""

    word: ClassVar[str] = "action.report"
    subject: str = _row(_text)
    gate: str = _row(_text)
    outcome: str = _row(_outcome)
    rule: str = _row(_name)
    requested: tuple[float | str | None, ...] = _row(_numbers, default=())
    granted: tuple[float | str | None, ...] = _row(_numbers, default=())
    unit: str = _row(_brief, default="")
    reason: str = _row(_brief, default="")
    rules: tuple[str, ...] = _row(_names, default=())
    counts: tuple[int, ...] = _row(_counts, default=())
    since: int = _row(_time, default=0)
    reports: int = _row(_time, default=1)

    def __post_init__(self) -> None:
        Command.__post_init__(self)
        if len(self.rules) != len(self.counts):
            raise _no("counts", f"are {len(self.counts)} for {len(self.rules)} rules: one each, in their order")


COMMANDS: dict[str, type[Command]] = {
    kind.word: kind
    for kind in (
        ResetLatch, RestoreLatch, RequestHandover, AcceptHandover, RefuseHandover, CancelHandover, Waive,
        WithdrawWaiver, EndMission, ReloadEnvelope, ReportAction,
    )
}  # fmt: skip


def from_payload(document: Mapping[str, Any]) -> Command:
    """Read a command from a map. Raises ``UsageError`` in one line that names the field."""
    if not isinstance(document, Mapping):
        raise UsageError("a command is a map of fields, with its name under `command`")
    word = document.get("command")
    kind = COMMANDS.get(word) if isinstance(word, str) else None
    if kind is None:
        raise UsageError(f"command: must be one of {', '.join(COMMANDS)}")
    known = {one.name for one in fields(kind)}
    given = [name for name in document if name != "command"]
    for name in given:
        if name not in known:
            shown = name if isinstance(name, str) and _NAME.fullmatch(name) else "a field"
            raise UsageError(f"{word}: {shown} is not one of {', '.join(sorted(known))}")
    values: dict[str, Any] = {name: tuple(v) if isinstance(v := document[name], list) else v for name in given}
    try:
        return kind(**values)
    except TypeError:
        required = {one.name for one in fields(kind) if one.default is MISSING}
        raise UsageError(f"{word}: {', '.join(sorted(required - set(given)))} missing") from None
    except UsageError as error:
        raise UsageError(f"{word}: {error}") from None


def signed_text(kind: str, rows: Iterable[object]) -> bytes:
    """The bytes that a person signs: a first line that says for what, then one row a line, each as its length in bytes,
    a space and its text, so that no two contents have one text."""
    lines = [f"edge-monitor {kind} 1"]
    for row in rows:
        text = str(row)
        lines.append(f"{len(text.encode())} {text}")
    return ("\n".join(lines) + "\n").encode()


def standing_latches(told: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Names of the checks whose latch is set after ``told``: (type, subject) of the journal's events, in order."""
    held: dict[str, None] = {}
    for word, check in told:
        if word == "latch.set":
            held[check] = None
        elif word == "latch.reset":
            held.pop(check, None)
    return tuple(held)
