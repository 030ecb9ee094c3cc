"""The onboard loop over real sockets, a real journal and a real tape; time comes from the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from edge_monitor import envelope as envelopes
from edge_monitor.core.samples import Cause, Verdict
from edge_monitor.events import Event
from edge_monitor.journal import Journal
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_record
from edge_monitor.journal.writer import WallClock, system_wall_clock
from edge_monitor.onboard.control import Control
from edge_monitor.onboard.loop import Limits, Onboard
from edge_monitor.onboard.own_signals import TOPIC
from edge_monitor.onboard.publication import Publication
from edge_monitor.onboard.scribe import Scribe
from edge_monitor.outputs.wire import decode_heartbeat, decode_lease
from edge_monitor.reexecution import reexecute
from edge_monitor.runtime import Monitor
from edge_monitor.sources.zmq import Endpoint, ZmqSource
from edge_monitor.tape import Ring, read

MS, SECOND = 1_000_000, 1_000_000_000
BOOT = bytes(range(1, 17))
META = msgspec.msgpack.encode({"e": "msgpack"})
ENVELOPE = b"""
edge_monitor: 1
envelope: {id: live, version: 1, vehicle: bench}
signals:
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 300 ms}
  journal_ok: {topic: edge_monitor/self, field: journal, max_age: 2 s}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, leave: 11, severity: critical}
  journal_healthy: {kind: equals, signal: journal_ok, value: 1}
gates:
  takeoff: {require: all, criteria: [speed_limit, journal_healthy], go_after: 200 ms, lease: 1 s}
  drive: {require: all, criteria: [speed_limit], lease: 500 ms}
"""


class Disk:
    """A journal whose commits wait while ``stopped``; ``wall``: the clock on the wall."""

    def __init__(self, path: Path, wall: WallClock = system_wall_clock) -> None:
        self.path, self.wall = path, wall
        self.go = threading.Event()
        self.go.set()

    def __call__(self) -> Journal:
        journal = Journal.create_or_open(self.path, SigningKey("robot", bytes(range(32))), boot_id=BOOT, wall=self.wall)
        commit = journal.commit
        journal.commit = lambda: self.go.wait() and commit()  # type: ignore[method-assign, func-returns-value]
        return journal


class Robot:
    """A monitor in this process: what it sent, its publisher's socket, and its time."""

    def __init__(
        self, folder: Path, *, envelope: bytes = ENVELOPE, wall: WallClock = system_wall_clock, **limits: int
    ) -> None:
        self.now = 1000 * SECOND
        self.sent: list[list[bytes]] = []
        self.told: list[Event] = []
        self.disk = Disk(folder / "journal.db", wall)
        self.tape = folder / "run.tape"
        self.envelope = envelopes.loads(envelope)
        monitor = Monitor(self.envelope)
        digest, plan = bytes.fromhex(self.envelope.digest), bytes.fromhex(monitor.plan.digest())
        self.ring = Ring(self.tape, boot=BOOT, envelope=digest, plan=plan, size=1 << 20, open_size=1 << 18)
        monitor.record(self.ring)
        self.scribe = Scribe(self.disk, before=self.ring.sync)
        self.source = ZmqSource([Endpoint("tcp://127.0.0.1:*", "pull", bind=True)], ["/odom"], self.clock)
        self.context = zmq.Context()
        self.out = self.context.socket(zmq.PUSH)
        self.out.connect(self.source.addresses[0])
        self.publication = Publication(self.sent.append, BOOT, monitor.decider)
        self.loop = Onboard(
            monitor, self.source, self.scribe, self.publication, self.clock,
            ring=self.ring, tell=self.told.append, limits=Limits(**limits),
        )  # fmt: skip
        self.loop.begin()

    def clock(self) -> int:
        """The time that the test has set."""
        return self.now

    def speed(self, value: float, **more: float) -> None:
        """A message comes, and is in the source's queue when this returns."""
        self.out.send_multipart([b"/odom", META, msgspec.msgpack.encode({"speed": value, **more})])
        assert self.source.sockets[0].poll(2000)

    def turn(self, ms: float = 1.0) -> None:
        """Time goes on by so much, and the loop turns once."""
        self.now += round(ms * MS)
        self.loop.turn(0)

    def lease(self, gate: str = "takeoff") -> bool:
        """Whether the newest lease of a gate is GO."""
        topic = f"lease/{gate}".encode()
        return decode_lease(next(m[1] for m in reversed(self.sent) if m[0] == topic)).go

    def until(self, condition: Callable[[], Any]) -> None:
        """Turn, with time standing still, until the journal's thread has made ``condition`` true."""
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end
            self.turn(0)
            time.sleep(0.001)

    def go(self) -> None:
        """Be GO at both gates."""
        for _ in range(4):
            self.speed(5.0)
            self.turn(100)
            self.until(lambda: self.scribe.health().waiting == 0)  # the disk has no part in the test's time
        self.until(lambda: self.lease() and self.lease("drive"))

    def types(self) -> list[str]:
        """Types of all records in the journal."""
        with Reader(self.disk.path) as reader:
            return [decode_record(row.record).type for row in reader.rows()]

    def close(self) -> None:
        """End the run."""
        self.disk.go.set()
        self.loop.end()
        self.context.destroy(linger=0)


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Robot]:
    """A robot whose gates are NO_GO."""
    robot = Robot(tmp_path)
    yield robot
    robot.close()


