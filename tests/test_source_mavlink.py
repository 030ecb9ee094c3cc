"""Live input over MAVLink: a pymavlink vehicle in another process, loopback UDP, TCP and a serial line that is a pty."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fuzz_sockets
import pytest
from mavlink_frames import Packer
from pymavlink import mavutil

from edge_monitor import envelope
from edge_monitor.core.layout import Extractor
from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.samples import FLAG_CAUSE, Cause
from edge_monitor.core.signals import Signal
from edge_monitor.errors import ConfigError, UsageError
from edge_monitor.mavlink.dialect import dialect
from edge_monitor.mavlink.links import BUFFER, PEERS, QUIET_NS, UdpLink, parse_address
from edge_monitor.mavlink.requests import ARM_AUTHORIZATION
from edge_monitor.sources.addresses import open_sources, parse
from edge_monitor.sources.mavlink import MavlinkSource
from edge_monitor.sources.senders import SILENCE
from edge_monitor.sources.topics import Status
from edge_monitor.sources.wanted import Wanted

S = 1_000_000_000
HERE = Path(__file__).resolve().parent
SIGNALS = {
    "roll": ("mavlink/1/ATTITUDE", "roll"),
    "mode": ("mavlink/1/HEARTBEAT", "custom_mode"),
    "armed": ("mavlink/1/HEARTBEAT", "base_mode.bit7"),
    "text": ("mavlink/1/STATUSTEXT", "text"),
    "severity": ("mavlink/1/STATUSTEXT", "severity"),
    "charge": ("mavlink/1/BATTERY_STATUS[1]", "battery_remaining"),
    "tilt": ("mavlink/1/NAMED_VALUE_FLOAT[CamTilt]", "value"),
    "camera": ("mavlink/1/100/HEARTBEAT", ""),
}


class Vehicle:
    """The process, and what it got."""

    def __init__(self, connection: str, key: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, HERE / "mavlink_vehicle.py", connection, *([key] if key else [])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.got: list[dict[str, Any]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.got.append(json.loads(line))

    def send(self, name: str, /, **values: Any) -> None:
        """Have it send a message, or do something (``mode``, ``mute``, ``skip``)."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, values]) + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Let it end by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


