"""``House``: the folder of a registry, with its database, blobs and keys; made with sensible defaults where it is missing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edge_monitor.curve_keys import load_pair, make_pair
from edge_monitor.errors import ConfigError
from edge_monitor.journal.cosignatures import cosigner_of
from edge_monitor.journal.keys import SigningKey, load_signing_key, make_key

from .store import Store

DATABASE_VARIABLE = "EDGE_REGISTRY_DATABASE"
RECEIPTS = "receipts.pub"


@dataclass(frozen=True, slots=True)
class House:
    """``name``: of the registry, under which it signs receipts."""

    folder: Path
    name: str
    key: SigningKey
    curve: tuple[str, str]
    database: str

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
    return House(folder, key.verifier.name, key, (pair.public, pair.secret), address)
