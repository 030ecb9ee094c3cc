"""A lidar whose driver leaves lost points out: what is missing is known from a reference that the command made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mcap.writer import Writer
from rosbags.typesys import Stores, get_typestore

from edge_monitor import envelope as envelopes
from edge_monitor import sensor_references
from edge_monitor.envelope import EnvelopeError
from edge_replay.cli import group

STORE = get_typestore(Stores.ROS2_JAZZY)
CLOUD, FIELD = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/PointField"
START = 1_700_000_000_000_000_000
ENVELOPE = """edge_monitor: 1
envelope: {id: lidar, version: 1, vehicle: rover}
signals:
  returns: {topic: /points, statistic: return_ratio, unit: ratio, max_age: 500 ms}
  weak: {topic: /points, statistic: weak_cells, unit: ratio, max_age: 500 ms}
sensors:
  /points: {kind: point_cloud, reference: refs/lidar.npz}
checks:
  sees: {kind: bounds, signal: returns, min: 0.7 ratio}
  all_round: {kind: bounds, signal: weak, max: 0.1 ratio}
"""


def write(path: Path, clouds: int, blind_from: int = 10**9) -> Path:
    """Clouds of 8 rings, 64 points each; from ``blind_from`` on nothing comes from the left half."""
    kind = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("ring", "<u2"), ("pad", "<u2")])
    types = STORE.types
    fields = [types[FIELD](n, kind.fields[n][1], 4 if n == "ring" else 7, 1) for n in ("x", "y", "z", "ring")]  # type: ignore[index]
    angle = np.tile(np.arange(64) / 64 * 2 * np.pi + 0.01, 8)
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("ros2", "test")
        schema = writer.register_schema(CLOUD, "ros2msg", STORE.generate_msgdef(CLOUD, ros_version=2)[0].encode())
        channel = writer.register_channel("/points", "cdr", schema)
        for k in range(clouds):
            points = np.zeros(512, kind)
            points["x"], points["y"], points["ring"] = (
                10 * np.cos(angle),
                10 * np.sin(angle),
                np.repeat(np.arange(8), 64),
            )
            if k >= blind_from:
                points = points[points["y"] < 0]
            t = START + k * 100_000_000
            header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](*divmod(t, 10**9)), "lidar")
            message = types[CLOUD](
                header, 1, len(points), fields, False, 16, points.nbytes, points.view(np.uint8), True
            )  # fmt: skip
            writer.add_message(channel, t, bytes(STORE.serialize_cdr(message, CLOUD)), t, k)
        writer.finish()
    return path


def call(*arguments: object) -> dict[str, object]:
    done = CliRunner().invoke(group, [*map(str, arguments), "--json"], standalone_mode=False)
    assert done.exception is None and done.return_value == 0
    document: dict[str, object] = json.loads(done.stdout)
    return document


def test_a_blind_half_is_found(tmp_path: Path) -> None:
    """Against the healthy lidar's returns a blind half is half of them, and every cell there is weak."""
    file = tmp_path / "lidar.yaml"
    file.write_text(ENVELOPE)
    document = call("calibrate", write(tmp_path / "healthy.mcap", 30), "-e", file, "--out", tmp_path / "refs")
    (made,) = document["sensors"]  # type: ignore[misc]
    assert made["kind"] == "point_cloud" and made["frames"] == 30 and made["seen"]["return_ratio"] == [1.0] * 5
    reference = sensor_references.load(tmp_path / "refs" / "lidar.npz")
    assert reference.cells.sum() == 512 and (reference.cells[:64] == 8).all()
    document = call("run", write(tmp_path / "drive.mcap", 30, blind_from=20), "-e", file)
    found = [(b["check"], round(b["start_s"] - START / 1e9, 3), b["value"]) for b in document["breaches"]]  # type: ignore[attr-defined]
    assert sorted(found) == [("all_round", 2.0, 0.5), ("sees", 2.0, 0.5)]


def test_a_cameras_reference_is_none_of_a_lidar(tmp_path: Path) -> None:
    """The kinds of reference are told apart."""
    file = tmp_path / "lidar.yaml"
    file.write_text(ENVELOPE)
    call("calibrate", write(tmp_path / "healthy.mcap", 5), "-e", file, "--out", tmp_path / "refs")
    text = ENVELOPE.replace("kind: point_cloud", "kind: camera").replace("return_ratio", "luminance_ratio")
    text = text.replace("weak_cells", "occluded")
    with pytest.raises(EnvelopeError) as error:
        envelopes.loads(text.encode(), source=str(file))
    assert str(error.value) == f"{file}:7:38: sensors./points.reference: is the reference of a `point_cloud`"
