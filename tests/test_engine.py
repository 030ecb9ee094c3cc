"""The engine against a plain-Python reference, and against itself: cut, shifted, stopped and continued elsewhere."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.compare import assert_rows
from oracles.engine import EngineOracle
from strategies import MS, Case, S, cases, streams

from edge_monitor.core.engine import Engine


def run(case: Case, items: np.ndarray, end: int | None = None) -> tuple[Engine, np.ndarray]:
    """Everything in one call, finished at ``end``."""
    engine = Engine(case.plan())
    rows = engine.advance(items)
    return engine, rows if end is None else np.concatenate([rows, engine.finish(end)])


@settings(max_examples=400)
@given(st.data())
def test_equals_the_oracle(data: st.DataObject) -> None:
    """Random checks of every kind over random streams give exactly the transitions of the plain-Python engine."""
    case = data.draw(cases())
    items = data.draw(streams(case))
    end = int(items["t"].max()) + data.draw(st.sampled_from((0, 100 * MS, 400 * MS, 3 * S)))
    oracle = EngineOracle(case.signals, case.checks, case.mode, case.active)
    expected = oracle.advance(items) + oracle.finish(end)
    engine, rows = run(case, items, end)
    # Metres a degree come from two formulas that agree to 0.1 m, over a fence of 111 m.
    fence = any(check.kind == "geofence" for check in case.checks)
    assert_rows(rows, expected, 2e-6 if fence else 1e-9)
    head = engine.head
    assert (head["dropped"], head["jumps"]) == (oracle.dropped, oracle.jumps)
