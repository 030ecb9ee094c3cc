"""From a check's specification to its row: codes, limits as counts, polygons in metres, ring sizes. Runs once a plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ..check_spec import CheckSpec
from ..drift import vector
from ..drift.pipeline import DIMENSIONS, pool_size
from ..elementary import cos, sin
from ..formula.program import Program, lower
from . import dispatch
from .drift import lower_table

Fields = dict[str, float | int]


@dataclass(frozen=True, slots=True)
class Lowered:
    """What a specification becomes: fields of its ``CHECK_ROW``, its numbers, how much ring and pool it needs, its
    formula's nodes, and how many of its signals, the first ones, make up a vector."""

    code: int
    fields: Fields = field(default_factory=dict)
    table: tuple[float, ...] = ()
    ring: int = 0
    pool: int = 0
    program: Program | None = None
    dimensions: int = 0


def _limits(spec: CheckSpec) -> Fields:
    high = spec.params.get("max", math.inf)
    low = spec.params.get("min", -math.inf)
    return {
        "max": high,
        "min": low,
        "leave_max": spec.params.get("leave_max", high),
        "leave_min": spec.params.get("leave_min", low),
    }


def _bounds(spec: CheckSpec) -> Lowered:
    return Lowered(dispatch.BOUNDS, _limits(spec))


def _rate(spec: CheckSpec) -> Lowered:
    return Lowered(dispatch.RATE, _limits(spec))


def _one_of(spec: CheckSpec) -> Lowered:
    return Lowered(dispatch.ONE_OF, table=spec.table)


def _valid(spec: CheckSpec) -> Lowered:
    return Lowered(dispatch.VALID, {"max": spec.params.get("covariance_max", math.inf)})


def _stale(spec: CheckSpec) -> Lowered:
    return Lowered(dispatch.STALE, {"span": int(spec.params["max"])})


#: A ring never grows past this many entries a check (16 B each): bounded memory, whatever an envelope asks for.
RING_LIMIT = 1 << 20


def _frequency(spec: CheckSpec) -> Lowered:
    window = int(spec.params["window"])
    high = spec.params.get("max", math.inf)
    low = spec.params.get("min", 0.0)
    n_min = math.ceil(low * window / 1e9 - 1e-9)
    # Both edges of a closed window count: a stream at exactly `max` may show one message more than max * window.
    n_max = RING_LIMIT if math.isinf(high) else math.floor(high * window / 1e9 + 1e-9) + 1
    ring = n_min + 1 if math.isinf(high) else max(n_min, n_max) + 2
    if ring > RING_LIMIT:
        raise ValueError(
            f"check {spec.name}: rate × window is {ring} messages; at most {RING_LIMIT} fit, shorten `window`"
        )
    return Lowered(
        dispatch.FREQUENCY, {"window": window, "max": high, "min": low, "n_min": n_min, "n_max": n_max}, ring=ring
    )


def _jitter(spec: CheckSpec) -> Lowered:
    window, period = int(spec.params["window"]), int(spec.params["period"])
    ring = min(RING_LIMIT, 2 * math.ceil(window / period) + 8)
    return Lowered(dispatch.JITTER, {"window": window, "period": period, "span": int(spec.params["max"])}, ring=ring)


def _agreement(spec: CheckSpec) -> Lowered:
    high = spec.params["max"]
    leave = spec.params.get("leave", high)
    return Lowered(dispatch.AGREEMENT, {"max": high, "leave_max": leave, "wrap": spec.params.get("wrap", 0.0)})


def _drift(spec: CheckSpec) -> Lowered:
    table = lower_table(spec)
    dimensions = int(table[DIMENSIONS])
    size = vector.pool_size(table) if dimensions else pool_size(table)
    return Lowered(dispatch.DRIFT, table=table, pool=size, dimensions=dimensions)


def metres_per_degree(latitude: float) -> tuple[float, float]:
    """Metres per degree of latitude and of longitude at ``latitude`` (degrees), on the WGS 84 ellipsoid.

    Source: NGA.STND.0036, radii of curvature in the meridian and the prime vertical.
    """
    a, e2 = 6378137.0, 6.69437999014e-3
    sine = sin(math.radians(latitude))
    w = math.sqrt(1 - e2 * sine * sine)
    north = math.radians(a * (1 - e2) / (w * w * w))
    east = math.radians(a * cos(math.radians(latitude)) / w)
    return north, east


def _geofence(spec: CheckSpec) -> Lowered:
    corners = list(zip(spec.table[::2], spec.table[1::2], strict=True))
    # A corner given twice, as where a ring repeats its first, would be an edge without length.
    corners = [corner for i, corner in enumerate(corners) if corner != corners[i - 1]]
    origin = (sum(lat for lat, _ in corners) / len(corners), sum(lon for _, lon in corners) / len(corners))
    north, east = metres_per_degree(origin[0])
    table = [*origin, north, east]
    for latitude, longitude in corners:
        table += [(longitude - origin[1]) * east, (latitude - origin[0]) * north]
    fields: Fields = {
        "min": spec.params.get("min_altitude", -math.inf),
        "max": spec.params.get("max_altitude", math.inf),
        "keep_out": int(spec.params.get("keep_out", 0)),
    }
    return Lowered(dispatch.GEOFENCE, fields, tuple(table))


def _formula(spec: CheckSpec) -> Lowered:
    if spec.formula is None:
        raise ValueError(f"check {spec.name}: has no formula")
    try:
        program = lower(spec.formula, pointwise=bool(spec.params.get("pointwise", 0.0)), rate=spec.params.get("rate"))
    except ValueError as error:
        raise ValueError(f"check {spec.name}: {error}") from None
    return Lowered(dispatch.FORMULA, ring=program.ring, program=program)


#: Every kind of check and how it is lowered. A test asserts that envelope models, oracles and documentation agree.
KINDS: dict[str, Callable[[CheckSpec], Lowered]] = {
    "bounds": _bounds,
    "rate": _rate,
    "stale": _stale,
    "frequency": _frequency,
    "jitter": _jitter,
    "latency": _bounds,
    "agreement": _agreement,
    "geofence": _geofence,
    "valid": _valid,
    "equals": _one_of,
    "one_of": _one_of,
    "drift": _drift,
    "formula": _formula,
}
