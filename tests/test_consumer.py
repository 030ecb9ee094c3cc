"""The consumer: GO only while a lease and a fresh heartbeat say so. Rules by number: docs/consumer.md."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from consumer_cases import BOOTS, ENVELOPES, MS, TIMEOUT

from edge_monitor import consumer as module
from edge_monitor.consumer import AHEAD_NS, Consumer, Reason, Subscriber, Taken
from edge_monitor.errors import UsageError
from edge_monitor.outputs import wire

T0 = 50_000_000_000_000
SECOND = 1_000 * MS


class Bench:
    """A consumer of one gate and a monitor that talks to it; ``now`` is both machines' clock."""

    def __init__(self, **arguments):
        self.consumer = Consumer(["takeoff"], **arguments)
        self.now = T0
        self.boot, self.seq, self.envelope = BOOTS[0], 0, ENVELOPES[0]

    def beat(self, *, at=None, **fields) -> Taken:
        """The next heartbeat, sent now and received ``at`` (now)."""
        self.seq += 1
        values = {"boot": self.boot, "seq": self.seq, "sent_ns": self.now, "envelope": self.envelope} | fields
        return self.give(wire.HEARTBEAT_TOPIC, wire.encode_heartbeat(wire.Heartbeat(**values)), at)

    def lease(self, go=True, life=5 * SECOND, *, at=None, **fields) -> Taken:
        """The next lease, issued now and received ``at`` (now)."""
        topic, body = self.next_lease(go, life, **fields)
        return self.give(topic, body, at)

    def next_lease(self, go=True, life=5 * SECOND, **fields) -> tuple[bytes, bytes]:
        """The next lease's frames, not yet delivered."""
        self.seq += 1
        values = {
            "boot": self.boot, "seq": self.seq, "issued_ns": self.now, "envelope": self.envelope,
            "gate": "takeoff", "go": go, "expires_in_ns": life if go else 0,
        } | fields  # fmt: skip
        return b"lease/" + values["gate"].encode(), wire.encode_lease(wire.Lease(**values))

    def give(self, topic, body, at=None) -> Taken:
        """Deliver frames."""
        return self.consumer.take(topic, body, self.now if at is None else at)

    def reason(self, gate="takeoff") -> Reason:
        """Ask now."""
        answer = self.consumer.allowed(gate, self.now)
        assert answer.go == (answer.reason == Reason.GO)
        return answer.reason

    def flying(self) -> Bench:
        """With a heartbeat and a GO of five seconds."""
        assert (self.beat(), self.lease()) == (Taken.TAKEN, Taken.TAKEN)
        assert self.reason() == Reason.GO
        return self


def test_nothing_received_is_no_go():
    """Without a heartbeat, without a lease, and for a gate that is not watched, the answer is NO_GO and says so."""
    bench = Bench()
    assert bench.reason() == Reason.NO_HEARTBEAT
    bench.beat()
    assert bench.reason() == Reason.NEVER_RECEIVED
    bench.lease()
    assert bench.reason() == Reason.GO
    assert bench.reason("landing") == bench.reason("") == bench.reason("\ud800") == Reason.NOT_WATCHED


def test_a_lease_before_the_first_heartbeat_is_not_taken():
    """A boot begins with a heartbeat; leases that came before it are gone."""
    bench = Bench()
    assert bench.lease() == Taken.FOREIGN_BOOT
    bench.beat()
    assert bench.reason() == Reason.NEVER_RECEIVED


def test_a_lease_ends_at_its_nanosecond():
    """GO holds to the last nanosecond before issued + expires_in; at that very one it is expired, and stays so."""
    bench = Bench()
    bench.beat()
    bench.lease(life=100 * MS)
    bench.now = T0 + 100 * MS - 1
    assert bench.reason() == Reason.GO
    bench.now += 1
    assert bench.reason() == Reason.EXPIRED
    bench.beat()
    assert bench.reason() == Reason.EXPIRED


def test_a_heartbeat_is_late_at_its_nanosecond():
    """GO holds while the newest heartbeat is younger than the timeout; at it, it is late; the next one restores GO."""
    bench = Bench().flying()
    bench.now = T0 + TIMEOUT - 1
    assert bench.reason() == Reason.GO
    bench.now += 1
    assert bench.reason() == Reason.HEARTBEAT_LATE
    bench.beat()
    assert bench.reason() == Reason.GO


