"""What stands beside the node: its launch file, names, the gate of cmd_vel, the command, what is missing."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from geometry_msgs.msg import Twist, TwistStamped
from world import ENVELOPE, World

PACKAGE = Path(__file__).parent.parent / "edge_monitor_ros"
#: What a ROS installation brings; package.xml names each.
ROS = {"rclpy", "rosidl_runtime_py", "lifecycle_msgs", "geometry_msgs", "edge_monitor_msgs", "ros2cli"}


def test_launched_in_a_namespace(make: Callable[..., World]) -> None:
    """The launch file takes a parameter file and a namespace, starts by itself, and ends the node cleanly on SIGINT."""
    world = make(name="/robot/edge_monitor", prefix="/robot/")
    (world.folder / "node.yaml").write_text(ENVELOPE.replace("topic: /", "topic: "))
    given = {name: value for name, value in world.parameters.items() if name != "autostart"}
    lines = [f"    {name}: {value}" for name, value in given.items()]
    (world.folder / "robot.yaml").write_text("\n".join(["/**:", "  ros__parameters:", *lines]))
    arguments = [f"params_file:={world.folder}/robot.yaml", "namespace:=robot"]
    launch = world.start("ros2", "launch", "edge_monitor_ros", "monitor.launch.py", *arguments)
    world.decides("")
    world.tell(launch, signal.SIGINT)
    code, text = world.ended(launch)
    assert code == 0 and "process has finished cleanly" in text, text
    assert [run.ended for run in world.verified().runs] == [True]


def test_remapped(make: Callable[..., World]) -> None:
    """Topics of the envelope are remapped as any topic of a node, and so is the name of the node."""
    world = make(name="/watch", prefix="/base/")
    remaps = [f"{topic}:=/base{topic}" for topic in ("/imu", "/odom", "/image")]
    world.monitor(*(word for one in ["__node:=watch", *remaps] for word in ("-r", one)), autostart="true")
    world.decides("")


@pytest.mark.parametrize("kind", [Twist, TwistStamped])
def test_the_gate_of_cmd_vel(make: Callable[..., World], kind: Any) -> None:
    """It passes, limits and stops on the lease, stamped or not; what it holds back is an event of the monitor, and in its
    journal."""
    world = make()
    stamped = kind is TwistStamped
    process = world.monitor(autostart="true")
    gate = {"monitor": f"ipc://{world.folder}/out", "actions": f"ipc://{world.folder}/in"}
    told = world.module("cmd_vel_gate", accept_unapproved="true", stamped=str(stamped).lower(), max_speed="1.0", **gate)
    out: list[Any] = []
    message = kind()
    asked = message.twist if stamped else message
    asked.linear.x, asked.angular.z = 0.5, 0.2

    def came(sent: Any) -> None:
        assert not stamped or sent.header.stamp.sec
        out.append(sent.twist if stamped else sent)

    def ask() -> None:
        if stamped:
            message.header.stamp = world.stamp()
        publisher.publish(message)

    world.node.create_subscription(kind, "/cmd_vel_out", came, 10)
    publisher = world.node.create_publisher(kind, "/cmd_vel_in", 1)
    world.node.create_timer(0.05, ask)
    world.decides("")
    world.until(lambda: out and out[-1].linear.x == 0.5 and out[-1].angular.z == 0.2)
    asked.linear.x = 3.0
    world.until(lambda: 0.99 < out[-1].linear.x <= 1.0)
    world.until(lambda: "action.blocked" in {event.type for event in world.events})
    world.up = 13.0
    world.until(lambda: out[-1].linear.x == 0.0 and out[-1].angular.z == 0.0)
    world.up = 9.81
    asked.linear.x = 0.5
    world.until(lambda: out[-1].linear.x == 0.5)
    world.tell(told, signal.SIGTERM)
    code, text = world.ended(told)
    assert code == 0 and "NO_GO" in text, text
    assert out[-1].linear.x == 0.0  # its last word
    world.tell(process, signal.SIGKILL)


def test_the_command(make: Callable[..., World]) -> None:
    """``ros2 edge-monitor`` has the verbs and exit codes of edge-monitor."""
    world = make()
    file = world.folder / "node.yaml"
    code, text = world.ended(world.start("ros2", "edge-monitor", "check", str(file)))
    assert code == 0 and "node" in text, text
    file.write_text("edge_monitor: 1\n")
    assert world.ended(world.start("ros2", "edge-monitor", "check", str(file)))[0] == 3


def test_what_is_missing_is_said() -> None:
    """Without edge-monitor, one line says what to install; nothing else is imported that only the package index has."""
    block = "import sys; sys.modules['edge_monitor'] = None; import edge_monitor_ros"
    found = subprocess.run([sys.executable, "-c", block], check=False, capture_output=True, text=True, env=os.environ)
    assert found.returncode == 1 and found.stderr.count("\n") == 1
    assert "pip install edge-monitor" in found.stderr
    for file in PACKAGE.glob("*.py"):
        for statement in ast.walk(ast.parse(file.read_text())):
            names = [one.name for one in statement.names] if isinstance(statement, ast.Import) else []
            if isinstance(statement, ast.ImportFrom) and not statement.level:
                names = [str(statement.module)]
            roots = {name.split(".")[0] for name in names}
            assert roots <= ROS | sys.stdlib_module_names | {"edge_monitor"}, f"{file.name}: {roots}"
