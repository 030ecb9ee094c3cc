"""The catalogue as JSON over HTTP, read-only: a table of endpoints, from which routes and the OpenAPI document are made.

``routes(reading)`` is mounted by the web application, which lets people in; nothing here knows who asks. Answers have the
shapes of ``documents.py``; every error is ``{"error": {"code": …, "message": …}}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge_monitor import __version__
from edge_monitor.errors import EdgeMonitorError, UsageError
from edge_monitor.utc import SECOND

from ..retention import written_down
from ..siem.sending import states
from . import documents as d
from .exceptions import STATES, exception, exceptions
from .fleet import active, missions, uses
from .judging import EXCEPTIONS
from .kinds import APPROVABLE, KINDS, PROMOTABLE, RELATIONS
from .lineage import of_event
from .pages import item_page, lineage_of, log_number
from .reading import MANY, Catalogue

Text = Annotated[str, Meta(max_length=256)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, Meta(ge=1, le=MANY)]
Kind = Literal["", "model", "dataset", "suite", "run", "envelope", "baseline", "robot", "mission"]

_json = msgspec.json.Encoder()


class ErrorDocument(TypedDict):
    """Why there is no answer: ``code`` is ``not_found``, ``bad_request``, ``damaged``, or what kept one out."""

    code: str
    message: str


class FailureDocument(TypedDict):
    """What every error looks like."""

    error: ErrorDocument


class ItemsDocument(TypedDict):
    """A page of things; ``next``: what ``after`` must be for those that follow, empty at the end."""

    items: list[d.ItemDocument]
    next: str


class RobotDocument(TypedDict):
    """A robot: what is active on it, its boots, what it used, and what is open about it."""

    active: d.ActiveDocument
    missions: list[d.MissionDocument]
    uses: list[d.UseDocument]
    exceptions: list[d.ExceptionDocument]


class WordsDocument(TypedDict):
    """The words that the catalogue knows."""

    kinds: list[str]
    approvable: list[str]
    promotable: list[str]
    relations: dict[str, list[list[str]]]
    exceptions: dict[str, str]
    states: list[str]


class ErasureDocument(TypedDict):
    """Payloads that were erased, or an erasure that was refused (``outcome``); ``what``: window over, deletion or person."""

    time_ns: int
    who: str
    what: str
    log: str
    first: int
    last: int
    payloads: int
    outcome: str
    words: str


class OutputDocument(TypedDict):
    """A way out to a SIEM: where to, how much was acknowledged, and what was wrong last (``failure``, empty: nothing)."""

    name: str
    address: str
    format: str
    cursor: str
    sent: int
    time_ns: int
    failure: str


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """No parameters."""


class Page(msgspec.Struct, forbid_unknown_fields=True):
    """Which things are wanted."""

    kind: Kind = ""
    search: Text = ""
    owner: Text = ""
    after: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    limit: Count = 100


class Ref(msgspec.Struct, forbid_unknown_fields=True):
    """A thing: ``kind:name@version``, its digest, or the beginning of that."""

    ref: Name


class ByDigest(msgspec.Struct, forbid_unknown_fields=True):
    """A digest, 64 hexadecimal digits."""

    digest: Digest


class Robot(msgspec.Struct, forbid_unknown_fields=True):
    """An enrolled robot."""

    robot: Name


class Place(msgspec.Struct, forbid_unknown_fields=True):
    """A record: its robot, the log (its first characters) and its sequence."""

    robot: Name
    log: Name
    sequence: Number


class Open(msgspec.Struct, forbid_unknown_fields=True):
    """Which exceptions are wanted; ``before``: number of the last one of the page before, 0 for the first page."""

    open: bool = True
    robot: Text = ""
    kind: Text = ""
    subject: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    owner: Text = ""
    before: Number = 0
    limit: Count = 100


class ById(msgspec.Struct, forbid_unknown_fields=True):
    """The number of an exception."""

    number: Number


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``path`` with its parameters in braces; those of ``asks`` that are not in it stand in the query. ``read``: the answer,
    from the catalogue (or what else an application has for its own) and what was asked."""

    path: str
    name: str
    asks: type[msgspec.Struct]
    answers: Any
    read: Callable[[Any, Any], Any]

    @property
    def route(self) -> str:
        """The path as routes have it: a robot's name may have slashes in it."""
        return self.path.replace("{robot}", "{robot:path}")

    @property
    def says(self) -> str:
        """What it is, for the OpenAPI document."""
        return str(self.read.__doc__).split("\n", maxsplit=1)[0]


