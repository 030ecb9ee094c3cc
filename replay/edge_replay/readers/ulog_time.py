"""Time of a ULog: its topics merged by stamp, with true steps back kept and false stamps set aside (SEMANTICS §1).

A log has only source stamps. Its records stand nearly in their order, so that their neighbours tell what a stamp can be:
the file is cut into blocks of a few records, and a block's median is what the clock said there, whatever single stamps say.

- Where that median falls by more than a second, the clock went back (a reboot, an appended log): a new section. Within a
  section topics are merged stably by stamp; sections follow each other as they stand, so the step back stays in the stream.
- A stamp is false where it is zero long after the clock started, more than a minute later than its neighbourhood,
  or more than an hour earlier (a value published long before the log began keeps its stamp), unless its neighbours share it.
  A message with a false stamp takes the time of the message before it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_monitor.core.jit import kernel

BLOCK = 16  #: records whose median says what the clock was
STEP = 1_000_000  #: µs: a fall of the clock by more is a step back
LATE = 60_000_000  #: µs: a stamp later than its neighbourhood by more is false
EARLY = 3_600_000_000  #: µs: likewise earlier
COMPANY = 3  #: neighbours within a minute that make any stamp credible
FAR = np.iinfo(np.int64).max // 2000  #: µs: beyond any clock, and differences and nanoseconds still fit
Stamps = npt.NDArray[np.int64]


@kernel
def mend(t: Stamps, median: Stamps, false: npt.NDArray[np.bool_]) -> None:
    """Set ``false`` where a stamp (µs) can't be right, and put the time of its predecessor in its place."""
    last = len(median) - 1
    for i in range(len(t)):
        block = min(i // BLOCK, last)
        low = high = median[block]
        if block > 0:
            low, high = min(low, median[block - 1]), max(high, median[block - 1])
        if block < last:
            low, high = min(low, median[block + 1]), max(high, median[block + 1])
        zero = t[i] < 0 or (t[i] == 0 and low > STEP)
        if not zero and low - EARLY <= t[i] <= high + LATE:
            continue
        company = 0  # of the stamps behind it, as those before it may be mended already
        for j in range(i + 1, min(len(t), i + 1 + BLOCK)):
            if abs(t[j] - t[i]) <= LATE:
                company += 1
        if not zero and company >= COMPANY:
            continue
        false[i] = True
        t[i] = t[i - 1] if i > 0 and not false[0] else median[block]


def order_by_stamp(rows: np.ndarray) -> tuple[np.ndarray, npt.NDArray[np.bool_]]:
    """Rows with stamps in µs, in the order of the file → (in stream order with ``t`` in ns, which stamps were false)."""
    t = np.clip(rows["t"], -1, FAR)
    false = np.zeros(len(t), bool)
    mend(t, _medians(t), false)
    section = np.zeros(len(t), np.int32)
    for start in _steps_back(t):
        section[start:] += 1
    order = np.lexsort((t, section)) if section[-1] else np.argsort(t, kind="stable")
    rows = rows.take(order)
    rows["t"] = t.take(order) * 1000
    return rows, false.take(order)


def _medians(t: Stamps) -> Stamps:
    """The (lower) median of each block; a last block that is not full counts with what it has."""
    whole = len(t) // BLOCK * BLOCK
    medians = np.partition(t[:whole].reshape(-1, BLOCK), BLOCK // 2, axis=1)[:, BLOCK // 2]
    if whole == len(t):
        return medians
    rest = np.sort(t[whole:])
    return np.append(medians, rest[len(rest) // 2])


def _steps_back(t: Stamps) -> list[int]:
    """Positions at which the clock went back."""
    medians = _medians(t)
    steps: list[int] = []
    start = 0
    while True:
        high = np.maximum.accumulate(medians[start:])
        fallen = np.flatnonzero(high - medians[start:] > STEP)
        if not len(fallen):
            return steps
        block = start + int(fallen[0])
        middle = (high[fallen[0]] + medians[block]) // 2
        first = max((block - 1) * BLOCK, steps[-1] + 1 if steps else 1)
        low = t[first : (block + 1) * BLOCK] < middle
        # Cut where the fewest stamps are on the wrong side.
        wrong = np.concatenate(([0], np.cumsum(low))) + np.concatenate((np.cumsum(~low[::-1])[::-1], [0]))
        steps.append(first + int(wrong.argmin()))
        start = block
