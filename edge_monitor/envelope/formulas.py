"""Formulas and expressions as text: grammar, and the check of names, sorts and units; errors have a place in the text.

    historically[0 s, 2 s](speed <= 0.3 m/s) and not (mode == AUTO_LAND since[0 s, 5 s] rise(contact > 0))

From the loosest to the tightest: ``implies`` (``->``), ``or``, ``and``, ``since``, ``not``, comparison, sum, product, sign.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken

from ..core.formula.term import Term, is_number
from ..core.signals import Signal
from .dimension import Dimension, dimension, product, unit_text
from .problems import shown
from .units import DURATION_UNITS, duration

LONGEST = 4096
MOST_TERMS = 500
DEEPEST = 64

_NUMBER = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"
_UNIT = r"[A-Za-z%°µΩ][A-Za-z0-9%°µΩ²³^·]*"
_GRAMMAR = r"""
?start: implies
?implies: or_ | or_ ("implies" | "->") implies
?or_: and_ | and_ ("or" and_)+
?and_: since | since ("and" since)+
?since: not_ | not_ (SINCE window? not_)+
?not_: comparison | "not" not_ -> negation
?comparison: sum | sum (COMPARE sum)+
?sum: product | product (SIGN product)+
?product: sign | sign (TIMES sign)+
?sign: atom | "-" sign -> minus
?atom: QUANTITY -> number
     | NUMBER -> number
     | TEXT -> text
     | NAME -> name
     | NAME window? "(" implies ("," implies)* ")" -> call
     | "(" implies ")"
window: "[" implies "," implies "]"

SINCE: "since"
COMPARE: "<=" | ">=" | "==" | "!=" | "<" | ">"
SIGN: "+" | "-"
TIMES: "*" | "/"
NAME: /[A-Za-z_][A-Za-z0-9_]*/
TEXT: /'[^'\n]*'|"[^"\n]*"/
NUMBER: /{number}(?![A-Za-z_%°µ])/
QUANTITY.2: /{number}\s*(?!(and|or|implies|since|not)\b){unit}(\/{unit})*/
%ignore /\s+/
""".replace("{number}", _NUMBER).replace("{unit}", _UNIT)
_QUANTITY = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]{1,3})?)\s*(.*)")
#: Quoted texts and numbers with units, which are skipped; then names that are no functions.
_WORD = re.compile(
    rf"'[^'\n]*'|\"[^\"\n]*\"|{_NUMBER}\s*{_UNIT}(?:/{_UNIT})*|{_NUMBER}|(?P<name>[A-Za-z_]\w*)(?!\s*[\[(\w])"
)
_WORDS = ("and", "or", "not", "implies", "since")
_WINDOWED = ("historically", "once")
_ARITIES = {"historically": 1, "once": 1, "rise": 1, "fall": 1, "prev": 1, "abs": 1, "diff": 1, "lag": 2}
FUNCTIONS = (*_ARITIES, "min", "max")


class FormulaError(ValueError):
    """What is wrong with a formula, and ``offset``: where in its text, from 0. ``wrong`` and ``candidates``: a misspelling."""

    def __init__(self, message: str, offset: int, wrong: str = "", candidates: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.offset = offset
        self.wrong = wrong
        self.candidates = candidates


@dataclass(frozen=True, slots=True)
class Parsed:
    """A text that is in order: its tree, and the unit of its value, or of its margin where all its comparisons have one."""

    term: Term
    unit: str


def parse_formula(text: str, signals: Mapping[str, Signal]) -> Parsed:
    """The formula of a check: a truth. Raises ``FormulaError`` for the first thing that is wrong."""
    return _Reader(text, signals).formula()


def parse_expression(text: str, signals: Mapping[str, Signal]) -> Parsed:
    """The expression of a derived signal: a number. Raises ``FormulaError`` for the first thing that is wrong."""
    return _Reader(text, signals).expression()


def names_in(text: str) -> Iterator[tuple[int, str]]:
    """All that could be a signal's name in a text, also in one that is not in order, with offsets."""
    for match in _WORD.finditer(text):
        if match["name"] and match["name"] not in _WORDS:
            yield match.start(), match["name"]


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", propagate_positions=True)


@dataclass(frozen=True, slots=True)
class _Value:
    """A part of the text that has been understood. ``unit``: None for what takes the unit of what it meets."""

    term: Term
    offset: int
    unit: Dimension | None = None

    @property
    def number(self) -> bool:
        return is_number(self.term)


