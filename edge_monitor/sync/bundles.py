"""The downlink bundle: what robots must learn, as one note that a registry signs, and the files that it names (docs/sync.md §4).

A robot holds one bundle, and replaces it only by one of a higher version that verifies whole.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from ..errors import ConfigError, UsageError, VerificationError
from ..journal.cosignatures import CosignerKey
from ..journal.keys import SigningKey, VerifierKey
from ..journal.notes import open_note, sign_note
from ..journal.store import sync_folder
from .wire import MAX_FRAME

KINDS = ("envelope", "approval", "mission", "people", "revocations", "sunset")
LARGEST = MAX_FRAME - 1024  #: bytes of a bundle: it travels in one message
_TITLE = "edge-monitor bundle v1"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a bundle."""

    kind: str
    name: str
    content: bytes

    @property
    def digest(self) -> str:
        """Its SHA-256, hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class Bundle:
    """``time``: when the registry signed it, s since 1970, by its own clock."""

    registry: str
    version: int
    time: int
    items: tuple[Item, ...]

    def text(self) -> str:
        """What is signed."""
        when = datetime.fromtimestamp(self.time, timezone.utc).strftime(_TIME)
        lines = [f"{item.kind} {item.name} {item.digest}" for item in self.items]
        return "\n".join([_TITLE, self.registry, str(self.version), when, *lines, ""])


class _Packed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    note: str
    contents: list[bytes]


def pack(bundle: Bundle, key: SigningKey) -> bytes:
    """A signed bundle. Raises ``UsageError`` for what can't be in one."""
    for item in bundle.items:
        if item.kind not in KINDS:
            raise UsageError(f"{item.kind}: a bundle has no such kind of file; there is {', '.join(KINDS)}")
        if not _NAME.fullmatch(item.name):
            raise UsageError(f"{item.name}: a name in a bundle has letters, digits, '.', '_', '-'; 64 at most")
    if len({(item.kind, item.name) for item in bundle.items}) < len(bundle.items):
        raise UsageError("a bundle has each file once: two of the same kind have the same name")
    data = msgspec.msgpack.encode(_Packed(sign_note(bundle.text(), key), [item.content for item in bundle.items]))
    if len(data) > LARGEST:
        raise UsageError(f"a bundle has {LARGEST} bytes at most, this one {len(data)}")
    return data


def unpack(data: bytes, registry: CosignerKey) -> Bundle:
    """A bundle that ``registry`` signed, each file held against its digest. Raises ``VerificationError`` for anything else."""
    try:
        packed = msgspec.msgpack.decode(data, type=_Packed) if len(data) <= LARGEST else None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        packed = None
    if packed is None:
        raise VerificationError("not a bundle")
    text, signers = open_note(packed.note, [VerifierKey(registry.name, registry.public)])
    if not signers:
        raise VerificationError(f"the bundle is not signed by {registry.name}")
    try:
        title, name, version, when, *lines = text.removesuffix("\n").split("\n")
        seconds = int(datetime.strptime(when, _TIME).replace(tzinfo=timezone.utc).timestamp())
        entries = [line.split(" ") for line in lines]
        items = tuple(
            Item(kind, file, content) for (kind, file, _), content in zip(entries, packed.contents, strict=True)
        )
        bundle = Bundle(name, int(version), seconds, items)
    except ValueError:
        raise VerificationError("the bundle's list is malformed") from None
    unnamed = [item for item in items if item.kind not in KINDS or not _NAME.fullmatch(item.name)]
    if title != _TITLE or name != registry.name or unnamed or bundle.text() != text:
        raise VerificationError("the bundle's files are not those of its list")
    return bundle


def opened(data: bytes, keys: Sequence[CosignerKey]) -> Bundle:
    """As ``unpack``, of a bundle that one of several keys of a registry signed; the first is the present one."""
    for key in keys[1:]:
        with suppress(VerificationError):
            return unpack(data, key)
    return unpack(data, keys[0])


class Holding:
    """The bundle that a robot holds, in one file that is replaced as a whole."""

    def __init__(self, path: Path, registry: CosignerKey) -> None:
        """Raises ``ConfigError`` where the file is there and holds no bundle of the registry."""
        self.path = path
        self._registry = registry
        self.bundle: Bundle | None = None
        try:
            self.bundle = unpack(path.read_bytes(), registry)
        except FileNotFoundError:
            pass
        except (OSError, VerificationError) as error:
            raise ConfigError(f"{path}: {error}; remove it, and the registry sends it anew") from None

    @property
    def version(self) -> int:
        """Of the bundle that is held; 0 for none."""
        return self.bundle.version if self.bundle is not None else 0

    def take(self, data: bytes) -> Bundle:
        """Hold this one from now on; it is on the disk then.

        Raises ``VerificationError`` for one that does not verify, or is not above the one that is held; ``OSError``.
        """
        bundle = unpack(data, self._registry)
        if bundle.version <= self.version:
            raise VerificationError(
                f"bundle {bundle.version} is not above the one that is held ({self.version}): offered again, or rolled back"
            )
        _replace(self.path, data)
        self.bundle = bundle
        return bundle


def extract(bundle: Bundle, folder: Path) -> Sequence[Path]:
    """Write the files of a bundle to ``folder``, by kind and name. Raises ``UsageError`` where that can't be."""
    written = []
    try:
        for item in bundle.items:
            target = folder / item.kind / item.name
            target.parent.mkdir(parents=True, exist_ok=True)
            _replace(target, item.content)
            written.append(target)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}; name a folder that can be written to") from None
    return written


def gathered(files: Mapping[str, Sequence[Path]]) -> tuple[Item, ...]:
    """Items of files by kind. Raises ``UsageError`` for a file that can't be read."""
    try:
        return tuple(Item(kind, path.name, path.read_bytes()) for kind, paths in files.items() for path in paths)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None


def _replace(path: Path, data: bytes) -> None:
    """Whole or not at all, whatever happens."""
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
    sync_folder(path)
