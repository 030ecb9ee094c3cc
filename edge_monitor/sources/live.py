"""What the onboard loop needs of a live input, and several inputs as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, replace
from typing import Any, Protocol

import numpy as np

from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.samples import Cause

from .topics import Counts, Status
from .wanted import Wanted

Item = Channel | Batch | Damage


class LiveSource(Protocol):
    """A live input, owned by one thread. Nothing of it waits, and nothing that is sent to it raises."""

    @property
    def sockets(self) -> Sequence[Any]:
        """To be polled for reading: ZeroMQ sockets, or anything with a ``fileno``. They stay the same."""

    @property
    def now(self) -> int:
        """The latest time that was stamped, ns; never goes back."""

    def drain(self) -> list[Item]:
        """What is queued, each message stamped with the time at which it was taken. A batch holds until the next call."""

    def status(self) -> Sequence[Status]:
        """Changes in what holds for whole topics, at ``now``, behind the batch of the same drain."""

    @property
    def lost(self) -> int:
        """Messages that had to be dropped or were lost on the way, in all."""

    @property
    def counts(self) -> Mapping[str, Counts]:
        """What came on each topic that is read, by its name; the names stay the same until :meth:`renew`."""

    def unable(self, wanted: Sequence[Wanted]) -> set[str]:
        """Topics among those wanted that it can't bring without being opened anew."""

    def renew(self, wanted: Sequence[Wanted]) -> None:
        """Read these topics from here on, as far as it can; what else it read need not come any more."""

    def describe(self) -> list[str]:
        """A line for each address: what is known of the other end."""

    def close(self) -> None:
        """Give the sockets back."""


class Combined:
    """Several live inputs as one: channels get numbers of their own, and a topic that several read is judged as one.

    Drained one after the other, they stamp in order. What a source finds wrong with a topic is said of it; that nobody
    publishes it only where all sources that read it say so.
    """

    def __init__(self, sources: Sequence[LiveSource]) -> None:
        """``sources``: at least one; they belong to this object from now on."""
        self._sources = tuple(sources)
        self._numbers: list[np.ndarray] = [np.zeros(0, np.int32) for _ in sources]  # a source's channel to ours
        self._count = 0
        self._said: dict[str, dict[int, Cause]] = {}
        for index, source in enumerate(sources):
            for topic in source.counts:
                self._said.setdefault(topic, {})[index] = Cause.NONE

    @property
    def sockets(self) -> list[Any]:
        """To be polled."""
        return [socket for source in self._sources for socket in source.sockets]

    @property
    def now(self) -> int:
        """The latest time that was stamped, ns."""
        return max(source.now for source in self._sources)

    def drain(self) -> list[Item]:
        """What is queued, source by source."""
        items: list[Item] = []
        for index, source in enumerate(self._sources):
            for item in source.drain():
                if isinstance(item, Channel):
                    items.append(self._adopt(index, item))
                elif isinstance(item, Batch):
                    messages = item.messages.copy()
                    messages["channel"] = self._numbers[index][messages["channel"]]
                    items.append(Batch(item.data, messages))
                else:
                    items.append(item)
        return items

    def status(self) -> list[Status]:
        """Changes in what holds for whole topics, whichever source they come from."""
        found: list[Status] = []
        for index, source in enumerate(self._sources):
            for topic, cause, message in source.status():
                said = self._said.setdefault(topic, {})
                before = _judged(said.values())
                said[index] = cause
                after = _judged(said.values())
                if after != before:
                    found.append(Status(topic, after, message))
        return found

    @property
    def lost(self) -> int:
        """Messages that were dropped or lost, in all."""
        return sum(source.lost for source in self._sources)

    @property
    def counts(self) -> dict[str, Counts]:
        """What came on each topic, from all sources together."""
        found: dict[str, Counts] = {}
        for source in self._sources:
            for topic, counts in source.counts.items():
                before = found.get(topic, Counts())
                found[topic] = Counts(*(a + b for a, b in zip(astuple(before), astuple(counts), strict=True)))
        return found

    def unable(self, wanted: Sequence[Wanted]) -> set[str]:
        """Topics that none of the sources can bring without being opened anew."""
        return set.intersection(*(source.unable(wanted) for source in self._sources))

    def renew(self, wanted: Sequence[Wanted]) -> None:
        """Read these topics from here on, each source those that it can."""
        for index, source in enumerate(self._sources):
            source.renew(wanted)
            for topic in source.counts:
                self._said.setdefault(topic, {}).setdefault(index, Cause.NONE)

    def describe(self) -> list[str]:
        """A line for each address of each source."""
        return [line for source in self._sources for line in source.describe()]

    def close(self) -> None:
        """Close all sources."""
        with ExitStack() as stack:
            for source in self._sources:
                stack.callback(source.close)

    def _adopt(self, index: int, channel: Channel) -> Channel:
        numbers = self._numbers[index]
        if channel.id >= len(numbers):
            new = np.arange(self._count, self._count + channel.id + 1 - len(numbers), dtype=np.int32)
            self._count += len(new)
            numbers = self._numbers[index] = np.concatenate([numbers, new])
        return replace(channel, id=int(numbers[channel.id]))


def _judged(causes: Iterable[Cause]) -> Cause:
    """What holds for a topic, given what each source that reads it says."""
    said = list(causes)
    faults = [cause for cause in said if cause not in (Cause.NONE, Cause.NO_PUBLISHER)]
    if faults:
        return faults[0]
    return Cause.NO_PUBLISHER if said and Cause.NONE not in said else Cause.NONE
