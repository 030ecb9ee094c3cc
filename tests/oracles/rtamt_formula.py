"""Random past-time formulas that RTAMT reads too, and what its discrete online monitor makes of them (period 1 s).

Left out is what notes and its issues list as divergent: one subformula twice in a formula (it halves the window,
rtamt#203), and an operator without a window over one with memory, whose first answers RTAMT counts as if they were known.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from edge_monitor.core.formula.term import Term

S = 1_000_000_000
MEMORY = ("historically", "once", "since", "prev", "rise", "fall")


def formula(rng: random.Random, depth: int = 3) -> Term:
    """A formula whose subterms all differ."""
    while True:
        term = _truth(rng, depth)
        parts = [text(part) for part in _parts(term) if part.op not in ("signal", "number")]
        if len(set(parts)) == len(parts):
            return term


def _parts(term: Term) -> Iterator[Term]:
    yield term
    for arg in term.args:
        yield from _parts(arg)


def _number(rng: random.Random) -> Term:
    x = Term("signal", name=rng.choice("xy"))
    kind = rng.randrange(6)
    if kind == 0:
        return Term("abs", (Term("-", (x, Term("signal", name="y"))),))
    if kind == 1:
        return Term(rng.choice("+-*"), (x, Term("signal", name=rng.choice("xy"))))
    return x


def _truth(rng: random.Random, depth: int) -> Term:
    kind = rng.randrange(9) if depth else 0
    if kind < 2:
        limit = Term("number", number=rng.randrange(-20, 60) / 10)
        return Term(rng.choice(("<", "<=", ">", ">=", "==", "!=")), (_number(rng), limit))
    below = [_truth(rng, depth - 1)]
    if kind in (2, 3, 4):
        op = rng.choice(("historically", "once", "since"))
        if op == "since":
            below.append(_truth(rng, depth - 1))
        remembers = any(part.op in MEMORY for arg in below for part in _parts(arg))
        if not remembers and rng.randrange(4) == 0:
            return Term(op, tuple(below))
        start = rng.choice((0, 0, 1, 2))
        return Term(op, tuple(below), start=start * S, end=(start + rng.randrange(4)) * S)
    if kind == 5:
        return Term("not", tuple(below))
    if kind == 6:
        return Term(rng.choice(("prev", "rise", "fall")), tuple(below))
    return Term(rng.choice(("and", "or", "implies")), (below[0], _truth(rng, depth - 1)))


def trace(rng: random.Random, length: int = 25) -> list[tuple[float, float]]:
    """Values of x and y at 0 s, 1 s, …"""
    return [(rng.randrange(-20, 60) / 10, rng.randrange(-20, 60) / 10) for _ in range(length)]


def text(term: Term) -> str:
    """The formula as RTAMT writes it."""
    if term.op == "signal":
        return term.name
    if term.op == "number":
        return f"{term.number}" if term.number >= 0 else f"(0 - {-term.number})"
    parts = [text(arg) for arg in term.args]
    window = "" if term.end is None else f"[{term.start // S}:{term.end // S}]"
    if term.op in ("historically", "once"):
        return f"{term.op}{window}({parts[0]})"
    if term.op == "since":
        return f"(({parts[0]}) since{window} ({parts[1]}))"
    if len(parts) == 1:
        return f"{term.op}({parts[0]})"
    sign = {"!=": "!==", "implies": "->"}.get(term.op, term.op)
    return f"(({parts[0]}) {sign} ({parts[1]}))"


def answers(term: Term, values: list[tuple[float, float]]) -> list[float]:
    """What RTAMT says at every step."""
    import rtamt

    spec = rtamt.StlDiscreteTimeOnlineSpecification()
    for name in ("x", "y", "out"):
        spec.declare_var(name, "float")
    spec.spec = f"out = {text(term)}"
    spec.parse()
    return [float(spec.update(i, [("x", x), ("y", y)])) for i, (x, y) in enumerate(values)]


def horizon(term: Term) -> int:
    """Steps after which nothing before the first one counts any more."""
    below = max((horizon(arg) for arg in term.args), default=0)
    return below + (term.end or 0) // S + (term.op in ("prev", "rise", "fall"))
