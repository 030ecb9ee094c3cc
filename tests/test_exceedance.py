"""Limits from data: how often they would have fired, and which value is exceeded for which share of the time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_monitor import envelope
from edge_monitor.envelope import Envelope
from edge_replay import summary
from edge_replay.exceedance import SHARES, Ages, Distribution, survey
from edge_replay.replay import replay

SPEED = b"""
edge_monitor: 1
envelope: {id: speed, version: 1, vehicle: any}
signals:
  speed: {topic: csv, field: speed, unit: m/s, max_age: 1 s}
  gone: {topic: lidar, field: range, unit: m, max_age: 1 s}
checks:
  fast: {kind: bounds, signal: speed, max: 10, leave_max: 9, min: -5, leave_min: -4}
  alive: {kind: stale, signal: speed, max: 400 ms}
  near: {kind: bounds, signal: gone, min: 1}
"""


@pytest.fixture(scope="module")
def speed() -> Envelope:
    """A limit on speed, one on silence, and one on a signal that never comes."""
    return envelope.loads(SPEED, source="speed.yaml")


def record(path: Path, times: list[float], values: list[float]) -> Path:
    path.write_text("t_s,speed\n" + "".join(f"{t:.3f},{v!r}\n" for t, v in zip(times, values, strict=True)))
    return path


weighted = st.lists(
    st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e3)), min_size=1, max_size=60
)  # values and how long they held


@given(weighted, st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_quantiles_are_those_of_time(points: list[tuple[float, float]], shares: list[float]) -> None:
    """At most a share of the time is above the quantile's complement, and it is the smallest such value."""
    distribution = Distribution()
    for value, seconds in points:
        distribution.add(value, seconds)
    total = sum(seconds for _, seconds in points)
    assert distribution.seconds == pytest.approx(total)
    for share, found in zip(shares, distribution.quantiles(shares), strict=True):
        assert found is not None
        slack = 1e-9 * total
        assert sum(seconds for value, seconds in points if value <= found) >= share * total - slack
        assert sum(seconds for value, seconds in points if value < found) <= share * total + slack


def test_values_that_are_none_do_not_count() -> None:
    """NaN and stretches without length are left out; with nothing left, no quantile is invented."""
    distribution = Distribution()
    for value, seconds in ((math.nan, 5.0), (1.0, 0.0), (1.0, -1.0)):
        distribution.add(value, seconds)
    assert distribution.quantiles(SHARES) == [None] * len(SHARES)
    distribution.add(math.inf, 1.0)
    distribution.add(2.0, 9.0)
    assert distribution.quantiles([0.5, 0.99]) == [2.0, math.inf]


