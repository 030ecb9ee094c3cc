"""Signed notes and checkpoints (C2SP signed-note and tlog-checkpoint): text, an empty line, and signature lines."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import VerificationError
from .keys import SigningKey, VerifierKey, decode_base64

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


def split_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The text of a note and its signatures as (key name, key id and signature bytes); none of them is checked.

    Raises ``VerificationError`` unless the note is well formed.
    """
    if len(note) > MAX_NOTE:
        raise VerificationError("note longer than 64 KiB")
    if any(character < " " and character != "\n" for character in note):
        raise VerificationError("note holds control characters")
    text, separator, lines = note.rpartition("\n\n")
    if not separator or not text or not lines.endswith("\n"):
        raise VerificationError("note without signatures")
    signatures = []
    for line in lines[:-1].split("\n"):
        words = line.removeprefix(_DASH).split(" ")
        if (
            not line.startswith(_DASH)
            or len(words) != 2
            or not words[0]
            or "+" in words[0]
            or words[0].split() != words[:1]
        ):
            raise VerificationError("malformed signature line")
        signature = decode_base64(words[1])
        if signature is None or len(signature) < 5:
            raise VerificationError("malformed signature")
        signatures.append((words[0], signature))
    return text + "\n", signatures


def open_note(note: str, keys: Sequence[VerifierKey]) -> tuple[str, list[VerifierKey]]:
    """The text of a note and which of ``keys`` signed it. Signatures of unknown keys are ignored.

    Raises ``VerificationError`` when the note is malformed or a signature in the name of a known key does not hold.
    """
    text, signatures = split_note(note)
    signed: list[VerifierKey] = []
    for name, signature in signatures:
        for key in keys:
            if key.name == name and key.key_id == signature[:4]:
                if not key.verify(text.encode(), signature[4:]):
                    raise VerificationError(f"signature by {name} does not hold")
                if key not in signed:
                    signed.append(key)
    return text, signed


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint of a note's text. Raises ``VerificationError`` unless it is in canonical form."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0] or not lines[1].isascii() or not lines[1].isdigit():
        raise VerificationError("not a checkpoint: expected origin, size and root")
    checkpoint = Checkpoint(lines[0], int(lines[1][:20]), decode_base64(lines[2]) or b"")
    if len(checkpoint.root) != 32 or checkpoint.text() != text:
        raise VerificationError("checkpoint is not in canonical form")
    return checkpoint
