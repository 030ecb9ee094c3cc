"""``kill -9`` at random moments, always on the same journal."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from edge_monitor.journal import Journal

from . import writer
from .checks import check_journal, check_tape

LONGEST_OPEN_S = 2.0
LONGEST_LIFE_S = 0.05


@dataclass
class Kills:
    """What came of it."""

    kills: int = 0
    records: int = 0
    acknowledged: int = 0
    unacknowledged: int = 0  #: durable, but not yet acknowledged when the process was killed
    anchors: int = 0
    slowest_open_s: float = 0.0


def _run(out: Connection, journal: Path, tape: Path, first: int) -> None:
    os.dup2(out.fileno(), 1)
    out.close()
    writer.write(journal, tape, first)


def kill_at_random(folder: Path, kills: int, seed: int) -> Kills:
    """Start the writer ``kills`` times on one journal and kill it; after each, everything is held against what it said."""
    # Forked from a process that has loaded everything: a start costs milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["edge_monitor.onboard.scribe", "edge_monitor.tape"])
    chance = random.Random(seed)
    journal, found = folder / "journal.db", Kills()
    for number in range(kills):
        tape = folder / f"{number}.tape"
        first = found.records
        entrance, out = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(out, journal, tape, first))
        process.start()
        out.close()
        with os.fdopen(entrance.fileno(), closefd=False) as lines:
            # Some while it starts or opens, most while it writes.
            opened = lines.readline() if chance.random() < 0.8 else ""
            time.sleep(chance.uniform(0, LONGEST_LIFE_S))
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL, "the writer ended by itself"
            told = [line.split() for line in [opened, *lines] if line]
        entrance.close()
        assert not [words for words in told if words[0] in ("failed", "refused")], told
        found.slowest_open_s = max([found.slowest_open_s, *(float(words[1]) for words in told if words[0] == "open")])
        acknowledged = [int(words[1]) for words in told if words[0] == "ack"]
        assert acknowledged == list(range(first, first + len(acknowledged)))
        found.kills += 1
        if found.acknowledged + len(acknowledged) == 0 or chance.random() < 0.2:
            # Mostly the next writer is the first to open what was left.
            begun = time.monotonic()
            Journal.create_or_open(journal, writer.KEY).close()
            found.slowest_open_s = max(found.slowest_open_s, time.monotonic() - begun)
        found.records = check_journal(journal, first + len(acknowledged))
        found.anchors += check_tape(tape, journal, first)
        found.acknowledged += len(acknowledged)
        found.unacknowledged += found.records - first - len(acknowledged)
        tape.unlink(missing_ok=True)
    assert found.slowest_open_s < LONGEST_OPEN_S, found
    assert found.acknowledged > kills, "hardly anything was written"
    return found
