"""The signals around an event, out of a black box that a real run kept and delivered: what is shown, proven, and refused."""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import zstandard
from browser import ENTER, MISSING, TAB, Browser, is_here
from hypothesis import given
from hypothesis import strategies as st
from pages_world import flight
from signals_world import SECOND, Driven, deliver, driven
from test_pages_browser import CONTRAST, NAMES, WIDER, signed_in

from edge_monitor import envelope as envelopes
from edge_monitor.core.samples import SAMPLE
from edge_monitor.tape import Kind, read
from edge_monitor.tape.format import BLOCK, CRC, HEAD_SIZE, MAX_RAW, aligned, pack_block
from edge_monitor.tape.traces import in_words
from edge_registry.web import signals
from edge_registry.web.plots import plot
from edge_registry.web.signals import Signals

#: How many points of a canvas are drawn in the colour of a signal.
INK = """
const c = document.querySelector('canvas'), data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
let count = 0;
for (let i = 0; i < data.length; i += 4) count += data[i] < 60 && data[i + 1] > 50 && data[i + 1] < 110 && data[i + 2] > 130;
return count;
"""
BOX = "const b = document.querySelector(arguments[0]).getBoundingClientRect(); return [b.width, b.height]"
LIMIT = 8, 1008_100_000_000  #: the record with which the first gate closes, and when


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    """A run with three incidents, two of which were delivered; beside it a robot without a black box."""
    found = driven(tmp_path_factory.mktemp("signals"))
    found.world.bring("plane", flight(), 1)
    yield found
    found.world.serving.stop()


def asked(here: Driven, sequence: int, rest: str = "") -> dict[str, Any]:
    """What a program is answered."""
    answer = here.world.client("assurance").get(here.answers(sequence, rest))
    assert answer.status == 200, answer.text
    found: dict[str, Any] = json.loads(answer.text)
    return found


def samples(path: Path, name: str, begin: int, end: int) -> list[tuple[int, float]]:
    """All samples of a signal in a tape, by going through it."""
    number = [signal.name for signal in envelopes.loads((path.parents[3] / "kept.yaml").read_bytes()).signals].index(
        name
    )
    found = []
    for block in read(path).blocks:
        for entry in block.entries():
            if entry.kind == Kind.ITEMS:
                for row in np.frombuffer(entry.payload, SAMPLE):
                    if row["signal"] == number and begin <= row["t"] <= end:
                        found.append((int(row["t"]), float(row["value"])))
    return found


def test_the_signals_of_an_event_are_those_of_the_tape(here: Driven) -> None:
    """Thinned to a few hundred points, with every extreme, a break where nothing counts, the limits, and what proves it."""
    sequence, at = LIMIT
    assert here.record("gate.no_go", 1) == sequence
    found = asked(here, sequence, "?before=4&after=2")
    (trace,) = found["signals"]
    there = samples(here.incidents[0], "speed", at - 4 * SECOND, at + 2 * SECOND)
    values = [value for _, value in there]
    assert (found["time_ns"], trace["name"], trace["unit"]) == (at, "speed", "m/s")
    assert (trace["samples"], trace["low"], trace["high"]) == (len(values), min(values), max(values)) and len(
        values
    ) > 2000
    assert trace["at"] == [value for t, value in there if t <= at][-1]
    points = [(t, value) for t, value in trace["points"] if value is not None]
    assert len(trace["points"]) <= 3 * 240 and {min(values), max(values)} <= {value for _, value in points}
    exact = {(round((t - at) / SECOND, 6), value) for t, value in there}
    assert {(t, value) for t, value in points} <= exact
    breaks = [t for t, value in trace["points"] if value is None]
    assert breaks == [0.7]  # 300 ms after the last value before a pause of 700 ms
    assert trace["limits"] == [["speed_limit: max", 12.0], ["speed_limit: leave max", 11.0]]
    assert found["checks"] == [{"name": "speed_limit", "words": "speed: max 12 m/s, leave max 11 m/s"}]
    assert found["black_box"] == {
        "file": here.incidents[0].name, "record": here.record("incident.kept"),
        "sha256": hashlib.sha256(here.incidents[0].read_bytes()).hexdigest(),
    }  # fmt: skip
    assert 2.0 <= found["proven_to_s"] < 5 and found["failure"] == ""


