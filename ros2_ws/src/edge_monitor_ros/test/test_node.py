"""The monitor's node, started as a robot starts it, against real publishers of this process. Needs a ROS 2 that is sourced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from edge_monitor_msgs.msg import Decision, Transition
from edge_monitor_msgs.srv import GoNoGo
from lifecycle_msgs.msg import Transition as Change
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image, Imu
from std_msgs.msg import Bool

from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.keys import make_key
from edge_monitor.journal.verify import verify

ENVELOPE = """
edge_monitor: 1
envelope: {id: node, version: 1, vehicle: bench}
signals:
  up: {topic: /imu, type: sensor_msgs/msg/Imu, field: linear_acceleration.z, max_age: 1 s}
  age: {topic: /imu, type: sensor_msgs/msg/Imu, field: header.stamp, max_age: 1 s}
  rows: {topic: /image, type: sensor_msgs/msg/Image, field: height, max_age: 1 s}
  wrong: {topic: /wrong, type: std_msgs/msg/Float64, field: data, max_age: 1 s}
  absent: {topic: /absent, type: std_msgs/msg/Float64, field: data, max_age: 1 s}
checks:
  upright: {kind: bounds, signal: up, max: 12, severity: critical}
  recent: {kind: latency, signal: age, max: 5 s, severity: marginal}
  sees: {kind: bounds, signal: rows, min: 480, severity: critical}
  typed: {kind: bounds, signal: wrong, max: 1, severity: marginal}
  there: {kind: bounds, signal: absent, max: 1, severity: marginal}
gates:
  drive: {require: all, criteria: [upright, sees, recent], lease: 5 s}
"""
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class World:
    """The node's process, and a node of ours that publishes and listens."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("ROS_DOMAIN_ID", str(100 + os.getpid() % 100))
        self.folder = folder
        (folder / "node.yaml").write_text(ENVELOPE)
        make_key("robot", folder)
        given = {
            "envelope": folder / "node.yaml", "journal": folder / "j.db", "key": folder / "robot.key", "unapproved": "true",
            "autostart": "false", "publish": f"ipc://{folder}/out", "control": f"ipc://{folder}/ask",
        }  # fmt: skip
        parameters = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
        self.process = subprocess.Popen([sys.executable, "-m", "edge_monitor_ros.node", "--ros-args", *parameters])
        rclpy.init()
        self.node = Node("world")
        self.decisions: list[Any] = []
        self.events: list[Any] = []
        self.statuses: dict[str, Any] = {}
        self.node.create_subscription(Decision, "/edge_monitor/decision/drive", self.decisions.append, LATCHED)
        self.node.create_subscription(Transition, "/edge_monitor/events", self.events.append, 100)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 10)
        self.imu = self.node.create_publisher(Imu, "/imu", qos_profile_sensor_data)
        self.image = self.node.create_publisher(Image, "/image", 10)
        self.node.create_publisher(Bool, "/wrong", 10)
        self.up = 9.81
        self.timers = [self.node.create_timer(0.005, self._sense), self.node.create_timer(0.1, self._see)]

    def _diagnosed(self, array: Any) -> None:
        self.statuses = {status.name: status for status in array.status}

    def _sense(self) -> None:
        message = Imu()
        message.header.stamp = self.node.get_clock().now().to_msg()
        message.linear_acceleration.z = self.up
        self.imu.publish(message)

    def _see(self) -> None:
        self.image.publish(Image(height=480, width=640, step=1920, encoding="rgb8", data=bytes(480 * 1920)))

    def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Spin until something holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end and self.process.poll() is None, (self.decisions[-1:], self.statuses)
            rclpy.spin_once(self.node, timeout_sec=0.01)

    def call(self, kind: Any, name: str, request: Any, seconds: float = 240) -> Any:
        """Call a service; the first configuration compiles kernels."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done, seconds)
        return future.result()

    def change(self, transition: int) -> bool:
        """Ask for a transition of the lifecycle."""
        request = ChangeState.Request(transition=Change(id=transition))
        return bool(self.call(ChangeState, "/edge_monitor/change_state", request).success)

    def close(self) -> None:
        """End both."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.node.destroy_node()
        rclpy.shutdown()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A node that is unconfigured."""
    world = World(tmp_path)
    yield world
    world.close()


def test_a_life_of_the_node(world: World) -> None:
    """Configured, activated, GO, NO_GO with its reason, each silent fault named, deactivated, and all of it provable."""
    assert world.change(Change.TRANSITION_CONFIGURE)
    assert not world.decisions  # inactive: it reads and says nothing
    assert world.change(Change.TRANSITION_ACTIVATE)
    world.until(lambda: world.decisions and world.decisions[-1].decision == Decision.GO)
    answer = world.call(GoNoGo, "/edge_monitor/go", GoNoGo.Request(gate="drive"))
    assert answer.ok and answer.decision.decision == Decision.GO and answer.decision.valid_for.sec == 5
    world.up = 13.0
    world.until(lambda: world.decisions[-1].cause == "upright FAIL")
    world.up = 9.81
    world.until(lambda: world.decisions[-1].decision == Decision.GO)
    world.until(lambda: world.statuses["edge_monitor: typed"].message == "UNKNOWN: type_mismatch")
    world.until(lambda: world.statuses["edge_monitor: there"].message == "UNKNOWN: no_publisher")
    world.timers[1].cancel()
    world.node.destroy_publisher(world.image)
    world.until(lambda: world.decisions[-1].cause == "sees UNKNOWN(no_publisher)")
    assert "input.lost" in {event.type for event in world.events}
    assert world.change(Change.TRANSITION_DEACTIVATE)
    assert world.change(Change.TRANSITION_CLEANUP)
    world.process.send_signal(signal.SIGTERM)
    assert world.process.wait(20) == 0
    report = verify(world.folder / "j.db", [load_verifier_key(world.folder / "robot.pub")])
    assert report.ok and [run.ended for run in report.runs] == [True]
