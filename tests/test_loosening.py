"""What counts as loosening, field by field: a change in one direction does, in the other it does not."""

from __future__ import annotations

import pytest

from edge_monitor import envelope as envelopes
from edge_monitor.core.formula.term import Term
from edge_monitor.envelope import Envelope
from edge_monitor.envelope.checks import CHECK_MODELS
from edge_monitor.envelope.formulas import parse_formula
from edge_monitor.envelope.loosening import entails, loosened

ENVELOPE = """
edge_monitor: 1
envelope: {id: yard, version: 2, vehicle: rover, claim: G1}
signals:
  lat: {topic: /fix, field: lat, unit: deg, max_age: 1 s}
  lon: {topic: /fix, field: lon, unit: deg, max_age: 1 s}
  alt: {topic: /fix, field: alt, unit: m, max_age: 1 s}
  other: {topic: /baro, field: alt, unit: m, max_age: never}
  age: {topic: /fix, field: header.stamp, max_age: 1 s}
  mode: {topic: /state, field: mode, max_age: 1 s, values: {MANUAL: 0, AUTO: 1, HOLD: 2}}
  text: {topic: /state, field: text, max_age: 1 s}
  twice: {expr: alt * 2, unit: m, max_age: 1 s}
checks:
  height: {kind: bounds, signal: alt, max: 50, leave_max: 45, min: 2, leave_min: 3,
           fail_for: 1 s, pass_for: 1 s, severity: critical, latch: on_mode_change}
  climb: {kind: rate, signal: alt, max: 5, min: -3}
  late: {kind: latency, signal: age, max: 100 ms}
  alive: {kind: stale, signal: alt, max: 1 s}
  often: {kind: frequency, signal: alt, min: 5 Hz, max: 20 Hz, window: 2 s}
  steady: {kind: jitter, signal: alt, rate: 10 Hz, max: 20 ms, window: 2 s}
  same: {kind: agreement, signals: [alt, other], max: 5, leave: 4}
  fence: {kind: geofence, latitude: lat, longitude: lon, altitude: alt,
          polygon: [[47, 8], [47, 9], [48, 8]], max_altitude: 100, min_altitude: 5}
  zone: {kind: geofence, latitude: lat, longitude: lon, altitude: alt,
         polygon: [[40, 8], [40, 9], [41, 8]], max_altitude: 90, mode: keep_out}
  fixed: {kind: valid, signal: lat, covariance: other, covariance_max: 25}
  flown: {kind: one_of, signal: mode, values: [AUTO, HOLD]}
  said: {kind: equals, signal: text, value: OK}
  calm: {kind: formula, formula: "historically[0 s, 2 s](alt <= 40)"}
authority: {mode: mode, map: {autonomy: [AUTO], human: [MANUAL, HOLD]}}
gates:
  fly: {require: all, criteria: [height, {any: [climb, alive]}, {at_least: 2, of: [often, steady, same]}],
        go_after: 2 s, lease: 1 s, on_unknown: {hold: 1 s}, on_no_go: transition_demand, then: {after: 10 s, do: mrm}}
  one: {require: any, criteria: [fence, zone]}
handover:
  {accept_within: 10 s, complete_within: 10 s, attest_within: 1 min, gates: [fly], mrm: {confirm_within: 5 s}, lost_after: 3 s}
"""
BASE = envelopes.loads(ENVELOPE.encode())


def changed(was: str, now: str) -> Envelope:
    """The envelope with a part of its text replaced."""
    assert ENVELOPE.count(was) == 1, was
    return envelopes.loads(ENVELOPE.replace(was, now).encode())


