"""Statistics, sensors and the operational domain as an envelope declares them, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edge_monitor.core.odd import NOWHERE, VIBRATION_EDGES, Axis
from edge_monitor.core.perception import detections, image
from edge_monitor.core.perception.inertial import InertialOptions
from edge_monitor.core.perception.stage import Perception, Want
from edge_monitor.envelope import Envelope, EnvelopeError, loads
from edge_monitor.envelope.sensors import DISPLAY_ONLY, KINDS, RELATIVE, statistics

HEAD = """edge_monitor: 1
envelope: {id: t, version: 1, vehicle: rover}
signals:
  bright: {topic: /camera, statistic: luminance, unit: grey, max_age: 300 ms}
  shake: {topic: /imu, statistic: vibration, unit: m/s2, max_age: 1 s}
  person: {topic: /objects, statistic: count.person, max_age: 1 s}
  rain: {topic: /rain, field: rate, unit: mm/h, max_age: 10 s}
  sight: {topic: /sight, field: range, unit: m, max_age: 2 s}
"""
SENSORS = """sensors:
  /camera: {kind: camera, stride: 2}
  imu: {kind: imu, rate: 200 Hz, gap: 100 ms}
  /objects: {kind: detections, classes: [person, car]}
"""
ODD = """odd:
  rain: rain
  visibility: sight
  vibration: shake
  vehicle: multirotor
  domain: {weather: [clear, light_rain], vibration: [low]}
  enter_after: 2 s
"""
CHECKS = """checks:
  a: {kind: bounds, signal: bright, min: 40 grey}
  b: {kind: bounds, signal: person, max: 3}
  c: {kind: equals, signal: odd_weather, value: clear}
"""


def read(text: str) -> Envelope:
    return loads(text.encode(), source="e")


def problems(text: str) -> list[str]:
    with pytest.raises(EnvelopeError) as error:
        read(text)
    return [str(problem) for problem in error.value.problems]


def test_a_whole_file_is_lowered() -> None:
    """Options are in the kernels' units, bins are signals in the order of names, the domain is in numbers."""
    envelope = read(HEAD + SENSORS + ODD + CHECKS)
    assert envelope.warnings == ()
    assert envelope.sensors["/camera"].options() == image.ImageOptions(stride=2)
    rates = (5.0, 20.0, 60.0, 150.0, math.inf)
    assert envelope.sensors["imu"].options() == InertialOptions(200.0, rates, gap=0.1)
    assert envelope.sensors["/objects"].options() == detections.DetectionOptions(("person", "car"))
    names = [signal.name for signal in envelope.signals]
    assert names == ["bright", "odd_vibration", "odd_weather", "person", "rain", "shake", "sight"]
    weather = envelope.signals[2]
    assert (weather.topic, weather.watch, weather.max_age) == ("", "change", 2_000_000_000)
    assert dict(weather.values)["low_visibility"] == 4.0
    assert [(spec.axis, spec.signal, spec.inputs) for spec in envelope.bins] == [
        (Axis.WEATHER, 2, (4, 6)),
        (Axis.VIBRATION, 1, (5,)),
    ]
    assert envelope.bins[0].max_age == (10_000_000_000, 2_000_000_000)
    assert envelope.bins[1].edges == VIBRATION_EDGES["multirotor"]
    assert envelope.odd is not None
    assert envelope.odd.allowed == {Axis.WEATHER: frozenset({0, 1}), Axis.VIBRATION: frozenset({0})}
    assert envelope.odd.against(NOWHERE) == (Axis.WEATHER, Axis.VIBRATION)
    assert (envelope.odd.exit_after, envelope.odd.enter_after) == (1_000_000_000, 2_000_000_000)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "statistic: luminance",
            "statistic: luminence",
            "e:4:39: signals.bright.statistic: `luminence` is no statistic of `camera` (did you mean `luminance`?)",
        ),
        (
            "statistic: luminance",
            "statistic: luminance, field: data",
            "e:4:57: signals.bright.field: is not possible with `statistic`, which is made of the whole message",
        ),
        (
            "statistic: luminance",
            "type: sensor_msgs/Imu, statistic: luminance",
            "e:4:34: signals.bright.type: does not fit `sensors`, where `/camera` is `camera`",
        ),
        (
            "statistic: luminance",
            "statistic: occluded",
            (
                "e:4:39: signals.bright.statistic: needs a reference of the healthy camera: "
                "`sensors: {TOPIC: {kind: camera, reference: FILE}}`"
            ),
        ),
        (
            "  imu: {kind: imu, rate: 200 Hz, gap: 100 ms}\n",
            "",
            "e:5:35: signals.shake.statistic: needs the sensor's rate: `sensors: {TOPIC: {kind: imu, rate: …}}`",
        ),
        (
            "[person, car]",
            "[car]",
            "e:6:40: signals.person.statistic: needs `person` in the `classes` of the topic in `sensors`",
        ),
        (
            "rate: 200 Hz",
            "rate: 200",
            "e:11:26: sensors.imu.rate: expected a rate such as `50 Hz` (with its unit), got `200`",
        ),
        (
            "rate: 200 Hz",
            "rate: 10 Hz",
            "e:11:8: sensors.imu: imu: a rate of 10 Hz cannot show bands from 5 Hz up",
        ),
        (
            "kind: camera",
            "kind: camra",
            (
                "e:10:19: sensors./camera.kind: there is no kind of sensor `camra`: one of camera, laser_scan, "
                "point_cloud, imu, detections (did you mean `camera`?)"
            ),
        ),
        ("stride: 2", "strid: 2", "e:10:27: sensors./camera.strid: unknown field (did you mean `stride`?)"),
        (
            "  imu: {kind",
            "  camera: {kind: camera}\n  imu: {kind",
            "e:11:11: sensors.camera: is the same topic as `/camera`",
        ),
        ("rain: rain\n", "rain: rian\n", "e:14:9: odd.rain: no signal is named `rian` (did you mean `rain`?)"),
        (
            "visibility: sight",
            "visibility: rain",
            "e:15:15: odd.visibility: needs a signal with `unit: m`; `rain` has `mm/h`",
        ),
        (
            "[clear, light",
            "[claer, light",
            (
                "e:18:22: odd.domain.weather[0]: there is no bin `claer` of weather: one of clear, light_rain, rain, "
                "heavy_rain, low_visibility (did you mean `clear`?)"
            ),
        ),
        (
            "vibration: [low]",
            "light: [day]",
            "e:18:49: odd.domain.light: can never be known: `odd` needs `illuminance`, the signal to tell it by",
        ),
        ("value: clear", "value: cloudy", "e:23:49: checks.c.value: signal `odd_weather` has no state `cloudy`"),
    ],
)
def test_mistakes_are_told_with_their_place(old: str, new: str, expected: str) -> None:
    """One mistake gives one line, with file, line, column, and the nearest right name where there is one."""
    text = HEAD + SENSORS + ODD + CHECKS
    assert text.count(old) == 1
    assert problems(text.replace(old, new)) == [expected]


