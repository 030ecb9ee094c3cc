"""Pages of people: signing in and out, keys, who read and changed what, and help."""

from __future__ import annotations

import re

import sqlalchemy as sa
from starlette.responses import FileResponse, RedirectResponse, Response

from . import tables as w
from .access import PERMISSIONS, ROLES, Visitor
from .answers import file, link, wants_file, whole
from .app import BEFORE, SESSION, STATIC, Asked, Refused, Site, new_secret, set_cookie
from .downloads import Table
from .people import keys, tokens
from .shown import moment

AUDIT_PAGE = 200
FILES = {
    "style.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "signals.js": "text/javascript; charset=utf-8",
    "uplot.min.js": "text/javascript; charset=utf-8",
    "uplot.min.css": "text/css; charset=utf-8",
    "uplot.LICENSE": "text/plain; charset=utf-8",
}


def sign_in_form(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """Where a token is entered."""
    target = local(asked.query.get("next", ""))
    if visitor.session:
        return RedirectResponse(target, 303)
    return _form(site, asked, target, "", 200)


def sign_in(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """Begin a session, under a new name."""
    target = local(asked.form.get("next", ""))
    if not site.access.attempt(asked.address):
        response = _form(site, asked, target, "Too many attempts. Wait a minute, then try again.", 429)
        response.headers["retry-after"] = "60"
        return response
    cookie = site.access.sign_in(asked.form.get("token", ""), asked.address)
    if cookie is None:
        return _form(
            site,
            asked,
            target,
            "That token does not count: it is unknown, over or withdrawn, or its person may not sign in.",
            403,
        )
    response = RedirectResponse(target, 303)
    set_cookie(site, response, SESSION, cookie)
    response.delete_cookie(BEFORE, path="/", secure=site.secure, httponly=True, samesite="strict")
    return response


def sign_out(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """End the session."""
    site.access.sign_out(visitor, asked.address)
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(SESSION, path="/", secure=site.secure, httponly=True, samesite="strict")
    return response


def show_people(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """Who may do what, and all keys that count here."""
    people = site.people()
    own = [
        *((f"{site.house.name}: receipts", key.text()) for key in site.house.receipts),
        (f"{site.packets.key.verifier.name}: evidence packets", site.packets.key.verifier.text()),
    ]
    with site.store.read() as tx:
        rows, granted = keys(tx, people, own, asked.now_s * 10**9), tokens(tx, asked.now_s)
    if wants_file(asked):
        cells = [(row.owner, row.what, row.roles, row.key, row.state.word, row.validity) for row in rows]
        return file(asked, Table("keys", ("owner", "what", "roles", "key", "state", "validity"), cells))
    return site.render(
        "people.html",
        asked,
        visitor,
        title="People and keys",
        people=people,
        source=site.people.source,
        failure=site.people.failure,
        keys=rows,
        tokens=granted,
        roles=ROLES,
        permissions=PERMISSIONS,
    )


def show_audit(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """Who read payloads, and who changed what; the newest first."""
    before, person = whole(asked.query, "before", 1 << 62), asked.query.get("person", "")[:64]
    query = sa.select(w.audit).where(w.audit.c.id < before).order_by(w.audit.c.id.desc())
    if person:
        query = query.where(w.audit.c.person == person)
    most = 10_000 if wants_file(asked) else AUDIT_PAGE
    with site.store.read() as tx:
        rows = tx.connection.execute(query.limit(most + 1)).all()
    more = rows[most - 1].id if len(rows) > most else None
    if wants_file(asked):
        cells = [
            (row.id, moment(row.at_s), row.person, row.action, row.subject, row.words, row.address)
            for row in rows[:most]
        ]
        return file(
            asked, Table("audit", ("number", "when (UTC)", "person", "action", "subject", "words", "address"), cells)
        )
    following = link(asked, before=str(more)) if more is not None else ""
    return site.render("audit.html", asked, visitor, title="Audit", rows=rows[:most], person=person, next=following)


def show_help(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """Where to find what, and what words mean."""
    return site.render("help.html", asked, visitor, title="Help")


def static(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """A file of the pages' own."""
    name = str(asked.parts["name"])
    if name not in FILES:
        raise Refused(404, "There is no such file.")
    return FileResponse(STATIC / name, media_type=FILES[name], headers={"cache-control": "public, max-age=3600"})


def local(target: str) -> str:
    """A path of this site to go on to; the first page for anything else."""
    return target if re.fullmatch(r"/(?![/\\])[^\s\\\x00-\x1f]{0,1000}", target) else "/"


def _form(site: Site, asked: Asked, target: str, refused: str, status: int) -> Response:
    secret = new_secret()
    response = site.render(
        "sign_in.html",
        asked,
        None,
        status,
        title="Sign in",
        target=target,
        refused=refused,
        secret=secret,
        provider=site.oidc.name if site.oidc is not None else "",
    )
    set_cookie(site, response, BEFORE, secret)
    return response
