"""MCAP: against the mcap library, and past every kind of damage."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from fuzz_readers import read
from mcap.reader import make_reader
from mcap.writer import CompressionType
from synthetic_recordings import messages, stream, write_mcap

from edge_monitor.core.messages import Batch, Channel, Damage
from edge_replay import readers

KINDS = {
    "none": {"compression": CompressionType.NONE},
    "lz4": {"compression": CompressionType.LZ4},
    "zstd": {"compression": CompressionType.ZSTD},
    "unchunked": {"compression": CompressionType.NONE, "chunked": False},
    "no index": {"index": False},
    "no checksums": {"crc": False},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_messages_written(tmp_path: Path, kind: str) -> None:
    """Chunked or not, in each compression, with and without index: the same messages, and no damage."""
    path = tmp_path / "a"
    write_mcap(path, **KINDS[kind])  # type: ignore[arg-type]
    delivered, damages, _ = read(path)
    assert delivered == messages()
    assert damages == []


def test_real_recordings_equal_the_mcap_library(data_dir: Path) -> None:
    """Topic, time and bytes of every message of every real MCAP file are those of the mcap library, in its order."""
    paths = sorted(data_dir.rglob("*.mcap"))
    assert len(paths) >= 9
    for path in paths:
        with path.open("rb") as file:
            expected = [(c.topic, m.log_time, bytes(m.data)) for _, c, m in make_reader(file).iter_messages()]
        assert read(path)[:2] == (expected, [])


def test_channels_carry_their_definitions(tmp_path: Path) -> None:
    """A channel says its type, encoding and schema before its first batch."""
    write_mcap(tmp_path / "a")
    items = list(readers.open(tmp_path / "a"))
    first = next(i for i, item in enumerate(items) if isinstance(item, Batch))
    channels = [item for item in items[:first] if isinstance(item, Channel)]
    assert [(c.id, c.topic, c.type, c.encoding, c.schema) for c in channels] == [
        (0, "/imu", "sensor_msgs/msg/Imu", "cdr", "ros2msg"),
        (1, "/mode", "std_msgs/msg/String", "cdr", "ros2msg"),
    ]
    assert "float64[9] orientation_covariance" in channels[0].definition


def test_unwanted_topics_are_counted_not_delivered(tmp_path: Path) -> None:
    """`topics` limits what is delivered; the counts cover everything."""
    write_mcap(tmp_path / "a")
    recording = readers.open(tmp_path / "a", topics=["/mode"])
    delivered = sum(len(item.messages) for item in recording if isinstance(item, Batch))
    assert (delivered, recording.counts) == (40, {0: 400, 1: 40})


def test_unordered_and_overlapping_chunks_are_put_in_order_of_time(tmp_path: Path) -> None:
    """Messages written out of order across chunks come in order of time where the file has an index."""

    def shuffled(written: list[tuple[str, str, int, bytes]]) -> list[tuple[str, str, int, bytes]]:
        return [*written[100:140], *written[:100], *written[300:], *written[140:300]]

    write_mcap(tmp_path / "a", order=shuffled)
    assert read(tmp_path / "a")[:2] == (sorted(messages(), key=lambda message: message[1]), [])


def test_equal_times_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """Messages of one time are delivered in the order in which they were written."""
    write_mcap(tmp_path / "a", order=lambda written: [(topic, kind, 7, data) for topic, kind, _, data in written])
    assert read(tmp_path / "a")[0] == [(topic, 7, data) for topic, _, _, data in stream()]


def chunks(data: bytes) -> list[tuple[int, int]]:
    """(start, end) of the chunk records of a file."""
    found, at = [], 8
    while at < len(data) - 8:
        opcode, size = struct.unpack_from("<BQ", data, at)
        if opcode == 6:
            found.append((at, at + 9 + size))
        at += 9 + size
    return found


def test_a_chunk_that_fails_its_checksum_is_lost_alone_and_named(tmp_path: Path) -> None:
    """One flipped byte in a checked chunk costs that chunk; its place and its number of messages are reported."""
    write_mcap(tmp_path / "a", CompressionType.NONE)
    data = bytearray((tmp_path / "a").read_bytes())
    start, end = chunks(data)[2]
    data[(start + end) // 2] ^= 1
    (tmp_path / "a").write_bytes(data)
    delivered, damages, _ = read(tmp_path / "a")
    lost = [message for message in messages() if message not in delivered]
    assert delivered == [message for message in messages() if message not in lost]
    assert damages[0].where == f"a bytes {start}–{end}"
    assert "checksum" in damages[0].what
    assert damages[0].lost_messages == len(lost) > 0
    assert any(damage.lost_messages == len(lost) and "states 440" in damage.what for damage in damages)


def test_a_cut_file_gives_what_decompresses_before_the_cut(tmp_path: Path) -> None:
    """Of a chunk that is cut, the messages before the cut are delivered, and nothing that is not exact."""
    write_mcap(tmp_path / "a", CompressionType.NONE)
    data = (tmp_path / "a").read_bytes()
    start, end = chunks(data)[1]
    (tmp_path / "a").write_bytes(data[: (start + end) // 2])
    delivered, damages, _ = read(tmp_path / "a")
    whole = len(delivered)
    assert delivered == messages()[:whole]
    assert 70 < whole < 120
    assert any("cut" in damage.what for damage in damages)


def test_the_checksum_over_all_data_is_checked(tmp_path: Path) -> None:
    """A file whose only checksum is that of its data section reports a change in a message, which nothing else tells."""
    write_mcap(tmp_path / "a", CompressionType.NONE, chunked=False, data_crc=True)
    assert read(tmp_path / "a")[:2] == (messages(), [])
    data = bytearray((tmp_path / "a").read_bytes())
    summary = struct.unpack_from("<Q", data, len(data) - 28)[0]
    assert data[summary - 13] == 15
    assert struct.unpack_from("<I", data, summary - 4)[0] == zlib.crc32(data[: summary - 13])
    data[summary // 2] ^= 0x10
    (tmp_path / "a").write_bytes(data)
    assert any("checksum over all data" in damage.what for damage in read(tmp_path / "a")[1])


def test_a_claim_of_absurd_size_is_damage_not_memory(tmp_path: Path) -> None:
    """A chunk that claims to hold a terabyte is skipped."""
    write_mcap(tmp_path / "a", CompressionType.ZSTD, crc=False)
    data = bytearray((tmp_path / "a").read_bytes())
    start, _ = chunks(data)[1]
    struct.pack_into("<Q", data, start + 25, 1 << 40)
    (tmp_path / "a").write_bytes(data)
    delivered, damages, _ = read(tmp_path / "a")
    assert 0 < len(delivered) < 440
    assert any("limit" in damage.what for damage in damages)


def test_a_channel_described_nowhere_is_counted_as_lost(tmp_path: Path) -> None:
    """Messages whose channel record is missing are not delivered under a guess."""
    write_mcap(tmp_path / "a", CompressionType.NONE, chunked=False, index=False, crc=False)
    data = bytearray((tmp_path / "a").read_bytes())
    at = 8
    while not (data[at] == 4 and b"/mode" in data[at : at + 40]):
        at += 9 + struct.unpack_from("<Q", data, at + 1)[0]
    data[at] = 0x90  # a private record, which readers skip
    (tmp_path / "a").write_bytes(data)
    delivered, damages, _ = read(tmp_path / "a")
    assert delivered == [message for message in messages() if message[0] == "/imu"]
    assert [damage.lost_messages for damage in damages] == [40]


def test_a_second_pass_gives_the_same(tmp_path: Path) -> None:
    """A recording can be read again: each pass starts anew."""
    write_mcap(tmp_path / "a")
    recording = readers.open(tmp_path / "a")
    counts = []
    for _ in range(2):
        assert not any(isinstance(item, Damage) for item in recording)
        counts.append(dict(recording.counts))
    assert counts[0] == counts[1] == {0: 400, 1: 40}
    assert recording.position == recording.size == (tmp_path / "a").stat().st_size
