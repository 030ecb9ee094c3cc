"""Coverage: time in each cell of conditions from signed records, what was declared and never seen, what is behind a figure."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conditions_world import FILE, HOUR, YARD, account, covered, drive, register
from pages_world import ENVELOPE, SECOND, World, entry, send, wait, world

from edge_monitor.core.odd import BINS
from edge_monitor.envelope.domain import INPUTS as READ_BY_ENVELOPES
from edge_monitor.journal import Digests, Journal
from edge_monitor.journal.keys import SigningKey
from edge_registry.catalogue.interface import answer
from edge_registry.catalogue.reading import Catalogue
from edge_registry.ingest import Ingest
from edge_registry.web import follower
from edge_registry.web import tables as w
from edge_registry.web.conditions import AXES, Stretch
from edge_registry.web.coverage import Coverage, bounded, coverage
from edge_registry.web.coverage_interface import ENDPOINTS
from edge_registry.web.declared import INPUTS, of_file
from edge_registry.web.interface_pages import reading
from edge_registry.web.vocabulary import CONDITIONS

DAY, NIGHT, FOG = ("clear", "day"), ("clear", "night"), ("low_visibility", "day")


@pytest.fixture
def here(database: str, tmp_path: Path) -> Iterator[World]:
    """Two robots under an envelope that is registered, on SQLite and on PostgreSQL."""
    found = world(tmp_path, database, missions=False)
    covered(found)
    yield found
    found.serving.stop()


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same on SQLite, for several tests to look at."""
    found = world(tmp_path_factory.mktemp("coverage"), missions=False)
    covered(found)
    yield found
    found.serving.stop()


def matrix(here: World, envelope: str = YARD, **which: Any) -> Coverage:
    """Of an envelope."""
    with here.store.read() as tx:
        (found,) = coverage(Catalogue(tx, here.serving.site.trust(), time.time_ns()), [envelope], **which)
    return found


