"""The loop's two clocks: one that counts suspend decides everything, the one on the wall decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_onboard import BOOT, SECOND, Robot

from edge_monitor import people
from edge_monitor.attestation import attest
from edge_monitor.core.commands import AcceptHandover, RequestHandover
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import Record, WallStatus, decode_record
from edge_monitor.onboard.control import Control
from edge_monitor.outputs.wire import decode_heartbeat, decode_lease

HOUR, YEAR = 3600 * SECOND, 31_557_600 * SECOND
NOON = 1_790_000_000 * SECOND  #: what the wall says at the start: a day in 2026
ENVELOPE = b"""
edge_monitor: 1
envelope: {id: clocks, version: 1, vehicle: bench}
signals:
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 300 ms}
  mode: {topic: /odom, field: mode, max_age: 2 s, values: {MANUAL: 0, AUTO: 1}}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, leave: 11, fail_for: 100 ms, severity: critical}
  often: {kind: frequency, signal: speed, min: 10 Hz, window: 1 s}
  lively: {kind: stale, signal: speed, max: 200 ms}
  calm: {kind: formula, formula: "historically[0 s, 1 s](speed <= 14 m/s)"}
authority: {mode: mode, map: {autonomy: [AUTO], human: [MANUAL]}}
gates:
  takeoff: {require: all, criteria: [speed_limit, often, calm], go_after: 200 ms, lease: 1 s}
  drive: {require: all, criteria: [speed_limit], lease: 500 ms, on_unknown: {hold: 400 ms}, on_no_go: transition_demand,
          then: {after: 10 min, do: mrm}}
handover: {accept_within: 3 s, complete_within: 3 s, attest_within: 10 s, gates: [drive], mrm: {confirm_within: 2 s}}
"""


class Wall:
    """A clock on the wall that somebody sets: it goes with ``robot.now``, and ``off`` by so much (ns)."""

    def __init__(self) -> None:
        self.off = 0
        self.robot: Robot | None = None

    def ns(self) -> int:
        """Since 1970."""
        return NOON + self.off + (self.robot.now if self.robot else 0)

    def __call__(self) -> tuple[int, WallStatus, int]:
        """As a journal asks."""
        return self.ns(), WallStatus.SYNCHRONISED, 1_000_000


def clocked(folder: Path) -> tuple[Robot, Wall]:
    """A robot with a clock on its wall."""
    wall = Wall()
    folder.mkdir()
    robot = Robot(folder, envelope=ENVELOPE, wall=wall)
    wall.robot = robot
    return robot, wall


def turn(robot: Robot, ms: int) -> None:
    """Time goes on by so much; the disk has no part in it: a GO is given at the time at which it is decided."""
    robot.turn(ms)
    robot.until(lambda: robot.scribe.health().waiting == 0)
    robot.turn(0)


def drive(robot: Robot, turns: int, speed: float, mode: int = 1) -> None:
    """So many messages, 50 ms apart."""
    for _ in range(turns):
        robot.speed(speed, mode=mode)
        turn(robot, 50)


def story(robot: Robot, step: Callable[[int], None]) -> None:
    """GO, a failure, a demand, its acceptance, takeover, silence and a signature that never comes; ``step(k)`` between."""
    drive(robot, 10, 5.0)
    step(0)
    drive(robot, 20, 5.0)
    drive(robot, 3, 15.0)
    step(1)
    drive(robot, 5, 15.0)
    (demand,) = [event for event in robot.told if event.type == "handover.requested"]
    step(2)
    robot.loop.obey(AcceptHandover(t=robot.now, id=demand.payload["handover"]["id"], person="ada"), robot.now)
    step(3)
    drive(robot, 3, 5.0)
    drive(robot, 10, 5.0, mode=0)
    step(4)
    for _ in range(60):  # silence: stale, a hold, and the time for the signature
        turn(robot, 200)
    step(5)
    drive(robot, 30, 5.0, mode=0)
    robot.loop.obey(RequestHandover(t=robot.now, id="back", to="autonomy", person="ada", reason="on we go"), robot.now)
    step(6)
    drive(robot, 10, 5.0)


def leases(robot: Robot) -> dict[tuple[bytes, int], tuple[bool, int]]:
    """What consumers held at each time of sending (ns): whether GO, and for how long."""
    found = [(m[0], decode_lease(m[1])) for m in robot.sent if m[0].startswith(b"lease/")]
    return {(topic, lease.issued_ns): (lease.go, lease.expires_in_ns) for topic, lease in found}


def records(robot: Robot) -> list[Record]:
    """All of the journal."""
    with Reader(robot.disk.path) as reader:
        return [decode_record(row.record) for row in reader.rows()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Robot:
    """The story with a wall clock that nobody touches."""
    robot, _ = clocked(tmp_path_factory.mktemp("clocks") / "undisturbed")
    story(robot, lambda _: None)
    robot.close()
    return robot


def test_the_story_has_it_all(undisturbed: Robot) -> None:
    """What is compared: verdicts, gates, a demand with its metrics, a missing signature, a handover back."""
    types = {event.type for event in undisturbed.told}
    assert {
        "check.fail", "check.pass", "check.unknown", "gate.go", "gate.no_go", "input.lost", "input.restored",
        "authority.changed", "handover.requested", "handover.accepted", "handover.completed", "handover.timeout",
    } <= types  # fmt: skip
    assert sum(go for go, _ in leases(undisturbed).values()) > 20


@pytest.mark.parametrize("step", [HOUR, -HOUR, 10 * YEAR, -10 * YEAR], ids=["+1 h", "-1 h", "+10 y", "-10 y"])
def test_a_step_of_the_wall_clock_changes_nothing(undisturbed: Robot, tmp_path: Path, step: int) -> None:
    """Set to and fro at every turn of the story, the wall clock stands in the records and changes no verdict, no order, no
    interval, no lease and no deadline."""
    robot, wall = clocked(tmp_path / "stepped")

    def set_clock(k: int) -> None:
        wall.off = step if k % 2 == 0 else 0

    story(robot, set_clock)
    robot.close()
    assert [event.document() for event in robot.told] == [event.document() for event in undisturbed.told]
    assert leases(robot) == leases(undisturbed)
    ours, theirs = records(robot), records(undisturbed)
    assert [(r.type, r.t_effective, r.t_decided, r.causes) for r in ours] == [
        (r.type, r.t_effective, r.t_decided, r.causes) for r in theirs
    ]
    offs = [a.wall_ns - b.wall_ns for a, b in zip(ours, theirs, strict=True)]
    assert {0, step} == {round(off / HOUR) * HOUR for off in offs}, "the steps are in the records"


def test_a_suspend_expires_handovers_and_signatures_before_any_output(tmp_path: Path) -> None:
    """Waking up, the loop first tells what fell due asleep, each at its own time; only then a heartbeat, and no GO."""
    robot, _ = clocked(tmp_path / "asleep")
    drive(robot, 30, 5.0)
    drive(robot, 5, 5.0, mode=0)  # a person took over and owes a signature within 10 s
    drive(robot, 5, 5.0)
    drive(robot, 5, 15.0)
    (demand,) = [event for event in robot.told if event.type == "handover.requested"]
    taken = next(event for event in robot.told if event.type == "handover.completed")
    before, sent = len(robot.told), len(robot.sent)
    asleep = robot.now
    robot.now += HOUR
    robot.turn()
    due = [(event.type, event.t_effective) for event in robot.told[before:]]
    assert ("handover.timeout", demand.t_effective + 3 * SECOND) in due
    assert ("mrm.start", demand.t_effective + 3 * SECOND) in due
    assert ("mrm.failed", demand.t_effective + 5 * SECOND) in due
    assert ("handover.timeout", taken.t_effective + 10 * SECOND) in due
    lost = [t for kind, t in due if kind == "input.lost"]
    assert lost and max(lost) <= asleep + 2 * SECOND
    assert [t for _, t in due] == sorted(t for _, t in due)
    topics = [message[0] for message in robot.sent[sent:]]
    assert topics.index(b"heartbeat") > max(i for i, topic in enumerate(topics) if topic.startswith(b"event/"))
    assert not any(go for (_, issued), (go, _) in leases(robot).items() if issued > asleep)
    beats = [decode_heartbeat(m[1]) for m in robot.sent[sent:] if m[0] == b"heartbeat"]
    assert [beat.boot for beat in beats] == [BOOT]
    robot.close()


def test_a_step_of_the_wall_clock_outdates_keys_and_delays_nothing(tmp_path: Path) -> None:
    """Whether a person's key is valid is asked of the wall: a clock that is ten years off refuses it, in one line, until
    it is set right. The takeover itself waits for no signature, and its deadline stands."""
    robot, wall = clocked(tmp_path / "people")
    key = SigningKey("carol", bytes(32))
    text = f"""\
