"""How often and for how long would each limit have fired, and which value is exceeded 0.1 % or 1 % of the time?

A recording is stepped instant by instant through the monitor's own engine, so that every kind of check, whatever it
measures, is asked the same question; nothing is re-implemented here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_monitor.core.engine import Engine
from edge_monitor.core.messages import Batch, Damage
from edge_monitor.core.samples import FLAG_END, UNSEEN, Verdict
from edge_monitor.envelope import Envelope
from edge_monitor.events import number
from edge_monitor.runtime import Monitor

from . import readers
from .summary import CheckLine, line_of

SHARES = (0.001, 0.01, 0.5, 0.99, 0.999)


class Distribution:
    """Time-weighted distribution of a value in bounded memory.

    Exact up to ``LIMIT`` different stretches; beyond, neighbours in value are merged to ``KEPT`` weighted points (the
    outermost 1 % on each side is kept at full resolution as far as it fits, since limits live in the tails).
    """

    LIMIT = 200_000
    KEPT = 50_000

    def __init__(self) -> None:
        self._values: list[float] = []
        self._weights: list[float] = []

    def add(self, value: float, seconds: float) -> None:
        """``value`` held for ``seconds``; NaN and nothing are left out."""
        if seconds <= 0 or value != value:
            return
        self._values.append(value)
        self._weights.append(seconds)
        if len(self._values) > self.LIMIT:
            self._compress()

    def quantiles(self, shares: Sequence[float]) -> list[float | None]:
        """The smallest value that is not exceeded for ``share`` of the time, for each share; None where nothing was known."""
        if not self._values:
            return [None] * len(shares)
        values, cumulative = self._sorted()
        at = np.searchsorted(cumulative, np.asarray(shares) * cumulative[-1], side="left")
        return [float(values[min(i, len(values) - 1)]) for i in at]

    @property
    def seconds(self) -> float:
        """Time over which a value was known."""
        return float(np.sum(self._weights)) if self._weights else 0.0

    def _sorted(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        values, weights = np.asarray(self._values), np.asarray(self._weights)
        order = np.argsort(values, kind="stable")
        return values[order], np.cumsum(weights[order])

    def _compress(self) -> None:
        values, cumulative = self._sorted()
        weights = np.diff(cumulative, prepend=0.0)
        tail = self.KEPT // 4
        middle = np.array_split(np.arange(tail, len(values) - tail), self.KEPT // 2)
        groups = [np.array([i]) for i in range(tail)] + middle
        groups += [np.array([i]) for i in range(len(values) - tail, len(values))]
        self._values = [float(np.average(values[g], weights=weights[g])) for g in groups if len(g)]
        self._weights = [float(weights[g].sum()) for g in groups if len(g)]


@dataclass(slots=True)
class Exceedance:
    """One check over all recordings asked."""

    name: str
    unit: str
    fires: int = 0
    seconds: float = 0.0
    observed_s: float = 0.0
    worst: float | None = None
    worst_log: str = ""
    logs_fired: int = 0
    values: Distribution = field(default_factory=Distribution)

    def add(self, line: CheckLine, log: str, duration_s: float) -> None:
        """Count one recording's result."""
        self.fires += line.fails
        self.logs_fired += line.fails > 0
        self.seconds += line.fail_ns / 1e9
        self.observed_s += duration_s
        if line.worst is not None and (self.worst is None or line.worst < self.worst):
            self.worst, self.worst_log = line.worst, log

    def document(self) -> dict[str, Any]:
        """The result as JSON. ``quantiles``: the value that is not exceeded for that share of the time known."""
        quantiles = self.values.quantiles(SHARES)
        return {
            "check": self.name,
            "unit": self.unit,
            "fires": self.fires,
            "logs_fired": self.logs_fired,
            "fail_s": self.seconds,
            "observed_s": self.observed_s,
            "known_s": self.values.seconds,
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


@dataclass(frozen=True, slots=True)
class Survey:
    """The answer for all recordings, and what could not be read of them."""

    checks: list[Exceedance]
    damages: list[Damage]


def survey(
    paths: Sequence[Path], envelope: Envelope, *, progress: Callable[[Path, int, int], None] | None = None
) -> Survey:
    """Run every recording past the envelope's checks. Raises ``DamagedInputError`` for a file that can't be read at all."""
    results = [Exceedance(check.name, check.unit) for check in envelope.checks]
    damages: list[Damage] = []
    for path in paths:
        monitor = Monitor(envelope)
        trace = _Trace(monitor.engine, results)
        recording = readers.open(path, topics=sorted({signal.topic for signal in envelope.signals if signal.topic}))
        for item in recording:
            if isinstance(item, Damage):
                damages.append(item)
            elif isinstance(item, Batch):
                trace.follow(monitor.extractor.extract(item))
            else:
                monitor.extractor.add_channel(item)
            if progress is not None:
                progress(path, recording.position, recording.size)
        trace.finish()
        head = monitor.engine.head
        if head["now"] == UNSEEN:
            continue
        duration = (int(head["now"]) - int(head["first"])) / 1e9
        for result, spec, state in zip(results, envelope.checks, monitor.engine.checks, strict=True):
            result.add(line_of(spec, state, head), Path(path).name, duration)
    return Survey(results, damages)


class _Trace:
    """Steps an engine one instant at a time and books how long each check's value held."""

    def __init__(self, engine: Engine, results: list[Exceedance]) -> None:
        self._engine = engine
        self._results = results
        self._values = np.full(len(results), np.nan)
        self._since = np.zeros(len(results), np.int64)

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
            self._book(int(head["now"]), everything=True)

    def _book(self, t: int, *, everything: bool = False) -> None:
        states = self._engine.checks
        values = np.where(states["raw"] == Verdict.UNKNOWN, np.nan, states["value"])
        changed = (values != self._values) & ~(np.isnan(values) & np.isnan(self._values))
        for i in np.flatnonzero(changed | everything):
            self._results[i].values.add(float(self._values[i]), (t - int(self._since[i])) / 1e9)
            self._values[i] = values[i]
            self._since[i] = t
