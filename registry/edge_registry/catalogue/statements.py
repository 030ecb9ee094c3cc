"""in-toto statements in DSSE envelopes: what a person says of things that are named by digest, over exact bytes.

A statement is kept whoever signed it; what it is worth is asked of the people file when it is read (:class:`Trust`), and nothing
that it says counts otherwise.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_monitor.errors import VerificationError
from edge_monitor.evidence.statement import PAYLOAD_TYPE, STATEMENT, compact, key_id, pae
from edge_monitor.journal.keys import SigningKey, decode_base64
from edge_monitor.people import People, Person, PersonKey, Signer
from edge_monitor.utc import utc_ns

MAX_STATEMENT = 1 << 20
MAX_SUBJECTS = 1024
MAX_SIGNATURES = 16
TOLERANCE_NS = 300 * 1_000_000_000  #: how far two people's clocks may be apart

OWN = "https://edge-monitor.dev/"
REGISTRATION = OWN + "registration/v1"
APPROVAL = OWN + "approval/v1"
PROMOTION = OWN + "promotion/v1"
EXCEPTION = OWN + "exception/v1"
ERASURE = OWN + "erasure/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Statement:
    """What an envelope's payload says, whoever signed it. ``subjects``: (name, SHA-256 hex); ``digest``: of the envelope."""

    type: str
    subjects: tuple[tuple[str, str], ...]
    predicate: Mapping[str, Any]
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]  #: (hint at the key, signature)
    digest: str
    time_ns: int  #: when it was signed, by the signer's word, ns since 1970; 0: it does not say

    @property
    def is_own(self) -> bool:
        """Whether it is one that this registry's commands make."""
        return self.type.startswith(OWN)

    def text(self, name: str) -> str:
        """A text of the predicate; empty where there is none."""
        value = self.predicate.get(name)
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a statement is worth: ``verified``, ``unknown key`` or ``not valid``; ``reasons`` say why not."""

    word: str
    person: str = ""
    key: str = ""
    reasons: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether what it says counts."""
        return self.word == "verified"


def sign(
    predicate_type: str, subjects: Sequence[tuple[str, str]], predicate: Mapping[str, Any], key: SigningKey
) -> bytes:
    """The envelope over (name, SHA-256 hex) pairs and what is said of them."""
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    payload = compact(statement)
    signature = base64.b64encode(key.sign(pae(PAYLOAD_TYPE, payload))).decode()
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key_id(key.verifier), "sig": signature}],
    }
    return compact(envelope) + b"\n"


def opened(data: bytes) -> Statement:
    """The statement in an envelope's bytes; no signature is checked. Raises ``VerificationError`` for what is none."""
    if len(data) > MAX_STATEMENT:
        raise VerificationError(f"is larger than {MAX_STATEMENT} bytes: no statement")
    envelope = _object(data, "a DSSE envelope")
    if envelope.get("payloadType") != PAYLOAD_TYPE:
        raise VerificationError(f"its payload is of type {str(envelope.get('payloadType'))[:80]!r}, not {PAYLOAD_TYPE}")
    payload = _base64(envelope.get("payload"))
    listed = envelope.get("signatures")
    if payload is None or not isinstance(listed, list) or not 0 < len(listed) <= MAX_SIGNATURES:
        raise VerificationError("has no payload, or not 1 to 16 signatures")
    signatures = []
    for one in listed:
        signature = _base64(one.get("sig")) if isinstance(one, dict) else None
        if signature is None:
            raise VerificationError("has a signature that is no base64")
        signatures.append((str(one.get("keyid") or "")[:256], signature))
    statement = _object(payload, "an in-toto statement")
    if statement.get("_type") != STATEMENT:
        raise VerificationError(f"is a statement of type {str(statement.get('_type'))[:80]!r}, not {STATEMENT}")
    kind, predicate = statement.get("predicateType"), statement.get("predicate")
    if (
        not isinstance(kind, str)
        or not 0 < len(kind) <= 256
        or not kind.isprintable()
        or not isinstance(predicate, dict)
    ):
        raise VerificationError("has no predicate with a type")
    subjects = _subjects(statement.get("subject"))
    digest, signed = hashlib.sha256(data).hexdigest(), moment(predicate.get("time"))
    return Statement(kind, subjects, predicate, payload, tuple(signatures), digest, signed)


def moment(value: Any) -> int:
    """A moment as statements write it, ns since 1970; 0 for what is none."""
    try:
        return utc_ns(value)
    except ValueError:
        return 0


