"""The bytes of heartbeat and lease: fixed size, little endian, every field on its natural alignment (tables: docs/consumer.md).

Decoding is strict: what this module would not have written is no message. ``consumer/edge_lease.h`` reads the same bytes in C;
``tests/vectors/lease_v1.json`` holds both to them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

VERSION = 1
HEARTBEAT_TOPIC = b"heartbeat"
LEASE_TOPIC = b"lease/"
HEARTBEAT_MAGIC = b"EMH1"
LEASE_MAGIC = b"EML1"

#: magic, version, flags, boot, seq, sent_ns, envelope digest, period_ms, reserved (4 + 16 bytes of zero)
HEARTBEAT = struct.Struct("<4sHH16sQq32sI20s")
#: magic, version, go, flags, boot, seq, issued_ns, expires_in_ns, envelope digest, gate name, reserved
LEASE = struct.Struct("<4sHBB16sQqq32s32s16s")
GATE_BYTES = 32

#: Flag bits. A message with any other bit is refused: a consumer must not act on what it does not understand.
UNAPPROVED = 1  #: the envelope is not approved by a second person (both messages)
WAIVED = 2  #: a waiver is part of the decision (leases only)

#: Time stamps are below 2^61 ns (73 years since boot), so that no sum of the consumer overflows.
TIME_LIMIT = 1 << 61
#: A lease is at most a day long.
LIFE_LIMIT = 86_400_000_000_000
_SEQ_LIMIT = 1 << 64
_PERIOD_LIMIT = 1 << 32


class WireError(ValueError):
    """A heartbeat or lease that breaks the format, with what is wrong in one line."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The monitor has completed an advance.

    ``boot``: 16 bytes, never all zero; ``seq`` counts from 1 over heartbeats and leases of the boot; ``sent_ns``: on the
    monitor's CLOCK_BOOTTIME; ``envelope``: its digest, 32 bytes; ``period_ms``: nominal, at least 1.
    """

    boot: bytes
    seq: int
    sent_ns: int
    envelope: bytes
    period_ms: int = 100
    unapproved: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """A gate's answer: GO for ``expires_in_ns`` from ``issued_ns`` (CLOCK_BOOTTIME), or NO_GO (``expires_in_ns`` is then 0)."""

    boot: bytes
    seq: int
    issued_ns: int
    envelope: bytes
    gate: str
    go: bool
    expires_in_ns: int = 0
    unapproved: bool = False
    waived: bool = False


def gate_bytes(gate: str) -> bytes:
    """A gate's name as the wire has it, without padding. WireError unless 1 to 32 bytes of UTF-8 without control characters."""
    try:
        name = gate.encode()
    except UnicodeEncodeError:
        raise WireError(f"gate {gate!r} is no Unicode text") from None
    if not 1 <= len(name) <= GATE_BYTES:
        raise WireError(f"gate {gate!r} has {len(name)} bytes; 1 to {GATE_BYTES} fit")
    if any(byte < 0x20 or byte == 0x7F for byte in name):
        raise WireError(f"gate {gate!r} has a control character")
    return name


def _check(boot: bytes, seq: int, stamp: int, envelope: bytes) -> None:
    if len(boot) != 16 or not any(boot):
        raise WireError("boot must be 16 bytes, not all zero")
    if not 1 <= seq < _SEQ_LIMIT:
        raise WireError(f"seq {seq} is outside 1 … 2^64 - 1")
    if not 0 <= stamp < TIME_LIMIT:
        raise WireError(f"time stamp {stamp} is outside 0 … 2^61 - 1 ns")
    if len(envelope) != 32:
        raise WireError("envelope digest must be 32 bytes")


def _check_lease(go: bool, expires_in: int) -> None:
    if go and not 1 <= expires_in <= LIFE_LIMIT:
        raise WireError(f"a GO of {expires_in} ns; 1 ns to one day is allowed")
    if not go and expires_in != 0:
        raise WireError(f"a NO_GO does not expire, but expires_in is {expires_in}")


def encode_heartbeat(heartbeat: Heartbeat) -> bytes:
    """The 96 bytes of a heartbeat. WireError when a field is out of range."""
    h = heartbeat
    _check(h.boot, h.seq, h.sent_ns, h.envelope)
    if not 1 <= h.period_ms < _PERIOD_LIMIT:
        raise WireError(f"period {h.period_ms} ms is outside 1 … 2^32 - 1")
    flags = UNAPPROVED if h.unapproved else 0
    return HEARTBEAT.pack(
        HEARTBEAT_MAGIC, VERSION, flags, h.boot, h.seq, h.sent_ns, h.envelope, h.period_ms, bytes(20)
    )  # fmt: skip


def decode_heartbeat(body: bytes) -> Heartbeat:
    """The heartbeat in ``body``; WireError when it is none."""
    if len(body) != HEARTBEAT.size:
        raise WireError(f"a heartbeat has {HEARTBEAT.size} bytes, not {len(body)}")
    magic, version, flags, boot, seq, sent, envelope, period, reserved = HEARTBEAT.unpack(body)
    if magic != HEARTBEAT_MAGIC or version != VERSION:
        raise WireError(f"magic {magic!r} version {version} is no heartbeat of version {VERSION}")
    if flags & ~UNAPPROVED:
        raise WireError(f"unknown flags {flags:#x}")
    if any(reserved):
        raise WireError("reserved bytes are not zero")
    _check(boot, seq, sent, envelope)
    if period < 1:
        raise WireError("period is 0 ms")
    return Heartbeat(boot, seq, sent, envelope, period, bool(flags & UNAPPROVED))


def lease_topic(gate: str) -> bytes:
    """The topic of a gate's leases."""
    return LEASE_TOPIC + gate_bytes(gate)


def encode_lease(lease: Lease) -> bytes:
    """The 128 bytes of a lease. WireError when a field is out of range."""
    m = lease
    _check(m.boot, m.seq, m.issued_ns, m.envelope)
    _check_lease(m.go, m.expires_in_ns)
    flags = (UNAPPROVED if m.unapproved else 0) | (WAIVED if m.waived else 0)
    return LEASE.pack(
        LEASE_MAGIC, VERSION, m.go, flags, m.boot, m.seq, m.issued_ns, m.expires_in_ns, m.envelope, gate_bytes(m.gate), bytes(16)
    )  # fmt: skip


def decode_lease(body: bytes) -> Lease:
    """The lease in ``body``; WireError when it is none."""
    if len(body) != LEASE.size:
        raise WireError(f"a lease has {LEASE.size} bytes, not {len(body)}")
    magic, version, go, flags, boot, seq, issued, expires_in, envelope, padded, reserved = LEASE.unpack(body)
    if magic != LEASE_MAGIC or version != VERSION:
        raise WireError(f"magic {magic!r} version {version} is no lease of version {VERSION}")
    if go > 1:
        raise WireError(f"go is {go}, neither 0 nor 1")
    if flags & ~(UNAPPROVED | WAIVED):
        raise WireError(f"unknown flags {flags:#x}")
    if any(reserved):
        raise WireError("reserved bytes are not zero")
    _check(boot, seq, issued, envelope)
    _check_lease(bool(go), expires_in)
    try:
        gate = padded.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise WireError("the gate's name is not UTF-8") from None
    gate_bytes(gate)  # empty, a zero inside, or a control character
    return Lease(
        boot, seq, issued, envelope, gate, bool(go), expires_in, bool(flags & UNAPPROVED), bool(flags & WAIVED)
    )  # fmt: skip
