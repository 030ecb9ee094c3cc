"""The demo's flight shows what was injected into it, exactly as its expected events say; and the demo itself, flown."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pages_world import Client

from edge_monitor import envelope
from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.verify import verify
from edge_registry.house import open_house
from edge_registry.web.serving import Serving, parse_address, site
from edge_replay.replay import replay


@pytest.fixture(scope="module")
def scenarios(root: Path) -> Iterator[Path]:
    """The folder of the demo's modules, which can be imported."""
    folder = root / "replay/scenarios"
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def signs(scenarios: Path) -> ModuleType:
    """What must show."""
    return importlib.import_module("signs")


@pytest.fixture(scope="module")
def events(root: Path) -> list[dict[str, Any]]:
    """What a replay of the flight finds."""
    loaded = envelope.load(root / "configs/survey_plane.yaml")
    return [event.document() for event in replay(root / "replay/scenarios/survey_flight.mcap", loaded).events]


@pytest.fixture(scope="module")
def truth(root: Path) -> dict[str, Any]:
    """What was injected."""
    found: dict[str, Any] = json.loads((root / "replay/scenarios/survey_flight.expected.json").read_text())
    return found


def test_a_replay_gives_the_expected_events(signs: ModuleType, events: list[dict[str, Any]]) -> None:
    """Breaches, recoveries, gates, command, failsafe and inputs are those of the file, to the nanosecond."""
    expected = json.loads(signs.EXPECTED.read_text())
    assert signs.compared(events) == expected
    assert {event["type"] for event in expected} >= {
        "check.fail", "check.pass", "gate.go", "gate.no_go", "authority.changed", "failsafe.start", "failsafe.end",
        "input.lost", "input.restored",
    }  # fmt: skip


def test_every_incident_has_its_sign_in_time(
    signs: ModuleType, events: list[dict[str, Any]], truth: dict[str, Any]
) -> None:
    """Each injected incident shows by the event and within the time that were stated by hand."""
    assert [(sign.what, sign.t) for sign in signs.SIGNS] == [(i["what"], i["t_s"]) for i in truth["injected"]]
    for sign in signs.SIGNS:
        if sign.type:
            assert signs.sign_of(sign, events) is not None, sign
    assert sum(bool(sign.type) for sign in signs.SIGNS) >= 12


def test_expected_events_show_every_incident_too(signs: ModuleType, truth: dict[str, Any]) -> None:
    """The file of expected events itself agrees with the ground truth, whatever the monitor says."""
    expected = json.loads(signs.EXPECTED.read_text())
    for sign in signs.SIGNS:
        if sign.type:
            assert signs.sign_of(sign, expected) is not None, sign


def test_commands_follow_the_injected_modes(events: list[dict[str, Any]], truth: dict[str, Any]) -> None:
    """Who commands changes when the injected modes say so, and at no other time."""
    changes = [event for event in events if event["type"] == "authority.changed"]
    expected = [
        ("unknown", "human"),
        ("human", "autonomy"),
        ("autonomy", "human"),
        ("human", "autonomy"),
        ("autonomy", "fallback"),
        ("fallback", "autonomy"),
        ("autonomy", "none"),
    ]
    assert [(event["from"], event["to"]) for event in changes] == expected
    failsafe = next(item for item in truth["injected"] if item["what"] == "failsafe")
    end = next(event for event in events if event["type"] == "failsafe.end")
    assert (end["t_ns"] - truth["start_ns"]) / 1e9 == pytest.approx(failsafe["until_s"], abs=0.001)
    reasons = {
        item["reason"] for item in truth["injected"] if "reason" in item and item["what"] in ("mode", "disarmed")
    }
    assert {event["cause"] for event in changes} >= reasons


def test_nothing_fires_that_was_not_injected(events: list[dict[str, Any]], truth: dict[str, Any]) -> None:
    """Every breach lies within an incident (and what follows from it), or on the final approach and landing."""
    spans = [(i["t_s"], i.get("until_s", i["t_s"])) for i in truth["injected"] if i["what"] != "turbulence"]
    landing = next(i["t_s"] for i in truth["injected"] if i.get("value") == "AUTO_LAND")
    for event in events:
        if event["type"] == "check.fail":
            t = (event["t_ns"] - truth["start_ns"]) / 1e9
            inside = any(a - 0.001 <= t <= b + 0.001 for a, b in spans)
            assert inside or (t > landing and event["subject"] in ("height_band", "airspeed_low")), event
    frozen = next(i for i in truth["injected"] if i["what"] == "airspeed_frozen")
    quiet = [e for e in events if frozen["t_s"] <= (e["t_ns"] - truth["start_ns"]) / 1e9 < frozen["until_s"]]
    assert quiet == []


def test_flown_and_recorded_are_one_stream(scenarios: Path) -> None:
    """What JSBSim flies now and what the recording plays are the same frames at the same times (20 s of them)."""
    if find_spec("jsbsim") is None:
        pytest.skip("JSBSim is not installed here: pip install 'edge-monitor[sim]'")
    stream, truth = importlib.import_module("stream"), importlib.import_module("signs").TRUTH
    if version("jsbsim") != truth["jsbsim"]:
        pytest.skip(f"the recording was made with JSBSim {truth['jsbsim']}")
    end = truth["start_ns"] + 20 * 10**9
    flown, played = (
        [
            (now, [(m.t, m.topic, m.meta, m.payload) for m in sent])
            for now, sent in takewhile(lambda tick: tick[0] < end, ticks)
        ]
        for ticks in (stream.simulated(truth["seed"]), stream.recorded(scenarios / "survey_flight.mcap"))
    )
    assert len(flown) == 2000 and sum(len(messages) for _, messages in flown) > 1200
    assert flown == played


