"""The monitor's own state as a topic like any other: ``edge_monitor/self``, for checks such as ``journal_healthy``.

It goes through the same door as every sensor, so it is on the tape, and a replay without it knows nothing of the journal
and says so.
"""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass

import numpy as np

from ..core.messages import Batch, Channel
from ..core.samples import MESSAGE

TOPIC = "edge_monitor/self"
TYPE = "edge_monitor_self"


@dataclass(frozen=True, slots=True)
class OwnState:
    """Fields of the topic; all are numbers."""

    journal: float  #: 1: the journal can be written, 0: it cannot
    journal_age: float  #: s that the oldest entry has waited for the disk
    journal_queue: float  #: share of the queue in use
    journal_refused: float  #: entries refused since the start
    cycle: float  #: s: the longest turn of the loop since the last report
    lost: float  #: messages that the source had to drop since the start
    bundle_age: float  #: s since the registry signed the bundle that is held; NaN without one


_FIELDS = tuple(OwnState.__dataclass_fields__)
_LAYOUT = struct.Struct(f"<{len(_FIELDS)}d")


def own_channel(number: int) -> Channel:
    """The channel of the topic; ``number``: its id among the monitor's channels."""
    definition = f"{TYPE}:" + "".join(f"double {name};" for name in _FIELDS)
    return Channel(number, TOPIC, TYPE, "packed", "ulog", definition)


def own_batch(number: int, t: int, state: OwnState) -> Batch:
    """One message at ``t`` (ns)."""
    data = np.frombuffer(_LAYOUT.pack(*astuple(state)), np.uint8)
    return Batch(data, np.array([(t, 0, len(data), number)], MESSAGE))
