"""What is missing, derived from the records themselves: the exporter writes it down, the verifier finds it again (docs §4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..journal.records import Record, WallStatus
from ..journal.writer import HEARTBEAT_NS

LISTED = 1000  #: of each kind; the counts are whole


@dataclass(slots=True)
class Gaps:
    """Gathers gaps record by record; ``document`` is what ``gaps.json`` holds for a log."""

    first: int
    erased: list[list[int]] = field(default_factory=list)
    unclean: list[dict[str, Any]] = field(default_factory=list)
    silences: list[dict[str, Any]] = field(default_factory=list)
    lost: list[dict[str, Any]] = field(default_factory=list)
    jumps: list[int] = field(default_factory=list)
    unsynchronised: int = 0
    envelopes: set[str] = field(default_factory=set)
    taped: list[str] = field(default_factory=list)  #: boots that were on a tape, by what their records say
    _boot: bytes = b""
    _ended: bool = True
    _last: Record | None = None

    def add(self, record: Record, payload: dict[str, Any] | None) -> None:
        """The next record."""
        if payload is None:
            self._erase(record.sequence)
        if self._last is not None and record.boot_id != self._boot and not self._ended:
            self._unclean()
        same = self._last is not None and record.boot_id == self._boot and record.type != "monitor.started"
        if same and self._last is not None and record.t_decided - self._last.t_decided > HEARTBEAT_NS:
            silence = {"before": record.sequence, "ns": record.t_decided - self._last.t_decided}
            self.silences += [silence] * (len(self.silences) < LISTED)
        if record.type == "journal.gap" and len(self.lost) < LISTED:
            self.lost.append({"at": record.sequence, "refused": (payload or {}).get("refused", {})})
        if record.type == "clock.jump" and len(self.jumps) < LISTED:
            self.jumps.append(record.sequence)
        self.unsynchronised += record.wall_status != WallStatus.SYNCHRONISED
        if payload is not None and _names_tape(payload) and record.boot_id.hex() not in self.taped:
            self.taped.append(record.boot_id.hex())
        if record.digests.envelope:
            self.envelopes.add(record.digests.envelope.hex())
        self._boot, self._ended, self._last = record.boot_id, record.type == "monitor.stopped", record

    def document(self, size: int, receipted: int, envelopes: set[str], tapes: list[str]) -> dict[str, Any]:
        """The gaps of a log of ``size`` records, of which so many are receipted. ``tapes``: boots whose black box is missing."""
        end = self._last.sequence + 1 if self._last is not None else self.first
        unclean = list(self.unclean)
        if self._last is not None and not self._ended and end == size:
            unclean.append({"boot": self._boot.hex(), "last": self._last.sequence})
        return {
            "before": self.first,
            "after": size - end,
            "unreceipted": max(0, end - max(receipted, self.first)),
            "erased": self.erased,
            "unclean": unclean,
            "silences": self.silences,
            "lost": self.lost,
            "clock": {"unsynchronised": self.unsynchronised, "jumps": self.jumps},
            "envelopes": sorted(self.envelopes - envelopes),
            "tapes": tapes,
        }

    def _erase(self, sequence: int) -> None:
        if self.erased and self.erased[-1][1] == sequence - 1:
            self.erased[-1][1] = sequence
        elif len(self.erased) < LISTED:
            self.erased.append([sequence, sequence])

    def _unclean(self) -> None:
        assert self._last is not None
        if len(self.unclean) < LISTED:
            self.unclean.append({"boot": self._boot.hex(), "last": self._last.sequence})


def _names_tape(payload: dict[str, Any]) -> bool:
    beside = payload.get("onboard")
    return isinstance(beside, dict) and "tape" in beside


def in_words(gaps: dict[str, Any]) -> list[str]:
    """What makes a packet incomplete, in words; a clock that was not synchronised is told, and does not."""
    words = []
    if gaps["unreceipted"]:
        words.append(f"{gaps['unreceipted']} records are under no receipt: a cut tail could not be noticed")
    if gaps["erased"]:
        count = sum(last - first + 1 for first, last in gaps["erased"])
        words.append(f"the payloads of {count} records are not there (first: record {gaps['erased'][0][0]})")
    for boot in gaps["unclean"]:
        words.append(f"boot {boot['boot'][:8]} ends without an end mark at record {boot['last']}")
    for silence in gaps["silences"]:
        words.append(f"silence of {silence['ns'] / 1e9:.0f} s before record {silence['before']}")
    for lost in gaps["lost"]:
        words.append(
            f"the journal had no room before record {lost['at']}: {lost['refused'] or 'some'} were not recorded"
        )
    words += [f"the envelope {digest[:16]}… was active and is not in the packet" for digest in gaps["envelopes"]]
    words += [f"no black box of boot {boot[:8]} is in the packet" for boot in gaps["tapes"]]
    return words
