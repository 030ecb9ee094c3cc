"""The consumer in plain Python, answered from its whole history: which messages counted, and what has voided them since."""

from __future__ import annotations

from dataclasses import dataclass

from edge_monitor.consumer import Reason, Taken

DAY = 86_400 * 10**9
AHEAD = 10_000_000


@dataclass(frozen=True)
class Message:
    """A heartbeat (``gate`` is None) or lease, cut out of its bytes."""

    boot: bytes
    seq: int
    stamp: int
    envelope: bytes
    flags: int
    gate: str | None = None
    go: bool = False
    life: int = 0


def cut(topic: bytes, body: bytes) -> Message | None:
    """The message, or None when the bytes are none; by the table in docs/consumer.md, byte by byte."""
    little = lambda at, size: int.from_bytes(body[at : at + size], "little")  # noqa: E731
    beat = topic == b"heartbeat"
    if len(body) != (96 if beat else 128) or body[:4] != (b"EMH1" if beat else b"EML1") or little(4, 2) != 1:
        return None
    boot, seq, stamp = body[8:24], little(24, 8), little(32, 8)
    if boot == bytes(16) or seq == 0 or stamp >= 2**61:
        return None
    if beat:
        if little(6, 2) not in (0, 1) or little(72, 4) == 0 or body[76:] != bytes(20):
            return None
        return Message(boot, seq, stamp, body[40:72], little(6, 2))
    go, flags, life = body[6], body[7], little(40, 8)
    if go not in (0, 1) or flags not in (0, 1, 2, 3) or body[112:] != bytes(16):
        return None
    if not (1 <= life <= DAY if go else life == 0):
        return None
    name = body[80:112].rstrip(b"\0")
    try:
        gate = name.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if not gate or any(ord(letter) < 32 or ord(letter) == 127 for letter in gate) or topic != b"lease/" + name:
        return None
    return Message(boot, seq, stamp, body[48:80], flags, gate, bool(go), life)


@dataclass(frozen=True)
class Entry:
    """Something that counts: a message with its receive time and the offset then; or an end, which voids what was before it.

    ``beats``: the end takes the heartbeat as well.
    """

    message: Message | None
    at: int = 0
    offset: int = 0
    why: Reason = Reason.GO
    beats: bool = False


class Oracle:
    """Everything that happened to the present boot, in ``log``; answers are looked up in it."""

    def __init__(self, gates, timeout, envelope, accept_unapproved, other_clock, every_lease):
        self.gates, self.timeout, self.envelope = gates, timeout, envelope
        self.accept_unapproved, self.other_clock, self.every_lease = accept_unapproved, other_clock, every_lease
        self.reset()

    def reset(self):
        """As new."""
        self.log: list[Entry] = []
        self.boot = None
        self.earlier: list[bytes] = []
        self.seq = self.latest = 0

    def clock(self, now: int) -> bool:
        """Whether ``now`` is a time; one that goes back is an end."""
        usable = 0 <= now < 2**61
        back = usable and now < self.latest
        if usable:
            self.latest = now
        if back or not usable:
            self.end(Reason.CLOCK, beats=True)
        return usable

    def end(self, why: Reason, beats: bool = False) -> None:
        """Void what was before."""
        self.log.append(Entry(None, self.latest, 0, why, beats))

    def began(self, index: int) -> int:
        """When the message at ``index`` of the log began to count: at its stamp, as the quickest message since tells it."""
        entry = self.log[index]
        if not self.other_clock:
            return min(entry.at, entry.message.stamp)
        base = entry.at
        for later in self.log[index:]:
            if later.beats:
                break
            if later.message is not None:
                base = min(base, entry.message.stamp + later.offset)
        return base

    def silent(self, now: int) -> bool:
        """Whether the present boot has been silent for the timeout."""
        for index in reversed(range(len(self.log))):
            entry = self.log[index]
            if entry.why == Reason.CLOCK:
                return now >= entry.at + self.timeout
            if entry.message is not None and entry.message.gate is None:
                return now >= self.began(index) + self.timeout
        return True

    def take(self, topic: bytes, body: bytes, now: int) -> Taken:
        """One message."""
        if not self.clock(now):
            return Taken.CLOCK
        if topic != b"heartbeat" and topic[:6] != b"lease/":
            return Taken.IGNORED
        m = cut(topic, body)
        if m is None:
            return Taken.MALFORMED
        wrong = self.envelope is not None and m.envelope != self.envelope
        ahead = not self.other_clock and m.stamp - now > AHEAD
        first = m.boot != self.boot
        if first:
            if m.gate is not None or m.boot in self.earlier[-8:] or (self.boot and not self.silent(now)):
                return Taken.FOREIGN_BOOT
            if not wrong and not ahead and not self.other_clock and now - m.stamp >= self.timeout:
                return Taken.LATE
        elif m.seq <= self.seq:
            return Taken.OLD
        if not first:
            if self.every_lease and m.seq > self.seq + 1:
                self.end(Reason.LOST)
            self.seq = m.seq
        if wrong:
            self.end(Reason.ENVELOPE, beats=True)
            return Taken.ENVELOPE
        if ahead:
            self.end(Reason.CLOCK, beats=True)
            return Taken.CLOCK
        if first:
            if self.boot is not None:
                self.earlier.append(self.boot)
                self.log = [Entry(None, now, 0, Reason.NEW_BOOT, True)]
            self.boot, self.seq = m.boot, m.seq
        taken = [entry for entry in self.log if entry.message is not None]
        if taken and taken[-1].message.envelope != m.envelope:
            self.end(Reason.ENVELOPE)
        offset = now - m.stamp
        for entry in reversed(self.log):
            if entry.why == Reason.CLOCK:
                break
            if entry.message is not None:
                offset = min(offset, entry.offset + (now - entry.at) // 5000)
                break
        self.log.append(Entry(m, now, offset))
        return Taken.TAKEN if m.gate is None or m.gate in self.gates else Taken.NOT_WATCHED

    def allowed(self, gate: str, now: int) -> Reason:
        """The answer for one gate."""
        if not self.clock(now):
            return Reason.CLOCK
        if gate not in self.gates:
            return Reason.NOT_WATCHED
        beat = lease = None
        why = gone = None
        for index in reversed(range(len(self.log))):
            entry = self.log[index]
            if entry.message is None:
                why = why or entry.why
                if entry.beats and beat is None:
                    gone = gone or entry.why
            elif entry.message.gate is None and beat is None and gone is None:
                beat = index
            elif entry.message.gate == gate and lease is None and why is None:
                lease = index
        if beat is None:
            return gone or Reason.NO_HEARTBEAT
        if now - self.began(beat) >= self.timeout:
            return Reason.HEARTBEAT_LATE
        if lease is None:
            return why or Reason.NEVER_RECEIVED
        m = self.log[lease].message
        if not m.go:
            return Reason.REVOKED
        if now - self.began(lease) >= m.life:
            return Reason.EXPIRED
        if (m.flags | self.log[beat].message.flags) & 1 and not self.accept_unapproved:
            return Reason.UNAPPROVED
        return Reason.GO
