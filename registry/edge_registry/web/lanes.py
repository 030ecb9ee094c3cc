"""The time line of a mission: rows of segments in per cent of its length, drawn by the page as SVG without any script."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .missions import Mission, Span
from .shown import span as long

ROWS = 16  #: of what limited it
LEAST = 0.35  #: per cent that the shortest segment is drawn with
TICKS = 6
_WORST = {"catastrophic": 0, "critical": 1, "marginal": 2, "negligible": 3}
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a row: ``x`` and ``width`` in per cent; ``look`` is a class of the style sheet, ``title`` the words."""

    x: float
    width: float
    look: str
    label: str
    title: str
    seq: int


@dataclass(frozen=True, slots=True)
class Row:
    """What is drawn beside a name."""

    name: str
    segments: list[Segment]
    empty: str = ""  #: what is written where there is none


@dataclass(frozen=True, slots=True)
class Lane:
    """One of the three questions."""

    title: str
    question: str
    rows: list[Row]
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class TimeLine:
    """Lanes over ``begin`` to ``end`` (s since the mission began), and ticks: (per cent, words)."""

    begin: float
    end: float
    lanes: list[Lane]
    ticks: list[tuple[float, str]]


def time_line(mission: Mission, spans: Sequence[Span], begin: float = 0.0, end: float | None = None) -> TimeLine:
    """The time line of a mission from ``begin`` to ``end`` (s since it began; None: to its end)."""
    length = mission.seconds
    end = length if end is None or not begin < end <= length else end
    begin = begin if 0 <= begin < end else 0.0
    window = _Window(mission.t_first + begin * 1e9, mission.t_first + end * 1e9, mission.t_first)
    asked = window.rows([one for one in spans if one.lane == "asked"], lambda one: one.t_from)
    control = window.row("", (one for one in spans if one.lane == "control"), "who was in control is not recorded")
    limited = _limited(window, [one for one in spans if one.lane == "limit"])
    return TimeLine(
        begin,
        end,
        [
            Lane(
                "Asked to control",
                "Who was asked to take over, and did they answer?",
                asked or [Row("", [], "nobody was asked in this time")],
            ),
            Lane("In control", "Who decided, by the vehicle's own word?", [control]),
            limited,
        ],
        _ticks(begin, end),
    )


def _limited(window: _Window, spans: list[Span]) -> Lane:
    title, question = "What limited it", "Which limits, gates and failsafes stood against it?"
    rows = window.rows(spans, lambda one: (_WORST.get(one.severity, 9), one.t_from))
    left = f"{len(rows) - ROWS} more rows, less severe, are in the table below" if len(rows) > ROWS else ""
    return Lane(title, question, rows[:ROWS] or [Row("", [], "nothing limited it in this time")], left)


class _Window:
    def __init__(self, begin: float, end: float, start: int) -> None:
        self.begin, self.end, self.start = begin, end, start

    def shows(self, span: Span) -> bool:
        return span.t_from <= self.end and (span.t_to is None or span.t_to >= self.begin)

    def rows(self, spans: Iterable[Span], order: Callable[[Span], Any]) -> list[Row]:
        """A row for each label, that of the first span by ``order`` first."""
        by_label: dict[str, list[Span]] = {}
        for one in sorted((one for one in spans if self.shows(one)), key=order):
            by_label.setdefault(one.label, []).append(one)
        return [self.row(label, by_label[label], "") for label in by_label]

    def row(self, name: str, spans: Iterable[Span], empty: str) -> Row:
        segments = [self.segment(one) for one in spans if self.shows(one)]
        return Row(name, segments, empty if not segments else "")

    def segment(self, span: Span) -> Segment:
        length = max(1.0, self.end - self.begin)
        left = max(0.0, (span.t_from - self.begin) / length * 100)
        right = 100.0 if span.t_to is None else min(100.0, (span.t_to - self.begin) / length * 100)
        width = max(LEAST, right - left)
        at = f"+{(span.t_from - self.start) / 1e9:.1f} s"
        title = f"{span.label}, from {at}, {span.lasted()}"
        title += f": {span.measured}" if span.measured else ""
        title += f"; {span.outcome}" if span.outcome else ""
        return Segment(round(min(left, 100 - LEAST), 3), round(width, 3), _look(span), _label(span), title, span.seq)


def _label(span: Span) -> str:
    """What is written into a segment: what its row does not say already."""
    return {"control": span.label, "asked": span.outcome or "not answered"}.get(span.lane, "")


def _look(span: Span) -> str:
    if span.lane == "control":
        word = span.label.split(" ")[0]
        return f"control-{word}" if word in ("autonomy", "human", "fallback", "none") else "control-unknown"
    if span.lane == "asked":
        return "asked-late" if "timed out" in span.outcome or span.outcome.startswith("refused") else "asked"
    return {"gate": "limit-gate", "breach": "limit-breach"}.get(span.kind, "limit-other")


def _ticks(begin: float, end: float) -> list[tuple[float, str]]:
    length = max(end - begin, 1e-9)
    step = next((one for one in _STEPS if length / one <= TICKS), math.ceil(length / TICKS / 86400) * 86400)
    first = math.ceil(begin / step) * step
    return [
        (round((at - begin) / length * 100, 3), f"+{long(at)}" if at else "start")
        for at in range(first, int(end) + 1, step)
    ]  # fmt: skip
