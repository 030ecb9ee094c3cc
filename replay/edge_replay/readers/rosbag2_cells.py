"""Kernels over the leaf pages of a rosbag2 database: message rows out of cells, and the stamps of the index.

Every cell is checked against its page, the row ids around it and its own lengths; what fails is counted, not read.
Format: https://www.sqlite.org/fileformat2.html, sections 1.6 and 2.1
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_monitor.core.jit import kernel

from .kernels import be, be_unsigned, varint
from .recording import Bytes
from .sqlite_pages import INDEX_INTERIOR, INDEX_LEAF, TABLE_LEAF

Ints = npt.NDArray[np.int64]

TOPICS = 65536  #: topic ids that a bag can have
UNKNOWN = -1  #: in the lookup table of topics: none; else what ChannelTable.code says

LOCAL, CHAIN, ROWID = range(
    3
)  #: columns of ``more``: data bytes on the page, first page of the chain (0: none), row id
ROWS, BAD, STAMPS, IDS = range(
    4
)  #: entries of ``tally``, (6,) i8: rows, cells that can't be read, xor of stamps, xor of row ids; the rest is scratch


@kernel
def width_of(kind: int) -> int:
    """Bytes of a value of this serial type."""
    if kind >= 12:
        return (kind - 12) // 2
    if kind <= 4:
        return kind
    if kind == 5:
        return 6
    return 8 if kind <= 7 else 0


@kernel
def integer(data: Bytes, at: int, kind: int) -> int:
    """The value of an integer column."""
    if kind == 8 or kind == 9:
        return kind - 8
    return be(data, at, width_of(kind))


@kernel
def decode(
    data: Bytes, place: int, usable: int, bounds: Ints, columns: Ints, codes: np.ndarray,
    rows: np.ndarray, more: Ints, tally: Ints, unwanted: Ints,
) -> int:  # fmt: skip
    """Message rows of the leaf page at ``place``; returns 1, or 0 where it is no such page.

    ``bounds``: row ids are above [0] and up to [1]. ``columns``: count, and places of topic_id, timestamp, data.
    ``codes``: (TOPICS,) i4. Rows go to ``rows[tally[ROWS]:]``; ``unwanted``: (TOPICS,) counts what is passed over.
    """
    cells = be_unsigned(data, place + 3, 2)
    if data[place] != TABLE_LEAF or 8 + 2 * cells > usable:
        return 0
    before = bounds[0]
    for cell in range(cells):
        at = be_unsigned(data, place + 8 + 2 * cell, 2)
        tally[BAD] += 1  # taken back where all is well
        if at < 8 + 2 * cells or at >= usable:
            continue
        end = place + usable
        payload, at = varint(data, place + at, end)
        if at < 0:
            continue
        row, at = varint(data, at, end)
        if at < 0 or row <= before or row > bounds[1] or payload < 0 or payload > 0x7FFFFFFF:
            continue
        local = payload
        if payload > usable - 35:
            least = (usable - 12) * 32 // 255 - 23
            local = least + (payload - least) % (usable - 4)
            if local > usable - 35:
                local = least
        if at + local + (4 if local < payload else 0) > end:
            continue
        header, field = varint(data, at, end)
        if field < 0 or header > local:
            continue
        value = at + header
        topic = stamp = -1
        blob = length = np.int64(-1)
        good = True
        count = 0
        while field < at + header:
            kind, field = varint(data, field, at + header)
            if field < 0 or kind < 0 or kind == 10 or kind == 11:
                good = False
                break
            width = width_of(kind)
            if count == columns[3]:
                blob, length = value, width
                good = good and kind >= 12 and kind % 2 == 0
            elif count == columns[1] or count == columns[2]:
                if kind == 0 or kind == 7 or kind > 9 or value + width > at + local:
                    good = False
                    break
                if count == columns[1]:
                    topic = integer(data, value, kind)
                else:
                    stamp = integer(data, value, kind)
            value += width
            count += 1
        if not good or count != columns[0] or value != at + payload or topic < 0 or topic >= TOPICS or stamp < 0:
            continue
        if blob > at + local or (local < payload and blob + length != at + payload):
            continue
        code = codes[topic]
        if code == UNKNOWN:
            continue
        tally[BAD] -= 1
        tally[STAMPS] ^= stamp
        tally[IDS] ^= row
        before = row
        if code < 0:
            unwanted[topic] += 1
            continue
        n = tally[ROWS]
        rows[n]["t"] = stamp
        rows[n]["start"] = blob
        rows[n]["size"] = length
        rows[n]["channel"] = code
        more[n, LOCAL] = min(length, at + local - blob)
        more[n, CHAIN] = be_unsigned(data, at + local, 4) if local < payload else 0
        more[n, ROWID] = row
        tally[ROWS] = n + 1
    return 1


@kernel
def decode_all(
    data: Bytes, places: Ints, usable: int, low: Ints, high: Ints, columns: Ints, codes: np.ndarray,
    rows: np.ndarray, more: Ints, tally: Ints, unwanted: Ints, failed: Ints,
) -> None:  # fmt: skip
    """:func:`decode` for many pages, in order of row id. ``failed``: per page, cells that can't be read; -1: no leaf."""
    bounds = tally[IDS + 1 :]  # two more entries, as scratch
    for i in range(len(places)):
        before = tally[BAD]
        bounds[0], bounds[1] = low[i], high[i]
        if decode(data, places[i], usable, bounds, columns, codes, rows, more, tally, unwanted) == 0:
            failed[i] = -1
        else:
            failed[i] = tally[BAD] - before


@kernel
def tally_index(data: Bytes, place: int, usable: int, tally: Ints) -> int:
    """Add the entries of a page of the time index to ``tally``; returns how many there are, -1 where it is no such page."""
    kind = data[place]
    head = 12 if kind == INDEX_INTERIOR else 8
    cells = be_unsigned(data, place + 3, 2)
    if (kind != INDEX_INTERIOR and kind != INDEX_LEAF) or head + 2 * cells > usable:
        return -1
    end = place + usable
    for cell in range(cells):
        at = be_unsigned(data, place + head + 2 * cell, 2)
        if at < head + 2 * cells or at >= usable:
            return -1
        at += place + (4 if kind == INDEX_INTERIOR else 0)
        payload, at = varint(data, at, end)
        if at < 0 or payload < 3 or at + payload > end or data[at] != 3:
            return -1
        first, second = np.int64(data[at + 1]), np.int64(data[at + 2])
        if first > 9 or second > 9 or first == 7 or second == 7 or first == 0 or second == 0:
            return -1
        if 3 + width_of(first) + width_of(second) != payload:
            return -1
        tally[STAMPS] ^= integer(data, at + 3, first)
        tally[IDS] ^= integer(data, at + 3 + width_of(first), second)
    return cells
