"""Ten signals under past-time formulas, one ``advance`` call a step that carries the message with their ten samples.

Wall clock of each call by ``perf_counter_ns``, as a control loop would see it; messages are made before the clock starts,
ours as theirs. Other work on the machine comes and goes, so each figure is the best of several rounds, the 99.9th percentile
too; only that of the million steps is of all of them. RTAMT's discrete online monitor gets the same values and the same
formula, one conjunction of ten operators, and must give the same answers as ours once its windows are full. ``hold`` is what
a formula does unless told otherwise: what is in force between samples counts, at nanosecond stamps, where RTAMT counts
steps; ``pointwise`` is RTAMT's meaning.
``10 checks`` are ten checks of one operator each, which also means ten verdicts with margins.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.engine import Engine
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, SAMPLE
from edge_monitor.core.signals import Signal
from edge_monitor.envelope.formulas import parse_formula

Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

N = 10
SIGNALS = [Signal(f"x{i}", "/t", max_age=10**9) for i in range(N)]
KNOWN = {signal.name: signal for signal in SIGNALS}
#: Of one signal, in our notation; RTAMT's has ``:`` between the ends of a window.
OPERATORS = {
    "historically": "historically[0 s, 1 s]({x} <= 3.5)",
    "once": "once[0 s, 1 s]({x} > 3.5)",
    "since": "(({x} <= 3.5) since[0 s, 1 s] ({x} <= 0.5))",
}


def ours(operator: str, checks: int = 1, pointwise: bool = False) -> Engine:
    """An engine with ten operators in one check, or in ten."""
    texts = [OPERATORS[operator].format(x=signal.name) for signal in SIGNALS]
    if checks == 1:
        texts = [" and ".join(texts)]
    specs = []
    for i, text in enumerate(texts):
        term = parse_formula(text, KNOWN).term
        specs.append(CheckSpec(f"c{i}", "formula", term.signals(), {"pointwise": float(pointwise)}, formula=term))
    return Engine(Plan.build(SIGNALS, specs))


def steps(engine: Engine, values: Values, period: int, start: int = 0) -> tuple[Times, Values]:
    """ns of each call, and the margin after it, of a message a row of ``values``, ``period`` ns apart."""
    message = np.zeros(N, SAMPLE)
    message["signal"] = np.arange(N)
    message["flags"][-1] = FLAG_END
    spent = np.zeros(len(values), np.int64)
    margins = np.zeros(len(values) if len(values) <= 5000 else 0)
    clock, advance = time.perf_counter_ns, engine.advance
    t, value = message["t"], message["value"]
    for k, row in enumerate(values):
        t[:] = start + k * period
        value[:] = row
        begin = clock()
        advance(message)
        spent[k] = clock() - begin
        if len(margins):
            margins[k] = engine.memory.states[0]["margin"]
    return spent, margins


def theirs(operator: str, values: Values, period: int) -> tuple[Times, Values]:
    """The same of RTAMT. Raises ``ImportError`` where it is not installed."""
    import rtamt

    spec = rtamt.StlDiscreteTimeOnlineSpecification()
    for signal in SIGNALS:
        spec.declare_var(signal.name, "float")
    spec.declare_var("out", "float")
    spec.set_sampling_period(period // 1_000_000, "ms", 0.1)
    text = OPERATORS[operator].replace(", ", ":").replace("0 s", "0s").replace("1 s", "1s")
    spec.spec = "out = " + " and ".join(f"({text.format(x=signal.name)})" for signal in SIGNALS)
    spec.parse()
    spent, answers = np.zeros(len(values), np.int64), np.zeros(len(values))
    for k, row in enumerate(values.tolist()):
        pairs = list(zip(KNOWN, row, strict=True))
        begin = time.perf_counter_ns()
        answers[k] = spec.update(k, pairs)
        spent[k] = time.perf_counter_ns() - begin
    return spent, answers


def peer(operator: str, values: Values, period: int) -> dict[str, float]:
    """RTAMT's median µs with full windows (better of two rounds), after its answers have been compared with ours."""
    window = 1_000_000_000 // period
    try:
        rounds = [theirs(operator, values, period) for _ in range(2)]
    except ImportError:
        return {}
    _, margins = steps(ours(operator, pointwise=True), values, period)
    if not np.allclose(margins[window:], rounds[0][1][window:], rtol=0, atol=1e-12):
        raise AssertionError(f"{operator}: our margin differs from RTAMT's")
    return {"rtamt": min(float(np.median(spent[window:])) for spent, _ in rounds) / 1e3}


