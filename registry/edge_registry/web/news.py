"""``News``: tells pages that are open when there are records that they do not show yet, as server-sent events.

Nothing of a record is in them, only how many there are. A stream ends with the session that asked for it, with its person's role,
when the pages stop, and after ``LONGEST_S`` in any case: browsers ask again, and are let in again or not.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ..store import Transaction
from . import tables as w
from .access import Access, Visitor
from .pages_store import PagesStore

MOST = 32  #: streams at a time
MOST_OF_ONE = 3  #: of a person: browsers have six connections for one place, and need some for pages
EVERY_S = 1.0  #: between two looks
QUIET_S = 15.0  #: after so long a stream says that it is still there
LONGEST_S = 600.0
AGAIN_MS = 5000  #: a browser waits for so long before it asks again
PERMISSION = "fleet"  #: of whoever is told


def read_of(tx: Transaction, log: int | None = None) -> int:
    """Records that have been read for the pages, of a log or of all."""
    query = sa.select(sa.func.coalesce(sa.func.sum(w.logs.c.read), 0))
    return int(tx.connection.execute(query if log is None else query.where(w.logs.c.log == log)).scalar_one())


class News:
    """Who is told, and what there is to tell; one look at the database serves all."""

    def __init__(self, store: PagesStore, access: Access) -> None:
        self._store = store
        self._access = access
        self._lock = threading.Lock()
        self._listening: Counter[str] = Counter()  # streams by person
        self._known: dict[int, int] = {}
        self._looked = -EVERY_S
        self._over = False

    def close(self) -> None:
        """End all streams, soon."""
        self._over = True

    def follow(self, visitor: Visitor, log: int | None, seen: int) -> StreamingResponse | None:
        """The stream for somebody who has seen so many records, of a log or of all; None where there are too many streams."""
        with self._lock:
            if self._listening.total() >= MOST or self._listening[visitor.person] >= MOST_OF_ONE:
                return None
            self._listening[visitor.person] += 1
        return _Stream(self, visitor, self._events(visitor, log, seen))

    def leave(self, visitor: Visitor) -> None:
        """A stream is over."""
        with self._lock:
            self._listening[visitor.person] -= 1
            self._listening += Counter()  # forgets who has none

    async def _events(self, visitor: Visitor, log: int | None, seen: int) -> AsyncIterator[bytes]:
        begun = spoke = time.monotonic()
        told = 0
        yield b"retry: %d\n\n" % AGAIN_MS
        while not self._over and (now := time.monotonic()) < begun + LONGEST_S:
            try:
                known = await run_in_threadpool(self._look, visitor, log)
            except sa.exc.SQLAlchemyError:  # the browser asks again, and finds it well or not
                return
            if known is None:
                yield b"event: over\ndata: signed out\n\n"
                return
            if known - seen > told:
                told, spoke = known - seen, now
                yield b"event: records\ndata: %d\n\n" % told
            elif now >= spoke + QUIET_S:
                spoke = now
                yield b":\n\n"
            await asyncio.sleep(EVERY_S)

    def _look(self, visitor: Visitor, log: int | None) -> int | None:
        """How many records there are; None where the visitor may not know any more."""
        if not self._access.is_still(visitor, PERMISSION):
            return None
        with self._lock:
            if time.monotonic() >= self._looked + EVERY_S / 2:
                with self._store.read() as tx:
                    rows = tx.connection.execute(sa.select(w.logs.c.log, w.logs.c.read))
                    self._known = {log: read for log, read in rows}  # noqa: C416 (rows are no pairs for dict's types)
                self._looked = time.monotonic()
            return sum(self._known.values()) if log is None else self._known.get(log, 0)


class _Stream(StreamingResponse):
    """A stream that is counted until it is over, however that comes."""

    def __init__(self, news: News, visitor: Visitor, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        self._news, self._visitor = news, visitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._news.leave(self._visitor)