def test_a_go_is_given_only_once_the_journal_holds_it(robot: Robot) -> None:
    """While the disk does not answer, a gate that turned GO is still published as NO_GO; then it is given at once."""
    robot.turn()
    robot.disk.go.clear()
    for _ in range(6):
        robot.speed(5.0)
        robot.turn(100)
    assert robot.loop.monitor.gates.state() == {"takeoff": True, "drive": True}
    assert not robot.lease() and robot.publication.answer("takeoff")["cause"] == "waits for the journal"
    robot.disk.go.set()
    robot.until(robot.lease)
    assert robot.types().count("gate.go") == 2


def test_a_no_go_is_given_before_the_journal_holds_it(robot: Robot) -> None:
    """A failing criterion revokes every lease in the same turn, whatever the disk does."""
    robot.go()
    robot.disk.go.clear()
    robot.speed(13.0)
    robot.turn()
    assert not robot.lease() and not robot.lease("drive")


def test_a_disk_that_hangs_ends_every_go(tmp_path: Path) -> None:
    """An entry that waits longer than the patience is NO_GO at every gate, also one without a criterion for it."""
    robot = Robot(tmp_path, patience_ns=100 * MS)
    try:
        robot.go()
        robot.disk.go.clear()
        robot.speed(13.0)
        robot.turn()
        robot.speed(5.0)
        robot.turn(1)
        robot.speed(5.0)
        robot.turn(150)
        assert "the disk has not answered" in robot.publication.withheld
        assert not robot.lease() and not robot.lease("drive")
        robot.disk.go.set()
        robot.until(lambda: robot.scribe.health().waiting == 0)
        robot.go()
        failed = [m for m in robot.sent if m[0] == b"event/check.fail"]
        assert any(msgspec.msgpack.decode(m[1])["subject"] == "journal_healthy" for m in failed)
    finally:
        robot.close()


@pytest.mark.parametrize("away", [SECOND, 3600 * SECOND, 40 * 86400 * SECOND])
def test_after_a_suspend_everything_has_expired_before_any_output(robot: Robot, away: int) -> None:
    """The first thing that is sent after a leap of the clock is NO_GO, at the deadline's own time, not a GO."""
    robot.go()
    before = len(robot.sent)
    robot.now += away
    robot.speed(5.0)
    robot.turn()
    assert robot.sent[before][0].startswith((b"lease/", b"event/"))
    leases = [decode_lease(m[1]) for m in robot.sent[before:] if m[0].startswith(b"lease/")]
    assert leases and not any(lease.go for lease in leases)
    lost = next(msgspec.msgpack.decode(m[1]) for m in robot.sent[before:] if m[0] == b"event/input.lost")
    assert lost["t_ns"] <= robot.now - away + 300 * MS


def test_heartbeats_count_and_stop_with_the_turns(robot: Robot) -> None:
    """A heartbeat every 100 ms, with one sequence over heartbeats and leases; without a turn there is none."""
    robot.go()
    before = len(robot.sent)
    for _ in range(20):
        robot.speed(5.0)
        robot.turn(50)
    beats = [decode_heartbeat(m[1]) for m in robot.sent[before:] if m[0] == b"heartbeat"]
    assert len(beats) == 10 and {beat.boot for beat in beats} == {BOOT}
    numbers = [
        decode_heartbeat(m[1]).seq if m[0] == b"heartbeat" else decode_lease(m[1]).seq
        for m in robot.sent
        if m[0] == b"heartbeat" or m[0].startswith(b"lease/")
    ]
    assert numbers == list(range(1, len(numbers) + 1))
    quiet = len(robot.sent)
    robot.now += 10 * SECOND
    assert len(robot.sent) == quiet


def test_the_end_revokes_and_says_so(robot: Robot) -> None:
    """At the end every gate's last lease is NO_GO, and the journal ends with its end mark."""
    robot.go()
    robot.loop.end()
    assert not robot.lease() and not robot.lease("drive")
    assert robot.types()[0] == "monitor.started" and robot.types()[-1] == "monitor.stopped"
    robot.loop.end = lambda: None  # type: ignore[method-assign]


