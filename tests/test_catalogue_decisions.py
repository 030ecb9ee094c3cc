"""Approvals, promotions and exceptions: who may, who may not, what opens by itself and who settles it."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from catalogue_case import KEYS, SECOND, World, people_file
from evidence_case import ENVELOPE

from edge_monitor import envelope as envelopes
from edge_monitor.envelope.approval import approve as approve_envelope
from edge_monitor.envelope.approval import propose
from edge_monitor.envelope.statements import Proposal
from edge_monitor.errors import ConfigError, UsageError
from edge_monitor.journal import Digests, Entry, Severity
from edge_monitor.journal.notes import sign_note
from edge_monitor.utc import utc_text
from edge_registry import tables
from edge_registry.blobs import Blobs
from edge_registry.catalogue import approvals
from edge_registry.catalogue.deciding import approve, promote
from edge_registry.catalogue.documents import ExceptionDocument
from edge_registry.catalogue.entering import Link, Registration, take
from edge_registry.catalogue.exceptions import changed, exceptions, record
from edge_registry.catalogue.fleet import active, missions, uses
from edge_registry.catalogue.judging import release_problems
from edge_registry.catalogue.lineage import lineage, of_event
from edge_registry.catalogue.pages import log_number
from edge_registry.catalogue.statements import APPROVAL, TEST_RESULT, sign
from edge_registry.catalogue.watch import Watch
from edge_registry.catalogue.watching import Watching
from edge_registry.configuration import Configuration
from edge_registry.web.people import PeopleFile

DATA, MODEL = "1" * 64, "2" * 64
DAY = 86_400 * SECOND
TERM = 30 * DAY


@pytest.fixture
def world(tmp_path: Path, database: str) -> Iterator[World]:
    """A registry with people and a robot."""
    world = World(tmp_path, database)
    yield world
    world.close()


@pytest.fixture
def model(world: World) -> World:
    """The same with a model of paula's, owned by bruno, that was trained on data."""
    with world.writing() as catalogue:
        for one in (
            Registration("dataset", "yard", "1", DATA, "paula", {}, ()),
            Registration("model", "detector", "3", MODEL, "bruno", {}, (Link("trained_on", "dataset", DATA),)),
        ):
            take(catalogue.tx, one.signed("paula", KEYS["paula"], catalogue.now_ns), world.trust, catalogue.now_ns)
    return world


def decide(world: World, what: str, person: str, decision: str = "", robots: tuple[str, ...] = ("robot-7",)) -> None:
    """``person`` approves or promotes the model."""
    with world.writing() as catalogue:
        item, until = catalogue.find("model:detector"), catalogue.now_ns + TERM
        if what == "approve":
            approve(catalogue, item, KEYS[person], person, decision or "approved", "T-1", "seen", until)
        else:
            promote(catalogue, item, KEYS[person], person, decision or "promoted", robots, "T-2", "", until)


def bring_result(world: World, result: str = "PASSED", by: str = "erin") -> None:
    """A test result of the model."""
    with world.writing() as catalogue:
        data = sign(TEST_RESULT, [("detector", MODEL)], {"result": result, "run": time.time_ns()}, KEYS[by])
        take(catalogue.tx, data, world.trust, catalogue.now_ns)


def test_nobody_approves_their_own_work(model: World) -> None:
    """Builder and owner are refused by person, and who has not the role; another approver is taken, the newest word counts."""
    for person, words in (("paula", "registered it"), ("bruno", "owns it"), ("erin", "has not the role 'approver'")):
        with pytest.raises(ConfigError, match=words):
            decide(model, "approve", person)
    with model.reading() as catalogue:
        assert catalogue.approval(catalogue.find("detector"))["state"] == "not approved"
    decide(model, "approve", "anton")
    with model.reading() as catalogue:
        found = catalogue.approval(catalogue.find("detector"))
        assert (found["state"], found["person"], found["ticket"]) == ("approved", "anton", "T-1")
        later = catalogue.approval(catalogue.find("detector"), found["expires_ns"])
        assert later["state"] == "expired"
        assert catalogue.approval(catalogue.find("detector"), found["time_ns"] - DAY)["state"] == "not valid"
    time.sleep(1.1)  # statements are to the second
    decide(model, "approve", "anton", "withdrawn")
    with model.reading() as catalogue:
        assert catalogue.approval(catalogue.find("detector"))["state"] == "withdrawn"


