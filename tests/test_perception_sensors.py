"""Statistics of scans, clouds, inertial samples and detections: equal to plain loops, and deaf to nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import perception as oracle

from edge_monitor.core.perception import inertial
from edge_monitor.core.perception.cloud import sector_of
from edge_monitor.core.perception.detections import (
    FIXED,
    MAX_DETECTIONS,
    DetectionOptions,
    DetectionStatistics,
)
from edge_monitor.core.perception.inertial import BANDS, InertialOptions, InertialStatistics, filter_bank
from edge_monitor.core.perception.scan import MAX_BEAMS, ScanOptions, ScanStatistics
from edge_monitor.core.perception.statistics import SILENT, Statistics
from edge_monitor.core.samples import Cause

MS = 1_000_000


def known(statistics: Statistics) -> dict[str, float]:
    """The statistics that have a value."""
    named = zip(statistics.names, statistics.values.tolist(), statistics.causes.tolist(), strict=True)
    return {name: value for name, value, cause in named if cause == Cause.NONE}


def cause(statistics: Statistics, name: str) -> int:
    return int(statistics.causes[statistics.names.index(name)])


ranges = st.one_of(st.floats(0, 40, width=32), st.sampled_from([math.inf, -math.inf, math.nan, 0.0, 0.1, 30.0]))


@given(st.lists(ranges, min_size=8, max_size=80), st.floats(0.5, 10))
def test_a_scan_equals_the_oracle(values: list[float], near: float) -> None:
    """Every statistic of a scan is that of plain loops, whatever the beams hold."""
    statistics = ScanStatistics(ScanOptions(near=near))
    statistics.ranges(np.array(values), 0.1, 30.0)
    expected = oracle.scan(values, 0.1, 30.0, near)
    assert known(statistics) == pytest.approx({k: v for k, v in expected.items() if not math.isnan(v)}, rel=1e-12)
    assert all(cause(statistics, name) == Cause.NAN for name, v in expected.items() if math.isnan(v))


def test_a_scan_that_cannot_be_measured_says_why() -> None:
    """Too few or too many beams, and limits that contradict each other, have causes."""
    statistics = ScanStatistics()
    for count, low, high, expected in (
        (7, 0.0, 1.0, Cause.INVALID),
        (8, 2.0, 1.0, Cause.INVALID),
        (8, math.nan, 1.0, Cause.INVALID),
        (MAX_BEAMS + 1, 0.0, 1.0, Cause.OVERFLOW),
    ):
        statistics.ranges(np.ones(count), low, high)
        assert (statistics.causes == expected).all() and np.isnan(statistics.values).all()


@given(st.floats(-50, 50), st.floats(-50, 50))
def test_octants_equal_the_angle(x: float, y: float) -> None:
    """Comparing coordinates tells the same octant as the angle does, away from its edges."""
    angle = math.atan2(y, x) / (math.pi / 4)
    if math.hypot(x, y) > 1e-6 and abs(angle - round(angle)) > 1e-9:
        # an inlined kernel has no entry from Python when it is compiled
        assert getattr(sector_of, "py_func", sector_of)(x, y) == oracle.octant(x, y)


def waves(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.column_stack([rng.normal(0, 1, n), rng.normal(0, 0.3, n), 9.81 + rng.normal(0, 2, n)])


def test_band_energies_equal_the_oracle() -> None:
    """Energies are those of direct form I filters in plain Python, averaged the same way."""
    rate, n = 200.0, 500
    options = InertialOptions(rate, edges=(5.0, 20.0, 40.0, 60.0, math.inf))
    a = waves(np.random.default_rng(1), n)
    statistics = InertialStatistics(options)
    statistics.samples(np.arange(n, dtype=np.int64) * 5 * MS, a)
    alpha = 1 - math.exp(-1 / (options.average * rate))
    for f, biquad in enumerate(filter_bank(rate, options.edges)):
        axes = [oracle.filtered(biquad, a[:, axis].tolist()) for axis in range(3)]
        energy = 0.0
        for k in range(n):
            share = max(alpha, 1 / (k + 1))
            energy += share * (sum(axis[k] ** 2 for axis in axes) - energy)
        name = f"band.{f}" if f < BANDS else "vibration"
        expected = math.log(energy) if f < BANDS else math.sqrt(energy)
        assert known(statistics)[name] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rate", [100.0, 400.0, 1000.0])
def test_bands_pass_what_they_say(rate: float) -> None:
    """A band passes its centre whole, its edges at half power, and far frequencies hardly; gravity not at all."""
    edges = (5.0, 20.0, 60.0, 150.0, math.inf)
    bank = filter_bank(rate, edges)
    for biquad, low, high in zip(bank[:BANDS], edges, edges[1:], strict=False):
        if low >= 0.95 * rate / 2:
            assert not biquad.any()
            continue
        assert oracle.gain(biquad, 1e-6, rate) < 1e-6
        if high < 0.95 * rate / 2:
            assert oracle.gain(biquad, math.sqrt(low * high), rate) == pytest.approx(1, abs=1e-6)
            assert oracle.gain(biquad, low / 10, rate) < 0.2
        else:
            assert oracle.gain(biquad, low, rate) == pytest.approx(math.sqrt(0.5), abs=1e-6)


def test_a_vibration_is_seen_in_its_band() -> None:
    """A sine of 1 m/s^2 RMS puts the most energy into its own band, and the RMS says its size."""
    rate, n = 1000.0, 5000
    time = np.arange(n) / rate
    for frequency, band in ((10, 0), (35, 1), (95, 2), (300, 3)):
        a = np.zeros((n, 3))
        a[:, 2] = 9.81 + math.sqrt(2) * np.sin(2 * math.pi * frequency * time)
        statistics = InertialStatistics(InertialOptions(rate))
        statistics.samples((time * 1e9).astype(np.int64), a)
        values = known(statistics)
        assert max(range(BANDS), key=lambda i, seen=values: seen[f"band.{i}"]) == band
        assert values["vibration"] == pytest.approx(1, abs=0.05)


def test_gaps_and_nan_start_the_filters_anew() -> None:
    """After NaN or a gap the statistics warm up again and then are those of a fresh start; clipped samples stay."""
    rate = 100.0
    options = InertialOptions(rate, edges=(5.0, 10.0, 20.0, 30.0, 40.0), clip=15.0)
    rng = np.random.default_rng(2)
    a = waves(rng, 400)
    a[:, 2] = np.clip(a[:, 2], 5, 14.9)
    a[3, 0] = -15.0
    t = np.arange(400, dtype=np.int64) * 10 * MS
    for spoil in ("nan", "gap", "back"):
        one, fresh = InertialStatistics(options), InertialStatistics(options)
        one.samples(t[:150], a[:150])
        assert known(one)["clipped"] == 1 and len(known(one)) == len(one.names)
        later = t[151:] + {"nan": 0, "gap": 300 * MS, "back": -1600 * MS}[spoil]
        if spoil == "nan":
            bad = a[150:151].copy()
            bad[0, 1] = math.nan
            one.samples(t[150:151], bad)
            assert cause(one, "vibration") == Cause.NAN and known(one) == {"clipped": 1}
        one.samples(later[:10], a[151:161])
        fresh.samples(later[:10], a[151:161])
        assert cause(one, "band.0") == Cause.WARMING
        one.samples(later[10:], a[161:])
        fresh.samples(later[10:], a[161:])
        assert one.values[: BANDS + 1].tobytes() == fresh.values[: BANDS + 1].tobytes()
        assert known(one)["clipped"] == 1


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(0, 100))
@settings(max_examples=30)
def test_cutting_and_restoring_change_nothing(cuts: list[int], seed: int) -> None:
    """Samples taken in any pieces, through snapshots, leave the same state, bit for bit."""
    options = InertialOptions(50.0, edges=(2.0, 5.0, 10.0, 15.0, 20.0))
    n = sum(cuts)
    a = waves(np.random.default_rng(seed), n)
    t = np.arange(n, dtype=np.int64) * 20 * MS
    whole, piece = InertialStatistics(options), InertialStatistics(options)
    whole.samples(t, a)
    at = 0
    for cut in cuts:
        piece.samples(t[at : at + cut], a[at : at + cut])
        at += cut
        moved = InertialStatistics(options)
        moved.restore(piece.snapshot())
        piece = moved
    assert whole.snapshot() == piece.snapshot()


def test_inertial_options_are_checked() -> None:
    """Bands that fall, rates that cannot show them and times that are not positive are refused with a reason."""
    for arguments in (
        {"rate": 10.0},
        {"rate": 100.0, "edges": (5.0, 4.0, 6.0, 7.0, 8.0)},
        {"rate": 100.0, "edges": (5.0, 6.0)},
        {"rate": 100.0, "average": 0.0},
    ):
        with pytest.raises(ValueError, match="imu"):
            InertialOptions(**arguments)
    slow = InertialStatistics(InertialOptions(100.0))
    slow.samples(np.arange(300, dtype=np.int64) * 10 * MS, waves(np.random.default_rng(0), 300))
    assert cause(slow, "band.3") == Cause.DEPENDENCY
    assert inertial.FLOOR > 0 and cause(slow, "band.1") == Cause.NONE


score = st.floats(0, 1)


@given(st.integers(1, 4).flatmap(lambda k: st.lists(st.lists(score, min_size=k, max_size=k), max_size=30)))
def test_confidence_equals_the_oracle(scores: list[list[float]]) -> None:
    """Confidence, entropy and margins are those of plain loops; a frame that has none says nothing."""
    statistics = DetectionStatistics()
    statistics.arrays(np.array(scores), [""] * len(scores))
    expected = oracle.detections(scores)
    values = known(statistics)
    for name, wanted in expected.items():
        if math.isnan(wanted):
            assert cause(statistics, name) == SILENT
        else:
            assert values[name] == pytest.approx(wanted, rel=1e-9, abs=1e-12), name


def test_class_mix_and_unlisted_classes() -> None:
    """Counts and shares by class; a class that nobody listed is counted as such; no detections, no shares."""
    statistics = DetectionStatistics(DetectionOptions(classes=("person", "car")))
    statistics.arrays(np.array([0.9, 0.8, 0.7, 0.6]), ["person", "car", "person", "dog"])
    values = known(statistics)
    assert values["count.person"] == 2 and values["share.person"] == 0.5
    assert values["count.car"] == 1 and values["unlisted"] == 1
    assert statistics.names[: len(FIXED)] == FIXED
    statistics.arrays(np.zeros(0), [])
    assert known(statistics)["count.person"] == 0 and cause(statistics, "share.person") == SILENT
    with pytest.raises(ValueError, match="named twice"):
        DetectionOptions(classes=("a", "a"))


def test_flicker_counts_tracks_that_come_and_go() -> None:
    """Flicker is the share of tracks that appeared or vanished, without tracks that of the change in number."""
    statistics = DetectionStatistics()

    def frame(count: int, tracks: tuple[int, ...] = ()) -> float:
        statistics.arrays(np.full(count, 0.5), [""] * count, tracks)
        return known(statistics).get("flicker", math.nan)

    assert math.isnan(frame(2, (1, 2))) and cause(statistics, "flicker") == Cause.WARMING
    assert frame(2, (2, 1)) == 0
    assert frame(2, (2, 3)) == pytest.approx(2 / 3)
    assert frame(0) == 1
    assert frame(0) == 0
    assert frame(4) == 1
    assert frame(3) == 0.25
    other = DetectionStatistics()
    other.restore(statistics.snapshot())
    other.arrays(np.full(3, 0.5), [""] * 3)
    assert known(other)["flicker"] == 0


def test_impossible_scores_and_too_many_detections_are_refused() -> None:
    """A score outside 0..1 or NaN makes the frame invalid, too many detections overflow."""
    statistics = DetectionStatistics()
    for bad in (-0.1, 1.1, math.nan, math.inf):
        statistics.arrays(np.array([0.5, bad]), ["", ""])
        assert (statistics.causes == Cause.INVALID).all()
    statistics.arrays(np.zeros(MAX_DETECTIONS + 1), [""] * (MAX_DETECTIONS + 1))
    assert (statistics.causes == Cause.OVERFLOW).all()
