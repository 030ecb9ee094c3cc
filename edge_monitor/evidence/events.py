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
_NO_PAYLOAD = _LENGTH.pack(ABSENT)
_LARGEST = 8 + MAX_RECORD + SALT_BYTES + MAX_PAYLOAD  #: bytes of a row
_READ = 4 << 20  #: bytes that are read at once
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
        return head + _NO_PAYLOAD
    return head + _LENGTH.pack(len(row.payload)) + row.salt + row.payload


def unpack(stream: BinaryIO) -> Iterator[Row]:
    """The rows of a stream. Raises ``VerificationError`` where it is cut or a length can't be."""
    data, place, salted = b"", 0, SALT_BYTES + 4
    while True:
        if len(data) - place < _LARGEST:
            data, place = data[place:] + stream.read(_READ), 0
            if not data:
                return
        size = _size(data, place, MAX_RECORD)
        place += 4 + size
        record = data[place - size : place]
        if data[place : place + 4] == _NO_PAYLOAD:
            place += 4
            yield Row(record, None, None)
            continue
        size = _size(data, place, MAX_PAYLOAD)
        place += salted + size
        if place > len(data):
            raise VerificationError("events_form: events.bin is cut")
        yield Row(record, data[place - size - SALT_BYTES : place - size], data[place - size : place])


def _size(data: bytes, place: int, most: int) -> int:
    """The length that stands at a place of what was read, which holds the whole of a row unless the file ends within it."""
    if len(data) - place < 4:
        raise VerificationError("events_form: events.bin is cut")
    size: int = _LENGTH.unpack_from(data, place)[0]
    if size > most:
        raise VerificationError("events_form: events.bin says an impossible length")
    return size


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