def test_a_hand_inserted_self_approval_does_not_count_and_is_found(model: World) -> None:
    """Brought past the command as a statement, it is kept, shown as not valid, and opens an exception."""
    with model.writing() as catalogue:
        said = {
            "person": "bruno", "decision": "approved", "kind": "model", "ticket": "T", "reason": "",
            "time": utc_text(catalogue.now_ns), "expires": utc_text(catalogue.now_ns + TERM),
        }  # fmt: skip
        take(catalogue.tx, sign(APPROVAL, [("d", MODEL)], said, KEYS["bruno"]), model.trust, catalogue.now_ns)
    with model.reading() as catalogue:
        found = catalogue.approval(catalogue.find("detector"))
        assert found["state"] == "not valid" and found["codes"] == ["self_approval"]
    with model.writing() as catalogue:  # for ever is no term
        endless = {**said, "person": "anton", "expires": "2199-01-01"}
        take(catalogue.tx, sign(APPROVAL, [("d", MODEL)], endless, KEYS["anton"]), model.trust, catalogue.now_ns)
        found = catalogue.approval(catalogue.find("detector"))
        assert found["state"] == "not valid"
    Watch(model.store, lambda: model.trust, owner="erin").run_to_end()
    (one,) = opened(model)
    assert (one["kind"], one["subject_alias"], one["owner"]) == ("self_approval", "model:detector@3", "erin")


def test_a_promotion_needs_registration_test_and_approval(model: World) -> None:
    """Every reason is given at once; a failed test after a passed one stops it; the builder never promotes."""
    with pytest.raises(ConfigError) as refused:
        decide(model, "promote", "anton")
    assert "is not approved" in str(refused.value) and "no test of" in str(refused.value)
    decide(model, "approve", "anton")
    bring_result(model, by="mallory")
    with pytest.raises(ConfigError, match="no test of"):
        decide(model, "promote", "anton")
    bring_result(model)
    with pytest.raises(UsageError, match="no robot robot-8"):
        decide(model, "promote", "anton", robots=("robot-8",))
    bring_result(model, "FAILED")
    with pytest.raises(ConfigError, match="the newest test of model:detector@3 failed"):
        decide(model, "promote", "anton")
    with model.writing() as catalogue:  # a run is a test as well, and the newest of them all counts
        links = (Link("evaluates", "model", MODEL),)
        run = Registration("run", "night", "1", "4" * 64, "erin", {"result": "passed"}, links)
        take(catalogue.tx, run.signed("erin", KEYS["erin"], catalogue.now_ns), model.trust, catalogue.now_ns)
        assert release_problems(catalogue, catalogue.find("detector")) == []
    bring_result(model, "FAILED")
    with pytest.raises(ConfigError, match="the newest test of model:detector@3 failed"):
        decide(model, "promote", "anton")
    bring_result(model)
    with pytest.raises(ConfigError, match="paula registered it"):
        decide(model, "promote", "paula")
    decide(model, "promote", "bruno")
    with model.reading() as catalogue:
        found = catalogue.promotion(catalogue.find("detector"))
        assert (found["state"], found["robots"]) == ("promoted", ["robot-7"])
        edges = lineage(catalogue, catalogue.find("yard"))["edges"]
        assert [edge["relation"] for edge in edges] == ["trained_on", "evaluates"]
        assert lineage(catalogue, catalogue.find("detector"))["edges"][-1]["relation"] == "promoted_to"


def test_a_record_without_a_model_leads_over_the_promotion_to_its_data(model: World) -> None:
    """Where the robot names no model, what was promoted to it then is taken, and that is said."""
    decide(model, "approve", "anton")
    bring_result(model)
    decide(model, "promote", "anton")
    model.drive(Digests(b"\xee" * 32, b"", b"1"), time.time_ns() + 5 * SECOND)
    model.sync()
    with model.reading() as catalogue:
        found = of_event(catalogue, log_number(catalogue, "robot-7"), 2)
        assert found["training_data"] == [DATA]
        assert [e["words"] for e in found["edges"] if e["relation"] == "promoted"] == [
            "promoted to robot-7 at that time"
        ]
        assert "the record names no model" in found["gaps"]


