"""What programs ask (`catalogue/interface.py`, and what pages add), with the pages' sessions, roles and headers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from ..catalogue.interface import ENDPOINTS, Endpoint, answer, openapi
from ..catalogue.reading import Catalogue
from . import coverage_interface
from .access import Visitor
from .signal_pages import SIGNALS

if TYPE_CHECKING:
    from .app import Asked, Handler, Site

BASE = "/api/v1"
ALL = (*ENDPOINTS, *coverage_interface.ENDPOINTS)


@contextmanager
def reading(site: Site, now_s: int) -> Iterator[Catalogue]:
    """The catalogue in one snapshot, by the people file as it is now."""
    with site.store.read() as tx:
        yield Catalogue(tx, site.trust(), now_s * 1_000_000_000)


def handler(one: Endpoint) -> Handler:
    """What answers for an endpoint."""

    def handle(site: Site, asked: Asked, _: Visitor) -> Response:
        parts = {name: str(value) for name, value in asked.parts.items()}
        return answer(one, {**asked.query, **parts}, lambda: reading(site, asked.now_s))

    return handle


def description(_: Site, __: Asked, ___: Visitor) -> Response:
    """The OpenAPI document."""
    return Response(msgspec.json.encode(openapi(BASE, (*ALL, SIGNALS))), media_type="application/json")


PLACES = tuple((BASE + one.route, handler(one)) for one in ALL)