def test_age_counts_from_sending():
    """A heartbeat and a lease that took long to come count from when they were sent, not from their receipt."""
    bench = Bench()
    bench.beat(at=T0 + 100 * MS)
    bench.lease(life=150 * MS, at=T0 + 100 * MS)
    bench.now = T0 + 150 * MS - 1
    assert bench.reason() == Reason.GO
    bench.now += 1
    assert bench.reason() == Reason.EXPIRED
    bench.now = T0 + TIMEOUT
    assert bench.reason() == Reason.HEARTBEAT_LATE


def test_no_go_revokes_at_once():
    """A NO_GO ends a running lease with its receipt, and a later GO is a new one."""
    bench = Bench().flying()
    bench.lease(go=False)
    assert bench.reason() == Reason.REVOKED
    bench.lease()
    assert bench.reason() == Reason.GO


def test_a_delayed_go_does_not_revive():
    """A GO sent before a NO_GO and delivered after it is refused, and so is any duplicate."""
    bench = Bench().flying()
    delayed = bench.next_lease()
    bench.lease(go=False)
    assert bench.give(*delayed) == Taken.OLD
    assert bench.reason() == Reason.REVOKED
    renewed = bench.next_lease()
    assert [bench.give(*renewed) for _ in range(3)] == [Taken.TAKEN, Taken.OLD, Taken.OLD]
    bench.lease(go=False)
    assert bench.give(*renewed) == Taken.OLD
    assert bench.reason() == Reason.REVOKED


def test_a_queue_of_old_messages_gives_no_go():
    """A consumer that wakes after a second and reads its queue in order never answers GO, though a GO is in it."""
    bench = Bench().flying()
    queue = []
    for i in range(10):
        bench.now += 100 * MS
        bench.seq += 1
        heartbeat = wire.Heartbeat(bench.boot, bench.seq, bench.now, bench.envelope)
        queue.append((wire.HEARTBEAT_TOPIC, wire.encode_heartbeat(heartbeat)))
        queue.append(bench.next_lease(go=i < 5))
    answers = []
    for topic, body in queue:
        assert bench.give(topic, body) == Taken.TAKEN
        answers.append(bench.reason())
    assert set(answers) == {Reason.HEARTBEAT_LATE, Reason.REVOKED}


def test_a_lost_message_voids_leases():
    """After a gap in the counter every lease is void until the next one, since what was lost may have been a NO_GO."""
    bench = Bench().flying()
    bench.next_lease(go=False)
    assert bench.beat() == Taken.TAKEN
    assert bench.reason() == Reason.LOST
    bench.lease()
    assert bench.reason() == Reason.GO


def test_a_consumer_of_one_gate_bears_gaps():
    """With every_lease=False, other gates' numbers may be missing."""
    bench = Bench(every_lease=False).flying()
    bench.seq += 5
    bench.beat()
    assert bench.reason() == Reason.GO


def test_a_damaged_message_is_a_lost_one():
    """A malformed lease changes nothing by itself; the next good message shows that one is missing."""
    bench = Bench().flying()
    topic, body = bench.next_lease(go=False)
    assert bench.give(topic, body[:-1]) == Taken.MALFORMED
    assert bench.give(b"lease/landing", body) == Taken.MALFORMED
    bench.beat()
    assert bench.reason() == Reason.LOST


def test_a_boot_is_foreign_while_the_present_one_lives():
    """Another boot's messages are refused until the present one has been silent for the timeout; then its heartbeat begins it."""
    bench = Bench().flying()
    bench.boot, bench.seq = BOOTS[1], 0
    bench.now = T0 + TIMEOUT - 1
    assert bench.beat() == bench.lease() == Taken.FOREIGN_BOOT
    assert bench.reason() == Reason.GO
    bench.now += 1
    assert bench.lease() == Taken.FOREIGN_BOOT
    assert bench.reason() == Reason.HEARTBEAT_LATE
    assert bench.beat() == Taken.TAKEN
    assert bench.reason() == Reason.NEW_BOOT
    bench.lease()
    assert bench.reason() == Reason.GO


def test_an_earlier_boot_never_comes_back():
    """Messages of the last eight boots before the present one are refused for good, however silent the present one is."""
    bench = Bench(other_clock=True)
    for boot in BOOTS[:9]:
        bench.boot, bench.seq = boot, 0
        assert bench.beat() == Taken.TAKEN
        bench.now += TIMEOUT
    for boot in BOOTS[:8]:
        bench.boot, bench.seq = boot, 1000
        assert bench.beat() == bench.lease() == Taken.FOREIGN_BOOT
    bench.boot = BOOTS[9]
    assert bench.beat() == Taken.TAKEN


