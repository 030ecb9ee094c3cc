"""MAVLink frames out of bytes: one kernel that finds, checks and unfolds them; no object is made for a message.

Both versions of the format are read (https://mavlink.io/en/guide/serialization.html). A frame counts when its CRC holds,
which covers the definition of its message as well (CRC_EXTRA). What is no frame is passed over byte by byte, so that the next
whole one is found. A payload is copied with the zeros that MAVLink 2 cuts off its end, as the layout wants it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_monitor.core.jit import inlined, kernel
from edge_monitor.core.samples import MESSAGE

V1, V2 = 0xFE, 0xFD
SIGNED = 1  #: the only incompatibility flag that is understood
SIGNATURE = 13  #: bytes behind a signed frame
LARGEST = 12 + 255 + SIGNATURE  #: bytes of a frame
PAYLOAD = 255  #: bytes of a payload

#: What a message is: seed of its CRC, full payload with extensions, where its instance is told (-1: nowhere) and in how many
#: bytes, whether rows are wanted from every sender, and its first route (-1: none).
KIND = np.dtype(
    [("size", "<i4"), ("instance", "<i4"), ("route", "<i4"), ("width", "<i2"), ("crc_extra", "u1"), ("attend", "u1")]
)
#: Whose messages of a kind go to a channel (below 0: nowhere); ``low``, ``high``: the bytes of the instance; ``next``: another
#: route of the kind, or -1; ``count``: messages that took it.
ROUTE = np.dtype(
    [
        ("low", "<i8"), ("high", "<i8"), ("count", "<i8"), ("channel", "<i4"), ("next", "<i4"), ("system", "<i4"),
        ("component", "<i4"),
    ]
)  # fmt: skip
#: Bytes that came together at ``t``, ns; ``frames``: how many were found in them.
SEGMENT = np.dtype([("t", "<i8"), ("start", "<i8"), ("end", "<i8"), ("frames", "<i8")])
#: Where a row's message came from: its frame in the bytes, its kind, and who sent it.
FRAME = np.dtype(
    [
        ("start", "<i8"), ("low", "<i8"), ("high", "<i8"), ("size", "<i4"), ("kind", "<i4"), ("system", "u1"),
        ("component", "u1"), ("signed", "u1"), ("attend", "u1"), ("payload", "<i4"),
    ]
)  # fmt: skip
#: A sender, by ``system << 8 | component``: its last sequence number (-1: none), frames, and how many of them were lost.
SENDER = np.dtype([("last", "<i4"), ("frames", "<i4"), ("lost", "<i8")])

DONE, FULL, STRANGER = 0, 1, 2
_SEGMENT, _AT, _ROWS, _USED, _CREDIT, _FIRST, _LAST = range(7)
FOUND, UNKNOWN, REFUSED, DAMAGED, GARBAGE, LOST = range(6)
_V1, _V2, _SIGNED, _SIGNATURE, _MOST = V1, V2, SIGNED, SIGNATURE, 1 << 16


@inlined
def note(place, counts, at, size):  # type: ignore[no-untyped-def]
    """Bytes at ``at`` are no frame."""
    counts[GARBAGE] += size
    if place[_FIRST] < 0:
        place[_FIRST] = at
    place[_LAST] = at + size


@kernel
def parse(data, segments, place, options, index, kinds, routes, senders, rows, frames, out, counts):  # type: ignore[no-untyped-def]
    """Walk segments of ``data`` from ``place`` on. Answers ``DONE``; ``FULL``: no room for the next row; ``STRANGER``: there
    is no route for the next frame, and all are wanted. ``frames[row]`` then says whose it is. Called again, it goes on there.

    ``options``: bytes before each frame (8: its time in µs, big endian); whether frames must be signed; whether every message
    is wanted; whether a segment may end within a frame; and how many bytes of CRC may be computed for one of data, so that
    no noise costs more than that.
    """
    gap, must_sign, every, stream, most = options[0], options[1], options[2], options[3], options[4]
    while place[_SEGMENT] < len(segments):
        segment = segments[place[_SEGMENT]]
        end = segment["end"]
        if place[_AT] < segment["start"]:
            place[_AT] = segment["start"]
            place[_CREDIT] = most * (end - segment["start"]) + 300
        at = place[_AT]
        while at < end:
            mark = at + gap
            if mark >= end:
                if stream != 0:
                    break
                note(place, counts, at, end - at)
                at = end
                break
            magic = np.int64(data[mark])
            if magic != _V2 and magic != _V1:
                note(place, counts, at, 1)
                at += 1
                continue
            header = np.int64(10) if magic == _V2 else np.int64(6)
            whole = mark + header + 2 <= end
            length, flags, after = np.int64(0), np.int64(0), end + 1
            if whole:
                length = np.int64(data[mark + 1])
                flags = np.int64(data[mark + 2]) if magic == _V2 else np.int64(0)
                after = mark + header + 2 + length + (_SIGNATURE if flags & _SIGNED else 0)
            if after > end:
                if stream != 0:
                    break
                note(place, counts, at, 1)
                at += 1
                continue
            if magic == _V2:
                sequence, system, component = data[mark + 4], np.int64(data[mark + 5]), np.int64(data[mark + 6])
                number = np.int64(data[mark + 7]) | np.int64(data[mark + 8]) << 8 | np.int64(data[mark + 9]) << 16
            else:
                sequence, system, component = data[mark + 2], np.int64(data[mark + 3]), np.int64(data[mark + 4])
                number = np.int64(data[mark + 5])
            kind = np.int64(index[number]) if number < _MOST else np.int64(-1)
            body = mark + header
            # What asks to be understood and is not, and a frame of the first version that is longer than its message
            if flags & ~_SIGNED != 0 or (magic == _V1 and kind >= 0 and length > kinds[kind]["size"]):
                note(place, counts, at, 1)
                at += 1
                continue
            if kind < 0:
                # No CRC can be computed without the definition: it is a frame if another one, or the end, follows.
                follows = after + gap
                if follows >= end and stream != 0:
                    break
                if follows < end and data[follows] != _V2 and data[follows] != _V1:
                    note(place, counts, at, 1)
                    at += 1
                    continue
            else:
                place[_CREDIT] -= length + header
                if place[_CREDIT] < 0:
                    note(place, counts, at, end - at)
                    at = end
                    break
                crc = np.int64(0xFFFF)
                for i in range(mark + 1, body + length + 1):
                    byte = np.int64(data[i]) if i < body + length else np.int64(kinds[kind]["crc_extra"])
                    low = (byte ^ crc) & 0xFF
                    low = (low ^ (low << 4)) & 0xFF
                    crc = (crc >> 8) ^ (low << 8) ^ (low << 3) ^ (low >> 4)
                if crc != np.int64(data[body + length]) | np.int64(data[body + length + 1]) << 8:
                    note(place, counts, at, 1)
                    counts[DAMAGED] += 1
                    at += 1
                    continue
            stamp = np.int64(0)
            for i in range(gap):
                stamp = stamp << 8 | np.int64(data[at + i])
            if stamp < 0 or stamp >> 52 != 0:  # µs: later than the year 2100
                note(place, counts, at, 1)
                counts[DAMAGED] += 1
                at += 1
                continue
            signed = flags & _SIGNED
            refused = must_sign != 0 and signed == 0
            low, high, channel, attend = np.int64(0), np.int64(0), np.int64(-1), np.int64(0)
            if kind >= 0 and not refused:
                what = kinds[kind]
                attend = np.int64(what["attend"])
                if what["instance"] >= 0:
                    for i in range(what["width"]):
                        spot = what["instance"] + i
                        byte = np.int64(data[body + spot]) if spot < length else np.int64(0)
                        if byte == 0 and what["width"] > 2:
                            break  # a name ends at its first NUL
                        if i < 8:
                            low |= byte << (8 * i)
                        else:
                            high |= byte << (8 * (i - 8))
                route = np.int64(what["route"])
                while route >= 0:
                    entry = routes[route]
                    if (
                        entry["system"] == system
                        and entry["component"] == component
                        and entry["low"] == low
                        and entry["high"] == high
                    ):
                        channel = np.int64(entry["channel"])
                        entry["count"] += 1
                        break
                    route = np.int64(entry["next"])
                wanted = channel >= 0 or attend != 0 or (every != 0 and route < 0)
                if wanted:
                    n, used, size = place[_ROWS], place[_USED], np.int64(what["size"])
                    if n == len(rows) or used + size > len(out):
                        place[_AT] = at
                        return FULL
                    frame = frames[n]
                    frame["start"], frame["size"], frame["payload"] = mark, after - mark, length
                    frame["kind"], frame["system"], frame["component"] = kind, system, component
                    frame["low"], frame["high"], frame["signed"], frame["attend"] = low, high, signed, attend
                    if every != 0 and route < 0:
                        place[_AT] = at
                        return STRANGER
                    for i in range(size):
                        out[used + i] = data[body + i] if i < length else np.uint8(0)
                    row = rows[n]
                    row["t"] = stamp * 1000 if gap != 0 else segment["t"]
                    row["start"], row["size"], row["channel"] = used, size, channel
                    place[_ROWS], place[_USED] = n + 1, used + size
            at = after
            if refused:
                counts[REFUSED] += 1
                continue
            if kind >= 0:
                segment["frames"] += 1
            counts[FOUND if kind >= 0 else UNKNOWN] += 1
            sender = senders[system << 8 | component]
            if sender["last"] >= 0:
                lost = (np.int64(sequence) - sender["last"] - 1) & 0xFF
                if lost < 128:  # more is a sender that started anew, or disorder
                    sender["lost"] += lost
                    counts[LOST] += lost
            sender["last"] = sequence
            sender["frames"] += 1
        place[_AT] = at
        if stream != 0 and place[_SEGMENT] == len(segments) - 1:
            return DONE
        place[_SEGMENT] += 1
        place[_AT] = -1
    return DONE


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in a piece of data, until the next one: ``rows`` point into ``payloads``, ``frames`` into the data.

    A row's channel is below 0 where only its sender's frame is of interest (``attend``).
    """

    payloads: np.ndarray
    rows: np.ndarray
    frames: np.ndarray


