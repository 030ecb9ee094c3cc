"""Decisions, state, events and diagnostics into a ROS 2 graph, over DDS without ROS (docs/dds.md).

A subscriber that does not read loses messages, and nobody waits for it. Decisions are written by the engine's thread after
a completed turn only, and their writers promise to: a monitor that hangs is seen to.
"""

from __future__ import annotations

from ..dds.entities import Participant, Qos, Writer
from ..envelope import Envelope
from ..ros.encoding import Encoder
from ..ros.names import dds_topic, dds_type
from .ros_reports import RosReports

#: The last one is for whoever comes later; a writer that says nothing for so long is seen to be dead.
DECISION = Qos(reliable=True, latched=True, depth=1, lease=500_000_000)
STATE = Qos(reliable=True, latched=True, depth=1, lease=3_000_000_000)
EVENTS = Qos(reliable=True, depth=100)
DIAGNOSTICS = Qos(reliable=True, depth=10)


class DdsOutput:
    """Publishes reports below ``/NAMESPACE/edge_monitor``, and diagnostics where everyone's are."""

    def __init__(self, participant: Participant, reports: RosReports, namespace: str = "") -> None:
        """``participant``: whoever made it closes it. Raises ``ConfigError``."""
        self._participant = participant
        self._reports = reports
        self._encoder = Encoder()
        self._base = "/".join(part for part in (namespace.strip("/"), "edge_monitor") if part)
        self._writers: dict[str, tuple[Writer, str]] = {}
        self.failed = 0  #: messages that could not be written
        self._open_gates()
        self._open("state", "edge_monitor_msgs/msg/MonitorState", STATE)
        self._open("events", "edge_monitor_msgs/msg/Transition", EVENTS)
        self._open("handovers", "edge_monitor_msgs/msg/Handover", EVENTS)
        self._open("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", DIAGNOSTICS)

    def renew(self, envelope: Envelope) -> None:
        """From here on, what is published is of this envelope. Raises ``ConfigError``."""
        self._reports.renew(envelope)
        self._open_gates()

    def send(self, parts: list[bytes]) -> None:
        """Publish what the parts of a message say; never waits."""
        for report in self._reports.take(parts):
            writer, type_name = self._writers[report.topic]
            if not writer.write(self._encoder.encode(type_name, report.message)):
                self.failed += 1

    def _open_gates(self) -> None:
        for topic in (f"decision/{gate}" for gate in self._reports.gates):
            if topic not in self._writers:
                self._open(topic, "edge_monitor_msgs/msg/Decision", DECISION)

    def _open(self, topic: str, type_name: str, qos: Qos) -> None:
        name = topic if topic.startswith("/") else f"{self._base}/{topic}"
        writer = self._participant.writer(dds_topic(name), dds_type(type_name), qos, self._encoder.hash(type_name))
        self._writers[topic] = writer, type_name
