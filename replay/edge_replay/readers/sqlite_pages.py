"""SQLite files page by page: the b-trees of tables walked in our own way, so that damage costs only the pages it is in.

SQLite gives up on a file that is cut or has one bad page; here every page that can be reached is read, and leaf pages
whose parents are lost are found by what they contain. Newer pages in a write-ahead log beside the file are used.
Format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_monitor.core.jit import kernel

from .kernels import be_unsigned
from .kernels import varint as varint_at
from .recording import MAX_CHUNK, ByteFile, Bytes, MalformedError

MAGIC = b"SQLite format 3\0"
INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF = 2, 5, 10, 13
LAST = 1 << 62  #: upper bound of row ids where none is known
DEPTH = 20  #: levels that no real b-tree has


@kernel
def wal_checksum(data: Bytes, start: int, stop: int, big: bool, sums: npt.NDArray[np.int64]) -> None:
    """Continue the checksum of a write-ahead log over ``data[start:stop]``; ``sums``: (2,) i8."""
    first, second = sums[0], sums[1]
    for at in range(start, stop, 8):
        for half in range(2):
            word = np.int64(0)
            for byte in range(4):
                shift = 24 - 8 * byte if big else 8 * byte
                word |= np.int64(data[at + 4 * half + byte]) << shift
            if half == 0:
                first = (first + word + second) & 0xFFFFFFFF
            else:
                second = (second + word + first) & 0xFFFFFFFF
    sums[0], sums[1] = first, second


@kernel
def interior_cells(data: Bytes, head: int, found: npt.NDArray[np.int64]) -> int:
    """(child, key) of each cell of a table's interior page, and its last child; returns how many, -1 where it is none."""
    cells = be_unsigned(data, head + 3, 2)
    first = head + 12 + 2 * cells
    if data[head] != TABLE_INTERIOR or first > len(data) or cells >= len(found):
        return -1
    for cell in range(cells):
        at = be_unsigned(data, head + 12 + 2 * cell, 2)
        if at < first or at + 4 > len(data):
            return -1
        key, after = varint_at(data, at + 4, len(data))
        if after < 0:
            return -1
        found[cell, 0], found[cell, 1] = be_unsigned(data, at, 4), key
    found[cells, 0], found[cells, 1] = be_unsigned(data, head + 8, 4), LAST
    return cells + 1


