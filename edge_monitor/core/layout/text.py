"""The text table: texts are numbered in order of first appearance, so that a sample can carry one as its value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ...errors import ConfigError
from ..jit import kernel

CAPACITY = 4096  #: texts in a table
MAX_SIZE = 1024  #: bytes of one text
LETTERS = 1 << 19  #: bytes of all texts together

#: One text: its hash, its bytes' place in ``letters``, the next text of its bucket; ``first`` is the head of the
#: bucket that has this row's number. -1: none.
TEXT = np.dtype([("hash", "<i8"), ("start", "<i4"), ("size", "<i4"), ("next", "<i4"), ("first", "<i4")])


@kernel
def intern(rows, letters, filled, data, start, size):  # type: ignore[no-untyped-def]
    """Number of the text ``data[start : start + size]``, entered where it is new; -1 where it does not fit.

    ``rows``: (CAPACITY,) TEXT; ``letters``: (LETTERS,) uint8; ``filled``: (2,) int64, the used part of both.
    """
    if size > MAX_SIZE:
        return -1
    key = 2166136261  # FNV-1a, 32 bits wide so that no product leaves int64
    for i in range(size):
        key = ((key ^ np.int64(data[start + i])) * 16777619) & 0xFFFFFFFF
    bucket = key % CAPACITY
    at = np.int64(rows[bucket]["first"])
    while at >= 0:
        row = rows[at]
        if row["hash"] == key and row["size"] == size:
            begin = np.int64(row["start"])
            same = 0
            while same < size and letters[begin + same] == data[start + same]:
                same += 1
            if same == size:
                return at
        at = np.int64(row["next"])
    at, begin = filled[0], filled[1]
    if at == CAPACITY or begin + size > LETTERS:
        return -1
    for i in range(size):
        letters[begin + i] = data[start + i]
    rows[at]["hash"] = key
    rows[at]["start"] = begin
    rows[at]["size"] = size
    rows[at]["next"] = rows[bucket]["first"]
    rows[bucket]["first"] = at
    filled[0], filled[1] = at + 1, begin + size
    return at


class TextTable:
    """Texts and their numbers. At most 4096 texts of at most 1024 bytes each, 512 KiB together.

    A text that no longer fits gives its samples the cause ``overflow``. ``list(table)`` is everything that is needed to
    make an equal one.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Enter ``texts`` in their order. Raises :class:`ConfigError` where they do not fit."""
        self.rows = np.zeros(CAPACITY, TEXT)
        self.rows["first"] = self.rows["next"] = -1
        self.letters = np.zeros(LETTERS, np.uint8)
        self.filled = np.zeros(2, np.int64)
        self._known: list[str] = []
        for text in texts:
            self.code(text)

    def __len__(self) -> int:
        return int(self.filled[0])

    def __iter__(self) -> Iterator[str]:
        return (self.text(code) for code in range(len(self)))

    def text(self, code: int) -> str:
        """The text with this number (undecodable bytes as surrogate escapes). Raises IndexError where there is none."""
        if not 0 <= code < len(self):
            raise IndexError(f"no text has the number {code}")
        for at in range(len(self._known), code + 1):
            begin = int(self.rows[at]["start"])
            encoded = self.letters[begin : begin + int(self.rows[at]["size"])].tobytes()
            self._known.append(encoded.decode("utf-8", "surrogateescape"))
        return self._known[code]

    def code(self, text: str) -> int:
        """The number of a text, which is entered where it is new. Raises :class:`ConfigError` where it does not fit."""
        encoded = np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)
        number = int(intern(self.rows, self.letters, self.filled, encoded, 0, len(encoded)))
        if number < 0:
            raise ConfigError(
                f"text {text[:40]!r} does not fit: a table holds {CAPACITY} texts of at most {MAX_SIZE} bytes each"
            )
        return number
