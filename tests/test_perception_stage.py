"""The perception stage: statistics of serialized messages join their instant; hostile bytes harm nothing."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracles import perception as oracle
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from edge_monitor.core.layout import Extractor
from edge_monitor.core.layout.extractor import Problem
from edge_monitor.core.messages import Batch, Channel
from edge_monitor.core.perception import cloud, compressed, detections, image, inertial, pixels, scan
from edge_monitor.core.perception.stage import Perception, Want
from edge_monitor.core.samples import FLAG_CAUSE, FLAG_END, MESSAGE, SAMPLE, Cause
from edge_monitor.core.signals import Signal
from edge_replay.readers import open as open_recording

MS = 1_000_000
VISION = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/msg/ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\n"
    "geometry_msgs/PoseWithCovariance pose",
    "vision_msgs/msg/Detection2D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
    "vision_msgs/BoundingBox2D bbox\nstring id",
    "vision_msgs/msg/Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
}
STORES: dict[str, Typestore] = {
    "cdr": get_typestore(Stores.ROS2_JAZZY),
    "ros1": get_typestore(Stores.ROS1_NOETIC),
}
for store in STORES.values():
    for name, text in VISION.items():
        store.register(get_types_from_msg(text, name))
TYPES = {
    "/camera": "sensor_msgs/msg/Image",
    "/scan": "sensor_msgs/msg/LaserScan",
    "/points": "sensor_msgs/msg/PointCloud2",
    "/imu": "sensor_msgs/msg/Imu",
    "/objects": "vision_msgs/msg/Detection2DArray",
    "/jpeg": "sensor_msgs/msg/CompressedImage",
}
OPTIONS = {
    "/camera": image.ImageOptions(cell=8),
    "/imu": inertial.InertialOptions(100.0, edges=(5.0, 10.0, 20.0, 30.0, 40.0), gap=1.0),
    "/objects": detections.DetectionOptions(classes=("person",)),
    "/jpeg": image.ImageOptions(cell=8),
}
NAMES = {
    "/camera": image.NAMES,
    "/scan": scan.NAMES,
    "/points": cloud.NAMES,
    "/imu": inertial.NAMES,
    "/objects": (*detections.FIXED, "count.person", "share.person"),
    "/jpeg": image.NAMES,
}


class Maker:
    """Builds messages with the types of one store."""

    def __init__(self, encoding: str, seed: int = 0) -> None:
        self.store = STORES[encoding]
        self.encoding = encoding
        self.rng = np.random.default_rng(seed)

    def make(self, name: str, *values: Any) -> Any:
        return self.store.types[name](*values)

    def header(self) -> Any:
        stamp = self.make("builtin_interfaces/msg/Time", 5, 6)
        first = (7,) if self.encoding == "ros1" else ()
        return self.make("std_msgs/msg/Header", *first, stamp, "abcdefg"[: self.rng.integers(0, 7)])

    def image(self, pixels: np.ndarray, encoding: str, pad: int = 0) -> Any:
        rows = pixels.reshape(len(pixels), -1).view(np.uint8)
        rows = np.pad(rows, ((0, 0), (0, pad)))
        shape = pixels.shape[:2]
        return self.make(TYPES["/camera"], self.header(), *shape, encoding, 0, rows.shape[1], rows.reshape(-1))

    def scan(self, ranges: np.ndarray) -> Any:
        floats = (-1.0, 1.0, 0.1, 0.0, 0.1, 0.5, 30.0)
        empty = np.zeros(0, np.float32)
        return self.make(TYPES["/scan"], self.header(), *floats, ranges.astype(np.float32), empty)

    def cloud(self, points: np.ndarray, height: int = 1, big: bool = False) -> Any:
        """``points``: structured; its fields become the cloud's."""
        numbers = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
        fields = [
            self.make("sensor_msgs/msg/PointField", name, points.dtype.fields[name][1], numbers[kind.str[1:]], 1)
            for name, kind in ((n, points.dtype.fields[n][0]) for n in points.dtype.names)
        ]
        width, step = len(points) // height, points.dtype.itemsize
        data = points.view(np.uint8).reshape(-1)
        return self.make(TYPES["/points"], self.header(), height, width, fields, big, step, step * width, data, False)

    def imu(self, acceleration: np.ndarray) -> Any:
        nine = np.zeros(9)
        turn = self.make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0)
        rates = self.make("geometry_msgs/msg/Vector3", 1.0, 2.0, 3.0)
        push = self.make("geometry_msgs/msg/Vector3", *acceleration.tolist())
        return self.make(TYPES["/imu"], self.header(), turn, nine, rates, nine, push, nine)

    def objects(self, found: list[tuple[list[tuple[str, float]], str]]) -> Any:
        point = self.make("geometry_msgs/msg/Point", 0.0, 0.0, 0.0)
        pose = self.make("geometry_msgs/msg/Pose", point, self.make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0))
        place = self.make("geometry_msgs/msg/PoseWithCovariance", pose, np.zeros(36))
        centre = self.make("vision_msgs/msg/Pose2D", self.make("vision_msgs/msg/Point2D", 1.0, 2.0), 0.0)
        box = self.make("vision_msgs/msg/BoundingBox2D", centre, 3.0, 4.0)
        listed = []
        for hypotheses, track in found:
            results = [
                self.make(
                    "vision_msgs/msg/ObjectHypothesisWithPose",
                    self.make("vision_msgs/msg/ObjectHypothesis", label, score),
                    place,
                )
                for label, score in hypotheses
            ]
            listed.append(self.make("vision_msgs/msg/Detection2D", self.header(), results, box, track))
        return self.make(TYPES["/objects"], self.header(), listed)

    def jpeg(self, data: bytes) -> Any:
        return self.make(TYPES["/jpeg"], self.header(), "jpeg", np.frombuffer(data, np.uint8))

    def bytes(self, message: Any) -> bytes:
        if self.encoding == "ros1":
            return bytes(self.store.serialize_ros1(message, message.__msgtype__))
        return bytes(self.store.serialize_cdr(message, message.__msgtype__, little_endian=bool(self.rng.integers(2))))

    def channel(self, number: int, topic: str) -> Channel:
        version = 1 if self.encoding == "ros1" else 2
        definition, _ = self.store.generate_msgdef(TYPES[topic], ros_version=version)
        return Channel(number, topic, TYPES[topic], self.encoding, f"ros{version}msg", definition)


