"""``Perception``: puts the statistics of sensor messages into the samples that stand for them.

A signal that names a statistic has no field; to the extractor it is the presence of a message, which gives one sample
a message at its place in the instant. This stage measures the message and writes value and cause into that sample, so
that statistics and plain fields of one message are one instant, and nothing downstream can tell them apart.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..layout.definitions import SEQUENCE, SIZES, Definition, LayoutError, short_name
from ..layout.extractor import Problem
from ..layout.formats import parse
from ..messages import Batch, Channel, topic_key
from ..samples import FLAG_CAUSE, FLAG_END, SAMPLE, UNSEEN, Cause
from .cloud import CloudOptions, CloudStatistics
from .compressed import CompressedImageStatistics, Decoder
from .detections import DetectionOptions, DetectionStatistics
from .image import ImageOptions, ImageStatistics
from .inertial import InertialOptions, InertialStatistics
from .scan import ScanOptions, ScanStatistics
from .statistics import SILENT, Statistics

Options = ImageOptions | ScanOptions | CloudOptions | InertialOptions | DetectionOptions
JUMP = 1_000_000_000  #: ns that time must step back for a stream to start anew (SEMANTICS §1)

_NINE = "float64[9]"
#: What each type's bytes must be for its kernel (H: std_msgs/Header), and what measures it.
_KINDS: dict[str, tuple[str, type[Any], Callable[..., Statistics]]] = {
    "sensor_msgs/Image": ("H uint32 uint32 string uint8 uint32 uint8*", ImageOptions, ImageStatistics),
    "sensor_msgs/CompressedImage": ("H string uint8*", ImageOptions, CompressedImageStatistics),
    "sensor_msgs/LaserScan": ("H" + " float32" * 7 + " float32* float32*", ScanOptions, ScanStatistics),
    "sensor_msgs/PointCloud2": (
        "H uint32 uint32 (string uint32 uint8 uint32)* uint8 uint32 uint32 uint8* uint8", CloudOptions, CloudStatistics,
    ),
    "sensor_msgs/Imu": (
        f"H{' float64' * 4} {_NINE}{' float64' * 3} {_NINE}{' float64' * 3} {_NINE}", InertialOptions,
        InertialStatistics,
    ),
    "vision_msgs/Detection2DArray": (
        f"H (H (string{' float64' * 8} float64[36])*{' float64' * 5} string)*", DetectionOptions, DetectionStatistics,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Want:
    """A signal that is a statistic: its index among the signals, its topic, the statistic's name, the declared type."""

    signal: int
    topic: str
    statistic: str
    type: str | None = None


