"""What one NaN, a gap, a constant stretch, an infinity and other units do to river's detectors and to ours.

N(0, 1) for 2 000 values, something at the 600th, then a shift by eight deviations at the 1 400th. River's get the values
as they are, with default parameters; ours are drift checks' pipelines with a reference of the same stream. Run as a
program it writes the table into docs/checks/drift.md.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_monitor.core.drift import compat, cusum, edetector, focus, pipeline

PAGE = Path(__file__).resolve().parent.parent / "docs" / "checks" / "drift.md"
BEGIN, END = "<!-- measured:drift-robustness -->\n", "<!-- end of measured -->\n"
LENGTH, SPOILED, CHANGE = 2000, 600, 1400
Array = npt.NDArray[np.float64]


def stream(case: str) -> Array:
    """The values of one case."""
    x = np.random.default_rng(3).normal(size=LENGTH)
    if case == "one NaN":
        x[SPOILED] = math.nan
    elif case == "gap (200 NaN)":
        x[SPOILED : SPOILED + 200] = math.nan
    elif case == "constant for 200":
        x[SPOILED : SPOILED + 200] = x[SPOILED]
    elif case == "one infinity":
        x[SPOILED] = math.inf
    x[CHANGE:] += 8
    return (x + 3) * {"units x 1e-6": 1e-6, "units x 1e6": 1e6}.get(case, 1.0)


CASES = ("nothing", "one NaN", "gap (200 NaN)", "constant for 200", "one infinity", "units x 1e-6", "units x 1e6")
OURS: dict[str, tuple[int, tuple[float, ...], int]] = {
    "edetector": (pipeline.EDETECTOR, edetector.edetector_params(5000, (1.3, 1.8, 2.3), (0.21, 0.08, 0.03)), 10),
    "cusum": (pipeline.CUSUM, cusum.cusum_params(14.5, 0.25), 1),
    "ewma": (pipeline.EWMA, cusum.ewma_params(3.9, 0.1), 1),
    "variance": (pipeline.VARIANCE, cusum.variance_params(10, 1.5), 1),
    "focus": (pipeline.FOCUS, focus.focus_params(12), 1),
    "adwin": (pipeline.ADWIN, (0.5, 0.002, 32.0, 5.0, 5.0, 10.0), 1),
    "page_hinkley": (pipeline.PAGE_HINKLEY, compat.page_hinkley_params(), 1),
    "kswin": (pipeline.KSWIN, compat.kswin_params(1e-4), 1),
}


def ours(name: str, case: str) -> list[int]:
    """Alarms of our detector behind its pipeline; the reference is in the case's units."""
    code, params, block = OURS[name]
    scale = {"units x 1e-6": 1e-6, "units x 1e6": 1e6}.get(case, 1.0)
    feed = pipeline.MAGNITUDE if code == pipeline.EDETECTOR else pipeline.SHIFT
    table = pipeline.pack(code, [pipeline.Row(params, 0.0, 3 * scale, scale)], feed=feed, block=block)
    alarm = np.zeros((1, LENGTH), np.uint8)
    pool = np.zeros(pipeline.pool_size(table))
    pipeline.pipeline_many(stream(case)[None], np.array(table), pool, np.empty((1, LENGTH)), alarm)
    return np.flatnonzero(alarm[0]).tolist()


def theirs(make: Callable[[], Any], case: str) -> list[int] | str:
    """Alarms of a detector of river's, or the exception that it raised."""
    detector, alarms = make(), []
    for i, value in enumerate(stream(case).tolist()):
        try:
            detector.update(value)
        except Exception as error:  # what it raises is the finding
            return f"raises {type(error).__name__}"
        if detector.drift_detected:
            alarms.append(i)
    return alarms


def said(alarms: list[int] | str) -> str:
    """``after 12`` values, or **missed**; and how many false alarms came before."""
    if isinstance(alarms, str):
        return f"**{alarms}**"
    after = [a for a in alarms if a >= CHANGE]
    before = len(alarms) - len(after)
    text = f"after {after[0] - CHANGE + 1}" if after else "**missed**"
    return text + (f", {before} false" if before else "")


def table() -> str:
    """The table as Markdown."""
    from river import __version__, drift

    peers: dict[str, Callable[[], Any]] = {
        f"river {__version__} ADWIN": drift.ADWIN,
        "river PageHinkley": drift.PageHinkley,
        "river KSWIN": lambda: drift.KSWIN(seed=0, alpha=1e-4),
    }
    lines = ["| detector | " + " | ".join(CASES) + " |", "|---" * (len(CASES) + 1) + "|"]
    for name, make in peers.items():
        lines.append(f"| {name} | " + " | ".join(said(theirs(make, case)) for case in CASES) + " |")
    for name in OURS:
        lines.append(f"| `{name}` | " + " | ".join(said(ours(name, case)) for case in CASES) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the table into the page."""
    text = PAGE.read_text("utf-8")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END, text.index(BEGIN))
    PAGE.write_text(text[:start] + table() + text[end:], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
