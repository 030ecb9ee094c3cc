"""CURVE keys as files: ``NAME.curve`` (secret, mode 0600), ``NAME.curve.pub``, and the list of peers that a monitor trusts.

A public file is one line, ``KEY NAME``; a line of the list is that and what the peer may: doors (``publish``, ``listen``,
``control``), or the address at which a publisher with this key is connected to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from .errors import ConfigError
from .secret_files import open_to_others
from .sources.curve import DOORS, PUBLISH, Curve, is_key

LARGEST = 1 << 18  #: bytes of a file
_HEAD = "edge-monitor-curve-secret"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ADDRESS = re.compile(r"(tcp|ipc)://\S+")


@dataclass(frozen=True, slots=True)
class Pair:
    """The keys of one side, Z85."""

    name: str
    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Peers:
    """Who is trusted. ``doors``: for each door the public keys that may pass it, and their names; ``servers``: the key of
    what is connected to, by its address."""

    doors: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {door: {} for door in DOORS})
    servers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Keys:
    """All that a monitor needs for CURVE."""

    pair: Pair
    peers: Peers

    @property
    def inputs(self) -> Curve:
        """What a source needs."""
        return Curve(self.pair.public, self.pair.secret, self.peers.doors[PUBLISH])


def make_pair(name: str, folder: Path) -> tuple[Path, Path]:
    """Make ``NAME.curve`` and ``NAME.curve.pub`` in ``folder``; answers both paths.

    Raises ``ConfigError`` for an unusable name or when either file exists: a key is never overwritten.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"key name '{name}': use letters, digits, '.', '_' and '-', starting with a letter or digit")
    public, secret = (key.decode() for key in zmq.curve_keypair())
    files = folder / f"{name}.curve", folder / f"{name}.curve.pub"
    texts = f"{_HEAD} {name} {public} {secret}\n", f"{public} {name}\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in files:
            if path.exists():
                raise ConfigError(f"{path} exists; a key is never overwritten: choose another name or folder")
        for path, text, mode in zip(files, texts, (0o600, 0o644), strict=True):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "w") as stream:
                os.fchmod(descriptor, mode)
                stream.write(text)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; name a folder that you can write to with --dir") from None
    return files


def load_pair(path: Path) -> Pair:
    """The keys of a ``.curve`` file. Raises ``ConfigError``: unreadable, malformed, or open to other users."""
    words = _read(path, "CURVE key").split()
    if len(words) == 2 and is_key(words[0]):
        raise ConfigError(f"{path}: this is a public key; give the .curve file beside it")
    if len(words) != 4 or words[0] != _HEAD or not (is_key(words[2]) and is_key(words[3])):
        raise ConfigError(f"{path}: not a CURVE key; make one with 'edge-monitor keys curve NAME'")
    if open_to_others(path):
        raise ConfigError(f"{path}: other users can read this key; run 'chmod 600 {path}'")
    if zmq.curve_public(words[3].encode()).decode() != words[2]:
        raise ConfigError(f"{path}: its two keys are no pair; the file is damaged")
    return Pair(*words[1:])


def load_public(path: Path) -> str:
    """The key (Z85) of a ``.curve.pub`` file. Raises ``ConfigError``."""
    words = _read(path, "public CURVE key").split()
    if words[:1] == [_HEAD]:
        raise ConfigError(f"{path}: this is a secret key; give the .curve.pub file, and keep this one to its owner")
    if len(words) != 2 or not is_key(words[0]):
        raise ConfigError(f"{path}: not a public CURVE key; expected the one line of a .curve.pub file")
    return words[0]


def load_peers(path: Path) -> Peers:
    """The list of peers. Raises ``ConfigError`` with every problem, a line each; also where others may change the file."""
    text = _read(path, "list of CURVE peers")
    if path.stat().st_mode & 0o022:
        raise ConfigError(f"{path}: other users can change who may connect; run 'chmod go-w {path}'")
    doors: dict[str, dict[str, str]] = {door: {} for door in DOORS}
    servers: dict[str, str] = {}
    seen: dict[str, int] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        key, *rest = line.split() or [""]
        if not is_key(key):
            if key and not key.startswith("#"):
                problems.append(f"{path}:{number}: {key[:60]!r} is no key: expected the line of a .curve.pub file")
            continue
        name, *rights = rest or [""]
        if not _NAME.fullmatch(name):
            problems.append(f"{path}:{number}: expected whose key it is, got {name[:60]!r}")
        if key in seen:
            problems.append(f"{path}:{number}: the key stands in line {seen[key]} already: one line has all its rights")
        seen.setdefault(key, number)
        if not rights:
            problems.append(f"{path}:{number}: {name} may nothing: add {', '.join(DOORS)}, or where it is connected to")
        for right in rights:
            if right in doors:
                doors[right][key] = name
            elif not _ADDRESS.fullmatch(right):
                problems.append(f"{path}:{number}: {right[:60]!r} is none of {', '.join(DOORS)}, and no address")
            elif servers.setdefault(right, key) != key:
                problems.append(f"{path}:{number}: {right} has another key already: one address has one")
    if problems:
        raise ConfigError("\n".join(problems))
    return Peers(doors, servers)


def _read(path: Path, what: str) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(LARGEST).decode("ascii")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; expected a {what}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a {what}: plain text is expected") from None