def test_a_queued_heartbeat_begins_no_boot():
    """The first heartbeat of a boot must itself be fresh."""
    bench = Bench()
    assert bench.beat(at=T0 + TIMEOUT) == Taken.LATE
    assert bench.consumer.allowed("takeoff", T0 + TIMEOUT).reason == Reason.NO_HEARTBEAT
    bench.now = T0 + TIMEOUT
    assert bench.beat(at=bench.now + TIMEOUT - 1) == Taken.TAKEN


def test_reset_takes_any_boot():
    """After a reset by a person the next heartbeat begins a boot at once, even an earlier one; nothing old counts."""
    bench = Bench().flying()
    bench.consumer.reset()
    assert bench.reason() == Reason.NO_HEARTBEAT
    bench.seq = 0
    assert bench.beat() == Taken.TAKEN
    assert bench.reason() == Reason.NEVER_RECEIVED


def test_another_envelope_than_the_pinned_one_is_no_go():
    """A message of the boot with another digest voids everything at once; only the pinned one gives GO again."""
    bench = Bench(envelope=ENVELOPES[0]).flying()
    assert bench.beat(envelope=ENVELOPES[1]) == Taken.ENVELOPE
    assert bench.reason() == Reason.ENVELOPE
    assert bench.lease(envelope=ENVELOPES[1]) == Taken.ENVELOPE
    bench.beat()
    assert bench.reason() == Reason.ENVELOPE
    bench.lease()
    assert bench.reason() == Reason.GO


def test_a_monitor_with_another_envelope_never_begins():
    """A first heartbeat of another envelope than the pinned one is refused, and the reason names it."""
    bench = Bench(envelope=ENVELOPES[1])
    assert bench.beat() == Taken.ENVELOPE
    assert bench.reason() == Reason.ENVELOPE


def test_leases_end_with_their_envelope():
    """Without a pin, a reload in flight voids the leases of the envelope before."""
    bench = Bench().flying()
    bench.envelope = ENVELOPES[1]
    bench.beat()
    assert bench.reason() == Reason.ENVELOPE
    bench.lease()
    assert bench.reason() == Reason.GO


@pytest.mark.parametrize("which", ["lease", "heartbeat"])
def test_an_unapproved_envelope_is_no_go(which):
    """The flag in the newest heartbeat or lease means NO_GO, unless the consumer accepts it for the bench."""
    for accept in (False, True):
        bench = Bench(accept_unapproved=accept)
        bench.beat(unapproved=which == "heartbeat")
        bench.lease(unapproved=which == "lease")
        assert bench.reason() == (Reason.GO if accept else Reason.UNAPPROVED)
        bench.beat()
        bench.lease()
        assert bench.reason() == Reason.GO


def test_a_waived_go_is_a_go():
    """The waiver's flag informs; it changes no answer."""
    bench = Bench()
    bench.beat()
    bench.lease(waived=True)
    assert bench.reason() == Reason.GO


def test_a_clock_that_goes_back_voids_everything():
    """One nanosecond back is enough; then a new heartbeat and a new lease are needed."""
    bench = Bench().flying()
    bench.now -= 1
    assert bench.reason() == Reason.CLOCK
    bench.beat()
    assert bench.reason() == Reason.CLOCK
    bench.lease()
    assert bench.reason() == Reason.GO
    bench.consumer.take(b"event/x", b"", bench.now - 1)
    assert bench.consumer.allowed("takeoff", bench.now).reason == Reason.CLOCK


def test_a_boot_is_presumed_alive_after_the_clock_went_back():
    """When the clock went back nobody knows the heartbeat's age: another boot must wait one timeout from there."""
    bench = Bench().flying()
    bench.now -= SECOND
    assert bench.reason() == Reason.CLOCK
    went_back = bench.now
    bench.boot, bench.seq = BOOTS[1], 0
    bench.now = went_back + TIMEOUT - 1
    assert bench.beat() == Taken.FOREIGN_BOOT
    bench.now += 1
    assert bench.beat() == Taken.TAKEN


@pytest.mark.parametrize("now", [-1, 1 << 61, -(1 << 63), (1 << 63) - 1])
def test_a_time_that_is_none_is_refused(now):
    """Times below 0 or beyond 2^61 ns give NO_GO and void what was held."""
    bench = Bench().flying()
    assert bench.consumer.allowed("takeoff", now).reason == Reason.CLOCK
    assert bench.reason() == Reason.CLOCK
    bench.beat()
    bench.lease()
    assert bench.reason() == Reason.GO
    assert bench.consumer.take(b"heartbeat", b"", now) == Taken.CLOCK
    assert bench.reason() == Reason.CLOCK


