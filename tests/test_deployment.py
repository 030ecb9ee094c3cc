"""The pages on running it on board: their commands, as they stand there, and the unit, as systemd reads it.

Commands are taken out of the pages. :meth:`Robot.here` puts the system's folders under a folder of the test's own, and
addresses on free ports of this machine. What would change the machine itself (users, a venv, systemd) is not run: such lines
are told apart in ``OF_THE_MACHINE``, and ``systemctl start`` and ``stop`` are done by ``one_unit.Service``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import msgspec
import pytest
import zmq
from one_unit import Service, environment, settings, words

from edge_monitor.cli import group
from edge_monitor.consumer import Consumer, Subscriber
from edge_monitor.core.jit import cache_base
from edge_monitor.curve_keys import Pair, load_pair, load_public
from edge_monitor.envelope import load
from edge_monitor.envelope.approval import approval_path, approve, propose, write_approval
from edge_monitor.errors import ConfigError
from edge_monitor.journal.keys import load_signing_key, make_key
from edge_monitor.onboard.client import Reach, ask
from edge_monitor.people import load as load_people
from edge_monitor.secret_files import open_to_others

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
UNIT = ROOT / "deploy" / "edge-monitor.service"
PAGE = ROOT / "docs" / "deployment.md"
#: What the system keeps where; all of it is under the test's folder instead.
FOLDERS = (
    *(f"/{name}/edge-monitor" for name in ("etc", "var/lib", "var/cache", "run", "opt")),
    "/etc/systemd/system",
)
#: Lines that make users, a venv and packages, hand files to another user, or read systemd's log.
OF_THE_MACHINE = ("useradd ", "usermod ", "python3 -m venv ", "/opt/edge-monitor/bin/pip ", "chown ", "journalctl ")
ENVELOPE = """
edge_monitor: 1
envelope: {id: yard, version: 4, vehicle: rover}
signals:
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 500 ms}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, severity: critical}
gates:
  takeoff: {require: all, criteria: [speed_limit], lease: 2 s}
