"""The recorded survey flight is what its script makes, and shows every incident that its ground truth states."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from mcap.reader import make_reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

SCENARIOS = Path(__file__).resolve().parent.parent / "replay" / "scenarios"
RECORDING = SCENARIOS / "survey_flight.mcap"
TRUTH = json.loads((SCENARIOS / "survey_flight.expected.json").read_text())
START = TRUTH["start_ns"]
RATES = {"/imu": 25, "/odom": 10, "/airspeed": 10, "/fix": 5, "/fix_velocity": 5, "/battery": 1}
AUTHORITY = {"MANUAL": "human", "AUTO_MISSION": "autonomy", "AUTO_RTL": "autonomy", "AUTO_LAND": "autonomy"}


@dataclass(frozen=True)
class Row:
    """One message: receive time and source stamp in seconds since the start, and the decoded message."""

    t: float
    stamp: float
    message: Any


def read(path: Path) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """All messages by topic, decoded by the definitions in the file alone, and the file's metadata."""
    topics: dict[str, list[Row]] = {}
    store = get_typestore(Stores.EMPTY)
    known: set[int] = set()
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        metadata = next(iter(reader.iter_metadata())).metadata
        for schema, channel, message in reader.iter_messages(log_time_order=False):
            assert schema is not None and (schema.encoding, channel.message_encoding) == ("ros2msg", "cdr")
            if schema.id not in known:
                known.add(schema.id)
                store.register(get_types_from_msg(schema.data.decode(), schema.name))
            decoded = store.deserialize_cdr(message.data, schema.name)
            row = Row((message.log_time - START) / 1e9, (message.publish_time - START) / 1e9, decoded)
            topics.setdefault(channel.topic, []).append(row)
    return topics, metadata


@pytest.fixture(scope="module")
def flight() -> dict[str, list[Row]]:
    """The committed recording, decoded once."""
    return read(RECORDING)[0]


def truth(what: str) -> list[dict[str, Any]]:
    """The stated incidents of one kind, in order."""
    found = [item for item in TRUTH["injected"] if item["what"] == what]
    assert found, what
    return found


def between(rows: list[Row], start: float, end: float) -> list[Row]:
    """The rows stamped from ``start`` to ``end`` (s), both included."""
    return [row for row in rows if start - 1e-6 <= row.stamp <= end + 1e-6]


def changes(rows: list[Row]) -> list[tuple[float, Any]]:
    """When a state topic first had each of its values in turn."""
    found: list[tuple[float, Any]] = []
    for row in rows:
        if not found or found[-1][1] != row.message.data:
            found.append((row.t, row.message.data))
    return found


def test_recording_is_what_the_script_makes(tmp_path: Path) -> None:
    """The script, run with the recorded seed and the recorded versions of its tools, gives the committed bytes."""
    metadata = read(RECORDING)[1]
    for name in sorted(metadata.keys() - {"name", "seed"}):
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = "not installed"
        if installed != metadata[name]:
            pytest.skip(f"the recording was made with {name} {metadata[name]}; here it is {installed}")
    again = tmp_path / "again.mcap"
    command = [sys.executable, str(SCENARIOS / "survey_flight.py"), str(again), "--seed", metadata["seed"]]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert again.read_bytes() == RECORDING.read_bytes()
    assert (metadata["seed"], metadata["jsbsim"]) == (str(TRUTH["seed"]), TRUTH["jsbsim"])


def test_recording_is_small_indexed_zstd_mcap() -> None:
    """The file is at most 1 MB of zstd chunks in profile ros2, with a summary that counts its messages."""
    assert RECORDING.stat().st_size <= 1_000_000
    with RECORDING.open("rb") as stream:
        reader = make_reader(stream)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        assert {chunk.compression for chunk in summary.chunk_indexes} == {"zstd"}
        assert len(summary.chunk_indexes) > 4
        assert summary.statistics.message_count == sum(1 for _ in reader.iter_messages())


