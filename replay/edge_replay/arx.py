"""Models of a response from its commands, fitted to recordings in which all was well: ARX by least squares.

Orders and delay are those of the smallest BIC (L. Ljung, System Identification, 1999, §16.4) over na = 0..6, nb = 1..6 and
delays 0..10, all judged on the same samples of the first fold; how well the model predicts is judged on the last one, by
the kernel that runs on board. Ridge regression only where least squares is ill-conditioned, and then it is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2  # type: ignore[import-untyped]

from edge_monitor import __version__
from edge_monitor.core.engine import Engine
from edge_monitor.core.formula.arx import MAX_DELAY, MAX_ORDER, Arx, Residual
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, SAMPLE, Verdict
from edge_monitor.core.signals import Signal
from edge_monitor.residual_models import FORMAT, ResidualModel

from .series import CERTIFY, FIT, GAP_PERIODS, Series, by_recording, period_of, rate_problems, regular, sources

Array = npt.NDArray[np.float64]

#: Samples before the one that is predicted, for the longest candidate.
BACK = MAX_DELAY + MAX_ORDER - 1
#: Samples that fitting and judging need at least, and fitting also for each coefficient of the largest candidate.
LEAST, LEAST_EACH = 200, 10
#: From this condition number of the normal equations on, ridge regression with this share of the variance is used.
ILL_CONDITIONED, RIDGE = 1e10, 1e-8
#: Lags of the test whether residuals are white.
LAGS = 20
_CHUNK = 50_000


@dataclass(frozen=True, slots=True)
class Inputs(Series):
    """A response in one recording (``t``, ``x``), and ``u`` (n, commands): what was in force of each command at its
    samples, NaN where unknown."""

    u: Array = field(default_factory=lambda: np.empty((0, 1)))

    def part(self, start: float, end: float) -> Inputs:
        """The samples between two shares of its number."""
        a, b = round(start * len(self.t)), round(end * len(self.t))
        return Inputs(self.source, self.digest, self.t[a:b], self.x[a:b], None, self.u[a:b])


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What is asked for: the names and units of response and commands."""

    response: str
    commands: tuple[str, ...]
    unit: str = ""
    command_units: tuple[str, ...] = ()
    author: str = ""


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums of squares and products of a fold over standardised regressors: ``(m, m)``, ``(m,)``, response squared, rows.

    The regressors are 1, the response's last six samples, and of each command the present and the last 15.
    """

    gram: Array
    moment: Array
    power: float
    rows: int

    def error(self, columns: Sequence[int], theta: Array) -> float:
        """Sum of squared errors of a prediction from some of the regressors."""
        gram = self.gram[np.ix_(columns, columns)]
        squares = self.power - 2 * float(theta @ self.moment[columns]) + float(theta @ gram @ theta)
        return max(squares, 1e-14 * self.power)


@dataclass(frozen=True, slots=True)
class _Candidate:
    na: int
    nb: int
    delay: int
    columns: list[int]
    theta: Array
    error: float
    bic: float
    ridge: bool


def fit_model(series: Sequence[Inputs], request: ModelRequest) -> ResidualModel:
    """The model of one residual from ``series``, one a recording; ``header["reasons"]`` says why it is not usable.

    Raises ``ValueError`` when there is too little to fit.
    """
    series = [one for one in series if (np.isfinite(one.x) & np.isfinite(one.u).all(axis=1)).sum() > 1]
    period = period_of(series)
    if period <= 0:
        raise ValueError(f"signal {request.response}: no recording holds two samples of it with all its commands")
    folds, _ = by_recording(series)
    inputs = [[one for one in fold if isinstance(one, Inputs)] for fold in folds]
    centre, scale = _standard(inputs[FIT])
    fitted = _sums(inputs[FIT], period, centre, scale)
    commands = len(request.commands)
    needed = max(LEAST, LEAST_EACH * (1 + MAX_ORDER * (1 + commands)))
    if fitted.rows < needed:
        raise ValueError(
            f"signal {request.response}: {fitted.rows} samples to fit on that have all inputs and their past "
            f"without a gap; {needed} are needed"
        )
    ar = min((_solve(fitted, commands, na, 0, 0) for na in range(MAX_ORDER + 1)), key=lambda one: one.bic)
    best = min(
        (
            _solve(fitted, commands, na, nb, delay)
            for na in range(MAX_ORDER + 1)
            for nb in range(1, MAX_ORDER + 1)
            for delay in range(MAX_DELAY + 1)
        ),
        key=lambda one: one.bic,
    )
    arx = _in_units(best, round(period * 1e9), centre, scale)
    report = _judge(arx, inputs, _sums(inputs[CERTIFY], period, centre, scale), ar, best)
    still = [name for name, column in zip(request.commands, range(commands), strict=True) if scale[1 + column] == 0]
    header = {
        "format": FORMAT,
        "response": request.response,
        "commands": list(request.commands),
        "unit": request.unit,
        "command_units": list(request.command_units or ("",) * commands),
        "author": request.author,
        "made_by": f"edge-monitor {__version__}",
        "period_ns": arx.period,
        "na": best.na,
        "nb": best.nb,
        "delay": best.delay,
        "ridge": RIDGE if best.ridge else 0.0,
        "sources": sources(folds),
        **report,
        "reasons": _reasons(series, period, still, ar, best, arx, report),
    }
    return ResidualModel({**header, "usable": not header["reasons"]}, arx)


def residual_series(arx: Arx, one: Inputs) -> Array:
    """(n,) the residual at each sample, NaN where unknown: the engine's own, each sample being an instant with its inputs."""
    commands = one.u.shape[1]
    names = tuple(f"u{j}" for j in range(commands))
    signals = [Signal(name, "/") for name in names]
    signals += [Signal("y", "/", watch="each"), Signal("e", "", residual=Residual("y", names, arx), watch="each")]
    items = np.zeros((len(one.t), commands + 1), SAMPLE)
    items["t"] = one.t[:, None]
    items["signal"] = np.arange(commands + 1)
    items["value"] = np.column_stack([one.u, one.x])
    items["flags"][:, -1] = FLAG_END
    rows = Engine(Plan.build(signals, [])).advance(items.reshape(-1))
    rows = rows[rows["verdict"] == Verdict.PASS]
    # Each known sample of the response has a row, which that of its residual follows.
    sample = np.cumsum(rows["subject"] == commands) - 1
    told = rows["subject"] == commands + 1
    result = np.full(len(one.t), np.nan)
    result[np.flatnonzero(~np.isnan(one.x))[sample[told]]] = rows["value"][told]
    return result


