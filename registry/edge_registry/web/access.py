"""Who may look at what: tokens, sessions, roles, and the record of who did. Denied unless it says otherwise.

A person signs in with a token that the registry's keeper handed out, or through an OpenID provider (`oidc.py`), and is what the
people file says at every request: whoever is taken out of it is out at once. Secrets are stored as hashes; a session has a new
name at each sign-in, whatever came along.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import sqlalchemy as sa

from edge_monitor.errors import UsageError
from edge_monitor.people import People

from ..store import Transaction
from . import tables as w
from .pages_store import PagesStore

PREFIX = "ert1."  #: of a token
SESSION_S, IDLE_S = 12 * 3600, 3600  #: a session ends after so long, or so long after its last request
TOUCH_S = 30  #: so rarely a session's last request is written down
ATTEMPTS, WITHIN_S = 10, 60.0  #: sign-ins that an address may try in so many seconds
ADDRESSES = 4096  #: that are remembered

#: What a permission lets one see or do; ``docs/registry.md`` explains them.
PERMISSIONS = {
    "fleet": "fleet, missions and episodes", "records": "records with their payloads and bytes",
    "catalogue": "models, data, envelopes, what people signed of them, coverage, exceptions",
    "packets": "evidence packets", "people": "people and keys", "audit": "the record of who read and changed what",
}  # fmt: skip
ROLES: dict[str, frozenset[str]] = {
    "planner": frozenset({"fleet", "records", "catalogue"}),
    "approver": frozenset({"fleet", "records", "catalogue"}),
    "operator": frozenset({"fleet"}),
    "field_engineer": frozenset({"fleet", "records", "packets", "catalogue"}),
    "assurance": frozenset({"fleet", "records", "packets", "people", "audit", "catalogue"}),
    "key_admin": frozenset({"people", "audit"}),
}


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks: a person of the people file, signed in. ``csrf`` must come back with everything that changes something."""

    person: str
    name: str
    roles: frozenset[str]
    csrf: str
    session: bytes

    def may(self, permission: str) -> bool:
        """Whether one of the roles lets them."""
        return any(permission in ROLES.get(role, ()) for role in self.roles)


def allowed(permission: str) -> list[str]:
    """The roles that have a permission."""
    return sorted(role for role, has in ROLES.items() if permission in has)


