"""A world for the monitor's node: real publishers and subscribers in this process, the node in another one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from edge_monitor_msgs.msg import Decision, Transition
from lifecycle_msgs.msg import Transition as Change
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image, Imu
from std_msgs.msg import Bool, Float64

from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.keys import make_key
from edge_monitor.journal.verify import Report, verify

#: The same kinds of checks in all tests, so that kernels are compiled once.
ENVELOPE = """
edge_monitor: 1
envelope: {id: node, version: 1, vehicle: bench}
signals:
  up: {topic: /imu, type: sensor_msgs/msg/Imu, field: linear_acceleration.z, max_age: 1 s}
  age: {topic: /imu, type: sensor_msgs/msg/Imu, field: header.stamp, max_age: 1 s}
  pace: {topic: /odom, type: nav_msgs/msg/Odometry, field: twist.twist.linear.x, max_age: 1 s}
  rows: {topic: /image, type: sensor_msgs/msg/Image, field: height, max_age: 1 s}
  wrong: {topic: /wrong, type: std_msgs/msg/Float64, field: data, max_age: 1 s}
  absent: {topic: /absent, type: std_msgs/msg/Float64, field: data, max_age: 1 s}
  firm: {topic: /firm, type: std_msgs/msg/Float64, field: data, max_age: 1 s, qos: {reliable: true}}
  once: {topic: /once, type: std_msgs/msg/Float64, field: data, max_age: 1 h, qos: {latched: true}}
  far: {topic: /far, type: std_msgs/msg/Float64, field: data, max_age: 2 s}
checks:
  upright: {kind: bounds, signal: up, max: 12, severity: critical}
  recent: {kind: latency, signal: age, max: 5 s, severity: marginal}
  slow: {kind: bounds, signal: pace, max: 2, severity: critical}
  sees: {kind: bounds, signal: rows, min: 480, severity: critical}
  typed: {kind: bounds, signal: wrong, max: 1, severity: marginal}
  there: {kind: bounds, signal: absent, max: 1, severity: marginal}
  sure: {kind: bounds, signal: firm, max: 1, severity: marginal}
  known: {kind: bounds, signal: once, max: 1, severity: marginal}
  linked: {kind: bounds, signal: far, max: 1, severity: marginal}
gates:
  drive: {require: all, criteria: [upright, slow, sees, recent], lease: 5 s}
"""
#: A latch that only a person resets, and a NO_GO that demands one.
WITH_PEOPLE = (
    ENVELOPE.replace(
        "checks:\n",
        "  mode: {topic: /odom, field: twist.twist.linear.y, max_age: 1 s, values: {MANUAL: 0, AUTO: 1}}\nchecks:\n",
    )
    .replace("max: 12,", "max: 12, latch: manual,")
    .replace("lease: 5 s", "lease: 5 s, on_no_go: transition_demand")
    + """
