"""Who is in command, and why it changed (SEMANTICS §5).

*Decision* authority (who decides what to do) and *execution* authority (who moves the actuators) are told apart. The
vehicle's own words are merged from where it spreads them; nothing is guessed: ``not recorded`` is an answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .decision_specs import AuthoritySpec
from .samples import TransitionKind, Verdict

NOT_RECORDED = "not recorded"
VALUE, CLOCK = int(TransitionKind.VALUE), int(TransitionKind.CLOCK)


@dataclass(frozen=True, slots=True)
class Command:
    """Who decides and who acts: ``autonomy``, ``human``, ``fallback``, ``none`` or ``unknown``; and the mode behind it."""

    decision: str = "unknown"
    execution: str = "unknown"
    mode: str = ""
    intention: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of command, or the start or end of a failsafe, with the reasons found for it."""

    type: str  #: ``authority.changed``, ``failsafe.start`` or ``failsafe.end``
    t_effective: int
    t_decided: int
    before: Command
    after: Command
    causes: tuple[str, ...]

    @property
    def cause(self) -> str:
        """All reasons in one line, or ``not recorded``."""
        return "; ".join(self.causes) or NOT_RECORDED


class Authority:
    """Follows the mode, intention, failsafe and active signals through their VALUE transitions.

    ``names``: signal names by index; ``text``: the text of a number, and None for signals that are no text;
    ``label``: the name of a state for a signal's value.
    """

    def __init__(
        self,
        spec: AuthoritySpec,
        names: tuple[str, ...],
        *,
        text: Callable[[str, float], str | None],
        label: Callable[[str, float], str],
    ) -> None:
        self._spec = spec
        self._names = names
        self._text = text
        self._label = label
        self._modes = dict(spec.modes)
        self._flags = {signal: phrase for phrase, signal in spec.reason_flags}
        self._values: dict[str, float | str | None] = {}
        self._recent: deque[tuple[int, str]] = deque()
        self._failsafe = False
        self.command = Command()

    def step(self, rows: np.ndarray) -> list[Change]:
        """Take the TRANSITION rows of one instant; answers what changed at it."""
        t, decided = int(rows[0]["t_effective"]), int(rows[0]["t_decided"])
        touched = False
        for kind, row in zip(rows["kind"].tolist(), rows, strict=True):
            if kind == VALUE:
                touched |= self._take(self._names[row["subject"]], row, t)
            elif kind == CLOCK:
                self._recent.clear()
        if not touched:
            return []
        before, after = self.command, self._command()
        failsafe = self._in_failsafe(after)
        changes: list[Change] = []
        causes = self._causes(t, after)
        self.command = after
        if (before.decision, before.execution) != (after.decision, after.execution):
            changes.append(Change("authority.changed", t, decided, before, after, causes))
        if failsafe != self._failsafe:
            self._failsafe = failsafe
            changes.append(Change("failsafe.start" if failsafe else "failsafe.end", t, decided, before, after, causes))
        return changes

    def snapshot(self) -> dict[str, Any]:
        """All state as maps, lists, text and numbers; :meth:`restore` of the same envelope goes on from there."""
        command = self.command
        return {
            "values": dict(self._values),
            "recent": [list(entry) for entry in self._recent],
            "failsafe": self._failsafe,
            "command": [command.decision, command.execution, command.mode, command.intention],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back a :meth:`snapshot`."""
        self._values = dict(state["values"])
        self._recent = deque((t, reason) for t, reason in state["recent"])
        self._failsafe = state["failsafe"]
        self.command = Command(*state["command"])

    def _take(self, name: str, row: np.void, t: int) -> bool:
        """Put one value in force; answers whether it can change who is in command."""
        known = row["verdict"] == Verdict.PASS
        value = float(row["value"]) if known else None
        if name in self._flags:
            phrase = self._flags[name]
            was, self._values[name] = self._values.get(name), value
            if value and not was:
                self._remember(t, phrase)
            elif was and value == 0:
                self._remember(t, f"{phrase}: cleared")
        if name in self._spec.reason_texts and value is not None:
            text = self._text(name, value)
            if text:
                self._remember(t, text.strip())
        spec = self._spec
        if name not in (spec.mode, spec.intention, spec.failsafe, spec.active):
            return False
        text = None if value is None else self._text(name, value)
        self._values[name] = value if text is None else text
        return True

    def _remember(self, t: int, reason: str) -> None:
        self._recent.append((t, reason))
        while len(self._recent) > 64 or self._recent[0][0] < t - self._spec.within:
            self._recent.popleft()

    def _command(self) -> Command:
        spec = self._spec
        mode, intention = self._values.get(spec.mode), self._values.get(spec.intention)
        words = (self._name(spec.mode, mode), self._name(spec.intention, intention))
        if spec.active:
            active = self._values.get(spec.active)
            if active is None:
                return Command("unknown", "unknown", *words)
            if active != spec.active_value:
                return Command("none", "none", *words)
        if mode is None:
            return Command("unknown", "unknown", *words)
        execution = self._modes.get(mode, "unknown")
        decision = execution
        if self._values.get(spec.failsafe) and (intention is None or intention != mode):
            decision = "fallback"
        return Command(decision, execution, *words)

    def _in_failsafe(self, command: Command) -> bool:
        if self._spec.failsafe:
            return bool(self._values.get(self._spec.failsafe))
        return command.decision == "fallback"

    def _name(self, signal: str, value: float | str | None) -> str:
        if value is None:
            return ""
        return value if isinstance(value, str) else self._label(signal, value)

    def _causes(self, t: int, after: Command) -> tuple[str, ...]:
        """Reasons of the last moments; for a fallback also every condition that holds, however long already."""
        reasons = [reason for when, reason in self._recent if when >= t - self._spec.within]
        if after.decision == "fallback" and self.command.decision != "fallback":
            reasons += [phrase for phrase, signal in self._spec.reason_flags if self._values.get(signal)]
        return tuple(dict.fromkeys(reasons))