def _items(catalogue: Catalogue, page: Page) -> ItemsDocument:
    """Things of the catalogue, the newest first."""
    found = catalogue.items(page.kind, page.search, page.owner, page.after, page.limit)
    return {"items": found, "next": found[-1]["digest"] if len(found) == page.limit else ""}


def _item(catalogue: Catalogue, one: Ref) -> d.ItemPageDocument:
    """A thing with its versions, what is said of it and what that is worth, lineage, use and exceptions."""
    return item_page(catalogue, one.ref)


def _lineage(catalogue: Catalogue, one: Ref) -> d.LineageDocument:
    """Where a thing comes from, and what came of it."""
    return lineage_of(catalogue, one.ref)


def _statement(catalogue: Catalogue, one: ByDigest) -> d.StatementDocument:
    """A signed statement, by the digest of its bytes."""
    return catalogue.statement(one.digest)


def _robots(catalogue: Catalogue, _: Nothing) -> list[d.ActiveDocument]:
    """What is active on each robot, and whether every part of it verifies."""
    return active(catalogue)


def _robot(catalogue: Catalogue, one: Robot) -> RobotDocument:
    """A robot: what is active, its boots, what it used, what is open."""
    boots = missions(catalogue, one.robot)
    (now,) = active(catalogue, [one.robot])
    return {
        "active": now,
        "missions": boots[:MANY],
        "uses": uses(catalogue, robot=one.robot),
        "exceptions": exceptions(catalogue, only_open=True, robot=one.robot),
    }


def _event_lineage(catalogue: Catalogue, place: Place) -> d.LineageDocument:
    """From a record to the data that its model was trained on."""
    return of_event(catalogue, log_number(catalogue, place.robot, place.log), place.sequence)


def _exceptions(catalogue: Catalogue, which: Open) -> list[d.ExceptionDocument]:
    """What is not as it should be, the newest first."""
    return exceptions(
        catalogue,
        only_open=which.open,
        robot=which.robot,
        subject=which.subject,
        kind=which.kind,
        owner=which.owner,
        before=which.before,
        limit=which.limit,
    )


def _exception(catalogue: Catalogue, one: ById) -> d.ExceptionDocument:
    """An exception, with what people did about it."""
    return exception(catalogue, one.number)


def _erasures(catalogue: Catalogue, _: Nothing) -> list[ErasureDocument]:
    """Payloads that were erased, and erasures that were refused, the oldest first."""
    return [
        {
            "time_ns": one["at_s"] * SECOND, "who": one["who"], "what": one["what"], "first": one["first"], "last": one["last"],
            "log": (one["origin"] or "").rpartition("/")[2], "payloads": one["payloads"], "outcome": one["outcome"],
            "words": one["words"],
        }
        for one in written_down(catalogue.tx)
    ]  # fmt: skip


def _outputs(catalogue: Catalogue, _: Nothing) -> list[OutputDocument]:
    """Where records go on to, and how that stands."""
    return [
        {
            "name": one.name, "address": one.address, "format": one.format, "cursor": one.cursor, "sent": one.sent,
            "time_ns": one.at_s * SECOND, "failure": one.failure,
        }
        for one in states(catalogue.tx)
    ]  # fmt: skip


def _words(_: Catalogue, __: Nothing) -> WordsDocument:
    """The kinds, relations, exceptions and states that there are."""
    return {
        "kinds": list(KINDS),
        "approvable": list(APPROVABLE),
        "promotable": list(PROMOTABLE),
        "relations": {name: [list(pair) for pair in pairs] for name, pairs in RELATIONS.items()},
        "exceptions": EXCEPTIONS,
        "states": list(STATES),
    }


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("/words", "words", Nothing, WordsDocument, _words),
    Endpoint("/items", "items", Page, ItemsDocument, _items),
    Endpoint("/items/{ref}", "item", Ref, d.ItemPageDocument, _item),
    Endpoint("/items/{ref}/lineage", "lineage", Ref, d.LineageDocument, _lineage),
    Endpoint("/statements/{digest}", "statement", ByDigest, d.StatementDocument, _statement),
    Endpoint("/robots", "robots", Nothing, list[d.ActiveDocument], _robots),
    Endpoint(
        "/robots/{robot}/records/{log}/{sequence}/lineage", "record_lineage", Place, d.LineageDocument, _event_lineage
    ),
    Endpoint("/robots/{robot}", "robot", Robot, RobotDocument, _robot),
    Endpoint("/erasures", "erasures", Nothing, list[ErasureDocument], _erasures),
    Endpoint("/outputs", "outputs", Nothing, list[OutputDocument], _outputs),
    Endpoint("/exceptions", "exceptions", Open, list[d.ExceptionDocument], _exceptions),
    Endpoint("/exceptions/{number}", "exception", ById, d.ExceptionDocument, _exception),
)