def test_a_live_run_reexecutes(tmp_path: Path) -> None:
    """What was decided live, journal trouble included, comes out of the tape again, byte for byte."""
    from edge_replay.commands.reexecute import records

    robot = Robot(tmp_path, patience_ns=100 * MS)
    robot.go()
    robot.disk.go.clear()
    for value in (13.0, 5.0, float("nan"), 5.0):
        robot.speed(value)
        robot.turn(120)
    robot.disk.go.set()
    robot.until(lambda: robot.scribe.health().waiting == 0)
    robot.turn(400)
    robot.go()
    robot.close()
    report = reexecute(robot.envelope, read(robot.tape), records(robot.disk.path))
    assert report.difference is None and report.unmatched == 0
    assert report.events == len(robot.types()) and report.anchors > 5


def test_a_command_has_its_place_among_the_samples_of_its_turn(tmp_path: Path) -> None:
    """A command that comes with samples in one turn is decided after them, numbered after them, and re-executes there."""
    from edge_monitor.core.commands import EndMission
    from edge_monitor.onboard.control import Reply
    from edge_replay.commands.reexecute import records

    robot = Robot(tmp_path)
    orders: list[bytes] = []

    def answer(request: bytes, now: int) -> Reply:
        orders.append(request)
        tickets, _ = robot.loop.obey(EndMission(t=now, person="p", reason="over"), now)
        return Reply(b"done", [ticket for ticket in tickets if ticket is not None])

    control = robot.context.socket(zmq.ROUTER)
    control.bind(f"ipc://{tmp_path}/ask")
    asking = robot.context.socket(zmq.REQ)
    asking.connect(f"ipc://{tmp_path}/ask")
    robot.loop.serve(control, answer)
    robot.go()
    for speed in (13.0, 5.0, 14.0, 5.0):
        robot.speed(speed)
        asking.send(b"over")
        assert control.poll(2000)
        robot.turn(20)
        robot.until(lambda: asking.poll(0))
        assert asking.recv() == b"done"
    assert len(orders) == 4
    robot.close()
    report = reexecute(robot.envelope, read(robot.tape), records(robot.disk.path))
    assert report.difference is None and report.events == len(robot.types())


def test_requests_are_answered_and_nonsense_is_refused(robot: Robot) -> None:
    """A gate's answer has decision and reasons; the state has every check; anything else is one line of why."""
    answers = Control(
        robot.publication,
        lambda now: robot.publication.state(now, robot.loop.beside()),
        robot.loop.obey,
        time.time_ns,
    )

    def ask(request: Any) -> dict[str, Any]:
        raw = request if isinstance(request, bytes) else msgspec.msgpack.encode(request)
        answer: dict[str, Any] = msgspec.msgpack.decode(answers(raw, robot.now).body)
        return answer

    robot.turn()
    no = ask({"do": "go", "gate": "takeoff"})
    assert no["ok"] and no["decision"] == "NO_GO" and ["speed_limit", "UNKNOWN", "never_received"] in no["reasons"]
    robot.go()
    yes = ask({"do": "go", "gate": "takeoff"})
    assert (yes["decision"], yes["reasons"], yes["lease_ns"]) == ("GO", [], SECOND)
    state = ask({"do": "status"})["state"]
    assert state["names"]["checks"] == ["journal_healthy", "speed_limit"] and len(state["checks"]["verdict"]) == 2
    for nonsense in (
        b"",
        b"\xc1",
        b"\x93\x01\x02\x03",
        {"do": 7},
        {"do": "go", "gate": ["a"]},
        {},
        b"\x91" * 60_000,
        bytes(70_000),
    ):
        refused = ask(nonsense)
        assert not refused["ok"] and "\n" not in refused["error"] and refused["error"]


def test_a_storm_of_changes_is_a_few_states(robot: Robot) -> None:
    """States go out at most every 50 ms, the last change soon after it came; every event goes out at once."""
    robot.go()
    before = len(robot.sent)
    for turn in range(200):
        robot.speed(13.0 if turn % 2 == 0 else 5.0)
        robot.turn(1)
    sent = [parts[0] for parts in robot.sent[before:]]
    assert sent.count(b"event/check.fail") == 100 and sent.count(b"event/check.pass") == 100
    assert 4 <= sent.count(b"state") <= 5
    robot.speed(13.0)
    robot.turn(1)
    for _ in range(6):
        robot.turn(10)
    body = next(parts[1] for parts in reversed(robot.sent) if parts[0] == b"state")
    assert msgspec.msgpack.decode(body)["checks"]["verdict"][1] == int(Verdict.FAIL)


def test_a_topic_that_is_over_its_limits_is_unknown(tmp_path: Path) -> None:
    """What the source says of a topic becomes the cause of its signals, and is no longer said once it is well."""
    monitor = Monitor(envelopes.loads(ENVELOPE))
    monitor.until(SECOND)
    (lost, *_) = monitor.status("/odom", Cause.OVERFLOW, 2 * SECOND)
    assert (lost.type, lost.payload["cause"]) == ("input.lost", "overflow")
    assert monitor.status("/nothing", Cause.OVERFLOW, 2 * SECOND) == []
    assert TOPIC in {signal.topic for signal in monitor.envelope.signals}
