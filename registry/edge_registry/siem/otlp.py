"""OpenTelemetry logs over OTLP/HTTP with JSON (opentelemetry.io/docs/specs/otlp): a request is acknowledged by its response."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from edge_monitor import __version__
from edge_monitor.journal.records import Severity

from .delivery import DeliveryError
from .shipment import Shipment

PATH = "/v1/logs"
TIMEOUT_S = 30.0
LARGEST_ANSWER = 1 << 20
#: Severity number and text.
SEVERITY = {
    Severity.CATASTROPHIC: (21, "FATAL"), Severity.CRITICAL: (17, "ERROR"), Severity.MARGINAL: (13, "WARN"),
    Severity.NEGLIGIBLE: (9, "INFO"),
}  # fmt: skip


def request(batch: Sequence[Shipment]) -> bytes:
    """The body of an ``ExportLogsServiceRequest``: a resource for each robot, the records in their order."""
    robots: dict[tuple[str, str], list[Shipment]] = {}
    for one in batch:
        robots.setdefault((one.robot, one.log), []).append(one)
    resources = [
        {
            "resource": {
                "attributes": _attributes({"service.name": "edge-monitor", "host.name": robot, "host.id": log}),
            },
            "scopeLogs": [
                {
                    "scope": {"name": "edge-registry", "version": __version__},
                    "logRecords": [_record(one) for one in records],
                }
            ],
        }
        for (robot, log), records in robots.items()
    ]
    return json.dumps({"resourceLogs": resources}, separators=(",", ":"), allow_nan=False).encode("ascii")


class OtlpOutput:
    """Posts batches to a collector, over a connection that is kept."""

    certain = True

    def __init__(
        self, host: str, port: int, path: str = PATH, context: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._path = path
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._connection = (
            http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
            if context is None
            else http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
        )
        self._where = f"{host}:{port}{path}"

    def send(self, batch: Sequence[Shipment]) -> None:
        """Post a batch. Raises ``DeliveryError`` for anything but a whole success."""
        try:
            self._connection.request("POST", self._path, request(batch), self._headers)
            response = self._connection.getresponse()
            body = response.read(LARGEST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise DeliveryError(f"{self._where}: {error or type(error).__name__}") from None
        if response.status != 200:
            self._connection.close()
            raise DeliveryError(f"{self._where}: answers {response.status} {response.reason}: {_shown(body)}")
        rejected, words = _rejected(body)
        if rejected:
            raise DeliveryError(f"{self._where}: rejects {rejected} of {len(batch)} records: {words}")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def _record(one: Shipment) -> dict[str, Any]:
    number, word = SEVERITY[one.severity]
    own = {
        "log.record.uid": one.id, "event.name": one.type, "edge.robot": one.robot, "edge.log": one.log, "edge.boot": one.boot,
        "edge.seq": one.sequence, "edge.hash": one.hash, "edge.subject": one.subject,
        "edge.wall_status": one.wall_status.name.lower(),
        "edge.envelope": one.envelope, "edge.model": one.model, "edge.actor": one.actor, "edge.hazard": one.hazard,
        "edge.claim": one.claim, "edge.rules": list(one.rules), "edge.payload": one.payload_text(),
    }  # fmt: skip
    return {
        "timeUnixNano": str(one.wall_ns or 0),
        "observedTimeUnixNano": str(one.received_ns),
        "severityNumber": number,
        "severityText": word,
        "body": {"stringValue": one.sentence()},
        "attributes": _attributes(own),
    }


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value not in ("", [])]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, int):
        return {"intValue": str(value)}  # as JSON has 64-bit integers in OTLP
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    return {"stringValue": str(value)}


def _rejected(body: bytes) -> tuple[int, str]:
    """How many records of an accepted request were not taken, and why."""
    try:
        partial = (json.loads(body) if body.strip() else {}).get("partialSuccess") or {}
        return int(partial.get("rejectedLogRecords") or 0), str(partial.get("errorMessage") or "")[:200]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return 0, ""


def _shown(body: bytes) -> str:
    text = body[:200].decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text)
