"""Six seconds of a drive: out of a real recording where there is one, and made of the same kinds of messages elsewhere."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from dds_world import TYPES, message
from mcap.writer import Writer
from recording_publisher import Message, messages

from edge_monitor.core.messages import Channel

IMU, ODOMETRY, FIX = "/imu/data", "/husky_velocity_controller/odom", "/fix"
DATA = Path(os.environ.get("EDGE_MONITOR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
HUSKY = DATA / "ugv_husky/derived_mcap/husky_mcapz.mcap"
SECOND = 1_000_000_000
SECONDS = (246, 252)  #: of the Husky's drive: it speeds up, turns and shakes
STARTED = 1_700_000_000 * SECOND
KINDS = {IMU: "sensor_msgs/msg/Imu", ODOMETRY: "nav_msgs/msg/Odometry", FIX: "sensor_msgs/msg/NavSatFix"}


def drive() -> list[Message]:
    """The six seconds."""
    if not HUSKY.exists():
        return made()
    whole = messages(HUSKY)
    begin, end = (whole[0].t + second * SECOND for second in SECONDS)
    return [one for one in whole if begin <= one.t < end]


def made() -> list[Message]:
    """Six seconds of a drive with the same sensors: it speeds up, weaves and shakes."""
    channels = {
        topic: Channel(i, topic, kind, "cdr", "ros2msg", TYPES.generate_msgdef(kind, ros_version=2)[0])
        for i, (topic, kind) in enumerate(KINDS.items())
    }

    def at(topic: str, s: float, **fields: object) -> Message:
        t = STARTED + round(s * SECOND)
        stamp = message(
            "builtin_interfaces/msg/Time", sec=(t - 25_000_000) // SECOND, nanosec=(t - 25_000_000) % SECOND
        )
        header = message("std_msgs/msg/Header", stamp=stamp)
        data = TYPES.serialize_cdr(message(KINDS[topic], header=header, **fields), KINDS[topic])
        return Message(t, channels[topic], bytes(data))

    def vector(**parts: float) -> object:
        return message("geometry_msgs/msg/Vector3", **parts)

    found = []
    for i in range(180):
        turn, shake = 0.15 * math.sin(i / 20), 9.8 + math.sin(i / 5)
        found.append(at(IMU, i / 30, angular_velocity=vector(y=turn), linear_acceleration=vector(z=shake)))
    for i in range(60):
        twist = message(
            "geometry_msgs/msg/Twist", linear=vector(x=0.3 + 0.01 * i), angular=vector(z=0.15 * math.sin(i / 6.7))
        )
        found.append(at(ODOMETRY, 0.003 + i / 10, twist=message("geometry_msgs/msg/TwistWithCovariance", twist=twist)))
    found += [at(FIX, 0.014 + 0.4 * i, latitude=42.376, longitude=-71.147) for i in range(15)]
    return sorted(found, key=lambda one: one.t)


def write(path: Path, messages: Sequence[Message], times: Sequence[int]) -> None:
    """An MCAP file of messages, with other receive times."""
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("ros2", "tests")
        channels: dict[str, int] = {}
        for number, (one, t) in enumerate(zip(messages, times, strict=True)):
            if one.channel.topic not in channels:
                schema = writer.register_schema(one.channel.type, "ros2msg", one.channel.definition.encode())
                channels[one.channel.topic] = writer.register_channel(one.channel.topic, "cdr", schema)
            writer.add_message(channels[one.channel.topic], t, one.data, t, number)
        writer.finish()
