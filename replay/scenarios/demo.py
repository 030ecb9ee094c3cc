"""The demo: replay the recorded survey flight, hold what was found against what was made to happen, sign, verify, forge.

`--record` writes `survey_flight.events.json` anew, after a wanted change of the envelope or the flight.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
SCENARIOS = ROOT / "replay" / "scenarios"
EXPECTED = SCENARIOS / "survey_flight.events.json"
BUILD = ROOT / "build" / "demo"
BIN = Path(sys.executable).parent

TRY_NEXT = """
What to try next
  another risk profile      .venv/bin/edge-replay run replay/scenarios/survey_flight.mcap -e configs/survey_plane.yaml --risk high
  limits from data          .venv/bin/edge-replay check replay/scenarios/survey_flight.mcap -e configs/survey_plane.yaml
  your own recording        .venv/bin/edge-replay info YOUR_RECORDING      (MCAP, rosbag2, ROS 1 bag, ULog, CSV, JSONL)
  your own envelope         copy configs/survey_plane.yaml, change a limit:  .venv/bin/edge-monitor check YOURS.yaml
  prove one record          .venv/bin/edge-monitor journal proof build/demo/mission.db 10
  how to read all this      replay/README.md
"""

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


def tell(*arguments: str, expect: int = 0) -> None:
    """Show a command, run it, and stop the demo when it does not end as it should."""
    print(f"\n$ {' '.join(arguments)}", flush=True)
    code = subprocess.run([BIN / arguments[0], *arguments[1:]], cwd=ROOT, check=False).returncode
    if code != expect:
        sys.exit(f"demo: '{' '.join(arguments)}' ended with {code}, expected {expect}")


def compared(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is expected of a replay: type, subject and time of the events that matter, in order."""
    passed: set[str] = set()
    found = []
    for event in events:
        first = event["type"] == "check.pass" and event["subject"] not in passed
        if first:
            passed.add(event["subject"])
        if event["type"].startswith(COMPARED) and not first:
            found.append({"type": event["type"], "subject": event["subject"], "t_ns": event["t_ns"]})
    return found


def sign_of(sign: Sign, events: list[dict[str, Any]], start: int) -> dict[str, Any] | None:
    """The event that shows an incident, no sooner than it and within the time allowed (both to the millisecond)."""
    for event in events:
        delay = (event["t_ns"] - start) / 1e9 - sign.t
        if (event["type"], event["subject"]) == (sign.type, sign.subject) and -0.001 < delay < sign.within + 0.001:
            return event
    return None


def story(events: list[dict[str, Any]]) -> None:
    """Print what was made to happen beside what the monitor said; stop the demo where a sign is missing."""
    truth = json.loads((SCENARIOS / "survey_flight.expected.json").read_text())
    print("\nWhat was made to happen, and by what the monitor showed it")
    for sign, injected in zip(SIGNS, truth["injected"], strict=True):
        print(f"\n{sign.t:9.3f} s  {injected['detail']}")
        if not sign.type:
            print(f"{'':13}no event: {sign.why}")
            continue
        event = sign_of(sign, events, truth["start_ns"])
        if event is None:
            sys.exit(f"demo: no {sign.type} of {sign.subject} within {sign.within} s")
        delay = max(0.0, (event["t_ns"] - truth["start_ns"]) / 1e9 - sign.t)
        after = "at once" if delay < 0.001 else f"{delay:.3f} s later"
        print(f"{'':13}{after}: {event['type']} {event['subject']}{words(event)}")


def words(event: dict[str, Any]) -> str:
    """What an event says, in short."""
    if event["type"] == "authority.changed":
        return f", {event['from']} → {event['to']}: {event['cause']}"
    if event.get("value") is not None and event.get("limit") is not None:
        return f", {event['value']:.4g} {event['unit']} against a limit of {event['limit']:.4g}"
    return f", {event['cause']}" if event["cause"] else ""


def forge(genuine: Path, forged: Path) -> None:
    """A copy of the journal in which the robot, not the pilot, took over: five letters in the file."""
    data = genuine.read_bytes()
    if data.count(b"Pilot took over") != data.count(b"Pilot took over using sticks") or b"Pilot took" not in data:
        sys.exit("demo: the journal does not hold the takeover's reason")
    forged.write_bytes(data.replace(b"Pilot took over", b"Robot took over"))


def main() -> None:
    """Run the demo; everything it writes goes to build/demo."""
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    out = os.path.relpath(BUILD, ROOT)
    print(
        "A survey flight of six minutes: turbulence, a blocked pitot tube, a pilot's takeover, a fence breached, a lost\n"
        "link. First, kernels are compiled (once), and the robot gets a key."
    )
    tell("edge-monitor", "warm", "configs/survey_plane.yaml")
    tell("edge-monitor", "keys", "new", "demo-robot", "--dir", out)
    print("\nThe recording against the envelope, every event into a signed journal:")
    tell(
        "edge-replay", "run", "replay/scenarios/survey_flight.mcap", "--envelope", "configs/survey_plane.yaml",
        "--journal", f"{out}/mission.db", "--key", f"{out}/demo-robot.key", "--jsonl", f"{out}/events.jsonl",
    )  # fmt: skip
    events = [json.loads(line) for line in (BUILD / "events.jsonl").read_text().splitlines()]
    found = compared(events)
    if "--record" in sys.argv[1:]:
        EXPECTED.write_text("[\n" + ",\n".join(f"  {json.dumps(event)}" for event in found) + "\n]\n")
        print(f"\nwrote {EXPECTED.relative_to(ROOT)}")
    story(events)
    if found != json.loads(EXPECTED.read_text()):
        sys.exit(f"demo: the events differ from {EXPECTED.relative_to(ROOT)}")
    print(f"\nAll {len(found)} events are those of {EXPECTED.name}, at the same nanoseconds.")
    print("\nThe journal proves what was said, and by whom:")
    tell("edge-monitor", "journal", "verify", f"{out}/mission.db", "--key", f"{out}/demo-robot.pub")
    print("\nNow someone changes it: the robot, not the pilot, took over (five letters in a copy of the file).")
    forge(BUILD / "mission.db", BUILD / "forged.db")
    tell("edge-monitor", "journal", "verify", f"{out}/forged.db", "--key", f"{out}/demo-robot.pub", expect=5)
    print(TRY_NEXT.rstrip())


if __name__ == "__main__":
    main()