class Ground:
    """A source, what came out of it, and a time that the test can move on."""

    def __init__(self, address: str, signals: dict[str, tuple[str, str]] = SIGNALS, **options: Any) -> None:
        self.ahead = 0
        self.source = MavlinkSource(
            parse_address(address), sorted({topic for topic, _ in signals.values()}), self.clock, **options
        )
        self.extractor = Extractor([Signal(name, *place) for name, place in signals.items()])
        self.values: list[tuple[str, float | str, int]] = []
        self.status: list[Status] = []
        self.damage: list[Damage] = []
        self.problems: list[str] = []

    def clock(self) -> int:
        """Monotonic time, and what the test added."""
        return time.monotonic_ns() + self.ahead

    @property
    def port(self) -> int:
        """Where it listens."""
        link = self.source._link
        assert isinstance(link, UdpLink)
        return link.port

    def drain(self) -> None:
        """Take what is queued."""
        for item in self.source.drain():
            if isinstance(item, Channel):
                self.problems += [problem.message for problem in self.extractor.add_channel(item)]
            elif isinstance(item, Batch):
                for sample in self.extractor.extract(item):
                    name = self.extractor.signals[sample["signal"]].name
                    assert int(sample["flags"]) & FLAG_CAUSE == 0
                    value = float(sample["value"])
                    told = self.extractor.texts.text(int(value)) if self.extractor.is_text(name) else value
                    self.values.append((name, told, int(sample["t"])))
            else:
                self.damage.append(item)
        self.status += self.source.status()

    def until(self, condition: Callable[[], object], seconds: float = 20) -> None:
        """Drain until something holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.values[-5:], self.status, self.source.describe())
            self.drain()
            time.sleep(0.002)

    def all(self, name: str) -> list[float | str]:
        """The values of a signal so far."""
        return [value for each, value, _ in self.values if each == name]

    def said(self, cause: Cause) -> set[str]:
        """Topics of which a cause was told."""
        return {status.topic for status in self.status if status.cause == cause}


@pytest.fixture
def ground() -> Iterator[Ground]:
    """A source that waits at a free port."""
    ground = Ground("udpin:127.0.0.1:0")
    yield ground
    ground.source.close()


@pytest.fixture
def vehicle(ground: Ground) -> Iterator[Vehicle]:
    """A vehicle whose heartbeat was heard."""
    vehicle = Vehicle(f"udpout:127.0.0.1:{ground.port}")
    ground.until(lambda: ground.all("mode"))
    yield vehicle
    vehicle.end()


def test_fields_of_a_vehicle_become_samples(ground: Ground, vehicle: Vehicle) -> None:
    """Numbers, bits, texts in pieces, numbered and named instances; both versions of the format; stamps never go back."""
    vehicle.send("ATTITUDE", roll=0.5, time_boot_ms=1)
    vehicle.send("ATTITUDE", roll=-0.25, first_version=True)
    vehicle.send("ATTITUDE")  # one byte on the wire: the rest are zeros that MAVLink 2 cuts off
    vehicle.send("ATTITUDE", roll=9.0, component=100)  # not the autopilot's
    vehicle.send("BATTERY_STATUS", id=0, battery_remaining=77)
    vehicle.send("BATTERY_STATUS", id=1, battery_remaining=55)
    vehicle.send("NAMED_VALUE_FLOAT", name="CamTilt", value=0.75)
    vehicle.send("NAMED_VALUE_FLOAT", name="Lights1", value=0.1)
    vehicle.send("STATUSTEXT", severity=4, text="PreArm: low battery")
    vehicle.send("STATUSTEXT", severity=2, text="x" * 50, id=7, chunk_seq=0)
    vehicle.send("STATUSTEXT", severity=2, text="end", id=7, chunk_seq=1)
    vehicle.send("mode", custom_mode=5, base_mode=209)
    ground.until(lambda: ground.all("mode")[-1] == 5 and len(ground.all("text")) == 2)
    assert ground.problems == []
    assert ground.all("roll") == [0.5, -0.25, 0.0]
    assert ground.all("charge") == [55.0] and ground.all("tilt") == [0.75]
    assert ground.all("text") == ["PreArm: low battery", "x" * 50 + "end"] and ground.all("severity") == [4.0, 2.0]
    assert (ground.all("armed")[0], ground.all("armed")[-1]) == (0.0, 1.0)
    stamps = [t for *_, t in ground.values]
    assert stamps == sorted(stamps)
    counts = ground.source.counts
    assert counts["mavlink/1/ATTITUDE"].taken == 3 and counts["mavlink/1/100/HEARTBEAT"].taken == 0
    assert "heard 1/1, 1/100" in ground.source.describe()[0]


def test_a_text_whose_end_is_lost_is_told(ground: Ground, vehicle: Vehicle) -> None:
    """After a second what there is goes on, with a mark for what is missing."""
    vehicle.send("STATUSTEXT", severity=1, text="a" * 50, id=9, chunk_seq=0)
    vehicle.send("STATUSTEXT", severity=1, text="c" * 50, id=9, chunk_seq=2)
    vehicle.send("ATTITUDE")
    ground.until(lambda: ground.all("roll"))
    ground.ahead += 2 * S
    ground.until(lambda: ground.all("text"))
    assert ground.all("text") == ["a" * 50 + "[...]" + "c" * 50 + "[...]"]


def test_silence_of_the_vehicle_is_a_finding(ground: Ground, vehicle: Vehicle) -> None:
    """A topic that never comes, and all topics of a vehicle whose heartbeat stops, have no publisher, until it is back."""
    vehicle.send("ATTITUDE", roll=0.5)
    ground.until(lambda: ground.all("roll"))
    vehicle.send("mute")
    vehicle.send("BATTERY_STATUS", id=1)
    ground.until(lambda: ground.all("charge"))
    ground.ahead += 6 * S
    ground.until(lambda: len(ground.said(Cause.NO_PUBLISHER)) == 6)
    words = {status.topic: status.message for status in ground.status}
    assert words["mavlink/1/ATTITUDE"] == "no heartbeat of 1/1 for 5 s"
    assert "nothing came in" in words["mavlink/1/100/HEARTBEAT"] and "heard 1/1" in words["mavlink/1/100/HEARTBEAT"]
    ground.status.clear()
    vehicle.send("mode")
    ground.until(lambda: "mavlink/1/ATTITUDE" in ground.said(Cause.NONE))
    assert ground.said(Cause.NONE) == {
        "mavlink/1/ATTITUDE", "mavlink/1/HEARTBEAT", "mavlink/1/BATTERY_STATUS[1]", "mavlink/1/STATUSTEXT"
    }  # fmt: skip


def test_a_vehicle_need_not_speak(ground: Ground, vehicle: Vehicle) -> None:
    """Texts that do not come are no finding while the vehicle's heart beats; messages that never come are."""
    for beats in range(len(ground.all("mode")), len(ground.all("mode")) + 7):
        ground.ahead += S
        ground.until(lambda beats=beats: len(ground.all("mode")) > beats)
    ground.until(lambda: "mavlink/1/ATTITUDE" in ground.said(Cause.NO_PUBLISHER))
    assert "mavlink/1/STATUSTEXT" not in ground.said(Cause.NO_PUBLISHER)


