"""How pages write things: moments, spans of time, sizes, digests, bytes. Units stand with every figure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

from edge_monitor.journal.records import Severity, WallStatus
from edge_monitor.utc import utc_text

SEVERITIES = {int(one): one.name.lower() for one in Severity}
WALL = {
    WallStatus.UNKNOWN: "clock not known to be right", WallStatus.UNSYNCHRONISED: "clock not synchronised",
    WallStatus.SYNCHRONISED: "clock synchronised",
}  # fmt: skip
NOT_RECORDED = "not recorded"
_LADDER = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class State(NamedTuple):
    """Something that is well, or not: ``kind`` is ok, warn, bad or none; the word says the same without colour."""

    kind: str
    word: str


def span(seconds: float) -> str:
    """A length of time with two units at most: ``2 d 3 h``, ``41.2 s``."""
    if seconds < 0:
        return f"-{span(-seconds)}"
    if seconds < 60:
        return f"{seconds:.3g} s"
    rest = int(seconds)
    parts: list[str] = []
    for size, unit in _LADDER:
        if rest >= size or parts:
            parts.append(f"{rest // size} {unit}")
            rest %= size
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if not part.startswith("0 "))


def ago(now_s: int, then_s: int) -> str:
    """How long ago, in words; ``never`` for what has not been."""
    if then_s <= 0:
        return "never"
    return f"{span(max(0, now_s - then_s))} ago"


def moment(seconds: int) -> str:
    """A moment in UTC, to the second; says where there is none."""
    if seconds <= 0:
        return NOT_RECORDED
    try:
        return utc_text(seconds * 10**9).replace("T", " ").replace("Z", " UTC")
    except ValueError:
        return "an impossible time"


def wall(ns: int) -> str:
    """A wall time of a robot."""
    return moment(ns // 10**9)


def exact(ns: int) -> str:
    """Nanoseconds as seconds, to the last digit."""
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    return f"{sign}{ns // 10**9}.{ns % 10**9:09}"


def size(count: int) -> str:
    """Bytes with a unit."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    raise AssertionError


def count(number: int, what: str, plural: str = "") -> str:
    """``1 record``, ``1 204 records``."""
    return f"{grouped(number)} {what if number == 1 else plural or what + 's'}"


def grouped(number: int) -> str:
    """A count with narrow spaces between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def rate(number: int, seconds: float) -> str:
    """Events an hour, with how many of what they are; says where there is nothing to divide by."""
    if seconds <= 0:
        return "not measured"
    return f"{number * 3600 / seconds:.3g} per h (n = {grouped(number)} in {span(seconds)})"


def short(digest: str) -> str:
    """The beginning of a digest; says where there is none."""
    return f"{digest[:12]}…" if len(digest) > 16 else digest or NOT_RECORDED


def log_text(log_id: bytes) -> str:
    """A log's id as its origin has it."""
    return str(uuid.UUID(bytes=bytes(log_id)))


def hex_rows(data: bytes, width: int = 16) -> list[tuple[str, str, str]]:
    """(offset, bytes, text) of each row, as hex editors show them."""
    rows = []
    for place in range(0, len(data), width):
        part = data[place : place + width]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in part)
        rows.append((f"{place:06x}", part.hex(" "), letters))
    return rows


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A payload's fields as (path, text), in order."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from flat(one, f"{name}.{key}" if name else str(key))
        if not value:
            yield name, "(empty)"
    elif isinstance(value, (list, tuple)) and any(isinstance(one, (dict, list)) for one in value):
        for place, one in enumerate(value):
            yield from flat(one, f"{name}[{place}]")
    else:
        yield name, plain(value)


def plain(value: Any) -> str:
    """One value of a payload as text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(one) for one in value) or "(empty)"
    return str(value) or "(empty)"
