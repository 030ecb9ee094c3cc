"""What the monitor publishes, as ROS messages in plain form: maps of fields, which whoever joins a graph turns into its own.

The types are those of ``ros2_ws/src/edge_monitor_msgs`` and ``diagnostic_msgs``. A report is made of what consumers get over
ZeroMQ, so that both say the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ..core.check_spec import CheckSpec
from ..core.samples import Cause, Verdict
from ..envelope import Envelope
from .wire import HEARTBEAT_TOPIC, LEASE_TOPIC, Lease, decode_lease

DIAGNOSTICS_NS = 1_000_000_000  #: between diagnostics where nothing gets worse
OK, WARN, ERROR, STALE = range(4)  #: levels of a DiagnosticStatus
RANKS = (0, 1, 3, 2)  #: how bad each level is: what is unknown is worse than a warning, and an error worse than that
SERIOUS = ("catastrophic", "critical")  #: a failure of these is an error, one of others a warning
NO_VERDICT = 255
HANDOVERS = ("handover.", "override.", "mrm.")
INT64 = 1 << 63

Plain = dict[str, Any]


class Report(NamedTuple):
    """A message. ``topic``: below the monitor's own name, or absolute; ``type``: ``package/msg/Type``."""

    topic: str
    type: str
    message: Plain


class RosReports:
    """Makes reports of what is published, part by part."""

    def __init__(self, envelope: Envelope, wall: Callable[[], int], node: str = "edge_monitor") -> None:
        """``wall``: ns on the ROS clock; ``node``: what the monitor is called in diagnostics."""
        self._wall = wall
        self._node = node
        self._decisions: dict[str, Plain] = {}
        self._told = 0  # when diagnostics were told, ns on the wall clock
        self.renew(envelope)

    def renew(self, envelope: Envelope) -> None:
        """From here on, what is published is of this envelope."""
        self._id, self._vehicle = envelope.id, envelope.vehicle
        self._specs = {spec.name: spec for spec in envelope.checks}
        names = [gate.name for gate in envelope.gates]
        self._decisions = {name: self._decisions.get(name) or _empty_decision(name) for name in names}
        self._levels: list[int] = []

    @property
    def gates(self) -> Sequence[str]:
        """Names of the gates: the topics ``decision/NAME``."""
        return tuple(self._decisions)

    def decision(self, gate: str) -> Plain:
        """What a gate was last published to say."""
        return dict(self._decisions[gate])

    def take(self, parts: Sequence[bytes]) -> Iterator[Report]:
        """The reports of one published message, a topic and a body."""
        topic, body = parts
        if topic.startswith(LEASE_TOPIC):
            yield self._decided(decode_lease(body))
        elif topic == b"state":
            yield from self._stand(msgspec.msgpack.decode(body))
        elif topic.startswith(b"decision/"):
            yield from self._reasoned(msgspec.msgpack.decode(body))
        elif topic.startswith(b"event/"):
            yield from self._happened(msgspec.msgpack.decode(body))
        else:
            assert topic == HEARTBEAT_TOPIC, topic

    def _stamp(self) -> Plain:
        return _time(self._wall())

    def _decided(self, lease: Lease) -> Report:
        decision = self._decisions[lease.gate]
        decision |= {
            "stamp": self._stamp(),
            "decision": int(lease.go),
            "valid_for": _time(lease.expires_in_ns),
            "sequence": lease.seq,
            "boot": list(lease.boot),
            "envelope": lease.envelope.hex(),
            "unapproved": lease.unapproved,
            "waived": lease.waived,
        }
        return Report(f"decision/{lease.gate}", "edge_monitor_msgs/msg/Decision", dict(decision))

    def _reasoned(self, event: Mapping[str, Any]) -> Iterator[Report]:
        """A gate has changed: what it says now has its reasons; a GO follows once it is given."""
        decision = self._decisions[event["subject"]]
        decision["cause"] = event["cause"]
        decision["reasons"] = [
            {
                "criterion": one["criterion"], "verdict": Verdict[one["verdict"]], "cause": one["cause"],
                "value": _number(one["value"]), "limit": _number(one["limit"]), "margin": _number(one["margin"]),
                "unit": one["unit"], "severity": one["severity"],
            }
            for one in event["reasons"]
        ]  # fmt: skip
        if event["decision"] == "NO_GO" and decision["sequence"]:
            yield Report(f"decision/{event['subject']}", "edge_monitor_msgs/msg/Decision", dict(decision))

    def _happened(self, event: Mapping[str, Any]) -> Iterator[Report]:
        stamp, document = self._stamp(), json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        common = {"stamp": stamp, "type": event["type"], "document": document, "t_effective": event["t_ns"]}
        verdict = _text(event, "verdict")
        yield Report(
            "events",
            "edge_monitor_msgs/msg/Transition",
            common
            | {name: _text(event, name) for name in ("subject", "severity", "cause", "unit", "hazard", "claim")}
            | {name: _number(event.get(name)) for name in ("value", "limit", "margin")}
            | {
                "t_decided": event["t_decided_ns"],
                "verdict": Verdict[verdict] if verdict in Verdict.__members__ else NO_VERDICT,
                "rules": list(event.get("rules", ())),
            },
        )
        if event["type"].startswith(HANDOVERS):
            terms = event.get("handover", {})
            yield Report(
                "handovers",
                "edge_monitor_msgs/msg/Handover",
                common
                | {name: _text(terms, name) for name in ("id", "initiator", "reason", "gate")}
                | {name: _text(event, name) for name in ("responsible", "person", "cause")}
                | {
                    "source": _text(terms, "from"),
                    "destination": _text(terms, "to"),
                    "rules": list(terms.get("rules", ())),
                    "due": event.get("due_ns") or 0,
                },
            )

    def _stand(self, state: Mapping[str, Any]) -> Iterator[Report]:
        """How everything stands: the state, and diagnostics where they are due."""
        checks = list(self._checks(state))
        for name, answer in state["gates"].items():
            if answer["decision"] == "NO_GO":
                self._decisions[name]["cause"] = answer["cause"] or _against(answer["reasons"])
            else:
                self._decisions[name]["cause"] = ""
        journal = state["journal"]
        command = state["authority"] or ("", "")
        yield Report(
            "state",
            "edge_monitor_msgs/msg/MonitorState",
            {
                "stamp": self._stamp(),
                "t": state["t_ns"],
                "boot": list(state["boot"]),
                "envelope_id": state["envelope"]["id"],
                "envelope": state["envelope"]["digest"],
                "approved": state["envelope"]["approved"],
                "withheld": state["withheld"],
                "gates": [dict(decision) for decision in self._decisions.values()],
                "checks": checks,
                "decision_authority": command[0],
                "execution_authority": command[1],
                "handover": _text((state["handover"] or {}).get("open") or {}, "id"),
                "journal_failure": journal["failure"],
                "journal_waiting": journal["waiting"],
                "journal_refused": journal["refused"],
                "journal_durable": journal["durable"],
                "messages_lost": state["source"]["lost"],
            },
        )
        statuses = [self._diagnosed(check) for check in checks] + list(self._own(state))
        levels = [RANKS[status["level"]] for status in statuses]
        now = self._wall()
        worse = not self._levels or any(a > b for a, b in zip(levels, self._levels, strict=True))
        if worse or not 0 <= now - self._told < DIAGNOSTICS_NS:
            self._told, self._levels = now, levels
            header = {"stamp": self._stamp(), "frame_id": ""}
            message = {"header": header, "status": statuses}
            yield Report("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", message)

    def _checks(self, state: Mapping[str, Any]) -> Iterator[Plain]:
        columns = [state["checks"][name] for name in ("verdict", "cause", "value", "limit", "margin")]
        for name, verdict, cause, *numbers in zip(state["names"]["checks"], *columns, strict=True):
            spec = self._specs[name]
            value, limit, margin = (_number(number) for number in numbers)
            yield {
                "name": name, "verdict": verdict, "cause": Cause(cause).name.lower() if cause else "", "value": value,
                "limit": limit, "margin": margin, "unit": spec.unit, "severity": spec.severity,
            }  # fmt: skip

    def _diagnosed(self, check: Plain) -> Plain:
        level = level_of(self._specs[check["name"]], check["verdict"])
        numbers = {name: check[name] for name in ("value", "limit", "margin") if not math.isnan(check[name])}
        message = Verdict(check["verdict"]).name
        if check["cause"]:
            message += f": {check['cause']}"
        elif "value" in numbers:
            limit = f", limit {numbers['limit']:.6g}" if "limit" in numbers else ""
            message += f": {numbers['value']:.6g}{limit} {check['unit']}".rstrip()
        values = {name: f"{number:.9g}" for name, number in numbers.items()}
        words = {name: check[name] for name in ("unit", "cause", "severity") if check[name]}
        return self._status(check["name"], level, message, values | words)

    def _own(self, state: Mapping[str, Any]) -> Iterator[Plain]:
        """What is to be known beside the checks: gates, journal, inputs, envelope."""
        for name, answer in state["gates"].items():
            go = answer["decision"] == "GO"
            cause = self._decisions[name]["cause"]
            yield self._status(f"gate {name}", OK if go else WARN, "GO" if go else f"NO_GO: {cause}", {})
        journal = state["journal"]
        values = {name: str(journal[name]) for name in ("waiting", "refused", "durable")}
        yield self._status("journal", ERROR if journal["failure"] else OK, journal["failure"] or "written", values)
        approved = state["envelope"]["approved"]
        message = "approved" if approved else "nobody else approved it: for the bench only"
        named = {"id": self._id, "digest": state["envelope"]["digest"]}
        yield self._status("envelope", OK if approved else WARN, message, named)

    def _status(self, name: str, level: int, message: str, values: Mapping[str, str]) -> Plain:
        return {
            "level": level, "name": f"{self._node}: {name}", "message": message, "hardware_id": self._vehicle,
            "values": [{"key": key, "value": value} for key, value in values.items()],
        }  # fmt: skip


