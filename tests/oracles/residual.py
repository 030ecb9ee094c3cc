"""Residuals by definition: for each sample of the response the whole past is looked at anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from edge_monitor.core.formula.arx import GAP_PERIODS, LEAST_BACK, RATE_FACTOR, Arx
from edge_monitor.core.samples import Cause

#: (t, signal, value, end of its instant); signal 0 is the response, 1 … are the commands.
Row = tuple[int, int, float, bool]


@dataclass(frozen=True)
class Told:
    """What is known of the residual from ``t`` on. ``scale``: the sum of the terms' sizes, for rounding."""

    t: int
    cause: Cause
    value: float = math.nan
    scale: float = 0.0


def residuals(model: Arx, rows: Sequence[Row], ages: Sequence[int | None], own_age: int | None, end: int) -> list[Told]:
    """Every sample of the residual and every loss up to ``end`` (inclusive), in order of time."""
    inputs = [_inputs(rows[: k + 1], ages) for k in _ends(rows)]
    answers = [_answer(model, inputs[: k + 1], ages[0]) for k in range(len(inputs))]
    told: list[Told] = []
    for k, answer in enumerate(answers):
        told.append(answer)
        following = answers[k + 1].t if k + 1 < len(answers) else end + 1
        limits = [ages[0], own_age if answer.cause == Cause.NONE else None]
        losses = [answer.t + age for age in limits if age is not None]
        told += [Told(t, Cause.STALE) for t in sorted(losses)[:1] if t < following]
    return told


def _ends(rows: Sequence[Row]) -> list[int]:
    """The places of the last rows of the instants that have a sample of the response."""
    found, heard = [], False
    for k, (_, signal, _, last) in enumerate(rows):
        heard = heard or signal == 0
        if last and heard:
            found.append(k)
        heard = heard and not last
    return found


def _inputs(rows: Sequence[Row], ages: Sequence[int | None]) -> tuple[int, list[float], list[Cause]]:
    """Time, values and causes of all inputs at the last row."""
    now = rows[-1][0]
    values, causes = [], []
    for signal, age in enumerate(ages):
        samples = [(t, value) for t, which, value, _ in rows if which == signal]
        t, value = samples[-1] if samples else (now, math.nan)
        cause = Cause.NONE
        if not samples:
            cause = Cause.NEVER_RECEIVED
        elif age is not None and t + age < now:
            cause = Cause.STALE
        elif math.isnan(value):
            cause = Cause.NAN
        values.append(value)
        causes.append(cause)
    return now, values, causes


def _answer(model: Arx, past: Sequence[tuple[int, list[float], list[Cause]]], age: int | None) -> Told:
    """The residual at the last of the response's samples."""
    now, values, causes = past[-1]
    unknown = [cause for cause in causes if cause != Cause.NONE]
    if unknown:
        return Told(now, min(unknown))
    back = max(len(model.a), model.delay + len(model.b[0]) - 1, LEAST_BACK)
    window = past[-back - 1 :]
    steps = [after[0] - before[0] for before, after in pairwise(window)]
    whole = len(window) == back + 1 and all(cause == Cause.NONE for _, _, found in window for cause in found)
    if not whole or any(step > GAP_PERIODS * model.period or (age is not None and step > age) for step in steps):
        return Told(now, Cause.WARMING)
    if not model.period / RATE_FACTOR <= sum(steps) / back <= model.period * RATE_FACTOR:
        return Told(now, Cause.DEPENDENCY)
    terms = [values[0], -model.constant]
    terms += [-a * window[-1 - i][1][0] for i, a in enumerate(model.a, 1)]
    for j, row in enumerate(model.b, 1):
        terms += [-b * window[-1 - model.delay - i][1][j] for i, b in enumerate(row)]
    e = sum(terms)
    return Told(now, Cause.NAN if math.isnan(e) else Cause.NONE, e, sum(abs(term) for term in terms))
