"""Mutants: every small change that is made to a source file, each in its syntax tree, one at a time.

Comparisons flipped at their edge or turned round (``<`` and ``<=``, ``==`` and ``!=``, ``is``, ``in``), ``and`` and ``or``
swapped, conditions negated, ``not`` and a minus dropped, ``+`` and ``-`` swapped, ``min`` and ``max`` swapped, numbers one
higher (large fractions doubled), True and False swapped. Texts, annotations, decorators and ``strict=`` stay as they are:
they change no decision.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

CORE = Path(__file__).resolve().parents[2] / "edge_monitor" / "core"
LONGEST = 80  #: characters of the expression that a changed number is shown in

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add}
EXTREMES = {"min": "max", "max": "min"}
TURNED = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)  #: flipping one of these negates it


@dataclass(frozen=True)
class Mutant:
    """One change: ``number`` of all those of ``source`` (a path below the core).

    ``function``: in which method or function, or class; empty in the module itself. ``change`` tells it from all others
    there. It matters only where one of the lines of ``span`` has run; ``at_load``: they run when the module is loaded.
    """

    source: str
    number: int
    function: str
    change: str
    line: int
    span: tuple[int, int]
    at_load: bool

    @property
    def place(self) -> str:
        """File and line, from the root of the repository."""
        return f"edge_monitor/core/{self.source}:{self.line}"

    @property
    def path(self) -> Path:
        """The source file."""
        return CORE / self.source

    @property
    def module(self) -> str:
        """The module's name."""
        return "edge_monitor.core." + self.source.removesuffix(".py").replace("/", ".")

    def tree(self) -> ast.Module:
        """The file's syntax tree with the change in it."""
        tree = ast.parse(self.path.read_text())
        change = next(change for number, change in enumerate(_changes(tree)) if number == self.number)
        return ast.fix_missing_locations(_Swap(change.old, change.new).visit(tree))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Change:
    """``old`` becomes ``new``; ``shown`` is the part of the code that tells people where."""

    old: ast.AST
    new: ast.AST
    shown: ast.AST
    function: str
    line: int
    span: tuple[int, int]
    at_load: bool


class _Swap(ast.NodeTransformer):
    """Put ``new`` in the place of ``old``."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        """Look further down until it is found."""
        return self.new if node is self.old else self.generic_visit(node)


def mutants_of(source: str) -> list[Mutant]:
    """All mutants of a source file below the core, in order."""
    found: list[Mutant] = []
    times: Counter[tuple[str, str]] = Counter()
    for number, change in enumerate(_changes(ast.parse((CORE / source).read_text()))):
        text = _words(change)
        times[change.function, text] += 1
        nth = times[change.function, text]
        text = text if nth == 1 else f"{text} #{nth}"
        found.append(Mutant(source, number, change.function, text, change.line, change.span, change.at_load))
    return found


def _words(change: _Change) -> str:
    before = ast.unparse(change.shown)
    if change.shown is change.old:
        return f"{before} -> {ast.unparse(change.new)}"
    place = {id(change.old): copy.deepcopy(change.old)}
    copied = copy.deepcopy(change.shown, place)  # the copy of old is known, hence can be found in it
    return f"{before} -> {ast.unparse(_Swap(place[id(change.old)], change.new).visit(copied))}"


@dataclass(frozen=True)
class _Place:
    """Where the walk is: the names of class and function, whether that is a function, and the statement's lines."""

    names: tuple[str, ...] = ()
    inside: bool = False
    span: tuple[int, int] = (0, 0)

    def change(self, old: ast.expr | ast.stmt, new: ast.AST, shown: ast.AST) -> _Change:
        """A change here."""
        return _Change(
            old, ast.copy_location(new, old), shown, ".".join(self.names), old.lineno, self.span, not self.inside
        )


def _changes(tree: ast.Module) -> Iterator[_Change]:
    for statement in tree.body:
        yield from _in_statement(statement, _Place())


def _in_statement(node: ast.stmt, place: _Place) -> Iterator[_Change]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        names = place.names if place.inside else (*place.names, node.name)
        if isinstance(node, ast.FunctionDef):
            outside = replace(place, names=names, span=(node.lineno, node.body[0].lineno))
            for default in [*node.args.defaults, *(part for part in node.args.kw_defaults if part is not None)]:
                yield from _in_expression(default, [], outside)
        below = replace(place, names=names, inside=place.inside or isinstance(node, ast.FunctionDef))
        for statement in node.body:
            yield from _in_statement(statement, below)
        return
    heads: list[ast.AST] = []
    blocks: list[ast.stmt] = []
    for field, value in ast.iter_fields(node):
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.stmt):
                blocks.append(part)
            elif isinstance(part, ast.ExceptHandler):
                blocks += part.body
            elif isinstance(part, ast.AST) and field != "annotation":
                heads.append(part)
    last = max((getattr(head, "end_lineno", node.lineno) for head in heads), default=node.lineno)
    place = replace(place, span=(node.lineno, last if blocks else node.end_lineno or last))
    if isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
        yield place.change(node, ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value), node)
    if isinstance(node, ast.If | ast.While):
        yield from _negated(node.test, place)
    for head in heads:
        yield from _in_expression(head, [] if blocks else [node], place)
    for statement in blocks:
        yield from _in_statement(statement, place)


def _negated(test: ast.expr, place: _Place) -> Iterator[_Change]:
    """The condition turned round, unless another change does the same."""
    if isinstance(test, ast.Constant) or (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
        return
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], TURNED):
        return
    yield place.change(test, ast.UnaryOp(ast.Not(), test), test)


def _in_expression(node: ast.AST, above: list[ast.AST], place: _Place) -> Iterator[_Change]:
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.keyword) and node.arg == "strict"):
        return
    if isinstance(node, ast.expr):
        shown: ast.AST = node
        if isinstance(node, ast.Constant) and above and len(ast.unparse(above[-1])) <= LONGEST:
            shown = above[-1]
        for new in _instead_of(node):
            yield place.change(node, new, shown)
    if isinstance(node, ast.IfExp):
        yield from _negated(node.test, place)
    if isinstance(node, ast.comprehension):
        for test in node.ifs:
            yield from _negated(test, place)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr | ast.comprehension | ast.keyword):
            yield from _in_expression(child, [*above, node], place)


def _instead_of(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            yield ast.Compare(node.left, [*node.ops[:i], COMPARISONS[type(op)](), *node.ops[i + 1 :]], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not | ast.USub) and not isinstance(node.operand, ast.Constant):
            yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in EXTREMES:
        yield ast.Call(ast.Name(EXTREMES[node.func.id], ast.Load()), node.args, node.keywords)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, float) and abs(node.value) > 100:
            yield ast.Constant(2 * node.value)
        elif isinstance(node.value, int | float):
            yield ast.Constant(node.value + 1)
