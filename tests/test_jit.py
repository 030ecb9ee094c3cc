"""Kernels: equal with and without compilation, in this process and another, and never stale in their cache.

Run as a program it walks the stream below and prints what came of it; the tests run it interpreted and compare.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from strategies import ACTIVE, FENCE, KINDS, MS, RATES, Case, S

from edge_monitor.core import jit
from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.engine import Engine
from edge_monitor.core.samples import (
    FLAG_END,
    ITEM_RESET_LATCH,
    ITEM_SET_LATCH,
    ITEM_SHIFT,
    ITEM_SOURCE_STATUS,
    SAMPLE,
    TRANSITION,
    Cause,
    Latch,
    TransitionKind,
)
from edge_monitor.core.signals import Signal

HERE = Path(__file__).resolve().parent
CHECKS = (
    CheckSpec("bounds", "bounds", ("a",), {"max": 2.0, "leave_max": 1.5, "min": -1.0}, fail_for=50 * MS),
    CheckSpec("latency", "latency", ("a",), {"max": 2.0}, latch=Latch.ON_MODE_CHANGE),
    CheckSpec("rate", "rate", ("a",), {"max": 20.0, "min": -20.0}, pass_for=100 * MS),
    CheckSpec("one_of", "one_of", ("b",), table=(1.0, 2.0)),
    CheckSpec("equals", "equals", ("b",), table=(1.0,), latch=Latch.MANUAL),
    CheckSpec("valid", "valid", ("a", "b"), {"covariance_max": 1.5}),
    CheckSpec("stale", "stale", ("b",), {"max": 150 * MS}),
    *(CheckSpec(f"frequency{i}", "frequency", ("a",), {"window": 300 * MS} | rate) for i, rate in enumerate(RATES)),
    CheckSpec("jitter", "jitter", ("a",), {"window": 300 * MS, "period": 50 * MS, "max": 30 * MS}),
    CheckSpec("agreement", "agreement", ("a", "b"), {"max": 1.0, "leave": 0.5, "wrap": 3.0}),
    CheckSpec("geofence", "geofence", ("lat", "lon", "a"), {"min_altitude": -1.0, "max_altitude": 2.0}, FENCE),
    CheckSpec("keep_out", "geofence", ("lat", "lon"), {"keep_out": 1.0}, FENCE),
)
NAMES = ("a", "b", "lat", "lon", "active")
CASE = Case(tuple(Signal(n, "/t", max_age=400 * MS, watch="change") for n in NAMES), CHECKS, "b", ("active", ACTIVE))


def stream() -> np.ndarray:
    """(n,) SAMPLE: 500 items that take every path: disorder, jumps, gaps, causes, NaN, infinities, commands."""
    rng = np.random.default_rng(20240501)
    items = np.zeros(500, SAMPLE)
    ordinary, rare = [0, 1, 20, 50, 50, 50, 70, 120], [500, -300, -1500]
    steps = rng.choice(ordinary + rare, len(items), p=[0.1, *[0.125] * 7, 0.015, 0.005, 0.005])
    items["t"] = 10 * S + np.cumsum(steps * MS)
    items["signal"] = rng.integers(0, len(NAMES), len(items))
    items["value"] = rng.normal(1.0, 1.2, len(items))
    place = (items["signal"] == 2) | (items["signal"] == 3)
    items["value"][place] = rng.uniform(-3e-4, 1.3e-3, place.sum())
    state = (items["signal"] == 1) | (items["signal"] == 4)
    items["value"][state] = rng.integers(0, 3, state.sum())
    odd = rng.random(len(items)) < 0.08
    items["value"][odd] = rng.choice([np.nan, np.inf, -np.inf, 1e308, -1e308, -0.0], odd.sum())
    items["flags"] = np.where(rng.random(len(items)) < 0.7, FLAG_END, 0)
    items["flags"][rng.random(len(items)) < 0.04] |= int(Cause.INVALID)
    for kind, cause in (
        (ITEM_RESET_LATCH, 0),
        (ITEM_SET_LATCH, 0),
        (ITEM_SOURCE_STATUS, Cause.QOS),
        (ITEM_SOURCE_STATUS, 0),
    ):
        chosen = rng.random(len(items)) < 0.02
        items["flags"][chosen] = kind << ITEM_SHIFT | int(cause)
    return items


def first_half() -> np.ndarray:
    """Up to the middle of a message."""
    items = stream()
    cut = next(k for k in range(250, 500) if items["flags"][k - 1] == 0)
    return items[:cut]


def finish(engine: Engine, rows: np.ndarray) -> bytes:
    """End the stream 2 s after its last item; answers rows and digest."""
    last = engine.finish(int(engine.head["now"]) + 2 * S)
    return np.concatenate([rows, last]).tobytes() + engine.digest().encode()


def whole() -> bytes:
    """The whole stream in one run: rows and digest."""
    engine = Engine(CASE.plan())
    return finish(engine, engine.advance(stream()))


def second_half(snapshot: bytes) -> bytes:
    """The rest of the stream, from the snapshot that the first half left."""
    engine = Engine(CASE.plan())
    engine.restore(snapshot)
    return finish(engine, engine.advance(stream()[len(first_half()) :]))


def elsewhere(*arguments: str, interpreted: bool, data: bytes = b"") -> bytes:
    """What this file prints when run as a program in a process of its own."""
    strict = {"PYTHONWARNINGS": "error::RuntimeWarning"}
    environment = {**os.environ, **strict, "NUMBA_DISABLE_JIT": "1" if interpreted else "0"}
    done = subprocess.run(
        [sys.executable, __file__, *arguments], input=data, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_the_stream_takes_every_path() -> None:
    """The stream that the tests here compare has transitions of every kind and every check, drops and jumps."""
    engine = Engine(CASE.plan())
    rows = engine.advance(stream())
    assert {check.kind for check in CHECKS} == set(KINDS)
    assert set(rows["kind"]) == {int(kind) for kind in TransitionKind}
    changed = rows[rows["kind"] == TransitionKind.CHECK]
    assert set(changed["subject"]) == set(range(len(CHECKS)))
    assert {(int(r["subject"]), int(r["verdict"])) for r in changed} >= {(i, 2) for i in range(len(CHECKS))}
    assert engine.head["dropped"] > 0 and engine.head["jumps"] > 0


def test_compiled_and_interpreted_kernels_agree_bit_for_bit() -> None:
    """The same stream with NUMBA_DISABLE_JIT=1 gives the same bytes of transitions and the same digest."""
    assert elsewhere("whole", interpreted=True) == whole()


@pytest.mark.parametrize("interpreted", [False, True])
def test_a_snapshot_goes_on_in_another_process(interpreted: bool) -> None:
    """A snapshot taken inside a message goes on in another process, compiled or not, as the uninterrupted run here."""
    engine = Engine(CASE.plan())
    rows = engine.advance(first_half())
    assert engine.head["open"] == 1
    rest = elsewhere("second_half", interpreted=interpreted, data=engine.snapshot())
    assert rows.tobytes() + rest == whole()
    assert len(rest) > TRANSITION.itemsize


def core_copy(folder: Path) -> Path:
    """A copy of the package's core, alone, under ``folder``."""
    package = folder / "edge_monitor"
    shutil.copytree(jit.CORE, package / "core", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").touch()
    return package / "core"


def python(code: str, folder: Path) -> str:
    """Run ``code`` against the copy in ``folder``, with a cache of its own; answers what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "EDGE_MONITOR_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_edited_callee_is_compiled_anew(tmp_path: Path) -> None:
    """Editing a kernel in one file is noticed by a cached kernel of another file that calls it."""
    core = core_copy(tmp_path)
    (core / "callee.py").write_text("from .jit import kernel\n\n@kernel\ndef callee(x):\n    return x + 1\n")
    (core / "caller.py").write_text(
        "from .callee import callee\nfrom .jit import kernel\n\n@kernel\ndef caller(x):\n    return callee(x) * 10\n"
    )
    code = (
        "from edge_monitor.core import caller, jit\n"
        "print(jit.source_digest(), caller.caller(1), sum(caller.caller.stats.cache_hits.values()))"
    )
    before, *first = python(code, tmp_path).split()
    again, *second = python(code, tmp_path).split()
    assert (first, second, again) == (["20", "0"], ["20", "1"], before)
    (core / "callee.py").write_text("from .jit import kernel\n\n@kernel\ndef callee(x):\n    return x + 2\n")
    after, *third = python(code, tmp_path).split()
    assert third == ["30", "0"]
    assert after != before


def test_the_source_digest_changes_with_every_source(tmp_path: Path) -> None:
    """A changed, a new and a renamed source of the core each give another digest; other files don't."""
    core = core_copy(tmp_path)
    code = "from edge_monitor.core import jit; print(jit.source_digest())"
    digests = [python(code, tmp_path)]
    (core / "notes.txt").write_text("no source")
    assert python(code, tmp_path) == digests[0]
    with (core / "checks" / "bounds.py").open("a") as source:
        source.write("\n# edited\n")
    digests.append(python(code, tmp_path))
    (core / "checks" / "new.py").write_text("")
    digests.append(python(code, tmp_path))
    (core / "checks" / "new.py").rename(core / "checks" / "newer.py")
    digests.append(python(code, tmp_path))
    assert len(set(digests)) == len(digests)


def test_an_unwritable_cache_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the cache folder can't be made or written, kernels are kept in a private folder of the temporary one."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("EDGE_MONITOR_CACHE_DIR", str(tmp_path / "file" / "cache"))  # under a file: never a folder
    base = jit.cache_base()
    assert base == tmp_path / f"edge-monitor-{os.getuid()}"
    assert base.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("EDGE_MONITOR_CACHE_DIR", str(tmp_path / "wanted"))
    assert jit.cache_base() == tmp_path / "wanted"


WARM = """
from edge_monitor.commands.warm import command
from edge_monitor.core.advance import advance
command.main([], standalone_mode=False)
print(*sorted(map(str, advance.signatures)), sep="\\n")
"""
EVERY_VARIANT = """
import numpy as np
from edge_monitor.core.advance import advance
from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.drift import cusum, edetector, pipeline, vector
from edge_monitor.core.engine import VARIANTS, Engine
from edge_monitor.core.formula.term import Term
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import FLAG_END, SAMPLE
from edge_monitor.core.signals import Signal

one = pipeline.pack(pipeline.CUSUM, [pipeline.Row(cusum.cusum_params(9.0, 0.25))])
params = edetector.edetector_params(9.0, (1.0, 2.0, 3.0), (0.2, 0.1, 0.05))
row = vector.vector_row(params, [0.0] * 2, [1.0] * 2, [1.0] * 2, [0.0] * 2, [()] * 2, [1.0, 0.0, 0.0, 1.0])
two = pipeline.pack(pipeline.MAHALANOBIS, [row], feed=pipeline.MAGNITUDE, dimensions=2)
less = Term("<", (Term("signal", name="x"), Term("number", number=1.0)))
checks = (
    CheckSpec("formula", "formula", ("x",), formula=less),
    CheckSpec("drift", "drift", ("x",), table=one),
    CheckSpec("vector", "drift", ("x", "y"), table=two),
)
items = np.zeros(2, SAMPLE)
items["signal"], items["flags"] = (0, 1), (0, FLAG_END)
for variant in VARIANTS:
    chosen = [check for check, wanted in zip(checks, variant, strict=True) if wanted]
    engine = Engine(Plan.build([Signal("x", "/x"), Signal("y", "/x")], chosen))
    assert engine.variant == variant
    engine.advance(items, 5)
    engine.finish(9)
print(sum(advance.stats.cache_misses.values()), sum(advance.stats.cache_hits.values()))
print(*sorted(map(str, advance.signatures)), sep="\\n")
"""


def test_after_warm_nothing_is_compiled() -> None:
    """`edge-monitor warm` has every kernel that a plan can need: a process after it loads them all and leaves no new file."""

    def child(code: str) -> list[str]:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env={**os.environ, "NUMBA_DISABLE_JIT": "0"}, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().splitlines()

    said, *warmed = child(WARM)
    assert said.startswith("8 kernels ready in ")
    place = jit.cache_base() / jit.source_digest()[:32]
    before = {path.name for path in place.rglob("advance.*")}
    counts, *needed = child(EVERY_VARIANT)
    assert counts == "0 6"
    assert needed == warmed
    assert {path.name for path in place.rglob("advance.*")} == before
    assert len(before) >= 6


if __name__ == "__main__":
    what = sys.argv[1]
    sys.stdout.buffer.write(whole() if what == "whole" else second_half(sys.stdin.buffer.read()))
