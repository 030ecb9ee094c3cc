"""What a well-written envelope file becomes: signals, checks, gates, authority and risk profiles."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.checks.registry import KINDS
from edge_monitor.core.decision_specs import Criterion, GateSpec
from edge_monitor.core.plan import Plan
from edge_monitor.core.samples import Latch
from edge_monitor.envelope import CHECK_MODELS, Envelope, load, loads, units
from edge_monitor.envelope.polygon import polygon_findings
from edge_monitor.errors import ConfigError, UsageError

HEAD = """
edge_monitor: 1
envelope: {id: test, version: 3, vehicle: rover, claim: G1, description: a test}
defaults: {max_age: 1 s}
signals:
  speed: {topic: /odom, type: nav_msgs/msg/Odometry, field: twist.twist.linear, reduce: norm, unit: m/s,
    max_age: 300 ms}
  height: {topic: /odom, field: pose.pose.position.z, unit: m, scale: -1, offset: 2}
  other_height: {topic: /baro, field: altitude, unit: m}
  heading: {topic: /odom, field: heading, unit: deg}
  bearing: {topic: /fix, field: bearing, unit: deg}
  lat: {topic: /fix, field: latitude, unit: deg}
  lon: {topic: /fix, field: longitude, unit: deg}
  variance: {topic: /fix, field: "position_covariance[0]", unit: m2}
  age: {topic: /odom, field: header.stamp}
  link: {topic: /heartbeat, max_age: never}
  mode: {topic: /mode, field: mode, values: {MANUAL: 0, AUTO: 3, LAND: 5}}
  wish: {topic: /mode, field: wish}
  armed: {topic: /mode, field: armed, values: {NO: 0, YES: 1}}
  word: {topic: /state, field: data}
