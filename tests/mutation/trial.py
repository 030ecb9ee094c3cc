"""Tests against mutants: pytest collects them once, and each mutant gets a forked process with them warm in it.

A change inside a function is put into the running process by giving the function the changed code, so that all who have
imported it run it; what a module does when it is loaded needs a process of its own (``alone``).
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from hypothesis import Phase, settings

from .mutants import CORE, Mutant

TESTS = Path(__file__).resolve().parent.parent

EXAMPLES = 100  #: that Hypothesis tries of a test at first
FEW = 20  #: that it tries where a mutant is expected to survive
CPU_S, TIMES = 1.0, 5.0  #: a test may take this much, and this many times as long as without a mutant, but watched
WALL_S, WALL_TIMES = (
    300,
    20,
)  #: seconds on the clock, and more of them for each of the CPU: machines are busy, or held up
MEMORY = 4 << 30  #: bytes of address space that a mutant may take
SURVIVED, KILLED, BROKEN = 0, 1, 3  #: exit codes of a trial
SETTINGS = (
    "_hypothesis_internal_use_settings"  #: where Hypothesis keeps a test's; were it elsewhere, trials would be longer
)
ARGUMENTS = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "--assert=plain"]


@dataclass(frozen=True)
class Known:
    """What is known of a test: its CPU seconds, whether it passed, the lines of each source file that it runs, and whether
    it is for those only that survive the quick ones."""

    seconds: float
    passed: bool
    lines: dict[str, frozenset[int]]
    last: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: ``killed`` by the test ``by``, or ``timeout``, ``survived``, ``unreached`` by any test."""

    mutant: Mutant
    end: str
    by: str
    tests: int
    seconds: float

    @property
    def alive(self) -> bool:
        """Whether no test fell for it."""
        return self.end in ("survived", "unreached")


def quick_to_fail() -> None:
    """Hypothesis finds counterexamples, and neither shrinks nor keeps them."""
    phases = [Phase.explicit, Phase.generate]
    settings.register_profile("mutants", parent=settings.get_profile("edge-monitor"), phases=phases, database=None)
    settings.load_profile("mutants")


class Watch:
    """Notes which lines of the sources run."""

    def __init__(self, sources: Sequence[str]) -> None:
        self.seen: dict[str, set[int]] = {source: set() for source in sources}
        self._tracers = {str(CORE / source): self._tracer(seen) for source, seen in self.seen.items()}
        self._lines: dict[CodeType, set[int]] = {}

    def _tracer(self, seen: set[int]) -> Callable[[FrameType, str, Any], Any]:
        def line(frame: FrameType, event: str, _: Any) -> Any:
            if event == "line":
                seen.add(frame.f_lineno)
            return line

        def call(frame: FrameType, event: str, _: Any) -> Any:
            code = frame.f_code
            if code not in self._lines:
                lines = {number for _, _, number in code.co_lines() if number}
                self._lines[code] = lines - {code.co_firstlineno} or lines  # its head doesn't run again
            return None if self._lines[code] <= seen else line

        return call

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        """A call: its lines are of interest where they are of the sources, and some have not run yet."""
        tracer = self._tracers.get(frame.f_code.co_filename)
        return None if tracer is None else tracer(frame, event, None)

    def take(self) -> dict[str, frozenset[int]]:
        """The lines that have run since this was last asked."""
        lines = {source: frozenset(seen) for source, seen in self.seen.items() if seen}
        for seen in self.seen.values():
            seen.clear()
        return lines


