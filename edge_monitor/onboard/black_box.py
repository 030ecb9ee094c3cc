"""What the process records beside its journal, put together: the tape and the incidents that are kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from ..runtime import Monitor
from ..tape import Ring
from .keeper import Keeper

KEPT_TAPES = 8
INCIDENTS = "incidents"  #: the folder for them, beside the tapes


@dataclass(frozen=True, slots=True)
class BlackBox:
    """What was asked for. ``tapes``: folder for tapes; sizes in bytes; ``always``: keep the whole run."""

    tapes: Path
    tape_size: int = 256 << 20
    keep_size: int = 1 << 30
    always: bool = False

    def open(self, monitor: Monitor, boot: bytes) -> tuple[Ring, Keeper]:
        """Begin a tape, and what keeps windows of it. Raises ``ConfigError``."""
        envelope = monitor.envelope
        ring = Ring(
            make_room(self.tapes) / f"{boot.hex()}.tape", boot=boot, envelope=bytes.fromhex(envelope.digest),
            plan=bytes.fromhex(monitor.plan.digest()), size=self.tape_size,
        )  # fmt: skip
        monitor.record(ring)
        try:
            keeper = Keeper(self.tapes / INCIDENTS, ring, envelope.black_box, budget=self.keep_size, always=self.always)
        except OSError as error:
            raise ConfigError(
                f"{error.filename}: {error.strerror}; name a folder for --tapes that can be written to"
            ) from None
        return ring, keeper


def make_room(folder: Path) -> Path:
    """The folder for tapes, with place for one more: the oldest beyond ``KEPT_TAPES`` are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    tapes = sorted(folder.glob("*.tape"), key=lambda path: path.stat().st_mtime)
    for path in tapes[: max(0, len(tapes) - KEPT_TAPES + 1)]:
        path.unlink()
    return folder
