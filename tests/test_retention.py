"""Windows per event class: nothing goes before its time, everything that goes or is refused is written down, and proofs hold."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from catalogue_case import KEYS, World

from edge_monitor.errors import ConfigError, UsageError
from edge_monitor.evidence.packet import export
from edge_monitor.evidence.verify import Trust, verify
from edge_monitor.journal import Digests, Entry, Severity
from edge_monitor.journal.cosignatures import cosigner_of
from edge_registry import retention, tables
from edge_registry.configuration import DAY_S, DEFAULT_S, FLOOR_S, Configuration, ConfigurationError, load, loads
from edge_registry.evidence import LogSource, chosen
from edge_registry.siem.shipment import shipment
from edge_registry.tail import Cursor, Tail
from edge_registry.web import tables as w
from edge_registry.web.follower import Follower
from edge_registry.web.pages_store import PagesStore

SHORT = Configuration(windows={"check.*": FLOOR_S, "check.pass": 2 * FLOOR_S})


@pytest.fixture
def world(tmp_path: Path, database: str) -> Iterator[World]:
    """A registry that holds records of several types, two of which name erin."""
    world = World(tmp_path, database)
    entries = [
        Entry("check.pass", Severity.NEGLIGIBLE, 9, 9, {"value": 1.5}),
        Entry("handover.accepted", Severity.NEGLIGIBLE, 10, 10, {"schema": 1, "seen": {"people": ["erin"]}}),
        Entry("override.start", Severity.MARGINAL, 11, 11, {"note": "nothing of erin's"}, actor="erin"),
        Entry("gate.go", Severity.NEGLIGIBLE, 12, 12, {"note": "not of erin alone"}),
    ]
    world.drive(Digests(b"\xee" * 32, b"", b"1"), time.time_ns(), entries, count=20)
    world.sync()
    yield world
    world.close()


def held(world: World) -> list[str]:
    """Types of the records whose payloads are held, in order."""
    with world.store.read() as tx:
        query = sa.select(tables.events.c.type).where(
            tables.events.c.payload.is_not(None), tables.events.c.salt.is_not(None)
        )
        return list(tx.connection.execute(query.order_by(tables.events.c.seq)).scalars())


def log_of(world: World) -> list[tuple[str, str, int]]:
    """(what, outcome, payloads) of all that is written down."""
    with world.store.read() as tx:
        return [(one["what"], one["outcome"], one["payloads"]) for one in retention.written_down(tx)]


def verified(world: World, out: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """What a packet of everything says to a stranger: failures, and what is missing."""
    with world.store.read() as tx:
        export(LogSource(tx, chosen(tx, "robot-7", None)), out, KEYS["erin"])
        robot = tx.robot("robot-7")
    assert robot is not None
    verdict = verify(out, Trust([KEYS["erin"].verifier], [robot.identity], [cosigner_of(world.house.key)]))
    return verdict.failures, verdict.missing


def test_payloads_go_when_their_windows_are_over_and_never_before(world: World, tmp_path: Path) -> None:
    """By class, by the time of the receipt; records stay, and the packet of what is left verifies."""
    now, before = int(time.time()), held(world)
    assert before.count("check.fail") == 20
    assert retention.apply(world.store, SHORT, now, "night").payloads == 0
    assert retention.apply(world.store, SHORT, now + FLOOR_S - 60, "night").payloads == 0
    assert held(world) == before and log_of(world) == []
    assert retention.apply(world.store, SHORT, now + FLOOR_S + 60, "night").payloads == 20
    assert held(world) == [kind for kind in before if kind != "check.fail"]
    assert log_of(world) == [("window over", "done", 20)]
    assert retention.apply(world.store, SHORT, now + FLOOR_S + 60, "night").payloads == 0
    with world.store.read() as tx:
        found = {
            one.type: (one.window_s, one.payloads, one.over)
            for one in retention.classes(tx, SHORT, now + 2 * FLOOR_S + 60)
        }
    assert found["check.pass"] == (2 * FLOOR_S, 1, 1) and found["gate.go"] == (DEFAULT_S, 1, 0)
    failures, missing = verified(world, tmp_path / "packet.zip")
    assert failures == [] and any("20" in words and "payload" in words for words in missing)
    lines = Tail(world.store, Cursor()).lines()
    assert [shipment(line).payload is None for line in lines].count(True) == 20


def test_a_deletion_before_its_window_is_refused_and_logged(world: World) -> None:
    """Nothing of the range goes, the refusal says until when it is kept, and stays in the log for good."""
    now, before = int(time.time()), held(world)
    with pytest.raises(ConfigError, match=r"record 0 \(check.fail\) is kept until 20.*24 of 24 payloads") as refused:
        retention.delete(world.store, SHORT, 1, 0, 23, now, "kim", "disk is full")
    assert "refused, and written down" in str(refused.value) and held(world) == before
    with pytest.raises(ConfigError, match="4 of 24"):
        retention.delete(world.store, SHORT, 1, 0, 23, now + FLOOR_S + 60, "kim", "disk is full")
    assert held(world) == before
    assert retention.delete(world.store, SHORT, 1, 0, 9, now + FLOOR_S + 60, "kim", "asked for").payloads == 10
    assert log_of(world) == [("deletion", "refused", 0), ("deletion", "refused", 0), ("deletion", "done", 10)]
    with world.store.read() as tx:
        first = retention.written_down(tx)[0]
    assert (first["who"], first["first"], first["last"]) == ("kim", 0, 23) and first["words"].startswith(
        "disk is full: record 0"
    )
    with pytest.raises(sa.exc.DBAPIError, match="only added to"), world.store.begin() as tx:
        tx.connection.exec_driver_sql("delete from deletions")
    with pytest.raises(UsageError):
        retention.delete(world.store, SHORT, 1, 5, 4, now, "kim", "x")


def test_a_person_s_payloads_are_erased_and_every_proof_holds(world: World, tmp_path: Path) -> None:
    """What names them, deep in a payload or as who acted, goes whatever its window; signed by another person with the role."""
    ticket = ("T-5", "their request", time.time_ns())
    with pytest.raises(ConfigError, match="another person must"):
        retention.erase_person(world.store, world.trust, KEYS["erin"], "erin", ["erin"], *ticket)
    with pytest.raises(ConfigError, match="has not the role 'assurance'"):
        retention.erase_person(world.store, world.trust, KEYS["anton"], "anton", ["erin"], *ticket)
    failures, missing = verified(world, tmp_path / "before.zip")
    assert failures == [] and not any("payload" in words for words in missing)
    before = held(world)
    people = world.people.read_text().replace("roles: [planner]", "roles: [planner, assurance]")
    from edge_monitor.people import loads as load_people
    from edge_registry.catalogue.statements import Trust as People

    world.trust = People(load_people(people.encode()))
    done = retention.erase_person(world.store, world.trust, KEYS["paula"], "paula", ["erin", "Erin"], *ticket)
    assert done.payloads == 2
    assert held(world) == [kind for kind in before if kind not in ("handover.accepted", "override.start")]
    assert log_of(world) == [("person", "done", 2)]
    failures, missing = verified(world, tmp_path / "after.zip")
    assert failures == [] and any("2" in words and "payload" in words for words in missing)
    with world.reading() as catalogue:
        statement = catalogue.statement(done.words.rpartition("sha256:")[2])
    assert statement["standing"]["word"] == "verified" and "erin" not in statement["text"]


def test_what_was_erased_is_not_left_in_the_database_s_files(tmp_path: Path) -> None:
    """Neither in the pages of an SQLite file nor in its write-ahead log."""
    world = World(tmp_path)
    world.drive(Digests(), time.time_ns(), [Entry("gate.go", Severity.NEGLIGIBLE, 1, 1, {"who": "zacharias-quux"})])
    world.sync()

    def stored() -> bool:
        files = [*world.house.folder.glob("registry.db*")]
        return any(b"zacharias-quux" in file.read_bytes() for file in files if file.exists())

    assert stored()
    retention.erase_person(
        world.store, world.trust, KEYS["erin"], "erin", ["zacharias-quux"], "T", "asked", time.time_ns()
    )
    assert not stored()
    world.close()


def test_what_the_pages_wrote_down_of_it_goes_too(world: World) -> None:
    """Words of payloads that the pages' follower has copied are gone with them, and what it derives anew has none."""
    pages = PagesStore(world.database)
    follower = Follower(pages)
    follower.catch_up()

    def told() -> set[tuple[int, str]]:
        with pages.read() as tx:
            return {tuple(row) for row in tx.connection.execute(sa.select(w.marks.c.seq, w.marks.c.words))}

    before = {seq for seq, _ in told()}
    now = time.time_ns()
    names = ["not of erin alone", "erin"]
    assert (
        retention.erase_person(world.store, world.trust, KEYS["erin"], "erin", names[:1], "T", "asked", now).payloads
        == 1
    )
    assert told() == set()  # until it is derived anew
    follower.catch_up()
    assert {seq for seq, _ in told()} == before and not any("erin alone" in words for _, words in told())
    over = int(time.time()) + DEFAULT_S + 60
    assert retention.apply(world.store, Configuration(), over, "night").payloads == len(held(world)) + 23
    assert {words for _, words in told()} == {"(payload not there)"}  # of the one that was erased before
    pages.close()


