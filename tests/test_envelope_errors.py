"""Every mistake in an envelope file is found, at its place, with a word on how to mend it; nothing else happens."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_monitor.envelope import EnvelopeError, loads

BASE = """\
edge_monitor: 1
envelope: {id: test, version: 1, vehicle: rover}
signals:
  speed: {topic: /odom, field: v, unit: m/s, max_age: 1 s}
  lat: {topic: /fix, field: latitude, unit: deg, max_age: 1 s}
  lon: {topic: /fix, field: longitude, unit: deg, max_age: 1 s}
  age: {topic: /odom, field: header.stamp, max_age: 1 s}
  mode: {topic: /mode, field: m, max_age: 1 s, values: {MANUAL: 0, AUTO: 1}}
  word: {topic: /state, field: data, max_age: never}
checks:
  alive: {kind: stale, signal: speed, max: 1 s}
"""
LINE = re.compile(r"<envelope>:\d+:\d+: .+")


def problems(text: str | bytes) -> list[str]:
    """The lines of the errors of a file, without its name; each has the form that the documentation promises."""
    with pytest.raises(EnvelopeError) as caught:
        loads(text if isinstance(text, bytes) else text.encode())
    lines = str(caught.value).splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    assert len(lines) == len(caught.value.problems)
    places = [(p.mark.line, p.mark.column) for p in caught.value.problems]
    assert places == sorted(places)
    return [line.removeprefix("<envelope>:") for line in lines]


def only_problem(text: str, expected: str, *, among: bool = False) -> None:
    """The file's only problem (or one of them) reads as expected, and stands where `▸` is in the text."""
    at = text.find("▸")
    found = [line for line in problems(text.replace("▸", "")) if expected in line]
    assert len(found) == 1
    assert among or len(problems(text.replace("▸", ""))) == 1
    if at >= 0:
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        assert found[0].startswith(f"{line}:{column}: ")


