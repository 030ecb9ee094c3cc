"""A decider whose envelope is replaced in the middle of its stream."""

from __future__ import annotations

import numpy as np

from edge_monitor import envelope as envelopes
from edge_monitor.core.commands import (
    ReloadEnvelope,
)
from edge_monitor.core.samples import FLAG_END, SAMPLE
from edge_monitor.decider import Decider
from edge_monitor.envelope import Envelope
from edge_monitor.events import Event
from edge_monitor.recent import Recent
from edge_monitor.tape.recorder import Words
from edge_monitor.vocabulary import constants

MS, S = 1_000_000, 1_000_000_000
BOOT = bytes(range(1, 17))
#: speed, mode (0 MANUAL, 1 AUTO), armed (0, 1), battery; every file below reads these.
SIGNALS = """
signals:
  armed: {topic: /state, field: armed, max_age: 5 s, values: {DISARMED: 0, ARMED: 1}}
  battery: {topic: /battery, field: left, unit: ratio, max_age: 10 s}
  mode: {topic: /state, field: mode, max_age: 5 s, values: {MANUAL: 0, AUTO: 1}}
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 1 s}
"""
ARMED, BATTERY, MODE, SPEED = range(4)
AUTHORITY = "authority: {mode: mode, active: {signal: armed, value: ARMED}, map: {autonomy: [AUTO], human: [MANUAL]}}\n"


def file(
    checks: str, gates: str = "", *, version: int = 1, more: str = AUTHORITY, signals: str = SIGNALS, head: str = ""
) -> Envelope:
    """An envelope of some checks and gates, in lines without their indentation."""

    def block(name: str, lines: str) -> str:
        return f"{name}:\n" + "".join(f"  {line.strip()}\n" for line in lines.strip().splitlines()) if lines else ""

    text = f"edge_monitor: 1\nenvelope: {{id: yard, version: {version}, vehicle: rover{head}}}\n{signals}"
    text += block("checks", checks) + block("gates", gates) + more
    made = envelopes.loads(text.encode())
    TEXTS[made.digest] = text
    return made


TEXTS: dict[str, str] = {}  #: what envelopes were made of, by their digest


class World:
    """A decider, what is kept of its items, and its time."""

    def __init__(self, envelope: Envelope, start: int = 10 * S) -> None:
        self.now = start
        self.words = Words(constants(envelope))
        self.decider = Decider(envelope, self.words)
        self.recent = Recent(len(envelope.signals))
        self.told: list[Event] = []

    def say(self, values: dict[int, float], after: int = 100 * MS) -> list[Event]:
        """A message of some values, so long after the last one."""
        self.now += after
        rows = [(self.now, signal, 0, value) for signal, value in values.items()]
        items = np.array(rows, SAMPLE)
        items["flags"][-1] = FLAG_END
        self.recent.add(items)
        return self.note([*self.decider.take(items), *self.decider.until(self.now)])

    def note(self, found: list[Event]) -> list[Event]:
        self.told += found
        return found

    def drive(self, seconds: float, **values: float) -> None:
        """Ten messages a second that say the same."""
        names = {"speed": SPEED, "mode": MODE, "armed": ARMED, "battery": BATTERY}
        for _ in range(round(seconds * 10)):
            self.say({names[name]: value for name, value in values.items()})

    def reload(self, envelope: Envelope, *, history: bool = True) -> tuple[list[Event], str]:
        """Put another envelope in force now."""
        for text in constants(envelope):
            self.words.texts.code(text)
        successor = self.decider.prepare(envelope)
        kept = self.recent.history(self.now, successor.kin.wanted) if history else None
        self.decider.offer(successor, kept)
        order = ReloadEnvelope(
            t=self.now, path="new.yaml", file="00" * 32, digest=envelope.digest, risk=envelope.risk, person="ada",
        )  # fmt: skip
        found, refused = self.decider.command(order)
        if not refused:
            self.recent = Recent(len(envelope.signals))
        return self.note(found), refused

    @property
    def go(self) -> dict[str, bool]:
        """Which gates are GO."""
        return self.decider.gates.state()


def types(found: list[Event]) -> list[str]:
    """Types of events."""
    return [event.type for event in found]


BASE_CHECKS = """speed_limit: {kind: bounds, signal: speed, max: 12, leave: 11, severity: critical}
    battery_ok: {kind: bounds, signal: battery, min: 0.3}"""
BASE = file(
    BASE_CHECKS,
    "drive: {require: all, criteria: [speed_limit, battery_ok], lease: 1 s}",
)


def tighter(limit: float, version: int = 2) -> Envelope:
    """The same with another limit."""
    return file(
        f"""speed_limit: {{kind: bounds, signal: speed, max: {limit}, leave: {limit - 1}, severity: critical}}
        battery_ok: {{kind: bounds, signal: battery, min: 0.3}}""",
        "drive: {require: all, criteria: [speed_limit, battery_ok], lease: 1 s}", version=version,
    )  # fmt: skip