authority: {mode: mode, map: {autonomy: [AUTO], human: [MANUAL]}}
handover: {accept_within: 10 min, complete_within: 10 min, attest_within: 10 min, gates: [drive]}
"""
)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
#: For a machine that is busy with other things; nothing here waits for time to pass.
PATIENCE_S = 240.0


class World:
    """Publishes what a robot would, listens to the monitor, and starts processes."""

    def __init__(self, folder: Path, name: str = "/edge_monitor", prefix: str = "/", envelope: str = ENVELOPE) -> None:
        """``name``: of the monitor's node; ``prefix``: of the topics of the robot."""
        self.folder, self.name = folder, name
        (folder / "node.yaml").write_text(envelope)
        make_key("robot", folder)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.living: list[subprocess.Popen[bytes]] = []  # those that nobody has told to end
        rclpy.init()
        self.node = Node("world")
        self.decisions: list[Any] = []
        self.events: list[Any] = []
        self.statuses: dict[str, Any] = {}
        self.diagnosed = 0.0  #: stamp of the diagnostics, s
        self.node.create_subscription(Decision, f"{name}/decision/drive", self.decisions.append, LATCHED)
        self.node.create_subscription(Transition, f"{name}/events", self.events.append, 100)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 10)
        self.imu = self.node.create_publisher(Imu, f"{prefix}imu", qos_profile_sensor_data)
        self.odometry = self.node.create_publisher(Odometry, f"{prefix}odom", 10)
        self.image = self.node.create_publisher(Image, f"{prefix}image", 10)
        self.node.create_publisher(Bool, f"{prefix}wrong", 10)
        self.firm = self.node.create_publisher(Float64, f"{prefix}firm", qos_profile_sensor_data)
        self.node.create_publisher(Float64, f"{prefix}once", LATCHED).publish(Float64(data=0.5))
        self.up = 9.81
        self.mode = 0.0
        self.stamp: Callable[[], Any] = lambda: self.node.get_clock().now().to_msg()
        self._picture = Image(height=480, width=640, step=1920, encoding="rgb8", data=bytes(480 * 1920))
        timers = ((0.005, self._sense), (0.02, self._move), (0.1, self._see))
        self.timers = [self.node.create_timer(period, call) for period, call in timers]

    @property
    def parameters(self) -> dict[str, object]:
        """Of the monitor's node."""
        folder = self.folder
        return {
            "envelope": folder / "node.yaml", "journal": folder / "j.db", "key": folder / "robot.key", "unapproved": "true",
            "autostart": "false", "publish": f"ipc://{folder}/out", "control": f"ipc://{folder}/ask",
            "actions": f"bind-pull:ipc://{folder}/in",
        }  # fmt: skip

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own."""
        log = self.folder / f"{len(self.processes)}.log"
        with log.open("w") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        log.rename(self.folder / f"{process.pid}.log")
        self.processes.append(process)
        self.living.append(process)
        return process

    def module(self, name: str, *words: str, **given: object) -> subprocess.Popen[bytes]:
        """Start a node of the package with parameters."""
        parameters = [word for key, value in given.items() for word in ("-p", f"{key}:={value}")]
        return self.start(sys.executable, "-m", f"edge_monitor_ros.{name}", "--ros-args", *words, *parameters)

    def monitor(self, *words: str, **given: object) -> subprocess.Popen[bytes]:
        """Start the monitor's node."""
        return self.module("node", *words, **{**self.parameters, **given})

    def until(self, condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
        """Spin until something holds; ``seconds`` are for a machine on which it never will."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.decisions[-1:], self.statuses)
            for process in self.living:
                assert process.poll() is None, self.printed(process)
            rclpy.spin_once(self.node, timeout_sec=0.01)

    def says(self, check: str, message: str) -> None:
        """Wait until the diagnostics of a check begin so."""
        name = f"edge_monitor: {check}"
        self.until(lambda: name in self.statuses and self.statuses[name].message.startswith(message))

    def decides(self, cause: str) -> None:
        """Wait for a decision: no cause is GO."""
        expected = Decision.NO_GO if cause else Decision.GO
        self.until(
            lambda: self.decisions and self.decisions[-1].decision == expected and cause in self.decisions[-1].cause
        )

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service of the monitor."""
        client = self.node.create_client(kind, f"{self.name}/{name}")
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done)
        self.node.destroy_client(client)
        return future.result()

    def change(self, transition: int) -> bool:
        """Ask for a transition of the lifecycle."""
        return bool(
            self.call(ChangeState, "change_state", ChangeState.Request(transition=Change(id=transition))).success
        )

    def tell(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Send a signal that ends a process."""
        self.living.remove(process)
        process.send_signal(number)

    def ended(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Wait for the end of a process: its exit code and what it printed."""
        if process in self.living:
            self.living.remove(process)
        self.until(lambda: process.poll() is not None)
        return process.returncode, self.printed(process)

    def printed(self, process: subprocess.Popen[bytes]) -> str:
        """What a process printed so far."""
        return (self.folder / f"{process.pid}.log").read_text()

    def verified(self) -> Report:
        """The journal as an outsider sees it."""
        return verify(self.folder / "j.db", [load_verifier_key(self.folder / "robot.pub")])

    def close(self) -> None:
        """End all that was started here."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.node.destroy_node()
        rclpy.try_shutdown()

    def _diagnosed(self, array: Any) -> None:
        self.diagnosed = array.header.stamp.sec + array.header.stamp.nanosec / 1e9
        self.statuses = {status.name.removeprefix("/"): status for status in array.status}

    def _sense(self) -> None:
        message = Imu()
        message.header.stamp = self.stamp()
        message.linear_acceleration.z = self.up
        self.imu.publish(message)

    def _move(self) -> None:
        message = Odometry()
        message.twist.twist.linear.x, message.twist.twist.linear.y = 1.0, self.mode
        self.odometry.publish(message)
        self.firm.publish(Float64(data=0.5))

    def _see(self) -> None:
        self.image.publish(self._picture)