# `▸` marks the place that the problem must name.
CHECKS = [
    ("kind: ▸bonds, signal: speed, max: 1", "checks.c.kind: there is no kind of check `bonds`: one of bounds, rate, "),
    ("signal: speed, max: 1", "checks.c.kind: is required: one of bounds, rate, stale, "),
    ("kind: bounds, signal: ▸sped, max: 1", "checks.c.signal: no signal is named `sped` (did you mean `speed`?)"),
    ("kind: bounds, max: 1", "checks.c.signal: is required"),
    (
        "kind: bounds, signal: speed, max: 1, ▸sevrity: low",
        "checks.c.sevrity: unknown field (did you mean `severity`?)",
    ),
    (
        "kind: bounds, signal: speed, max: 1, severity: ▸crtical",
        "`critical`, `marginal`, `negligible`, got `crtical` (did you mean `critical`?)",
    ),
    ("kind: bounds, signal: speed", "checks.c: needs `max`, `min` or both"),
    ("kind: bounds, signal: speed, max: 1, min: ▸1", "checks.c.min: must be below `max` (`1`), got `1`"),
    ("kind: bounds, signal: speed, max: 1, leave: ▸2", "checks.c.leave: must not be above `max` (`1`), got `2`"),
    ("kind: bounds, signal: speed, min: 1, leave: ▸0.5", "checks.c.leave: must not be below `min` (`1`), got `0.5`"),
    ("kind: bounds, signal: speed, max: 1, leave_min: ▸2", "checks.c.leave_min: needs `min`: there is no limit"),
    ("kind: bounds, signal: speed, max: 3, min: 1, leave: ▸2", "checks.c.leave: is ambiguous where there are two"),
    ("kind: bounds, signal: speed, max: 3, leave: ▸2, leave_max: 1", "checks.c.leave: says the same as `leave_max`"),
    (
        "kind: bounds, signal: speed, max: 3, min: 1, leave_max: ▸0",
        "checks.c.leave_max: is below `min` (`1`): the check",
    ),
    (
        "kind: bounds, signal: speed, max: ▸3 km/h",
        "checks.c.max: has the unit `km/h`, but signal `speed` calls for `m/s`",
    ),
    ("kind: bounds, signal: mode, max: ▸3 m", "checks.c.max: has the unit `m`, but signal `mode` has no unit"),
    ("kind: rate, signal: speed, max: ▸3 m/s", "checks.c.max: has the unit `m/s`, but signal `speed` calls for `m/s2`"),
    ("kind: bounds, signal: speed, max: ▸yes", "checks.c.max: expected a number, with or without its unit"),
    ("kind: bounds, signal: speed, max: ▸true", "checks.c.max: expected a number, with or without its unit"),
    ("kind: bounds, signal: speed, max: ▸1e999 m/s", "checks.c.max: is too large: `1e999 m/s`"),
    (
        "kind: stale, signal: speed, max: ▸1",
        "checks.c.max: expected a duration such as `200 ms` (with its unit), got `1`",
    ),
    ("kind: stale, signal: speed, max: ▸0 s", "checks.c.max: must be longer than 0"),
    ("kind: stale, signal: speed, max: 1 s, fail_for: ▸-1 s", "checks.c.fail_for: must not be negative, got `-1 s`"),
    (
        "kind: stale, signal: speed, max: ▸1 sec",
        "checks.c.max: unknown unit `sec`: expected a duration such as `200 ms`",
    ),
    ("kind: frequency, signal: speed, min: ▸5, window: 1 s", "checks.c.min: expected a rate such as `50 Hz`"),
    ("kind: frequency, signal: speed, min: ▸0 Hz, window: 1 s", "checks.c.min: must be above 0 Hz"),
    ("kind: frequency, signal: speed, window: 1 s", "checks.c: needs `max`, `min` or both"),
    (
        "kind: frequency, signal: speed, min: ▸5 Hz, max: 5 Hz, window: 1 s",
        "checks.c.min: must be below `max` (`5 Hz`)",
    ),
    ("kind: frequency, signal: speed, min: 5 Hz, window: ▸100 ms", "checks.c.window: is too short to hold one message"),
    ("kind: frequency, signal: speed, max: 9 kHz, window: ▸1 h", "checks.c.window: holds more than 1000000 messages"),
    (
        "kind: jitter, signal: speed, rate: 5 Hz, max: 1 ms, window: ▸0.3 s",
        "checks.c.window: is shorter than two periods",
    ),
    ("kind: latency, signal: ▸speed, max: 1 s", "checks.c.signal: needs a signal with `field: header.stamp`"),
    ("kind: latency, signal: age, max: ▸1", "checks.c.max: expected a duration such as `200 ms`"),
    ("kind: latency, signal: age, max: 1 s, leave: ▸2 s", "checks.c.leave: must not be above `max` (`1 s`), got `2 s`"),
    ("kind: agreement, signals: [lat, ▸lat], max: 1", "checks.c.signals[1]: repeats `lat`"),
    ("kind: agreement, signals: ▸[lat, speed], max: 1", "checks.c.signals: have different units: `lat` `deg`, `speed`"),
    ("kind: agreement, signals: ▸[lat], max: 1", "checks.c.signals: needs at least 2 entries, got 1"),
    (
        "kind: agreement, signals: [lat, ▸lno], max: 1",
        "checks.c.signals[1]: no signal is named `lno` (did you mean `lon`?)",
    ),
    ("kind: agreement, signals: [lat, lon], max: ▸-1", "checks.c.max: must not be negative"),
    ("kind: agreement, signals: [lat, lon], max: 5, leave: ▸6", "checks.c.leave: must be between 0 and `max` (`5`)"),
    (
        "kind: agreement, signals: [lat, lon], max: ▸180, wrap: 360",
        "checks.c.max: can never be exceeded: angles differ",
    ),
    (
        "kind: geofence, latitude: lat, longitude: lon, polygon: ▸[[1, 2], [3, 4]]",
        "checks.c.polygon: needs at least 3 entries",
    ),
    (
        "kind: geofence, latitude: ▸speed, longitude: lon, polygon: [[1, 2], [3, 4], [3, 5]]",
        "checks.c.latitude: needs a sign",
    ),
    (
        "kind: geofence, latitude: lat, longitude: lon, polygon: [[8, 99], [8, 98], [▸97, 8]]",
        "checks.c.polygon[2][0]: latitude must be within ±90 deg, got `97` (the order is latitude, longitude)",
    ),
    (
        "kind: geofence, latitude: lat, longitude: lon, polygon: [[0, 0], [1, 1], ▸[0, 1], [1, 0]]",
        "checks.c.polygon[2]: the edge from corner 2 crosses or touches the edge from corner 0",
    ),
    (
        "kind: geofence, latitude: lat, longitude: lon, polygon: [[0, 0], [1, 1], [0, 1], ▸[0, 0]]",
        "checks.c.polygon[3]: repeats corner 0: leave it out, the polygon closes itself",
    ),
    (
        "kind: geofence, latitude: lat, longitude: lon, polygon: [[0, 0], [1, 1], [0, 1]], max_altitude: ▸5",
        "needs `altitude`",
    ),
    (
        "kind: geofence, latitude: lat, longitude: lon, polygon: ▸[[0, 179], [1, -179], [0, 170]]",
        "spans more than 180 deg",
    ),
    ("kind: valid, signal: lat, covariance_max: ▸5", "checks.c.covariance_max: needs `covariance`"),
    ("kind: valid, signal: lat, covariance: lon, covariance_max: ▸0", "checks.c.covariance_max: must be above 0"),
    (
        "kind: equals, signal: mode, value: ▸Auto",
        "checks.c.value: signal `mode` has no state `Auto` (did you mean `AUTO`?)",
    ),
    ("kind: equals, signal: mode, value: ▸true", "checks.c.value: expected a state's name or number, got `true`"),
    ("kind: one_of, signal: mode, values: [AUTO, ▸1]", "checks.c.values[1]: `1` is given twice (as `AUTO`)"),
    ("kind: one_of, signal: word, values: ▸[a, 1]", "checks.c.values: mixes numbers and texts"),
    ("kind: one_of, signal: mode, values: ▸[]", "checks.c.values: needs at least 1 entries, got 0"),
]