def batch(messages: list[tuple[int, int, bytes]]) -> Batch:
    """``(t, channel, bytes)`` in one buffer, a few bytes apart so that nothing is aligned by chance."""
    rows = np.zeros(len(messages), MESSAGE)
    parts, at = [], 0
    for row, (t, channel, data) in zip(rows, messages, strict=True):
        gap = bytes(at % 5)
        row["t"], row["start"], row["size"], row["channel"] = t, at + len(gap), len(data), channel
        parts += [gap, data]
        at += len(gap) + len(data)
    return Batch(np.frombuffer(b"".join(parts), np.uint8), rows)


class Pipeline:
    """An extractor and a perception stage over all topics, every statistic a signal."""

    def __init__(self, maker: Maker, extra: tuple[Signal, ...] = ()) -> None:
        self.maker = maker
        self.named = [(topic, name) for topic, names in NAMES.items() for name in names]
        signals = [Signal(f"{topic}.{name}", topic) for topic, name in self.named] + list(extra)
        self.extractor = Extractor(signals)
        wants = [Want(i, topic, name) for i, (topic, name) in enumerate(self.named)]
        self.perception = Perception(wants, OPTIONS, decode=lambda data: (picture_of(data), "mono8") if data else None)
        for number, topic in enumerate(TYPES):
            channel = maker.channel(number, topic)
            assert self.extractor.add_channel(channel) == []
            assert self.perception.add_channel(channel) == []
        self.numbers = {topic: number for number, topic in enumerate(TYPES)}

    def run(self, messages: list[tuple[int, str, bytes]]) -> np.ndarray:
        part = batch([(t, self.numbers[topic], data) for t, topic, data in messages])
        return self.perception.fill(part, self.extractor.extract(part)).copy()

    def values(self, samples: np.ndarray) -> dict[tuple[str, str], float | Cause]:
        return {
            self.named[row["signal"]]: Cause(row["flags"] & FLAG_CAUSE)
            if row["flags"] & FLAG_CAUSE
            else float(row["value"])
            for row in samples
        }