def masked(line: str) -> str:
    """A line without its figures and ids, which differ from run to run."""
    return re.sub(r"[0-9a-f]{8}[0-9a-f-]{8,}|<log id>|<boot>|[+-]?\d[\d.,]*", "#", " ".join(line.split()))


def start(scenarios: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """The demo in a process group of its own."""
    command = [sys.executable, str(scenarios / "demo.py"), "--out", str(out), *more]
    wide = {name: value for name, value in os.environ.items() if name != "COLUMNS"}  # as in a pipe, whoever tests
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=out.parent,
        env=wide,
    )


def test_the_demo_runs(scenarios: Path, root: Path, tmp_path: Path) -> None:
    """`make demo`, two minutes of the flight as fast as it goes: handover to a signed end, journal verified, every decision made
    again, one changed sample found, the same events as in a replay, all of it in a registry, a packet that two verifiers accept,
    and the README shows what it prints."""
    run = start(scenarios, tmp_path / "demo", "--rate", "0", "--until", "130")
    printed, errors = run.communicate(timeout=500)
    assert run.returncode == 0, errors
    assert "monitor-1: autonomy → human, asked by monitor: gate autonomy is NO_GO" in printed
    accepted = re.search(
        r"([\d.]+) s  accepted by olivia with an own key, over its terms and the journal's first (\d+)", printed
    )
    assert accepted is not None and 92.705 < float(accepted[1]) < 97 and int(accepted[2]) > 20
    assert "+104.021 s  completed by olivia: human is in command" in printed
    assert (
        "acknowledged after" in printed
        and "in command after 11.316 s; no controller for 0 s; two controllers" in printed
    )
    proofs = printed.partition("The journal proves")[2]
    assert proofs.count("verified, signed by robot") == 1 and "\nEQUAL\n" in proofs
    assert (
        "from 32.2812 to 42.2812 m/s" in proofs and "DIFFERS   the tape is not the one that the journal names" in proofs
    )
    assert "those of survey_flight.events.json" in proofs
    assert re.search(r"\n(\d+) of \1 records receipted", proofs), "the registry has all of it"
    assert proofs.count("\nVERIFIED\n") == 2 and "events came out as they were recorded" in proofs
    shown_in_a_browser(tmp_path / "demo/registry", printed, root)
    shown = re.search(r"<!-- output:demo -->\n(.*?)<!-- end -->", (root / "README.md").read_text("utf-8"), re.DOTALL)
    assert shown is not None
    known = {masked(line) for line in shown[1].splitlines()}
    folder = os.path.relpath(tmp_path / "demo", root)
    told = printed.partition("The monitor starts")[2].partition("What was made")[0] + proofs.partition("\n")[2]
    lines = told.partition("All of it took")[0].replace(folder, "build/demo").splitlines()[1:]
    anew = [
        line
        for line in lines
        if masked(line) not in known and not re.search("as fast as it goes|^DIFFERS|^The jour", line)
    ]
    assert anew == [], "the README shows another output: make docs"


def shown_in_a_browser(registry: Path, printed: str, root: Path) -> None:
    """The token that is printed opens the pages: fleet, mission, event with its bytes; and one click makes a verified packet."""
    token = re.search(r"open http://127.0.0.1:8480/ and sign in with  (ert1\.\S+)\n", printed)
    assert token is not None and f"$ edge-registry web --dir {os.path.relpath(registry, root)} --http" in printed
    serving = Serving(site(open_house(registry), None), parse_address("127.0.0.1:*"))
    serving.follower.catch_up()
    serving.start()
    try:
        client = Client(int(serving.url.rstrip("/").rpartition(":")[2]))
        assert client.sign_in(token[1]).status == 303
        mission = re.search(r'href="(/logs/[0-9a-f-]+/missions/\d+)"', client.get("/fleet").text)
        assert mission is not None
        page = client.get(mission[1]).text
        breach = re.search(r'<a href="([^"]+)"><svg[^>]*><title>airspeed_agrees, from \+92\.7 s', page)
        assert breach is not None and "human asked by monitor" in page
        record = client.get(breach[1]).text
        assert "Proven: these bytes are in the log" in record and "000000" in record
        form = dict(re.findall(r'name="(csrf|log|first|end)" value="([^"]*)"', page))
        packet = client.ask("POST", "/packets", form)
        assert packet.status == 303
        assert "VERIFIED: everything holds, nothing is missing" in client.get(packet.headers["location"]).text
    finally:
        serving.stop()


def test_ctrl_c_ends_the_demo_and_its_monitor(scenarios: Path, tmp_path: Path) -> None:
    """In the middle of the flight, played from the recording: code 130, no process is left, and the journal has a clean end."""
    run = start(scenarios, tmp_path / "demo", "--play", "--rate", "10")
    assert run.stdout is not None
    told = list(takewhile(lambda line: "autonomy in command" not in line, run.stdout))
    assert any("the recorded flight is played" in line for line in told)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=300)  # a machine that stands still has its time
    assert run.returncode == 130 and "Traceback" not in errors, errors
    assert not [group for group in groups() if group == run.pid]
    report = verify(tmp_path / "demo/journal.db", [load_verifier_key(tmp_path / "demo/robot.pub")])
    assert report.ok and [one.ended for one in report.runs] == [True]


def groups() -> Iterator[int]:
    """Process groups of all processes that run."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
            if state != "Z":
                yield int(group)