@pytest.mark.parametrize(("text", "expected"), CHECKS, ids=[row[0] for row in CHECKS])
def test_mistakes_in_a_check(text: str, expected: str) -> None:
    """Each mistake in a check is the only problem of its file, and stands where a person would look for it."""
    only_problem(f"{BASE}  c: {{{text}}}\n", expected)


SECTIONS = [
    (
        "gates: {g: {require: all, criteria: [▸alve]}}",
        "gates.g.criteria[0]: no check is named `alve` (did you mean `alive`?)",
    ),
    ("gates: {g: {require: all, criteria: [alive, ▸alive]}}", "gates.g.criteria[1]: `alive` is given twice"),
    ("gates: {g: {require: all, criteria: ▸[]}}", "gates.g.criteria: needs at least 1 entries, got 0"),
    (
        "gates: {g: {require: all, criteria: [{at_least: ▸2, of: [alive]}]}}",
        "gates.g.criteria[0].at_least: asks for 2 of 1 criteria",
    ),
    ("gates: {g: {require: all, criteria: [{any: [alive], ▸of: 1}]}}", "gates.g.criteria[0].of: unknown field"),
    ("gates: {g: {require: ▸most, criteria: [alive]}}", "gates.g.require: expected one of `all`, `any`, got `most`"),
    ("gates: {g: {require: all, criteria: [alive], lease: ▸0 s}}", "gates.g.lease: must be longer than 0"),
    ("gates: {▸1g: {require: all, criteria: [alive]}}", "gates.1g: is not a name: letters, digits and `_`"),
    (
        "authority: {mode: mode, map: {human: [▸MANAUL]}}",
        "authority.map.human[0]: signal `mode` has no state `MANAUL` (did you mean",
    ),
    (
        "authority: {mode: mode, map: {human: [▸AUTO], autonomy: [AUTO]}}",
        "authority.map.human[0]: `AUTO` is given twice",
    ),
    (
        "authority: {mode: ▸mood, map: {human: [AUTO]}}",
        "authority.mode: no signal is named `mood` (did you mean `mode`?)",
    ),
    ("authority: {mode: mode, map: ▸{}}", "authority.map: names no mode"),
    (
        "authority: {mode: mode, map: {human: [AUTO]}, active: {signal: mode, value: ▸ON}}",
        "authority.active.value: signal",
    ),
    (
        "authority: {mode: mode, intention: ▸mode, map: {human: [AUTO]}}",
        "authority.intention: is the same signal as `mode`",
    ),
    (
        "authority: {mode: mode, map: {human: [AUTO]}, reasons: {flags: {why: ▸sped}}}",
        "authority.reasons.flags.why: no signal",
    ),
    ("authority: {mode: mode, map: {human: [AUTO]}, reasons: {▸txt: [word]}}", "unknown field (did you mean `text`?)"),
    (
        "mission: {risk: ▸hihg}",
        "mission.risk: expected one of `low`, `medium`, `high`, got `hihg` (did you mean `high`?)",
    ),
    (
        "mission: {profiles: {high: {▸alve: {max: 2 s}}}}",
        "mission.profiles.high.alve: no check is named `alve` (did you",
    ),
    (
        "mission: {profiles: {high: {alive: {▸maxx: 2 s}}}}",
        "mission.profiles.high.alive.maxx: unknown field (did you mean",
    ),
    ("mission: {profiles: {high: {alive: {max: ▸2}}}}", "mission.profiles.high.alive.max: expected a duration such as"),
    (
        "mission: {profiles: {high: {alive: {▸kind: bounds}}}}",
        "mission.profiles.high.alive.kind: cannot be changed by a",
    ),
    (
        "mission: {profiles: {hgh: ▸{}}}",
        "mission.profiles.hgh: expected one of `low`, `medium`, `high`, got `hgh` (did you mean",
    ),
    ("▸gate: {}", "gate: unknown section (did you mean `gates`?)"),
    ("gates: ▸[]", "gates: expected a mapping of names to gates, got a list"),
    ("defaults: {max_age: ▸5}", "defaults.max_age: expected a duration such as `200 ms`"),
]


