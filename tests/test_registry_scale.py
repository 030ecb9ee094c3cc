"""Several registry processes on one PostgreSQL database, with devices that move between them, and an auditor beside."""

from __future__ import annotations

import json
import re
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
from edge_monitor.sync.uplink import Registry, Uplink
from edge_registry.house import House, open_house

MAIN = [sys.executable, "-c", "from edge_registry.cli import main; main()"]
DEVICES, ROUNDS, EVENTS = 4, 4, 60


class Device:
    """A robot that writes, and is linked with one registry process at a time."""

    def __init__(self, folder: Path, house: House, number: int) -> None:
        self.house = house
        self.key = SigningKey(f"robot-{number}", bytes([number]) * 32)
        self.journal = Journal.create_or_open(folder / f"{number}.db", self.key, epochs=True)
        self.curve = [key.decode() for key in zmq.curve_keypair()]
        self.kept: deque[Callable[[], object]] = deque()
        self.uplink: Uplink | None = None

    def link(self, address: str) -> None:
        """Leave the registry process that it is linked with, if any, for another."""
        self.leave()
        receipts = cosigner_of(self.house.key)
        registry = Registry(address, self.house.curve[0], receipts, *self.curve)

        def keep(note: str) -> None:
            self.kept.append(lambda: self.journal.receive(note, receipts))

        self.uplink = Uplink(registry, self.journal.path, bytes(16), "test", keep)
        self.uplink.start()

    def leave(self) -> None:
        """End the session."""
        if self.uplink is not None:
            self.uplink.stop()

    def write(self) -> None:
        """Some events in commits of ten."""
        for t in range(EVENTS):
            self.journal.append(Entry("check.fail", Severity.CRITICAL, t, t, {"t": t}, now=t % 10 == 0))
        self.journal.commit()

    def receipted(self) -> bool:
        """Whether everything is."""
        while self.kept:
            self.kept.popleft()()
        return self.uplink is not None and self.uplink.progress.receipted == self.journal.size


def test_two_processes_serve_one_database(tmp_path: Path, postgres_database: str) -> None:
    """Devices on both processes, each moving over and over, are receipted whole; a tail beside sees each record once."""
    options = ["--dir", str(tmp_path / "registry"), "--database", postgres_database]
    house = open_house(tmp_path / "registry", postgres_database, make="registry")
    devices = [Device(tmp_path, house, number) for number in range(1, DEVICES + 1)]
    store = house.store()
    with store.begin() as tx:
        for device in devices:
            tx.enrol(device.key.verifier.name, device.key.verifier, device.curve[0], 0)
    store.close()
    serve = [*MAIN, "serve", *options, "--sync", "tcp://127.0.0.1:*", "--enrol", "tcp://127.0.0.1:*"]
    servers = [subprocess.Popen(serve, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    seen = tmp_path / "seen.ndjson"
    with seen.open("wb") as stream:
        auditor = subprocess.Popen([*MAIN, "tail", *options, "--follow", "--every", "0.05"], stdout=stream)
    try:
        addresses = []
        for server in servers:
            assert server.stderr is not None
            match = re.search(r"records at (\S+),", server.stderr.readline())
            assert match is not None
            addresses.append(match[1])
        for turn in range(ROUNDS):
            for number, device in enumerate(devices):
                device.link(addresses[(turn + number) % 2])
                device.write()
            end = time.monotonic() + 60
            while sum(device.receipted() for device in devices) < DEVICES:
                assert time.monotonic() < end, [device.uplink.progress for device in devices if device.uplink]
                time.sleep(0.02)
        expected = {(d.key.verifier.name, seq) for d in devices for seq in range(d.journal.size)}
        while len(seen.read_bytes().splitlines()) < len(expected):
            assert time.monotonic() < end, "the auditor has not seen everything"
            time.sleep(0.05)
    finally:
        for device in devices:
            device.leave()
        for process in (*servers, auditor):
            process.terminate()
        said = [process.communicate()[1] for process in servers]
        auditor.wait()
    lines = [json.loads(line) for line in seen.read_bytes().splitlines()]
    assert len(lines) == len(expected) and {(line["robot"], line["seq"]) for line in lines} == expected
    assert not any("database failed" in words for words in said), said
    for device in devices:
        device.journal.close()
