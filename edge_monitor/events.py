"""Events: what a transition, decision or change of command is called, and what it says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .core.authority import Change, Command
from .core.check_spec import CheckSpec
from .core.commands import ReportAction
from .core.gates import Decision, Reason, Waiver, WaiverChange
from .core.handover_terms import Act
from .core.messages import Damage
from .core.odd import OddChange, names_of
from .core.samples import FLAG_LATCHED, Cause, TransitionKind, Verdict
from .core.signals import Signal

if TYPE_CHECKING:
    from .hard_cases import Capture

#: Severity names of MIL-STD-882E by their number; the smaller, the worse.
SEVERITIES = {"catastrophic": 1, "critical": 2, "marginal": 3, "negligible": 4}

#: A cause as payloads write it; none is the empty text.
VERDICTS: dict[int, str] = {verdict: verdict.name for verdict in Verdict}
CAUSES: dict[int, str] = {cause: cause.name.lower() if cause else "" for cause in Cause}

MOST_REASONS = 64  #: against an envelope, in one event
Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. ``payload`` holds text, integers, finite floats, None, lists and maps of them only.

    ``t_effective``/``t_decided``: ns on the stream's clock. ``rules``: names of the checks or gates it speaks of.
    """

    type: str
    subject: str
    t_effective: int
    t_decided: int
    severity: str = "negligible"
    payload: Payload = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    hazard: str = ""
    claim: str = ""

    def document(self) -> Payload:
        """The event as JSON: always ``type``, ``t_ns``, ``t_s`` (the same in seconds), ``subject``."""
        document: Payload = {
            "type": self.type,
            "t_ns": self.t_effective,
            "t_s": self.t_effective / 1e9,
            "subject": self.subject,
            "severity": self.severity,
            "t_decided_ns": self.t_decided,
        }
        if self.rules:
            document["rules"] = list(self.rules)
        if self.hazard:
            document["hazard"] = self.hazard
        if self.claim:
            document["claim"] = self.claim
        return document | self.payload


def number(value: float) -> float | str | None:
    """A float as payloads hold it: NaN is None (there is no number), infinities are words."""
    value = float(value)
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return None
    return "inf" if value > 0 else "-inf"


def _worst(severities: list[str], default: str) -> str:
    return min(severities, key=SEVERITIES.__getitem__, default=default)


def from_check(row: np.void, spec: CheckSpec, state: str = "", bins: Mapping[str, str] | None = None) -> Event:
    """The event of a check's TRANSITION row: ``check.*``, or ``latch.*``. ``state``: the value's name, where it has one;
    ``bins``: the conditions under which a limit was passed, by axis."""
    verdict = Verdict(int(row["verdict"]))
    if int(row["kind"]) == TransitionKind.LATCH:
        name = "latch.set" if verdict == Verdict.FAIL else "latch.reset"
    else:
        name = f"check.{verdict.name.lower()}"
    payload: Payload = {
        "kind": spec.kind,
        "verdict": verdict.name,
        "previous": Verdict(int(row["previous"])).name,
        "cause": CAUSES[int(row["cause"])],
        "value": number(row["value"]),
        "limit": number(row["limit"]),
        "margin": number(row["margin"]),
        "unit": spec.unit,
        "signals": list(spec.signals),
    }
    if state:
        payload["state"] = state
    if int(row["flags"]) & FLAG_LATCHED:
        payload["latched"] = True
    if spec.rationale:
        payload["rationale"] = spec.rationale
    if bins and name == "check.fail":
        payload["bins"] = dict(bins)
    severity = spec.severity if verdict == Verdict.FAIL else "negligible"
    return Event(
        name, spec.name, int(row["t_effective"]), int(row["t_decided"]), severity, payload,
        (spec.name,), spec.hazard, spec.claim,
    )  # fmt: skip


def from_drift(
    row: np.void, spec: CheckSpec, detector: str, value_ns: int, calibrated: bool, bins: Mapping[str, str] | None = None
) -> Event:
    """``drift.detected`` or ``drift.resolved``, of a drift check's TRANSITION row.

    ``value_ns``: time between two of the detector's values; 0 where it is not known. ``calibrated``: its false alarms are
    promised. ``bins``: the conditions in which a drift was found, by axis.
    """
    failed = int(row["verdict"]) == Verdict.FAIL
    t = int(row["t_effective"])
    payload: Payload = {
        "detector": detector,
        "calibrated": calibrated,
        "statistic": number(row["value"]),
        "limit": number(row["limit"]),
        "margin": number(row["margin"]),
        "signals": list(spec.signals),
    }
    onset = int(row["onset"])
    if onset and value_ns:
        payload |= {"onset_ns": t - onset * value_ns, "onset_s": (t - onset * value_ns) / 1e9}
    if failed and bins:
        payload["bins"] = dict(bins)
    severity = spec.severity if failed else "negligible"
    name = "drift.detected" if failed else "drift.resolved"
    return Event(name, spec.name, t, int(row["t_decided"]), severity, payload, (spec.name,), spec.hazard, spec.claim)


