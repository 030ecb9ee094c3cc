"""A camera from recording to verdict, by the commands a user runs: calibrate on healthy frames, run on others.

The frames are those of a real 1:10 car; they become an MCAP of CompressedImage, unmodified or spoiled from a moment on.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from mcap.writer import Writer
from PIL import Image, ImageFilter
from rosbags.typesys import Stores, get_typestore
from ruamel.yaml import YAML

from edge_monitor import envelope as envelopes
from edge_monitor import reference_files, sensor_references
from edge_monitor.envelope import EnvelopeError
from edge_monitor.errors import ConfigError
from edge_replay.commands.calibrate import command as calibrate
from edge_replay.commands.run import command as run

STORE = get_typestore(Stores.ROS2_JAZZY)
COMPRESSED = "sensor_msgs/msg/CompressedImage"
TOPIC = "/camera/image/compressed"
START = 1_700_000_000_000_000_000
PERIOD = 50_000_000  # 20 Hz
HEALTHY = 300  # frames that the reference is made of: 15 s


def write(path: Path, frames: Sequence[bytes]) -> Path:
    """A recording of JPEG pictures at 20 Hz."""
    types = STORE.types
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("ros2", "test")
        definition = STORE.generate_msgdef(COMPRESSED, ros_version=2)[0].encode()
        channel = writer.register_channel(TOPIC, "cdr", writer.register_schema(COMPRESSED, "ros2msg", definition))
        for k, data in enumerate(frames):
            t = START + k * PERIOD
            header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](*divmod(t, 10**9)), "camera")
            message = types[COMPRESSED](header, "jpeg", np.frombuffer(data, np.uint8))
            writer.add_message(channel, t, bytes(STORE.serialize_cdr(message, COMPRESSED)), t, k)
        writer.finish()
    return path


def jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def call(command: Any, *arguments: object) -> tuple[int, Any]:
    """Exit code and JSON document of a command."""
    done = CliRunner().invoke(command, [*map(str, arguments), "--json"], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.return_value, json.loads(done.stdout)


@pytest.fixture(scope="module")
def car(data_dir: Path) -> list[bytes]:
    """The JPEG files of a drive, in order, as they were recorded."""
    with tarfile.open(data_dir / "car_donkey" / "tub.tar.gz") as tub:
        members = [member for member in tub if member.name.endswith(".jpg") and "/._" not in member.name]
        files = {int(Path(member.name).name.split("_")[0]): tub.extractfile(member) for member in members}
        return [file.read() for _, file in sorted(files.items()) if file is not None]


@pytest.fixture(scope="module")
def envelope(car: list[bytes], root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped envelope, its reference made by `edge-replay calibrate` from the first 15 s."""
    folder = tmp_path_factory.mktemp("car")
    shutil.copy(root / "docs" / "checks" / "camera.yaml", folder)
    log = write(folder / "healthy.mcap", car[:HEALTHY])
    code, document = call(
        calibrate, log, "--envelope", folder / "camera.yaml", "--out", folder / "baselines", "--author", "A. Planner"
    )
    (made,) = document["sensors"]
    assert code == 0 and made["problem"] == ""
    assert (made["width"], made["height"], made["frames"], made["author"]) == (160, 120, HEALTHY - 1, "A. Planner")
    assert made["sources"][0]["name"] == "healthy.mcap"
    return folder / "camera.yaml"


def breaches(folder: Path, envelope: Path, frames: Sequence[bytes]) -> dict[str, float]:
    """When each check failed first, in seconds since the first frame."""
    _, document = call(run, write(folder / "drive.mcap", frames), "--envelope", envelope)
    assert document["problems"] == [] and document["inputs_lost"] == []
    found: dict[str, float] = {}
    for breach in document["breaches"]:
        found.setdefault(breach["check"], breach["start_s"] - START / 1e9)
    return found


