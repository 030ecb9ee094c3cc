"""Raw arrays of floats: a message is nothing but numbers, little endian, after an optional stamp.

Paths: ``[3]``, ``[*]`` with ``reduce``, and where the channel's schema is ``stamp`` (each message begins with an int64 of
nanoseconds, 0: none) ``header.stamp``, the latency.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .definitions import LayoutError
from .fields import ALL, ARRAY, LENGTH, NUMBER, STAMP, Path, Step
from .load import FLOAT32, FLOAT64
from .ops import Op
from .program import Row, Want, reduce_rows
from .reduce import REDUCERS

_ELEMENT = re.compile(r"\[(\d{1,9}|\*)\]")


@dataclass(frozen=True, slots=True)
class FloatArray:
    """An array of ``width`` bytes an element (4 or 8); ``stamped``: an int64 stands in front."""

    width: int
    stamped: bool


#: Channel encodings that are such arrays, and the bytes of an element.
WIDTHS = {"f32le": 4, "f64le": 8}


def resolve_element(array: FloatArray, text: str, reduce: str | None) -> Path:
    """Check a path into an array. Raises :class:`LayoutError`."""
    if reduce is not None and reduce not in REDUCERS:
        raise LayoutError(f"no reducer is named {reduce!r}: use one of {' '.join(REDUCERS)}")
    if text == "header.stamp" and array.stamped and reduce is None:
        return Path((Step("stamp"),), STAMP)
    match = _ELEMENT.fullmatch(text)
    if not match:
        stamp = ", or header.stamp" if array.stamped else ""
        raise LayoutError(f"{text!r}: the message is an array of numbers: name an element, [0], or all, [*]{stamp}")
    if (match[1] == "*") != (reduce is not None):
        raise LayoutError(f"{text}: [*] needs reduce, one of {' '.join(REDUCERS)}, and a single element needs none")
    if reduce is None:
        return Path((Step("", int(match[1])),), NUMBER)
    return Path((Step("", ALL),), LENGTH if reduce == "count" else ARRAY)


def compile_array(array: FloatArray, wants: Sequence[Want]) -> list[Row]:
    """The instructions that fill ``wants`` out of one message, without the final ``END``."""
    prim = FLOAT32 if array.width == 4 else FLOAT64
    rows = [Row(Op.ABSENT, fill=fill) for want in wants for fill in want.fills]
    rows.append(Row(Op.RUN, a=8 if array.stamped else 0))
    rows += [Row(Op.STAMP_NS, fill=fill) for want in wants if want.path.leaf == STAMP for fill in want.fills]
    rows.append(Row(Op.REST, a=array.width))
    for want in wants:
        if want.path.leaf == LENGTH:
            rows += [Row(Op.COUNT, prim=-1, fill=fill) for fill in want.fills]
        elif want.path.leaf == ARRAY:
            rows += [Row(Op.CLEAR), Row(Op.GATHER, prim=prim), *reduce_rows(want.fills)]
        elif want.path.leaf == NUMBER:
            index = want.path.steps[0].index or 0
            rows.append(Row(Op.INDEX, a=index, b=len(want.fills)))
            rows += [Row(Op.READ, prim=prim, fill=fill) for fill in want.fills]
    return rows