edge_monitor_people: 1
people:
  carol: {{name: Carol, roles: [operator], keys: [{key.verifier.text()}], valid_from: 2026-01-01, valid_until: 2027-01-01}}
"""
    file = tmp_path / "people.yaml"
    file.write_text(text)
    control = Control(
        robot.publication, lambda now: robot.publication.state(now, robot.loop.beside()), robot.loop.obey, wall.ns,
        people.load(file),
    )  # fmt: skip

    def ask(**request: Any) -> dict[str, Any]:
        body = control(msgspec.msgpack.encode(request), robot.now).body
        answer: dict[str, Any] = msgspec.msgpack.decode(body)
        return answer

    drive(robot, 30, 5.0)
    drive(robot, 5, 5.0, mode=0)
    taken = next(event for event in robot.told if event.type == "handover.completed")
    assert taken.payload["attestation"] == "pending"
    terms = ask(do="terms", id=taken.payload["handover"]["id"])["terms"]
    head = robot.scribe.health().head
    sign = {
        "command": "handover.accept", "id": terms["id"], "person": "carol", "checkpoint": head,
        "signature": attest(key, {**terms, "person": "carol"}, head),
    }  # fmt: skip
    for off, why in ((10 * YEAR, "was valid until 2027-01-01"), (-10 * YEAR, "is valid from 2026-01-01")):
        wall.off = off
        refused = ask(do="command", command=sign)
        assert not refused["ok"] and why in refused["error"] and "\n" not in refused["error"]
    wall.off = 0
    assert ask(do="command", command=sign)["ok"]
    signed = [event for event in robot.told if event.type == "handover.accepted"]
    assert [event.payload["attestation"] for event in signed] == ["signed"]
    assert signed[0].t_effective < taken.t_effective + 10 * SECOND
    robot.close()