def test_states_have_their_names_and_made_signals_are_shown_by_what_they_are_made_of(here: Driven) -> None:
    """A mode is told change by change; of a signal that is made of another, the other is drawn."""
    found = asked(here, here.record("check.fail"))
    (mode,) = found["signals"]
    assert found["checks"] == [{"name": "in_auto", "words": "mode: AUTO"}]
    assert [name for _, name in mode["states"]] == ["AUTO", "MANUAL", "AUTO"]
    assert mode["states"][1] == [0.0, "MANUAL"] and mode["points"] == []
    doubled = asked(here, here.record("check.unknown", 0))
    assert [one["name"] for one in doubled["signals"]] == ["speed"]


def test_what_is_not_there_is_written_out(here: Driven) -> None:
    """No black box of the boot, none of this moment, one that was kept and not delivered: each is a sentence, on every page."""
    client, plane = here.world.client("assurance"), here.world.logs["plane"]
    none = "no black box was delivered for this boot"
    for page in (f"/logs/{plane}/records/6", f"/logs/{plane}/records/6/signals", f"/logs/{plane}/missions/0"):
        assert none in client.get(page).text, page
    end = here.record("monitor.stopped")
    for sequence, words in ((end, "no black box covers this moment: of this boot the robot kept -"),
                            (here.record("gate.no_go", 5), "it is not here yet")):  # fmt: skip
        assert words in client.get(f"/logs/{here.log}/records/{sequence}").text
        page = client.get(here.page(sequence)).text
        assert words in page and "<svg class" not in page
        answer = asked(here, sequence)
        assert words in answer["failure"] and answer["signals"] == []
    mission = client.get(f"/logs/{here.log}/missions/0").text
    assert "3 kept around incidents, 2 of them delivered" in mission
    assert here.page(LIMIT[0]) in mission and here.page(end) not in mission
    kept = here.record("incident.kept")
    assert "names no check, gate or signal" in asked(here, kept)["failure"]


def test_a_page_has_pictures_and_figures_without_scripts(here: Driven) -> None:
    """Lines, limits with their unit, the moment of the event, a table; the points as CSV and JSON; another time when asked."""
    client = here.world.client("field_engineer")
    page = client.get(here.page(LIMIT[0])).text
    assert page.count("<polyline") == 2 and "speed_limit: max 12 m/s" in page and 'class="event"' in page
    assert "between 5.0" in page and '<td data-label="At the event" class="t">20.' in page
    rows = list(csv.reader(io.StringIO(client.get(here.page(LIMIT[0], "?as=csv")).body.decode("utf-8-sig"))))
    assert rows[0] == ["signal", "unit", "s since the event", "value"]
    points = [(float(row[2]), float(row[3])) for row in rows[1:] if row[3]]
    assert points == [(t, v) for t, v in asked(here, LIMIT[0])["signals"][0]["points"] if v is not None]
    assert json.loads(client.get(here.page(LIMIT[0], "?as=json")).text)[0]["signal"] == "speed"
    assert 'value="600"' in client.get(here.page(LIMIT[0], "?before=99999&after=1")).text
    assert client.get(here.page(LIMIT[0], "?before=x")).status == 400
    assert client.get(here.page(10_000)).status == 404


def test_who_looked_is_written_down(here: Driven) -> None:
    """Signals are payloads: reading them leaves a line, by a page and by a program."""
    here.world.client("approver").get(here.page(LIMIT[0]))
    here.world.client("approver").get(here.answers(LIMIT[0]))
    rows = here.world.client("key_admin").get("/audit?person=approver").text
    assert rows.count("signals read") == 2 and here.page(LIMIT[0]) in rows


def flipped(data: bytes) -> bytes:
    """One bit in the middle of the last block."""
    return data[:-200] + bytes([data[-200] ^ 1]) + data[-199:]


def chained(data: bytes, raws: list[bytes]) -> bytes:
    """A file with these blocks, all of them sound."""
    out, before = data[:88], bytes(32)
    blocks = b""
    for sequence, raw in enumerate(raws, BLOCK.unpack_from(data, HEAD_SIZE)[1]):
        head, packed = pack_block(sequence, 0, (0, 1), before, raw, zstandard.ZstdCompressor(1))
        before = BLOCK.unpack_from(head)[8]
        blocks += (head + packed).ljust(aligned(len(head + packed)), b"\0")
    return out + len(blocks).to_bytes(8, "little") + data[96:HEAD_SIZE] + blocks


