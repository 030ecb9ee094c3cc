"""What is known of each topic of a live input: how much came, whether it keeps to its limits, and what was last said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from edge_monitor.core.samples import Cause

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a publisher may send. What is over it is dropped, counted by topic, and becomes the cause of its signals."""

    frame_bytes: int = 1 << 18  #: of a payload
    meta_bytes: int = 1 << 16
    rate: float = 5_000.0  #: messages a second on one topic; a second's worth may come at once
    metas: int = 8  #: different metas on one topic
    strangers: int = 64  #: topics that nobody asked for and that are counted by name
    buffer_bytes: int = 1 << 23  #: payloads of one drain
    queue: int = 2_000  #: messages that wait in a socket (ZeroMQ's high-water mark)
    healthy_after: int = SECOND  #: ns without a fault until a topic is healthy again
    grace: int = 5 * SECOND  #: ns until a topic on which nothing came has no publisher


class Status(NamedTuple):
    """A change in what holds for all signals of a topic; ``cause`` NONE: it is healthy again."""

    topic: str
    cause: Cause
    message: str


@dataclass(slots=True)
class Counts:
    """Messages of a topic. ``gaps``: lost on the way, as the sequence numbers tell."""

    taken: int = 0
    over_rate: int = 0
    over_size: int = 0
    invalid: int = 0
    gaps: int = 0


class Topic:
    """One topic that the envelope reads.

    The first fault of an episode is told, and its end: ``healthy_after`` without another. A topic over its rate is held
    back as a whole meanwhile: thinned out, it would deceive windows and rates, so that unknown is the truth about it.
    """

    def __init__(self, name: str, limits: Limits, begun: int = 0) -> None:
        """``begun``: since when it is read, ns; 0: as long as its source."""
        self.name = name
        self.begun = begun
        self.counts = Counts()
        self.cause = Cause.NONE
        self.held = False
        self.heard = False  #: something has come
        self._limits = limits
        self._interval = round(SECOND / limits.rate)
        self._paid = 0  # ns up to which what came is within the rate
        self._last = 0  # time of the last fault
        self._lost = 0  # messages that the episode took

    def admit(self, t: int, count: int = 1) -> bool:
        """Whether ``count`` more messages at ``t`` (ns) are within the rate: a bucket of one second, in event time."""
        paid = (self._paid if self._paid > t else t) + self._interval * count
        if paid - t > SECOND:
            return False
        self._paid = paid
        return True

    def absent(self, message: str) -> Status:
        """Nothing has ever come."""
        self.cause = Cause.NO_PUBLISHER
        return Status(self.name, self.cause, message)

    def appear(self) -> Status | None:
        """Something came for the first time; news where its absence was told."""
        self.heard = True
        if self.cause != Cause.NO_PUBLISHER:
            return None
        self.cause = Cause.NONE
        return Status(self.name, Cause.NONE, "a publisher has appeared")

    def fault(self, t: int, cause: Cause, message: str, lost: int, *, hold: bool = False) -> Status | None:
        """Something was wrong at ``t``, and took ``lost`` messages; answers what is to be told, if it is news."""
        news = self.cause in (Cause.NONE, Cause.NO_PUBLISHER) or (hold and not self.held)
        self._last = t
        self._lost += lost
        self.held = self.held or hold
        if not news:
            return None
        self.cause = cause
        return Status(self.name, cause, message)

    def miss(self, count: int = 1) -> None:
        """So many more messages that the episode took."""
        self._lost += count

    def heal(self, t: int) -> tuple[Status, int] | None:
        """The end of an episode at ``t``, and how many messages it took; None where none has ended."""
        if self.cause in (Cause.NONE, Cause.NO_PUBLISHER) or t - self._last < self._limits.healthy_after:
            return None
        lost, self._lost = self._lost, 0
        self.cause, self.held = Cause.NONE, False
        return Status(self.name, Cause.NONE, "healthy again"), lost
