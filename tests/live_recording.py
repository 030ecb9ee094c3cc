"""A recording, published to running monitors, and what each of them made of it beside ``edge-replay run``.

**The time base.** A monitor's time is when it receives a message (SEMANTICS §1), in a recording when that was received.
Published at the pace at which it was recorded, a message is *due* so long after the first one as it was recorded after it, so
``live = recorded + (due of the first - recorded time of the first) + delay`` with a delay for each message: how late it was
sent, and how long the transport had it, until the monitor stamped it. Both ends are on CLOCK_BOOTTIME of one machine: the
publisher notes when it sends, the tape holds when each message was received, so the delay of every message is known.

**What agrees.** Values are those of the recording, so the verdicts are too, in the same order for each check. A transition
takes effect at a message, or at a deadline that a message set; so it must be later than in the recording by no less than
the shortest and no more than the longest delay. That holds where order is not a matter of the delay: deadlines of the envelope
lie far from the intervals of the messages, and what compares two topics must hold for some time (``fail_for``). Checks that
measure intervals (``rate``, ``jitter``) measure the transport with them, and may differ from the recording.

**What is equal.** Replay the same messages with the times at which they were received, and everything must come out as it was
decided live, to the nanosecond.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from recorded_drive import FIX, IMU, ODOMETRY, drive, write
from recording_publisher import Message, messages, stamped

from edge_monitor import envelope as envelopes
from edge_monitor.core.samples import FLAG_CAUSE, FLAG_END, SAMPLE
from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.verify import verify
from edge_monitor.reexecution import reexecute
from edge_monitor.tape import Tape, read
from edge_monitor.tape.format import Kind
from edge_replay.commands.reexecute import records
from edge_replay.replay import replay

#: A signal of each topic that has a sample for every message.
PRESENCE = {IMU: "imu", ODOMETRY: "speed", FIX: "fix"}
#: Checks that measure intervals between messages: with them, the transport.
INTERVALS = {"acceleration", "imu_jitter"}
#: Checks whose values are latencies; and all whose values are times.
LATENCIES = {"imu_latency"}
TIMED = LATENCIES | {"fix_alive", "imu_rate"}
DECIDED = ("check.", "gate.")
ENVELOPE = """
edge_monitor: 1
envelope: {id: same-recording, version: 1, vehicle: ugv_husky}
defaults: {max_age: 1 s}
signals:
  imu: {topic: /imu/data, type: sensor_msgs/msg/Imu}
  imu_age: {topic: /imu/data, type: sensor_msgs/msg/Imu, field: header.stamp, unit: s}
  shaking: {topic: /imu/data, type: sensor_msgs/msg/Imu, field: linear_acceleration, reduce: norm, unit: m/s2}
  yaw_rate_imu: {topic: /imu/data, type: sensor_msgs/msg/Imu, field: angular_velocity.y, unit: rad/s}
  speed: {topic: /husky_velocity_controller/odom, type: nav_msgs/msg/Odometry, field: twist.twist.linear.x, unit: m/s}
  yaw_rate: {topic: /husky_velocity_controller/odom, type: nav_msgs/msg/Odometry, field: twist.twist.angular.z, unit: rad/s}
  fix: {topic: /fix, type: sensor_msgs/msg/NavSatFix}
  latitude: {topic: /fix, type: sensor_msgs/msg/NavSatFix, field: latitude, unit: deg, max_age: 200 ms}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 0.7, leave: 0.6, severity: critical}
  turning: {kind: bounds, signal: yaw_rate, max: 0.1, min: -0.1}
  shocks: {kind: bounds, signal: shaking, max: 10.5, leave: 10.2}
  skid: {kind: agreement, signals: [yaw_rate, yaw_rate_imu], max: 0.2, leave: 0.15, fail_for: 1 s}
  slow: {kind: formula, formula: "historically[0 s, 1500 ms](speed <= 0.5)"}
  fix_alive: {kind: stale, signal: fix, max: 200 ms}
  latitude_valid: {kind: valid, signal: latitude}
  imu_rate: {kind: frequency, signal: imu, min: 25 Hz, max: 35 Hz, window: 2 s}
  imu_latency: {kind: latency, signal: imu_age, max: 400 ms, min: 0 ms}
  acceleration: {kind: rate, signal: speed, max: 0.3, min: -0.3}
  imu_jitter: {kind: jitter, signal: imu, rate: 30 Hz, max: 2 ms, window: 500 ms}
