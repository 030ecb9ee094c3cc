"""Bytes to samples: what one message costs, beside the full decode by rosbags (ULog: beside ``struct``; MessagePack:
beside msgspec's and msgpack's decode and the access to the same fields; MAVLink: frames, checksums and fields, beside
pymavlink's parser).

A batch is 1 MiB of messages at odd addresses, as a recording's chunk is. CPU time, best of several passes.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import msgspec
import numpy as np
from pymavlink.dialects.v20 import all as pymavlink
from rosbags.typesys import Stores, get_typestore

from edge_monitor.core.layout import Extractor
from edge_monitor.core.messages import Batch, Channel
from edge_monitor.core.samples import MESSAGE
from edge_monitor.core.signals import Signal
from edge_monitor.mavlink.dialect import dialect
from edge_monitor.mavlink.framing import SEGMENT, Framer

STORE = get_typestore(Stores.ROS2_JAZZY)
Wanted = Sequence[tuple[str, str | None]]

IMU: Wanted = [("angular_velocity.z", None), ("linear_acceleration.x", None), ("header.stamp", None)]
ODOMETRY: Wanted = [("pose.pose.position.x", None), ("twist.twist.linear", "norm"), ("header.stamp", None)]
SCAN: Wanted = [("ranges", "min")]
PERCENTILE: Wanted = [("ranges", "p05")]
DIAGNOSTICS: Wanted = [("status[*].level", "max")]
ULOG = "m:uint64_t timestamp;float[3] a;float b;uint8_t c;uint8_t[3] _padding0;"


def best(work: Callable[[], Any], passes: int) -> float:
    """Least CPU seconds of ``passes`` runs, after one to warm up."""
    work()
    least = float("inf")
    for _ in range(passes):
        begin = time.process_time()
        work()
        least = min(least, time.process_time() - begin)
    return least


def batch_of(raw: bytes) -> Batch:
    """1 MiB of copies of a message, three bytes apart."""
    step = len(raw) + 3
    count = max((1 << 20) // step, 1)
    rows = np.zeros(count, MESSAGE)
    rows["t"] = np.arange(count) * 1_000_000 + 10**10
    rows["start"] = np.arange(count) * step
    rows["size"] = len(raw)
    return Batch(np.frombuffer((raw + b"\0\0\0") * count, np.uint8), rows)


def sample(name: str) -> Any:
    """A message of a type, of the size that robots send."""
    types = STORE.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](9, 5), "base_link")
    vector, quaternion = types["geometry_msgs/msg/Vector3"](1.0, 2.0, 3.0), types["geometry_msgs/msg/Quaternion"]
    if name == "sensor_msgs/msg/Imu":
        nine = np.arange(9.0)
        return types[name](header, quaternion(0.0, 0.0, 0.0, 1.0), nine, vector, nine, vector, nine)
    if name == "nav_msgs/msg/Odometry":
        covariance = np.arange(36.0)
        pose = types["geometry_msgs/msg/Pose"](
            types["geometry_msgs/msg/Point"](1.0, 2.0, 3.0), quaternion(0.0, 0.0, 0.0, 1.0)
        )
        twist = types["geometry_msgs/msg/Twist"](vector, vector)
        return types[name](
            header,
            "odom",
            types["geometry_msgs/msg/PoseWithCovariance"](pose, covariance),
            types["geometry_msgs/msg/TwistWithCovariance"](twist, covariance),
        )
    if name == "sensor_msgs/msg/LaserScan":
        ranges = np.random.default_rng(1).uniform(0.1, 30, 720).astype(np.float32)
        ranges[::9] = np.inf
        return types[name](header, -2.0, 2.0, 0.005, 0.0, 0.1, 0.1, 30.0, ranges, np.zeros(0, np.float32))
    values = [types["diagnostic_msgs/msg/KeyValue"](f"key {i}", f"value {i}") for i in range(6)]
    status = [types["diagnostic_msgs/msg/DiagnosticStatus"](1, f"unit {i}", "fine", "hw", values) for i in range(12)]
    return types["diagnostic_msgs/msg/DiagnosticArray"](header, status)


def extractor_of(channel: Channel, wanted: Wanted) -> Extractor:
    """An extractor of some paths of one channel."""
    extractor = Extractor([Signal(f"s{i}", channel.topic, path, reduce=how) for i, (path, how) in enumerate(wanted)])
    problems = extractor.add_channel(channel)
    if problems:
        raise SystemExit(problems[0].message)
    return extractor


def ros2_row(label: str, name: str, wanted: Wanted, passes: int) -> dict[str, Any]:
    """Nanoseconds a message of a ROS 2 type, beside rosbags' decode of the same bytes."""
    raw = bytes(STORE.serialize_cdr(sample(name), name))
    batch = batch_of(raw)
    count = len(batch.messages)
    channel = Channel(0, "/t", name, "cdr", "ros2msg", STORE.generate_msgdef(name, ros_version=2)[0])
    extractor = extractor_of(channel, wanted)
    ours = best(lambda: extractor.extract(batch), passes) / count * 1e9
    few = max(count // 20, 1)
    peer = best(lambda: [STORE.deserialize_cdr(raw, name) for _ in range(few)], passes) / few * 1e9
    return row(label, ours, {"rosbags": peer})


def ulog_row(passes: int) -> dict[str, Any]:
    """Nanoseconds a ULog message of which five fields are read, beside ``struct.unpack_from`` of those fields."""
    raw = struct.pack("<Q4fB", 1, 0.1, 0.2, 0.3, 0.4, 5)
    batch = batch_of(raw)
    count = len(batch.messages)
    wanted: Wanted = [("timestamp", None), ("a[0]", None), ("a[2]", None), ("b", None), ("c", None)]
    extractor = extractor_of(Channel(0, "m", "m", "packed", "ulog", ULOG, receive_time=False), wanted)
    ours = best(lambda: extractor.extract(batch), passes) / count * 1e9
    unpack, few = struct.Struct("<Q4fB").unpack_from, max(count // 20, 1)
    data = batch.data.tobytes()
    starts = batch.messages["start"][:few].tolist()
    peer = best(lambda: [unpack(data, start) for start in starts], passes) / few * 1e9
    return row("layout_ulog", ours, {"struct": peer})


def imu_map() -> dict[str, Any]:
    """An Imu as a map, as a publisher without ROS sends it."""
    vector = {"x": 0.1, "y": -0.2, "z": 9.8}
    return {
        "header": {"stamp": {"sec": 9, "nanosec": 5}, "frame_id": "base_link"},
        "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0},
        "orientation_covariance": [0.01 * i for i in range(9)],
        "angular_velocity": vector,
        "angular_velocity_covariance": [0.01 * i for i in range(9)],
        "linear_acceleration": vector,
        "linear_acceleration_covariance": [0.01 * i for i in range(9)],
    }


def imu_fields(decoded: Any) -> tuple[float, float, int, int]:
    """What the three monitored fields need of a decoded map."""
    stamp = decoded["header"]["stamp"]
    return decoded["angular_velocity"]["z"], decoded["linear_acceleration"]["x"], stamp["sec"], stamp["nanosec"]


def scan_min(decoded: Any) -> float:
    """The least range of a decoded map."""
    return min(decoded["ranges"])


def msgpack_row(
    label: str, message: Any, wanted: Wanted, access: Callable[[Any], Any], passes: int, definition: str = ""
) -> dict[str, Any]:
    """Nanoseconds a MessagePack message, beside decoding it and taking the same fields."""
    raw = msgpack.packb(message)
    batch = batch_of(raw)
    extractor = extractor_of(Channel(0, "/t", "", "msgpack", "none", definition), wanted)
    ours = best(lambda: extractor.extract(batch), passes) / len(batch.messages) * 1e9
    few = max(len(batch.messages) // 20, 1)
    peers = {}
    for name, decode in (("msgspec", msgspec.msgpack.Decoder().decode), ("msgpack", msgpack.unpackb)):
        peers[name] = best(lambda decode=decode: [access(decode(raw)) for _ in range(few)], passes) / few * 1e9
    return row(label, ours, peers)


def mavlink_frames() -> list[bytes]:
    """What an autopilot sends in a second, more or less: each frame a datagram."""
    rng, packer = np.random.default_rng(2), pymavlink.MAVLink(None, 1, 1)
    frames = []
    for n in range(100):
        a, b, c, d, e, f = rng.normal(size=6).tolist()
        messages = [pymavlink.MAVLink_attitude_message(10 * n, a, b, c, d, e, f)]
        if n % 2 == 0:
            where = rng.integers(-(10**6), 10**6, 4).tolist()
            messages.append(pymavlink.MAVLink_global_position_int_message(10 * n, *where, 10, 20, -30, 100))
            messages.append(pymavlink.MAVLink_vfr_hud_message(a, b, 90, 40, c, d))
            messages.append(pymavlink.MAVLink_servo_output_raw_message(n, 0, *[1500] * 8))
        if n % 25 == 0:
            messages.append(pymavlink.MAVLink_sys_status_message(1, 1, 1, 300, 15000, 900, 80, 0, 0, 0, 0, 0, 0))
            messages.append(pymavlink.MAVLink_vibration_message(10**6 * n, a, b, c, 0, 0, 0))
        if n == 0:
            messages.append(pymavlink.MAVLink_heartbeat_message(2, 3, 209, 5, 4, 3))
        for message in messages:
            frames.append(bytes(message.pack(packer)))
            packer.seq = (packer.seq + 1) % 256
    return frames


def mavlink_row(passes: int) -> dict[str, Any]:
    """Nanoseconds a MAVLink message, from datagrams to samples, beside pymavlink's parser and the access to the same fields."""
    wanted = [
        ("ATTITUDE", "roll"), ("ATTITUDE", "pitch"), ("GLOBAL_POSITION_INT", "relative_alt"), ("VFR_HUD", "groundspeed"),
        ("SYS_STATUS", "voltage_battery"), ("HEARTBEAT", "custom_mode"),
    ]  # fmt: skip
    frames, known = mavlink_frames(), dialect()
    raw = np.frombuffer(b"".join(frames), np.uint8)
    segments = np.zeros(len(frames), SEGMENT)
    segments["end"] = np.cumsum([len(frame) for frame in frames])
    segments["start"] = segments["end"] - [len(frame) for frame in frames]
    framer = Framer(known.rows, known.numbers, 4096)
    signals = [Signal(f"s{n}", f"mavlink/1/{name}", field) for n, (name, field) in enumerate(wanted)]
    extractor = Extractor(signals)
    for number, name in enumerate(dict.fromkeys(name for name, _ in wanted)):
        kind = known[name]
        framer.route(kind.index, 1, 1, number)
        problems = extractor.add_channel(Channel(number, f"mavlink/1/{name}", name, "packed", "ulog", kind.definition))
        if problems:
            raise SystemExit(problems[0].message)

    def ours() -> None:
        framer.begin()
        _, found = framer.parse(raw, segments)
        extractor.extract(Batch(found.payloads, found.rows))

    def theirs() -> None:
        parser = pymavlink.MAVLink(None)
        for frame in frames:
            for message in parser.parse_buffer(frame) or ():
                for field in fields.get(message.get_type(), ()):
                    getattr(message, field)

    fields: dict[str, list[str]] = {}
    for name, field in wanted:
        fields.setdefault(name, []).append(field)
    mine = best(lambda: [ours() for _ in range(20)], passes) / 20 / len(frames) * 1e9
    return row("layout_mavlink", mine, {"pymavlink": best(theirs, passes) / len(frames) * 1e9})


def row(label: str, ours: float, peers: dict[str, float]) -> dict[str, Any]:
    """One line of the benchmark table."""
    ratios = {name: round(value / ours, 1) for name, value in peers.items()}
    rounded = {name: round(value, 1) for name, value in peers.items()}
    return {"name": label, "unit": "ns/message", "ours": round(ours, 1), "peers": rounded, "ratios": ratios}


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """The figures of this file."""
    passes = 5 if quick else 50
    return [
        ros2_row("layout_imu", "sensor_msgs/msg/Imu", IMU, passes),
        ros2_row("layout_odometry", "nav_msgs/msg/Odometry", ODOMETRY, passes),
        ros2_row("layout_laserscan_min", "sensor_msgs/msg/LaserScan", SCAN, passes),
        ros2_row("layout_laserscan_p05", "sensor_msgs/msg/LaserScan", PERCENTILE, passes),
        ros2_row("layout_diagnostics", "diagnostic_msgs/msg/DiagnosticArray", DIAGNOSTICS, passes),
        ulog_row(passes),
        mavlink_row(passes),
        msgpack_row("layout_msgpack_imu", imu_map(), IMU, imu_fields, passes),
        msgpack_row("layout_msgpack_scan_min", {"ranges": [0.5 + i for i in range(720)]}, SCAN, scan_min, passes),
    ]


if __name__ == "__main__":
    for line in rows():
        print(line)