"""


def check(text: str, extra: str = "", risk: str | None = None) -> CheckSpec:
    """The only check of a file that is `HEAD` and one check, `c: {…}`."""
    envelope = loads(f"{HEAD}checks:\n  c: {{{text}}}\n{extra}".encode(), risk=risk)
    assert len(envelope.checks) == 1
    return envelope.checks[0]


def envelope(checks: str, extra: str = "", risk: str | None = None) -> Envelope:
    """A file of `HEAD`, the checks and more sections."""
    return loads(f"{HEAD}checks: {{{checks}}}\n{extra}".encode(), risk=risk)


def test_header_and_signals() -> None:
    """Header and signals arrive as written, with the default age where a signal has none, in the order of names."""
    found = envelope("c: {kind: stale, signal: link, max: 1 s}")
    assert (found.id, found.version, found.vehicle, found.claim, found.description) == (
        "test",
        3,
        "rover",
        "G1",
        "a test",
    )
    assert (found.risk, found.authority, found.gates, found.source) == ("medium", None, (), "<envelope>")
    signals = {signal.name: signal for signal in found.signals}
    assert list(signals) == sorted(signals)
    speed = signals["speed"]
    assert (speed.topic, speed.type, speed.field) == ("/odom", "nav_msgs/msg/Odometry", "twist.twist.linear")
    assert (speed.reduce, speed.unit, speed.max_age) == ("norm", "m/s", 300_000_000)
    assert (signals["height"].scale, signals["height"].offset, signals["height"].max_age) == (-1.0, 2.0, 1_000_000_000)
    assert signals["link"].field == ""
    assert signals["link"].max_age is None
    assert signals["age"].unit == "s"
    assert signals["mode"].values == (("MANUAL", 0.0), ("AUTO", 3.0), ("LAND", 5.0))


INF = math.inf
LOWERED = [
    (
        "kind: bounds, signal: speed, max: 12",
        ("speed",),
        {"max": 12, "min": -INF, "leave_max": 12, "leave_min": -INF},
        "m/s",
    ),
    (
        "kind: bounds, signal: speed, max: 12 m/s, leave: 11 m/s",
        ("speed",),
        {"max": 12, "min": -INF, "leave_max": 11, "leave_min": -INF},
        "m/s",
    ),
    (
        "kind: bounds, signal: speed, min: 1, leave: 2",
        ("speed",),
        {"max": INF, "min": 1, "leave_max": INF, "leave_min": 2},
        "m/s",
    ),
    (
        "kind: bounds, signal: speed, max: 12, leave_max: 11, min: -1, leave_min: 0",
        ("speed",),
        {"max": 12, "min": -1, "leave_max": 11, "leave_min": 0},
        "m/s",
    ),
    (
        "kind: rate, signal: height, max: 5 m/s, min: -3",
        ("height",),
        {"max": 5, "min": -3, "leave_max": 5, "leave_min": -3},
        "m/s",
    ),
    (
        "kind: rate, signal: speed, max: 5 m/s2",
        ("speed",),
        {"max": 5, "min": -INF, "leave_max": 5, "leave_min": -INF},
        "m/s2",
    ),
    (
        "kind: latency, signal: age, max: 50 ms, min: -1 ms, leave_max: 40 ms",
        ("age",),
        {"max": 0.05, "min": -0.001, "leave_max": 0.04, "leave_min": -0.001},
        "s",
    ),
    ("kind: stale, signal: link, max: 1.5 s", ("link",), {"max": 1_500_000_000}, "s"),
    (
        "kind: frequency, signal: link, min: 180 Hz, window: 2 s",
        ("link",),
        {"min": 180, "max": INF, "window": 2_000_000_000},
        "Hz",
    ),
    (
        "kind: frequency, signal: link, max: 1 kHz, window: 1 s",
        ("link",),
        {"min": 0, "max": 1000, "window": 10**9},
        "Hz",
    ),
    (
        "kind: jitter, signal: link, rate: 30 Hz, max: 5 ms, window: 2 s",
        ("link",),
        {"period": 33_333_333, "max": 5_000_000, "window": 2 * 10**9},
        "s",
    ),
    (
        "kind: agreement, signals: [heading, bearing], max: 5 deg, leave: 4, wrap: 360",
        ("heading", "bearing"),
        {"max": 5, "leave": 4, "wrap": 360},
        "deg",
    ),
    (
        "kind: agreement, signals: [height, other_height], max: 5",
        ("height", "other_height"),
        {"max": 5, "leave": 5, "wrap": 0},
        "m",
    ),
    ("kind: valid, signal: lat", ("lat",), {"covariance_max": INF}, "deg"),
    (
        "kind: valid, signal: lat, covariance: variance, covariance_max: 25 m2",
        ("lat", "variance"),
        {"covariance_max": 25},
        "m2",
    ),
]


@pytest.mark.parametrize(("text", "signals", "params", "unit"), LOWERED, ids=[row[0] for row in LOWERED])
def test_numbers_of_a_check(text: str, signals: tuple[str, ...], params: dict[str, float], unit: str) -> None:
    """Limits come out in the signal's unit, durations in ns, rates in Hz, and what is not given as no limit."""
    spec = check(text)
    assert (spec.name, spec.kind) == ("c", text.split(",")[0].removeprefix("kind: "))
    assert (spec.signals, spec.params, spec.unit) == (signals, params, unit)


def test_geofence() -> None:
    """A fence lists its signals in the kernel's order and its corners as latitude, longitude."""
    spec = check(
        "kind: geofence, altitude: height, longitude: lon, latitude: lat, polygon: [[47, 8], [47.1, 8], [47.1, 8.1]], "
        "max_altitude: 120 m, mode: keep_out"
    )
    assert spec.signals == ("lat", "lon", "height")
    assert spec.params == {"min_altitude": -INF, "max_altitude": 120.0, "keep_out": 1.0}
    assert spec.table == (47.0, 8.0, 47.1, 8.0, 47.1, 8.1)


