"""The catalogue: what is registered by whom, evidence that counts and that does not, lineage, append-only tables."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from catalogue_case import KEYS, SECOND, World

from edge_monitor.errors import UsageError, VerificationError
from edge_monitor.evidence.statement import PAYLOAD_TYPE
from edge_monitor.journal import Digests
from edge_registry.catalogue import statements
from edge_registry.catalogue import tables as t
from edge_registry.catalogue.entering import Link, Registration, take
from edge_registry.catalogue.lineage import lineage, of_event
from edge_registry.catalogue.pages import item_page, lineage_of, log_number
from edge_registry.catalogue.statements import PROVENANCE, TEST_RESULT, Trust, opened, sign

DATA, MODEL, SUITE, RUN = ("1" * 64, "2" * 64, "3" * 64, "4" * 64)


@pytest.fixture
def world(tmp_path: Path, database: str) -> Iterator[World]:
    """A registry with people and a robot."""
    world = World(tmp_path, database)
    yield world
    world.close()


def register(
    world: World, kind: str, name: str, digest: str, *links: Link, by: str = "paula", version: str = "1", **about: str
) -> statements.Standing:
    """Bring a registration; answers what it is worth."""
    with world.writing() as catalogue:
        one = Registration(kind, name, version, digest, by, about, links)
        data = one.signed(by, KEYS[by], catalogue.now_ns)
        return take(catalogue.tx, data, world.trust, catalogue.now_ns).standing


def chain(world: World) -> None:
    """Data, a model trained on it, a suite, and a run that the model passed."""
    register(world, "dataset", "yard", DATA, sources="three yards")
    register(world, "model", "detector", MODEL, Link("trained_on", "dataset", DATA), version="3")
    register(world, "suite", "night", SUITE)
    links = (Link("evaluates", "model", MODEL), Link("of_suite", "suite", SUITE))
    register(world, "run", "night-3", RUN, *links, by="erin", result="passed")


def test_what_is_registered_is_found_by_alias_and_digest(world: World) -> None:
    """A thing is its digest, under a readable alias, with owner and all its versions; the newest where none is named."""
    chain(world)
    register(world, "model", "detector", "5" * 64, version="4")
    with world.reading() as catalogue:
        assert catalogue.find("model:detector@3").digest == catalogue.find("sha256:22222222").digest == MODEL
        newest = catalogue.find("detector")
        assert newest.version == "4"
        assert [one["version"] for one in catalogue.versions(newest)] == ["4", "3"]
        document = catalogue.document(catalogue.find("dataset:yard"))
        assert document["owner"] == document["registered_by"] == "paula" and document["about"] == {
            "sources": "three yards"
        }
        assert [item["alias"] for item in catalogue.items("model")] == ["model:detector@4", "model:detector@3"]
        assert [item["alias"] for item in catalogue.items(search="NIGHT")] == ["run:night-3@1", "suite:night@1"]
        page = catalogue.items(limit=2)
        assert [one["digest"] for one in catalogue.items(after=page[-1]["digest"])] == [SUITE, MODEL, DATA]
        for wrong in ("model:nothing@1", "thing:detector", "detector@", "../x", ""):
            with pytest.raises(UsageError):
                catalogue.find(wrong)


def test_an_unknown_or_false_signature_registers_nothing_and_is_shown(world: World) -> None:
    """What somebody unknown signed is kept, marked, and counts for nothing; so is what was changed, or claims another's name."""
    assert register(world, "model", "detector", MODEL, by="mallory").word == "unknown key"
    with world.writing() as catalogue:
        one = Registration("model", "other", "1", DATA, "paula", {}, ())
        borrowed = one.signed("paula", KEYS["anton"], catalogue.now_ns)
        standing = take(catalogue.tx, borrowed, world.trust, catalogue.now_ns).standing
        assert standing.word == "not valid" and standing.codes == ("wrong_person",)
        envelope = json.loads(one.signed("paula", KEYS["paula"], catalogue.now_ns))
        payload = base64.b64decode(envelope["payload"]).replace(b'"owner":"paula"', b'"owner":"anton"')
        envelope["payload"] = base64.b64encode(payload).decode()
        changed = take(catalogue.tx, json.dumps(envelope).encode(), world.trust, catalogue.now_ns).standing
        assert changed.word == "not valid" and changed.codes == ("signature",)
        late = one.signed("paula", KEYS["paula"], catalogue.now_ns + 3600 * SECOND)
        assert take(catalogue.tx, late, world.trust, catalogue.now_ns).standing.codes == ("clock",)
    with world.reading() as catalogue:
        assert catalogue.items() == []
        (claim,) = catalogue.statements(MODEL)
        assert claim["standing"]["word"] == "unknown key" and "mallory" in claim["standing"]["reasons"][0]


