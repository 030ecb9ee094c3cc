"""Geofences: inside and outside, distances in metres, and places that are known in part."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import checks as oracle
from oracles.compare import close
from strategies import FENCE, check, engine, message

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.checks import registry
from edge_monitor.core.samples import (
    Cause,
    Verdict,
)

P, U, F = Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL
NAN = math.nan

#: In degrees: corners as (latitude, longitude), flattened.
DEGREES = st.floats(-0.0015, 0.0025).map(lambda x: round(x, 7))


def place(spec: CheckSpec, latitude: float, longitude: float) -> np.void:
    """State of a fence over two coordinates."""
    machine = engine(spec)
    machine.advance(message(0, {0: latitude, 1: longitude}))
    state: np.void = machine.checks[0]
    return state


@settings(max_examples=200)
@given(DEGREES, DEGREES, st.booleans())
def test_a_fence_equals_the_winding_number(latitude: float, longitude: float, keep_out: bool) -> None:
    """Inside a polygon with a notch is where the winding number says so; the margin is the distance to its edge."""
    spec = check("geofence", {"keep_out": float(keep_out)}, "ab", table=FENCE)
    inputs = [oracle.Input(value=latitude, cause=Cause.NONE), oracle.Input(value=longitude, cause=Cause.NONE)]
    expected = oracle.say(spec, inputs, 0, after=False, failed=False)
    assume(abs(expected.margin) > 1e-3)  # on the edge itself rounding decides
    state = place(spec, latitude, longitude)
    assert state["verdict"] == expected.verdict
    assert close(float(state["margin"]), expected.margin, 2e-6)


@pytest.mark.parametrize("latitude", [0.0, 47.0, -33.9, 69.6])
def test_a_fence_is_measured_in_metres(latitude: float) -> None:
    """Ten metres north and east of a corner are ten metres on the WGS 84 ellipsoid, at any latitude, within 1 %."""
    north, east = oracle.metres(latitude)
    square = (latitude, 8.0, latitude, 8.01, latitude + 0.01, 8.01, latitude + 0.01, 8.0)
    spec = check("geofence", {}, "ab", table=square)
    assert place(spec, latitude + 10 / north, 8.005)["margin"] == pytest.approx(10, rel=0.01)
    assert place(spec, latitude + 0.005, 8.0 - 10 / east)["margin"] == pytest.approx(-10, rel=0.01)
    assert registry.metres_per_degree(latitude) == pytest.approx((north, east), rel=1e-5)


def test_the_edge_belongs_to_the_zone() -> None:
    """On the edge ``keep_in`` passes and ``keep_out`` fails: a forbidden zone includes its border."""
    square = (0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.0)
    for latitude, longitude in ((0.0, 0.0), (0.25, 0.0), (0.5, 0.5), (0.0, 0.25)):
        assert place(check("geofence", {}, "ab", table=square), latitude, longitude)["verdict"] == P
        assert place(check("geofence", {"keep_out": 1.0}, "ab", table=square), latitude, longitude)["verdict"] == F


def test_a_ring_that_repeats_its_first_corner_is_the_same_fence() -> None:
    """Polygons closed as in GeoJSON, or with a corner given twice, are the same as open ones."""
    open_ring = check("geofence", {}, "ab", table=FENCE)
    closed = check("geofence", {}, "ab", table=(*FENCE[:4], *FENCE[2:], *FENCE[:2]))
    for latitude, longitude in ((0.0005, 0.0003), (0.002, 0.002), (0.0, 0.0), (0.0007, 0.0009)):
        a, b = place(open_ring, latitude, longitude), place(closed, latitude, longitude)
        assert (a["verdict"], a["margin"]) == (b["verdict"], b["margin"])


INSIDE, OUTSIDE = {0: 0.0001, 1: 0.0001}, {0: 0.01, 1: 0.01}
BAND = {"min_altitude": 10.0, "max_altitude": 100.0}


@pytest.mark.parametrize(("where", "altitude", "keep_in", "keep_out"), [
    (INSIDE, 50.0, P, F), (INSIDE, 5.0, F, P), (INSIDE, 101.0, F, P), (INSIDE, 100.0, P, F),
    (OUTSIDE, 50.0, F, P), (OUTSIDE, 5.0, F, P),
    (INSIDE, None, U, U), (OUTSIDE, None, F, P), (None, 5.0, F, P), (None, 50.0, U, U),
])  # fmt: skip
def test_a_prism_with_parts_unknown(
    where: dict[int, float] | None, altitude: float | None, keep_in: Verdict, keep_out: Verdict
) -> None:
    """What is known to be outside, by place or by altitude, decides alone; else an unknown part makes it unknown."""
    values = {**(where or {0: NAN, 1: 0.0}), 2: NAN if altitude is None else altitude}
    for keep, verdict in ((0.0, keep_in), (1.0, keep_out)):
        machine = engine(check("geofence", {**BAND, "keep_out": keep}, "abc", table=FENCE))
        machine.advance(message(0, values))
        state = machine.checks[0]
        assert state["verdict"] == verdict
        assert (state["cause"] == Cause.NAN) == (verdict == U)
