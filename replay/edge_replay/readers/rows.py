"""Rows of named values (CSV, JSONL) as serialized messages, so that they take the same way as every other recording.

A topic gets a made-up definition of ``float64``, ``string`` and ``float64[]`` fields; each row becomes a CDR message of it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation

import numpy as np

from edge_monitor.core.messages import Batch
from edge_monitor.core.samples import MESSAGE

from .recording import in_time_order

NUMBER, TEXT, NUMBERS = "float64", "string", "float64[]"
CDR = b"\x00\x01\x00\x00"
UNITS = {"s": 9, "ms": 6, "us": 3, "ns": 0}
TIME_NAMES = ("t", "time", "timestamp", "stamp")
FARTHEST = 2**62  #: ns

Value = float | str | list[float]


def time_unit(name: str) -> str | None:
    """The unit of a column of times by its name: ``t_ns`` is ns, ``time_s`` is s; "" where it is to be seen from the
    first value (``t``, ``time``, ``timestamp``, ``stamp``); None where the column is none."""
    base, _, unit = name.strip().lower().rpartition("_")
    if base in TIME_NAMES and unit in UNITS:
        return unit
    return "" if unit in TIME_NAMES and not base else None


def guess_unit(value: str | float) -> str:
    """The unit of a time without one: seconds, or what makes an epoch of a plausible year of it."""
    try:
        size = abs(float(value))
    except ValueError:
        return "s"
    return "ns" if size >= 1e17 else "us" if size >= 1e14 else "ms" if size >= 1e11 else "s"


def nanoseconds(value: str | float, unit: str) -> int:
    """A time as ns, exactly; ISO 8601 texts, too (without a zone: UTC). Raises ValueError."""
    try:
        exact = Decimal(value if isinstance(value, str) else repr(value)).scaleb(UNITS[unit])
        t = int(exact.to_integral_value())
    except (InvalidOperation, OverflowError):
        moment = datetime.fromisoformat(str(value).strip().replace("Z", "+00:00"))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
        t = (since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
    if abs(t) > FARTHEST:
        raise ValueError("a time out of range")
    return t


def field_names(columns: Iterable[str]) -> list[str]:
    """Names of columns as names of fields: what a definition can't hold becomes ``_``, repeated ones get a number."""
    names: list[str] = []
    for column in columns:
        name = re.sub(r"\W+", "_", column.strip(), flags=re.ASCII).strip("_") or "column"
        name = f"c_{name}" if name[0].isdigit() else name
        taken = names.count(name) + sum(
            other.startswith(f"{name}_") and other[len(name) + 1 :].isdigit() for other in names
        )
        names.append(f"{name}_{taken + 1}" if name in names else name)
    return names


def definition(names: Sequence[str], kinds: Sequence[str]) -> str:
    """The message definition of a row."""
    return "".join(f"{kind} {name}\n" for name, kind in zip(names, kinds, strict=True))


class RowBatch:
    """Collects rows and makes one :class:`Batch` of them."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._rows: list[tuple[int, int, int, int]] = []

    def __len__(self) -> int:
        return len(self._data)

    def add(self, t: int, channel: int, values: Sequence[Value]) -> None:
        """A row, its values in the order of the definition."""
        start = len(self._data)
        data = self._data
        data += CDR
        origin = start + len(CDR)
        for value in values:
            if isinstance(value, float):
                data += bytes(-(len(data) - origin) % 8) + struct.pack("<d", value)
                continue
            data += bytes(-(len(data) - origin) % 4)
            if isinstance(value, str):
                raw = value.encode("utf-8", "surrogateescape")
                data += struct.pack("<I", len(raw) + 1) + raw + b"\0"
            else:
                data += struct.pack("<I", len(value))
                if value:
                    data += bytes(-(len(data) - origin) % 8) + struct.pack(f"<{len(value)}d", *value)
        self._rows.append((t, start, len(data) - start, channel))

    def take(self) -> Iterable[Batch]:
        """The batch, in order of time; nothing where there are no rows. Starts anew."""
        if not self._rows:
            return
        rows, data = np.array(self._rows, MESSAGE), np.frombuffer(bytes(self._data), np.uint8)
        self._rows, self._data = [], bytearray()
        yield Batch(data, in_time_order(rows))
