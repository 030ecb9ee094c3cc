"""What is shown together: a thing with all that is said of it, and the lineage of whatever is named."""

from __future__ import annotations

import re

import sqlalchemy as sa

from edge_monitor.errors import UsageError

from .. import tables as registry
from .documents import ItemPageDocument, LineageDocument
from .exceptions import exceptions
from .fleet import uses
from .lineage import lineage, of_event
from .reading import Catalogue

_EVENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})/(?:([0-9a-f-]{4,36})/)?([0-9]{1,18})")


def item_page(catalogue: Catalogue, text: str) -> ItemPageDocument:
    """A thing with its versions, what is said of it, its lineage, its use and its exceptions. Raises ``UsageError``."""
    item = catalogue.find(text)
    return {
        "item": catalogue.document(item),
        "versions": catalogue.versions(item),
        "statements": catalogue.statements(item.digest),
        "lineage": lineage(catalogue, item),
        "used": uses(catalogue, digest=item.digest, limit=100),
        "exceptions": exceptions(catalogue, subject=item.digest),
    }


def lineage_of(catalogue: Catalogue, text: str) -> LineageDocument:
    """Of a thing, or of a record as ``ROBOT/SEQUENCE`` or ``ROBOT/LOG/SEQUENCE`` (the log's first characters).

    Raises ``UsageError``.
    """
    event = _EVENT.fullmatch(text)
    if event is None:
        return lineage(catalogue, catalogue.find(text))
    return of_event(catalogue, log_number(catalogue, event[1], event[2] or ""), int(event[3]))


def log_number(catalogue: Catalogue, robot: str, log: str = "") -> int:
    """The number of a robot's log, by its first characters, or its only one. Raises ``UsageError``."""
    query = sa.select(registry.logs.c.log, registry.logs.c.origin).where(registry.logs.c.robot == robot)
    rows = catalogue.tx.connection.execute(query.order_by(registry.logs.c.log)).all()
    meant = [row for row in rows if row.origin.rpartition("/")[2].startswith(log)]
    if len(meant) != 1:
        which = ", ".join(row.origin.rpartition("/")[2] for row in rows) or "none"
        raise UsageError(f"{len(meant)} logs of {robot} are meant; name one as {robot}/LOG/SEQUENCE, of: {which}")
    return int(meant[0].log)