def test_memory_is_bounded_and_tails_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty times as many points as are kept: the 0.1 % and 1 % values stay exact, the middle within its neighbours."""
    monkeypatch.setattr(Distribution, "LIMIT", 10_000)
    monkeypatch.setattr(Distribution, "KEPT", 4_000)
    rng = np.random.default_rng(3)
    values = rng.normal(size=80_000)
    distribution = Distribution()
    most = 0
    for value in values:
        distribution.add(float(value), 0.01)
        most = max(most, len(distribution))
    assert most <= 10_000
    assert distribution.seconds == pytest.approx(800.0)
    exact = np.sort(values)
    for share, found in zip(SHARES, distribution.quantiles(SHARES), strict=True):
        assert found is not None
        rank = math.ceil(share * len(values)) - 1
        slack = 1 if share in (0.001, 0.999) else 60
        assert exact[rank - slack] <= found <= exact[rank + slack], share


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=30), st.floats(0, 1))
def test_ages_are_spread_over_each_gap(gaps: list[float], share: float) -> None:
    """The time during which the newest message is older than the answer is the share that was asked for."""
    ages = Ages()
    for gap in gaps:
        ages.gap(gap)
    (found,) = ages.quantiles([share])
    assert found is not None
    older = sum(max(0.0, gap - found) for gap in gaps)
    assert older == pytest.approx((1 - share) * sum(gaps), rel=1e-6, abs=1e-6)


def test_a_survey_answers_like_plain_arithmetic(tmp_path: Path, speed: Envelope) -> None:
    """Over one recording: fires, time in breach, worst margin and quantiles against NumPy on the same numbers."""
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.choice([0.1, 0.2, 0.5], size=400)).round(3)
    values = (np.sin(np.arange(400) / 15) * 12).round(3)
    log = record(tmp_path / "drive.csv", times.tolist(), values.tolist())
    fast, alive, near = sorted(
        survey([log], speed).checks, key=lambda check: ["fast", "alive", "near"].index(check.name)
    )
    held = np.diff(times)
    order = np.argsort(values[:-1], kind="stable")
    cumulative = np.cumsum(held[order])
    expected = values[:-1][order][np.searchsorted(cumulative, np.array(SHARES) * cumulative[-1])]
    found = fast.document()
    assert list(found["quantiles"].values()) == pytest.approx(expected.tolist())
    assert found["exceeded_1_percent_of_time"] == pytest.approx(expected[3])
    assert found["worst_margin"] == pytest.approx(min(10 - values.max(), values.min() + 5))
    assert (found["min"], found["max"], found["observed_s"]) == (-5.0, 10.0, pytest.approx(times[-1] - times[0]))
    late = np.maximum(0, held - 0.4)
    assert alive.fires == int((held > 0.4).sum()) and alive.seconds == pytest.approx(late.sum())
    gaps = alive.document()["quantiles"]
    assert np.maximum(0, held - gaps["0.99"]).sum() == pytest.approx(0.01 * held.sum(), rel=1e-3)
    assert near.document()["quantiles"]["0.5"] is None and near.unknown_s == pytest.approx(held.sum())


def test_a_survey_agrees_with_replays(root: Path, tmp_path: Path) -> None:
    """Fires, seconds and worst margin are those that replays of the same recordings give, summed over them."""
    loaded = envelope.load(root / "configs/survey_plane.yaml")
    flight = root / "replay/scenarios/survey_flight.mcap"
    half = tmp_path / "half.mcap"
    half.write_bytes(flight.read_bytes()[: flight.stat().st_size // 2])
    found = survey([flight, half], loaded)
    lines = [summary.check_lines(replay(path, loaded)) for path in (flight, half)]
    assert found.damages and not found.unreadable
    for check, first, second in zip(found.checks, *lines, strict=True):
        assert check.name == first.name
        assert check.fires == first.fails + second.fails
        assert check.logs_fired == (first.fails > 0) + (second.fails > 0)
        assert check.seconds == pytest.approx((first.fail_ns + second.fail_ns) / 1e9)
        known = [line.worst for line in (first, second) if line.worst is not None]
        assert check.worst == (min(known) if known else None)
    assert sum(check.fires for check in found.checks) > 15


def test_a_formula_is_known_without_a_value(tmp_path: Path) -> None:
    """A formula has a margin but no value; it is never known only where it was unknown from beginning to end."""
    text = b"""
edge_monitor: 1
envelope: {id: drive, version: 1, vehicle: any}
signals:
  speed: {topic: csv, field: speed, max_age: 5 s}
  other: {topic: elsewhere, field: x, max_age: 5 s}
checks:
  slow: {kind: formula, formula: "historically[0 s, 1 s](speed < 10)"}
  late: {kind: formula, formula: "historically[0 s, 1 s](other < 10)"}
  limit: {kind: bounds, signal: other, max: 1}
"""
    log = record(tmp_path / "drive.csv", [0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0])
    found = survey([log], envelope.loads(text))
    assert {check.name for check in found.checks if check.never_known} == {"late", "limit"}
    assert next(check.worst for check in found.checks if check.name == "slow") == 6.0


def test_an_unreadable_recording_does_not_spoil_the_rest(tmp_path: Path, speed: Envelope) -> None:
    """What can't be read at all is named; the other recordings are counted."""
    good = record(tmp_path / "good.csv", [0.0, 1.0, 2.0], [1.0, 11.0, 1.0])
    bad = tmp_path / "bad.mcap"
    bad.write_bytes(b"\x00" * 3000)
    found = survey([bad, good], speed)
    assert len(found.unreadable) == 1 and "bad.mcap" in found.unreadable[0]
    assert next(check for check in found.checks if check.name == "fast").fires == 1
