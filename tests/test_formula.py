"""Formulas against their definition, and against themselves: cut, shifted, reordered, shared, continued elsewhere."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.formula import Trace
from strategies import MS, S

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.engine import Engine
from edge_monitor.core.formula.term import Term
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, SAMPLE, TransitionKind, Verdict
from edge_monitor.core.signals import Signal
from edge_monitor.envelope.formulas import parse_formula

NAMES = ("a", "b", "c")
WINDOWS = (0, 1 * MS, 50 * MS, 100 * MS, 100 * MS, 200 * MS, 300 * MS)
STEPS = (0, 0, 1 * MS, 50 * MS, 50 * MS, 100 * MS, 100 * MS, 100 * MS, 150 * MS, 250 * MS, 1 * S)
VALUES = (0.0, 1.0, 1.0, 2.0, 3.0, -1.0, 2.5, 4.0)
ODD = (math.nan, math.nan, math.inf, -math.inf)


@dataclass(frozen=True)
class Case:
    """A formula, how it is read, and the samples: (t, signal, value, end of the instant)."""

    term: Term
    pointwise: bool
    ages: tuple[int | None, ...]
    rows: tuple[tuple[int, int, float, bool], ...]

    def signals(self) -> list[Signal]:
        return [Signal(name, "/t", max_age=age) for name, age in zip(NAMES, self.ages, strict=True)]

    def engine(self, term: Term | None = None) -> Engine:
        term = term or self.term
        spec = CheckSpec("f", "formula", term.signals(), {"pointwise": float(self.pointwise)}, formula=term)
        return Engine(Plan.build(self.signals(), [spec]))

    def items(self) -> np.ndarray:
        return np.array([(t, signal, FLAG_END if end else 0, value) for t, signal, value, end in self.rows], SAMPLE)

    def evaluations(self, t: int) -> int:
        """How often the check may be evaluated at ``t``: after each instant, and once for all deadlines."""
        stale = any(row[0] + (self.ages[row[1]] or 0) == t for row in self.rows if self.ages[row[1]])
        return sum(row[0] == t and row[3] for row in self.rows) + stale

    def trace(self) -> Trace:
        samples: dict[str, list[tuple[int, float]]] = {name: [] for name in NAMES}
        for t, signal, value, _ in self.rows:
            samples[NAMES[signal]].append((t, value))
        return Trace(samples, dict(zip(NAMES, self.ages, strict=True)), self.pointwise)


@st.composite
def numbers(draw: Callable, depth: int) -> Term:
    """Arithmetic over signals."""
    what = draw(st.integers(0, 11 if depth else 4))
    if what < 4:
        return Term("signal", name=draw(st.sampled_from(NAMES)))
    if what == 4:
        return Term("number", number=draw(st.sampled_from(VALUES)))
    if what < 9:
        op = draw(st.sampled_from(("+", "-", "*", "/", "min", "max")))
        return Term(op, (draw(numbers(depth - 1)), draw(numbers(depth - 1))))
    op = draw(st.sampled_from(("abs", "negate", "prev", "lag", "diff")))
    arg = draw(numbers(depth - 1).filter(Term.signals))
    return Term(op, (arg,), start=draw(st.sampled_from(WINDOWS)) if op == "lag" else 0)


def comparisons() -> st.SearchStrategy[Term]:
    """A number against a number."""
    ops = st.sampled_from(("<", "<=", ">", ">=", "==", "!=", "is"))
    return st.builds(lambda op, a, b: Term(op, (a, b)), ops, numbers(2), numbers(0)).filter(Term.signals)


@st.composite
def windows(draw: Callable) -> tuple[int, int | None]:
    """``[a, b]``, or none."""
    if draw(st.integers(0, 4)) == 0:
        return 0, None
    start = draw(st.sampled_from((0, 0, 0, *WINDOWS)))
    return start, start + draw(st.sampled_from(WINDOWS))


@st.composite
def truths(draw: Callable, depth: int = 3, late_since: bool = True) -> Term:
    """Formulas. Without ``late_since``, ``since[a, b]`` has no a: what is not known of it may be bounded differently."""
    what = draw(st.integers(0, 9)) if depth else 0
    if what < 2:
        return draw(comparisons())
    if what < 5:
        start, end = draw(windows())
        return Term(
            draw(st.sampled_from(("historically", "once"))),
            (draw(truths(depth - 1, late_since)),),
            start=start,
            end=end,
        )
    if what == 5:
        start, end = draw(windows())
        if not late_since and end is not None:
            start, end = 0, end - start
        args = (draw(truths(depth - 1, late_since)), draw(truths(depth - 1, late_since)))
        return Term("since", args, start=start, end=end)
    if what == 6:
        return Term(draw(st.sampled_from(("prev", "rise", "fall"))), (draw(truths(depth - 1, False)),))
    if what == 7:
        return Term("not", (draw(truths(depth - 1, late_since)),))
    args = (draw(truths(depth - 1, late_since)), draw(truths(depth - 1, late_since)))
    return Term(draw(st.sampled_from(("and", "or", "implies"))), args)


@st.composite
def cases(draw: Callable, pointwise: bool | None = None, size: int = 24) -> Case:
    """A formula over up to three signals, sampled irregularly, with gaps, NaN, and several samples at one stamp."""
    term = draw(truths())
    ages = tuple(draw(st.sampled_from((None, None, 100 * MS, 300 * MS))) for _ in NAMES)
    t = 10 * S
    rows = []
    for _ in range(draw(st.integers(1, size))):
        t += draw(st.sampled_from(STEPS))
        carried = draw(st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True))
        for k, signal in enumerate(carried):
            value = draw(st.sampled_from(ODD if draw(st.integers(0, 11)) == 0 else VALUES))
            rows.append((t, signal, value, k == len(carried) - 1))
    return Case(term, draw(st.booleans()) if pointwise is None else pointwise, ages, tuple(rows))


def verdicts(rows: np.ndarray) -> list[tuple[int, Verdict, float]]:
    """The check's verdict from each time on; the last one of a time."""
    found: dict[int, tuple[Verdict, float]] = {}
    for row in rows:
        if row["kind"] == TransitionKind.CHECK:
            found[int(row["t_effective"])] = Verdict(row["verdict"]), float(row["margin"])
    return [(t, verdict, margin) for t, (verdict, margin) in found.items()]


