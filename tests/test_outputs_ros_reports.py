"""What the monitor publishes, as ROS messages: reports from real events and states, and their serialized bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edge_monitor import envelope as envelopes
from edge_monitor.core.commands import ReloadEnvelope
from edge_monitor.core.messages import Batch, Channel
from edge_monitor.core.samples import MESSAGE
from edge_monitor.events import Event
from edge_monitor.onboard.publication import Publication
from edge_monitor.outputs.ros_reports import ERROR, OK, STALE, WARN, Report, RosReports
from edge_monitor.ros.encoding import Encoder
from edge_monitor.runtime import Monitor

S = 1_000_000_000
ENVELOPE = """
edge_monitor: 1
envelope: {id: yard, version: 1, vehicle: ugv}
signals:
  speed: {topic: /odom, field: v, unit: m/s, max_age: 300 ms}
  heat: {topic: /odom, field: t, unit: degC, max_age: 300 ms}
checks:
  limit: {kind: bounds, signal: speed, max: 12, leave: 11, severity: critical, hazard: H1}
  warm: {kind: bounds, signal: heat, max: 60, severity: marginal}
gates:
  drive: {require: all, criteria: [limit], lease: 2 s}
"""
BESIDE = {"journal": {"failure": "", "waiting": 0, "refused": 0, "durable": 7, "head": ""}, "source": {"lost": 0}}


class Told:
    """A monitor, what it publishes, and the reports that come of it; the wall clock is the stream's."""

    def __init__(self) -> None:
        envelope = envelopes.loads(ENVELOPE.encode())
        self.now = S
        self.monitor = Monitor(envelope)
        self.monitor.warm()
        self.reports = RosReports(envelope, lambda: self.now)
        self.found: list[Report] = []
        self.publication = Publication(self.send, bytes(range(16)), self.monitor.decider)
        self.monitor.feed(Channel(0, "/odom", "odom", "packed", "ulog", "odom:double v;double t;"))
        self.tickets = 0

    def send(self, parts: list[bytes]) -> None:
        """What a PUB socket would get."""
        self.found += self.reports.take(parts)

    def feed(self, speed: float, heat: float = 20.0, wait: int = S // 10) -> None:
        """A message, and all that follows from it; a second in steps of ``wait`` ns."""
        self.now += wait
        data = np.frombuffer(np.array([speed, heat], np.float64).tobytes(), np.uint8)
        events = self.monitor.feed(Batch(data, np.array([(self.now, 0, 16, 0)], MESSAGE)))
        self.tell([*events, *self.monitor.until(self.now + 1)])

    def tell(self, events: list[Event]) -> None:
        """Publish events, and what stands."""
        for event in events:
            self.publication.tell(event, self.tickets, self.now)
            self.publication.durable([self.tickets], self.now)
            self.tickets += 1
        self.publication.beat(self.now)
        if self.publication.state_is_due(self.now):
            self.publication.state(self.now, BESIDE)

    def of(self, topic: str) -> list[dict[str, Any]]:
        """The messages of a topic so far, which are then forgotten."""
        messages = [report.message for report in self.found if report.topic == topic]
        self.found = [report for report in self.found if report.topic != topic]
        return messages


@pytest.fixture
def told() -> Iterator[Told]:
    """A monitor that has heard nothing yet."""
    yield Told()


def test_a_decision_is_a_lease_with_its_reasons(told: Told) -> None:
    """GO with its time, NO_GO at once with what stands against it; the stamp is the wall clock's."""
    told.feed(5)
    go = told.of("decision/drive")[-1]
    assert go["decision"] == 1 and go["valid_for"] == {"sec": 2, "nanosec": 0} and go["boot"] == list(range(16))
    assert go["stamp"] == {"sec": 1, "nanosec": S // 10} and go["cause"] == ""
    told.feed(13)
    no_go = told.of("decision/drive")[-1]
    assert no_go["decision"] == 0 and no_go["valid_for"] == {"sec": 0, "nanosec": 0} and no_go["cause"] == "limit FAIL"
    (reason,) = no_go["reasons"]
    assert (reason["verdict"], reason["value"], reason["limit"], reason["margin"]) == (2, 13.0, 12.0, -1.0)
    assert reason["unit"] == "m/s" and reason["severity"] == "critical" and no_go["sequence"] > go["sequence"]


def test_every_event_is_one_transition(told: Told) -> None:
    """Fields for who filters, and the whole event as JSON."""
    told.feed(5)
    told.feed(13)
    events = told.of("events")
    (failed,) = [event for event in events if event["type"] == "check.fail"]
    assert failed["subject"] == "limit" and failed["hazard"] == "H1" and failed["rules"] == ["limit"]
    assert failed["value"] == 13 and failed["margin"] == -1 and failed["verdict"] == 2
    assert json.loads(failed["document"])["t_ns"] == failed["t_effective"] == told.now
    *_, gone = [event for event in events if event["type"] == "gate.no_go"]
    assert math.isnan(gone["value"]) and gone["cause"] == "limit FAIL"


def test_diagnostics_come_each_second_and_at_once_when_something_gets_worse(told: Told) -> None:
    """Nothing in between, however many states there are; getting better can wait."""
    for _ in range(20):  # two seconds
        told.feed(5)
    assert len(told.of("/diagnostics")) == 2
    told.feed(13)
    assert len(told.of("/diagnostics")) == 1
    for _ in range(5):
        told.feed(5)
    assert told.of("/diagnostics") == []


def test_levels_names_and_words_of_diagnostics(told: Told) -> None:
    """Passed is OK, a serious failure ERROR, another one WARN, unknown STALE; one status a check, with its numbers."""

    def levels() -> dict[str, tuple[int, str]]:
        (array,) = told.of("/diagnostics")[-1:]
        assert {status["hardware_id"] for status in array["status"]} == {"ugv"}
        return {status["name"]: (status["level"], status["message"]) for status in array["status"]}

    told.feed(5)
    found = levels()
    assert found["edge_monitor: limit"] == (OK, "PASS: 5, limit 12 m/s")
    assert found["edge_monitor: gate drive"] == (OK, "GO") and found["edge_monitor: journal"] == (OK, "written")
    told.feed(13, 70)
    found = levels()
    assert found["edge_monitor: limit"] == (ERROR, "FAIL: 13, limit 12 m/s")
    assert found["edge_monitor: warm"] == (WARN, "FAIL: 70, limit 60 degC")
    assert found["edge_monitor: gate drive"] == (WARN, "NO_GO: limit FAIL")
    told.now += 2 * S
    told.tell(told.monitor.until(told.now))
    assert levels()["edge_monitor: warm"] == (STALE, "UNKNOWN: stale")


def test_a_state_holds_every_gate_and_check(told: Told) -> None:
    """What whoever comes late must know."""
    told.feed(5)
    state = told.of("state")[-1]
    assert [gate["gate"] for gate in state["gates"]] == ["drive"] and state["gates"][0]["decision"] == 1
    assert [(check["name"], check["verdict"]) for check in state["checks"]] == [("limit", 0), ("warm", 0)]
    assert state["journal_durable"] == 7 and state["envelope_id"] == "yard" and state["decision_authority"] == ""


def test_handovers_have_a_topic_of_their_own(told: Told) -> None:
    """Who asked whom, why, until when; the rest is in the document."""
    terms = {
        "id": "monitor-1", "from": "autonomy", "to": "human", "initiator": "monitor", "reason": "drive is NO_GO",
        "requested_ns": 5, "demand": True, "gate": "drive", "rules": ["limit"], "limit_ns": None, "unasked": False,
    }  # fmt: skip
    payload = {"schema": 1, "responsible": "autonomy", "cause": "limit FAIL", "handover": terms, "due_ns": 10 * S}
    told.tell([Event("handover.requested", "monitor-1", S, S, "marginal", payload, ("limit",))])
    (handover,) = told.of("handovers")
    assert (handover["id"], handover["source"], handover["destination"]) == ("monitor-1", "autonomy", "human")
    assert handover["due"] == 10 * S and handover["rules"] == ["limit"] and handover["gate"] == "drive"
    assert len(told.of("events")) == 1


def test_reports_are_serialized_as_ros_reads_them(told: Told) -> None:
    """Every report has every field of its type, in its type: read back by rosbags, it says the same."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    from edge_monitor.ros.encoding import own_messages

    told.feed(5)
    told.feed(13, float("inf"))
    told.tell([Event("mrm.start", "mrm", S, S, "critical", {"responsible": "none", "cause": "nobody answered"})])
    types = get_typestore(Stores.ROS2_JAZZY)
    for path in (own_messages() / "edge_monitor_msgs" / "msg").glob("*.msg"):
        types.register(get_types_from_msg(path.read_text(), f"edge_monitor_msgs/msg/{path.stem}"))
    encoder = Encoder()
    for report in told.found:
        body = encoder.encode(report.type, report.message)
        assert _plain(types.deserialize_cdr(body, report.type)) == _plain(report.message), report.topic
        assert encoder.hash(report.type).startswith("RIHS01_")
    assert {report.topic for report in told.found} == {
        "decision/drive", "events", "handovers", "state", "/diagnostics"
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """Comparable: NaN as None, messages and arrays as maps and lists."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(one) for one in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return {
            n: _plain(getattr(value, n))
            for n in value.__dataclass_fields__
            if not n.startswith("__") and not n.isupper()
        }
    return int(value) if isinstance(value, (bool, int)) else value


def test_another_envelope_has_its_own_gates_and_checks(told: Told) -> None:
    """After a reload decisions of new gates and checks are told, and a gate that is no more is told to be NO_GO."""
    told.feed(5)
    other = envelopes.loads(
        ENVELOPE.replace("version: 1", "version: 2").replace("  drive:", "  go:").replace("  warm:", "  cosy:").encode()
    )
    told.monitor.enter(other)
    order = ReloadEnvelope(t=told.now, path="x", file="00" * 32, digest=other.digest, risk=other.risk)
    assert told.monitor.gates.state() == {"drive": True}
    found, refused = told.monitor.reload(told.monitor.prepare(other), order)
    assert "gate drive: removed" in refused and [event.type for event in found] == ["envelope.rejected"]
    told.feed(13)
    told.of("decision/drive")
    _, refused = told.monitor.reload(told.monitor.prepare(other), order)
    assert refused == ""
    told.publication.renew(told.now, unapproved=False)
    assert [gone["decision"] for gone in told.of("decision/drive")] == [0]
    told.reports.renew(other)
    told.feed(5)
    told.feed(5, wait=2 * S)
    assert told.of("decision/go")[-1]["decision"] == 1 and told.of("decision/drive") == []
    assert {check["name"] for check in told.of("state")[-1]["checks"]} == {"cosy", "limit"}
    assert any("cosy" in status["name"] for status in told.of("/diagnostics")[-1]["status"])