def digest_of(resource: Any) -> str:
    """The SHA-256 (hex) of a resource descriptor; empty where it has none."""
    digests = resource.get("digest") if isinstance(resource, dict) else None
    found = digests.get("sha256") if isinstance(digests, dict) else None
    return found if isinstance(found, str) and _DIGEST.fullmatch(found) else ""


@dataclass(slots=True)
class Trust:
    """The people file that is trusted (None: nobody is), and who signed what, once it was worked out."""

    people: People | None
    _signers: dict[str, tuple[str, int] | str] = field(default_factory=dict)

    def standing(self, statement: Statement, now_ns: int, role: str = "") -> Standing:
        """What a statement is worth at ``now_ns`` (ns since 1970). ``role``: one that its signer must have."""
        signer = self._signer(statement)
        if isinstance(signer, str):
            word = "not valid" if signer == "signature" else "unknown key"
            reason = (
                "its signature does not hold: it was changed after signing"
                if signer == "signature"
                else f"no key of the people file signed it (it names {statement.signatures[0][0][:80] or 'no key'!r})"
            )
            return Standing(word, reasons=(reason,), codes=(signer,))
        if not statement.is_own:
            return self.of_signer(signer, "", now_ns, now_ns, role)
        if not statement.text("person") or not statement.time_ns:
            return Standing("not valid", reasons=("it does not say who signed it, and when",), codes=("malformed",))
        return self.of_signer(signer, statement.text("person"), statement.time_ns, now_ns, role)

    def of_signer(self, signer: Signer, claimed: str, signed_ns: int, now_ns: int, role: str = "") -> Standing:
        """What one's word is worth that was given at ``signed_ns``, in the name of ``claimed`` (empty: none is)."""
        person, key = signer.person, signer.key.key
        asked = role or min(signer.person.roles)
        found = [(one.code, one.message) for one in signer.refusals(asked, signed_ns, now_ns)]  # type: ignore[arg-type]
        if claimed and claimed != person.id:
            found.append(("wrong_person", f"it is in the name of {claimed[:64]}, but signed by {person.id}"))
        if signed_ns > now_ns + TOLERANCE_NS:
            found.append(("clock", "it was signed later than this machine's clock says that it is"))
        word = "not valid" if found else "verified"
        return Standing(word, person.id, key.name, tuple(text for _, text in found), tuple(code for code, _ in found))

    def _signer(self, statement: Statement) -> Signer | str:
        """Who signed; ``unknown_key``, or ``signature`` where it is in the name of a known key and does not hold."""
        if self.people is None:
            return "unknown_key"
        found = self._signers.get(statement.digest)
        if found is None:
            found = self._signers[statement.digest] = self._searched(statement, self.people)
        if isinstance(found, str):
            return found
        person = self.people.persons[found[0]]
        return Signer(person, person.keys[found[1]])

    @staticmethod
    def _searched(statement: Statement, people: People) -> tuple[str, int] | str:
        message = pae(PAYLOAD_TYPE, statement.payload)
        result = "unknown_key"
        for hint, signature in statement.signatures:
            for person, number, key in _keys(people):
                named = key_id(key.key) == hint
                if key.key.verify(message, signature):
                    return person.id, number
                if named:
                    result = "signature"
        return result


class TrustNow:
    """Trust by a people file that may change, as it is when asked; who signed what is kept while it stays as it is."""

    def __init__(self, people: Callable[[], People | None]) -> None:
        self._people = people
        self._known = Trust(None)

    def __call__(self) -> Trust:
        """Whom to trust now."""
        people = self._people()
        if people is not self._known.people:
            self._known = Trust(people)
        return self._known


def _keys(people: People) -> list[tuple[Person, int, PersonKey]]:
    return [(person, number, key) for person in people.persons.values() for number, key in enumerate(person.keys)]


def _subjects(listed: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_SUBJECTS:
        raise VerificationError("is about nothing, or about too much")
    found = []
    for one in listed:
        digest = digest_of(one)
        name = one.get("name", "") if isinstance(one, dict) else ""
        if not digest:
            raise VerificationError("has a subject without a SHA-256")
        found.append((str(name)[:256], digest))
    return tuple(dict.fromkeys(found))


def _base64(value: Any) -> bytes | None:
    """Bytes in standard base64, or in the URL-safe alphabet, both of which DSSE allows."""
    if not isinstance(value, str):
        return None
    return decode_base64(value.replace("-", "+").replace("_", "/"))


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise VerificationError(f"is not {what}: no JSON") from None
    if not isinstance(document, dict):
        raise VerificationError(f"is not {what}: no JSON object")
    return document