class Framer:
    """Finds frames for the routes that it is given. ``counts``: (6,) FOUND, UNKNOWN, REFUSED, DAMAGED, GARBAGE (bytes), LOST."""

    def __init__(
        self,
        kinds: np.ndarray,
        numbers: np.ndarray,
        capacity: int,
        *,
        gap: int = 0,
        must_sign: bool = False,
        every: bool = False,
        stream: bool = False,
        effort: int = 4,
    ) -> None:
        """``kinds``: KIND rows; ``numbers``: (65536,) i2, the kind of each message number, or -1; ``capacity``: rows at a
        time; the others: ``options`` of :func:`parse`.
        """
        self._kinds, self._index = kinds.copy(), numbers
        self._options = np.array([gap, must_sign, every, stream, effort], np.int64)
        self.routes = np.zeros(0, ROUTE)
        self.senders = np.zeros(1 << 16, SENDER)
        self.senders["last"] = -1
        self.counts = np.zeros(6, np.int64)
        self._rows = np.zeros(capacity, MESSAGE)
        self._frames = np.zeros(capacity, FRAME)
        self._out = np.zeros(capacity * PAYLOAD, np.uint8)
        self._place = np.zeros(7, np.int64)
        self.begin()

    def route(self, kind: int, system: int, component: int, channel: int, instance: bytes | int = 0) -> None:
        """Send a sender's messages of a kind to a channel; one below 0 only counts them. ``instance``: number or name."""
        low, high = instance_key(instance)
        entry = (low, high, 0, channel, int(self._kinds["route"][kind]), system, component)
        self._kinds["route"][kind] = len(self.routes)
        self.routes = np.concatenate([self.routes, np.array([entry], ROUTE)])

    def channel(self, kind: int, system: int, component: int) -> int:
        """Where a sender's messages of a kind without instances go."""
        at = int(self._kinds["route"][kind])
        while (self.routes["system"][at], self.routes["component"][at]) != (system, component):
            at = int(self.routes["next"][at])
        return int(self.routes["channel"][at])

    def attend(self, kind: int) -> None:
        """Give rows of a kind from every sender."""
        self._kinds["attend"][kind] = 1

    def last(self) -> None:
        """What comes next is the end of the stream: a frame that it cuts will not be whole any more."""
        self._options[3] = 0

    def begin(self) -> None:
        """Look at new data from its start."""
        self._place[:] = 0
        self._place[[_AT, _FIRST]] = -1

    def parse(self, data: np.ndarray, segments: np.ndarray) -> tuple[int, Found]:
        """Walk the segments on from where the last call for this data stood: ``DONE``, ``FULL`` or ``STRANGER``, and what was
        found. For ``STRANGER``, one frame more than rows: the one that needs a route.
        """
        self._place[_ROWS] = self._place[_USED] = 0
        status = int(
            parse(
                data, segments, self._place, self._options, self._index, self._kinds, self.routes, self.senders,
                self._rows, self._frames, self._out, self.counts,
            )
        )  # fmt: skip
        rows, used = int(self._place[_ROWS]), int(self._place[_USED])
        return status, Found(self._out[:used], self._rows[:rows], self._frames[: rows + (status == STRANGER)])

    @property
    def garbage(self) -> tuple[int, int] | None:
        """From the first to behind the last byte of the data that was no frame; None where there was none."""
        first, last = self._place[[_FIRST, _LAST]].tolist()
        return (first, last) if first >= 0 else None

    @property
    def position(self) -> int:
        """Up to where the data was taken; with ``stream``, what follows is the start of a frame."""
        return int(self._place[_AT])


def instance_key(instance: bytes | int) -> tuple[int, int]:
    """The ``low`` and ``high`` of an instance: a number, or a name of at most 16 bytes."""
    raw = instance.to_bytes(16, "little") if isinstance(instance, int) else instance.ljust(16, b"\0")
    return int.from_bytes(raw[:8], "little", signed=True), int.from_bytes(raw[8:16], "little", signed=True)


def instance_name(low: int, high: int) -> bytes:
    """The name whose key this is."""
    return (low.to_bytes(8, "little", signed=True) + high.to_bytes(8, "little", signed=True)).rstrip(b"\0")


def warm() -> None:
    """Compile the kernel, or load it from the cache."""
    Framer(np.zeros(1, KIND), np.full(1 << 16, -1, np.int16), 1).parse(np.zeros(0, np.uint8), np.zeros(0, SEGMENT))
