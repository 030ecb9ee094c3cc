"""What a chunk's own index says of its messages, held against what was read from the chunk.

MCAP and ROS 1 bags both write, behind each chunk, time and position of each of its messages. Most chunks have no
checksum; this is what tells a changed time, channel or length there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: An index entry: position of the record in the chunk, time, and code of the channel (ChannelTable.code).
NAMED = np.dtype([("offset", "<i8"), ("t", "<i8"), ("code", "<i4")])


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

    def confirms(self, rows: np.ndarray, offsets: npt.NDArray[np.int64], whole: bool) -> npt.NDArray[np.bool_]:
        """Which of the rows (in order of position; ``offsets``: where their records start) the index has just so.

        A record that runs into the next one is not confirmed. A channel that the index leaves out has no word on its
        messages; they count where the chunk's records were a ``whole`` chain.
        """
        entries = self.entries
        if not len(entries):
            return np.full(len(rows), whole)
        place = np.minimum(np.searchsorted(entries["offset"], offsets), len(entries) - 1)
        same = (entries["offset"][place] == offsets) & (entries["t"][place] == rows["t"])
        same &= entries["code"][place] == rows["channel"]
        following = np.append(entries["offset"][1:], np.iinfo(np.int64).max)[place]
        same &= rows["start"] + rows["size"] <= following
        if whole:
            same |= ~np.isin(rows["channel"], entries["code"])
        return same
