"""The application: which pages there are, who may see them, and what every answer carries.

`ROUTES` is the whole of it: a page that is not in the list is not there, and one is shown to whoever has its permission only.
What a page does is in `*_pages`, as functions of a site, a request and a visitor.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import sqlalchemy as sa
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route as StarletteRoute

from edge_monitor.errors import EdgeMonitorError

from ..blobs import Blobs
from ..catalogue.interface import failure
from ..catalogue.statements import TrustNow
from ..house import House
from . import shown
from .access import Access, Visitor, allowed, is_same
from .news import News
from .oidc import Provider
from .packets import Packets
from .pages_store import PagesStore
from .people import PeopleFile
from .signals import Signals
from .vocabulary import meaning

BODY = 16 << 10  #: bytes that a form may have
FIELDS = 50  #: and so many fields
LARGEST = 1 << 62  #: number in a path
PROGRAMS = "/api/"  #: where answers are for programs: JSON, whatever they are
ANYONE, SIGNED_IN = "anyone", "signed in"  #: permissions that are none of a role
SESSION, BEFORE = (
    "edge_registry_session",
    "edge_registry_sign_in",
)  #: cookies: of a session, and of the form that leads to one
STATIC = Path(__file__).parent / "static"
_log = logging.getLogger("edge_registry.web")

CONTENT_SECURITY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY, "x-content-type-options": "nosniff", "x-frame-options": "DENY",
    "referrer-policy": "same-origin", "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()", "cache-control": "no-store",
}  # fmt: skip


#: What errors are called for programs, by status.
_CODES = {400: "bad_request", 401: "sign_in", 403: "forbidden", 404: "not_found", 405: "not_allowed", 503: "busy"}


class Refused(Exception):  # noqa: N818 (an answer, not a failure)
    """A page that says why not."""

    def __init__(self, status: int, words: str, how: str = "") -> None:
        super().__init__(words)
        self.status, self.words, self.how = status, words, how


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as pages see it: ``query`` and ``form`` hold the last value of each name."""

    path: str
    parts: Mapping[str, Any]
    query: Mapping[str, str]
    form: Mapping[str, str]
    address: str
    now_s: int
    cookies: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[["Site", Asked, Visitor], Response]


@dataclass(frozen=True, slots=True)
class Page:
    """A page: ``audited`` is what the audit record calls it, where looking at it is written down."""

    method: str
    path: str
    permission: str
    handler: Handler
    audited: str = ""