def level_of(spec: CheckSpec, verdict: int) -> int:
    """The diagnostic level of a check: unknown is STALE, a failure an ERROR or, where it is not serious, a WARN."""
    if verdict == Verdict.PASS:
        return OK
    if verdict == Verdict.UNKNOWN:
        return STALE
    return ERROR if spec.severity in SERIOUS else WARN


def _empty_decision(gate: str) -> Plain:
    return {
        "stamp": _time(0), "gate": gate, "decision": 0, "valid_for": _time(0), "cause": "", "reasons": [], "sequence": 0,
        "boot": [0] * 16, "envelope": "", "unapproved": False, "waived": False,
    }  # fmt: skip


def _against(reasons: Sequence[Sequence[str]]) -> str:
    """What stands against GO, as a state's answer tells it."""
    return "; ".join(f"{check} {verdict}{f'({cause})' if cause else ''}" for check, verdict, cause in reasons)


def _time(ns: int) -> Plain:
    return {"sec": ns // 1_000_000_000, "nanosec": ns % 1_000_000_000}


def _number(value: Any) -> float:
    """A number as payloads hold it (None: NaN; infinities are words), as a float."""
    return math.nan if value is None or value == "" or isinstance(value, (list, dict)) else float(value)


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name, "")
    return value if isinstance(value, str) else ""
