"""Parsers of message definitions, by the name that a channel gives its format.

Sources: the ROS 2 interface definition (docs.ros.org, "About ROS 2 interfaces"), the ROS 1 ``msg`` specification
(wiki.ros.org/msg), and the ULog file format (docs.px4.io, "ULog File Format", format messages).
"""

from __future__ import annotations

import re

from ..messages import Channel
from .definitions import SEQUENCE, SIZES, Definition, Field, LayoutError, check, number, short_name
from .idl import parse_idl


def parse(channel: Channel) -> Definition:
    """The definition that a channel carries. Raises :class:`LayoutError` where it has none or an unusable one."""
    root = short_name(channel.type)
    if channel.schema in ("ros2msg", "ros1msg"):
        return check(_parse_msg(channel.definition, root, ros1=channel.schema == "ros1msg"))
    if channel.schema == "ros2idl":
        return check(parse_idl(channel.definition, root))
    if channel.schema == "ulog":
        return check(_parse_ulog(channel.definition))
    raise LayoutError(f"{channel.type} carries no message definition that can be read ({channel.schema})")


_BLOCK = re.compile(r"^={3,}[ \t]*$", re.MULTILINE)
_LINE = re.compile(r"([A-Za-z][\w/]*)(?:<=\d+)?(\[(?:<=)?\d{0,12}\])?\s+([A-Za-z_]\w*)\s*(.*)")
_ROS_PLAIN = frozenset(SIZES) | {"string", "wstring"}
_TIME = (Field("sec", "int32"), Field("nanosec", "uint32"))
_ROS2_BUILTIN = {"builtin_interfaces/Time": _TIME, "builtin_interfaces/Duration": _TIME}
_ROS1_BUILTIN = {
    "time": (Field("sec", "uint32"), Field("nanosec", "uint32")),
    "duration": (Field("sec", "int32"), Field("nanosec", "int32")),
}


def _parse_msg(text: str, root: str, *, ros1: bool) -> Definition:
    """A ``.msg`` text, its dependencies behind ``===`` lines with ``MSG: package/Name`` in front."""
    types: dict[str, tuple[Field, ...]] = dict(_ROS1_BUILTIN if ros1 else _ROS2_BUILTIN)
    texts: list[tuple[str, list[str]]] = []
    for position, block in enumerate(_BLOCK.split(text)):
        lines = block.strip().splitlines()
        name = root
        if lines and lines[0].startswith("MSG:"):
            name = short_name(lines.pop(0)[4:].strip())
        elif position:
            continue  # text behind a separator that names no type
        texts.append((name, lines))
    known = set(types) | {name for name, _ in texts}
    constants: dict[str, float] = {}
    for name, lines in texts:
        fields: list[Field] = []
        for line in lines:
            found = _parse_line(line.strip(), name, known, ros1)
            if isinstance(found, Field):
                fields.append(found)
            elif found is not None and name == root:
                constants[found[0]] = found[1]
        if not fields and not ros1:  # rosidl gives an empty message one byte
            fields.append(Field("structure_needs_at_least_one_member", "uint8"))
        types[name] = tuple(fields)
    return Definition(root, types, constants)


def _parse_line(line: str, owner: str, known: set[str], ros1: bool) -> Field | tuple[str, float] | None:
    """One line of a ``.msg``: a field, a number constant, or neither."""
    if not line or line[0] in "#@":
        return None
    if line == "---":
        raise LayoutError(f"{owner} is defined as a service or action, whose events are not described by it")
    match = _LINE.match(line)
    if not match:
        raise LayoutError(f"{owner}: cannot read the line {line[:60]!r} of its definition")
    kind, brackets, name, rest = match.groups()
    if rest.startswith("="):
        value = number(rest[1:].partition("#")[0].strip())
        return None if value is None or kind in ("string", "wstring") else (name, value)
    length = None
    if brackets:
        inner = brackets[1:-1]
        length = int(inner) if inner.isdigit() else SEQUENCE
    return Field(name, _ros_type(kind, owner, known, ros1), length)


def _ros_type(kind: str, owner: str, known: set[str], ros1: bool) -> str:
    if kind == "byte":
        return "int8" if ros1 else "uint8"  # ROS 1: an alias of int8; ROS 2: an octet
    if kind == "char":
        return "uint8"
    if kind in _ROS_PLAIN and not (ros1 and kind == "wstring"):
        return kind
    if kind in ("time", "duration"):
        return kind if ros1 else f"builtin_interfaces/{kind.capitalize()}"
    if "/" in kind:
        return short_name(kind)
    beside = f"{owner.partition('/')[0]}/{kind}"
    return "std_msgs/Header" if kind == "Header" and beside not in known else beside


_ULOG_TYPES = {f"{sign}int{bits}_t": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)} | {
    "float": "float32",
    "double": "float64",
    "bool": "bool",
    "char": "char",
}
_ULOG_FIELD = re.compile(r"\s*([A-Za-z_]\w*)(?:\[(\d{1,12})\])?\s+([A-Za-z_]\w*)\s*")


def _parse_ulog(text: str) -> Definition:
    types: dict[str, tuple[Field, ...]] = {}
    root = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        name, colon, body = line.partition(":")
        if not colon:
            raise LayoutError(f"cannot read the format {line[:60]!r}")
        root = root or name
        fields = []
        for part in filter(str.strip, body.split(";")):
            match = _ULOG_FIELD.fullmatch(part)
            if not match:
                raise LayoutError(f"{name}: cannot read the field {part[:60]!r} of its format")
            kind, length, label = match.groups()
            fields.append(Field(label, _ULOG_TYPES.get(kind, kind), int(length) if length else None))
        types[name] = tuple(fields)
    if not root:
        raise LayoutError("the format is empty")
    return Definition(root, types)