def test_a_claim_registers_once_its_signer_is_known(world: World) -> None:
    """The same bytes, brought again when the people file has their signer, register; before it they only lay there."""
    from edge_monitor.people import loads

    with world.writing() as catalogue:
        data = Registration("model", "detector", "1", MODEL, "mallory", {}, ()).signed(
            "mallory", KEYS["mallory"], catalogue.now_ns
        )
        assert take(catalogue.tx, data, world.trust, catalogue.now_ns).alias == ""
    line = KEYS["mallory"].verifier.text()
    more = f"edge_monitor_people: 1\npeople:\n  mallory: {{name: M, roles: [planner], keys: ['{line}']}}\n"
    world.trust = Trust(loads(more.encode()))
    with world.writing() as catalogue:
        taken = take(catalogue.tx, data, world.trust, catalogue.now_ns)
        assert not taken.new and taken.alias == "model:detector@1"
        assert catalogue.find("detector").digest == MODEL


def test_one_alias_is_one_thing(world: World) -> None:
    """Another thing can't take an alias that is given, nor a thing a second one; nothing of a refused statement is kept."""
    register(world, "model", "detector", MODEL)
    with pytest.raises(UsageError, match="another thing already"):
        register(world, "model", "detector", DATA)
    with pytest.raises(UsageError, match="in the catalogue already, as model:detector@1"):
        register(world, "model", "other", MODEL)
    assert register(world, "model", "detector", MODEL, by="anton").holds  # says it too
    with world.reading() as catalogue:
        assert len(catalogue.said_of(MODEL)) == 2 and catalogue.builder(catalogue.find("detector")) == "paula"
        assert catalogue.said_of(DATA) == []


def test_statements_of_others_are_evidence_where_they_are_signed_by_who_is_known(world: World) -> None:
    """SLSA provenance and in-toto test results give edges and results; an unknown builder's are marked and lead nowhere."""
    register(world, "model", "detector", MODEL)
    register(world, "dataset", "yard", DATA)
    material = [{"uri": "git+https://example", "digest": {"sha256": DATA}}, {"digest": {"sha1": "x"}}, "nonsense"]
    provenance = {"buildDefinition": {"resolvedDependencies": material}}
    result = {"result": "PASSED", "configuration": [{"digest": {"sha256": SUITE}}]}
    with world.writing() as catalogue:
        for kind, predicate, key in ((PROVENANCE, provenance, "mallory"), (TEST_RESULT, result, "erin")):
            take(catalogue.tx, sign(kind, [("detector", MODEL)], predicate, KEYS[key]), world.trust, catalogue.now_ns)
    with world.reading() as catalogue:
        found = lineage(catalogue, catalogue.find("detector"))
        edges = {edge["relation"]: edge for edge in found["edges"]}
        assert not edges["built_from"]["counts"] and "unknown key" in edges["built_from"]["words"]
        assert edges["tested_with"]["counts"] and edges["tested_with"]["person"] == "erin"
        assert found["training_data"] == []  # an unknown builder's word
        assert [(standing.person, word) for _, standing, word in catalogue.results(catalogue.find("detector"))] == [
            ("erin", "passed")
        ]
    with world.writing() as catalogue:
        good = sign(PROVENANCE, [("detector", MODEL)], provenance, KEYS["bruno"])
        take(catalogue.tx, good, world.trust, catalogue.now_ns)
        assert lineage(catalogue, catalogue.find("detector"))["training_data"] == [DATA]


def test_lineage_leads_from_data_to_runs_and_back(world: World) -> None:
    """Both ways, with who says so; what nobody says is named as missing."""
    chain(world)
    with world.reading() as catalogue:
        of_data = lineage(catalogue, catalogue.find("yard"))
        assert {node["alias"] for node in of_data["nodes"]} == {"dataset:yard@1", "model:detector@3", "run:night-3@1"}
        of_run = lineage(catalogue, catalogue.find("run:night-3"))
        assert {(edge["relation"], edge["person"]) for edge in of_run["edges"]} == {
            ("evaluates", "erin"), ("of_suite", "erin"), ("trained_on", "paula"),
        }  # fmt: skip
    register(world, "model", "bare", "6" * 64, Link("distilled_from", "model", "7" * 64))
    with world.reading() as catalogue:
        gaps = lineage(catalogue, catalogue.find("bare"))["gaps"]
        assert any("7777" in words and "not in the catalogue" in words for words in gaps)
        assert any("what model:bare@1 was trained on" in words for words in gaps)


