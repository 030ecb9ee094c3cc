"""``events.bin`` and ``events.ndjson``: exact bytes, and the same as JSON (docs/evidence.md §2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import msgspec

from ..errors import VerificationError
from ..journal.records import MAX_PAYLOAD, MAX_RECORD, SALT_BYTES, Record, Severity, WallStatus

ABSENT = 0xFFFFFFFF
_LENGTH = struct.Struct(">I")
_SEVERITIES = {one: one.name.lower() for one in Severity}
_STATUSES = {one: one.name.lower() for one in WallStatus}
_AS_IT_IS = frozenset((str, int, float, bool, type(None)))
_json = msgspec.json.Encoder(enc_hook=lambda value: value.hex() if isinstance(value, bytes) else str(value))


class Row(NamedTuple):
    """A record's exact bytes, with salt and payload unless they are not there."""

    record: bytes
    salt: bytes | None
    payload: bytes | None


def pack(row: Row) -> bytes:
    """A row as ``events.bin`` has it."""
    head = _LENGTH.pack(len(row.record)) + row.record
    if row.salt is None or row.payload is None:
        return head + _LENGTH.pack(ABSENT)
    return head + _LENGTH.pack(len(row.payload)) + row.salt + row.payload


def unpack(stream: BinaryIO) -> Iterator[Row]:
    """The rows of a stream. Raises ``VerificationError`` where it is cut or a length can't be."""
    while head := stream.read(4):
        record = _exactly(stream, _size(head, MAX_RECORD))
        head = stream.read(4)
        if len(head) == 4 and _LENGTH.unpack(head)[0] == ABSENT:
            yield Row(record, None, None)
            continue
        size = _size(head, MAX_PAYLOAD)
        salt = _exactly(stream, SALT_BYTES)
        yield Row(record, salt, _exactly(stream, size))


def _size(head: bytes, most: int) -> int:
    if len(head) != 4 or _LENGTH.unpack(head)[0] > most:
        raise VerificationError("events_form: events.bin is cut, or says an impossible length")
    return int(_LENGTH.unpack(head)[0])


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise VerificationError("events_form: events.bin is cut")
    return data


def line(record: Record, payload: dict[str, Any] | None) -> bytes:
    """A record as a line of ``events.ndjson``: its own fields in order, and the payload."""
    document = {
        "seq": record.sequence,
        "type": record.type,
        "t_ns": record.t_effective,
        "t_s": record.t_effective / 1e9,
        "t_decided_ns": record.t_decided,
        "severity": _SEVERITIES[record.severity],
        "boot": record.boot_id.hex(),
        "wall_ns": record.wall_ns,
        "wall_status": _STATUSES[record.wall_status],
        "actor": record.actor,
        "envelope": record.digests.envelope.hex(),
        "caused_by": record.causes,
        "rules": record.rules,
        "hazard": record.hazard,
        "claim": record.claim,
        "key_epoch": record.key_epoch,
        "payload": None if payload is None else _shown(payload),
    }
    return _json.encode(document) + b"\n"


def _shown(value: Any) -> Any:
    """A payload as JSON can hold it: bytes as hex."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: one if type(one) in _AS_IT_IS else _shown(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [one if type(one) in _AS_IT_IS else _shown(one) for one in value]
    return value
