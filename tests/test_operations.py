"""The operations guide: every command of the page, as it stands there and in its order, on ports of this machine."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.keys import load_signing_key, make_key

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PAGE = ROOT / "docs" / "operations.md"
#: Lines that make a venv or fetch packages: they are told apart, and counted.
OF_THE_MACHINE = ("python3 -m venv ", "/opt/edge-registry/bin/pip ")
#: Systemd is not there: what serves is stopped, and begun again by its own command.
RESTART = "systemctl restart edge-registry"
DATABASE = "postgresql://registry@db.example/registry"


class Station:
    """A folder in which the page is followed, with what it says is there: a robot's key and journal, and a people file."""

    def __init__(self, folder: Path, postgres: str) -> None:
        self.folder = folder
        self.ports: dict[str, int] = {}
        self.postgres = postgres
        self.variables = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
        self.serving: list[subprocess.Popen[str]] = []
        self.machine: list[str] = []
        self.served = ""
        key, _ = make_key("robot-7", folder)
        with Journal.create_or_open(folder / "mission.db", load_signing_key(key), epochs=True) as journal:
            for t in range(20):
                journal.append(Entry("check.fail", Severity.CRITICAL, t, t, {"subject": "speed_limit"}))
        public = make_key("alice", folder)[1].read_text().strip()
        people = f"edge_monitor_people: 1\npeople:\n  alice: {{name: Alice, roles: [planner], keys: [{public}]}}\n"
        (folder / "people.yaml").write_text(people)

    def here(self, line: str) -> str:
        """The line with ports that are free, and the test's database."""
        return re.sub(
            r":(738\d)", lambda found: f":{self.port(found[1])}", line.replace(DATABASE, f"'{self.postgres}'")
        )

    def port(self, name: str) -> int:
        """A free port, always the same for one of the page."""
        if name not in self.ports:
            with socket.create_server(("127.0.0.1", 0)) as one:
                self.ports[name] = one.getsockname()[1]
        return self.ports[name]

    def follow(self, line: str) -> str:
        """Do what a line says; a registry that serves stays."""
        if line.startswith(OF_THE_MACHINE):
            self.machine.append(line)
            return ""
        line = self.here(line)
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            self.variables[name] = value.strip("'")
            return ""
        if line == RESTART:
            process = self.serving.pop()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            line = self.served
        if " serve " in line:
            self.served = line
            process = subprocess.Popen(
                ["sh", "-c", f"exec {line}"], cwd=self.folder, env=self.variables, stderr=subprocess.PIPE, text=True
            )
            self.serving.append(process)
            assert process.stderr is not None and "takes records" in process.stderr.readline(), line
            return ""
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout

    def end(self) -> None:
        """Stop what serves; each ends well."""
        for process in self.serving:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def sections() -> dict[str, list[str]]:
    """The commands of the page by heading."""
    found: dict[str, list[str]] = {}
    heading = ""
    for part in re.split(r"^(## .*|```sh\n[^`]*```)$", PAGE.read_text("utf-8"), flags=re.MULTILINE):
        if part.startswith("## "):
            heading = part[3:]
        elif part.startswith("```sh"):
            found.setdefault(heading, []).extend(part.splitlines()[1:-1])
    return found


def test_the_page_can_be_followed(tmp_path: Path, postgres_database: str) -> None:
    """From making a registry over backup, restore, keys and a revoked robot to two processes on one PostgreSQL."""
    station = Station(tmp_path, postgres_database)
    said: dict[str, str] = {}
    try:
        for heading, lines in sections().items():
            said[heading] = "".join(station.follow(line) for line in lines)
    finally:
        station.end()
    assert list(said) == [
        "Install", "Enrol a robot", "Back up", "Restore", "Rotate keys", "Tell robots what they must know",
        "Rotate the receipt key", "Revoke a robot", "Upgrade", "Scale out on PostgreSQL",
    ]  # fmt: skip
    assert "20 of 20 records receipted" in said["Enrol a robot"] and " 20 " in said["Restore"]
    assert (
        "20 of 20 records receipted" in said["Rotate keys"]
        and "\npeople people.yaml " in said["Tell robots what they must know"]
    )
    assert "20 of 20 records receipted" in said["Rotate the receipt key"]
    assert "revoked" in said["Revoke a robot"]
    assert len(station.machine) == 3 and len(station.serving) == 3
    with sqlite3.connect(tmp_path / "registry.backup") as copy:
        assert copy.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert copy.execute("select count(*) from events").fetchall() == [(20,)]


def test_a_backup_overwrites_nothing_and_is_refused_where_it_would_be_none(
    tmp_path: Path, postgres_database: str
) -> None:
    """A file that is there stays; of PostgreSQL the command says what to do instead."""
    station = Station(tmp_path, postgres_database)
    try:
        station.follow("edge-registry serve --dir r --sync tcp://127.0.0.1:7381 --enrol tcp://127.0.0.1:7382")
    finally:
        station.end()
    station.follow("edge-registry backup one --dir r")
    for line, words in (
        ("edge-registry backup one --dir r", "exists; name another file"),
        ("edge-registry backup none/two --dir r", "cannot be written"),
        (f"edge-registry backup three --dir r --database {DATABASE}", "pg_dump"),
    ):
        with pytest.raises(AssertionError, match=words):
            station.follow(line)
    assert not (tmp_path / "three").exists()