def test_any_event_leads_to_the_data_that_its_model_was_trained_on(world: World) -> None:
    """By the digests in the record; a model that nobody registered is a gap, not silence."""
    chain(world)
    world.drive(Digests(bytes.fromhex("e" * 64), bytes.fromhex(MODEL), b"1"), time.time_ns())
    world.sync()
    with world.reading() as catalogue:
        found = lineage_of(catalogue, "robot-7/3")
        assert found["training_data"] == [DATA] and found["root"] == "robot-7/3"
        assert any("sha256:eeee" in words for words in found["gaps"])
        named = [edge for edge in found["edges"] if edge["source"] == "robot-7/3"]
        assert [(edge["relation"], edge["target"]) for edge in named] == [("envelope", "e" * 64), ("model", MODEL)]
        with pytest.raises(UsageError, match="has no record 999"):
            of_event(catalogue, log_number(catalogue, "robot-7"), 999)
        with pytest.raises(UsageError, match="0 logs of robot-8"):
            lineage_of(catalogue, "robot-8/3")


def test_what_was_said_can_not_be_changed_in_the_database(world: World) -> None:
    """The database itself refuses updates and deletions of what is only ever added."""
    chain(world)
    for table in t.APPEND_ONLY[:4]:
        for change in (sa.delete(table), sa.update(table).values({list(table.c)[-1].name: 0})):
            with pytest.raises(sa.exc.DBAPIError, match="only added to"), world.store.begin() as tx:
                tx.connection.execute(change)


def test_what_is_no_statement_is_refused(world: World) -> None:
    """Malformed envelopes and statements are one error each, and nothing of them is kept."""
    good = json.loads(sign(TEST_RESULT, [("x", DATA)], {"result": "PASSED"}, KEYS["erin"]))
    statement = json.loads(base64.b64decode(good["payload"]))

    def enveloped(**changes: object) -> bytes:
        return json.dumps(good | changes).encode()

    def said(**changes: object) -> bytes:
        return enveloped(payload=base64.b64encode(json.dumps(statement | changes).encode()).decode())

    assert opened(enveloped()).type == TEST_RESULT
    url_safe = good["signatures"][0]["sig"].replace("+", "-").replace("/", "_")
    assert opened(enveloped(signatures=[{"sig": url_safe}])).signatures[0][0] == ""
    for data in (
        b"", b"[]", b"{}", b"\xff", b"[" * 100_000, enveloped(payloadType="text/plain"), enveloped(payload="!"),
        enveloped(payload=7), enveloped(signatures=[]), enveloped(signatures=[7]), enveloped(signatures=good["signatures"] * 17),
        enveloped(signatures=[{"sig": "%%"}]), said(_type="x"), said(predicateType=7), said(predicate=[]), said(subject=[]),
        said(subject=[{"name": "x", "digest": {"sha1": "1"}}]), said(subject=[{"digest": {"sha256": "ABC"}}]), said(subject="x"),
        b" " * (statements.MAX_STATEMENT + 1),
    ):  # fmt: skip
        with pytest.raises(VerificationError):
            opened(data)
    odd: list[dict[str, object]] = [
        {"kind": "thing"}, {"version": ""}, {"version": "../1"}, {"about": []}, {"about": {"x": 7}}, {"links": "x"},
        {"links": [7]}, {"links": [{"relation": "trained_on", "kind": "robot", "digest": {"sha256": DATA}}]},
    ]  # fmt: skip
    for wrong in odd:
        predicate = {"kind": "model", "version": "1", "person": "paula", "time": "2026-01-01T00:00:00Z"} | wrong
        with pytest.raises(VerificationError), world.writing() as catalogue:
            data = sign(statements.REGISTRATION, [("x", DATA)], predicate, KEYS["paula"])
            take(catalogue.tx, data, world.trust, catalogue.now_ns)
    assert good["payloadType"] == PAYLOAD_TYPE
    with world.reading() as catalogue:
        assert catalogue.said_of(DATA) == []


def test_without_a_people_file_nobody_counts(world: World) -> None:
    """Everything is shown as of an unknown key."""
    chain(world)
    world.trust = Trust(None)
    with world.reading() as catalogue:
        page = item_page(catalogue, "model:detector")
        assert page["item"]["standing"]["word"] == "unknown key" and page["item"]["registered_by"] == ""
        assert page["lineage"]["training_data"] == [] and not any(edge["counts"] for edge in page["lineage"]["edges"])
