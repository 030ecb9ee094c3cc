"""The closed list of event types. A new one is added here and in FORMAT.md together (a test holds them equal)."""

from __future__ import annotations

EVENT_TYPES = (
    "check.fail", "check.pass", "check.unknown",
    "drift.detected", "drift.resolved",
    "odd.exit", "odd.enter",
    "gate.go", "gate.no_go", "gate.waived",
    "authority.changed",
    "handover.requested", "handover.accepted", "handover.refused", "handover.timeout", "handover.completed",
    "handover.cancelled", "override.start", "override.end",
    "failsafe.start", "failsafe.end",
    "mrm.start", "mrm.succeeded", "mrm.failed",
    "latch.set", "latch.reset",
    "action.blocked",
    "access.refused",
    "input.lost", "input.restored",
    "clock.jump",
    "log.damage",
    "envelope.activated", "envelope.rejected",
    "monitor.started", "monitor.active", "monitor.degraded", "monitor.overrun", "monitor.heartbeat", "monitor.stopped",
    "journal.gap",
    "key.rotated",
    "mitigation.applied", "mitigation.withdrawn",
    "hardcase.captured",
    "bundle.accepted", "bundle.refused",
    "incident.requested", "incident.kept", "incident.removed", "incident.failed",
)  # fmt: skip