@pytest.mark.parametrize(("text", "expected"), SECTIONS, ids=[row[0] for row in SECTIONS])
def test_mistakes_in_other_sections(text: str, expected: str) -> None:
    """Each mistake in gates, authority or mission is the only problem of its file."""
    only_problem(f"{BASE}{text}\n", expected)


SIGNALS = [
    ("{topic: /x}", "signals.s.max_age: is required, here or in `defaults` (`never` if the value counts for ever)"),
    ("{field: x, max_age: 1 s}", "signals.s.topic: is required"),
    ("{topic: /x, max_age: ▸0 s}", "signals.s.max_age: must be longer than 0"),
    (
        "{topic: /x, max_age: ▸nevr}",
        "signals.s.max_age: expected a duration such as `200 ms` (with its unit), got `nevr`",
    ),
    ("{topic: /x, max_age: 1 s, field: ▸a..b}", "signals.s.field: is not a field path"),
    ("{topic: /x, max_age: 1 s, field: ▸'a[*].b'}", "signals.s.field: gives many numbers: say with `reduce`"),
    ("{topic: /x, max_age: 1 s, reduce: ▸norm}", "signals.s.reduce: has nothing to reduce"),
    ("{topic: /x, max_age: 1 s, field: a, reduce: ▸nrom}", "(did you mean `norm`?)"),
    ("{topic: /x, max_age: 1 s, field: header.stamp, unit: ▸ms}", "signals.s.unit: must be `s`"),
    (
        "{topic: /x, max_age: 1 s, field: header.stamp, scale: ▸2}",
        "signals.s.scale: is not possible for `header.stamp`",
    ),
    ("{topic: /x, max_age: 1 s, field: a, scale: ▸0}", "signals.s.scale: must not be 0"),
    ("{topic: /x, max_age: 1 s, field: a, scale: ▸'2'}", "signals.s.scale: expected a number, got `2`"),
    ("{topic: /x, max_age: 1 s, field: a, values: {0: ▸OFF}}", "signals.s.values.0: expected a number, got `OFF`"),
    (
        "{topic: /x, max_age: 1 s, field: a, values: {OFF: 0, NO: ▸0}}",
        "signals.s.values.NO: has the same number as `OFF`",
    ),
    ("{topic: ▸5, max_age: 1 s}", "signals.s.topic: expected text, got `5` (quote it if it is text)"),
    ("▸/x", "signals.s: expected a mapping, got `/x`"),
]


