"""CURVE from the command line: the process, its three sockets, people with keys, and strangers."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import zmq

from edge_monitor.cli import group
from edge_monitor.consumer import Consumer, Subscriber
from edge_monitor.curve_keys import load_pair, load_public, make_pair
from edge_monitor.errors import EdgeMonitorError
from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.keys import make_key
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_payload, decode_record
from edge_monitor.journal.verify import verify
from edge_monitor.sources.curve import key_fingerprint

BIN = Path(sys.executable).parent
META = msgspec.msgpack.encode({"e": "msgpack"})
ENVELOPE = """
edge_monitor: 1
envelope: {id: live, version: 1, vehicle: bench}
signals:
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 60 s}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, severity: critical}
gates:
  drive: {require: all, criteria: [speed_limit], lease: 1 s}
"""
RIGHTS = {"camera": "publish", "autopilot": "listen", "ground": "listen control"}


class Field:
    """A monitor on three TCP ports, whose keys were made and listed as an engineer would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "live.yaml").write_text(ENVELOPE)
        make_key("robot", folder)
        for name in ("robot", *RIGHTS, "stranger"):
            make_pair(name, folder)
        lines = [f"{(folder / f'{name}.curve.pub').read_text().strip()} {rights}\n" for name, rights in RIGHTS.items()]
        (folder / "peers").write_text("".join(lines))
        with socket.socket() as a, socket.socket() as b, socket.socket() as c:
            for one in (a, b, c):
                one.bind(("127.0.0.1", 0))
            self.source, self.out, self.control = (f"tcp://127.0.0.1:{one.getsockname()[1]}" for one in (a, b, c))
        self.context = zmq.Context()
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the monitor."""
        self.process = subprocess.Popen(
            [
                BIN / "edge-monitor", "run", "-e", "live.yaml", "--unapproved", "--source", f"bind-pull:{self.source}",
                "--publish", self.out, "--control", self.control, "--journal", "j.db", "--key", "robot.key",
                "--curve-key", "robot.curve", "--peers", "peers",
            ],
            cwd=self.folder, stderr=(self.folder / "stderr").open("a"), text=True,
        )  # fmt: skip

    def tell(self, *words: str, expect: int = 0, keyed: bool = True, who: str = "ground") -> str:
        """Type a command, as ``who``; what it prints."""
        keys = (
            ["--curve-key", f"{who}.curve", "--server-key", "robot.curve.pub", "--control", self.control]
            if keyed
            else []
        )
        done = subprocess.run(
            [BIN / "edge-monitor", *words, *keys], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == expect, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def curve(self, who: str) -> tuple[str, str, str]:
        """Keys of one who connects: own pair, and the robot's public key."""
        pair = load_pair(self.folder / f"{who}.curve")
        return pair.public, pair.secret, load_public(self.folder / "robot.curve.pub")

    def publisher(self, who: str) -> zmq.Socket:
        """A PUSH socket to the monitor."""
        made = self.context.socket(zmq.PUSH)
        made.linger, made.sndhwm = 0, 10
        made.curve_publickey, made.curve_secretkey, made.curve_serverkey = (key.encode() for key in self.curve(who))
        made.connect(self.source)
        return made

    def subscriber(self, who: str) -> Subscriber:
        """A consumer on the vehicle."""
        consumer = Consumer(["drive"], accept_unapproved=True)
        return Subscriber.connect(consumer, self.out, context=self.context, curve=self.curve(who))

    def close(self) -> None:
        """End everything."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.context.destroy(linger=0)


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    """A field whose monitor is not running."""
    found = Field(tmp_path)
    yield found
    found.close()


def send(publisher: zmq.Socket, speed: float) -> None:
    """A message, where there is room for it."""
    with suppress(zmq.Again):
        publisher.send_multipart([b"/odom", META, msgspec.msgpack.encode({"speed": speed})], zmq.NOBLOCK)


def test_who_is_on_the_list_is_admitted_and_comes_back_and_others_are_refused_and_logged(field: Field) -> None:
    """Each key opens its own door only; a stranger changes nothing and stands in journal and log; after a kill and a new
    start publisher, consumer and person are served again without doing anything."""
    field.start()
    camera, stranger = field.publisher("camera"), field.publisher("stranger")
    autopilot, spy = field.subscriber("autopilot"), field.subscriber("stranger")

    def wait(go: bool, seconds: float) -> None:
        end = time.monotonic() + seconds
        while autopilot.allowed("drive").go is not go:
            assert time.monotonic() < end, field.process and field.process.poll()
            send(camera, 5.0)
            send(stranger, 99.0)
            autopilot.poll(5)

    wait(True, 180)
    assert "drive GO" in field.tell("go", "drive")
    assert "refuses the key of stranger" in field.tell("go", "drive", who="stranger", expect=3)
    assert "refuses the key of camera" in field.tell("go", "drive", who="camera", expect=3)
    assert "give --curve-key" in field.tell("go", "drive", "--control", field.control, keyed=False, expect=3)
    for _ in range(40):
        send(camera, 5.0)
        send(stranger, 99.0)
        time.sleep(0.01)
        assert autopilot.allowed("drive").go
    assert spy.poll(200) == 0
    assert field.process is not None
    field.process.kill()
    field.process.wait()
    wait(False, 2)
    field.start()
    wait(True, 180)
    assert "drive GO" in field.tell("go", "drive")
    time.sleep(1.1)  # an event a second: the second one is told
    field.process.send_signal(signal.SIGTERM)
    assert field.process.wait(20) == 0
    marks = {name: key_fingerprint(load_public(field.folder / f"{name}.curve.pub")) for name in ("stranger", "camera")}
    log = (field.folder / "stderr").read_text()
    assert re.search(
        rf"refused an unknown key {marks['stranger']} from 127\.0\.0\.1 at the door '(publish|listen|control)'", log
    )
    assert f"refused camera's key {marks['camera']} from 127.0.0.1 at the door 'control'" in log
    assert log.count("\n") < 20
    assert verify(field.folder / "j.db", [load_verifier_key(field.folder / "robot.pub")]).ok
    with Reader(field.folder / "j.db") as reader:
        rows = [(decode_record(row.record), row.payload) for row in reader.rows()]
    told = [one for r, p in rows if r.type == "access.refused" and p for one in decode_payload(p)["refused"]]
    assert {(one["key"], one["name"], one["door"]) for one in told} >= {
        (marks["stranger"], "", "publish"), (marks["stranger"], "", "listen"), (marks["camera"], "camera", "control"),
    }  # fmt: skip
    assert not [r for r, _ in rows if r.type in ("check.fail", "input.lost")]


def test_mistakes_with_keys_are_one_line(
    field: Field, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Half a set of keys and a list that is none end with what to give; a key shows its fingerprint."""
    monkeypatch.chdir(field.folder)
    run = [
        "run", "-e", "live.yaml", "--unapproved", "--journal", "j.db", "--key", "robot.key", "--source",
        f"bind-pull:{field.source}", "--control", field.control,
    ]  # fmt: skip

    def told(*words: str) -> str:
        with pytest.raises(EdgeMonitorError) as caught:
            group.main(words, standalone_mode=False)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "go together" in told(*run, "--peers", "peers")
    line = told(*run, "--curve-key", "robot.curve", "--peers", "robot.key")
    assert "robot.key:1" in line and "is no key" in line
    assert "go together" in told("go", "drive", "--curve-key", "ground.curve")
    monkeypatch.setenv("EDGE_MONITOR_CURVE_KEY", "ground.curve")
    assert "go together" in told("status")
    group.main(["keys", "curve", "other"], standalone_mode=False)
    group.main(["keys", "show", "other.curve"], standalone_mode=False)
    *made, shown = capsys.readouterr().out.splitlines()
    public = load_public(field.folder / "other.curve.pub")
    assert shown == f"{public}  fingerprint {key_fingerprint(public)}" and public in made[1]
