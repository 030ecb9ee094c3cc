"""Whole recordings through a whole monitor: what is found, and that nothing but the stream decides it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.compare import assert_rows
from oracles.engine import EngineOracle

from edge_monitor import envelope
from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.samples import UNSEEN
from edge_monitor.decider import HEARTBEAT_NS
from edge_monitor.envelope import Envelope
from edge_monitor.errors import DamagedInputError
from edge_monitor.events import Event
from edge_monitor.runtime import Monitor
from edge_replay import readers, summary
from edge_replay.readers import Recording
from edge_replay.replay import Replay, Window, replay

SECOND = 1_000_000_000
BATTERY = b"""
edge_monitor: 1
envelope: {id: battery, version: 1, vehicle: any}
signals:
  voltage: {topic: csv, field: voltage, unit: V, max_age: 5 s}
checks:
  voltage_low: {kind: bounds, signal: voltage, min: 10.5, leave: 11, severity: critical}
gates:
  continue: {require: all, criteria: [voltage_low], go_after: 1 s, lease: 2 s, on_unknown: {hold: 3 s}}
"""


@pytest.fixture(scope="module")
def scenario(root: Path) -> Path:
    """The recorded survey flight."""
    return root / "replay/scenarios/survey_flight.mcap"


@pytest.fixture(scope="module")
def survey_plane(root: Path) -> Envelope:
    """Its envelope."""
    return envelope.load(root / "configs/survey_plane.yaml")


@pytest.fixture(scope="module")
def px4(root: Path, data_dir: Path) -> Replay:
    """The PX4 flight on which a pilot takes over and the position is lost."""
    path = data_dir / "uav_px4/px4_mission_pilot_takeover_failsafe.ulg"
    return replay(path, envelope.load(root / "configs/px4_multirotor.yaml"))


def battery(folder: Path, rows: Iterable[tuple[float, float]]) -> tuple[Path, Envelope]:
    """A CSV recording of (time in s, voltage) and an envelope for it."""
    path = folder / "battery.csv"
    path.write_text("t_s,voltage\n" + "".join(f"{t:.6f},{voltage}\n" for t, voltage in rows))
    return path, envelope.loads(BATTERY, source="battery.yaml")


def of_type(events: Iterable[Event], *types: str) -> list[Event]:
    return [event for event in events if event.type in types]


# --- real recordings -------------------------------------------------------------------------------------------------


def test_px4_reports_who_commanded_at_the_exact_times(px4: Replay) -> None:
    """Every change of command and the failsafe of the PX4 flight, within 2 ms of the log's stamps, with its reasons."""
    expected = [
        ("authority.changed", 437.862, "human", "autonomy", "not recorded"),
        ("authority.changed", 455.431, "autonomy", "human", "Pilot took over"),
        ("authority.changed", 474.362, "human", "fallback", "position invalid"),
        ("failsafe.start", 474.362, "human", "fallback", "position invalid"),
        ("authority.changed", 476.353, "fallback", "human", ""),
        ("failsafe.end", 476.353, "fallback", "human", ""),
        ("authority.changed", 481.566, "human", "autonomy", "not recorded"),
        ("authority.changed", 503.072, "autonomy", "none", "Disarmed"),
    ]
    found = of_type(px4.events, "authority.changed", "failsafe.start", "failsafe.end")
    assert found[0].payload["from"] == "unknown" and found[0].payload["to"] == "human"  # what the log begins with
    assert len(found) - 1 == len(expected)
    for event, (name, t, before, after, cause) in zip(found[1:], expected, strict=True):
        assert (event.type, event.payload["from"], event.payload["to"]) == (name, before, after)
        assert event.document()["t_s"] == pytest.approx(t, abs=0.002)
        assert cause in event.payload["cause"]
    assert found[3].payload["cause"] != "not recorded"
    assert found[7].payload["after"]["mode"] == "AUTO_LAND" and found[7].payload["cause"] == "not recorded"