def picture_of(data: bytes) -> np.ndarray:
    """A stand-in for a decoder: the bytes are a square of grey levels."""
    edge = math.isqrt(len(data))
    return np.frombuffer(data, np.uint8, edge * edge).reshape(edge, edge)


def ordinary(maker: Maker, t: int = 0) -> list[tuple[int, str, bytes]]:
    """One message of each topic."""
    rng = maker.rng
    points = np.zeros(64, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<u1"), ("ring", "<u2")])
    for axis in "xyz":
        points[axis] = rng.normal(0, 4, 64)
    points["x"][:3] = math.nan
    points["intensity"] = rng.integers(0, 255, 64)
    points["ring"] = np.arange(64) // 16
    frame = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    found = [([("person", 0.9), ("dog", 0.05)], "a"), ([("car", 0.5)], ""), ([], "b")]
    messages = [
        ("/camera", maker.image(frame, "rgb8", pad=5)),
        ("/scan", maker.scan(np.r_[rng.uniform(0, 40, 37), math.inf, math.nan])),
        ("/points", maker.cloud(points, height=4)),
        ("/imu", maker.imu(rng.normal(0, 1, 3))),
        ("/objects", maker.objects(found)),
        ("/jpeg", maker.jpeg(rng.integers(0, 256, 400, dtype=np.uint8).tobytes())),
    ]
    return [(t + k, topic, maker.bytes(message)) for k, (topic, message) in enumerate(messages)]


@pytest.mark.parametrize("encoding", ["cdr", "ros1"])
def test_statistics_of_messages_equal_the_oracles(encoding: str) -> None:
    """What the stage says of serialized messages, in either encoding and byte order, is what plain loops say."""
    maker = Maker(encoding, seed=4)
    pipeline = Pipeline(maker)
    rng = np.random.default_rng(4)
    for round_ in range(6):
        frame = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        ranges = np.r_[rng.uniform(0, 40, 37), math.inf, math.nan].astype(np.float32)
        kind = [("pad", "<u1"), ("z", "<f8"), ("x", "<f4"), ("y", "<i2"), ("intensity", "<f4")]
        points = np.zeros(50, kind)
        points["x"], points["y"] = rng.normal(0, 5, 50), rng.integers(-9, 9, 50)
        points["z"], points["intensity"] = rng.normal(0, 2, 50), rng.uniform(0, 9, 50)
        points["z"][:4] = math.nan
        big = bool(round_ % 2)
        packed = points.astype([(n, k.replace("<", ">")) for n, k in kind]) if big else points
        found = [([("person", 0.9), ("dog", 0.05)], "a"), ([("car", 0.5)], ""), ([], "b")]
        samples = pipeline.run(
            [
                (round_, "/camera", maker.bytes(maker.image(frame, "rgb8", pad=round_))),
                (round_, "/scan", maker.bytes(maker.scan(ranges))),
                (round_, "/points", maker.bytes(maker.cloud(packed, big=big))),
                (round_, "/objects", maker.bytes(maker.objects(found))),
            ]
        )
        values = pipeline.values(samples)
        listed = [{name: float(row[name]) for name in ("x", "y", "z", "intensity")} for row in points]
        expected = {
            "/camera": oracle.image(frame, "rgb8", cell=8),
            "/scan": oracle.scan([float(r) for r in ranges], 0.5, 30.0, 3.0),
            "/points": {k: v for k, v in oracle.cloud(listed, 3.0).items() if k != "return_ratio"},
            "/objects": oracle.detections([[0.9, 0.05], [0.5], []]) | {"count.person": 1, "unlisted": 2},
        }
        for topic, wanted in expected.items():
            for name, number in wanted.items():
                assert values[topic, name] == pytest.approx(number, rel=1e-9), (topic, name)
        assert values["/points", "return_ratio"] == Cause.DEPENDENCY


def test_clouds_compare_with_their_grid_or_a_reference() -> None:
    """An organised cloud knows how many points a ring and sector should hold; another one asks a reference."""
    maker = Maker("cdr")
    statistics = cloud.CloudStatistics()
    kind = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("ring", "<u2")]
    angle = np.linspace(0, 2 * np.pi, 160, endpoint=False) + 0.01
    points = np.zeros((4, 160), kind)
    points["x"], points["y"] = 10 * np.cos(angle), 10 * np.sin(angle)
    points["ring"] = np.arange(4)[:, None]
    data = np.frombuffer(maker.bytes(maker.cloud(points.reshape(-1), height=4)), np.uint8)
    statistics.message(0, data, 0, len(data))
    assert dict(zip(statistics.names, statistics.values, strict=True))["weakest_cell"] == 1
    blind = points.copy()
    blind["x"][2, 20:40] = math.nan  # one ring's second sector
    blind["x"][3, 0:5] = math.nan  # a quarter of another
    data = np.frombuffer(maker.bytes(maker.cloud(blind.reshape(-1), height=4)), np.uint8)
    statistics.message(0, data, 0, len(data))
    seen = dict(zip(statistics.names, statistics.values, strict=True))
    assert seen["weakest_cell"] == 0 and seen["weak_cells"] == 1 / 32
    assert seen["return_ratio"] == 1 - 25 / 640

    flat = np.frombuffer(maker.bytes(maker.cloud(points.reshape(-1))), np.uint8)
    statistics.message(0, flat, 0, len(flat))
    reference = cloud.CloudReference.fit(np.array([statistics.returns]))
    compared = cloud.CloudStatistics(cloud.CloudOptions(reference=reference))
    kept = points.reshape(-1)[~np.isnan(blind["x"].reshape(-1))]  # a driver that leaves out what did not return
    data = np.frombuffer(maker.bytes(maker.cloud(kept)), np.uint8)
    compared.message(0, data, 0, len(data))
    seen = dict(zip(compared.names, compared.values, strict=True))
    assert seen["weakest_cell"] == 0 and seen["weak_cells"] == 1 / 32
    assert seen["return_ratio"] == 1 - 25 / 640
    empty = np.frombuffer(maker.bytes(maker.cloud(kept[:0])), np.uint8)
    compared.message(0, empty, 0, len(empty))
    seen = dict(zip(compared.names, compared.values, strict=True))
    assert seen["points"] == 0 and seen["return_ratio"] == 0 and seen["weak_cells"] == 1
    assert compared.causes[cloud.NAMES.index("range_p50")] == Cause.NAN