def test_an_unmodified_drive_raises_nothing(car: list[bytes], envelope: Path, tmp_path: Path) -> None:
    """Over all 1 000 frames, 700 of which the reference has not seen, no check fails and the gate stays GO."""
    assert len(car) == 1000
    log = write(tmp_path / "drive.mcap", car)
    _, document = call(run, log, "--envelope", envelope)
    assert document["breaches"] == [] and document["inputs_lost"] == [] and document["problems"] == []
    assert {line["verdict"] for line in document["checks"]} == {"PASS"}
    assert [span["what"] for span in document["gates"]["drive"]] == ["NO_GO", "GO"]


Spoil = Callable[[Image.Image], Image.Image]


def gain(factor: float) -> Spoil:
    return lambda picture: picture.point(lambda v: min(255, int(v * factor)))


def blur(radius: float) -> Spoil:
    return lambda picture: picture.filter(ImageFilter.GaussianBlur(radius))


def cover(box: tuple[int, int, int, int], colour: tuple[int, int, int]) -> Spoil:
    def covered(picture: Image.Image) -> Image.Image:
        hidden = picture.copy()
        hidden.paste(colour, box)
        return hidden

    return covered


FAULTS: dict[str, tuple[Spoil, str]] = {
    "dark to an eighth": (gain(0.12), "camera_dark"),
    "dark to a third": (gain(0.33), "camera_dark"),
    "blurred by a pixel": (blur(1), "camera_blurred"),
    "blurred by three": (blur(3), "camera_blurred"),
    "covered on the right": (cover((80, 0, 160, 120), (25, 20, 15)), "camera_covered"),
    "covered at the foot": (cover((0, 70, 160, 120), (120, 110, 100)), "camera_covered"),
    "a corner covered": (cover((75, 50, 160, 120), (0, 0, 0)), "camera_covered"),
    "dazzled": (gain(5), "camera_dazzled"),
}


@pytest.mark.parametrize("begin", [330, 640, 900])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_spoiled_camera_is_found_within_a_second(
    car: list[bytes], envelope: Path, tmp_path: Path, fault: str, begin: int
) -> None:
    """From a moment on all frames are spoiled: nothing before it, and within a second the check that is meant for it."""
    spoil, check = FAULTS[fault]
    before = car[begin - 30 : begin]
    after = [jpeg(spoil(Image.open(io.BytesIO(data)))) for data in car[begin : begin + 25]]
    found = breaches(tmp_path, envelope, [*before, *after])
    moment = 30 * PERIOD / 1e9
    assert all(at >= moment for at in found.values())
    assert moment <= found[check] <= moment + 1


@pytest.mark.parametrize("begin", [330, 640, 900])
def test_a_frozen_camera_is_found_within_a_second(car: list[bytes], envelope: Path, tmp_path: Path, begin: int) -> None:
    """A picture that is sent again and again fails the check for that, and no other."""
    frames = [*car[begin - 30 : begin], *[car[begin - 1]] * 25]
    assert breaches(tmp_path, envelope, frames) == {"camera_live": pytest.approx(34 * PERIOD / 1e9, abs=1e-6)}


def test_a_camera_that_stops_is_found_within_a_second(car: list[bytes], envelope: Path, tmp_path: Path) -> None:
    """After the last picture the camera counts as silent; it is seen where another topic goes on, or time does."""
    log = write(tmp_path / "drive.mcap", car[:30])
    from edge_monitor.runtime import Monitor
    from edge_replay import readers

    monitor = Monitor(envelopes.load(envelope))
    for item in readers.open(log, topics=[TOPIC]):
        monitor.feed(item)
    last = START + 29 * PERIOD
    told = [e for e in monitor.until(last + 10**9 + 1) if e.type == "check.fail"]
    assert [(e.subject, e.t_effective) for e in told] == [("camera_alive", last + 500_000_000)]


# --- reference files, on generated frames ---------------------------------------------------------------------------


