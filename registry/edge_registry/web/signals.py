"""``Signals``: what a black box shows around an event, read in a process of its own that is bounded in time and memory.

Black boxes come from robots, and nothing in one is believed: the process that reads it may take so long and so much, and ends
then. What it answers is kept for a while, as a delivered file never changes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import msgspec

from edge_monitor.journal.records import Record

from .black_boxes import BlackBox

LARGEST = 128 << 20  #: bytes of a black box of which something is drawn
TIMEOUT_S = 120.0  #: of one, beside what it allows itself of the processor: a machine may stand still for a minute
AT_ONCE = 2  #: processes; who comes then waits
PATIENCE_S = 30.0
KEPT = 64  #: answers
SECOND = 1_000_000_000
FOREVER = 2**63 - 1  #: ns
_PROGRAM = "from edge_monitor.tape.tracing import main; main()"
#: No kernel is run, so that none is compiled; nor is there anything to do in parallel.
_ENVIRONMENT = {"NUMBA_DISABLE_JIT": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class CheckDocument(TypedDict):
    """A check, and what it asks, in words."""

    name: str
    words: str


class TraceDocument(TypedDict):
    """A signal: ``points`` are (s since the event, value), null where nothing counts from there on; of one whose values have
    names, ``states``. ``limits``: (what, value). ``samples``: as recorded, of which ``lost`` do not count; ``at``: the value at
    the event."""

    name: str
    unit: str
    limits: list[tuple[str, float]]
    samples: int
    lost: int
    low: float | None
    high: float | None
    at: float | None
    points: list[tuple[float, float | None]]
    states: list[tuple[float, str]]


class TracesDocument(TypedDict):
    """What a black box shows; ``failure``: why nothing. ``covered``: s since the event up to which it is proven."""

    failure: str
    covered: float
    checks: list[CheckDocument]
    signals: list[TraceDocument]
    notes: list[str]


def nothing(why: str) -> TracesDocument:
    """Why there is nothing to show."""
    return {"failure": why, "covered": 0.0, "checks": [], "signals": [], "notes": []}


class Signals:
    """Reads black boxes, at most :data:`AT_ONCE` at a time, and keeps what came out."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], TracesDocument] = OrderedDict()
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(AT_ONCE)

    def around(
        self,
        box: BlackBox,
        envelopes: Sequence[Path],
        record: Record,
        names: Sequence[str],
        before_s: int,
        after_s: int,
    ) -> tuple[TracesDocument, str]:
        """The signals around a record, ``before_s`` to ``after_s`` seconds, and the SHA-256 of the file that they are from.

        ``names``: of the checks, gates or signals that it is about. What can't be read says why.
        """
        found, digest = nothing("no black box was delivered for this moment"), ""
        for digest, path in box.files:
            found = self._read(digest, path, box, envelopes, record, names, before_s, after_s)
            if not found["failure"]:
                break
        return found, digest

    def _read(
        self, digest: str, path: Path, box: BlackBox, envelopes: Sequence[Path], record: Record, names: Sequence[str],
        before_s: int, after_s: int,
    ) -> TracesDocument:  # fmt: skip
        at = record.t_effective
        wanted = {
            "type": record.type, "names": list(names), "at": at, "begin": max(at - before_s * SECOND, -FOREVER),
            "end": min(at + after_s * SECOND, FOREVER), "anchors": [box.anchor],
        }  # fmt: skip
        order = msgspec.json.encode({"tape": str(path), "envelopes": list(map(str, envelopes)), "wanted": wanted})
        key = (digest, order)
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                return known
        if path.stat().st_size > LARGEST:
            return nothing(f"the black box has more than {LARGEST >> 20} MiB: nothing is drawn of one so large")
        if not self._room.acquire(timeout=PATIENCE_S):
            return nothing("other black boxes are being read: try again in a minute")
        try:
            found, sure = _run(order)
        finally:
            self._room.release()
        if sure:
            with self._lock:
                self._kept[key] = found
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        return found


def _run(order: bytes) -> tuple[TracesDocument, bool]:
    """What the process answers, and whether it would again."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM], input=order, capture_output=True, timeout=TIMEOUT_S, check=False,
            env={**os.environ, **_ENVIRONMENT},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return nothing(f"the black box could not be read within {TIMEOUT_S:g} s"), False
    try:
        return msgspec.json.decode(done.stdout, type=TracesDocument), True
    except msgspec.MsgspecError:
        return nothing(
            "the black box can't be read: it takes more time or memory than a plot is worth, or is damaged"
        ), True
