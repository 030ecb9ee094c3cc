"""Residual signals against their definition, and against themselves: cut, asked, continued elsewhere."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.residual import Row, Told, residuals
from strategies import MS, S, items

from edge_monitor.core.engine import Engine
from edge_monitor.core.formula.arx import MAX_COMMANDS, Arx, Residual
from edge_monitor.core.formula.term import Term
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, SAMPLE, Cause, TransitionKind
from edge_monitor.core.signals import Signal

PERIOD = 100 * MS
#: Mostly the period; twice at one stamp, jitter, the longest interval that is no gap, one that is.
STEPS = (*(100 * MS,) * 10, 100 * MS, 90 * MS, 110 * MS, 0, 1 * MS, 250 * MS, 250 * MS + 1, 2 * S)
VALUES = (0.0, 1.0, -1.0, 0.5, 3.0, 0.1)
ODD = (math.nan, math.nan, math.inf, -math.inf)
WHOLE = Arx(PERIOD, 0.25, (0.5, -0.25), ((1.0, 0.5), (-2.0, 0.125)), delay=1)


@dataclass(frozen=True)
class Case:
    """A model, how long signals count (the residual's own age last), and the samples."""

    model: Arx
    ages: tuple[int | None, ...]
    rows: tuple[Row, ...]

    def engine(self, watch: str = "each") -> Engine:
        names = ["y", *(f"u{j}" for j in range(len(self.model.b)))]
        signals = [Signal(name, "/t", max_age=age) for name, age in zip(names, self.ages, strict=False)]
        residual = Residual("y", tuple(names[1:]), self.model)
        signals.append(Signal("e", "", residual=residual, max_age=self.ages[-1], watch=watch))
        return Engine(Plan.build(signals, []))

    def items(self) -> np.ndarray:
        return np.array([(t, signal, FLAG_END if end else 0, value) for t, signal, value, end in self.rows], SAMPLE)

    @property
    def end(self) -> int:
        return self.rows[-1][0] + 3 * S


@st.composite
def cases(draw: Callable, size: int = 60) -> Case:
    """A response at about 10 Hz in messages that may carry commands, which also come by themselves."""
    coefficients = st.sampled_from((0.0, 0.5, -0.25, 1.0, 0.3, -1.7))
    nb, commands = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    b = tuple(tuple(draw(coefficients) for _ in range(nb)) for _ in range(commands))
    a = tuple(draw(st.lists(coefficients, max_size=4)))
    model = Arx(PERIOD, draw(coefficients), a, b, delay=draw(st.sampled_from((0, 0, 1, 2, 10))))
    ages = [draw(st.sampled_from((None, None, 200 * MS, 300 * MS, 1 * S))) for _ in range(commands + 2)]
    rows: list[Row] = [(10 * S, j, 1.0, True) for j in range(1, commands + 1) if draw(st.integers(0, 5))]
    t = 10 * S
    pace = draw(st.sampled_from((None, None, None, PERIOD, PERIOD, 60 * MS, 160 * MS)))
    for _ in range(draw(st.integers(1, size))):
        t += pace or draw(st.sampled_from(STEPS))
        alone = draw(st.integers(0, 7))
        if alone == 0:
            carried = [draw(st.integers(1, commands))]
        else:
            carried = [0, *draw(st.lists(st.integers(1, commands), max_size=commands, unique=True))]
        for k, signal in enumerate(carried):
            odd = pace is None and draw(st.integers(0, 30)) == 0
            rows.append((t, signal, draw(st.sampled_from(ODD if odd else VALUES)), k == len(carried) - 1))
    return Case(model, tuple(ages), tuple(rows))


def shown(told: list[Told]) -> list[Told]:
    """What a watcher is told: every known sample, and every change of the cause."""
    cause, found = Cause.NEVER_RECEIVED, []
    for one in told:
        if one.cause == Cause.NONE or one.cause != cause:
            found.append(one)
        cause = one.cause
    return found


def values(rows: np.ndarray, subject: int) -> np.ndarray:
    """The rows about one signal's values."""
    return rows[(rows["kind"] == TransitionKind.VALUE) & (rows["subject"] == subject)]


def compare(case: Case, found: np.ndarray) -> None:
    """The rows about the residual are what the definition tells."""
    expected = shown(residuals(case.model, case.rows, case.ages[:-1], case.ages[-1], case.end))
    assert [(int(row["t_effective"]), int(row["cause"])) for row in found] == [(e.t, e.cause) for e in expected]
    for row, one in zip(found, expected, strict=True):
        if one.cause == Cause.NONE:
            assert row["value"] == one.value or abs(row["value"] - one.value) <= 1e-13 * one.scale
        else:
            assert math.isnan(row["value"])


@settings(max_examples=500)
@given(cases())
def test_equals_the_definition(case: Case) -> None:
    """Each sample of the response gives the error that the definition gives, or is unknown for its reason."""
    engine = case.engine()
    rows = np.concatenate([engine.advance(case.items()), engine.finish(case.end)])
    compare(case, values(rows, len(case.ages) - 1))


def test_the_definition_is_met_at_all() -> None:
    """The cases reach known values, and every cause."""
    seen: set[Cause] = set()

    @settings(max_examples=300, database=None, derandomize=True)
    @given(cases())
    def collect(case: Case) -> None:
        seen.update(one.cause for one in residuals(case.model, case.rows, case.ages[:-1], case.ages[-1], case.end))

    collect()
    assert seen == {Cause.NONE, Cause.NEVER_RECEIVED, Cause.STALE, Cause.NAN, Cause.WARMING, Cause.DEPENDENCY}


@settings(max_examples=150)
@given(cases(), st.data())
def test_cuts_into_calls_change_nothing(case: Case, data: st.DataObject) -> None:
    """However the stream is cut into calls, rows and digest are the same."""
    stream = case.items()
    whole = case.engine()
    rows = np.concatenate([whole.advance(stream), whole.finish(case.end)])
    engine = case.engine()
    places = [0, *sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6))), len(stream)]
    parts = [engine.advance(stream[a:b]) for a, b in itertools.pairwise(places)]
    assert np.concatenate([*parts, engine.finish(case.end)]).tobytes() == rows.tobytes()
    assert engine.digest() == whole.digest()