def test_px4_names_the_damaged_record_and_delivers_all_samples(px4: Replay) -> None:
    """Message id 32812, which no topic has, is named once; all 61,850 samples of 88 topics come all the same."""
    assert len([damage for damage in px4.damages if "32812" in damage.what]) == 1
    assert len([event for event in of_type(px4.events, "log.damage") if "32812" in event.payload["what"]]) == 1
    channels: dict[int, Channel] = {}
    samples = 0
    for item in readers.open(px4.path):
        if isinstance(item, Channel):
            channels[item.id] = item
        elif isinstance(item, Batch):
            kept = [channel.id for channel in channels.values() if channel.topic != "logged_message"]
            samples += int(np.isin(item.messages["channel"], kept).sum())
    topics = {(channel.topic, channel.instance) for channel in channels.values()} - {("logged_message", 0)}
    assert (samples, len(topics)) == (61_850, 88)


def test_instances_of_topics_are_replayed(root: Path, data_dir: Path) -> None:
    """Both barometers of a PX4 log reach the check that compares them, and neither counts as missing."""
    path = data_dir / "uav_px4/pyulog_log_small.ulg"
    found = replay(path, envelope.load(root / "configs/px4_multirotor.yaml"))
    assert "sensor_baro[1]" not in found.missing_topics and "failsafe_flags" in found.missing_topics
    names = [signal.name for signal in found.monitor.envelope.signals]
    counts = found.monitor.engine.signals["count"]
    assert [int(counts[names.index(name)]) for name in ("pressure_first", "pressure_second")] == [6, 6]


def test_husky_is_the_same_through_every_format(root: Path, data_dir: Path) -> None:
    """One drive as ROS 1 bag, SQLite and MCAP: equal events in every field, and an equal engine digest."""
    loaded = envelope.load(root / "configs/ugv_husky.yaml")
    husky = data_dir / "ugv_husky"
    paths = [husky / "husky_test1.bag", husky / "derived_db3/husky_db3.db3", husky / "derived_mcap/husky_mcapz.mcap"]
    found = [replay(path, loaded) for path in paths]
    assert [result.format for result in found] == ["rosbag1", "rosbag2-sqlite3", "mcap"]
    assert len(found[0].events) > 20 and found[0].messages > 10_000
    for other in found[1:]:
        assert other.events == found[0].events
        assert other.monitor.engine.digest() == found[0].monitor.engine.digest()


def test_events_are_in_order_of_effect(px4: Replay, scenario: Path, survey_plane: Envelope) -> None:
    """Events come in order of the time at which they took effect, and none is decided before it."""
    for events in (px4.events, replay(scenario, survey_plane).events):
        told = [event for event in events if event.type != "log.damage"]
        times = [event.t_effective for event in told]
        assert times == sorted(times)
        assert all(event.t_decided >= event.t_effective for event in told)


# --- determinism -----------------------------------------------------------------------------------------------------


def test_two_replays_are_equal(scenario: Path, survey_plane: Envelope) -> None:
    """The same recording gives the same events, in every field, and the same digest."""
    first, second = (replay(scenario, survey_plane) for _ in range(2))
    assert first.events == second.events
    assert first.monitor.engine.digest() == second.monitor.engine.digest()


@pytest.fixture(scope="module")
def stream(scenario: Path, survey_plane: Envelope) -> list[Channel | Batch | Damage]:
    """The survey flight's items, copied, with one batch from 90 s to 120 s."""
    return part_of(scenario, survey_plane, 90, 120)


