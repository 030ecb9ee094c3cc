"""Hard-case mining: which frames of the last hour were the strangest, measured against a reference.

A frame has a score a stream (larger is stranger). Its conformal p-value is ``(1 + #{reference >= score}) / (n + 1)``
(Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random World*), and its rank is by the smallest p over streams. The
N first of each hour of event time are kept; the caller keeps their data, each in the slot that it is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..samples import UNSEEN
from .statistics import FlatState

HOUR = 3_600_000_000_000

#: One kept frame: receive time, mode, slot where the caller keeps its data, stream that makes it strange, its score, p.
HARD_CASE = np.dtype(
    [("t", "<i8"), ("mode", "<i8"), ("slot", "<i4"), ("stream", "<i4"), ("score", "<f8"), ("p", "<f8")]
)


@dataclass(frozen=True, slots=True)
class HardCaseOptions:
    """``references``: a stream's reference scores each; ``top``: frames kept an hour and mode; ``modes``: how many
    modes are kept apart; ``worst_p``: frames with a larger p are no candidates."""

    references: tuple[np.ndarray, ...]
    top: int = 10
    modes: int = 1
    worst_p: float = 0.05
    span: int = HOUR

    def __post_init__(self) -> None:
        if not self.references or any(len(r) == 0 or np.isnan(r).any() for r in self.references):
            raise ValueError("hard cases: each stream needs reference scores, none of them NaN")
        if self.top < 1 or self.modes < 1 or self.span < 1 or not 0 < self.worst_p <= 1:
            raise ValueError("hard cases: top, modes and span are at least 1, worst_p is in (0, 1]")


class HardCases(FlatState):
    """Keeps the strangest frames; pure, deterministic, bounded. Hours are counted from time 0 of the stream's clock."""

    def __init__(self, options: HardCaseOptions) -> None:
        self.options = options
        self._references = [np.sort(np.asarray(r, np.float64)) for r in options.references]
        self._kept = np.zeros(options.modes * options.top, HARD_CASE)
        self._count = np.zeros(options.modes, np.int64)
        self._hour = np.full(1, UNSEEN, np.int64)
        self._state = (self._kept, self._count, self._hour)

    def p_value(self, stream: int, score: float) -> float:
        """Conformal p-value of a score; NaN for a score that is NaN."""
        if math.isnan(score):
            return math.nan
        reference = self._references[stream]
        larger = len(reference) - int(np.searchsorted(reference, score, "left"))
        return (1 + larger) / (len(reference) + 1)

    def offer(self, t: int, scores: Sequence[float], mode: int = 0) -> tuple[int, np.ndarray]:
        """A frame received at ``t`` (ns) with a score a stream (NaN: none).

        Returns the slot in which to keep its data (in place of what was there; -1: it is not kept) and the HARD_CASE
        rows of the hour that ended before it, as :meth:`until`; those are to be read before the slot is written.
        """
        ended = self.until(t)
        self._hour[0] = t // self.options.span
        values = [(self.p_value(stream, score), -score, stream) for stream, score in enumerate(scores)]
        known = [value for value in values if not math.isnan(value[0])]
        if not known or min(known)[0] > self.options.worst_p:
            return -1, ended
        p, negative, stream = min(known)
        top, count = self.options.top, int(self._count[mode])
        kept = self._kept[mode * top : (mode + 1) * top]
        if count < top:
            place = count
            self._count[mode] += 1
        else:
            place = max(range(top), key=lambda i: _rank(kept[i]))
            if (p, negative, t) >= _rank(kept[place]):
                return -1, ended
        slot = mode * top + place
        kept[place] = t, mode, slot, stream, -negative, p
        return slot, ended

    def until(self, t: int) -> np.ndarray:
        """Let time pass to ``t``: where an hour has ended, its HARD_CASE rows, strangest first, by mode; else none."""
        if self._hour[0] == UNSEEN or t // self.options.span == self._hour[0]:
            return np.empty(0, HARD_CASE)
        return self.finish()

    def finish(self) -> np.ndarray:
        """End the hour now: its rows, as :meth:`until`."""
        top = self.options.top
        rows = self._kept[np.arange(len(self._kept)) % top < np.repeat(self._count, top)]
        order = sorted(range(len(rows)), key=lambda i: (int(rows[i]["mode"]), *_rank(rows[i])))
        self._count[:] = 0
        self._hour[0] = UNSEEN
        return np.array(rows[order])


def _rank(row: Any) -> tuple[float, float, int]:
    """Strangest first: smallest p, then largest score, then earliest."""
    return float(row["p"]), -float(row["score"]), int(row["t"])
