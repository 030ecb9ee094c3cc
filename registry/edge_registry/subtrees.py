"""``Subtrees``: hashes of a log's complete subtrees, for proofs.

A proof asks for hashes that stand beside one another, so that they are read a block at a time: one by one they would be dozens of
questions to the database, and a page waits for them all.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edge_monitor.errors import VerificationError
from edge_monitor.journal.merkle import CompactRange, leaf_hash
from edge_monitor.journal.reader import TILE_LEVEL

from . import tables as t

BLOCK = 1 << TILE_LEVEL  #: hashes that are read at once


class Subtrees:
    """Those of one log, in one snapshot; a ``Subtree`` of :mod:`edge_monitor.journal.merkle`."""

    def __init__(self, connection: Connection, log: int) -> None:
        self._connection, self._log = connection, log
        self._blocks: dict[tuple[int, int], list[bytes]] = {}

    def __call__(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree of ``2**level`` leaves.

        Raises ``VerificationError`` where records or hashes are missing.
        """
        above = level % TILE_LEVEL
        first, count = index << above, 1 << above
        block = self._block(level - above, first // BLOCK)
        nodes = block[first % BLOCK : first % BLOCK + count]
        if len(nodes) != count:
            what = "records are" if level < TILE_LEVEL else "a cached hash is"
            raise VerificationError(f"log {self._log}: {what} missing")
        tree = CompactRange()
        tree.extend(nodes)
        return tree.root()

    def _block(self, level: int, number: int) -> list[bytes]:
        """Hashes of the nodes of a level that is kept, from ``number * BLOCK`` up to the first that is not there."""
        if (level, number) not in self._blocks:
            start = number * BLOCK
            if level:
                place, value, table = t.tiles.c.tile, t.tiles.c.hash, t.tiles
            else:
                place, value, table = t.events.c.seq, t.events.c.record, t.events
            query = sa.select(place, value).where(table.c.log == self._log, place >= start, place < start + BLOCK)
            if level:
                query = query.where(t.tiles.c.level == level)
            rows = self._connection.execute(query.order_by(place)).all()
            data = [bytes(row[1]) for at, row in enumerate(rows, start) if row[0] == at]
            self._blocks[level, number] = data if level else [leaf_hash(record) for record in data]
        return self._blocks[level, number]