class Pages:
    """The pages of a database file, numbered from 1, as its last committed transaction left them."""

    def __init__(self, file: ByteFile, wal: Path | None = None) -> None:
        self.file = file
        self.problems: list[str] = []
        head = file.read(0, 100)
        size = int.from_bytes(head[16:18], "big")
        size = 65536 if size == 1 else size
        if size not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536):
            size = self._guess_size()
            self.problems.append(f"the page size in the header can't be right; {size} fits")
        self.size = size
        reserved = head[20] if len(head) == 100 and head[20] <= 32 else 0
        self.usable = size - reserved
        self.newer: dict[int, int] = {}  # page -> position in the write-ahead log
        self.wal: ByteFile | None = None
        self.count = file.size // size
        stated = int.from_bytes(head[28:32], "big")
        if head[24:28] != head[92:96]:  # written by something that does not keep the count
            stated = 0
        if wal is not None and wal.is_file() and wal.stat().st_size > 32:
            self.wal = ByteFile(wal)
            stated = self._read_wal(self.wal) or stated
        self.stated = stated
        present = max(self.count, max(self.newer, default=0))
        self.cut = stated > present or file.size % size != 0
        self.count = max(stated, present) if not self.newer else max(stated, self.count)

    def _guess_size(self) -> int:
        def fitting(size: int) -> float:
            starts = [self.file.read(at, 1) for at in range(size, min(self.file.size, 200 * size), size)]
            return sum(start[:1] in (b"\x02", b"\x05", b"\x0a", b"\x0d") for start in starts) / max(len(starts), 1)

        return max((4096, 1024, 8192, 16384, 32768, 65536, 2048, 512), key=fitting)

    def _read_wal(self, wal: ByteFile) -> int:
        """Note the pages of all committed frames; returns the page count after the last commit (0: none)."""
        head = wal.array(0, 32)
        magic, _, size = struct.unpack_from(">III", head.data)
        if magic not in (0x377F0682, 0x377F0683) or size != self.size:
            self.problems.append("the write-ahead log beside the file is damaged: its header")
            return 0
        sums = np.zeros(2, np.int64)
        wal_checksum(head, 0, 24, magic & 1 == 1, sums)
        pending: dict[int, int] = {}
        pages, at = 0, 32
        while at + 24 + size <= wal.size:
            frame = wal.array(at, 24 + size)
            page, commit = struct.unpack_from(">II", frame.data)
            wal_checksum(frame, 0, 8, magic & 1 == 1, sums)
            wal_checksum(frame, 24, 24 + size, magic & 1 == 1, sums)
            if frame[8:16].tobytes() != head[16:24].tobytes() or (int(sums[0]), int(sums[1])) != struct.unpack_from(
                ">II", frame.data, 16
            ):
                break  # frames of an earlier run, or one that was being written when it ended
            pending[page] = at + 24
            if commit:
                self.newer.update(pending)
                pending.clear()
                pages = commit
            at += 24 + size
        return pages

    def __getitem__(self, page: int) -> bytes:
        """Raises MalformedError where the page is not (wholly) in the file."""
        if page in self.newer and self.wal is not None:
            return self.wal.read(self.newer[page], self.size)
        data = self.file.read((page - 1) * self.size, self.size) if page > 0 else b""
        if len(data) < self.size:
            raise MalformedError(f"page {page} is not in the file")
        return data

    def gather(self, pages: list[int]) -> tuple[Bytes, npt.NDArray[np.int64]]:
        """(a buffer, where in it each page stands); in one read where the pages lie near each other."""
        low, high = min(pages), max(pages)
        if not self.newer and high - low < 2 * len(pages):
            buffer = self.file.array((low - 1) * self.size, (high - low + 1) * self.size)
            return buffer, (np.array(pages, np.int64) - low) * self.size
        buffer = np.frombuffer(b"".join(self[page] for page in pages), np.uint8)
        return buffer, np.arange(len(pages), dtype=np.int64) * self.size

    def chain(self, page: int, count: int) -> bytes:
        """``count`` bytes of the overflow chain that starts at a page. Raises MalformedError."""
        step = self.usable - 4
        needed = -(-count // step)
        if count > MAX_CHUNK:
            raise MalformedError(f"a record claims {count} bytes")
        if not self.newer and page > 0 and page - 1 + needed <= self.file.size // self.size:  # usually in a row
            block = self.file.array((page - 1) * self.size, needed * self.size).reshape(needed, self.size)
            following = block[:, :4].copy().view(">u4")[:, 0]
            if (following[:-1] == np.arange(page + 1, page + needed)).all() and following[-1] == 0:
                return block[:, 4 : self.usable].tobytes()[:count]
        parts = []
        for _ in range(needed):
            data = self[page]
            parts.append(data[4 : self.usable])
            page = int.from_bytes(data[:4], "big")
        if page:
            raise MalformedError("an overflow chain does not end where its record does")
        return b"".join(parts)[:count]


def varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, position behind it) of SQLite's variable-length integer."""
    value = 0
    for i in range(9):
        if at + i >= len(data):
            raise MalformedError("a number runs past the end of its page")
        byte = data[at + i]
        if i == 8:
            value = value << 8 | byte
            return value - (1 << 64) if value >> 63 else value, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    raise MalformedError("a number without end")


def local_size(payload: int, usable: int, leaf_table: bool = True) -> int:
    """Bytes of a payload that are on the page itself."""
    most = usable - 35 if leaf_table else (usable - 12) * 64 // 255 - 23
    if payload <= most:
        return payload
    least = (usable - 12) * 32 // 255 - 23
    size = least + (payload - least) % (usable - 4)
    return size if size <= most else least


def parse_record(payload: bytes) -> list[Any]:
    """The values of a record. Raises MalformedError."""
    size, at = varint(payload, 0)
    kinds = []
    while at < size:
        kind, at = varint(payload, at)
        kinds.append(kind)
    values: list[Any] = []
    at = size
    for kind in kinds:
        width = (kind - 12) // 2 if kind >= 12 else (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)[kind]
        raw = payload[at : at + width]
        if len(raw) < width:
            raise MalformedError("a record is shorter than its columns")
        at += width
        if kind >= 12:
            try:
                values.append(raw.decode() if kind % 2 else raw)
            except UnicodeDecodeError:
                raise MalformedError("a text is not UTF-8") from None
        elif kind == 7:
            values.append(struct.unpack(">d", raw)[0])
        else:
            values.append(
                None if kind == 0 else kind - 8 if kind in (8, 9) else int.from_bytes(raw, "big", signed=True)
            )
    if at != len(payload):
        raise MalformedError("a record is longer than its columns")
    return values


