"""The engine's two buffers, constant plan and changing state, and the arrays that lie in them.

A compiled function takes 0.1 µs an array argument, more than a sample costs; so the engine hands over two, and the
kernel lays its arrays over them, which is free. A ``Memory`` passes through all functions of the engine as one argument.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .formula.program import NODE, NODE_STATE
from .jit import inlined
from .state import CHECK_ROW, CHECK_STATE, DERIVED_ROW, HEAD, RING, SIGNAL_ROW, SIGNAL_STATE

_i4 = np.dtype("<i4")
_i8 = np.dtype("<i8")
_f8 = np.dtype("<f8")


class Memory(NamedTuple):
    """Constant rows first, then the state. ``wakes``: (d,) ns, when time alone changes a derived signal.
    What only formulas (nodes, derived signals) or detectors (pool) need is None in a kernel without them; ``vectors`` is
    None in one whose detectors all look at one signal."""

    plan_signals: np.ndarray
    checks: np.ndarray
    refs: np.ndarray
    table: np.ndarray
    nodes: Any
    derived: Any
    head: np.ndarray
    signals: np.ndarray
    states: np.ndarray
    node_states: Any
    wakes: Any
    ring: np.ndarray
    pool: Any
    vectors: Any
    signals_listed: np.ndarray
    checks_listed: np.ndarray


PLAN_SECTIONS: tuple[np.dtype, ...] = (SIGNAL_ROW, CHECK_ROW, _i4, _f8, NODE, DERIVED_ROW)
STATE_SECTIONS: tuple[np.dtype, ...] = (HEAD, SIGNAL_STATE, CHECK_STATE, NODE_STATE, _i8, RING, _f8, _i4, _i4)
#: The plan's buffer starts with the bounds of all sections, int64: those of the plan, then those of the state.
_HEADER = 2 * 8 * (len(PLAN_SECTIONS) + len(STATE_SECTIONS))


def bounds(dtypes: tuple[np.dtype, ...], lengths: tuple[int, ...], start: int) -> np.ndarray:
    """(n, 2) int64: first byte and end of each section; every section starts at a multiple of eight."""
    table = np.zeros((len(dtypes), 2), np.int64)
    for row, dtype, length in zip(table, dtypes, lengths, strict=True):
        row[:] = start, start + dtype.itemsize * length
        start = -(-int(row[1]) // 8) * 8
    return table


def plan_buffer(arrays: tuple[np.ndarray, ...], state_lengths: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """The plan's arrays as one buffer, and the size of the state that belongs to it, in bytes."""
    own = bounds(PLAN_SECTIONS, tuple(len(array) for array in arrays), _HEADER)
    state = bounds(STATE_SECTIONS, state_lengths, 0)
    # Whole 64-bit words, so that every row is aligned; all callers must give the kernel one kind of array.
    buffer = np.zeros(-(-int(own[-1, 1]) // 8), np.int64).view(np.uint8)
    buffer[:_HEADER] = np.concatenate([own, state]).reshape(-1).view(np.uint8)
    for array, dtype, (start, end) in zip(arrays, PLAN_SECTIONS, own, strict=True):
        buffer[start:end] = np.frombuffer(array.astype(dtype).tobytes(), np.uint8)
    return buffer, -(-int(state[-1, 1]) // 8) * 8


@inlined
def arrays_of(plan, state, formulas, detectors, vectors):  # type: ignore[no-untyped-def]
    """The ``Memory`` of two buffers. What a plan has none of (``None``) is ``None``, and its code is not compiled."""
    at = plan[:_HEADER].view(np.int64)
    nodes = None if formulas is None else plan[at[8] : at[9]].view(NODE)
    derived = None if formulas is None else plan[at[10] : at[11]].view(DERIVED_ROW)
    node_states = None if formulas is None else state[at[18] : at[19]].view(NODE_STATE)
    wakes = None if formulas is None else state[at[20] : at[21]].view(np.int64)
    pool = None if detectors is None else state[at[24] : at[25]].view(np.float64)
    return Memory(
        plan[at[0] : at[1]].view(SIGNAL_ROW),
        plan[at[2] : at[3]].view(CHECK_ROW),
        plan[at[4] : at[5]].view(np.int32),
        plan[at[6] : at[7]].view(np.float64),
        nodes,
        derived,
        state[at[12] : at[13]].view(HEAD),
        state[at[14] : at[15]].view(SIGNAL_STATE),
        state[at[16] : at[17]].view(CHECK_STATE),
        node_states,
        wakes,
        state[at[22] : at[23]].view(RING),
        pool,
        vectors,
        state[at[26] : at[27]].view(np.int32),
        state[at[28] : at[29]].view(np.int32),
    )


def views(plan: np.ndarray, state: np.ndarray) -> Memory:
    """The same for the interpreter."""
    memory: Memory = getattr(arrays_of, "py_func", arrays_of)(plan, state, 1, 1, 1)
    return memory