class Runner:
    """Plugin: learns what each test runs, then tries the mutants; pytest itself runs nothing.

    ``last``: how the ids of slow tests begin (below ``tests/``), with the sources that they are for; a mutant of these
    that survives all else gets them too, and all of Hypothesis's examples, unless it is among the ``expected`` survivors.
    ``guess``: instead of learning, take all tests of these files (by source) for relevant, plain ones first, and of
    them those with the function in their name.
    """

    def __init__(
        self,
        mutants: Sequence[Mutant],
        jobs: int,
        folder: Path,
        tell: Callable[[Outcome], None],
        *,
        expected: Collection[Mutant] = (),
        last: Mapping[str, Sequence[str]] | None = None,
        guess: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.mutants, self.jobs, self.folder, self.tell = mutants, jobs, folder, tell
        self.expected, self.last, self.guess = frozenset(expected), last or {}, guess
        self.known: dict[str, Known] = {}
        self.outcomes: list[Outcome] = []
        self.broken: list[str] = []
        self.failed = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Before test modules are imported: their settings inherit the profile."""
        quick_to_fail()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure of the test that runs."""
        self.failed = self.failed or report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of running the tests."""
        if session.testsfailed:
            raise session.Interrupted(f"{session.testsfailed} test files can't be imported")
        self._suppose(session.items)
        self._learn([item for item in session.items if item.nodeid not in self.known])
        self.broken = [name for name, known in self.known.items() if not known.passed]
        if not self.broken:
            self._try_all({item.nodeid: item for item in session.items})
        return True

    def _run(self, item: pytest.Item, cpu: float) -> bool:
        """Whether a test passes. Beyond ``cpu`` seconds the process is ended."""
        self.failed = False
        signal.setitimer(signal.ITIMER_PROF, cpu)
        signal.alarm(int(WALL_S + WALL_TIMES * cpu))
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        return not self.failed

    # Without a mutant.

    def _learn(self, items: Sequence[pytest.Item]) -> None:
        children = []
        for part in range(self.jobs):
            path = self.folder / f"known-{part}.json"
            pid = os.fork()
            if pid == 0:
                _quiet()
                try:
                    path.write_text(json.dumps([self._watched(item) for item in items[part :: self.jobs]]))
                finally:
                    os._exit(0)
            children.append((pid, path))
        for pid, path in children:
            os.waitpid(pid, 0)
            for name, seconds, passed, lines in json.loads(path.read_text()):
                self.known[name] = Known(seconds, passed, {source: frozenset(rows) for source, rows in lines.items()})

    def _suppose(self, items: Sequence[pytest.Item]) -> None:
        """Tests whose lines are not learned: the last ones, and all where they are guessed."""
        for item in items:
            name = item.nodeid.removeprefix("tests/")
            last = next((sources for start, sources in self.last.items() if name.startswith(start)), ())
            guess = [] if self.guess is None else [s for s, names in self.guess.items() if item.path.name in names]
            lines = {source: _all_lines(source) for source in last or guess}
            drawn = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
            if lines:
                self.known[item.nodeid] = Known(60.0 if last else 1.0 if drawn else 0.1, True, lines, bool(last))

    def _watched(self, item: pytest.Item) -> tuple[str, float, bool, dict[str, list[int]]]:
        few_examples(item)
        watch = Watch(sorted({mutant.source for mutant in self.mutants}))
        before, start = _of_others(), time.process_time()
        sys.settrace(watch)
        try:
            passed = self._run(item, 600)
        finally:
            sys.settrace(None)
        lines = {source: sorted(rows) for source, rows in watch.take().items()}
        if _of_others() != before:  # other processes don't have the mutant
            lines = {}
        return item.nodeid, time.process_time() - start, passed, lines

    # With mutants.

    def _relevant(self, mutant: Mutant) -> list[str]:
        """The tests that run the mutant's lines, or its file where it acts at load time; the quickest first."""
        first, last = mutant.span
        wanted = None if mutant.at_load else set(range(first, last + 1))
        found = [
            (known.last, known.seconds, mutant.function.rpartition(".")[2] not in name, name)
            for name, known in self.known.items()
            if (lines := known.lines.get(mutant.source)) and (wanted is None or not wanted.isdisjoint(lines))
        ]
        return [name for *_, name in sorted(found)]

    def _try_all(self, items: dict[str, pytest.Item]) -> None:
        waiting = list(self.mutants)[::-1]
        running: dict[int, tuple[Mutant, list[str], float]] = {}
        killers: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        while waiting or running:
            while waiting and len(running) < self.jobs:
                mutant = waiting.pop()
                tests = self._relevant(mutant)
                if not tests:
                    self._note(Outcome(mutant, "unreached", "", 0, 0.0))
                    continue
                known = killers[mutant.source, mutant.function]
                tests.sort(key=lambda name: -known[name] / (0.01 + self.known[name].seconds))  # a stable sort
                tests.sort(key=lambda name: self.known[name].last)
                pid = self._fork(mutant, [items[name] for name in tests])
                running[pid] = mutant, tests, time.monotonic()
            if running:
                pid, status = os.wait()
                mutant, tests, start = running.pop(pid)
                outcome = self._outcome(mutant, tests, status, time.monotonic() - start)
                killers[mutant.source, mutant.function][outcome.by] += 1
                self._note(outcome)

    def _note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.tell(outcome)

    def _fork(self, mutant: Mutant, tests: list[pytest.Item]) -> int:
        pid = os.fork()
        if pid:
            return pid
        _quiet()
        code = BROKEN
        try:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            by = self._by(mutant)
            if mutant.at_load:
                listed = by.with_name(f"{by.name}.tests")
                listed.write_text("\n".join(item.nodeid for item in tests))
                os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS), *sys.path])
                most = str(FEW if mutant in self.expected else EXAMPLES)
                command = [sys.executable, "-m", "mutation.alone", mutant.source, str(mutant.number), str(listed), most]
                os.execv(command[0], command)
            install(mutant)
            code = SURVIVED if self._survives(mutant, tests, by) else KILLED
        finally:
            os._exit(code)

    def _survives(self, mutant: Mutant, tests: Sequence[pytest.Item], by: Path) -> bool:
        if mutant in self.expected:
            for item in tests:
                few_examples(item, FEW)
        all_examples = [(item, few_examples(item)) for item in tests]
        rounds = [[item for item in tests if not self.known[item.nodeid].last]]
        if mutant not in self.expected and self.guess is None:
            rounds.append([item for item, more in all_examples if more or self.known[item.nodeid].last])
        for again, items in enumerate(rounds):
            for item in items:
                by.write_text(item.nodeid)  # also for one that never ends
                times = 1
                if again and (more := dict(all_examples).get(item)):
                    more()
                    times = 20
                if not self._run(item, CPU_S + times * TIMES * self.known[item.nodeid].seconds):
                    return False
        return True

    def _by(self, mutant: Mutant) -> Path:
        return self.folder / f"{mutant.source.replace('/', '-')}-{mutant.number}"

    def _outcome(self, mutant: Mutant, tests: list[str], status: int, seconds: float) -> Outcome:
        by = self._by(mutant)
        name = by.read_text() if by.exists() else ""
        if os.WIFSIGNALED(status):
            if os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM):
                return Outcome(mutant, "timeout", name, len(tests), seconds)
            return Outcome(mutant, "killed", name, len(tests), seconds)
        code = os.WEXITSTATUS(status)
        if code == SURVIVED:
            return Outcome(mutant, "survived", "", len(tests), seconds)
        if code == BROKEN:
            raise RuntimeError(f"{mutant.place}: the trial of {mutant.change!r} failed")
        return Outcome(mutant, "killed", name, len(tests), seconds)


