"""Field paths: what a signal asks of a message, checked against the message's definition.

Grammar: ``name`` joined by dots, each with at most one ``[index]`` or ``[*]``; at most one ``[*]`` in a path. Behind a whole
number, ``bit0`` is its lowest bit.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from .definitions import SIZES, STAMPS, Definition, Field, LayoutError
from .reduce import REDUCERS

ALL = -2  #: the index of ``[*]``
NUMBER, STAMP, TEXT, VECTOR, ARRAY, LENGTH = "number", "stamp", "text", "vector", "array", "length"

_BIT = re.compile(r"bit(\d{1,2})")
_STEP = re.compile(r"([A-Za-z_]\w*)(?:\[(\d{1,9}|\*)\])?")
_TIMES = (["int32", "uint32"], ["uint32", "uint32"])  # ROS 2, ROS 1
_SUGGESTIONS_FROM = 2000  #: field paths that are looked at for a suggestion


@dataclass(frozen=True, slots=True)
class Step:
    """One name of a path, with the index behind it: None, a number, or :data:`ALL`."""

    name: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Path:
    """A checked path. ``leaf`` says what lies at its end and how it becomes a number:

    ``number`` one plain number, or with ``[*]`` one of each element; ``stamp`` a time stamp, as latency; ``text``;
    ``vector`` a message of numbers of one type, reduced; ``array`` plain numbers, reduced; ``length`` their number.
    """

    steps: tuple[Step, ...]
    leaf: str
    bit: int | None = None  #: of a whole number: this bit of it


def resolve(definition: Definition, text: str, reduce: str | None) -> Path:
    """Check ``text`` against ``definition``. Raises :class:`LayoutError` that says what is wrong and what is near."""
    if reduce is not None and reduce not in REDUCERS:
        raise LayoutError(f"no reducer is named {reduce!r}: use one of {' '.join(REDUCERS)}")
    steps = _split(text)
    owner = definition.root
    found = Field("", owner)
    for position, step in enumerate(steps):
        if owner not in definition.types:
            return _bit(text, steps, position, found, reduce)
        item = next((item for item in definition.types[owner] if item.name == step.name), None)
        if item is None:
            raise LayoutError(f"{definition.root} has no field {text!r}{_nearest(definition, owner, text, step.name)}")
        found = item
        last = position == len(steps) - 1
        if step.index is not None:
            _check_index(text, found, step)
        elif found.length is not None and not last:
            raise LayoutError(f"{text}: {step.name} is a list; say which element: {step.name}[0] or {step.name}[*]")
        owner = found.type
    return _leaf(definition, text, steps, found, reduce)


def _bit(text: str, steps: tuple[Step, ...], position: int, found: Field, reduce: str | None) -> Path:
    """A path that goes on behind something without fields: a bit of a whole number, or nothing that can be."""
    match = _BIT.fullmatch(steps[position].name)
    above, last = steps[:position], position == len(steps) - 1
    if not match or not last or steps[position].index is not None or "int" not in found.type:
        raise LayoutError(f"{text}: {above[-1].name} is {found.type}, which has no fields")
    bit, width = int(match[1]), 8 * SIZES[found.type]
    if bit >= width:
        raise LayoutError(f"{text}: {above[-1].name} has {width} bits, the last is bit{width - 1}")
    if reduce is not None or any(step.index == ALL for step in above):
        raise LayoutError(f"{text}: a bit is of one number, without [*] and reduce")
    return Path(above, NUMBER, bit)


def _split(text: str) -> tuple[Step, ...]:
    steps = []
    for part in text.split("."):
        match = _STEP.fullmatch(part)
        if not match:
            raise LayoutError(f"{text!r} is not a field path: expected names such as pose.position.x or ranges[3]")
        name, index = match.groups()
        steps.append(Step(name, None if index is None else ALL if index == "*" else int(index)))
    if sum(step.index == ALL for step in steps) > 1:
        raise LayoutError(f"{text}: only one [*] is possible in a path")
    return tuple(steps)


def _check_index(text: str, found: Field, step: Step) -> None:
    if found.length is None or (found.type == "char" and found.length >= 0):
        raise LayoutError(f"{text}: {step.name} is not a list")
    if step.index is not None and 0 <= found.length <= step.index:
        raise LayoutError(f"{text}: {step.name} has {found.length} elements, the last is [{found.length - 1}]")


def _leaf(definition: Definition, text: str, steps: tuple[Step, ...], found: Field, reduce: str | None) -> Path:
    wild = any(step.index == ALL for step in steps)
    if steps[-1].index == ALL and found.type in SIZES:  # ranges[*] is ranges
        steps, wild = (*steps[:-1], Step(steps[-1].name)), False
    whole = found.length is not None and steps[-1].index is None  # a list without an index
    if whole and found.type == "char" and found.length != -1 and not wild:
        return _text(steps, text, reduce)
    if whole and not wild:
        if reduce is None:
            raise LayoutError(f"{text} is a list: say which element, or give reduce: one of {' '.join(REDUCERS)}")
        if reduce == "count":
            return Path(steps, LENGTH)
        if found.type not in SIZES:
            raise LayoutError(f"{text} is a list of {found.type}; reduce needs numbers, such as {text}[*].field")
        return Path(steps, ARRAY)
    if wild:
        if whole:
            raise LayoutError(f"{text}: a list within [*]; say which element of {steps[-1].name}")
        if reduce is None:
            raise LayoutError(f"{text}: [*] needs reduce: one of {' '.join(REDUCERS)}")
        if found.type not in SIZES:
            raise LayoutError(f"{text} is {found.type}, not a number: name a field of it")
        return Path(steps, NUMBER)
    if found.type in SIZES:
        if reduce is not None:
            raise LayoutError(f"{text} is one number: it needs no reduce")
        return Path(steps, NUMBER)
    members = definition.types.get(found.type, ())
    single = all(item.length is None for item in members)
    if found.type in STAMPS and reduce is None and single and [item.type for item in members] in _TIMES:
        return Path(steps, STAMP)
    if found.type == "string":
        return _text(steps, text, reduce)
    if found.type == "wstring":
        raise LayoutError(f"{text} is a wide string, which is not read")
    alike = len({item.type for item in members}) == 1 and members[0].type in SIZES
    if reduce == "norm" and alike and single:
        return Path(steps, VECTOR)
    names = ", ".join(item.name for item in members[:8])
    hint = "" if reduce is None else "; of a message only the norm can be taken, and only of numbers of one type"
    raise LayoutError(f"{text} is {found.type}, not a number: name a field of it ({names}){hint}")


def _text(steps: tuple[Step, ...], text: str, reduce: str | None) -> Path:
    if reduce is not None:
        raise LayoutError(f"{text} is text: it has no {reduce}")
    return Path(steps, TEXT)


def field_paths(definition: Definition, name: str | None = None, above: str = "") -> Iterator[str]:
    """Every path to a field of ``definition``, lists as ``name[*]``, in byte order."""
    for item in definition.types[name or definition.root]:
        path = f"{above}{item.name}"
        yield path
        if item.type in definition.types:
            yield from field_paths(definition, item.type, f"{path}[*]." if item.length is not None else f"{path}.")


def _nearest(definition: Definition, owner: str, text: str, name: str) -> str:
    beside = difflib.get_close_matches(name, [item.name for item in definition.types[owner]], 1)
    if beside:
        return f"; did you mean {re.sub(rf'(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])', beside[0], text)!r}?"
    paths = [path for path, _ in zip(field_paths(definition), range(_SUGGESTIONS_FROM), strict=False)]
    leaf = text.rpartition(".")[2].partition("[")[0]
    near = [path for path in paths if path.rpartition(".")[2] == leaf][:3] or difflib.get_close_matches(text, paths, 3)
    if near:
        return f"; did you mean {' or '.join(repr(path) for path in near)}?"
    return f"; it has {', '.join(item.name for item in definition.types[definition.root][:12])}"
