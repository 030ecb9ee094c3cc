"""STATUSTEXT: texts that come in pieces (https://mavlink.io/en/messages/common.html#STATUSTEXT), put together."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

PIECE = 50
LONGEST = 254
WAIT_NS = 1_000_000_000  #: for the rest of a text
MOST = 16  #: texts that are open at a time
MISSING = b"[...]"  #: stands for pieces that were lost
_WIRE = struct.Struct("<B50sHB")
PIECE_SIZE = _WIRE.size
_WHOLE = struct.Struct("<B254s")


@dataclass(slots=True)
class _Open:
    severity: int
    since: int
    pieces: dict[int, bytes] = field(default_factory=dict)
    last: int = -1  #: number of the last piece, once it is here


class Texts:
    """Puts pieces together, by sender."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int, int], _Open] = {}

    def take(self, t: int, system: int, component: int, payload: bytes) -> bytes | None:
        """The whole text that ends with this piece, as ``dialect.STATUSTEXT`` lays it out; None while more must come."""
        severity, text, number, place = _WIRE.unpack(payload)
        piece, nul, _ = text.partition(b"\0")
        if number == 0:
            return _WHOLE.pack(severity, piece)
        key = (system, component, number)
        found = self._open.get(key)
        if found is None:
            if len(self._open) >= MOST:
                del self._open[min(self._open, key=lambda each: self._open[each].since)]
            found = self._open[key] = _Open(severity, t)
        found.pieces[place] = piece
        if nul or (place + 1) * PIECE >= LONGEST:
            found.last = place
        if found.last < 0 or len(found.pieces) <= found.last:
            return None
        del self._open[key]
        return _joined(found)

    def late(self, now: int) -> list[tuple[int, int, bytes]]:
        """Texts whose rest has not come in time: system, component, and what there is."""
        keys = [key for key, found in self._open.items() if not 0 <= now - found.since < WAIT_NS]
        return [(key[0], key[1], _joined(self._open.pop(key))) for key in keys]


def _joined(found: _Open) -> bytes:
    count = max(found.last, *found.pieces) + 1
    text = b"".join(found.pieces.get(place, MISSING) for place in range(min(count, 1 + LONGEST // PIECE)))
    if found.last < 0:
        text += MISSING
    return _WHOLE.pack(found.severity, text[:LONGEST])