def opened(world: World, *, everything: bool = False) -> list[ExceptionDocument]:
    """The exceptions, the oldest first."""
    with world.reading() as catalogue:
        return exceptions(catalogue, only_open=not everything)[::-1]


def watch(world: World) -> list[ExceptionDocument]:
    """Look through everything; answers what is open."""
    Watch(world.store, lambda: world.trust, owner="erin").run_to_end()
    return opened(world)


class Yard:
    """An envelope of paula's, proposed when the test says."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.file = world.folder / "yard.yaml"
        self.file.write_bytes(ENVELOPE)
        self.envelope = envelopes.load(self.file)
        assert world.trust.people is not None
        self.people = world.trust.people

    def propose(self, at_ns: int) -> bytes:
        """The proposal."""
        return self._keep(propose(self.envelope, KEYS["paula"], "paula", self.people, at_ns))

    def approve(self, proposal: bytes, at_ns: int, days: int = 30) -> None:
        """Anton's approval."""
        self._keep(
            approve_envelope(
                self.envelope,
                proposal,
                KEYS["anton"],
                "anton",
                self.people,
                at_ns,
                ticket="T-3",
                expires_ns=at_ns + days * DAY,
            )
        )

    def _keep(self, data: bytes) -> bytes:
        with self.world.writing() as catalogue:
            approvals.take(catalogue.tx, data, self.world.trust, catalogue.now_ns, [ENVELOPE])
        return data

    def digests(self) -> Digests:
        """What a robot under it writes."""
        return Digests(bytes.fromhex(self.envelope.digest), b"", b"1")


def test_an_unknown_digest_opens_an_exception_by_itself_once(world: World) -> None:
    """With robot, first record, owner and deadline; the same again, or another look, opens nothing more."""
    world.drive(Digests(b"\xee" * 32, b"\xdd" * 32, b"1"), time.time_ns())
    world.sync()
    found = watch(world)
    assert [(one["kind"], one["subject"]) for one in found] == [
        ("unknown_digest", "ee" * 32), ("unknown_digest", "dd" * 32),
    ]  # fmt: skip
    one = found[0]
    assert (one["robot"], one["sequence"], one["owner"], one["overdue"]) == ("robot-7", 0, "erin", False)
    assert one["deadline_ns"] == one["opened_ns"] + 3 * DAY
    world.drive(Digests(b"\xee" * 32, b"\xdd" * 32, b"1"), time.time_ns(), boot=2)
    world.sync()
    assert watch(world) == found
    with world.reading(one["deadline_ns"]) as catalogue:
        assert exceptions(catalogue)[-1]["overdue"]


def test_what_comes_after_its_records_has_some_time_to_come(world: World) -> None:
    """Files follow the records that name them: an unknown digest is an exception once the time is over."""
    clock = [time.time()]
    looking = Watch(world.store, lambda: world.trust, grace_s=60, now=lambda: clock[0])
    yard, now = Yard(world), time.time_ns()
    world.drive(yard.digests(), now, boot=1)
    world.drive(Digests(b"\xee" * 32, b"", b"1"), now, boot=2)
    world.sync()
    looking.run_to_end()
    assert opened(world) == []
    yard.approve(yard.propose(now - 2 * DAY), now - DAY)
    clock[0] += 61
    looking.run_to_end()
    assert [one["subject"] for one in opened(world)] == ["ee" * 32]