#: A part of the text, a stricter one, a looser one ("" where there is none), and what is said of the latter.
CHANGES = [
    ("max: 50", "max: 49", "max: 51", "check height: max 50 → 51"),
    ("leave_max: 45", "leave_max: 44", "leave_max: 46", "check height: leave_max 45 → 46"),
    (" min: 2,", " min: 2.5,", " min: 1,", "check height: min 2 → 1"),
    ("leave_min: 3", "leave_min: 4", "leave_min: 2.5", "check height: leave_min 3 → 2.5"),
    ("fail_for: 1 s", "fail_for: 500 ms", "fail_for: 2 s", "check height: fail_for 1 s → 2 s"),
    ("pass_for: 1 s", "pass_for: 2 s", "pass_for: 500 ms", "check height: pass_for 1 s → 500 ms"),
    ("severity: critical", "severity: catastrophic", "severity: marginal", "check height: severity critical → marginal"),
    ("latch: on_mode_change", "latch: manual", "latch: when_cleared", "check height: latch on_mode_change → when_cleared"),
    ("max: 5, min: -3", "max: 4, min: -2", "max: 6, min: -3", "check climb: leave_max 5 → 6"),
    ("max: 100 ms", "max: 90 ms", "max: 110 ms", "check late: leave_max 0.1 → 0.11"),
    ("signal: alt, max: 1 s", "signal: alt, max: 900 ms", "signal: alt, max: 2 s", "check alive: max 1 s → 2 s"),
    ("min: 5 Hz", "min: 6 Hz", "min: 4 Hz", "check often: min 5 → 4"),
    ("max: 20 Hz", "max: 19 Hz", "max: 21 Hz", "check often: max 20 → 21"),
    ("20 Hz, window: 2 s", "", "20 Hz, window: 3 s", "check often: window 2 s → 3 s"),
    ("max: 20 ms", "max: 10 ms", "max: 30 ms", "check steady: max 20 ms → 30 ms"),
    ("20 ms, window: 2 s", "20 ms, window: 3 s", "20 ms, window: 1 s", "check steady: window 2 s → 1 s"),
    ("rate: 10 Hz", "", "rate: 11 Hz", "check steady: period"),
    ("max: 5, leave: 4", "max: 4, leave: 3", "max: 6, leave: 4", "check same: max 5 → 6"),
    ("max: 5, leave: 4", "", "max: 5, leave: 4, wrap: 360", "check same: wrap 0 → 360"),
    ("max_altitude: 100", "max_altitude: 99", "max_altitude: 101", "check fence: max_altitude 100 → 101"),
    ("min_altitude: 5", "min_altitude: 6", "min_altitude: 4", "check fence: min_altitude 5 → 4"),
    ("max_altitude: 90", "max_altitude: 91", "max_altitude: 89", "check zone: max_altitude 90 → 89"),
    ("[47, 8], [47, 9]", "", "[47, 8], [47, 9.1]", "check fence: its polygon is another one"),
    ("covariance_max: 25", "covariance_max: 24", "covariance_max: 26", "check fixed: covariance_max 25 → 26"),
    ("values: [AUTO, HOLD]", "values: [AUTO]", "values: [AUTO, HOLD, MANUAL]", "check flown: allows 0.0 too"),
    ("value: OK", "", "value: FINE", "check said: allows FINE too"),
    ("alt <= 40", "alt <= 39", "alt <= 41", "check calm: its formula may hold where"),
    ("[0 s, 2 s](alt", "[0 s, 3 s](alt", "[0 s, 1 s](alt", "check calm: its formula may hold where"),
    ("  said: {kind: equals, signal: text, value: OK}\n", "", "", "check said: removed"),
    ("kind: stale, signal: alt", "", "kind: stale, signal: lat", "check alive: is another check"),
    ("field: alt, unit: m, max_age: 1 s", "field: alt, unit: m, max_age: 900 ms", "field: alt, unit: m, max_age: 2 s",
     "signal alt: max_age 1 s → 2 s"),
    ("max_age: never", "max_age: 1 s", "", ""),
    ("topic: /baro", "", "topic: /gps", "signal other: is another quantity"),
    ("alt * 2", "", "alt * 3", "signal twice: is another quantity"),
    ("version: 2", "version: 3", "version: 1", "version 1 is older than 2"),
    ("[height, {any", "[height, fixed, {any", "[{any", "gate fly: its criteria ask for less"),
    ("{any: [climb, alive]}", "{any: [climb]}", "{any: [climb, alive, fixed]}", "gate fly: its criteria ask for less"),
    ("at_least: 2", "at_least: 3", "at_least: 1", "gate fly: its criteria ask for less"),
    ("of: [often, steady, same]", "of: [often, same]", "of: [often, steady, fixed]", "gate fly: its criteria ask for less"),
    ("require: any, criteria: [fence, zone]", "require: all, criteria: [fence, zone]",
     "require: any, criteria: [fence, zone, said]", "gate one: its criteria ask for less"),
    ("go_after: 2 s", "go_after: 3 s", "go_after: 1 s", "gate fly: go_after 2 s → 1 s"),
    ("lease: 1 s", "lease: 500 ms", "lease: 2 s", "gate fly: lease 1 s → 2 s"),
    ("hold: 1 s", "hold: 500 ms", "hold: 2 s", "gate fly: hold 1 s → 2 s"),
    (", on_no_go: transition_demand, then: {after: 10 s, do: mrm}", "", "", "gate fly: makes no transition demand any more"),
    ("after: 10 s", "after: 5 s", "after: 20 s", "gate fly: the minimal-risk manoeuvre comes later"),
    (", then: {after: 10 s, do: mrm}", "", "", "gate fly: the minimal-risk manoeuvre comes later"),
    ("  one: {require: any, criteria: [fence, zone]}\n", "", "", "gate one: removed"),
    ("human: [MANUAL, HOLD]", "", "human: [MANUAL]", "authority: who is in command is told in another way"),
    ("accept_within: 10 s", "accept_within: 9 s", "accept_within: 11 s", "handover: accept_within 10 s → 11 s"),
    ("attest_within: 1 min", "attest_within: 30 s", "attest_within: 2 min", "handover: attest_within 1 min → 2 min"),
    ("confirm_within: 5 s", "confirm_within: 4 s", "confirm_within: 6 s", "handover: mrm_within 5 s → 6 s"),
    ("lost_after: 3 s", "lost_after: 2 s", "lost_after: 4 s", "handover: lost_after 3 s → 4 s"),
    ("gates: [fly]", "gates: [fly, one]", "gates: [one]", "handover: autonomy takes over without gate fly"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "stricter", "looser", "said"), CHANGES, ids=[f"{n} {c[3][:40]}" for n, c in enumerate(CHANGES)]
)
def test_each_field_has_a_direction(text: str, stricter: str, looser: str, said: str) -> None:
    """What is stricter is no loosening; what is looser is told by name, with both values."""
    if stricter:
        assert loosened(BASE, changed(text, stricter)) == []
    if said:
        assert any(line.startswith(said) for line in loosened(BASE, changed(text, looser)))