def routes(reading: Callable[[], AbstractContextManager[Catalogue]], base: str = "/api/v1") -> Sequence[Route]:
    """What the web application mounts at ``base``. ``reading``: opens the catalogue in one snapshot."""
    document = _json.encode(openapi(base))

    async def description(_: Request) -> Response:
        return Response(document, media_type="application/json")

    found = [Route("/openapi.json", description, methods=["GET"], name="openapi")]
    return [*found, *(Route(one.route, _handler(one, reading), methods=["GET"], name=one.name) for one in ENDPOINTS)]


def openapi(base: str = "/api/v1", endpoints: Sequence[Endpoint] = ENDPOINTS) -> dict[str, Any]:
    """The OpenAPI 3.1 document of some endpoints."""
    types = [*(one.answers for one in endpoints), *(one.asks for one in endpoints), FailureDocument]
    shapes, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    failure = {"application/json": {"schema": shapes[-1]}}
    asked = {one.asks.__name__ for one in endpoints}
    paths = {
        one.path: {
            "get": {
                "operationId": one.name,
                "summary": one.says,
                "parameters": _parameters(one, components[one.asks.__name__]),
                "responses": {
                    "200": {"description": one.says, "content": {"application/json": {"schema": shape}}},
                    "400": {"description": "A parameter is not as it must be.", "content": failure},
                    "404": {"description": "There is no such thing, or several are meant.", "content": failure},
                },
            }
        }
        for one, shape in zip(endpoints, shapes, strict=False)
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edge-registry",
            "version": __version__,
            "description": "The catalogue of a registry, read-only.",
        },
        "servers": [{"url": base}],
        "paths": paths,
        "components": {"schemas": {name: shape for name, shape in components.items() if name not in asked}},
    }


def _parameters(one: Endpoint, shape: dict[str, Any]) -> list[dict[str, Any]]:
    required = shape.get("required", [])
    return [
        {
            "name": name,
            "in": "path" if f"{{{name}}}" in one.path else "query",
            "required": name in required,
            "schema": {word: value for word, value in schema.items() if word != "default"},
        }
        for name, schema in shape["properties"].items()
    ]


def answer(one: Endpoint, asked: Mapping[str, str], reading: Callable[[], AbstractContextManager[Any]]) -> Response:
    """The answer of an endpoint to parameters as they came, of path and query together. ``reading``: opens what it reads from."""
    try:
        wanted = msgspec.convert(_plain(asked), one.asks, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        return failure(400, "bad_request", str(error))
    try:
        with reading() as catalogue:
            found = one.read(catalogue, wanted)
    except UsageError as error:
        return failure(404, "not_found", str(error))
    except EdgeMonitorError as error:  # what is held does not verify: that is an answer, and no accident
        return failure(404, "damaged", str(error))
    return Response(_json.encode(found), media_type="application/json")


def _handler(one: Endpoint, reading: Callable[[], AbstractContextManager[Catalogue]]) -> Any:
    async def handle(request: Request) -> Response:
        return await run_in_threadpool(answer, one, {**request.query_params, **request.path_params}, reading)

    return handle


def _plain(asked: Mapping[str, str]) -> Mapping[str, str]:
    """Parameters as they can be asked for. Raises ``ValueError`` for characters that no name here has."""
    for name, value in asked.items():
        if "\0" in value or not value.isprintable():
            raise ValueError(f"{name[:64]}: holds characters that nothing here has")
    return asked


def failure(status: int, code: str, message: str) -> Response:
    """An error as all of them look."""
    document: FailureDocument = {"error": {"code": code, "message": message[:500]}}
    return Response(_json.encode(document), status, media_type="application/json")