def test_losses_are_counted_and_many_are_a_finding(ground: Ground, vehicle: Vehicle) -> None:
    """A few lost messages are counted and told as damage; more than a tenth of a second's make the topics unknown."""
    vehicle.send("ATTITUDE", repeat=50)
    vehicle.send("skip", count=2)
    vehicle.send("ATTITUDE", repeat=50)
    ground.until(lambda: ground.source.lost == 2 and len(ground.all("roll")) == 100)
    ground.ahead += 2 * S
    ground.until(lambda: ground.damage)
    assert ground.damage[0].where == "mavlink/1/1" and ground.damage[0].lost_messages == 2
    assert "mavlink/1/ATTITUDE" in ground.damage[0].topics and not ground.said(Cause.OVERFLOW)
    vehicle.send("skip", count=100)
    vehicle.send("ATTITUDE")
    ground.until(lambda: ground.source.lost == 102)
    ground.until(lambda: ground.said(Cause.OVERFLOW))
    assert ground.said(Cause.OVERFLOW) == {"mavlink/1/ATTITUDE", "mavlink/1/HEARTBEAT", "mavlink/1/STATUSTEXT"}
    assert len(ground.damage) == 1  # the next account is due in a minute
    ground.until(lambda: ground.said(Cause.NONE))
    ground.ahead += 60 * S
    ground.until(lambda: len(ground.damage) == 2)
    assert ground.damage[1].lost_messages == 100


def test_commands_to_us_are_kept_for_who_answers(ground: Ground, vehicle: Vehicle) -> None:
    """Those to our system and component, and the request to arm that a vehicle sends to all of ours."""
    for system, component, command in (
        (10, 191, 512),
        (10, 0, ARM_AUTHORIZATION),
        (10, 0, 512),
        (1, 191, 512),
        (10, 7, 512),
    ):
        vehicle.send("COMMAND_LONG", target_system=system, target_component=component, command=command, param1=1.0)
    vehicle.send("ATTITUDE")
    ground.until(lambda: ground.all("roll"))
    assert [(r.system, r.component, r.command) for r in ground.source.requests] == [
        (1, 1, 512),
        (1, 1, ARM_AUTHORIZATION),
    ]
    assert ground.source.requests[0].parameters == (1.0, 0, 0, 0, 0, 0, 0)


def test_signed_messages_only(tmp_path: Path) -> None:
    """With a key, what is unsigned, or signed with another one, is refused and counted; what we send is signed."""
    key = tmp_path / "key"
    key.write_text("ab" * 32 + "\n")
    key.chmod(0o600)
    ground = Ground(f"udpin:127.0.0.1:0?signing={key}&system=11", wall=time.time_ns)
    port = ground.port
    strangers = [Packer(1, 1), Packer(1, 1, bytes(32))]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for stranger in strangers:
            out.sendto(stranger.pack("ATTITUDE", roll=3.0), ("127.0.0.1", port))
    friend = Vehicle(f"udpout:127.0.0.1:{port}", "ab" * 32)
    try:
        friend.send("ATTITUDE", roll=0.5)
        ground.until(lambda: ground.all("roll"))
        assert ground.all("roll") == [0.5] and "2 refused" in ground.source.describe()[0]
        ours = Packer(11, 191, bytes.fromhex("ab" * 32))
        ours.mav.signing.timestamp = ground.source.stamp
        ground.source.send(ours.pack("HEARTBEAT"))
        ground.until(lambda: friend.got)
        assert friend.got[0]["from"] == [11, 191] and friend.got[0]["signed"]
    finally:
        friend.end()
        ground.source.close()


