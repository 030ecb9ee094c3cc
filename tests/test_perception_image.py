"""Camera statistics: equal to plain loops, refuse what lies, and find what happens to a real car's camera."""

from __future__ import annotations

import io
import math
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import perception as oracle

from edge_monitor.core.perception.image import (
    ENCODINGS,
    NAMES,
    RELATIVE,
    ImageOptions,
    ImageReference,
    ImageStatistics,
)
from edge_monitor.core.samples import Cause

MS = 1_000_000
PERIOD = 50 * MS  # the car's camera: 20 frames a second


def value(statistics: ImageStatistics, name: str) -> float:
    return float(statistics.values[NAMES.index(name)])


def cause(statistics: ImageStatistics, name: str) -> Cause:
    return Cause(statistics.causes[NAMES.index(name)])


def picture(rng: np.random.Generator, encoding: str, height: int, width: int) -> np.ndarray:
    """Noise, gradients and flat areas together, in the shape that an encoding has."""
    size = ENCODINGS[encoding][1]
    deep = encoding in ("mono16", "16UC1")
    top = 65535 if deep else 255
    shape = (height, width) if deep or size == 1 else (height, width, size)
    base = np.linspace(0, top, width)[None, :] * rng.uniform(0, 1.2)
    noise = rng.normal(0, top * rng.choice([0.0, 0.02, 0.3]), shape)
    mixed = (base if len(shape) == 2 else base[..., None]) + noise
    return np.clip(mixed, 0, top).astype(np.uint16 if deep else np.uint8)


@given(
    st.integers(0, 2**32 - 1), st.sampled_from(sorted(ENCODINGS)), st.integers(32, 53), st.integers(32, 53),
    st.sampled_from([1, 2, 3]), st.sampled_from([8, 11, 16]), st.sampled_from([10, 12, 16]),
)  # fmt: skip
@settings(max_examples=120)
def test_a_frame_equals_the_oracle(
    seed: int, encoding: str, height: int, width: int, stride: int, cell: int, bits: int
) -> None:
    """Every statistic of one frame is that of plain loops, for every encoding, stride, cell and depth."""
    frame = picture(np.random.default_rng(seed), encoding, height, width)
    statistics = ImageStatistics(ImageOptions(stride=stride, cell=cell, bits=bits))
    statistics.frame(0, frame, encoding)
    step = max(stride, 2) if encoding.startswith("bayer") else stride
    seen = (height // step, width // step) if encoding.startswith("bayer") else (-(-height // step), -(-width // step))
    if min(seen) < 2 * cell:
        assert (statistics.causes == Cause.INVALID).all()
        return
    expected = oracle.image(frame, encoding, stride=stride, cell=cell, bits=bits)
    for name, wanted in expected.items():
        assert value(statistics, name) == pytest.approx(wanted, rel=1e-12, abs=1e-9), name
        assert cause(statistics, name) == Cause.NONE
    assert cause(statistics, "sad") == Cause.WARMING


def test_change_and_energies_equal_the_oracle() -> None:
    """The change between frames and the cells' energies are those of plain loops."""
    rng = np.random.default_rng(3)
    frames = [picture(rng, "rgb8", 37, 45) for _ in range(5)]
    statistics = ImageStatistics(ImageOptions(cell=8))
    before = None
    for k, frame in enumerate(frames):
        statistics.frame(k * PERIOD, frame, "rgb8")
        grey = oracle.sample(frame, "rgb8", 1)[0]
        expected = oracle.energies(before, grey, 8)
        assert statistics.energy == pytest.approx([expected[at] for at in sorted(expected)], rel=1e-12)
        if before is not None:
            assert value(statistics, "sad") == pytest.approx(oracle.change(before, grey, 8), rel=1e-12)
        before = grey


def reference_of(frames: list[np.ndarray], encoding: str, options: ImageOptions) -> ImageReference:
    statistics = ImageStatistics(options)
    values, energies = [], []
    for k, frame in enumerate(frames):
        statistics.frame(k * PERIOD, frame, encoding)
        values.append(statistics.values.copy())
        energies.append(statistics.energy)
    height, width = frames[0].shape[:2]
    return ImageReference.fit(width, height, np.array(values), np.array(energies))


@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.6))
@settings(max_examples=40)
def test_occlusion_is_the_largest_group_of_quiet_cells(seed: int, density: float) -> None:
    """Cells without structure count once they have been quiet long enough, and only those that touch."""
    rng = np.random.default_rng(seed)
    frames = [rng.integers(0, 256, (64, 88), dtype=np.uint8) for _ in range(12)]
    reference = reference_of(frames, "mono8", ImageOptions(cell=8))
    covered = {(y, x) for y in range(8) for x in range(11) if rng.random() < density}
    statistics = ImageStatistics(ImageOptions(cell=8, reference=reference, quiet_for=300 * MS))
    for k, frame in enumerate(frames):
        for y, x in covered if k >= 2 else ():
            # one pixel more than the cell, as its Laplacian looks over the edge
            frame[max(8 * y - 1, 0) : 8 * y + 9, max(8 * x - 1, 0) : 8 * x + 9] = 90
        statistics.frame(k * PERIOD, frame, "mono8")
        occluded = value(statistics, "occluded")
        if k < 6:
            assert cause(statistics, "occluded") == Cause.WARMING
        elif k < 2 + 6:  # quiet from the third frame on, for six periods
            assert occluded == 0
        else:
            assert occluded == oracle.largest_group(covered) / 88


