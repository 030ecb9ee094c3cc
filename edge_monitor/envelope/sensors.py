"""The ``sensors`` section: what the statistics of a topic need to know about its sensor; and which statistics exist."""

from __future__ import annotations

import importlib
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import Discriminator, Field

from ..core.layout.definitions import short_name
from .fields import Duration, Model, PositiveDuration, Rate, Text
from .models import SignalModel
from .named_files import AS_DIGEST, AS_NAME, NamedFile, read_by
from .problems import Finding, nearest, shown

if TYPE_CHECKING:
    from ..core.perception.stage import Options
    from ..sensor_references import SensorReference

#: Statistics that nothing can be decided by (docs/checks/perception.md says why).
DISPLAY_ONLY = frozenset({"accuracy_estimate"})
#: Statistics against a reference of the healthy camera.
RELATIVE = frozenset({"luminance_ratio", "contrast_ratio", "sharpness_ratio", "occluded"})
#: Statistics of each listed class of a detector.
PER_CLASS = ("count", "share")


def _load(path: Path) -> SensorReference:
    """Imported when called, so that an envelope without sensors loads none of their kernels."""
    from ..sensor_references import load

    return load(path)


ReferenceFile = Annotated[
    NamedFile[Any], read_by(_load, "reference file such as `baselines/camera.npz`"), AS_DIGEST, AS_NAME
]


class SensorModel(Model):
    """One topic's sensor. ``types``: the messages that it may send; ``module``: where their statistics are."""

    types: ClassVar[tuple[str, ...]]
    module: ClassVar[str]
    names: ClassVar[str] = "NAMES"

    kind: str

    @property
    def referenced(self) -> NamedFile[Any] | None:
        """The file that its statistics are compared with, if it has one."""
        return getattr(self, "reference", None)

    @abstractmethod
    def options(self) -> Options:
        """The kernels' options. Raises ValueError: values that contradict each other."""

    def findings(self) -> Iterator[Finding]:
        """What is wrong between the fields."""
        reference = self.referenced
        if reference is not None and reference.content is not None:
            found = tuple(self._against_reference(reference.content))
            if found:
                yield from found
                return
        try:
            self.options()
        except ValueError as error:
            yield Finding((), str(error))

    def _against_reference(self, reference: SensorReference) -> Iterator[Finding]:
        """A reference of another kind of sensor, or measured in another way."""
        from ..sensor_references import SETTINGS

        if reference.kind != self.kind:
            yield Finding(("reference",), f"is the reference of a `{reference.kind}`")
            return
        for name in SETTINGS[self.kind]:
            made = reference.header[name]
            if made != getattr(self, name):
                yield Finding(
                    ("reference",), f"was made with `{name}: {made}`, not {getattr(self, name)}: calibrate anew"
                )

    def statistics(self) -> tuple[str, ...]:
        """Names of the statistics that there are."""
        return statistics(type(self))


class Camera(SensorModel):
    """Pictures, raw or compressed."""

    types = ("sensor_msgs/Image", "sensor_msgs/CompressedImage")
    module = "image"

    kind: Literal["camera"] = Field(description="pictures: `sensor_msgs/Image`, `sensor_msgs/CompressedImage`")
    stride: int = Field(1, description="every n-th pixel of every n-th row", ge=1, le=64)
    cell: int = Field(16, description="edge of a cell, in pixels that are looked at", ge=8, le=32)
    bits: int = Field(16, description="bits in use of 16-bit encodings", ge=8, le=16)
    quiet_for: Duration = Field(500_000_000, description="a cell without structure for so long is occluded")
    reference: ReferenceFile | None = Field(
        None, description="file made by `edge-replay calibrate`, for the statistics against the healthy camera"
    )

    def options(self) -> Options:
        from ..core.perception.image import ImageOptions

        content = self.reference.content if self.reference else None
        return ImageOptions(self.stride, self.cell, self.bits, self.quiet_for, content.image() if content else None)


class LaserScan(SensorModel):
    """A scanner in one plane."""

    types = ("sensor_msgs/LaserScan",)
    module = "scan"

    kind: Literal["laser_scan"] = Field(description="ranges in one plane: `sensor_msgs/LaserScan`")
    near: float = Field(3.0, description="m: nearer returns are clutter", gt=0)

    def options(self) -> Options:
        from ..core.perception.scan import ScanOptions

        return ScanOptions(self.near)


class PointCloud(SensorModel):
    """A lidar."""

    types = ("sensor_msgs/PointCloud2",)
    module = "cloud"

    kind: Literal["point_cloud"] = Field(description="a lidar's points: `sensor_msgs/PointCloud2`")
    near: float = Field(3.0, description="m: nearer returns are clutter", gt=0)
    least: int = Field(8, description="points that a cell must be expected to hold to be judged", ge=1, le=2**31 - 1)
    reference: ReferenceFile | None = Field(
        None, description="file made by `edge-replay calibrate`; clouds that are not organised need one"
    )

    def options(self) -> Options:
        from ..core.perception.cloud import CloudOptions

        content = self.reference.content if self.reference else None
        return CloudOptions(self.near, self.least, content.cloud() if content else None)


