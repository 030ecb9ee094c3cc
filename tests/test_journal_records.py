"""Records and payloads: one content, one form."""

from __future__ import annotations

import contextlib
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_monitor.errors import UsageError, VerificationError
from edge_monitor.journal.event_types import EVENT_TYPES
from edge_monitor.journal.records import (
    MAX_DEPTH,
    Digests,
    Record,
    decode_payload,
    decode_record,
    encode_payload,
    encode_record,
)


def record(**changes):
    fields = {
        "version": 1, "log_id": bytes(16), "sequence": 5, "type": "check.fail", "severity": 2, "boot_id": bytes(16),
        "t_effective": -3, "t_decided": 2**62, "wall_ns": -1, "wall_status": 0, "wall_error_ns": -1, "actor": "Ana",
        "digests": Digests(b"e", b"m", b"v"), "causes": (1, 2), "rules": ("speed",), "hazard": "H3", "claim": "G1",
        "commitment": bytes(32), "key_epoch": 0,
    }  # fmt: skip
    return Record(**(fields | changes))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), values, max_size=6))
def test_payloads_come_back_and_do_not_depend_on_the_order_of_keys(payload):
    """A payload decodes to what was encoded, whatever order its keys were given in."""
    data = encode_payload(payload)
    assert encode_payload(dict(reversed(payload.items()))) == data
    assert encode_payload(decode_payload(data)) == data


def test_minus_zero_is_zero_and_text_is_normalised():
    """-0.0 is written 0.0 (as 0xcb), and text in Unicode NFC, so that equal contents have equal bytes."""
    assert encode_payload({"x": -0.0}) == encode_payload({"x": 0.0}) == b"\x81\xa1x\xcb" + bytes(8)
    assert encode_payload({"e\u0301": "e\u0301"}) == encode_payload({"\u00e9": "\u00e9"})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, object(), {1: 2}, {"a": {3}}])
def test_what_a_payload_cannot_hold_is_refused(value):
    """NaN, infinities, foreign types and keys that are no text are refused with what to write instead."""
    with pytest.raises(UsageError):
        encode_payload({"x": value})


def test_deep_payloads_are_refused_both_ways():
    """Nesting beyond the limit is refused when written and when read."""
    deep: object = 1
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(UsageError, match="nested"):
        encode_payload({"x": deep})
    with pytest.raises(VerificationError):
        decode_payload(b"\x81\xa1x" + b"\x91" * 100_000 + b"\x01")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc0", b"\x90", b"\x82\xa1a\x01\xa1a\x02", b"\x82\xa1b\x01\xa1a\x02", b"\x81\xa1a\xcc\x01",
        b"\x81\xa1a\x01\x00",
        b"\x81\xa1a\xca\x00\x00\x00\x00", b"\x81\xa1a\xcb\x7f\xf8" + bytes(6), b"\x81\xa1a\xcb\x80" + bytes(7),
        b"\xde\x00\x01\xa1a\x01",
    ],
)  # fmt: skip
def test_other_forms_of_a_payload_are_refused(data):
    """Duplicate or unsorted keys, long forms, trailing bytes, float32, NaN and -0.0 are not canonical."""
    with pytest.raises(VerificationError):
        decode_payload(data)


@given(st.integers(-(2**63), 2**63 - 1), st.lists(st.integers(0, 2**40), max_size=5), st.sampled_from(EVENT_TYPES))
def test_records_come_back_exactly(t, causes, kind):
    """A record decodes to what was encoded."""
    original = record(sequence=2**41, t_effective=t, causes=tuple(causes), type=kind)
    assert decode_record(encode_record(original)) == original


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_flipped_byte_of_a_record_is_refused_or_another_record(place, mask):
    """Damaged record bytes are refused, or are the one canonical form of something else; never an exception of ours."""
    data = bytearray(encode_record(record()))
    data[place % len(data)] ^= mask
    with contextlib.suppress(VerificationError, UsageError):
        assert encode_record(decode_record(bytes(data))) == bytes(data)


def test_unlisted_types_and_oversize_records_are_refused():
    """An event type outside the closed list, and a record beyond 65,535 bytes, cannot be written."""
    with pytest.raises(UsageError, match="not in the list"):
        encode_record(record(type="check.maybe"))
    with pytest.raises(UsageError, match="at most"):
        encode_record(record(rules=("x" * 70_000,)))


def test_other_versions_and_extra_fields_are_refused():
    """A record of another version, or with a field too many, is not read as v1."""
    with pytest.raises(VerificationError, match="version"):
        decode_record(msgspec.msgpack.encode(record(version=2)))
    fields = msgspec.msgpack.decode(encode_record(record()))
    with pytest.raises(VerificationError):
        decode_record(msgspec.msgpack.encode([*fields, 1]))
    with pytest.raises(VerificationError):
        decode_record(msgspec.msgpack.encode(fields[:-1]))