def test_the_watch_goes_on_where_it_stopped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In steps of few records, by another watch after each, the stretches are those of one look at everything."""
    for boot in (1, 2, 3):
        world.drive(Digests(bytes([boot // 2]) * 32, b"", b"1"), boot * 1_000_000 * SECOND, boot=boot, count=7)
    world.sync()
    monkeypatch.setattr("edge_registry.catalogue.watch.ROWS", 4)
    steps = 0
    while Watch(world.store, lambda: world.trust).step():
        steps += 1
    with world.reading() as catalogue:
        found = uses(catalogue, robot="robot-7")[::-1]
        assert steps >= 5 and found[0]["first"] == 0
        assert [(one["boot"], one["envelope"]) for one in found] == [
            (f"{boot:02x}" * 16, f"{boot // 2:02x}" * 32) for boot in (1, 2, 3)
        ]
        assert [one["first"] for one in found[1:]] == [one["last"] + 1 for one in found[:-1]]
        assert [one["boot"] for one in missions(catalogue, "robot-7")] == ["03" * 16, "02" * 16, "01" * 16]
        assert found[1]["first_wall_ns"] // SECOND in (2_000_000, 2_000_001)


def test_two_watches_open_each_exception_once(world: World) -> None:
    """Two processes that look at the same records at the same time share them, and neither doubles what the other opened."""
    for boot in range(1, 9):
        world.drive(Digests(bytes([boot]) * 32, b"", b"1"), time.time_ns(), boot=boot, count=3)
    world.sync()
    threads = [threading.Thread(target=Watch(world.store, lambda: world.trust).run_to_end) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(one["subject"] for one in watch(world)) == [f"{boot:02x}" * 32 for boot in range(1, 9)]


def test_an_approved_envelope_opens_nothing(world: World) -> None:
    """Proposed by one, approved by another before it was used, and used within its term: the robot's part verifies."""
    yard, now = Yard(world), time.time_ns()
    yard.approve(yard.propose(now - 2 * DAY), now - DAY)
    world.drive(yard.digests(), now)
    world.sync()
    assert watch(world) == []
    with world.reading() as catalogue:
        (robot,) = active(catalogue)
        assert robot["verifies"] and robot["parts"][0]["alias"] == "envelope:yard@1"
        assert catalogue.file(catalogue.find("envelope:yard")) == ENVELOPE