class Access:
    """Signs people in and out. ``people``: the people file as it is now, None where there is none; ``now``: s since 1970."""

    def __init__(
        self, store: PagesStore, people: Callable[[], People | None], now: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self.people = people
        self.now = now
        self._attempts: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()
        #: Of the audit record, not written yet.
        self._lines: SimpleQueue[tuple[dict[str, Any], Future[None]]] = SimpleQueue()
        self._writer = ThreadPoolExecutor(1, "audit")

    def sign_in(self, token: str, address: str) -> str | None:
        """A new session for the holder of a token: what its cookie holds; None where it is unknown, over or withdrawn."""
        now = int(self.now())
        digest = hashlib.sha256(token.strip().encode("utf-8", "replace")).digest()
        with self._store.own() as tx:
            row = tx.connection.execute(sa.select(w.tokens).where(w.tokens.c.hash == digest)).first()
            person = row.person if row is not None else ""
            if row is None or row.withdrawn_s is not None or now >= row.expires_s or self._roles(person) is None:
                note(tx, now, person or "unknown", "sign-in refused", "", "", address)
                return None
            cookie = _begin(tx, person, row.id, now)
            tx.connection.execute(sa.update(w.tokens).where(w.tokens.c.id == row.id).values(used_s=now))
            note(tx, now, person, "sign-in", "", "", address)
        return cookie

    def sign_in_as(self, issuer: str, subject: str, address: str) -> str | None:
        """A new session for whom an OpenID provider named: what its cookie holds; None unless the people file has them."""
        now, people = int(self.now()), self.people()
        person = people.signing_in(issuer, subject) if people is not None else None
        with self._store.own() as tx:
            if person is None or self._roles(person.id) is None:
                note(tx, now, person.id if person else "unknown", "sign-in refused", subject, f"by {issuer}", address)
                return None
            cookie = _begin(tx, person.id, 0, now)
            tx.connection.execute(sa.insert(w.identities).values(session=_hash(cookie), issuer=issuer, subject=subject))
            note(tx, now, person.id, "sign-in", subject, f"by {issuer}", address)
        return cookie

    def bearer(self, header: str) -> Visitor | None:
        """Whose token came along with a request (``Authorization: Bearer TOKEN``); None where it does not count."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or len(token) > 200:
            return None
        now, digest = int(self.now()), hashlib.sha256(token.strip().encode("utf-8", "replace")).digest()
        with self._store.read() as tx:
            row = tx.connection.execute(sa.select(w.tokens).where(w.tokens.c.hash == digest)).first()
        found = self._roles(row.person) if row is not None else None
        if row is None or found is None or row.withdrawn_s is not None or now >= row.expires_s:
            return None
        if row.used_s is None or now - row.used_s >= TOUCH_S:
            with self._store.own(derived=True) as tx:
                tx.connection.execute(sa.update(w.tokens).where(w.tokens.c.id == row.id).values(used_s=now))
        return Visitor(row.person, found[0], found[1], "", b"")

    def visitor(self, cookie: str) -> Visitor | None:
        """Whose session it is; None where it is over, or the person may no longer sign in."""
        if not cookie or len(cookie) > 200:
            return None
        found = self._session(_hash(cookie))
        if found is None:
            return None
        visitor, seen_s = found
        now = int(self.now())
        if now - seen_s >= TOUCH_S:
            with self._store.own(derived=True) as tx:
                tx.connection.execute(
                    sa.update(w.sessions).where(w.sessions.c.hash == visitor.session).values(seen_s=now)
                )
        return visitor

    def is_still(self, visitor: Visitor, permission: str) -> bool:
        """Whether a session goes on, and its person still has a permission. To ask does not keep it from ending."""
        found = self._session(visitor.session)
        return found is not None and found[0].may(permission)

    def sign_out(self, visitor: Visitor, address: str) -> None:
        """End a session."""
        with self._store.own() as tx:
            tx.connection.execute(sa.delete(w.sessions).where(w.sessions.c.hash == visitor.session))
            note(tx, int(self.now()), visitor.person, "sign-out", "", "", address)

    def record(self, visitor: Visitor, action: str, subject: str, words: str, address: str) -> Future[None]:
        """Write down that somebody reads payloads. It is on the disk when the answer's result is there: nothing that was read
        leaves before that. Lines that wait at once are one transaction."""
        line = _line(int(self.now()), visitor.person, action, subject, words, address)
        written: Future[None] = Future()
        self._lines.put((line, written))
        self._writer.submit(self._write)
        return written

    def _write(self) -> None:
        waiting: list[tuple[dict[str, Any], Future[None]]] = []
        with suppress(Empty):
            while True:
                waiting.append(self._lines.get_nowait())
        if not waiting:
            return  # those before took it along
        try:
            with self._store.own() as tx:
                tx.connection.execute(sa.insert(w.audit), [line for line, _ in waiting])
        except Exception as error:
            for _, written in waiting:
                written.set_exception(error)
        else:
            for _, written in waiting:
                written.set_result(None)

    def attempt(self, address: str) -> bool:
        """Whether an address may try to sign in now; each call counts."""
        now = time.monotonic()
        with self._lock:
            tried = self._attempts.setdefault(address, deque())
            self._attempts.move_to_end(address)
            while tried and tried[0] <= now - WITHIN_S:
                tried.popleft()
            if len(self._attempts) > ADDRESSES:
                self._attempts.popitem(last=False)
            if len(tried) >= ATTEMPTS:
                return False
            tried.append(now)
        return True

    def forget(self) -> None:
        """Let every address try again."""
        with self._lock:
            self._attempts.clear()

    def _session(self, digest: bytes) -> tuple[Visitor, int] | None:
        """Whose session it is by its hash, and when its last request was (s); None where it is over."""
        now = int(self.now())
        query = sa.select(
            w.sessions, w.tokens.c.withdrawn_s, w.tokens.c.expires_s, w.identities.c.issuer, w.identities.c.subject
        )
        begun = sa.outerjoin(w.sessions, w.tokens, w.tokens.c.id == w.sessions.c.token)
        query = query.select_from(begun.outerjoin(w.identities, w.identities.c.session == w.sessions.c.hash))
        with self._store.read() as tx:
            row = tx.connection.execute(query.where(w.sessions.c.hash == digest)).first()
        if row is None or now >= min(row.made_s + SESSION_S, row.seen_s + IDLE_S):
            return None
        if row.token:
            counts = row.expires_s is not None and row.withdrawn_s is None and now < row.expires_s
        else:
            people = self.people()
            person = people.signing_in(row.issuer, row.subject) if people is not None and row.issuer else None
            counts = person is not None and person.id == row.person
        if not counts:
            return None
        found = self._roles(row.person)
        if found is None:
            return None
        return Visitor(row.person, found[0], found[1], row.csrf, bytes(row.hash)), row.seen_s

    def _roles(self, person: str) -> tuple[str, frozenset[str]] | None:
        """A person's name and roles; None unless the people file has them, and they are valid now."""
        people = self.people()
        found = people.persons.get(person) if people is not None else None
        if found is None or not found.is_valid(int(self.now() * 1e9)):
            return None
        return found.name, found.roles


def _begin(tx: Transaction, person: str, token: int, now: int) -> str:
    """A session under a name that nobody had before; those that are over go."""
    cookie = secrets.token_urlsafe(32)
    over = sa.or_(w.sessions.c.made_s < now - SESSION_S, w.sessions.c.seen_s < now - IDLE_S)
    tx.connection.execute(sa.delete(w.sessions).where(over))
    tx.connection.execute(sa.delete(w.identities).where(w.identities.c.session.not_in(sa.select(w.sessions.c.hash))))
    values = {
        "hash": _hash(cookie), "token": token, "person": person, "csrf": secrets.token_urlsafe(24), "made_s": now, "seen_s": now,
    }  # fmt: skip
    tx.connection.execute(sa.insert(w.sessions).values(**values))
    return cookie


def is_same(left: str, right: str) -> bool:
    """Whether two secrets are one, in a time that does not tell where they differ; an empty one is none."""
    return bool(left) and hmac.compare_digest(left.encode(), right.encode())


def grant(tx: Transaction, person: str, who: str, days: int, now_s: int) -> tuple[int, str]:
    """A new token for a person: its number, and the token, which is told once. Raises ``UsageError`` for a strange id."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", person):
        raise UsageError(f"{person[:64]!r} is no id of a person: letters, digits, '.', '_' and '-'")
    token = PREFIX + secrets.token_urlsafe(32)
    values = {
        "hash": hashlib.sha256(token.encode()).digest(), "person": person, "made_s": now_s, "made_by": who,
        "expires_s": now_s + days * 86_400,
    }  # fmt: skip
    key = tx.connection.execute(sa.insert(w.tokens).values(**values)).inserted_primary_key
    assert key is not None
    note(tx, now_s, who, "access granted", person, f"token {key[0]} for {days} d", "command line")
    return int(key[0]), token


def withdraw(tx: Transaction, number: int, who: str, now_s: int) -> str:
    """A token counts no more, nor any session that began with it; answers whose it was. Raises ``UsageError``."""
    row = tx.connection.execute(sa.select(w.tokens).where(w.tokens.c.id == number)).first()
    if row is None or row.withdrawn_s is not None:
        raise UsageError(f"there is no token {number} that counts; 'edge-registry access list' shows them")
    tx.connection.execute(sa.update(w.tokens).where(w.tokens.c.id == number).values(withdrawn_s=now_s))
    note(tx, now_s, who, "access withdrawn", row.person, f"token {number}", "command line")
    return str(row.person)


def note(tx: Transaction, now_s: int, person: str, action: str, subject: str, words: str, address: str) -> None:
    """A line of the audit record."""
    tx.connection.execute(sa.insert(w.audit).values(**_line(now_s, person, action, subject, words, address)))


def _line(now_s: int, person: str, action: str, subject: str, words: str, address: str) -> dict[str, Any]:
    return {
        "at_s": now_s, "person": person, "action": action, "subject": subject[:300], "words": words[:500],
        "address": address[:100],
    }  # fmt: skip


def _hash(cookie: str) -> bytes:
    return hashlib.sha256(b"session " + cookie.encode("utf-8", "replace")).digest()