def scene(k: int, size: tuple[int, int] = (96, 64), blurred: float = 0.0) -> bytes:
    """A picture with structure that moves."""
    rng = np.random.default_rng(5)
    wall = rng.integers(60, 200, (size[1], size[0] + 40), dtype=np.uint8)
    picture = Image.fromarray(np.repeat(wall[:, k % 40 : k % 40 + size[0], None], 3, axis=2))
    return jpeg(picture.filter(ImageFilter.GaussianBlur(blurred)) if blurred else picture)


@pytest.fixture
def made(root: Path, tmp_path: Path) -> Path:
    """The shipped envelope with a reference of generated frames."""
    shutil.copy(root / "docs" / "checks" / "camera.yaml", tmp_path)
    log = write(tmp_path / "healthy.mcap", [scene(k) for k in range(40)])
    call(calibrate, log, "--envelope", tmp_path / "camera.yaml", "--out", tmp_path / "baselines")
    return tmp_path / "camera.yaml"


def test_an_envelope_without_its_reference_says_how_to_make_it(root: Path, tmp_path: Path) -> None:
    """Before the first calibration the envelope cannot be run, but the command that makes the file can load it."""
    file = tmp_path / "camera.yaml"
    shutil.copy(root / "docs" / "checks" / "camera.yaml", file)
    with pytest.raises(EnvelopeError) as error:
        envelopes.load(file)
    line = str(error.value)
    assert line.startswith(f"{file}:34:83: sensors./camera/image/compressed.reference: ")
    assert line.endswith("camera.npz: No such file or directory: make it with `edge-replay calibrate`")
    assert envelopes.load(file, references=False).sensors[TOPIC].referenced is not None


def test_every_limit_says_why_and_fits_the_schema(root: Path) -> None:
    """The example is to be copied: each of its checks has a rationale, and an editor finds nothing wrong in it."""
    path = root / "docs" / "checks" / "camera.yaml"
    assert [check.name for check in envelopes.load(path, references=False).checks if not check.rationale] == []
    schema = (path.parent / path.read_text("utf-8").splitlines()[0].partition("$schema=")[2]).resolve()
    jsonschema.validate(YAML(typ="safe", pure=True).load(path), json.loads(schema.read_text("utf-8")))


def test_the_reference_is_part_of_the_digests(made: Path) -> None:
    """Another reference under the same name gives another envelope and another plan; the same one gives the same."""
    from edge_monitor.runtime import Monitor

    def digests() -> tuple[str, str]:
        loaded = envelopes.load(made)
        return loaded.digest, Monitor(loaded).plan.digest()

    first = digests()
    assert digests() == first
    file = made.parent / "baselines" / "camera.npz"
    before = file.read_bytes()
    log = write(made.parent / "other.mcap", [scene(k, blurred=0.5) for k in range(40)])
    call(calibrate, log, "--envelope", made, "--out", file.parent)
    envelope, plan = digests()
    assert envelope != first[0] and plan != first[1]
    call(calibrate, made.parent / "healthy.mcap", "--envelope", made, "--out", file.parent)
    assert file.read_bytes() == before and digests() == first


def test_frames_of_another_size_are_unknown_and_said_to_be(made: Path, tmp_path: Path) -> None:
    """A frame that does not fit the reference makes the comparisons unknown (dependency), and one line says why."""
    log = write(tmp_path / "small.mcap", [scene(k, (80, 64)) for k in range(20)])
    _, document = call(run, log, "--envelope", made)
    (problem,) = document["problems"]
    assert problem == (
        f"{TOPIC}: frames of 80 x 64 pixels in 80 cells cannot be compared with the reference, "
        "which is of 96 x 64 pixels in 96 cells: calibrate anew"
    )
    lines = {line["check"]: (line["verdict"], line["cause"]) for line in document["checks"]}
    assert lines["camera_blurred"] == lines["camera_covered"] == ("UNKNOWN", "dependency")
    assert lines["camera_live"] == ("PASS", "")