def test_receive_times_are_in_order_and_stamps_before_them(flight: dict[str, list[Row]]) -> None:
    """Messages are stored as they arrived, each later than its stamp, which equals the stamp in its header."""
    for topic, rows in flight.items():
        assert all(a.t <= b.t for a, b in pairwise(rows)), topic
        assert all(0 < row.t - row.stamp < 0.3 for row in rows), topic
        for row in rows:
            if hasattr(row.message, "header"):
                stamp = row.message.header.stamp
                assert (stamp.sec * 10**9 + stamp.nanosec - START) / 1e9 == row.stamp
    assert max(rows[-1].t for rows in flight.values()) == pytest.approx(TRUTH["duration_s"], abs=0.05)


@pytest.mark.parametrize(("topic", "rate"), RATES.items())
def test_sensor_topics_keep_their_rate(flight: dict[str, list[Row]], topic: str, rate: int) -> None:
    """Every sensor samples at its rate from start to end, except for odometry in the stated dropout."""
    stamps = sorted(row.stamp for row in flight[topic])
    gaps = [(a, b) for a, b in pairwise(stamps) if abs(b - a - 1 / rate) > 1e-6]
    if topic == "/odom":
        (dropout,) = truth("radio_dropout")
        assert len(gaps) == 1
        assert gaps[0] == pytest.approx((dropout["t_s"], dropout["until_s"]), abs=0.01)
    else:
        assert gaps == []


def test_late_odometry_arrives_when_stated(flight: dict[str, list[Row]]) -> None:
    """Exactly the stated odometry messages are later than 100 ms, and the second is overtaken by younger ones."""
    late = [row for row in flight["/odom"] if row.t - row.stamp > 0.1]
    assert [row.t for row in late] == pytest.approx([item["t_s"] for item in truth("late_message")], abs=0.001)
    before = [row.stamp for row in flight["/odom"] if row.t < late[1].t]
    assert max(before) - late[1].stamp == pytest.approx(0.2)


def test_airspeed_freezes_sinks_and_becomes_nan_when_stated(flight: dict[str, list[Row]]) -> None:
    """The pitot reading is constant, then sinks away from the speed over ground, then is NaN, and only then."""
    (frozen,), (sinking,), (invalid,) = truth("airspeed_frozen"), truth("airspeed_sinking"), truth("airspeed_nan")
    rows = flight["/airspeed"]
    healthy = {row.message.twist.linear.x for row in between(rows, frozen["t_s"] - 2.0, frozen["t_s"] - 0.1)}
    held = {row.message.twist.linear.x for row in between(rows, frozen["t_s"] - 0.1, frozen["until_s"])}
    assert (len(healthy) > 10, held) == (True, {44.28125})
    assert len(between(rows, frozen["t_s"], frozen["until_s"])) == 61
    speeds = [row.message.twist.linear.x for row in between(rows, sinking["t_s"], sinking["until_s"])]
    steps = [b - a for a, b in pairwise(speeds)]
    assert len(steps) > 110 and max(abs(step + 0.2) for step in steps) <= 1 / 64
    over_ground = between(flight["/fix_velocity"], sinking["until_s"] - 1, sinking["until_s"])
    assert all(math.hypot(r.message.twist.twist.linear.x, r.message.twist.twist.linear.y) > 40 for r in over_ground)
    nan = [row.stamp for row in rows if math.isnan(row.message.twist.linear.x)]
    assert nan == [row.stamp for row in between(rows, invalid["t_s"], invalid["until_s"])]
    assert len(nan) == 140


def test_modes_change_when_stated(flight: dict[str, list[Row]]) -> None:
    """The mode, the failsafe and the armed state change at the stated times and at no other."""
    modes = [(item["t_s"], item["value"]) for item in truth("mode")]
    assert [value for _, value in changes(flight["/mode"])] == ["MANUAL", *(value for _, value in modes)]
    assert [t for t, _ in changes(flight["/mode"])[1:]] == pytest.approx([t for t, _ in modes], abs=0.001)
    (failsafe,), (disarmed,) = truth("failsafe"), truth("disarmed")
    assert [value for _, value in changes(flight["/failsafe"])] == [False, True, False]
    stated = [failsafe["t_s"], failsafe["until_s"]]
    assert [t for t, _ in changes(flight["/failsafe"])[1:]] == pytest.approx(stated, abs=0.001)
    assert [value for _, value in changes(flight["/armed"])] == [True, False]
    assert changes(flight["/armed"])[1][0] == pytest.approx(disarmed["t_s"], abs=0.001)