def part_of(scenario: Path, survey_plane: Envelope, start: float, end: float) -> list[Channel | Batch | Damage]:
    """The channels of a recording, and its messages from ``start`` to ``end`` (s) as one batch."""
    wanted = sorted({signal.topic for signal in survey_plane.signals})
    items = list(copied(readers.open(scenario, topics=wanted)))
    channels = [item for item in items if isinstance(item, Channel)]
    batches = [item for item in items if isinstance(item, Batch)]
    data = np.concatenate([batch.data for batch in batches])
    rows, offset = [], 0
    for batch in batches:
        messages = batch.messages.copy()
        messages["start"] += offset
        offset += len(batch.data)
        rows.append(messages)
    messages = np.concatenate(rows)
    t = (messages["t"] - messages["t"][0]) / 1e9
    return [*channels, Batch(data, messages[(t >= start) & (t <= end)])]


def copied(recording: Recording) -> Iterable[Channel | Batch | Damage]:
    for item in recording:
        yield Batch(item.data.copy(), item.messages.copy()) if isinstance(item, Batch) else item


def run(items: Iterable[Channel | Batch | Damage], loaded: Envelope) -> tuple[list[Event], str]:
    monitor = Monitor(loaded)
    found = [event for item in items for event in monitor.feed(item)] + monitor.finish()
    return found, monitor.engine.digest()


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 1900), max_size=12))
def test_batches_may_be_cut_anywhere(
    stream: list[Channel | Batch | Damage], survey_plane: Envelope, cuts: list[int]
) -> None:
    """However messages are cut into batches, empty ones included, events and digest stay the same."""
    channels, batch = stream[:-1], stream[-1]
    assert isinstance(batch, Batch)
    edges = [*sorted({0, *(min(cut, len(batch.messages)) for cut in cuts)}), len(batch.messages)]
    pieces = [Batch(batch.data, batch.messages[a:b]) for a, b in pairwise(edges)]
    assert run([*channels, *pieces], survey_plane) == run(stream, survey_plane)


@settings(max_examples=25)
@given(
    cuts=st.lists(st.tuples(st.integers(1, 1900), st.sampled_from([0, 0, 0, 1, 10_000_000, HEARTBEAT_NS])), max_size=8),
    last=st.sampled_from([0, HEARTBEAT_NS, 3 * HEARTBEAT_NS]),
    at=st.integers(0, 1900),
    jump=st.sampled_from([0, 100, 700, -5, -100, -700]),
)
def test_a_step_is_a_batch_and_a_mark_of_time(
    stream: list[Channel | Batch | Damage],
    survey_plane: Envelope,
    cuts: list[tuple[int, int]],
    last: int,
    at: int,
    jump: int,
) -> None:
    """Taking a batch and letting time pass in one call decides what two calls do: heartbeats, clock jumps, late samples."""
    channels, batch = stream[:-1], stream[-1]
    assert isinstance(batch, Batch)
    rows = batch.messages.copy()
    rows["t"][at:] += jump * SECOND
    edges = {0: 0, 5: 0, **{min(cut, len(rows) - 1): ahead for cut, ahead in sorted(cuts)}, len(rows): last}
    two, one = Monitor(survey_plane), Monitor(survey_plane)
    told: list[list[Event]] = [[], []]
    for channel in channels:
        two.feed(channel), one.feed(channel)
    until = 0
    for begin, end in pairwise(sorted(edges)):
        piece = Batch(batch.data, rows[begin:end])
        until = max(until, int(piece.messages["t"].max())) + edges[end]
        told[0] += [*two.feed(piece), *two.until(until)]
        told[1] += one.step(piece, until)
    told[0] += two.finish()
    told[1] += one.finish()
    assert told[1] == told[0]
    assert one.engine.digest() == two.engine.digest() and one.decider.snapshot() == two.decider.snapshot()


