"""``make mutants``: is there a test that falls for every small change in gates, authority, handover and checks?

Exits with 1 where a mutant survives that ``mutation/survivors.yaml`` doesn't explain, or where that file explains one that
doesn't survive; ``test_mutants.py`` tries a few. Runs the interpreter's way (``NUMBA_DISABLE_JIT=1``): compiled kernels equal it
bit for bit, which other tests show, and can't be changed in a running process.

mutmut 3 was tried first: it leaves decorated functions and classes alone, which here is every kernel and every record.
Cosmic Ray changes everything, but starts a process a mutant: 3 s of imports each, an hour and a half for these 1,700.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from mutation.mutants import CORE, Mutant, mutants_of
from mutation.trial import ARGUMENTS, Outcome, Runner
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path.relative_to(CORE).as_posix()
    for pattern in ("gates*.py", "authority.py", "handover*.py", "checks/*.py")
    for path in CORE.glob(pattern)
    if path.name != "__init__.py"  # nothing to change
)
SURVIVORS = ROOT / "tests" / "mutation" / "survivors.yaml"
_HANDOVER = ("test_handover.py", "test_handover_history.py", "test_handover_restart.py")
_CHECKS = ("test_check_edges.py", "test_checks.py", "test_engine.py")
#: The test files that are about a source. All of them together are tried in full, each test on what it runs; a sample
#: is tried with those of its sources.
TESTS: dict[str, tuple[str, ...]] = {
    "gates.py": ("test_gates.py", "test_gates_switch.py", "test_waivers.py"),
    "authority.py": ("test_authority.py",),
    "handover.py": _HANDOVER,
    "handover_history.py": _HANDOVER,
    "handover_state.py": _HANDOVER,
    "handover_terms.py": _HANDOVER,
    "checks/bounds.py": _CHECKS,
    "checks/dispatch.py": (*_CHECKS, "test_drift_vectors.py", "test_formula_edges.py"),
    "checks/drift.py": ("test_drift_check.py", "test_drift_vectors.py"),
    "checks/registry.py": (*_CHECKS, "test_drift_vectors.py", "test_formula_edges.py", "test_geofence.py"),
    "checks/relations.py": (*_CHECKS, "test_geofence.py"),
    "checks/residual.py": ("test_residual.py",),
    "checks/temporal.py": ("test_formula_edges.py", "test_formula.py", "test_formula_overflow.py"),
    "checks/timing.py": _CHECKS,
    "checks/vector_drift.py": ("test_drift_vectors.py",),
}

#: Tests that take half a minute and more this way: for mutants that survive all others.
LAST = {
    "test_handover_exhaustive.py": ("handover.py", "handover_history.py", "handover_state.py", "handover_terms.py"),
    "test_drift_check.py::test_cuts_and_snapshots_change_nothing": ("checks/drift.py",),
    "test_drift_vectors.py::test_cuts_and_snapshots_change_nothing": ("checks/drift.py", "checks/vector_drift.py"),
}


def explained(path: Path = SURVIVORS) -> dict[tuple[str, str, str], str]:
    """Why a mutant survives, by source, function and change."""
    document = YAML(typ="safe").load(path)
    return {
        (source, function, change): group["why"]
        for source, functions in document.items()
        for function, groups in functions.items()
        for group in groups
        for change in group["mutants"]
    }


def key(mutant: Mutant) -> tuple[str, str, str]:
    """What a mutant is called in the list of survivors."""
    return mutant.source, mutant.function, mutant.change


def trial(mutants: Sequence[Mutant], files: Sequence[str], jobs: int, **options: Any) -> list[Outcome]:
    """Try mutants against test files; ``options`` are :class:`Runner`'s.

    Raises ``RuntimeError`` where a test fails without a mutant, or can't be collected.
    """
    start, terminal = time.monotonic(), sys.stderr.isatty()

    def tell(_: Outcome) -> None:
        if terminal:
            print(f"\r{len(runner.outcomes)} of {len(mutants)} mutants", end="", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(mutants, jobs, Path(folder), tell, **options)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            code = pytest.main([*ARGUMENTS, *(str(ROOT / "tests" / name) for name in files)], plugins=[runner])
    if terminal:
        print(f"\r{time.monotonic() - start:.0f} s".ljust(40), file=sys.stderr)
    if runner.broken:
        raise RuntimeError(f"fails without a mutant: {', '.join(runner.broken)}")
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) or len(runner.outcomes) < len(mutants):
        raise RuntimeError(f"pytest gave up (exit {int(code)}):\n{said.getvalue()}")
    return runner.outcomes


def report(outcomes: Sequence[Outcome], reasons: Mapping[tuple[str, str, str], str], seconds: float) -> int:
    """Print a line for each source, and for each mutant that must not have survived; answers how many those are."""
    ends: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        count = ends.setdefault(outcome.mutant.source, Counter())
        count["all"] += 1
        count[outcome.end] += 1
        count["explained"] += outcome.alive and key(outcome.mutant) in reasons
    for source, count in sorted(ends.items()):
        alive = count["survived"] + count["unreached"]
        print(
            f"{source:24} {count['all']:4} mutants: {count['killed']:4} killed, {count['timeout']:3} endless, "
            f"{alive:3} alive ({count['explained']} explained)"
        )
    wrong = [outcome for outcome in outcomes if outcome.alive and key(outcome.mutant) not in reasons]
    for outcome in wrong:
        mutant = outcome.mutant
        print(f"{mutant.place}: {outcome.end}: in {mutant.function or 'the module'}: {mutant.change}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime + time.process_time()
    print(
        f"{len(outcomes)} mutants in {seconds:.0f} s ({cpu:.0f} s of CPU), {len(wrong)} of them alive without an explanation"
    )
    return len(wrong)


def stale(outcomes: Sequence[Outcome], reasons: Mapping[tuple[str, str, str], str], sources: Sequence[str]) -> int:
    """Name the explanations of mutants that don't survive, or don't exist; answers how many."""
    alive = {key(outcome.mutant) for outcome in outcomes if outcome.alive}
    wrong = [names for names in reasons if names[0] in sources and names not in alive]
    for source, function, change in wrong:
        print(f"{SURVIVORS.relative_to(ROOT)}: explains what doesn't survive: {source}, {function}: {change}")
    return len(wrong)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try all mutants, or a sample of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sources", nargs="*", default=SOURCES, help="source files below edge_monitor/core (default: all)"
    )
    parser.add_argument(
        "--sample", type=int, metavar="N", help="only N mutants, of sources gone through already, with quick tests"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--jobs", type=int, default=min(4, len(os.sched_getaffinity(0))), help="processes at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what became of each mutant")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(ROOT / "replay")]  # the sources that are changed, whatever is installed
    os.environ["NUMBA_DISABLE_JIT"] = "1"  # before anything imports Numba
    reasons = explained()
    mutants = [mutant for source in options.sources for mutant in mutants_of(source)]
    start = time.monotonic()
    if options.sample is not None:
        print(f"seed {options.seed}")
        known = {source for source, _, _ in reasons}
        mutants = [
            mutant for mutant in mutants if mutant.source in known and key(mutant) not in reasons and not mutant.at_load
        ]
        mutants = random.Random(options.seed).sample(mutants, options.sample)
        files = sorted({name for mutant in mutants for name in TESTS[mutant.source]})
        outcomes = trial(mutants, files, options.jobs, guess=TESTS)
    else:
        files = sorted({name for source in options.sources for name in TESTS[source]})
        expected = [mutant for mutant in mutants if key(mutant) in reasons]
        last = {start: sources for start, sources in LAST.items() if set(sources) & set(options.sources)}
        files += sorted({start.partition("::")[0] for start in last} - set(files))
        outcomes = trial(mutants, files, options.jobs, expected=expected, last=last)
    wrong = report(outcomes, reasons, time.monotonic() - start)
    if options.sample is None:
        wrong += stale(outcomes, reasons, options.sources)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([document(outcome, reasons) for outcome in outcomes], indent=1))
    return 1 if wrong else 0


def document(outcome: Outcome, reasons: Mapping[tuple[str, str, str], str]) -> dict[str, Any]:
    """An outcome as JSON holds it."""
    mutant = outcome.mutant
    return {
        "place": mutant.place, "function": mutant.function, "change": mutant.change, "end": outcome.end, "by": outcome.by,
        "tests": outcome.tests, "seconds": round(outcome.seconds, 2), "why": reasons.get(key(mutant), ""),
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