def test_statistics_and_fields_of_a_message_are_one_instant() -> None:
    """Statistics stand among the plain fields of their message, which ends once; what is silent gives no sample."""
    maker = Maker("cdr")
    pipeline = Pipeline(maker, (Signal("width", "/camera", "width"),))
    messages = [*ordinary(maker, 0), (9, "/objects", maker.bytes(maker.objects([])))]
    samples = pipeline.run(messages)
    ends = samples["t"][samples["flags"] & FLAG_END != 0]
    assert ends.tolist() == [t for t, _, _ in messages]
    starts = np.flatnonzero(np.diff(samples["t"], prepend=-1))
    assert len(starts) == len(messages)
    camera = samples[samples["t"] == 0]
    assert camera["signal"].tolist() == [*range(len(image.NAMES)), len(pipeline.named)]
    assert camera["value"][-1] == 24
    last = samples[samples["t"] == 9]
    names = {pipeline.named[s][1] for s in last["signal"] if s < len(pipeline.named)}
    assert names == {"detections", "unlisted", "flicker", "count.person"}
    assert samples["value"][np.isnan(samples["value"])].size == (samples["flags"] & FLAG_CAUSE != 0).sum()


def test_silence_moves_the_end_of_its_instant() -> None:
    """Where the last sample of a message is silent, the one before it ends the instant; alone, it leaves nothing."""
    maker = Maker("cdr")
    empty = maker.bytes(maker.objects([]))
    for statistics, left in ((("detections", "score_mean"), 1), (("score_mean",), 0)):
        extractor = Extractor([Signal(name, "/objects") for name in statistics])
        perception = Perception([Want(i, "/objects", name) for i, name in enumerate(statistics)])
        for stage in (extractor, perception):
            assert stage.add_channel(maker.channel(0, "/objects")) == []
        part = batch([(1, 0, empty), (2, 0, empty)])
        samples = perception.fill(part, extractor.extract(part))
        assert samples.dtype == SAMPLE and len(samples) == 2 * left
        assert (samples["flags"] == FLAG_END).all()