"""


class Robot:
    """A machine's folders, addresses and environment, within a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ports = folder, dict[str, int]()
        self.variables = {name: value for name, value in os.environ.items() if not name.startswith("EDGE_MONITOR_")}
        self.variables.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has its modules compiled
        self.variables |= {"PATH": f"{BIN}:{os.environ['PATH']}", "EDGE_MONITOR_CACHE_DIR": str(cache_base())}
        self.machine: list[str] = []
        self.service: Service | None = None
        self.running: list[subprocess.Popen[bytes]] = []
        for name in ("etc/systemd/system", "var/lib", "var/cache", "run", "opt/edge-monitor/bin", "desk"):
            (folder / name).mkdir(parents=True)
        (folder / "opt/edge-monitor/bin/edge-monitor").symlink_to(BIN / "edge-monitor")
        self.desk = folder / "desk"
        (self.desk / "deploy").symlink_to(UNIT.parent)

    def here(self, text: str) -> str:
        """``text`` with the system's folders and addresses put into the test's; kernels stay where they were compiled."""
        text = text.replace("EDGE_MONITOR_CACHE_DIR=/var/cache/edge-monitor", f"EDGE_MONITOR_CACHE_DIR={cache_base()}")
        for name in FOLDERS:
            text = text.replace(name, f"{self.folder}{name}")
        return re.sub(r"tcp://[\d.*]+:(\d+)", lambda found: f"tcp://127.0.0.1:{self.port(found[1])}", text)

    def port(self, name: str) -> int:
        """A port of this machine that nobody else has, always the same for a port of the pages."""
        if name not in self.ports:
            with socket.socket() as one:
                one.bind(("127.0.0.1", 0))
                self.ports[name] = one.getsockname()[1]
        return self.ports[name]

    def approved(self, name: str, text: str) -> None:
        """An envelope on the desk, with its approval and, once, the people who give it."""
        people = self.desk / "people.yaml"
        if not people.exists():
            roles = {"alice": "planner", "bob": "approver", "carol": "operator"}
            keys = {person: make_key(person, self.desk)[1].read_text().strip() for person in roles}
            lines = [f"  {p}: {{name: {p}, roles: [{roles[p]}], keys: [{keys[p]}]}}" for p in roles]
            people.write_text("\n".join(["edge_monitor_people: 1", "people:", *lines, ""]))
        path = self.desk / name
        path.write_text(text)
        envelope, trusted, now = load(path), load_people(people), time.time_ns()
        planner, approver = (load_signing_key(self.desk / f"{person}.key") for person in ("alice", "bob"))
        proposed = propose(envelope, planner, "alice", trusted, now)
        until = now + 3600 * 10**9
        given = approve(envelope, proposed, approver, "bob", trusted, now, ticket="T-1", expires_ns=until)
        write_approval(approval_path(path), given)

    def sh(self, line: str, expect: int = 0) -> str:
        """Run one line in the desk's folder; answers what it printed."""
        assert not re.search(r"(?<!\w)/(etc|var|opt|run)/", line), f"would touch the machine: {line}"
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.desk,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == expect, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def do(self, block: str) -> str:
        """Run a block of the deployment page, line by line; answers what all of it printed."""
        printed = ""
        for line in block.splitlines():
            line = re.sub(r"^sudo (-u edge-monitor )?", "", line)
            if line.startswith(OF_THE_MACHINE):
                self.machine.append(line)
            elif line.startswith("systemctl "):
                self.systemctl(*line.split()[1:])
            elif line.startswith("export "):
                name, _, value = self.here(line.removeprefix("export ")).partition("=")
                self.variables[name] = value
            else:
                printed += self.sh(self.here(re.sub(r" -o edge-monitor -g edge-monitor", "", line)))
        return printed

    def systemctl(self, verb: str, *more: str) -> None:
        """What systemctl would do to the unit that is installed."""
        if verb == "daemon-reload":
            return
        assert "edge-monitor" in more
        if self.service is None:
            self.service = Service(self.folder / "etc/systemd/system/edge-monitor.service", self.folder, self.here)
        if verb == "status":
            assert self.service.process is not None and self.service.process.poll() is None
        elif verb in ("start", "enable"):
            assert self.service.start() is None, self.service.log.read_text()
        else:
            assert verb in ("stop", "disable") and self.service.stop() == 0
            self.service.listen(0.05)
            assert [word for _, word in self.service.told][-1] == "STOPPING=1"

    def type(self, command: str, before: str = "") -> str:
        """Run a command of the other pages; ``run`` goes on beside the others, and ``…`` in it is what ``before`` had."""
        if "…" in command:
            again = set(re.findall(r"--[\w-]+", command))
            kept = re.findall(r"(--[\w-]+) (\S+)", before)
            command = command.replace("…", " ".join(f"{name} {value}" for name, value in kept if name not in again))
        if not command.startswith("edge-monitor run "):
            return self.sh(self.here(command))
        for name, port in (("--publish", "7371"), ("--control", "7372")):
            if name not in command:  # its default is one port of the machine, which another test may have
                command += f" {name} tcp://127.0.0.1:{port}"
        self.end()
        with (self.folder / "log").open("ab") as log:
            self.running.append(
                subprocess.Popen(
                    shlex.split(self.here(command)), cwd=self.desk, env=self.variables, stdout=log, stderr=log
                )
            )
        return command

    def end(self) -> None:
        """End the commands that go on, cleanly."""
        while self.running:
            one = self.running.pop()
            one.send_signal(signal.SIGTERM)
            assert one.wait(120) == 0, (self.folder / "log").read_text()

    def close(self) -> None:
        """End whatever is left."""
        for one in self.running:
            one.kill()
            one.wait()
        if self.service is not None:
            self.service.close()


@pytest.fixture
def robot() -> Iterator[Robot]:
    """A machine on which nothing is installed; its path is short, as those of sockets must be."""
    with tempfile.TemporaryDirectory(prefix="robot") as name:
        found = Robot(Path(name).resolve())
        yield found
        found.close()


class Publisher(threading.Thread):
    """A sensor at 50 Hz, to which the monitor connects."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.ending = threading.Event()
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
        self.socket.linger = 0
        self.socket.bind(address)

    def run(self) -> None:
        meta, body = msgspec.msgpack.encode({"e": "msgpack"}), msgspec.msgpack.encode({"speed": 5.0})
        while not self.ending.wait(0.02):
            self.socket.send_multipart([b"/odom", meta, body])
        self.socket.close()


def blocks(path: Path, language: str) -> list[str]:
    """The code blocks of a page that are in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def typed(text: str) -> list[str]:
    """The commands of ``console`` blocks: what follows a ``$``, with the lines that go on from it."""
    found = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [command for block in found for command in re.findall(r"^\$ (.*)$", block.replace("\\\n", ""), re.MULTILINE)]


