"""``Recent``: the items of the last while, so that an envelope that is put in force later can be judged by them.

A ring of rows, and of each signal the last ones that have left it: what was in force where the ring begins.
"""

from __future__ import annotations

import numpy as np

from .core.advance import JUMP_NS
from .core.samples import FLAG_END, ITEM_SAMPLE, ITEM_SHIFT, ITEM_SOURCE_STATUS, SAMPLE, UNSEEN
from .core.transplant import History, whole_instants

CAPACITY = 1 << 18  #: rows: 6 MiB, 13 s of 20,000 samples a second
MOST = 1 << 15  #: rows that one history has at most: so much is worked through in one turn
_NO_ROWS = np.zeros(0, SAMPLE)


class Recent:
    """Keeps items as they are taken. ``add`` costs a copy; what is late is found out when it is asked for."""

    def __init__(self, signals: int, capacity: int = CAPACITY) -> None:
        """``signals``: how many there are; ``capacity``: rows that are kept."""
        self._rows = np.zeros(capacity, SAMPLE)
        self._filled = 0
        self._since: int | None = None  #: all items after it are kept, ns; None: all there ever were
        self._reached = int(UNSEEN)  # time of the latest item that is gone
        self._last = {kind: np.zeros(signals, SAMPLE) for kind in (ITEM_SAMPLE, ITEM_SOURCE_STATUS)}
        self._has = {kind: np.zeros(signals, np.bool_) for kind in self._last}

    def add(self, items: np.ndarray) -> None:
        """Keep ``items`` ((n,) SAMPLE, whole instants in the order in which they are taken)."""
        capacity = len(self._rows)
        for at in range(0, len(items), max(capacity // 4, 1)):
            part = items[at : at + max(capacity // 4, 1)]
            if self._filled + len(part) > capacity:
                self._make_room()
            self._rows[self._filled : self._filled + len(part)] = part
            self._filled += len(part)

    def history(self, now: int, wanted: np.ndarray, most: int = MOST) -> History:
        """What is kept up to ``now`` (ns) of the signals that are ``wanted`` ((s,) bool), ``most`` rows of it at most."""
        rows = self._on_time()
        t = int(rows["t"][0]) if len(rows) else now
        since = t if self._since is None else self._since
        rows = whole_instants(rows, wanted[rows["signal"]])
        base = {kind: (last.copy(), self._has[kind].copy()) for kind, last in self._last.items()}
        if len(rows) > most:
            since = int(rows["t"][-most - 1])
            cut = int(np.searchsorted(rows["t"], since, "right"))
            _remember(rows[:cut], base)
            rows = rows[cut:]
        before = np.concatenate([last[has & wanted] for last, has in base.values()])
        before["flags"] |= np.where((before["flags"] >> ITEM_SHIFT) & 0xFF == ITEM_SAMPLE, FLAG_END, 0)
        return History(since, before[np.argsort(before["t"], kind="stable")], rows)

    def _make_room(self) -> None:
        """Let go of the older half, whole times only."""
        rows = self._on_time()
        half = len(self._rows) // 2
        cut = 0
        if len(rows) > half:
            self._since = int(rows["t"][-half - 1])
            cut = int(np.searchsorted(rows["t"], self._since, "right"))
            self._reached = self._since
            _remember(rows[:cut], {kind: (last, self._has[kind]) for kind, last in self._last.items()})
        kept = rows[cut:]
        self._rows[: len(kept)] = kept
        self._filled = len(kept)

    def _on_time(self) -> np.ndarray:
        """The rows without what came too late to be taken; all from before a step back of the clock is forgotten."""
        rows = self._rows[: self._filled]
        kind = (rows["flags"] >> ITEM_SHIFT) & 0xFF
        is_sample = kind == ITEM_SAMPLE
        reached = np.maximum(np.maximum.accumulate(rows["t"]), self._reached)
        if (reached == rows["t"]).all():
            return rows
        jumps = np.flatnonzero(is_sample & (reached - rows["t"] > JUMP_NS))
        if len(jumps):
            self._since, self._reached = None, int(UNSEEN)
            for has in self._has.values():
                has[:] = False
            rest = rows[jumps[0] :].copy()
            self._rows[: len(rest)] = rest
            self._filled = len(rest)
            return self._on_time()
        rows = rows.copy()
        rows["t"][~is_sample] = reached[~is_sample]  # commands are never late
        on_time: np.ndarray = rows[rows["t"] == reached]
        return on_time


def _remember(rows: np.ndarray, base: dict[int, tuple[np.ndarray, np.ndarray]]) -> None:
    """Make ``rows`` the last ones of their signals."""
    kinds = (rows["flags"] >> ITEM_SHIFT) & 0xFF
    for kind, (last, has) in base.items():
        mine = rows[kinds == kind]
        last[mine["signal"]] = mine  # of several rows of a signal the last one counts
        has[mine["signal"]] = True
