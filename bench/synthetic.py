"""The synthetic recording: Imu at 800 Hz and Odometry at 200 Hz in a zstd-chunked MCAP, made once and kept in build/."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np

BUILD = Path(__file__).resolve().parent.parent / "build"


def stamp(t: int) -> bytes:
    return struct.pack("<iI", t // 1_000_000_000, t % 1_000_000_000)


def make(messages: int = 1_000_000, seed: int = 7) -> Path:
    """Write (or reuse) the recording: four Imu to one Odometry, 1 kHz together; returns its path."""
    source = Path(__file__).read_bytes()
    path = BUILD / f"synthetic_{messages}_{seed}_{hashlib.sha256(source).hexdigest()[:8]}.mcap"
    if path.exists():
        return path
    from mcap.writer import CompressionType, Writer
    from rosbags.typesys import Stores, get_typestore

    BUILD.mkdir(exist_ok=True)
    store = get_typestore(Stores.ROS2_JAZZY)
    rng = np.random.default_rng(seed)
    partial = path.with_suffix(".part")
    with partial.open("wb") as stream:
        writer = Writer(stream, compression=CompressionType.ZSTD, chunk_size=1 << 20)
        writer.start(profile="ros2", library="edge-monitor bench")
        channels, templates = {}, {}
        for topic, name in (("/imu", "sensor_msgs/msg/Imu"), ("/odom", "nav_msgs/msg/Odometry")):
            definition, _ = store.generate_msgdef(name, ros_version=2)
            schema = writer.register_schema(name, "ros2msg", definition.encode())
            channels[topic] = writer.register_channel(topic, "cdr", schema)
            templates[topic] = bytearray(template(store, name))
        for k in range(messages):
            t = 1_700_000_000_000_000_000 + k * 1_000_000
            topic = "/odom" if k % 5 == 4 else "/imu"
            data = templates[topic]
            data[4:12] = stamp(t - 2_000_000)
            fill(data, topic, rng, k)
            writer.add_message(channels[topic], t, bytes(data), t)
        writer.finish()
    partial.rename(path)
    return path


def template(store, name: str) -> bytes:
    """A message with a frame id and known numbers; ``fill`` overwrites the numbers in place."""
    types = store.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "base")
    vector = types["geometry_msgs/msg/Vector3"]
    quaternion = types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    if name.endswith("Imu"):
        nine = np.zeros(9)
        message = types[name](header, quaternion, nine, vector(0.0, 0.0, 0.0), nine, vector(0.0, 0.0, 9.81), nine)
    else:
        cov = np.zeros(36)
        pose = types["geometry_msgs/msg/PoseWithCovariance"](
            types["geometry_msgs/msg/Pose"](types["geometry_msgs/msg/Point"](0.0, 0.0, 0.0), quaternion), cov
        )
        twist = types["geometry_msgs/msg/TwistWithCovariance"](
            types["geometry_msgs/msg/Twist"](vector(0.0, 0.0, 0.0), vector(0.0, 0.0, 0.0)), cov
        )
        message = types[name](header, "base", pose, twist)
    return bytes(store.serialize_cdr(message, name))


# Byte offsets of what changes (checked against a full decode by bench/replay.py before it times anything).
IMU_RATES = 4 + 24 + 32 + 72
IMU_ACCELERATION = IMU_RATES + 24 + 72
ODOM_POSITION = 4 + 32
ODOM_TWIST = ODOM_POSITION + 56 + 288


def fill(data: bytearray, topic: str, rng: np.random.Generator, k: int) -> None:
    noise = rng.normal(size=6)
    if topic == "/imu":
        struct.pack_into("<3d", data, IMU_RATES, *(0.1 * noise[:3]))
        struct.pack_into("<3d", data, IMU_ACCELERATION, 0.3 * noise[3], 0.3 * noise[4], 9.81 + 0.3 * noise[5])
    else:
        struct.pack_into("<3d", data, ODOM_POSITION, k * 1e-3, 0.1 * noise[0], 0.0)
        struct.pack_into("<3d", data, ODOM_TWIST, 1.0 + 0.2 * noise[1], 0.05 * noise[2], 0.0)
