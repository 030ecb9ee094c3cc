"""``Shipment``: a record as it leaves the registry, in whatever form: who, what, when, and how to hold it against its chain."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from edge_monitor.errors import VerificationError
from edge_monitor.journal.merkle import leaf_hash
from edge_monitor.journal.records import Severity, WallStatus, decode_payload, decode_record

from ..tail import Line

LATER = "record.unknown"  #: the type of a record of a later version than this program knows
SHORT = 1000  #: characters of a sentence, at most
LARGEST_PAYLOAD = 16_384  #: characters; a larger one stays in the registry
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Shipment:
    """``id``: ``robot/boot/sequence``, the same however often it is sent. ``hash``: of the record as a leaf of its log's tree.

    ``wall_ns``: the robot's wall clock, None where it knew none; ``received_ns``: when the registry gave its receipt, ns since
    1970.
    ``payload``: None where it was erased, or the record is of a later version.
    """

    id: str
    robot: str
    log: str
    boot: str
    sequence: int
    hash: str
    type: str
    severity: Severity
    wall_ns: int | None
    wall_status: WallStatus
    received_ns: int
    actor: str
    envelope: str
    model: str
    rules: tuple[str, ...]
    hazard: str
    claim: str
    payload: dict[str, Any] | None

    @property
    def time_ns(self) -> int:
        """When it was: by the robot's wall clock, else when it was received."""
        return self.received_ns if self.wall_ns is None else self.wall_ns

    @property
    def subject(self) -> str:
        """What the event is about."""
        return _text(self.payload, "subject") or self.type.partition(".")[0]

    @property
    def cause(self) -> str:
        """Why, in the robot's words."""
        return _text(self.payload, "cause")

    def sentence(self) -> str:
        """What happened, for people, on one line; what the robot says in it is its own."""
        if self.type == LATER:
            return f"{self.robot}: a record of a later version, {self.sequence} of log {self.log}"
        words = f"{self.robot}: {self.type} {self.subject}"
        if self.payload is None:
            return f"{words} (its payload was erased)"
        value, limit, unit = (self.payload.get(name) for name in ("value", "limit", "unit"))
        unit = f" {unit}" if isinstance(unit, str) and unit else ""
        words += f", value {value}{unit}" if isinstance(value, (int, float)) else ""
        words += f", limit {limit}{unit}" if isinstance(limit, (int, float)) else ""
        words += f": {self.cause}" if self.cause else ""
        return one_line(words)[:SHORT]

    def payload_text(self) -> str:
        """The payload as JSON in ASCII, one line; empty where there is none, or it is larger than receivers take."""
        if self.payload is None:
            return ""
        text = json.dumps(_plain(self.payload), separators=(",", ":"), sort_keys=True)
        return text if len(text) <= LARGEST_PAYLOAD else ""


def shipment(one: Line) -> Shipment:
    """A record of the registry's tail, to be sent."""
    event = one.event
    digest, received = leaf_hash(event.record).hex(), one.received_s * 1_000_000_000
    try:
        record = decode_record(event.record)
    except VerificationError:
        where = (f"{one.robot}/{one.log_id}/{event.seq}", one.robot, one.log_id, "", event.seq)
        return Shipment(
            *where, digest, LATER, Severity.NEGLIGIBLE, None, WallStatus.UNKNOWN, received, "", "", "", (), "", "", None
        )
    boot = record.boot_id.hex()
    return Shipment(
        f"{one.robot}/{boot}/{event.seq}", one.robot, one.log_id, boot, event.seq, digest, record.type, record.severity,
        record.wall_ns if record.wall_ns >= 0 else None, record.wall_status, received, record.actor,
        record.digests.envelope.hex(), record.digests.model.hex(), record.rules, record.hazard, record.claim,
        _payload(event.payload),
    )  # fmt: skip


def _payload(data: bytes | None) -> dict[str, Any] | None:
    """What is in a payload; its bytes where they are none, since nothing may stop what follows."""
    if data is None:
        return None
    try:
        return decode_payload(data)
    except VerificationError:
        return {"undecoded": data.hex()}


def moment(ns: int) -> str:
    """RFC 3339 in UTC with microseconds, as syslog and ECS have it."""
    return (_EPOCH + timedelta(microseconds=ns // 1000)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def one_line(text: str) -> str:
    """``text`` without anything that could begin another line, or hide: control and format characters become blanks."""
    return "".join(character if character.isprintable() else " " for character in text)


def _text(payload: dict[str, Any] | None, name: str) -> str:
    value = payload.get(name) if payload is not None else None
    return one_line(value) if isinstance(value, str) else ""


def _plain(value: Any) -> Any:
    """A payload as JSON can hold it: bytes as hex."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