def test_deadlines_are_told_alike_with_and_without_marks_of_time(scenario: Path, survey_plane: Envelope) -> None:
    """A demand that nobody answers, as live (time passes every 10 messages) and in one batch: the same events with the same
    payloads, in order of effect; only what revealed a deadline differs."""
    *channels, batch = part_of(scenario, survey_plane, 170, 205)
    assert isinstance(batch, Batch)
    live, whole = Monitor(survey_plane), Monitor(survey_plane)
    told: list[list[Event]] = []
    for monitor, size in ((whole, len(batch.messages)), (live, 10)):
        found = [event for channel in channels for event in monitor.feed(channel)]
        for at in range(0, len(batch.messages), size):
            messages = batch.messages[at : at + size]
            found += monitor.feed(Batch(batch.data, messages)) + monitor.until(int(messages["t"][-1]))
        told.append([replace(event, t_decided=0) for event in found + monitor.finish()])
    assert {"handover.requested", "handover.timeout", "mrm.start", "mrm.failed"} <= {event.type for event in told[0]}
    assert told[0] == told[1]
    assert whole.engine.digest() == live.engine.digest()


def test_a_bench_recording_gives_the_transitions_of_the_oracle(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The benchmark's recording and envelope, in small: the engine's transitions equal those of plain Python."""
    monkeypatch.syspath_prepend(str(root / "bench"))
    sys.modules.pop("synthetic", None)
    import synthetic

    monkeypatch.setattr(synthetic, "BUILD", tmp_path)
    path = synthetic.make(messages=1500)
    wide = b"max: 0.35, min: -0.35, leave_max: 0.3, leave_min: -0.3"
    narrow = b"max: 0.15, min: -0.15, leave_max: 0.1, leave_min: -0.1"
    text = (root / "bench/envelope.yaml").read_bytes()
    assert wide in text
    loaded = envelope.loads(text.replace(wide, narrow), source="bench.yaml")
    monitor = Monitor(loaded)
    plain = EngineOracle(loaded.signals, loaded.checks)
    rows, expected = [], []
    for item in readers.open(path):
        if isinstance(item, Channel):
            assert not monitor.extractor.add_channel(item)
        elif isinstance(item, Batch):
            samples = monitor.extractor.extract(item)
            rows.append(monitor.engine.advance(samples))
            expected += plain.advance(samples)
    now = int(monitor.engine.head["now"])
    rows.append(monitor.engine.finish(now))
    expected += plain.finish(now)
    found = np.concatenate(rows)
    assert len(found) > 100
    assert_rows(found, expected)


# --- windows ---------------------------------------------------------------------------------------------------------


def test_a_window_sees_its_part_only(scenario: Path, survey_plane: Envelope) -> None:
    """``--from`` and ``--to`` keep the messages between, both ends included, absolute or from the start."""
    whole = replay(scenario, survey_plane)
    assert whole.first is not None
    relative = replay(scenario, survey_plane, window=Window(90 * SECOND, 120 * SECOND, True, True))
    absolute = replay(scenario, survey_plane, window=Window(whole.first + 90 * SECOND, 120 * SECOND, False, True))
    assert relative.first is not None and relative.last is not None
    assert relative.first >= whole.first + 90 * SECOND and relative.last <= whole.first + 120 * SECOND
    assert 0 < relative.messages < whole.messages / 5
    assert absolute.events == relative.events
    takeover = [e for e in of_type(relative.events, "authority.changed") if e.payload["to"] == "human"]
    assert len(takeover) == 1 and "Pilot took over" in takeover[0].payload["cause"]


def test_an_empty_window_finds_nothing(scenario: Path, survey_plane: Envelope) -> None:
    """A window without messages gives no events and no time, and no error."""
    result = replay(scenario, survey_plane, window=Window(10_000 * SECOND, None, True, False))
    assert (result.events, result.messages, result.first) == ([], 0, None)
    assert result.recorded is not None and result.recorded[0] > 0
    assert result.monitor.engine.head["now"] == UNSEEN
    assert summary.document(result)["duration_s"] == 0.0


def test_an_unreadable_file_is_one_clear_error(tmp_path: Path, survey_plane: Envelope) -> None:
    """What is no recording at all ends with ``DamagedInputError``, which names the file."""
    path = tmp_path / "noise.mcap"
    path.write_bytes(b"\x00" * 5000)
    with pytest.raises(DamagedInputError, match=r"noise\.mcap"):
        replay(path, survey_plane)


def test_a_cut_recording_gives_what_is_before_the_cut(tmp_path: Path, scenario: Path, survey_plane: Envelope) -> None:
    """Half a file is half a flight: damage is an event, and everything before it is as in the whole flight."""
    path = tmp_path / "cut.mcap"
    path.write_bytes(scenario.read_bytes()[: scenario.stat().st_size // 2])
    cut, whole = replay(path, survey_plane), replay(scenario, survey_plane)
    assert cut.damages and of_type(cut.events, "log.damage")
    assert cut.last is not None and whole.last is not None and cut.last < whole.last
    found = [event for event in cut.events if event.type not in ("log.damage", "monitor.stopped")]
    assert len(found) > 30 and found == whole.events[: len(found)]


# --- long silences and heartbeats ------------------------------------------------------------------------------------


def test_a_flat_battery_is_one_event(tmp_path: Path) -> None:
    """Fifty minutes at 0.0 V, with noise on top, are one ``check.fail``."""
    path, loaded = battery(tmp_path, ((i, 12.0 if i < 60 else (i % 2) * 0.01) for i in range(3060)))
    found = replay(path, loaded)
    assert len(of_type(found.events, "check.fail")) == 1
    line = summary.check_lines(found)[0]
    assert (line.fails, line.fail_ns) == (1, 2999 * SECOND)


def test_formulas_and_derived_signals_from_file_to_event(tmp_path: Path) -> None:
    """A pack that loses 2 V within five seconds: the derived signal's limit and the formula fail, each at its own time."""
    path, _ = battery(tmp_path, ((i, 12.0 if i < 20 else 10.0) for i in range(41)))
    text = BATTERY.replace(
        b"checks:\n",
        b"""  change: {expr: "voltage - lag(voltage, 5 s)", unit: V, max_age: 5 s}
checks:
  sag: {kind: bounds, signal: change, min: -1.5 V}
  rested: {kind: formula, formula: "once[0 s, 10 s](voltage >= 11 V)"}
""",
    )
    found = replay(path, envelope.loads(text, source="battery.yaml")).events
    changes = [
        (event.type, event.document()["subject"], event.t_effective / SECOND, event.payload["margin"])
        for event in found
        if event.document()["subject"] in ("sag", "rested")
    ]
    assert changes == [
        ("check.pass", "rested", 0.0, 1.0),
        ("check.pass", "sag", 5.0, 1.5),
        ("check.fail", "sag", 20.0, -0.5),
        ("check.pass", "sag", 25.0, 1.5),
        ("check.fail", "rested", 30.0, -1.0),
    ]


def test_heartbeats_come_every_ten_minutes_of_the_stream(tmp_path: Path) -> None:
    """Thirty-five minutes of a healthy robot: a heartbeat at 10, 20 and 30 minutes, and never a longer silence."""
    path, loaded = battery(tmp_path, ((100 + i, 12.0) for i in range(2101)))
    found = replay(path, loaded).events
    beats = of_type(found, "monitor.heartbeat")
    assert [beat.t_effective for beat in beats] == [(100 + 600 * k) * SECOND for k in (1, 2, 3)]
    assert [beat.payload["samples"] for beat in beats] == [601, 1201, 1801]
    assert len({beat.payload["engine_digest"] for beat in beats}) == 3
    times = [event.t_effective for event in found]
    assert times == sorted(times)
    assert max(np.diff(times)) <= HEARTBEAT_NS


def test_heartbeats_stand_where_they_are_due(tmp_path: Path) -> None:
    """In a gap of 25 minutes heartbeats go on, after the signal's loss and before what comes next."""
    path, loaded = battery(tmp_path, [(0, 12.0), (1, 12.0), (2, 12.0), (1500, 9.0), (1501, 9.0)])
    found = replay(path, loaded).events
    told = [(event.type, event.t_effective / SECOND) for event in found]
    assert told == [
        ("monitor.started", 0.0),
        ("gate.no_go", 0.0),
        ("check.pass", 0.0),
        ("gate.go", 1.0),
        ("input.lost", 7.0),
        ("check.unknown", 7.0),
        ("gate.no_go", 10.0),
        ("monitor.heartbeat", 600.0),
        ("monitor.heartbeat", 1200.0),
        ("input.restored", 1500.0),
        ("check.fail", 1500.0),
        ("gate.no_go", 1500.0),
        ("monitor.stopped", 1501.0),
    ]


@settings(max_examples=25)
@given(st.data())
def test_heartbeats_do_not_depend_on_batches(data: st.DataObject) -> None:
    """With gaps, steps back and leaps ahead of the clock, events are equal however the stream is cut."""
    steps = data.draw(
        st.lists(st.sampled_from([1, 7, 300, 599, 601, 1900, -400, -2000, -0.5]), min_size=5, max_size=40)
    )
    times = 10_000 + np.cumsum([0, *steps])
    loaded = envelope.loads(BATTERY, source="battery.yaml")
    channel = Channel(0, "csv", "csv", "packed", "ulog", "csv:double voltage;")
    buffer = np.frombuffer(np.linspace(9, 13, len(times)).astype("<f8").tobytes(), np.uint8)
    messages = np.zeros(len(times), [("t", "<i8"), ("start", "<i8"), ("size", "<i4"), ("channel", "<i4")])
    messages["t"] = (times * SECOND).astype(np.int64)
    messages["start"] = np.arange(len(times)) * 8
    messages["size"] = 8
    cuts = sorted(set(data.draw(st.lists(st.integers(1, len(times) - 1), max_size=8))))
    edges = [0, *cuts, len(times)]
    whole = run([channel, Batch(buffer, messages)], loaded)
    pieces = [Batch(buffer, messages[a:b]) for a, b in pairwise(edges)]
    assert run([channel, *pieces], loaded) == whole
    if (np.diff(times) > 1200).any():
        assert of_type(whole[0], "monitor.heartbeat")


def test_a_leap_of_the_clock_does_not_flood(tmp_path: Path) -> None:
    """A stamp forty years ahead gives a day of heartbeats, not two million, and time goes on from there."""
    year = 365 * 86400
    path, loaded = battery(tmp_path, [(0, 12.0), (1, 12.0), (40 * year, 12.0), (40 * year + 700, 12.0)])
    beats = of_type(replay(path, loaded).events, "monitor.heartbeat")
    assert 100 < len(beats) < 200
    assert beats[-1].t_effective >= 40 * year * SECOND


def test_heartbeats_of_a_live_stream_need_no_messages(tmp_path: Path) -> None:
    """``until`` alone brings heartbeats: a monitor that hears nothing still says that it lives."""
    monitor = Monitor(envelope.loads(BATTERY, source="battery.yaml"))
    found = [event for t in range(0, 1300, 10) for event in monitor.until(t * SECOND)]
    assert [e.t_effective // SECOND for e in of_type(found, "monitor.heartbeat")] == [600, 1200]


# --- summaries -------------------------------------------------------------------------------------------------------


def test_the_summary_is_one_json_document(scenario: Path, survey_plane: Envelope) -> None:
    """Spans of command and gates are without gaps; the document is plain JSON."""
    result = replay(scenario, survey_plane)
    document = json.loads(json.dumps(summary.document(result)))
    for spans in (document["authority"], *document["gates"].values()):
        assert spans[0]["start_s"] == document["start_s"] and spans[-1]["end_s"] == document["end_s"]
        assert all(a["end_s"] == b["start_s"] for a, b in pairwise(spans))
    assert document["events"]["check.fail"] == sum(check["fails"] for check in document["checks"])