def test_a_serial_line_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    """Over a pty: frames cut anywhere, noise before them, a line that is pulled and put back, and sending."""
    device = tmp_path / "tty"
    near, far = os.openpty()
    device.symlink_to(os.ttyname(far))
    ground = Ground(f"serial:{device}:115200")
    ground.until(lambda: not ground.source._link.trouble)
    packer = Packer()
    raw = b"\xfd\x09noise" + b"".join(packer.pack("ATTITUDE", roll=float(n)) for n in range(20))
    for at in range(0, len(raw), 7):
        os.write(near, raw[at : at + 7])
        ground.drain()
    ground.until(lambda: len(ground.all("roll")) == 20)
    assert ground.all("roll") == [float(n) for n in range(20)]
    ground.source.send(b"hello")
    assert os.read(near, 5) == b"hello"
    os.close(near), os.close(far)
    ground.until(lambda: ground.source._link.trouble)
    device.unlink()
    near, far = os.openpty()
    device.symlink_to(os.ttyname(far))
    ground.ahead += 2 * S
    ground.until(lambda: not ground.source._link.trouble)
    os.write(near, packer.pack("ATTITUDE", roll=99.0))
    ground.until(lambda: ground.all("roll")[-1] == 99.0)
    ground.source.close()
    os.close(near), os.close(far)


def test_tcp_is_opened_anew() -> None:
    """A server that is not there yet, that closes, and that comes back; the descriptor to poll stays the same."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    ground = Ground(f"tcp:127.0.0.1:{port}")
    ground.until(lambda: ground.source._link.trouble)
    descriptor = ground.source.sockets[0]
    for number in range(2):
        with socket.create_server(("127.0.0.1", port)) as server:
            ground.ahead += 2 * S
            server.settimeout(0.01)
            connection: socket.socket | None = None
            while connection is None:
                ground.drain()
                try:
                    connection = server.accept()[0]
                except TimeoutError:
                    ground.ahead += S
            connection.sendall(Packer().pack("ATTITUDE", roll=float(number + 1)))
            ground.until(lambda number=number: len(ground.all("roll")) == number + 1)
            connection.close()
        ground.until(lambda: ground.source._link.trouble)
    assert ground.all("roll") == [1.0, 2.0] and ground.source.sockets[0] == descriptor
    ground.source.close()


def test_addresses() -> None:
    """Forms that are taken, those that are not, and what may listen to the network."""
    assert str(parse_address("serial:/dev/ttyACM0:57600")) == "serial:/dev/ttyACM0:57600"
    found = parse_address("udpout:[::1]:14550?system=1&component=3&bench=yes")
    assert found.bench and (found.host, found.port, found.system, found.component, found.is_local) == (
        "::1",
        14550,
        1,
        3,
        True,
    )
    for wrong in (
        "udp:127.0.0.1:1", "udpin:127.0.0.1", "udpin:127.0.0.1:70000", "udpin::14550", "tcp:h:1?system=0", "tcp:h:1?x=1",
        "tcp:h:1?", "tcp:h:1?bench=no", "udpin:127.0.0.1:²",
    ):  # fmt: skip
        with pytest.raises(UsageError, match="expected mavlink:udpin"):
            parse_address(wrong)
    with pytest.raises(ConfigError, match="signing=FILE"):
        Ground("udpin:0.0.0.0:0")
    ground = Ground("udpin:0.0.0.0:0", allow_plain=True)
    with pytest.raises(ConfigError, match="free the port"):
        Ground(f"udpin:127.0.0.1:{ground.port}")
    ground.source.close()
    with pytest.raises(ConfigError, match="no baud rate"):
        Ground("serial:/dev/null:57601")
    with pytest.raises(ConfigError, match="are the same"):
        Ground("udpin:127.0.0.1:0", {"a": ("mavlink/1/ATTITUDE", "roll"), "b": ("/mavlink/1/ATTITUDE", "yaw")})


def test_keys_of_signatures(tmp_path: Path) -> None:
    """A key file is 64 hex digits that nobody else can read."""
    key = tmp_path / "key"
    for text, mode, words in (
        ("ab", 0o600, "64 hex digits"),
        ("ab" * 32, 0o644, "chmod 600"),
        ("ü" * 64, 0o600, "64 hex"),
    ):
        key.write_text(text)
        key.chmod(mode)
        with pytest.raises(ConfigError, match=words):
            parse_address(f"tcp:localhost:1?signing={key}")
    with pytest.raises(ConfigError, match="cannot be read"):
        parse_address(f"tcp:localhost:1?signing={tmp_path}/none")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_each_source_reads_its_topics() -> None:
    """A vehicle's topics are read of the vehicle, others of ZeroMQ; topics that nobody can bring have no publisher."""
    topics = ["/odom", "mavlink/1/ATTITUDE"]
    now = [S]
    sources = open_sources([parse("mavlink:udpin:127.0.0.1:0")], [*map(Wanted, topics)], lambda: now[0])
    assert [sorted(source.counts) for source in sources] == [["/odom"], ["mavlink/1/ATTITUDE"]]
    now[0] += 6 * S
    for source, topic in zip(sources, topics, strict=True):
        source.drain()
        assert [(status.topic, status.cause) for status in source.status()] == [(topic, Cause.NO_PUBLISHER)]
        source.close()
    (only,) = open_sources([parse("pull:tcp://127.0.0.1:9")], [*map(Wanted, topics)], lambda: S)
    assert sorted(only.counts) == topics
    only.close()


