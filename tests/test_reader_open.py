"""`open`: by content, never by name, and one clear line for what can't be read."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from fuzz_readers import read
from mcap.writer import CompressionType
from synthetic_recordings import messages, write_all, write_mcap

from edge_monitor.core.messages import Damage
from edge_monitor.errors import DamagedInputError
from edge_replay import readers

FORMATS = {
    ".mcap": "mcap",
    ".bag": "rosbag1",
    ".db3": "rosbag2-sqlite3",
    ".ulg": "ulog",
    ".tlog": "tlog",
    ".csv": "csv",
    ".jsonl": "jsonl",
}


def test_the_format_is_told_from_the_content(tmp_path: Path) -> None:
    """A recording under any name is read as what it is."""
    for path in write_all(tmp_path):
        renamed = path.rename(tmp_path / "recording.txt")
        assert readers.open(renamed).format == FORMATS[path.suffix]
        assert read(renamed)[0]


def test_a_damaged_magic_is_damage_not_refusal(tmp_path: Path) -> None:
    """One wrong byte at the very start costs nothing but a report."""
    write_mcap(tmp_path / "a")
    data = bytearray((tmp_path / "a").read_bytes())
    data[2] ^= 0xFF
    (tmp_path / "a").write_bytes(data)
    delivered, damages, _ = read(tmp_path / "a")
    assert (delivered, len(damages)) == (messages(), 1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"\x1f\x8b\x08rest", "compressed with gzip"),
        (b"\x28\xb5\x2f\xfdrest", "unpack it first"),
        (b"#ROSBAG V1.2\n", "rosbag fix"),
        (b"\x00\x01\x02", "not a recording"),
        (b"just a sentence\n", "not a recording"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    """The error names the file, what is wrong, and what to do."""
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DamagedInputError, match=says) as caught:
        readers.open(tmp_path / "a")
    assert str(caught.value).startswith(str(tmp_path / "a"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """Neither is a traceback."""
    with pytest.raises(DamagedInputError, match="can't be opened"):
        readers.open(tmp_path / "nothing")
    with pytest.raises(DamagedInputError, match="without any rosbag2 file"):
        readers.open(tmp_path)


def test_memory_is_bounded_by_a_chunk_not_by_the_file(tmp_path: Path) -> None:
    """Reading a file of 60 chunks takes no more memory than one of 6 (of the same size of chunk)."""
    peaks = []
    for repeats in (1, 10):
        path = tmp_path / f"{repeats}"
        write_mcap(path, CompressionType.NONE, order=lambda written, repeats=repeats: [
            (topic, kind, t + i * 10**10, data) for i in range(repeats) for topic, kind, t, data in written])  # fmt: skip
        recording = readers.open(path)
        assert not any(isinstance(item, Damage) for item in recording)
        tracemalloc.start()
        for _ in recording:
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
