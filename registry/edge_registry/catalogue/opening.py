"""What a command about the catalogue begins with: the database, who is trusted, and the key of whoever signs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_monitor.envelope.approval import MAX_TERM
from edge_monitor.errors import ConfigError, UsageError
from edge_monitor.journal.keys import SigningKey, load_signing_key
from edge_monitor.people import People
from edge_monitor.people import load as load_people
from edge_monitor.utc import SECOND, utc_ns

from ..house import House, open_house
from ..store import Store
from .reading import Catalogue
from .statements import Trust

PEOPLE_FILE = "people.yaml"  #: in the registry's folder
_TERM = re.compile(r"([0-9]{1,5}) ?(h|d|w)", re.ASCII)
_HOURS = {"h": 1, "d": 24, "w": 168}


@dataclass(frozen=True, slots=True)
class Desk:
    """A registry, opened for a command."""

    house: House
    store: Store
    trust: Trust

    @contextmanager
    def reading(self) -> Iterator[Catalogue]:
        """The catalogue in one snapshot, now."""
        with self.store.read() as tx:
            yield Catalogue(tx, self.trust, time.time_ns())

    @contextmanager
    def writing(self) -> Iterator[Catalogue]:
        """The catalogue in one transaction that writes."""
        with self.store.begin() as tx:
            yield Catalogue(tx, self.trust, time.time_ns())

    def signer(self, key_file: Path, person: str) -> SigningKey:
        """The person's key. Raises ``ConfigError`` unless the people file has it as theirs."""
        people = self.trust.people
        if people is None:
            raise ConfigError(
                f"{self.house.folder / PEOPLE_FILE}: is not there, so nobody may sign; or name it with --people"
            )
        key = load_signing_key(key_file)
        if person not in people.persons:
            raise ConfigError(f"{people.source}: there is no person '{person}'; it has: {', '.join(people.persons)}")
        signer = people.key_of(person, key.verifier.public)
        if signer is None or signer.key.key != key.verifier:
            raise ConfigError(
                f"{people.source}: key {key.verifier.name} is not one of {person}: sign with your own key, or have it added"
            )
        return key


@contextmanager
def opened(folder: Path, database: str | None, people_file: Path | None) -> Iterator[Desk]:
    """The registry in ``folder``. Raises ``ConfigError``."""
    house = open_house(folder, database)
    trust = Trust(trusted(folder, people_file))
    store = house.store()
    try:
        yield Desk(house, store, trust)
    finally:
        store.close()


def trusted(folder: Path, people_file: Path | None) -> People | None:
    """The people file that is named, else the folder's; None where there is none. Raises ``ConfigError``."""
    path = people_file or folder / PEOPLE_FILE
    return load_people(path) if people_file is not None or path.exists() else None


def term(text: str, now_ns: int) -> int:
    """A term from now, or a moment, in ns since 1970. Raises ``UsageError`` for one that no decision can have."""
    found = _TERM.fullmatch(text)
    try:
        until = now_ns + int(found[1]) * _HOURS[found[2]] * 3600 * SECOND if found else utc_ns(text)
    except ValueError:
        raise UsageError(
            f"--expires '{text}': expected a term such as 12h, 90d or 4w, or a moment in UTC such as 2027-03-01"
        ) from None
    if not now_ns < until <= now_ns + MAX_TERM:
        raise UsageError(f"--expires '{text}': it must be later than now, and within 366 days")
    return until