@settings(max_examples=150)
@given(cases(), st.data())
def test_asking_more_often_changes_nothing(case: Case, data: st.DataObject) -> None:
    """Time marks between the items, and samples of a signal that it does not read, change nothing but when it was found."""
    stream = case.items()
    whole = case.engine()
    rows = np.concatenate([whole.advance(stream), whole.finish(case.end)])
    engine = case.engine()
    parts = []
    for i in range(len(stream)):
        parts.append(engine.advance(stream[i : i + 1]))
        following = int(stream[i + 1]["t"]) if i + 1 < len(stream) else case.end
        if stream[i]["flags"] & FLAG_END:
            for share in sorted(data.draw(st.lists(st.floats(0, 1), max_size=3))):
                parts.append(engine.advance(until=int(stream[i]["t"] + share * (following - stream[i]["t"]))))
    again = np.concatenate([*parts, engine.finish(case.end)])
    for found in (rows, again):
        found["t_decided"] = 0
    assert again.tobytes() == rows.tobytes()


@settings(max_examples=150)
@given(cases(), st.data())
def test_a_snapshot_goes_on_where_it_was_taken(case: Case, data: st.DataObject) -> None:
    """Restored in another engine in the middle, the rest gives the same rows and digest."""
    stream = case.items()
    engine = case.engine()
    place = data.draw(st.integers(0, len(stream)))
    engine.advance(stream[:place])
    other = case.engine()
    other.restore(engine.snapshot())
    rest = [np.concatenate([e.advance(stream[place:]), e.finish(case.end)]) for e in (engine, other)]
    assert rest[0].tobytes() == rest[1].tobytes()
    assert engine.digest() == other.digest()


def example() -> Case:
    """400 samples with NaN, infinities, gaps and lost commands."""
    rng = np.random.default_rng(5)
    t, rows = 10 * S, list[Row]()
    for _ in range(400):
        t += int(rng.choice([100, 100, 100, 100, 100, 100, 95, 105, 0, 400], p=[*[0.12] * 8, 0.02, 0.02])) * MS
        value = float(rng.choice([math.nan, math.inf])) if rng.random() < 0.02 else float(rng.normal())
        rows += [(t, 1, float(rng.normal()), False), (t, 0, value, True)]
        if rng.random() < 0.9:
            rows.append((t + 30 * MS, 2, float(rng.normal()), True))
    return Case(WHOLE, (None, 1 * S, 350 * MS, None), tuple(rows))


