"""The monitor as a lifecycle node: conversion and wiring only. Between configure and cleanup it holds the envelope and its
kernels; while active it reads, decides, journals and publishes; while inactive it subscribes to nothing and no gate is GO."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosidl_runtime_py.utilities import get_message

from edge_monitor import envelope as envelopes
from edge_monitor.commands.run import SWITCH_S, assemble
from edge_monitor.envelope.approval import require
from edge_monitor.errors import EdgeMonitorError
from edge_monitor.onboard.black_box import BlackBox
from edge_monitor.onboard.loop import Onboard
from edge_monitor.outputs.ros_reports import Report, RosReports
from edge_monitor.people import load as load_people
from edge_monitor.ros.definitions import Definitions, installed_folders
from edge_monitor.runtime import Monitor
from edge_monitor.sources.addresses import parse
from edge_monitor.sources.dds import LIMITS, DdsSource

from .ending import begin
from .filling import filled
from .graph import RosBucket, RosGraph
from .services import Services

#: Between turns, each of which takes what the middleware has queued: nothing wakes them, and shorter ones only cost more.
TURN_MS = 2
SPIN_NS = 10_000_000  #: between looks at services, events and transitions
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
PARAMETERS: dict[str, Any] = {
    "envelope": "", "risk": "", "journal": "", "key": "", "tapes": "", "people": "", "unapproved": False,
    "publish": "tcp://127.0.0.1:7371", "control": "tcp://127.0.0.1:7372", "actions": "bind-pull:tcp://127.0.0.1:7373",
    "autostart": True,
}  # fmt: skip


class MonitorNode(LifecycleNode):
    """edge-monitor in a ROS 2 graph."""

    def __init__(self) -> None:
        super().__init__("edge_monitor")
        for name, value in PARAMETERS.items():
            self.declare_parameter(name, value)
        self.envelope: envelopes.Envelope | None = None
        self.onboard: Onboard | None = None
        self._stack = ExitStack()
        self._graph: RosGraph | None = None
        self.reports: RosReports | None = None
        self._outputs: dict[str, Any] = {}
        self._requests = Services(self)

    def text(self, name: str) -> str:
        """A parameter."""
        return str(self.get_parameter(name).value)

    def path(self, name: str) -> Path | None:
        """A file; None where it is empty."""
        return Path(self.text(name)) if self.text(name) else None

    # Transitions.

    def on_configure(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Load and approve the envelope, compile its kernels, make the publishers."""
        try:
            for name in ("envelope", "journal", "key"):
                if self.path(name) is None:
                    raise EdgeMonitorError(f"the parameter {name!r} is empty: give it a file")
            people = self.path("people")
            self._people = load_people(people) if people else None
            self.envelope = envelopes.load(self.text("envelope"), risk=self.text("risk") or None)
            self._approval = require(
                self.envelope, self._people, time.time_ns(), bool(self.get_parameter("unapproved").value)
            )
        except EdgeMonitorError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        Monitor(self.envelope).warm()
        self.reports = RosReports(self.envelope, lambda: self.get_clock().now().nanoseconds, self.get_name())
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, open the journal, decide."""
        assert self.envelope is not None
        journal, key, tapes = self.path("journal"), self.path("key"), self.path("tapes")
        assert journal is not None and key is not None
        self._stack = ExitStack()
        try:
            self.onboard = assemble(
                self._stack, self.envelope, self._approval, self._actions(), journal, key,
                black_box=BlackBox(tapes) if tapes else None, publish=self.text("publish"),
                control=self.text("control"), people=self._people, node=self, turn_ms=TURN_MS,
            )  # fmt: skip
        except EdgeMonitorError as error:
            self._stack.close()
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Revoke every GO, write the journal's end mark, subscribe to nothing."""
        self.end()
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Forget the envelope."""
        self.end()
        self.envelope = None
        for output in self._outputs.values():
            self.destroy_publisher(output)
        self._outputs.clear()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, _: LifecycleState) -> TransitionCallbackReturn:
        """End, from any state."""
        self.end()
        return TransitionCallbackReturn.SUCCESS

    def end(self) -> None:
        """Stop deciding, cleanly."""
        if self.onboard is not None:
            self.onboard.end()
            self.onboard = None
            self._stack.close()

    # What goes in and out.

    def _actions(self) -> list[Any]:
        return [parse(self.text("actions"))] if self.text("actions") else []

    def join(self, wanted: Any, clock: Any) -> DdsSource:
        """Begin to read topics."""
        graph = RosGraph(self, [one.topic for one in wanted])
        self._graph = graph
        return DdsSource(
            graph, wanted, clock, definitions=Definitions(installed_folders()), takings=RosBucket(LIMITS.frame_bytes),
            wall=lambda: self.get_clock().now().nanoseconds,
        )  # fmt: skip

    def send(self, parts: list[bytes]) -> None:
        """Publish, as ROS messages."""
        assert self.reports is not None
        for report in self.reports.take(parts):
            self._output(report).publish(filled(get_message(report.type)(), report.message))

    def renew(self, envelope: envelopes.Envelope) -> None:
        """Another envelope is in force."""
        assert self.reports is not None
        self.envelope = envelope
        self.reports.renew(envelope)

    def _output(self, report: Report) -> Any:
        if report.topic not in self._outputs:
            absolute = report.topic.startswith("/")
            latched = report.topic == "state" or report.topic.startswith("decision/")
            qos = LATCHED if latched else QoSProfile(depth=10 if absolute else 100)
            name = report.topic if absolute else f"~/{report.topic}"
            self._outputs[report.topic] = self.create_publisher(get_message(report.type), name, qos)
        return self._outputs[report.topic]

    def turn(self) -> None:
        """One turn of the monitor."""
        if self.onboard is None or self._graph is None:
            return
        for tap in self._graph.taps:
            tap.rung = True
        self.onboard.turn(TURN_MS)


def main() -> None:
    """Run the node until it is told to stop."""
    told = begin()
    sys.setswitchinterval(SWITCH_S)
    node = MonitorNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spun = 0
    try:
        if node.get_parameter("autostart").value:
            node.trigger_configure()
            if node.envelope is not None:
                node.trigger_activate()
        while not told():
            active = node.onboard is not None
            if not active or time.monotonic_ns() - spun >= SPIN_NS:
                executor.spin_once(timeout_sec=0.0 if active else 0.1)
                spun = time.monotonic_ns()
            node.turn()
    finally:
        node.end()
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
