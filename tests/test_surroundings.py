"""From pictures in a recording to events: statistics as signals, the declared domain, and the matrix of what was seen."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mcap.writer import Writer
from rosbags.typesys import Stores, get_typestore

from edge_monitor import envelope as envelopes
from edge_monitor.core.messages import Batch, Channel
from edge_monitor.core.odd import Axis, names_of
from edge_monitor.events import Event
from edge_monitor.runtime import Monitor
from edge_replay import readers
from edge_replay.commands.run import command
from edge_replay.matrix import Matrix
from edge_replay.replay import Replay, replay
from edge_replay.signals import read

MS = 1_000_000
STORE = get_typestore(Stores.ROS2_JAZZY)
IMAGE, LIGHT = "sensor_msgs/msg/Image", "sensor_msgs/msg/Illuminance"
START = 1_700_000_000_000_000_000
FRAME = 100 * MS  #: between two frames
DARK, FROZEN, END = 30, 60, 100  #: the frame from which on it is dark; bright and frozen; how many there are
ENVELOPE = """
edge_monitor: 1
envelope: {id: camera, version: 1, vehicle: rover}
signals:
  brightness: {topic: /camera, statistic: luminance, unit: grey, max_age: 300 ms}
  still: {topic: /camera, statistic: still_frames, max_age: 300 ms}
  height: {topic: /camera, field: height, max_age: 300 ms}
  lux: {topic: /light, field: illuminance, unit: lx, max_age: 300 ms}
sensors:
  /camera: {kind: camera, cell: 8}
odd:
  illuminance: lux
  domain: {light: [day, artificial]}
  exit_after: 550 ms
  enter_after: 1 s
checks:
  bright: {kind: bounds, signal: brightness, min: 40 grey, fail_for: 200 ms}
  live: {kind: bounds, signal: still, max: 3}
  daylight: {kind: one_of, signal: odd_light, values: [day, artificial]}
  tall: {kind: bounds, signal: height, min: 32}
