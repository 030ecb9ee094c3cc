"""From a signal's samples to a detector's values: gate, the mode's reference, standardise, whiten, blocks, detect.

All of it is data: a table of float64 that a reference file and a check's settings give (:func:`pack`). A sample x
becomes z = (x - centre) / scale (median and MAD of the reference in the present mode), the residual
e = (z - sum phi_i z_i) / sigma of an autoregression of order 0 to 6, and ``block`` residuals become one value, so that
what a detector sees is nearly independent with deviation 1. Missing samples (NaN, a gap) empty the autoregression's
memory and are left out of the block; a gap longer than a block starts it anew; the detector's state stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..jit import inlined, kernel
from . import adwin as _adwin
from . import compat, edetector, histogram
from .adwin import adwin
from .compat import kswin, page_hinkley
from .cusum import CUSUM_STATE, EWMA_STATE, VARIANCE_STATE, cusum, ewma, variance
from .edetector import EDETECTOR_STATE, multinomial
from .edetector import edetector as exceedance
from .focus import FOCUS_STATE, focus
from .histogram import histogram as windowed

(
    CUSUM,
    EWMA,
    VARIANCE,
    FOCUS,
    EDETECTOR,
    MULTINOMIAL,
    HISTOGRAM,
    ADWIN,
    PAGE_HINKLEY,
    KSWIN,
    COLLECT,
    MAHALANOBIS,
    MMD,
) = range(13)
DETECTORS = {
    "cusum": CUSUM,
    "ewma": EWMA,
    "variance": VARIANCE,
    "focus": FOCUS,
    "edetector": EDETECTOR,
    "multinomial": MULTINOMIAL,
    "histogram": HISTOGRAM,
    "adwin": ADWIN,
    "page_hinkley": PAGE_HINKLEY,
    "kswin": KSWIN,
    "mahalanobis": MAHALANOBIS,
    "mmd": MMD,
}
#: Those that look at several signals at once: ``core/drift/vector.py``.
VECTOR = frozenset({"mahalanobis", "mmd"})

#: What a block gives: its mean times sqrt(block), that without sign, its mean square, and minus that.
SHIFT, MAGNITUDE, ENERGY, QUIET = range(4)

MAX_ORDER = 6
FAR = 1e6  #: a value further than so many MADs from the centre counts as so far, so that infinity stays finite

# The table: a head, then per mode a row of the reference and the detector's constants (the threshold first).
# DIMENSIONS: of the vector that the check looks at, 0 where it looks at one signal.
DETECTOR, FEED, BLOCK, GAP_NS, BLOCK_NS, RESOLVE, CALIBRATED, MODES, STRIDE, DIMENSIONS, DIGEST = range(11)
HEAD = DIGEST + 8
MODE, CENTRE, SCALE, SIGMA, ORDER, PHI = range(6)
PARAMS = PHI + MAX_ORDER

# The pool: the pipeline's state, then the detector's.
ROW, LAGS, HISTORY = 0, 1, 2
COUNT = HISTORY + MAX_ORDER
SUM, SQUARES, VALUE, ALARM, READY, MISSING = range(COUNT + 1, COUNT + 7)
STATE = MISSING + 1

_NAN = math.nan


@dataclass(frozen=True, slots=True)
class Row:
    """One mode of a reference: how to standardise and whiten, and the detector's constants there."""

    params: tuple[float, ...]
    mode: float = 0.0
    centre: float = 0.0
    scale: float = 1.0
    sigma: float = 1.0
    phi: tuple[float, ...] = ()


def pack(
    detector: int,
    rows: Sequence[Row],
    *,
    feed: int = SHIFT,
    block: int = 1,
    gap_ns: int = 1 << 62,
    block_ns: int = 1 << 62,
    resolve: float = 0.5,
    calibrated: bool = False,
    dimensions: int = 0,
    digest: str = "",
) -> tuple[float, ...]:
    """The table of a drift check. ``gap_ns``: a longer interval empties the autoregression's memory; ``block_ns``: one
    longer than both starts the block anew; ``resolve``: share of the threshold below which an alarm is over;
    ``dimensions``: of a vector, whose numbers are among its rows' ``params`` (``core/drift/vector.py``); ``digest``: hex
    SHA-256 of the reference file, so that it is part of the plan.

    Raises ``ValueError`` for numbers that the kernels could not work with.
    """
    widest = max(len(row.params) for row in rows)
    head = [float(detector), float(feed), float(block), float(gap_ns), float(block_ns), resolve, float(calibrated)]
    head += [float(len(rows)), float(PARAMS + widest), float(dimensions)]
    words = [float(int(digest[i : i + 8], 16)) for i in range(0, 64, 8)] if digest else [0.0] * 8
    table = head + words
    for row in rows:
        phi = (*row.phi, *(0.0,) * (MAX_ORDER - len(row.phi)))
        if len(row.phi) > MAX_ORDER or not (row.scale > 0 and row.sigma > 0):
            raise ValueError("a reference needs a scale and a sigma above 0 and at most six coefficients")
        if not all(map(math.isfinite, (row.mode, row.centre, row.scale, row.sigma, *phi, *row.params))):
            raise ValueError("a reference must consist of finite numbers")
        table += [row.mode, row.centre, row.scale, row.sigma, float(len(row.phi)), *phi, *row.params]
        table += [0.0] * (widest - len(row.params))
    if block < 1 or not 0 < resolve <= 1:
        raise ValueError("a block has at least one sample, and `resolve` is a share of the threshold")
    return tuple(table)


