"""One recording through one monitor: the loop, and what is known afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_monitor.core.messages import Batch, Channel, Damage, topic_key
from edge_monitor.core.samples import NEVER, UNSEEN
from edge_monitor.envelope import Envelope
from edge_monitor.events import Event
from edge_monitor.runtime import Monitor

from . import readers
from .matrix import Matrix

Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a recording to replay, in ns on its clock; ``relative`` ends count from its first message."""

    start: int | None = None
    end: int | None = None
    start_relative: bool = False
    end_relative: bool = False

    def bounds(self, first: int) -> tuple[int, int]:
        """Both ends in ns on the recording's clock; ``first`` is the time of its first message, ns."""
        start = UNSEEN if self.start is None else self.start + (first if self.start_relative else 0)
        end = NEVER if self.end is None else self.end + (first if self.end_relative else 0)
        return max(start, UNSEEN), min(end, NEVER)


@dataclass(slots=True)
class Replay:
    """What a replay found: every event, the monitor as it stands at the end, and what was read."""

    path: Path
    format: str
    monitor: Monitor
    events: list[Event] = field(default_factory=list)
    messages: int = 0
    first: int | None = None
    last: int | None = None
    topics: dict[str, str] = field(default_factory=dict)  #: topic: type
    present: set[tuple[str, int]] = field(default_factory=set)  #: topics with their instances
    matrix: Matrix | None = None  #: what the sensors saw, where that was asked for
    recorded: tuple[int, int] | None = None  #: first and last time in the recording, whatever the window, ns

    @property
    def damages(self) -> list[Damage]:
        """What could not be read."""
        return self.monitor.damages

    @property
    def missing_topics(self) -> list[str]:
        """Topics that the envelope reads and the recording does not have."""
        wanted = dict.fromkeys(signal.topic for signal in self.monitor.envelope.signals if signal.topic)
        return [topic for topic in wanted if topic_key(topic, 0) not in self.present]


def within(item: Batch, bounds: tuple[int, int]) -> Batch:
    """The messages of a batch whose time lies in ``bounds`` (ns, both ends included)."""
    t = item.messages["t"]
    keep = (t >= bounds[0]) & (t <= bounds[1])
    return item if keep.all() else Batch(item.data, item.messages[keep])


def replay(
    path: Path,
    envelope: Envelope,
    *,
    window: Window | None = None,
    listener: Listener | None = None,
    matrix: Matrix | None = None,
    recorder: Callable[[Monitor, int], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Replay:
    """Run ``path`` through a monitor for ``envelope``.

    ``listener`` gets each event as it is decided; ``matrix`` accounts for all time; ``recorder`` may give the monitor a
    tape, and gets the recording's size in bytes too. ``progress`` gets (bytes read, bytes
    in all) after each item of the source; what it raises ends the replay between two items. Raises
    ``DamagedInputError`` when nothing in the file can be read; partial damage is an event and in ``damages``.
    """
    recording = readers.open(path, topics=sorted({signal.topic for signal in envelope.signals if signal.topic}))
    result = Replay(Path(path), recording.format, Monitor(envelope, matrix), matrix=matrix)
    if recorder is not None:
        recorder(result.monitor, recording.size)

    def tell(found: list[Event]) -> None:
        for event in found:
            result.events.append(event)
            if listener is not None:
                listener(event)

    bounds: tuple[int, int] | None = None
    for item in recording:
        if isinstance(item, Channel):
            result.topics[item.topic] = item.type
            result.present.add(topic_key(item.topic, item.instance))
        elif isinstance(item, Batch) and len(item.messages):
            low, high = _span(item)
            recorded = result.recorded or (low, high)
            result.recorded = min(recorded[0], low), max(recorded[1], high)
            if window is not None:
                bounds = bounds or window.bounds(low)
                item = within(item, bounds)
            _count(result, item)
        tell(result.monitor.feed(item))
        if progress is not None:
            progress(recording.position, recording.size)
    tell(result.monitor.finish())
    if matrix is not None:
        matrix.finish(result.monitor.now)
    return result


def _span(batch: Batch) -> tuple[int, int]:
    times = batch.messages["t"]
    return int(times.min()), int(times.max())


def _count(result: Replay, batch: Batch) -> None:
    if len(batch.messages) == 0:
        return
    low, high = _span(batch)
    result.messages += len(batch.messages)
    result.first = low if result.first is None else min(result.first, low)
    result.last = high if result.last is None else max(result.last, high)
