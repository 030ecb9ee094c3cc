"""A record as OCSF 1.2, as ECS 9.4 and as CEF. What has no place in a schema is kept where that schema lets one put it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from edge_monitor import __version__
from edge_monitor.journal.records import Severity

from .shipment import Shipment, moment, one_line

OCSF_VERSION, ECS_VERSION = "1.2.0", "9.4.0"
#: OCSF severity_id by MIL-STD-882E category: fatal, critical, medium, informational.
OCSF_SEVERITY = {Severity.CATASTROPHIC: 6, Severity.CRITICAL: 5, Severity.MARGINAL: 3, Severity.NEGLIGIBLE: 1}
_OCSF_WORDS = {6: "Fatal", 5: "Critical", 3: "Medium", 1: "Informational"}
#: Of CEF, 0 to 10.
CEF_SEVERITY = {Severity.CATASTROPHIC: 10, Severity.CRITICAL: 8, Severity.MARGINAL: 5, Severity.NEGLIGIBLE: 1}

#: Types that are findings (OCSF 2004), and what they do to their finding: 1 create, 2 update, 3 close.
FINDINGS = {
    "check.fail": 1, "check.unknown": 2, "check.pass": 3, "drift.detected": 1, "drift.resolved": 3, "odd.exit": 1, "odd.enter": 3,
    "gate.no_go": 1, "gate.go": 3, "latch.set": 1, "latch.reset": 3, "input.lost": 1, "input.restored": 3, "failsafe.start": 1,
    "failsafe.end": 3, "mrm.start": 1, "mrm.succeeded": 3, "mrm.failed": 2, "action.blocked": 1, "access.refused": 1,
    "clock.jump": 1, "log.damage": 1, "journal.gap": 1, "envelope.rejected": 1, "bundle.refused": 1, "monitor.degraded": 1,
    "monitor.overrun": 1,
}  # fmt: skip
_FINDING_WORDS = {1: "Create", 2: "Update", 3: "Close"}
#: Types of the monitor's own life (OCSF 6002): activity and its name.
LIFE = {"monitor.started": (3, "Start"), "monitor.stopped": (4, "Stop")}
#: ECS event.type by the last word of a type.
_ECS_TYPES = {
    "started": "start", "start": "start", "stopped": "end", "end": "end", "resolved": "end", "restored": "end", "enter": "end",
    "refused": "denied", "no_go": "denied", "blocked": "denied", "rejected": "denied", "go": "allowed", "accepted": "allowed",
    "activated": "change", "changed": "change", "rotated": "change", "failed": "error", "gap": "error", "damage": "error",
}  # fmt: skip


def ocsf(one: Shipment) -> bytes:
    """One JSON object in ASCII: Detection Finding, Application Lifecycle, or Base Event for what OCSF has no class for."""
    class_uid, activity, name = _class(one)
    severity = OCSF_SEVERITY[one.severity]
    document: dict[str, Any] = {
        "activity_id": activity,
        "activity_name": name,
        "category_uid": class_uid // 1000,
        "class_uid": class_uid,
        "type_uid": class_uid * 100 + activity,
        "severity_id": severity,
        "severity": _OCSF_WORDS[severity],
        "time": one.time_ns // 1_000_000,
        "message": one.sentence(),
        "metadata": {
            "version": OCSF_VERSION,
            "product": {"name": "edge-registry", "vendor_name": "edge-monitor", "version": __version__},
            "uid": one.id,
            "sequence": one.sequence,
            "event_code": one.type,
            "log_name": one.log,
            "logged_time": one.received_ns // 1_000_000,
        },
        "unmapped": _own(one) | {"payload": one.payload_text()},
    }
    if class_uid == 2004:
        document["metadata"]["correlation_uid"] = _finding(one)
        document["finding_info"] = {
            "uid": _finding(one), "title": f"{one.type} {one.subject}", "desc": one.cause, "types": [one.type],
        }  # fmt: skip
    elif class_uid == 6002:
        document["app"] = {"name": "edge-monitor", "vendor_name": "edge-monitor"}
    if class_uid:
        document["metadata"]["profiles"] = ["host"]
        document["device"] = {"type_id": 99, "type": "Robot", "name": one.robot, "uid": one.log}
    return _compact(document)


def ecs(one: Shipment) -> bytes:
    """One JSON object in ASCII; what is the project's own is under ``edge_monitor``."""
    activity = FINDINGS.get(one.type, 0)
    document: dict[str, Any] = {
        "@timestamp": moment(one.time_ns),
        "message": one.sentence(),
        "ecs": {"version": ECS_VERSION},
        "event": {
            "id": one.id,
            "kind": "alert" if activity == 1 else "event",
            "category": ["host"],
            "type": [_ECS_TYPES.get(one.type.rpartition(".")[2], "info")],
            "action": one.type,
            "code": one.type,
            "severity": int(OCSF_SEVERITY[one.severity]),
            "sequence": one.sequence,
            "hash": one.hash,
            "dataset": "edge_monitor.events",
            "module": "edge_monitor",
            "ingested": moment(one.received_ns),
        },
        "host": {"name": one.robot, "id": one.log, "type": "robot"},
        "observer": {"vendor": "edge-monitor", "product": "edge-registry", "version": __version__, "type": "registry"},
        "edge_monitor": _own(one) | {"payload": one.payload_text()},
    }
    if one.cause:
        document["event"]["reason"] = one.cause
    if one.rules:
        document["rule"] = {"name": one.rules[0]}
    if one.actor:
        document["user"] = {"id": one_line(one.actor)}
    return _compact(document)