@pytest.mark.parametrize(("text", "expected"), SIGNALS, ids=[row[0] for row in SIGNALS])
def test_mistakes_in_a_signal(text: str, expected: str) -> None:
    """Each mistake in a signal is the only problem of its file."""
    only_problem(BASE.replace("checks:\n", f"  s: {text}\nchecks:\n"), expected)


HAZARDS = [
    (b"", "1:1: is empty"),
    (b"# only a comment\n", "1:1: is empty"),
    (b"- a\n- b\n", "1:1: expected a mapping"),
    (b"a: \xff\n", "1:4: is not UTF-8 (byte 0xff)"),
    ("a: x\n".encode("utf-16"), "1:1: is not UTF-8"),
    (b"a: 1\n\tb: 2\n", "2:1: a tab cannot start a line or a value: indent with spaces"),
    (b"a: b: c\n", "1:5: a second `:` on this line"),
    (b"a: [1\n", "2:1: is not YAML: expected ',' or ']'"),
    (b"a: \x00\n", "1:4: holds the control character U+0000"),
    (b'a: "\\UFFFFFFFF"\n', "is not YAML"),
    (b"a: 1\n---\nb: 2\n", "2:1: a second document starts here"),
    (b"a: " + b"[" * 40 + b"]" * 40, "1:20: is nested deeper than 16 levels"),
    (b"a: [" + b"1," * 60_000 + b"]", "holds more than 50000 values"),
    (b"#" * (1 << 20) + b"\n", "1:1: is larger than 1048576 bytes"),
]


@pytest.mark.parametrize(("data", "expected"), HAZARDS, ids=[row[1] for row in HAZARDS])
def test_files_that_are_no_envelope(data: bytes, expected: str) -> None:
    """What cannot be read as one small YAML document gives one line."""
    found = problems(data)
    assert len(found) == 1
    assert expected in found[0]


VALUES = [
    ("▸*speed", "checks.c.max: aliases are not supported: write what `*speed` stands for"),
    ("▸&a 5", "checks.c.max: anchors are not supported: remove `&a`"),
    ("▸!!python/object/apply:os.system [x]", "checks.c.max: tags are not supported"),
    ("▸!!float 5", "checks.c.max: tags are not supported"),
    ("", "checks.c.max: has no value"),
    ("▸null", "checks.c.max: has no value"),
    ("▸.nan", "checks.c.max: must be a finite number, got `.nan`"),
    ("▸-.inf", "checks.c.max: must be a finite number"),
    ("▸1e999", "checks.c.max: is too large: `1e999`"),
    ("▸9007199254740993", "checks.c.max: is too large to be exact"),
    ("▸" + "9" * 5000, "checks.c.max: is too large a number"),
    ("▸010", "checks.c.max: has a leading zero: write `10`"),
    ("▸1_000", "checks.c.max: expected a number"),
    ("▸1:30", "checks.c.max: expected a number"),
    ('▸"\\u202e5"', "checks.c.max: holds a control or direction-changing character"),
    ('▸"\\ud800"', "checks.c.max: holds a control or direction-changing character"),
    ("5, ▸max: 6", "checks.c.max: is given twice (first in line 12)"),
    ("5, ▸<<: {min: 1}", "checks.c.<<: unknown field"),
    ("5, ? ▸[a] : b", "checks.c: a key must be plain text"),
    ("5, ? ▸*a : b", "checks.c: a key must be plain text"),
    ("5, ▸!!str min: 1", "checks.c.min: a key must be plain text, without tag"),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=[row[0][:20] for row in VALUES])
