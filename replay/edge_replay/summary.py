"""What a replay found, for people (a time line and a table) and for programs (one document)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.samples import UNSEEN, Cause, Verdict
from edge_monitor.events import Event, number

from .replay import Replay

WORDS = {Verdict.PASS: "pass", Verdict.UNKNOWN: "unknown", Verdict.FAIL: "FAIL"}


@dataclass(frozen=True, slots=True)
class Span:
    """Something that held from ``start`` to ``end`` (ns): who commanded, or what a gate said, and why."""

    what: str
    start: int
    end: int
    cause: str

    def document(self) -> dict[str, Any]:
        """The span as JSON: times in seconds on the recording's clock."""
        return {"what": self.what, "start_s": self.start / 1e9, "end_s": self.end / 1e9, "cause": self.cause}


def spans(replay: Replay, subject: str) -> list[Span]:
    """Spans of ``subject`` (``authority``, or a gate's name) from the events that changed it."""
    points: list[tuple[int, str, str]] = []
    for event in replay.events:
        if event.subject != subject:
            continue
        if event.type == "authority.changed":
            points.append((event.t_effective, event.payload["to"], event.payload["cause"]))
        elif event.type in ("gate.go", "gate.no_go"):
            points.append((event.t_effective, event.payload["decision"], event.payload["cause"]))
    if not points:
        return []
    ends = [*(t for t, _, _ in points[1:]), replay.monitor.now]
    found: list[Span] = []
    for (t, what, cause), until in zip(points, ends, strict=True):
        if found and found[-1].what == what and not cause:
            found[-1] = Span(what, found[-1].start, until, found[-1].cause)
        else:
            found.append(Span(what, t, until, cause))
    return found


@dataclass(frozen=True, slots=True)
class Breach:
    """One stretch of FAIL of one check, as its ``check.fail`` event began it; ``end`` (ns) is None where it still held."""

    event: Event
    end: int | None

    def document(self) -> dict[str, Any]:
        """The breach as JSON: times in seconds on the recording's clock, numbers as they were when it began."""
        said = self.event.payload
        return {
            "check": self.event.subject,
            "severity": self.event.severity,
            "start_s": self.event.t_effective / 1e9,
            "end_s": None if self.end is None else self.end / 1e9,
            **{key: said[key] for key in ("value", "limit", "margin", "unit", "cause")},
            **({"state": said["state"]} if "state" in said else {}),
        }


def breaches(replay: Replay) -> list[Breach]:
    """Every breach, in order of time."""
    return [Breach(event, end) for event, end in _stretches(replay, "check.fail", ("check.pass", "check.unknown"))]


@dataclass(frozen=True, slots=True)
class Loss:
    """A topic that was silent or unusable from ``start`` (ns) on; ``end`` is None where it still was."""

    topic: str
    signals: tuple[str, ...]
    cause: str
    start: int
    end: int | None

    def document(self) -> dict[str, Any]:
        """The loss as JSON."""
        return {
            "topic": self.topic,
            "signals": list(self.signals),
            "cause": self.cause,
            "start_s": self.start / 1e9,
            "end_s": None if self.end is None else self.end / 1e9,
        }


def losses(replay: Replay) -> list[Loss]:
    """Every loss of an input, in order of time."""
    return [
        Loss(event.subject, tuple(event.payload["signals"]), event.payload["cause"], event.t_effective, end)
        for event, end in _stretches(replay, "input.lost", ("input.restored",))
    ]


def _stretches(replay: Replay, start: str, ends: tuple[str, ...]) -> list[tuple[Event, int | None]]:
    """Events of type ``start``, each with the time of the next event of ``ends`` that has its subject."""
    open_at: dict[str, list[int]] = {}
    found: list[tuple[Event, int | None]] = []
    for event in replay.events:
        if event.type == start:
            open_at.setdefault(event.subject, []).append(len(found))
            found.append((event, None))
        elif event.type in ends:
            for i in open_at.pop(event.subject, ()):
                found[i] = (found[i][0], event.t_effective)
    return found


