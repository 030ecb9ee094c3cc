"""Another receipt key for a registry: what goes on, what counts no more, and that no crash leaves it without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_registry_ingest import IDENTITY, Link, write

from edge_monitor.errors import VerificationError
from edge_monitor.evidence.packet import export
from edge_monitor.evidence.verify import Trust, verify
from edge_monitor.journal import Journal
from edge_monitor.journal.cosignatures import load_cosigner_key, open_receipt
from edge_monitor.journal.keys import SigningKey
from edge_monitor.sync import wire
from edge_registry import house as houses
from edge_registry.cli import group
from edge_registry.evidence import LogSource, chosen
from edge_registry.house import House, open_house, rotate
from edge_registry.ingest import Ingest
from edge_registry.store import Store

EXPORTER = SigningKey("assessor", bytes([3]) * 32)


@pytest.fixture
def house(tmp_path: Path, database: str) -> House:
    """A registry that knows a robot."""
    found = open_house(tmp_path / "registry", database, make="registry")
    store = found.store()
    with store.begin() as tx:
        tx.enrol("robot", IDENTITY.verifier, "x" * 40, 0)
    store.close()
    return found


@pytest.fixture
def store(house: House) -> Iterator[Store]:
    """Its database."""
    found = house.store()
    yield found
    found.close()


def linked(house: House, store: Store, journal: Path) -> Link:
    """A session of the robot with the registry as it is now."""
    link = Link(store, journal)
    link.ingest = Ingest(house.key, now=lambda: 1_800_000_000, former=house.former)
    return link


def test_after_a_rotation_new_records_are_receipted_by_the_new_key(house: House, store: Store, tmp_path: Path) -> None:
    """The log goes on where it was; no receipt of the old key is sent any more, and a packet over both needs both keys."""
    write(tmp_path / "j", 100)
    before = linked(house, store, tmp_path / "j")
    before.hello()
    first = before.sync()
    assert isinstance(first, wire.Receipt)
    old = house.receipts[0]
    kept = rotate(house)
    assert load_cosigner_key(kept) == old
    after = open_house(house.folder, house.database)
    new = after.receipts[0]
    assert (after.former, after.name) == ((old,), house.name) and new != old
    assert load_cosigner_key(house.folder / "receipts.pub") == new
    write(tmp_path / "j", 50, boot=2)
    again = linked(after, store, tmp_path / "j")
    welcome = again.hello()
    assert isinstance(welcome, wire.Welcome) and (welcome.receipt, welcome.size) == ("", before.outbox.head().size - 51)
    last = again.sync()
    assert isinstance(last, wire.Receipt)
    assert open_receipt(last.note, new).checkpoint.size == again.outbox.head().size
    with pytest.raises(VerificationError, match="no cosignature"):
        open_receipt(last.note, old)
    out = tmp_path / "p.zip"
    with store.read() as tx:
        export(LogSource(tx, chosen(tx, "robot", None), 60), out, EXPORTER, end=60)
    trust = [EXPORTER.verifier], [IDENTITY.verifier]
    assert verify(out, Trust(*trust, [new])).logs[0]["receipted"] == 0
    assert verify(out, Trust(*trust, [new, old])).logs[0]["receipted"] > 60


def test_what_comes_again_is_asked_to_go_on_where_its_receipt_is_of_the_old_key(
    house: House, store: Store, tmp_path: Path
) -> None:
    """A batch that is held already gets no receipt that the device could not open: it goes on from what is held."""
    write(tmp_path / "j", 100)
    before = linked(house, store, tmp_path / "j")
    before.hello()
    before.sync()
    rotate(house)
    again = linked(open_house(house.folder, house.database), store, tmp_path / "j")
    again.hello()
    load = again.outbox.load(0)
    assert load is not None
    batch = wire.Batch(again.session, load.first, load.end - load.first, load.data, load.checkpoint)
    with store.begin() as tx:
        (answer,) = again.ingest.batches(tx, again.robot, again.log_id, [batch])
    assert answer == wire.Want(again.outbox.head().size)


def test_a_receipt_of_the_old_key_still_proves_what_a_backup_lacks(house: House, store: Store, tmp_path: Path) -> None:
    """A registry that lost its records after a rotation takes them up again by the receipt that its old key gave."""
    write(tmp_path / "j", 100)
    before = linked(house, store, tmp_path / "j")
    before.hello()
    receipt = before.sync()
    assert isinstance(receipt, wire.Receipt)
    with Journal.create_or_open(tmp_path / "j", IDENTITY) as journal:
        journal.receive(receipt.note, house.receipts[0])
    rotate(house)
    after = open_house(house.folder, f"sqlite:///{tmp_path}/restored.db")
    restored = after.store()
    with restored.begin() as tx:
        tx.enrol("robot", IDENTITY.verifier, "x" * 40, 0)
    again = linked(after, restored, tmp_path / "j")
    again.hello()
    with restored.read() as tx:
        log = tx.log(again.log_id, again.robot)
        assert log is not None and log.recovery == receipt.note
    assert isinstance(again.sync(), wire.Receipt)
    with restored.read() as tx:
        log = tx.log(again.log_id, again.robot)
        assert log is not None and log.recovery == "" and log.size == again.outbox.head().size
    restored.close()


@pytest.mark.parametrize("step", range(4))
def test_a_crash_at_any_step_leaves_one_key_and_the_old_public_half(
    house: House, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Cut off before any of its four files, a rotation leaves the old key or the new one, and another run completes it."""
    real, left = houses._replace, [step]

    def failing(path: Path, line: str, mode: int) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(path, line, mode)

    old = house.receipts[0]
    monkeypatch.setattr(houses, "_replace", failing)
    with pytest.raises(KeyboardInterrupt):
        rotate(house)
    monkeypatch.setattr(houses, "_replace", real)
    found = open_house(house.folder, house.database)
    rotated = step > 1
    assert (found.receipts[0] == old) is not rotated
    assert found.former == ((old,) if rotated else ())
    assert load_cosigner_key(house.folder / "receipts.pub") == found.receipts[0]
    rotate(found)
    again = open_house(house.folder, house.database)
    assert again.former == ((found.receipts[0], old) if rotated else (old,))


def test_the_command_rotates_records_and_says_what_to_do(house: House, store: Store) -> None:
    """``edge-registry rotate`` records who and why, and a bundle of the old key is signed again by the new one."""
    options = ["--dir", str(house.folder), "--database", house.database]

    def run(*arguments: str) -> str:
        return CliRunner().invoke(group, [*arguments, *options], catch_exceptions=False).output

    people = house.folder.parent / "people.yaml"
    people.write_text("edge_monitor_people: 1\n")
    run("bundle", "--people", str(people))
    said = run("rotate", "--reason", "yearly", "--by", "erin")
    assert "receipts-1.pub" in said and "another token" in said
    assert "\npeople people.yaml " in run("bundle", "--again")
    with store.read() as tx:
        who = tx.connection.exec_driver_sql("select who, what, subject, words from decisions").one()
        newest = tx.bundle()
    assert tuple(who)[:3] == ("erin", "rotate", "registry") and "yearly" in who[3]
    assert newest is not None and newest[0] == 2
    assert house.key.text() not in "".join(
        path.read_text() for path in house.folder.iterdir() if path.suffix in (".key", ".pub")
    )