def cell_offsets(data: bytes, head: int, width: int) -> list[int]:
    """Where the cells of a page start; ``width``: bytes of the page's header. Raises MalformedError."""
    count = int.from_bytes(data[head + 3 : head + 5], "big")
    if head + width + 2 * count > len(data):
        raise MalformedError("a page claims more cells than it can hold")
    offsets = list(struct.unpack_from(f">{count}H", data, head + width))
    if any(offset < head + width + 2 * count or offset >= len(data) for offset in offsets):
        raise MalformedError("a cell lies outside its page")
    return offsets


def rows_of_leaf(pages: Pages, data: bytes, head: int = 0) -> list[tuple[int, list[Any]]]:
    """(row id, values) of a small table's leaf page. Raises MalformedError."""
    rows = []
    for at in cell_offsets(data, head, 8):
        size, at = varint(data, at)
        row, at = varint(data, at)
        local = local_size(size, pages.usable)
        payload = data[at : at + local]
        if local < size:
            payload += pages.chain(int.from_bytes(data[at + local : at + local + 4], "big"), size - local)
        rows.append((row, parse_record(payload)))
    return rows


Leaf = tuple[int, int, int]  #: a leaf page of a table: its number; row ids on it are larger than this …, up to this


class Table:
    """A table's b-tree. ``problems``: what could not be reached, in the words of the first walk that met it."""

    def __init__(self, pages: Pages, root: int) -> None:
        self.pages, self.root = pages, root
        self.problems: list[str] = []
        self._depth = self._find_depth()

    def leaves(self, visited: bytearray) -> Iterator[Leaf]:
        """The leaf pages in order of row id; they themselves are not read, as all are equally deep.

        ``visited`` has a byte for each page of the file (from 0), set for those met.
        """
        if self._depth is None:
            self._note(f"the table at page {self.root} can't be entered")
        else:
            yield from self._below(self.root, -LAST, LAST, self._depth, visited)

    def _below(self, page: int, low: int, high: int, depth: int, visited: bytearray) -> Iterator[Leaf]:
        if not 0 < page < len(visited) or visited[page]:
            self._note(f"page {page} can't be where it is referred to")
            return
        visited[page] = 1
        if depth == 0:
            yield page, low, high
            return
        try:
            children = _children(self.pages, page, low, high)
        except MalformedError as error:
            self._note(str(error))
            return
        for child, above, up_to in children:
            yield from self._below(child, above, up_to, depth - 1, visited)

    def _find_depth(self) -> int | None:
        """Levels of interior pages, by the first way down that can be read."""
        level = [self.root]
        for depth in range(DEPTH):
            below: list[int] = []
            for page in level:
                try:
                    data = self.pages[page]
                    head = 100 if page == 1 else 0
                    if data[head] == TABLE_LEAF:
                        return depth
                    below += [child for child, _, _ in _children(self.pages, page, -LAST, LAST)]
                    break
                except MalformedError:
                    continue
            level = below
        return None

    def _note(self, problem: str) -> None:
        if problem not in self.problems and len(self.problems) < 20:
            self.problems.append(problem)


def _children(pages: Pages, page: int, low: int, high: int) -> list[Leaf]:
    """The pages below an interior page of a table, with the row ids that they can hold. Raises MalformedError."""
    found = np.empty((pages.size // 5 + 1, 2), np.int64)
    count = interior_cells(np.frombuffer(pages[page], np.uint8), 100 if page == 1 else 0, found)
    if count < 0:
        raise MalformedError(f"page {page} is no page of this table")
    found = found[:count]
    keys = found[:-1, 1]
    if count > 1 and (keys[0] < low or keys[-1] > high or (keys[1:] < keys[:-1]).any()):
        raise MalformedError(f"page {page} is out of order")
    bounds = [low, *keys.tolist(), high]
    return list(zip(found[:, 0].tolist(), bounds[:-1], bounds[1:], strict=True))


def table_rows(pages: Pages, root: int, visited: bytearray) -> Iterator[tuple[int, list[Any]]]:
    """All rows of a small table that can be read; problems go to ``pages.problems``."""
    table = Table(pages, root)
    for page, _, _ in table.leaves(visited):
        try:
            yield from rows_of_leaf(pages, pages[page], 100 if page == 1 else 0)
        except MalformedError as error:
            pages.problems.append(f"page {page}: {error}")
    pages.problems += table.problems