def test_options_other_than_the_references_are_refused(made: Path) -> None:
    """A reference that was measured in another way is no reference: file, line, column, and what to do."""
    text = made.read_text("utf-8").replace("cell: 8, quiet", "cell: 16, quiet")
    with pytest.raises(EnvelopeError) as error:
        envelopes.loads(text.encode(), source=str(made))
    assert str(error.value) == (
        f"{made}:34:84: sensors./camera/image/compressed.reference: was made with `cell: 8`, not 16: calibrate anew"
    )


def test_calibration_says_why_there_is_no_reference(root: Path, tmp_path: Path) -> None:
    """Frames of several sizes, bytes that are no pictures, and a recording without the topic give a line, no file."""
    shutil.copy(root / "docs" / "checks" / "camera.yaml", tmp_path)
    for frames, expected in (
        (
            [scene(k, (96, 64) if k < 20 else (80, 64)) for k in range(40)],
            "frames of several sizes: 80 x 64 (20), 96 x 64",
        ),
        ([b"no picture"] * 10, "hold no two frames of /camera/image/compressed; 10 could not be measured"),
        ([], "hold no two frames of /camera/image/compressed"),
    ):
        log = write(tmp_path / "log.mcap", frames)
        _, document = call(calibrate, log, "--envelope", tmp_path / "camera.yaml", "--out", tmp_path / "baselines")
        assert expected in document["sensors"][0]["problem"]
        assert not (tmp_path / "baselines" / "camera.npz").exists()
    plain = tmp_path / "plain.yaml"
    plain.write_text(
        "edge_monitor: 1\nenvelope: {id: x, version: 1, vehicle: x}\nsignals: {v: {topic: /v, max_age: 1 s}}\n"
        "checks: {c: {kind: stale, signal: v, max: 1 s}}\n"
    )
    with pytest.raises(ConfigError, match="nothing to calibrate"):
        call(calibrate, log, "--envelope", plain, "--out", tmp_path / "baselines")


def test_nothing_in_a_reference_is_trusted(made: Path, tmp_path: Path) -> None:
    """Each header entry or array that cannot be is refused with a line; the untouched file is read back whole."""
    path = made.parent / "baselines" / "camera.npz"
    good = sensor_references.load(path)
    assert good.save(tmp_path / "again.npz") == good.digest
    wrong: list[tuple[dict[str, Any], Any]] = [
        ({"kind": "microphone"}, good.cells),
        ({"format": "edge-monitor baseline 1"}, good.cells),
        ({"width": 0}, good.cells),
        ({"width": 96.0}, good.cells),
        ({"height": True}, good.cells),
        ({"cell": 7}, good.cells),
        ({"frames": 1}, good.cells),
        ({"topic": None}, good.cells),
        ({"sources": {}}, good.cells),
        ({"luminance": -1.0}, good.cells),
        ({"contrast": "high"}, good.cells),
        ({"kind": "point_cloud"}, good.cells),
        ({}, np.full(len(good.cells), np.nan)),
        ({}, -good.cells - 1),
        ({}, good.cells[:3]),
        ({}, good.cells[None]),
        ({}, np.zeros(5000)),
    ]
    bad = tmp_path / "bad.npz"
    for change, cells in wrong:
        bad.write_bytes(reference_files.pack({**good.header, **change}, {"cells": cells}))
        with pytest.raises(ConfigError, match="make it anew"):
            sensor_references.load(bad)
    bad.write_bytes(reference_files.pack(good.header, {"cells": good.cells, "more": good.cells}))
    with pytest.raises(ConfigError, match="does not hold the arrays"):
        sensor_references.load(bad)
    for data in (b"", path.read_bytes()[:-30], b"x" * (reference_files.LARGEST + 1)):
        bad.write_bytes(data)
        with pytest.raises(ConfigError, match="make it anew"):
            sensor_references.load(bad)
