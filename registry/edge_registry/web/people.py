"""The people file that counts here, as it is now; and what the page of people shows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from edge_monitor.errors import EdgeMonitorError
from edge_monitor.people import People, loads
from edge_monitor.utc import utc_text

from .. import tables as t
from ..store import Transaction
from . import tables as w
from .shown import State, moment

FRESH_S = 1.0  #: for so long what was read is believed


class PeopleFile:
    """The people file as it is now, read anew when it changes. One that can't be read counts as none: nobody gets in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: tuple[object, People | None] = (None, None)
        self._until = 0.0
        self.failure = ""  #: why there is none
        self.content = b""  #: the file's bytes

    def __call__(self) -> People | None:
        """The people."""
        if time.monotonic() < self._until:
            return self._known[1]
        try:
            found = self.path.stat()
            version: object = (found.st_mtime_ns, found.st_size, found.st_ino)
            if self._known[0] != version:
                data = self.path.read_bytes()
                self._known, self.content = (version, loads(data, source=self.path.name)), data
            self.failure = ""
        except (OSError, EdgeMonitorError) as error:
            self._known, self.content, self.failure = (None, None), b"", str(error)
        self._until = time.monotonic() + FRESH_S
        return self._known[1]

    @property
    def source(self) -> str:
        """What it is called."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key of somebody or something."""

    owner: str
    what: str
    roles: str
    key: str
    state: State
    validity: str


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token to sign in with."""

    number: int
    person: str
    made: str
    made_by: str
    expires: str
    used: str
    state: State


def keys(tx: Transaction, people: People | None, registry: list[tuple[str, str]], now_ns: int) -> list[KeyRow]:
    """Keys of people, of the registry (name, line) and of robots."""
    rows = []
    for person in people.persons.values() if people is not None else ():
        for one in person.keys:
            revoked = person.revoked or one.revoked
            counts = person.is_valid(now_ns) and one.is_valid(now_ns)
            state = State("ok", "counts") if counts else State("bad", "revoked" if revoked else "does not count now")
            ends = [end for end in (person.valid_until, one.valid_until) if end is not None]
            until = f"until {utc_text(min(ends))}" if ends else "no end"
            rows.append(KeyRow(person.id, person.name, ", ".join(sorted(person.roles)), one.key.text(), state, until))
    rows += [KeyRow("registry", name, "", line, State("ok", "in use"), "no end") for name, line in registry]
    for row in tx.connection.execute(sa.select(t.robots).order_by(t.robots.c.id).limit(1000)):
        state = State("ok", "counts") if row.state == "active" else State("bad", f"{row.state}: {row.reason}")
        rows.append(
            KeyRow(
                row.id, "robot's identity key", "", row.identity, state, f"enrolled {moment(row.enrolled_ns // 10**9)}"
            )
        )
    return rows


def tokens(tx: Transaction, now_s: int) -> list[TokenRow]:
    """Tokens, the newest first."""
    rows = []
    for row in tx.connection.execute(sa.select(w.tokens).order_by(w.tokens.c.id.desc()).limit(500)):
        if row.withdrawn_s is not None:
            state = State("none", f"withdrawn {moment(row.withdrawn_s)}")
        else:
            state = State("ok", "counts") if now_s < row.expires_s else State("none", "expired")
        used = moment(row.used_s) if row.used_s else "never used"
        rows.append(TokenRow(row.id, row.person, moment(row.made_s), row.made_by, moment(row.expires_s), used, state))
    return rows
