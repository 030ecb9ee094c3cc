"""A signal of a recording as arrays, its division into folds, and its samples on a regular grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Shares of the reference: fitting, thresholds, certifying. The last counts exceedances, hence the largest.
FOLDS = (0.25, 0.25, 0.5)
FIT, SET, CERTIFY = range(3)
#: An interval of more than so many periods is a gap.
GAP_PERIODS = 2.5
#: Recordings whose periods differ by more than this factor are no one signal.
ALIKE_PERIODS = 1.5
#: More gaps than this share of the samples are no steady rate.
MOST_GAPS = 0.05


@dataclass(frozen=True, slots=True)
class Series:
    """One signal in one recording: ``t`` (n,) int64 ns, ascending; ``x`` (n,) float64, NaN where unknown; ``mode`` (n,)
    the mode signal in force at each sample (NaN where unknown), or None where the signal has no modes. Of several signals
    at once, ``x`` is (n, signals), a row being NaN where one of them is unknown."""

    source: str
    digest: str
    t: npt.NDArray[np.int64]
    x: Array
    mode: Array | None = None

    @property
    def seconds(self) -> float:
        """From the first to the last sample."""
        return float(self.t[-1] - self.t[0]) / 1e9 if len(self.t) > 1 else 0.0

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """(n,): which samples are finite numbers."""
        finite: npt.NDArray[np.bool_] = np.isfinite(self.x)
        return finite if finite.ndim == 1 else finite.all(axis=1)

    def part(self, start: float, end: float) -> Series:
        """The samples between two shares of its number."""
        a, b = round(start * len(self.t)), round(end * len(self.t))
        return Series(self.source, self.digest, self.t[a:b], self.x[a:b], None if self.mode is None else self.mode[a:b])


def period_of(series: Sequence[Series]) -> float:
    """Median interval in seconds; 0 where there are not two samples."""
    intervals = [np.diff(one.t) for one in series if len(one.t) > 1]
    return float(np.median(np.concatenate(intervals))) / 1e9 if intervals else 0.0


def by_recording(series: Sequence[Series]) -> tuple[list[list[Series]], bool]:
    """The folds, and whether they consist of whole recordings.

    Three or more recordings: the longest goes first to the fold that lacks most. Fewer: each is cut in three, in order,
    so that the folds are neighbours of one drive and know nothing of another.
    """
    folds: list[list[Series]] = [[], [], []]
    if len(series) < len(FOLDS):
        edges = np.cumsum((0.0, *FOLDS))
        for one in series:
            for fold, start, end in zip(folds, edges, edges[1:], strict=False):
                fold.append(one.part(float(start), float(end)))
        return folds, False
    total = sum(one.seconds for one in series) or 1.0
    lacking = [share * total for share in FOLDS]
    for place, one in enumerate(sorted(series, key=lambda one: (-one.seconds, one.source))):
        empty = [i for i in range(len(FOLDS)) if not folds[i]]
        choice = empty if len(series) - place <= len(empty) else range(len(FOLDS))
        fold_index = max(choice, key=lambda i: lacking[i])
        folds[fold_index].append(one)
        lacking[fold_index] -= one.seconds
    return folds, True


def rate_problems(series: Sequence[Series], period: float) -> list[str]:
    """What speaks against a model of samples that are ``period`` seconds apart."""
    problems = []
    periods = [period_of([one]) for one in series]
    if max(periods) > ALIKE_PERIODS * min(periods):
        problems.append(f"the recordings have different rates ({1 / max(periods):.4g} to {1 / min(periods):.4g} Hz)")
    gaps = sum(int((np.diff(one.t) / 1e9 > GAP_PERIODS * period).sum()) for one in series)
    if gaps > MOST_GAPS * sum(len(one.t) for one in series):
        problems.append(f"{gaps} gaps: the samples don't come at a steady rate, which whitening and prediction need")
    return problems


def sources(folds: Sequence[Sequence[Series]]) -> list[dict[str, object]]:
    """Each recording, its digest, and what of it went into which fold."""
    return [
        {"name": one.source, "sha256": one.digest, "fold": name, "samples": len(one.t), "seconds": one.seconds}
        for name, fold in zip(("fit", "set", "certify"), folds, strict=True)
        for one in fold
    ]


def regular(one: Series, period: float, block: int, mode: float | None = None, skip: int = 0) -> Array:
    """The samples in ``mode`` with NaN where one is missing, as the pipeline's batch form takes them.

    A short gap is one NaN; a gap longer than a block, a change of mode, and the end are ``block + 1`` of them, which
    start the block anew. ``skip``: samples left out at the start.
    """
    x, t = one.x[skip:], one.t[skip:]
    other = np.zeros(len(x), bool) if mode is None or one.mode is None else one.mode[skip:] != mode
    if len(x) == 0:
        return np.full((block + 1, *x.shape[1:]), np.nan)
    steps = np.diff(t, append=t[-1:]) / 1e9
    missing = np.where(steps > GAP_PERIODS * period, 1, 0)
    missing[steps > max(block, 10) * period] = block + 1
    leaves = np.append(~other[:-1] & other[1:], False)
    missing[leaves] = block + 1
    missing[-1] = block + 1
    places = np.where(other, 0, 1 + missing)
    result = np.full((int(places.sum()), *x.shape[1:]), np.nan)
    result[(np.cumsum(places) - places)[~other]] = x[~other]
    return result
