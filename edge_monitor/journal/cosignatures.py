"""Timestamped cosignatures (C2SP tlog-cosignature, Ed25519): how a registry says *durably stored, up to this size*.

The key is an Ed25519 key of signature type 0x04; what it signs is the time and the checkpoint's text, so that the note keeps the
device's own signature and gains a line.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..errors import VerificationError
from .keys import SigningKey, VerifierKey, parse_key_line, read_key_file
from .notes import Checkpoint, parse_checkpoint, split_note

COSIGNATURE = b"\x04"  #: signature type of timestamped Ed25519 cosignatures
_DASH = "\N{EM DASH} "
_HEAD = "cosignature/v1\ntime {}\n"


@dataclass(frozen=True, slots=True)
class CosignerKey:
    """Who may say that a checkpoint is stored: a public Ed25519 key (32 bytes) with the name it cosigns under."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The first four bytes of ``SHA-256(name ‖ 0x0A ‖ 0x04 ‖ public key)``."""
        return hashlib.sha256(self.name.encode() + b"\n" + COSIGNATURE + self.public).digest()[:4]

    def text(self) -> str:
        """The verifier key in one line: ``name+id+base64(0x04 ‖ public key)``."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(COSIGNATURE + self.public).decode()}"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A registry holds the first ``checkpoint.size`` records durably, and did so at ``time`` (s since 1970, its clock)."""

    checkpoint: Checkpoint
    cosigner: str
    time: int


def cosigner_of(key: SigningKey) -> CosignerKey:
    """The cosigner's key of a signing key: the same secret, a type and id of its own."""
    return CosignerKey(key.verifier.name, key.verifier.public)


def parse_cosigner_key(line: str, where: str = "key") -> CosignerKey:
    """A cosigner's key from its line. Raises ``ConfigError`` for anything else, a low-order key included."""
    return CosignerKey(*parse_key_line(line, where, COSIGNATURE))


def load_cosigner_key(path: Path) -> CosignerKey:
    """The key of a registry's receipt key file (one line). Raises ``ConfigError`` when it is unreadable or another kind."""
    return parse_cosigner_key(read_key_file(path, "registry's receipt key"), str(path))


def cosign(note: str, key: SigningKey, time: int) -> str:
    """``note`` with the cosignature of ``key`` at ``time`` (s since 1970) as one more line."""
    text, _ = split_note(note)
    cosigner = cosigner_of(key)
    signature = key.sign(_HEAD.format(time).encode() + text.encode())
    line = base64.b64encode(cosigner.key_id + time.to_bytes(8, "big") + signature).decode()
    return f"{note}{_DASH}{cosigner.name} {line}\n"


def open_receipt(note: str, *keys: CosignerKey) -> Receipt:
    """What one of ``keys`` says of the checkpoint in ``note``: that it is stored, and when that was.

    Whose checkpoint it is, the caller holds against what it expects. Raises ``VerificationError`` where the note is malformed,
    has no cosignature of these keys, or one that does not hold.
    """
    text, signatures = split_note(note)
    known = {(key.name, key.key_id): key for key in keys}
    for name, signature in signatures:
        key = known.get((name, signature[:4]))
        if key is None:
            continue
        time, signed = signature[4:12], signature[12:]
        seconds = int.from_bytes(time, "big")
        message = _HEAD.format(seconds).encode() + text.encode()
        if len(time) != 8 or not VerifierKey(key.name, key.public).verify(message, signed):
            raise VerificationError(f"cosignature by {name} does not hold")
        return Receipt(parse_checkpoint(text), name, seconds)
    raise VerificationError(f"no cosignature by {' or '.join(sorted({key.name for key in keys}))}")
