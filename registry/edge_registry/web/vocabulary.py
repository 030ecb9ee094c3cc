"""Event types and conditions in plain words: what somebody reads who never saw a journal. Tests hold them to what there is."""

from __future__ import annotations

from collections.abc import Iterable

MEANINGS = {
    "check.fail": "a limit was passed",
    "check.pass": "a limit is kept again",
    "check.unknown": "a limit can no longer be told",
    "drift.detected": "a signal has drifted",
    "drift.resolved": "a drift is over",
    "odd.exit": "left the declared domain",
    "odd.enter": "back in the declared domain",
    "gate.go": "a gate gave GO",
    "gate.no_go": "a gate gave NO_GO",
    "gate.waived": "a person waived a criterion",
    "authority.changed": "control changed",
    "handover.requested": "somebody was asked to take control",
    "handover.accepted": "the handover was accepted",
    "handover.refused": "the handover was refused",
    "handover.timeout": "nobody answered in time",
    "handover.completed": "the handover was completed",
    "handover.cancelled": "the handover was called off",
    "override.start": "a person took over by themselves",
    "override.end": "an override is over",
    "failsafe.start": "the vehicle's own failsafe began",
    "failsafe.end": "the vehicle's own failsafe is over",
    "mrm.start": "a minimal-risk manoeuvre began",
    "mrm.succeeded": "a minimal-risk manoeuvre succeeded",
    "mrm.failed": "a minimal-risk manoeuvre failed",
    "latch.set": "a breach was latched",
    "latch.reset": "a latch was reset",
    "action.blocked": "an action was held back",
    "access.refused": "somebody was refused",
    "input.lost": "an input was lost",
    "input.restored": "an input came back",
    "clock.jump": "the clock jumped",
    "log.damage": "part of the input could not be read",
    "envelope.activated": "an envelope came into force",
    "envelope.rejected": "an envelope was rejected",
    "monitor.started": "the monitor started",
    "monitor.active": "the monitor is active",
    "monitor.degraded": "the monitor is degraded",
    "monitor.overrun": "the monitor was too slow",
    "monitor.heartbeat": "the monitor is alive",
    "monitor.stopped": "the monitor stopped",
    "journal.gap": "events could not be recorded",
    "key.rotated": "a new signing key began",
    "mitigation.applied": "a mitigation was applied",
    "mitigation.withdrawn": "a mitigation was withdrawn",
    "hardcase.captured": "an unusual frame was kept",
    "bundle.accepted": "what the registry sent was accepted",
    "bundle.refused": "what the registry sent was refused",
    "incident.requested": "an incident was to be kept",
    "incident.kept": "an incident was kept in the black box",
    "incident.removed": "an incident was removed from the black box",
    "incident.failed": "an incident could not be kept",
}


def meaning(kind: str) -> str:
    """An event type in plain words; itself where there are none."""
    return MEANINGS.get(kind, kind or "written by a later version of the program")


#: Bins of the four axes of conditions, in their order.
CONDITIONS: dict[str, dict[str, str]] = {
    "weather": {
        "clear": "clear weather", "light_rain": "light rain", "rain": "rain", "heavy_rain": "heavy rain",
        "low_visibility": "low visibility",
    },
    "light": {"night": "night", "ambient": "twilight", "artificial": "artificial light", "day": "daylight"},
    "vibration": {
        "low": "low vibration", "moderate": "moderate vibration", "high": "high vibration", "severe": "severe vibration",
    },
    "occlusion": {
        "free": "free view", "slight": "slight occlusion", "partial": "partial occlusion", "blocked": "blocked view",
    },
}  # fmt: skip


def condition(axis: str, name: str) -> str:
    """A bin in plain words; itself, with its axis, where there are none."""
    return CONDITIONS.get(axis, {}).get(name, f"{axis} {name.replace('_', ' ')}")


def in_order(axis: str, names: Iterable[str]) -> tuple[str, ...]:
    """Bins in the order that they always have, each once; what is no bin comes last."""
    known = list(CONDITIONS[axis])
    return tuple(sorted(set(names), key=lambda name: (known.index(name) if name in known else len(known), name)))
