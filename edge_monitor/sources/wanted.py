"""What an envelope reads, topic by topic: for sources that must ask their publishers for it."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from edge_monitor.envelope import Envelope
from edge_monitor.envelope.delivery import Delivery


class Wanted(NamedTuple):
    """A topic. ``type``: the message type that the envelope names, None where it names none."""

    topic: str
    type: str | None = None
    qos: Delivery = Delivery()


def wanted(
    envelope: Envelope, also: Collection[str] = (), never: Collection[str] = (), latched: Collection[str] = ()
) -> list[Wanted]:
    """The topics of an envelope, and ``also`` those, in the order of their names, and ``never`` those.

    ``latched``: of topics that the envelope asks nothing of, those whose last message is wanted from before the start."""
    types: dict[str, str | None] = dict.fromkeys(also)
    for signal in envelope.signals:
        if signal.topic and signal.topic not in never:
            types[signal.topic] = types.get(signal.topic) or signal.type
    asked = dict.fromkeys(latched, Delivery(reliable=True, latched=True)) | dict(envelope.deliveries)
    return [Wanted(topic, types[topic], asked.get(topic, Delivery())) for topic in sorted(types)]
