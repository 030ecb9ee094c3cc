"""What a signal asks of the middleware that brings it (DDS, ROS 2): nothing, unless the envelope says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import Field

from .fields import Model, PositiveDuration


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is asked for a topic. ``deadline``: ns, 0: none; ``depth``: of the queue, 0: what suits the type."""

    reliable: bool = False
    latched: bool = False
    deadline: int = 0
    depth: int = 0


class Qos(Model):
    """What a signal asks of its publishers in DDS and ROS 2. Without it a subscription is best-effort and volatile, fits
    every publisher and never makes one wait."""

    reliable: bool = Field(False, description="lost messages are sent again; a publisher that does not do so is named")
    latched: bool = Field(
        False, description="the last message is wanted even if the monitor starts later (transient-local); reliable too"
    )
    deadline: PositiveDuration | None = Field(
        None, description="publishers must promise a message at least so often; a promise that is broken is named"
    )
    depth: int | None = Field(
        None, description="messages that may wait in the queue; 8 for images and clouds, else 2000", ge=1, le=100_000
    )


def deliveries(signals: Iterable[tuple[str, Qos | None]]) -> dict[str, Delivery]:
    """What is asked for each topic, given what its signals ask: the most that any of them does."""
    asked: dict[str, list[Qos]] = {}
    for topic, qos in signals:
        if topic and qos is not None:
            asked.setdefault(topic, []).append(qos)
    return {topic: _merged(some) for topic, some in asked.items()}


def _merged(some: list[Qos]) -> Delivery:
    return Delivery(
        reliable=any(one.reliable or one.latched for one in some),
        latched=any(one.latched for one in some),
        deadline=min((one.deadline for one in some if one.deadline), default=0),
        depth=max((one.depth for one in some if one.depth), default=0),
    )
