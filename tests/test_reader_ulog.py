"""ULog: against pyulog, time (SEMANTICS §1), and past damage."""

from __future__ import annotations

import contextlib
import io
import struct
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from fuzz_readers import read
from pyulog import ULog
from synthetic_recordings import (
    ULOG_HEAD,
    ULOG_SYNC,
    ulog_attitude,
    ulog_battery,
    ulog_body,
    ulog_definitions,
    ulog_record,
    write_ulog,
)

from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.samples import Cause
from edge_replay import readers

GOLDEN = "px4_mission_pilot_takeover_failsafe.ulg"
GOES_BACK = "px4_custom_board_time_goes_back_bad_format.ulg"


def pyulog(path: Path) -> ULog:
    with contextlib.redirect_stdout(io.StringIO()):
        return ULog(str(path))


def by_channel(path: Path) -> tuple[dict[int, Channel], dict[int, list[bytes]], np.ndarray]:
    """(channels, bytes of the messages of each in order, times of the stream)."""
    channels: dict[int, Channel] = {}
    found: dict[int, list[bytes]] = {}
    times = []
    for item in readers.open(path):
        if isinstance(item, Channel):
            channels[item.id] = item
            found[item.id] = []
        elif isinstance(item, Batch):
            times.append(item.messages["t"].copy())
            for _, start, size, channel in item.messages.tolist():
                found[channel].append(item.data[start : start + size].tobytes())
    return channels, found, np.concatenate(times)


def write(path: Path, *parts: bytes) -> Path:
    path.write_bytes(ULOG_HEAD + ulog_definitions() + b"".join(parts))
    return path


def test_real_logs_equal_pyulog(data_dir: Path) -> None:
    """Every topic has pyulog's number of samples, and in each sample pyulog's stamp and every flat field's value."""
    paths = sorted(data_dir.rglob("*.ulg"))
    assert len(paths) >= 5
    for path in paths:
        channels, found, _ = by_channel(path)
        log = pyulog(path)
        ours = {(c.topic, c.instance): c.id for c in channels.values() if c.topic != "logged_message"}
        assert set(ours) == {(data.name, data.multi_id) for data in log.data_list}
        for data in log.data_list:
            messages = found[ours[data.name, data.multi_id]]
            assert len(messages) == len(data.data["timestamp"])
            dtype = np.dtype([(field.field_name, data.data[field.field_name].dtype) for field in data.field_data])
            rows = np.frombuffer(b"".join(message[: dtype.itemsize] for message in messages), dtype)
            # A stamp that lies far outside is put to its neighbours' time: there the order may be another one.
            ours_by, theirs_by = rows["timestamp"].argsort(kind="stable"), data.data["timestamp"].argsort(kind="stable")
            for name in dtype.names or ():
                assert np.array_equal(
                    rows[name][ours_by], data.data[name][theirs_by], equal_nan=rows[name].dtype.kind == "f"
                )
        texts = [found[c.id] for c in channels.values() if c.topic == "logged_message"]
        assert [m[9:].rstrip(b"\0").decode() for m in chain(*texts)] == [m.message for m in log.logged_messages]


def test_the_golden_log_gives_everything_and_names_its_damage(data_dir: Path) -> None:
    """88 topics, 61,850 samples, the record with the rotted message id named, and the two spans where no record stands."""
    path = data_dir / "uav_px4" / GOLDEN
    channels, found, times = by_channel(path)
    topics = [c.id for c in channels.values() if c.topic != "logged_message"]
    assert (len(topics), sum(len(found[i]) for i in topics)) == (88, 61850)
    damages = [item for item in readers.open(path) if isinstance(item, Damage)]
    assert sum("message id 32812" in damage.what for damage in damages) == 1
    assert len(damages) == 3
    assert (np.diff(times) >= 0).all()