class _Reader:
    def __init__(self, text: str, signals: Mapping[str, Signal]) -> None:
        self.text = text
        self.signals = signals
        self.terms = 0
        self.units: list[Dimension | None] = []

    def formula(self) -> Parsed:
        value = self._read()
        if value.number:
            named = f"`{value.term.name}` is" if value.term.op == "signal" else "this is"
            raise FormulaError(f"{named} a number, not a condition: compare it, as in `… <= 0.3`", value.offset)
        units = {unit_text(unit) for unit in self.units if unit is not None}
        return Parsed(value.term, units.pop() if len(units) == 1 else "")

    def expression(self) -> Parsed:
        value = self._read()
        if not value.number:
            raise FormulaError("this is a condition, not a number: a derived signal is a number", value.offset)
        if not value.term.signals():
            raise FormulaError("names no signal: nothing would ever change it", value.offset)
        return Parsed(value.term, unit_text(value.unit or {}))

    def _read(self) -> _Value:
        text = self.text
        if not text.strip():
            raise FormulaError("is empty", 0)
        if len(text) > LONGEST:
            raise FormulaError(f"is longer than {LONGEST} characters: split it into several checks", 0)
        self._brackets()
        try:
            tree = _parser().parse(text)
        except UnexpectedCharacters as error:
            raise self._stray(error.pos_in_stream or 0) from None
        except UnexpectedToken as error:
            raise self._unexpected(error.token, error.accepts or set()) from None
        except UnexpectedEOF:
            raise FormulaError("ends too early", len(text)) from None
        return self._value(tree, 0)

    def _brackets(self) -> None:
        """Brackets that don't match are looked for first: what a parser would say of them is of no help."""
        closing = {"(": ")", "[": "]"}
        opened: list[tuple[str, int]] = []
        for match in re.finditer(r"'[^'\n]*'|\"[^\"\n]*\"|[()\[\]]", self.text):
            mark = match[0]
            if mark in closing:
                opened.append((mark, match.start()))
            elif mark in closing.values():
                if not opened:
                    raise FormulaError(f"this `{mark}` closes nothing: remove it", match.start())
                last, at = opened.pop()
                if closing[last] != mark:
                    raise FormulaError(f"this `{last}` is never closed: a `{closing[last]}` is missing", at)
        if opened:
            last, at = opened[-1]
            raise FormulaError(f"this `{last}` is never closed: a `{closing[last]}` is missing", at)

    def _stray(self, offset: int) -> FormulaError:
        if self.text[offset] in "'\"":
            return FormulaError("this quote is never closed", offset)
        if self.text[offset] == "=":
            return FormulaError("a comparison is written `==`", offset)
        if self.text[offset] in "&|!":
            return FormulaError(f"{shown(self.text[offset])} is not known here: write `and`, `or`, `not`", offset)
        return FormulaError(f"{shown(self.text[offset])} does not belong into a formula", offset)

    def _unexpected(self, token: Token, accepts: set[str]) -> FormulaError:
        offset = len(self.text.rstrip()) if token.type == "$END" else int(token.start_pos or 0)
        if token.type == "$END":
            return FormulaError("ends too early: a value or condition is missing", offset)
        if accepts & {"NAME", "NUMBER"}:
            return FormulaError(f"a value or condition is missing before {shown(str(token))}", offset)
        return self._no_operator(str(token), offset)

    @staticmethod
    def _no_operator(before: str, offset: int) -> FormulaError:
        return FormulaError(f"an operator such as `and`, `<=` or `+` is missing before {shown(before)}", offset)

    def _value(self, tree: Tree[Token] | Token, depth: int) -> _Value:
        assert isinstance(tree, Tree)
        offset = int(tree.meta.start_pos)
        self.terms += 1
        if depth > DEEPEST or self.terms > MOST_TERMS:
            raise FormulaError(f"has more than {MOST_TERMS} parts, or {DEEPEST} inside each other", offset)
        kind = tree.data
        if kind == "number":
            return self._number(str(tree.children[0]), offset)
        if kind == "name":
            return self._signal(str(tree.children[0]), offset)
        if kind == "text":
            raise FormulaError("a text can only be compared with a signal: `mode == 'AUTO'`", offset)
        if kind == "call":
            return self._call(tree, offset, depth)
        if kind == "comparison":
            return self._comparison(tree, offset, depth)
        if kind == "since":
            return self._since(tree, offset, depth)
        parts = [child if isinstance(child, Token) else self._value(child, depth + 1) for child in tree.children]
        if kind in ("sum", "product"):
            return self._arithmetic(parts, offset)
        values = [part for part in parts if isinstance(part, _Value)]
        if kind == "minus":
            value = self._a_number(values[0])
            if value.term.op == "number":
                return _Value(Term("number", number=-value.term.number), offset, value.unit)
            return _Value(Term("negate", (value.term,)), offset, value.unit)
        op = {"negation": "not", "and_": "and", "or_": "or", "implies": "implies"}[kind]
        return _Value(Term(op, tuple(self._a_condition(value).term for value in values)), offset)

    def _number(self, text: str, offset: int) -> _Value:
        match = _QUANTITY.fullmatch(text)
        assert match is not None
        number = float(match[1])
        if number == float("inf"):
            raise FormulaError(f"{shown(text)} is too large", offset)
        if match[2] in self.signals and match[2] not in {
            unit for s in self.signals.values() for unit in dimension(s.unit)
        }:
            raise self._no_operator(match[2], offset + match.start(2))
        return _Value(Term("number", number=number), offset, dimension(match[2]) if match[2] else None)

    def _signal(self, name: str, offset: int) -> _Value:
        if name in self.signals:
            return _Value(Term("signal", name=name), offset, dimension(self.signals[name].unit))
        if name in FUNCTIONS:
            raise FormulaError(f"`{name}` needs what it is about in brackets: `{name}(…)`", offset)
        raise FormulaError(f"no signal is named {shown(name)}", offset, name, tuple(self.signals))

    def _a_number(self, value: _Value) -> _Value:
        if not value.number:
            raise FormulaError("this is a condition, where a number is needed", value.offset)
        return value

    def _a_condition(self, value: _Value) -> _Value:
        if value.number:
            named = f"`{value.term.name}` is" if value.term.op == "signal" else "this is"
            raise FormulaError(
                f"{named} a number, where a condition is needed: compare it, as in `… > 0`", value.offset
            )
        return value

    def _one_unit(self, a: _Value, b: _Value, what: str = "compares", joint: str = "with") -> Dimension | None:
        """The unit that two numbers have in common."""
        if a.unit is None or b.unit is None or dict(a.unit) == dict(b.unit):
            return b.unit if a.unit is None else a.unit
        at = b if b.term.op == "number" or a.term.op != "number" else a
        other = a if at is b else b
        ours, theirs = (f"`{unit_text(unit)}`" if unit else "no unit" for unit in (at.unit, other.unit))
        assert at.unit is not None and other.unit is not None
        fix = f"write it in {theirs}" if at.term.op == "number" and other.unit else "both need one unit"
        bare = next((v for v in (at, other) if v.term.op == "signal" and not v.unit), None)
        if at.term.op != "number" and bare is not None:
            fix = f"give `{bare.term.name}` its `unit` in `signals`"
        elif at.term.op == "number" and not other.unit:
            fix = "leave the unit out" if bare is None else f"leave it out, or give `{bare.term.name}` its `unit`"
        raise FormulaError(f"{what} {theirs} {joint} {ours}: {fix}", at.offset)

    def _arithmetic(self, parts: list[Token | _Value], offset: int) -> _Value:
        assert isinstance(parts[0], _Value)
        result = self._a_number(parts[0])
        for sign, operand in zip(parts[1::2], parts[2::2], strict=True):
            assert isinstance(operand, _Value)
            right = self._a_number(operand)
            op = str(sign)
            if op in "+-":
                unit = self._one_unit(result, right, "adds" if op == "+" else "takes the difference of", "and")
            elif result.unit is None and right.unit is None:
                unit = None
            else:
                unit = product(result.unit or {}, right.unit or {}, 1 if op == "*" else -1)
            result = _Value(Term(op, (result.term, right.term)), offset, unit)
        return result

    def _comparison(self, tree: Tree[Token], offset: int, depth: int) -> _Value:
        left, sign, right, *more = tree.children
        if more:
            self._value(right, depth + 1)  # `a < 1 b > 0` lacks an operator: it does not compare twice
            assert isinstance(more[0], Token)
            raise FormulaError("one comparison at a time: write `a < b and b < c`", int(more[0].start_pos or 0))
        op = str(sign)
        if op in ("==", "!="):
            state = self._state(left, right, depth) or self._state(right, left, depth)
            if state is not None:
                return _Value(state if op == "==" else Term("not", (state,)), offset)
        values = [self._a_number(self._value(side, depth + 1)) for side in (left, right)]
        self.units.append(self._one_unit(values[0], values[1]))
        return _Value(Term(op, (values[0].term, values[1].term)), offset)

    def _state(self, subject: Tree[Token] | Token, named: Tree[Token] | Token, depth: int) -> Term | None:
        """``subject`` is in the state that is ``named``, where it has states or is compared with a text."""
        assert isinstance(subject, Tree) and isinstance(named, Tree)
        if named.data not in ("name", "text", "number") or subject.data == "text":
            return None
        word = str(named.children[0])
        at = int(named.meta.start_pos)
        if subject.data == "name" and str(subject.children[0]) not in self.signals:
            return None  # the name of a state, or a misspelling
        quiet = _Reader(self.text, self.signals)
        quiet.terms = self.terms
        value = quiet._value(subject, depth + 1)
        inner = value.term
        while inner.op in ("prev", "lag"):
            inner = inner.args[0]
        if inner.op != "signal":
            if named.data == "text":
                raise FormulaError("a text can only be compared with a signal", at)
            return None
        signal = self.signals[inner.name]
        states = dict(signal.values)
        if named.data == "number":
            return Term("is", (value.term, Term("number", number=float(word)))) if states and _plain(word) else None
        if named.data == "name" and (not states or (word in self.signals and word not in states)):
            if word not in self.signals:
                hint = "" if word in FUNCTIONS else f" (is it a text of `{signal.name}`? quote it: '{word}')"
                raise FormulaError(f"no signal is named {shown(word)}{hint}", at, word, tuple(self.signals))
            return None
        if named.data == "text":
            word = word[1:-1]
            if not states:
                return Term("is", (value.term, Term("text", name=word)))
        if word not in states:
            raise FormulaError(f"signal `{signal.name}` has no state {shown(word)}", at, word, tuple(states))
        return Term("is", (value.term, Term("number", number=states[word])))

    def _since(self, tree: Tree[Token], offset: int, depth: int) -> _Value:
        children = list(tree.children)
        window: tuple[int, int | None] = (0, None)
        if isinstance(children[2], Tree) and children[2].data == "window":
            window = self._window(children.pop(2))
        if len(children) > 3:
            again = children[3]
            assert isinstance(again, Token)
            raise FormulaError("which `since` first? put one of them in brackets", int(again.start_pos or 0))
        kept, began = (self._a_condition(self._value(child, depth + 1)) for child in (children[0], children[2]))
        return _Value(Term("since", (kept.term, began.term), start=window[0], end=window[1]), offset)

    def _call(self, tree: Tree[Token], offset: int, depth: int) -> _Value:
        name = str(tree.children[0])
        rest = list(tree.children[1:])
        window: tuple[int, int | None] = (0, None)
        if name not in FUNCTIONS:
            raise FormulaError(f"there is no function {shown(name)}", offset, name, (*FUNCTIONS, *_WORDS))
        if isinstance(rest[0], Tree) and rest[0].data == "window":
            if name not in _WINDOWED:
                raise FormulaError(f"`{name}` takes no window", int(rest[0].meta.start_pos))
            window = self._window(rest.pop(0))
        if len(rest) != _ARITIES.get(name, len(rest)) or len(rest) < _ARITIES.get(name, 2):
            takes = f"{_ARITIES[name]}" if name in _ARITIES else "at least 2"
            raise FormulaError(f"`{name}` takes {takes} in its brackets, got {len(rest)}", offset)
        if name == "lag":
            late = self._duration(rest.pop())
            value = self._a_number(self._value(rest[0], depth + 1))
            return _Value(Term("lag", (value.term,), start=late), offset, value.unit)
        values = [self._value(child, depth + 1) for child in rest]
        if name == "prev":
            return _Value(Term("prev", (values[0].term,)), offset, values[0].unit)
        if name in ("historically", "once", "rise", "fall"):
            condition = self._a_condition(values[0]).term
            return _Value(Term(name, (condition,), start=window[0], end=window[1]), offset)
        result = self._a_number(values[0])
        if name == "abs":
            return _Value(Term("abs", (result.term,)), offset, result.unit)
        if name == "diff":
            unit = None if result.unit is None else product(result.unit, {"s": 1}, -1)
            return _Value(Term("diff", (result.term,)), offset, unit)
        for value in values[1:]:
            unit = self._one_unit(result, self._a_number(value))
            result = _Value(Term(name, (result.term, value.term)), offset, unit)
        return result

    def _window(self, tree: Tree[Token] | Token) -> tuple[int, int]:
        assert isinstance(tree, Tree)
        start, end = (self._duration(child) for child in tree.children)
        if start > end:
            first, last = (self._text_of(child) for child in tree.children)
            raise FormulaError(f"the window is reversed: write `[{last}, {first}]`", int(tree.meta.start_pos))
        return start, end

    def _text_of(self, tree: Tree[Token] | Token) -> str:
        assert isinstance(tree, Tree)
        return self.text[int(tree.meta.start_pos) : int(tree.meta.end_pos)]

    def _duration(self, tree: Tree[Token] | Token) -> int:
        assert isinstance(tree, Tree)
        at = int(tree.meta.start_pos)
        text = self._text_of(tree)
        if text == "0":
            return 0
        if tree.data != "number":
            raise FormulaError(f"expected a duration such as `200 ms`, got {shown(text)}", at)
        if _plain(text):
            raise FormulaError(f"a duration needs its unit: `{text} s`? (units: {' '.join(DURATION_UNITS)})", at)
        match = _QUANTITY.fullmatch(text)
        assert match is not None
        try:
            return duration(f"{match[1]} {match[2]}")
        except ValueError as error:
            raise FormulaError(str(error), at, match[2], tuple(DURATION_UNITS)) from None


def _plain(text: str) -> bool:
    """A number without a unit."""
    match = _QUANTITY.fullmatch(text)
    return match is not None and not match[2]