SHORT = Arx(PERIOD, -0.5, (), ((0.5,),), delay=0)
LONG = Arx(PERIOD, 0.5, (0.25, -0.5, 0.125), ((1.0, 0.5, -0.25), (0.5, -1.0, 2.0)), delay=7)


@pytest.mark.parametrize(("model", "age"), [(WHOLE, None), (SHORT, None), (LONG, None), (WHOLE, 200 * MS)])
def test_residuals_beside_each_other_equal_the_definition(model: Arx, age: int | None) -> None:
    """Samples at the edges of a gap, of the rate and of their age, behind another residual: each is what the definition tells."""
    regular = [100 * MS] * 12
    gap = 250 * MS + 1
    steps = [*regular, *regular, gap - 1, *regular, gap, *regular, gap, gap, *regular, 220 * MS, *regular, 0, *regular]
    for fastest_mean in (150 * MS, 150 * MS + 1, 66_666_667, 66_666_666):
        steps += [fastest_mean] * 16
    t, rows = 10 * S, list[Row]()
    rng = np.random.default_rng(7)
    for k, step in enumerate(steps):
        t += step
        odd = {26: 1, 99: 0, 100: 2}.get(k)
        for j in [*range(1, len(model.b) + 1), 0]:
            rows.append((t, j, math.nan if j == odd else float(rng.choice(VALUES)), j == 0))
    case = Case(model, (age, *[None] * len(model.b), None), tuple(rows))
    *inputs, last = case.engine().plan.signal_specs
    beside = Signal("d", "", residual=Residual("y", ("u0",), SHORT), watch="each")
    engine = Engine(Plan.build([*inputs, beside, last], []))
    found = values(np.concatenate([engine.advance(case.items()), engine.finish(case.end)]), len(inputs) + 1)
    compare(case, found)
    assert {Cause.NONE, Cause.WARMING, Cause.NAN, Cause.DEPENDENCY} <= set(found["cause"])


