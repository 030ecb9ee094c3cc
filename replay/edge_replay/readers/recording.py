"""What every reader has in common: the table of channels, the count of messages, reading by position, and ordering.

A reader is a :class:`Recording` whose ``_items`` is one pass over the file. It never raises for what is wrong inside a
recording: it yields a :class:`~edge_monitor.core.messages.Damage` and reads on.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_monitor.core.messages import Batch, Channel, Damage, topic_key
from edge_monitor.core.samples import Cause
from edge_monitor.errors import DamagedInputError

Bytes = npt.NDArray[np.uint8]
Item = Channel | Batch | Damage

BLOCK = 1 << 20  #: bytes read at a time, and about the size of a batch where the format does not set it
MAX_CHUNK = 256 << 20  #: a chunk or record that claims to be larger is damage: memory is bounded by this


class MalformedError(Exception):
    """A record is not what its header says. Stays among the readers: what comes out of them is Damage."""


class ChannelTable:
    """The channels of a recording (of all files of a split one), which are wanted, and how many messages each has.

    The same stream met again (a later chunk, the next file of a split bag) is the same channel.
    """

    def __init__(self, topics: Collection[str] | None = None) -> None:
        self.topics = None if topics is None else frozenset(topics)
        self._keys = {topic_key(topic, 0) for topic in topics or ()}
        self.channels: list[Channel] = []
        self.counts: dict[int, int] = {}
        self._known: dict[tuple[str, str, str, str, str, int], Channel] = {}

    def add(
        self,
        topic: str,
        type_name: str,
        encoding: str,
        schema: str,
        definition: str,
        *,
        instance: int = 0,
        receive_time: bool = True,
        cause: Cause = Cause.NONE,
    ) -> tuple[Channel, bool]:
        """The channel of this description, and whether it is new (and is still to be yielded)."""
        key = (topic, type_name, encoding, schema, definition, instance)
        known = self._known.get(key)
        if known is not None:
            return known, False
        channel = Channel(
            len(self.channels), topic, type_name, encoding, schema, definition, instance, receive_time, cause
        )
        self._known[key] = channel
        self.channels.append(channel)
        self.counts[channel.id] = 0
        return channel, True

    def wants(self, channel: Channel) -> bool:
        """Whether a channel is asked for: its topic by name, or this instance of it (``battery_status[1]``)."""
        if self.topics is None or channel.topic in self.topics:
            return True
        return topic_key(channel.topic, channel.instance) in self._keys

    def code(self, channel: Channel) -> int:
        """What the kernels' lookup tables hold for a channel: its id, or ``-2 - id`` where it is only counted."""
        return channel.id if self.wants(channel) else -2 - channel.id


class Recording(ABC):
    """A recording: iterate it for ``Channel | Batch | Damage``, once or again (each pass starts anew).

    ``channels`` and ``counts`` (messages by channel id, unwanted topics included) grow while it is read.
    ``position`` is the number of bytes read so far, of ``size``.
    """

    format = ""  #: mcap, rosbag2-sqlite3, rosbag1, ulog, tlog, csv or jsonl
    damaged_magic = False  #: the first bytes are not quite those of the format

    def __init__(self, path: Path, topics: Collection[str] | None = None, table: ChannelTable | None = None) -> None:
        self.path = path
        self.topics = topics
        self.size = path.stat().st_size if path.is_file() else 0
        self.position = 0
        self._given_table = table
        self.table = table or ChannelTable(topics)

    @property
    def channels(self) -> list[Channel]:
        return self.table.channels

    @property
    def counts(self) -> dict[int, int]:
        return self.table.counts

    def __iter__(self) -> Iterator[Item]:
        self.table = self._given_table or ChannelTable(self.topics)
        self.position = 0
        last: int | None = None
        if self.damaged_magic:
            yield self.damage("the first bytes are damaged; read as what the rest of them says", 0)
        try:
            for item in self._items():
                if isinstance(item, Batch):
                    last = int(item.messages["t"][-1])
                    if self._given_table is None:  # else the recording that this file is a part of counts
                        for channel, count in enumerate(np.bincount(item.messages["channel"]).tolist()):
                            self.table.counts[channel] += count
                elif isinstance(item, Damage) and item.t is None:
                    item = replace(item, t=last)
                yield item
        except OSError as error:
            yield replace(self.damage(f"reading stopped: {error.strerror or error}", self.position), t=last)

    @abstractmethod
    def _items(self) -> Iterator[Item]:
        """One pass over the recording."""

    def damage(self, what: str, start: int | None = None, end: int | None = None, *, lost: int | None = None) -> Damage:
        """Damage at a byte range of this file; ``lost`` messages where known."""
        where = self.path.name
        if start is not None:
            where += f" byte {start}" if end is None else f" bytes {start}–{end}"
        span = end - start if start is not None and end is not None else None
        return Damage(where, what, lost_messages=lost, lost_bytes=span)


