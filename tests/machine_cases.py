"""What must come out with the same bits on every machine: run as a program, it prints a digest a case, as JSON lines.

``python machine_cases.py FOLDER PART…``. The parts are the functions of ``PARTS``; FOLDER holds what was made beforehand
(``streams``, ``tapes``) and takes what is written. Nothing beyond the package's own dependencies is needed.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
from every_check import EVERYTHING, S, bell, uniform

from edge_monitor.core import elementary
from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.drift.pipeline import DETECTOR, DETECTORS
from edge_monitor.core.engine import Engine
from edge_monitor.core.jit import kernel
from edge_monitor.core.perception import inertial, scan
from edge_monitor.core.perception.cloud import CloudOptions, CloudStatistics
from edge_monitor.core.perception.detections import DetectionOptions, DetectionStatistics
from edge_monitor.core.perception.image import ImageOptions, ImageStatistics
from edge_monitor.core.perception.statistics import Statistics
from edge_monitor.core.samples import SAMPLE, Cause, TransitionKind

ROOT = Path(__file__).resolve().parent.parent
ENVELOPE = ROOT / "configs" / "survey_plane.yaml"
RECORDINGS = ROOT / "replay" / "scenarios"
Case = tuple[str, bytes]


@kernel
def elementary_many(x, out):  # type: ignore[no-untyped-def]
    """Each function over ``x`` (n,) into ``out`` (5, n)."""
    for i in range(len(x)):
        out[0, i] = elementary.log(x[i])
        out[1, i] = elementary.log10(x[i])
        out[2, i] = elementary.exp(x[i])
        out[3, i] = elementary.sin(x[i])
        out[4, i] = elementary.cos(x[i])


def arguments(n: int) -> np.ndarray:
    """(n,) float64 of every size, near 1, near multiples of half of pi, and what is no number."""
    rng = np.random.default_rng(14)
    x = rng.integers(0, 1 << 53, n) / (1 << 53)
    x[n // 5 :] = np.ldexp(1 + x[n // 5 :], rng.integers(-70, 70, n - n // 5)) * rng.choice(
        [-1.0, 1.0, 1.0], n - n // 5
    )
    x[: n // 5] = 0.9 + 0.2 * x[: n // 5]
    x[n // 2 : n // 2 + 1000] = np.arange(1000) * (np.pi / 2)
    x[-8:] = (0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 709.78, 1e300)
    return x


def functions(_: Path) -> Iterator[Case]:
    """The functions of ``elementary``, compiled and as they are."""
    x = arguments(200_000)
    out = np.empty((5, len(x)))
    elementary_many(x, out)
    yield "functions: compiled", out.tobytes()
    short = x[:: len(x) // 20_000].tolist()
    names = (elementary.log, elementary.log10, elementary.exp, elementary.sin, elementary.cos)
    yield "functions: as they are", np.array([[f(value) for value in short] for f in names]).tobytes()


def streams(folder: Path) -> None:
    """Write what the engine is given."""
    for name, (_, stream) in EVERYTHING.items():
        (folder / f"{name}.items").write_bytes(stream().tobytes())


def family(spec: CheckSpec) -> str:
    """The kind of a check, of a drift check its detector too."""
    if spec.kind != "drift":
        return spec.kind
    return f"drift {next(name for name, code in DETECTORS.items() if code == spec.table[DETECTOR])}"


def engines(folder: Path, *names: str) -> Iterator[Case]:
    """Plan, transitions and state of plans that leave nothing out; the items too, which are made here and were written."""
    for name in names:
        make_plan, stream = EVERYTHING[name]
        data = (folder / f"{name}.items").read_bytes()
        yield f"items: {name}", stream().tobytes()
        plan = make_plan()
        yield f"plan: {name}", plan.digest().encode()
        items = np.frombuffer(data, SAMPLE)
        engine = Engine(plan)
        rows = engine.advance(items)
        rows = np.concatenate([rows, engine.finish(int(items[-1]["t"]) + 3 * S)])
        families = [family(spec) for spec in plan.check_specs]
        for one in dict.fromkeys(families):
            mine = [i for i, other in enumerate(families) if other == one]
            told = rows[np.isin(rows["subject"], mine) & (rows["kind"] == TransitionKind.CHECK)]
            assert len(told), one
            yield f"transitions: {name}, {one} ({len(told)} rows)", told.tobytes()
        yield f"transitions: {name}, all ({len(rows)} rows)", rows.tobytes()
        yield f"engine: {name}", engine.digest().encode()


def recordings(folder: Path) -> Iterator[Case]:
    """The committed recordings through ``edge-replay run --jsonl``: every event; the last holds the engine's digest."""
    from edge_replay.commands.run import command

    for path in sorted(RECORDINGS.glob("*.mcap")):
        out = folder / f"{path.stem}.{platform.machine()}.jsonl"
        command.main([str(path), "-e", str(ENVELOPE), "--jsonl", str(out), "--quiet"], standalone_mode=False)
        lines = out.read_text().splitlines()
        ends = [event for event in map(json.loads, lines) if "engine_digest" in event.get("payload", event)]
        assert ends, "no event tells the engine's digest"
        yield f"events: {path.name} ({len(lines)})", "\n".join(lines).encode()
        last = ends[-1]
        yield f"engine: {path.name}", last.get("payload", last)["engine_digest"].encode()


