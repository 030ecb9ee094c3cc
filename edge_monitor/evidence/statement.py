"""The signed list of a packet's files: an in-toto Statement (v1) in a DSSE envelope, over exact bytes.

DSSE (github.com/secure-systems-lab/dsse, protocol v1.0.2) signs ``PAE(type, payload)``, so that neither can be taken for another.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import VerificationError
from ..journal.keys import SigningKey, VerifierKey, decode_base64

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://edge-monitor.dev/evidence-packet/v1"


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: ``"DSSEv1" SP len SP type SP len SP payload``."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(subjects: Mapping[str, str], predicate: Mapping[str, Any], key: SigningKey) -> bytes:
    """The envelope over files (name to SHA-256 in hex) and what is said of them."""
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(subjects.items())],
        "predicateType": PREDICATE,
        "predicate": dict(predicate),
    }
    payload = compact(statement)
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {"keyid": key_id(key.verifier), "sig": base64.b64encode(key.sign(pae(PAYLOAD_TYPE, payload))).decode()}
        ],
    }
    return compact(envelope) + b"\n"


def key_id(key: VerifierKey) -> str:
    """A hint at who signed, nothing more: the key's name and C2SP key id."""
    return f"{key.name}+{key.key_id.hex()}"


def compact(document: Any) -> bytes:
    """JSON in one form: keys in order, no blanks, UTF-8."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def open_envelope(data: bytes, keys: Sequence[VerifierKey]) -> tuple[dict[str, str], dict[str, Any], VerifierKey]:
    """Files with their digests, the predicate, and which of ``keys`` signed.

    Raises ``VerificationError`` with a code of ``evidence.reasons`` as its first word.
    """
    envelope = _document(data, "the envelope")
    if envelope.get("payloadType") != PAYLOAD_TYPE:
        raise VerificationError(
            f"payload_type: the envelope's payload is of type {str(envelope.get('payloadType'))[:80]!r}"
        )
    payload = decode_base64(str(envelope.get("payload")))
    signatures = envelope.get("signatures")
    if payload is None or not isinstance(signatures, list) or not 0 < len(signatures) <= 16:
        raise VerificationError("malformed: the envelope has no payload or no signatures")
    message = pae(PAYLOAD_TYPE, payload)
    signer = None
    for one in signatures:
        signature = decode_base64(str(one.get("sig"))) if isinstance(one, dict) else None
        signer = signer or next((key for key in keys if signature and key.verify(message, signature)), None)
    if signer is None:
        raise VerificationError("exporter_key: no key that was given for the exporter signed the packet")
    statement = _document(payload, "the statement")
    if statement.get("_type") != STATEMENT or statement.get("predicateType") != PREDICATE:
        raise VerificationError("statement_type: the statement is not about an evidence packet of this version")
    predicate, subjects = statement.get("predicate"), statement.get("subject")
    if not isinstance(predicate, dict) or not isinstance(subjects, list):
        raise VerificationError("malformed: the statement has no subjects or no predicate")
    return _files(subjects), predicate, signer


def _files(subjects: Sequence[Any]) -> dict[str, str]:
    files: dict[str, str] = {}
    for subject in subjects:
        name = subject.get("name") if isinstance(subject, dict) else None
        digest = subject.get("digest", {}) if isinstance(subject, dict) else None
        found = digest.get("sha256") if isinstance(digest, dict) else None
        if not isinstance(name, str) or not isinstance(found, str) or name in files:
            raise VerificationError("malformed: a subject of the statement has no name or SHA-256, or stands twice")
        files[name] = found
    return files


def _document(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise VerificationError(f"malformed: {what} is no JSON") from None
    if not isinstance(document, dict):
        raise VerificationError(f"malformed: {what} is no JSON object")
    return document
