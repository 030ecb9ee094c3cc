"""`edge-replay info`: counts, rates, gaps, damage, exit codes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from fuzz_readers import read
from synthetic_recordings import START, write_all, write_csv, write_mcap, write_ulog

from edge_replay.commands.info import command
from edge_replay.info import summarise


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.return_value, result.output


def test_counts_rates_and_gaps_equal_plain_python(tmp_path: Path) -> None:
    """For every format: count, mean rate, longest gap and where, as a plain loop over the messages finds them."""
    for path in write_all(tmp_path):
        info = summarise(path)
        times: dict[str, list[int]] = {}
        for topic, t, _ in read(path)[0]:
            times.setdefault(topic, []).append(t)
        assert {name: len(found) for name, found in times.items()} == {
            name: sum(topic.count for topic in info.topics if topic.name == name) for name in times
        }
        for topic in info.topics:
            if [each.name for each in info.topics].count(topic.name) > 1:
                continue  # instances of one name
            found = times[topic.name]
            gaps = [after - before for before, after in pairwise(found)]
            assert topic.gap == max(gaps)
            assert topic.gap_at == found[gaps.index(max(gaps))]
            assert topic.rate == pytest.approx(len(gaps) * 1e9 / sum(gaps))
        assert info.duration == max(max(found) for found in times.values()) - min(
            min(found) for found in times.values()
        )


def test_the_wall_time_of_the_start(tmp_path: Path) -> None:
    """A clock that counts from 1970 gives a date; another one does not."""
    write_mcap(tmp_path / "a")
    write_ulog(tmp_path / "b")
    assert (summarise(tmp_path / "a").first, summarise(tmp_path / "a").start) == (
        START,
        "2023-11-14T22:13:20.000000000Z",
    )
    assert summarise(tmp_path / "b").start is None


def test_a_healthy_recording_exits_with_0_and_a_damaged_one_with_4(tmp_path: Path) -> None:
    """Both print what is there; the damaged one also what is lost."""
    path = tmp_path / "drive.csv"
    write_csv(path)
    code, output = run(str(path))
    assert (code, "400 messages of 1 topic" in output) == (0, True)
    path.write_bytes(path.read_bytes()[:-3])
    code, output = run(str(path))
    assert (code, "399 messages of 1 topic" in output, "1 message lost" in output) == (4, True, True)


def test_json_is_one_document(tmp_path: Path) -> None:
    """Times are in seconds; of several recordings it is a list."""
    write_mcap(tmp_path / "a")
    document = json.loads(run("--json", str(tmp_path / "a"))[1])
    assert document["format"] == "mcap"
    assert document["messages"] == 440
    assert [(topic["topic"], topic["count"], topic["decodable"]) for topic in document["topics"]] == [
        ("/imu", 400, True),
        ("/mode", 40, True),
    ]
    assert document["topics"][0]["rate_hz"] == pytest.approx(100)
    assert len(json.loads(run("--json", str(tmp_path / "a"), str(tmp_path / "a"))[1])) == 2


def test_the_golden_log(data_dir: Path) -> None:
    """61,850 samples of 88 topics; the rotted record is named; exit 4."""
    code, output = run(str(data_dir / "uav_px4" / "px4_mission_pilot_takeover_failsafe.ulg"))
    assert code == 4
    assert "61,850 samples of 88 topics and 13 logged texts" in output
    assert "message id 32812" in output


def test_steps_back_and_times_far_outside_are_told(data_dir: Path) -> None:
    """A clock that went back is listed with both its times; a topic with impossible stamps says why it is not used."""
    info = summarise(data_dir / "uav_px4" / "px4_custom_board_time_goes_back_bad_format.ulg")
    assert [(before // 10**9, after // 10**9) for before, after in info.steps_back] == [(5519, 5402), (5472, 5228)]
    assert 100 < info.duration / 1e9 < 110
    small = summarise(data_dir / "uav_px4" / "pyulog_log_small.ulg")
    assert [topic.name for topic in small.topics if topic.problem] == ["mission", "test_motor"]


def test_a_channel_that_cannot_be_decoded_says_why(data_dir: Path) -> None:
    """A definition that lacks a type is named; the others are counted all the same."""
    info = summarise(data_dir / "formats_rosbag2" / "sqlite3" / "talker")
    problems = {topic.name: topic.problem for topic in info.topics}
    assert problems["/topic"] is None
    assert "lacks the type rcl_interfaces/Parameter" in (problems["/parameter_events"] or "")
    assert {topic.name: topic.count for topic in info.topics} == {"/rosout": 10, "/topic": 10, "/parameter_events": 0}
