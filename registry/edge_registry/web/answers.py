"""What pages have in common: tables that are shown or downloaded, links that keep filters, and what a path or query names."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.responses import Response

from edge_monitor.utc import utc_ns

from ..store import Transaction
from .app import Asked, Refused
from .downloads import Table, as_csv, as_json
from .fleet import Standing, standing

MOST_ROWS = 10_000  #: of a table that is downloaded


def wants_file(asked: Asked) -> bool:
    """Whether the table is asked for, not the page around it."""
    return asked.query.get("as", "") in ("csv", "json")


def file(asked: Asked, table: Table) -> Response:
    """A table as a file."""
    if asked.query["as"] == "csv":
        return attachment(as_csv(table), f"{table.name}.csv", "text/csv; charset=utf-8")
    return attachment(as_json(table), f"{table.name}.json", "application/json")


def attachment(data: bytes, name: str, kind: str) -> Response:
    """A file to keep; its name says nothing that a robot chose."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:100]
    return Response(data, media_type=kind, headers={"content-disposition": f'attachment; filename="{safe}"'})


def link(asked: Asked, **changed: str) -> str:
    """This page with other filters; an empty one is left out."""
    query = {**asked.query, **changed}
    kept = {name: value for name, value in query.items() if value}
    return asked.path + (f"?{urlencode(kept)}" if kept else "")


def named_log(tx: Transaction, asked: Asked) -> tuple[str, Standing]:
    """The log that the path names, and whose it is. Raises ``Refused`` where it is none."""
    text = str(asked.parts["log"])
    try:
        log_id = uuid.UUID(text)
    except ValueError:
        log_id = None
    found = standing(tx, log_id.bytes) if log_id is not None and str(log_id) == text else None
    if found is None:
        raise Refused(404, "There is no such log here.", "The fleet page lists the robots and their logs.")
    return found


def whole(values: Mapping[str, str], name: str, default: int | None = None) -> int:
    """A whole number of a query or form. Raises ``Refused`` for anything else, or where it is missing without a default."""
    text = values.get(name, "").strip()
    if not text and default is not None:
        return default
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise Refused(400, f"{name} must be a whole number from 0 on.")
    return int(text)


def seconds(values: Mapping[str, str], name: str) -> float | None:
    """Seconds of a query; None where there are none. Raises ``Refused`` for anything else."""
    text = values.get(name, "").strip()
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text, re.ASCII):
        raise Refused(400, f"{name} must be seconds from 0 on, such as 92.5.")
    return float(text)


def cursor(text: str) -> tuple[int, int, int] | None:
    """Where a list goes on; None for its beginning. Raises ``Refused`` for what no list said."""
    if not text:
        return None
    match = re.fullmatch(r"(-?[0-9]{1,19})\.([0-9]{1,18})\.([0-9]{1,18})", text, re.ASCII)
    if match is None or abs(int(match[1])) >= 1 << 63:
        raise Refused(400, "The list can't go on from there: begin with its first page.")
    return int(match[1]), int(match[2]), int(match[3])


def dotted(place: tuple[int, int, int] | None) -> str:
    """A cursor as text; empty at the end."""
    return ".".join(map(str, place)) if place is not None else ""


def digest(values: Mapping[str, object], name: str) -> str:
    """A digest in hex; empty where there is none. Raises ``Refused`` for anything else."""
    text = str(values.get(name, ""))
    if text and not re.fullmatch(r"[0-9a-f]{64}", text, re.ASCII):
        raise Refused(404, "That is no digest of anything here.")
    return text


def moment_of(values: Mapping[str, str], name: str) -> int:
    """A day of a query (``2026-11-27``), as ns since 1970; 0 where there is none. Raises ``Refused`` for anything else."""
    text = values.get(name, "").strip()
    try:
        return utc_ns(text) if text else 0
    except ValueError as error:
        raise Refused(400, f"{name}: {error}.") from None
