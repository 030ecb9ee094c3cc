"""An envelope's digest: the same for all ways of writing one content, another for every other content."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from edge_monitor.envelope import load, loads

PLAIN: dict[str, Any] = {
    "edge_monitor": 1,
    "envelope": {"id": "t", "version": 1, "vehicle": "rover", "claim": "G1"},
    "defaults": {"max_age": "1 s"},
    "signals": {
        "speed": {"topic": "/odom", "field": "v", "unit": "m/s"},
        "mode": {"topic": "/mode", "field": "m", "max_age": "90 s", "values": {"MANUAL": 0, "AUTO": 1, "LAND": 2}},
        "alt": {"topic": "/fix", "field": "a", "unit": "m", "scale": 0.001, "max_age": "never"},
    },
    "checks": {
        "fast": {"kind": "bounds", "signal": "speed", "max": 12, "leave": 11.5, "fail_for": "1500 ms", "hazard": "H1"},
        "rate": {"kind": "frequency", "signal": "speed", "min": "2000 Hz", "window": "2 s"},
        "modes": {"kind": "one_of", "signal": "mode", "values": ["MANUAL", "AUTO"], "severity": "critical"},
        "climb": {"kind": "rate", "signal": "alt", "max": 4, "latch": "manual"},
    },
    "authority": {"mode": "mode", "map": {"human": ["MANUAL"], "autonomy": ["AUTO", "LAND"]}},
    "gates": {
        "go": {"require": "all", "criteria": ["fast", {"any": ["rate", "modes"]}], "go_after": "2 s"},
        "on": {"require": "any", "criteria": ["climb", "fast"], "on_unknown": {"hold": "3 s"}},
    },
    "mission": {"risk": "low", "profiles": {"high": {"fast": {"max": 8, "leave": 7}}, "medium": {"climb": {"max": 3}}}},
}

#: Other spellings of the same values.
SPELLINGS: dict[object, list[object]] = {
    "1 s": ["1000 ms", "1.0 s", "1e9 ns", "1s"],
    "90 s": ["1.5 min", "0.025 h"],
    "1500 ms": ["1.5 s", "1500000us"],
    "2 s": ["2000 ms"],
    "3 s": ["0.05 min"],
    "2000 Hz": ["2 kHz", "2e3 Hz"],
    12: [12.0, "12 m/s", "1.2e1 m/s"],
    11.5: ["11.5 m/s", "115e-1 m/s"],
    8: ["8 m/s"],
    7: [7.0],
    4: ["4 m/s"],
}


def dump(data: object) -> bytes:
    """The data as JSON, which is YAML too."""
    return json.dumps(data).encode()


def rewritten(data: Any, random_: random.Random) -> Any:
    """The same content: mappings in another order, values in another spelling."""
    if isinstance(data, dict):
        items = [(key, rewritten(value, random_)) for key, value in data.items()]
        random_.shuffle(items)
        return dict(items)
    if isinstance(data, list):
        return [rewritten(item, random_) for item in data]
    return random_.choice([data, *SPELLINGS.get(data, [])])


def leaves(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values."""
    if isinstance(data, dict):
        return [leaf for key, value in data.items() for leaf in leaves(value, (*path, key))]
    if isinstance(data, list):
        return [leaf for i, value in enumerate(data) for leaf in leaves(value, (*path, i))]
    return [path]


def changed(data: dict[str, Any], path: tuple[Any, ...], value: object) -> dict[str, Any]:
    """A copy with one value replaced."""
    data = copy.deepcopy(data)
    at: Any = data
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    return data


@settings(max_examples=40)
@given(st.randoms(use_true_random=False))
def test_writing_does_not_matter(random_: random.Random) -> None:
    """Order of keys and spelling of values change neither the digest nor anything that is compiled."""
    first, second = loads(dump(PLAIN)), loads(dump(rewritten(PLAIN, random_)))
    assert first.digest == second.digest
    assert (first.signals, first.checks, first.gates) == (second.signals, second.checks, second.gates)


#: Another value in the place of each text, so that the file stays usable; other texts get a letter more.
OTHER: dict[str, object] = {
    "1 s": "2 s",
    "90 s": "91 s",
    "1500 ms": "1501 ms",
    "2 s": "2001 ms",
    "3 s": "4 s",
    "2000 Hz": "2001 Hz",
    "never": "9 s",
    "m/s": "km/h",
    "m": "ft",
    "speed": "alt",
    "alt": "speed",
    "mode": "speed",
    "manual": "when_cleared",
    "critical": "marginal",
    "all": "any",
    "any": "all",
    "low": "high",
    "MANUAL": 7,
    "AUTO": 7,
    "LAND": 7,
    "fast": "modes",
    "rate": "climb",
    "modes": "climb",
    "climb": "rate",
}