def test_a_clock_that_goes_back_is_kept_as_a_step_of_the_stream(data_dir: Path) -> None:
    """The log that goes from 5519 to 5402 to 5228 s steps back exactly twice; between, its topics are merged in order."""
    _, _, times = by_channel(data_dir / "uav_px4" / GOES_BACK)
    back = np.flatnonzero(np.diff(times) < 0)
    assert [(int(times[i] // 10**9), int(times[i + 1] // 10**9)) for i in back] == [(5519, 5402), (5472, 5228)]


def test_topics_are_merged_by_stamp(tmp_path: Path) -> None:
    """Records that stand late in the file are delivered at their stamps; equal stamps keep the order of the file."""
    write_ulog(tmp_path / "a")
    delivered, damages, _ = read(tmp_path / "a")
    assert damages == []
    assert [t for _, t, _ in delivered] == sorted(t for _, t, _ in delivered)
    assert [t for topic, t, _ in delivered if topic == "battery"][:4] == [
        4_998_000_000,
        4_999_000_000,
        5_098_000_000,
        5_099_000_000,
    ]


def test_channels_carry_layouts_instances_and_no_receive_time(tmp_path: Path) -> None:
    """A ULog channel's definition has its own format first, then the nested ones; multi ids are instances."""
    write_ulog(tmp_path / "a")
    channels = [item for item in readers.open(tmp_path / "a") if isinstance(item, Channel)]
    assert [(c.topic, c.instance, c.encoding, c.schema, c.receive_time) for c in channels] == [
        ("attitude", 0, "packed", "ulog", False),
        ("battery", 0, "packed", "ulog", False),
        ("battery", 1, "packed", "ulog", False),
        ("logged_message", 0, "packed", "ulog", False),
    ]
    assert [line.split(":")[0] for line in channels[0].definition.split("\n")] == ["attitude", "vec3"]


def test_texts_are_a_topic_of_fixed_size(tmp_path: Path) -> None:
    """A logged text, tagged or not, becomes stamp, level and text padded with zeros."""
    plain = ulog_record("L", b"3" + struct.pack("<Q", 5_000_000) + b"low battery")
    tagged = ulog_record("C", b"4" + struct.pack("<HQ", 7, 5_000_001) + b"x" * 300)
    write(tmp_path / "a", plain, tagged)
    assert read(tmp_path / "a")[0] == [
        ("logged_message", 5_000_000_000, struct.pack("<Q", 5_000_000) + b"3" + b"low battery".ljust(128, b"\0")),
        ("logged_message", 5_000_001_000, struct.pack("<Q", 5_000_001) + b"4" + b"x" * 128),
    ]


@pytest.mark.parametrize("stamp", [0, 5_000_000 + 10**10, 2**63 + 5, 2**64 - 1])
def test_a_topic_with_stamps_far_outside_is_marked_and_is_no_jump(tmp_path: Path, stamp: int) -> None:
    """Its channel has the cause `clock`; its messages take their neighbours' time, and the stream goes on undisturbed."""
    body = ulog_body()
    body[25:25] = [ulog_record("D", struct.pack("<HQfB", 3, stamp, 1.0, 0))]
    extra = ulog_record("A", struct.pack("<BH", 2, 3) + b"battery")
    write(tmp_path / "a", extra, *body)
    channels, found, times = by_channel(tmp_path / "a")
    marked = [c for c in channels.values() if c.cause is Cause.CLOCK]
    assert [(c.topic, c.instance, len(found[c.id])) for c in marked] == [("battery", 2, 1)]
    assert (np.diff(times) >= 0).all()
    assert times[-1] < 10_000_000_000


def test_one_rotten_stamp_moves_only_its_message(tmp_path: Path) -> None:
    """A single stamp in the far future neither reorders the others nor splits the stream."""
    body = ulog_body()
    clean = read(write(tmp_path / "a", *body))[0]
    place = next(i for i, part in enumerate(body) if part == ulog_attitude(200, 7_000_000))
    body[place] = ulog_attitude(200, 7_000_000 + (1 << 45))
    delivered = read(write(tmp_path / "b", *body))[0]
    assert [m for m in delivered if m in clean] == [m for m in clean if m in delivered]
    assert len(set(clean) - set(delivered)) == 1
    assert [t for _, t, _ in delivered] == sorted(t for _, t, _ in delivered)


def test_a_value_published_before_the_log_began_keeps_its_stamp(tmp_path: Path) -> None:
    """A latched topic whose only sample is some minutes older than the log is not a clock fault."""
    write(tmp_path / "a", ulog_battery(0, 400_000_000, 2), *ulog_body(900_000_000))
    channels, _, times = by_channel(tmp_path / "a")
    assert times[0] == 400_000_000_000
    assert all(channel.cause is Cause.NONE for channel in channels.values())


def test_a_reboot_within_a_log_is_a_section_of_its_own(tmp_path: Path) -> None:
    """Two runs in one file: each merged by itself, one step back between them."""
    write(tmp_path / "a", *ulog_body(90_000_000), *ulog_body(5_000_000))
    _, _, times = by_channel(tmp_path / "a")
    back = np.flatnonzero(np.diff(times) < 0)
    assert [(int(times[i]), int(times[i + 1])) for i in back] == [(93_990_000_000, 4_998_000_000)]


def test_padding_at_the_end_may_be_missing_or_there(tmp_path: Path) -> None:
    """Data with and without the trailing padding of its format is data; anything else is not."""
    short, full = ulog_battery(0, 5_000_000), ulog_record("D", struct.pack("<HQfB3x", 1, 5_000_001, 1.0, 0))
    wrong = ulog_record("D", struct.pack("<HQf", 1, 5_000_002, 1.0))
    write(tmp_path / "a", short, full, wrong, *ulog_body())
    delivered, damages, _ = read(tmp_path / "a")
    assert [len(data) for topic, t, data in delivered if t <= 5_000_002_000 and topic == "battery"] == [13, 13, 13, 16]
    assert ["whose size is not its format's" in damage.what for damage in damages] == [True]


def test_framing_is_regained_at_a_sync_mark(tmp_path: Path) -> None:
    """After bytes that are no record, reading goes on at the next sync mark; the span is reported."""
    body = ulog_body()
    at = body.index(ULOG_SYNC, 100)
    lost = len(b"".join(body[100:at]))
    write(tmp_path / "a", *body[:100], b"\xff\xfe" * 50, *body[100:])
    delivered, damages, _ = read(tmp_path / "a")
    kept = read(write(tmp_path / "b", *body[:100], *body[at:]))[0]
    assert delivered == kept
    assert [damage.lost_bytes for damage in damages] == [100 + lost]


def test_without_sync_marks_framing_is_regained_where_records_fit(tmp_path: Path) -> None:
    """Old logs have no sync marks: a run of fitting records is enough."""
    body = [part for part in ulog_body() if part != ULOG_SYNC]
    write(tmp_path / "a", *body[:100], b"\xff\xfe" * 50, *body[100:])
    delivered, damages, _ = read(tmp_path / "a")
    assert delivered == read(write(tmp_path / "b", *body))[0]
    assert [damage.lost_bytes for damage in damages] == [100]


def test_a_format_that_is_not_text_costs_its_topic_only(tmp_path: Path) -> None:
    """A format record with bytes that are no text is reported; topics that need it are named and skipped."""
    data = ULOG_HEAD + ulog_definitions().replace(b"float voltage", b"float volt\xffge") + b"".join(ulog_body())
    (tmp_path / "a").write_bytes(data)
    delivered, damages, _ = read(tmp_path / "a")
    assert {topic for topic, _, _ in delivered} == {"attitude", "logged_message"}
    assert any("is not text" in damage.what for damage in damages)
    assert sum(damage.lost_messages or 0 for damage in damages) == 80


def test_appended_data_is_read(tmp_path: Path) -> None:
    """What was appended after a crash is read from the offset that the flags name, whatever stands cut before it."""
    head = ULOG_HEAD + ulog_definitions()
    cut = b"".join(ulog_body()[:50]) + ulog_attitude(50, 6_000_000)[:-5]
    flags = bytes(8) + b"\x01" + bytes(7) + struct.pack("<3Q", len(head + cut), 0, 0)
    data = head.replace(ulog_record("B", bytes(40)), ulog_record("B", flags)) + cut + ulog_battery(1, 6_000_000)
    (tmp_path / "a").write_bytes(data)
    delivered, damages, _ = read(tmp_path / "a")
    assert delivered[-1][:2] == ("battery", 6_000_000_000)
    assert damages == []


def test_dropouts_are_told_apart_from_damage(data_dir: Path) -> None:
    """What the logger itself says it left out is in `dropouts`, and is no damage of the file."""
    recording = readers.open(data_dir / "uav_px4" / "pyulog_log_small.ulg")
    assert not any(isinstance(item, Damage) for item in recording)
    log = pyulog(recording.path)
    assert [lost for _, lost in recording.dropouts] == [dropout.duration for dropout in log.dropouts]  # type: ignore[attr-defined]
