"""From a tree to a flat program: nodes in the order of evaluation, each distinct subterm once.

Six operators are left of the many: ``historically φ`` is ``not once not φ``; a window ``[a, b]`` is one of ``[0, b - a]``
over an operand that is ``a`` late; and

    φ since[a, b] ψ  =  (historically over (t - a, t]: φ)  and  (φ since[0, b - a] ψ, a late)

which holds as every t' in ``[t - b, t - a]`` lies before ``t - a`` (Maler & Nickovic, 2004, for the rewriting).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..samples import NEVER
from .term import Term

#: What a node does; the numbers are those of ``core.checks.temporal``.
(
    SIGNAL, NUMBER, NEGATE, ABS, ADD, SUBTRACT, MULTIPLY, DIVIDE, MIN, MAX,
    LESS, AT_MOST, EQUAL, IS, AND, OR, SINCE, ONCE, DELAY, PREV, DIFF, RESIDUAL,
) = range(22)  # fmt: skip

FLIP = 1  #: of ONCE: negate operand and result, which makes it ``historically``
POINTWISE = 2  #: of SINCE, ONCE, PREV and DIFF: a value counts at its stamp only
EXACT = 4  #: the node must be evaluated whenever time changes its interval, not only when that changes its verdict
SAMPLES = 8  #: of DELAY: repeated values are passed on too

#: Constant part of a node (48 bytes). ``a b``: operands, as indices of nodes (ONCE: late and on time). ``window``: ns,
#: NEVER without an end.
#: ``ring``: two queues of ``ring_len`` entries each, from ``ring_start`` on; of RESIDUAL: so many rows of an entry an input.
#: ``table``: of RESIDUAL: where its model starts in the plan's numbers (``core.formula.arx``).
NODE = np.dtype(
    [
        ("window", "<i8"),
        ("number", "<f8"),
        ("op", "<i4"),
        ("flags", "<i4"),
        ("a", "<i4"),
        ("b", "<i4"),
        ("signal", "<i4"),
        ("ring_start", "<i4"),
        ("ring_len", "<i4"),
        ("table", "<i4"),
    ]
)

#: Dynamic part of a node. ``lo hi cause fresh``: its answer; a number is ``lo == hi``, or unknown with a cause.
#: ``x_ y_``: what the operator remembers of its operands; ``t n``: since when, and a second time or count.
NODE_STATE = np.dtype(
    [
        ("lo", "<f8"),
        ("hi", "<f8"),
        ("x_lo", "<f8"),
        ("x_hi", "<f8"),
        ("y_lo", "<f8"),
        ("y_hi", "<f8"),
        ("t", "<i8"),
        ("n", "<i8"),
        ("cause", "<i4"),
        ("fresh", "<i4"),
        ("x_cause", "<i4"),
        ("y_cause", "<i4"),
        ("lo_head", "<i4"),
        ("lo_len", "<i4"),
        ("hi_head", "<i4"),
        ("hi_len", "<i4"),
    ]
)

#: Samples per second that a formula's rings are made for, where the envelope does not say.
DEFAULT_RATE = 1000.0
#: Without a declared rate no queue grows past this; with one, none past ``QUEUE_LIMIT``.
DEFAULT_QUEUE = 8192
QUEUE_LIMIT = 1 << 18

_BINARY = {
    "+": ADD, "-": SUBTRACT, "*": MULTIPLY, "/": DIVIDE, "min": MIN, "max": MAX,
    "<": LESS, "<=": AT_MOST, "==": EQUAL, "is": IS, "and": AND, "or": OR,
}  # fmt: skip
_REMEMBERING = (SINCE, ONCE, DELAY, PREV, DIFF)


@dataclass(frozen=True, slots=True)
class Program:
    """``nodes``: (n,) NODE, the last one the answer; indices of nodes, signals and ring count from 0.

    ``signals``: names by the nodes' ``signal``; ``texts``: (node, text) pairs whose numbers the plan must fill in;
    ``ring``: entries that all queues need together; ``table``: the numbers of a model.
    """

    nodes: np.ndarray
    signals: tuple[str, ...]
    texts: tuple[tuple[int, str], ...]
    ring: int
    table: tuple[float, ...] = ()


def lower(term: Term, *, pointwise: bool = False, rate: float | None = None, exact: bool = False) -> Program:
    """The program of a term.

    ``pointwise``: temporal operators see samples only, not what is in force between them. ``rate``: samples per second
    that queues are made for. ``exact``: every change of the answer counts, as for a derived signal.
    Raises ``ValueError`` when a queue would be longer than ``QUEUE_LIMIT``.
    """
    return _Lowering(term, pointwise, rate).program(term, exact)


class _Lowering:
    def __init__(self, term: Term, pointwise: bool, rate: float | None) -> None:
        self.signals = term.signals()
        self.pointwise = pointwise
        self.mode = POINTWISE if pointwise else 0
        self.rate = rate
        self.rows: list[tuple[int, int, int, int, int, float, int]] = []  # op, flags, a, b, signal, number, window
        self.index: dict[object, int] = {}
        self.texts: list[tuple[int, str]] = []

    def program(self, term: Term, exact: bool) -> Program:
        root = self.node(term)
        if root != len(self.rows) - 1:
            raise AssertionError("the root is not the last node")
        nodes = np.zeros(len(self.rows), NODE)
        needed = [exact and i == root for i in range(len(self.rows))]
        depth = [0] * len(self.rows)
        ring = 0
        for i, (op, flags, a, b, signal, number, window) in enumerate(self.rows):
            below = max((depth[k] for k in (a, b) if k >= 0), default=0)
            depth[i] = below + (op in _REMEMBERING)
            length = self._queue(op, window, below + 1)
            nodes[i] = (window, number, op, flags, a, b, signal, ring, length, 0)
            ring += 2 * length
        for i in reversed(range(len(self.rows))):
            op, flags, a, b = self.rows[i][:4]
            nodes[i]["flags"] |= EXACT if needed[i] else 0
            for k in (a, b):
                if k >= 0:
                    needed[k] = needed[k] or needed[i] or op in _REMEMBERING
        return Program(nodes, self.signals, tuple(self.texts), ring)

    def node(self, term: Term) -> int:
        op = term.op
        if op == "signal":
            return self.add(SIGNAL, signal=self.signals.index(term.name))
        if op == "number":
            return self.add(NUMBER, number=term.number)
        if op == "text":
            return self._text(term.name)
        if op == "since":
            return self._since(term)
        args = [self.node(arg) for arg in term.args]
        if op in ("negate", "not"):
            return self.add(NEGATE, args[0])
        if op == "abs":
            return self.add(ABS, args[0])
        if op in ("historically", "once"):
            return self._once(args[0], term.start, term.end, FLIP if op == "historically" else 0)
        if op == "prev":
            return self._prev(args[0])
        if op in ("rise", "fall"):
            now = args[0] if op == "rise" else self.add(NEGATE, args[0])
            return self.add(AND, now, self.add(NEGATE, self._prev(now)))
        if op == "lag":
            return self.add(DELAY, args[0], flags=SAMPLES, window=term.start) if term.start else args[0]
        if op == "diff":
            return self.add(DIFF, args[0], flags=self.mode)
        if op in (">", ">="):
            return self.add(LESS if op == ">" else AT_MOST, args[1], args[0])
        if op == "!=":
            return self.add(NEGATE, self.add(EQUAL, *args))
        if op == "implies":
            return self.add(OR, self.add(NEGATE, args[0]), args[1])
        result = args[0]
        for arg in args[1:]:
            result = self.add(_BINARY[op], result, arg)
        return result

    def add(
        self,
        op: int,
        a: int = -1,
        b: int = -1,
        *,
        flags: int = 0,
        signal: int = -1,
        number: float = 0.0,
        window: int = 0,
    ) -> int:
        """The node, made only if there is none like it."""
        row = (op, flags, a, b, signal, number, window)
        key = (*row[:5], number.hex(), window)  # -0.0 == 0.0, but they are two numbers
        if key not in self.index:
            self.index[key] = len(self.rows)
            self.rows.append(row)
        return self.index[key]

    def _text(self, text: str) -> int:
        key = ("text", text)
        if key not in self.index:
            self.index[key] = len(self.rows)
            self.rows.append((NUMBER, 0, -1, -1, -1, math.nan, 0))
            self.texts.append((self.index[key], text))
        return self.index[key]

    def _prev(self, operand: int) -> int:
        return self.add(PREV, operand, flags=self.mode)

    def _once(self, operand: int, start: int, end: int | None, flags: int) -> int:
        late = self.add(DELAY, operand, flags=SAMPLES if self.pointwise else 0, window=start) if start else operand
        return self.add(ONCE, late, operand, flags=flags | self.mode, window=NEVER if end is None else end - start)

    def _since(self, term: Term) -> int:
        kept, began = (self.node(arg) for arg in term.args)
        window = NEVER if term.end is None else term.end - term.start
        result = self.add(SINCE, kept, began, flags=self.mode, window=window)
        if term.start == 0:
            return result
        # (t - a, t] is open at its left: a sample at t - a is outside, what is in force from there on is not.
        recent = self._once(kept, 0, term.start - 1 if self.pointwise else term.start, FLIP)
        return self.add(AND, recent, self.add(DELAY, result, window=term.start))

    def _queue(self, op: int, window: int, levels: int) -> int:
        """Entries for one queue. An operand that remembers changes when something enters its window and when it leaves."""
        if op not in (SINCE, ONCE, DELAY):
            return 0
        if window == NEVER:
            return 1
        entries = math.ceil((self.rate or DEFAULT_RATE) * window / 1e9) * levels + 4
        if self.rate is None:
            return min(entries, DEFAULT_QUEUE)
        if entries > QUEUE_LIMIT:
            raise ValueError(f"rate × window is {entries} samples; at most {QUEUE_LIMIT} fit: shorten the window")
        return entries
