"""Robots that were under conditions of all kinds, and the envelope that declares some of them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

from pages_world import SECOND, START, World, entry

from edge_monitor.journal import Digests, Entry, Severity
from edge_monitor.journal.keys import SigningKey
from edge_monitor.people import load as load_people
from edge_registry.catalogue.entering import Registration, take
from edge_registry.catalogue.statements import Trust

YARD = "5" * 64  #: digest of the envelope below
FILE = b"""edge_monitor: 1
envelope: {id: yard-night, version: 2, vehicle: rover}
odd:
  rain: rain
  illuminance: lux
  domain: {weather: [clear, light_rain], light: [day, artificial, night]}
"""
HOUR = 3600
Times = Mapping[tuple[str, str], int]  #: s in weather and light; vibration and occlusion are not measured


def account(times: Times, domain: Mapping[str, list[str]] | None = None) -> dict[str, object]:
    """What a heartbeat tells."""
    cells = [[*names, "unknown", "unknown", s * SECOND] for names, s in sorted(times.items())]
    declared = (
        {"weather": ["clear", "light_rain"], "light": ["night", "artificial", "day"]} if domain is None else domain
    )
    return {"measured": ["weather", "light"], "domain": declared, "since_ns": START, "cells": cells}


def drive(times: Times, breaches: list[tuple[str, str]], *, ended: bool = True, more_s: int = 0) -> list[Entry]:
    """A run: a limit passed in each of some conditions, an account in the middle, and one at the end, if it came to that;
    ``more_s``: time after the last account."""
    whole = sum(times.values())
    found = [
        entry("monitor.started", 0, subject="yard", envelope="yard-night", risk="low"),
        entry("envelope.activated", 0, subject="yard", envelope="yard-night"),
    ]
    for number, (weather, light) in enumerate(breaches):
        bins = {"weather": weather, "light": light, "vibration": "unknown", "occlusion": "unknown"}
        measured = {"value": 3.0, "limit": 2.0, "margin": -1.0, "unit": "m/s"}
        found += [
            entry(
                "check.fail", 1 + number, Severity.CRITICAL, subject="speed", rules=("speed",), bins=bins, **measured
            ),
            entry("check.pass", 1.5 + number, subject="speed", rules=("speed",)),
        ]
    found.append(entry("monitor.heartbeat", whole // 2, odd=account({("clear", "day"): whole // 2})))
    if ended:
        return [*found, entry("monitor.stopped", whole + more_s, odd=account(times))]
    return [
        *found,
        entry("monitor.heartbeat", whole, odd=account(times)),
        entry("check.unknown", whole + more_s, subject="speed"),
    ]


def covered(world: World, *, registered: bool = True) -> None:
    """Two robots by day for more than an hour, one of them also in fog and for a moment at night; and what is declared."""
    digests = Digests(bytes.fromhex(YARD), b"", b"0.1.0")
    day = {("clear", "day"): 2 * HOUR, ("low_visibility", "day"): 600, ("unknown", "unknown"): 30}
    world.bring(
        "rover-1", drive(day, [("clear", "day"), ("low_visibility", "day"), ("low_visibility", "day")]), 11, digests
    )
    night = {("clear", "day"): HOUR, ("clear", "night"): 60}
    world.bring("rover-2", drive(night, [], ended=False, more_s=240), 12, digests)
    if registered:
        register(world)


def register(world: World) -> None:
    """The envelope, with its file, in the catalogue."""
    trust, now = Trust(load_people(world.folder / "people.yaml")), time.time_ns()
    one = Registration("envelope", "yard-night", "2", YARD, "approver", {}, (), hashlib.sha256(FILE).hexdigest())
    with world.store.begin() as tx:
        data = one.signed("planner", SigningKey("planner", bytes([100]) * 32), now)
        assert take(tx, data, trust, now, [FILE]).standing.holds
