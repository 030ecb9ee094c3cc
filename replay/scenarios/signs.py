"""What was made to happen in the survey flight, by what a monitor must show it, and the events that a replay gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCENARIOS = Path(__file__).resolve().parent
EXPECTED = SCENARIOS / "survey_flight.events.json"
TRUTH = json.loads((SCENARIOS / "survey_flight.expected.json").read_text("utf-8"))
START: int = TRUTH["start_ns"]

# The kinds of event that survey_flight.events.json holds, first passes of each check excepted.
COMPARED = ("check.fail", "check.pass", "gate.", "authority.changed", "failsafe.", "input.")


@dataclass(frozen=True)
class Sign:
    """The event by which an injected incident must show, at most ``within`` seconds after it began. Written by hand."""

    what: str  #: of survey_flight.expected.json
    t: float  #: likewise ``t_s``
    type: str  #: empty: nothing must change
    subject: str = ""
    within: float = 0.0
    why: str = ""


#: From the schedule of the flight and the limits of configs/survey_plane.yaml; not from what the monitor says.
SIGNS = (
    Sign("turbulence", 0.0, "", why="within limits: nothing may fire"),
    Sign("mode", 18.021, "authority.changed", "authority"),
    Sign("late_message", 60.187, "check.fail", "odom_latency", why="limit 0.1 s"),
    Sign("airspeed_frozen", 80.0, "", why="the value stays plausible for these 6 s"),
    # 10 m/s apart at 2 m/s a second, 5 m/s of wind and turbulence against it, half a second of debounce.
    Sign("airspeed_sinking", 86.0, "check.fail", "airspeed_agrees", 8.0),
    Sign("airspeed_nan", 98.0, "check.fail", "airspeed_valid", 0.1, "one period of 10 Hz"),
    Sign("mode", 104.021, "authority.changed", "authority"),
    Sign("mode", 126.021, "authority.changed", "authority"),
    Sign("late_message", 150.246, "check.fail", "odom_latency"),
    Sign("geofence_excursion", 176.447, "check.fail", "fence", 0.2, "one period of 5 Hz"),
    Sign("radio_dropout", 239.906, "check.fail", "odom_alive", 1.0, "the limit itself"),
    Sign("failsafe", 243.011, "failsafe.start", "failsafe"),
    Sign("mode", 243.021, "authority.changed", "authority"),
    Sign("intention", 262.021, "", why="autonomy has been in command since the failsafe's end"),
    Sign("mode", 305.056, "", why="who commands does not change"),
    Sign("disarmed", 352.941, "authority.changed", "authority"),
)

Event = dict[str, Any]


def sign_of(sign: Sign, events: Sequence[Event]) -> Event | None:
    """The event that shows an incident, no sooner than it and within the time allowed (both to the millisecond)."""
    for event in events:
        delay = (event["t_ns"] - START) / 1e9 - sign.t
        if (event["type"], event["subject"]) == (sign.type, sign.subject) and -0.001 < delay < sign.within + 0.001:
            return event
    return None


def compared(events: Sequence[Event]) -> list[Event]:
    """What is expected of a replay: type, subject and time of the events that matter, in order.

    That nobody publishes a topic yet is known to a live monitor alone.
    """
    passed: set[str] = set()
    found = []
    absent: set[str] = set()
    for event in events:
        kind, subject = event["type"], event["subject"]
        if kind == "input.lost" and event["cause"] == "no_publisher":
            absent.add(subject)
            continue
        if kind == "input.restored" and subject in absent:
            absent.remove(subject)
            continue
        first = kind == "check.pass" and subject not in passed
        if first:
            passed.add(subject)
        if kind.startswith(COMPARED) and not first:
            found.append({"type": kind, "subject": subject, "t_ns": event["t_ns"]})
    return found


def expected(until: int) -> list[Event]:
    """The events of a replay that take effect before ``until`` (ns)."""
    events: list[Event] = json.loads(EXPECTED.read_text("utf-8"))
    return [event for event in events if event["t_ns"] < until]
