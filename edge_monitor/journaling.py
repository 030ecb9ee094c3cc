"""From events to journal entries: the one form in which replay and the onboard process write them."""

from __future__ import annotations

from typing import Any

from .events import SEVERITIES, Event
from .journal import Entry, Severity

#: Events that force a commit of everything up to and including themselves (SEMANTICS §7, durability class *now*).
AT_ONCE = (
    "gate.", "handover.", "override.", "failsafe.", "mrm.", "latch.", "envelope.", "authority.", "action.",
    "monitor.started", "monitor.active", "monitor.stopped", "journal.", "key.",
)  # fmt: skip


def at_once(event: Event) -> bool:
    """Whether an event is committed by itself."""
    return event.type.startswith(AT_ONCE) or SEVERITIES[event.severity] <= SEVERITIES["critical"]


def entry(event: Event, *, now: bool = False, **beside: Any) -> Entry:
    """The journal's entry for an event. ``beside``: what the process adds to the payload, never the decision itself."""
    return Entry(
        type=event.type,
        severity=Severity(SEVERITIES[event.severity]),
        t_effective=event.t_effective,
        t_decided=event.t_decided,
        payload={"subject": event.subject, **beside, **event.payload},
        rules=event.rules,
        hazard=event.hazard,
        claim=event.claim,
        now=now,
    )