class Imu(SensorModel):
    """An inertial sensor."""

    types = ("sensor_msgs/Imu",)
    module = "inertial"

    kind: Literal["imu"] = Field(description="an inertial sensor: `sensor_msgs/Imu`")
    rate: Rate = Field(description="its nominal sampling rate")
    edges: Annotated[tuple[Rate, ...], Field(min_length=4, max_length=5)] | None = Field(
        None, description="band edges, rising; without the fifth the last band has no upper edge; 5, 20, 60, 150 Hz"
    )
    average: PositiveDuration = Field(1_000_000_000, description="time constant of the energies")
    clip: float = Field(152.0, description="m/s²: at or beyond it a sample counts as clipped", gt=0)
    gap: PositiveDuration = Field(250_000_000, description="after so long without a sample the filters start anew")

    def options(self) -> Options:
        from ..core.perception.inertial import InertialOptions

        given = self.edges or (5.0, 20.0, 60.0, 150.0)
        edges = given if len(given) == 5 else (*given, math.inf)
        return InertialOptions(self.rate, edges, self.average / 1e9, self.clip, self.gap / 1e9)


class Detections(SensorModel):
    """An object detector."""

    types = ("vision_msgs/Detection2DArray",)
    module = "detections"
    names = "FIXED"

    kind: Literal["detections"] = Field(description="an object detector: `vision_msgs/Detection2DArray`")
    classes: tuple[Text, ...] = Field((), description="classes with a `count.NAME` and a `share.NAME`", max_length=100)

    def options(self) -> Options:
        from ..core.perception.detections import DetectionOptions

        return DetectionOptions(self.classes)

    def statistics(self) -> tuple[str, ...]:
        return (*super().statistics(), *(f"{what}.{name}" for what in PER_CLASS for name in self.classes))


SENSOR_MODELS: tuple[type[SensorModel], ...] = (Camera, LaserScan, PointCloud, Imu, Detections)
#: Every kind of sensor by its name in the file.
KINDS: dict[str, type[SensorModel]] = {
    get_args(model.model_fields["kind"].annotation)[0]: model for model in SENSOR_MODELS
}
AnySensor = Annotated[Camera | LaserScan | PointCloud | Imu | Detections, Discriminator("kind")]


@cache
def statistics(model: type[SensorModel]) -> tuple[str, ...]:
    """The statistics of every sensor of a kind."""
    names: tuple[str, ...] = getattr(
        importlib.import_module(f"edge_monitor.core.perception.{model.module}"), model.names
    )
    return names


def bare(topic: str) -> str:
    """A topic as sensors and signals are matched by."""
    return topic.removeprefix("/")


def sensor_findings(sensors: Mapping[str, SensorModel]) -> Iterator[Finding]:
    """What is wrong with the sensors themselves."""
    seen: dict[str, str] = {}
    for topic, sensor in sensors.items():
        yield from (found.under(("sensors", topic)) for found in sensor.findings())
        if bare(topic) in seen:
            yield Finding(("sensors", topic), f"is the same topic as {shown(seen[bare(topic)])}")
        seen.setdefault(bare(topic), topic)


def statistic_findings(
    signals: Mapping[str, SignalModel], sensors: Mapping[str, SensorModel], declared: Mapping[str, Any]
) -> Iterator[Finding]:
    """Statistics that do not exist, or that the topic's sensor cannot give. ``declared``: the raw section: a sensor with
    a mistake of its own is there all the same."""
    by_topic = {bare(topic): sensor for topic, sensor in sensors.items()}
    broken = {bare(topic) for topic in declared} - set(by_topic)
    for name, signal in signals.items():
        if signal.statistic and bare(signal.topic) not in broken:
            found = _statistic(signal, by_topic.get(bare(signal.topic)))
            if found is not None:
                yield found.under(("signals", name))


def _statistic(signal: SignalModel, sensor: SensorModel | None) -> Finding | None:
    """What is wrong with one signal's statistic, or with its type as the sensor's."""
    type_ = short_name(signal.type) if signal.type else ""
    measured = tuple(t for model in SENSOR_MODELS for t in model.types)
    if type_ and type_ not in measured:
        return Finding(("type",), f"has no statistics: there are some of {', '.join(measured)}", type_, measured)
    if sensor is not None:
        if type_ and type_ not in sensor.types:
            return Finding(("type",), f"does not fit `sensors`, where {shown(signal.topic)} is `{sensor.kind}`")
        known, what = sensor.statistics(), f"`{sensor.kind}`"
    else:
        models = [model for model in SENSOR_MODELS if not type_ or type_ in model.types]
        known = tuple(dict.fromkeys(name for model in models for name in statistics(model)))
        what = type_ or "any sensor"
    wanted, (family, _, of_class) = signal.statistic, signal.statistic.partition(".")
    if wanted not in known:
        if of_class and family in PER_CLASS and (sensor is None or sensor.kind == "detections"):
            return Finding(("statistic",), f"needs {shown(of_class)} in the `classes` of the topic in `sensors`")
        listed = "" if nearest(wanted, known) else f": there are {', '.join(known)}"
        return Finding(("statistic",), f"{shown(wanted)} is no statistic of {what}{listed}", wanted, known)
    if (
        sensor is None
        and wanted in statistics(Imu)
        and not any(wanted in statistics(m) for m in SENSOR_MODELS if m != Imu)
    ):
        return Finding(("statistic",), "needs the sensor's rate: `sensors: {TOPIC: {kind: imu, rate: …}}`")
    if wanted in RELATIVE and (sensor is None or sensor.referenced is None):
        message = "needs a reference of the healthy camera: `sensors: {TOPIC: {kind: camera, reference: FILE}}`"
        return Finding(("statistic",), message)
    return None