def test_the_configuration_keeps_to_its_floor() -> None:
    """Windows below the floor, a floor below six months, and whatever else is wrong are told with their lines, all at once."""
    good = loads(
        b"edge_registry: 1\nexceptions: {owner: erin, deadline: 72 h, grace: 5 min}\n"
        b"retention:\n  floor: 1 y\n  default: 2 y\n  windows: {check.*: 400 d, check.fail: 60 w, monitor.heartbeat: 366 d}\n"
    )
    assert (good.owner, good.deadline_s, good.grace_s, good.floor_s, good.default_s) == (
        "erin",
        3 * DAY_S,
        300,
        366 * DAY_S,
        732 * DAY_S,
    )
    assert [good.window_s(kind) // DAY_S for kind in ("check.fail", "check.pass", "monitor.heartbeat", "gate.go")] == [
        420, 400, 366, 732,
    ]  # fmt: skip
    assert Configuration().window_s("gate.go") == DEFAULT_S
    wrong = (
        b"edge_registry: 1\nretention:\n  floor: 30 d\n  default: 100 d\n  windows:\n    check.fail: 1 d\n    chek.*: 5 y\n"
        b"exceptions: {owner: 'a b', deadline: soon}\nother: 1\n"
    )
    with pytest.raises(ConfigurationError) as refused:
        loads(wrong, source="registry.yaml")
    said = str(refused.value)
    for words in (
        "registry.yaml:3:10: retention.floor: is below 183 d",
        "registry.yaml:4:12: retention.default: is below the floor of 183 d",
        "registry.yaml:6:17: retention.windows.check.fail: is below the floor",
        "is no event type or family (did you mean `check.*`?)",
        "exceptions.deadline: expected a term", "exceptions.owner", "other: unknown section",
    ):  # fmt: skip
        assert words in said, (words, said)
    for data in (b"", b"edge_registry: 2\n", b"retention: {default: 0 d}\nedge_registry: 1\n", b"\xff", b"- 1\n"):
        with pytest.raises(ConfigError):
            loads(data)


