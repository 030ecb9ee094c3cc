"""Who may sign what: the people file, which the side that trusts keeps, and never comes with what is being verified.

A person acts through keys, and is the one who counts: two keys of one person are one voice. What a key signed counts
only while key and person are valid *now*: the time in a statement is the signer's own claim.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PlainValidator

from .envelope.document import MAX_BYTES, Document, Form
from .envelope.fields import ID_PATTERN, Model, Text
from .envelope.problems import DocumentError, Finding, Path, Problem, shown
from .envelope.validation import validate
from .errors import ConfigError, VerificationError
from .journal.keys import VerifierKey, parse_verifier_key
from .journal.notes import split_note
from .utc import utc_ns, utc_text

FORMAT = 1
MAX_PEOPLE = 1000
MAX_KEYS = 16
Role = Literal["planner", "approver", "operator", "field_engineer", "assurance", "key_admin"]


class PeopleError(DocumentError):
    """A people file that cannot be used."""


FORM = Form("people", "`edge_monitor_people: 1`, `people:` …", PeopleError)


def _key(value: object) -> VerifierKey:
    if not isinstance(value, str) or len(value) > 300:
        raise ValueError(f"expected the line of a .pub file, got {shown(value)}")
    try:
        return parse_verifier_key(value)
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("key: ")) from None


def _moment(value: object) -> int:
    try:
        return utc_ns(value)
    except ValueError as error:
        raise ValueError(f"{error}, got {shown(value)}") from None


Key = Annotated[VerifierKey, PlainValidator(_key)]
Moment = Annotated[int, PlainValidator(_moment)]


class _Validity(Model):
    valid_from: Moment | None = Field(None, description="first moment, in UTC")
    valid_until: Moment | None = Field(None, description="first moment that is too late, in UTC")
    revoked: bool = Field(False, description="nothing that was ever signed counts any more")


class _KeyModel(_Validity):
    key: Key = Field(description="the line of the .pub file")


class _SignInModel(Model):
    issuer: Text = Field(description="address of the OpenID provider", max_length=200)
    subject: Text = Field(description="who it says they are: the `sub` of its ID tokens", max_length=255)


class _PersonModel(_Validity):
    name: Text = Field(description="what the person is called", max_length=100)
    roles: tuple[Role, ...] = Field(description="what the person may do", min_length=1, max_length=6)
    keys: tuple[Annotated[_KeyModel, BeforeValidator(lambda v: {"key": v} if isinstance(v, str) else v)], ...] = Field(
        description="what the person signs with; a .pub line, or a mapping with its own validity",
        min_length=1,
        max_length=MAX_KEYS,
    )
    sign_in: tuple[_SignInModel, ...] = Field((), description="as whom they sign in to a registry", max_length=4)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason why something signed does not count: a code for programs, a line for people with how to mend it."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From when and until when; ns since 1970, None: no limit. ``valid_until`` itself is too late."""

    valid_from: int | None = None
    valid_until: int | None = None
    revoked: bool = False

    def is_valid(self, ns: int) -> bool:
        """Whether it is valid at this moment."""
        begun = self.valid_from is None or ns >= self.valid_from
        return begun and not self.revoked and (self.valid_until is None or ns < self.valid_until)


@dataclass(frozen=True, slots=True)
class PersonKey(Validity):
    """A key of a person."""

    key: VerifierKey


@dataclass(frozen=True, slots=True)
class Person(Validity):
    """Somebody who may sign. ``sign_in``: (issuer, subject) of OpenID providers, as whom they may look into a registry."""

    id: str
    name: str
    roles: frozenset[str]
    keys: tuple[PersonKey, ...]
    sign_in: tuple[tuple[str, str], ...] = ()