@pytest.mark.parametrize("path", [p for p in leaves(PLAIN) if p[0] != "edge_monitor" and p[-1] != "kind"], ids=str)
def test_every_value_matters(path: tuple[Any, ...]) -> None:
    """Changing any value of the file, whatever it is for, changes the digest."""
    at: Any = PLAIN
    for part in path:
        at = at[part]
    other = OTHER.get(at, f"{at}x") if isinstance(at, str) else at + 0.25 if path[-1] != "version" else at + 1
    if path[-1] == "signal" and at == "mode":
        data = changed(changed(PLAIN, path, "speed"), (*path[:-1], "values"), [0, 1])
    elif path[0] == "authority" and path[-1] == "mode":
        data = changed(changed(PLAIN, path, "alt"), ("authority", "map"), {"human": [0], "autonomy": [1, 2]})
    else:
        data = changed(PLAIN, path, other)
    assert loads(dump(data)).digest != loads(dump(PLAIN)).digest


def test_names_and_order_of_lists_matter() -> None:
    """Another name of a signal's state, a check left out, or criteria in another order are other contents."""
    digests = {loads(dump(PLAIN)).digest}
    swapped = changed(PLAIN, ("gates", "on", "criteria"), ["fast", "climb"])
    fewer = changed(PLAIN, ("gates", "on", "criteria"), ["climb"])
    renamed = copy.deepcopy(PLAIN)
    renamed["gates"]["in"] = renamed["gates"].pop("on")
    alone = copy.deepcopy(PLAIN)
    del alone["authority"]
    for data in (swapped, fewer, renamed, alone):
        digests.add(loads(dump(data)).digest)
    assert len(digests) == 5


def test_defaults_written_out_do_not_matter() -> None:
    """A field with its default value says what its absence says; so does an age from `defaults`."""
    data = copy.deepcopy(PLAIN)
    data["checks"]["fast"] |= {"severity": "marginal", "latch": "when_cleared", "pass_for": "0 s", "rationale": ""}
    data["signals"]["speed"] |= {"max_age": "1 s", "scale": 1, "offset": -0.0}
    data["gates"]["go"] |= {"lease": "1 s", "on_unknown": {"hold": "0 s"}}
    assert loads(dump(data)).digest == loads(dump(PLAIN)).digest


def test_comments_and_style_do_not_matter(root: Path) -> None:
    """A shipped envelope has the same digest without its comments and as JSON."""
    path = root / "configs" / "px4_multirotor.yaml"
    data = YAML(typ="safe", pure=True).load(path)
    assert loads(dump(data)).digest == load(path).digest


def packed(value: Any) -> bytes:
    """MessagePack of short texts and mappings, sorted; after the specification's table of formats."""
    if value is None:
        return b"\xc0"
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, int):
        return bytes([value]) if value < 128 else b"\xce" + struct.pack(">I", value)
    if isinstance(value, str):
        return bytes([0xA0 + len(value.encode())]) + value.encode()
    if isinstance(value, list):
        return bytes([0x90 + len(value)]) + b"".join(packed(item) for item in value)
    entries = [packed(key) + packed(value[key]) for key in sorted(value)]
    return bytes([0x80 + len(entries)]) + b"".join(entries)


def test_worked_example() -> None:
    """The digest can be had from the description in docs/configuration.md alone, with another MessagePack writer."""
    text = b"""
    edge_monitor: 1
    envelope: {id: t, version: 2, vehicle: rover}
    defaults: {max_age: 300 ms}
    signals: {v: {topic: /odom, field: x, unit: m/s}}
    checks: {fast: {kind: bounds, signal: v, max: 12 m/s, fail_for: 0.2 s, severity: marginal}}
    gates: {go: {require: all, criteria: [fast]}}
    mission: {profiles: {high: {fast: {max: 8}}}}
    """
    fast = {"fail_for": 200_000_000, "kind": "bounds", "max": 12.0, "signal": "v"}
    content = {
        "authority": None,
        "checks": {"fast": fast},
        "envelope": {"id": "t", "vehicle": "rover", "version": 2},
        "gates": {"go": {"criteria": ["fast"], "require": "all"}},
        "profiles": {"high": {"fast": fast | {"max": 8.0}}},
        "risk": "medium",
        "signals": {"v": {"field": "x", "max_age": 300_000_000, "topic": "/odom", "unit": "m/s"}},
    }
    expected = hashlib.sha256(b"edge-monitor envelope 1\n" + packed(content)).hexdigest()
    assert loads(text).digest == expected
    assert expected == "e53650ab93d1ab3e1d6493cf1cbdc009d84126481318ea60d4d2d103b848a03e"