def from_inputs(rows: list[np.void], signals: tuple[Signal, ...]) -> Event:
    """One event for the signals of one topic that were lost, or restored, at one instant."""
    lost = rows[0]["verdict"] == Verdict.UNKNOWN
    names = [signals[row["subject"]].name for row in rows]
    payload = {"signals": names, "cause": Cause(rows[0]["cause"]).name.lower() if lost else ""}
    return Event(
        "input.lost" if lost else "input.restored",
        signals[rows[0]["subject"]].topic,
        int(rows[0]["t_effective"]),
        int(rows[0]["t_decided"]),
        "marginal" if lost else "negligible",
        payload,
    )


def from_jump(row: np.void) -> Event:
    """The stream's clock stepped back by more than a second."""
    payload = {"step_s": float(row["value"]), "cause": "time stamps went back"}
    return Event("clock.jump", "stream", int(row["t_effective"]), int(row["t_decided"]), "marginal", payload)


def reason(r: Reason, specs: dict[str, CheckSpec]) -> Payload:
    """One criterion of a decision, as payloads hold it."""
    return {
        "criterion": r.check,
        "verdict": VERDICTS[r.verdict],
        "cause": CAUSES[r.cause],
        "value": number(r.value),
        "limit": number(r.limit),
        "margin": number(r.margin),
        "unit": specs[r.check].unit,
        "severity": specs[r.check].severity,
        "since_ns": r.since,
    }


#: Why a gate is NO_GO though no criterion stands against it: only a switch of envelopes makes it so.
SWITCHED = "every criterion passes, but not yet for `go_after` of the envelope now in force"


def from_decision(decision: Decision, specs: dict[str, CheckSpec], lease_ns: int) -> Event:
    """A gate's GO or NO_GO, with every criterion."""
    against = [r for r in decision.reasons if r.verdict != Verdict.PASS]
    payload: Payload = {
        "decision": "GO" if decision.go else "NO_GO",
        "verdict": decision.verdict.name,
        "cause": "" if decision.go else blame(against) or SWITCHED,
        "reasons": [reason(r, specs) for r in decision.reasons],
        "lease_ns": lease_ns if decision.go else 0,
    }
    if decision.expired_hold:
        payload["hold"] = "expired"
    if decision.waivers:
        payload["waivers"] = [waiver(one) for one in decision.waivers]
    severity = (
        "negligible"
        if decision.go
        else _worst([specs[r.check].severity for r in against if r.verdict == Verdict.FAIL], "marginal")
    )
    return Event(
        "gate.go" if decision.go else "gate.no_go",
        decision.gate,
        decision.t_effective,
        decision.t_decided,
        severity,
        payload,
        tuple(r.check for r in (decision.reasons if decision.go else against)),
    )


def waiver(one: Waiver) -> Payload:
    """A waiver as payloads hold it."""
    return {
        "criterion": one.check,
        "gates": list(one.gates),
        "persons": list(one.persons),
        "reason": one.reason,
        "granted_ns": one.granted,
        "expires_ns": one.expires,
    }


def from_waiver(change: WaiverChange, specs: dict[str, CheckSpec]) -> Event:
    """``gate.waived``: a waiver was granted, withdrawn, or has expired (``state`` says which)."""
    spec = specs[change.waiver.check]
    payload: Payload = {"state": change.state, **waiver(change.waiver)}
    if change.reason:
        payload["cause"] = change.reason
    if change.person:
        payload["person"] = change.person
    if change.signatures:
        payload["signatures"] = [signature.hex() for signature in change.signatures]
    if change.checkpoint:
        payload["checkpoint"] = change.checkpoint
    severity = spec.severity if change.state == "granted" else "negligible"
    return Event(
        "gate.waived", spec.name, change.t_effective, change.t_decided, severity, payload,
        (spec.name,), spec.hazard, spec.claim,
    )  # fmt: skip


#: How bad it is that a handover, an override or a manoeuvre came to this; what is not here is negligible.
HANDOVER_SEVERITIES = {
    "handover.timeout": "critical",
    "handover.refused": "marginal",
    "override.start": "marginal",
    "mrm.start": "critical",
    "mrm.failed": "critical",
}


def from_handover(act: Act, seen: Mapping[str, Any] | None = None) -> Event:
    """An event ``handover.*``, ``override.*`` or ``mrm.*``.

    ``seen``: what the caller knows beside it (SEMANTICS §6: verdicts, mode, position, counts), under ``seen``.
    """
    payload: Payload = {"schema": 1, **act.plain()}
    if seen:
        payload["seen"] = dict(seen)
    severity = HANDOVER_SEVERITIES.get(act.type, "negligible")
    if act.terms is not None and act.terms.demand and act.type == "handover.requested":
        severity = "marginal"
    if act.phase == "attestation" and act.type == "handover.timeout":
        severity = "marginal"
    subject = act.terms.id if act.terms is not None else act.type.split(".")[0]
    rules = act.terms.rules if act.terms is not None else ()
    return Event(act.type, subject, act.t_effective, act.t_decided, severity, payload, rules)