"""


def at(frame: int) -> int:
    """The time at which a frame was received; that of the light is half a frame later."""
    return START + frame * FRAME


def picture(frame: int) -> bytes:
    """A frame of noise: bright and changing, then dark, then bright and always the same."""
    rng = np.random.default_rng(frame if frame < FROZEN else 0)
    pixels = rng.integers(100, 200, (32, 48), np.uint8)
    if DARK <= frame < FROZEN:
        pixels //= 20
    stamp = STORE.types["builtin_interfaces/msg/Time"](*divmod(at(frame), 10**9))
    header = STORE.types["std_msgs/msg/Header"](stamp, "camera")
    message = STORE.types[IMAGE](header, 32, 48, "mono8", 0, 48, pixels.reshape(-1))
    return bytes(STORE.serialize_cdr(message, IMAGE))


def light(frame: int) -> bytes:
    """Illuminance: day, and night while it is dark."""
    stamp = STORE.types["builtin_interfaces/msg/Time"](*divmod(at(frame), 10**9))
    header = STORE.types["std_msgs/msg/Header"](stamp, "light")
    lux = 0.5 if DARK <= frame < FROZEN else 5000.0
    return bytes(STORE.serialize_cdr(STORE.types[LIGHT](header, lux, 0.0), LIGHT))


def write(path: Path) -> None:
    """The recording."""
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("ros2", "test")
        channels = {}
        for topic, kind in (("/camera", IMAGE), ("/light", LIGHT)):
            schema = writer.register_schema(kind, "ros2msg", STORE.generate_msgdef(kind, ros_version=2)[0].encode())
            channels[topic] = writer.register_channel(topic, "cdr", schema)
        for frame in range(END):
            t = at(frame)
            writer.add_message(channels["/camera"], t, picture(frame), t, frame)
            writer.add_message(channels["/light"], t + FRAME // 2, light(frame), t + FRAME // 2, frame)
        writer.finish()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("camera") / "camera.mcap"
    write(path)
    return path


@pytest.fixture(scope="module")
def result(recording: Path) -> Replay:
    return replay(recording, envelopes.loads(ENVELOPE.encode()), matrix=Matrix(mission="one"))


def times(result: Replay, kind: str, subject: str) -> list[int]:
    return [event.t_effective for event in result.events if (event.type, event.subject) == (kind, subject)]


def test_dark_and_frozen_pictures_fail_at_their_time(result: Replay) -> None:
    """A dark camera fails after its debounce, a frozen one at the fourth frame in a row that did not change."""
    assert times(result, "check.fail", "bright") == [at(DARK) + 200 * MS]
    assert times(result, "check.pass", "bright") == [at(0), at(FROZEN)]
    assert times(result, "check.fail", "live") == [at(FROZEN + 4)]
    assert times(result, "check.fail", "tall") == []
    assert result.monitor.problems == []


def test_domain_is_left_and_entered_at_the_exact_time(result: Replay) -> None:
    """Deadlines of the domain lie between messages and take effect there; the event says which axis is to blame."""
    first = FRAME // 2
    left, entered = at(DARK) + first + 550 * MS, at(FROZEN) + first + 1000 * MS
    assert times(result, "odd.enter", "odd") == [at(0) + first + 1000 * MS, entered]
    assert times(result, "odd.exit", "odd") == [left]
    (event,) = [event for event in result.events if event.type == "odd.exit"]
    assert event.payload["cause"] == "light night"
    assert event.payload["bins"]["light"] == "night"
    assert (event.payload["against"], event.payload["known"], event.severity) == (["light"], True, "marginal")
    assert event.t_decided >= event.t_effective


def test_bins_are_signals_with_named_states(result: Replay) -> None:
    """A check on a bin names its states, and its failure says which one it saw."""
    assert times(result, "check.fail", "daylight") == [at(DARK) + FRAME // 2]
    (event,) = [event for event in result.events if (event.type, event.subject) == ("check.fail", "daylight")]
    assert event.payload["state"] == "night"
    assert not [event for event in result.events if event.subject == ""]


def test_the_matrix_accounts_for_every_nanosecond(result: Replay) -> None:
    """Exposure is the recording's length, split where the light changed; breaches lie in the cell in which they began."""
    matrix = result.matrix
    assert matrix is not None and result.first is not None and result.last is not None
    assert matrix.exposure == result.last - result.first
    night = (FROZEN - DARK) * FRAME
    assert matrix.along(Axis.LIGHT) == {(-1,): FRAME // 2, (0,): night, (3,): result.last - at(0) - FRAME // 2 - night}
    breaches = {cell[Axis.LIGHT]: tally.breaches for cell, tally in matrix.cells.items()}
    assert breaches == {-1: 0, 0: 2, 3: 1}


def test_the_record_that_ends_a_run_tells_how_long_it_was_in_which_conditions(result: Replay) -> None:
    """The account is the matrix's exposure, cell by cell, with what is measured and declared; a breach names its conditions."""
    (stopped,) = [event for event in result.events if event.type == "monitor.stopped"]
    told = stopped.payload["odd"]
    assert (told["measured"], told["domain"], told["since_ns"]) == (["light"], {"light": ["artificial", "day"]}, at(0))
    assert result.matrix is not None
    assert {tuple(cell): ns for *cell, ns in told["cells"]} == {
        tuple(names_of(cell).values()): tally.exposure for cell, tally in result.matrix.cells.items() if tally.exposure
    }
    lights = {e.subject: e.payload["bins"]["light"] for e in result.events if e.type == "check.fail"}
    assert lights == {"bright": "night", "daylight": "night", "live": "day"}
    assert not any("bins" in event.payload for event in result.events if event.type == "check.pass")


def test_an_account_goes_on_from_a_snapshot(recording: Path, result: Replay) -> None:
    """Restored in the middle, another monitor's account at the end is the same."""
    monitor = Monitor(envelopes.loads(ENVELOPE.encode()))
    items = list(readers.open(recording, topics=["/camera", "/light"]))
    found: list[Event] = []
    for item in items:
        if not isinstance(item, Batch):
            found += monitor.feed(item)
            continue
        for k in range(len(item.messages)):
            found += monitor.feed(Batch(item.data, item.messages[k : k + 1]))
            whereabouts = monitor.decider.whereabouts
            kept = whereabouts.snapshot()
            whereabouts.account(monitor.now + 10**18)  # what is restored does not remember this
            whereabouts.restore(kept)
    assert found + monitor.finish() == result.events


@pytest.mark.parametrize("size", [1, 7])
def test_batches_may_be_cut_anywhere(recording: Path, result: Replay, size: int) -> None:
    """The same messages in other batches give the same events, the same state and the same matrix."""
    matrix = Matrix(mission="one")
    monitor = Monitor(envelopes.loads(ENVELOPE.encode()), matrix)
    found: list[Event] = []
    for item in readers.open(recording, topics=["/camera", "/light"]):
        if isinstance(item, Batch):
            for k in range(0, len(item.messages), size):
                found += monitor.feed(Batch(item.data, item.messages[k : k + size]))
        else:
            found += monitor.feed(item)
    found += monitor.finish()
    matrix.finish(monitor.now)
    assert found == result.events
    assert monitor.engine.digest() == result.monitor.engine.digest()
    assert result.matrix is not None and matrix.document() == result.matrix.document()


def test_after_a_clock_jump_nothing_is_known(recording: Path) -> None:
    """A step back counts all time before it and none twice; the domain is then left as not known to be inside."""
    text = ENVELOPE.replace("domain: {light: [day, artificial]}", "domain: {light: [night]}")
    matrix = Matrix()
    monitor = Monitor(envelopes.loads(text.encode()), matrix)
    back = 100_000 * MS
    found: list[Event] = []
    for item in readers.open(recording, topics=["/camera", "/light"]):
        if isinstance(item, Batch):
            messages = item.messages.copy()
            messages["t"] -= np.where(messages["t"] >= at(FROZEN), back, 0)
            item = Batch(item.data, messages)
        found += monitor.feed(item)
    found += monitor.finish()
    matrix.finish(monitor.now)
    assert len([event for event in found if event.type == "clock.jump"]) == 1
    before = at(FROZEN - 1) + FRAME // 2 - at(0)
    after = at(END - 1) + FRAME // 2 - at(FROZEN)
    assert matrix.exposure == before + after
    # By day it is outside, at night inside; the jump makes everything unknown, and then comes a day, which is outside.
    assert [(event.type, event.t_effective) for event in found if event.subject == "odd"] == [
        ("odd.exit", at(0) + FRAME // 2 + 550 * MS),
        ("odd.enter", at(DARK) + FRAME // 2 + 1000 * MS),
        ("odd.exit", at(FROZEN) - back + 550 * MS),
    ]


def test_run_shows_the_matrix(recording: Path, tmp_path: Path) -> None:
    """`--matrix` prints the cells after the summary and adds them to the document; without `odd` it is refused."""
    file = tmp_path / "camera.yaml"
    file.write_text(ENVELOPE)
    runner = CliRunner(env={"COLUMNS": "200"})  # a narrow table folds its words
    shown = runner.invoke(command, [str(recording), "-e", str(file), "--matrix"], standalone_mode=False)
    assert "What the sensors saw" in shown.output
    assert "seen-outside-envelope" in shown.output
    assert "coverage 0 %" in shown.output
    run = CliRunner().invoke(command, [str(recording), "-e", str(file), "--matrix", "--json"], standalone_mode=False)
    document = json.loads(run.stdout)["matrix"]
    assert document["exposure_ns"] == sum(cell["exposure_ns"] for cell in document["cells"])
    assert document["cells"][0]["missions"] == ["camera.mcap"]
    plain = tmp_path / "plain.yaml"
    start, end = ENVELOPE.index("odd:\n"), ENVELOPE.index("checks:")
    plain.write_text(
        (ENVELOPE[:start] + ENVELOPE[end:]).replace(
            "signal: odd_light, values: [day, artificial]", "signal: lux, values: [1]"
        )
    )
    refused = CliRunner().invoke(command, [str(recording), "-e", str(plain), "--matrix"], standalone_mode=False)
    assert "has no section `odd`" in str(refused.exception)


def test_a_topic_that_mimics_an_instance_gives_no_brightness(recording: Path) -> None:
    """A channel called `/camera[0]` is the camera to extractor and statistics alike, never a message that counts as 1."""
    monitor = Monitor(envelopes.loads(ENVELOPE.encode()))
    found: list[Event] = []
    for item in readers.open(recording, topics=["/camera"]):
        if isinstance(item, Channel):
            item = replace(item, topic="/camera[0]")
        found += monitor.feed(item)
    found += monitor.finish()
    assert [event.t_effective for event in found if (event.type, event.subject) == ("check.fail", "bright")] == [
        at(DARK) + 200 * MS
    ]


def test_calibration_sees_statistics_as_the_monitor_does(recording: Path) -> None:
    """The series that drift references are made of hold the statistic, one value a frame, not the frames' presence."""
    (series,) = read([recording], envelopes.loads(ENVELOPE.encode()), {"brightness": ""}).series["brightness"]
    assert series.t.tolist() == [at(frame) for frame in range(END)]
    assert (series.x[:DARK] > 140).all() and (series.x[DARK:FROZEN] < 10).all() and (series.x[FROZEN:] > 140).all()


def test_without_statistics_nothing_is_imported() -> None:
    """A monitor whose envelope has no statistic and no domain loads neither kernels nor decoder."""
    text = """
edge_monitor: 1
envelope: {id: x, version: 1, vehicle: x}
signals: {v: {topic: /v, max_age: 1 s}}
checks: {c: {kind: stale, signal: v, max: 1 s}}
"""
    code = (
        "import sys; from edge_monitor import envelope, runtime\n"
        f"runtime.Monitor(envelope.loads({text.encode()!r}))\n"
        "print([name for name in sys.modules if 'perception' in name or name.split('.')[0] == 'PIL'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
