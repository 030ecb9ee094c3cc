"""Pointwise formulas on equal periods against RTAMT's discrete online monitor (BSD; Ničković & Yamaguchi, ATVA 2020)."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from oracles import rtamt_formula as peer

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.engine import Engine
from edge_monitor.core.formula.term import Term
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, SAMPLE
from edge_monitor.core.signals import Signal
from edge_monitor.envelope.formulas import parse_formula

VECTORS = Path(__file__).with_name("vectors") / "rtamt_formulas.json"
SIGNALS = [Signal("x", "/t"), Signal("y", "/t")]


def intervals(term: Term, values: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Our interval at every step, 1 s apart."""
    spec = CheckSpec("f", "formula", term.signals(), {"pointwise": 1.0}, formula=term)
    engine = Engine(Plan.build(SIGNALS, [spec]))
    found = []
    for i, pair in enumerate(values):
        rows = [(i * peer.S, k, FLAG_END if k else 0, value) for k, value in enumerate(pair)]
        engine.advance(np.array(rows, SAMPLE))
        root = engine.memory.node_states[-1]
        found.append((float(root["lo"]), float(root["hi"])))
    return found


def compare(term: Term, values: list[tuple[float, float]], theirs: list[float]) -> int:
    """RTAMT's answer lies in our interval at every step, and is our answer once the past before the first step is out of
    sight. Answers how many were compared for equality."""
    ours = intervals(term, values)
    exact = 0
    for i, ((lo, hi), answer) in enumerate(zip(ours, theirs, strict=True)):
        assert lo - 1e-9 <= answer <= hi + 1e-9, f"{peer.text(term)} at {i}: [{lo}, {hi}], RTAMT {answer}"
        if i >= peer.horizon(term):
            assert lo == hi or math.isclose(lo, hi, abs_tol=1e-9), f"{peer.text(term)} at {i}: still [{lo}, {hi}]"
            exact += 1
    return exact


def test_agrees_with_rtamt() -> None:
    """1200 random formulas on random traces give what RTAMT gives, wherever RTAMT is installed."""
    pytest.importorskip("rtamt")
    rng = random.Random(5)
    exact = 0
    for _ in range(1200):
        term, values = peer.formula(rng), peer.trace(rng)
        exact += compare(term, values, peer.answers(term, values))
    assert exact > 1200 * 15


def test_agrees_with_stored_answers() -> None:
    """The same for 100 stored pairs, whose formulas are read from their text."""
    known = {signal.name: signal for signal in SIGNALS}
    pairs = json.loads(VECTORS.read_text())
    assert len(pairs) == 100
    for pair in pairs:
        term = parse_formula(pair["formula"], known).term
        compare(term, [(x, y) for x, y in pair["values"]], [float(answer) for answer in pair["answers"]])


def test_stored_answers_are_those_of_rtamt() -> None:
    """Wherever RTAMT is installed, it still gives the answers that are stored."""
    pytest.importorskip("rtamt")
    known = {signal.name: signal for signal in SIGNALS}
    for pair in json.loads(VECTORS.read_text()):
        values = [(x, y) for x, y in pair["values"]]
        theirs = peer.answers(parse_formula(pair["formula"], known).term, values)
        assert theirs == [float(answer) for answer in pair["answers"]]


def test_the_page_tells_what_rtamt_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of docs/checks/formula.md is what bench/formula_robustness.py measures, wherever RTAMT is installed."""
    pytest.importorskip("rtamt")
    root = Path(__file__).resolve().parent.parent
    monkeypatch.syspath_prepend(str(root / "bench"))
    import formula_robustness

    page = (root / "docs/checks/formula.md").read_text("utf-8")
    start, end = formula_robustness.measured(page)
    assert page[start:end] == formula_robustness.table()


def test_ours_where_rtamt_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every case of that table, also without RTAMT, our verdict is the true one."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent.parent / "bench"))
    import formula_robustness

    true = {
        "nothing is known": "UNKNOWN (nan)",
        "one value is not known": "UNKNOWN (nan)",
        "x is not known": "UNKNOWN (nan)",
        "y is too large": "FAIL, margin -4",
        "x was lost": "UNKNOWN (stale)",
        "the peak counts": "FAIL, margin -4",
        "x is stale": "UNKNOWN (stale)",
    }
    assert {(case.truth, formula_robustness.ours(case)) for case in formula_robustness.CASES} == set(true.items())
