"""What a vehicle is told: heartbeats, why it may not go on, and whether it may arm; alone, and by the whole process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymavlink.dialects.v20 import all as pymavlink
from test_source_mavlink import Vehicle

from edge_monitor.journal.keys import make_key
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_payload, decode_record
from edge_monitor.mavlink.links import LinkAddress
from edge_monitor.mavlink.requests import ARM_AUTHORIZATION, Request
from edge_monitor.outputs.mavlink import MavlinkOutput

S = 1_000_000_000
BIN = Path(sys.executable).parent
ENVELOPE = """
edge_monitor: 1
envelope: {id: vehicle, version: 1, vehicle: bench}
signals:
  mode: {topic: mavlink/1/HEARTBEAT, field: custom_mode, max_age: 3 s, values: {STABILIZE: 0, AUTO: 3, RTL: 6}}
  armed: {topic: mavlink/1/HEARTBEAT, field: base_mode.bit7, max_age: 3 s, values: {DISARMED: 0, ARMED: 1}}
  text: {topic: mavlink/1/STATUSTEXT, field: text, max_age: never}
  charge: {topic: mavlink/1/BATTERY_STATUS, field: battery_remaining, scale: 0.01, max_age: 60 s}
  roll: {topic: mavlink/1/ATTITUDE, field: roll, unit: rad, max_age: 60 s}
checks:
  charge_ok: {kind: bounds, signal: charge, min: 0.3, severity: critical}
  upright: {kind: bounds, signal: roll, min: -0.5, max: 0.5, severity: critical}
authority:
  mode: mode
  active: {signal: armed, value: ARMED}
  map: {human: [STABILIZE], autonomy: [AUTO], fallback: [RTL]}
  reasons: {text: [text], within: 2 s}
gates:
  takeoff: {require: all, criteria: [charge_ok, upright], lease: 4 s}
  continue: {require: all, criteria: [upright], lease: 2 s}
