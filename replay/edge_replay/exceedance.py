"""How often and for how long would each limit have fired, and which value is exceeded 0.1 % or 1 % of the time?

A recording is stepped instant by instant through the monitor's own engine, so that every kind of check, whatever it
measures, is asked the same question; nothing is re-implemented here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.messages import Batch, Damage
from edge_monitor.core.samples import FLAG_END, UNSEEN, Verdict
from edge_monitor.envelope import Envelope
from edge_monitor.errors import DamagedInputError
from edge_monitor.events import number
from edge_monitor.runtime import Monitor

from . import readers
from .summary import CheckLine, line_of

SHARES = (0.001, 0.01, 0.5, 0.99, 0.999)
STATES = ("one_of", "equals")  #: kinds whose values are names, not quantities


class Distribution:
    """Time-weighted distribution of a value in bounded memory.

    Exact up to ``LIMIT`` stretches; beyond, neighbours in value are merged to about ``KEPT`` weighted points, of which the
    outermost quarters stay single, since limits live in the tails.
    """

    LIMIT = 200_000
    KEPT = 50_000

    def __init__(self) -> None:
        self._values: list[float] = []
        self._weights: list[float] = []

    def __len__(self) -> int:
        """Points held now."""
        return len(self._values)

    def add(self, value: float, seconds: float) -> None:
        """``value`` held for ``seconds``; NaN and nothing are left out."""
        if seconds <= 0 or math.isnan(value):
            return
        self._values.append(value)
        self._weights.append(seconds)
        if len(self._values) > self.LIMIT:
            self._compress()

    def quantiles(self, shares: Sequence[float]) -> list[float | None]:
        """For each share the smallest value that is not exceeded for so much of the time; None where nothing was known."""
        if not self._values:
            return [None] * len(shares)
        values, weights = self._sorted()
        cumulative = np.cumsum(weights)
        at = np.searchsorted(cumulative, np.asarray(shares) * cumulative[-1], side="left")
        return [float(values[min(i, len(values) - 1)]) for i in at]

    @property
    def seconds(self) -> float:
        """Time over which a value was known."""
        return float(np.sum(self._weights)) if self._weights else 0.0

    def _sorted(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        values, weights = np.asarray(self._values), np.asarray(self._weights)
        order = np.argsort(values, kind="stable")
        return values[order], weights[order]

    def _compress(self) -> None:
        values, weights = self._sorted()
        tail = self.KEPT // 4
        middle = np.linspace(tail, len(values) - tail, self.KEPT // 2, endpoint=False).astype(np.intp)
        starts = np.concatenate([np.arange(tail), middle, np.arange(len(values) - tail, len(values))])
        merged = np.add.reduceat(weights, starts)
        means = np.add.reduceat(values * weights, starts) / merged
        means[:tail], means[-tail:] = values[:tail], values[-tail:]  # infinities included
        self._values, self._weights = means.tolist(), merged.tolist()


class Ages(Distribution):
    """Distribution over time of the age of the newest message: within a gap it runs from 0 to the gap's length."""

    def gap(self, seconds: float) -> None:
        """Nothing came for ``seconds``."""
        if seconds > 0:
            self.add(seconds, 1.0)

    def quantiles(self, shares: Sequence[float]) -> list[float | None]:
        """For each share the age that is not exceeded for so much of the time."""
        if not self._values:
            return [None] * len(shares)
        gaps, counts = self._sorted()
        # Time spent at an age of at most x: whole gaps up to x, and x of each longer one; linear between gaps.
        longer = counts.sum() - np.cumsum(counts)
        spent = np.concatenate([[0.0], np.cumsum(gaps * counts) + gaps * longer])
        found = np.interp(np.asarray(shares) * spent[-1], spent, np.concatenate([[0.0], gaps]))
        return [float(age) for age in found]

    @property
    def seconds(self) -> float:
        """Time covered by the gaps."""
        return float(np.dot(self._values, self._weights)) if self._values else 0.0


@dataclass(slots=True)
class Exceedance:
    """One check over all recordings asked. ``values`` has no quantiles for checks on states."""

    name: str
    kind: str
    unit: str
    limits: tuple[float | None, float | None]
    values: Distribution
    fires: int = 0
    seconds: float = 0.0
    unknown_s: float = 0.0
    observed_s: float = 0.0
    worst: float | None = None
    worst_log: str = ""
    logs_fired: int = 0

    @classmethod
    def of(cls, spec: CheckSpec) -> Exceedance:
        """Nothing yet, for one check."""
        values = Ages() if spec.kind == "stale" else Distribution()
        return cls(spec.name, spec.kind, spec.unit, limits_of(spec), values)

    def add(self, line: CheckLine, log: str, duration_s: float) -> None:
        """Count one recording's result."""
        self.fires += line.fails
        self.logs_fired += line.fails > 0
        self.seconds += line.fail_ns / 1e9
        self.unknown_s += line.unknown_ns / 1e9
        self.observed_s += duration_s
        if line.worst is not None and (self.worst is None or line.worst < self.worst):
            self.worst, self.worst_log = line.worst, log

    @property
    def never_known(self) -> bool:
        """Unknown from beginning to end, in all recordings; a formula may be known without a value."""
        return not len(self.values) and not self.fires and self.unknown_s >= self.observed_s - 1e-6

    def document(self) -> dict[str, Any]:
        """The result as JSON. ``quantiles``: the value that is not exceeded for that share of the time known."""
        quantiles = [None] * len(SHARES) if self.kind in STATES else self.values.quantiles(SHARES)
        return {
            "check": self.name,
            "kind": self.kind,
            "unit": self.unit,
            "min": self.limits[0],
            "max": self.limits[1],
            "fires": self.fires,
            "logs_fired": self.logs_fired,
            "fail_s": self.seconds,
            "unknown_s": self.unknown_s,
            "observed_s": self.observed_s,
            "worst_margin": None if self.worst is None else number(self.worst),
            "worst_log": self.worst_log,
            "quantiles": {
                f"{share:g}": None if q is None else number(q) for share, q in zip(SHARES, quantiles, strict=True)
            },
            "exceeded_1_percent_of_time": None if quantiles[3] is None else number(quantiles[3]),
            "exceeded_0.1_percent_of_time": None if quantiles[4] is None else number(quantiles[4]),
            "below_1_percent_of_time": None if quantiles[1] is None else number(quantiles[1]),
            "below_0.1_percent_of_time": None if quantiles[0] is None else number(quantiles[0]),
        }


