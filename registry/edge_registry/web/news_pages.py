"""What open pages listen to."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode

from starlette.responses import Response

from ..store import Transaction
from .access import Visitor
from .answers import named_log, whole
from .app import Asked, Refused, Site
from .fleet import Standing
from .news import MOST_OF_ONE, read_of

PATH = "/news"


def show_news(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """Server-sent events: ``records`` with how many there are beyond those ``seen``, of all logs or one (``log``); ``over`` when
    the session is."""
    number = None
    if name := asked.query.get("log", ""):
        with site.store.read() as tx:
            number = named_log(tx, replace(asked, parts={"log": name}))[1].number
    stream = site.news.follow(visitor, number, whole(asked.query, "seen", 0))
    if stream is None:
        raise Refused(429, "Too many pages listen.", f"Close one: {MOST_OF_ONE} of a person are told of new records.")
    return stream


def news_of(tx: Transaction, log: Standing | None = None) -> str:
    """Where a page that is made of this snapshot listens."""
    query = {"as": "events", "seen": str(read_of(tx, log.number if log is not None else None))}
    if log is not None:
        query["log"] = log.log_id
    return f"{PATH}?{urlencode(query)}"