@dataclass(slots=True)
class Site:
    """Everything pages need. ``secure``: reached by TLS, so that cookies travel no other way. ``oidc``: who else signs people in,
    None: only tokens do."""

    store: PagesStore
    house: House
    people: PeopleFile
    access: Access
    packets: Packets
    secure: bool = False
    oidc: Provider | None = None
    environment: Environment = field(init=False)
    trust: TrustNow = field(init=False)  #: what signatures of the catalogue are worth
    news: News = field(init=False)
    blobs: Blobs = field(init=False)  #: files that robots delivered
    signals: Signals = field(init=False)  #: what black boxes among them show

    def __post_init__(self) -> None:
        self.trust = TrustNow(self.people)
        self.news = News(self.store, self.access)
        self.blobs, self.signals = Blobs(self.house.blobs), Signals()
        self.environment = Environment(
            loader=PackageLoader("edge_registry.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        for name in ("ago", "count", "exact", "grouped", "moment", "rate", "short", "size", "span", "wall"):
            self.environment.filters[name] = getattr(shown, name)
        self.environment.filters["meaning"] = meaning
        self.environment.filters["part"] = lambda text: quote(str(text), safe="")

    def render(
        self, template: str, asked: Asked, visitor: Visitor | None, status: int = 200, **values: Any
    ) -> Response:
        """A page of HTML. ``live``: where it listens for news, if it does."""
        values.setdefault("live", "")
        text = self.environment.get_template(template).render(
            asked=asked, visitor=visitor, now_s=asked.now_s, registry=self.house.name, **values
        )
        return Response(text.encode("utf-8", "replace"), status, media_type="text/html; charset=utf-8")


def application(site: Site) -> Starlette:
    """The application over a site."""
    from .answers import link
    from .routes import ROUTES

    site.environment.globals["link"] = link
    routes = [StarletteRoute(page.path, _endpoint(site, page), methods=[page.method]) for page in ROUTES]

    async def missing(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        words = "There is no such page." if status == 404 else "That can't be done here."
        return _headed(site, _refusal(site, _asked(site, request), None, Refused(status, words)))

    async def failed(request: Request, error: Exception) -> Response:
        words = "The registry could not answer; whoever runs it finds the reason in its messages."
        return _headed(site, _refusal(site, _asked(site, request), None, Refused(500, words, "Try again in a minute.")))

    handlers: Mapping[Any, Any] = {404: missing, 405: missing, 500: failed}
    return Starlette(routes=routes, exception_handlers=handlers)


def _endpoint(site: Site, page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        form: dict[str, str] = {}
        if page.method == "POST":
            body = await _body(request)
            if body is None:
                return _headed(
                    site, _refusal(site, _asked(site, request), None, Refused(413, "That form is too large."))
                )
            try:
                form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS))
            except ValueError:
                refused = Refused(400, "That form has more fields than any of ours.")
                return _headed(site, _refusal(site, _asked(site, request), None, refused))
        return _headed(site, await run_in_threadpool(_answered, site, page, request, form))

    return answer


def _answered(site: Site, page: Page, request: Request, form: dict[str, str]) -> Response:
    """What a page answers, to one who may see it."""
    asked = _asked(site, request, form)
    visitor: Visitor | None = None
    try:
        visitor = site.access.visitor(request.cookies.get(SESSION, ""))
        if visitor is None and asked.path.startswith(PROGRAMS):
            visitor = site.access.bearer(request.headers.get("authorization", ""))
        if any(isinstance(part, int) and part >= LARGEST for part in asked.parts.values()):
            raise Refused(404, "There is nothing of that number.")
        if page.method == "POST":
            _genuine(request, visitor, form)
        if page.permission == ANYONE:
            return page.handler(
                site, asked, visitor or Visitor("", "", frozenset(), request.cookies.get(BEFORE, ""), b"")
            )
        if visitor is None:
            if page.method == "GET" and "as" not in asked.query and not asked.path.startswith(PROGRAMS):
                target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(f"/sign-in?next={quote(target, safe='')}", 303)
            raise Refused(401, "Sign in first.", "/sign-in takes a token that the registry's keeper hands out.")
        if page.permission != SIGNED_IN and not visitor.may(page.permission):
            roles = ", ".join(allowed(page.permission)).replace("_", " ")
            raise Refused(403, "Your role does not let you see this.", f"It is for: {roles}.")
        if not page.audited:
            return page.handler(site, asked, visitor)
        written = site.access.record(visitor, page.audited, request.url.path, request.url.query, asked.address)
        try:
            return page.handler(site, asked, visitor)  # reads while the disk writes
        finally:
            written.result()
    except Refused as refused:
        return _refusal(site, asked, visitor, refused)
    except EdgeMonitorError as error:
        return _refusal(site, asked, visitor, Refused(400, str(error)))
    except sa.exc.SQLAlchemyError as error:
        _log.error("the database failed: %s", str(error).splitlines()[0])
        return _refusal(site, asked, visitor, Refused(503, "The database can't answer now.", "Try again in a minute."))


def _genuine(request: Request, visitor: Visitor | None, form: dict[str, str]) -> None:
    """Whether a form was sent from one of our pages, by the browser that was given it. Raises ``Refused``."""
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    site = request.headers.get("sec-fetch-site", "same-origin")
    expected = visitor.csrf if visitor is not None else request.cookies.get(BEFORE, "")
    if foreign or site not in ("same-origin", "none") or not is_same(expected, form.get("csrf", "")):
        raise Refused(
            403,
            "This form was not sent from a page of this registry, or is too old.",
            "Load the page anew and try again.",
        )


async def _body(request: Request) -> bytes | None:
    """A form's bytes; None where there are more than a form has."""
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > BODY:
                return None
    except ClientDisconnect:
        return None
    return bytes(data)


def _asked(site: Site, request: Request, form: dict[str, str] | None = None) -> Asked:
    address = request.client.host if request.client is not None else ""
    query = dict(request.query_params)
    return Asked(
        request.url.path, request.path_params, query, form or {}, address, int(site.access.now()), request.cookies
    )


def _refusal(site: Site, asked: Asked, visitor: Visitor | None, refused: Refused) -> Response:
    if asked.path.startswith(PROGRAMS):
        return failure(refused.status, _CODES.get(refused.status, "failed"), f"{refused.words} {refused.how}".strip())
    if "as" in asked.query:
        return Response(
            f"{refused.words} {refused.how}".strip() + "\n", refused.status, media_type="text/plain; charset=utf-8"
        )
    return site.render(
        "refused.html", asked, visitor, refused.status, title="Not shown", words=refused.words, how=refused.how
    )


def _headed(site: Site, response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if site.secure:
        response.headers.setdefault("strict-transport-security", "max-age=31536000")
    return response


def set_cookie(site: Site, response: Response, name: str, value: str) -> None:
    """A cookie that no script reads and no other site sends; it goes when the browser does."""
    response.set_cookie(name, value, path="/", secure=site.secure, httponly=True, samesite="strict")


def new_secret() -> str:
    """Something nobody guesses."""
    return secrets.token_urlsafe(24)