def statuses(found: Coverage) -> dict[tuple[str, ...], tuple[str, int, int]]:
    """Status, seconds and limits passed by cell."""
    return {tuple(one.bins.values()): (one.status, one.tally.ns // SECOND, one.tally.breaches) for one in found.cells}


def test_each_cell_has_its_time_its_events_and_what_became_of_it(here: World) -> None:
    """Time is what the last accounts say, added up over robots; what no account covers stays apart; nothing is lost between."""
    found = matrix(here)
    assert (
        found.axes == ("weather", "light") and found.declared.by == "the registered file" and not found.declared.doubts
    )
    assert statuses(found) == {
        FOG: ("seen-outside-envelope", 600, 2),
        ("unknown", "unknown"): ("unknown", 30, 0),
        ("clear", "artificial"): ("declared-but-unseen", 0, 0),
        ("light_rain", "night"): ("declared-but-unseen", 0, 0),
        ("light_rain", "artificial"): ("declared-but-unseen", 0, 0),
        ("light_rain", "day"): ("declared-but-unseen", 0, 0),
        NIGHT: ("thin", 60, 0),
        DAY: ("shown", 3 * HOUR, 1),
    }
    assert found.never() == ["clear weather, artificial light", "light rain, any light"]
    assert (found.share, found.seen.runs, len(found.seen.robots)) == (1 / 6, 2, 2)
    assert found.seen.untold.ns == 240 * SECOND  # rover-2's run has no end mark, and says nothing after its heartbeat
    whole = sum(one.tally.ns for one in found.cells) + found.seen.untold.ns
    with here.store.read() as tx:
        observed = tx.connection.execute(sa.select(sa.func.sum(w.missions.c.t_last - w.missions.c.t_first))).scalar()
    assert whole == observed
    alone = matrix(here, robot="rover-1")
    assert statuses(alone)[DAY] == ("thin", 2 * HOUR, 1) and alone.share == 0
    assert matrix(here, since_ns=1 << 62).seen.runs == 0
    grid = found.table("weather", "light")
    assert [one.status for one in grid[0]] == ["thin", "declared-but-unseen", "shown", "excluded"]
    clear, rain = found.along("weather")[:2]
    assert (clear.status, clear.parts, clear.state().word) == ("thin", (1, 3), "1 of 3 declared cells shown")
    assert (rain.status, rain.parts, rain.tally.seen) == ("declared-but-unseen", (0, 3), False)
    assert [one.status for one in found.along("light")][-1] == "unknown"
    assert found.along("vibration") == [] and found.pairs() == [("weather", "light")]


def test_reading_in_pieces_leads_to_the_same_matrix(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One record at a time, from state put down in between, the rows are the same."""

    def rows() -> list[object]:
        with here.store.read() as tx:
            query = sa.select(w.exposures).order_by(*w.exposures.primary_key.columns)
            return list(tx.connection.execute(query).all())

    before = rows()
    monkeypatch.setattr(follower, "CHUNK", 1)
    with here.store.own() as tx:
        for each in (w.logs, w.exposures, w.seen, w.domains):
            tx.connection.execute(sa.delete(each))
    follower.Follower(here.store).catch_up()
    wait(lambda: rows() == before)  # where the pages' own follower was ahead, it is that one's turn
    assert len(before) == 7
    assert statuses(matrix(here)) == statuses(matrix(here, since_ns=1))  # sums that were kept; the runs added up anew
    assert matrix(here).seen.untold == matrix(here, since_ns=1).seen.untold


def test_what_is_declared_is_taken_from_the_file_else_from_robots_who_agree(tmp_path: Path) -> None:
    """Robots' word counts until a file is registered; where they disagree nothing is declared; the file says who is wrong."""
    here = world(tmp_path, missions=False)
    try:
        assert matrix(here).declared.known is False
        covered(here, registered=False)
        found = matrix(here)
        assert found.declared.by.startswith("the records of rover-1 and 1 more robot;") and found.declared.cells == 6
        other = entry("monitor.stopped", 60, odd=account({DAY: 60}, {"light": ["day"]}))
        odd_one = [entry("monitor.started", 0, subject="yard"), other]
        here.bring("liar", odd_one, 13, Digests(bytes.fromhex(YARD), b"", b""))
        found = matrix(here)
        assert not found.declared.known and found.share is None and len(found.declared.doubts) == 2
        assert {one.status for one in found.cells} == {"undeclared"}
        register(here)
        found = matrix(here)
        assert found.declared.known and found.declared.doubts == (
            "liar recorded another domain than the registered file has",
        )
        assert "liar recorded another domain" in here.client("planner").get(f"/coverage/{YARD}").text
    finally:
        here.serving.stop()


def test_another_envelope_in_the_middle_of_a_run_has_its_own_time(tmp_path: Path) -> None:
    """At a reload the old envelope's account closes its time, and what comes is the new one's."""
    here = world(tmp_path, missions=False)
    other = "6" * 64
    try:
        entries = drive({DAY: 100}, [DAY])[:-1]
        previous = {"envelope_digest": YARD, "odd": account({DAY: 40, NIGHT: 60})}
        path, key = here.folder / "reload.db", SigningKey("rover-3", bytes([14]) * 32)
        with Journal.create_or_open(path, key, epochs=True, digests=Digests(bytes.fromhex(YARD))) as journal:
            for one in entries:
                journal.append(one)
            journal.set_digests(Digests(bytes.fromhex(other)))
            journal.append(entry("envelope.activated", 100, subject="yard", previous=previous))
            journal.append(entry("monitor.stopped", 130, odd=account({NIGHT: 30})))
        send(here.store, Ingest(here.house.key), key, path)
        here.serving.follower.catch_up()
        assert matrix(here).seen == matrix(here, since_ns=1).seen and matrix(here).seen.runs == 1
        assert statuses(matrix(here))[NIGHT][1:] == (60, 0) and statuses(matrix(here))[DAY][1:] == (40, 1)
        assert matrix(here).seen.untold.ns == 0
        assert [one.tally.ns for one in matrix(here, other).cells if one.tally.seen] == [30 * SECOND]
    finally:
        here.serving.stop()


@pytest.mark.parametrize(
    "said",
    [
        None, 7, {}, {"cells": 7}, {"cells": [["clear", "day", "low", 5]]}, {"cells": [["clear", "day", "low", "free", -1]]},
        {"cells": [["clear", "day", "low", "free", True]]}, {"cells": [["<b>", "day", "low", "free", 1]]},
        {"cells": [["clear", "day", "low", "free", 1 << 62]]}, {"cells": [["clear", "day", "low", "free", 1]] * 2000},
        {"cells": [["", "", "", "", 1]]}, {"cells": [[["clear"], "day", "low", "free", 1]]},
    ],
)  # fmt: skip
def test_an_account_that_is_none_changes_nothing(said: object) -> None:
    """Of a robot's word that is not as expected no time is taken, and the one before stays."""
    stretch = Stretch(envelope=YARD, t_first=0, t_last=100)
    stretch.accounted(3, account({DAY: 60}))
    before = stretch.rows()
    stretch.accounted(4, said)
    stretch.happened("check.fail", {"bins": said})
    after = stretch.rows()
    assert [row | {"breaches": 0} for row in after] == before and stretch.account == 3
    assert [row["breaches"] for row in after if not row["weather"]] == [1]


def test_pages_lead_from_a_cell_to_the_records_behind_it(there: World) -> None:
    """From the list to the matrix, the cell, the record that tells its time and the one that began the episode."""
    client = there.client("assurance")
    assert f'href="/coverage/{YARD}"' in client.get("/coverage").text
    page = client.get(f"/coverage/{YARD}").text
    assert "17 % (n = 1 of 6 declared cells)" in page and "light rain, any light" in page
    assert "not measured under this envelope" in page  # vibration and occlusion
    assert "0.333 per h (1 in 3 h); at 95 % at least 0.0171, at most 1.58" in page
    assert "0 in 1 min; at 95 % at most 180 per h" in page
    assert f"/coverage/{YARD}/cell?weather=low_visibility&amp;light=day" in page
    cell = client.get(f"/coverage/{YARD}/cell?weather=low_visibility&light=day").text
    log = there.logs["rover-1"]
    assert "seen, not declared" in cell and f"/logs/{log}/records/10" in cell and cell.count("value 3 m/s") == 2
    assert f"/logs/{log}/missions/0" in cell
    assert client.get(f"/logs/{log}/records/10").status == 200
    untold = client.get(f"/coverage/{YARD}/cell?told=no").text
    assert "4 min" in untold and "no record" in untold and "rover-1" not in untold
    never = client.get(f"/coverage/{YARD}/cell?weather=light_rain&light=day").text
    assert "declared, never seen" in never and "No run was ever in it" in never
    mission = client.get(f"/logs/{log}/missions/0").text
    assert (
        "clear weather, daylight: 2 h; low visibility, daylight: 10 min; weather unknown, light unknown: 30 s; all of it"
        in mission
    )
    other = client.get(f"/logs/{there.logs['rover-2']}/missions/0").text
    assert "clear weather, night: 1 min; not told: 4 min" in other
    claim = client.get(f"/claims/{YARD}").text
    assert "light rain, any light" in claim and f'href="/coverage/{YARD}"' in claim


def test_filters_stand_in_the_address_and_strange_ones_are_refused(there: World) -> None:
    """Status, robot and day narrow what is shown; what is none of them is refused with a word how."""
    client = there.client("planner")
    only = client.get(f"/coverage/{YARD}?status=thin").text
    assert "clear weather, night</a>" in only.split("<h2>Cells")[1].split("<h2>")[0]
    assert "low visibility" not in only.split("<h2>Cells")[1].split("<h2>")[0]
    assert "robot=rover-2" in client.get(f"/coverage/{YARD}?robot=rover-2").text
    assert "no robot ran under it in this time" in client.get(f"/coverage/{YARD}?since=2029-01-01").text
    for path, status in (
        (f"/coverage/{YARD}?status=green", 400), (f"/coverage/{YARD}?since=yesterday", 400), (f"/coverage/{'0' * 64}", 404),
        (f"/coverage/{YARD}/cell?weather=%3Cb%3E", 400), (f"/coverage/{YARD}/cell?before=x", 400), ("/coverage/nothing", 404),
        (f"/coverage/{YARD}?as=csv&pair=weather-mood", 400), (f"/coverage/{'0' * 64}/cell", 404),
    ):  # fmt: skip
        assert client.get(path).status == status, path


def test_tables_come_as_csv_and_json(there: World) -> None:
    """The list, the matrix, a pair of axes and the runs behind a cell are files with the same figures."""
    client = there.client("planner")

    def rows(path: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(client.get(path).body.decode("utf-8-sig"))))

    (row,) = rows("/coverage?as=csv")
    assert (row["envelope"], row["declared cells"], row["shown"]) == ("envelope:yard-night@2", "6", "1")
    whole = rows(f"/coverage/{YARD}?as=csv")
    assert len(whole) == 9 and whole[-1]["weather"] == "not recorded" and whole[-1]["exposure (s)"] == "240.0"
    day = next(one for one in whole if one["status"] == "shown")
    assert (day["weather"], day["vibration"], day["exposure (s)"], day["limits passed"]) == (
        "clear",
        "any",
        "10800.0",
        "1",
    )
    assert len(rows(f"/coverage/{YARD}?as=csv&pair=light-weather")) == 4 * 4
    (run,) = json.loads(client.get(f"/coverage/{YARD}/cell?weather=low_visibility&as=json").body)
    assert (run["robot"], run["limits passed"], run["told by record"]) == ("rover-1", 2, 10)


def test_programs_get_the_same_by_the_document(there: World) -> None:
    """Both endpoints answer in the shapes that the OpenAPI document has, and refuse what is nothing."""
    client = there.client("planner")
    described = json.loads(client.get("/api/v1/openapi.json").body)
    assert {"/coverage", "/coverage/{digest}"} <= described["paths"].keys()
    assert json.loads(client.get("/api/v1/coverage").body) == [YARD]
    told = json.loads(client.get(f"/api/v1/coverage/{YARD}").body)
    assert told["never_seen"] == ["clear weather, artificial light", "light rain, any light"]
    assert told["untold_ns"] == 240 * SECOND and told["coverage"] == pytest.approx(1 / 6)
    (fog,) = [one for one in told["cells"] if one["status"] == "seen-outside-envelope"]
    assert fog["limits_passed"]["count"] == 2 and fog["limits_passed"]["upper"] == pytest.approx(37.77, abs=0.01)
    assert client.get(f"/api/v1/coverage/{ENVELOPE}").status == 404
    assert client.get("/api/v1/coverage/x").status == 400
    one = answer(ENDPOINTS[1], {"digest": YARD, "robot": "nobody"}, lambda: reading(there.serving.site, 0))
    assert json.loads(bytes(one.body))["runs"] == 0


def test_words_and_axes_are_those_of_envelopes() -> None:
    """Every bin has plain words, in the order of the core; the file is read as envelopes are."""
    assert {axis.name.lower(): tuple(CONDITIONS[axis.name.lower()]) for axis in BINS} == {
        axis.name.lower(): bins for axis, bins in BINS.items()
    }
    assert tuple(axis.name.lower() for axis in BINS) == AXES
    assert {axis.name.lower(): fields[0] for axis, fields in READ_BY_ENVELOPES.items()} == INPUTS
    assert of_file(FILE) == (
        ("weather", "light"), (("weather", ("clear", "light_rain")), ("light", ("night", "artificial", "day"))),
    )  # fmt: skip
    assert bounded(0, 0) == "0, in no recorded time: no rate"