def forged(data: bytes) -> bytes:
    """Whole in itself, but one byte of the first block is another than was recorded."""
    place, raws = HEAD_SIZE, []
    while place < len(data):
        stored = BLOCK.unpack_from(data, place)[3]
        raws.append(zstandard.ZstdDecompressor().decompress(data[place + BLOCK.size + CRC.size :][:stored]))
        place += aligned(BLOCK.size + CRC.size + stored)
    return chained(data, [raws[0][:-1] + bytes([raws[0][-1] ^ 1]), *raws[1:]])


def bomb(data: bytes) -> bytes:
    """A hundred kilobytes that become a gigabyte."""
    return chained(data, [bytes(MAX_RAW)] * 17)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"x" * 5000, "is not a tape"),
        (lambda data: data[: HEAD_SIZE + 500], "sizes that can't be"), (flipped, "no signed digest covers any part"),
        (forged, "not the black box that the robot signed"), (bomb, "more memory than a plot is worth"),
    ],
    ids=["noise", "short", "flipped", "forged", "bomb"],
)  # fmt: skip
def test_a_black_box_that_was_changed_shows_nothing(
    here: Driven, tmp_path: Path, change: Callable[[bytes], bytes], words: str
) -> None:
    """Whatever a robot delivers under the name of what it signed: a sentence, and the pages go on."""
    data = change(here.incidents[2].read_bytes())
    path = tmp_path / here.incidents[2].name
    path.write_bytes(data)
    digest = deliver(here.world, "robot", "incident", path)
    try:
        found = asked(here, here.record("gate.no_go", 5))
        assert words in found["failure"] and found["signals"] == [], found["failure"]
        assert str(tmp_path) not in found["failure"] and str(here.world.folder) not in found["failure"]
        page = here.world.client("assurance").get(here.page(here.record("gate.no_go", 5))).text
        assert words in html.unescape(page)
    finally:
        with here.world.store.begin() as tx:
            tx.connection.exec_driver_sql(f"delete from blobs where hex(digest) = '{digest.hex().upper()}'")