def _all_lines(source: str) -> frozenset[int]:
    return frozenset(range(1, (CORE / source).read_text().count("\n") + 2))


def few_examples(item: pytest.Item, most: int = EXAMPLES) -> Callable[[], None] | None:
    """Have Hypothesis try few examples of a test; answers what undoes it, and None where it is no such test or has few."""
    test: Any = getattr(item, "obj", None)
    whole = getattr(test, SETTINGS, None)
    if whole is None or whole.max_examples <= most:
        return None
    setattr(test, SETTINGS, settings(whole, max_examples=most))
    return lambda: setattr(test, SETTINGS, whole)


def _quiet() -> None:
    """What a test says of a mutant interests nobody."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)


def _of_others() -> float:
    """CPU seconds of processes that were started from here."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def install(mutant: Mutant) -> None:
    """Give the mutant's function its changed code, in this process."""
    code = compile(mutant.tree(), str(mutant.path), "exec")
    owner: Any = importlib.import_module(mutant.module)
    for name in mutant.function.split("."):
        function = owner.__dict__[name]
        line = _function(function).__code__.co_firstlineno if not isinstance(function, type) else None
        code = next(c for c in _nested(code) if c.co_name == name and line in (None, c.co_firstlineno))
        owner = function
    _function(owner).__code__ = code


def _nested(code: CodeType) -> Iterator[CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, CodeType))


def _function(found: Any) -> FunctionType:
    """The plain function in a property, class method or wrapper."""
    while not isinstance(found, FunctionType) or hasattr(found, "__wrapped__"):
        found = next(getattr(found, name) for name in ("__wrapped__", "fget", "__func__") if hasattr(found, name))
    return found
