"""``Engine``: the small class that owns the arrays and calls the kernel."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numba
import numpy as np

from .advance import DONE, NO_VERDICT, STRANGER, advance
from .checks.temporal import reset
from .memory import views
from .plan import Plan
from .samples import FLAG_END, NEVER, SAMPLE, TRANSITION, UNSEEN, Cause, Verdict
from .state import SIGNAL_STATE

_NO_ITEMS = np.empty(0, SAMPLE)
_NO_ROWS = np.empty(0, TRANSITION)

# Interpreted kernels run on NumPy scalars, which warn where compiled code is silent (inf - inf, division by zero).
_advance = np.errstate(all="ignore")(advance) if getattr(numba.config, "DISABLE_JIT", False) else advance
_reset = getattr(reset, "py_func", reset)


class Variant(NamedTuple):
    """What a plan's kernel holds beside what all hold; the rest is not compiled for it. Vectors need detectors."""

    formulas: bool
    detectors: bool
    vectors: bool


#: All kernels that plans can need, the quickest to compile first.
VARIANTS = tuple(Variant(f, d, v) for d, v in ((False, False), (True, False), (True, True)) for f in (False, True))


class Engine:
    """Runs a plan over one ordered stream of items.

    State is one flat buffer and nothing else; equal plans and streams give equal transitions and equal ``digest()``,
    however the stream is cut into calls. Not thread-safe: one thread owns an engine.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._plan, size = plan.buffer()
        self._state = np.zeros(size // 8, np.int64).view(np.uint8)
        self.memory = views(self._plan, self._state)  #: the state as arrays: for what puts another state into it
        self._out = np.zeros(4 * (2 * len(plan.signals) + 3 * len(plan.checks) + 4) + 1024, TRANSITION)
        self.variant = Variant(len(plan.nodes) > 0, plan.pool > 0, plan.vectors)
        self._formulas, self._detectors, self._vectors = (1 if one else None for one in self.variant)
        self.begin()

    def begin(self) -> None:
        """Put everything back to where nothing has come yet."""
        self._state[:] = 0
        memory = self.memory
        memory.head["now"] = memory.head["first"] = UNSEEN
        memory.head["next"] = NEVER
        self._begin_signals(np.arange(len(memory.signals)))
        self.begin_checks()

    def begin_checks(self) -> None:
        """Put checks, formulas and derived signals back to where nothing has come yet; signals that have a topic stay."""
        memory = self.memory
        derived = memory.derived["signal"]
        for array in (memory.states, memory.node_states, memory.ring, memory.pool):
            array[:] = np.zeros(1, array.dtype)
        self._begin_signals(derived)
        memory.wakes[:] = NEVER
        for node in memory.node_states:
            _reset(node)
        checks = memory.states
        for name in ("fail_since", "pass_since", "t_changed", "n0", "n2", "worst_t"):
            checks[name] = UNSEEN
        checks["due"] = checks["wake"] = NEVER
        checks["verdict"] = checks["raw"] = Verdict.UNKNOWN
        checks["cause"] = Cause.NEVER_RECEIVED
        checks["known"] = NO_VERDICT
        checks["worst"] = np.inf
        for name in ("margin", "value", "limit", "x0", "x1"):
            checks[name] = np.nan

    def _begin_signals(self, which: np.ndarray) -> None:
        rows = np.zeros(len(which), SIGNAL_STATE)
        rows["deadline"] = NEVER
        rows["cause"] = rows["shown_cause"] = Cause.NEVER_RECEIVED
        rows["value"] = rows["shown"] = np.nan
        self.memory.signals[which] = rows

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
                items, until, finish, self._plan, self._state,
                self._formulas, self._detectors, self._vectors, self._out,
            )  # fmt: skip
            if status == DONE and not rows:
                return self._rows(n) if n else _NO_ROWS
            if status == STRANGER:
                raise IndexError(f"item {taken} names subject {items[taken]['signal']}, which the plan does not have")
            rows.append(self._rows(n))
            if status == DONE:
                return np.concatenate(rows)
            items = items[taken:]

    def _rows(self, n: int) -> np.ndarray:
        # As bytes, because NumPy copies rows of many fields one field at a time.
        rows: np.ndarray = self._out[:n].view(np.uint8).copy().view(TRANSITION)
        return rows

    def snapshot(self) -> bytes:
        """All state as bytes; ``restore`` of the same plan goes on from there, bit for bit."""
        return self._state.tobytes()

    def restore(self, snapshot: bytes) -> None:
        """Put back a ``snapshot``. Raises ``ValueError`` when it is not one of this plan's size."""
        if len(snapshot) != len(self._state):
            raise ValueError("the snapshot belongs to another plan: its size differs")
        self._state[:] = np.frombuffer(snapshot, np.uint8)

    def digest(self) -> str:
        """Hex SHA-256 of plan and state."""
        digest = hashlib.sha256(self.plan.digest().encode())
        digest.update(self.snapshot())
        return digest.hexdigest()

    @property
    def head(self) -> np.void:
        """The stream as a whole: a read-only row of ``HEAD``."""
        row: np.void = self.memory.head[0].copy()
        return row

    @property
    def checks(self) -> np.ndarray:
        """(c,) CHECK_STATE: a copy of what each check holds now."""
        rows: np.ndarray = self.memory.states.copy()
        return rows

    @property
    def signals(self) -> np.ndarray:
        """(s,) SIGNAL_STATE: a copy of what each signal holds now."""
        rows: np.ndarray = self.memory.signals.copy()
        return rows


def warm(variant: Variant = VARIANTS[0]) -> None:
    """Compile (or load) a variant of the kernel, so that the first real item is not late."""
    from .signals import Signal

    engine = Engine(Plan.build([Signal("warm", "warm")], []))
    # What the kernel holds is decided by what it is told, not by the checks that it meets.
    engine._formulas, engine._detectors, engine._vectors = (1 if one else None for one in variant)
    items = np.zeros(1, SAMPLE)
    items["flags"] = FLAG_END
    engine.advance(items, until=1)
    engine.finish(2)