def make_tape(folder: Path) -> None:
    """A journal and a tape of a committed recording, made on this machine."""
    from edge_monitor.journal.keys import make_key
    from edge_replay.commands.run import command

    name = f"replayed-{platform.machine()}"
    make_key(name, folder)
    path = next(iter(sorted(RECORDINGS.glob("*.mcap"))))
    (folder / f"{name}.yaml").write_bytes(ENVELOPE.read_bytes())
    options = ["--journal", f"{folder / name}.db", "--key", f"{folder / name}.key", "--tape", f"{folder / name}.tape"]
    command.main([str(path), "-e", str(ENVELOPE), "--quiet", *options], standalone_mode=False)


def tapes(folder: Path) -> Iterator[Case]:
    """Every journal and tape of the folder through ``edge-replay reexecute``: what was compared, and that all is equal."""
    from edge_monitor import envelope
    from edge_monitor.journal import load_verifier_key
    from edge_monitor.journal.verify import verify
    from edge_monitor.reexecution import reexecute
    from edge_monitor.tape import read
    from edge_replay.commands.reexecute import as_document, records

    for path in sorted(folder.glob("*.tape")):
        journal = path.with_suffix(".db")
        assert verify(journal, [load_verifier_key(path.with_suffix(".pub"))]).ok, journal
        tape = read(path)
        document = as_document(reexecute(envelope.load(path.with_suffix(".yaml")), tape, records(journal)), tape, True)
        assert document["equal"], f"{path.name}: {document['difference']}"
        assert document["events"] > 0 and document["items"] > 0, document
        document.pop("tape")
        yield f"tape: {path.name} ({document['items']} items)", json.dumps(document).encode()


def sensors(_: Path) -> Iterator[Case]:
    """Statistics of pictures, scans, clouds, inertial samples and detections, over 40 messages of each."""
    rng = np.random.default_rng(15)
    still = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)

    def picture(measured: ImageStatistics, t: int) -> None:
        measured.frame(t, still + rng.integers(0, 90, still.shape, np.uint8), "mono8")

    def beams(measured: scan.ScanStatistics, t: int) -> None:
        ranges = rng.integers(0, 1 << 20, 360) / (1 << 15)
        ranges[rng.integers(0, 360, 20)] = rng.choice([np.inf, np.nan, 0.0], 20)
        measured.ranges(ranges, 0.1, 30.0)

    def shakes(measured: inertial.InertialStatistics, t: int) -> None:
        times = t + np.arange(10, dtype=np.int64) * 10_000_000
        measured.samples(times, np.array([[bell(rng), bell(rng), 9.8 + bell(rng)] for _ in times]))

    def found(measured: DetectionStatistics, t: int) -> None:
        scores = [uniform(rng) for _ in range(int(rng.integers(1, 12)))]
        measured.arrays(np.array(scores), [("person", "car")[i % 2] for i in range(len(scores))])

    def points(measured: CloudStatistics, t: int) -> None:
        data = cloud_message(np.array([[20 * bell(rng), 20 * bell(rng), bell(rng)] for _ in range(300)], np.float32))
        measured.message(t, np.frombuffer(data, np.uint8), 0, len(data))

    measured: tuple[tuple[str, Statistics, Callable[[Any, int], None]], ...] = (
        ("camera", ImageStatistics(ImageOptions(cell=8)), picture),
        ("lidar scan", scan.ScanStatistics(), beams),
        ("lidar cloud", CloudStatistics(CloudOptions()), points),
        ("imu", inertial.InertialStatistics(inertial.InertialOptions(100.0, (5.0, 10.0, 20.0, 30.0, 40.0))), shakes),
        ("detections", DetectionStatistics(DetectionOptions(classes=("person",))), found),
    )
    for name, statistics, measure in measured:
        told = []
        for i in range(40):
            measure(statistics, S + i * S // 10)
            told.append(statistics.values.tobytes() + statistics.causes.tobytes())
        assert (statistics.causes == Cause.NONE).any(), name
        yield f"statistics: {name}", b"".join(told) + statistics.snapshot()


def cloud_message(points: np.ndarray) -> bytes:
    """A serialized sensor_msgs/msg/PointCloud2 of (n, 3) float32."""
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    make = store.types
    fields = [make["sensor_msgs/msg/PointField"](name, 4 * i, 7, 1) for i, name in enumerate("xyz")]
    header = make["std_msgs/msg/Header"](make["builtin_interfaces/msg/Time"](1, 2), "lidar")
    data = points.view(np.uint8).reshape(-1)
    n = len(points)
    message = make["sensor_msgs/msg/PointCloud2"](header, 1, n, fields, False, 12, 12 * n, data, True)
    return bytes(store.serialize_cdr(message, message.__msgtype__))


PARTS: dict[str, Callable[[Path], Iterator[Case]]] = {
    "functions": functions,
    "plain": lambda folder: engines(folder, "plain"),
    "recordings": recordings,
    "tapes": tapes,
    "sensors": sensors,
    "everything": lambda folder: engines(folder, "detectors_and_formulas", "extreme"),
}


def main() -> None:
    """Run parts, in the order given; ``streams`` and ``make_tape`` print nothing."""
    folder = Path(sys.argv[1])
    compiled = not numba.config.DISABLE_JIT
    for part in sys.argv[2:]:
        begun = time.monotonic()
        if part in ("streams", "make_tape"):
            (streams if part == "streams" else make_tape)(folder)
            continue
        for name, data in PARTS[part](folder):
            seconds, begun = time.monotonic() - begun, time.monotonic()
            line = {"case": name, "digest": hashlib.sha256(data).hexdigest(), "seconds": seconds, "compiled": compiled}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