def hard_cases(replay: Replay) -> list[Event]:
    """The frames to look at again, as they were told: by hour, mode and rank."""
    return [event for event in replay.events if event.type == "hardcase.captured"]


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One check over the whole replay. Times in ns; ``worst`` in the check's unit, None where never known."""

    name: str
    kind: str
    unit: str
    severity: str
    verdict: Verdict
    cause: str
    fails: int
    fail_ns: int
    unknown_ns: int
    worst: float | None
    worst_t: int | None

    def document(self) -> dict[str, Any]:
        """The line as JSON."""
        return {
            "check": self.name,
            "kind": self.kind,
            "unit": self.unit,
            "severity": self.severity,
            "verdict": self.verdict.name,
            "cause": self.cause,
            "fails": self.fails,
            "fail_s": self.fail_ns / 1e9,
            "unknown_s": self.unknown_ns / 1e9,
            "worst_margin": None if self.worst is None else number(self.worst),
            "worst_t_s": None if self.worst_t is None else self.worst_t / 1e9,
        }


def line_of(spec: CheckSpec, state: np.void, head: np.void) -> CheckLine:
    """A check's line from its CHECK_STATE and the stream's HEAD; the verdict that still holds counts up to now."""
    verdict = Verdict(int(state["verdict"]))
    since = int(state["t_changed"]) if state["t_changed"] != UNSEEN else int(head["first"])
    open_ns = int(head["now"]) - since if head["now"] != UNSEEN else 0
    known = state["worst_t"] != UNSEEN
    return CheckLine(
        spec.name,
        spec.kind,
        spec.unit,
        spec.severity,
        verdict,
        Cause(int(state["cause"])).name.lower() if state["cause"] else "",
        int(state["fails"]),
        int(state["fail_ns"]) + (open_ns if verdict == Verdict.FAIL else 0),
        int(state["unknown_ns"]) + (open_ns if verdict == Verdict.UNKNOWN else 0),
        float(state["worst"]) if known else None,
        int(state["worst_t"]) if known else None,
    )


def check_lines(replay: Replay) -> list[CheckLine]:
    """One line a check, in the envelope's order."""
    monitor = replay.monitor
    head = monitor.engine.head
    return [
        line_of(spec, state, head) for spec, state in zip(monitor.envelope.checks, monitor.engine.checks, strict=True)
    ]


def document(replay: Replay) -> dict[str, Any]:
    """Everything about one replay but the single events."""
    envelope = replay.monitor.envelope
    first, last = replay.first, replay.last
    mined = {"hard_cases": [event.payload for event in hard_cases(replay)]} if envelope.hard_cases else {}
    matrix = {} if replay.matrix is None else {"matrix": replay.matrix.document(envelope.odd)}
    return {
        "log": str(replay.path),
        "format": replay.format,
        "start_s": None if first is None else first / 1e9,
        "end_s": None if last is None else last / 1e9,
        "duration_s": 0.0 if first is None or last is None else (last - first) / 1e9,
        "messages": replay.messages,
        "envelope": {
            "id": envelope.id,
            "version": envelope.version,
            "digest": envelope.digest,
            "risk": envelope.risk,
        },
        "events": dict(sorted(Counter(event.type for event in replay.events).items())),
        "authority": [span.document() for span in spans(replay, "authority")],
        "gates": {gate.name: [span.document() for span in spans(replay, gate.name)] for gate in envelope.gates},
        "breaches": [breach.document() for breach in breaches(replay)],
        "inputs_lost": [loss.document() for loss in losses(replay)],
        "checks": [line.document() for line in check_lines(replay)],
        **mined,
        "missing_topics": replay.missing_topics,
        "problems": replay.monitor.problems,
        "damage": [
            {
                "where": d.where,
                "what": d.what,
                "t_s": None if d.t is None else d.t / 1e9,
                "lost_messages": d.lost_messages,
            }
            for d in replay.damages
        ],
        "engine_digest": replay.monitor.engine.digest(),
        **matrix,
    }