def whiteness(parts: Sequence[Array], lags: int = LAGS) -> tuple[float, float]:
    """Ljung and Box (1978): the probability of autocorrelations so large over ``lags`` if there were none, and the largest.

    NaN separates what does not follow each other.
    """
    e = np.concatenate([np.append(part, np.full(lags, np.nan)) for part in parts])
    known = np.isfinite(e)
    n = int(known.sum())
    e = np.where(known, e - e[known].mean(), 0.0)
    variance = float(e @ e) / n
    if variance <= 0:
        return 1.0, 0.0
    q, largest = 0.0, 0.0
    for k in range(1, lags + 1):
        pairs = int((known[k:] & known[:-k]).sum())
        if pairs < 2:
            continue
        rho = float(e[k:] @ e[:-k]) / pairs / variance
        q += pairs * rho * rho  # of n (n + 2) / (n - k), what gaps leave
        largest = max(largest, abs(rho))
    return float(chi2.sf(q, lags)), largest


def _standard(fold: Sequence[Inputs]) -> tuple[Array, Array]:
    """Mean and deviation of response and commands, 0 where one does not move."""
    values = np.concatenate([np.column_stack([one.x, one.u]) for one in fold])
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        return np.zeros(values.shape[1]), np.zeros(values.shape[1])
    centre, scale = values.mean(axis=0), values.std(axis=0)
    return centre, np.where(scale > 1e-9 * np.abs(centre), scale, 0.0)


def _rows(one: Inputs, period: float, centre: Array, scale: Array) -> Iterator[tuple[Array, Array]]:
    """Regressors and response, standardised, of the samples that have all inputs and their past without a gap."""
    known = np.isfinite(one.x) & np.isfinite(one.u).all(axis=1)
    starts = known.copy()  # what no known sample comes before without a gap
    starts[1:] &= ~known[:-1] | (np.diff(one.t) > GAP_PERIODS * period * 1e9)
    place = np.arange(len(known))
    whole = known & (place - np.maximum.accumulate(np.where(starts, place, 0)) >= BACK)
    places = np.flatnonzero(whole)
    steps = np.where(scale > 0, scale, 1.0)
    y = (one.x - centre[0]) / steps[0]
    u = (one.u - centre[1:]) / steps[1:]
    for start in range(0, len(places), _CHUNK):
        k = places[start : start + _CHUNK]
        lagged = [y[k - i] for i in range(1, MAX_ORDER + 1)]
        lagged += [u[k - i, j] for j in range(u.shape[1]) for i in range(BACK + 1)]
        yield np.column_stack([np.ones(len(k)), *lagged]), y[k]


