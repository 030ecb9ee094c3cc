"""``make test-aarch64``: what comes out on aarch64 is what comes out here, bit for bit.

Makes, or reuses, a Debian arm64 tree (``aarch64_tree``) under ``build/aarch64`` and runs ``machine_cases`` here and in it:
functions, engine digests of plans that leave no kind out, the committed recordings, sensor statistics, and the re-execution
of what ``edge-monitor run`` and ``edge-replay run`` wrote here, there, and of what was written there, here.

Exits with 0 where all is equal, with 1 where something differs, and with 3 where this machine can't run it (no root, a tool is
missing), after saying how to mend that. Cold it compiles every kernel under emulation, which takes half an hour of two free
cores; kernels are kept in the tree for as long as their sources stay the same.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import zmq
from aarch64_tree import ROOT, Emulation, Tree, missing

from edge_monitor.journal.keys import make_key

FOLDER = ROOT / "build" / "aarch64"
#: Two processes at a time there, since a kernel is compiled by one: what they run, in order.
HALVES = (("functions", "recordings", "tapes", "make_tape", "plain"), ("sensors", "everything"))
NAMESPACE = "EDGE_MONITOR_IN_NAMESPACE"
META = msgspec.msgpack.encode({"e": "msgpack"})
LIVE = """
edge_monitor: 1
envelope: {id: live, version: 1, vehicle: bench}
signals:
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 300 ms}
  left: {topic: /odom, field: "wheels[0]", unit: rad/s, max_age: 300 ms}
  right: {topic: /odom, field: "wheels[1]", unit: rad/s, max_age: 300 ms}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, leave: 11, severity: critical}
  braking: {kind: rate, signal: speed, min: -900 m/s/s}
  alive: {kind: frequency, signal: speed, min: 50 Hz, window: 1 s}
  wheels: {kind: agreement, signals: [left, right], max: 0.5}
gates:
  drive: {require: all, criteria: [speed_limit, alive], lease: 5 s}
"""
SECONDS = 6


def make_live_tape(folder: Path) -> None:
    """What ``edge-monitor run`` leaves of some seconds of a vehicle that drives too fast now and then."""
    (folder / "live.yaml").write_text(LIVE)
    make_key("live", folder)
    run = subprocess.Popen(
        [
            Path(sys.executable).parent / "edge-monitor", "run", "-e", folder / "live.yaml", "--unapproved",
            "--source", f"bind-pull:ipc://{folder}/in", "--journal", folder / "live.db", "--key", folder / "live.key",
            "--tapes", folder / "tapes", "--tape-size", "16", "--publish", f"ipc://{folder}/out",
            "--control", f"ipc://{folder}/ask",
        ],
    )  # fmt: skip
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.setsockopt(zmq.SNDHWM, 10)
    socket.connect(f"ipc://{folder}/in")
    sent = 0
    end: float | None = None
    while run.poll() is None and (end is None or time.monotonic() < end):
        speed = 5.0 + 4.0 * (sent % 200) / 100 + (sent % 7) / 7
        body = msgspec.msgpack.encode({"speed": speed, "wheels": [speed / 3, speed / 3 + (sent % 90) / 170]})
        if socket.poll(
            100, zmq.POLLOUT
        ):  # nothing is taken before the process is active, which may take minutes of compiling
            socket.send_multipart([b"/odom", META, body])
            sent += 1
            if sent == 100:
                end = time.monotonic() + SECONDS
        time.sleep(0.005)
    context.destroy(linger=0)
    run.terminate()
    if run.wait(60) != 0:
        sys.exit(f"edge-monitor run ended with {run.returncode}")
    (tape,) = (folder / "tapes").glob("*.tape")
    tape.rename(folder / "live.tape")


def copy_tapes(source: Path, target: Path, name: str) -> None:
    """A tape with its journal, public key and envelope."""
    for suffix in ("tape", "db", "pub", "yaml"):
        shutil.copy(source / f"{name}.{suffix}", target / f"{name}.{suffix}")


def here(folder: Path, *parts: str) -> subprocess.Popen[str]:
    """Start ``machine_cases`` on this machine."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'replay'}"}
    command = [sys.executable, str(ROOT / "tests" / "machine_cases.py"), str(folder), *parts]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def there(tree: Tree, *parts: str) -> subprocess.Popen[str]:
    """Start ``machine_cases`` in the tree."""
    return tree.start("/opt/checkout/tests/machine_cases.py", "/opt/cases", *parts)


