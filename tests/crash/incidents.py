"""``kill -9`` at each call with which the keeper changes its files; the next start completes what was begun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from incident_cases import ENVELOPE, SECOND, Vehicle, again, files, journal_of, records, told

from edge_monitor import envelope as envelopes
from edge_monitor.journal.verify import verify
from edge_monitor.runtime import Monitor

CALLS = ("pwrite", "ftruncate", "fdatasync", "rename", "unlink")
BUDGET = 60_000


@dataclass
class Kept:
    """What came of it. ``calls``: of the keeper, in a run that was not killed."""

    calls: int = 0
    kills: int = 0
    incidents: int = 0


def _live(folder: Path, start: int, kill_at: int) -> int:
    """One run, killed before the keeper's call number ``kill_at``; answers how many there were."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            if threading.current_thread().name == "keeper":
                count += 1
                if count == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    vehicle = Vehicle(folder, start=start, budget=BUDGET)
    keeper = vehicle.keeper

    def incident() -> None:
        """One that the keeper's thread has come to: a simulated second takes it less time than a file."""
        vehicle.incident()
        vehicle.until(lambda: not keeper._stirred and all(work.file is not None for work in keeper._work), 60)

    vehicle.drive(3)
    incident()
    vehicle.drive(4.5)
    vehicle.kept(1)
    incident()
    vehicle.drive(2)  # its window is over, and is opened again
    incident()
    vehicle.drive(5)
    vehicle.kept(2)
    incident()
    vehicle.loop.end()
    return count


def kill_while_keeping(folder: Path, places: Iterable[int] = ()) -> Kept:
    """Kill a run at ``places`` (none: at each call), start anew, and hold everything against the journal."""
    tests = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        [sys.executable, __file__, folder, *map(str, places)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH")]))},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return Kept(*json.loads(done.stdout))


def main(folder: Path, places: list[int]) -> None:
    """Runs in processes that are forked from this one, which has loaded everything and has no threads."""
    Monitor(envelopes.loads(ENVELOPE.encode())).warm()
    found = Kept()
    (folder / "whole").mkdir()
    calls = _forked(_live, folder / "whole", 1000 * SECOND, 0)
    assert calls is not None
    found.calls = calls
    for number, place in enumerate(places or range(1, calls + 1)):
        where = folder / str(place)
        where.mkdir()
        found.kills += _forked(_live, where, 1000 * SECOND, place) is None
        if number % 3 == 0:  # also while it is completed
            found.kills += _forked(_live, where, 2000 * SECOND, 1 + place % 7) is None
        found.incidents += _forked(_complete, where) or 0
    print(json.dumps([found.calls, found.kills, found.incidents]))


def _forked(function: Callable[..., int], *arguments: Any) -> int | None:
    """What ``function`` answers in a process of its own; None where that was killed."""
    entrance, out = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(out, str(function(*arguments)).encode())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(out)
    _, status = os.waitpid(child, 0)
    with os.fdopen(entrance) as answer:
        told = answer.read()
    if os.WIFSIGNALED(status):
        return None
    assert status == 0, "see above"
    return int(told)


def _complete(folder: Path) -> int:
    """Start once more, and check: no window is missing, none is half, each is what the journal says."""
    vehicle = Vehicle(folder, start=3000 * SECOND, budget=BUDGET)
    vehicle.drive(0.5)
    vehicle.until(lambda: files(vehicle.incidents) and not files(vehicle.incidents, ".part"), 60)
    vehicle.loop.end()
    assert verify(journal_of(folder), []).ok
    assert not files(vehicle.incidents, ".part") and not told(folder, "incident.failed")
    kept = told(folder, "incident.kept")
    gone = {payload["subject"] for payload in told(folder, "incident.removed")}
    there = {path.name for path in files(vehicle.incidents)}
    assert there == {payload["subject"] for payload in kept} - gone
    go: set[bytes] = set()
    for record, payload in records(folder):
        if record.type in ("gate.go", "gate.no_go") and record.boot_id != vehicle.boot:
            if record.type == "gate.no_go" and record.boot_id in go:
                windows = [p for p in kept if p["boot"] == record.boot_id.hex()]
                t = record.t_effective
                assert any(p["from_ns"] <= t <= p["to_ns"] for p in windows), (payload["subject"], t, windows)
            (go.add if record.type == "gate.go" else go.discard)(record.boot_id)
    for path in files(vehicle.incidents):
        report = again(folder, path, vehicle.envelope)
        assert report.difference is None and report.incident is not None and report.damages == (), (path, report)
    return len(there)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]])
