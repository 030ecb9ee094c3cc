"""Compare the engine's rows with the oracle's, field by field."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edge_monitor.core.samples import Cause, TransitionKind, Verdict

from .engine import Row

INTEGERS = ("t_effective", "t_decided", "kind", "subject", "verdict", "cause", "previous", "flags")
FLOATS = ("margin", "value", "limit")


def close(a: float, b: float, tolerance: float = 1e-9) -> bool:
    """Equal up to rounding; NaN equals NaN."""
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def row(record: np.void) -> Row:
    """A TRANSITION record as the oracle's row."""
    return Row(
        int(record["t_effective"]), int(record["t_decided"]), TransitionKind(record["kind"]), int(record["subject"]),
        Verdict(record["verdict"]), Cause(record["cause"]), Verdict(record["previous"]),
        float(record["margin"]), float(record["value"]), float(record["limit"]), int(record["flags"]),
    )  # fmt: skip


def assert_rows(ours: np.ndarray, expected: Sequence[Row], tolerance: float = 1e-9) -> None:
    """Same rows in the same order; floats up to ``tolerance`` (relative and absolute)."""
    found = [row(record) for record in ours]
    for i, (a, b) in enumerate(zip(found, expected, strict=False)):
        same = all(getattr(a, name) == getattr(b, name) for name in INTEGERS)
        # A reset shows the numbers of the last evaluation, and the oracle evaluates more often than the engine.
        floats = () if b.kind == TransitionKind.LATCH and b.verdict == Verdict.PASS else FLOATS
        assert same and all(close(getattr(a, name), getattr(b, name), tolerance) for name in floats), (
            f"row {i}\n  engine {a}\n  oracle {b}"
        )
    assert len(found) == len(expected), f"engine {found[len(expected) :]}\noracle {list(expected)[len(found) :]}"
