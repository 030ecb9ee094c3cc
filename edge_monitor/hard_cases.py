"""Which frames to look at again: the strangest of each hour, found among the values that the engine shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .core.perception.hard_cases import HardCases, HardCaseSpec
from .core.samples import TransitionKind, Verdict

VALUE, CLOCK = int(TransitionKind.VALUE), int(TransitionKind.CLOCK)


@dataclass(frozen=True, slots=True)
class Capture:
    """One frame to cut out of the recording: when it was received (ns), on which topic, by which signal, how strange.

    ``t_effective``: end of the hour that it is ranked in. ``frames`` had a score in that hour and mode, ``candidates``
    of them a p of at most ``worst_p``; by chance alone that would be about ``frames`` times ``worst_p``.
    """

    t: int
    t_effective: int
    t_decided: int
    stream: int
    mode: float
    rank: int
    value: float
    score: float
    p: float
    frames: int
    candidates: int


class HardCaseMiner:
    """Follows scores and mode. A frame is a message with a score, in the mode in force before it or in it; where no
    mode is known it is none. An hour's frames are told when it has ended, at the stream's end, and at a clock jump."""

    def __init__(self, spec: HardCaseSpec) -> None:
        self.spec = spec
        self._cases = HardCases(spec)
        self._streams = {score.signal: i for i, score in enumerate(spec.scores)}
        self._numbers = {value: i for i, value in enumerate(spec.modes)}
        self._mode = np.full(1, 0 if spec.mode is None else -1, np.int64)

    def step(self, rows: np.ndarray) -> list[Capture]:
        """Take what one instant did (its TRANSITION rows); answers what came to be told at, or before, it."""
        t, decided = int(rows[0]["t_effective"]), int(rows[0]["t_decided"])
        told = self.advance(t, decided)
        values: dict[int, float] = {}
        for row in rows:
            kind, subject = row["kind"], int(row["subject"])
            if kind == CLOCK:
                told += self.finish(t, decided)
                self._mode[0] = 0 if self.spec.mode is None else -1
            elif kind == VALUE:
                known = row["verdict"] == Verdict.PASS
                if subject == self.spec.mode:
                    self._mode[0] = self._numbers.get(float(row["value"]), -1) if known else -1
                if known and subject in self._streams:
                    values[self._streams[subject]] = float(row["value"])
        if values and self._mode[0] >= 0:
            every = [values.get(stream, math.nan) for stream in range(len(self.spec.scores))]
            self._cases.offer(t, every, int(self._mode[0]))
        return told

    def advance(self, t: int, decided: int) -> list[Capture]:
        """Let time pass to ``t`` (ns): an hour that has ended, the moment of its end being the next one's, is told."""
        due = self._cases.due
        return [] if due is None or t < due else self.finish(due, decided)

    def finish(self, t: int, decided: int) -> list[Capture]:
        """End the hour at ``t``."""
        seen, told = self._cases.seen, list[Capture]()
        rank = 0
        for row in self._cases.finish():
            mode = int(row["mode"])
            rank = rank + 1 if told and told[-1].mode == self.spec.modes[mode] else 1
            told.append(
                Capture(
                    int(row["t"]), t, decided, int(row["stream"]), self.spec.modes[mode], rank,
                    float(row["value"]), float(row["score"]), float(row["p"]), *seen[mode],
                )
            )  # fmt: skip
        return told

    def snapshot(self) -> bytes:
        """All state, for :meth:`restore` under the same envelope."""
        return self._mode.tobytes() + self._cases.snapshot()

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot. Raises ``ValueError``: it is of another kind."""
        self._cases.restore(snapshot[8:])
        self._mode[:] = np.frombuffer(snapshot[:8], np.int64)
