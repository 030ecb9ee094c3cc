"""The auditor's tail over HTTP: what ``edge-registry tail`` prints, a piece at a time."""

from __future__ import annotations

from starlette.responses import Response

from edge_monitor.errors import UsageError, VerificationError

from ..tail import Cursor, Tail, parse_cursor
from .access import Visitor
from .app import Asked, Refused, Site


def show_tail(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """What follows a cursor (``from``: one that a line had, ``0`` or ``now``), as NDJSON, of all robots or one (``robot``).

    The headers ``x-cursor`` and ``x-at-end`` say where to go on, and whether there is more at once.
    """
    start = asked.query.get("from", "0")
    try:
        tail = Tail(site.store, Cursor() if start == "now" else parse_cursor(start), asked.query.get("robot"))
        if start == "now":
            tail.skip_to_end()
        body = b"".join(line.json() for line in tail.lines())
    except UsageError as error:
        raise Refused(400, str(error)) from None
    except VerificationError as error:
        raise Refused(
            409, str(error), "Records that are receipted must be there: ask who keeps the registry."
        ) from None
    headers = {"x-cursor": tail.cursor.text(), "x-at-end": "yes" if tail.at_end else "no"}
    return Response(body, media_type="application/x-ndjson", headers=headers)