@pytest.mark.parametrize(
    ("text", "table", "texts"),
    [
        ("kind: one_of, signal: mode, values: [LAND, AUTO, 0]", (5.0, 3.0, 0.0), ()),
        ("kind: equals, signal: mode, value: AUTO", (3.0,), ()),
        ("kind: equals, signal: armed, value: YES", (1.0,), ()),
        ("kind: equals, signal: wish, value: 3", (3.0,), ()),
        ("kind: one_of, signal: word, values: [idle, 'yes', \"3\"]", (), ("idle", "yes", "3")),
    ],
)
def test_states(text: str, table: tuple[float, ...], texts: tuple[str, ...]) -> None:
    """A state is the number that the signal's names give it, or a text where the signal has no names."""
    spec = check(text)
    assert (spec.table, spec.texts) == (table, texts)


def test_common_fields() -> None:
    """Debounce, latch, severity and references to the assurance case reach the specification."""
    spec = check(
        "kind: stale, signal: link, max: 1 s, fail_for: 200 ms, pass_for: 1 min, latch: manual, severity: critical, "
        "rationale: because, hazard: H1, claim: G1.1"
    )
    assert (spec.fail_for, spec.pass_for, spec.latch) == (200_000_000, 60_000_000_000, Latch.MANUAL)
    assert (spec.severity, spec.rationale, spec.hazard, spec.claim) == ("critical", "because", "H1", "G1.1")


TWO = (
    "a: {kind: stale, signal: link, max: 1 s}, b: {kind: stale, signal: mode, max: 1 s}, d: {kind: valid, signal: lat}"
)


def test_gates() -> None:
    """Gates become expressions in which every group is a count over its members."""
    found = envelope(
        TWO,
        "gates: {g: {require: all, criteria: [a, {any: [b, d]}, {at_least: 2, of: [a, b, {all: [b, d]}]}], "
        "go_after: 2 s, lease: 5 s, on_unknown: {hold: 3 s}}, f: {require: any, criteria: [b, a]}}",
    )
    a, b, d = (Criterion(check=name) for name in "abd")
    both = Criterion(at_least=2, children=(b, d))
    nested = (a, Criterion(at_least=1, children=(b, d)), Criterion(at_least=2, children=(a, b, both)))
    assert found.gates == (
        GateSpec("f", Criterion(at_least=1, children=(b, a)), 0, 1_000_000_000, 0),
        GateSpec("g", Criterion(at_least=3, children=nested), 2_000_000_000, 5_000_000_000, 3_000_000_000),
    )


def test_authority() -> None:
    """Authority maps the mode's numbers to roles, and what it reads is watched: texts each time, all else on change."""
    found = envelope(
        TWO,
        "authority: {mode: mode, intention: wish, failsafe: speed, active: {signal: armed, value: YES}, "
        "map: {human: [MANUAL], autonomy: [AUTO, 4], fallback: [LAND]}, "
        "reasons: {text: [word], flags: {too high: height, 'b c': heading}, within: 1 s}}",
    )
    spec = found.authority
    assert spec is not None
    assert dict(spec.modes) == {0.0: "human", 3.0: "autonomy", 4.0: "autonomy", 5.0: "fallback"}
    assert (spec.mode, spec.intention, spec.failsafe, spec.active, spec.active_value) == (
        "mode",
        "wish",
        "speed",
        "armed",
        1.0,
    )
    assert (spec.reason_texts, spec.within) == (("word",), 1_000_000_000)
    assert spec.reason_flags == (("b c", "heading"), ("too high", "height"))
    watched = {signal.name: signal.watch for signal in found.signals if signal.watch}
    assert watched == dict.fromkeys(("mode", "wish", "speed", "armed", "heading", "height"), "change") | {
        "word": "each"
    }