def test_the_commands_refuse_erase_and_list(tmp_path: Path, database: str) -> None:
    """``edge-registry retention show|apply|delete|erase|log``."""
    world = World(tmp_path, database)
    assert load(world.house.folder) == Configuration()
    (world.house.folder / "registry.yaml").write_text("edge_registry: 1\nretention: {windows: {check.*: 400 d}}\n")
    world.drive(Digests(), time.time_ns(), [Entry("gate.go", Severity.NEGLIGIBLE, 9, 9, {"person": "anton"})], count=3)
    world.sync()
    assert "check.fail  400 d  3 payloads, 0 past it" in world.run("retention", "show")
    assert "0 payloads whose windows were over" in world.run("retention", "apply")
    words = ("retention", "delete", "robot-7", "--from", "0", "--to", "2", "--reason", "full", "--by", "kim")
    assert "refused, and written down: record 0 (check.fail) is kept until" in world.run(*words, code=3)
    said = world.run("retention", "erase", "anton", "--ticket", "T-1", "--reason", "asked", person="erin")
    assert said.startswith("1 payloads are erased")
    (refused, done) = json.loads(world.run("retention", "log", "--json"))
    assert (refused["outcome"], refused["who"], done["outcome"], done["who"]) == ("refused", "kim", "done", "erin")
    assert "kim  deletion  refused" in world.run("retention", "log")
    world.close()