class Perception:
    """Measures the messages of the topics that ``wants`` name and fills in their samples.

    ``options`` by topic; ``decode`` turns the bytes of a compressed picture into pixels (the core has no decoder).
    """

    def __init__(
        self, wants: Sequence[Want], options: Mapping[str, Options] | None = None, decode: Decoder | None = None
    ) -> None:
        self._wants = sorted(wants, key=lambda want: want.signal)
        self._options = {topic_key(topic, 0): value for topic, value in (options or {}).items()}
        self._decode = decode
        self._sensors: dict[int, _Sensor] = {}
        self._problems: list[Problem] = []
        self._mine = np.zeros(max((want.signal for want in wants), default=-1) + 1, np.bool_)
        self._mine[[want.signal for want in wants]] = True

    def add_channel(self, channel: Channel) -> list[Problem]:
        """Prepare for a channel (kernels are compiled here); a problem for each statistic that can't be had from it."""
        self._sensors.pop(channel.id, None)
        topic = topic_key(channel.topic, channel.instance)
        mine = [
            want
            for want in self._wants
            if topic_key(want.topic, 0) == topic
            and (want.type is None or short_name(want.type) == short_name(channel.type))
        ]
        if not mine:
            return []
        problems: list[Problem] = []
        statistics = self._statistics(channel)
        slots = []
        for want in mine:
            if isinstance(statistics, LayoutError):
                problems.append(Problem(want.signal, statistics.cause, f"{want.statistic}: {statistics}"))
                continue
            if want.statistic not in statistics.names:
                known = ", ".join(statistics.names)
                message = f"{channel.topic} has no statistic {want.statistic}; {channel.type} has {known}"
                problems.append(Problem(want.signal, Cause.INVALID, message))
                slots.append(-1)
            else:
                slots.append(statistics.names.index(want.statistic))
        if isinstance(statistics, LayoutError):
            self._sensors[channel.id] = _Sensor(channel.topic, None, [-1] * len(mine), statistics.cause)
        else:
            statistics.warm()
            self._sensors[channel.id] = _Sensor(channel.topic, statistics, slots, Cause.INVALID)
        return problems

    def fill(self, batch: Batch, samples: np.ndarray) -> np.ndarray:
        """Write statistics into ``samples``, the extractor's (SAMPLE rows, changed in place) for the same ``batch``.

        Returns them, without those that a message has nothing to say about.
        """
        channels = batch.messages["channel"]
        of = [number for number in self._sensors if (channels == number).any()]
        if not of or not len(samples):
            return samples
        signals = samples["signal"]
        inside = signals < len(self._mine)
        rows = np.flatnonzero(inside & self._mine[np.where(inside, signals, 0)]).tolist()
        data = batch.data[:]
        data.flags.writeable = False
        silent: list[int] = []
        at = 0
        for number in np.flatnonzero(np.isin(channels, of)).tolist():
            message = batch.messages[number]
            sensor = self._sensors[int(message["channel"])]
            sensor.measure(data, message)
            if sensor.problem and not sensor.told:
                sensor.told = True
                signal = int(signals[rows[at]])
                self._problems.append(Problem(signal, Cause.DEPENDENCY, f"{sensor.topic}: {sensor.problem}"))
            for slot in sensor.slots:
                row = rows[at]
                at += 1
                cause = int(sensor.cause) if slot < 0 else int(sensor.causes[slot])
                if cause == SILENT:
                    silent.append(row)
                    continue
                flags = int(samples["flags"][row])
                if cause and not flags & FLAG_CAUSE:
                    flags |= cause
                samples["flags"][row] = flags
                samples["value"][row] = np.nan if cause else sensor.values[slot]
        return _without(samples, silent) if silent else samples

    def problems(self) -> list[Problem]:
        """What messages have shown to be wrong since the last call, once a channel; their samples say it as well."""
        found, self._problems = self._problems, []
        return found

    def reset(self) -> None:
        """Start anew in every sensor."""
        for sensor in self._sensors.values():
            sensor.reset()

    def snapshot(self) -> bytes:
        """State of all sensors, in the order of their channels; for :meth:`restore` after the same ``add_channel``."""
        parts = [self._sensors[number].snapshot() for number in sorted(self._sensors)]
        return b"".join(struct.pack("<q", len(part)) + part for part in parts)

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot. Raises ValueError: the channels or options were others."""
        at = 0
        for number in sorted(self._sensors):
            (size,) = struct.unpack_from("<q", snapshot, at) if len(snapshot) >= at + 8 else (-1,)
            if size < 0:
                raise ValueError("snapshot holds fewer sensors than there are channels")
            self._sensors[number].restore(snapshot[at + 8 : at + 8 + size])
            at += 8 + size
        if at != len(snapshot):
            raise ValueError("snapshot holds more sensors than there are channels")

    def _statistics(self, channel: Channel) -> Statistics | LayoutError:
        return statistics_of(channel, self._options.get(topic_key(channel.topic, channel.instance)), self._decode)


def statistics_of(channel: Channel, options: Options | None, decode: Decoder | None) -> Statistics | LayoutError:
    """What measures the messages of a channel, or why nothing can; ``options``: of its topic, None for the defaults."""
    name = short_name(channel.type)
    if name not in _KINDS:
        known = ", ".join(sorted(_KINDS))
        return LayoutError(f"no statistics of {channel.type}; there are some of {known}", Cause.TYPE_MISMATCH)
    signature, kind, make = _KINDS[name]
    try:
        definition = parse(channel)
    except LayoutError as error:
        return error
    if channel.encoding not in ("cdr", "ros1") or describe(definition, definition.root) != signature:
        message = f"{channel.topic}: the recording defines {channel.type} differently from what is measured"
        return LayoutError(message, Cause.TYPE_MISMATCH)
    if options is None and kind is not InertialOptions:
        options = kind()
    if not isinstance(options, kind):
        wanted = "an imu's nominal rate" if kind is InertialOptions else f"options for {channel.type}"
        return LayoutError(f"{channel.topic}: {wanted} must be declared", Cause.DEPENDENCY)
    ros1 = channel.encoding == "ros1"
    if make is CompressedImageStatistics:
        if decode is None:
            return LayoutError(
                f"{channel.topic}: no decoder for compressed pictures (install the extra `camera`)",
                Cause.DEPENDENCY,
            )
        return make(options, decode, ros1=ros1)
    return make(options, ros1=ros1)


class _Sensor:
    """One channel: its statistics and which of them each of its samples carries (-1: none, ``cause`` says why)."""

    def __init__(self, topic: str, statistics: Statistics | None, slots: Sequence[int], cause: Cause) -> None:
        self.topic = topic
        self.told = False  # its problem
        self.statistics = statistics
        self.slots = slots
        self.cause = cause
        self.values = np.zeros(0) if statistics is None else statistics.values
        self.causes = np.zeros(0, np.int32) if statistics is None else statistics.causes
        self._last = np.full(1, UNSEEN, np.int64)

    @property
    def problem(self) -> str:
        return "" if self.statistics is None else self.statistics.problem

    def measure(self, data: np.ndarray, message: np.void) -> None:
        if self.statistics is None:
            return
        t = int(message["t"])
        last = int(self._last[0])
        if last != UNSEEN and t < last - JUMP:
            self.statistics.reset()
        self._last[0] = t
        self.statistics.message(t, data, int(message["start"]), int(message["size"]))

    def reset(self) -> None:
        self._last[0] = UNSEEN
        if self.statistics is not None:
            self.statistics.reset()

    def snapshot(self) -> bytes:
        return self._last.tobytes() + (b"" if self.statistics is None else self.statistics.snapshot())

    def restore(self, snapshot: bytes) -> None:
        if len(snapshot) < 8 or (self.statistics is None and len(snapshot) > 8):
            raise ValueError("snapshot of another kind of sensor")
        if self.statistics is not None:
            self.statistics.restore(snapshot[8:])
        self._last[:] = np.frombuffer(snapshot, np.int64, 1)


def describe(definition: Definition, name: str) -> str:
    """The types that a message's bytes are made of, in order; headers are ``H``, lists end with ``*``."""
    words = []
    for item in definition.types[name]:
        if item.type == "std_msgs/Header":
            word = "H"
        elif item.type in SIZES or item.type in ("string", "wstring"):
            word = {"bool": "uint8", "char": "uint8"}.get(item.type, item.type)
        else:
            word = describe(definition, item.type)
        if item.length == SEQUENCE:
            words.append(f"({word})*" if " " in word else f"{word}*")
        elif item.length is not None:
            words.append(f"{word}[{item.length}]")
        else:
            words.append(word)
    return " ".join(words)


def _without(samples: np.ndarray, silent: Sequence[int]) -> np.ndarray:
    """``samples`` without the rows ``silent``; an END that one of them carried moves to the row before it."""
    keep = np.ones(len(samples), np.bool_)
    for row in silent:
        keep[row] = False
        before = row - 1
        while before >= 0 and not keep[before]:
            before -= 1
        flags = samples["flags"]
        if flags[row] & FLAG_END and before >= 0:
            flags[before] |= FLAG_END  # where the row before ends a message of its own, this changes nothing
    return samples[keep].astype(SAMPLE, copy=False)