"""


class Line:
    """A line that keeps what is sent."""

    def __init__(self) -> None:
        self.address = LinkAddress("udpin", "127.0.0.1", 1)
        self.requests: deque[Request] = deque()
        self.stamp = 0
        self.parser = pymavlink.MAVLink(None)
        self.sent: list[Any] = []

    def send(self, message: bytes) -> None:
        """Take a message apart, as a vehicle would."""
        self.sent.append(self.parser.decode(bytearray(message)))

    def take(self, name: str) -> list[Any]:
        """Messages of a name since the last call."""
        found = [message for message in self.sent if message.msgname == name]
        self.sent = [message for message in self.sent if message.msgname != name]
        return found


class Answers:
    """What is published, as the test has it."""

    def __init__(self) -> None:
        self.gates = ["takeoff", "continue"]
        self.withheld = ""
        self.now: dict[str, Any] = {"decision": "GO", "cause": "", "lease_ns": 5 * S, "reasons": []}

    def answer(self, gate: str) -> dict[str, Any]:
        """The same for every gate."""
        return self.now

    def no_go(self, *reasons: tuple[str, str], cause: str = "") -> None:
        """Be NO_GO for these reasons."""
        self.now = {
            "decision": "NO_GO",
            "cause": cause,
            "lease_ns": 0,
            "reasons": [[*reason, ""] for reason in reasons],
        }


@pytest.fixture
def line() -> Line:
    """A line to a vehicle."""
    return Line()


def ask(line: Line, output: MavlinkOutput, now: int) -> tuple[Any, list[Any]]:
    """A vehicle asks whether it may arm: the answer to it, and reports."""
    line.requests.append(Request(1, 1, ARM_AUTHORIZATION, (0.0,) * 7))
    reports = output.turn(now)
    (ack,) = line.take("COMMAND_ACK")
    assert (ack.command, ack.target_system, ack.target_component) == (ARM_AUTHORIZATION, 1, 1)
    return ack, reports


def test_an_authorization_is_the_lease_in_whole_seconds(line: Line) -> None:
    """ACCEPTED with the validity where PX4 and where common.xml look for it, never rounded up, at most 254 in a byte."""
    answers = Answers()
    output = MavlinkOutput(line, answers)
    for lease, seconds, byte in ((5 * S, 5, 5), (5 * S - 1, 4, 4), (S // 2, 0, 0), (1000 * S, 1000, 254)):
        answers.now["lease_ns"] = lease
        ack, reports = ask(line, output, S)
        assert (ack.result, ack.progress, ack.result_param2) == (pymavlink.MAV_RESULT_ACCEPTED, byte, seconds)
        assert reports == [] and line.take("STATUSTEXT") == []


def test_a_denial_says_why(line: Line) -> None:
    """DENIED for what failed, TEMPORARILY_REJECTED for what is not known or has to wait; the text has the reasons."""
    answers = Answers()
    output = MavlinkOutput(line, answers)
    answers.no_go(("gnss_ok", "UNKNOWN"), ("charge_ok", "FAIL"))
    ack, (report,) = ask(line, output, 10 * S)
    said = pymavlink.MAV_ARM_AUTH_DENIED_REASON_NONE  # "Authorizer will send the error as string to GCS"
    assert (ack.result, ack.progress, ack.result_param2) == (pymavlink.MAV_RESULT_DENIED, said, said)
    (text,) = line.take("STATUSTEXT")
    assert text.text == "Arm denied: charge_ok, gnss_ok?" and text.severity == pymavlink.MAV_SEVERITY_CRITICAL
    assert (report.subject, report.gate, report.reason) == ("arm", "takeoff", "charge_ok, gnss_ok?")

    answers.no_go(("gnss_ok", "UNKNOWN"))
    ack, (report,) = ask(line, output, 11 * S)
    assert ack.result == pymavlink.MAV_RESULT_TEMPORARILY_REJECTED
    assert ack.progress == pymavlink.MAV_ARM_AUTH_DENIED_REASON_GENERIC  # the last text is too near for another
    assert line.take("STATUSTEXT") == [] and report.reason == "gnss_ok?"

    answers.no_go(cause="waits for the journal")
    ack, _ = ask(line, output, 20 * S)
    assert ack.result == pymavlink.MAV_RESULT_TEMPORARILY_REJECTED
    assert line.take("STATUSTEXT")[0].text == "Arm refused for now: waits for the journal"

    for words, given in (
        ("no gate arm", {"arming": "arm"}),
        ("time is simulated", {"simulated": True}),
        ("envelope not approved", {"unapproved": True}),
    ):
        answers.now["decision"] = "GO"
        ack, _ = ask(line, MavlinkOutput(line, answers, **given), 30 * S)  # type: ignore[arg-type]
        assert ack.result == pymavlink.MAV_RESULT_DENIED and line.take("STATUSTEXT")[0].text == f"Arm denied: {words}"


def test_a_vehicle_that_asks_all_the_time_fills_no_journal(line: Line) -> None:
    """Denials for the same reasons are one report a minute, with their number."""
    answers = Answers()
    answers.no_go(("charge_ok", "FAIL"))
    output = MavlinkOutput(line, answers)
    reports = [report for second in range(121) for report in ask(line, output, (100 + second) * S)[1]]
    assert [report.counts for report in reports] == [(1,), (60,), (60,)]
    assert [report.since // S for report in reports] == [100, 101, 161]
    assert len(line.take("STATUSTEXT")) == 25


def test_a_long_reason_is_cut(line: Line) -> None:
    """Text and report have room for some names; what has none is cut, and the text says so."""
    answers = Answers()
    answers.no_go(*((f"criterion_ö{number}", "FAIL") for number in range(9)))
    _, (report,) = ask(line, MavlinkOutput(line, answers), S)
    text = line.take("STATUSTEXT")[0].text
    assert len(text) == 50 and text.startswith("Arm denied: criterion_?0, criterion_?1") and text.endswith("+")
    assert len(report.reason.encode()) <= 64 and report.reason.startswith("criterion_ö0, ")


@pytest.mark.parametrize("given", [{"unapproved": True}, {"simulated": True}])
def test_a_vehicle_on_a_bench_may_arm_all_the_same(line: Line, given: dict[str, bool]) -> None:
    """With an envelope that nobody approved, or in simulated time, where the address says so; and the crew is told."""
    line.address = LinkAddress("udpin", "127.0.0.1", 1, bench=True)
    output = MavlinkOutput(line, Answers(), **given)  # type: ignore[arg-type]
    ack, _ = ask(line, output, S)
    assert ack.result == pymavlink.MAV_RESULT_ACCEPTED
    assert line.take("STATUSTEXT")[0].text.startswith("Arming on the bench: ")


def test_heartbeats_are_an_onboard_controllers(line: Line) -> None:
    """One a second while turns are completed; critical while no GO can be given at all."""
    answers = Answers()
    output = MavlinkOutput(line, answers)
    for ms in range(0, 5001, 10):
        output.turn(S + ms * 1_000_000)
    beats = line.take("HEARTBEAT")
    assert len(beats) == 6 and line.sent == []
    assert (beats[0].type, beats[0].autopilot) == (
        pymavlink.MAV_TYPE_ONBOARD_CONTROLLER,
        pymavlink.MAV_AUTOPILOT_INVALID,
    )
    assert (beats[0].get_srcSystem(), beats[0].get_srcComponent()) == (10, 191)
    assert [beat.get_seq() for beat in beats] == list(range(6))
    answers.withheld = "journal: disk full"
    output.turn(10 * S)
    assert beats[0].system_status == pymavlink.MAV_STATE_ACTIVE
    assert line.take("HEARTBEAT")[0].system_status == pymavlink.MAV_STATE_CRITICAL


def test_other_commands_are_not_supported(line: Line) -> None:
    """Whoever asks something else of us gets an answer, as MAVLink wants it."""
    output = MavlinkOutput(line, Answers())
    line.requests.append(Request(255, 190, pymavlink.MAV_CMD_REQUEST_MESSAGE, (0.0,) * 7))
    output.turn(S)
    (ack,) = line.take("COMMAND_ACK")
    assert (ack.command, ack.result, ack.target_system) == (512, pymavlink.MAV_RESULT_UNSUPPORTED, 255)


class Flight:
    """``edge-monitor run`` on a free port, and a vehicle that speaks to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "live.yaml").write_text(ENVELOPE)
        make_key("robot", folder)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as place:
            place.bind(("127.0.0.1", 0))
            port = place.getsockname()[1]
        self.run = subprocess.Popen(
            [
                BIN / "edge-monitor", "run", "-e", folder / "live.yaml", "--source", f"mavlink:udpin:127.0.0.1:{port}?bench=yes",
                "--journal", folder / "journal.db", "--key", folder / "robot.key", "--publish", f"ipc://{folder}/out",
                "--tapes", folder / "tapes", "--tape-size", "16",
                "--control", f"ipc://{folder}/ask", "--unapproved", "--jsonl",
            ],
            stdout=(folder / "events.jsonl").open("a"), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.vehicle = Vehicle(f"udpout:127.0.0.1:{port}")

    def got(self, kind: str) -> list[dict[str, Any]]:
        """Messages that the vehicle got, by name."""
        return [message for message in list(self.vehicle.got) if message["mavpackettype"] == kind]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What the monitor has decided."""
        lines = (self.folder / "events.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["type"] == kind]

    def until(self, condition: Callable[[], object], seconds: float = 20) -> None:
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end and self.run.poll() is None, (self.vehicle.got[-5:], self.run.poll())
            time.sleep(0.01)

    def ask(self) -> dict[str, Any]:
        """Ask whether it may arm: the answer."""
        before = len(self.got("COMMAND_ACK"))
        self.vehicle.send("COMMAND_LONG", target_system=10, command=ARM_AUTHORIZATION)
        self.until(lambda: len(self.got("COMMAND_ACK")) > before)
        return self.got("COMMAND_ACK")[-1]

    def end(self) -> None:
        """End whatever still runs."""
        self.run.send_signal(signal.SIGCONT)
        self.run.terminate()
        self.run.wait(20)
        self.vehicle.end()


@pytest.fixture
def flight(tmp_path: Path) -> Iterator[Flight]:
    """A flight whose monitor is heard by the vehicle."""
    flight = Flight(tmp_path)
    try:
        flight.until(lambda: flight.got("HEARTBEAT"), 180)
        yield flight
    finally:
        flight.end()


def test_a_flight(flight: Flight) -> None:
    """Denied before there is a GO, then authorized; who commands and why; NO-GO told in flight; a stopped monitor is silent;
    and all of it decided again out of the tape.
    """
    assert flight.got("HEARTBEAT")[0]["type"] == pymavlink.MAV_TYPE_ONBOARD_CONTROLLER
    assert flight.got("HEARTBEAT")[0]["from"] == [10, 191]
    assert flight.ask()["result"] == pymavlink.MAV_RESULT_TEMPORARILY_REJECTED

    flight.vehicle.send("BATTERY_STATUS", battery_remaining=20)
    flight.vehicle.send("ATTITUDE", roll=0.1)
    flight.until(lambda: flight.events("check.fail"))
    denied = flight.ask()
    assert denied["result"] == pymavlink.MAV_RESULT_DENIED
    flight.until(lambda: [event for event in flight.events("action.blocked") if event["reason"] == "charge_ok"])

    flight.vehicle.send("BATTERY_STATUS", battery_remaining=90)
    flight.until(lambda: [event for event in flight.events("gate.go") if event["subject"] == "takeoff"])
    flight.until(lambda: flight.ask()["result"] == pymavlink.MAV_RESULT_ACCEPTED)
    granted = flight.got("COMMAND_ACK")[-1]
    assert (granted["progress"], granted["result_param2"], granted["target_system"]) == (4, 4, 1)
    assert any("not approved" in text["text"] for text in flight.got("STATUSTEXT"))

    flight.vehicle.send("mode", base_mode=209, custom_mode=3)
    flight.until(lambda: [event for event in flight.events("authority.changed") if event["to"] == "autonomy"])
    flight.vehicle.send("STATUSTEXT", severity=4, text="Radio failsafe on: returning", id=0)
    flight.vehicle.send("mode", base_mode=209, custom_mode=6)
    flight.until(lambda: [event for event in flight.events("authority.changed") if event["to"] == "fallback"])
    assert flight.events("authority.changed")[-1]["cause"] == "Radio failsafe on: returning"

    told = len(flight.got("STATUSTEXT"))
    flight.vehicle.send("ATTITUDE", roll=0.9)
    flight.until(lambda: any("NO-GO continue: upright" in text["text"] for text in flight.got("STATUSTEXT")[told:]))

    flight.run.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    beats, answers = len(flight.got("HEARTBEAT")), len(flight.got("COMMAND_ACK"))
    flight.vehicle.send("COMMAND_LONG", target_system=10, command=ARM_AUTHORIZATION)
    time.sleep(2.2)
    assert len(flight.got("HEARTBEAT")) == beats and len(flight.got("COMMAND_ACK")) == answers
    flight.run.send_signal(signal.SIGCONT)
    flight.until(lambda: len(flight.got("COMMAND_ACK")) > answers)
    assert flight.got("COMMAND_ACK")[-1]["result"] == pymavlink.MAV_RESULT_DENIED

    flight.run.terminate()
    assert flight.run.wait(20) == 0
    with Reader(flight.folder / "journal.db") as reader:
        records = [(decode_record(row.record), decode_payload(row.payload or b"")) for row in reader.rows()]
    assert any(record.type == "action.blocked" and payload["gate"] == "takeoff" for record, payload in records)
    (tape,) = (flight.folder / "tapes").glob("*.tape")
    made_again = subprocess.run(
        [
            BIN / "edge-replay", "reexecute", flight.folder / "journal.db", tape, "-e", flight.folder / "live.yaml",
            "--key", flight.folder / "robot.pub",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made_again.returncode == 0, made_again.stdout + made_again.stderr