gates:
  drive: {require: all, criteria: [speed_limit, imu_rate, imu_latency], go_after: 600 ms, lease: 5 s}
  dock: {require: all, criteria: [slow, latitude_valid], lease: 1 s}
"""


class Said(NamedTuple):
    """A transition of a check or a decision of a gate. ``t``: when it took effect, ns."""

    subject: str
    what: str
    t: int
    value: float | None


class Taken(NamedTuple):
    """A message as a monitor took it. ``t``: when it was received, ns."""

    message: Message
    t: int


class Delays(NamedTuple):
    """What happened to the messages on their way, ns of each in the order of the recording."""

    late: np.ndarray  #: from due to sent: the publisher's
    transport: np.ndarray  #: from sent to received

    def __str__(self) -> str:
        parts = [
            f"{name} p50 {p50:.2f}, p99 {p99:.2f}, max {most:.2f} ms"
            for name, values in zip(("sent late by", "sent to received"), self, strict=True)
            for p50, p99, most in [np.quantile(values, [0.5, 0.99, 1]) / 1e6]
        ]
        return "; ".join(parts)


class Drive:
    """The recording, the process that publishes it, and what is then asserted of each monitor."""

    def __init__(self, folder: Path, *addresses: str) -> None:
        """``addresses``: as ``recording_publisher`` takes them."""
        self.folder = folder
        path = folder / "recording.mcap"
        chosen = drive()
        write(path, chosen, [one.t for one in chosen])
        self.messages = messages(path)
        self.recorded = replayed(path)
        program = Path(__file__).with_name("recording_publisher.py")
        self.process = subprocess.Popen(
            [sys.executable, program, path, *addresses], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def publish(self) -> None:
        """Once all topics are read."""
        assert self.process.stdin is not None and self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        time.sleep(0.3)  # a reader knows of its writer no later than this
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.sent = json.loads(self.process.stdout.readline())
        time.sleep(0.2)

    def close(self) -> None:
        """End the publisher."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(20)

    def prove(self, way: str, journal: Path, tape: Path, key: Path) -> None:
        """A monitor that got it through one of the transports, and has ended: its tape re-executes identically, it agrees with
        the recording, and is what a replay with the times of reception is."""
        assert verify(journal, [load_verifier_key(key)]).ok
        report = reexecute(envelopes.loads(ENVELOPE.encode()), read(tape), records(journal))
        assert report.difference is None and not report.damages and report.events > 100, report
        decided, found = journaled(journal), taken(read(tape), self.messages)
        due, start, end = self.sent["due"][0], self.messages[0].t, found[-1].t
        delays = measured(self.messages, self.sent, way, found)
        compared = compare(self.recorded, start, decided, due, end, delays)
        again = self.folder / f"{way}.mcap"
        stamps = [one.message._replace(data=stamped(one.message.data, due - start)) for one in found]
        write(again, stamps, [one.t for one in found])
        same = equal(replayed(again), decided, found[0].t, end)
        print(f"{way}: {delays}; {report.events} events re-execute, {compared} transitions agree, {same} are equal")
        assert compared > 80 and same > compared


def replayed(recording: Path) -> list[Said]:
    """What ``edge-replay run`` makes of a recording."""
    events = replay(recording, envelopes.loads(ENVELOPE.encode())).events
    return [said(one.type, one.t_effective, one.subject, one.payload) for one in events if one.type.startswith(DECIDED)]


