"""What NaN, gaps, irregular stamps and repeated subformulas do to RTAMT's discrete online monitor and to ours.

Each case is a short stream; compared is the last answer. RTAMT gets one ``update`` an instant with its stamp and what the
instant carries, at a period of 100 ms; ours the same samples at their stamps. Run as a program it writes the table into
docs/checks/formula.md.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, SAMPLE, Cause, Verdict
from edge_monitor.core.signals import Signal
from edge_monitor.envelope.formulas import parse_formula

PAGE = Path(__file__).resolve().parent.parent / "docs" / "checks" / "formula.md"
BEGIN, END = "<!-- measured:formula-robustness -->\n", "<!-- end of measured -->\n"
MS = 1_000_000
SIGNALS = [Signal(name, "/t", max_age=10**9) for name in ("x", "y")]
KNOWN = {signal.name: signal for signal in SIGNALS}
NAN = math.nan


@dataclass(frozen=True)
class Case:
    """``stream``: (ms, values by name) an instant. ``truth``: what is so, in words."""

    what: str
    formula: str
    stream: tuple[tuple[int, dict[str, float]], ...]
    truth: str


def every(period: int, *values: dict[str, float]) -> tuple[tuple[int, dict[str, float]], ...]:
    """Instants a period (ms) apart."""
    return tuple((period * k, value) for k, value in enumerate(values))


NEVER_KNOWN = every(100, *({"x": NAN},) * 12)
ONE_NAN = every(100, *({"x": 3.0},) * 6, {"x": NAN}, *({"x": 3.0},) * 3)
HALF_KNOWN = every(100, *({"x": NAN, "y": 3.0},) * 3)
PEAK = every(100, {"x": 9.0}, *({"x": 3.0},) * 8)
CASES = (
    Case("only NaN", "historically[0 s, 1 s](x <= 5)", NEVER_KNOWN, "nothing is known"),
    Case("one NaN, 300 ms ago", "historically[0 s, 1 s](x <= 5)", ONE_NAN, "one value is not known"),
    Case("x is NaN, y = 3", "y <= 5 and x <= 5", HALF_KNOWN, "x is not known"),
    Case("the same, operands swapped", "x <= 5 and y <= 5", HALF_KNOWN, "x is not known"),
    Case("x is NaN, y = 9", "x <= 5 and y <= 5", every(100, *({"x": NAN, "y": 9.0},) * 3), "y is too large"),
    Case("peak 5.1 s ago, then silence", "historically[0 s, 1 s](x <= 5)", ((0, {"x": 9.0}), (5100, {"x": 3.0})), "x was lost"),
    Case("peak 800 ms ago", "historically[0 s, 1 s](x <= 5)", PEAK, "the peak counts"),
    Case(
        "the same, written twice",
        "historically[0 s, 1 s](x <= 5) and historically[0 s, 1 s](x <= 5)",
        PEAK,
        "the peak counts",
    ),
    Case(
        "peak 800 ms ago, at twice the rate",
        "historically[0 s, 1 s](x <= 5)",
        every(50, {"x": 9.0}, *({"x": 3.0},) * 16),
        "the peak counts",
    ),
    Case(
        "x last seen 5 s ago, y goes on",
        "x <= 5 and y <= 5",
        ((0, {"x": 3.0, "y": 3.0}), *((100 * k, {"y": 3.0}) for k in range(1, 51))),
        "x is stale",
    ),
)  # fmt: skip


def ours(case: Case) -> str:
    """Our verdict at the last instant, with its margin or cause."""
    term = parse_formula(case.formula, KNOWN).term
    engine = Engine(Plan.build(SIGNALS, [CheckSpec("f", "formula", term.signals(), formula=term)]))
    for ms, values in case.stream:
        items = np.array([(ms * MS, list(KNOWN).index(name), 0, value) for name, value in values.items()], SAMPLE)
        items["flags"][-1] = FLAG_END
        engine.advance(items)
    state = engine.checks[0]
    verdict = Verdict(state["verdict"])
    if verdict == Verdict.UNKNOWN:
        return f"UNKNOWN ({Cause(state['cause']).name.lower()})"
    return f"{verdict.name}, margin {state['margin']:g}"


def theirs(case: Case) -> str:
    """RTAMT's last robustness, or what it raises."""
    import rtamt

    spec = rtamt.StlDiscreteTimeOnlineSpecification()
    for name in (*KNOWN, "out"):
        spec.declare_var(name, "float")
    spec.set_sampling_period(100, "ms", 0.1)
    spec.spec = "out = " + case.formula.replace("[0 s, 1 s]", "[0s:1s]")
    spec.parse()
    answer = NAN
    for ms, values in case.stream:
        try:
            answer = float(spec.update(ms / 1000, list(values.items())))
        except Exception as error:  # what it raises is the finding
            return f"raises {type(error).__name__}"
    return "NaN" if math.isnan(answer) else f"{answer:+g}"


def table() -> str:
    """The table as Markdown."""
    from importlib.metadata import version

    lines = [f"| stream | formula | what is so | RTAMT {version('rtamt')} | edge-monitor |", "|---" * 5 + "|"]
    for case in CASES:
        lines.append(f"| {case.what} | `{case.formula}` | {case.truth} | {theirs(case)} | {ours(case)} |")
    return "\n".join(lines) + "\n"


def measured(page: str) -> tuple[int, int]:
    """Where the table stands in the page's text."""
    start = page.index(BEGIN) + len(BEGIN)
    return start, page.index(END, start)


def main() -> int:
    """Write the table into the page."""
    text = PAGE.read_text("utf-8")
    start, end = measured(text)
    PAGE.write_text(text[:start] + table() + text[end:], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