def at(steps: list[tuple[int, Verdict, float]], t: int) -> tuple[int, Verdict, float]:
    """The step in force at ``t``."""
    past = [step for step in steps if step[0] <= t]
    return past[-1] if past else (-1, Verdict.UNKNOWN, math.nan)


def equal(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12)


@settings(max_examples=1000)
@given(cases())
def test_equals_the_definition(case: Case) -> None:
    """At every moment at which anything could change, verdict and margin are those of the definition."""
    engine = case.engine()
    end = case.rows[-1][0] + 2 * S
    steps = verdicts(np.concatenate([engine.advance(case.items()), engine.finish(end)]))
    trace = case.trace()
    moments = sorted({t for t in [*trace.changes(case.term), end] if case.rows[0][0] <= t <= end})
    for t in moments:
        expected, margin = trace.verdict(case.term, t)
        when, found, its_margin = at(steps, t)
        assert found == expected, f"at {t}: {found.name}, by definition {expected.name}"
        if when == t and case.evaluations(t) <= 1:  # a row tells what the first of several at one time made of it
            assert equal(its_margin, margin), f"at {t}: margin {its_margin}, by definition {margin}"
    assert {t for t, _, _ in steps} <= set(moments)


def run(case: Case, items: np.ndarray, end: int, term: Term | None = None) -> tuple[Engine, np.ndarray]:
    """Everything in one call, finished at ``end``."""
    engine = case.engine(term)
    return engine, np.concatenate([engine.advance(items), engine.finish(end)])


def last(case: Case) -> int:
    return case.rows[-1][0] + 2 * S


def without(rows: np.ndarray, *names: str) -> np.ndarray:
    """The rows with some fields blanked out."""
    rows = rows.copy()
    for name in names:
        rows[name] = 0
    return rows


@settings(max_examples=150)
@given(cases(), st.data())
def test_cuts_into_calls_change_nothing(case: Case, data: st.DataObject) -> None:
    """However the stream is cut into calls, rows and digest are the same."""
    items = case.items()
    whole, rows = run(case, items, last(case))
    engine = case.engine()
    places = [0, *sorted(data.draw(st.lists(st.integers(0, len(items)), max_size=6))), len(items)]
    parts = [engine.advance(items[a:b]) for a, b in itertools.pairwise(places)]
    again = np.concatenate([*parts, engine.finish(last(case))])
    assert again.tobytes() == rows.tobytes()
    assert engine.digest() == whole.digest()