def test_intention_has_the_names_of_the_mode() -> None:
    """Mode and intention count the same modes, so names that are given once serve for both."""
    extra = "authority: {mode: mode, intention: wish, map: {human: [MANUAL]}}"
    found = envelope("c: {kind: equals, signal: wish, value: AUTO}", extra)
    signals = {signal.name: signal for signal in found.signals}
    assert signals["wish"].values == signals["mode"].values
    assert found.checks[0].table == (3.0,)


def test_authority_over_text() -> None:
    """A mode signal without names for its values is text, and so are its modes."""
    spec = envelope(TWO, "authority: {mode: word, map: {human: [STAB], autonomy: [AUTO]}}").authority
    assert spec is not None
    assert dict(spec.modes) == {"STAB": "human", "AUTO": "autonomy"}


PROFILES = "mission: {risk: low, profiles: {low: {}, high: {c: {max: 8, leave: 7}}}}"


def test_profiles() -> None:
    """A profile replaces fields of checks; the file says which one is in force, the caller may choose another."""
    text = "kind: bounds, signal: speed, max: 12, leave: 11, severity: critical"
    assert check(text, PROFILES).params["max"] == 12
    high = check(text, PROFILES, risk="high")
    assert (high.params["max"], high.params["leave_max"], high.severity) == (8, 7, "critical")
    chosen = envelope(f"c: {{{text}}}", PROFILES, risk="high")
    assert (chosen.risk, envelope(f"c: {{{text}}}", PROFILES).risk) == ("high", "low")
    assert chosen.digest == envelope(f"c: {{{text}}}", PROFILES).digest


def test_profile_that_is_not_there() -> None:
    """Asking for a profile that the file lacks is refused: the base limits must not pass for strict ones."""
    with pytest.raises(UsageError, match=r"has no risk profile `medium`; it has: high, low"):
        check("kind: bounds, signal: speed, max: 12, leave: 11", PROFILES, risk="medium")
    with pytest.raises(UsageError, match="did you mean `high`"):
        check("kind: bounds, signal: speed, max: 12, leave: 11", PROFILES, risk="hihg")


def test_unused_signals_are_warnings() -> None:
    """A signal that nothing reads is no error, but is said with its place; one that only authority reads is used."""
    found = envelope(TWO, "authority: {mode: word, map: {human: [STAB]}}")
    names = [warning.split(": ")[1] for warning in found.warnings]
    assert "signals.speed" in names
    assert not {"signals.link", "signals.lat", "signals.word"} & set(names)
    assert found.warnings[0].startswith("<envelope>:6:3: signals.speed: no check")


def test_every_kind_can_be_compiled() -> None:
    """The kinds that a planner can write are those that the plan can lower, and each of the examples here compiles."""
    assert set(CHECK_MODELS) == set(KINDS)
    tried = {check(text).kind for text, *_ in LOWERED}
    assert tried | {"geofence", "one_of", "equals", "drift", "formula"} == set(CHECK_MODELS)
    for text, *_ in LOWERED:
        found = envelope(f"c: {{{text}}}")
        assert len(Plan.build(found.signals, found.checks).checks) == 1


@pytest.mark.parametrize("name", ["px4_multirotor", "ugv_husky", "survey_plane", "ardupilot_copter"])
def test_shipped_configs(root: Path, name: str) -> None:
    """Every shipped envelope loads without a warning and compiles under each of its profiles; they share a digest."""
    digests = set()
    for risk in ("low", "medium", "high"):
        found = load(root / "configs" / f"{name}.yaml", risk=risk)
        assert found.warnings == ()
        assert found.vehicle == name
        codes: dict[str, int] = {}
        plan = Plan.build(
            found.signals, found.checks, text_code=lambda text, codes=codes: codes.setdefault(text, len(codes))
        )
        assert len(plan.checks) == len(found.checks)
        digests.add(found.digest)
    assert len(digests) == 1


def test_every_limit_of_the_shipped_configs_says_why(root: Path) -> None:
    """The shipped envelopes are examples: each check has a rationale."""
    for path in (root / "configs").glob("*.yaml"):
        assert [c.name for c in load(path).checks if not c.rationale] == []