def blame(against: list[Reason], most: int = 4) -> str:
    """What stands against GO in one line, the same kind of reason together: ``fence FAIL; a, b UNKNOWN(stale)``.

    At most ``most`` names of a kind, and how many more; a decision's ``reasons`` have them all.
    """
    groups: dict[str, list[str]] = {}
    for r in against:
        word = r.verdict.name + (f"({r.cause.name.lower()})" if r.cause else "")
        groups.setdefault(word, []).append(r.check)
    words = []
    for word, names in groups.items():
        more = f" and {len(names) - most} more" if len(names) > most + 1 else ""
        words.append(f"{', '.join(names[:most] if more else names)}{more} {word}")
    return "; ".join(words)


def _command(command: Command) -> Payload:
    return {
        "decision": command.decision,
        "execution": command.execution,
        "mode": command.mode,
        "intention": command.intention,
    }


def from_change(change: Change) -> Event:
    """A change of command, or a failsafe's start or end."""
    payload: Payload = {
        "from": change.before.decision,
        "to": change.after.decision,
        "cause": change.cause,
        "causes": list(change.causes),
        "before": _command(change.before),
        "after": _command(change.after),
    }
    severity = "critical" if change.type == "failsafe.start" else "marginal"
    subject = "failsafe" if change.type.startswith("failsafe") else "authority"
    return Event(change.type, subject, change.t_effective, change.t_decided, severity, payload)


def from_odd(change: OddChange) -> Event:
    """The vehicle left its declared domain, or came back to it."""
    bins = names_of(change.cell)
    axes = [axis.name.lower() for axis in change.against]
    payload: Payload = {
        "cause": ", ".join(f"{axis} {bins[axis]}" for axis in axes),
        "bins": dict(bins),
        "against": axes,
        "known": change.known,
    }
    severity = "marginal" if change.type == "odd.exit" else "negligible"
    return Event(change.type, "odd", change.t_effective, change.t_decided, severity, payload)


def from_blocked(report: ReportAction) -> Event:
    """What a vehicle's action gate held back."""
    payload: Payload = {
        "gate": report.gate,
        "outcome": report.outcome,
        "rule": report.rule,
        "requested": list(report.requested),
        "granted": list(report.granted),
        "unit": report.unit,
        "reason": report.reason,
        "counts": dict(zip(report.rules, report.counts, strict=True)),
        "since_ns": report.since,
        "reports": report.reports,
    }
    return Event("action.blocked", report.subject, report.t, report.t, "marginal", payload, (report.gate,))


def from_capture(capture: Capture, signal: Signal, topic: str, mode: str) -> Event:
    """A frame that was among the strangest of its hour; ``frame_ns`` is when it was received."""
    payload: Payload = {
        "frame_ns": capture.t,
        "frame_s": capture.t / 1e9,
        "topic": topic,
        "signal": signal.name,
        "value": number(capture.value),
        "unit": signal.unit,
        "p": capture.p,
        "score": number(capture.score),
        "rank": capture.rank,
        "mode": mode,
        "frames": capture.frames,
        "candidates": capture.candidates,
    }
    return Event("hardcase.captured", topic, capture.t_effective, capture.t_decided, "negligible", payload)


def from_damage(damage: Damage, t: int) -> Event:
    """A part of the input that could not be read; ``t``: where the stream stood."""
    payload: Payload = {"where": damage.where, "what": damage.what}
    if damage.lost_messages is not None:
        payload["lost_messages"] = damage.lost_messages
    if damage.lost_bytes is not None:
        payload["lost_bytes"] = damage.lost_bytes
    if damage.topics:
        payload["topics"] = list(damage.topics)
    return Event("log.damage", damage.where, damage.t if damage.t is not None else t, t, "marginal", payload)


def from_reload(activated: Mapping[str, Any], envelope: str, claim: str, t: int) -> Event:
    """``envelope.activated``, of one that was put in force while the monitor runs."""
    return Event("envelope.activated", envelope, t, t, "negligible", dict(activated), claim=claim)


def from_rejection(refusals: Iterable[tuple[str, str]], which: Mapping[str, Any], subject: str, t: int) -> Event:
    """``envelope.rejected``: (code, message) of each reason; ``which``: what is known of the envelope, and who wanted it."""
    reasons = [{"code": code, "message": message} for code, message in refusals]
    cause = "; ".join(reason["message"] for reason in reasons[:4])
    more = f"; and {len(reasons) - 4} more" if len(reasons) > 4 else ""
    payload: Payload = {**which, "cause": cause + more, "reasons": reasons[:MOST_REASONS]}
    return Event("envelope.rejected", subject, t, t, "marginal", payload)