def test_a_frozen_picture_is_counted_and_noise_ends_it() -> None:
    """`still_frames` counts frames in which nothing changed; one pixel is a change."""
    frame = np.random.default_rng(1).integers(0, 256, (48, 64), dtype=np.uint8)
    statistics = ImageStatistics()
    seen = []
    for k in range(6):
        if k == 4:
            frame[20, 20] ^= 1
        statistics.frame(k * PERIOD, frame, "mono8")
        seen.append((value(statistics, "still_frames"), value(statistics, "sad") == 0))
    assert seen == [(0, False), (1, True), (2, True), (3, True), (0, False), (1, True)]


def test_without_a_reference_ratios_are_unknown() -> None:
    """Statistics that compare need a reference of the same geometry; the others don't."""
    frame = np.random.default_rng(1).integers(0, 256, (48, 64), dtype=np.uint8)
    reference = reference_of([frame, frame], "mono8", ImageOptions())
    for options, size in ((ImageOptions(), (48, 64)), (ImageOptions(reference=reference), (64, 64))):
        statistics = ImageStatistics(options)
        statistics.frame(0, np.resize(frame, size), "mono8")
        relative = [NAMES[i] for i in RELATIVE]
        assert all(cause(statistics, name) == Cause.DEPENDENCY for name in relative)
        assert cause(statistics, "luminance") == Cause.NONE


def test_bad_geometry_is_refused() -> None:
    """Sizes that contradict each other, frames too small or too large and unknown encodings have their causes."""
    data = np.zeros(64 * 48, np.uint8)
    statistics = ImageStatistics()
    good = {"first": 0, "size": 64 * 48, "width": 64, "height": 48, "step": 64, "encoding": "mono8"}
    wrong = [
        ({}, Cause.NONE),
        ({"step": 63}, Cause.INVALID),
        ({"step": 65}, Cause.INVALID),
        ({"step": 0, "width": 0}, Cause.INVALID),
        ({"height": 49}, Cause.INVALID),
        ({"height": 2**32 - 1}, Cause.INVALID),
        ({"width": 65}, Cause.INVALID),
        ({"width": 2**32 - 1, "step": 2**32 - 1}, Cause.INVALID),
        ({"first": 1}, Cause.INVALID),
        ({"first": -1}, Cause.INVALID),
        ({"size": 64 * 48 + 1}, Cause.INVALID),
        ({"width": 31}, Cause.INVALID),
        ({"encoding": "rgb8"}, Cause.INVALID),
        ({"encoding": "yuv422"}, Cause.TYPE_MISMATCH),
        ({"encoding": ""}, Cause.TYPE_MISMATCH),
    ]
    for change, expected in wrong:
        statistics.pixels(0, data, **{**good, **change})
        assert cause(statistics, "luminance") == expected, change
        assert math.isnan(value(statistics, "luminance")) == (expected != Cause.NONE)
    wide = np.zeros((4096, 1024), np.uint8)
    statistics.frame(0, wide, "mono8")
    assert cause(statistics, "luminance") == Cause.OVERFLOW
    strided = ImageStatistics(ImageOptions(stride=2))
    strided.frame(0, wide, "mono8")
    assert cause(strided, "luminance") == Cause.NONE


def test_a_snapshot_goes_on_bit_for_bit() -> None:
    """Statistics restored in the middle say the same from there on."""
    rng = np.random.default_rng(5)
    frames = [picture(rng, "bgr8", 40, 48) for _ in range(8)]
    options = ImageOptions(cell=8, reference=reference_of(frames, "bgr8", ImageOptions(cell=8)))
    one, other = ImageStatistics(options), ImageStatistics(options)
    for k, frame in enumerate(frames):
        if k == 4:
            other.restore(one.snapshot())
        one.frame(k * PERIOD, frame, "bgr8")
        if k >= 4:
            other.frame(k * PERIOD, frame, "bgr8")
            assert one.values.tobytes() == other.values.tobytes()
            assert one.snapshot() == other.snapshot()
    with pytest.raises(ValueError, match="does not fit"):
        one.restore(b"short")


