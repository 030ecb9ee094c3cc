"""``edge-registry serve`` as a process that is killed and started again, and a robot's journal with an uplink to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import zmq

from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.cosignatures import cosigner_of
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.reader import Reader
from edge_monitor.sync import uplink as uplink_module
from edge_monitor.sync.uplink import Registry, Uplink
from edge_registry.house import House, open_house
from edge_registry.store import Store

PROGRAM = Path(__file__).with_name("dying_registry.py")


class Serving:
    """A registry's process over one folder; its addresses stay the same."""

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self.house: House = open_house(folder / "registry", database, make="registry")
        self.store: Store = self.house.store()
        self.ports = free_ports(2)
        self.process: subprocess.Popen[str] | None = None
        self._folder = folder / "registry"

    def start(self, dies: str = "", at: int = 0) -> None:
        """Serve; ``dies``: by ``kill -9`` of itself, ``before`` or ``after`` commit number ``at`` that holds batches."""
        sync, enrol = (f"tcp://127.0.0.1:{port}" for port in self.ports)
        self.process = subprocess.Popen(
            [
                sys.executable, PROGRAM, dies or "never", str(at), "serve", "--dir", self._folder,
                "--database", self.house.database, "--sync", sync, "--enrol", enrol,
            ],
            stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert self.process.stderr is not None and "takes records" in self.process.stderr.readline()

    def kill(self) -> None:
        """``kill -9``, now."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def died(self) -> bool:
        """Whether it has killed itself."""
        return self.process is not None and self.process.poll() is not None

    def close(self) -> None:
        """End it, and give the database back."""
        self.kill()
        self.store.close()


class Robot:
    """A journal, and an uplink in a thread; receipts wait for whoever calls ``keep``."""

    def __init__(
        self, folder: Path, serving: Serving, port: int | None = None, *, rate: int = 0, name: str = "robot"
    ) -> None:
        self.key = SigningKey(name, os.urandom(32))
        self.path = folder / f"{name}.db"
        self.journal = Journal.create_or_open(self.path, self.key, epochs=True)
        self.serving = serving
        self.receipts = cosigner_of(serving.house.key)
        self.written = 0
        self._waiting: deque[str] = deque()
        public, secret = (key.decode() for key in zmq.curve_keypair())
        with serving.store.begin() as tx:
            tx.enrol(name, self.key.verifier, public, 0)
        address = f"tcp://127.0.0.1:{port or serving.ports[0]}"
        link = Registry(address, serving.house.curve[0], self.receipts, public, secret)
        self.uplink = Uplink(link, self.path, bytes(16), "chaos", self._waiting.append, rate=rate)

    def write(self, count: int, severity: Severity = Severity.NEGLIGIBLE) -> None:
        """So many more events, durable."""
        for _ in range(count):
            self.written += 1
            payload = {"n": self.written, "x": self.written / 7}
            self.journal.append(Entry("check.fail", severity, self.written, self.written, payload))
            if self.journal.rotation_due(self.written):
                self.journal.rotate(self.written)
        self.journal.commit()

    def keep(self) -> None:
        """Store the receipts that came."""
        while self._waiting:
            self.journal.receive(self._waiting.popleft(), self.receipts)

    def receipted(self) -> int:
        """Records of the journal that are receipted, by the journal."""
        with Reader(self.path) as reader:
            found = reader.last_receipt()
        return found[0] if found else 0

    def until(self, done: Callable[[], bool], seconds: float = 120.0) -> None:
        """Keep receipts until something holds."""
        end = time.monotonic() + seconds
        while not done():
            self.keep()
            assert time.monotonic() < end, (self.uplink.progress, self.journal.size)
            time.sleep(0.01)

    def arrived(self, seconds: float = 120.0) -> None:
        """Until all is receipted; then both ends hold the same, and the journal's receipts are the registry's."""
        self.until(lambda: self.receipted() == self.journal.size, seconds)
        self.same()

    def same(self) -> None:
        """What the journal has a receipt for is at the registry, bit by bit, under that very receipt."""
        size = self.receipted()
        with self.serving.store.read() as tx, Reader(self.path) as reader:
            robot = tx.robot(self.key.verifier.name)
            assert robot is not None
            log = tx.log(self.journal.log_id, robot)
            if log is None:
                assert size == 0
                return
            assert log.size >= size
            theirs = tx.events(log.number, 0, log.size)
            for ours, held in zip(reader.rows(0, log.size), theirs, strict=True):
                assert (ours.record, ours.salt, ours.payload) == (held.record, held.salt, held.payload)
            rows = tx.connection.exec_driver_sql(f"select size, note from receipts where log = {log.number}")
            given = {row.size: row.note for row in rows}
            for receipted, note in reader.receipts():
                assert given[receipted] == note

    def close(self) -> None:
        """End the uplink and the journal."""
        self.uplink.stop(10)
        self.journal.close()


def impatient() -> None:
    """Waits of minutes become seconds: what is tested is the order of things."""
    uplink_module.LONGEST_WAIT_S = 1.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