def test_another_process_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """A snapshot taken in the middle, restored in another process without compiler, gives the same rows and digest."""
    case = example()
    stream = case.items()
    engine = case.engine()
    before = engine.advance(stream[:600])
    (tmp_path / "snapshot").write_bytes(engine.snapshot())
    after = np.concatenate([engine.advance(stream[600:]), engine.finish(case.end)])
    assert {Cause.NONE, Cause.NAN, Cause.WARMING, Cause.STALE} <= set(values(before, 3)["cause"])
    assert len(values(after, 3)) > 100
    script = (
        "import sys; from pathlib import Path; import numpy as np; import test_residual as r; folder = Path(sys.argv[1])\n"
        "case = r.example(); engine = case.engine(); engine.restore((folder / 'snapshot').read_bytes())\n"
        "rows = [engine.advance(case.items()[600:]), engine.finish(case.end)]\n"
        "(folder / 'rows').write_bytes(np.concatenate(rows).tobytes()); print(engine.digest())"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == engine.digest()
    assert (tmp_path / "rows").read_bytes() == after.tobytes()


def simple(own_age: int | None = None) -> Engine:
    """e = y - u, at 10 Hz, and twice of it."""
    model = Arx(PERIOD, 0.0, (), ((1.0,),))
    return Engine(
        Plan.build(
            [
                Signal("y", "/y", max_age=250 * MS),
                Signal("u", "/u"),
                Signal(
                    "twice", "", expr=Term("*", (Term("signal", name="e"), Term("number", number=2.0))), watch="each"
                ),
                Signal("e", "", residual=Residual("y", ("u",), model), max_age=own_age, watch="each"),
            ],
            [],
        )
    )


def test_only_samples_of_the_response_count() -> None:
    """Commands between two samples of the response change nothing; the next sample is judged by what is then in force."""
    engine = simple()
    stream = [(i * PERIOD, 0, 3.0) for i in range(12)]
    engine.advance(items((0, 1, 1.0), *stream))
    assert engine.signals[3]["value"] == 2.0
    assert len(engine.advance(items((11 * PERIOD + 1, 1, 5.0)))) == 0
    assert engine.signals[3]["value"] == 2.0
    rows = engine.advance(items((12 * PERIOD, 0, 3.0)))
    assert [float(row["value"]) for row in values(rows, 3)] == [-2.0]
    assert [float(row["value"]) for row in values(rows, 2)] == [-4.0]


def test_an_expired_residual_is_not_revived_by_a_command() -> None:
    """Once its own age has passed it is stale until the response's next sample, whatever the commands do."""
    engine = simple(own_age=150 * MS)
    engine.advance(items((0, 1, 1.0), *((i * PERIOD, 0, 3.0) for i in range(12))))
    engine.advance(until=11 * PERIOD + 151 * MS)
    assert engine.signals[3]["cause"] == Cause.STALE
    engine.advance(items((11 * PERIOD + 160 * MS, 1, 7.0)))
    assert engine.signals[3]["cause"] == Cause.STALE


def test_a_jump_of_the_clock_forgets() -> None:
    """After a step back of the clock nothing before it counts as a lag."""
    engine = simple()
    engine.advance(items((50 * S, 1, 1.0), *((50 * S + i * PERIOD, 0, 3.0) for i in range(12))))
    engine.advance(items((10 * S, 0, 3.0)))
    assert engine.signals[3]["cause"] == Cause.NEVER_RECEIVED
    engine.advance(items((10 * S, 1, 1.0), *((10 * S + i * PERIOD, 0, 3.0) for i in range(1, 9))))
    assert engine.signals[3]["cause"] == Cause.WARMING
    engine.advance(items((10 * S + 9 * PERIOD, 0, 3.0)))
    assert engine.signals[3]["cause"] == Cause.NONE


def test_the_plans_digest_covers_the_model() -> None:
    """Every number of a model changes the plan's digest."""
    others = [
        replace(WHOLE, constant=0.5),
        replace(WHOLE, period=PERIOD + 1),
        replace(WHOLE, delay=2),
        replace(WHOLE, a=(0.5, -0.5)),
        replace(WHOLE, b=((1.0, 0.5), (-2.0, 0.25))),
    ]
    plans = [Case(model, (None,) * 4, ()).engine().plan.digest() for model in (WHOLE, *others)]
    assert len(set(plans)) == len(plans)


def test_two_residuals_have_models_of_their_own() -> None:
    """Each residual of a plan predicts with its own model, beside a check that has numbers too."""
    models = [Arx(PERIOD, 0.0, (), ((float(k),),)) for k in (1, 2, 3)]
    signals = [Signal("y", "/y"), Signal("u", "/u")]
    signals += [Signal(f"e{k}", "", residual=Residual("y", ("u",), model)) for k, model in enumerate(models)]
    engine = Engine(Plan.build(signals, []))
    engine.advance(items((0, 1, 1.0), *((i * PERIOD, 0, 3.0) for i in range(12))))
    assert engine.signals["value"][2:].tolist() == [2.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "change",
    [
        {"a": (0.1,) * 7},
        {"b": ()},
        {"b": ((),)},
        {"b": ((1.0,), (1.0, 2.0))},
        {"b": ((1.0,),) * (MAX_COMMANDS + 1)},
        {"delay": 11},
        {"delay": -1},
        {"period": 0},
        {"constant": math.nan},
        {"a": (math.inf,)},
    ],
)
def test_impossible_models_are_refused(change: dict) -> None:
    """Orders, delays and numbers that the kernel has no room for never reach it."""
    with pytest.raises(ValueError, match="a model"):
        replace(WHOLE, **change)


def test_a_residual_without_model_has_no_plan() -> None:
    """What was read without its files can be looked at, but not run."""
    signals = [Signal("y", "/y"), Signal("u", "/u"), Signal("e", "", residual=Residual("y", ("u",)))]
    with pytest.raises(ValueError, match="signal e: has no model: make it with `edge-replay calibrate`"):
        Plan.build(signals, [])
    signals[2] = replace(signals[2], residual=Residual("y", ("u",), WHOLE))
    with pytest.raises(ValueError, match="is one of 2 commands"):
        Plan.build(signals, [])