def test_values_with_two_meanings(value: str, expected: str) -> None:
    """YAML that two readers could take for different things, or that hides something, is refused at its place."""
    only_problem(f"{BASE}  c: {{kind: bounds, signal: speed, max: {value}}}\n", expected, among="*a" in value)


def test_all_problems_at_once() -> None:
    """Mistakes in all sections are told together, in the file's order, and none is told twice."""
    text = """\
edge_monitor: 2
envelope: {id: "a b", version: 0, vehicle: rover, vesion: 3}
signals:
  speed: {topic: /odom, unit: m/s, max_age: 5, filed: v}
checks:
  fast: {kind: bounds, signal: sped, max: 3, fail_for: 5}
  slow: {kind: bounds, signal: speed, min: 3, leave: 2}
gates:
  go: {require: all, criteria: [fast, slwo]}
mission: {profiles: {high: {slow: {min: 4, leave: 1, fail_fro: 1 s}}}}
"""
    assert [re.split(r" \(did|, got| \(with", line)[0] for line in problems(text)] == [
        "1:15: edge_monitor: must be 1, the format that this program reads; got `2`",
        "2:16: envelope.id: expected letters, digits, `.`, `_` and `-`, at most 64",
        "2:32: envelope.version: should be greater than or equal to 1",
        "2:51: envelope.vesion: unknown field",
        "4:45: signals.speed.max_age: expected a duration such as `200 ms`",
        "4:48: signals.speed.filed: unknown field",
        "6:32: checks.fast.signal: no signal is named `sped`",
        "6:56: checks.fast.fail_for: expected a duration such as `200 ms`",
        "9:39: gates.go.criteria[1]: no check is named `slwo`",
        "10:54: mission.profiles.high.slow.fail_fro: unknown field",
    ]


def test_one_mistake_has_no_followers() -> None:
    """Whoever refers to a signal or check with a mistake is not called mistaken himself."""
    text = (
        BASE.replace("speed: {topic: /odom,", "speed: {topic: *x,")
        + "gates: {g: {require: all, criteria: [alive, c]}}\n"
    )
    found = problems(text.replace("gates:", "  c: {kind: bound, signal: speed}\ngates:"))
    assert [line.split(": ")[1] for line in found] == ["signals.speed.topic", "checks.c.kind"]


def test_profile_tells_only_what_it_adds() -> None:
    """A limit that a profile lowers below the check's `leave` is told at the profile, once."""
    checks = f"{BASE}  c: {{kind: bounds, signal: speed, max: 12, leave: 11}}\n"
    text = f"{checks}mission:\n  profiles:\n    high:\n      c: {{max: 8}}\n"
    assert problems(text) == ["16:7: mission.profiles.high.c.leave: must not be above `max` (`8`), got `11`"]


def test_many_problems_are_cut_short() -> None:
    """After a hundred lines one more says how many are left; all stay in the error."""
    text = BASE + "".join(f"  c{i}: {{kind: x}}\n" for i in range(150))
    with pytest.raises(EnvelopeError) as caught:
        loads(text.encode())
    lines = str(caught.value).splitlines()
    assert (len(lines), len(caught.value.problems)) == (101, 150)
    assert lines[-1] == "<envelope>:112:16: and 50 more from here on"


