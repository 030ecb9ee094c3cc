"""Several signals at once (embeddings, redundant sensors): one row of values to one number, and that to a detector.

A row is standardised and whitened like a sample (``pipeline``), each dimension by itself. Then

* ``mahalanobis``: the distance d² / n of a block from the reference, n dimensions, goes to the exceedance e-detector.
  For the feed MAGNITUDE it is that of the block's mean (Hotelling), which finds shifts; for ENERGY and QUIET the mean over
  the block of that of its rows, which finds noise and broken correlations.
* ``mmd``: random Fourier features of the row, a fast and a slow average of them, and the distance of the two (NEWMA).

The table's rows hold the detector's constants, from ``FRONT`` on the reference. Sources: H. Hotelling, Ann. Math. Stat. 2
(1931) 360; A. Rahimi, B. Recht, NIPS 2007 (features); N. Keriven, D. Garreau, I. Poli, IEEE TSP 68 (2020) 3515 (NEWMA).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..elementary import cos
from ..jit import inlined, kernel
from .edetector import EDETECTOR_PARAMS, EDETECTOR_STATE
from .edetector import edetector as exceedance
from .pipeline import (
    ALARM,
    BLOCK,
    COLLECT,
    COUNT,
    DETECTOR,
    DIMENSIONS,
    FAR,
    FEED,
    HEAD,
    LAGS,
    MAGNITUDE,
    MAHALANOBIS,
    MAX_ORDER,
    MISSING,
    MMD,
    MODES,
    ORDER,
    PARAMS,
    QUIET,
    READY,
    SQUARES,
    STATE,
    STRIDE,
    VALUE,
    Row,
    forget_lags,
    start_block,
)

_NAN = math.nan
MAX_DIMENSIONS = 64
MAX_FEATURES = 1024

FAST, SLOW, FEATURES = 1, 2, 3  #: constants of ``mmd``, after its threshold

#: A row of the table from here on, n numbers each: centres, scales, deviations and means of the residuals; then six
#: coefficients a dimension; then the precision (n, n), or the features' weights (n, features) and phases (features,).
FRONT = PARAMS + EDETECTOR_PARAMS
_LISTS = 4
# The pool, after the pipeline's state, n numbers each: the row, counts of samples at the last one, sums of the block,
# residuals, a work area; then the dimensions' histories; then the detector's state.
VALUES, SEEN, _SUMS, _RESIDUALS, _WORK, _HISTORIES = range(6)
_POOL_LISTS = _HISTORIES + MAX_ORDER


def vector_row(
    params: Sequence[float],
    centre: Sequence[float],
    scale: Sequence[float],
    sigma: Sequence[float],
    mean: Sequence[float],
    phi: Sequence[Sequence[float]],
    matrix: Sequence[float],
    mode: float = 0.0,
) -> Row:
    """One mode of a vector's reference, for :func:`~edge_monitor.core.drift.pipeline.pack`.

    ``params``: the detector's; ``centre`` … ``mean``: (n,); ``phi``: (n, order); ``matrix``: the precision (n, n), or
    weights (n, features) and phases, flat. Raises ``ValueError`` for shapes that don't agree or a scale that is not above 0.
    """
    n, order = len(centre), len(phi[0])
    if not all(len(one) == n for one in (scale, sigma, mean, phi)) or not all(len(one) == order for one in phi):
        raise ValueError("the parts of a vector's reference have different dimensions")
    if len(params) > EDETECTOR_PARAMS or order > MAX_ORDER or not all(one > 0 for one in (*scale, *sigma)):
        raise ValueError("a reference needs scales and sigmas above 0 and at most six coefficients")
    coefficients = [c for one in phi for c in (*one, *(0.0,) * (MAX_ORDER - order))]
    padded = (*params, *(0.0,) * (EDETECTOR_PARAMS - len(params)))
    # The order alone is the common one; each dimension has its coefficients.
    return Row((*padded, *centre, *scale, *sigma, *mean, *coefficients, *matrix), mode, phi=(0.0,) * order)


def mmd_params(threshold: float, features: float, fast: float = 0.05, slow: float = 0.005) -> tuple[float, ...]:
    """``fast`` and ``slow``: weight of a new row in the two averages. Raises ``ValueError`` where they don't fit."""
    if not 0 < slow < fast <= 1:
        raise ValueError("`slow` must be above 0 and below `fast`, and `fast` at most 1")
    return (threshold, fast, slow, float(features))