def test_what_cannot_be_measured_is_a_problem_and_never_a_value() -> None:
    """Unknown statistics, types without any, missing options and strange definitions: a problem each, and a cause."""
    maker = Maker("cdr")
    other = Channel(1, "/odom", "nav_msgs/msg/Odometry", "cdr", "ros2msg", "float64 x")
    strange = Channel(2, "/scan", "sensor_msgs/msg/LaserScan", "cdr", "ros2msg", "float32[] ranges")
    cases: list[tuple[Channel, str, str, Cause]] = [
        (maker.channel(0, "/camera"), "brightness", "no statistic brightness", Cause.INVALID),
        (other, "luminance", "no statistics of nav_msgs/msg/Odometry", Cause.TYPE_MISMATCH),
        (strange, "beams", "differently", Cause.TYPE_MISMATCH),
        (maker.channel(3, "/imu"), "vibration", "rate must be declared", Cause.DEPENDENCY),
        (maker.channel(4, "/jpeg"), "luminance", "no decoder", Cause.DEPENDENCY),
    ]
    for channel, statistic, words, cause in cases:
        extractor = Extractor([Signal("s", channel.topic)])
        perception = Perception([Want(0, channel.topic, statistic)])
        extractor.add_channel(channel)
        problems = perception.add_channel(channel)
        assert [(p.signal, p.cause) for p in problems] == [(0, cause)] and isinstance(problems[0], Problem)
        assert words in problems[0].message
        part = batch([(1, channel.id, bytes(64))])
        samples = perception.fill(part, extractor.extract(part))
        assert len(samples) == 1 and samples["flags"][0] & FLAG_CAUSE == cause and np.isnan(samples["value"][0])
    declared = Perception([Want(0, "/scan", "beams", type="sensor_msgs/msg/Image")])
    assert declared.add_channel(maker.channel(0, "/scan")) == []  # the extractor names the mismatch


