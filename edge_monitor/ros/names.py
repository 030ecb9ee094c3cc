"""How ROS 2 spells its names on DDS (design.ros2.org: topic and service name mapping)."""

from __future__ import annotations

import re

TOPIC_PREFIX = "rt"
_TOPIC = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
_TYPE = re.compile(r"([A-Za-z][A-Za-z0-9_]*)/(?:msg/)?([A-Za-z][A-Za-z0-9_]*)")


def is_topic(name: str) -> bool:
    """Whether a ROS topic may have this name; a leading slash is optional."""
    return _TOPIC.fullmatch(name) is not None


def dds_topic(name: str) -> str:
    """``/odom`` or ``odom`` as DDS has it: ``rt/odom``."""
    return f"{TOPIC_PREFIX}/{name.removeprefix('/')}"


def full_type(name: str) -> str:
    """``nav_msgs/Odometry`` or ``nav_msgs/msg/Odometry`` as the latter; empty where it is no ROS message type."""
    found = _TYPE.fullmatch(name)
    return f"{found[1]}/msg/{found[2]}" if found else ""


def dds_type(name: str) -> str:
    """``nav_msgs/msg/Odometry`` as DDS has it: ``nav_msgs::msg::dds_::Odometry_``."""
    package, _, rest = name.partition("/")
    return f"{package}::msg::dds_::{rest.rpartition('/')[2]}_"


def ros_type(name: str) -> str:
    """The reverse of :func:`dds_type`; a name that ROS did not give stays what it is."""
    parts = name.split("::")
    if len(parts) == 4 and parts[1:3] == ["msg", "dds_"] and parts[3].endswith("_"):
        return f"{parts[0]}/msg/{parts[3][:-1]}"
    return name
