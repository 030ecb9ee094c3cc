"""Time that a simulator tells: messages are stamped by it, decisions do not depend on its speed, and no vehicle obeys it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from edge_monitor.consumer import Consumer, Reason
from edge_monitor.core.messages import Batch, Channel
from edge_monitor.envelope import load
from edge_monitor.envelope.approval import approval_path, approve, propose, write_approval
from edge_monitor.journal.keys import load_signing_key, make_key
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_payload, decode_record
from edge_monitor.onboard.client import ask
from edge_monitor.outputs.wire import decode_heartbeat, decode_lease
from edge_monitor.people import load as load_people
from edge_monitor.sources.simulated_time import SimulatedClock
from edge_monitor.sources.zmq import Endpoint, ZmqSource

BIN = Path(sys.executable).parent
MS, SECOND = 1_000_000, 1_000_000_000
META = msgspec.msgpack.encode({"e": "msgpack"})
ENVELOPE = """
edge_monitor: 1
envelope: {id: live, version: 1, vehicle: bench}
signals:
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 300 ms}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, leave: 11, fail_for: 200 ms, severity: critical}
gates:
  drive: {require: all, criteria: [speed_limit], go_after: 1 s, lease: 5 s}
"""


class World:
    """A simulator: tells the time, and sends what is measured at it."""

    def __init__(self, context: zmq.Context, address: str) -> None:
        self.socket = context.socket(zmq.PUSH)
        self.socket.linger = 0
        self.socket.connect(address)

    def tell(self, t: object) -> None:
        """It is ``t`` (ns)."""
        self.socket.send_multipart([b"/clock", META, msgspec.msgpack.encode(t)])

    def speed(self, value: float) -> None:
        """A message."""
        self.socket.send_multipart([b"/odom", META, msgspec.msgpack.encode({"speed": value})])


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    """Sockets that are closed at the end."""
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def test_messages_are_stamped_with_the_time_told_before_them(context: zmq.Context) -> None:
    """What comes before the first time has none; time never goes back; what is no time is counted and changes nothing."""
    clock = SimulatedClock("/clock")
    with ZmqSource(
        [Endpoint("tcp://127.0.0.1:*", "pull", bind=True)], ["/odom"], clock, beside={"clock": clock.take}
    ) as source:
        world = World(context, source.addresses[0])
        world.speed(1.0)
        for t in (50 * SECOND, 50 * SECOND + 7, 3, -1, 1 << 62, 1.5, "late", None):
            world.tell(t)
            world.speed(2.0)
        channels: list[Channel] = []
        assert clock.wait(source, channels.append, lambda: False)
        assert clock() == 50 * SECOND and [channel.topic for channel in channels] == ["/odom"]
        stamps: list[int] = []
        end = time.monotonic() + 5
        while len(stamps) < 8 and time.monotonic() < end:
            source.sockets[0].poll(100)
            stamps += [t for item in source.drain() if isinstance(item, Batch) for t in item.messages["t"].tolist()]
        assert stamps == [50 * SECOND] + 7 * [50 * SECOND + 7]
        assert clock.ignored == 6 and source.status() == [] and source.strangers == {}


def test_waiting_for_a_time_can_be_stopped(context: zmq.Context) -> None:
    """Where no time comes, whoever waits is asked whether to go on."""
    clock, asked = SimulatedClock("/clock"), [False, False, True]
    with ZmqSource([Endpoint("tcp://127.0.0.1:*", "pull", bind=True)], ["/odom"], clock) as source:
        assert not clock.wait(source, lambda _: None, lambda: asked.pop(0))


class Bench:
    """``edge-monitor run`` on simulated time, under an envelope that two people signed."""

    def __init__(self, folder: Path, context: zmq.Context) -> None:
        self.folder = folder
        roles = {"ann": "planner", "ben": "approver"}
        keys = {name: load_signing_key(make_key(name, folder)[0]) for name in (*roles, "robot")}
        rows = [f"  {n}: {{name: {n}, roles: [{r}], keys: [{keys[n].verifier.text()}]}}\n" for n, r in roles.items()]
        (folder / "people.yaml").write_text("edge_monitor_people: 1\npeople:\n" + "".join(rows))
        (folder / "live.yaml").write_text(ENVELOPE)
        envelope, people, now = load(folder / "live.yaml"), load_people(folder / "people.yaml"), time.time_ns()
        proposed = propose(envelope, keys["ann"], "ann", people, now)
        until = now + 3600 * SECOND
        approved = approve(envelope, proposed, keys["ben"], "ben", people, now, ticket="T-1", expires_ns=until)
        write_approval(approval_path(folder / "live.yaml"), approved)
        self.heard = context.socket(zmq.SUB)
        self.heard.linger = 0
        self.heard.subscribe(b"")
        self.heard.connect(f"ipc://{folder}/out")
        self.world = World(context, f"ipc://{folder}/in")
        self.run: subprocess.Popen[str] | None = None

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start the process; it waits for a time."""
        folder = self.folder
        self.run = subprocess.Popen(
            [
                BIN / "edge-monitor", "run", "-e", folder / "live.yaml", "--people", folder / "people.yaml",
                "--source", f"bind-pull:ipc://{folder}/in", "--journal", folder / "journal.db", "--key", folder / "robot.key",
                "--publish", f"ipc://{folder}/out", "--control", f"ipc://{folder}/ask", "--jsonl",
                *(more or ("--sim-time", "/clock")),
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self.run

    def fly(self, pause: float) -> tuple[list[dict[str, Any]], list[list[bytes]]]:
        """Ten seconds at 50 Hz: too fast from 5 s to 6 s, silent from 8 s to 9 s; ``pause``: real seconds between messages.

        Answers the events, and what was published.
        """
        run, heard = self.start(), []
        self.world.tell(100 * SECOND)
        while not self.heard.poll(100):  # it runs, and is heard
            assert ask(f"ipc://{self.folder}/ask", {"do": "status"}, 180_000)["ok"]
        for step in range(500):
            t = step * 20 * MS
            self.world.tell(100 * SECOND + t)
            if not 8 * SECOND <= t < 9 * SECOND:
                self.world.speed(13.0 if 5 * SECOND <= t < 6 * SECOND else 5.0)
            time.sleep(pause)
        while not heard or heard[-1][0] != b"state" or msgspec.msgpack.decode(heard[-1][1])["t_ns"] < 109 * SECOND:
            assert self.heard.poll(20_000)
            heard.append(self.heard.recv_multipart())
        run.send_signal(signal.SIGTERM)
        told, _ = run.communicate(timeout=20)
        assert run.returncode == 0
        return [json.loads(line) for line in told.splitlines()], heard

    def end(self) -> None:
        """End the process if it still runs."""
        if self.run is not None and self.run.poll() is None:
            self.run.kill()
            self.run.wait()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A bench whose monitor is not started."""
    context = zmq.Context()
    bench = Bench(tmp_path_factory.mktemp("sim"), context)
    yield bench
    bench.end()
    context.destroy(linger=0)


def test_decisions_do_not_depend_on_the_simulator_s_speed(bench: Bench) -> None:
    """Ten seconds in one and in two give the same decisions at the same nanoseconds, limits and silence included; no vehicle
    takes such a GO, although the envelope is approved; state and journal name the clock."""
    found = []
    for pause in (0.002, 0.004):
        events, heard = bench.fly(pause)
        kept = ("check.", "gate.", "input.")
        found.append([(e["type"], e["subject"], e["t_ns"], e["cause"]) for e in events if e["type"].startswith(kept)])
    assert found[0] == found[1]
    times = {(kind, subject): t / SECOND - 100 for kind, subject, t, _ in found[0] if t > 104 * SECOND}
    assert times["check.fail", "speed_limit"] == pytest.approx(5.2)
    assert times["check.unknown", "speed_limit"] == pytest.approx(8.28)

    leases = [decode_lease(body) for topic, body in heard if topic == b"lease/drive"]
    given = [lease for lease in leases if lease.go]
    assert given and all(lease.unapproved and 101 * SECOND <= lease.issued_ns < 110 * SECOND for lease in given)
    vehicle, reasons = Consumer(["drive"]), set()
    for topic, body in heard:
        if topic == b"heartbeat":
            now = decode_heartbeat(body).sent_ns
        if topic.startswith((b"heartbeat", b"lease/")):
            vehicle.take(topic, body, now)
            reasons.add(vehicle.allowed("drive", now).reason)
    assert Reason.UNAPPROVED in reasons and Reason.GO not in reasons
    state = msgspec.msgpack.decode(heard[-1][1])
    assert state["clock"] == "simulated" and state["envelope"]["approved"]

    with Reader(bench.folder / "journal.db") as reader:
        records = [(decode_record(row.record), decode_payload(row.payload or b"")) for row in reader.rows()]
    assert records[0][0].t_effective == 100 * SECOND
    started = next(payload for record, payload in records if record.type == "monitor.started")
    assert started["onboard"]["clock"] == "simulated" and "kernel_boot" not in started["onboard"]
    assert not next(payload for record, payload in records if record.type == "envelope.activated")["unapproved"]


def test_a_process_that_waits_for_its_simulator_can_be_ended(bench: Bench) -> None:
    """SIGTERM before any time ends it with 0, and nothing is added to the journal."""
    socket, journal = bench.folder / "in", bench.folder / "journal.db"
    size = journal.stat().st_size if journal.exists() else -1
    socket.unlink(missing_ok=True)
    run = bench.start()
    end = time.monotonic() + 180
    while not socket.exists() and time.monotonic() < end:
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    assert run.wait(20) == 0
    assert (journal.stat().st_size if journal.exists() else -1) == size


def test_the_clock_is_no_input(bench: Bench) -> None:
    """A topic that the envelope reads cannot tell the time: one line, code 3."""
    run = bench.start("--sim-time", "odom")
    _, line = run.communicate(timeout=60)
    assert run.returncode == 3 and "--sim-time odom" in line and "Traceback" not in line
