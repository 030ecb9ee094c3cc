"""A registry that was restored from an old backup: it goes on from its own size, and says what it lost for good."""

# ruff: noqa: F811  (fixtures of another file)

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from chaos.backups import back_up, restore
from test_registry_ingest import IDENTITY, REGISTRY, Link, copy, link, store, write  # noqa: F401

from edge_monitor.journal import Journal
from edge_monitor.journal.cosignatures import cosigner_of, open_receipt
from edge_monitor.journal.reader import Reader
from edge_monitor.sync import wire
from edge_monitor.sync.retention import Retention
from edge_registry import tables as t


def receipted(link: Link) -> int:
    """Sync all there is, and keep the receipt in the journal."""
    link.hello()
    answer = link.sync()
    assert isinstance(answer, wire.Receipt)
    with Journal.create_or_open(link.outbox.path, IDENTITY, epochs=True) as journal:
        return journal.receive(answer.note, cosigner_of(REGISTRY))


def pruned(path: Path, end: int) -> None:
    """Erase the payloads below ``end`` on the device."""
    with Journal.create_or_open(path, IDENTITY, epochs=True) as journal:
        assert journal.prune(end, lambda kind: False, 1 << 20) == end


def held(link: Link) -> list[tuple[bytes, bytes | None]]:
    """Records and payloads at the registry."""
    with link.store.read() as tx:
        log = tx.log(link.log_id, link.robot)
        assert log is not None
        return [(event.record, event.payload) for event in tx.events(log.number, 0, 1 << 40)]


def losses(link: Link) -> list[tuple[int, int, str]]:
    """What the registry says that it lost."""
    with link.store.read() as tx:
        rows = tx.connection.execute(sa.select(t.losses).order_by(t.losses.c.first))
        return [(row.first, row.end, row.receipt) for row in rows]


def recovering(link: Link) -> str:
    """The receipt up to which the log is in recovery."""
    with link.store.read() as tx:
        log = tx.log(link.log_id, link.robot)
        assert log is not None
        return log.recovery


@pytest.mark.parametrize("held_then", [0, 1000])
def test_after_an_old_backup_everything_comes_again(link: Link, held_then: int) -> None:
    """What the device still has comes back bit by bit, nobody is accused, and the recovery ends."""
    backup = back_up(link.store)
    if held_then:
        receipted(link)
        backup = back_up(link.store)
    write(link.outbox.path, 300, 2)
    size = receipted(link)
    before = held(link)
    restore(link.store, backup)
    welcome = link.hello()
    assert isinstance(welcome, wire.Welcome) and welcome.size < size
    assert open_receipt(recovering(link), cosigner_of(REGISTRY)).checkpoint.size == size
    answer = link.sync()
    assert isinstance(answer, wire.Receipt)
    assert open_receipt(answer.note, cosigner_of(REGISTRY)).checkpoint.size == link.outbox.head().size
    assert held(link)[:size] == before and losses(link) == [] and recovering(link) == ""


def test_what_the_device_has_erased_meanwhile_is_a_loss_with_the_receipt_as_its_proof(link: Link) -> None:
    """Records come back, payloads that are gone do not: the registry says which, and its own receipt that it held them."""
    backup = back_up(link.store)
    size = receipted(link)
    records = [record for record, _ in held(link)]
    pruned(link.outbox.path, 600)
    restore(link.store, backup)
    link.hello()
    link.sync()
    now = held(link)
    assert [record for record, _ in now] == records + [record for record, _ in now[size:]]
    lost = [sequence for sequence, (_, payload) in enumerate(now) if payload is None]
    found = losses(link)
    assert lost == [sequence for first, end, _ in found for sequence in range(first, end)] and len(lost) > 590
    for _, end, note in found:
        proof = open_receipt(note, cosigner_of(REGISTRY))
        assert proof.checkpoint.size == size >= end
        with Reader(link.outbox.path) as reader:
            assert reader.tree(size).root() == proof.checkpoint.root
    assert recovering(link) == ""


def test_another_history_than_the_one_that_was_receipted_is_refused(link: Link) -> None:
    """Who uses a registry's lost memory to bring other records than it has receipted once is quarantined."""
    backup = back_up(link.store)
    other = copy(link, "other")
    write(link.outbox.path, 80, 2)
    write(other.outbox.path, 200, 3, value=1.0)
    receipted(link)
    restore(link.store, backup)
    receipt = link.outbox.head().receipt
    head = other.outbox.head()
    with link.store.begin() as tx:
        (welcome,) = link.ingest.hello(
            tx, link.robot, wire.Hello((1, 1), head.origin, bytes(16), head.note, receipt, 0, "t")
        )
    assert isinstance(welcome, wire.Welcome)
    other.session = welcome.session
    answer = other.sync(0)
    assert isinstance(answer, wire.Refused) and answer.code == "fork", answer
    assert isinstance(link.hello(), wire.Refused) and recovering(link) == receipt


def test_a_foreign_receipt_begins_no_recovery(link: Link) -> None:
    """A receipt of another key, or for another log, changes nothing."""
    size = receipted(link)
    backup = back_up(link.store)
    head = link.outbox.head()
    for note in (head.note, head.receipt.replace(head.origin, head.origin[:-1] + "0"), "nonsense"):
        restore(link.store, backup)
        with link.store.begin() as tx:
            (welcome,) = link.ingest.hello(
                tx, link.robot, wire.Hello((1, 1), head.origin, bytes(16), head.note, note, 0, "t")
            )
        assert isinstance(welcome, wire.Welcome) and welcome.size == size and recovering(link) == ""


def test_nothing_is_erased_that_the_registry_says_it_no_longer_holds(link: Link) -> None:
    """After a welcome with less than is receipted, payloads above it stay until they are receipted again."""
    size = receipted(link)
    rule = Retention(age_s=1.0)
    with Journal.create_or_open(link.outbox.path, IDENTITY, epochs=True) as journal:
        for held_now, most in ((100, 100), (-1, size)):
            while rule.apply(journal, 1 << 62, held_now):
                pass
            with Reader(journal.path) as reader:
                assert reader.pruned() == most
