"""What a chunk's own index says of its messages, held against what was read from the chunk.

MCAP and ROS 1 bags both write, behind each chunk, time and position of each of its messages. Most chunks have no
checksum; this is what tells a changed time, channel or length there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: An index entry: position of the record in the chunk, time, and code of the channel (ChannelTable.code).
NAMED = np.dtype([("offset", "<i8"), ("t", "<i8"), ("code", "<i4")])

#: What stands at a position of the chunk: (time, code of its channel, time of publication or -1); -1s where no message is.
RecordAt = Callable[[int], tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class ChunkIndex:
    """The entries of one chunk, in order of position."""

    entries: np.ndarray  #: (n,) NAMED

    @classmethod
    def of(cls, parts: list[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]]) -> ChunkIndex:
        """From (code, times, positions) of each channel."""
        entries = np.empty(sum(len(times) for _, times, _ in parts), NAMED)
        at = 0
        for code, times, offsets in parts:
            entries["code"][at : at + len(times)] = code
            entries["t"][at : at + len(times)] = times
            entries["offset"][at : at + len(times)] = offsets
            at += len(times)
        return cls(entries[np.argsort(entries["offset"], kind="stable")])

    def next_offset(self, at: int) -> int | None:
        """Position of the next message that the index knows of behind ``at``."""
        behind = int(np.searchsorted(self.entries["offset"], at, side="right"))
        return int(self.entries["offset"][behind]) if behind < len(self.entries) else None

    def knows(self, at: int) -> bool:
        """Whether a message should start at ``at``."""
        return bool((self.entries["offset"] == at).any())

    def wanted(self) -> int:
        """How many messages of wanted channels it names."""
        return int((self.entries["code"] >= 0).sum())

    def reconcile(
        self, rows: np.ndarray, offsets: npt.NDArray[np.int64], whole: bool, record_at: RecordAt
    ) -> tuple[np.ndarray, bool]:
        """The rows (in order of position; ``offsets``: where their records start) that can be believed, and whether the
        index says just the same.

        Where the chunk's records are no ``whole`` chain: what both agree on. Where they are, the chunk is believed, except
        for what more than one thing speaks against: a record that swallows another one that the index knows, a channel
        against all else that the index has of it, a time out of order that the index has in order (which is put right).
        """
        entries = self.entries
        if not len(entries):
            return rows, not len(rows)
        place = np.minimum(np.searchsorted(entries["offset"], offsets), len(entries) - 1)
        named = entries[place]
        known = named["offset"] == offsets
        same_code = known & (named["code"] == rows["channel"])
        same = same_code & (named["t"] == rows["t"])
        following = np.searchsorted(entries["offset"], offsets, side="right")
        bound = np.append(entries["offset"], np.iinfo(np.int64).max)[following]
        too_long = rows["start"] + rows["size"] > bound
        if not whole:
            return rows[same & ~too_long], False
        if same.all() and not too_long.any():
            return rows, len(rows) == self.wanted()
        keep = np.ones(len(rows), bool)
        for i in np.flatnonzero(too_long).tolist():
            entry = entries[following[i]]
            keep[i] = record_at(int(entry["offset"]))[:2] != (int(entry["t"]), int(entry["code"]))
        for code in set(named["code"][known & ~same_code].tolist()):
            others = same_code & (named["code"] == code)
            if others.any():  # the index is right about the rest of this channel
                keep &= ~(known & ~same_code & (named["code"] == code))
        rows = rows.copy()
        for i in np.flatnonzero(same_code & ~same).tolist():
            before, after = rows["t"][max(i - 1, 0)], rows["t"][min(i + 1, len(rows) - 1)]
            other = named["t"][i]
            published = record_at(int(offsets[i]))[2]
            in_order, other_in_order = before <= rows["t"][i] <= after, before <= other <= after
            if published == other or (published != rows["t"][i] and other_in_order and not in_order):
                rows["t"][i] = other
        return rows[keep], False
