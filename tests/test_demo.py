"""The demo's flight shows what was injected into it, exactly as its expected events say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edge_monitor import envelope
from edge_replay.replay import replay


@pytest.fixture(scope="module")
def demo(root: Path) -> ModuleType:
    """The demo's script as a module."""
    folder = str(root / "replay/scenarios")
    sys.path.insert(0, folder)
    try:
        import demo as module
    finally:
        sys.path.remove(folder)
    return module


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


def test_a_replay_gives_the_expected_events(demo: ModuleType, events: list[dict[str, Any]]) -> None:
    """Breaches, recoveries, gates, command, failsafe and inputs are those of the file, to the nanosecond."""
    expected = json.loads(demo.EXPECTED.read_text())
    assert demo.compared(events) == expected
    assert {event["type"] for event in expected} >= {
        "check.fail", "check.pass", "gate.go", "gate.no_go", "authority.changed", "failsafe.start", "failsafe.end",
        "input.lost", "input.restored",
    }  # fmt: skip


def test_every_incident_has_its_sign_in_time(
    demo: ModuleType, events: list[dict[str, Any]], truth: dict[str, Any]
) -> None:
    """Each injected incident shows by the event and within the time that were stated by hand."""
    assert [(sign.what, sign.t) for sign in demo.SIGNS] == [(i["what"], i["t_s"]) for i in truth["injected"]]
    for sign in demo.SIGNS:
        if sign.type:
            assert demo.sign_of(sign, events, truth["start_ns"]) is not None, sign
    assert sum(bool(sign.type) for sign in demo.SIGNS) >= 12


def test_expected_events_show_every_incident_too(demo: ModuleType, truth: dict[str, Any]) -> None:
    """The file of expected events itself agrees with the ground truth, whatever the monitor says."""
    expected = json.loads(demo.EXPECTED.read_text())
    for sign in demo.SIGNS:
        if sign.type:
            assert demo.sign_of(sign, expected, truth["start_ns"]) is not None, sign


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


def test_the_demo_runs(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`make demo` tells its story, verifies the journal, and finds the forged record by its number."""
    monkeypatch.setattr(demo, "BUILD", tmp_path / "demo")
    monkeypatch.setattr(sys, "argv", ["demo.py"])
    demo.main()
    printed = capfd.readouterr().out
    assert "autonomy → human: Pilot took over using sticks" in printed
    assert "53 events are those of survey_flight.events.json" in printed
    assert printed.count("integrity     verified") == 1 and printed.count("integrity     FAILED") == 1
    takeover = next(
        line
        for line in (tmp_path / "demo/events.jsonl").read_text().splitlines()
        if "Pilot took over" in line and "authority.changed" in line
    )
    number = (tmp_path / "demo/events.jsonl").read_text().splitlines().index(takeover)
    assert f"record {number}:" in printed.partition("integrity     FAILED")[2]