def journaled(journal: Path) -> list[Said]:
    """What a monitor decided, out of its journal."""
    found = [(record.type, record.t_effective, payload) for record, payload in records(journal)]
    return [said(kind, t, str(told["subject"]), told) for kind, t, told in found if kind.startswith(DECIDED)]


def said(kind: str, t: int, subject: str, payload: dict[str, Any]) -> Said:
    """An event, as far as it is compared."""
    return Said(subject, f"{kind} {payload.get('cause') or ''}".strip(), t, payload.get("value"))


def taken(tape: Tape, messages: Sequence[Message]) -> list[Taken]:
    """The messages of the recording in the order in which a monitor took them, which must be all, out of its tape."""
    names = [one.name for one in envelopes.loads(ENVELOPE.encode()).signals]
    topics = {names.index(name): topic for topic, name in PRESENCE.items()}
    queued = {topic: iter([one for one in messages if one.channel.topic == topic]) for topic in PRESENCE}
    entries = [entry for block in tape.blocks for entry in block.entries() if entry.kind == Kind.ITEMS]
    items = np.concatenate([np.frombuffer(entry.payload, SAMPLE) for entry in entries])
    values = items["flags"] <= FLAG_END | FLAG_CAUSE  # what holds for whole topics has others
    present = items[np.isin(items["signal"], list(topics)) & values]
    assert len(present) == len(messages), f"{len(messages) - len(present)} messages were lost"
    return [Taken(next(queued[topics[int(one["signal"])]]), int(one["t"])) for one in present]


def measured(messages: Sequence[Message], sent: dict[str, Any], way: str, found: Sequence[Taken]) -> Delays:
    """The delays of a transport; ``sent``: what the publisher said."""
    at = {id(one.message): one.t for one in found}
    sent_at = np.array(sent["sent"][way], np.int64)
    received = np.array([at[id(one)] for one in messages], np.int64)
    return Delays(sent_at - np.array(sent["due"], np.int64), received - sent_at)


def by_subject(said: Sequence[Said], begin: int) -> dict[str, list[Said]]:
    """What was said of each check and gate from ``begin`` on, in order; of a gate from its first GO on, since its first NO_GO
    is that it begins."""
    found: dict[str, list[Said]] = {}
    for one in said:
        if one.t >= begin and not (one.what.startswith("gate.no_go") and one.subject not in found):
            found.setdefault(one.subject, []).append(one)
    return found


def compare(recorded: Sequence[Said], start: int, live: Sequence[Said], due: int, end: int, delays: Delays) -> int:
    """Assert that transitions agree within the delays. ``start``, ``due``: of the first message, recorded and live; ``end``:
    when the last one was received. Answers how many were compared."""
    delay = delays.late + delays.transport
    least, most = int(delay.min()), int(delay.max())
    ours, theirs = by_subject(live, due), by_subject(recorded, start)
    count = 0
    for subject in theirs.keys() - INTERVALS:
        rest = ours[subject][len(theirs[subject]) :]
        assert all(one.t >= end - most for one in rest), (subject, rest)
        for a, b in zip(theirs[subject], ours[subject], strict=False):
            shift = b.t - due - (a.t - start)
            assert a.what == b.what and least <= shift <= most, (a, b, shift, least, most)
            assert a.value == b.value or subject in TIMED, (a, b)
            count += 1
        assert len(ours[subject]) >= len(theirs[subject]), (subject, ours[subject])
    return count


def equal(again: Sequence[Said], live: Sequence[Said], begin: int, end: int) -> int:
    """Assert that a replay with the times at which messages were received is what was decided live; answers how much."""
    ours = by_subject([one for one in live if one.t <= end], begin)
    theirs = by_subject([one for one in again if one.t <= end], begin)
    for said in (ours, theirs):
        for subject in LATENCIES:  # clocks of stamps are measured to some microseconds
            said[subject] = [one._replace(value=None) for one in said.get(subject, [])]
    assert ours == theirs
    return sum(map(len, ours.values()))