def go(subscriber: Subscriber, seconds: float = 20.0) -> bool:
    """Whether a consumer gets its GO in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        subscriber.poll(10)
        if subscriber.allowed("takeoff").go:
            return True
    return False


def test_the_page_s_commands_do_what_it_says(robot: Robot) -> None:
    """Installed, started, asked, reloaded, updated, begun anew over a damaged journal and removed, by the page's own lines."""
    robot.approved("yard.yaml", ENVELOPE)
    robot.approved("yard5.yaml", ENVELOPE.replace("version: 4", "version: 5").replace("max: 12", "max: 9"))
    page = blocks(PAGE, "sh")
    install, envelope, warm, doctor, start, ask, ended, read, reload, update, refused, uninstall = page
    etc, run, state = (robot.folder / name for name in ("etc/edge-monitor", "run/edge-monitor", "var/lib/edge-monitor"))
    publisher = Publisher(robot.here("tcp://127.0.0.1:7370"))
    publisher.start()
    try:
        for block in (install, envelope, warm):
            robot.do(block)
        assert load_signing_key(etc / "robot.key").verifier.name == "robot-7" and not (etc / "robot-7.key").exists()
        assert "FAILED" not in robot.do(doctor)
        robot.do(start)
        assert robot.service is not None
        robot.service.listen(1.0)
        beats = [when for when, word in robot.service.told if word == "WATCHDOG=1"]
        assert robot.service.told[0][1] == "READY=1" and len(beats) >= 4
        assert all(later - sooner < 1.0 for sooner, later in pairwise(beats))  # half of WatchdogSec
        assert all((run / name).stat().st_mode & 0o777 == 0o770 for name in ("in", "out", "control"))
        with Subscriber.connect(Consumer(["takeoff"]), f"ipc://{run}/out") as subscriber:
            assert go(subscriber)
        assert "yard v4" in robot.do(ask)
        robot.do(ended)
        assert "verified" in robot.do(read)
        assert "yard v5 is in force" in robot.do(reload)
        robot.do(update)
        assert "yard v5" in robot.do(ask.splitlines()[-1])
        assert robot.service.stop() == 0
        with (state / "journal.db").open("r+b") as journal:
            journal.write(bytes(4096))
        assert robot.service.start() == 4  # as the page says
        assert "journal.db" in robot.service.log.read_text()
        stop, *rest = refused.splitlines()
        assert stop.endswith("systemctl stop edge-monitor")  # which has nothing to end here
        robot.do("\n".join(rest))
        assert (state / "refused/journal.db").exists() and (state / "journal.db").exists()
        robot.do(uninstall)
    finally:
        publisher.ending.set()
        publisher.join()
    assert not any(
        (robot.folder / name).exists() for name in ("opt/edge-monitor", "etc/systemd/system/edge-monitor.service")
    )
    assert (etc / "robot-7.pub").exists() and cache_base().exists()
    assert {line.split()[0] for line in robot.machine} >= {"useradd", "usermod", "python3", "journalctl", "chown"}


def test_the_commands_of_the_readme_on_the_bench(robot: Robot) -> None:
    """README's lines start a monitor that answers NO_GO, as it says, and leave a journal that verifies."""
    (robot.desk / "yard.yaml").write_text(ENVELOPE)
    robot.variables["EDGE_MONITOR_CONTROL"] = robot.here("tcp://127.0.0.1:7372")
    text = (ROOT / "README.md").read_text("utf-8")
    commands = typed(text[text.index("\n## On board") : text.index("\n## Exit codes")])
    assert [command.split()[1] for command in commands] == ["keys", "warm", "run", "status", "go", "journal"]
    for command in commands[:3]:
        robot.type(command)
    answers(robot)
    assert "yard v4" in robot.type(commands[3])
    assert "takeoff NO_GO" in robot.sh(commands[4], expect=1)
    robot.end()
    assert "verified, signed by robot-7" in robot.type(commands[5])


