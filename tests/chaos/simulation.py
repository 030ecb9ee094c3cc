"""A fleet, its links and its registry in one thread, under a clock of their own: journals, sessions and ingest are the real ones.

A step is a random act of a device, a link, a carrier, the registry, or time. Whatever their order, nobody is accused, a receipt
means that the registry holds what it says, and once the links hold, all logs are equal bit by bit.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from edge_monitor.errors import DamagedInputError
from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.cosignatures import cosigner_of, open_receipt
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import WallStatus
from edge_monitor.sync import wire
from edge_monitor.sync.outbox import Outbox
from edge_monitor.sync.retention import Retention
from edge_monitor.sync.session import Progress, Session
from edge_monitor.sync.stick import fill, frames
from edge_registry import tables as t
from edge_registry.blobs import Blobs
from edge_registry.ingest import Ingest
from edge_registry.server import Addresses, Server, _Turn
from edge_registry.store import Store

from .backups import Backup, back_up, restore

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
REGISTRY = SigningKey("registry", bytes(range(1, 33)))
NEVER = {"malformed", "version", "revoked", "signature", "root", "rollback", "fork", "quarantined"}


@dataclass(slots=True)
class Connection:
    """One connection: frames on their way, each way, and whether the device still has its end."""

    address: bytes
    session: Session | None
    up: list[bytes] = field(default_factory=list)
    down: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Device:
    """A robot: its journal, who writes it, and the connection that its uplink has."""

    name: str
    key: SigningKey
    path: Path
    journal: Journal
    progress: Progress = field(default_factory=Progress)
    connection: Connection | None = None
    stale: list[Connection] = field(default_factory=list)  # that the device has given up, and the registry has not
    waiting: list[str] = field(default_factory=list)  # receipts that the journal's owner has not stored yet
    again_at: int = 0  # no new connection before
    blocked_until: int = 0  # nothing passes before
    boots: int = 1
    events: int = 0
    pruned: bool = False


class World:
    """``act`` takes one random step; ``settle`` heals everything, and checks that all has arrived."""

    def __init__(self, folder: Path, seed: int, devices: int = 3, *, restores: bool = True) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.now = 1_800_000_000 * SECOND
        self.begun = self.now
        self.done: Counter[str] = Counter()
        self.store = Store(f"sqlite:///{folder}/registry.db")
        self.server = Server(
            self.store, Ingest(REGISTRY, lambda: self.now // SECOND), Blobs(folder / "blobs"),
            Addresses("inproc://sync", "inproc://enrol"), ("x" * 40, "x" * 40),
        )  # fmt: skip
        self.devices = [self._device(number) for number in range(devices)]
        self.backup: Backup | None = None
        self.connections = 0
        self.sticks: list[tuple[Device, Path]] = []
        self.acts: list[tuple[int, str, Callable[[Device], None]]] = [
            (30, "write", self.write), (60, "tick", self.tick), (60, "up", self.up), (50, "down", self.down),
            (12, "store receipts", self.keep), (5, "duplicate", self.duplicate), (5, "reorder", self.reorder),
            (3, "cut", self.cut), (2, "partition", self.partition), (6, "wait", self.wait), (2, "crash", self.crash),
            (2, "registry killed before commit", self.killed_before), (2, "registry killed after commit", self.killed_after),
            (2, "stick filled", self.fill), (2, "stick imported", self.carry), (2, "erase", self.prune),
            (1, "backup", lambda _: self.save()),
        ]  # fmt: skip
        if restores:
            self.acts.append((1, "restore", lambda _: self.restore()))

    def act(self) -> None:
        """One step of anyone."""
        self.perform(self.rng.randrange(1 << 30), self.rng.randrange(1 << 30))

    def perform(self, which: int, whose: int) -> None:
        """The step that two numbers choose."""
        place = which % sum(weight for weight, _, _ in self.acts)
        for weight, name, step in self.acts:
            place -= weight
            if place < 0:
                self.done[name] += 1
                step(self.devices[whose % len(self.devices)])
                return

    def write(self, device: Device) -> None:
        """Some events, committed or waiting; a key epoch where it is due."""
        for _ in range(self.rng.choice((1, 1, 3, 3, 20, 70))):
            device.events += 1
            payload = {"n": device.events, "x": self.rng.random()}
            kind, severity = self.rng.choice(
                (
                    ("check.fail", Severity.CRITICAL),
                    ("gate.go", Severity.MARGINAL),
                    ("monitor.heartbeat", Severity.NEGLIGIBLE),
                )
            )
            device.journal.append(Entry(kind, severity, self.now, self.now, payload))
        if self.rng.random() < 0.8:
            device.journal.commit()
        if device.journal.rotation_due(self.now):
            device.journal.rotate(self.now)

    def tick(self, device: Device) -> None:
        """The uplink looks what is to do."""
        self.now += self.rng.randrange(SECOND // 5)
        if device.connection is None:
            if self.now >= max(device.again_at, device.blocked_until):
                self._connect(device)
            return
        session = device.connection.session
        assert session is not None
        try:
            device.connection.up += session.send(self.now)
        except DamagedInputError as error:
            raise AssertionError(f"the journal can't be read: {error}") from error
        self._look(device)

    def up(self, device: Device) -> None:
        """The registry takes a turn."""
        self._turn(device, "")

    def killed_before(self, device: Device) -> None:
        """The registry dies with what it has not committed."""
        self._turn(device, "before")

    def killed_after(self, device: Device) -> None:
        """The registry dies before it answers what it has committed."""
        self._turn(device, "after")

    def down(self, device: Device) -> None:
        """Answers reach the device."""
        connection = device.connection
        if connection is None or self.now < device.blocked_until:
            return
        assert connection.session is not None
        for _ in range(min(len(connection.down), self.rng.randrange(1, 4))):
            connection.session.take(connection.down.pop(0), self.now)
            if self._look(device):
                return

    def keep(self, device: Device) -> None:
        """Whoever owns the journal stores the receipts that came."""
        for note in device.waiting:
            device.journal.receive(note, cosigner_of(REGISTRY))
        device.waiting.clear()

    def duplicate(self, device: Device) -> None:
        """A message comes twice."""
        self._shuffle(device, lambda queue, place: queue.insert(place, queue[place]))

    def reorder(self, device: Device) -> None:
        """A message overtakes the one before it."""
        self._shuffle(device, lambda queue, place: queue.insert(max(place - 1, 0), queue.pop(place)))

    def cut(self, device: Device) -> None:
        """The connection breaks; what the registry's side has received of it may still come."""
        self._drop(device, self.rng.random() * 2)

    def partition(self, device: Device) -> None:
        """Nothing passes for seconds, hours, or three days."""
        device.blocked_until = self.now + self.rng.choice((5, 40, 600, 6 * 3600, 72 * 3600)) * SECOND

    def wait(self, _: Device) -> None:
        """Time passes."""
        self.now += self.rng.choices((1, 5, 11, 60, 900, 6 * 3600, 72 * 3600), (9, 9, 9, 4, 2, 1, 1))[0] * SECOND

    def crash(self, device: Device) -> None:
        """The robot loses power: what was not committed is gone, with the connection and the receipts not yet stored."""
        device.journal._store.close()
        device.waiting.clear()
        self._drop(device, 0.0)
        device.progress = Progress()
        device.boots += 1
        device.journal = self._opened(device.path, device.key, device.boots)

    def fill(self, device: Device) -> None:
        """Somebody copies the journal to a stick."""
        path = self.folder / f"stick-{self.done['stick filled']}"
        if len(self.sticks) < 6:
            fill(device.path, path, "test")
            self.sticks.append((device, path))

    def carry(self, _: Device) -> None:
        """A stick arrives at the registry, however old it is, and its receipt goes back or is lost."""
        if not self.sticks:
            return
        device, path = self.sticks.pop(self.rng.randrange(len(self.sticks)))
        messages = frames(path)
        hello = next(messages)
        assert isinstance(hello, wire.Hello)
        batches = [message for message in messages if isinstance(message, wire.Batch)]
        path.unlink()
        with self.store.read() as tx:
            robot = tx.robot(device.name)
            assert robot is not None
            log = tx.log(device.journal.log_id, robot)
        if not batches or batches[0].first > (log.size if log is not None else 0):
            return  # the registry was restored meanwhile: it is exported again
        with self.store.begin() as tx:
            log, conflict = self.server._ingest.carried(tx, hello, batches)
        assert not conflict, conflict
        if self.rng.random() < 0.7:
            device.waiting.append(log.receipt)

    def prune(self, device: Device) -> None:
        """Old payloads that are receipted are erased."""
        if self.rng.random() < 0.5:
            device.pruned = True
            Retention(age_s=3600.0).apply(device.journal, self.now, device.progress.held)

    def save(self) -> None:
        """A backup of the registry."""
        if self.rng.random() < 0.3:
            self.backup = back_up(self.store)

    def restore(self) -> None:
        """The registry's disk is lost, and its last backup restored."""
        if self.backup is not None and self.rng.random() < 0.3:
            self._registry_dies()
            restore(self.store, self.backup)

    def check(self) -> None:
        """Nobody is accused; every log that is held is a prefix of its device's."""
        with self.store.read() as tx:
            assert tx.connection.execute(sa.select(t.conflicts.c.words)).all() == []
            for device in self.devices:
                robot = tx.robot(device.name)
                assert robot is not None
                log = tx.log(device.journal.log_id, robot)
                if log is None or not log.size:
                    continue
                assert log.state == "open"
                with Reader(device.path) as reader:
                    assert reader.size() >= log.size and reader.tree(log.size).root() == log.tree.root()
                count = sa.select(sa.func.count(), sa.func.max(t.events.c.seq)).where(t.events.c.log == log.number)
                assert tuple(tx.connection.execute(count).one()) == (log.size, log.size - 1)

    def settle(self) -> None:
        """All links hold from now on: everything arrives within an hour of theirs, and is the same at both ends."""
        for device in self.devices:
            device.blocked_until = 0
            device.journal.commit()
        for _ in range(20_000):
            behind = [device for device in self.devices if self._behind(device)]
            if not behind:
                break
            self.now += SECOND // 4
            for device in behind:
                for step in (self.tick, self.up, self.down, self.keep):
                    step(device)
        else:
            raise AssertionError(f"does not settle: {[(d.name, d.progress) for d in self.devices if self._behind(d)]}")
        self.check()
        self._same()

    def close(self) -> None:
        """Give files back."""
        for device in self.devices:
            device.journal.close()
        self.server.close()
        self.store.close()

    def words(self) -> str:
        """What was done."""
        hours = (self.now - self.begun) / HOUR
        records = sum(device.journal.size for device in self.devices)
        acts = ", ".join(f"{count} {name}" for name, count in sorted(self.done.items()))
        return f"{sum(self.done.values())} steps over {hours:.0f} h, {records} records of {len(self.devices)} robots: {acts}"

    def _device(self, number: int) -> Device:
        name = f"robot-{number}"
        key = SigningKey(name, bytes([number + 7]) * 32)
        with self.store.begin() as tx:
            tx.enrol(name, key.verifier, f"{number:040}", 0)
        path = self.folder / f"{name}.db"
        return Device(name, key, path, self._opened(path, key, 1))

    def _opened(self, path: Path, key: SigningKey, boot: int) -> Journal:
        return Journal.create_or_open(
            path, key, boot_id=boot.to_bytes(16, "big"), epochs=True, entropy=self.rng.randbytes,
            wall=lambda: (self.now, WallStatus.UNSYNCHRONISED, -1),
        )  # fmt: skip

    def _connect(self, device: Device) -> None:
        self.connections += 1
        session = Session(
            Outbox(device.path), cosigner_of(REGISTRY), bytes(16), "test", device.waiting.append, device.progress
        )
        device.connection = Connection(self.connections.to_bytes(5, "big"), session)
        device.connection.up.append(session.hello(self.now))

    def _look(self, device: Device) -> bool:
        """Whether the session is over; the next one waits."""
        assert device.connection is not None and device.connection.session is not None
        over = device.connection.session.over
        if over is None:
            return False
        assert over.code not in NEVER, (device.name, over)
        self.done[f"({over.code})"] += 1
        device.again_at = self.now + self.rng.randrange(5 * SECOND)
        self._drop(device, self.rng.random() * 2)
        return True

    def _drop(self, device: Device, stays: float) -> None:
        """The device's end is gone; below 1, nothing of it comes any more."""
        if device.connection is not None:
            if stays > 1 and device.connection.up:
                device.connection.session = None
                device.stale.append(device.connection)
            device.connection = None

    def _registry_dies(self) -> None:
        self.server._peers.clear()
        for device in self.devices:
            device.stale.clear()
            self._drop(device, 0.0)

    def _turn(self, device: Device, dies: str) -> None:
        choices = [
            *device.stale,
            *([device.connection] if device.connection and self.now >= device.blocked_until else []),
        ]
        if not choices:
            return
        connection = self.rng.choice(choices)
        turn = _Turn()
        for _ in range(min(len(connection.up), self.rng.randrange(1, 5))):
            message = wire.decode_uplink(connection.up.pop(0))
            turn.items.append((connection.address, self.server._peer(connection.address, device.name), message))
        if connection in device.stale and not connection.up:
            device.stale.remove(connection)
        if not turn.items:
            return
        try:
            with self.store.begin() as tx:
                answers = list(self.server._answers(tx, turn))
                if dies == "before":
                    raise _KilledError
        except _KilledError:
            self._registry_dies()
            return
        if dies == "after":
            self._registry_dies()
        elif connection.session is not None:
            connection.down += [wire.encode(answer) for _, answer in answers]
        for _, answer in answers:
            if isinstance(answer, wire.Receipt):
                self._promised(device, answer)

    def _promised(self, device: Device, receipt: wire.Receipt) -> None:
        """What is receipted is on the disk before anybody can know of it."""
        size = open_receipt(receipt.note, cosigner_of(REGISTRY)).checkpoint.size
        with self.store.read() as tx:
            robot = tx.robot(device.name)
            assert robot is not None
            log = tx.log(device.journal.log_id, robot)
            assert log is not None and log.size >= size

    def _shuffle(self, device: Device, change: Callable[[list[bytes], int], None]) -> None:
        """Change the order of a session's messages; its greeting comes first and once: CURVE numbers what it carries."""
        connection = device.connection
        if connection is None:
            return
        queue = self.rng.choice((connection.up, connection.down))
        movable = [
            place for place, frame in enumerate(queue)
            if not frame[1:12].startswith((b"\xa5hello", b"\xa7welcome")) and (place == 0 or b"hello" not in queue[place - 1][:8])
            and (place == 0 or b"welcome" not in queue[place - 1][:10])
        ]  # fmt: skip
        if movable:
            change(queue, self.rng.choice(movable))

    def _behind(self, device: Device) -> bool:
        with Reader(device.path) as reader:
            receipt = reader.last_receipt()
            if reader.size() and (receipt is None or receipt[0] < reader.size()):
                return True
        with self.store.read() as tx:
            robot = tx.robot(device.name)
            assert robot is not None
            log = tx.log(device.journal.log_id, robot)
        return device.journal.size > 0 and (log is None or log.size < device.journal.size)

    def _same(self) -> None:
        """Bit by bit; a payload is missing only where the registry says that it lost it, and the device has erased it."""
        for device in self.devices:
            with self.store.read() as tx, Reader(device.path) as reader:
                robot = tx.robot(device.name)
                assert robot is not None
                log = tx.log(device.journal.log_id, robot)
                if log is None:
                    continue
                rows = tx.connection.execute(sa.select(t.losses).where(t.losses.c.log == log.number)).all()
                lost = {sequence for row in rows for sequence in range(row.first, row.end)}
                assert log.recovery == ""
                for row in rows:
                    assert open_receipt(row.receipt, cosigner_of(REGISTRY)).checkpoint.size >= row.end
                for ours, theirs in zip(tx.events(log.number, 0, 1 << 40), reader.rows(), strict=True):
                    assert ours.record == theirs.record
                    if ours.payload is None:
                        assert ours.seq in lost and theirs.payload is None, (device.name, ours.seq)
                    else:
                        assert theirs.payload in (None, ours.payload)


class _KilledError(Exception):
    """The registry's process is killed in a transaction."""


def simulate(folder: Path, steps: int, seed: int, *, restores: bool = True, each: int = 250) -> str:
    """So many steps, checked ``each`` so many, and the healing of it all."""
    world = World(folder, seed, restores=restores)
    try:
        for number in range(steps):
            world.act()
            if number % each == each - 1:
                world.check()
        world.settle()
        return world.words()
    finally:
        world.close()