def pool_size(table: Sequence[float]) -> int:
    """Numbers of state that the table of one signal's check needs: the pipeline's and its detector's."""
    params = HEAD + PARAMS
    sizes = {CUSUM: CUSUM_STATE, EWMA: EWMA_STATE, VARIANCE: VARIANCE_STATE, FOCUS: FOCUS_STATE, COLLECT: 0}
    sizes |= {EDETECTOR: EDETECTOR_STATE, PAGE_HINKLEY: compat.PAGE_HINKLEY_STATE}
    detector = int(table[DETECTOR])
    if detector in sizes:
        return STATE + sizes[detector]
    if detector == MULTINOMIAL:
        return STATE + edetector.multinomial_state(int(table[params + 3]))
    if detector == HISTOGRAM:
        bins, window = int(table[params + histogram.CELLS]), int(table[params + histogram.WINDOW])
        return STATE + histogram.histogram_state(bins, window)
    if detector == ADWIN:
        return STATE + _adwin.adwin_state(int(table[params + 3]))
    return STATE + compat.kswin_state(int(table[params + 2]), int(table[params + 3]))


@inlined
def detect(code, x, table, p, pool, q):  # type: ignore[no-untyped-def]
    """One value to the detector: ``(statistic, alarm)``."""
    if code == EDETECTOR:
        return exceedance(x, table, p, pool, q)
    elif code == CUSUM:
        return cusum(x, table, p, pool, q)
    elif code == EWMA:
        return ewma(x, table, p, pool, q)
    elif code == VARIANCE:
        return variance(x, table, p, pool, q)
    elif code == FOCUS:
        return focus(x, table, p, pool, q)
    elif code == HISTOGRAM:
        return windowed(x, table, p, pool, q)
    elif code == MULTINOMIAL:
        return multinomial(x, table, p, pool, q)
    elif code == ADWIN:
        return adwin(x, table, p, pool, q)
    elif code == PAGE_HINKLEY:
        return page_hinkley(x, table, p, pool, q)
    elif code == KSWIN:
        return kswin(x, table, p, pool, q)
    return x, False


@inlined
def forget_lags(pool, q):  # type: ignore[no-untyped-def]
    """A sample is missing: the next residuals can't be predicted from those before it."""
    pool[q + LAGS] = 0.0


@inlined
def start_block(pool, q):  # type: ignore[no-untyped-def]
    """Start the block anew; nothing is known of the time before it."""
    pool[q + LAGS] = 0.0
    pool[q + COUNT] = 0.0
    pool[q + SUM] = 0.0
    pool[q + SQUARES] = 0.0
    pool[q + ALARM] = 0.0
    pool[q + READY] = 0.0


@inlined
def absorb(x, table, start, row, pool, q):  # type: ignore[no-untyped-def]
    """One known sample in the mode of ``row`` (an offset in the table): 1 when it ended a block, else 0."""
    z = (x - table[row + CENTRE]) / table[row + SCALE]
    z = z if z < FAR else FAR
    z = z if z > -FAR else -FAR
    order = int(table[row + ORDER])
    e = z
    for i in range(order):
        e -= table[row + PHI + i] * pool[q + HISTORY + i]
    for i in range(order - 1, 0, -1):
        pool[q + HISTORY + i] = pool[q + HISTORY + i - 1]
    pool[q + HISTORY] = z
    if pool[q + LAGS] < order:
        pool[q + LAGS] += 1.0
        return 0
    e /= table[row + SIGMA]
    count = pool[q + COUNT] + 1.0
    total = pool[q + SUM] + e
    squares = pool[q + SQUARES] + e * e
    block = table[start + BLOCK]
    if count < block:
        pool[q + COUNT] = count
        pool[q + SUM] = total
        pool[q + SQUARES] = squares
        return 0
    pool[q + COUNT] = 0.0
    pool[q + SUM] = 0.0
    pool[q + SQUARES] = 0.0
    feed = int(table[start + FEED])
    y = total / math.sqrt(block)
    if feed == MAGNITUDE:
        y = abs(y)
    elif feed == ENERGY:
        y = squares / block
    elif feed == QUIET:
        y = -squares / block
    statistic, alarm = detect(int(table[start + DETECTOR]), y, table, row + PARAMS, pool, q + STATE)
    pool[q + ALARM] = 1.0 if alarm else 0.0
    pool[q + VALUE] = statistic
    pool[q + READY] = 0.0 if math.isnan(statistic) else 1.0
    return 1


@kernel
def pipeline_many(x, tables, pools, statistic, alarm):  # type: ignore[no-untyped-def]
    """Streams of regular samples (streams, samples), NaN where one is missing, each with its own table and pool.

    ``statistic`` is NaN but where a block ended. One mode: the first row of each table.
    """
    streams = x.shape[0]
    p = len(tables) // streams
    q = len(pools) // streams
    for i in range(streams):
        for j in range(x.shape[1]):
            statistic[i, j] = _NAN
            alarm[i, j] = 0
            if math.isnan(x[i, j]):
                pools[i * q + MISSING] += 1.0
                forget_lags(pools, i * q)
                if pools[i * q + MISSING] > tables[i * p + BLOCK]:
                    start_block(pools, i * q)
                continue
            pools[i * q + MISSING] = 0.0
            if absorb(x[i, j], tables, i * p, i * p + HEAD, pools, i * q) != 0:
                statistic[i, j] = pools[i * q + VALUE]
                alarm[i, j] = pools[i * q + ALARM] != 0