def test_a_field_that_a_message_lacks_is_named(ground: Ground) -> None:
    """What can't be read is known at the start, before a message comes."""
    ground.extractor = Extractor(
        [Signal("x", "mavlink/1/ATTITUDE", "rol"), Signal("y", "mavlink/1/HEARTBEAT", "base_mode.bit9")]
    )
    ground.drain()
    assert len(ground.problems) == 2
    assert "did you mean 'roll'" in ground.problems[0] and "has 8 bits" in ground.problems[1]


def test_more_rows_than_one_drain_takes(ground: Ground) -> None:
    """A datagram of many small messages is taken in parts, in order, and nothing of it is lost."""
    packer = Packer()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for _ in range(3):
            raw = b"".join(packer.pack("HEARTBEAT", custom_mode=1) for _ in range(2500))
            out.sendto(raw, ("127.0.0.1", ground.port))
    ground.until(lambda: len(ground.all("mode")) == 7500)
    assert ground.source.lost == 0


def test_the_modes_of_page_and_envelope_are_the_autopilots(root: Path) -> None:
    """ArduCopter's modes in the shipped envelope, PX4's on the page: pymavlink has the same numbers for the same names."""
    copter = {name: float(number) for number, name in mavutil.mode_mapping_acm.items()}
    shipped = envelope.load(root / "configs/ardupilot_copter.yaml")
    modes = dict(next(signal.values for signal in shipped.signals if signal.name == "mode"))
    assert modes and modes == {name: copter[name] for name in modes}
    page = (root / "docs/mavlink.md").read_text("utf-8")
    block = re.search(r"^```yaml\nvalues:\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert block is not None
    told = {name: int(number) for name, number in re.findall(r"^  (\w+): (\d+)$", block[1], re.MULTILINE)}
    px4 = {name: main << 16 | part << 24 for name, (_, main, part) in mavutil.px4_map.items()}
    assert len(told) == 11
    for name, number in told.items():
        assert px4[name.removeprefix("AUTO_")] == number, name


def test_the_addresses_and_topics_of_the_page_are_taken(root: Path) -> None:
    """What docs/mavlink.md shows can be parsed, and its numbers are the code's."""
    page, found = (root / "docs/mavlink.md").read_text("utf-8"), parse_address("udpin:127.0.0.1:14550")
    shown = re.findall(r"`mavlink:((?:udpin|udpout|tcp|serial):[^`…]+)`", page)
    assert len({parse_address(text).kind for text in shown}) == 4
    topics = set(re.findall(r"mavlink/[\w/]+[A-Z](?:\[\w+\])?", page))
    assert len(topics) >= 7 and all(dialect().wanted(topic) for topic in topics)
    assert (
        f"last {QUIET_NS // S} s ({PEERS} at most)" in page
        and f"?system={found.system}&component={found.component}" in page
    )
    assert f"for {SILENCE // S} s after one was heard" in page and f"no more than {BUFFER >> 10} KiB" in page


def test_garbage_hurts_nobody_else() -> None:
    """Mutated datagrams, and noise in a stream: no exception, bounded memory, honest messages come (`make fuzz`: 100,000)."""
    fuzz_sockets.check_datagrams(fuzz_sockets.throw_datagrams(5_000))
    fuzz_sockets.check_stream(fuzz_sockets.throw_stream(5_000))