def test_reasons_are_said_just_before_the_change(flight: dict[str, list[Row]]) -> None:
    """Every stated reason is published at most 100 ms before what it explains, 50 ms before a change of mode."""
    said = [(row.t, row.message.data) for row in flight["/status_text"]]
    for item in TRUTH["injected"]:
        if "reason" in item:
            ahead = [item["t_s"] - t for t, text in said if text == item["reason"]]
            assert len(ahead) == 1, item
            limit = 0.05 if item["what"] == "mode" else 0.2
            assert -0.01 < ahead[0] <= limit, item
    assert {text for _, text in said} == {item["reason"] for item in TRUTH["injected"] if "reason" in item}


def test_who_commands_is_as_stated(flight: dict[str, list[Row]]) -> None:
    """Read in order of arrival, modes, intention, failsafe and arming give the stated changes of command."""
    names = ("/mode", "/mode_intention", "/failsafe", "/armed")
    rows = sorted((row.t, name, row.message.data) for name in names for row in flight[name])
    now: dict[str, Any] = {}
    found: list[tuple[float, str]] = []
    for t, name, value in rows:
        now[name] = value
        if len(now) < len(names):
            continue
        who = AUTHORITY[now["/mode"]]
        if now["/failsafe"] and now["/mode"] != now["/mode_intention"]:
            who = "fallback"
        if not now["/armed"]:
            who = "none"
        if not found or found[-1][1] != who:
            found.append((t, who))
    assert [who for _, who in found] == ["human", "autonomy", "human", "autonomy", "fallback", "autonomy", "none"]
    (start, takeover, back, returning, _), (failsafe,), (disarmed,) = (
        truth("mode"),
        truth("failsafe"),
        truth("disarmed"),
    )
    times = [start["t_s"], takeover["t_s"], back["t_s"], returning["t_s"], failsafe["until_s"], disarmed["t_s"]]
    assert [t for t, _ in found[1:]] == pytest.approx(times, abs=0.001)


def test_plane_is_outside_the_fence_when_stated(flight: dict[str, list[Row]]) -> None:
    """The position is east of the fence of the envelope in the stated span and nowhere else."""
    (excursion,) = truth("geofence_excursion")
    outside = [row.t for row in flight["/fix"] if row.message.longitude > 8.016483]
    assert outside[0] == pytest.approx(excursion["t_s"], abs=0.001)
    assert outside[-1] == pytest.approx(excursion["until_s"], abs=0.001)
    assert len(outside) == round((outside[-1] - outside[0]) * RATES["/fix"]) + 1
    assert all(r.message.longitude > 7.9736 and 46.9964 < r.message.latitude < 47.0260 for r in flight["/fix"])


def test_turbulence_shakes_the_plane(flight: dict[str, list[Row]]) -> None:
    """Vertical acceleration in level flight varies by several times the noise of the sensor (0.05 m/s²)."""
    level = [row.message.linear_acceleration.z for row in between(flight["/imu"], 220.0, 240.0)]
    mean = sum(level) / len(level)
    assert mean == pytest.approx(9.8, abs=0.3)
    assert math.sqrt(sum((value - mean) ** 2 for value in level) / len(level)) > 0.3


def test_plane_lands(flight: dict[str, list[Row]]) -> None:
    """At the end the plane stands still at the height of its wheels, and odometry and GNSS agree about it."""
    last = flight["/odom"][-1].message.pose.pose.position
    assert 0.5 < last.z < 2.5
    end = flight["/fix"][-1].message
    assert end.altitude == pytest.approx(430.0 + last.z, abs=3.0)
    east = (end.longitude - 8.0) * 111_194.9 * math.cos(math.radians(47.0))
    north = (end.latitude - 47.0) * 111_194.9
    assert (east, north) == pytest.approx((last.x, last.y), abs=2.0)
    assert math.hypot(*(getattr(flight["/odom"][-1].message.twist.twist.linear, axis) for axis in "xy")) < 0.2