def crosses(corners: list[tuple[int, int]]) -> bool:
    """The obvious oracle: some two edges that are not neighbours share a point, by exact rational arithmetic."""

    def point_of(edge: int, along: Fraction) -> tuple[Fraction, Fraction]:
        (a, b), (c, d) = corners[edge], corners[(edge + 1) % len(corners)]
        return a + along * (c - a), b + along * (d - b)

    def on(edge: int, point: tuple[Fraction, Fraction]) -> bool:
        (a, b), (c, d) = corners[edge], corners[(edge + 1) % len(corners)]
        straight = (c - a) * (point[1] - b) == (d - b) * (point[0] - a)
        return straight and min(a, c) <= point[0] <= max(a, c) and min(b, d) <= point[1] <= max(b, d)

    count = len(corners)
    for i in range(count):
        for j in range(i + 1, count):
            (a, b), (c, d) = corners[i], corners[(i + 1) % count]
            (e, f), (g, h) = corners[j], corners[(j + 1) % count]
            shared = {corners[i], corners[(i + 1) % count]} & {corners[j], corners[(j + 1) % count]}
            ends = [(0, i, j), (1, i, j), (0, j, i), (1, j, i)]
            meeting = [p for end, own, other in ends if on(other, p := point_of(own, Fraction(end)))]
            across = (c - a) * (h - f) - (d - b) * (g - e)
            if across:
                along = Fraction((e - a) * (h - f) - (f - b) * (g - e), across)
                if on(i, p := point_of(i, along)) and on(j, p):
                    meeting.append(p)
            if any(p not in shared for p in meeting):
                return True
    return False


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=7, unique=True))
def test_fences_that_cross_themselves(corners: list[tuple[int, int]]) -> None:
    """A fence is refused exactly where two of its edges meet elsewhere than in the corner they share."""
    found = list(polygon_findings(tuple((float(a), float(b)) for a, b in corners)))
    assert bool(found) == crosses(corners)


@given(st.integers(-(2**53), 2**53))
def test_durations_are_exact(nanoseconds: int) -> None:
    """Any whole number of ns up to 2**53 survives being written in seconds, and as a float."""
    text = f"{Fraction(nanoseconds, 1)} ns"
    assert units.duration(text) == nanoseconds == int(float(units.duration(text)))
    sign, digits = "-" if nanoseconds < 0 else "", f"{abs(nanoseconds):010d}"
    assert units.duration(f"{sign}{digits[:-9]}.{digits[-9:]} s") == nanoseconds
    assert units.duration(units.shown_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0.1 s", 10**8),
        ("1e-3 s", 10**6),
        ("1.5min", 90 * 10**9),
        ("2 h", 7200 * 10**9),
        (".5 us", 500),
        ("104 h", 104 * 3600 * 10**9),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    """Durations are read in exact arithmetic, with or without a space before the unit."""
    assert units.duration(text) == nanoseconds


@pytest.mark.parametrize(
    "value",
    [
        200,
        0,
        1.5,
        True,
        "200",
        "ms",
        "0.1 ns",
        "1 sec",
        "1 S",
        "1e99 s",
        "3000 h",
        "1 s 2 ms",
        "١ s",
        "",
        None,
        [],
        "0x1 s",
        "1" * 70 + " s",
    ],
)
def test_what_is_no_duration(value: object) -> None:
    """Without a unit, finer than a nanosecond, too long or otherwise odd: refused, never rounded."""
    with pytest.raises(ValueError, match=r"expected|unit|finer|long"):
        units.duration(value)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder and an impossible name each give one line and exit code 3."""
    for path in (tmp_path / "none.yaml", tmp_path, "a\0b"):
        with pytest.raises(ConfigError, match="cannot read the envelope") as caught:
            load(path)
        assert caught.value.exit_code == 3
        assert "\n" not in str(caught.value)
