"""Every detector with constants and state, and one stream for all; as a program, the digest of what they make of it.

``drift_cases.py run`` prints a digest over statistics, alarms and final states; ``drift_cases.py resume FILE`` does so for
the second half of the stream from the states in FILE.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_monitor.core.drift import adwin, compat, cusum, edetector, focus, histogram, pipeline, vector

Array = npt.NDArray[np.float64]

EDGES = [-2.0 + 4.0 * i / 30 for i in range(31)]
SHARES = [1 / 32] * 32
ROW = pipeline.Row(edetector.edetector_params(50.0, (0.8, 1.4, 2.0), (0.25, 0.1, 0.05)), 0.0, 0.1, 1.1, 0.9, (0.3, 0.1))
PIPELINE = pipeline.pack(pipeline.EDETECTOR, [ROW], feed=pipeline.MAGNITUDE, block=5)

#: name: batch kernel, constants, numbers of state
CASES: dict[str, tuple[Any, tuple[float, ...], int]] = {
    "cusum": (cusum.cusum_many, cusum.cusum_params(5.0, 0.25), cusum.CUSUM_STATE),
    "ewma": (cusum.ewma_many, cusum.ewma_params(2.5, 0.1), cusum.EWMA_STATE),
    "variance": (cusum.variance_many, cusum.variance_params(5.0, 1.5), cusum.VARIANCE_STATE),
    "focus": (focus.focus_many, focus.focus_params(8.0), focus.FOCUS_STATE),
    "edetector": (edetector.edetector_many, ROW.params, edetector.EDETECTOR_STATE),
    "multinomial": (
        edetector.multinomial_many,
        edetector.multinomial_params(100.0, (0.5, 0.3, 0.2), block=20),
        edetector.multinomial_state(3),
    ),
    **{
        f"histogram {name}": (
            histogram.histogram_many,
            histogram.histogram_params(limit, which, EDGES, SHARES, window=100, hop=7),
            histogram.histogram_state(32, 100),
        )
        for name, which, limit in (("ks", 0, 0.4), ("psi", 1, 1.5), ("js", 2, 0.2), ("wasserstein", 3, 0.5))
    },
    "adwin": (adwin.adwin_many, adwin.adwin_params(0.05, 4), adwin.adwin_state()),
    "page_hinkley": (compat.page_hinkley_many, compat.page_hinkley_params(threshold=15.0), compat.PAGE_HINKLEY_STATE),
    "kswin": (compat.kswin_many, compat.kswin_params(0.01, 60, 20, 3), compat.kswin_state(60, 20)),
    "pipeline": (pipeline.pipeline_many, PIPELINE, pipeline.pool_size(PIPELINE)),
}


def vector_table(detector: int, params: tuple[float, ...], block: int = 1, feed: int = pipeline.MAGNITUDE) -> Array:
    """Three signals that go together, whitened for ``mahalanobis``."""
    rng = np.random.default_rng(5)
    mixing = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [-0.3, 0.4, 0.9]])
    matrix = np.linalg.inv(mixing @ mixing.T)
    matrix = (matrix + matrix.T) / 2
    phi: list[tuple[float, ...]] = [(0.3, 0.1), (0.2, 0.0), (-0.1, 0.05)]
    numbers = matrix.ravel().tolist()
    if detector == pipeline.MMD:
        phi = [(), (), ()]
        numbers = [*rng.normal(size=3 * 16).tolist(), *rng.uniform(0, 6, 16).tolist()]
    row = vector.vector_row(params, [0.1, 0.0, -0.1], [1.1, 1.0, 0.9], [0.9, 1, 1], [0, 0.05, 0], phi, numbers)
    return np.array(pipeline.pack(detector, [row], feed=feed, block=block, dimensions=3))


VECTORS = {
    "mahalanobis shift": vector_table(pipeline.MAHALANOBIS, ROW.params, block=4),
    "mahalanobis energy": vector_table(pipeline.MAHALANOBIS, ROW.params, block=4, feed=pipeline.ENERGY),
    "mahalanobis quiet": vector_table(
        pipeline.MAHALANOBIS,
        edetector.edetector_params(50.0, (-0.5, -0.35, -0.2), (0.3, 0.15, 0.06)),
        block=4,
        feed=pipeline.QUIET,
    ),
    "mmd": vector_table(pipeline.MMD, vector.mmd_params(0.42, 16, 0.2, 0.05)),
}


def stream(n: int = 1200) -> Array:
    """A mean shift, a dead stretch, louder noise, NaN, infinities and huge values."""
    x = np.random.default_rng(11).normal(size=n)
    x[300:450] += 2.0
    x[600:700] = 0.25
    x[800:950] *= 4.0
    x[[10, 301, 305, 640]] = np.nan
    x[700:709] = np.nan
    x[[500, 1000]] = np.inf, -np.inf
    x[501] = 1e300
    return x


def run(name: str, x: Array, state: Array | None = None) -> tuple[Array, npt.NDArray[np.uint8], Array]:
    """``(statistic, alarm, state)`` of one stream."""
    many, params, size = CASES[name]
    state = np.zeros(size) if state is None else state.copy()
    statistic, alarm = np.empty((1, len(x))), np.zeros((1, len(x)), np.uint8)
    with np.errstate(all="ignore"):  # interpreted kernels run on NumPy's scalars, which warn
        many(x[None], np.array(params), state, statistic, alarm)
    return statistic[0], alarm[0], state


def run_vector(name: str, x: Array, state: Array | None = None) -> tuple[Array, npt.NDArray[np.uint8], Array]:
    """Three neighbouring values of the stream as a vector."""
    rows = np.ascontiguousarray(x[: len(x) // 3 * 3].reshape(-1, 3))
    table = VECTORS[name]
    state = np.zeros(vector.pool_size(table.tolist())) if state is None else state.copy()
    statistic, alarm = np.empty(len(rows)), np.zeros(len(rows), np.uint8)
    with np.errstate(all="ignore"):
        vector.vector_many(rows, table, state, statistic, alarm)
    return statistic, alarm, state


def everything(
    x: Array, states: dict[str, Array] | None = None
) -> dict[str, tuple[Array, npt.NDArray[np.uint8], Array]]:
    """All detectors on one stream."""
    found = {name: run(name, x, states[name] if states else None) for name in CASES}
    return found | {name: run_vector(name, x, states[name] if states else None) for name in VECTORS}


def digest(found: dict[str, tuple[Array, npt.NDArray[np.uint8], Array]]) -> str:
    """One line a detector."""
    lines = []
    for name, arrays in found.items():
        # A NaN has many bit patterns and no sign that means anything.
        clean = [np.where(np.isnan(a), -1.0, a) if a.dtype == np.float64 else a for a in arrays]
        lines.append(f"{name} {hashlib.sha256(b''.join(a.tobytes() for a in clean)).hexdigest()}")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        print(digest(everything(stream())))
    else:
        with np.load(Path(sys.argv[2])) as saved:
            print(digest(everything(stream()[600:], dict(saved))))
