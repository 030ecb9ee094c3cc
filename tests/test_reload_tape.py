"""Another envelope in the middle of a run: the same again from its black box."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reload_world import BOOT, MS, SIGNALS, S, file

from edge_monitor.core.commands import (
    ReloadEnvelope,
)
from edge_monitor.core.messages import Batch, Channel
from edge_monitor.core.samples import MESSAGE, Verdict
from edge_monitor.envelope import Envelope
from edge_monitor.errors import VerificationError
from edge_monitor.events import Event
from edge_monitor.journal.records import Digests, Record, Severity, WallStatus
from edge_monitor.journaling import entry
from edge_monitor.reexecution import BESIDE, among, reexecute
from edge_monitor.runtime import Monitor
from edge_monitor.tape import Kind, Ring, Tape, read

NUMBERS = struct.Struct("<dd")
MORE = """
signals:
  armed: {topic: /state, field: armed, max_age: 5 s, values: {DISARMED: 0, ARMED: 1}}
  mode: {topic: /state, field: mode, max_age: 5 s, values: {MANUAL: 0, AUTO: 1}}
  slope: {expr: diff(speed), unit: m/s2, max_age: 1 s}
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 1 s}
  turn: {topic: /odom, field: turn, unit: rad/s, max_age: 1 s}
"""


class Live:
    """A monitor that is fed messages, and what a journal would hold of it."""

    def __init__(self, path: Path, envelope: Envelope, open_size: int = 1 << 18) -> None:
        self.monitor = Monitor(envelope)
        digest, plan = bytes.fromhex(envelope.digest), bytes.fromhex(self.monitor.plan.digest())
        self.ring = Ring(path, boot=BOOT, envelope=digest, plan=plan, size=1 << 21, open_size=open_size)
        self.monitor.record(self.ring)
        self.monitor.keep()
        self.now, self.path = 10 * S, path
        self.records: list[tuple[Record, dict[str, Any]]] = []
        for number, (topic, fields) in enumerate((("/state", ("armed", "mode")), ("/odom", ("speed", "turn")))):
            definition = "numbers:" + "".join(f"double {name};" for name in fields)
            self.monitor.feed(Channel(number, topic, "numbers", "packed", "ulog", definition))

    def note(self, found: list[Event]) -> list[Event]:
        """What the process writes beside each event."""
        for event in found:
            block, end, digest = self.ring.anchor()
            made = entry(event, **{BESIDE: {"event": len(self.records), "tape": [block, end, digest.hex()]}})
            record = Record(
                1, bytes(16), len(self.records), made.type, Severity(made.severity), BOOT, made.t_effective, made.t_decided,
                0, WallStatus.UNKNOWN, -1, "", Digests(), (), made.rules, made.hazard, made.claim, bytes(32), 0,
            )  # fmt: skip
            self.records.append((record, made.payload))
        return found

    def say(self, channel: int, *values: float) -> list[Event]:
        """A message 50 ms after the last one."""
        self.now += 50 * MS
        data = NUMBERS.pack(*values)
        batch = Batch(np.frombuffer(data, np.uint8), np.array([(self.now, 0, len(data), channel)], MESSAGE))
        return self.note([*self.monitor.feed(batch), *self.monitor.until(self.now)])

    def drive(self, count: int, *speeds: float) -> None:
        """So many pairs of messages."""
        for k in range(count):
            self.say(0, 1.0, float(k % 2))
            self.say(1, speeds[k % len(speeds)], 0.1)

    def reload(self, envelope: Envelope, risk: str = "medium") -> str:
        """Put another envelope in force."""
        self.monitor.enter(envelope)
        order = ReloadEnvelope(
            t=self.now, path="n.yaml", file="00" * 32, digest=envelope.digest, risk=risk, person="ada"
        )
        found, refused = self.monitor.reload(self.monitor.prepare(envelope), order)
        self.note(found)
        return refused


def moving(limit: float, version: int) -> Envelope:
    """Limits on speed and, from version 2 on, on its slope and on another signal of the same messages."""
    lines = f"""slow: {{kind: formula, formula: "historically[0 s, 1 s](speed <= {limit})"}}
        still: {{kind: rate, signal: speed, max: 30}}"""
    if version > 1:
        lines += """
        smooth: {kind: bounds, signal: slope, max: 10, min: -10}
        straight: {kind: bounds, signal: turn, max: 0.2}"""
    gates = "drive: {require: all, criteria: [slow, still], lease: 1 s}"
    return file(lines, gates, version=version, signals=SIGNALS if version == 1 else MORE)


def test_a_run_with_reloads_is_the_same_from_its_tape(tmp_path: Path) -> None:
    """A tape with a refused and two accepted reloads gives every event and state again, from its beginning and from any
    block; without one of the envelopes it says which is missing, and a changed history is found."""
    one, two, three = moving(12, 1), moving(8, 2), moving(6, 3)
    live = Live(tmp_path / "run.tape", one, open_size=1 << 16)
    live.drive(150, 5.0, 5.2)
    assert live.reload(two) == ""
    assert live.monitor.problems == [] and live.monitor.envelope is two
    live.drive(150, 5.0, 5.3, 9.0)
    assert "is older than" in live.reload(moving(12, 1))
    assert live.reload(three) == ""
    live.drive(200, 5.0, 5.5)
    live.note(live.monitor.finish())
    live.ring.close()
    tape = read(live.path)
    types_told = [record.type for record, _ in live.records]
    assert types_told.count("envelope.activated") == 2 and types_told.count("envelope.rejected") == 1
    find = among(one, two, three)
    with pytest.raises(VerificationError, match="was in force under risk profile medium; name its file with -e"):
        reexecute(one, tape, live.records)
    kinds = [[item.kind for item in block.entries()] for block in tape.blocks]
    assert sum(block.count(Kind.HISTORY) for block in kinds) == 3
    report = reexecute(find, tape, live.records)
    assert report.difference is None and (report.events, report.unmatched) == (len(live.records), 0)
    assert len(tape.blocks) >= 4
    for first in range(1, len(tape.blocks), 2):
        part = Tape(tape.path, tape.boot, tape.envelope, tape.plan, tape.blocks[first:])
        report = reexecute(find, part, live.records)
        assert report.difference is None and report.events > 0
    assert (
        reexecute(among(three), Tape(tape.path, tape.boot, tape.envelope, tape.plan, tape.blocks[-1:])).difference
        is None
    )


def test_the_end_of_a_reload_is_the_end_of_what_the_old_one_said(tmp_path: Path) -> None:
    """Signals that both read go on; one that is new is unknown until it is heard, on a channel that was there before."""
    live = Live(tmp_path / "run.tape", moving(12, 1))
    live.drive(50, 5.0)
    assert live.reload(moving(8, 2)) == ""
    states = dict(
        zip([c.name for c in live.monitor.envelope.checks], live.monitor.engine.checks["verdict"], strict=True)
    )
    assert states == {"slow": Verdict.PASS, "smooth": Verdict.PASS, "still": Verdict.PASS, "straight": Verdict.UNKNOWN}
    live.say(1, 5.0, 0.1)
    assert live.monitor.engine.checks["verdict"].tolist() == [Verdict.PASS] * 4
    live.ring.close()
