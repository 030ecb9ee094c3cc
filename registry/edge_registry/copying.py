"""Events on their way into PostgreSQL: rows of its binary ``COPY``, put together by columns, one ``COPY`` for all logs.

Psycopg asks of each value how its type is written; for batches, whose columns are known, that is more work than to verify them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import chain, repeat
from struct import Struct
from typing import TYPE_CHECKING, Any

from edge_monitor.sync.packing import Block

if TYPE_CHECKING:
    from psycopg import Copy, Cursor

BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)  #: signature, no flags, no extension
END = b"\xff\xff"
MOST = 32 << 20  #: bytes that wait in memory, about
_COLUMNS = 10
_NULL = -1
_head = Struct(">hiqiqi").pack  #: how many columns; log and sequence, each behind its length; the type's length
_middle = Struct(">iiiqiqiqi").pack  #: severity, three times; the record's length
_length = Struct(">i").pack


class Additions:
    """What a transaction adds to logs: events leave at once, sent by a thread while the next batch is verified; the rest is kept
    for the end. Nothing else can be asked of the connection meanwhile. Its methods raise psycopg's errors."""

    def __init__(self, cursor: Cursor[Any]) -> None:
        self.tiles: list[tuple[Any, ...]] = []
        self.receipts: list[tuple[Any, ...]] = []
        self.heads: dict[int, dict[str, Any]] = {}  #: the newest columns of each log, by its number
        self._cursor = cursor
        self._stack = ExitStack()
        self._copy: Copy | None = None
        self._sent = 0

    @property
    def is_full(self) -> bool:
        """Whether so much may wait to be sent that the end should come."""
        return self._sent > MOST

    def events(self, log: int, first: int, block: Block) -> None:
        """Add a block whose first record has this sequence."""
        if self._copy is None:
            from psycopg.copy import QueuedLibpqWriter

            statement, writer = "copy events from stdin (format binary)", QueuedLibpqWriter(self._cursor)
            self._copy = self._stack.enter_context(self._cursor.copy(statement, writer=writer))
            self._copy.write(BEGIN)
        data = event_rows(log, first, block)
        self._sent += len(data)
        self._copy.write(data)

    def end(self) -> None:
        """All events are in."""
        if self._copy is not None:
            self._copy.write(END)
        self._stack.close()

    def abandon(self) -> None:
        """The transaction is to be undone."""
        undone = RuntimeError("undone")
        with suppress(Exception):
            self._stack.__exit__(RuntimeError, undone, None)


def event_rows(log: int, first: int, block: Block) -> bytes:
    """The rows of ``events`` for a block whose first record has this sequence."""
    count = len(block)
    types = {kind: kind.encode() for kind in set(block.types)}
    kinds = [types[kind] for kind in block.types]
    heads = map(
        _head, repeat(_COLUMNS), repeat(8), repeat(log), repeat(8), range(first, first + count), map(len, kinds)
    )
    middles = map(
        _middle, repeat(4), block.severities, repeat(8), block.effective, repeat(8), block.decided, repeat(8), block.walls,
        map(len, block.records),
    )  # fmt: skip
    columns = (heads, kinds, middles, block.records, *_optional(block.salts), *_optional(block.payloads))
    return b"".join(chain.from_iterable(zip(*columns, strict=True)))


def _optional(values: Sequence[bytes | None]) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """Lengths and values of a column that may be null."""
    lengths = [_NULL if value is None else len(value) for value in values]
    written = {length: _length(length) for length in set(lengths)}
    return [written[length] for length in lengths], [value or b"" for value in values]
