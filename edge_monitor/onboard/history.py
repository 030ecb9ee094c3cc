"""What an earlier run left behind: latches that stand, and a handover that is open, as the journal tells them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.commands import RestoreLatch, standing_latches
from ..core.handover_history import READ, rebuild
from ..decider import Decider
from ..journal.reader import Reader
from ..journal.records import decode_payload, decode_record

KERNEL_BOOT = Path("/proc/sys/kernel/random/boot_id")
LATCHES = ("latch.set", "latch.reset")
ACTIVATED = "envelope.activated"
WANTED = frozenset((*READ, *LATCHES, ACTIVATED))
#: What stands in the bytes of every record that is wanted: the beginnings of their types.
MARKS = tuple(sorted({f"{kind.split('.')[0]}.".encode() for kind in WANTED} - {b"monitor."} | {b"monitor.started"}))


@dataclass(frozen=True, slots=True)
class History:
    """``latches``: names of checks; ``told``: what a handover is rebuilt from; ``seen``: time of the last record, ns;
    ``kernel_boot``: of the machine at the last start; ``envelope``: version and digest of the one that was in force."""

    latches: tuple[str, ...] = ()
    told: tuple[tuple[str, int, dict[str, Any]], ...] = ()
    seen: int = 0
    kernel_boot: str = ""
    envelope: tuple[int, str] = (0, "")

    def resume(self, decider: Decider, now: int) -> None:
        """Put back an open handover, before the first item; latches are commands of their own (:meth:`commands`)."""
        if decider.handover is None or not self.told:
            return
        spec, gates = decider.envelope.handover, decider.envelope.gates
        assert spec is not None
        same = self.kernel_boot == kernel_boot()
        decider.handover = rebuild(spec, gates, self.told, seen=self.seen, now=now, same_boot=same)

    def commands(self, decider: Decider, now: int) -> list[RestoreLatch]:
        """Latches to set again; of checks that the envelope no longer has there are none."""
        known = {check.name for check in decider.envelope.checks}
        return [RestoreLatch(t=now, check=name) for name in self.latches if name in known]


def kernel_boot() -> str:
    """The machine's boot id: the clock of one boot is not that of another."""
    try:
        return KERNEL_BOOT.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def read_history(journal: Path) -> History:
    """The history that a journal holds; none where there is no journal. Raises ``DamagedInputError``."""
    if not journal.exists():
        return History()
    latches: list[tuple[str, str]] = []
    told: list[tuple[str, int, dict[str, Any]]] = []
    boot = ""
    envelope = (0, "")
    with Reader(journal) as reader:
        for row in reader.rows(holding=MARKS):
            record = decode_record(row.record)
            if record.type not in WANTED:
                continue
            # What has been erased tells nothing.
            payload = decode_payload(row.payload) if row.payload is not None else {}
            if record.type in LATCHES:
                latches.append((record.type, str(payload.get("subject", ""))))
            if record.type == "monitor.started":
                started = payload.get("onboard", {}).get("kernel_boot", "")
                if told:
                    payload = {"seen_ns": _time(reader, row.seq - 1), "same_boot": bool(boot) and started == boot}
                boot = started
            if record.type == ACTIVATED:
                envelope = int(payload.get("envelope_version", 0)), str(payload.get("envelope_digest", ""))
            if record.type in READ and (told or record.type != "monitor.started"):
                told.append((record.type, record.t_effective, payload))
        seen = _time(reader, reader.size() - 1)
    return History(standing_latches(latches), tuple(told), seen, boot, envelope)


def _time(reader: Reader, sequence: int) -> int:
    """When record ``sequence`` was decided, ns; 0 where there is none."""
    return next((decode_record(row.record).t_decided for row in reader.rows(sequence, sequence + 1)), 0)
