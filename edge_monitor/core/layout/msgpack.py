"""Field paths in MessagePack, which describes itself: no definition says what lies where, the message does.

Grammar: names joined by dots, each with any number of ``[index]``, and one ``[*]`` in all; a path may begin with an index
(``[2]``, ``[0].x``: structures that are sent as lists). A channel's ``definition`` may say that a bin holds numbers, one
line each: ``path type``, such as ``depth.ranges float32`` (little endian).

What lies at the end of a path is a number, a truth value (1, 0), a text, or nil (a number that is not known). Whether a
signal is a number or a text is settled by its first value (numbers where it has ``values``, ``scale`` or ``offset``); what
differs later has the cause ``type_mismatch``. A path that ends in ``stamp`` is a latency: nanoseconds as an integer,
seconds as a float, ``[sec, nanosec]``, ``{sec, nanosec}``, ``{secs, nsecs}``, or a timestamp extension.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .definitions import MAX_DEPTH, LayoutError
from .fields import ALL, ARRAY, NUMBER, STAMP, Path, Step
from .load import CODES
from .msgpack_walk import NODE, TAKES_COUNT, TAKES_NUMBERS, TAKES_STAMP
from .ops import Op
from .program import Row, Want, reduce_rows
from .reduce import COUNT, REDUCERS

MAX_NODES = 1 << 16  #: steps in the trees of one channel

_PART = re.compile(r"([A-Za-z_]\w*)?((?:\[(?:\d{1,9}|\*)\])*)")
_INDEX = re.compile(r"\[(\d+|\*)\]")


@dataclass(frozen=True, slots=True)
class Document:
    """What a MessagePack channel declares: the number type of each bin that is one, by its path."""

    bins: dict[tuple[Step, ...], str]


@dataclass(slots=True)
class Tree:
    """A program and what it walks by. Nodes, leaves and keys count from 0; the extractor moves them to their pools."""

    rows: list[Row] = field(default_factory=list)
    leaves: list[Row] = field(default_factory=list)
    nodes: list[dict[str, int]] = field(default_factory=list)
    keys: bytearray = field(default_factory=bytearray)

    def moved(self, first_node: int, first_leaf: int) -> list[Row]:
        """The program, with what it walks by at these places of the pools."""
        return [
            replace(row, a=row.a + first_node, c=row.c + first_leaf) if row.code == Op.TREE else row
            for row in self.rows
        ]

    def packed(self, first_node: int, first_leaf: int, first_key: int) -> np.ndarray:
        """(n,) NODE rows, moved to their places in the pools."""
        rows = np.zeros(len(self.nodes), NODE)
        for row, node in zip(rows, self.nodes, strict=True):
            for name, value in node.items():
                row[name] = value
        rows["start"] += first_key
        rows["op"] += first_leaf
        for name in ("names", "items"):
            rows[name] += first_node
        rows["each"] = np.where(rows["each"] >= 0, rows["each"] + first_node, -1)
        return rows


def declare(definition: str) -> Document:
    """Read a channel's definition. Raises :class:`LayoutError` where a line is none."""
    bins = {}
    for line in filter(None, map(str.strip, definition.splitlines())):
        path, _, kind = line.rpartition(" ")
        if kind not in CODES or kind in ("bool", "char"):
            raise LayoutError(f"cannot read the line {line[:60]!r}: expected a path and a type such as float32")
        bins[split(path.strip())] = kind
    return Document(bins)


def split(text: str) -> tuple[Step, ...]:
    """The steps of a path; an index is a step of its own without a name. Raises :class:`LayoutError`."""
    steps: list[Step] = []
    for position, part in enumerate(text.split(".")):
        match = _PART.fullmatch(part)
        if not match or not part or (position and not match[1]):
            raise LayoutError(f"{text!r} is not a field path: expected names such as pose.position.x or ranges[3]")
        if match[1]:
            steps.append(Step(match[1]))
        steps += [Step("", ALL if index == "*" else int(index)) for index in _INDEX.findall(match[2])]
    if sum(step.index == ALL for step in steps) > 1:
        raise LayoutError(f"{text}: only one [*] is possible in a path")
    if len(steps) > MAX_DEPTH:
        raise LayoutError(f"{text}: a path has at most {MAX_DEPTH} steps")
    return tuple(steps)