class ByteFile:
    """Bytes of a file by position. Reads past the end are short, never an error."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise DamagedInputError(
                f"{path}: can't be opened: {error.strerror}; check the path and permissions"
            ) from None
        self.size = os.fstat(self._file.fileno()).st_size
        self._start = 0
        self._ahead = b""

    def __enter__(self) -> ByteFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, start: int, count: int) -> bytes:
        """``count`` bytes from ``start``; fewer at the end of the file."""
        count = max(0, min(count, self.size - start))
        parts: list[bytes] = []
        while count > 0:
            part = os.pread(self._file.fileno(), count, start)
            if not part:
                break
            if len(part) == count and not parts:
                return part
            parts.append(part)
            start += len(part)
            count -= len(part)
        return b"".join(parts)

    def peek(self, start: int, count: int) -> bytes:
        """The same for small neighbouring pieces (headers): reads 64 KiB ahead."""
        offset = start - self._start
        if offset < 0 or offset + count > len(self._ahead):
            self._start, offset = start, 0
            self._ahead = self.read(start, max(count, 1 << 16))
        return self._ahead[offset : offset + count]

    def array(self, start: int, count: int) -> Bytes:
        """``count`` bytes from ``start`` as (n,) uint8."""
        return np.frombuffer(self.read(start, count), np.uint8)


class Merger:
    """Puts messages of overlapping chunks in order of time, holding back no more than what can still be overtaken.

    ``push`` is told from which time on later chunks may still deliver; everything up to there goes out. Chunks that
    don't overlap pass through without a copy. Equal times keep the order of the file. What is held is bounded: past
    ``limit`` bytes it goes out as it is.
    """

    def __init__(self, limit: int = MAX_CHUNK) -> None:
        self.limit = limit
        self._data: list[Bytes] = []
        self._rows: list[np.ndarray] = []
        self._held = 0

    def push(self, data: Bytes, rows: np.ndarray, later: int | None) -> Iterator[Batch]:
        """Take the rows of a chunk, sorted by time, and yield what no later chunk can precede (``later``: the smallest
        time that may still come; None where that is not known or nothing comes)."""
        if not self._rows and (later is None or not len(rows) or rows["t"][-1] <= later):
            if len(rows):
                yield Batch(data, rows)
            return
        if len(rows):
            rows = rows.copy()
            rows["start"] += self._held
            self._data.append(data)
            self._rows.append(rows)
            self._held += len(data)
        yield from self._release(None if self._held > self.limit else later)

    def flush(self) -> Iterator[Batch]:
        """Yield what is still held."""
        if self._rows:
            yield from self._release(None)

    def _release(self, later: int | None) -> Iterator[Batch]:
        buffer = np.concatenate(self._data)
        rows = in_time_order(np.concatenate(self._rows))
        ready = len(rows) if later is None else int(np.searchsorted(rows["t"], later, side="right"))
        self._data, self._rows, self._held = [], [], 0
        if ready < len(rows):
            data, rest = compact(buffer, rows[ready:])
            self._data, self._rows, self._held = [data], [rest], len(data)
        if ready:
            yield Batch(buffer, rows[:ready])


def compact(data: Bytes, rows: np.ndarray) -> tuple[Bytes, np.ndarray]:
    """Copies of the rows' bytes, one after the other, and rows that point into them."""
    rows = rows.copy()
    pieces = [
        data[start : start + size] for start, size in zip(rows["start"].tolist(), rows["size"].tolist(), strict=True)
    ]
    rows["start"] = np.concatenate(([0], np.cumsum(rows["size"][:-1], dtype=np.int64)))
    return np.concatenate(pieces), rows


def in_time_order(rows: np.ndarray) -> np.ndarray:
    """The rows, sorted stably by time (themselves where they are already)."""
    t = rows["t"]
    return rows if not len(t) or bool((t[1:] >= t[:-1]).all()) else rows[np.argsort(t, kind="stable")]
