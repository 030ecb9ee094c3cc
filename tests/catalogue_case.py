"""A registry with people, a robot and its journals: what the tests of catalogue, exceptions, interface and SIEM begin with."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from edge_monitor.command_line import run
from edge_monitor.journal import Digests, Entry, Journal, Severity
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.records import WallStatus
from edge_monitor.people import loads
from edge_monitor.sync import wire
from edge_monitor.sync.outbox import Outbox
from edge_registry.catalogue.reading import Catalogue
from edge_registry.catalogue.statements import Trust
from edge_registry.cli import group
from edge_registry.house import open_house
from edge_registry.ingest import Ingest

SECOND = 1_000_000_000
ROLES = {"paula": ["planner"], "anton": ["approver"], "erin": ["assurance"], "bruno": ["field_engineer", "approver"]}
KEYS = {name: SigningKey(name, bytes([number]) * 32) for number, name in enumerate([*ROLES, "mallory"], 1)}
ROBOT = SigningKey("robot-7", bytes([99]) * 32)


def people_file() -> str:
    """The people file; mallory is not in it."""
    lines = [
        f"  {name}: {{name: {name.title()}, roles: [{', '.join(roles)}], keys: ['{KEYS[name].verifier.text()}']}}"
        for name, roles in ROLES.items()
    ]
    return "\n".join(["edge_monitor_people: 1", "people:", *lines, ""])


class World:
    """A registry in a folder, with keys of people in files, and one enrolled robot."""

    def __init__(self, folder: Path, database: str = "") -> None:
        """``database``: its address; empty: the folder's own file."""
        self.folder = folder
        self.house = open_house(folder / "registry-data", database or None, make="registry")
        self.database = self.house.database
        for name, key in (*KEYS.items(), ("robot-7", ROBOT)):
            path = folder / f"{name}.key"
            path.write_text(key.text() + "\n")
            path.chmod(0o600)
            path.with_suffix(".pub").write_text(key.verifier.text() + "\n")
        self.people = self.house.folder / "people.yaml"
        self.people.write_text(people_file())
        self.trust = Trust(loads(people_file().encode()))
        self.store = self.house.store()
        with self.store.begin() as tx:
            tx.enrol("robot-7", ROBOT.verifier, "x" * 40, 0)

    def close(self) -> None:
        """Give the database back."""
        self.store.close()

    def run(self, *arguments: str | Path, code: int = 0, person: str = "") -> str:
        """What ``edge-registry`` prints; ``person``: who signs."""
        command = [*map(str, arguments), "--dir", str(self.house.folder), "--database", self.database]
        if person:
            command += ["--person", person, "--key", str(self.folder / f"{person}.key")]
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said), pytest.raises(SystemExit) as ended:
            run(group, "edge-registry", command)
        assert ended.value.code == code, said.getvalue()
        return said.getvalue()

    def file(self, name: str, text: str = "") -> Path:
        """A file to register; another text, another thing."""
        path = self.folder / name
        path.write_text(text or name)
        return path

    @contextmanager
    def reading(self, now_ns: int | None = None) -> Iterator[Catalogue]:
        """The catalogue in one snapshot, at a moment (None: now)."""
        with self.store.read() as tx:
            yield Catalogue(tx, self.trust, time.time_ns() if now_ns is None else now_ns)

    @contextmanager
    def writing(self, now_ns: int | None = None) -> Iterator[Catalogue]:
        """The catalogue in one transaction that writes."""
        with self.store.begin() as tx:
            yield Catalogue(tx, self.trust, time.time_ns() if now_ns is None else now_ns)

    def drive(
        self, digests: Digests, start_ns: int, entries: Sequence[Entry] = (), *, boot: int = 1, count: int = 5
    ) -> Path:
        """A boot of the robot: events a second apart from ``start_ns`` on by its clock; answers its journal."""
        clock = [start_ns - SECOND]

        def wall() -> tuple[int, WallStatus, int]:
            clock[0] += SECOND
            return clock[0], WallStatus.SYNCHRONISED, 1000

        path = self.folder / "robot-7.db"
        with Journal.create_or_open(path, ROBOT, digests=digests, boot_id=bytes([boot]) * 16, wall=wall) as journal:
            for t in range(count):
                journal.append(Entry("check.fail", Severity.CRITICAL, t, t, {"subject": "speed_limit", "value": 2.5}))
            for entry in entries:
                journal.append(entry)
        return path

    def sync(self, path: Path | None = None) -> None:
        """Bring the journal to the registry."""
        ingest, outbox = Ingest(self.house.key), Outbox(path or self.folder / "robot-7.db")
        head = outbox.head()
        log_id = bytes.fromhex(head.origin.rpartition("/")[2].replace("-", ""))
        with self.store.begin() as tx:
            robot = tx.robot("robot-7")
            assert robot is not None
            welcome = ingest.hello(tx, robot, wire.Hello((1, 1), head.origin, bytes(16), head.note, "", 0, "t"))[0]
        assert isinstance(welcome, wire.Welcome)
        start = welcome.size
        while (load := outbox.load(start)) is not None:
            batch = wire.Batch(welcome.session, load.first, load.end - load.first, load.data, load.checkpoint)
            with self.store.begin() as tx:
                answer = ingest.batches(tx, robot, log_id, [batch])[-1]
            assert isinstance(answer, wire.Receipt), answer
            start = load.end