class Signer(NamedTuple):
    """A person, and the key of theirs that signed."""

    person: Person
    key: PersonKey

    def refusals(self, role: Role, signed_ns: int, clock_ns: int) -> Iterator[Refusal]:
        """Why what was signed at ``signed_ns`` in the role does not count at ``clock_ns``; nothing if it does."""
        person, key = self
        if role not in person.roles:
            yield Refusal("role", f"{person.id} has not the role '{role}': have somebody sign who has it")
        for what, validity in ((person.id, person), (f"key {key.key.name} of {person.id}", key)):
            if validity.revoked:
                yield Refusal("revoked", f"{what} is revoked: have it signed anew, by another person or key")
            if validity.valid_from is not None and signed_ns < validity.valid_from:
                since = utc_text(validity.valid_from)
                yield Refusal("not_yet_valid", f"{what} is valid from {since} only: have it signed anew")
            if validity.valid_until is not None and max(signed_ns, clock_ns) >= validity.valid_until:
                until = utc_text(validity.valid_until)
                yield Refusal("expired_key", f"{what} was valid until {until}: have it signed anew with a valid key")


@dataclass(frozen=True, slots=True)
class People:
    """The people file: persons by id. ``digest`` is SHA-256 of its bytes, so that a record can say who was trusted."""

    persons: Mapping[str, Person]
    source: str
    digest: str

    def owner(self, name: str, key_id: bytes) -> Signer | None:
        """Whose key it is, by what a signature line says of it."""
        for person in self.persons.values():
            for key in person.keys:
                if key.key.name == name and key.key.key_id == key_id:
                    return Signer(person, key)
        return None

    def signing_in(self, issuer: str, subject: str) -> Person | None:
        """Whom an OpenID provider means; None unless the file says so."""
        return next((person for person in self.persons.values() if (issuer, subject) in person.sign_in), None)

    def key_of(self, person_id: str, public: bytes) -> Signer | None:
        """The person with this key; None unless it is theirs."""
        person = self.persons.get(person_id)
        keys = [key for key in person.keys if key.key.public == public] if person else []
        return Signer(person, keys[0]) if person and keys else None

    def opened(self, note: str, what: str) -> tuple[str, Signer | None, list[Refusal]]:
        """The text of a signed note (empty where it is no note) and who signed it, or why that cannot be said.

        One signature is expected: with several it would have to be guessed whose word the note is. ``what`` the
        note is, for the refusals.
        """
        try:
            text, signatures = split_note(note)
        except VerificationError as error:
            return "", None, [Refusal("malformed", f"the {what} is damaged ({error}): have it signed anew")]
        if len(signatures) != 1:
            message = f"the {what} has {len(signatures)} signatures where one is expected: have it signed anew"
            return text, None, [Refusal("signatures", message)]
        name, signature = signatures[0]
        signer = self.owner(name, signature[:4])
        if signer is None:
            message = f"the {what} is signed with the key {shown(name)} ({signature[:4].hex()}), which the people file"
            return text, None, [Refusal("unknown_key", f"{message} does not have: add it there if it is to be trusted")]
        if not signer.key.key.verify(text.encode(), signature[4:]):
            message = f"the signature of the {what} by {name} does not hold: it was changed after signing; sign anew"
            return text, None, [Refusal("signature", message)]
        return text, signer, []