def test_the_example_of_the_documentation(root: Path) -> None:
    """The problems that docs/configuration.md shows are those of the file beside them."""
    text = (root / "docs" / "configuration.md").read_text("utf-8")
    source, shown = re.findall(r"```(?:yaml|text)\n(.*?)```", text, re.DOTALL)[:2]
    with pytest.raises(EnvelopeError) as caught:
        loads(source.encode(), source="mission.yaml")
    assert str(caught.value).splitlines() == shown.splitlines()


def only_envelope_errors(data: bytes) -> None:
    """Load; any error must be an EnvelopeError whose lines all have their place."""
    try:
        loads(data)
    except EnvelopeError as error:
        assert all(LINE.fullmatch(line) for line in str(error).split("\n"))


@settings(max_examples=150)
@given(st.binary(max_size=200))
@example(b"{" * 3000)
@example(b"? " * 3000)
@example(b"- " * 3000)
@example(b"a: &a [*a, *a]")
@example(b"%YAML 1.1\n---\na: yes")
@example(b"%TAG ! tag:x,2000:\n---\na: !b c")
@example(b'a: "\\x1b[31m"\n')
@example("\ufeffa: 1".encode())
@example(b"a: |9\n x")
def test_random_bytes(data: bytes) -> None:
    """No bytes whatever do anything but give an error with a place."""
    only_envelope_errors(data)


# What is put into a real file: the marks of YAML, odd values, odd bytes.
SCRAPS = [
    *(
        b": ",
        b"- ",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b"'",
        b'"',
        b"\n",
        b"  ",
        b"\t",
        b"? ",
        b"|",
        b">",
        b"#",
        b"%",
        b"<<: ",
    ),
    *(b"&a ", b"*a", b"!!x ", b"---\n", b"...\n", b"null", b"~", b".nan", b"1e999", b"-1", b"0 s", b"true", b"kind: "),
    *(b"\xff", b"\x00", b"\xe2\x80\xae", b"9" * 30),
]


@pytest.mark.parametrize("name", ["px4_multirotor", "ugv_husky", "survey_plane"])
def test_damaged_configs(root: Path, name: str) -> None:
    """A real envelope with bytes cut out, swapped or put in loads, or gives errors with places; nothing else."""
    whole = (root / "configs" / f"{name}.yaml").read_bytes()
    # Comments only dilute the damage.
    whole = b"\n".join(line for line in whole.splitlines() if not line.strip().startswith(b"#"))
    random_ = random.Random(name)
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(random_.randint(1, 4)):
            at, other = random_.randrange(len(data)), random_.randrange(len(data))
            match random_.randrange(4):
                case 0:
                    data[at:at] = random_.choice(SCRAPS)
                case 1:
                    del data[at : at + random_.randint(1, 30)]
                case 2:
                    data[at : at + 8] = data[other : other + random_.randint(0, 40)]
                case _:
                    data[at] = random_.randrange(256)
        only_envelope_errors(bytes(data))


def test_gate_names_fit_a_lease() -> None:
    """A gate's name is at most as long as the lease that carries it; the line says so at the name."""
    from edge_monitor.envelope.loader import LONGEST_GATE
    from edge_monitor.outputs.wire import GATE_BYTES

    assert LONGEST_GATE == GATE_BYTES
    text = """\
edge_monitor: 1
envelope: {id: a, version: 1, vehicle: v}
signals:
  x: {topic: /x, field: x, max_age: 1 s}
checks:
  c: {kind: bounds, signal: x, max: 1}
gates:
  NAME: {require: all, criteria: [c]}
"""
    assert loads(text.replace("NAME", "g" * 32).encode()).gates[0].name == "g" * 32
    with pytest.raises(EnvelopeError, match=r"8:3: gates\.g+: is longer than the 32 characters"):
        loads(text.replace("NAME", "g" * 33).encode())
