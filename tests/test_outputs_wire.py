"""Heartbeat and lease as bytes: the stored vectors, both ways, and nothing else."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import fields
from pathlib import Path

import pytest
from consumer_cases import mutated
from hypothesis import given
from hypothesis import strategies as st
from oracles.lease import cut

from edge_monitor.outputs import wire

VECTORS = json.loads((Path(__file__).parent / "vectors/lease_v1.json").read_text("utf-8"))["vectors"]
GOOD = [v for v in VECTORS if v["message"]]
BAD = [v for v in VECTORS if not v["message"]]


def message_of(document: dict) -> wire.Heartbeat | wire.Lease:
    """The message that a vector's document describes."""
    kind = wire.Lease if "gate" in document else wire.Heartbeat
    values = {
        f.name: bytes.fromhex(document[f.name]) if f.name in ("boot", "envelope") else document[f.name]
        for f in fields(kind)
    }
    return kind(**values)


def decode(topic: bytes, body: bytes) -> wire.Heartbeat | wire.Lease:
    """By topic, as consumers do."""
    return wire.decode_heartbeat(body) if topic == wire.HEARTBEAT_TOPIC else wire.decode_lease(body)


def encode(message: wire.Heartbeat | wire.Lease) -> bytes:
    """By type."""
    return wire.encode_heartbeat(message) if isinstance(message, wire.Heartbeat) else wire.encode_lease(message)


@pytest.mark.parametrize("vector", GOOD, ids=lambda v: v["name"])
def test_messages_have_the_stored_bytes(vector):
    """Every stored message encodes to its stored bytes and topic, and decodes from them."""
    message, body = message_of(vector["message"]), bytes.fromhex(vector["body"])
    assert encode(message) == body
    assert decode(bytes.fromhex(vector["topic"]), body) == message
    if isinstance(message, wire.Lease):
        assert wire.lease_topic(message.gate).hex() == vector["topic"]


@pytest.mark.parametrize("vector", BAD, ids=lambda v: v["name"])
def test_what_breaks_the_format_is_refused(vector):
    """Every stored malformed message is a WireError of one line, or names another gate than its topic."""
    topic, body = bytes.fromhex(vector["topic"]), bytes.fromhex(vector["body"])
    try:
        message = decode(topic, body)
    except wire.WireError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert isinstance(message, wire.Lease) and wire.lease_topic(message.gate) != topic


def test_sizes_and_alignment_are_natural():
    """Heartbeats have 96 bytes, leases 128, and every field stands where a C compiler would put it."""
    assert (wire.HEARTBEAT.size, wire.LEASE.size) == (96, 128)
    for packed in (wire.HEARTBEAT, wire.LEASE):
        assert packed.size == struct.calcsize("@" + packed.format[1:])


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("boot", bytes(16), "boot"),
        ("boot", b"short", "boot"),
        ("seq", 0, "seq 0"),
        ("seq", 1 << 64, "seq"),
        ("stamp", -1, "-1"),
        ("stamp", 1 << 61, "2^61"),
        ("envelope", b"", "digest"),
    ],
)
def test_the_monitor_cannot_send_what_consumers_refuse(field, value, says):
    """A field out of range is a WireError when encoding either message, and names the field."""
    good = {"boot": b"b" * 16, "seq": 1, "stamp": 1, "envelope": b"e" * 32} | {field: value}
    order = good["boot"], good["seq"], good["stamp"], good["envelope"]
    with pytest.raises(wire.WireError, match=says.replace("^", r"\^")):
        wire.encode_heartbeat(wire.Heartbeat(*order))
    with pytest.raises(wire.WireError, match=says.replace("^", r"\^")):
        wire.encode_lease(wire.Lease(*order, "takeoff", False))


@pytest.mark.parametrize("period", [0, -1, 1 << 32])
def test_a_period_out_of_range_is_not_sent(period):
    """A heartbeat's period is 1 ms or more, and fits its four bytes."""
    with pytest.raises(wire.WireError, match="period"):
        wire.encode_heartbeat(wire.Heartbeat(b"b" * 16, 1, 1, b"e" * 32, period))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gate": ""}, "0 bytes"),
        ({"gate": "x" * 33}, "33 bytes"),
        ({"gate": "ü" * 17}, "34 bytes"),
        ({"gate": "a\tb"}, "control"),
        ({"gate": "\ud800"}, "Unicode"),
        ({"expires_in_ns": 0}, "GO of 0"),
        ({"expires_in_ns": wire.LIFE_LIMIT + 1}, "one day"),
        ({"go": False}, "NO_GO"),
    ],
)
def test_a_lease_out_of_range_is_not_sent(change, says):
    """Names that do not fit and times that make no sense are WireErrors when encoding."""
    lease = {"gate": "takeoff", "go": True, "expires_in_ns": 1} | change
    with pytest.raises(wire.WireError, match=says):
        wire.encode_lease(wire.Lease(b"b" * 16, 1, 1, b"e" * 32, **lease))


boots = st.binary(min_size=16, max_size=16).filter(any)
stamps = st.integers(0, wire.TIME_LIMIT - 1)
names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, [*range(32), 127]))), min_size=1
)


@given(
    boots,
    st.integers(1, 2**64 - 1),
    stamps,
    st.binary(min_size=32, max_size=32),
    st.integers(1, 2**32 - 1),
    st.booleans(),
)
def test_heartbeats_survive_the_wire(boot, seq, sent, envelope, period, unapproved):
    """Any heartbeat in range comes back as it was, and the oracle cuts the same numbers out of its bytes."""
    heartbeat = wire.Heartbeat(boot, seq, sent, envelope, period, unapproved)
    body = wire.encode_heartbeat(heartbeat)
    assert wire.decode_heartbeat(body) == heartbeat
    plain = cut(b"heartbeat", body)
    assert (plain.boot, plain.seq, plain.stamp, plain.envelope, plain.flags) == (boot, seq, sent, envelope, unapproved)


@given(
    boots, st.integers(1, 2**64 - 1), stamps, st.booleans(), st.integers(1, wire.LIFE_LIMIT), names, st.integers(0, 3)
)
def test_leases_survive_the_wire(boot, seq, issued, go, life, gate, flags):
    """Any lease in range comes back as it was, and the oracle cuts the same numbers out of its bytes."""
    while len(gate.encode()) > wire.GATE_BYTES:
        gate = gate[:-1]
    lease = wire.Lease(boot, seq, issued, b"e" * 32, gate, go, life if go else 0, bool(flags & 1), bool(flags & 2))
    body = wire.encode_lease(lease)
    assert wire.decode_lease(body) == lease
    plain = cut(wire.lease_topic(gate), body)
    assert (plain.seq, plain.stamp, plain.go, plain.life, plain.gate, plain.flags) == (
        seq,
        issued,
        go,
        lease.expires_in_ns,
        gate,
        flags,
    )


def test_decoding_is_the_inverse_of_encoding():
    """Of 20,000 damaged bodies, those that still decode encode to the very same bytes; the others are WireErrors."""
    chance = random.Random(1)
    bodies = [(bytes.fromhex(v["topic"]), bytes.fromhex(v["body"])) for v in GOOD]
    decoded = 0
    for _ in range(20_000):
        topic, body = chance.choice(bodies)
        body = mutated(chance, body)
        try:
            message = decode(topic, body)
        except wire.WireError:
            continue
        decoded += 1
        assert encode(message) == body
    assert decoded > 1000
