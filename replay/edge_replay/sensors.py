"""Reference files of cameras and lidars: medians over the frames of recordings in which all was well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_monitor import __version__, pictures
from edge_monitor.core.layout.definitions import LayoutError
from edge_monitor.core.messages import Batch, Channel, Damage, topic_key
from edge_monitor.core.perception.cloud import CloudReference, CloudStatistics
from edge_monitor.core.perception.image import ImageOptions, ImageReference, ImageStatistics
from edge_monitor.core.perception.stage import Statistics, statistics_of
from edge_monitor.core.samples import Cause
from edge_monitor.envelope import Envelope
from edge_monitor.envelope.named_files import NamedFile
from edge_monitor.envelope.sensors import SensorModel
from edge_monitor.errors import ConfigError
from edge_monitor.sensor_references import FORMAT, MEDIANS, SETTINGS, SensorReference

from . import readers
from .signals import file_digest

#: Frames kept for the medians: of more, every second, fourth, … one of a topic.
KEPT = 2000
#: Fewer frames than this say little of a sensor.
FEW = 100
#: Seen against the medians: what limits on ratios can be judged by.
RATIOS = {"luminance_ratio": "luminance", "contrast_ratio": "contrast", "sharpness_ratio": "laplacian_variance"}
SHARES = (0.0, 0.01, 0.5, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class MadeSensor:
    """A reference file of a sensor that was made, or why it could not be."""

    path: Path
    topic: str
    reference: SensorReference | None
    digest: str = ""
    problem: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        header = {} if self.reference is None else dict(self.reference.header)
        return {"file": str(self.path), "topic": self.topic, "sha256": self.digest, "problem": self.problem, **header}


def referenced(envelope: Envelope) -> dict[str, SensorModel]:
    """The sensors with a reference, by topic. Raises ``ConfigError``: two of them have one file."""
    sensors = {topic: one for topic, one in envelope.sensors.items() if one.referenced is not None}
    users: dict[str, str] = {}
    for topic, one in sensors.items():
        assert one.referenced is not None
        other = users.setdefault(one.referenced.name, topic)
        if other != topic:
            raise ConfigError(
                f"{envelope.source}: sensors.{topic}: has the reference of {other}, `{one.referenced.name}`: each sensor "
                "needs a file of its own"
            )
    return sensors


@dataclass(slots=True)
class _Frames:
    """Frames of one topic, thinned evenly as they become many: memory is bounded, and order decides nothing."""

    values: list[np.ndarray] = field(default_factory=list)
    cells: list[np.ndarray] = field(default_factory=list)
    step: int = 1
    count: int = 0
    refused: int = 0
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, values: np.ndarray, cells: np.ndarray) -> None:
        if self.count % self.step == 0:
            if len(self.values) == KEPT:
                self.values, self.cells, self.step = self.values[::2], self.cells[::2], 2 * self.step
            if self.count % self.step == 0:
                self.values.append(values.copy())
                self.cells.append(cells)
        self.count += 1


def make(
    logs: Sequence[Path],
    envelope: Envelope,
    out: Path,
    author: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[MadeSensor], Envelope, list[Damage]]:
    """Make the reference of every sensor that has one from ``logs`` and write it into ``out``.

    Also answers the envelope with these references in place, and the damage met. Raises ``DamagedInputError`` for a
    file that can't be read at all.
    """
    sensors = referenced(envelope)
    made: list[MadeSensor] = []
    damages: list[Damage] = []
    filled = dict(envelope.sensors)
    out.mkdir(parents=True, exist_ok=True)
    for topic, sensor in sensors.items():
        assert sensor.referenced is not None
        path = out / Path(sensor.referenced.name).name
        frames = _Frames()
        sources = []
        problem = ""
        for log in logs:
            before = frames.count
            for damage in _measure(log, topic, sensor, frames, progress):
                if isinstance(damage, str):
                    problem = problem or damage
                elif damage not in damages:
                    damages.append(damage)
            if frames.count > before:
                name = Path(log).name
                sources.append({"name": name, "sha256": file_digest(Path(log)), "frames": frames.count - before})
        try:
            reference = _fitted(topic, sensor, frames, sources, author)
        except ValueError as error:
            made.append(MadeSensor(path, topic, None, problem=problem or str(error)))
            continue
        digest = reference.save(path)
        reference = replace(reference, digest=digest, path=path)
        made.append(MadeSensor(path, topic, reference, digest))
        filled[topic] = sensor.model_copy(update={"reference": NamedFile(sensor.referenced.name, reference)})
    return made, replace(envelope, sensors=filled), damages


def _measure(
    log: Path, topic: str, sensor: SensorModel, frames: _Frames, progress: Callable[[int, int], None] | None
) -> Iterator[Damage | str]:
    """Measure the frames of one recording; yields its damage, and why a channel could not be measured."""
    options = replace(sensor.options(), reference=None)  # type: ignore[type-var]
    recording = readers.open(log, topics=[topic])
    measured: dict[int, Statistics] = {}
    for item in recording:
        if isinstance(item, Damage):
            yield item
        elif isinstance(item, Channel):
            if topic_key(item.topic, item.instance) != topic_key(topic, 0):
                continue
            found = statistics_of(item, options, pictures.decode if pictures.available() else None)
            if isinstance(found, LayoutError):
                yield str(found)
            else:
                measured[item.id] = found
        elif isinstance(item, Batch):
            data = item.data[:]
            data.flags.writeable = False
            for message in item.messages:
                statistics = measured.get(int(message["channel"]))
                if statistics is not None:
                    statistics.message(int(message["t"]), data, int(message["start"]), int(message["size"]))
                    _keep(statistics, frames)
        if progress is not None:
            progress(recording.position, recording.size)


def _keep(statistics: Statistics, frames: _Frames) -> None:
    if isinstance(statistics, ImageStatistics):
        if statistics.causes[0] != Cause.NONE:
            frames.refused += 1
        else:
            size = statistics.size
            frames.sizes[size] = frames.sizes.get(size, 0) + 1
            if statistics.causes[statistics.names.index("sad")] == Cause.NONE:  # the first has no predecessor
                frames.add(statistics.values, statistics.energy)
    elif isinstance(statistics, CloudStatistics):
        if statistics.causes[0] != Cause.NONE:
            frames.refused += 1
        else:
            frames.add(statistics.values, statistics.returns.astype(np.float64))


def _fitted(
    topic: str, sensor: SensorModel, frames: _Frames, sources: list[dict[str, Any]], author: str
) -> SensorReference:
    """The reference. Raises ``ValueError``: there is nothing to learn from."""
    if len(frames.sizes) > 1:
        listed = ", ".join(f"{width} x {height} ({count})" for (width, height), count in sorted(frames.sizes.items()))
        raise ValueError(f"frames of several sizes: {listed}; a reference is of one")
    if len(frames.values) < 2:
        refused = f"; {frames.refused} could not be measured" if frames.refused else ""
        raise ValueError(f"the recordings hold no two frames of {topic}{refused}")
    values, cells = np.array(frames.values), np.array(frames.cells)
    header: dict[str, Any] = {
        "format": FORMAT,
        "kind": sensor.kind,
        "topic": topic,
        "author": author,
        "made_by": f"edge-monitor {__version__}",
        "frames": frames.count,
        "refused": frames.refused,
        "sources": sources,
        **{name: getattr(sensor, name) for name in SETTINGS[sensor.kind]},
    }
    if sensor.kind == "point_cloud":
        returns = CloudReference.fit(cells).returns
        total = float(returns.sum())
        seen = {"return_ratio": _spread(cells.sum(axis=1) / total)} if total > 0 else {}
        return SensorReference({**header, "seen": seen}, returns)
    ((width, height),) = frames.sizes
    image = ImageReference.fit(width, height, values, cells)
    header |= {"width": width, "height": height, **{name: float(getattr(image, name)) for name in MEDIANS}}
    names = ImageStatistics.names
    header["seen"] = {
        ratio: _spread(values[:, names.index(value)] / header[value])
        for ratio, value in RATIOS.items()
        if header[value] > 0
    } | {name: _spread(values[:, names.index(name)]) for name in ("saturated", "still_frames")}
    ImageOptions(sensor.stride, sensor.cell, sensor.bits, 0, image)  # type: ignore[attr-defined]
    return SensorReference(header, image.energy)


def _spread(values: np.ndarray) -> list[float]:
    """Smallest, 1 %, median, 99 %, largest."""
    return [float(v) for v in np.quantile(values, SHARES)]
