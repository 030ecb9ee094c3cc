"""A registry with a robot whose black box kept incidents: a real run of the monitor, journal, tape and keeper, all delivered."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from incident_cases import KEY, MS, SECOND, Vehicle, journal_of
from pages_world import World, send, world

from edge_monitor.core.messages import Batch
from edge_monitor.core.samples import MESSAGE
from edge_monitor.sync import wire
from edge_monitor.sync.outbox import Outbox
from edge_registry.blobs import Blobs
from edge_registry.ingest import Ingest

ENVELOPE = """
edge_monitor: 1
envelope: {id: kept, version: 1, vehicle: bench}
signals:
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 300 ms}
  mode: {topic: /odom, field: mode, max_age: 1 s}
  twice: {expr: "speed + speed", unit: m/s}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, leave: 11, severity: marginal}
  doubled: {kind: bounds, signal: twice, max: 1000, severity: marginal}
  in_auto: {kind: one_of, signal: mode, values: [AUTO], severity: marginal}
gates:
  drive: {require: all, criteria: [speed_limit], lease: 1 s}
black_box: {before: 4 s, after: 1 s}
"""


@dataclass
class Driven:
    """The registry, the vehicle, its log, and its kept incidents; the last was not delivered."""

    world: World
    vehicle: Vehicle
    log: str
    incidents: list[Path] = field(default_factory=list)

    def page(self, sequence: int, rest: str = "") -> str:
        """The path of a record's signals."""
        return f"/logs/{self.log}/records/{sequence}/signals{rest}"

    def answers(self, sequence: int, rest: str = "") -> str:
        """The same for programs."""
        return f"/api/v1/robots/robot/records/{self.log}/{sequence}/signals{rest}"

    def record(self, kind: str, number: int = 0) -> int:
        """The sequence of a record, by its type and how many of them are before it."""
        log = f"(select log from logs where origin like '%{self.log}')"
        query = f"select seq from events where log = {log} and type = '{kind}' order by seq"
        with self.world.store.read() as tx:
            rows = tx.connection.exec_driver_sql(query + f" limit 1 offset {number}").all()
        return int(rows[0][0])


def say(vehicle: Vehicle, seconds: float, speed: float, mode: str) -> None:
    """Time goes on, with 40 messages every 100 ms."""
    for _ in range(round(seconds * 10)):
        vehicle.now += 100 * MS
        values = (speed + vehicle.chance.random(40)).tolist()
        bodies = [msgspec.msgpack.encode({"speed": value, "mode": mode}) for value in values]
        rows = np.zeros(len(bodies), MESSAGE)
        sizes = [len(body) for body in bodies]
        rows["t"], rows["size"], rows["start"] = vehicle.now, sizes, np.cumsum([0, *sizes[:-1]])
        vehicle.lane._items.append(Batch(np.frombuffer(b"".join(bodies), np.uint8), rows))
        vehicle.lane.now = vehicle.now
        vehicle.loop.turn(0)


def deliver(world: World, robot: str, kind: str, path: Path, name: str = "") -> bytes:
    """A robot's file into the registry, by its messages; answers its SHA-256."""
    data, blobs = path.read_bytes(), Blobs(world.house.blobs)
    digest = hashlib.sha256(data).digest()
    with world.store.begin() as tx:
        known = tx.robot(robot)
        assert known is not None
        assert blobs.offered(tx, known, wire.BlobOffer(digest, len(data), kind, name or path.name))
        blobs.part(tx, known, wire.BlobPart(digest, 0, data))
    assert blobs.path(digest).is_file()
    return digest


def driven(folder: Path) -> Driven:
    """A run with three incidents: two are delivered, and the envelope."""
    (folder / "vehicle").mkdir()
    vehicle = Vehicle(folder / "vehicle", text=ENVELOPE)
    say(vehicle, 8, 5, "AUTO")
    for number in range(3):
        say(vehicle, 0.3, 20, "MANUAL")
        say(vehicle, 0.2, 5, "MANUAL")
        vehicle.now += 700 * MS  # nothing comes for so long: the value counts no more
        say(vehicle, 9, 5, "AUTO")
        vehicle.kept(number + 1)
    incidents = vehicle.kept(3)
    vehicle.loop.end()
    found = world(folder, missions=False)
    send(found.store, Ingest(found.house.key), KEY, journal_of(vehicle.folder))
    found.serving.follower.catch_up()
    log = Outbox(journal_of(vehicle.folder)).head().origin.rpartition("/")[2]
    envelope = folder / "kept.yaml"
    envelope.write_text(ENVELOPE)
    deliver(found, "robot", "envelope", envelope)
    for path in incidents[:2]:
        deliver(found, "robot", "incident", path)
    return Driven(found, vehicle, log, incidents)


__all__ = ["ENVELOPE", "MS", "SECOND", "Driven", "deliver", "driven", "say"]