@pytest.fixture(scope="module")
def car(data_dir: Path) -> list[np.ndarray]:
    """The frames of a drive of a 1:10 car, 160 x 120 colour."""
    image = pytest.importorskip("PIL.Image", reason="Pillow decodes the car's frames")
    with tarfile.open(data_dir / "car_donkey" / "tub.tar.gz") as tub:
        members = [member for member in tub if member.name.endswith(".jpg") and "/._" not in member.name]
        files = {int(Path(member.name).name.split("_")[0]): tub.extractfile(member) for member in members}
        pictures = {number: np.asarray(image.open(io.BytesIO(f.read()))) for number, f in files.items() if f}
        return [pictures[number] for number in sorted(pictures)]


HEALTHY = 300  # frames that the reference is fitted on: 15 s
#: Alarms as the notes on cameras put them, each with how long it must hold: ratios to the reference below 0.3,
#: saturation above a quarter, 3 frames without change, 15 % of the picture covered.
ALARMS: dict[str, tuple[Callable[[float], bool], int]] = {
    "luminance_ratio": (lambda v: v < 0.3, 500 * MS),
    "contrast_ratio": (lambda v: v < 0.3, 500 * MS),
    "sharpness_ratio": (lambda v: v < 0.3, 500 * MS),
    "saturated": (lambda v: v > 0.25, 500 * MS),
    "still_frames": (lambda v: v >= 3, 0),
    "occluded": (lambda v: v > 0.15, 300 * MS),
}


def alarms(statistics: ImageStatistics, frames: list[np.ndarray], first: int = 0) -> dict[str, int]:
    """When (ns after the first of ``frames``) each alarm is raised."""
    since: dict[str, int] = {}
    raised: dict[str, int] = {}
    for k, frame in enumerate(frames):
        t = (first + k) * PERIOD
        statistics.frame(t, frame, "rgb8")
        for name, (bad, hold) in ALARMS.items():
            if cause(statistics, name) == Cause.NONE and bad(value(statistics, name)):
                if t - since.setdefault(name, t) >= hold:
                    raised.setdefault(name, t - first * PERIOD)
            else:
                since.pop(name, None)
    return raised


@pytest.fixture(scope="module")
def car_reference(car: list[np.ndarray]) -> ImageReference:
    return reference_of(car[:HEALTHY], "rgb8", ImageOptions(cell=8))


def healthy_eye(reference: ImageReference, car: list[np.ndarray], until: int) -> ImageStatistics:
    statistics = ImageStatistics(ImageOptions(cell=8, reference=reference, quiet_for=300 * MS))
    assert alarms(statistics, car[until - 20 : until], until - 20) == {}
    return statistics


def test_a_healthy_drive_raises_nothing(car: list[np.ndarray], car_reference: ImageReference) -> None:
    """The 700 frames that the reference has not seen, 35 s of driving, raise no alarm."""
    assert len(car) == 1000
    statistics = ImageStatistics(ImageOptions(cell=8, reference=car_reference, quiet_for=300 * MS))
    assert alarms(statistics, car[HEALTHY:]) == {}


def darkened(frame: np.ndarray) -> np.ndarray:
    return (frame * 0.15).astype(np.uint8)


def blurred(frame: np.ndarray) -> np.ndarray:
    from PIL import Image, ImageFilter

    return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(2)))


def covered(frame: np.ndarray) -> np.ndarray:
    hidden = frame.copy()
    hidden[40:, 60:] = (25, 20, 15)
    return hidden


def dazzled(frame: np.ndarray) -> np.ndarray:
    return np.clip(frame.astype(np.int32) * 4, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [(darkened, "luminance_ratio"), (darkened, "contrast_ratio"), (blurred, "sharpness_ratio"), (covered, "occluded"),
     (dazzled, "saturated")],
)  # fmt: skip
@pytest.mark.parametrize("begin", [320, 500, 640, 780, 900])
def test_spoiled_frames_are_found_within_a_second(
    car: list[np.ndarray], car_reference: ImageReference, spoil: Callable[..., np.ndarray], finding: str, begin: int
) -> None:
    """Darkened, blurred, covered and dazzled frames raise their alarm within a second, wherever in the drive."""
    statistics = healthy_eye(car_reference, car, begin)
    raised = alarms(statistics, [spoil(frame) for frame in car[begin : begin + 21]], begin)
    assert raised.get(finding, 10**12) <= 1000 * MS


@pytest.mark.parametrize("begin", [320, 500, 640, 780, 900])
def test_a_frozen_camera_is_found_within_a_second(
    car: list[np.ndarray], car_reference: ImageReference, begin: int
) -> None:
    """A frame that is repeated raises exactly the alarm for that, after three repetitions."""
    statistics = healthy_eye(car_reference, car, begin)
    raised = alarms(statistics, [car[begin - 1]] * 20, begin)
    assert list(raised) == ["still_frames"]
    assert raised["still_frames"] <= 3 * PERIOD
