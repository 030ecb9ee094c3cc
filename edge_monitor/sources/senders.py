"""What is known of each component of a vehicle that topics are read of: whether it lives, and what its line loses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edge_monitor.core.messages import Damage
from edge_monitor.core.samples import Cause

from .topics import SECOND, Status, Topic

SILENCE = 5 * SECOND  #: ns without a heartbeat (due every second) until a component counts as gone
LOSSY, LEAST = 0.1, 3  #: share of a second's messages, and number of them, that may be lost before topics are unknown
TOLD = 60 * SECOND  #: ns between accounts of what was lost


class Sender:
    """One component. Its numbers are of all its messages, so that a loss can't be told of a single topic.

    A line over radio always loses some: that is counted, and told once a minute. Its topics are unknown for as long as more
    than a tenth of a second's messages is lost.
    """

    def __init__(self, system: int, component: int) -> None:
        self.name = f"{system}/{component}"
        self.key = system << 8 | component
        self.topics: list[Topic] = []
        self.texts: list[Topic] = []  #: those on which it need not say anything, as long as it lives
        self.lost = 0
        self._frames = 0
        self._beat = 0  # time of its last heartbeat; 0: none yet
        self._silent = False
        self._looked = 0
        self._told, self._told_lost = -TOLD, 0

    def beat(self, t: int) -> Iterator[Status | None]:
        """A heartbeat came at ``t``, ns."""
        self._beat = t
        yield from [topic.appear() for topic in self.texts if not topic.heard]
        if self._silent:
            self._silent = False
            yield from [topic.appear() for topic in self.topics if topic.heard]

    def care(self, now: int) -> Iterator[Status | None]:
        """What is to be told of its topics: that it is silent, and that they are healthy again."""
        if self._beat and not self._silent and now - self._beat >= SILENCE:
            self._silent = True
            message = f"no heartbeat of {self.name} for {SILENCE // SECOND} s"
            yield from [topic.absent(message) for topic in self.topics if topic.cause != Cause.NO_PUBLISHER]
        for topic in self.topics:
            healed = topic.heal(now)
            yield healed[0] if healed is not None else None

    def count(self, state: np.void, now: int) -> Iterator[Status | None]:
        """Look, once a second, at how many were lost (``framing.SENDER``)."""
        if now - self._looked < SECOND:
            return
        frames, lost = int(state["frames"]), int(state["lost"])
        fresh = lost - self.lost
        if fresh >= LEAST and fresh > LOSSY * (fresh + frames - self._frames):
            message = f"{fresh} messages of {self.name} were lost on the way within a second"
            yield from [topic.fault(now, Cause.OVERFLOW, message, fresh) for topic in self.topics if topic.heard]
        self._looked, self._frames, self.lost = now, frames, lost

    def account(self, now: int) -> Damage | None:
        """What was lost since it was last told, if that is due."""
        if self.lost == self._told_lost or now - self._told < TOLD:
            return None
        fresh, self._told_lost, self._told = self.lost - self._told_lost, self.lost, now
        return Damage(
            f"mavlink/{self.name}", "lost on the way", now, fresh, topics=tuple(topic.name for topic in self.topics)
        )
