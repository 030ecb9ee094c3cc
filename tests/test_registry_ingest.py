"""What a registry makes of batches: taken whole or not at all, receipted once durable, conflicts proven."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from edge_monitor.errors import VerificationError
from edge_monitor.journal import Entry, Journal, Severity, records
from edge_monitor.journal.cosignatures import cosigner_of, open_receipt
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.merkle import inclusion_proof, leaf_hash, root_from_inclusion
from edge_monitor.sync import wire
from edge_monitor.sync.outbox import Outbox
from edge_registry import tables as t
from edge_registry.conflicts import Proof, check
from edge_registry.ingest import Ingest
from edge_registry.store import Robot, Store

IDENTITY, REGISTRY = SigningKey("robot", bytes(range(32))), SigningKey("registry", bytes(range(1, 33)))


class Link:
    """A device's journal and a registry, without anything between them."""

    def __init__(self, store: Store, journal: Path) -> None:
        self.store, self.outbox = store, Outbox(journal)
        self.ingest = Ingest(REGISTRY, now=lambda: 1_800_000_000)
        self.robot = Robot("robot", IDENTITY.verifier, "x" * 40, "active")
        self.session = self.size = 0

    @property
    def log_id(self) -> bytes:
        """Of the journal."""
        return bytes.fromhex(self.outbox.head().origin.rpartition("/")[2].replace("-", ""))

    def hello(self, *, again: bool = False) -> wire.Downlink:
        """Begin a session; ``again``: after a welcome over the same connection."""
        head = self.outbox.head()
        with self.store.begin() as tx:
            (answer,) = self.ingest.hello(
                tx, self.robot, wire.Hello((1, 1), head.origin, bytes(16), head.note, head.receipt, 0, "t"), again=again
            )
        if isinstance(answer, wire.Welcome):
            self.session, self.size = answer.session, answer.size
        return answer

    def sync(self, first: int | None = None) -> wire.Downlink:
        """Send all there is; the last answer."""
        answer: wire.Downlink = wire.Want(0)
        for load in self.outbox.loads(self.size if first is None else first):
            batch = wire.Batch(self.session, load.first, load.end - load.first, load.data, load.checkpoint)
            with self.store.begin() as tx:
                answer = self.ingest.batches(tx, self.robot, self.log_id, [batch])[-1]
            if isinstance(answer, wire.Want):
                return self.sync(answer.size)
        return answer


def write(path: Path, count: int, boot: int = 1, *, value: float = 0.0) -> None:
    """A boot that writes so many events."""
    with Journal.create_or_open(path, IDENTITY, boot_id=bytes([boot]) * 16, epochs=True) as journal:
        for t in range(count):
            journal.append(Entry("check.fail", Severity.CRITICAL, t, t, {"value": value, "t": t}, now=t % 7 == 0))
            if journal.rotation_due(t):
                journal.rotate(t)


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    """A registry of one robot."""
    store = Store(database)
    with store.begin() as tx:
        tx.enrol("robot", IDENTITY.verifier, "x" * 40, 0)
    yield store
    store.close()


@pytest.fixture
def link(store: Store, tmp_path: Path) -> Link:
    """A journal of 1,000 events before the registry."""
    write(tmp_path / "j", 1000)
    return Link(store, tmp_path / "j")


def copy(link: Link, name: str) -> Link:
    """Another device with the same disk."""
    source = link.outbox.path
    target = source.with_name(name)
    for suffix in ("", "-wal"):
        file = source.with_name(source.name + suffix)
        if file.exists():
            target.with_name(name + suffix).write_bytes(file.read_bytes())
    return Link(link.store, target)


def test_everything_arrives_and_the_receipt_says_so(link: Link) -> None:
    """The registry holds the device's bytes, and its receipt covers the whole journal."""
    assert isinstance(link.hello(), wire.Welcome)
    answer = link.sync()
    assert isinstance(answer, wire.Receipt)
    receipt = open_receipt(answer.note, cosigner_of(REGISTRY))
    head = link.outbox.head()
    assert receipt.checkpoint.text() == head.note.rpartition("\n\n")[0] + "\n" and receipt.checkpoint.size == head.size
    with link.store.read() as tx:
        log = tx.log(link.log_id, link.robot)
        assert log is not None and log.size == head.size and tx.tree(log.number, log.size).root() == log.tree.root()


def test_every_record_is_proven_from_what_is_held(link: Link) -> None:
    """The path of each of 1,000 records leads to the root, of sizes on and between what is cached; a missing one is told."""
    link.hello()
    link.sync()
    with link.store.begin() as tx:
        log = tx.log(link.log_id, link.robot)
        assert log is not None and log.size > 1000
        leaves = [leaf_hash(event.record) for event in tx.events(log.number, 0, log.size)]
        for size in (1, 255, 256, 257, 768, 1000, log.size):
            subtrees, root = tx.subtrees(log.number), tx.tree(log.number, size).root()
            for place in {*range(0, size, 37), size - 1}:
                path = inclusion_proof(subtrees, place, size)
                assert root_from_inclusion(leaves[place], place, size, path) == root
        tx.connection.execute(sa.delete(t.events).where(t.events.c.log == log.number, t.events.c.seq == 700))
        tx.connection.execute(sa.delete(t.tiles).where(t.tiles.c.log == log.number, t.tiles.c.tile == 1))
        for level, index in ((0, 700), (6, 10), (8, 1), (9, 0)):
            with pytest.raises(VerificationError, match="missing"):
                tx.subtrees(log.number)(level, index)


