"""ROS 1 bags: against rosbags, without index, and past damage."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from fuzz_readers import read
from rosbags.highlevel import AnyReader
from synthetic_recordings import messages, write_bag1

from edge_monitor.core.messages import Channel
from edge_replay import readers


@pytest.mark.parametrize("compression", ["none", "bz2", "lz4"])
def test_every_compression_gives_the_messages_written(tmp_path: Path, compression: str) -> None:
    """Chunks in each compression give the same messages, and no damage."""
    write_bag1(tmp_path / "a", compression)
    assert read(tmp_path / "a")[:2] == (messages(ros1=True), [])


def test_real_recordings_equal_rosbags(data_dir: Path) -> None:
    """Topic, time and bytes of every message of every real bag are those of rosbags, in its order."""
    paths = sorted(data_dir.rglob("*.bag"))
    assert len(paths) >= 2
    for path in paths:
        with AnyReader([path]) as bag:
            expected = [(connection.topic, t, bytes(data)) for connection, t, data in bag.messages()]
        assert read(path)[:2] == (expected, [])


def test_a_channel_has_a_ros2_type_name_and_the_bags_definition(tmp_path: Path) -> None:
    """Types are named as in ROS 2, so that an envelope needs one name; the definition is that of ROS 1."""
    write_bag1(tmp_path / "a")
    channel = next(item for item in readers.open(tmp_path / "a") if isinstance(item, Channel))
    assert (channel.type, channel.encoding, channel.schema) == ("sensor_msgs/msg/Imu", "ros1", "ros1msg")
    assert "MSG: std_msgs/Header" in channel.definition


def test_a_bag_that_was_never_closed_is_read(tmp_path: Path) -> None:
    """Without its closing index (a recorder that lost power) all complete chunks are delivered, and it is reported."""
    write_bag1(tmp_path / "a", "lz4")
    data = bytearray((tmp_path / "a").read_bytes())
    field = data.index(b"index_pos=") + len(b"index_pos=")
    (end,) = struct.unpack_from("<Q", data, field)
    data[field : field + 8] = bytes(8)
    (tmp_path / "a").write_bytes(data[:end])
    delivered, damages, _ = read(tmp_path / "a")
    assert delivered == messages(ros1=True)
    assert ["never closed" in damage.what for damage in damages] == [True]


def test_a_time_that_the_chunks_index_contradicts_is_put_right(tmp_path: Path) -> None:
    """A message whose time was changed, so that it is out of order, gets the time that the index has."""
    write_bag1(tmp_path / "a")
    data = bytearray((tmp_path / "a").read_bytes())
    places = [i for i in range(len(data)) if data.startswith(b"\x04\x00\x00\x00op=\x02", i)]
    at = data.index(b"time=", places[60] - 40) + 5
    data[at + 1] ^= 0x40  # seconds
    (tmp_path / "a").write_bytes(data)
    delivered, damages, _ = read(tmp_path / "a")
    assert delivered == messages(ros1=True)
    assert ["contradict" in damage.what for damage in damages] == [True]


def test_a_topic_changed_in_the_closing_index_is_the_one_of_the_chunk(tmp_path: Path) -> None:
    """Of two descriptions of a connection the one counts whose parts agree."""
    for place in (0, -1):  # the chunk's record, the index's
        write_bag1(tmp_path / "a")
        data = bytearray((tmp_path / "a").read_bytes())
        at = [i for i in range(len(data)) if data.startswith(b"topic=/imu", i)][place]
        data[at + 8] ^= 0x02
        (tmp_path / "a").write_bytes(data)
        delivered, damages, _ = read(tmp_path / "a")
        (tmp_path / "a").unlink()
        assert delivered == messages(ros1=True)
        assert any("two different ways" in damage.what for damage in damages)
