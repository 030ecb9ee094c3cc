"""``PagesStore``: the registry's database as pages use it. On SQLite their own tables are in a file beside it.

SQLite lets one writer in at a time, and that one is ingest: the follower, and whoever reads a page that is written down, would
wait for it and hold it up. With a file of their own neither waits for the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from edge_monitor.errors import ConfigError

from ..store import Store, Transaction, open_engine
from . import tables as w

SUFFIX = "-pages"  #: of the file beside the registry's


class PagesStore(Store):
    """As ``Store``; :meth:`read` sees the pages' tables too, and :meth:`own` writes to them, and to them only."""

    def __init__(self, url: str) -> None:
        """Makes the pages' tables where they are missing. Raises ``ConfigError`` as ``Store`` does."""
        self._reading: Engine | None = None  # the registry's own, until there is another
        super().__init__(url)
        self._own = self.engine
        if self.is_sqlite:
            beside = f"{self.engine.url.database}{SUFFIX}"
            self._own = open_engine(sa.URL.create("sqlite", database=beside).render_as_string())
            reading = open_engine(url)

            def attach(connection: Any, _: object) -> None:
                connection.execute("attach database ? as pages", (beside,))

            sa.event.listen(reading, "connect", attach)
            self._reading = reading
        for attempt in range(3):  # two processes that begin at once get in each other's way once, and one tries again
            try:
                w.create(self._own)
                break
            except sa.exc.SQLAlchemyError as error:
                if attempt == 2:
                    raise ConfigError(f"the pages' tables can't be made ({str(error).splitlines()[0]})") from None
                time.sleep(0.2)

    def close(self) -> None:
        """Give all connections back."""
        super().close()
        self._own.dispose()
        if self._reading is not None:
            self._reading.dispose()

    @contextmanager
    def own(self, *, derived: bool = False) -> Iterator[Transaction]:
        """A transaction that writes to the pages' tables; committed at the end, undone by an exception. ``derived``: as of
        :meth:`begin`."""
        with self._writing(self._own, derived) as tx:
            yield tx

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """One snapshot to read from; on SQLite one of each file."""
        with self._snapshot(self._reading if self._reading is not None else self.engine) as tx:
            yield tx
