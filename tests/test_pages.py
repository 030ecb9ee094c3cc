"""What the registry's pages read and show: missions, lanes, gaps in words, proofs, packets; the same on both databases."""

from __future__ import annotations

import csv
import io
import json
import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pages_world import CLAIMED, DATA, ENVELOPE, HOSTILE_ROBOT, MODEL, World, entry, flight, world

from edge_monitor.evidence.page import words
from edge_monitor.evidence.verify import Trust, verify
from edge_monitor.journal import Entry, Severity
from edge_monitor.journal.cosignatures import cosigner_of
from edge_monitor.journal.event_types import EVENT_TYPES
from edge_monitor.journal.export import check_proof
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.merkle import leaf_hash, node_hash
from edge_registry.web import tables as w
from edge_registry.web.chronicle import Chronicle
from edge_registry.web.fleet import fleet, robot, standing
from edge_registry.web.follower import Follower, decoded
from edge_registry.web.lanes import time_line
from edge_registry.web.missions import episodes, marks, mission, missions, spans
from edge_registry.web.records import LOOKED_AT, listing, proven
from edge_registry.web.vocabulary import MEANINGS


@pytest.fixture
def here(database: str, tmp_path: Path) -> Iterator[World]:
    """A registry with its pages, on SQLite and on PostgreSQL."""
    found = world(tmp_path, database)
    yield found
    found.serving.stop()


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One on SQLite that several tests look at."""
    found = world(tmp_path_factory.mktemp("pages"))
    yield found
    found.serving.stop()


def number(here: World, name: str) -> int:
    """Of a robot's log."""
    with here.store.read() as tx:
        row = robot(tx, name)
    assert row is not None and row.log is not None
    return row.log.number


def test_a_mission_tells_who_was_asked_who_was_in_control_and_what_limited_it(here: World) -> None:
    """The lanes have what the records say, in order; a breach has the actions that answered to it; counts are the records'."""
    log = number(here, "plane")
    with here.store.read() as tx:
        (one,), more = missions(tx, robot="plane")
        held = spans(tx, log, one.first)
        told = marks(tx, log, one.first, one.end)
    assert more is None and one.ended == "clean" and one.seconds == 100 and one.risk == "medium"
    assert (one.envelope, one.envelope_name, one.model) == (bytes(range(32)).hex(), "survey", MODEL)
    assert one.counts == {
        "NO_GO": 2,
        "handover": 2,
        "handover timeout": 1,
        "limit passed": 2,
        "minimal-risk manoeuvre": 1,
    }
    control = [(span.label, span.lasted(), span.outcome) for span in held if span.lane == "control"]
    assert [label for label, *_ in control] == ["human", "autonomy", "human", "autonomy"]
    assert control[0][1] == "9.5 s" and control[-1][2] == "open when the records of the run end"
    asked = [(span.label, span.outcome, span.actions[-1][1]) for span in held if span.lane == "asked"]
    assert asked == [
        ("human asked by monitor", "completed by olivia", "accepted by olivia"),
        ("human asked by monitor", "timed out: no acceptance in time", "no acceptance in time"),
    ]
    speed, fence = (span for span in held if span.kind == "breach")
    assert speed.measured == "value 12.5 m/s, limit 10 m/s, margin -2.5 m/s" and speed.lasted() == "10 s"
    assert speed.acted() == "gate autonomy became NO_GO; human asked to take over"
    assert fence.acted() == "gate autonomy became NO_GO; human asked to take over; minimal-risk manoeuvre begun"
    assert fence.outcome == "open when the records of the run end" and fence.end_seq is None
    assert [mark.type for mark in told].count("handover.requested") == 2 and not any(
        "check." in mark.type for mark in told
    )
    line = time_line(one, held)
    assert [lane.title for lane in line.lanes] == ["Asked to control", "In control", "What limited it"]
    assert [segment.label for segment in line.lanes[1].rows[0].segments] == ["human", "autonomy", "human", "autonomy"]
    assert line.ticks[0] == (0.0, "start") and all(0 <= at <= 100 for at, _ in line.ticks)
    near = time_line(one, held, 60, 90)
    assert (near.begin, near.end) == (60, 90) and [row.name for row in near.lanes[2].rows] == [
        "fence",
        "autonomy NO_GO",
        "minimal-risk manoeuvre",
    ]


