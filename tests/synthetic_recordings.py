"""Small recordings in every format, made with the formats' own libraries (or by their specification), for tests.

All carry the same kind of stream: an Imu at 100 Hz, text at 10 Hz, and one large message, so that chunks, pages and
overflow chains occur in a few ten kilobytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from mavlink_frames import Packer
from mcap.writer import CompressionType, IndexType, Writer
from rosbags.rosbag1 import Writer as Bag1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Bag2Writer
from rosbags.typesys import Stores, get_typestore

START = 1_700_000_000_000_000_000
MESSAGES = 400
STORE = get_typestore(Stores.ROS2_JAZZY)
STORE1 = get_typestore(Stores.ROS1_NOETIC)
IMU, STRING = "sensor_msgs/msg/Imu", "std_msgs/msg/String"

Message = tuple[str, int, bytes]  #: topic, time, serialized


def _imu(store: object, i: int) -> object:
    types = store.types  # type: ignore[attr-defined]
    header = types["std_msgs/msg/Header"]
    stamp = types["builtin_interfaces/msg/Time"](sec=1_700_000_000 + i // 100, nanosec=i % 100 * 10_000_000)
    number = {"seq": i} if "seq" in header.__dataclass_fields__ else {}
    vector, quaternion = types["geometry_msgs/msg/Vector3"], types["geometry_msgs/msg/Quaternion"]
    return types[IMU](
        header=header(stamp=stamp, frame_id="imu", **number),
        orientation=quaternion(x=0.0, y=0.0, z=math.sin(i / 50), w=math.cos(i / 50)),
        orientation_covariance=np.zeros(9),
        angular_velocity=vector(x=i / 7, y=-i / 3, z=0.25),
        angular_velocity_covariance=np.zeros(9),
        linear_acceleration=vector(x=0.1 * i, y=9.81, z=-0.5),
        linear_acceleration_covariance=np.zeros(9),
    )


def _text(store: object, i: int) -> object:
    size = 9000 if i == 200 else 20
    return store.types[STRING](data=f"step {i:06d} ".ljust(size, "x"))  # type: ignore[attr-defined]


def stream(ros1: bool = False) -> Iterator[tuple[str, str, int, bytes]]:
    """(topic, type, time, bytes) of the messages, in order of time."""
    store = STORE1 if ros1 else STORE
    serialize = store.serialize_ros1 if ros1 else store.serialize_cdr
    for i in range(MESSAGES):
        t = START + i * 10_000_000
        yield "/imu", IMU, t, bytes(serialize(_imu(store, i), IMU))
        if i % 10 == 0:
            yield "/mode", STRING, t + 1_000_000, bytes(serialize(_text(store, i), STRING))


def messages(ros1: bool = False) -> list[Message]:
    return [(topic, t, data) for topic, _, t, data in stream(ros1)]


def write_mcap(
    path: Path,
    compression: CompressionType = CompressionType.ZSTD,
    *,
    chunked: bool = True,
    index: bool = True,
    crc: bool = True,
    data_crc: bool = False,
    chunk_size: int = 20_000,
    order: Callable[[list[tuple[str, str, int, bytes]]], list[tuple[str, str, int, bytes]]] = list,
) -> None:
    """An MCAP file by the mcap library."""
    with path.open("wb") as file:
        writer = Writer(
            file, chunk_size=chunk_size, compression=compression, use_chunking=chunked,
            enable_crcs=crc, enable_data_crcs=data_crc,
            index_types=IndexType.ALL if index else IndexType.NONE,
            use_statistics=index, use_summary_offsets=index, repeat_channels=index, repeat_schemas=index,
        )  # fmt: skip
        writer.start("ros2", "synthetic")
        channels = {}
        for name, type_name in (("/imu", IMU), ("/mode", STRING)):
            schema = writer.register_schema(
                type_name, "ros2msg", STORE.generate_msgdef(type_name, ros_version=2)[0].encode()
            )
            channels[name] = writer.register_channel(name, "cdr", schema)
        for sequence, (topic, _, t, data) in enumerate(order(list(stream()))):
            writer.add_message(channels[topic], t, data, t, sequence)
        writer.finish()


def write_bag1(path: Path, compression: str = "none") -> None:
    """A ROS 1 bag by rosbags."""
    writer = Bag1Writer(path)
    writer.chunk_threshold = 20_000
    if compression != "none":
        writer.set_compression(Bag1Writer.CompressionFormat[compression.upper()])
    with writer:
        connections = {}
        for topic, type_name, t, data in stream(ros1=True):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, type_name, typestore=STORE1)
            writer.write(connections[topic], t, data)


def write_bag2(folder: Path, storage: str = "sqlite3") -> Path:
    """A rosbag2 folder by rosbags; returns its only storage file."""
    with Bag2Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        connections = {}
        for topic, type_name, t, data in stream():
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, type_name, typestore=STORE)
            writer.write(connections[topic], t, data)
    return next(path for path in folder.iterdir() if path.suffix in (".db3", ".mcap"))


def ulog_record(kind: str, body: bytes) -> bytes:
    return struct.pack("<HB", len(body), ord(kind)) + body


ULOG_FORMATS = (
    "vec3:float x;float y;float z;",
    "attitude:uint64_t timestamp;vec3 rate;float[4] q;uint8_t[4] _padding0;",
    "battery:uint64_t timestamp;float voltage;uint8_t warning;uint8_t[3] _padding0;",
)
ULOG_HEAD = b"ULog\x01\x12\x35\x01" + struct.pack("<Q", 5_000_000)
ULOG_SYNC = ulog_record("S", bytes.fromhex("2f731320250cbb12"))


def ulog_attitude(i: int, t_us: int, number: int = 0) -> bytes:
    return ulog_record("D", struct.pack("<HQ7f", number, t_us, i, i + 0.5, -i, 1, 0, 0, 0))


def ulog_battery(i: int, t_us: int, number: int = 1) -> bytes:
    return ulog_record("D", struct.pack("<HQfB", number, t_us, 16.0 - i / 100, i % 3))


def ulog_definitions() -> bytes:
    parts = [ulog_record("B", bytes(40)), ulog_record("I", bytes([13]) + b"char[3] sys_x" + b"abc")]
    parts += [ulog_record("F", text.encode()) for text in ULOG_FORMATS]
    parts.append(ulog_record("P", bytes([9]) + b"float A_B" + struct.pack("<f", 1.5)))
    for number, (instance, topic) in enumerate(((0, b"attitude"), (0, b"battery"), (1, b"battery"))):
        parts.append(ulog_record("A", struct.pack("<BH", instance, number) + topic))
    return b"".join(parts)


def ulog_body(start_us: int = 5_000_000, count: int = MESSAGES) -> list[bytes]:
    """Data records: attitude at 100 Hz, two batteries at 10 Hz and slightly late, a text and sync marks."""
    parts = []
    for i in range(count):
        t = start_us + i * 10_000
        parts.append(ulog_attitude(i, t))
        if i % 10 == 0:
            parts += [ulog_battery(i, t - 2_000), ulog_battery(i, t - 1_000, 2)]
        if i % 50 == 0:
            parts.append(ULOG_SYNC)
        if i % 100 == 50:
            parts.append(ulog_record("L", b"6" + struct.pack("<Q", t) + f"text {i}".encode()))
    return parts


def write_ulog(path: Path) -> None:
    """A ULog by its specification."""
    path.write_bytes(ULOG_HEAD + ulog_definitions() + b"".join(ulog_body()))


def write_csv(path: Path) -> None:
    rows = [f"{i / 100:.2f},{i * 1.5},MODE{i % 3}\n" for i in range(MESSAGES)]
    path.write_text("t_s,speed,mode\n" + "".join(rows))


def write_jsonl(path: Path) -> None:
    rows = [f'{{"topic": "/s{i % 2}", "t": {i / 100}, "v": {i * 1.5}, "mode": "M{i % 3}"}}\n' for i in range(MESSAGES)]
    path.write_text("".join(rows))


def write_tlog(path: Path) -> None:
    """Two senders, both versions of the format, texts and named values."""
    vehicle, ground = Packer(1, 1), Packer(255, 190)
    with path.open("wb") as file:
        for i in range(MESSAGES):
            frames = [vehicle.pack("ATTITUDE", roll=i / 100, time_boot_ms=i, first_version=i % 3 == 0)]
            if i % 10 == 0:
                frames += [vehicle.pack("HEARTBEAT", custom_mode=i % 7), ground.pack("HEARTBEAT")]
                frames.append(vehicle.pack("NAMED_VALUE_FLOAT", name="Lights1" if i % 20 else "CamTilt", value=i / 2))
            if i % 40 == 0:
                frames.append(vehicle.pack("STATUSTEXT", severity=4, text=f"step {i}"))
            for frame in frames:
                file.write(struct.pack(">Q", START // 1000 + i * 10_000) + frame)


def write_all(folder: Path) -> list[Path]:
    """One small recording of each kind."""
    none, lz4, zstd = CompressionType.NONE, CompressionType.LZ4, CompressionType.ZSTD
    write_mcap(folder / "none.mcap", none)
    write_mcap(folder / "lz4.mcap", lz4)
    write_mcap(folder / "zstd.mcap", zstd)
    write_mcap(folder / "none_unchecked.mcap", none, crc=False)
    write_mcap(folder / "zstd_unchecked.mcap", zstd, crc=False)
    write_mcap(folder / "no_index.mcap", zstd, index=False)
    write_mcap(folder / "unchunked.mcap", none, chunked=False)
    write_mcap(folder / "unchunked_unchecked.mcap", none, chunked=False, crc=False)
    for compression in ("none", "bz2", "lz4"):
        write_bag1(folder / f"{compression}.bag", compression)
    (folder / "bag2.db3").write_bytes(write_bag2(folder / "bag2").read_bytes())
    write_ulog(folder / "log.ulg")
    write_tlog(folder / "log.tlog")
    write_csv(folder / "rows.csv")
    write_jsonl(folder / "rows.jsonl")
    return sorted(path for path in folder.iterdir() if path.is_file())
