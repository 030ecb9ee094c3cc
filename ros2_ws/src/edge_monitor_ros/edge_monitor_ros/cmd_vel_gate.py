"""A gate in the path of ``cmd_vel``: passes, limits or stops, on the lease of one gate of the monitor (docs/consumer.md).

Without a lease nothing moves: a monitor that hangs, dies or says NO_GO is a zero velocity, at once and again and again.
"""

from __future__ import annotations

from typing import Any

import rclpy
from geometry_msgs.msg import Twist, TwistStamped
from rclpy.node import Node

from edge_monitor.action_gate import ActionGate, Outcome
from edge_monitor.action_sender import ActionSender
from edge_monitor.consumer import Consumer, Subscriber, boottime_ns

from .ending import begin

PERIOD_S = 0.02  #: between looks at the lease while nothing is asked for


class CmdVelGate(Node):
    """``cmd_vel_in`` to ``cmd_vel_out``."""

    def __init__(self) -> None:
        super().__init__("cmd_vel_gate")
        gate = self.declare_parameter("gate", "drive").value
        address = self.declare_parameter("monitor", "tcp://127.0.0.1:7371").value
        actions = self.declare_parameter("actions", "tcp://127.0.0.1:7373").value
        max_speed = self.declare_parameter("max_speed", 1.0).value
        unapproved = self.declare_parameter("accept_unapproved", False).value
        kind = TwistStamped if self.declare_parameter("stamped", True).value else Twist
        self._gate, self._kind = gate, kind
        self._limits = ActionGate(gate, max_speed=max_speed)
        self._lease = Subscriber.connect(Consumer([gate], accept_unapproved=unapproved), address)
        self._sender = ActionSender.connect(actions) if actions else None
        self._moving = False
        self._out = self.create_publisher(kind, "cmd_vel_out", 1)
        self.create_subscription(kind, "cmd_vel_in", self._asked, 1)
        self.create_timer(PERIOD_S, self._look)

    def _asked(self, message: Any) -> None:
        """Answer a request: its direction is kept where it is too fast, its rotation stops with it."""
        self._lease.poll()
        twist = message.twist if self._kind is TwistStamped else message
        asked = (twist.linear.x, twist.linear.y, twist.linear.z)
        verdict = self._limits.velocity(asked, self._lease.allowed(self._gate), boottime_ns())
        if verdict.outcome == Outcome.BLOCKED:
            self._stop()
        else:
            twist.linear.x, twist.linear.y, twist.linear.z = verdict.granted
            self._out.publish(message)
            self._moving = True
        if verdict.record is not None:
            if self._sender is not None:
                self._sender.send(verdict.record)
            self.get_logger().warning(f"{verdict.rule.name}: asked for {asked} m/s, granted {verdict.granted}")

    def _look(self) -> None:
        """Stop what moves once the lease is gone, whether anything is asked for or not."""
        self._lease.poll()
        if self._moving and not self._lease.allowed(self._gate).go:
            self._stop()

    def end(self) -> None:
        """Leave nothing moving."""
        if self._moving:
            self._stop()

    def _stop(self) -> None:
        message = self._kind()
        if self._kind is TwistStamped:
            message.header.stamp = self.get_clock().now().to_msg()
        self._out.publish(message)
        self._moving = False


def main() -> None:
    """Run the node until it is told to stop."""
    told = begin()
    node = CmdVelGate()
    try:
        while not told():
            rclpy.spin_once(node, timeout_sec=0.1)
    finally:
        node.end()
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
