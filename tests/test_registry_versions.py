"""Robots and registries of different versions: what one does not know it keeps, and reads it once it does."""

# ruff: noqa: F811  (fixtures of another file)

from __future__ import annotations

from pathlib import Path

import pytest
from test_registry_ingest import IDENTITY, REGISTRY, Link, link, store  # noqa: F401

from edge_monitor.journal import Entry, Journal, Severity, records
from edge_monitor.journal.cosignatures import cosigner_of, open_receipt
from edge_monitor.journal.reader import Reader
from edge_monitor.sync import packing, wire
from edge_registry import ingest
from edge_registry.store import Store


def test_records_of_a_later_version_are_kept_receipted_and_read_after_an_update(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To an older registry they are bytes under a signed root, sent again or not; the newer one finds their columns."""
    path = tmp_path / "new.db"
    with Journal.create_or_open(path, IDENTITY) as journal:
        for t in range(300):
            journal.append(Entry("check.fail", Severity.CRITICAL, t, t + 1, {"t": t}))
    robot = Link(store, path)
    with monkeypatch.context() as older:
        for module in (records, packing, ingest):
            older.setattr(module, "VERSION", records.VERSION - 1)
        robot.hello()
        answer = robot.sync()
        assert isinstance(answer, wire.Receipt) and robot.sync(0) == answer
        assert open_receipt(answer.note, cosigner_of(REGISTRY)).checkpoint.size == 300
        with store.read() as tx, Reader(path) as reader:
            log = tx.log(robot.log_id, robot.robot)
            assert log is not None
            held = list(tx.events(log.number, 0, 300))
            assert {event.type for event in held} == {""}
            assert [event.record for event in held] == [row.record for row in reader.rows()]
        with store.begin() as tx:
            tx.connection.exec_driver_sql("update settings set value = '0' where key = 'records'")
    newer = Store(store.engine.url.render_as_string(hide_password=False))
    with newer.read() as tx:
        found = [(event.type, event.t_effective, event.t_decided) for event in tx.events(log.number, 0, 300)]
        assert found == [("check.fail", t, t + 1) for t in range(300)]
    newer.close()


@pytest.mark.parametrize(("protocols", "taken"), [((1, 1), True), ((0, 3), True), ((2, 3), False), ((0, 0), False)])
def test_protocols_are_agreed_on_or_the_older_side_is_named(
    link: Link, protocols: tuple[int, int], taken: bool
) -> None:
    """A device that speaks this registry's protocol among others is welcomed in it; the others are told to update."""
    head = link.outbox.head()
    hello = wire.Hello(protocols, head.origin, bytes(16), head.note, "", 0, "t")
    with link.store.begin() as tx:
        (answer,) = link.ingest.hello(tx, link.robot, hello)
    if taken:
        assert isinstance(answer, wire.Welcome) and answer.protocol == wire.PROTOCOL
    else:
        assert isinstance(answer, wire.Refused) and answer.code == "version" and "update" in answer.words