def told(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """The cases that a process tells, as they come. Ends the program where it fails."""
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)
    if process.wait() != 0:
        sys.exit(f"{process.args} ended with {process.returncode}")


class Comparison:
    """What came out here by case, and what of that came out there."""

    def __init__(self, cases: Iterator[dict[str, Any]]) -> None:
        self.expected = {case["case"]: case for case in cases}
        self.equal: set[str] = set()
        self.different: set[str] = set()
        self._lock = threading.Lock()

    def hold(self, cases: Iterator[dict[str, Any]]) -> None:
        """Compare cases as they come, and say so, a line each."""
        for case in cases:
            expected = self.expected[case["case"]]
            same = case["digest"] == expected["digest"]
            with self._lock:
                (self.equal if same else self.different).add(case["case"])
                print(
                    f"{'equal  ' if same else 'DIFFERS'} {case['digest'][:16]} {expected['seconds']:8.1f} s "
                    f"{case['seconds']:8.1f} s  {case['case']}",
                    flush=True,
                )

    @property
    def left(self) -> list[str]:
        """Cases that did not come out there."""
        return sorted(set(self.expected) - self.equal - self.different)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Say how long something took."""
    begun = time.monotonic()
    yield
    print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)


def compare(halves: tuple[tuple[str, ...], ...]) -> int:
    """Run everything; the exit code."""
    begun = time.monotonic()
    work = FOLDER / "here"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    tree = Tree(FOLDER)
    with stage("tree"):
        tree.make()
        shutil.rmtree(tree.cases, ignore_errors=True)
        tree.cases.mkdir(parents=True)
    parts = tuple(part for half in halves for part in half)
    with stage("here, kernels compiled where they were not kept"):
        if "tapes" in parts:
            make_live_tape(work)
        comparison = Comparison(
            told(here(work, "streams", "make_tape", *(part for part in parts if part != "make_tape")))
        )
        for name in [path.stem for path in work.glob("*.tape")]:
            copy_tapes(work, tree.cases, name)
        for path in work.glob("*.items"):
            shutil.copy(path, tree.cases / path.name)
    print(f"compare {'digest':16} {'here':>10} {'there':>10}  case (seconds include compiling)", flush=True)
    with stage("there"), Emulation():
        threads = [threading.Thread(target=comparison.hold, args=(told(there(tree, *half)),)) for half in halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    back = 0
    if "make_tape" in parts:
        made = FOLDER / "made_there"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        for path in tree.cases.glob("replayed-aarch64.tape"):
            copy_tapes(tree.cases, made, path.stem)
        back = sum(1 for _ in told(here(made, "tapes")))
        print(f"equal   made there, re-executed here: {back} tape", flush=True)
    print(
        f"{len(comparison.equal)} equal, {len(comparison.different)} different, {len(comparison.left)} did not come out, "
        f"in {(time.monotonic() - begun) / 60:.0f} minutes"
    )
    for name in (*sorted(comparison.different), *comparison.left):
        print(f"not equal: {name}")
    complete = not comparison.different and not comparison.left and (back == 1 or "make_tape" not in parts)
    return 0 if complete else 1


def main() -> int:
    """Check what is needed, enter a mount namespace of its own, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[part for half in HALVES for part in half], metavar="PART")
    chosen = parser.parse_args().only
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    why = missing()
    if why:
        print(f"test-aarch64 {why}", file=sys.stderr)
        return 3
    if NAMESPACE not in os.environ:  # what is mounted for the run is gone with it
        os.environ[NAMESPACE] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    halves = HALVES if chosen is None else tuple(tuple(part for part in half if part in chosen) for half in HALVES)
    return compare(tuple(half for half in halves if half))


if __name__ == "__main__":
    sys.exit(main())
