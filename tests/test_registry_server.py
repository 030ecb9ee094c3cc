"""Robots and a registry over real sockets: enrolment, sync, receipts, and who is kept out."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from edge_monitor.errors import EdgeMonitorError
from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.cosignatures import cosigner_of
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.notes import sign_note
from edge_monitor.journal.verify import verify
from edge_monitor.sync import wire
from edge_monitor.sync.blobs import Blob, Shelf
from edge_monitor.sync.enrolment import Token, _asked, enrol, load_link, statement
from edge_monitor.sync.outbox import Outbox
from edge_monitor.sync.uplink import Registry, Uplink
from edge_registry.blobs import Blobs
from edge_registry.ingest import Ingest
from edge_registry.server import Addresses, Server
from edge_registry.store import Store

IDENTITY, REGISTRY = SigningKey("robot", bytes(range(32))), SigningKey("registry", bytes(range(1, 33)))


class Running:
    """A registry that serves in a thread."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self.store = Store(database)
        self.curve = zmq_pair()
        self.said: list[str] = []
        self.blobs = Blobs(folder / "blobs")
        self.start(Addresses("tcp://127.0.0.1:*", "tcp://127.0.0.1:*"))

    def start(self, addresses: Addresses) -> None:
        """Serve; the addresses stay the same from then on."""
        self.server = Server(self.store, Ingest(REGISTRY), self.blobs, addresses, self.curve, tell=self.said.append)
        self.addresses = self.server.addresses
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.server.run, args=(self.stop.is_set,), daemon=True)
        self.thread.start()

    def halt(self) -> None:
        """Stop serving."""
        self.stop.set()
        self.thread.join(10)
        self.server.close()

    def token(self, robot: str = "robot", expires_ns: int = 1 << 62) -> Token:
        """A one-time token."""
        secret = zmq.curve_keypair()[0][:24]
        with self.store.begin() as tx:
            tx.invite(robot, secret, expires_ns)
        receipts = cosigner_of(REGISTRY).text()
        return Token(robot, self.addresses.sync, self.addresses.enrol, self.curve[0], receipts, secret)


@pytest.fixture
def registry(tmp_path: Path, database: str) -> Iterator[Running]:
    """A registry without robots."""
    running = Running(tmp_path, database)
    yield running
    running.halt()
    running.store.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A robot's open journal with 500 events."""
    with Journal.create_or_open(tmp_path / "journal.db", IDENTITY, epochs=True) as journal:
        write(journal, 500)
        yield journal


def write(journal: Journal, count: int) -> None:
    """So many more events, durable."""
    for t in range(count):
        journal.append(Entry("check.fail", Severity.CRITICAL, t, t, {"value": t / 7, "subject": "speed"}))
        if journal.rotation_due(t):
            journal.rotate(t)
    journal.commit()


#: Receipts that wait for the thread that owns the journal.
kept: deque[Callable[[], object]] = deque()


