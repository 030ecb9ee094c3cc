"""The people of the demo: who proposes and approves the envelope, and a pilot who does by script what one does at a terminal."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rig import RigError, uninterrupted

BIN = Path(sys.executable).parent
#: Id in the people file: (name, roles).
PEOPLE = {
    "alice": ("Alice, mission planner", "planner"),
    "bob": ("Bob, safety", "approver"),
    "olivia": ("Olivia, pilot on call", "operator"),
}
PILOT = "olivia"


def people_file(keys: dict[str, str], people: dict[str, tuple[str, str]] = PEOPLE) -> str:
    """The people file of some people; ``keys``: public keys by id."""
    rows = [
        f"  {id_}: {{name: '{name}', roles: [{roles}], keys: [{keys[id_]}]}}" for id_, (name, roles) in people.items()
    ]
    return "\n".join(["edge_monitor_people: 1", "people:", *rows, ""])


class Pilot:
    """Hears what the monitor says. Asks it for autonomy while command is hers and takeoff is GO, and signs for that once it is
    done; accepts, signed, the first demand to take over, and is away at the second."""

    def __init__(self, folder: Path, control: str, say: Callable[[str], None]) -> None:
        """``control``: the monitor's address for requests; ``say``: is told what she does."""
        self._own = ["--person", PILOT, "--control", control]
        self._key = ["--key", str(folder / f"{PILOT}.key")]
        self._say = say
        self._commands = ""
        self._takeoff = False
        self._asked = self._demands = 0
        self._urgent: deque[list[str]] = deque()
        self._later: deque[list[str]] = deque()
        self._act: subprocess.Popen[str] | None = None
        self._is_urgent = False

    def hear(self, event: dict[str, Any]) -> None:
        """An event of the monitor."""
        kind, subject = event["type"], event["subject"]
        if kind == "authority.changed":
            self._commands = event["to"]
        elif kind in ("gate.go", "gate.no_go") and subject == "takeoff":
            self._takeoff = kind == "gate.go"
        elif kind == "handover.requested" and event["handover"]["demand"]:
            self._demands += 1
            if self._demands == 1:
                self._urgent.append(["accept", "--id", subject, *self._key])
            return
        elif kind == "handover.completed" and event.get("attestation") == "pending":
            self._later.append(["accept", "--id", subject, *self._key])
            return
        else:
            return
        if self._commands == "human" and self._takeoff:
            self._asked += 1
            why = "ready for the survey" if self._asked == 1 else "the pitot tube is free again"
            self._urgent.append(["request", "--to", "autonomy", "--id", f"{PILOT}-{self._asked}", "--reason", why])

    def is_busy(self, late: bool = False) -> bool:
        """Go on with what she does; answers whether she is at something that cannot wait (``late``: at anything).

        Raises ``RigError`` where the monitor refuses it.
        """
        if self._act is not None and self._act.poll() is not None:
            told, _ = self._act.communicate()
            code, self._act = self._act.returncode, None
            if code:
                raise RigError(f"{PILOT}'s command ended with {code}: {told.strip()}")
            self._say(told.strip())
        if self._act is None and (self._urgent or self._later):
            self._is_urgent = bool(self._urgent)
            words = ["operator", *(self._urgent or self._later).popleft()]
            self._say(f"$ edge-monitor {_quoted(words)} --person {PILOT}")
            with uninterrupted():
                self._act = subprocess.Popen(
                    [BIN / "edge-monitor", *words, *self._own],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
        acting = self._act is not None
        return (acting and (self._is_urgent or late)) or bool(self._urgent)

    def leave(self) -> None:
        """End what she has begun."""
        with uninterrupted():
            if self._act is not None:
                self._act.kill()
                self._act.communicate()


def _quoted(words: Sequence[str]) -> str:
    return " ".join(f"'{word}'" if " " in word else word for word in words)