def test_words_and_what_is_new_are_no_loosening() -> None:
    """The same again, explanations, and checks, gates and signals beside what there was."""
    assert loosened(BASE, BASE) == []
    assert loosened(BASE, changed("severity: critical", "severity: critical, rationale: because, hazard: H1")) == []
    more = ENVELOPE.replace("gates:\n", "gates:\n  new: {require: all, criteria: [fresh]}\n").replace(
        "checks:\n", "checks:\n  fresh: {kind: bounds, signal: new, max: 1}\n"
    ).replace("signals:\n", "signals:\n  new: {topic: /new, field: x, max_age: 1 s}\n")  # fmt: skip
    assert loosened(BASE, envelopes.loads(more.encode())) == []


def test_every_kind_of_check_is_among_the_changes() -> None:
    """A new kind of check must be put among the rules, or it may not be changed in motion at all."""
    told = {check.kind for check in BASE.checks}
    assert set(CHECK_MODELS) - told == {"drift"}


def formula(text: str) -> Term:
    """A formula over three numbers."""
    signals = {signal.name: signal for signal in BASE.signals}
    return parse_formula(text, signals).term


@pytest.mark.parametrize(("new", "old", "holds"), [
    ("alt <= 39 and lat > 1", "alt <= 40", True),
    ("alt <= 40", "alt <= 40 and lat > 1", False),
    ("alt <= 39 and lat > 2", "lat > 1 and alt <= 40", True),
    ("alt <= 39", "alt <= 40 or lat > 1", True),
    ("alt <= 40 or lat > 1", "alt <= 40", False),
    ("alt <= 39 or lat > 1", "alt <= 40 or lat > 1 or lon > 3", True),
    ("once[0 s, 1 s](alt <= 40)", "once[0 s, 2 s](alt <= 41)", True),
    ("once[0 s, 2 s](alt <= 40)", "once[0 s, 1 s](alt <= 40)", False),
    ("historically[0 s, 2 s](alt <= 40)", "historically[1 s, 2 s](alt <= 40)", True),
    ("historically(alt <= 40)", "historically[0 s, 2 s](alt <= 40)", True),
    ("historically[0 s, 2 s](alt <= 40)", "historically(alt <= 40)", False),
    ("not alt <= 40", "not alt <= 39", True),
    ("not alt <= 39", "not alt <= 40", False),
    ("lat > 1 implies alt <= 39", "lat > 2 implies alt <= 40", True),
    ("lat > 2 implies alt <= 39", "lat > 1 implies alt <= 40", False),
    ("(alt < 3) since[0 s, 2 s] (lat > 2)", "(alt < 4) since[0 s, 2 s] (lat > 1)", True),
    ("(alt < 3) since[0 s, 3 s] (lat > 2)", "(alt < 4) since[0 s, 2 s] (lat > 1)", False),
    ("5 < alt", "4 < alt", True),
    ("4 < alt", "5 < alt", False),
    ("5 >= alt", "6 >= alt", True),
    ("alt < 5", "alt <= 5", False),
    ("alt == 5", "alt == 6", False),
    ("rise(alt < 5)", "rise(alt < 6)", False),
    ("alt + other < 5", "alt + other < 6", True),
    ("alt + 1 < 5", "alt + 2 < 5", False),
])  # fmt: skip
def test_formulas_entail_each_other_as_far_as_can_be_seen(new: str, old: str, holds: bool) -> None:
    """Limits, windows and connectives that can only make a formula harder to satisfy; everything else counts as looser."""
    assert entails(formula(new), formula(old)) is holds