def fits(table: Sequence[float]) -> bool:
    """Is every number there that the kernels read? ``table``: one that is as long as its head says."""
    n, stride = int(table[DIMENSIONS]), int(table[STRIDE])
    if not 2 <= n <= MAX_DIMENSIONS or table[BLOCK] < 1 or stride < FRONT:
        return False
    for row in range(HEAD, HEAD + int(table[MODES]) * stride, stride):
        matrix = n * n
        if table[DETECTOR] == MMD:
            features = table[row + PARAMS + FEATURES]
            if table[BLOCK] != 1 or not 1 <= features <= MAX_FEATURES or features != table[HEAD + PARAMS + FEATURES]:
                return False
            matrix = int(features) * (n + 1)
        if stride != FRONT + n * (_LISTS + MAX_ORDER) + matrix or not 0 <= table[row + ORDER] <= MAX_ORDER:
            return False
    return True


def pool_size(table: Sequence[float]) -> int:
    """Numbers of state that the table of a vector's check needs."""
    size = STATE + int(table[DIMENSIONS]) * _POOL_LISTS
    if table[DETECTOR] == MAHALANOBIS:
        return size + EDETECTOR_STATE
    if table[DETECTOR] == MMD:
        return size + 1 + 3 * int(table[HEAD + PARAMS + FEATURES])
    return size


@inlined
def mahalanobis(n, table, p, pool, residuals, work):  # type: ignore[no-untyped-def]
    """``e' precision e / n`` of the n residuals in the pool: about 1 without a change."""
    if p < 0 or residuals < 0 or work < 0:  # never; see ``edetector``
        return _NAN
    for i in range(n):
        pool[work + i] = 0.0
    for j in range(n):
        e = pool[residuals + j]
        for i in range(n):  # side by side, so that sums don't wait for each other
            pool[work + i] += table[p + j * n + i] * e
    total = 0.0
    for i in range(n):
        total += pool[work + i] * pool[residuals + i]
    return total / n


@inlined
def mmd(n, table, p, weights, pool, residuals, q):  # type: ignore[no-untyped-def]
    """Distance of a fast and a slow average of the features of the n residuals in the pool: ``(statistic, alarm)``.

    NaN until the slow one has settled (2 / slow rows). An alarm restarts nothing: the slow average catches up.
    """
    features = int(table[p + FEATURES])
    phases = weights + n * features
    fast = q + 1
    slow = fast + features
    work = slow + features
    if weights < 0 or residuals < 0 or q < 0:  # never; see ``edetector``
        return _NAN, False
    for i in range(features):
        pool[work + i] = table[phases + i]
    for j in range(n):
        e = pool[residuals + j]
        for i in range(features):
            pool[work + i] += table[weights + j * features + i] * e
    scale = math.sqrt(2.0 / features)
    total = 0.0
    for i in range(features):
        feature = scale * cos(pool[work + i])
        pool[work + i] = feature
        total += feature
    if math.isnan(total):  # an angle beyond all numbers must not enter the averages
        return _NAN, False
    rows = pool[q] + 1.0
    pool[q] = rows
    gain_fast = table[p + FAST] if rows > 1.0 else 1.0
    gain_slow = table[p + SLOW] if rows > 1.0 else 1.0
    square = 0.0
    for i in range(features):
        feature = pool[work + i]
        a = pool[fast + i] + gain_fast * (feature - pool[fast + i])
        b = pool[slow + i] + gain_slow * (feature - pool[slow + i])
        pool[fast + i] = a
        pool[slow + i] = b
        square += (a - b) * (a - b)
    if rows * table[p + SLOW] < 2.0:
        return _NAN, False
    statistic = math.sqrt(square)
    return statistic, statistic > table[p]


