"""``dying_registry.py before|after|never N serve …``: ``edge-registry`` that kills itself at its N-th commit with new records."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edge_registry import cli
from edge_registry.store import Store, Transaction

begin, extend = Store.begin, Transaction.extend
counts = {"seen": 0, "grown": 0}


def noted(self: Transaction, *arguments: object) -> None:
    """Records are added in this transaction."""
    counts["grown"] = 1
    extend(self, *arguments)  # type: ignore[arg-type]


@contextmanager
def dying(self: Store) -> Iterator[Transaction]:
    """A transaction, which may be the last thing that this process does."""
    counts["grown"] = 0
    with begin(self) as tx:
        yield tx
        counts["seen"] += counts["grown"]
        now = counts["grown"] and counts["seen"] == at
        if now and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
    if now and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    when, at = sys.argv[1], int(sys.argv[2])
    del sys.argv[1:3]
    if when != "never":
        Store.begin, Transaction.extend = dying, noted  # type: ignore[method-assign, assignment]
    cli.main()
