"""``Recent``: the items of the last while, so that an envelope that is put in force later can be judged by them.

Rows in pieces, the oldest of which is let go of when there are too many, and of each signal the last one that has gone:
what was in force where the rows begin.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from .core.advance import JUMP_NS
from .core.samples import FLAG_END, ITEM_SAMPLE, ITEM_SHIFT, ITEM_SOURCE_STATUS, SAMPLE, UNSEEN
from .core.transplant import History, whole_instants

ROW = SAMPLE.itemsize
CAPACITY = 1 << 18  #: rows: 6 MiB, 13 s of 20,000 samples a second
PIECES = 64  #: that they are in: letting go of one takes a fraction of a turn
MOST = 1 << 15  #: rows that one history has at most: so much is worked through in one turn
#: By kind of item: the last one of each signal, and whether there is one.
_Base = dict[int, tuple[np.ndarray, np.ndarray]]


class Recent:
    """Keeps items as they are taken. ``add`` costs a copy; what is late is found out when it is asked for, or let go of."""

    def __init__(self, signals: int, capacity: int = CAPACITY) -> None:
        """``signals``: how many there are; ``capacity``: rows that are kept, about."""
        self._size = max(capacity // PIECES, 1)
        self._pieces: deque[np.ndarray] = deque()
        self._most = max(capacity // self._size, 2)
        self._filled = 0  # rows of the newest piece
        self._begin(np.zeros(self._size, SAMPLE))
        self._since: int | None = None  # all items after it are kept, ns; None: all there ever were
        self._reached = int(UNSEEN)  # time of the latest item that is gone
        self._base: _Base = {
            kind: (np.zeros(signals, SAMPLE), np.zeros(signals, np.bool_)) for kind in (ITEM_SAMPLE, ITEM_SOURCE_STATUS)
        }

    def add(self, items: np.ndarray) -> None:
        """Keep ``items`` ((n,) SAMPLE, whole instants in the order in which they are taken)."""
        while len(items) > (room := self._size - self._filled):
            self._put(items[:room])
            items = items[room:]
            self._begin_piece()
        self._put(items)

    def _put(self, items: np.ndarray) -> None:
        begin, self._filled = self._filled, self._filled + len(items)
        self._newest[begin * ROW : self._filled * ROW] = items.tobytes()  # NumPy copies rows a field at a time

    def history(self, now: int, wanted: np.ndarray, most: int = MOST) -> History:
        """What is kept up to ``now`` (ns) of the signals that are ``wanted`` ((s,) bool), ``most`` rows of it at most."""
        kept = np.concatenate([*list(self._pieces)[:-1], self._pieces[-1][: self._filled]])
        rows, _, anew = _on_time(kept, self._reached)
        since = None if anew else self._since
        base = {kind: (last.copy(), has & (not anew)) for kind, (last, has) in self._base.items()}
        if since is not None:  # what is left of a time that has gone goes with it
            cut = int(np.searchsorted(rows["t"], since, "right"))
            _remember(rows[:cut], base)
            rows = rows[cut:]
        else:
            since = int(rows["t"][0]) if len(rows) else now
        rows = whole_instants(rows, wanted[rows["signal"]])
        if len(rows) > most:
            since = int(rows["t"][-most - 1])
            cut = int(np.searchsorted(rows["t"], since, "right"))
            _remember(rows[:cut], base)
            rows = rows[cut:]
        before = np.concatenate([last[has & wanted] for last, has in base.values()])
        before["flags"] |= np.where((before["flags"] >> ITEM_SHIFT) & 0xFF == ITEM_SAMPLE, FLAG_END, 0)
        return History(since, before[np.argsort(before["t"], kind="stable")], rows)

    def _begin_piece(self) -> None:
        """Begin another piece: the oldest one, of which the last items are remembered, where there are enough."""
        if len(self._pieces) < self._most:
            self._begin(np.zeros(self._size, SAMPLE))
        else:
            piece = self._pieces.popleft()
            rows, self._reached, anew = _on_time(piece, self._reached)
            if anew:
                for _, has in self._base.values():
                    has[:] = False
            _remember(rows, self._base)
            self._since = self._reached
            self._begin(piece)

    def _begin(self, piece: np.ndarray) -> None:
        self._pieces.append(piece)
        self._newest = piece.view(np.uint8).data  # its bytes
        self._filled = 0


def _on_time(rows: np.ndarray, reached: int) -> tuple[np.ndarray, int, bool]:
    """The rows without what came too late to be taken, where ``reached`` (ns) is the latest time before them; the latest time
    after them; whether the clock stepped back among them, so that all from before that is forgotten."""
    anew = False
    while True:
        before = np.maximum(np.maximum.accumulate(rows["t"]), reached)
        if not len(rows) or (before == rows["t"]).all():
            return rows, int(before[-1]) if len(rows) else reached, anew
        is_sample = (rows["flags"] >> ITEM_SHIFT) & 0xFF == ITEM_SAMPLE
        jumps = np.flatnonzero(is_sample & (before - rows["t"] > JUMP_NS))
        if not len(jumps):
            rows = rows.copy()
            rows["t"][~is_sample] = before[~is_sample]  # commands are never late
            return rows[rows["t"] == before], int(before[-1]), anew
        rows, reached, anew = rows[jumps[0] :], int(UNSEEN), True


def _remember(rows: np.ndarray, base: _Base) -> None:
    """Make ``rows`` the last ones of their signals."""
    kinds = (rows["flags"] >> ITEM_SHIFT) & 0xFF
    for kind, (last, has) in base.items():
        mine = rows[kinds == kind]
        last[mine["signal"]] = mine  # of several rows of a signal the last one counts
        has[mine["signal"]] = True
