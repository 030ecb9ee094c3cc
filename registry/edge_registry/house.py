"""``House``: the folder of a registry, with its database, blobs and keys; made with sensible defaults where it is missing."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_monitor.curve_keys import load_pair, make_pair
from edge_monitor.errors import ConfigError
from edge_monitor.journal.cosignatures import CosignerKey, cosigner_of, load_cosigner_key
from edge_monitor.journal.keys import SigningKey, load_signing_key, make_key
from edge_monitor.journal.store import sync_folder

from .store import Store

DATABASE_VARIABLE = "EDGE_REGISTRY_DATABASE"
RECEIPTS = "receipts.pub"
FORMER = "receipts-{}.pub"  #: keys that were rotated, from 1


@dataclass(frozen=True, slots=True)
class House:
    """``name``: of the registry, under which it signs receipts. ``former``: keys that signed them before, newest first."""

    folder: Path
    name: str
    key: SigningKey
    curve: tuple[str, str]
    database: str
    former: tuple[CosignerKey, ...] = ()

    @property
    def receipts(self) -> tuple[CosignerKey, ...]:
        """All keys that receipts of this registry may be signed with, the present one first."""
        return (cosigner_of(self.key), *self.former)

    def store(self) -> Store:
        """The database, opened."""
        return Store(self.database)

    @property
    def blobs(self) -> Path:
        """Where files that robots delivered are."""
        return self.folder / "blobs"


def open_house(folder: Path, database: str | None = None, *, make: str | None = None) -> House:
    """The registry in ``folder``. ``make``: the name to make it under where there is none; None: it must be there.

    ``database``: an address; by default that of the environment, or ``registry.db`` in the folder. Raises ``ConfigError``.
    """
    keys = sorted(folder.glob("*.key"))
    if not keys and make is None:
        raise ConfigError(f"{folder}: no registry is here; 'edge-registry serve --dir {folder}' makes one")
    if not keys:
        assert make is not None
        make_key(make, folder)
        make_pair(make, folder)
        keys = sorted(folder.glob("*.key"))
        (folder / RECEIPTS).write_text(cosigner_of(load_signing_key(keys[0])).text() + "\n", "utf-8")
    if len(keys) > 1:
        raise ConfigError(f"{folder}: holds {len(keys)} signing keys: a registry has one; keep old ones elsewhere")
    key = load_signing_key(keys[0])
    pair = load_pair(folder / f"{key.verifier.name}.curve")
    address = database or os.environ.get(DATABASE_VARIABLE) or f"sqlite:///{folder / 'registry.db'}"
    former = tuple(load_cosigner_key(folder / FORMER.format(number)) for number in range(_former(folder), 0, -1))
    present = cosigner_of(key)
    if former and former[0] == present:
        former = former[1:]  # a rotation that was cut off: the key is still the one before
    elif former and _line(folder / RECEIPTS) != present.text():
        with suppress(OSError):  # by who may write there
            _replace(folder / RECEIPTS, present.text(), 0o644)  # one that was cut off later
    return House(folder, key.verifier.name, key, (pair.public, pair.secret), address, former)


def rotate(house: House) -> Path:
    """Give a registry a new receipt key, and destroy the one before; answers the file with the public half of that.

    Who was cut off at any step begins again: the key that signs is the old one or the new one, and the old one's public half is
    kept before it is gone. Raises ``ConfigError`` where the folder can't be written.
    """
    old, new = cosigner_of(house.key), SigningKey(house.name, os.urandom(32))
    number = _former(house.folder)
    try:
        if not number or load_cosigner_key(house.folder / FORMER.format(number)) != old:
            number += 1
            _replace(house.folder / FORMER.format(number), old.text(), 0o644)
        _replace(house.folder / f"{house.name}.key", new.text(), 0o600)
        _replace(house.folder / f"{house.name}.pub", new.verifier.text(), 0o644)
        _replace(house.folder / RECEIPTS, cosigner_of(new).text(), 0o644)
    except OSError as error:
        raise ConfigError(f"{house.folder}: {error.strerror}; run it as who may write there") from None
    return house.folder / FORMER.format(number)


def _former(folder: Path) -> int:
    """How many keys were rotated."""
    number = 0
    while (folder / FORMER.format(number + 1)).exists():
        number += 1
    return number


def _line(path: Path) -> str:
    return path.read_text("utf-8").strip() if path.exists() else ""


def _replace(path: Path, line: str, mode: int) -> None:
    """A file of one line, whole or not at all, whatever happens."""
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as stream:
        os.fchmod(descriptor, mode)
        stream.write(line + "\n")
        stream.flush()
        os.fsync(descriptor)
    os.replace(part, path)
    sync_folder(path)