def until(done: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something; what the journal is to keep is kept meanwhile."""
    end = time.monotonic() + seconds
    while not done() or kept:
        while kept:
            kept.popleft()()
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def linked(registry: Running, journal: Journal, link: Registry, shelf: Shelf | None = None) -> Uplink:
    """An uplink that runs."""

    def keep(note: str) -> None:
        kept.append(lambda: journal.receive(note, link.receipts))

    uplink = Uplink(link, journal.path, bytes(16), "test", keep, shelf=shelf)
    uplink.start()
    return uplink


def test_a_robot_enrols_once_and_its_journal_arrives(registry: Running, journal: Journal, tmp_path: Path) -> None:
    """From token to receipt: everything that is written while connected is receipted, and the journal proves it."""
    token = registry.token()
    enrol(token, IDENTITY, tmp_path / "link")
    with pytest.raises(EdgeMonitorError, match="used or expired"):
        enrol(token, IDENTITY, tmp_path / "again")
    link = load_link(tmp_path / "link")
    uplink = linked(registry, journal, link)
    for _ in range(3):
        until(lambda: uplink.progress.receipted == journal.size)
        write(journal, 100)
    until(lambda: uplink.progress.receipted == journal.size)
    uplink.stop()
    report = verify(journal.path, [IDENTITY.verifier], [cosigner_of(REGISTRY)])
    assert report.ok and report.receipted == journal.size


def test_unknown_keys_and_expired_tokens_stay_out(registry: Running, journal: Journal, tmp_path: Path) -> None:
    """A key that nobody enrolled is told so, and is let in by itself once it is enrolled."""
    with pytest.raises(EdgeMonitorError, match="expired"):
        enrol(registry.token(expires_ns=1), IDENTITY, tmp_path / "late")
    with pytest.raises(EdgeMonitorError, match="identity key"):
        forge(registry.token())
    public, secret = zmq_pair()
    link = Registry(registry.addresses.sync, registry.curve[0], cosigner_of(REGISTRY), public, secret)
    uplink = linked(registry, journal, link)
    until(lambda: uplink.progress.refusal is not None)
    assert uplink.progress.refusal is not None and uplink.progress.refusal.code == "unknown"
    with registry.store.begin() as tx:
        tx.enrol("robot", IDENTITY.verifier, public, 0)
    until(lambda: uplink.progress.receipted == journal.size)
    uplink.stop()


def forge(token: Token) -> None:
    """Someone enrols with a statement that another key than the robot's signed."""
    note = sign_note(statement("robot", "x" * 40, token.secret), SigningKey("robot", bytes(32)))
    answer = _asked(token, wire.Enrol(token.secret, note, IDENTITY.verifier.text()), *zmq_pair())
    assert isinstance(answer, wire.Refused)
    raise EdgeMonitorError(answer.words)


def zmq_pair() -> tuple[str, str]:
    """A CURVE key pair."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    return public, secret


def test_a_registry_that_comes_and_goes_loses_nothing(registry: Running, journal: Journal, tmp_path: Path) -> None:
    """Over five restarts of the registry everything arrives once, and in order."""
    enrol(registry.token(), IDENTITY, tmp_path / "link")
    uplink = linked(registry, journal, load_link(tmp_path / "link"))
    for _ in range(5):
        write(journal, 200)
        time.sleep(0.05)
        registry.halt()
        write(journal, 50)
        registry.start(registry.addresses)
    until(lambda: uplink.progress.receipted == journal.size, 60)
    uplink.stop()
    with registry.store.read() as tx:
        assert [event.seq for event in tx.events(1, 0, 1 << 40)] == list(range(journal.size))


def test_files_follow_the_events_and_are_there_when_their_digest_holds(
    registry: Running, journal: Journal, tmp_path: Path
) -> None:
    """A black box arrives whole, over a restart in its middle."""
    file = tmp_path / "run.tape"
    file.write_bytes(bytes(range(256)) * 8000)
    shelf = Shelf(lambda: [Blob(file, "tape")])
    enrol(registry.token(), IDENTITY, tmp_path / "link")
    uplink = linked(registry, journal, load_link(tmp_path / "link"), shelf)
    until(lambda: any((tmp_path / "blobs" / "partial").iterdir()))
    registry.halt()
    registry.start(registry.addresses)
    until(lambda: bool(shelf.delivered), 60)
    uplink.stop()
    (digest,) = shelf.delivered
    assert registry.blobs.path(digest).read_bytes() == file.read_bytes()


def test_an_old_disk_accuses_itself_and_a_head_that_was_overtaken_nobody(
    registry: Running, journal: Journal, tmp_path: Path
) -> None:
    """A hello that another carrier overtakes is only welcomed; a journal that is short, read anew, is a rollback."""
    enrol(registry.token(), IDENTITY, tmp_path / "link")
    link = load_link(tmp_path / "link")
    old = tmp_path / "old.db"
    with sqlite3.connect(journal.path) as source, sqlite3.connect(old) as target:
        source.backup(target)
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.curve_serverkey, socket.linger = link.server.encode(), 0
    socket.curve_publickey, socket.curve_secretkey = link.public.encode(), link.secret.encode()
    socket.connect(link.address)
    head = Outbox(journal.path).head()
    hello = wire.encode(wire.Hello((1, 1), head.origin, bytes(16), head.note, "", 0, "test"))
    write(journal, 100)
    uplink = linked(registry, journal, link)
    until(lambda: uplink.progress.receipted == journal.size)
    uplink.stop()
    socket.send(hello)
    assert socket.poll(10_000)
    answer = wire.decode_downlink(socket.recv())
    assert isinstance(answer, wire.Welcome) and answer.size == journal.size
    socket.close()
    restored = Uplink(link, old, bytes(16), "test", lambda note: None)
    restored.start()
    until(lambda: restored.progress.refusal is not None)
    restored.stop()
    assert restored.progress.refusal is not None and restored.progress.refusal.code == "rollback"