def test_bounds_of_size_time_and_number(here: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is too large is not read, a process that takes too long is ended, and who waits too long is told."""
    site = here.world.serving.site
    monkeypatch.setattr(site, "signals", Signals())
    monkeypatch.setattr(signals, "LARGEST", 1000)
    assert "nothing is drawn of one so large" in asked(here, LIMIT[0])["failure"]
    monkeypatch.undo()
    monkeypatch.setattr(site, "signals", Signals())
    monkeypatch.setattr(signals, "TIMEOUT_S", 0.01)
    assert "could not be read within" in asked(here, LIMIT[0])["failure"]
    monkeypatch.undo()
    monkeypatch.setattr(site, "signals", Signals())
    monkeypatch.setattr(signals, "PATIENCE_S", 0.05)
    for _ in range(signals.AT_ONCE):
        site.signals._room.acquire()
    assert "other black boxes are being read" in asked(here, LIMIT[0])["failure"]
    for _ in range(signals.AT_ONCE):
        site.signals._room.release()
    assert asked(here, LIMIT[0])["failure"] == ""  # nothing of that was kept


def test_no_request_makes_it_fail(here: Driven) -> None:
    """Schemathesis makes requests from the OpenAPI document: none ends with 5xx, or otherwise than the document says."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, settings

    client = here.world.client("assurance")
    document = json.loads(client.get("/api/v1/openapi.json").text)
    path = "/robots/{robot}/records/{log}/{sequence}/signals"
    answers = document["paths"][path]["get"]["responses"]
    shape = {**answers["200"]["content"]["application/json"]["schema"], "components": document["components"]}
    jsonschema.validate(asked(here, LIMIT[0]), shape)
    jsonschema.validate(asked(here, here.record("monitor.stopped")), shape)
    document["paths"] = {path: document["paths"][path]}
    (operation,) = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
    statuses: set[int] = set()

    @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def request(case: Any) -> None:
        from urllib.parse import quote, urlencode

        target = "/api/v1" + path
        for name, value in case.path_parameters.items():
            target = target.replace(f"{{{name}}}", quote(str(value), safe=""))
        query = urlencode(case.query or {}, doseq=True)
        answer = client.get(f"{target}?{query}" if query else target)
        statuses.add(answer.status)
        assert str(answer.status) in answers, (target, query, answer.text)

    request()
    for rest, status in (
        ("?before=0", 400),
        ("?after=601", 400),
        ("?before=nan", 400),
        ("?x=1", 400),
        ("?before=1.5", 400),
    ):
        assert client.get(here.answers(LIMIT[0], rest)).status == status, rest
    assert client.get(here.answers(99_999)).status == 404 and statuses <= {200, 400, 404}


def test_every_check_of_the_configurations_is_put_into_words(root: Path) -> None:
    """What a check asks is one line for people, whatever its kind."""
    kinds = set()
    for path in sorted((root / "configs").glob("*.yaml")):
        envelope = envelopes.load(path)
        for check in envelope.checks:
            words = in_words(check, envelope)
            assert words and "\n" not in words and "None" not in words and "inf" not in words.split(), (
                path,
                check.name,
                words,
            )
            kinds.add(check.kind)
    assert len(kinds) >= 10, kinds


@pytest.mark.skipif(not is_here(), reason=MISSING)
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_signals_in_a_browser(here: Driven, scripts: bool) -> None:
    """Wide and narrow: drawn by uPlot, or as the page has it; nothing runs out at the side, the console is quiet."""
    record, end = f"logs/{here.log}/records/{LIMIT[0]}", here.record("monitor.stopped")
    with Browser(scripts=scripts) as browser:
        signed_in(here.world, browser)
        narrow = (record, f"logs/{here.log}/records/{end}/signals", f"logs/{here.log}/missions/0")
        for path, widths in ((f"{record}/signals", (1280, 400)), *((path, (400,)) for path in narrow)):
            for width in widths:
                browser.size(width, 900)
                browser.open(here.world.serving.url + path)
                drawn = path in (record, f"{record}/signals")
                if drawn and scripts:
                    browser.run("document.querySelector('[data-signals]').scrollIntoView()")
                    browser.wait("return document.querySelector('[data-shown=yes] canvas')")
                    size = browser.run(BOX, "canvas")
                    assert width / 2 < size[0] <= width and size[1] > 100, size
                    assert browser.run("return document.querySelectorAll('svg.plot').length") == 0
                    assert browser.run(INK) > 300
                elif drawn and path != record:
                    box = browser.run(BOX, "svg.plot")
                    assert width / 2 < box[0] <= width and box[1] == 184
                assert browser.run(WIDER) <= 0, (path, width)
                assert browser.run(CONTRAST) == [], (path, width)
                assert browser.run(NAMES) == [], path
                assert browser.log() == [], path


@pytest.mark.skipif(not is_here(), reason=MISSING)
def test_signals_by_keyboard_alone(here: Driven) -> None:
    """From a record to its signals with Tab and Enter, and to another time by the form."""
    with Browser() as browser:
        signed_in(here.world, browser)
        browser.open(f"{here.world.serving.url}logs/{here.log}/records/{LIMIT[0]}")
        for _ in range(60):
            browser.press(TAB)
            if browser.run("return document.activeElement.textContent.trim()") == "Show the signals":
                break
        browser.press(ENTER)
        browser.wait("return location.pathname.endsWith('/signals') && document.readyState === 'complete'")
        for _ in range(60):
            browser.press(TAB)
            if browser.run("return document.activeElement.id") == "before":
                break
        browser.press("2", ENTER)  # what stood there is selected by Tab
        browser.wait("return location.search.includes('before=2&after=5') && document.readyState === 'complete'")
        browser.wait("return document.querySelector('[data-shown=yes] canvas')")


@given(
    st.lists(st.tuples(st.floats(-600, 600), st.none() | st.floats(-1e100, 1e100)), max_size=8),
    st.lists(st.tuples(st.just("limit"), st.floats(allow_nan=False, allow_infinity=False)), max_size=3),
)
def test_whatever_the_values_a_picture_has_places_for_them(points: list[Any], limits: list[Any]) -> None:
    """However large, small or equal values and limits are, each line and word has finite coordinates, or there is no picture."""
    trace: Any = {"name": "x", "unit": "m", "points": points, "limits": limits}
    found = plot(trace, 600, 600)
    assert (found is None) == all(value is None for _, value in points)
    if found is not None:
        places = [float(number) for line in found.lines for pair in line.split(" ") for number in pair.split(",")]
        places += [y for y, _ in (*found.levels, *found.limits)]
        assert all(abs(place) <= 1e4 for place in places) and len(found.levels) <= 9
        assert len(found.limits) + len(found.beyond) == len(limits)