def test_display_only_statistics_decide_nothing() -> None:
    """A check or a domain over the estimate of accuracy is refused."""
    text = HEAD.replace("count.person", "accuracy_estimate") + SENSORS + ODD + CHECKS
    message = "`person` is a `accuracy_estimate`: for display only, not to decide by"
    assert problems(text) == [f"e:22:29: checks.b.signal: {message}"]


def test_names_and_warnings_of_bins() -> None:
    """A signal may not have the name of a bin; sensors without a statistic are a warning, inputs of bins are none."""
    text = HEAD + SENSORS + ODD + CHECKS
    found = problems(text.replace("  rain: {", "  odd_light: {topic: /x, max_age: 1 s}\n  rain: {"))
    assert found == ["e:7:3: signals.odd_light: is the name of a signal that `odd` makes"]
    warned = read(text.replace("  imu: {", "  /scan: {kind: laser_scan}\n  imu: {")).warnings
    assert warned == ("e:11:3: sensors./scan: no signal is a statistic of this topic",)


def test_digest_covers_what_was_added_and_nothing_else() -> None:
    """A file without the sections has the digest that it always had; each change in them gives another one."""
    bare = HEAD.split("  bright")[0] + "  v: {topic: /v, max_age: 1 s}\n"
    plain = bare + "checks: {c: {kind: stale, signal: v, max: 1 s}}\n"
    assert read(plain).digest == read(plain + "sensors: {}\n").digest
    text = HEAD + SENSORS + ODD + CHECKS
    changed = [
        text,
        text.replace("stride: 2", "stride: 3"),
        text.replace("enter_after: 2 s", "enter_after: 3 s"),
        text.replace("vehicle: multirotor", "vehicle: ground"),
        text.replace("statistic: luminance", "statistic: contrast"),
    ]
    assert len({read(one).digest for one in changed}) == len(changed)
    assert read(text).digest == read(text.replace("gap: 100 ms", "gap: 0.1 s, clip: 152")).digest


def test_the_envelope_knows_the_statistics_that_the_kernels_have() -> None:
    """Names that are refused, or need a reference, exist; every kind's messages are some that are measured."""
    assert DISPLAY_ONLY == detections.DISPLAY_ONLY
    assert {image.NAMES[i] for i in image.RELATIVE} == RELATIVE
    assert statistics(KINDS["camera"]) == image.NAMES
    measured: dict[str, Any] = Perception([Want(0, "/x", "y")])._statistics.__globals__["_KINDS"]
    assert {name for model in KINDS.values() for name in model.types} == set(measured)