def test_an_approval_that_a_robot_delivered_registers_and_approves(world: World) -> None:
    """Nobody has to bring what people signed and robots carry; one that somebody unknown signed is left where it lies."""
    folder = world.folder / "yard"
    folder.mkdir()
    (folder / "yard.yaml").write_bytes(ENVELOPE)
    envelope, now = envelopes.load(folder / "yard.yaml"), time.time_ns()
    people = world.trust.people
    assert people is not None
    proposal = propose(envelope, KEYS["paula"], "paula", people, now - 2 * DAY)
    given = approve_envelope(
        envelope, proposal, KEYS["anton"], "anton", people, now - DAY, ticket="T-3", expires_ns=now + DAY
    )
    claim = Proposal("other", 1, "f" * 64, "f" * 64, "mallory", now // SECOND * SECOND)
    unknown = sign_note(claim.text(), KEYS["mallory"]).encode()
    blobs = Blobs(world.house.blobs)
    for kind, data in (("envelope", ENVELOPE), ("approval", given), ("approval", unknown), ("approval", b"junk")):
        digest = hashlib.sha256(data).digest()
        blobs.path(digest).parent.mkdir(exist_ok=True)
        blobs.path(digest).write_bytes(data)
        values = {"digest": digest, "robot": "robot-7", "kind": kind, "name": "x", "size": len(data), "complete_s": 1}
        with world.store.begin() as tx:
            tx.connection.execute(sa.insert(tables.blobs).values(**values))
    world.drive(Digests(bytes.fromhex(envelope.digest), b"", b"1"), now)
    world.sync()
    Watch(world.store, lambda: world.trust, blobs=blobs).run_to_end()
    assert opened(world) == []
    with world.reading() as catalogue:
        (item,) = catalogue.items()
        assert (item["alias"], item["owner"], item["registered_by"]) == ("envelope:yard@1", "paula", "paula")
        assert item["approval"]["person"] == "anton" and catalogue.file(catalogue.find("yard")) == ENVELOPE


def test_unapproved_late_and_expired_are_told_apart(world: World) -> None:
    """Used while it was proposed only; approved after use; used after its term: each opens its own exception."""
    yard, now = Yard(world), time.time_ns()
    proposal = yard.propose(now - 10 * DAY)
    world.drive(yard.digests(), now - 5 * DAY, boot=1)
    world.sync()
    (one,) = watch(world)
    assert one["kind"] == "unapproved_envelope" and "not approved" in one["words"]
    yard.approve(proposal, now - DAY)
    assert [one["kind"] for one in watch(world)] == ["unapproved_envelope", "approval_after_use"]
    yard.approve(proposal, now - 9 * DAY, days=1)  # it was approved for a day then, and still late for the first use
    world.drive(yard.digests(), now + 40 * DAY, boot=2)
    world.sync()
    kinds = [one["kind"] for one in watch(world)]
    assert kinds == ["unapproved_envelope", "approval_after_use", "expired_approval"]
    with world.reading() as catalogue:
        (robot,) = active(catalogue)
        assert robot["verifies"]  # by the clock of the registry its approval has not ended


def test_a_robot_that_says_itself_that_it_runs_unapproved_is_believed(world: World) -> None:
    """``--unapproved`` on the robot opens an exception, whatever is approved here."""
    yard, now = Yard(world), time.time_ns()
    yard.approve(yard.propose(now - 2 * DAY), now - DAY)
    said = {"subject": "yard", "unapproved": True, "envelope_digest": yard.envelope.digest}
    world.drive(yard.digests(), now, [Entry("envelope.activated", Severity.NEGLIGIBLE, 9, 9, said)])
    world.sync()
    (one,) = watch(world)
    assert one["kind"] == "unapproved_envelope" and "says itself" in one["words"]
    with world.reading() as catalogue:
        assert not active(catalogue)[0]["verifies"]


def test_a_model_that_was_not_promoted_to_the_robot_opens_an_exception(model: World) -> None:
    """Registered is not enough; with all that a promotion needs, nothing opens."""
    model.drive(Digests(b"", bytes.fromhex(MODEL), b"1"), time.time_ns())
    model.sync()
    (one,) = watch(model)
    assert one["kind"] == "unreleased_model" and "not promoted to robot-7" in one["words"] and one["owner"] == "bruno"


def test_only_others_settle_an_exception_and_it_opens_again(world: World) -> None:
    """Its owner can't, nor who owned it before, nor somebody without a role; once closed it opens when it is seen anew."""
    world.drive(Digests(b"\xee" * 32, b"", b"1"), time.time_ns())
    world.sync()
    (one,) = watch(world)

    def change(person: str, state: str, reason: str = "looked at", owner: str = "") -> None:
        with world.writing() as catalogue:
            record(catalogue, one["id"], changed(catalogue, one["id"], KEYS[person], person, state, reason, owner))

    for person, words in (("erin", "owns it"), ("paula", "has not the role"), ("mallory", "no key of the people file")):
        with pytest.raises(UsageError, match=words):
            change(person, "closed")
    with pytest.raises(UsageError, match="say why"):
        change("anton", "closed", " ")
    change("erin", "mitigating", owner="anton")
    for person in ("erin", "anton"):
        with pytest.raises(UsageError, match="or did"):
            change(person, "closed")
    change("bruno", "closed", "the envelope is from the bench")
    with pytest.raises(UsageError, match="is closed already"):
        change("bruno", "accepted")
    assert watch(world) == []
    world.drive(Digests(b"\xee" * 32, b"", b"1"), time.time_ns(), boot=2)
    world.sync()
    Watch(world.store, lambda: world.trust, now=lambda: time.time() + 5).run_to_end()
    (again,) = opened(world)
    assert again["id"] != one["id"] and again["sequence"] > one["sequence"]
    (settled, _) = opened(world, everything=True)
    assert settled["state"] == "closed" and [each["counts"] for each in settled["changes"]] == [True, True]
    assert [each["person"] for each in settled["changes"]] == ["erin", "bruno"]


def test_it_opens_while_somebody_serves_and_not_for_want_of_a_people_file(world: World) -> None:
    """A watch in a thread needs nobody to ask; while the people file can't be read, only what hangs on nobody's word opens."""
    yard, now = Yard(world), time.time_ns()
    yard.approve(yard.propose(now - 2 * DAY), now - DAY)
    people = PeopleFile(world.folder / "people.yaml")
    said: list[str] = []
    watching = Watching(world.store, people, Configuration(owner="bruno", deadline_s=3600, grace_s=0), said.append)
    watching.start()
    try:
        world.drive(yard.digests(), now, boot=1)
        world.drive(Digests(b"\xee" * 32, b"", b"1"), now, boot=2)
        world.sync()
        until = time.monotonic() + 30
        while not opened(world) and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        watching.stop()
    (one,) = opened(world)
    assert (one["kind"], one["owner"], one["deadline_ns"] - one["opened_ns"]) == (
        "unknown_digest",
        "bruno",
        3600 * SECOND,
    )
    assert said == [] and people.failure
    (world.folder / "people.yaml").write_text(people_file())
    assert watch(world) == [one]


def test_the_commands_take_a_model_from_data_to_a_robot(world: World) -> None:
    """``catalogue add|import|show|lineage``, ``approve``, ``promote``, ``exceptions``, as people use them."""
    run, file = world.run, world.file
    run("catalogue", "add", "dataset", file("yard.tar"), "--about", "sources=three yards", person="paula")
    link = ("--link", "trained_on=dataset:yard")
    run("catalogue", "add", "model", file("detector.onnx"), "--version", "3", *link, person="paula")
    assert "another thing already" in run(
        "catalogue", "add", "model", file("detector.onnx", "x"), "--version", "3", person="paula", code=2
    )
    assert "can't be 'trained_on' a model" in run(
        "catalogue", "add", "model", file("m2"), "--link", "trained_on=model:detector", person="paula", code=2
    )
    said = run("catalogue", "show", "model:detector@3", "--json")
    digest = json.loads(said)["item"]["digest"]
    other = file("result.dsse.json", sign(TEST_RESULT, [("d", digest)], {"result": "PASSED"}, KEYS["erin"]).decode())
    assert f"{TEST_RESULT}, verified by erin" in run("catalogue", "import", other)
    unknown = file(
        "other.dsse.json", sign(TEST_RESULT, [("d", digest)], {"result": "PASSED"}, KEYS["mallory"]).decode()
    )
    assert "unknown key (no key of the people file signed it" in run("catalogue", "import", unknown)
    assert "is not a DSSE envelope" in run("catalogue", "import", file("junk"), code=5)
    ticket = ("--ticket", "T-9")
    assert "paula registered it" in run("approve", "model:detector", *ticket, person="paula", code=3)
    key = world.folder / "anton.key"
    shutil.copy(key, world.folder / "paula.key.kept")
    mixed = ("--person", "paula", "--key", key, *ticket)
    assert "is not one of paula" in run("approve", "model:detector", *mixed, code=3)
    run("approve", "model:detector", *ticket, "--out", world.folder / "a.dsse.json", person="anton")
    assert KEYS["anton"].text()[-40:] not in (world.folder / "a.dsse.json").read_text()
    assert "promoted to robot-7" in run("promote", "detector", "--robot", "robot-7", *ticket, person="bruno")
    shown = run("catalogue", "lineage", "model:detector")
    assert "trained_on  dataset:yard@1  (says paula)" in shown and "promoted_to  robot-7  (says bruno)" in shown
    assert "approved, promoted" in run("catalogue", "show", "--kind", "model")

    (world.folder / "yard.yaml").write_bytes(ENVELOPE)
    assert "envelope:yard@1" in run("catalogue", "add", "envelope", world.folder / "yard.yaml", person="paula")
    assert "nobody proposed" in run("approve", "envelope:yard", *ticket, person="anton", code=2)
    envelope = envelopes.load(world.folder / "yard.yaml")
    assert world.trust.people is not None
    now = time.time_ns()
    proposal = propose(envelope, KEYS["paula"], "paula", world.trust.people, now)
    (world.folder / "yard.approval").write_bytes(proposal)
    run("catalogue", "add", "envelope", world.folder / "yard.yaml", person="paula")
    run("approve", "envelope:yard", *ticket, "--out", world.folder / "yard.given", person="anton")
    from edge_monitor.envelope.approval import Approval, verify

    verdict = verify(envelope, (world.folder / "yard.given").read_bytes(), world.trust.people, time.time_ns())
    assert isinstance(verdict, Approval) and (verdict.approver, verdict.ticket) == ("anton", "T-9")

    assert "no exception is open" in run("exceptions", "list")
    world.drive(Digests(b"\xee" * 32, b"", b"1"), time.time_ns())
    world.sync()
    assert "no exception is open" in run("exceptions", "list")  # its approval may still come
    (world.house.folder / "registry.yaml").write_text("edge_registry: 1\nexceptions: {grace: 1 s}\n")
    time.sleep(1.1)
    assert "unknown_digest  open  owner nobody yet" in run("exceptions", "list")
    run("exceptions", "assign", "1", "--owner", "anton", "--reason", "his robot", person="erin")
    assert "or did" in run("exceptions", "close", "1", "--reason", "x", person="anton", code=2)
    assert "accepted" in run("exceptions", "close", "1", "--as", "accepted", "--reason", "bench", person="erin")
    assert json.loads(run("exceptions", "list", "--json")) == []
    assert json.loads(run("exceptions", "list", "--json", "--all"))[0]["state"] == "accepted"
