"""Ed25519 keys as files: ``NAME.key`` (secret, mode 0600) and ``NAME.pub``, a C2SP verifier key.

Verification follows libsodium's strict rule: signatures under low-order keys and non-canonical ones don't hold.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import nacl.bindings
import nacl.exceptions
import nacl.signing

from ..errors import ConfigError
from ..secret_files import open_to_others

ED25519 = b"\x01"  #: signature type of signed notes
MAX_KEY_FILE = 4096
_PRIVATE = "PRIVATE+KEY+"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_KEY_ID = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name it signs under."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The first four bytes of ``SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key)``."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    def text(self) -> str:
        """The verifier key in one line: ``name+id+base64``."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` (64 bytes) by this key holds for ``message``."""
        if len(signature) != 64:
            return False
        try:
            nacl.bindings.crypto_sign_open(signature + message, self.public)
        except (nacl.exceptions.BadSignatureError, ValueError):
            return False
        return True


class SigningKey:
    """A secret key with its name. It never leaves this object but through ``text``."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._key = nacl.signing.SigningKey(seed)
        self.verifier = VerifierKey(name, bytes(self._key.verify_key))

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of ``message``."""
        return bytes(self._key.sign(message).signature)

    def text(self) -> str:
        """The secret in one line, as ``NAME.key`` holds it."""
        seed = base64.b64encode(ED25519 + bytes(self._key)).decode()
        return f"{_PRIVATE}{self.verifier.name}+{self.verifier.key_id.hex()}+{seed}"


def make_key(name: str, folder: Path) -> tuple[Path, Path]:
    """Make a key pair ``NAME.key`` and ``NAME.pub`` in ``folder``; answers both paths.

    Raises ``ConfigError`` for an unusable name or when either file exists: a key is never overwritten.
    """
    if not _NAME.fullmatch(name) or "/" in name:
        raise ConfigError(f"key name '{name}': use letters, digits, '.', '_' and '-', starting with a letter or digit")
    key = SigningKey(name, os.urandom(32))
    secret, public = folder / f"{name}.key", folder / f"{name}.pub"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (secret, public):
            if path.exists():
                raise ConfigError(f"{path} exists; a key is never overwritten: choose another name or folder")
        _write(secret, key.text() + "\n", 0o600)
        _write(public, key.verifier.text() + "\n", 0o644)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; name a folder that you can write to with --dir") from None
    return secret, public


def _write(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as stream:
        os.fchmod(descriptor, mode)
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)


def load_signing_key(path: Path) -> SigningKey:
    """The key of a ``.key`` file. Raises ``ConfigError`` when it is unreadable, malformed, or open to other users."""
    line = read_key_file(path, "signing key")
    if not line.startswith(_PRIVATE):
        hint = " (this is a public key; give the .key file)" if "+" in line else ""
        raise ConfigError(f"{path}: not a signing key{hint}; make one with 'edge-monitor keys new NAME'")
    if open_to_others(path):
        raise ConfigError(f"{path}: other users can read this key; run 'chmod 600 {path}'")
    name, key_id, data = _parse(line.removeprefix(_PRIVATE), path)
    key = SigningKey(name, data)
    if key.verifier.key_id != key_id:
        raise ConfigError(f"{path}: the key's id does not match its content; the file is damaged")
    return key


def load_verifier_key(path: Path) -> VerifierKey:
    """The key of a ``.pub`` file. Raises ``ConfigError`` when it is unreadable, malformed or a low-order key."""
    line = read_key_file(path, "public key")
    if line.startswith(_PRIVATE):
        raise ConfigError(f"{path}: this is a secret key; give the .pub file beside it, and keep this one to yourself")
    return parse_verifier_key(line, str(path))


def parse_verifier_key(line: str, where: str = "key") -> VerifierKey:
    """A verifier key from its line. Raises ``ConfigError`` as ``load_verifier_key`` does."""
    return VerifierKey(*parse_key_line(line, where))


def read_key_file(path: Path, what: str) -> str:
    """The line of a key file. Raises ``ConfigError`` where there is none; ``what`` was expected."""
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_KEY_FILE).decode("ascii").strip()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; expected a {what}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a {what}: one line of text is expected") from None


def decode_base64(text: str) -> bytes | None:
    """The bytes of standard base64, None for anything but its one canonical form (spare bits zero, padding present)."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None


def parse_key_line(line: str, where: object, kind: bytes = ED25519) -> tuple[str, bytes]:
    """Name and key of ``NAME+ID+BASE64``; ``kind``: the signature type that is expected.

    Raises ``ConfigError`` for anything else; a public key that nothing can be verified with is refused too.
    """
    name, key_id, key = _parse(line, where, kind)
    if key_id != hashlib.sha256(name.encode() + b"\n" + kind + key).digest()[:4]:
        raise ConfigError(f"{where}: the key's id does not match its content; the file is damaged")
    if not nacl.bindings.crypto_core_ed25519_is_valid_point(key):
        raise ConfigError(f"{where}: not a usable Ed25519 key (of low order, or not a point of the group)")
    return name, key


def _parse(line: str, where: object, kind: bytes = ED25519) -> tuple[str, bytes, bytes]:
    name, _, rest = line.partition("+")
    key_id, _, encoded = rest.partition("+")
    data = decode_base64(encoded)
    if data is None or not _NAME.fullmatch(name) or not _KEY_ID.fullmatch(key_id):
        raise ConfigError(f"{where}: malformed key; expected NAME+ID+BASE64 in one line")
    if len(data) != 33 or data[:1] != kind:
        wanted = "an Ed25519 key" if kind == ED25519 else "the key of a registry's receipts"
        raise ConfigError(f"{where}: not {wanted}; other kinds don't serve here")
    return name, bytes.fromhex(key_id), data[1:]