def load(path: str | FilePath) -> People:
    """Read a people file.

    Raises:
        PeopleError: a ConfigError with every problem as ``file:line:col: field: problem``.
        ConfigError: the file cannot be read.
    """
    try:
        with FilePath(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{path}: cannot read the people file: {reason}") from None
    return loads(data, source=str(path))


def loads(data: bytes, *, source: str = "<people>") -> People:
    """Like :func:`load`, of bytes; ``source`` is the file's name in errors."""
    document = Document(data, source, FORM)
    problems: list[Problem] = list(document.problems)

    def add(findings: Iterable[Finding], *, key: bool = False) -> None:
        problems.extend(document.problem(f, key=key) for f in findings if not document.is_broken(f.path))

    sections = ("edge_monitor_people", "people")
    add(
        (Finding((name,), "unknown section", name, sections) for name in document.data if name not in sections),
        key=True,
    )
    add(Finding((name,), "is required") for name in sections if name not in document.data)
    version = document.data.get(sections[0], FORMAT)
    if version != FORMAT or isinstance(version, bool):
        add([Finding((sections[0],), f"must be {FORMAT}, the format that this program reads; got {shown(version)}")])
    raw = document.data.get("people", {})
    persons: dict[str, Person] = {}
    if not isinstance(raw, dict):
        add([Finding(("people",), f"expected a mapping of ids to persons, got {shown(raw)}")])
        raw = {}
    elif len(raw) > MAX_PEOPLE:
        add([Finding(("people",), f"holds {len(raw)} persons: at most {MAX_PEOPLE}")])
        raw = {}
    elif not raw and "people" in document.data and not document.names("people"):
        add([Finding(("people",), "is empty: nobody could sign")])
    for person_id, entry in raw.items():
        path: Path = ("people", person_id)
        if not re.fullmatch(ID_PATTERN, person_id):
            add([Finding(path, "is no id: letters, digits, `.`, `_` and `-`, at most 64")], key=True)
        model, findings, unknown = validate(_PersonModel, entry, path)
        add(findings)
        add(unknown, key=True)
        if model is not None:
            add(found.under(path) for found in _findings(model))
            persons[person_id] = _person(person_id, model)
    add(_shared(persons))
    if problems:
        raise PeopleError(problems)
    return People(persons, source, hashlib.sha256(data).hexdigest())


def _person(person_id: str, model: _PersonModel) -> Person:
    keys = tuple(PersonKey(one.key, **_validity(one)) for one in model.keys)
    sign_in = tuple((one.issuer, one.subject) for one in model.sign_in)
    return Person(person_id, model.name, frozenset(model.roles), keys, sign_in, **_validity(model))


def _validity(model: _Validity) -> dict[str, Any]:
    return {"valid_from": model.valid_from, "valid_until": model.valid_until, "revoked": model.revoked}


def _findings(model: _PersonModel) -> Iterator[Finding]:
    places: list[tuple[Path, Any]] = [((), model), *((("keys", i), key) for i, key in enumerate(model.keys))]
    for place, validity in places:
        if None not in (validity.valid_from, validity.valid_until) and validity.valid_from >= validity.valid_until:
            yield Finding((*place, "valid_until"), "must be after `valid_from`")
    if not model.name.isprintable():
        yield Finding(("name",), "must be one line")
    for i, role in enumerate(model.roles):
        if role in model.roles[:i]:
            yield Finding(("roles", i), f"{shown(role)} is given twice")


def _shared(persons: Mapping[str, Person]) -> Iterator[Finding]:
    """A key, a name or a way to sign in of two persons: then who it was could not be said, or one person could be two."""
    keys: dict[bytes, str] = {}
    lines: dict[tuple[str, bytes], str] = {}
    names: dict[str, str] = {}
    identities: dict[tuple[str, str], str] = {}
    for person in persons.values():
        for i, one in enumerate(person.keys):
            place: Path = ("people", person.id, "keys", i)
            line = (one.key.name, one.key.key_id)
            if one.key.public in keys:
                yield Finding(place, f"is also a key of `{keys[one.key.public]}`: each key has one place")
            elif line in lines:
                yield Finding(place, f"has the name and id of another key, of `{lines[line]}`: make a new key")
            keys.setdefault(one.key.public, person.id)
            lines.setdefault(line, person.id)
        for i, identity in enumerate(person.sign_in):
            if identity in identities:
                place = ("people", person.id, "sign_in", i)
                yield Finding(place, f"also stands with `{identities[identity]}`: each subject is one person")
            identities.setdefault(identity, person.id)
        name = " ".join(unicodedata.normalize("NFKC", person.name).casefold().split())
        if name in names:
            message = f"is the name of `{names[name]}` too: one person has one entry (name two persons apart)"
            yield Finding(("people", person.id, "name"), message)
        names.setdefault(name, person.id)