@settings(max_examples=150)
@given(cases(), st.data())
def test_asking_more_often_changes_nothing(case: Case, data: st.DataObject) -> None:
    """Time marks anywhere between the items change nothing but when a change was found out."""
    items = case.items()
    _, rows = run(case, items, last(case))
    engine = case.engine()
    parts = []
    for i in range(len(items)):
        parts.append(engine.advance(items[i : i + 1]))
        whole = bool(items[i]["flags"] & FLAG_END)
        following = int(items[i + 1]["t"]) if i + 1 < len(items) else last(case)
        if whole:
            for share in sorted(data.draw(st.lists(st.floats(0, 1), max_size=3))):
                parts.append(engine.advance(until=int(items[i]["t"] + share * (following - items[i]["t"]))))
    parts.append(engine.finish(last(case)))
    assert without(np.concatenate(parts), "t_decided").tobytes() == without(rows, "t_decided").tobytes()


@settings(max_examples=150)
@given(cases(), st.sampled_from((1, 7, 10**12, 2**60)))
def test_a_shift_in_time_shifts_the_answers(case: Case, shift: int) -> None:
    """The same samples at another time give the same answers at that other time."""
    items = case.items()
    _, rows = run(case, items, last(case))
    items["t"] += shift
    _, shifted = run(case, items, last(case) + shift)
    shifted["t_effective"] -= shift
    shifted["t_decided"] -= shift
    assert shifted.tobytes() == rows.tobytes()


@settings(max_examples=150)
@given(cases())
def test_a_subterm_used_twice_answers_as_once(case: Case) -> None:
    """``φ and φ`` and ``φ or φ`` answer as ``φ`` does, and need but one node more."""
    _, rows = run(case, case.items(), last(case))
    for op in ("and", "or"):
        engine, twice = run(case, case.items(), last(case), Term(op, (case.term, case.term)))
        assert twice.tobytes() == rows.tobytes()
        assert len(engine.plan.nodes) == len(case.engine().plan.nodes) + 1


@settings(max_examples=150)
@given(cases(), truths(2))
def test_the_order_of_operands_changes_nothing(case: Case, other: Term) -> None:
    """``and`` and ``or`` answer alike, cause and all, whichever operand comes first; also where one is unknown."""
    for op in ("and", "or"):
        _, one = run(case, case.items(), last(case), Term(op, (case.term, other)))
        _, two = run(case, case.items(), last(case), Term(op, (other, case.term)))
        assert one.tobytes() == two.tobytes()


@settings(max_examples=150)
@given(cases(), st.data())
def test_a_snapshot_goes_on_where_it_was_taken(case: Case, data: st.DataObject) -> None:
    """Restored in another engine in the middle, the rest gives the same rows and digest."""
    items = case.items()
    engine = case.engine()
    place = data.draw(st.integers(0, len(items)))
    engine.advance(items[:place])
    other = case.engine()
    other.restore(engine.snapshot())
    rest = [np.concatenate([e.advance(items[place:]), e.finish(last(case))]) for e in (engine, other)]
    assert rest[0].tobytes() == rest[1].tobytes()
    assert engine.digest() == other.digest()


def example() -> Case:
    """A stream of 400 samples with NaN and gaps under a formula with every operator that remembers."""
    text = (
        "historically[100 ms, 300 ms](a < 3.5 or once[0 s, 200 ms](b > 2)) and not fall(c > 3)"
        " implies (prev(a) <= 2.5) since[50 ms, 400 ms] (lag(b, 70 ms) > 1 and diff(c) < 3)"
    )
    known = {name: Signal(name, "/t") for name in NAMES}
    rng = np.random.default_rng(3)
    t, rows = 10 * S, []
    for _ in range(400):
        t += int(rng.choice([1, 20, 50, 50, 50, 100, 400])) * MS
        value = math.nan if rng.random() < 0.05 else float(rng.integers(-2, 9)) / 2
        rows.append((t, int(rng.integers(0, 3)), value, True))
    return Case(parse_formula(text, known).term, False, (300 * MS, None, 500 * MS), tuple(rows))


def test_another_process_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """A snapshot taken in the middle, restored in another process without compiler, gives the same rows and digest."""
    case = example()
    items = case.items()
    engine = case.engine()
    before = engine.advance(items[:200])
    (tmp_path / "snapshot").write_bytes(engine.snapshot())
    after = np.concatenate([engine.advance(items[200:]), engine.finish(last(case))])
    assert len(before) > 10 and len(after) > 10
    script = (
        "import sys; from pathlib import Path; import numpy as np; import test_formula as f; folder = Path(sys.argv[1])\n"
        "case = f.example(); engine = case.engine(); engine.restore((folder / 'snapshot').read_bytes())\n"
        "rows = [engine.advance(case.items()[200:]), engine.finish(f.last(case))]\n"
        "(folder / 'rows').write_bytes(np.concatenate(rows).tobytes()); print(engine.digest())"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == engine.digest()
    assert (tmp_path / "rows").read_bytes() == after.tobytes()
