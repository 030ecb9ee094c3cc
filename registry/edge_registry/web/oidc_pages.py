"""Signing in through an OpenID provider: the way there, and the way back."""

from __future__ import annotations

import hashlib
import re

import sqlalchemy as sa
from starlette.responses import RedirectResponse, Response

from . import tables as w
from .access import Visitor
from .account_pages import local
from .app import SESSION, Asked, Refused, Site, new_secret, set_cookie
from .oidc import OidcError, Provider

BACK = "/sign-in/oidc/back"
COOKIE = "edge_registry_oidc"  #: by which a browser is known that comes back
UNDER_WAY_S = 600  #: that somebody may take at the provider
MOST = 10_000  #: sign-ins under way
_AGAIN = "Begin again on the page to sign in."


def begin(site: Site, asked: Asked, _: Visitor) -> Response:
    """Send a browser to the provider; what comes back is this sign-in's or nobody's."""
    provider = _provider(site)
    if not site.access.attempt(asked.address):
        raise Refused(429, "Too many attempts.", "Wait a minute, then try again.")
    state, nonce, verifier, browser = new_secret(), new_secret(), f"{new_secret()}{new_secret()}", new_secret()
    now = int(site.access.now())
    try:
        address = provider.authorization(state, nonce, verifier)
    except OidcError as error:
        raise Refused(
            503, f"Signing in there does not work now: {error}.", "Sign in with a token, or try later."
        ) from None
    with site.store.own() as tx:
        tx.connection.execute(sa.delete(w.sign_ins).where(w.sign_ins.c.made_s < now - UNDER_WAY_S))
        if (tx.connection.execute(sa.select(sa.func.count()).select_from(w.sign_ins)).scalar() or 0) >= MOST:
            raise Refused(503, "Too many people are signing in.", "Try again in some minutes.")
        values = {
            "state": _hash(state), "browser": _hash(browser), "nonce": nonce, "verifier": verifier,
            "target": local(asked.query.get("next", "")), "made_s": now,
        }  # fmt: skip
        tx.connection.execute(sa.insert(w.sign_ins).values(**values))
    response = RedirectResponse(address, 303)
    # Lax: the browser comes back from another site, which is the one time that this cookie is for.
    response.set_cookie(COOKIE, browser, path="/sign-in/oidc", secure=site.secure, httponly=True, samesite="lax")
    return response


def back(site: Site, asked: Asked, _: Visitor) -> Response:
    """Somebody comes back from the provider: begin a session, under a new name, if it says who that is."""
    provider = _provider(site)
    row = _used(site, asked)
    if row is None:
        raise Refused(403, "This sign-in is over, was used before, or was begun in another browser.", _AGAIN)
    if asked.query.get("iss", provider.client.issuer) != provider.client.issuer:
        raise Refused(403, "The answer is of another provider than was asked.", _AGAIN)
    if "error" in asked.query or not asked.query.get("code"):
        said = re.sub(r"[^A-Za-z0-9_. -]", "?", asked.query.get("error", ""))[:80]
        raise Refused(403, f"The provider signs nobody in: {said or 'it sent no code'}.", _AGAIN)
    try:
        subject = provider.subject(asked.query["code"], row.nonce, row.verifier)
    except OidcError as error:
        raise Refused(503 if error.away else 403, f"Nobody is signed in: {error}.", _AGAIN) from None
    cookie = site.access.sign_in_as(provider.client.issuer, subject, asked.address)
    if cookie is None:
        raise Refused(
            403, f"The people file has nobody who signs in as {subject} of {provider.client.issuer}, or they may not now.",
            "Whoever keeps this registry can enter it there.",
        )  # fmt: skip
    # A page, and no redirect: what was begun by another site would not carry the session's cookie, which is Strict.
    response = site.render("signed_in.html", asked, None, title="Signed in", target=row.target)
    set_cookie(site, response, SESSION, cookie)
    response.delete_cookie(COOKIE, path="/sign-in/oidc", secure=site.secure, httponly=True, samesite="lax")
    return response


def _provider(site: Site) -> Provider:
    if site.oidc is None:
        raise Refused(404, "There is no such page.", "This registry has no OpenID provider: sign in with a token.")
    return site.oidc


def _used(site: Site, asked: Asked) -> sa.Row[tuple[object, ...]] | None:
    """The sign-in that an answer is of, which counts once; None where there is none of this browser."""
    state, browser = asked.query.get("state", "")[:200], asked.cookies.get(COOKIE, "")[:200]
    if not state or not browser:
        return None
    now = int(site.access.now())
    where = (w.sign_ins.c.state == _hash(state), w.sign_ins.c.browser == _hash(browser))
    with site.store.own() as tx:
        row = tx.connection.execute(sa.select(w.sign_ins).where(*where)).first()
        if row is None or not tx.connection.execute(sa.delete(w.sign_ins).where(*where)).rowcount:
            return None
    return row if now < row.made_s + UNDER_WAY_S else None


def _hash(secret: str) -> bytes:
    return hashlib.sha256(b"sign-in " + secret.encode("utf-8", "replace")).digest()
