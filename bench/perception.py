"""What sensor statistics cost: camera frames beside the same in NumPy, scans, clouds and inertial samples.

CPU time, best of several passes. The issue's bound is 3 ms a 640 x 480 frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edge_monitor.core.perception.cloud import MAX_RINGS, SECTORS, CloudOptions, CloudReference, CloudStatistics
from edge_monitor.core.perception.image import ImageOptions, ImageStatistics
from edge_monitor.core.perception.inertial import InertialOptions, InertialStatistics
from edge_monitor.core.perception.scan import ScanStatistics


def best(work: Callable[[], Any], passes: int) -> float:
    """Least CPU seconds of ``passes`` runs, after one to warm up."""
    work()
    least = float("inf")
    for _ in range(passes):
        begin = time.process_time()
        work()
        least = min(least, time.process_time() - begin)
    return least


def numpy_frame(frame: np.ndarray) -> tuple[float, ...]:
    """The statistics that need no cells and no other frame, as one writes them with NumPy."""
    grey = frame.astype(np.int32) if frame.ndim == 2 else (frame.astype(np.int32) @ np.array([77, 150, 29])) >> 8
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    return tuple(float(v) for v in (grey.mean(), grey.std(), edges.var(), (grey >= 250).mean(), (grey <= 5).mean()))


def camera(label: str, shape: tuple[int, ...], encoding: str, stride: int, passes: int) -> dict[str, Any]:
    """Milliseconds a frame."""
    frame = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    statistics = ImageStatistics(ImageOptions(stride=stride))
    ours = best(lambda: statistics.frame(0, frame, encoding), passes) * 1e3
    peers = {} if stride > 1 else {"numpy": best(lambda: numpy_frame(frame), max(passes // 4, 2)) * 1e3}
    return row(label, "ms/frame", ours, peers)


def scan(passes: int) -> dict[str, Any]:
    """Microseconds a scan of 1 080 beams."""
    ranges = np.random.default_rng(0).uniform(0.1, 40, 1080)
    statistics = ScanStatistics()
    finite = ranges.astype(np.float64)

    def peer() -> None:
        kept = finite[np.isfinite(finite) & (finite <= 30)]
        np.percentile(kept, [50, 95]), (kept < 3).mean()

    ours = best(lambda: [statistics.ranges(ranges, 0.1, 30.0) for _ in range(100)], passes) * 1e4
    return row(
        "perception_scan_1080", "µs/scan", ours, {"numpy": best(lambda: [peer() for _ in range(100)], passes) * 1e4}
    )


def cloud(passes: int) -> dict[str, Any]:
    """Milliseconds a cloud of 64 x 1 024 points, from its bytes."""
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    kind = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("ring", "<u2"), ("pad", "<u2")])
    points = np.zeros(64 * 1024, kind)
    for axis in "xyz":
        points[axis] = np.random.default_rng(0).normal(0, 10, len(points))
    types = store.types
    fields = [
        types["sensor_msgs/msg/PointField"](name, kind.fields[name][1], 4 if name == "ring" else 7, 1)  # type: ignore[index]
        for name in ("x", "y", "z", "intensity", "ring")
    ]
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](1, 2), "lidar")
    message = types["sensor_msgs/msg/PointCloud2"](
        header, 1, len(points), fields, False, kind.itemsize, points.nbytes, points.view(np.uint8), False
    )
    data = np.frombuffer(bytes(store.serialize_cdr(message, message.__msgtype__)), np.uint8)
    reference = CloudReference(np.full(MAX_RINGS * SECTORS, 100.0))
    statistics = CloudStatistics(CloudOptions(reference=reference))
    ours = best(lambda: statistics.message(0, data, 0, len(data)), passes) * 1e3

    def peer() -> None:
        kept = np.sqrt(points["x"] ** 2 + points["y"] ** 2 + points["z"] ** 2)
        kept = kept[np.isfinite(kept)]
        np.percentile(kept, [50, 95]), (kept < 3).mean(), points["intensity"].mean()

    return row("perception_cloud_64x1024", "ms/cloud", ours, {"numpy": best(peer, passes) * 1e3})


def inertial(passes: int) -> dict[str, Any]:
    """Nanoseconds a sample: four bands and the RMS, of three axes."""
    n = 100_000
    statistics = InertialStatistics(InertialOptions(1000.0))
    t = np.arange(n, dtype=np.int64) * 1_000_000
    a = np.random.default_rng(0).normal(0, 1, (n, 3))
    ours = best(lambda: statistics.samples(t, a), passes) / n * 1e9
    return row("perception_imu_5_filters_3_axes", "ns/sample", ours, {})


def row(label: str, unit: str, ours: float, peers: dict[str, float]) -> dict[str, Any]:
    """One line of the benchmark table."""
    ratios = {name: round(value / ours, 1) for name, value in peers.items()}
    rounded = {name: round(value, 3) for name, value in peers.items()}
    return {"name": label, "unit": unit, "ours": round(ours, 3), "peers": rounded, "ratios": ratios}


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """The figures of this file."""
    passes = 8 if quick else 60
    return [
        camera("perception_camera_640x480_mono8", (480, 640), "mono8", 1, passes),
        camera("perception_camera_640x480_rgb8", (480, 640, 3), "rgb8", 1, passes),
        camera("perception_camera_640x480_stride_2", (480, 640, 3), "rgb8", 2, passes),
        camera("perception_camera_1280x720_rgb8", (720, 1280, 3), "rgb8", 1, passes),
        scan(passes),
        cloud(passes),
        inertial(passes),
    ]


if __name__ == "__main__":
    for line in rows():
        print(line)
