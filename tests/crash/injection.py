"""EIO and ENOSPC from each call that writes, syncs, truncates or unlinks, one after another, in the running writer."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edge_monitor.journal import Journal

from .checks import check_journal, check_tape
from .strace import run_writer
from .writer import KEY, PAD, numbered

FAILING = ("pwrite64", "ftruncate", "fdatasync", "fsync", "unlink", "fallocate")
ERRORS = ("EIO", "ENOSPC")
COUNT = 24  #: entries of a run
_CALL = re.compile(r"(\d+) +(\w+)\(")


@dataclass
class Injections:
    """What came of it."""

    runs: int = 0
    stopped: int = 0  #: the journal failed, was opened anew and went on
    refused: int = 0  #: nothing had been opened yet: the program ended with a message
    unnoticed: int = 0  #: SQLite did without, and nothing was lost
    anchors: int = 0


def each_call(folder: Path, with_tape: bool) -> list[tuple[str, int]]:
    """Which calls a run makes: name, and the how manieth of its thread."""
    trace = folder / "calls"
    tape = folder / "t.tape" if with_tape else None
    done = run_writer(folder / "j.db", tape, 0, COUNT, PAD, trace, ["-e", "trace=" + ",".join(FAILING)])
    assert done.returncode == 0, (done.stdout, done.stderr)
    made = Counter(match.groups() for line in trace.read_text().splitlines() if (match := _CALL.match(line)))
    most: Counter[str] = Counter()
    for (_, name), count in made.items():
        most[name] = max(most[name], count)
    # With a tape, only what a tape does: the rest is the journal's with or without one.
    names = ("fdatasync", "fallocate") if with_tape else FAILING
    return [(name, n) for name in names for n in range(1, most[name] + 1)]


def inject(folder: Path, sample: int | None, seed: int, *, with_tape: bool) -> Injections:
    """Let each call fail, or a ``sample`` of them; a run each, after which all is held against what was said.

    ``with_tape``: a tape is synced before each urgent commit (and its start costs a second).
    """
    (folder / "clean").mkdir()
    cases = [(name, n, error) for name, n in each_call(folder / "clean", with_tape) for error in ERRORS]
    if sample is not None:
        cases = random.Random(seed).sample(cases, sample)
    found = Injections()
    for number, case in enumerate(cases):
        (folder / str(number)).mkdir()
        _run(folder / str(number), *case, with_tape, found)
    return found


def _run(folder: Path, name: str, n: int, error: str, with_tape: bool, found: Injections) -> None:
    journal, tape, trace = folder / "journal.db", folder / "t.tape" if with_tape else None, folder / "calls"
    options = ["-e", "trace=" + ",".join(FAILING), "-e", f"inject={name}:error={error}:when={n}"]
    done = run_writer(journal, tape, 0, COUNT, PAD, trace, options)
    case = f"{error} at {name} {n}: {done.stdout} {done.stderr}"
    assert "INJECTED" in trace.read_text() and done.stderr == "", case
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    said = [words[0] for words in lines]
    acknowledged = [int(words[1]) for words in lines if words[0] == "ack"]
    found.runs += 1
    if "refused" in said:
        assert done.returncode in (3, 4) and acknowledged == [], case
        found.refused += 1
        with Journal.create_or_open(journal, KEY) as opened:  # nothing is in the way of the next start
            assert opened.append(numbered(0, None)) == 0
        check_journal(journal, 1)
        return
    # A failure has been mended, or the program would not have come to its end.
    assert done.returncode == 0 and said[-1] == "closed" and acknowledged == list(range(COUNT)), case
    found.stopped += "failed" in said
    found.unnoticed += "failed" not in said
    assert check_journal(journal, COUNT) == COUNT, case
    if tape is not None:
        found.anchors += check_tape(tape, journal, 0)
