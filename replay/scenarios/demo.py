"""The demo: replay the recorded survey flight, write a signed journal, verify it, and say what to try next."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SCENARIOS = ROOT / "replay" / "scenarios"
BUILD = ROOT / "build" / "demo"
BIN = Path(sys.executable).parent

TRY_NEXT = """
What to try next
  another risk profile      .venv/bin/edge-replay run replay/scenarios/survey_flight.mcap -e configs/survey_plane.yaml --risk high
  limits from data          .venv/bin/edge-replay check replay/scenarios/survey_flight.mcap -e configs/survey_plane.yaml
  what is in a recording    .venv/bin/edge-replay info YOUR_RECORDING      (MCAP, rosbag2, ROS 1 bag, ULog, CSV, JSONL)
  read one event's record   .venv/bin/edge-monitor journal show build/demo/mission.db --type authority.changed
  prove one record          .venv/bin/edge-monitor journal proof build/demo/mission.db 10
  break the journal         flip a byte of build/demo/mission.db and verify again: exit code 5 and the record's number
  your own envelope         copy configs/survey_plane.yaml, change a limit, and run: edge-monitor check YOURS.yaml
"""


def tell(*arguments: str, expect: tuple[int, ...] = (0,)) -> None:
    """Show a command, run it, and stop the demo when it does not end as it should."""
    print(f"\n$ {' '.join(arguments)}", flush=True)
    code = subprocess.run([BIN / arguments[0], *arguments[1:]], cwd=ROOT, check=False).returncode
    if code not in expect:
        sys.exit(f"demo: '{' '.join(arguments)}' ended with {code}, expected {expect}")


def compare(found: Path, expected: Path) -> None:
    """Hold the events against the expected ones: type, subject and time of each."""
    events = [json.loads(line) for line in found.read_text().splitlines()]
    seen = {(e["type"], e["subject"], e["t_ns"]) for e in events}
    missing = [e for e in json.loads(expected.read_text()) if (e["type"], e["subject"], e["t_ns"]) not in seen]
    total = len(json.loads(expected.read_text()))
    print(f"\n{total - len(missing)} of {total} expected events found at their exact times.")
    if missing:
        sys.exit(f"demo: missing {missing[0]}")


def main() -> None:
    """Run the demo; everything it writes goes to build/demo."""
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    out = BUILD.relative_to(ROOT)
    print(
        "A survey flight over six minutes: turbulence, a blocked pitot tube, a pilot's takeover, a fence breached, a lost link."
    )
    tell("edge-monitor", "keys", "new", "demo-robot", "--dir", str(out))
    tell(
        "edge-replay", "run", "replay/scenarios/survey_flight.mcap", "--envelope", "configs/survey_plane.yaml",
        "--journal", f"{out}/mission.db", "--key", f"{out}/demo-robot.key", "--jsonl", f"{out}/events.jsonl",
    )  # fmt: skip
    tell("edge-monitor", "journal", "verify", f"{out}/mission.db", "--key", f"{out}/demo-robot.pub")
    compare(BUILD / "events.jsonl", SCENARIOS / "survey_flight.events.json")
    print(TRY_NEXT)


if __name__ == "__main__":
    main()
