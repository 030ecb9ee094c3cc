"""The consumer as a machine: random lives, stateful search, damaged frames, each held against a plain oracle."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections import Counter
from pathlib import Path

from consumer_cases import BOOTS, ENVELOPES, GATES, MS, TIMEOUT, Life, Settings, mutated
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from oracles.lease import cut

from edge_monitor.consumer import Consumer, Reason, Taken
from edge_monitor.outputs import wire

T0 = 50_000_000_000_000
SECOND = 1_000 * MS


def test_random_lives_end_as_the_oracle_says():
    """Over 4,000 lives with several boots, losses, damage and clock faults, each answer and reason is the plain oracle's."""
    taken, reasons = Counter(), Counter()
    for seed in range(4_000):
        life = Life(random.Random(seed))
        choice = life.settings()
        consumer, oracle = choice.consumer(), choice.oracle()
        for _ in range(20):
            life.step()
            if life.chance.random() < 0.55:
                topic, body = life.damaged()
                told = consumer.take(topic, body, life.now)
                assert told == oracle.take(topic, body, life.now), seed
                taken[told] += 1
            else:
                gate = life.chance.choice(GATES)
                told = consumer.allowed(gate, life.now).reason
                assert told == oracle.allowed(gate, life.now), seed
                reasons[told] += 1
    assert set(taken) == set(Taken) and min(taken.values()) > 20, taken
    assert set(reasons) == set(Reason) and min(reasons.values()) > 20, reasons


def latest_go(received: list[tuple[int, bytes, bytes]], gate: str, choice: Settings) -> int:
    """The first time at which GO is impossible, by the newest heartbeat and lease of the last boot that was taken: from the
    bytes alone. ``received``: receive time, topic and body of what was taken, in order."""
    cuts = [(at, cut(topic, body)) for at, topic, body in received]
    cuts = [(at, m) for at, m in cuts if m.boot == cuts[-1][1].boot]
    beats = [(m.seq, m, at) for at, m in cuts if m.gate is None]
    leases = [(m.seq, m, at) for at, m in cuts if m.gate == gate]
    if not beats or not leases:
        return 0
    (_, beat, beat_at), (_, lease, lease_at) = max(beats, key=lambda x: x[0]), max(leases, key=lambda x: x[0])
    if not choice.other_clock:
        beat_at, lease_at = min(beat_at, beat.stamp), min(lease_at, lease.stamp)
    return min(beat_at + choice.timeout, lease_at + lease.life) if lease.go else 0