def test_the_commands_of_the_onboard_page(robot: Robot) -> None:
    """The page's lines start an approved monitor, and one behind CURVE that a listed key may ask."""
    robot.approved("yard.yaml", ENVELOPE)
    etc = robot.folder / "etc/edge-monitor"
    etc.mkdir()
    for name in ("yard.yaml", "yard.approval", "people.yaml"):
        shutil.copy(robot.desk / name, etc)
    robot.sh("edge-monitor keys curve lidar")
    lidar = (robot.desk / "lidar.curve.pub").read_text().strip()
    (etc / "peers").write_text(robot.here(f"{lidar} tcp://10.0.0.5:7379\n"))
    (robot.folder / "var/lib/edge-monitor").mkdir()
    robot.variables["EDGE_MONITOR_CONTROL"] = robot.here("tcp://127.0.0.1:7372")
    # the page's lidar is another machine, with the port of the robot's own; here all are one
    text = (ROOT / "docs/live.md").read_text("utf-8").replace("tcp://10.0.0.5:7370", "tcp://10.0.0.5:7379")
    before = ""
    for command in typed(text):
        if command.startswith("edge-monitor go"):
            shutil.copy(etc / "robot-7.curve.pub", robot.desk)
            answers(robot, load_pair(robot.desk / "ground.curve"), load_public(robot.desk / "robot-7.curve.pub"))
            assert "NO_GO" in robot.sh(robot.here(command), expect=1)
            continue
        printed = robot.type(command, before)
        if command.startswith("edge-monitor run "):
            before = printed
            if "--curve-key" not in command:
                answers(robot)
    robot.end()


def answers(robot: Robot, pair: Pair | None = None, server: str = "") -> None:
    """Wait until the monitor answers."""
    reach, end = Reach(robot.here("tcp://127.0.0.1:7372"), pair, server), time.monotonic() + 240
    while True:
        try:
            ask(reach, {"do": "status"}, 500)
            return
        except ConfigError:
            assert time.monotonic() < end and robot.running[-1].poll() is None, (robot.folder / "log").read_text()


def test_the_drop_ins_are_ones_that_the_program_takes(tmp_path: Path) -> None:
    """With each drop-in of the page the unit's command line still has options and sources that ``run`` knows."""
    from edge_monitor.sources.addresses import parse

    command = group.get_command(click.Context(group), "run")
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    key = tmp_path / "mavlink.key"
    key.write_text("00" * 32)
    key.chmod(0o600)
    for drop_in in ("", *blocks(PAGE, "ini")):
        drop_in = drop_in.replace("/etc/edge-monitor/mavlink.key", str(key))
        unit = settings(UNIT.read_text("utf-8"), drop_in)
        (line,) = unit["ExecStart"]
        program, verb, *given = words(line, {**environment(unit), "CREDENTIALS_DIRECTORY": "/run/credentials/x"})
        assert program == "/opt/edge-monitor/bin/edge-monitor" and verb == "run" and "--source" in given
        assert {word for word in given if word.startswith("-")} <= known
        assert all(parse(given[n + 1]).kind for n, word in enumerate(given) if word == "--source")
        assert not any("$" in word for word in given)


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    """systemd has nothing to say against the unit, alone or with a drop-in of the page, and calls it little exposed."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text("utf-8").replace("/opt/edge-monitor/bin", str(BIN)))
    folder = tmp_path / f"{UNIT.name}.d"
    folder.mkdir()

    def verified() -> str:
        done = subprocess.run([program, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
        return "\n".join(line for line in done.stderr.splitlines() if UNIT.name in line or str(tmp_path) in line)

    for drop_in in ("", *blocks(PAGE, "ini")):
        (folder / "robot.conf").write_text(drop_in.replace("/opt/edge-monitor/bin", str(BIN)))
        assert verified() == "", drop_in
    (folder / "robot.conf").write_text("[Service]\nNoSuchThing=yes\n")
    assert "NoSuchThing" in verified()  # so drop-ins are read
    version = re.search(
        r"systemd (\d+)", subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    )
    if version is None or int(version[1]) < 250:
        pytest.skip("this systemd-analyze judges no unit that is not loaded")
    judged = subprocess.run(
        [program, "security", "--offline=true", "--threshold=19", "--no-pager", UNIT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-200:]


def test_a_credential_may_have_the_mask_of_an_access_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits of the group are no right in the folder of a service's credentials; elsewhere, and of all others, they are."""
    key, _ = make_key("robot", tmp_path)
    modes = {0o400: False, 0o440: True, 0o640: True, 0o404: True}
    for mode, is_open in modes.items():
        os.chmod(key, mode)
        assert open_to_others(key) is is_open
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for mode, is_open in (modes | {0o440: False, 0o640: False, 0o460: True}).items():
        os.chmod(key, mode)
        assert open_to_others(key) is is_open
    os.chmod(key, 0o440)
    assert load_signing_key(key).verifier.name == "robot"