def test_stamps_ahead_of_the_clock_void_everything():
    """A stamp up to 10 ms ahead counts from its receipt; beyond, the two clocks do not agree and nothing counts."""
    bench = Bench()
    assert bench.beat(sent_ns=T0 + AHEAD_NS + 1) == Taken.CLOCK
    assert bench.reason() == Reason.CLOCK
    assert bench.beat(sent_ns=T0 + AHEAD_NS) == Taken.TAKEN
    bench.lease(issued_ns=T0 + AHEAD_NS, life=50 * MS)
    bench.now = T0 + 50 * MS - 1
    assert bench.reason() == Reason.GO
    bench.now += 1
    assert bench.reason() == Reason.EXPIRED
    assert bench.lease(issued_ns=bench.now + AHEAD_NS + 1) == Taken.CLOCK
    assert bench.reason() == Reason.CLOCK


def test_suspend_expires_everything_before_any_answer():
    """After a jump of the clock ahead, the first answer is NO_GO, and a GO waiting in the queue does not change that."""
    bench = Bench().flying()
    waiting = bench.next_lease()
    bench.now += 3600 * SECOND
    assert bench.reason() == Reason.HEARTBEAT_LATE
    bench.give(*waiting)
    assert bench.reason() == Reason.HEARTBEAT_LATE
    bench.beat()
    assert bench.reason() == Reason.EXPIRED


def test_on_another_clock_age_counts_from_the_smallest_offset():
    """The monitor's clock may read anything; a message slower than the quickest one is that much older, but for 200 ppm."""
    bench = Bench(other_clock=True)
    far = 3 * T0
    bench.beat(sent_ns=far)
    bench.lease(issued_ns=far, life=150 * MS)
    bench.now = T0 + 100 * MS
    bench.beat(sent_ns=far + 60 * MS)  # 40 ms slower than the first
    bench.now = T0 + 150 * MS - 1
    assert bench.reason() == Reason.GO
    bench.now += 1
    assert bench.reason() == Reason.EXPIRED
    bench.now = T0 + 60 * MS + TIMEOUT + 100 * MS // module.DRIFT - 1
    assert bench.reason() == Reason.EXPIRED
    bench.now += 1
    assert bench.reason() == Reason.HEARTBEAT_LATE


def test_on_another_clock_a_quicker_message_ages_the_ones_before():
    """When a message shows that transport can be quicker, what came before is as much older: heartbeat and lease end by it."""
    for ends, life in ((100 * MS - 30 * MS, 100 * MS), (TIMEOUT - 30 * MS, SECOND)):
        bench = Bench(other_clock=True)
        far = T0 // 3
        bench.beat(sent_ns=far)
        bench.lease(issued_ns=far, life=life)
        bench.now = T0 + 50 * MS
        assert bench.lease(issued_ns=far + 80 * MS, gate="landing") == Taken.NOT_WATCHED  # 30 ms quicker
        bench.now = T0 + ends - 1
        assert bench.reason() == Reason.GO
        bench.now += 1
        assert bench.reason() == (Reason.EXPIRED if life < SECOND else Reason.HEARTBEAT_LATE)


def test_on_another_clock_a_slow_crystal_stays_fresh():
    """A monitor whose clock runs 100 ppm slow is still GO after ten hours of heartbeats and leases."""
    bench = Bench(other_clock=True)
    for i in range(3_600):
        at = T0 + i * 10 * SECOND
        bench.now = at - i * 10 * SECOND // 10_000
        bench.beat(at=at)
        bench.lease(at=at)
    bench.now = at
    assert bench.reason() == Reason.GO


def test_other_gates_and_topics_are_no_trouble():
    """Leases of other gates keep the counter going; other topics are passed by; both are counted."""
    bench = Bench().flying()
    assert bench.lease(gate="landing") == Taken.NOT_WATCHED
    assert bench.give(b"decision/takeoff", b"\x80") == Taken.IGNORED
    assert bench.give(b"", b"") == bench.give(b"heartbeat2", b"") == bench.give(b"leas", b"") == Taken.IGNORED
    bench.beat()
    assert bench.reason() == Reason.GO
    assert bench.consumer.counts == [3, 4, 1, 0, 0, 0, 0, 0, 0]


