"""Records and payloads, format v1: exact bytes in, exact bytes out (FORMAT.md §2 and §3).

What is hashed and signed is the stored bytes, never a re-encoding; decoding is strict, so that one content has one form.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from enum import IntEnum
from typing import Any

import msgspec

from ..errors import UsageError, VerificationError
from .event_types import EVENT_TYPES

VERSION = 1
MAX_RECORD = 65_535
MAX_PAYLOAD = 1 << 20
MAX_DEPTH = 16
PAYLOAD_DOMAIN = b"edge-monitor payload v1\0"
SALT_BYTES = 32

_TYPES = frozenset(EVENT_TYPES)
_encoder = msgspec.msgpack.Encoder(order="deterministic")


class Severity(IntEnum):
    """Severity categories of MIL-STD-882E; the smaller, the worse."""

    CATASTROPHIC = 1
    CRITICAL = 2
    MARGINAL = 3
    NEGLIGIBLE = 4


class WallStatus(IntEnum):
    """What is known of the wall clock. It is recorded and decides nothing."""

    UNKNOWN = 0
    UNSYNCHRONISED = 1
    SYNCHRONISED = 2


class Digests(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What was active: SHA-256 of the envelope and of the model (empty: none), and the monitor's version or digest."""

    envelope: bytes = b""
    model: bytes = b""
    monitor: bytes = b""


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One record: integers, text and bytes in fixed order. Times in ns; ``wall_ns`` and ``wall_error_ns`` -1 if unknown."""

    version: int
    log_id: bytes
    sequence: int
    type: str
    severity: int
    boot_id: bytes
    t_effective: int
    t_decided: int
    wall_ns: int
    wall_status: int
    wall_error_ns: int
    actor: str
    digests: Digests
    causes: tuple[int, ...]
    rules: tuple[str, ...]
    hazard: str
    claim: str
    commitment: bytes
    key_epoch: int


_decoder = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """The record's bytes. Raises ``UsageError`` when it is too large or names an event type that is not in the list."""
    if record.type not in _TYPES:
        raise UsageError(f"event type '{record.type}' is not in the list of FORMAT.md; use one that is, or add it there")
    data = _encoder.encode(record)
    if len(data) > MAX_RECORD:
        raise UsageError(f"record of {len(data)} bytes: at most {MAX_RECORD}; put what is large into the payload")
    return data


def decode_record(data: bytes) -> Record:
    """The record of stored bytes. Raises ``VerificationError`` unless they are the one canonical form of a v1 record."""
    if len(data) > MAX_RECORD:
        raise VerificationError(f"record of {len(data)} bytes is longer than {MAX_RECORD}")
    try:
        record = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise VerificationError(f"not a record: {error}") from None
    if record.version != VERSION:
        raise VerificationError(f"record version {record.version}: this reader knows {VERSION}")
    if _encoder.encode(record) != data:
        raise VerificationError("record is not in canonical form")
    if len(record.log_id) != 16 or len(record.boot_id) != 16 or len(record.commitment) != 32:
        raise VerificationError("record has an id or commitment of the wrong length")
    texts = (record.type, record.actor, *record.rules, record.hazard, record.claim)
    if any(not unicodedata.is_normalized("NFC", text) for text in texts):
        raise VerificationError("record holds text that is not in Unicode NFC")
    return record


def encode_payload(payload: dict[str, Any]) -> bytes:
    """Deterministic MessagePack of a payload: text keys sorted, floats finite float64, ``-0.0`` as ``0.0``.

    Raises ``UsageError`` for NaN and infinities (write None or a word), other types, or more than ``MAX_PAYLOAD`` bytes.
    """
    data = _encoder.encode(_plain(payload, 0))
    if len(data) > MAX_PAYLOAD:
        raise UsageError(f"payload of {len(data)} bytes: at most {MAX_PAYLOAD}; refer to large things by digest")
    return data


def decode_payload(data: bytes) -> dict[str, Any]:
    """The payload of stored bytes. Raises ``VerificationError`` unless they are a payload's one canonical form."""
    if len(data) > MAX_PAYLOAD:
        raise VerificationError(f"payload of {len(data)} bytes is longer than {MAX_PAYLOAD}")
    try:
        payload = msgspec.msgpack.decode(data)
        if not isinstance(payload, dict) or _encoder.encode(_plain(payload, 0)) != data:
            raise VerificationError("payload is not in canonical form")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, UsageError, TypeError) as error:
        raise VerificationError(f"not a payload: {error}") from None
    return payload


def commitment(salt: bytes, payload: bytes) -> bytes:
    """``SHA-256(domain ‖ salt ‖ payload)``: without the salt nothing about the payload can be learnt or tested."""
    return hashlib.sha256(PAYLOAD_DOMAIN + salt + payload).digest()


def _plain(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise UsageError(f"payload nested deeper than {MAX_DEPTH}; flatten it")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UsageError("payload holds NaN or an infinity; write None, or the word 'inf'")
        return value + 0.0 if value else 0.0
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if value is None or isinstance(value, (bool, int, bytes)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise UsageError("payload keys must be text")
        return {unicodedata.normalize("NFC", key): _plain(item, depth + 1) for key, item in value.items()}
    raise UsageError(f"payload holds a {type(value).__name__}; use text, integers, floats, bytes, lists and maps")
