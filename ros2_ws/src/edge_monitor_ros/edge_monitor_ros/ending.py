"""SIGINT and SIGTERM end a node after its last words: with rclpy's own handlers nothing could be published any more."""

from __future__ import annotations

import signal
from collections.abc import Callable

import rclpy
from rclpy.signals import SignalHandlerOptions


def begin() -> Callable[[], bool]:
    """Join ROS; answers a function that says whether the process was told to stop."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    told: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda caught, _: told.append(caught))
    return lambda: bool(told) or not rclpy.ok()
