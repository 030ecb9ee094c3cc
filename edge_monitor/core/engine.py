"""``Engine``: the small class that owns the arrays and calls the kernel."""

from __future__ import annotations

import hashlib

import numba
import numpy as np

from .advance import DONE, NO_VERDICT, STRANGER, advance
from .plan import Plan
from .samples import FLAG_END, NEVER, SAMPLE, TRANSITION, UNSEEN, Cause, Verdict
from .state import CHECK_STATE, HEAD, RING, SIGNAL_STATE

_NO_ITEMS = np.empty(0, SAMPLE)

# Interpreted kernels run on NumPy scalars, which warn where compiled code is silent (inf - inf, division by zero).
_advance = np.errstate(all="ignore")(advance) if getattr(numba.config, "DISABLE_JIT", False) else advance


class Engine:
    """Runs a plan over one ordered stream of items.

    State is six flat arrays and nothing else; equal plans and streams give equal transitions and equal ``digest()``,
    however the stream is cut into calls. Not thread-safe: one thread owns an engine.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        signals, checks = len(plan.signals), len(plan.checks)
        self._head = np.zeros(1, HEAD)
        self._signals = np.zeros(signals, SIGNAL_STATE)
        self._checks = np.zeros(checks, CHECK_STATE)
        self._ring = np.zeros(max(plan.ring, 1), RING)
        self._pool = np.zeros(max(plan.pool, 1), np.float64)
        self._lists = np.zeros(signals + checks, np.int32)
        self._out = np.zeros(4 * (2 * signals + 3 * checks + 4) + 1024, TRANSITION)
        self._head["now"] = self._head["first"] = UNSEEN
        self._head["next"] = NEVER
        self._signals["deadline"] = NEVER
        self._signals["cause"] = self._signals["shown_cause"] = Cause.NEVER_RECEIVED
        self._signals["value"] = self._signals["shown"] = np.nan
        for name in ("fail_since", "pass_since", "t_changed", "n0", "n2", "worst_t"):
            self._checks[name] = UNSEEN
        self._checks["due"] = self._checks["wake"] = NEVER
        self._checks["verdict"] = self._checks["raw"] = Verdict.UNKNOWN
        self._checks["cause"] = Cause.NEVER_RECEIVED
        self._checks["known"] = NO_VERDICT
        self._checks["worst"] = np.inf
        for name in ("margin", "value", "limit", "x0", "x1"):
            self._checks[name] = np.nan

    def advance(self, items: np.ndarray = _NO_ITEMS, until: int | None = None) -> np.ndarray:
        """Take ``items`` ((n,) SAMPLE, in order), then let time pass up to ``until`` (ns).

        ``until`` promises that no later item is earlier; deadlines before it fire. Returns (m,) TRANSITION rows, the
        caller's to keep. Raises ``IndexError`` when an item names a signal or check that the plan does not have.
        """
        return self._run(items, UNSEEN if until is None else until, 0)

    def finish(self, t: int) -> np.ndarray:
        """End the stream at ``t`` (ns): deadlines at ``t`` fire too. Returns (m,) TRANSITION rows."""
        return self._run(_NO_ITEMS, t, 1)

    def _run(self, items: np.ndarray, until: int, finish: int) -> np.ndarray:
        rows: list[np.ndarray] = []
        while True:
            taken, n, status = _advance(
                items, until, finish, self.plan.signals, self.plan.checks, self.plan.refs, self.plan.table,
                self._head, self._signals, self._checks, self._ring, self._pool if self.plan.pool else None,
                self._lists, self._out,
            )  # fmt: skip
            if status == DONE and not rows:
                return self._out[:n].copy()
            if status == STRANGER:
                raise IndexError(f"item {taken} names subject {items[taken]['signal']}, which the plan does not have")
            rows.append(self._out[:n].copy())
            if status == DONE:
                return np.concatenate(rows)
            items = items[taken:]

    def snapshot(self) -> bytes:
        """All state as bytes; ``restore`` of the same plan goes on from there, bit for bit."""
        return b"".join(array.tobytes() for array in self._arrays())

    def restore(self, snapshot: bytes) -> None:
        """Put back a ``snapshot``. Raises ``ValueError`` when it is not one of this plan's size."""
        arrays = self._arrays()
        if len(snapshot) != sum(array.nbytes for array in arrays):
            raise ValueError("the snapshot belongs to another plan: its size differs")
        start = 0
        for array in arrays:
            array[:] = np.frombuffer(snapshot, array.dtype, len(array), start)
            start += array.nbytes

    def _arrays(self) -> list[np.ndarray]:
        return [self._head, self._signals, self._checks, self._ring, self._pool, self._lists]

    def digest(self) -> str:
        """Hex SHA-256 of plan and state."""
        digest = hashlib.sha256(self.plan.digest().encode())
        digest.update(self.snapshot())
        return digest.hexdigest()

    @property
    def head(self) -> np.void:
        """The stream as a whole: a read-only row of ``HEAD``."""
        row: np.void = self._head[0].copy()
        return row

    @property
    def checks(self) -> np.ndarray:
        """(c,) CHECK_STATE: a copy of what each check holds now."""
        return self._checks.copy()

    @property
    def signals(self) -> np.ndarray:
        """(s,) SIGNAL_STATE: a copy of what each signal holds now."""
        return self._signals.copy()


def warm() -> None:
    """Compile (or load) every kernel of the engine, so that the first real item is not late."""
    from .signals import Signal

    engine = Engine(Plan.build([Signal("warm", "warm")], []))
    items = np.zeros(1, SAMPLE)
    items["flags"] = FLAG_END
    engine.advance(items, until=1)
    engine.finish(2)
