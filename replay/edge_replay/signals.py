"""Signals of recordings as arrays: what calibration and evaluation work on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_monitor.core.engine import Engine
from edge_monitor.core.formula.arx import Residual
from edge_monitor.core.layout import Extractor
from edge_monitor.core.messages import Batch, Damage
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_INSTANT_END, UNSEEN, Cause, TransitionKind
from edge_monitor.envelope import Envelope
from edge_monitor.surroundings import Surroundings

from . import readers
from .arx import Inputs
from .series import Array, Series


@dataclass(slots=True)
class Extract:
    """All samples of the signals asked for: per signal, and per several at once, one series a recording that has them; and
    what was damaged."""

    series: dict[str, list[Series]] = field(default_factory=dict)
    vectors: dict[tuple[str, ...], list[Series]] = field(default_factory=dict)
    damages: list[Damage] = field(default_factory=list)


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file, or of the digests of a folder's files in the order of their names."""
    if path.is_dir():
        lines = [f"{file_digest(p)} {p.relative_to(path)}\n" for p in sorted(path.rglob("*")) if p.is_file()]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def read(
    paths: Sequence[Path],
    envelope: Envelope,
    modes: Mapping[str, str],
    progress: Callable[[int, int], None] | None = None,
    *,
    vectors: Mapping[tuple[str, ...], str] | None = None,
) -> Extract:
    """Read the signals named in ``modes`` from every recording, as the engine sees them, derived ones included.

    ``modes``: per signal the name of the signal that tells its mode, or nothing; ``vectors``: the same for several at once.

    A sample that could not be read is NaN. Raises ``DamagedInputError`` for a file that can't be read at all.
    """
    vectors = vectors or {}
    result = Extract({name: [] for name in modes}, {names: [] for names in vectors})
    wanted = {*modes, *(mode for mode in (*modes.values(), *vectors.values()) if mode)}
    wanted |= {name for names in vectors for name in names}
    for path, rows, instants, index in values(paths, envelope, wanted, result.damages, progress):
        digest = file_digest(path)
        of = {name: _one(rows[rows["subject"] == index[name]]) for name in wanted}
        for name, mode in modes.items():
            t, x = of[name]
            if len(t) > 1:
                in_force = _in_force(t, *of[mode]) if mode else None
                result.series[name].append(Series(path.name, digest, t, x, in_force))
        for names, mode in vectors.items():
            t, x = _together(rows, instants, [index[name] for name in names])
            if len(t) > 1:
                in_force = _in_force(t, *of[mode]) if mode else None
                result.vectors[names].append(Series(path.name, digest, t, x, in_force))
    return result


def read_inputs(
    paths: Sequence[Path],
    envelope: Envelope,
    residuals: Mapping[str, Residual],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[Inputs]]:
    """The inputs of residual signals from every recording that has the response; commands as in force when it is sampled."""
    wanted = {name for residual in residuals.values() for name in residual.signals()}
    result: dict[str, list[Inputs]] = {name: [] for name in residuals}
    for path, rows, instants, index in values(paths, with_models(envelope, {}), wanted, [], progress):
        digest = file_digest(path)
        for name, residual in residuals.items():
            of = rows["subject"] == index[residual.response]
            t, x, forward = _forward(rows[of])
            u = []
            for command in residual.commands:
                told = rows["subject"] == index[command]
                u.append(_in_force(instants[of][forward], instants[told], rows["value"][told]))
            if len(t) > 1:
                result[name].append(Inputs(path.name, digest, t, x, None, np.column_stack(u)))
    return result


def with_models(envelope: Envelope, models: Mapping[str, Residual]) -> Envelope:
    """The envelope with these residuals by the names of their signals; the others are never received, whatever its files
    say."""
    return replace(
        envelope, signals=tuple(replace(signal, residual=models.get(signal.name)) for signal in envelope.signals)
    )