def quantiles(runs: dict[str, tuple[Callable[[], Times], float]], rounds: int) -> dict[str, float]:
    """µs: of each run the least over all rounds of a quantile of its calls' times, the first fifth (empty windows) left out.

    The runs take turns, so that a while in which the machine is busy spoils none of them.
    """
    found = dict.fromkeys(runs, math.inf)
    for _ in range(rounds):
        for name, (run, share) in runs.items():
            spent = run()
            found[name] = min(found[name], float(np.quantile(spent[len(spent) // 5 :], share)) / 1e3)
    return found


def ramps(length: int) -> Values:
    """The worst for a sliding minimum: long falls that fill all queues, then a step that empties them at once."""
    phase = np.arange(length) % 150 / 150
    return np.repeat((3.0 - phase)[:, None], N, axis=1)


def resident() -> int:
    """Bytes of memory that this process has in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def endurance(calls: int) -> tuple[float, float, float]:
    """Of so many steps at 100 Hz: 99.9th percentile of all (µs), cost at the end over cost at the start, kB of growth.

    The cost is the best median of 10 000 steps within the last and the first tenth.
    """
    engine = ours("historically")
    block = np.random.default_rng(3).normal(size=(10_000, N))
    spent = np.ones((calls // len(block), len(block)), np.int64)
    before = 0
    for k in range(len(spent)):
        spent[k] = steps(engine, block, 10_000_000, k * len(block) * 10_000_000)[0]
        if k == 0:
            before = resident()
    growth = (resident() - before) / 1024
    tenth = max(len(spent) // 10, 1)
    medians = np.median(spent, axis=1)
    return float(np.quantile(spent, 0.999)) / 1e3, float(medians[-tenth:].min() / medians[:tenth].min()), growth


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """All figures; without RTAMT the peers' are left out."""
    rounds, length = (3, 2000) if quick else (10, 5000)
    values = np.random.default_rng(2).normal(size=(length, N))
    runs: dict[str, tuple[Callable[[], Times], float]] = {}
    peers: dict[str, dict[str, float]] = {}
    for what, operator, period, peer_steps in (
        ("historically 10 x 1 s at 100 Hz", "historically", 10_000_000, 1000),
        ("once 10 x 1 s at 100 Hz", "once", 10_000_000, 1000),
        ("since 10 x 1 s at 100 Hz", "since", 10_000_000, 250),
        ("historically 10 x 1 s at 1 kHz", "historically", 1_000_000, 2000),
    ):
        compared = peer(operator, values[:peer_steps], period)
        for kind, checks, pointwise in (("hold", 1, False), ("pointwise", 1, True), ("10 checks", N, False)):
            engine = partial(ours, operator, checks, pointwise)
            runs[f"{what}, {kind}"] = lambda make=engine, step=period: steps(make(), values, step)[0], 0.5
            peers[f"{what}, {kind}"] = {} if kind == "10 checks" else compared
    for what, stream in (("noise", values), ("ramps", ramps(length))):
        name = f"historically 10 x 1 s p99.9, {what}"
        runs[name] = lambda given=stream: steps(ours("historically"), given, 10_000_000)[0], 0.999
    found = [row(name, "us/call", figure, peers.get(name, {})) for name, figure in quantiles(runs, rounds).items()]
    tail, flat, growth = endurance(100_000 if quick else 1_000_000)
    run = f"historically, {'100 k' if quick else '1 M'} steps"
    found.append(row(f"{run}: p99.9 of all", "us/call", tail, {}))
    found.append(row(f"{run}: last/first tenth", "ratio", flat, {}))
    found.append(row(f"{run}: memory growth", "kB", growth, {}))
    return found


def row(name: str, unit: str, figure: float, peers: dict[str, float]) -> dict[str, Any]:
    """A benchmark row."""
    return {
        "name": name,
        "unit": unit,
        "ours": figure,
        "peers": peers,
        "ratios": {k: v / figure for k, v in peers.items()},
    }