def test_batches_and_snapshots_change_nothing() -> None:
    """However messages are cut into batches, and through snapshots, the samples are the same, bit for bit."""
    maker = Maker("cdr")
    messages = [message for k in range(5) for message in ordinary(maker, 50 * MS * k)]
    whole = Pipeline(maker).run(messages)
    pieces, pipeline = [], Pipeline(maker)
    for cut in range(0, len(messages), 7):
        pieces.append(pipeline.run(messages[cut : cut + 7]))
        moved = Pipeline(maker)
        moved.perception.restore(pipeline.perception.snapshot())
        pipeline = moved
    assert np.concatenate(pieces).tobytes() == whole.tobytes()
    for bad in (b"", b"x" * 9, pipeline.perception.snapshot() + b"x"):
        with pytest.raises(ValueError, match="snapshot"):
            pipeline.perception.restore(bad)


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled")
def test_a_prepared_channel_compiles_nothing_more() -> None:
    """After `add_channel` no message has to wait for a compiler, and preparing leaves no trace in the state."""
    maker = Maker("cdr")
    pipeline = Pipeline(maker)
    assert pipeline.perception.snapshot() == Pipeline(maker).perception.snapshot()
    kernels = [
        kernel
        for module in (cloud, compressed, detections, image, inertial, pixels, scan)
        for kernel in vars(module).values()
        if hasattr(kernel, "signatures")
    ]
    before = [len(kernel.signatures) for kernel in kernels]
    for k in range(3):
        pipeline.run(ordinary(maker, 50 * MS * k))
    assert [len(kernel.signatures) for kernel in kernels] == before
    assert len(kernels) > 10


def test_a_clock_jump_starts_anew() -> None:
    """After time has stepped back by more than a second the previous frame no longer counts."""
    maker = Maker("cdr")
    pipeline = Pipeline(maker)
    frame = maker.bytes(maker.image(np.full((20, 24), 9, np.uint8), "mono8"))
    for t, expected in ((5000, Cause.WARMING), (5050, 0.0), (4500, 0.0), (3000, Cause.WARMING)):
        values = pipeline.values(pipeline.run([(t * MS, "/camera", frame)]))
        assert values["/camera", "sad"] == expected


def mutants(maker: Maker, rounds: int) -> list[tuple[int, str, bytes]]:
    """Messages cut short, with bytes changed, and with whole words of ones."""
    found = []
    for k in range(rounds):
        for t, topic, data in ordinary(maker, 10 * k):
            spoiled = bytearray(data)
            for _ in range(int(maker.rng.integers(1, 5))):
                # lengths and geometry are near the front
                at = int(maker.rng.integers(4, min(len(data), 120 if maker.rng.random() < 0.7 else len(data))))
                spoiled[at] = int(maker.rng.integers(256))
            if maker.rng.random() < 0.3:
                at = int(maker.rng.integers(4, min(len(data), 90)))
                spoiled[at : at + 4] = b"\xff" * 4
            if maker.rng.random() < 0.4:
                spoiled = spoiled[: maker.rng.integers(0, len(spoiled))]
            found.append((t, topic, bytes(spoiled)))
    return found


def answers(rounds: int = 12) -> bytes:
    """The samples of ordinary and spoiled messages, in both encodings."""
    parts = []
    for encoding in STORES:
        maker = Maker(encoding, seed=11)
        pipeline = Pipeline(maker)
        parts.append(pipeline.run([*ordinary(maker), *mutants(maker, rounds)]).tobytes())
        parts.append(pipeline.perception.snapshot())
    return b"".join(parts)


def test_hostile_messages_give_samples_with_causes() -> None:
    """Whatever the bytes are, each message gives its samples, and those without a cause are finite numbers."""
    for encoding in STORES:
        maker = Maker(encoding, seed=21)
        pipeline = Pipeline(maker)
        samples = pipeline.run(mutants(maker, 200))
        unknown = samples["flags"] & FLAG_CAUSE
        assert (unknown[unknown != 0] <= Cause.DEPENDENCY).all()
        assert np.isnan(samples["value"][unknown != 0]).all()
        assert not np.isnan(samples["value"][unknown == 0]).any()
        share = (unknown == Cause.INVALID).mean()
        assert 0.2 < share < 0.9


def test_answers_are_the_same_without_compilation() -> None:
    """Interpreted, where every index is checked, the kernels read nothing out of bounds and say the same bits."""
    outputs = []
    for disabled in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", "import test_perception_stage as m; print(m.answers().hex())"],
            cwd=Path(__file__).parent,
            env={**os.environ, "NUMBA_DISABLE_JIT": disabled},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert len(outputs[0]) > 10_000
    assert outputs[0] == outputs[1]


