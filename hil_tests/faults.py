"""What can go wrong with a message on its way: each fault turns one message into those that are sent instead.

A fault gets topic, message and a memory of its own, which is empty when it begins; it answers (delay in ns, topic, message)
of each message to be sent.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]
Sent = list[tuple[int, str, Message]]
Fault = Callable[[str, Message, Message], Sent]
MS = 1_000_000
STEP_NS = 5_000_000_000  #: by which a source's clock jumps
noise = random.Random(7)


def healthy(topic: str, message: Message, memory: Message) -> Sent:
    """Nothing is wrong."""
    return [(0, topic, message)]


def bias(topic: str, message: Message, memory: Message) -> Sent:
    """The barometer reads 6 m too high from one moment to the next."""
    return [(0, topic, {"value": message["value"] + 6.0} if topic == "/baro" else message)]


def noise_up(topic: str, message: Message, memory: Message) -> Sent:
    """The gyroscope is ten times as noisy."""
    return [(0, topic, _gyro(message, message["gyro"]["x"] + noise.gauss(0, 0.1)) if topic == "/imu" else message)]


def noise_down(topic: str, message: Message, memory: Message) -> Sent:
    """The gyroscope is dying: it still moves, but hardly."""
    if topic != "/imu":
        return [(0, topic, message)]
    held = memory.setdefault("held", message["gyro"]["x"])
    return [(0, topic, _gyro(message, held + noise.gauss(0, 0.0002)))]


def freeze(topic: str, message: Message, memory: Message) -> Sent:
    """The accelerometer repeats its last value; the stamps go on."""
    if topic == "/imu":
        message = {**message, "acceleration": memory.setdefault("held", copy.deepcopy(message["acceleration"]))}
    return [(0, topic, message)]


def dropout(topic: str, message: Message, memory: Message) -> Sent:
    """The odometry goes silent."""
    return [] if topic == "/odom" else [(0, topic, message)]


def delay(topic: str, message: Message, memory: Message) -> Sent:
    """The inertial sensor's messages are 150 ms on their way."""
    return [(150 * MS if topic == "/imu" else 0, topic, message)]


def spike(topic: str, message: Message, memory: Message) -> Sent:
    """One reading of the range finder is off; the next is right again."""
    if topic == "/range" and memory.setdefault("left", 1):
        memory["left"] = 0
        return [(0, topic, {"value": message["value"] + 15.0})]
    return [(0, topic, message)]


def nan(topic: str, message: Message, memory: Message) -> Sent:
    """The speed is not a number."""
    return [(0, topic, {**message, "speed": float("nan")} if topic == "/odom" else message)]


def wrong_units(topic: str, message: Message, memory: Message) -> Sent:
    """The speed comes in km/h."""
    return [(0, topic, {**message, "speed": message["speed"] * 3.6} if topic == "/odom" else message)]


def topic_swap(topic: str, message: Message, memory: Message) -> Sent:
    """Barometer and range finder are plugged into each other's place."""
    return [(0, {"/baro": "/range", "/range": "/baro"}.get(topic, topic), message)]


def clock_ahead(topic: str, message: Message, memory: Message) -> Sent:
    """The inertial sensor's clock is suddenly 5 s ahead."""
    return [(0, topic, _stamped(message, STEP_NS) if topic == "/imu" else message)]


def clock_behind(topic: str, message: Message, memory: Message) -> Sent:
    """The inertial sensor's clock is suddenly 5 s behind."""
    return [(0, topic, _stamped(message, -STEP_NS) if topic == "/imu" else message)]


def flood(topic: str, message: Message, memory: Message) -> Sent:
    """The range finder's driver sends each message 400 times, which is 20,000 a second."""
    return [(0, topic, message)] * (400 if topic == "/range" else 1)


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        healthy, bias, noise_up, noise_down, freeze, dropout, delay, spike, nan, wrong_units, topic_swap, clock_ahead,
        clock_behind, flood,
    )
}  # fmt: skip


def _gyro(message: Message, x: float) -> Message:
    return {**message, "gyro": {"x": x}}


def _stamped(message: Message, step: int) -> Message:
    return {**message, "header": {"stamp": message["header"]["stamp"] + step}}
