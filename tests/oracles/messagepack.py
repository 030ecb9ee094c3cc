"""MessagePack by the letter of its specification, and what a field path means in it: plain and slow."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

from edge_monitor.core.samples import Cause

from .reducers import reduced

MAX_DEPTH = 32
INVALID, MISMATCH = Cause.INVALID, Cause.TYPE_MISMATCH


class MalformedError(Exception):
    """Not one whole message."""


@dataclass(frozen=True)
class Bin:
    """Bytes that are no text."""

    raw: bytes


@dataclass(frozen=True)
class Text:
    """A text as its bytes, which need not be UTF-8."""

    raw: bytes


@dataclass(frozen=True)
class Ext:
    """An extension."""

    code: int
    raw: bytes


@dataclass(frozen=True)
class Map:
    """Keys and values in their order; a key may stand twice."""

    pairs: list[tuple[Any, Any]]


FIXED = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i"}
FIXED[0xD3] = ">q"
SIZED = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xC7: ">B", 0xC8: ">H", 0xC9: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
SIZED.update({0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"})


class Reader:
    """Reads one value after the other."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size > len(self.raw) - self.at:
            raise MalformedError
        self.at += size
        return self.raw[self.at - size : self.at]

    def number(self, form: str) -> Any:
        """A number of ``struct``'s form."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self, depth: int = 0) -> Any:
        """The next value, ``depth`` containers deep."""
        tag = self.take(1)[0]
        if tag < 0x80:
            return tag
        if tag >= 0xE0:
            return tag - 256
        if tag in FIXED:
            return self.number(FIXED[tag])
        if tag in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[tag]
        if tag == 0xC1:
            raise MalformedError
        size = self.number(SIZED[tag]) if tag in SIZED else tag & (31 if 0xA0 <= tag < 0xC0 else 15)
        if 0xA0 <= tag < 0xC0 or 0xD9 <= tag <= 0xDB:
            return Text(self.take(size))
        if 0xC4 <= tag <= 0xC6:
            return Bin(self.take(size))
        if 0xC7 <= tag <= 0xC9 or 0xD4 <= tag <= 0xD8:
            code = self.number(">b")
            return Ext(code, self.take(size if tag <= 0xC9 else 1 << (tag - 0xD4)))
        if depth == MAX_DEPTH:
            raise MalformedError
        if 0x90 <= tag < 0xA0 or tag in (0xDC, 0xDD):
            if size > len(self.raw) - self.at:
                raise MalformedError
            return [self.value(depth + 1) for _ in range(size)]
        if 2 * size > len(self.raw) - self.at:
            raise MalformedError
        pairs = []
        for _ in range(size):
            key = self.value(depth + 1)
            if isinstance(key, list | Map):
                raise MalformedError
            pairs.append((key, self.value(depth + 1)))
        return Map(pairs)


def decode(raw: bytes) -> Any:
    """The one value that ``raw`` is. Raises :class:`MalformedError`."""
    reader = Reader(raw)
    found = reader.value()
    if reader.at != len(raw):
        raise MalformedError
    return found


ABSENT = object()


def step(value: Any, name: str | int) -> Any:
    """What lies at a key or index. Raises :class:`MalformedError` where the key stands twice."""
    if isinstance(name, int):
        return value[name] if isinstance(value, list) and name < len(value) else ABSENT
    if not isinstance(value, Map):
        return ABSENT
    found = [inner for key, inner in value.pairs if key == Text(name.encode())]
    if len(found) > 1:
        raise MalformedError
    return found[0] if found else ABSENT


def is_number(value: Any) -> bool:
    """Numbers, truth values, and nil, which is a number that is not known."""
    return value is None or isinstance(value, bool | int | float)


def number(value: Any) -> float:
    """The number that a value is."""
    return math.nan if value is None else float(value)


def seconds(value: Any, t: int) -> float | None:
    """The latency that a stamp means, or None."""
    ns = None
    if isinstance(value, bool) or value is None or value is ABSENT:
        return None
    if isinstance(value, int):
        ns = value if value < 2**63 else None
    elif isinstance(value, float):
        ns = int(value * 1e9) if 0 < value < 9e9 else None
        return None if ns is None else (t - ns) / 1e9
    elif isinstance(value, Ext) and value.code == -1:
        ns = timestamp(value.raw)
    elif isinstance(value, list) and len(value) == 2:
        ns = pair(value[0], value[1])
    elif isinstance(value, Map) and len(value.pairs) == 2:
        named: dict[str, Any] = {"s": None, "n": None}
        for key, inner in value.pairs:
            name = key.raw if isinstance(key, Text) else b""
            if name in (b"sec", b"secs"):
                named["s"] = inner
            elif name in (b"nsec", b"nsecs", b"nanosec", b"nanosecs"):
                named["n"] = inner
        ns = pair(named["s"], named["n"])
    return (t - ns) / 1e9 if ns is not None and ns > 0 else None


def timestamp(raw: bytes) -> int | None:
    """Nanoseconds of the timestamp extension."""
    if len(raw) == 4:
        return pair(struct.unpack(">I", raw)[0], 0)
    if len(raw) == 8:
        word = struct.unpack(">Q", raw)[0]
        return pair(word & (1 << 34) - 1, word >> 34)
    if len(raw) == 12:
        nanoseconds, whole = struct.unpack(">Iq", raw)
        return pair(whole, nanoseconds)
    return None


def pair(whole: Any, nanoseconds: Any) -> int | None:
    """Nanoseconds out of seconds and nanoseconds."""
    for part in (whole, nanoseconds):
        if isinstance(part, bool) or not isinstance(part, int):
            return None
    if not 0 <= whole < 9_000_000_000 or not 0 <= nanoseconds < 10**9:
        return None
    return int(whole * 10**9 + nanoseconds)


def read(raw: bytes, path: list[str | int], reduce: str | None, t: int) -> tuple[Any, Cause]:
    """What a path means in a message: a number or a text's bytes, and a cause. ``path``: keys, indices, ``*`` once.

    Raises :class:`MalformedError` where the message as a whole cannot be read.
    """
    return lookup(decode(raw), path, reduce, t)


def lookup(value: Any, path: list[str | int], reduce: str | None, t: int) -> tuple[Any, Cause]:
    """``read`` in a decoded message."""
    for place, name in enumerate(path):
        if name == "*":
            rest = path[place + 1 :]
            if not isinstance(value, list):
                return math.nan, INVALID
            found = []
            for element in value:
                for inner in rest:
                    element = step(element, inner)
                found.append(element)
            if reduce is None or not all(is_number(item) for item in found):
                return math.nan, INVALID
            return reduced([number(item) for item in found], reduce), Cause.NONE
        value = step(value, name)
    if reduce is not None:
        return gathered(value, reduce)
    if path[-1] == "stamp":
        latency = seconds(value, t)
        return (math.nan, INVALID) if latency is None else (latency, Cause.NONE)
    if isinstance(value, Text):
        return value.raw, Cause.NONE
    return (number(value), Cause.NONE) if is_number(value) else (math.nan, INVALID)


def gathered(value: Any, reduce: str) -> tuple[Any, Cause]:
    """A list or vector, reduced."""
    if isinstance(value, list):
        if reduce == "count":
            return float(len(value)), Cause.NONE
        if all(is_number(item) for item in value):
            return reduced([number(item) for item in value], reduce), Cause.NONE
    if isinstance(value, Map) and reduce == "norm":
        keys = [key for key, _ in value.pairs]
        plain = all(isinstance(key, Text) for key in keys) and all(is_number(inner) for _, inner in value.pairs)
        if plain and len({key.raw for key in keys}) == len(keys) <= 16:
            return reduced([number(inner) for _, inner in value.pairs], reduce), Cause.NONE
    return math.nan, INVALID
