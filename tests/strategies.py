"""Strategies for plans and streams that meet deadlines, gaps and jumps; and short ways to write both by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import (
    FLAG_END,
    ITEM_MISSION_END,
    ITEM_RESET_LATCH,
    ITEM_SAMPLE,
    ITEM_SET_LATCH,
    ITEM_SHIFT,
    ITEM_SOURCE_STATUS,
    ITEM_UNTIL,
    SAMPLE,
    Cause,
    Latch,
    TransitionKind,
    Verdict,
)
from edge_monitor.core.signals import Signal

MS = 1_000_000
S = 1_000_000_000
ACTIVE = 1.0  # the value of the last signal while a mission is on

#: Times come from a coarse grid, so that deadlines, samples and each other's deadlines often fall on one time.
STEPS = (0, 0, 1 * MS, 10 * MS, 50 * MS, 50 * MS, 100 * MS, 100 * MS, 100 * MS, 150 * MS, 250 * MS, 500 * MS, 2 * S)
BACKWARD = (-1, -10 * MS, -1 * S, -1 * S - 1, -3 * S)
SPANS = (0, 0, 50 * MS, 100 * MS, 300 * MS)
RATES = ({"min": 10.0}, {"max": 10.0}, {"min": 4.0, "max": 20.0}, {"min": 10.0, "max": 10.0})
VALUES = (0.0, 1.0, 1.0, 2.0, 3.0, -1.0, 0.5, 2.5)
ODD_VALUES = (math.nan, math.inf, -math.inf, 1e300, -1e300, 359.0, 1e-3)
SAMPLE_CAUSES = (Cause.INVALID, Cause.NO_RECEIVE_TIME, Cause.CLOCK)
STATUSES = (Cause.NO_PUBLISHER, Cause.QOS, Cause.TYPE_MISMATCH, Cause.NONE)

#: A square of about 111 m, a notch cut into it, so that crossing and winding numbers have something to disagree about.
FENCE = (0.0, 0.0, 0.0, 0.001, 0.001, 0.001, 0.001, 0.0005, 0.0005, 0.0006, 0.001, 0.0002, 0.001, 0.0)


@dataclass(frozen=True)
class Case:
    """Everything that makes an engine."""

    signals: tuple[Signal, ...]
    checks: tuple[CheckSpec, ...]
    mode: str | None
    active: tuple[str, float] | None

    def plan(self) -> Plan:
        """The compiled plan."""
        return Plan.build(self.signals, self.checks, mode=self.mode, active=self.active)


def _limits(draw: Callable, low: float = 0.0, high: float = 2.0) -> dict[str, float]:
    params = {}
    if draw(st.booleans()):
        params["max"] = high
        if draw(st.booleans()):
            params["leave_max"] = high - 0.5
    if not params or draw(st.booleans()):
        params["min"] = low
        if draw(st.booleans()):
            params["leave_min"] = low + 0.5
    return params


def _params(draw: Callable, kind: str) -> tuple[int, dict[str, float], tuple[float, ...]]:
    """Number of signals, parameters and table for a kind."""
    if kind in ("bounds", "latency"):
        return 1, _limits(draw), ()
    if kind == "rate":
        return 1, _limits(draw, -10.0, 10.0), ()
    if kind == "one_of":
        return 1, {}, (1.0, 2.0)
    if kind == "equals":
        return 1, {}, (1.0,)
    if kind == "valid":
        return (2, draw(st.sampled_from(({}, {"covariance_max": 2.0}))), ()) if draw(st.booleans()) else (1, {}, ())
    if kind == "stale":
        return 1, {"max": draw(st.sampled_from((100 * MS, 150 * MS, 500 * MS)))}, ()
    if kind == "frequency":
        params: dict[str, float] = {"window": draw(st.sampled_from((200 * MS, 500 * MS)))}
        rates = draw(
            st.sampled_from(({"min": 10.0}, {"max": 10.0}, {"min": 4.0, "max": 20.0}, {"min": 10.0, "max": 10.0}))
        )
        return 1, params | rates, ()
    if kind == "jitter":
        return 1, {"window": draw(st.sampled_from((200 * MS, 500 * MS))), "period": 100 * MS, "max": 20 * MS}, ()
    if kind == "agreement":
        params = {"max": 1.0}
        if draw(st.booleans()):
            params["leave"] = 0.5
        if draw(st.booleans()):
            params["wrap"] = 360.0
        return 2, params, ()
    band = draw(st.sampled_from(({}, {"max_altitude": 2.0}, {"min_altitude": 0.0, "max_altitude": 2.0})))
    return (3 if band else 2), {**band, "keep_out": float(draw(st.booleans()))}, FENCE


KINDS = (
    "bounds", "latency", "rate", "one_of", "equals", "valid",
    "stale", "frequency", "jitter", "agreement", "geofence",
)  # fmt: skip


@st.composite
def cases(draw: Callable, kinds: tuple[str, ...] = KINDS) -> Case:
    """Three or four signals, one to five checks of the given kinds; the last two signals are the mode and the mission.

    Signals that no geofence reads have values of the grid; a fence reads its own pair of coordinates.
    """
    names = ["a", "b", "mode", "active"]
    signals = [
        Signal(
            name,
            "/t",
            max_age=draw(st.sampled_from((None, 100 * MS, 300 * MS, 1 * S))),
            watch=draw(st.sampled_from(("", "change", "each"))),
        )
        for name in names
    ]
    checks = []
    for i in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(kinds))
        inputs, params, table = _params(draw, kind)
        if kind == "geofence":
            order = ["a", "b", "mode"]
        else:
            order = draw(st.permutations(names[:3]))
        checks.append(
            CheckSpec(
                f"{kind}_{i}",
                kind,
                tuple(order[:inputs]),
                params,
                table,
                fail_for=draw(st.sampled_from(SPANS)),
                pass_for=draw(st.sampled_from(SPANS)),
                latch=draw(st.sampled_from(Latch)),
            )
        )
    roles = draw(st.booleans())
    return Case(tuple(signals), tuple(checks), "mode" if roles else None, ("active", ACTIVE) if roles else None)


@st.composite
def streams(
    draw: Callable,
    case: Case,
    *,
    backward: bool = True,
    commands: bool = True,
    size: int = 40,
    regular: bool | None = None,
) -> np.ndarray:
    """(n,) SAMPLE: messages of one to four signals, commands and time marks, from 10 s on.

    ``backward``: with late items and clock jumps. Half of the streams keep to 100 ms, so that rates can be met.
    """
    t = 10 * S
    rows: list[tuple[int, int, int, float]] = []
    fence = any(check.kind == "geofence" for check in case.checks)
    degrees = tuple((k + 0.37) * 1e-4 for k in range(-3, 13))
    ordinary = (*degrees, *VALUES[:2]) if fence else VALUES
    extraordinary = ODD_VALUES[:3] if fence else ODD_VALUES  # huge degrees overflow on their way to metres
    steady = draw(st.booleans())
    top = t
    for _ in range(draw(st.integers(1, size))):
        what = draw(st.integers(0, 39))
        step = 100 * MS if steady and what > 4 else draw(st.sampled_from(STEPS))
        if backward and what == 0:
            step = draw(st.sampled_from(BACKWARD))
        t = top + step
        if step < -S:
            top = t
        top = max(top, t)
        if commands and what in (1, 2, 3, 5):
            kind = {1: ITEM_RESET_LATCH, 2: ITEM_SOURCE_STATUS, 3: ITEM_MISSION_END, 5: ITEM_SET_LATCH}[what]
            subjects = len(case.checks) if kind in (ITEM_RESET_LATCH, ITEM_SET_LATCH) else len(case.signals)
            cause = draw(st.sampled_from(STATUSES)) if kind == ITEM_SOURCE_STATUS else Cause.NONE
            rows.append((t, draw(st.integers(0, subjects - 1)), int(cause) | kind << ITEM_SHIFT, 0.0))
        elif what == 4:
            rows.append((t, 0, ITEM_UNTIL << ITEM_SHIFT, 0.0))
        else:
            carried = draw(st.lists(st.integers(0, len(case.signals) - 1), min_size=1, max_size=4))
            for k, signal in enumerate(carried):
                odd = draw(st.integers(0, 19))
                value = draw(st.sampled_from(extraordinary if odd == 0 else ordinary))
                cause = draw(st.sampled_from(SAMPLE_CAUSES)) if odd == 1 else Cause.NONE
                end = FLAG_END if k == len(carried) - 1 else 0
                rows.append((t, signal, int(cause) | end | ITEM_SAMPLE << ITEM_SHIFT, value))
    return np.array(rows, SAMPLE)


@st.composite
def cuts(draw: Callable, length: int) -> list[int]:
    """Positions at which a stream of ``length`` items is cut into calls; empty calls included."""
    return [0, *sorted(draw(st.lists(st.integers(0, length), max_size=6))), length]


def items(*rows: tuple) -> np.ndarray:
    """(n,) SAMPLE: each row ``(t, signal, value)`` or ``(t, signal, value, cause)`` is a message of its own."""
    return np.array([(t, signal, FLAG_END | sum(map(int, cause)), value) for t, signal, value, *cause in rows], SAMPLE)


def message(t: int, values: dict[int, float]) -> np.ndarray:
    """(n,) SAMPLE: one message at ``t`` that carries ``values`` by signal."""
    rows = [(t, signal, 0, value) for signal, value in values.items()]
    t, signal, _, value = rows[-1]
    return np.array([*rows[:-1], (t, signal, FLAG_END, value)], SAMPLE)


def command(t: int, kind: int, subject: int = 0, cause: Cause = Cause.NONE) -> np.ndarray:
    """(1,) SAMPLE: a command (``ITEM_…``) at ``t``."""
    return np.array([(t, subject, int(cause) | kind << ITEM_SHIFT, 0.0)], SAMPLE)


def engine(*specs: CheckSpec, max_age: int | None = None, roles: bool = False) -> Engine:
    """An engine over signals a, b, c of one age; with ``roles`` c is the mode and d says that a mission is on (1)."""
    signals = [Signal(name, "/t", max_age=max_age) for name in "abcd"]
    return Engine(Plan.build(signals, specs, mode="c" if roles else None, active=("d", 1.0) if roles else None))


def check(kind: str, params: dict[str, float], signals: str = "a", **more: object) -> CheckSpec:
    """A check over signals given by letters."""
    return CheckSpec(kind, kind, tuple(signals), params, **more)  # type: ignore[arg-type]


def told(rows: np.ndarray, subject: int = 0) -> list[tuple[int, Verdict]]:
    """(when, verdict) of one check's transitions."""
    mine = rows[(rows["kind"] == TransitionKind.CHECK) & (rows["subject"] == subject)]
    return [(int(row["t_effective"]), Verdict(row["verdict"])) for row in mine]
