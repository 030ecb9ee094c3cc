"""A vehicle whose black box keeps incidents: the real loop, journal, tape and keeper; time and messages come from the test."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_monitor import envelope as envelopes
from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.samples import MESSAGE, Cause
from edge_monitor.envelope import Envelope
from edge_monitor.journal import Journal
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import Record, decode_payload, decode_record
from edge_monitor.onboard.keeper import Keeper
from edge_monitor.onboard.loop import Onboard
from edge_monitor.onboard.publication import Publication
from edge_monitor.onboard.raw_recorder import RawRecorder
from edge_monitor.onboard.scribe import Scribe
from edge_monitor.reexecution import Report, reexecute
from edge_monitor.runtime import Monitor
from edge_monitor.tape import Ring, read

MS, SECOND = 1_000_000, 1_000_000_000
KEY = SigningKey("robot", bytes(range(32)))
ENVELOPE = """
edge_monitor: 1
envelope: {id: kept, version: 1, vehicle: bench}
signals:
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 1 s}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, leave: 11, severity: marginal}
gates:
  drive: {require: all, criteria: [speed_limit], lease: 1 s}
black_box: {before: 2 s, after: 1 s}
"""


class Lane:
    """A source whose messages the test gives."""

    sockets: Sequence[Any] = ()
    lost = 0

    def __init__(self) -> None:
        self.now = 0
        self._items: list[Channel | Batch | Damage] = [
            Channel(0, "/odom", "", "msgpack", "none", ""), Channel(1, "/map", "Map", "msgpack", "none", ""),
        ]  # fmt: skip

    def put(self, t: int, values: Sequence[float]) -> None:
        """Messages, all received at ``t``."""
        bodies = [msgspec.msgpack.encode({"speed": value}) for value in values]
        rows = np.zeros(len(bodies), MESSAGE)
        sizes = [len(body) for body in bodies]
        rows["t"], rows["size"] = t, sizes
        rows["start"] = np.cumsum([0, *sizes[:-1]])
        self._items.append(Batch(np.frombuffer(b"".join(bodies), np.uint8), rows))
        self.now = t

    def map(self, t: int, body: bytes) -> None:
        """A message of a topic that no signal reads."""
        rows = np.zeros(1, MESSAGE)
        rows["t"], rows["size"], rows["channel"] = t, len(body), 1
        self._items.append(Batch(np.frombuffer(body, np.uint8), rows))

    def drain(self) -> list[Channel | Batch | Damage]:
        """What was put since."""
        found, self._items = self._items, []
        return found

    def status(self) -> list[tuple[str, Cause, str]]:
        """Nothing holds for whole topics."""
        return []

    def close(self) -> None:
        """There is nothing to give back."""


class Vehicle:
    """One run of it in ``folder``; the same folder again is the next start."""

    def __init__(
        self, folder: Path, *, text: str = ENVELOPE, start: int = 1000 * SECOND, budget: int = 1 << 30,
        always: bool = False, incidents: Path | None = None, size: int = 1 << 20, raw: bool = False,
    ) -> None:  # fmt: skip
        self.folder, self.now = folder, start
        self.boot = os.urandom(16)
        self.envelope = envelopes.loads(text.encode())
        self.tapes = folder / "tapes"
        self.tapes.mkdir(exist_ok=True)
        self.incidents = incidents or self.tapes / "incidents"
        monitor = Monitor(self.envelope)
        digest, plan = bytes.fromhex(self.envelope.digest), bytes.fromhex(monitor.plan.digest())
        self.tape = self.tapes / f"{self.boot.hex()}.tape"
        self.ring = Ring(self.tape, boot=self.boot, envelope=digest, plan=plan, size=size, open_size=1 << 14)
        monitor.record(self.ring)
        self.scribe = Scribe(
            lambda: Journal.create_or_open(journal_of(folder), KEY, boot_id=self.boot), before=self.ring.sync
        )
        raws = self.tapes / "raw"
        self.raw = RawRecorder(raws, self.boot, ["/odom", "/map"], ["/map"]) if raw else None
        self.keeper = Keeper(
            self.incidents, self.ring, self.envelope.black_box, budget=budget, always=always, raws=raws, raw=self.raw
        )
        self.lane = Lane()
        self.chance = np.random.default_rng(1)  # what does not compress to nothing
        publication = Publication(lambda parts: None, self.boot, monitor.decider)
        self.loop = Onboard(
            monitor, self.lane, self.scribe, publication, lambda: self.now, ring=self.ring, keeper=self.keeper,
            raw=self.raw,
        )  # fmt: skip
        self.loop.begin()

    def drive(self, seconds: float, speed: float = 5.0, *, each: int = 40, step_ms: int = 100) -> None:
        """Time goes on, with ``each`` messages of about this speed a step."""
        for _ in range(round(seconds * 1000 / step_ms)):
            self.now += step_ms * MS
            self.lane.put(self.now, (speed + self.chance.random(each)).tolist())
            self.loop.turn(0)

    def until(self, condition: Callable[[], Any], seconds: float = 20.0) -> None:
        """Turn, with time almost standing still, until other threads have made ``condition`` true."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.keeper.status()
            self.now += 1000
            self.loop.turn(0)
            time.sleep(0.002)

    def incident(self, speed: float = 20.0) -> None:
        """A gate that is GO becomes NO_GO, and GO again."""
        self.drive(0.3, speed)
        self.drive(0.3)

    def kept(self, count: int) -> list[Path]:
        """Wait for so many incidents; all files there are, the oldest first."""
        self.until(lambda: self.keeper.status()["kept"] >= count)
        return files(self.incidents)


def journal_of(folder: Path) -> Path:
    """The journal of a vehicle."""
    return folder / "journal.db"


def files(incidents: Path, suffix: str = ".tape") -> list[Path]:
    """The incidents in a folder, the oldest first."""
    found = (path for path in incidents.iterdir() if path.suffix == suffix)
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def records(folder: Path) -> Iterator[tuple[Record, dict[str, Any]]]:
    """The journal's records with their payloads."""
    with Reader(journal_of(folder)) as reader:
        for row in reader.rows():
            yield decode_record(row.record), decode_payload(row.payload or b"")


def told(folder: Path, type_: str) -> list[dict[str, Any]]:
    """Payloads of the records of one type."""
    return [payload for record, payload in records(folder) if record.type == type_]


def again(folder: Path, path: Path, envelope: Envelope) -> Report:
    """Re-execute a tape or an incident against the journal."""
    return reexecute(envelope, read(path), records(folder))