def resolve_path(text: str, reduce: str | None) -> Path:
    """Check a path as far as that is possible before a message. Raises :class:`LayoutError`."""
    if reduce is not None and reduce not in REDUCERS:
        raise LayoutError(f"no reducer is named {reduce!r}: use one of {' '.join(REDUCERS)}")
    steps = split(text)
    if any(step.index == ALL for step in steps):
        if reduce is None:
            raise LayoutError(f"{text}: [*] needs reduce: one of {' '.join(REDUCERS)}")
        return Path(steps[:-1], ARRAY) if steps[-1].index == ALL else Path(steps, NUMBER)
    if reduce is not None:
        return Path(steps, ARRAY)
    return Path(steps, STAMP if steps[-1].name == "stamp" else NUMBER)


def compile_tree(document: Document, wants: Sequence[Want]) -> Tree:
    """The program that fills ``wants``, without the final ``END``: one walk for each ``[*]`` path, one for all others."""
    tree = Tree()
    for want in wants:
        tree.rows += [Row(Op.ABSENT, fill=fill) for fill in want.fills]
    plain: list[Want] = []
    for want in wants:
        if not any(step.index == ALL for step in want.path.steps):
            plain.append(want)
            continue
        reducers = reduce_rows(want.fills)
        root = _grow(tree, document, [replace(want, collect=True)])
        tree.rows += [Row(Op.TREE, a=root, b=len(reducers)), *reducers]
    if plain:
        first = len(tree.leaves)
        root = _grow(tree, document, plain)
        tree.rows.append(Row(Op.TREE, a=root, prim=len(tree.leaves) - first, c=first))
    return tree


def _grow(tree: Tree, document: Document, wants: Sequence[Want]) -> int:
    """Append the nodes and leaves of ``wants``; answers the root. Children of a node stand side by side."""
    root = len(tree.nodes)
    tree.nodes.append({})
    waiting: list[tuple[int, tuple[Step, ...], Sequence[Want]]] = [(root, (), wants)]
    while waiting:
        at, path, inside = waiting.pop()
        node = tree.nodes[at]
        here = [want for want in inside if len(want.path.steps) == len(path)]
        node["op"] = len(tree.leaves)
        tree.leaves += [row for want in here for row in _leaf_rows(want)]
        node["ops"] = len(tree.leaves) - node["op"]
        node["takes"] = _takes(tree.leaves[node["op"] :])
        node["prim"] = CODES[document.bins[path]] if path in document.bins else -1
        steps = {want.path.steps[len(path)] for want in inside if want not in here}
        named = sorted((step for step in steps if step.name), key=lambda step: _order(step.name))
        indexed = sorted((step for step in steps if not step.name), key=lambda step: step.index or 0)
        wild = [step for step in indexed if step.index == ALL]
        indexed = [step for step in indexed if step.index != ALL]
        begin = len(tree.nodes)
        if begin + len(steps) > MAX_NODES:
            raise LayoutError(f"its fields have more than {MAX_NODES} steps")
        node["names"], node["names_count"] = begin, len(named)
        node["items"], node["items_count"] = begin + len(named), len(indexed)
        node["each"] = begin + len(named) + len(indexed) if wild else -1
        for number, step in enumerate([*named, *indexed, *wild]):
            key = step.name.encode()
            place = {"index": max(step.index or 0, 0), "head": _head(key), "start": len(tree.keys), "size": len(key)}
            tree.nodes.append(place)
            tree.keys += key
            share = [want for want in inside if want.path.steps[len(path) : len(path) + 1] == (step,)]
            waiting.append((begin + number, (*path, step), share))
    return root


def _leaf_rows(want: Want) -> list[Row]:
    if want.collect:
        return [Row(Op.COLLECT)]
    if want.path.leaf == ARRAY:
        return reduce_rows(want.fills)
    if want.path.leaf == STAMP:
        return [Row(Op.STAMP, fill=fill) for fill in want.fills]
    return [Row(Op.READ, fill=fill) for fill in want.fills]


def _takes(leaves: Sequence[Row]) -> int:
    takes = 0
    for row in leaves:
        if row.code == Op.STAMP:
            takes |= TAKES_STAMP
        elif row.code == Op.REDUCE:
            takes |= TAKES_COUNT if row.prim == COUNT else TAKES_NUMBERS
    return takes


def _head(key: bytes) -> int:
    return int.from_bytes(key[:8], "little")


def _order(name: str) -> tuple[int, int, bytes]:
    key = name.encode()
    return _head(key), len(key), key
