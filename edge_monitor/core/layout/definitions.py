"""What a message is made of: one model for all definition formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..samples import Cause

SEQUENCE = -1  #: ``Field.length`` of a list that carries its own length
MAX_DEPTH = 32  #: types nested deeper than this are refused
MAX_LENGTH = 1 << 30  #: fixed arrays longer than this are refused

#: Sizes of the plain types in bytes. ``char`` is ULog's (ROS' is uint8): an array of it is text.
SIZES = {
    "bool": 1,
    "char": 1,
    "uint8": 1,
    "int8": 1,
    "uint16": 2,
    "int16": 2,
    "uint32": 4,
    "int32": 4,
    "uint64": 8,
    "int64": 8,
    "float32": 4,
    "float64": 8,
}
STAMPS = ("builtin_interfaces/Time", "time")  #: types that count as a time stamp: whole seconds and nanoseconds


class LayoutError(Exception):
    """A definition or a field path that cannot be used; it becomes a problem of the signals that need it."""

    def __init__(self, message: str, cause: Cause = Cause.INVALID) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message. ``type``: a key of ``SIZES``, ``string``, ``wstring``, or a key of ``Definition.types``.

    ``length``: None for a single value, n for a fixed array, :data:`SEQUENCE` for a list with its length in front.
    """

    name: str
    type: str
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """A message type with everything it is made of. ``types`` maps ``package/Name`` to its fields, in byte order."""

    root: str
    types: Mapping[str, tuple[Field, ...]]
    constants: Mapping[str, float] = field(default_factory=dict)  #: the root's own number constants (enumerations)


def short_name(name: str) -> str:
    """``nav_msgs/msg/Odometry`` and ``nav_msgs/Odometry`` are one type: package and name only."""
    parts = name.replace("::", "/").split("/")
    return f"{parts[0]}/{parts[-1]}" if len(parts) > 1 else name


def number(text: str) -> float | None:
    """A constant's value; None where it is not a number."""
    try:
        return float(int({"true": "1", "false": "0"}.get(text.lower(), text), 0))
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return None


def check(definition: Definition) -> Definition:
    """Every type is known, none contains itself, none is nested too deep, no array is of absurd length.

    What walks a definition relies on that. Raises :class:`LayoutError`.
    """
    root, types = definition.root, definition.types
    heights: dict[str, int] = {}

    def visit(name: str, above: tuple[str, ...]) -> int:
        if name in above or len(above) > MAX_DEPTH:
            raise LayoutError(f"{root}: its definition contains itself or is nested deeper than {MAX_DEPTH} ({name})")
        if name not in heights:
            heights[name] = 0
            for item in types[name]:
                if item.length is not None and item.length != SEQUENCE and not 1 <= item.length <= MAX_LENGTH:
                    raise LayoutError(f"{root}: the array {item.name} of {name} is of absurd length {item.length}")
                if item.type in SIZES or item.type in ("string", "wstring"):
                    continue
                if item.type not in types:
                    raise LayoutError(f"{root}: its definition lacks the type {item.type}, which {name} uses")
                heights[name] = max(heights[name], 1 + visit(item.type, (*above, name)))
        if len(above) + heights[name] > MAX_DEPTH:
            raise LayoutError(f"{root}: its definition is nested deeper than {MAX_DEPTH} ({name})")
        return heights[name]

    visit(root, ())
    return definition