class Lives(RuleBasedStateMachine):
    """Any messages at any times: consumer and oracle agree, and GO never outlives the newest lease and heartbeat."""

    @initialize(
        other_clock=st.booleans(),
        every=st.booleans(),
        accept=st.booleans(),
        pinned=st.sampled_from([None, ENVELOPES[0]]),
    )
    def begin(self, other_clock, every, accept, pinned):
        """Make both."""
        self.choice = Settings(GATES, TIMEOUT, pinned, accept, other_clock, every)
        self.consumer, self.oracle = self.choice.consumer(), self.choice.oracle()
        self.now = T0
        self.sent: list[tuple[bytes, bytes]] = []
        self.received: list[tuple[int, bytes, bytes]] = []
        self.seqs = {}

    def deliver(self, topic, body):
        """Give the same bytes to both."""
        told = self.consumer.take(topic, body, self.now)
        assert told == self.oracle.take(topic, body, self.now)
        if told in (Taken.TAKEN, Taken.NOT_WATCHED):
            self.received.append((self.now, topic, body))
        self.ask()

    def ask(self):
        """Both answer the same about each gate, and GO is still possible."""
        for gate in GATES:
            answer = self.consumer.allowed(gate, self.now)
            assert answer.reason == self.oracle.allowed(gate, self.now)
            if answer.go:
                assert self.now < latest_go(self.received, gate, self.choice)

    def seq(self, boot, step):
        """The next number of a boot, or one that is off."""
        self.seqs[boot] = max(1, self.seqs.get(boot, 0) + step)
        return self.seqs[boot]

    @rule(
        boot=st.integers(0, 2),
        step=st.sampled_from([1, 1, 1, 2, 0]),
        age=st.sampled_from([0, 0, MS, TIMEOUT - 1, TIMEOUT, -MS]),
        envelope=st.sampled_from([0, 0, 0, 1]),
        unapproved=st.sampled_from([False, False, True]),
    )
    def beat(self, boot, step, age, envelope, unapproved):
        """A heartbeat comes."""
        heartbeat = wire.Heartbeat(
            BOOTS[boot], self.seq(boot, step), max(0, self.now - age), ENVELOPES[envelope], 100, unapproved
        )
        self.sent.append((wire.HEARTBEAT_TOPIC, wire.encode_heartbeat(heartbeat)))
        self.deliver(*self.sent[-1])

    @rule(
        boot=st.sampled_from([0, 0, 0, 1]),
        step=st.sampled_from([1, 1, 1, 2, 0]),
        age=st.sampled_from([0, 0, MS, 100 * MS]),
        gate=st.sampled_from(GATES),
        life=st.sampled_from([0, 1, 100 * MS, 5 * SECOND, 5 * SECOND]),
        withhold=st.booleans(),
    )
    def lease(self, boot, step, age, gate, life, withhold):
        """A lease is sent, and comes now or with a later duplicate."""
        lease = wire.Lease(
            BOOTS[boot], self.seq(boot, step), max(0, self.now - age), ENVELOPES[0], gate, life > 0, life
        )
        self.sent.append((wire.lease_topic(gate), wire.encode_lease(lease)))
        if not withhold:
            self.deliver(*self.sent[-1])

    @rule(which=st.integers(0, 100))
    def again(self, which):
        """A message comes again, or for the first time after later ones."""
        if self.sent:
            self.deliver(*self.sent[which % len(self.sent)])

    @rule(which=st.integers(0, 100), at=st.integers(0, 127), bit=st.integers(0, 7))
    def damaged(self, which, at, bit):
        """A message comes with one bit flipped."""
        if self.sent:
            topic, body = self.sent[which % len(self.sent)]
            body = bytearray(body)
            body[at % len(body)] ^= 1 << bit
            self.deliver(topic, bytes(body))

    @rule(step=st.sampled_from([0, 1, MS, 50 * MS, 100 * MS, TIMEOUT - 1, TIMEOUT, 3600 * SECOND]))
    def wait(self, step):
        """Time passes, or the machine was suspended."""
        self.now += step
        self.ask()

    @rule(step=st.sampled_from([1, SECOND]))
    def back(self, step):
        """The clock goes back."""
        self.now = max(0, self.now - step)
        answer = self.consumer.allowed(GATES[0], self.now)
        assert not answer.go and answer.reason == self.oracle.allowed(GATES[0], self.now)

    @rule()
    def reset(self):
        """A person resets."""
        self.consumer.reset()
        self.oracle.reset()
        self.received.clear()
        self.ask()


Lives.TestCase.settings = settings(max_examples=120, stateful_step_count=40)
TestLives = Lives.TestCase


def test_damaged_frames_neither_stop_nor_feed_the_consumer():
    """100,000 mutated frames: no exception, and no answer but the oracle's."""
    vectors = json.loads((Path(__file__).parent / "vectors/lease_v1.json").read_text("utf-8"))["vectors"]
    frames = [(bytes.fromhex(v["topic"]), bytes.fromhex(v["body"])) for v in vectors]
    chance = random.Random(4)
    choice = Settings(("takeoff", "x"), every_lease=False)
    consumer, oracle = choice.consumer(), choice.oracle()
    now = 1_500_000_000_000
    goes = 0
    for i in range(100_000):
        if i % 50 == 0:
            consumer.reset()
            oracle.reset()
            now = 1_500_000_050_000
        topic, body = chance.choice(frames)
        if chance.random() < 0.9:
            topic = mutated(chance, topic) if chance.random() < 0.1 else topic
            body = mutated(chance, body)
        now += chance.choice((0, 0, MS, 20 * MS))
        assert consumer.take(topic, body, now) == oracle.take(topic, body, now)
        reason = consumer.allowed("takeoff", now).reason
        assert reason == oracle.allowed("takeoff", now)
        goes += reason == Reason.GO
    assert goes > 100


def test_memory_stays_the_same():
    """A consumer that has seen thousands of boots, gates and numbers holds no more memory than before."""
    consumer = Consumer(GATES)
    life = Life(random.Random(8))
    tracemalloc.start()
    try:
        peak = []
        for i in range(6_000):
            boot = (i // 7 + 1).to_bytes(16, "big")
            heartbeat = wire.Heartbeat(boot, i % 7 + 1, life.now, ENVELOPES[0])
            consumer.take(wire.HEARTBEAT_TOPIC, wire.encode_heartbeat(heartbeat), life.now)
            lease = wire.Lease(boot, i % 7 + 2, life.now, ENVELOPES[0], f"gate{i}", True, SECOND)
            consumer.take(wire.lease_topic(lease.gate), wire.encode_lease(lease), life.now)
            life.now += TIMEOUT
            if i in (2_000, 5_999):
                peak.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert peak[1] - peak[0] < 2_000
