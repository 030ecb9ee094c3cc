"""Signals as SVG that needs no script: lines in a box that stretches, words in one that does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .signals import TraceDocument

WIDE, HIGH = 1000, 150  #: of the box in which lines are drawn; its width stretches, its height is in pixels
TOP = 8
TICKS = 4
FAR = 2.0  #: a limit that is further from the signal than so many times its range is told, not drawn
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600)


@dataclass(frozen=True, slots=True)
class Plot:
    """A signal. ``lines``: points of polylines; ``limits`` and ``levels``: (y in pixels, words); ``times``: (x in per cent,
    words); ``event``: x of the event in per cent; ``words`` say what is seen; ``beyond``: limits that are not in the picture."""

    name: str
    lines: list[str]
    limits: list[tuple[float, str]]
    levels: list[tuple[float, str]]
    times: list[tuple[float, str]]
    event: float
    words: str
    beyond: list[str]


def plot(trace: TraceDocument, before_s: float, after_s: float) -> Plot | None:
    """A picture of a signal from ``before_s`` before the event to ``after_s`` after it; None where nothing counts."""
    values = [value for _, value in trace["points"] if value is not None and math.isfinite(value)]
    if not values:
        return None
    unit = f" {trace['unit']}" if trace["unit"] else ""
    low, high = min(values), max(values)
    reach = FAR * max(high - low, abs(high) * 1e-3, 1e-9)
    near = [(what, value) for what, value in trace["limits"] if low - reach <= value <= high + reach]
    beyond = [f"{what} {value:g}{unit}" for what, value in trace["limits"] if (what, value) not in near]
    low, high = min([low, *(value for _, value in near)]), max([high, *(value for _, value in near)])
    room = 0.06 * (high - low) or max(abs(high) * 0.05, 1e-9)
    low, high = low - room, high + room

    def y(value: float) -> float:
        return round(TOP + HIGH * (high - value) / (high - low), 2)

    def x(at: float) -> float:
        return round((at + before_s) / (before_s + after_s) * 100, 3)

    return Plot(
        trace["name"],
        [" ".join(f"{x(at) * WIDE / 100:.1f},{y(value) - TOP:.1f}" for at, value in part) for part in _parts(trace)],
        [(y(value), f"{what} {value:g}{unit}") for what, value in near],
        [(y(value), f"{value:.10g}{unit}") for value in _levels(low, high)],
        [(x(at), f"{at:+g} s" if at else "event") for at in _times(before_s, after_s)],
        x(0.0),
        f"{trace['name']} from {-before_s:+g} s to {after_s:+g} s: between {min(values):g} and {max(values):g}{unit}",
        beyond,
    )


def _parts(trace: TraceDocument) -> list[list[tuple[float, float]]]:
    """Runs of points between breaks; one point alone is drawn as a short piece."""
    found: list[list[tuple[float, float]]] = [[]]
    for at, value in trace["points"]:
        if value is None or not math.isfinite(value):
            found.append([])
        else:
            found[-1].append((at, value))
    return [part if len(part) > 1 else [part[0], (part[0][0] + 0.02, part[0][1])] for part in found if part]


def _levels(low: float, high: float) -> Sequence[float]:
    """Round values, a few, between two."""
    rough = (high - low) / TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * one for one in (1, 2, 5, 10) if size * one >= rough)
    first = math.ceil(low / step)
    return [place * step for place in range(first, min(math.floor(high / step), first + 2 * TICKS) + 1)]


def _times(before_s: float, after_s: float) -> Sequence[float]:
    step = next((one for one in _STEPS if (before_s + after_s) / one <= 6), 600)
    return [place * step for place in range(-math.floor(before_s / step), math.floor(after_s / step) + 1)]