def cef(one: Shipment) -> bytes:
    """One line of the Common Event Format, version 0, in UTF-8."""
    head = (
        "CEF:0", "edge-monitor", "edge-registry", __version__, one.type, f"{one.type} {one.subject}"[:512],
        str(CEF_SEVERITY[one.severity]),
    )  # fmt: skip
    fields = {
        "rt": str(one.time_ns // 1_000_000),
        "externalId": one.id,
        "dvchost": one.robot,
        "deviceExternalId": one.log,
        "cat": one.type.partition(".")[0],
        "cs1Label": "boot", "cs1": one.boot,
        "cs2Label": "hash", "cs2": one.hash,
        "cs3Label": "envelope", "cs3": one.envelope,
        "cs4Label": "rules", "cs4": " ".join(one.rules)[:4000],
        "cs5Label": "hazard", "cs5": one.hazard,
        "cs6Label": "claim", "cs6": one.claim,
        "cn1Label": "seq", "cn1": str(one.sequence),
        "suser": one.actor,
        "msg": one.sentence(),
    }  # fmt: skip
    given = {
        name: value for name, value in fields.items() if value and (not name.endswith("Label") or fields[name[:-5]])
    }
    first = "|".join(_cef_head(part) for part in head)
    return f"{first}|{' '.join(f'{name}={_cef_value(value)}' for name, value in given.items())}".encode()


FORMS: dict[str, Callable[[Shipment], bytes]] = {"ocsf": ocsf, "ecs": ecs, "cef": cef}


def _class(one: Shipment) -> tuple[int, int, str]:
    """OCSF's class, activity and its name."""
    if one.type in FINDINGS:
        activity = FINDINGS[one.type]
        return 2004, activity, _FINDING_WORDS[activity]
    if one.type in LIFE:
        return 6002, *LIFE[one.type]
    return 0, 99, one.type


def _finding(one: Shipment) -> str:
    """What opens and closes together: of one boot, kind and subject."""
    return f"{one.robot}/{one.boot}/{one.type.partition('.')[0]}/{one.subject}"


def _own(one: Shipment) -> dict[str, Any]:
    """By what a record is found again in its chain, and what stood in it."""
    return {
        "id": one.id, "robot": one.robot, "log": one.log, "boot": one.boot, "seq": one.sequence, "hash": one.hash,
        "type": one.type, "severity": one.severity.name.lower(), "wall_status": one.wall_status.name.lower(),
        "actor": one_line(one.actor), "envelope": one.envelope, "model": one.model, "rules": [one_line(r) for r in one.rules],
        "hazard": one_line(one.hazard), "claim": one_line(one.claim),
    }  # fmt: skip


def _compact(document: dict[str, Any]) -> bytes:
    """JSON in ASCII on one line: nothing that a robot says can begin another."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")


def _cef_head(text: str) -> str:
    return one_line(text).replace("\\", "\\\\").replace("|", "\\|")


def _cef_value(text: str) -> str:
    return one_line(text).replace("\\", "\\\\").replace("=", "\\=")