@inlined
def enter_mode(table, start, pool, q):  # type: ignore[no-untyped-def]
    """Another mode's reference from here on: the block starts anew, and averages of its features do."""
    start_block(pool, q)
    if table[start + DETECTOR] == MMD:
        pool[q + STATE + int(table[start + DIMENSIONS]) * _POOL_LISTS] = 0.0


@inlined
def absorb_row(table, start, row, pool, q):  # type: ignore[no-untyped-def]
    """The known row that lies in the pool, in the mode of ``row`` (an offset in the table): 1 when it ended a block."""
    n = int(table[start + DIMENSIONS])
    order = int(table[row + ORDER])
    front = row + FRONT
    matrix = front + n * (_LISTS + MAX_ORDER)
    values = q + STATE
    sums = values + _SUMS * n
    residuals = values + _RESIDUALS * n
    work = values + _WORK * n
    for i in range(n):
        z = (pool[values + i] - table[front + i]) / table[front + n + i]
        z = z if z < FAR else FAR
        z = z if z > -FAR else -FAR
        e = z
        phi = front + _LISTS * n + i * MAX_ORDER
        history = values + _HISTORIES * n + i * MAX_ORDER
        for k in range(order):
            e -= table[phi + k] * pool[history + k]
        for k in range(order - 1, 0, -1):
            pool[history + k] = pool[history + k - 1]
        pool[history] = z
        pool[residuals + i] = e / table[front + 2 * n + i] - table[front + 3 * n + i]
    if pool[q + LAGS] < order:
        pool[q + LAGS] += 1.0
        return 0
    detector = int(table[start + DETECTOR])
    state = values + n * _POOL_LISTS
    if detector == MMD:
        statistic, alarm = mmd(n, table, row + PARAMS, matrix, pool, residuals, state)
    else:
        feed = int(table[start + FEED])
        block = table[start + BLOCK]
        count = pool[q + COUNT] + 1.0
        squares = pool[q + SQUARES]
        if feed == MAGNITUDE:
            for i in range(n):
                before = pool[sums + i] if count > 1.0 else 0.0
                pool[sums + i] = before + pool[residuals + i]
        else:
            squares += mahalanobis(n, table, matrix, pool, residuals, work)
        if count < block:
            pool[q + COUNT] = count
            pool[q + SQUARES] = squares
            return 0
        pool[q + COUNT] = 0.0
        pool[q + SQUARES] = 0.0
        statistic = squares / block
        if feed == MAGNITUDE:
            root = math.sqrt(block)
            for i in range(n):
                pool[residuals + i] = pool[sums + i] / root
            statistic = mahalanobis(n, table, matrix, pool, residuals, work)
        elif feed == QUIET:
            statistic = -statistic
        alarm = False
        if detector != COLLECT:
            statistic, alarm = exceedance(statistic, table, row + PARAMS, pool, state)
    pool[q + ALARM] = 1.0 if alarm else 0.0
    pool[q + VALUE] = statistic
    pool[q + READY] = 0.0 if math.isnan(statistic) else 1.0
    return 1


@kernel
def vector_many(x, table, pool, statistic, alarm):  # type: ignore[no-untyped-def]
    """Regular rows ``x`` (rows, n), missing where one holds a NaN; ``statistic`` and ``alarm`` (rows,).

    ``statistic`` is NaN but where a block ended. One mode: the first row of the table.
    """
    n = x.shape[1]
    for j in range(x.shape[0]):
        statistic[j] = _NAN
        alarm[j] = 0
        known = True
        for i in range(n):
            known = known and not math.isnan(x[j, i])
            pool[STATE + i] = x[j, i]
        if not known:
            pool[MISSING] += 1.0
            forget_lags(pool, 0)
            if pool[MISSING] > table[BLOCK]:
                start_block(pool, 0)
            continue
        pool[MISSING] = 0.0
        if absorb_row(table, 0, HEAD, pool, 0) != 0:
            statistic[j] = pool[VALUE]
            alarm[j] = pool[ALARM] != 0
