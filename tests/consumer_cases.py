"""Random lives of a consumer: messages of several boots, late, lost, doubled and damaged, and questions on the edges."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

from oracles.lease import Oracle

from edge_monitor.consumer import Consumer
from edge_monitor.outputs import wire

MS = 1_000_000
TIMEOUT = 180 * MS
BOOTS = tuple(bytes([i]) * 16 for i in range(1, 13))
ENVELOPES = (bytes([0xE1]) * 32, bytes([0xE2]) * 32)
GATES = ("takeoff", "weiter-über-Wasser")
#: As many as fit, one with as long a name as fits.
MOST_GATES = (*GATES, "x" * wire.GATE_BYTES, *(f"gate{i}" for i in range(13)))
AGES = (0, 0, 0, 1, MS, 80 * MS, TIMEOUT - 1, TIMEOUT, 400 * MS, -MS, -10 * MS, -10 * MS - 1)
STEPS = (0, 0, 1, MS, 10 * MS, 50 * MS, 79 * MS, TIMEOUT - 1, TIMEOUT, TIMEOUT + 1, 1000 * MS)
LIVES = (1, 100 * MS, 100 * MS, 500 * MS, 5000 * MS, wire.LIFE_LIMIT)


@dataclass
class Settings:
    """A consumer's arguments, for all three sides."""

    gates: tuple[str, ...] = GATES
    timeout: int = TIMEOUT
    envelope: bytes | None = None
    accept_unapproved: bool = False
    other_clock: bool = False
    every_lease: bool = True

    def consumer(self) -> Consumer:
        """The Python side."""
        return Consumer(
            self.gates,
            heartbeat_timeout_ns=self.timeout,
            envelope=self.envelope,
            accept_unapproved=self.accept_unapproved,
            other_clock=self.other_clock,
            every_lease=self.every_lease,
        )

    def oracle(self) -> Oracle:
        """The plain one."""
        return Oracle(
            self.gates, self.timeout, self.envelope, self.accept_unapproved, self.other_clock, self.every_lease
        )

    def frame(self) -> bytes:
        """The frame that makes consumer/example.c such a consumer."""
        bits = self.accept_unapproved + 2 * self.other_clock + 4 * self.every_lease + 8 * (self.envelope is not None)
        names = b"".join(gate.encode() + b"\0" for gate in self.gates)
        return framed(b"S" + struct.pack("<Bq", bits, self.timeout) + (self.envelope or bytes(32)) + names)


def framed(payload: bytes) -> bytes:
    """With its length before it, as consumer/example.c reads it."""
    return struct.pack("<I", len(payload)) + payload


def message_frame(topic: bytes, body: bytes, now: int) -> bytes:
    """A message that came at ``now``."""
    return framed(b"M" + struct.pack("<qB", now, len(topic)) + topic + body)


def question_frame(gate: str, now: int) -> bytes:
    """A question at ``now``."""
    return framed(b"A" + struct.pack("<q", now) + gate.encode())


def mutated(chance: random.Random, body: bytes) -> bytes:
    """Some bytes flipped, set, cut off, put in or put on."""
    damaged = bytearray(body)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(len(damaged)) if damaged else 0
        what = chance.randrange(6)
        if what <= 2 and damaged:
            damaged[at] ^= 1 << chance.randrange(8)
        elif what == 3 and damaged:
            damaged[at] = chance.choice((0, 1, 2, 0x7F, 0x80, 0xFF))
        elif what == 4:
            del damaged[at:]
        else:
            damaged[at:at] = chance.randbytes(chance.choice((1, 4, 300)))
    return bytes(damaged)


@dataclass
class Life:
    """Draws operations one after another. ``now`` and every boot's counter are the truth; what is sent may differ."""

    chance: random.Random
    now: int = 10**12
    boot: int = 0
    counters: dict[int, int] = field(default_factory=dict)
    sent: list[tuple[bytes, bytes]] = field(default_factory=list)

    def settings(self) -> Settings:
        """Settings, the usual ones as often as all others."""
        if self.chance.random() < 0.4:
            return Settings()
        draw = self.chance.random
        return Settings(
            self.chance.choice((GATES[:1], GATES, MOST_GATES)),
            self.chance.choice((TIMEOUT, TIMEOUT, 1, 60_000 * MS)),
            self.chance.choice((None, ENVELOPES[0])),
            draw() < 0.5, draw() < 0.5, draw() < 0.6,
        )  # fmt: skip

    def message(self) -> tuple[bytes, bytes]:
        """A message, mostly the one that would follow, well formed."""
        chance = self.chance
        if self.sent and chance.random() < 0.08:
            return chance.choice(self.sent)
        boot = self.boot if chance.random() < 0.95 else chance.randrange(len(BOOTS))
        if chance.random() < 0.02:
            self.boot = chance.randrange(len(BOOTS))
        seq = max(1, self.counters.get(boot, 0) + (1 if chance.random() < 0.92 else chance.choice((0, -1, 2, 3))))
        self.counters[boot] = seq
        stamp = max(0, self.now - (0 if chance.random() < 0.6 else chance.choice(AGES)))
        envelope = ENVELOPES[chance.random() < 0.04]
        unapproved = chance.random() < 0.06
        if chance.random() < 0.45:
            made = (
                wire.HEARTBEAT_TOPIC,
                wire.encode_heartbeat(wire.Heartbeat(BOOTS[boot], seq, stamp, envelope, 100, unapproved)),
            )
        else:
            gate, go = chance.choice(GATES), chance.random() < 0.85
            lease = wire.Lease(
                BOOTS[boot], seq, stamp, envelope, gate, go, chance.choice(LIVES) if go else 0, unapproved, chance.random() < 0.2
            )  # fmt: skip
            made = wire.lease_topic(gate), wire.encode_lease(lease)
        self.sent = [*self.sent[-8:], made]
        return made

    def damaged(self) -> tuple[bytes, bytes]:
        """A message, one time in eight damaged."""
        topic, body = self.message()
        if self.chance.random() < 0.88:
            return topic, body
        if self.chance.random() < 0.15:
            return mutated(self.chance, topic)[:255], body
        return topic, mutated(self.chance, body)

    def step(self) -> None:
        """Let time pass, seldom backwards."""
        if self.chance.random() < 0.5:
            self.now += self.chance.choice(STEPS)
        elif self.chance.random() < 0.015:
            self.now = self.chance.choice((max(0, self.now - 1), max(0, self.now - 3600 * 10**9)))
