"""What a vehicle is told over MAVLink: that the monitor lives, why it may not go on, and whether it may arm (docs/mavlink.md).

All of it is sent in the engine's thread after a completed turn: whoever stops turning is silent, and an autopilot that waits
for an authorization gets none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Protocol

from ..core.commands import MOST_ID, ReportAction
from ..events import Event
from ..mavlink.dialect import module
from ..mavlink.links import LinkAddress
from ..mavlink.requests import ARM_AUTHORIZATION, Request

SECOND = 1_000_000_000
TEXT_NS = 5 * SECOND  #: between texts about one thing
BLOCKED_NS = 60 * SECOND  #: between reports of denials for the same reasons
TEXT = 50  #: letters of a text
ONBOARD_CONTROLLER, NO_AUTOPILOT = 18, 8  # MAV_TYPE, MAV_AUTOPILOT
ACTIVE, CRITICAL = 4, 5  # MAV_STATE
ACCEPTED, TEMPORARILY_REJECTED, DENIED, UNSUPPORTED = range(4)  # MAV_RESULT
GENERIC, SAID_IN_TEXT = 0, 1  # MAV_ARM_AUTH_DENIED_REASON
SAY_CRITICAL, SAY_WARNING = 2, 4  # MAV_SEVERITY


class Line(Protocol):
    """The way to the vehicle, which is its source as well."""

    address: LinkAddress
    requests: deque[Request]

    def send(self, message: bytes) -> None:
        """Send to the vehicles that were heard."""

    @property
    def stamp(self) -> int:
        """Now, as signatures count it."""


class Decisions(Protocol):
    """What is published at present (``onboard.publication``)."""

    @property
    def gates(self) -> Collection[str]:
        """Names of the gates."""

    @property
    def withheld(self) -> str:
        """Why no GO is given whatever the gates say."""

    def answer(self, gate: str) -> dict[str, Any]:
        """What a gate says to whoever asks now."""


class MavlinkOutput:
    """Speaks to the vehicles of one line."""

    def __init__(
        self,
        line: Line,
        decisions: Decisions,
        *,
        arming: str = "takeoff",
        moving: str = "continue",
        unapproved: bool = False,
        simulated: bool = False,
    ) -> None:
        """``arming``: the gate that must be GO to arm; ``moving``: the one whose NO_GO is told. With an ``unapproved`` envelope
        and in ``simulated`` time only a vehicle on a bench may arm, as its address says.
        """
        self._line, self._decisions = line, decisions
        self._arming, self._moving = arming, moving
        self._bench = "time is simulated" if simulated else "envelope not approved" if unapproved else ""
        self._never = "" if line.address.bench else self._bench
        if arming not in decisions.gates:
            self._never = f"no gate {arming}"
        self._words = module()
        self._mav = self._words.MAVLink(_Wire(line.send), line.address.system, line.address.component)
        if line.address.signing:
            self._mav.signing.secret_key, self._mav.signing.sign_outgoing = line.address.signing, True
        self._next_beat = 0
        self._no_go = False  # one is still to be told
        self._told: dict[str, int] = {}  # when a text about a thing was last sent
        self._blocked, self._blocked_at, self._denials = "", 0, 0
        self._since = 0

    def tell(self, event: Event, now: int) -> None:
        """Take note of an event, as it is published."""
        if event.type in ("gate.no_go", "gate.go") and event.subject == self._moving:
            self._no_go = event.type == "gate.no_go"

    def turn(self, now: int) -> list[ReportAction]:
        """A turn is complete at ``now``, ns: answer, warn, and live. Answers what was denied, for the journal."""
        self._mav.signing.timestamp = max(self._mav.signing.timestamp, self._line.stamp)
        found: list[ReportAction] = []
        while self._line.requests:
            request = self._line.requests.popleft()
            if request.command == ARM_AUTHORIZATION:
                found += self._authorize(request, now)
            else:
                self._acknowledge(request, UNSUPPORTED)
        if self._no_go:
            answer = self._decisions.answer(self._moving)
            if self._say(self._moving, SAY_CRITICAL, f"NO-GO {self._moving}: {_why(answer)}", now):
                self._no_go = False
        if now >= self._next_beat:
            self._next_beat = max(self._next_beat + SECOND, now + SECOND // 2)
            state = CRITICAL if self._decisions.withheld else ACTIVE
            self._send(self._words.MAVLink_heartbeat_message(ONBOARD_CONTROLLER, NO_AUTOPILOT, 0, 0, state, 3))
        return found

    def _authorize(self, request: Request, now: int) -> list[ReportAction]:
        """Whether a vehicle may arm. Where the standard's texts differ, both places are filled: common.xml puts validity and
        reason into ``progress`` and ``result_param2``, PX4 reads the validity in ``result_param2``, the reason in ``progress``.
        """
        answer: dict[str, Any] = {"decision": "NO_GO", "cause": self._never, "reasons": []}
        if not self._never:
            answer = self._decisions.answer(self._arming)
        if answer["decision"] == "GO":
            seconds = int(answer["lease_ns"]) // SECOND  # never longer than the lease
            self._acknowledge(request, ACCEPTED, min(seconds, 254), seconds)
            if self._bench:
                self._say("bench", SAY_WARNING, f"Arming on the bench: {self._bench}", now)
            return []
        failed = bool(self._never) or any(reason[1] == "FAIL" for reason in answer["reasons"])
        why = _why(answer)
        said = self._say("arm", SAY_CRITICAL, f"Arm {'denied' if failed else 'refused for now'}: {why}", now)
        reason = SAID_IN_TEXT if said else GENERIC
        self._acknowledge(request, DENIED if failed else TEMPORARILY_REJECTED, reason, reason)
        return self._report(why, now)

    def _report(self, why: str, now: int) -> list[ReportAction]:
        """The first denial for its reasons, then a count each minute, since some vehicles ask all the time."""
        self._denials += 1
        self._since = self._since or now
        if why == self._blocked and now - self._blocked_at < BLOCKED_NS:
            return []
        report = ReportAction(
            t=now, subject="arm", gate=self._arming, outcome="blocked", rule="no_go",
            reason=why.encode()[:MOST_ID].decode("utf-8", "ignore"),
            rules=("no_go",), counts=(self._denials,), since=self._since,
        )  # fmt: skip
        self._blocked, self._blocked_at, self._denials, self._since = why, now, 0, 0
        return [report]

    def _acknowledge(self, request: Request, result: int, progress: int = 0, parameter: int = 0) -> None:
        self._send(
            self._words.MAVLink_command_ack_message(
                request.command, result, progress, parameter, request.system, request.component
            )
        )

    def _say(self, about: str, severity: int, text: str, now: int) -> bool:
        """Send a text, unless one about the same was sent lately; answers whether it was."""
        if now - self._told.get(about, -TEXT_NS) < TEXT_NS:
            return False
        self._told[about] = now
        cut = text if len(text) <= TEXT else text[: TEXT - 1] + "+"
        self._send(self._words.MAVLink_statustext_message(severity, cut.encode("ascii", "replace"), 0, 0))
        return True

    def _send(self, message: Any) -> None:
        self._mav.send(message)


class _Wire:
    """Where pymavlink writes what it has packed."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.write = send


def _why(answer: dict[str, Any]) -> str:
    """Failed criteria first, then those that are not known, by name."""
    ordered = sorted(answer["reasons"], key=lambda reason: reason[1] != "FAIL")
    names = [name if verdict == "FAIL" else f"{name}?" for name, verdict, _ in ordered]
    return ", ".join([*names, answer["cause"]] if answer["cause"] else names) or "waits"