def _sums(fold: Sequence[Inputs], period: float, centre: Array, scale: Array) -> _Sums:
    size = 1 + MAX_ORDER + (BACK + 1) * (len(centre) - 1)
    gram, moment, power, rows = np.zeros((size, size)), np.zeros(size), 0.0, 0
    for one in fold:
        for x, y in _rows(one, period, centre, scale):
            gram += x.T @ x
            moment += x.T @ y
            power += float(y @ y)
            rows += len(y)
    return _Sums(gram, moment, power, rows)


def _solve(sums: _Sums, commands: int, na: int, nb: int, delay: int) -> _Candidate:
    columns = [0, *range(1, 1 + na)]
    for j in range(commands):
        first = 1 + MAX_ORDER + j * (BACK + 1) + delay
        columns += range(first, first + nb)
    gram = sums.gram[np.ix_(columns, columns)]
    ridge = not np.linalg.cond(gram) < ILL_CONDITIONED
    if ridge:
        gram = gram + RIDGE * sums.rows * np.eye(len(columns))
    theta = np.linalg.solve(gram, sums.moment[columns])
    error = sums.error(columns, theta)
    bic = sums.rows * math.log(error / sums.rows) + len(columns) * math.log(sums.rows)
    return _Candidate(na, nb, delay, columns, theta, error, bic, ridge)


def _in_units(best: _Candidate, period: int, centre: Array, scale: Array) -> Arx:
    """The model of values as they are, from that of standardised ones."""
    a = best.theta[1 : 1 + best.na]
    b = best.theta[1 + best.na :].reshape(-1, best.nb) * scale[0] / np.where(scale[1:] > 0, scale[1:], 1.0)[:, None]
    constant = centre[0] * (1 - a.sum()) + scale[0] * best.theta[0] - float(b.sum(axis=1) @ centre[1:])
    return Arx(period, float(constant), tuple(a.tolist()), tuple(tuple(row) for row in b.tolist()), best.delay)


def _judge(
    arx: Arx, folds: Sequence[Sequence[Inputs]], certified: _Sums, ar: _Candidate, best: _Candidate
) -> dict[str, Any]:
    """How well the model predicts: on the fold that it was fitted on, and on one that it has not seen."""
    report: dict[str, Any] = {"largest_pole": _largest_pole(arx)}
    for name, fold in (("fit", folds[FIT]), ("certify", folds[CERTIFY])):
        residuals = [residual_series(arx, one) for one in fold]
        e = np.concatenate([np.empty(0), *residuals])
        y = np.concatenate([np.empty(0), *(one.x for one in fold)])
        both = np.isfinite(e) & np.isfinite(y)
        spread = float(y[both].var()) if both.any() else 0.0
        report[f"r2_{name}"] = 1 - float(np.square(e[both]).mean()) / spread if spread > 0 else None
        report[f"samples_{name}"] = int(both.sum())
        if name == "certify":
            report["deviation"] = float(np.sqrt(np.square(e[both]).mean())) if both.any() else None
            if both.sum() > LAGS:
                grid = [
                    regular(Series(one.source, "", one.t, x), arx.period / 1e9, LAGS)
                    for one, x in zip(fold, residuals, strict=True)
                ]
                report["white_p"], report["largest_correlation"] = whiteness(grid)
    report["explained"] = None
    if certified.rows:
        report["explained"] = 1 - certified.error(best.columns, best.theta) / certified.error(ar.columns, ar.theta)
    return report


def _largest_pole(arx: Arx) -> float:
    """The largest absolute value of a root of z^na - a_1 z^(na - 1) - …; 0 without autoregression."""
    return float(np.abs(np.roots([1.0, *(-a for a in arx.a)])).max(initial=0.0))


def _reasons(
    series: Sequence[Series],
    period: float,
    still: Sequence[str],
    ar: _Candidate,
    best: _Candidate,
    arx: Arx,
    report: dict[str, Any],
) -> list[str]:
    """What speaks against using the model."""
    reasons = rate_problems(series, period)
    if report["samples_certify"] < LEAST:
        reasons.append(f"{report['samples_certify']} samples to judge the model on; {LEAST} are needed")
    reasons += [f"`{name}` never moves where the model was fitted: it is not excited" for name in still]
    explained = report["explained"]
    if not still and ar.bic <= best.bic:
        reasons.append("the commands explain nothing that the response's own past does not")
    elif not still and explained is not None and explained <= 0:
        reasons.append(
            f"where it was not fitted its errors are {-explained:.2g} larger than those of the response's own past alone: "
            "what the commands explained does not hold there"
        )
    if report["largest_pole"] >= 1:
        reasons.append(
            f"the model is unstable (a pole at {report['largest_pole']:.4f}): does the response integrate? take its rate"
        )
    if report["r2_certify"] is not None and report["r2_certify"] <= 0:
        reasons.append(
            f"on recordings that it has not seen it predicts no better than their mean (R² {report['r2_certify']:.3g})"
        )
    return reasons
