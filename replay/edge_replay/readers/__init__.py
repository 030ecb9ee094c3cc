"""Readers of recordings: ``open(path)`` for every format, chosen by what the file contains, never by its name."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from edge_monitor.errors import DamagedInputError

from .recording import ChannelTable, Recording

__all__ = ["Recording", "open"]

MAGICS = {
    "mcap": b"\x89MCAP0\r\n",
    "rosbag2-sqlite3": b"SQLite format 3\x00",
    "rosbag1": b"#ROSBAG V2.0\n",
    "ulog": b"ULog\x01\x12\x35",
}
TOLERATED = 2  #: bytes of a magic that may be wrong

FOREIGN = {
    b"\x1f\x8b": "it is compressed with gzip; unpack it first",
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd as a whole; unpack it first (zstd -d)",
    b"BZh": "it is compressed with bzip2; unpack it first",
    b"PK\x03\x04": "it is a zip archive; unpack it first",
    b"\xa3\x95\x80\x80": "it is an ArduPilot DataFlash log, which is not supported",
    b"#ROSBAG V1": "it is a ROS bag of version 1; convert it with 'rosbag fix'",
}


def open(path: str | os.PathLike[str], topics: Collection[str] | None = None) -> Recording:  # noqa: A001
    """A recording of any known format: a file, or a rosbag2 folder.

    Iterate it for ``Channel | Batch | Damage``. ``topics`` limits what is delivered (everything is counted). Raises
    :class:`~edge_monitor.errors.DamagedInputError` where nothing can be read at all; all other damage is an item.
    """
    return open_with(Path(path), topics, None)


def open_with(path: Path, topics: Collection[str] | None, table: ChannelTable | None) -> Recording:
    """:func:`open` with the channels of a larger recording that the file is a part of."""
    try:
        if path.is_dir():
            from .rosbag2_folder import Rosbag2Folder

            return Rosbag2Folder(path, topics)
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise DamagedInputError(f"{path}: can't be opened: {error.strerror}; check the path and permissions") from None
    if not head:
        raise DamagedInputError(f"{path}: the file is empty; the recorder wrote nothing, or the copy failed")
    for magic, answer in FOREIGN.items():
        if head.startswith(magic):
            raise DamagedInputError(f"{path}: {answer}")
    name, wrong = closest_magic(head)
    if wrong <= TOLERATED:
        recording = _reader(name)(path, topics, table)
        recording.damaged_magic = wrong > 0
        return recording
    from .tlog import is_tlog

    name = "tlog" if is_tlog(head) else _kind_of_text(head)
    if not name:
        raise DamagedInputError(
            f"{path}: not a recording that can be read (known: MCAP, rosbag2, ROS 1 bag, ULog, tlog, CSV with times, JSONL)"
        )
    return _reader(name)(path, topics, table)


def closest_magic(head: bytes) -> tuple[str, int]:
    """The format whose magic is nearest to the first bytes, and how many of its bytes are wrong."""
    distance = {
        name: sum(a != b for a, b in zip(head, magic, strict=False)) + max(0, len(magic) - len(head))
        for name, magic in MAGICS.items()
    }
    name = min(distance, key=lambda key: distance[key])
    return name, distance[name]


def _kind_of_text(head: bytes) -> str:
    """``jsonl`` or ``csv`` where the first bytes are text of that kind, else nothing."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        return "jsonl"
    first = text.split(b"\n", 1)[0]
    printable = all(byte >= 32 or byte in b"\t\r" for byte in first)
    return "csv" if first and printable and any(mark in first for mark in b",;\t") else ""


def _reader(name: str) -> type[Recording]:
    """The class for a format; imported only now, as some bring a compiler along."""
    if name == "mcap":
        from .mcap import McapRecording

        return McapRecording
    if name == "rosbag2-sqlite3":
        from .rosbag2 import Rosbag2File

        return Rosbag2File
    if name == "rosbag1":
        from .rosbag1 import Rosbag1Recording

        return Rosbag1Recording
    if name == "ulog":
        from .ulog import UlogRecording

        return UlogRecording
    if name == "tlog":
        from .tlog import TlogRecording

        return TlogRecording
    if name == "csv":
        from .csv import CsvRecording

        return CsvRecording
    from .jsonl import JsonlRecording

    return JsonlRecording