def test_compressed_pictures_are_decoded_or_refused() -> None:
    """Pillow's pixels are those of the picture; what is none, or claims too much, is refused."""
    pillow = pytest.importorskip("PIL.Image")
    from edge_monitor import pictures

    frame = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for shown, mode, expected in ((frame, "RGB", "rgb8"), (frame[..., 0], "L", "mono8")):
        stream = io.BytesIO()
        pillow.fromarray(shown, mode).save(stream, "PNG")
        decoded = pictures.decode(stream.getvalue())
        assert decoded is not None and decoded[1] == expected and (decoded[0] == shown).all()
        for cut in (0, 7, 40, len(stream.getvalue()) // 2):
            assert pictures.decode(stream.getvalue()[:cut]) is None
    bomb = io.BytesIO()
    pillow.new("L", (8000, 8000)).save(bomb, "PNG")
    assert pictures.decode(bomb.getvalue()) is None
    stream = io.BytesIO()
    pillow.fromarray(frame).save(stream, "GIF")
    assert pictures.decode(stream.getvalue()) is None


@pytest.mark.parametrize("path", ["ground_lidar_gnss/tilt_laser.bag", "ground_lidar_gnss/derived_mcap"])
def test_scans_of_a_real_recording_equal_the_oracle(data_dir: Path, path: str) -> None:
    """Every scan of a real laser, from a ROS 1 bag and from an MCAP, is measured as plain loops measure it."""
    with AnyReader([data_dir / path], default_typestore=STORES["cdr"]) as reader:
        wanted = [connection for connection in reader.connections if connection.topic == "/scan"]
        scans = [reader.deserialize(data, kind.msgtype) for kind, _, data in reader.messages(connections=wanted)]
    signals = [Signal(name, "/scan") for name in scan.NAMES] + [Signal("vibration", "/imu_data")]
    extractor = Extractor(signals)
    wants = [Want(i, signal.topic, signal.name) for i, signal in enumerate(signals)]
    perception = Perception(wants, {"/imu_data": inertial.InertialOptions(20.0, edges=(1.0, 2.0, 3.0, 5.0, 8.0))})
    parts = []
    for item in open_recording(data_dir / path, topics=["/scan", "/imu_data"]):
        if isinstance(item, Channel):
            assert extractor.add_channel(item) == perception.add_channel(item) == []
        elif isinstance(item, Batch):
            parts.append(perception.fill(item, extractor.extract(item)).copy())
    samples = np.concatenate(parts)
    beams = samples[samples["signal"] < len(scan.NAMES)].reshape(-1, len(scan.NAMES))
    assert len(beams) == len(scans) > 150
    for row, message in zip(beams, scans, strict=True):
        expected = oracle.scan([float(r) for r in message.ranges], message.range_min, message.range_max, 3.0)
        assert row["value"].tolist() == pytest.approx([expected[name] for name in scan.NAMES], rel=1e-9, nan_ok=True)
    shaking = samples[samples["signal"] == len(scan.NAMES)]
    known = shaking["value"][shaking["flags"] & FLAG_CAUSE == 0]
    assert len(known) > 100 and known.min() > 0 and known.max() < 0.5  # m/s^2: a rig that stands


def test_the_page_names_every_statistic(root: Path) -> None:
    """docs/checks/perception.md has a row for each statistic of each sensor."""
    page = (root / "docs" / "checks" / "perception.md").read_text()
    ends = {"return_ratio.0", "return_ratio.7", "band.0", "band.3"}  # the page writes ranges as their ends
    for names in (image.NAMES, scan.NAMES, cloud.NAMES, inertial.NAMES, detections.FIXED):
        assert all(f"`{name}`" in page for name in names if "." not in name or name in ends)
