"""Formulas by definition: the whole past is looked at anew for every question, over exact pieces of time.

A term is a function of time that is constant between its ``changes``; its value is an interval ``(lo, hi)`` and, for a
truth, known when both ends have one sign (zero has one too: -0.0 is false).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_monitor.core.formula.term import Term, is_number
from edge_monitor.core.samples import Verdict

INF = math.inf
Interval = tuple[float, float]
ANY: Interval = (-INF, INF)


def key(x: float) -> tuple[float, float]:
    """Order of robustness: -0.0 before +0.0."""
    return x, math.copysign(1.0, x)


def top(values: Sequence[float]) -> float:
    return max(values, key=key, default=-INF)


def bottom(values: Sequence[float]) -> float:
    return min(values, key=key, default=INF)


def true(x: float) -> bool:
    return math.copysign(1.0, x) > 0


def known(value: Interval) -> bool:
    """A truth that is decided."""
    return true(value[0]) or not true(value[1])


def known_or_number(value: Interval) -> bool:
    """Not unknown: a number, or a truth that is decided."""
    return value[0] == value[1] or known(value)


def same(a: Interval, b: Interval) -> bool:
    return key(a[0]) == key(b[0]) and key(a[1]) == key(b[1])


def negative(value: Interval) -> Interval:
    return -value[1], -value[0]


@dataclass
class Trace:
    """Samples of each signal ``{name: [(t, value)]}``, NaN where one is not known, and how long they count."""

    samples: dict[str, list[tuple[int, float]]]
    max_age: dict[str, int | None]
    pointwise: bool = False
    # What has been found out is kept by the identity of terms, as their hashes walk whole trees; ``_made`` keeps them alive.
    _memo: dict[tuple[int, int], Interval] = field(default_factory=dict)
    _changes: dict[int, list[int]] = field(default_factory=dict)
    _events: dict[int, list[tuple[int, Interval]]] = field(default_factory=dict)
    _rows: dict[tuple[int, int], list[tuple[int, Interval, Interval]]] = field(default_factory=dict)
    _made: dict[tuple[str, int], tuple[Term, Term]] = field(default_factory=dict)

    def _of(self, op: str, term: Term) -> Term:
        """The term under one more operator, always the same one."""
        if (op, id(term)) not in self._made:
            self._made[op, id(term)] = term, Term(op, (term,))
        return self._made[op, id(term)][1]

    def stamps(self, *terms: Term) -> set[int]:
        """When a signal of the terms was sampled."""
        return {t for term in terms for name in term.signals() for t, _ in self.samples[name]}

    def changes(self, term: Term) -> list[int]:
        """Times, in order, between which the term is constant; more than needed do no harm."""
        if id(term) not in self._changes:
            self._of("not", term)
            found = {t for arg in term.args for t in self.changes(arg)}
            if term.op == "signal":
                found = self.stamps(term)
                age = self.max_age[term.name]
                if age is not None:
                    found |= {t + age for t in found}
            elif term.op in ("historically", "once", "since", "lag"):
                shifts = {term.start} | ({term.end} if term.end is not None else set()) | {0}
                if self.pointwise:
                    shifts |= {shift + k for shift in shifts for k in (-1, 1) if shift + k > 0}
                found = {t + shift for t in found for shift in shifts}
            self._changes[id(term)] = sorted(found)
        return self._changes[id(term)]

    def value(self, term: Term, t: int) -> Interval:
        """The term at ``t``, after all that happened at ``t``."""
        changes = self.changes(term)
        place = bisect_right(changes, t)
        if place == 0 and changes:
            return self._value(term, t)
        moment = changes[place - 1] if changes else 0
        if (id(term), moment) not in self._memo:
            self._memo[id(term), moment] = self._value(term, moment)
        return self._memo[id(term), moment]

    def _value(self, term: Term, t: int) -> Interval:
        op = term.op
        if op == "signal":
            return self._signal(term.name, t)
        if op == "number":
            return term.number, term.number
        if op == "since":
            return self._since(term, t)
        if op == "once":
            return self._once(term.args[0], t - term.start, None if term.end is None else term.end - term.start)
        if op == "historically":
            span = None if term.end is None else term.end - term.start
            return negative(self._once(self._of("not", term.args[0]), t - term.start, span))
        if op == "prev":
            events = self._happened(term.args[0], t)
            return events[-2][1] if len(events) > 1 else ANY
        if op == "diff":
            events = self._happened(term.args[0], t)
            if len(events) < 2:
                return ANY
            (before, (old, _)), (after, (new, _)) = events[-2:]
            values = [events[-1][1], events[-2][1]]
            return number((new - old) / ((after - before) / 1e9)) if all(a == b for a, b in values) else ANY
        if op == "rise":
            arg = term.args[0]
            return combine("and", [self.value(arg, t), negative(self.value(self._of("prev", arg), t))])
        if op == "fall":
            return self._value(self._of("rise", self._of("not", term.args[0])), t)
        if op == "lag":
            return self.value(term.args[0], t - term.start)
        return combine(op, [self.value(arg, t) for arg in term.args])

    def _signal(self, name: str, t: int) -> Interval:
        past = [(at, value) for at, value in self.samples[name] if at <= t]
        if not past:
            return ANY
        at, value = past[-1]
        age = self.max_age[name]
        if math.isnan(value) or (age is not None and t >= at + age):
            return ANY
        return value, value

    def _once(self, term: Term, t: int, span: int | None) -> Interval:
        return self._since_now(None, term, t, span)

    def _since(self, term: Term, t: int) -> Interval:
        kept, began = term.args
        result = self._since_now(kept, began, t - term.start, None if term.end is None else term.end - term.start)
        if term.start == 0:
            return result
        # φ must also hold over (t - a, t]
        late = term.start - 1 if self.pointwise else term.start
        recent = negative(self._once(self._of("not", kept), t, late))
        return bottom([recent[0], result[0]]), bottom([recent[1], result[1]])

    def _since_now(self, kept: Term | None, began: Term, t: int, span: int | None) -> Interval:
        """``kept since[0, span] began`` at ``t``: the best over moments t' of: began at t', and kept over (t', t]."""
        left = -INF if span is None else t - span
        pieces = self._pieces(kept, began, t)
        decided = [
            i
            for i, (at, _, phi, psi) in enumerate(pieces)
            if known(phi) and known(psi) and self._counts(kept, began, at)
        ]
        if not decided:  # what was before is unknown to a window, and nothing to an operator without one
            phi, psi = pieces[-1][2:] if pieces else (ANY, ANY)
            if self.pointwise:
                return ANY if kept is None else (-INF, top([psi[1], phi[1]]))
            return psi if span is None else (psi[0], top([psi[1], phi[1]]))
        first = decided[0]
        lows, highs = [], []
        if span is not None and pieces[first][0] - 1 >= left:
            highs.append(bottom([INF, *(phi[1] for _, _, phi, _ in pieces[first:])]))
        for i in range(first, len(pieces)):
            start, last, phi, psi = pieces[i]
            after = [piece[2] for piece in pieces[i + 1 :]]
            if not self.pointwise and i < len(pieces) - 1:
                after.append(phi)  # between any moment of this piece and the next one kept was what it was
            low_last = start if self.pointwise else last
            high_last = start if self.pointwise and known(psi) else last
            if low_last >= left:
                lows.append(bottom([psi[0], *(value[0] for value in after)]))
            if high_last >= left:
                highs.append(bottom([psi[1], *(value[1] for value in after)]))
        return top(lows), top(highs)

    def _counts(self, kept: Term | None, began: Term, t: int) -> bool:
        terms = [began] if kept is None else [kept, began]
        return not self.pointwise or t in self._sample_stamps(*terms)

    def _sample_stamps(self, *terms: Term) -> set[int]:
        """When the terms were sampled; a lagging number is sampled later."""
        found: set[int] = set()
        for term in terms:
            if term.op == "lag":
                found |= {t + term.start for t in self._sample_stamps(*term.args)}
            elif term.op == "signal":
                found |= self.stamps(term)
            else:
                found |= self._sample_stamps(*term.args)
        return found

    def _pieces(self, kept: Term | None, began: Term, t: int) -> list[tuple[int, int, Interval, Interval]]:
        """``(start, last moment, kept, began)`` of each piece of the past, up to ``t``."""
        if (id(kept), id(began)) not in self._rows:
            terms = [began] if kept is None else [kept, began]
            times = sorted({c for term in terms for c in self.changes(term)})
            all_rows = [(c, (INF, INF) if kept is None else self.value(kept, c), self.value(began, c)) for c in times]
            if self.pointwise:
                all_rows = self._sampled(all_rows, self._sample_stamps(*terms))
            self._rows[id(kept), id(began)] = all_rows
        rows = [row for row in self._rows[id(kept), id(began)] if row[0] <= t]
        ends = [*(row[0] - 1 for row in rows[1:]), t][: len(rows)]
        return [(c, end, phi, psi) for (c, phi, psi), end in zip(rows, ends, strict=True)]

    def _sampled(
        self, rows: list[tuple[int, Interval, Interval]], stamps: set[int]
    ) -> list[tuple[int, Interval, Interval]]:
        """Samples, and the moments at which what was known is lost."""
        kept: list[tuple[int, Interval, Interval]] = []
        for row in rows:
            lost = not (known(row[1]) and known(row[2])) and bool(kept) and known(kept[-1][1]) and known(kept[-1][2])
            if row[0] in stamps or lost:
                kept.append(row)
        return kept

    def _happened(self, term: Term, t: int) -> list[tuple[int, Interval]]:
        """Samples and changes of a term up to ``t``."""
        if id(term) not in self._events:
            self._of("not", term)
            stamps = self._sample_stamps(term)
            events: list[tuple[int, Interval]] = []
            for c in self.changes(term):
                value = self.value(term, c)
                before = events[-1][1] if events else ANY
                lost = known_or_number(before) and not known_or_number(value)
                if c in stamps or (lost if self.pointwise else not same(value, before)):
                    events.append((c, value))
            self._events[id(term)] = events
        return [event for event in self._events[id(term)] if event[0] <= t]

    def verdict(self, term: Term, t: int) -> tuple[Verdict, float]:
        """Verdict and margin of a formula at ``t``; NaN where there is none."""
        lo, hi = self.value(term, t)
        if true(lo):
            return Verdict.PASS, lo
        if not true(hi):
            return Verdict.FAIL, hi
        return Verdict.UNKNOWN, math.nan


def number(x: float) -> Interval:
    return ANY if math.isnan(x) else (x, x)


def combine(op: str, args: list[Interval]) -> Interval:
    """Operators that look at one moment only."""
    if op in ("not", "negate"):
        return negative(args[0])
    if op in ("and", "or"):
        best = bottom if op == "and" else top
        return best([a[0] for a in args]), best([a[1] for a in args])
    if op == "implies":
        return combine("or", [negative(args[0]), args[1]])
    if any(lo != hi for lo, hi in args):
        return ANY
    x = args[0][0]
    if op == "abs":
        return number(abs(x))
    y = args[1][0]
    if op in ("<", "<=", "==", "!=", ">", ">=", "is"):
        margin = {
            "<": -0.0 if x == y else y - x, "<=": 0.0 if x == y else y - x,
            ">": -0.0 if x == y else x - y, ">=": 0.0 if x == y else x - y,
            "==": 0.0 if x == y else -abs(x - y), "!=": -0.0 if x == y else abs(x - y),
            "is": INF if x == y else -INF,
        }[op]  # fmt: skip
        return margin, margin
    if op == "/":
        return number(math.copysign(INF, x) * math.copysign(1, y) if y == 0 and x != 0 else x / y if y else math.nan)
    result = {
        "+": lambda: x + y,
        "-": lambda: x - y,
        "*": lambda: x * y,
        "min": lambda: min(x, y),
        "max": lambda: max(x, y),
    }
    return number(result[op]())


__all__ = ["Trace", "is_number"]
