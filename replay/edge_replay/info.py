"""What is in a recording: topics, types, counts, rates, gaps, damage; in one pass, with memory for the topics only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edge_monitor.core.layout.definitions import LayoutError
from edge_monitor.core.layout.formats import parse
from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.samples import Cause

from . import readers

STEP = 1_000_000_000  #: ns: a larger step back of the stream is a clock that went back (SEMANTICS §1)
EPOCH = 10**17  #: ns: times beyond count from 1970, smaller ones from the start of some machine


@dataclass
class Topic:
    """One topic of a recording. Times in ns on the recording's clock."""

    name: str
    instance: int
    type: str
    encoding: str
    problem: str | None = None  #: why it can't be decoded, or its times not used
    count: int = 0
    size: int = 0  #: bytes of all its messages
    spanned: int = 0  #: time from message to message, steps back of the clock left out
    intervals: int = 0  #: how many of these
    gap: int = 0  #: the longest
    gap_at: int | None = None  #: when it began
    last: int | None = None

    @property
    def rate(self) -> float | None:
        """Mean rate in Hz; None for fewer than two messages."""
        return self.intervals * 1e9 / self.spanned if self.spanned else None

    def document(self) -> dict[str, Any]:
        return {
            "topic": self.name,
            "instance": self.instance,
            "type": self.type,
            "encoding": self.encoding,
            "count": self.count,
            "bytes": self.size,
            "rate_hz": self.rate,
            "max_gap_s": self.gap / 1e9 if self.intervals else None,
            "max_gap_at_s": None if self.gap_at is None else self.gap_at / 1e9,
            "decodable": self.problem is None,
            "problem": self.problem,
        }


@dataclass
class Info:
    """What :func:`summarise` found. ``topics`` in order of appearance."""

    path: Path
    format: str
    size: int
    topics: list[Topic] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    first: int | None = None
    last: int | None = None
    steps_back: list[tuple[int, int]] = field(default_factory=list)  #: (time before, time after) of each
    dropouts: tuple[
        tuple[int | None, int], ...
    ] = ()  #: ULog: what the logger itself says it lost, (when, milliseconds)

    @property
    def messages(self) -> int:
        return sum(topic.count for topic in self.topics)

    @property
    def duration(self) -> int:
        """ns, steps back of the clock left out."""
        if self.first is None or self.last is None:
            return 0
        return self.last - self.first + sum(before - after for before, after in self.steps_back)

    @property
    def start(self) -> str | None:
        """The first message's wall time (UTC, ISO 8601), where the recording's clock counts from 1970."""
        if self.first is None or self.first < EPOCH:
            return None
        whole = datetime.fromtimestamp(self.first // 1_000_000_000, timezone.utc)
        return f"{whole:%Y-%m-%dT%H:%M:%S}.{self.first % 1_000_000_000:09d}Z"

    def document(self) -> dict[str, Any]:
        """As one JSON document; times in seconds."""
        texts = sum(topic.count for topic in self.topics if self.format == "ulog" and topic.name == "logged_message")
        return {
            "path": str(self.path),
            "format": self.format,
            "bytes": self.size,
            "start": self.start,
            "first_t_s": None if self.first is None else self.first / 1e9,
            "last_t_s": None if self.last is None else self.last / 1e9,
            "duration_s": self.duration / 1e9,
            "messages": self.messages,
            **({"samples": self.messages - texts, "texts": texts} if self.format == "ulog" else {}),
            "topics": [topic.document() for topic in self.topics],
            "clock_steps_back": [{"from_s": before / 1e9, "to_s": after / 1e9} for before, after in self.steps_back],
            "dropouts": [
                {"after_s": None if t is None else t / 1e9, "lost_ms": milliseconds}
                for t, milliseconds in self.dropouts
            ],
            "damage": [
                {
                    "where": damage.where,
                    "what": damage.what,
                    "after_t_s": None if damage.t is None else damage.t / 1e9,
                    "lost_messages": damage.lost_messages,
                    "lost_bytes": damage.lost_bytes,
                }
                for damage in self.damage
            ],
        }


def summarise(path: Path, progress: Callable[[int, int], None] | None = None) -> Info:
    """Read a recording once. ``progress`` is told (bytes read, bytes in all).

    Raises DamagedInputError where nothing can be read at all; other damage is in the result.
    """
    recording = readers.open(path)
    info = Info(path, recording.format, recording.size)
    for item in recording:
        if isinstance(item, Channel):
            info.topics.append(Topic(item.topic, item.instance, item.type, item.encoding, _problem(item)))
        elif isinstance(item, Damage):
            info.damage.append(item)
        else:
            _add(info, item)
            if progress is not None:
                progress(recording.position, recording.size)
    info.dropouts = getattr(recording, "dropouts", ())
    return info


def _problem(channel: Channel) -> str | None:
    if channel.cause is Cause.CLOCK:
        return "its times lie far outside the others'"
    if channel.schema == "none":
        return "its definition is not known" if channel.encoding in ("cdr", "ros1", "packed") else channel.encoding
    try:
        parse(channel)
    except LayoutError as error:
        return str(error)
    return None


def _add(info: Info, batch: Batch) -> None:
    """Account for the messages of a batch."""
    t, channels, sizes = batch.messages["t"], batch.messages["channel"], batch.messages["size"]
    if info.first is None:
        info.first = int(t[0])
    before = t[:-1] if info.last is None else np.concatenate(([info.last], t[:-1]))
    after = t[1:] if info.last is None else t
    back = np.flatnonzero(before - after > STEP)
    info.steps_back += [(int(before[i]), int(after[i])) for i in back]
    info.last = int(t[-1])
    order = np.argsort(channels, kind="stable")
    t, channels, sizes = t[order], channels[order], sizes[order]
    starts = np.flatnonzero(np.concatenate(([True], channels[1:] != channels[:-1])))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(t)], strict=True):
        topic = info.topics[channels[start]]
        times = t[start:end] if topic.last is None else np.concatenate(([topic.last], t[start:end]))
        topic.count += end - start
        topic.size += int(sizes[start:end].sum())
        topic.last = int(times[-1])
        gaps = np.diff(times)
        forward = gaps >= 0
        topic.intervals += int(forward.sum())
        topic.spanned += int(gaps[forward].sum())
        if len(gaps) and (gaps.max() > topic.gap or topic.gap_at is None):
            longest = int(gaps.argmax())
            topic.gap, topic.gap_at = max(0, int(gaps[longest])), int(times[longest])
