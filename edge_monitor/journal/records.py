"""Records and payloads, format v1: exact bytes in, exact bytes out (FORMAT.md §2 and §3).

What is hashed and signed is the stored bytes, never a re-encoding; decoding is strict, so that one content has one
form.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from enum import IntEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..errors import UsageError, VerificationError
from .event_types import EVENT_TYPES

VERSION = 1
MAX_RECORD = 65_535
MAX_PAYLOAD = 1 << 20
MAX_DEPTH = 16  #: containers in containers in a payload, the outermost map not counted
PAYLOAD_DOMAIN = b"edge-monitor payload v1\0"
SALT_BYTES = 32

_TYPES = frozenset(EVENT_TYPES)
_SIMPLE = frozenset((int, bool, bytes, type(None)))  #: have one form, whatever their value
_encoder = msgspec.msgpack.Encoder(order="deterministic")

Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
Digest = Annotated[bytes, Meta(max_length=64)]
Time = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Natural = Annotated[int, Meta(ge=0, le=2**63 - 1)]


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

    envelope: Digest = b""
    model: Digest = b""
    monitor: Digest = b""


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One record: integers, text and bytes in fixed order. Times in ns; ``wall_error_ns`` -1 if unknown."""

    version: int
    log_id: Id
    sequence: Natural
    type: Annotated[str, Meta(min_length=1, max_length=64)]
    severity: Severity
    boot_id: Id
    t_effective: Time
    t_decided: Time
    wall_ns: Time
    wall_status: WallStatus
    wall_error_ns: Annotated[int, Meta(ge=-1, le=2**63 - 1)]
    actor: str
    digests: Digests
    causes: tuple[Natural, ...]
    rules: tuple[str, ...]
    hazard: str
    claim: str
    commitment: Hash
    key_epoch: Natural


_decoder = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """The record's bytes, held against the rules that readers apply: what is written can be read.

    Raises ``UsageError`` for an event type that is not in the list, a field out of range, or more than ``MAX_RECORD``
    bytes.
    """
    if record.type not in _TYPES:
        raise UsageError(
            f"event type '{record.type}' is not in the list of FORMAT.md; use one that is, or add it there"
        )
    try:
        data = _encoder.encode(record)
        if len(data) > MAX_RECORD:
            raise UsageError(f"record of {len(data)} bytes: at most {MAX_RECORD}; put what is large into the payload")
        decode_record(data)
    except (VerificationError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"entry of type '{record.type}' makes no record: {error}") from None
    return data


def decode_record(data: bytes) -> Record:
    """The record of stored bytes.

    Raises ``VerificationError`` unless they are the one canonical form of a v1 record.
    """
    if len(data) > MAX_RECORD:
        raise VerificationError(f"record of {len(data)} bytes is longer than {MAX_RECORD}")
    try:
        record = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise VerificationError(f"not a record: {error}") from None
    if record.version != VERSION:
        raise VerificationError(f"record version {record.version}: this reader knows {VERSION}")
    if record.causes and max(record.causes) >= record.sequence:
        raise VerificationError("record names a cause that is not before it")
    if not data.isascii() and not _is_nfc(record):
        raise VerificationError("record holds text that is not in Unicode NFC")
    if _encoder.encode(record) != data:
        raise VerificationError("record is not in canonical form")
    return record


def _is_nfc(record: Record) -> bool:
    for text in (record.type, record.actor, *record.rules, record.hazard, record.claim):
        if not text.isascii() and not unicodedata.is_normalized("NFC", text):
            return False
    return True


def encode_payload(payload: dict[str, Any]) -> bytes:
    """Deterministic MessagePack of a payload: text keys sorted, floats finite float64, ``-0.0`` as ``0.0``.

    Raises ``UsageError`` for NaN and infinities (write None or a word), other types, or more than ``MAX_PAYLOAD``
    bytes.
    """
    if not isinstance(payload, dict):
        raise UsageError(f"a payload is a map, not a {type(payload).__name__}")
    try:
        data = _encoder.encode(_plain(payload, 0))
    except (OverflowError, UnicodeEncodeError) as error:
        raise UsageError(f"payload holds what no MessagePack can: {error}") from None
    if len(data) > MAX_PAYLOAD:
        raise UsageError(f"payload of {len(data)} bytes: at most {MAX_PAYLOAD}; refer to large things by digest")
    return data


def decode_payload(data: bytes) -> dict[str, Any]:
    """The payload of stored bytes. Raises ``VerificationError`` unless they are a payload's one canonical form."""
    if len(data) > MAX_PAYLOAD:
        raise VerificationError(f"payload of {len(data)} bytes is longer than {MAX_PAYLOAD}")
    try:
        payload: dict[str, Any] = msgspec.msgpack.decode(data)
        if type(payload) is dict and _is_plain(payload) and _encoder.encode(payload) == data:
            return payload
        canonical = encode_payload(payload) == data
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, UsageError, TypeError) as error:
        raise VerificationError(f"not a payload: {error}") from None
    if not canonical:
        raise VerificationError("payload is not in canonical form")
    return payload


def commitment(salt: bytes, payload: bytes) -> bytes:
    """``SHA-256(domain ‖ salt ‖ payload)``: without the salt nothing about the payload can be learnt or tested."""
    return hashlib.sha256(PAYLOAD_DOMAIN + salt + payload).digest()


def nfc(text: str) -> str:
    """``text`` in Unicode normalisation form C, the only form that records and payloads hold."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _is_plain(payload: dict[str, Any]) -> bool:
    """Whether ``_plain`` leaves a decoded payload as it is: it is asked of every payload that is read, and copies nothing."""
    level: list[Any] = [payload]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for container in level:
            items = container
            if type(container) is dict:
                for key in container:
                    if type(key) is not str or not (key.isascii() or unicodedata.is_normalized("NFC", key)):
                        return False
                items = container.values()
            for item in items:
                kind = type(item)
                if kind is str:
                    if not (item.isascii() or unicodedata.is_normalized("NFC", item)):
                        return False
                elif kind is float:
                    if not (math.isfinite(item) and (item != 0.0 or math.copysign(1.0, item) > 0)):
                        return False
                elif kind is dict or kind is list:
                    below.append(item)
                elif kind not in _SIMPLE:
                    return False
        if not below:
            return True
        level = below
    return False


def _plain(value: Any, depth: int) -> Any:
    """The value in the few types that a payload holds; subclasses (enumerations, NumPy's float64) become their base."""
    if isinstance(value, str):
        return nfc(str(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UsageError("payload holds NaN or an infinity; write None, or the word 'inf'")
        return float(value) if value else 0.0
    if value is None or isinstance(value, (bool, bytes)):
        return value
    if isinstance(value, int):
        return int(value)
    if depth > MAX_DEPTH:
        raise UsageError(f"payload nested deeper than {MAX_DEPTH}; flatten it")
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        plain = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise UsageError("payload keys must be text")
            plain[nfc(str(key))] = _plain(item, depth + 1)
        if len(plain) != len(value):
            raise UsageError("payload has keys that are one and the same in Unicode NFC")
        return plain
    raise UsageError(f"payload holds a {type(value).__name__}; use text, integers, floats, bytes, lists and maps")