def values(
    paths: Sequence[Path],
    envelope: Envelope,
    wanted: Collection[str],
    damages: list[Damage],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Path, np.ndarray, np.ndarray, dict[str, int]]]:
    """What the engine tells of the values of the signals ``wanted``, for each recording with anything at all.

    Answers the path, TRANSITION rows, the number of the instant of each, and the subjects by name. Damage met on the way
    is put into ``damages``.
    """
    signals = envelope.signals
    watched = [replace(signal, watch="each" if signal.name in wanted else "") for signal in signals]
    index = {signal.name: i for i, signal in enumerate(signals)}
    for path in paths:
        extractor, engine = Extractor(signals), Engine(Plan.build(watched, []))
        surroundings = Surroundings(envelope)
        recording = readers.open(path, topics=sorted({signal.topic for signal in signals if signal.topic}))
        parts = []
        for item in recording:
            if isinstance(item, Damage):
                damages.append(item)
            elif isinstance(item, Batch):
                parts.append(engine.advance(surroundings.fill(item, extractor.extract(item))))
            else:
                extractor.add_channel(item)
                surroundings.add_channel(item)
            if progress is not None:
                progress(recording.position, recording.size)
        if parts:
            rows = np.concatenate(parts)
            ends = (rows["flags"] & FLAG_INSTANT_END) != 0
            told = rows["kind"] == TransitionKind.VALUE
            yield Path(path), rows[told], (np.cumsum(ends) - ends)[told], index


def _one(rows: np.ndarray) -> tuple[np.ndarray, Array]:
    """Times and values of one signal; what follows a step back of the clock is left out."""
    t, x, _ = _forward(rows)
    return t, x


def _forward(rows: np.ndarray) -> tuple[np.ndarray, Array, np.ndarray]:
    """The same, and which rows they are."""
    t = rows["t_effective"].astype(np.int64)
    sampled = rows["cause"] != Cause.STALE  # a deadline, no sample
    forward = sampled & (t >= np.maximum.accumulate(np.where(sampled, t, UNSEEN)))
    return t[forward], rows["value"][forward], forward


def _together(
    rows: np.ndarray, instant: npt.NDArray[np.int64], subjects: Sequence[int]
) -> tuple[npt.NDArray[np.int64], Array]:
    """Times and rows of several signals, as a drift check makes them up: at the end of the first ``instant`` by which every
    one has had a new sample since the last row, the values in force; all NaN where one is unknown."""
    place = {subject: i for i, subject in enumerate(subjects)}
    chosen = np.isin(rows["subject"], subjects)
    rows, instant = rows[chosen], instant[chosen]
    columns = (rows[name].tolist() for name in ("t_effective", "subject", "cause", "value"))
    force, fresh = [math.nan] * len(subjects), [False] * len(subjects)
    t_of: list[int] = []
    made: list[list[float]] = []
    last = -1 << 62
    ends = np.append(np.diff(instant) != 0, True).tolist() if len(rows) else []
    for t, subject, cause, value, end in zip(*columns, ends, strict=True):
        i = place[subject]
        force[i] = value if cause == Cause.NONE else math.nan
        fresh[i] = fresh[i] or cause != Cause.STALE  # a deadline, no sample
        if end and all(fresh):
            fresh = [False] * len(subjects)
            if t >= last:  # what follows a step back of the clock is left out
                last = t
                t_of.append(t)
                made.append(force.copy() if not any(map(math.isnan, force)) else [math.nan] * len(force))
    return np.array(t_of, np.int64), np.array(made, np.float64).reshape(-1, len(subjects))


def _in_force(t: np.ndarray, mode_t: np.ndarray, mode_x: Array) -> Array:
    """The mode's last value at each time; NaN before its first."""
    if not len(mode_t):
        return np.full(len(t), np.nan)
    at = np.searchsorted(mode_t, t, side="right") - 1
    return np.where(at >= 0, mode_x[np.maximum(at, 0)], np.nan)
