"""Drift checks of several signals in plain Python: which rows there are, their scores from whole histories, the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge_monitor.core.samples import Cause, Verdict

from . import drift

Vector = Sequence[float]
FAR = 1e6


@dataclass(frozen=True)
class Mode:
    """The reference in one mode; ``matrix``: precision, or the features' weights (features, n); ``phases``: theirs."""

    centre: Vector
    scale: Vector
    sigma: Vector
    mean: Vector
    phi: Sequence[Vector]
    matrix: Sequence[Vector]
    phases: Vector = ()


@dataclass(frozen=True)
class Settings:
    """One check. ``detector``: ``mahalanobis`` (``score``: ``shift``, ``energy``, ``quiet``) or ``mmd``."""

    modes: Mapping[float, Mode]
    detector: str
    threshold: float
    score: str = "shift"
    block: int = 1
    cuts: Vector = ()
    bounds: Vector = ()
    fast: float = 0.0
    slow: float = 0.0
    gap: int = 1 << 62
    block_gap: int = 1 << 62
    resolve: float = 0.5


@dataclass
class Said:
    """After an instant: the answer before debounce, and the statistic in force."""

    verdict: Verdict
    cause: Cause = Cause.NONE
    value: float = math.nan


def quadratic(e: Vector, precision: Sequence[Vector]) -> float:
    """e' P e / n."""
    n = len(e)
    return sum(e[i] * precision[i][j] * e[j] for i in range(n) for j in range(n)) / n


def features(e: Vector, mode: Mode) -> list[float]:
    """sqrt(2 / D) cos(w'e + b)."""
    d = len(mode.phases)
    angles = [sum(w * x for w, x in zip(ws, e, strict=True)) for ws in mode.matrix]
    return [math.sqrt(2 / d) * math.cos(a + b) for a, b in zip(angles, mode.phases, strict=True)]


@dataclass
class Check:
    """One check, instant by instant."""

    settings: Settings
    n: int
    with_mode: bool = False
    force: dict[int, tuple[float, Cause]] = field(default_factory=dict)  # signal: value and cause; the last is the mode
    fresh: set[int] = field(default_factory=set)
    lags: list[list[float]] = field(default_factory=list)  # standardised rows since something was missing
    residuals: list[list[float]] = field(default_factory=list)  # of the open block
    seen: list[list[float]] = field(default_factory=list)  # features since the mode was entered
    scores: list[float] = field(default_factory=list)  # of all blocks
    entered: float | None = None
    last: int | None = None
    value: float = math.nan
    alarm: bool = False
    failed: bool = False

    def instant(self, t: int, samples: Mapping[int, float | None]) -> Said:
        """New samples (None: invalid) by signal; signal ``n`` is the mode."""
        for signal, value in samples.items():
            nan = value is not None and math.isnan(value)
            cause = Cause.INVALID if value is None else Cause.NAN if nan else Cause.NONE
            self.force[signal] = (math.nan if value is None else value, cause)
            self.fresh.add(signal)
        answer = self._answer(t)
        if answer.verdict != Verdict.UNKNOWN:
            self.failed = answer.verdict == Verdict.FAIL
        return answer

    def _answer(self, t: int) -> Said:
        absent = (math.nan, Cause.NEVER_RECEIVED)
        row = [self.force.get(i, absent) for i in range(self.n)]
        unknown = next((cause for _, cause in row if cause), Cause.NONE)
        if any(i not in self.force for i in range(self.n)):
            return Said(Verdict.UNKNOWN, unknown)
        mode, cause = self.force.get(self.n, absent) if self.with_mode else (0.0, Cause.NONE)
        if cause == Cause.NONE and mode not in self.settings.modes:
            cause = Cause.DEPENDENCY
        if cause == Cause.NONE and mode != self.entered:
            self.entered = mode
            self.seen = []
            self._anew()
        if all(i in self.fresh for i in range(self.n)):
            self.fresh = set()
            if unknown or cause:
                self.lags = []
            else:
                self._row(t, [value for value, _ in row], self.settings.modes[mode])
        if unknown or cause:
            return Said(Verdict.UNKNOWN, unknown or cause)
        return self._judge()

    def _anew(self) -> None:
        self.lags, self.residuals, self.value = [], [], math.nan
        self.alarm = False

    def _row(self, t: int, row: Vector, mode: Mode) -> None:
        gap = 0 if self.last is None else t - self.last
        self.last = t
        if gap > self.settings.gap:
            self.lags = []
            if gap > self.settings.block_gap:
                self._anew()
        z = [min(FAR, max(-FAR, (x - c) / s)) for x, c, s in zip(row, mode.centre, mode.scale, strict=True)]
        order = len(mode.phi[0])
        before, self.lags = self.lags[::-1][:order], [*self.lags, z]
        if len(before) < order:
            return
        e = []
        for i in range(self.n):
            predicted = sum(mode.phi[i][k] * before[k][i] for k in range(order))
            e.append((z[i] - predicted) / mode.sigma[i] - mode.mean[i])
        if self.settings.detector == "mmd":
            self._mmd(e, mode)
        else:
            self._mahalanobis(e, mode)

    def _mahalanobis(self, e: list[float], mode: Mode) -> None:
        self.residuals.append(e)
        block = self.settings.block
        if len(self.residuals) < block:
            return
        if self.settings.score == "shift":
            mean = [sum(one[i] for one in self.residuals) / math.sqrt(block) for i in range(self.n)]
            score = quadratic(mean, mode.matrix)
        else:
            score = sum(quadratic(one, mode.matrix) for one in self.residuals) / block
            score = -score if self.settings.score == "quiet" else score
        self.residuals = []
        self.scores.append(score)
        self.value, self.alarm = drift.edetector(
            self.scores, self.settings.threshold, self.settings.cuts, self.settings.bounds
        )[-1]

    def _mmd(self, e: list[float], mode: Mode) -> None:
        self.seen.append(features(e, mode))
        rows = len(self.seen)
        fast, slow = list(self.seen[0]), list(self.seen[0])
        for one in self.seen[1:]:
            fast = [a + self.settings.fast * (f - a) for a, f in zip(fast, one, strict=True)]
            slow = [a + self.settings.slow * (f - a) for a, f in zip(slow, one, strict=True)]
        if rows * self.settings.slow < 2.0:
            return
        self.value = math.dist(fast, slow)
        self.alarm = self.value > self.settings.threshold

    def _judge(self) -> Said:
        if math.isnan(self.value):
            return Said(Verdict.UNKNOWN, Cause.WARMING)
        evidence = self.settings.detector == "mahalanobis"
        value = max(0.0, math.log10(max(self.value, 1.0))) if evidence else self.value
        limit = math.log10(self.settings.threshold) if evidence else self.settings.threshold
        fail = self.alarm or (self.failed and value > limit * self.settings.resolve)
        return Said(Verdict.FAIL if fail else Verdict.PASS, Cause.NONE, value)