def test_reading_in_pieces_leads_to_the_same_rows(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the records are cut into transactions, and whoever follows, what is derived is the same; deleted, it comes back."""

    def rows() -> list[list[tuple[object, ...]]]:
        with here.store.read() as tx:
            return [
                [
                    tuple(row)
                    for row in tx.connection.execute(
                        sa.select(*(c for c in table.c if c.name != "state")).order_by(*table.primary_key)
                    )
                ]
                for table in (w.logs, w.missions, w.spans, w.marks)
            ]

    whole = rows()
    monkeypatch.setattr("edge_registry.web.follower.CHUNK", 3)
    with here.store.own() as tx:
        for table in (w.logs, w.missions, w.spans, w.marks):
            tx.connection.execute(sa.delete(table))
    followers = [Follower(here.store) for _ in range(2)]
    for follower in followers:
        follower.start()
    for follower in followers:
        follower.catch_up()
        follower.stop()
    end = time.monotonic() + 20
    while rows() != whole and time.monotonic() < end:  # where one was ahead of another, it is that one's turn
        time.sleep(0.05)
    assert rows() == whole


def test_what_is_missing_is_said_in_words(here: World) -> None:
    """A run without its end mark, a gap, a silence, a robot never heard of and one that is offline: each says so."""
    entries = [*flight()[:5], entry("journal.gap", 700, refused={"negligible": 3}), *flight()[:3]]
    here.bring("torn", entries, 9)
    log = number(here, "torn")
    with here.store.read() as tx:
        rows = {row.robot: row for row in fleet(tx)[0]}
        first, second = sorted(missions(tx, log=log)[0], key=lambda one: one.first)
    assert (first.ended, second.ended) == ("unclean", "running")
    torn = rows["torn"].log
    assert torn is not None and torn.gaps() == [
        "silences longer than a heartbeat: 1", "gaps that the journal declares: 1", "runs without an end mark: 1",
    ]  # fmt: skip
    assert rows["silent"].sync(0).word == "enrolled, nothing received" and rows["silent"].triple() == "not measured"
    plane = rows["plane"]
    assert plane.log is not None and plane.whole().word == "records 0–21 gapless"
    assert plane.sync(plane.log.seen_s + 2 * 86_400).word == "offline for 2 d; events 22–? missing, if it recorded any"
    assert plane.sync(plane.log.seen_s + 3).kind == "ok" and plane.command().word == "autonomy, mode AUTO"


def test_a_record_is_proven_down_to_its_bytes(here: World, tmp_path: Path) -> None:
    """Every record's path, folded as the page shows it, leads to the receipted root; its file holds without the registry."""
    log = number(here, "plane")
    registry = cosigner_of(here.house.key)
    robot_key = SigningKey("plane", bytes([1]) * 32).verifier
    with here.store.read() as tx:
        held = standing(tx, bytes.fromhex(here.logs["plane"].replace("-", "")))
        assert held is not None
        for sequence in range(held[1].held):
            found = proven(tx, log, sequence, registry)
            assert found is not None and found.holds(), found
            digest = leaf_hash(found.event.record)
            for side, other in found.path:
                digest = node_hash(other, digest) if side == "left" else node_hash(digest, other)
            assert digest == found.root
            file = tmp_path / "proof"
            file.write_text(found.proof(disclose=True))
            assert check_proof(file, [robot_key]).record == found.record
        assert proven(tx, log, held[1].held, registry) is None


def test_a_changed_byte_shows_which_step_does_not_hold(here: World) -> None:
    """A record or payload that was changed in the database is shown as not proven."""
    from edge_registry import tables as t

    log = number(here, "plane")
    with here.store.begin() as tx:
        before = next(tx.events(log, 5, 6))
        other = bytes(before.payload or b"").replace(b"AUTO", b"AUTA")
        where = (t.events.c.log == log, t.events.c.seq == 5)
        tx.connection.execute(sa.update(t.events).where(*where).values(payload=other))
    with here.store.read() as tx:
        found = proven(tx, log, 5, cosigner_of(here.house.key))
        stranger = proven(tx, log, 5, cosigner_of(SigningKey("registry", bytes(32))))
    assert found is not None and [state.kind for state, _ in found.steps] == ["ok", "ok", "ok", "bad"]
    assert stranger is not None and stranger.steps[2][0].kind == "bad" and not stranger.holds()


def test_records_are_listed_by_type_without_going_through_all(here: World) -> None:
    """A list goes on from its cursor; some types are found by their marks, others within a bounded stretch, and it says so."""
    log = number(here, "plane")
    with here.store.read() as tx:
        everything = listing(tx, log, 22, 0)
        gates = listing(tx, log, 22, 5, "gate.no_go")
        fails = listing(tx, log, 22, 0, "check.fail")
        none = listing(tx, log, 22, 16, "check.fail")
    assert [line.seq for line in everything.lines] == list(range(22)) and everything.next is None
    assert [line.words for line in gates.lines] == ["autonomy airspeed FAIL", "autonomy fence FAIL"]
    assert [line.seq for line in fails.lines] == [6, 15] and fails.next is None and fails.searched == 22 < LOOKED_AT
    assert none.lines == [] and none.searched == 6


def test_lists_go_on_where_they_stopped(here: World) -> None:
    """Missions and episodes come page by page, each once, the newest first; of one robot as of all."""
    for seed in range(20, 24):
        here.bring(f"robot-{seed}", flight(), seed)
    with here.store.read() as tx:
        for name in ("", "robot-21"):
            pages, place = [], None
            while True:
                found, place = episodes(tx, "breach", robot=name, before=place, most=2)
                pages += found
                if place is None:
                    break
            everything, none = episodes(tx, "breach", robot=name, most=100)
            assert pages == everything and none is None and len({(one.log, one.seq) for one in pages}) == len(pages)
            assert len(pages) == (2 if name else 12)
        some, place = missions(tx, most=4)
        rest, end = missions(tx, before=place, most=4)
        assert end is None and {one.log for one in some}.isdisjoint(one.log for one in rest) and len(some + rest) == 7


def test_every_event_type_has_plain_words() -> None:
    """What somebody reads who never saw a journal is there for each type of the format."""
    assert tuple(MEANINGS) == EVENT_TYPES


def test_what_a_robot_says_in_strange_types_is_followed_and_bounded(there: World) -> None:
    """Fields of types that nobody expects, and limits without end, are taken without failing; what is open stays bounded."""
    with there.store.read() as tx:
        row = robot(tx, HOSTILE_ROBOT)
        assert row is not None and row.log is not None and row.log.read == row.log.held
        (one, _), _ = missions(tx, robot=HOSTILE_ROBOT)
        assert one.counts["limit passed"] == 2 and all(
            len(span.label) <= 120 for span in spans(tx, row.log.number, one.first)
        )
        event = next(tx.events(row.log.number, 5, 6))
    record, payload = decoded(event)
    assert record is not None and words(record, payload)
    chronicle = Chronicle()
    for count in range(400):
        chronicle.take(count, record, {"subject": f"rule {count}"})
    assert (
        len(chronicle.state.open) == 256
        and chronicle.state.gaps["limits beyond those that are followed at once"] == 144
    )


def test_a_character_that_no_database_keeps_holds_nobody_up(here: World) -> None:
    """A robot's text with a NUL in it is followed, with a sign in its place, and the robots behind it are too."""
    said = {"subject": "a\0b", "cause": "c\0d", "rationale": "e\0f"}
    entries = [Entry("monitor.started", Severity.NEGLIGIBLE, 0, 0, {"subject": "x\0", "envelope": "y\0", "risk": "\0"})]
    entries += [Entry(kind, Severity.MARGINAL, t, t, said) for t, kind in enumerate(("gate.no_go", "check.fail"), 1)]
    here.bring("nul", entries, 8)
    here.bring("after", flight(), 9)
    with here.store.read() as tx:
        for name in ("nul", "after"):
            row = robot(tx, name)
            assert row is not None and row.log is not None and row.log.read == row.log.held
        assert [span.subject for span in spans(tx, number(here, "nul"), 0)] == ["a\ufffdb", "a\ufffdb"]


def test_pages_lead_from_fleet_to_bytes_in_three_clicks(there: World) -> None:
    """Fleet → mission → event: the third page holds the bytes, and each step is a link on the page before."""
    client = there.client("assurance")
    fleet_page = client.get("/fleet").text
    first = f"/logs/{there.logs['plane']}/missions/0"
    assert f'href="{first}"' in fleet_page
    page = client.get(first).text
    record = f"/logs/{there.logs['plane']}/records/6"
    assert f'<a href="{record}">' in page and "Who was asked to take over" in page
    shown = client.get(record).text
    with there.store.read() as tx:
        event = next(tx.events(number(there, "plane"), 6, 7))
    assert event.record[:16].hex(" ") in shown and "Proven: these bytes are in the log" in shown
    assert client.get(f"{record}/bytes").body == event.record
    assert "value 12.5 limit 10 m/s" in shown and "not synchronised" in shown


def test_a_packet_is_one_click_and_verifies(there: World, tmp_path: Path) -> None:
    """The button's form makes a packet that a stranger verifies; its page says the verdict and what is missing."""
    client = there.client("assurance")
    page = f"/logs/{there.logs['plane']}/missions/0"
    form = {"csrf": client.csrf(page), "log": there.logs["plane"], "first": "0", "end": "22"}
    answer = client.ask("POST", "/packets", form)
    assert answer.status == 303
    shown = client.get(answer.headers["location"]).text
    assert "INCOMPLETE: everything here holds" in shown and "was active and is not in the packet" in shown
    file = tmp_path / "packet.zip"
    file.write_bytes(client.get(answer.headers["location"] + "/file").body)
    public = there.house.folder / "packets" / "registry-packets.pub"
    from edge_monitor.journal.keys import load_verifier_key

    verdict = verify(
        file,
        Trust(
            [load_verifier_key(public)], [SigningKey("plane", bytes([1]) * 32).verifier], [cosigner_of(there.house.key)]
        ),
    )
    assert verdict.word == "INCOMPLETE" and verdict.records == 22 and not verdict.failures
    assert zipfile.ZipFile(file).testzip() is None
    for wrong in ({"first": "5", "end": "5"}, {"first": "0", "end": "99"}, {"log": "x"}, {"first": "-1"}):
        assert client.ask("POST", "/packets", form | wrong).status in (400, 404)


def test_tables_come_as_csv_and_json(there: World) -> None:
    """Each table is a file of the same rows; CSV has a column row and JSON the same names."""
    client = there.client("assurance")
    log = there.logs["plane"]
    for path in (
        "/fleet",
        "/robots/plane",
        "/missions",
        f"/logs/{log}/missions/0",
        "/episodes?kind=breach",
        f"/logs/{log}/records",
        "/packets",
        "/people",
        "/audit",
        "/catalogue",
        "/exceptions",
    ):
        joint = "&" if "?" in path else "?"
        answers = [client.get(f"{path}{joint}as={kind}") for kind in ("csv", "json")]
        assert [one.status for one in answers] == [200, 200], path
        table = list(csv.reader(io.StringIO(answers[0].body.decode("utf-8-sig"))))
        found = json.loads(answers[1].body)
        if path != "/audit":  # asking for the other file adds a line
            assert [list(row) for row in found] == [table[0]] * len(found) and len(table) == len(found) + 1, path
        assert "attachment" in answers[0].headers["content-disposition"]


def test_filters_stand_in_the_address_and_strange_ones_are_refused(there: World) -> None:
    """A filtered page is a link; what no form sends is answered with a line, never with a failure."""
    client = there.client("assurance")
    log = there.logs["plane"]
    assert "fence" in client.get("/episodes?kind=breach&robot=plane").text
    assert "silent" not in client.get("/fleet?robot=plane").text
    assert "No such record" in client.get(f"/logs/{log}/records?from=400").text
    for path, status in (
        ("/episodes?kind=control", 400),
        ("/episodes?before=1.2", 400),
        (f"/logs/{log}/records?from=-1", 400),
        (f"/logs/{log}/records?type=x", 400),
        (f"/logs/{log}/missions/0?from=nan", 400),
        (f"/logs/{log}/missions/7", 404),
        (f"/logs/{log}/records/99", 404),
        (f"/logs/{log}/records/{1 << 70}", 404),
        ("/logs/x/records", 404),
        ("/robots/nobody", 404),
        ("/missions?before=99999999999999999999.1.1", 400),
        ("/packets/99", 404),
        ("/nowhere", 404),
        (f"/logs/{log.upper()}/records", 404),
    ):
        assert client.get(path).status == status, path


def test_an_event_leads_to_its_training_data_and_what_is_wrong_is_shown(there: World) -> None:
    """From a record to the digest of the data; an unknown envelope and an unreleased model open exceptions, which are shown."""
    client = there.client("planner")
    lineage = client.get(f"/logs/{there.logs['plane']}/records/6/lineage").text
    assert DATA in lineage and f'href="/catalogue/{DATA}"' in lineage and "trained on" in lineage
    listed = client.get("/exceptions?robot=plane").text
    assert "a robot uses what the catalogue does not have" in listed
    assert "a robot uses a model that was not promoted to it" in listed
    numbers = sorted({int(one) for one in re.findall(r'href="/exceptions/(\d+)"', listed)})
    assert "Nothing yet." in client.get(f"/exceptions/{numbers[0]}").text
    item = client.get(f"/catalogue/{MODEL}").text
    assert "verified, signed by planner" in item and "not approved" in item
    assert any(f'href="/exceptions/{number}"' in item for number in numbers)
    assert "not in the catalogue" in client.get("/fleet").text
    assert "every part verifies" not in client.get("/robots/plane").text
    assert "yard" in client.get("/catalogue?kind=dataset&search=yard").text
    assert "detector" not in client.get("/catalogue?kind=dataset").text
    for path, status in (
        ("/catalogue/" + "3" * 64, 404),
        ("/catalogue/x", 404),
        ("/catalogue?kind=x", 400),
        ("/exceptions/999", 404),
    ):
        assert client.get(path).status == status, path


def test_a_claim_shows_its_words_and_what_the_field_shows_for_it(there: World) -> None:
    """Of an envelope that robots used: exposure, counts, gaps; of one that is registered: its words; nothing is blank."""
    client = there.client("planner")
    used = client.get(f"/claims/{ENVELOPE}").text
    assert "1 min 40 s in 1 mission of 1 robot" in used and "72 per h (n = 2 in 1 min 40 s)" in used
    assert "2, of which 1 had no answer in time" in used and "which is not in the catalogue" in used
    assert "Nobody: it is not registered" in used and "Nobody wrote down where it must not be used" in used
    assert "a robot uses" not in used and "is not known here" in used  # the exception's own words
    claimed = client.get(f"/claims/{CLAIMED}").text
    assert "<h1>Keeps to 2 m/s</h1>" in claimed and "snow" in claimed and "no robot's records name" in claimed
    assert "verified, signed by planner" in claimed and "Keeps to 2 m/s" in client.get("/claims").text
    assert "Nothing: no robot's records" in client.get(f"/claims/{ENVELOPE}?since=2150-01-01").text
    strange = {"/claims/" + "5" * 64: 404, "/claims/x": 404, f"/claims/{ENVELOPE}?since=yesterday": 400}
    assert {path: client.get(path).status for path in strange} == strange


def test_late_records_are_on_the_page_within_a_moment(there: World) -> None:
    """What comes while pages are served is read by itself: nobody asks the follower."""
    there.bring("late", flight()[:5], 40)
    from pages_world import send, written

    from edge_registry.ingest import Ingest

    key = SigningKey("late", bytes([40]) * 32)
    path = written(there.folder / "40.db", key, [entry("check.fail", 60, Severity.CRITICAL, subject="late_one")])
    send(there.store, Ingest(there.house.key), key, path)
    client = there.client("operator")
    end = time.monotonic() + 20
    while "late_one" not in client.get("/episodes?robot=late").text:
        assert time.monotonic() < end
        time.sleep(0.05)
    with there.store.read() as tx:
        assert mission(tx, number(there, "late"), 0) is not None
