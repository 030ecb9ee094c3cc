"""MAVLink messages as pymavlink packs them, with random values."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from pymavlink.dialects.v20 import all as pymavlink

INTEGERS = {f"{sign}int{bits}_t": (bits, sign == "") for sign in ("", "u") for bits in (8, 16, 32, 64)}


class Packer:
    """One component that sends: its sequence numbers count up by themselves."""

    def __init__(self, system: int = 1, component: int = 1, key: bytes = b"") -> None:
        self.sent: list[bytes] = []
        self.mav = pymavlink.MAVLink(self, system, component)
        if key:
            self.mav.signing.secret_key = key
            self.mav.signing.sign_outgoing = True

    def write(self, frame: bytes) -> None:
        """Take what pymavlink has packed."""
        self.sent.append(bytes(frame))

    def pack(self, kind: str, /, *, first_version: bool = False, **values: Any) -> bytes:
        """The frame of a message; fields that are not given are 0."""
        self.mav.send(message(kind, **values), force_mavlink1=first_version)
        return self.sent.pop()


def message(wanted: str, /, **values: Any) -> Any:
    """A message; fields that are not given are 0."""
    kind = next(kind for kind in pymavlink.mavlink_map.values() if kind.msgname == wanted)
    given = []
    for field, type_ in zip(kind.fieldnames, kind.fieldtypes, strict=True):
        length = kind.array_lengths[kind.ordered_fieldnames.index(field)]
        nothing: Any = bytes(not length) if type_ == "char" else [0] * length if length else 0
        value = values.get(field, nothing)
        given.append(value.encode() if isinstance(value, str) else value)
    return kind(*given)


def random_values(kind: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Random values for the fields of a message; those at the end of its bytes are often 0."""
    values = {}
    silent = rng.integers(0, len(kind.ordered_fieldnames) + 1)
    for place, field in enumerate(kind.ordered_fieldnames):
        type_ = kind.fieldtypes[kind.fieldnames.index(field)]
        length = kind.array_lengths[place]
        if place >= silent and rng.integers(0, 2):
            continue
        if type_ == "char":
            letters = rng.integers(97, 123, rng.integers(0, length + 1) if length else 1)
            values[field] = bytes(letters.astype(np.uint8))
        elif length:
            values[field] = [_scalar(type_, rng) for _ in range(length)]
        else:
            values[field] = _scalar(type_, rng)
    return values


def _scalar(type_: str, rng: np.random.Generator) -> float:
    if type_ in INTEGERS:
        bits, signed = INTEGERS[type_]
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        return int(rng.integers(low, high, endpoint=True, dtype=np.int64 if signed else np.uint64))
    value = float(rng.choice([0.0, -1.5, math.inf, math.nan, rng.normal(scale=1e3)]))
    return struct.unpack("<f", struct.pack("<f", value))[0] if type_ == "float" else value
