"""EIO and ENOSPC from each call that opens, writes, syncs, truncates or unlinks, one after another, in the running writer."""

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
_OPEN = re.compile(r'(\d+) +openat\([^,]+, "([^"]+)"')
Case = tuple[str, int, str]  #: name of a call, the how manieth of its thread, and for an open the file, else nothing


@dataclass
class Injections:
    """What came of it."""

    runs: int = 0
    stopped: int = 0  #: the journal failed, was opened anew and went on
    refused: int = 0  #: nothing had been opened yet: the program ended with a message
    unnoticed: int = 0  #: SQLite did without, and nothing was lost
    anchors: int = 0


def each_open(folder: Path, with_tape: bool) -> list[Case]:
    """Which files of its folder a run opens, and the how manieth time of its thread that is; of the tape's run its own."""
    folder.mkdir()
    trace, tape = folder / "opens", folder / "t.tape" if with_tape else None
    done = run_writer(folder / "j.db", tape, 0, COUNT, PAD, trace, ["-e", "trace=openat"])
    assert done.returncode == 0, (done.stdout, done.stderr)
    made = Counter(match.groups() for line in trace.read_text().splitlines() if (match := _OPEN.match(line)))
    most: Counter[str] = Counter()
    for (_, path), count in made.items():
        if Path(path).is_relative_to(folder) and ("t.tape" in path) == with_tape:
            name = str(Path(path).relative_to(folder))
            most[name] = max(most[name], count)
    return [("openat", n, name) for name, count in sorted(most.items()) for n in range(1, count + 1)]


def each_call(folder: Path, with_tape: bool) -> list[Case]:
    """Which calls a run makes that write or sync."""
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
    return [(name, n, "") for name in names for n in range(1, most[name] + 1)]


def inject(folder: Path, sample: int | None, seed: int, *, with_tape: bool) -> Injections:
    """Let each call fail, or a ``sample`` of them; a run each, after which all is held against what was said.

    ``with_tape``: a tape is synced before each urgent commit (and its start costs a second).
    """
    (folder / "clean").mkdir()
    calls = [*each_call(folder / "clean", with_tape), *each_open(folder / "opened", with_tape)]
    cases = [(*call, error) for call in calls for error in ERRORS]
    if sample is not None:
        chance = random.Random(seed)
        opens = [case for case in cases if case[0] == "openat"]
        others = [case for case in cases if case[0] != "openat"]
        cases = [*chance.sample(opens, min(len(opens), sample // 3)), *chance.sample(others, sample - sample // 3)]
    found = Injections()
    for number, case in enumerate(cases):
        (folder / str(number)).mkdir()
        _run(folder / str(number), *case, with_tape, found)
    if not with_tape:
        for error in ERRORS:
            (folder / error).mkdir()
            _open_anew(folder / error, error, found)
    return found


def _open_anew(folder: Path, error: str, found: Injections) -> None:
    """A write fails, and then the journal can't be opened anew either, twice; the third time it can."""
    journal, trace = folder / "j.db", folder / "calls"
    paths = [option for name in ("j.db", "j.db-wal") for option in ("-P", str(folder / name))]
    again = sum(n > 0 for name, n, file in each_open(folder / "opened", False) if file in ("j.db", "j.db-wal")) + 1
    options = [
        *paths, "-e", "trace=openat,pwrite64", "-e", f"inject=pwrite64:error={error}:when=40",
        "-e", f"inject=openat:error={error}:when={again}..{again + 1}",
    ]  # fmt: skip
    done = run_writer(journal, None, 0, COUNT, PAD, trace, options)
    case = f"{error} when opened anew: {done.stdout} {done.stderr}"
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert trace.read_text().count("INJECTED") == 3, case
    assert done.returncode == 0 and lines[-1] == ["closed"] and done.stderr == "", case
    assert [int(words[1]) for words in lines if words[0] == "ack"] == list(range(COUNT)), case
    assert check_journal(journal, COUNT) == COUNT, case
    found.runs += 1
    found.stopped += 1


def _run(folder: Path, name: str, n: int, file: str, error: str, with_tape: bool, found: Injections) -> None:
    journal, tape, trace = folder / "j.db", folder / "t.tape" if with_tape else None, folder / "calls"
    traced = ["-e", "trace=openat", "-P", str(folder / file)] if file else ["-e", "trace=" + ",".join(FAILING)]
    options = [*traced, "-e", f"inject={name}:error={error}:when={n}"]
    done = run_writer(journal, tape, 0, COUNT, PAD, trace, options)
    case = f"{error} at {name} {file} {n}: {done.stdout} {done.stderr}"
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