def limits_of(spec: CheckSpec) -> tuple[float | None, float | None]:
    """Lower and upper limit in the check's unit; None where there is none."""
    scale = 1e-9 if spec.kind in ("stale", "jitter") else 1.0
    names = ("", "covariance_max") if spec.kind == "valid" else ("min", "max")
    low, high = (spec.params.get(name, math.inf) * scale for name in names)
    return (low if math.isfinite(low) else None), (high if math.isfinite(high) else None)


@dataclass(slots=True)
class Survey:
    """The answer for all recordings, and what could not be read of them."""

    checks: list[Exceedance]
    damages: list[Damage] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)  #: why a recording counts for nothing, one line each
    problems: list[str] = field(default_factory=list)  #: fields that a recording does not have, one line each


def survey(
    paths: Sequence[Path], envelope: Envelope, *, progress: Callable[[Path, int, int], None] | None = None
) -> Survey:
    """Run every recording past the envelope's checks; ``progress`` gets (recording, bytes read, bytes in all)."""
    found = Survey([Exceedance.of(check) for check in envelope.checks])
    for path in paths:
        try:
            _follow(Path(path), envelope, found, progress)
        except DamagedInputError as error:
            found.unreadable.append(str(error))
    return found


def _follow(path: Path, envelope: Envelope, found: Survey, progress: Callable[[Path, int, int], None] | None) -> None:
    monitor = Monitor(envelope)
    trace = _Trace(monitor, found.checks)
    recording = readers.open(path, topics=sorted({signal.topic for signal in envelope.signals if signal.topic}))
    for item in recording:
        if isinstance(item, Damage):
            found.damages.append(item)
        elif isinstance(item, Batch):
            trace.follow(monitor.surroundings.fill(item, monitor.extractor.extract(item)))
        else:
            problems = monitor.extractor.add_channel(item) + monitor.surroundings.add_channel(item)
            found.problems += [f"{path.name}: {problem.message}" for problem in problems]
        if progress is not None:
            progress(path, recording.position, recording.size)
    trace.finish()
    head = monitor.engine.head
    if head["now"] == UNSEEN:
        return
    for result, spec, state in zip(found.checks, envelope.checks, monitor.engine.checks, strict=True):
        result.add(line_of(spec, state, head), path.name, trace.seconds)


class _Trace:
    """Steps an engine one instant at a time and books how long each check's value held."""

    def __init__(self, monitor: Monitor, results: list[Exceedance]) -> None:
        self._engine = monitor.engine
        self._results = results
        self._values = np.full(len(results), np.nan)
        self._since = np.zeros(len(results), np.int64)
        names = [signal.name for signal in monitor.envelope.signals]
        specs = monitor.envelope.checks
        self._heard = {i: UNSEEN for i, spec in enumerate(specs) if spec.kind == "stale"}
        self._last: int | None = None
        self.seconds = 0.0  #: of the stream, steps back of its clock left out
        self._source = {i: names.index(specs[i].signals[0]) for i in self._heard}

    def follow(self, samples: np.ndarray) -> None:
        start = 0
        for end in np.flatnonzero(samples["flags"] & FLAG_END):
            self._engine.advance(samples[start : end + 1])
            self._book(int(samples[end]["t"]))
            start = int(end) + 1

    def finish(self) -> None:
        head = self._engine.head
        if head["now"] != UNSEEN:
            self._engine.finish(int(head["now"]))
            self._book(int(head["now"]), end=True)

    def _book(self, t: int, *, end: bool = False) -> None:
        self.seconds += 0.0 if self._last is None else max(0, t - self._last) / 1e9
        self._last = t
        states = self._engine.checks
        values = np.where(states["raw"] == Verdict.UNKNOWN, np.nan, states["value"])
        changed = (values != self._values) & ~(np.isnan(values) & np.isnan(self._values))
        for i in np.flatnonzero(changed | end):
            if i not in self._heard:
                self._results[i].values.add(float(self._values[i]), (t - int(self._since[i])) / 1e9)
            self._values[i] = values[i]
            self._since[i] = t
        self._book_gaps(t, end)

    def _book_gaps(self, t: int, end: bool) -> None:
        signals = self._engine.signals
        for i, before in self._heard.items():
            heard = signals[self._source[i]]
            now = t if end else int(heard["t"]) if heard["count"] else UNSEEN
            values = self._results[i].values
            if now != before and before != UNSEEN and now != UNSEEN and isinstance(values, Ages):
                values.gap((now - before) / 1e9)
            self._heard[i] = now
