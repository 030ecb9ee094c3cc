"""Hard-case mining: which frames of the last hour were the strangest, measured against a reference.

A frame has a score a stream (larger is stranger). Its conformal p-value is ``(1 + #{reference >= score}) / (n + 1)``
(Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random World*), and its rank is by the smallest p over streams. The
N first of each hour of event time are kept, apart for each mode.
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
LOW, BOTH, HIGH = -1, 0, 1  #: which end of a signal is strange

#: One kept frame: receive time, mode and stream that make it strange (numbers), the signal's value, its score, p.
HARD_CASE = np.dtype(
    [("t", "<i8"), ("mode", "<i8"), ("stream", "<i8"), ("value", "<f8"), ("score", "<f8"), ("p", "<f8")]
)


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """A stream: a signal of one topic, which end of it is strange, and by mode how to standardise it and the reference's
    standardised values, ascending; none in a mode that the reference does not know."""

    signal: int
    topic: str
    tail: int
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    samples: tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True)
class HardCaseSpec:
    """``top``: frames kept an hour (``span``, ns) and mode; ``worst_p``: frames with a larger p are no candidates;
    ``mode``: the signal that tells the mode, and ``modes``: its values, in the order of the streams' tuples."""

    scores: tuple[ScoreSpec, ...]
    top: int = 20
    worst_p: float = 0.01
    span: int = HOUR
    mode: int | None = None
    modes: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if not self.scores or any(
            len(s.samples) != len(self.modes) or any(np.isnan(one).any() for one in s.samples) for s in self.scores
        ):
            raise ValueError("hard cases: each stream needs reference values for each mode, none of them NaN")
        if self.top < 1 or not self.modes or self.span < 1 or not 0 < self.worst_p <= 1:
            raise ValueError("hard cases: top and span are at least 1, worst_p is in (0, 1]")


class HardCases(FlatState):
    """Keeps the strangest frames; pure, deterministic, bounded. Hours are counted from time 0 of the stream's clock."""

    def __init__(self, spec: HardCaseSpec) -> None:
        self.spec = spec
        self._references = [[_scores(one, stream.tail) for one in stream.samples] for stream in spec.scores]
        self._kept = np.zeros(len(spec.modes) * spec.top, HARD_CASE)
        self._count = np.zeros(len(spec.modes), np.int64)
        self._seen = np.zeros((2, len(spec.modes)), np.int64)
        self._hour = np.full(1, UNSEEN, np.int64)
        self._state = (self._kept, self._count, self._seen, self._hour)

    def score(self, stream: int, value: float, mode: int = 0) -> float:
        """How strange a value is: in MADs of the reference, larger is stranger; NaN where that can't be told."""
        spec = self.spec.scores[stream]
        if len(spec.samples[mode]) == 0:
            return math.nan
        z = (value - spec.centre[mode]) / spec.scale[mode]
        return abs(z) if spec.tail == BOTH else z * spec.tail

    def p_value(self, stream: int, score: float, mode: int = 0) -> float:
        """Conformal p-value of a score; NaN for a score that is NaN."""
        if math.isnan(score):
            return math.nan
        reference = self._references[stream][mode]
        larger = len(reference) - int(np.searchsorted(reference, score, "left"))
        return (1 + larger) / (len(reference) + 1)

    def offer(self, t: int, values: Sequence[float], mode: int = 0) -> None:
        """A frame received at ``t`` (ns), not in an hour before the one begun, with a value a stream (NaN: none)."""
        self._hour[0] = t // self.spec.span
        ranks = []
        for stream, value in enumerate(values):
            score = self.score(stream, value, mode)
            if not math.isnan(score):
                ranks.append((self.p_value(stream, score, mode), -score, t, stream))
        if not ranks:
            return
        self._seen[0, mode] += 1
        p, negative, _, stream = best = min(ranks)
        if p > self.spec.worst_p:
            return
        self._seen[1, mode] += 1
        top, count = self.spec.top, int(self._count[mode])
        kept = self._kept[mode * top : (mode + 1) * top]
        place = count
        if count < top:
            self._count[mode] += 1
        else:
            place = max(range(top), key=lambda i: _rank(kept[i]))
            if best[:3] >= _rank(kept[place]):
                return
        kept[place] = t, mode, stream, values[stream], -negative, p

    @property
    def due(self) -> int | None:
        """When the hour ends that has begun (ns); None before its first frame."""
        return None if self._hour[0] == UNSEEN else (int(self._hour[0]) + 1) * self.spec.span

    @property
    def seen(self) -> list[tuple[int, int]]:
        """By mode: frames with a score in this hour, and those of them with a p of at most ``worst_p``."""
        frames, candidates = self._seen.tolist()
        return list(zip(frames, candidates, strict=True))

    def finish(self) -> np.ndarray:
        """End the hour now: its HARD_CASE rows, by mode, strangest first."""
        top = self.spec.top
        rows = self._kept[np.arange(len(self._kept)) % top < np.repeat(self._count, top)]
        order = sorted(range(len(rows)), key=lambda i: (int(rows[i]["mode"]), *_rank(rows[i])))
        self._kept[:] = np.zeros(1, HARD_CASE)  # equal states have equal bytes
        self._count[:] = 0
        self._seen[:] = 0
        self._hour[0] = UNSEEN
        return np.array(rows[order])


def _scores(sample: np.ndarray, tail: int) -> np.ndarray:
    """A reference's standardised values as scores, ascending."""
    return np.sort(np.abs(sample) if tail == BOTH else sample * tail)


def _rank(row: Any) -> tuple[float, float, int]:
    """Strangest first: smallest p, then largest score, then earliest."""
    return float(row["p"]), -float(row["score"]), int(row["t"])
