"""The recording of a flight: ROS 2 messages, each with its source stamp and arrival time, written as zstd MCAP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcap.writer import CompressionType, Writer
from sensors import TYPES

LIBRARY = "edge-monitor scenarios"
CHUNK_SIZE = 512 * 1024


class Recording:
    """Messages in memory, written in the order of their arrival. The same messages give the same bytes."""

    def __init__(self) -> None:
        self._types: dict[str, str] = {}
        self._rows: list[tuple[int, int, str, int, bytes]] = []

    def add(self, topic: str, message: Any, *, stamp: int, arrival: int) -> None:
        """Keep ``message``, published at ``stamp`` and received at ``arrival`` (ns since the epoch)."""
        name = message.__msgtype__
        if self._types.setdefault(topic, name) != name:
            raise ValueError(f"{topic} carries {self._types[topic]}, not {name}")
        data = bytes(TYPES.serialize_cdr(message, name))
        self._rows.append((arrival, len(self._rows), topic, stamp, data))

    def write(self, path: Path, metadata: dict[str, str]) -> None:
        """Write an indexed MCAP file of profile ``ros2`` with ``metadata`` under the name ``scenario``."""
        with path.open("wb") as stream:
            writer = Writer(stream, chunk_size=CHUNK_SIZE, compression=CompressionType.ZSTD)
            writer.start(profile="ros2", library=LIBRARY)
            writer.add_metadata("scenario", metadata)
            schemas: dict[str, int] = {}
            channels: dict[str, int] = {}
            for topic, name in sorted(self._types.items()):
                if name not in schemas:
                    definition, _ = TYPES.generate_msgdef(name, ros_version=2)
                    schemas[name] = writer.register_schema(name, "ros2msg", definition.encode())
                channels[topic] = writer.register_channel(topic, "cdr", schemas[name])
            for arrival, _, topic, stamp, data in sorted(self._rows):
                writer.add_message(channels[topic], arrival, data, stamp)
            writer.finish()
