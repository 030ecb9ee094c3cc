"""An operator's signature under a handover: over its parameters and the checkpoint of the journal that was seen.

What is signed is ``DOMAIN`` and the deterministic MessagePack of ``{"checkpoint": text, "handover": parameters}``, so that
the signature is of this handover, after this history, and of nothing else that the same key ever signs.
"""

from __future__ import annotations

from typing import Any

from .errors import UsageError, VerificationError
from .journal.keys import SigningKey
from .journal.notes import parse_checkpoint
from .journal.records import encode_payload
from .people import People, Signer

DOMAIN = b"edge-monitor operator attestation v1\0"


def attestation(parameters: dict[str, Any], checkpoint: str) -> bytes:
    """The bytes that an operator signs. ``checkpoint``: the three lines of the journal's, without its signatures.

    Raises ``VerificationError`` for a text that is no checkpoint, ``UsageError`` for parameters that no payload can hold.
    """
    parse_checkpoint(checkpoint)
    return DOMAIN + encode_payload({"checkpoint": checkpoint, "handover": parameters})


def attest(key: SigningKey, parameters: dict[str, Any], checkpoint: str) -> bytes:
    """The operator's signature (64 bytes). Raises as :func:`attestation` does."""
    return key.sign(attestation(parameters, checkpoint))


def verify_attestation(
    parameters: dict[str, Any],
    checkpoint: str,
    signature: bytes,
    person: str,
    people: People,
    now_ns: int,
) -> Signer:
    """Who attested, and with which key. ``now_ns``: the moment it is received, ns since 1970.

    Raises ``VerificationError`` unless a key of ``person`` made the signature for exactly these parameters and this
    checkpoint, and person and key are valid and may operate.
    """
    try:
        message = attestation(parameters, checkpoint)
    except UsageError as error:
        raise VerificationError(f"attestation of {person}: {error}") from None
    known = people.persons.get(person)
    if known is None:
        raise VerificationError(
            f"attestation: the people file has no person '{person}'; add them, or sign as one it has"
        )
    for key in known.keys:
        if key.key.verify(message, signature):
            signer = Signer(known, key)
            refusals = list(signer.refusals("operator", now_ns, now_ns))
            if refusals:
                raise VerificationError("; ".join(f"attestation: {refusal.message}" for refusal in refusals))
            return signer
    raise VerificationError(
        f"attestation of {person} does not hold: no key of theirs signed this handover at this checkpoint; sign anew"
    )