def test_a_type_that_no_database_keeps_is_refused_and_the_database_not_failed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A robot that signs a type with a NUL in it is refused alone: what others sent in the same turn is taken."""
    monkeypatch.setattr(records, "_TYPES", frozenset({"check.fail", "check\0fail"}))
    with Journal.create_or_open(tmp_path / "j", IDENTITY) as journal:
        journal.append(Entry("check\0fail", Severity.CRITICAL, 1, 1, {}))
    link = Link(store, tmp_path / "j")
    link.hello()
    answer = link.sync()
    assert isinstance(answer, wire.Refused) and answer.code == "malformed" and "NUL" in answer.words


def test_a_turn_that_fails_midway_leaves_nothing_behind(link: Link) -> None:
    """Events that were on their way to the database when the turn failed are gone, and the next turn takes them."""
    link.hello()
    load = link.outbox.load(0)
    assert load is not None
    batch = wire.Batch(link.session, 0, load.end, load.data, load.checkpoint)
    with pytest.raises(ZeroDivisionError), link.store.begin() as tx:
        link.ingest.take(tx, link.robot, link.log_id, link.ingest.opened(tx, [batch]), [])
        _ = 1 // 0
    with link.store.read() as tx:
        log = tx.log(link.log_id, link.robot)
        assert log is not None and log.size == 0 and list(tx.events(log.number, 0, 9)) == []
    assert isinstance(link.sync(), wire.Receipt)


def test_batches_that_are_passed_over_do_not_shift_those_behind(link: Link) -> None:
    """Whichever of a turn's batches are asked for, in their order, each gives its own rows."""
    link.hello()
    loads = [link.outbox.load(first, 1) for first in range(0, 70, 7)]
    messages = [
        wire.Batch(link.session, one.first, one.end - one.first, one.data, "") for one in loads if one is not None
    ]
    assert len(messages) == 10
    with link.store.begin() as tx:
        opened = link.ingest.opened(tx, messages)
        for place in (0, 3, 4, 8, 9):
            message, rows = opened[place]
            assert rows().block.sequences == range(message.first, message.first + message.count)


def test_what_comes_again_gets_the_same_receipt_and_changes_nothing(link: Link) -> None:
    """A resent batch is receipted again, one out of order is answered with where to go on."""
    link.hello()
    first = link.sync()
    again = link.sync(0)
    assert first == again
    with link.store.begin() as tx:
        batch = wire.Batch(link.session, 5000, 1, b"", "")
        assert link.ingest.batches(tx, link.robot, link.log_id, [batch]) == [wire.Want(link.outbox.head().size)]


def test_an_older_session_is_superseded(link: Link) -> None:
    """After a second hello the first session's batches are refused."""
    link.hello()
    old = link.session
    link.hello()
    link.session, new = old, link.session
    answer = link.sync()
    assert new == old + 1 and isinstance(answer, wire.Refused) and answer.code == "superseded"


def test_a_changed_batch_is_refused_and_nothing_of_it_is_kept(link: Link) -> None:
    """Records that don't lead to the signed root leave no trace."""
    link.hello()
    load = link.outbox.load(0, 2000)
    other = link.outbox.load(load.end, 2000) if load else None
    assert load is not None and other is not None
    forged = load.checkpoint.replace(load.checkpoint.split("\n")[2], other.checkpoint.split("\n")[2])
    for note, code in ((other.checkpoint, "malformed"), (forged, "root")):
        with link.store.begin() as tx:
            batch = wire.Batch(link.session, 0, load.end, load.data, note)
            (answer,) = link.ingest.batches(tx, link.robot, link.log_id, [batch])
        assert isinstance(answer, wire.Refused) and answer.code == code
    with link.store.read() as tx:
        log = tx.log(link.log_id, link.robot)
        assert log is not None and log.size == 0


def test_an_old_disk_is_a_rollback_with_a_proof(link: Link, tmp_path: Path) -> None:
    """A device that offers less than it signed before, knowing that, is quarantined, and what it signed proves it."""
    old = copy(link, "old")
    write(link.outbox.path, 50, 2)
    link.hello()
    link.sync()
    answer = old.hello()
    assert isinstance(answer, wire.Welcome) and answer.size == link.outbox.head().size  # it may have been overtaken
    answer = old.hello(again=True)
    assert isinstance(answer, wire.Refused) and answer.code == "rollback"
    assert proof(link)[0].kind == "rollback"
    refused = link.hello()
    assert isinstance(refused, wire.Refused) and refused.code == "quarantined"


def test_a_clone_is_a_fork_with_a_proof(link: Link, tmp_path: Path) -> None:
    """Two devices with one key and one past: the second history is refused, and both are kept as proof."""
    link.hello()
    link.sync()
    clone = copy(link, "clone")
    write(link.outbox.path, 40, 2)
    write(clone.outbox.path, 90, 3, value=1.0)
    link.hello()
    link.sync()
    assert isinstance(clone.hello(), wire.Welcome)
    answer = clone.sync()
    assert isinstance(answer, wire.Refused) and answer.code == "fork"
    found, data = proof(link)
    assert found.kind == "fork" and found.ours.record != found.theirs.record
    for place in range(0, len(data), max(1, len(data) // 200)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(Exception):  # noqa: B017
            check(bytes(changed), IDENTITY.verifier)


def proof(link: Link) -> tuple[Proof, bytes]:
    """The one conflict that the registry keeps, checked by someone who trusts the identity key alone."""
    with link.store.read() as tx:
        ((data,),) = tx.connection.exec_driver_sql("select proof from conflicts").all()
    return check(data, IDENTITY.verifier), data