def test_settings_at_their_ends_are_taken():
    """Sixteen gates, a timeout of 1 ns or of 60 s, and a clock that begins at 0 are in order."""
    sixteen = [f"gate{i}" for i in range(16)]
    for timeout in (1, 60 * SECOND):
        consumer = Consumer(sixteen, heartbeat_timeout_ns=timeout)
        assert consumer.allowed("gate15", 0).reason == Reason.NO_HEARTBEAT
        assert (
            consumer.take(b"heartbeat", wire.encode_heartbeat(wire.Heartbeat(BOOTS[0], 1, 0, ENVELOPES[0])), 0)
            == Taken.TAKEN
        )
        assert consumer.allowed("gate15", timeout - 1).reason == Reason.NEVER_RECEIVED
        assert consumer.allowed("gate15", timeout).reason == Reason.HEARTBEAT_LATE


@pytest.mark.parametrize(
    ("gates", "arguments", "says"),
    [
        ([], {}, "1 to 16 gates"),
        ([str(i) for i in range(17)], {}, "1 to 16 gates"),
        ("takeoff", {}, "as a list"),
        (["x" * 33], {}, "33 bytes"),
        (["takeoff"], {"heartbeat_timeout_ns": 0}, "60 s"),
        (["takeoff"], {"heartbeat_timeout_ns": 60 * SECOND + 1}, "60 s"),
        (["takeoff"], {"envelope": b"short"}, "32 bytes"),
    ],
)
def test_wrong_settings_are_usage_errors(gates, arguments, says):
    """A consumer that cannot be made says what to give."""
    with pytest.raises(UsageError, match=says):
        Consumer(gates, **arguments)


PUBLISHER = """
import sys, time, zmq
from edge_monitor.outputs import wire
socket = zmq.Context().socket(zmq.PUB)
print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
boot, seq = b"b" * 16, 0
while True:
    socket.send_multipart([b"heartbeat", b"x", b"three frames"])
    for gate in (None, "takeoff"):
        seq += 1
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if gate is None:
            frames = [b"heartbeat", wire.encode_heartbeat(wire.Heartbeat(boot, seq, now, b"e" * 32, 20))]
        else:
            frames = [wire.lease_topic(gate), wire.encode_lease(wire.Lease(boot, seq, now, b"e" * 32, gate, True, 10**10))]
        socket.send_multipart(frames)
    time.sleep(0.02)
"""


def goes(subscriber: Subscriber, within: int) -> bool:
    """Whether GO is answered within so many ns."""
    end = module.boottime_ns() + within
    while not subscriber.allowed("takeoff").go and module.boottime_ns() < end:
        subscriber.poll(20)
    return subscriber.allowed("takeoff").go


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_silent_publisher_is_no_go_within_the_timeout(how):
    """Over a real socket: after kill -9 or SIGSTOP of the publisher no GO is answered 200 ms later, though the lease is long."""
    with subprocess.Popen([sys.executable, "-c", PUBLISHER], stdout=subprocess.PIPE, text=True) as process:
        try:
            port = int(process.stdout.readline())
            with Subscriber.connect(Consumer(["takeoff"]), f"tcp://127.0.0.1:{port}") as subscriber:
                assert goes(subscriber, within=10 * SECOND)
                process.send_signal(how)
                silenced, asked = module.boottime_ns(), 0
                while asked < silenced + 400 * MS:
                    asked = module.boottime_ns()
                    answer = subscriber.allowed("takeoff")
                    assert not (answer.go and asked >= silenced + 200 * MS)
                    subscriber.poll(1)
                assert answer.reason == Reason.HEARTBEAT_LATE
                assert subscriber.consumer.counts[Taken.MALFORMED] > 0
                if how == signal.SIGSTOP:
                    process.send_signal(signal.SIGCONT)
                    assert goes(subscriber, within=10 * SECOND)
        finally:
            process.kill()


def test_an_address_that_is_none_is_a_usage_error():
    """`Subscriber.connect` says what an address looks like."""
    with pytest.raises(UsageError, match="ipc://"):
        Subscriber.connect(Consumer(["takeoff"]), "nowhere")


def test_the_consumer_needs_neither_numba_nor_numpy():
    """A vehicle's program that imports the consumer loads no Numba, NumPy or ZeroMQ before it connects."""
    code = "import sys, edge_monitor.consumer; print(sorted({'numba', 'numpy', 'zmq'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
