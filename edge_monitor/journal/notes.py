"""Signed notes and checkpoints (C2SP signed-note and tlog-checkpoint): text, an empty line, and signature lines."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from ..errors import VerificationError
from .keys import SigningKey, VerifierKey

MAX_NOTE = 1 << 16
_DASH = "\N{EM DASH} "


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: whose log, how many records, which root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign_note(text: str, key: SigningKey) -> str:
    """``text`` (ending in a newline) with one signature of ``key``."""
    signature = base64.b64encode(key.verifier.key_id + key.sign(text.encode())).decode()
    return f"{text}\n{_DASH}{key.verifier.name} {signature}\n"


def open_note(note: str, keys: list[VerifierKey]) -> tuple[str, list[VerifierKey]]:
    """The text of a note and which of ``keys`` signed it. Signatures of unknown keys are ignored.

    Raises ``VerificationError`` when the note is malformed or a signature in the name of a known key does not hold.
    """
    if len(note) > MAX_NOTE:
        raise VerificationError("note longer than 64 KiB")
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise VerificationError("note without signatures")
    text += "\n"
    signed: list[VerifierKey] = []
    for line in signatures[:-1].split("\n"):
        name, space, encoded = line.removeprefix(_DASH).rpartition(" ")
        if not line.startswith(_DASH) or not space or not name:
            raise VerificationError("malformed signature line")
        data = _decode(encoded)
        if len(data) < 5:
            raise VerificationError("signature line too short")
        for key in keys:
            if key.name == name and key.key_id == data[:4]:
                if not key.verify(text.encode(), data[4:]):
                    raise VerificationError(f"signature by {name} does not hold")
                signed.append(key)
    return text, signed


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint of a note's text. Raises ``VerificationError`` unless it is in canonical form."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0] or not lines[1].isascii() or not lines[1].isdigit():
        raise VerificationError("not a checkpoint: expected origin, size and root")
    checkpoint = Checkpoint(lines[0], int(lines[1][:20]), _decode(lines[2]))
    if len(checkpoint.root) != 32 or checkpoint.text() != text:
        raise VerificationError("checkpoint is not in canonical form")
    return checkpoint


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise VerificationError("malformed base64") from None
