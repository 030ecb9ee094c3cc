"""``Retention``: how long a robot keeps payloads that a registry has receipted. Proofs and records are kept for good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..journal import Journal
from ..journal.reader import Reader
from ..journal.records import decode_record

AT_ONCE = 256  #: records that are gone through before whoever writes the journal gets it back


@dataclass(frozen=True, slots=True)
class Retention:
    """``age_s``: payloads older than that may go, s on the wall clock, 0: none for their age. ``size``: bytes of the journal
    above which the oldest may go, 0: none for space. ``keep``: types of records whose payloads stay."""

    age_s: float = 0.0
    size: int = 0
    keep: Callable[[str], bool] = lambda kind: False

    def apply(self, journal: Journal, wall_ns: int, held: int = -1) -> bool:
        """Erase some of what may go; True where there may be more. What is not receipted is never touched.

        ``wall_ns``: ns since 1970. ``held``: what the registry holds by its own word, less than it has receipted where it was
        restored from a backup: nothing above it is erased; -1: not known. Raises ``JournalError`` on an I/O error.
        """
        with Reader(journal.path) as reader:
            pruned, receipt = reader.pruned(), reader.last_receipt()
        receipted = receipt[0] if receipt else 0
        if held >= 0:
            receipted = min(receipted, held)
        most = min(receipted, pruned + AT_ONCE)
        if pruned >= most:
            return False
        if self.size and journal.used_bytes() > self.size:
            end = most
        elif self.age_s:
            end = _younger(journal.path, pruned, most, wall_ns - int(self.age_s * 1e9))
        else:
            return False
        return end > pruned and journal.prune(end, self.keep, AT_ONCE) == most


def _younger(path: Path, start: int, end: int, since_ns: int) -> int:
    """The first record from ``start`` on that was written after ``since_ns``; ``end`` where there is none before it."""
    with Reader(path) as reader:
        for row in reader.rows(start, end):
            if decode_record(row.record).wall_ns >= since_ns:
                return row.seq
    return end
