"""``Watching``: a watch in a thread, for as long as a process serves."""

from __future__ import annotations

import threading
from collections.abc import Callable

import sqlalchemy as sa

from edge_monitor.errors import EdgeMonitorError
from edge_monitor.people import People

from ..blobs import Blobs
from ..configuration import Configuration
from ..store import Store
from .statements import TrustNow
from .watch import Watch

EVERY_S = 1.0  #: between two looks whether there is anything new
BUSY_S = 0.2  #: and while there is
RETRY_S = 5.0  #: after the database failed


class Watching:
    """Looks at what came in and opens exceptions, until :meth:`stop`. ``people``: the people file as it is now; ``blobs``: what
    robots delivered.

    ``tell``: is told in a line what went wrong; the watch goes on.
    """

    def __init__(
        self, store: Store, people: Callable[[], People | None], configuration: Configuration, tell: Callable[[str], None],
        blobs: Blobs | None = None,
    ) -> None:  # fmt: skip
        self._tell = tell
        self._done = threading.Event()
        self._watch = Watch(
            store, TrustNow(people), owner=configuration.owner, deadline_s=configuration.deadline_s, blobs=blobs,
            grace_s=configuration.grace_s, rest=self._done.wait,
        )  # fmt: skip
        self._thread = threading.Thread(target=self.run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def end(self) -> None:
        """Have it end after what is being looked at."""
        self._done.set()

    def stop(self) -> None:
        """The same, and wait for it."""
        self.end()
        if self._thread.ident is not None:
            self._thread.join()

    def run(self) -> None:
        """The same in the caller's thread."""
        while not self._done.is_set():
            try:
                wait = BUSY_S if self._watch.step() else EVERY_S
            except (sa.exc.SQLAlchemyError, EdgeMonitorError, OSError) as error:
                self._tell(f"exceptions are not looked for: {str(error).splitlines()[0]}; again in {RETRY_S:g} s")
                wait = RETRY_S
            self._done.wait(wait)
