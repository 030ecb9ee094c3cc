"""What the process records beside its journal, put together: the tape, incidents that are kept of it, raw messages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..envelope import Envelope
from ..errors import ConfigError
from ..runtime import Monitor
from ..tape import Ring
from .keeper import Keeper
from .raw_recorder import RawRecorder

KEPT_TAPES = 8
INCIDENTS, RAW = "incidents", "raw"  #: folders for them, beside the tapes


@dataclass(frozen=True, slots=True)
class BlackBox:
    """What was asked for. ``tapes``: folder for tapes; sizes in bytes; ``always``: keep the whole run."""

    tapes: Path
    tape_size: int = 256 << 20
    keep_size: int = 1 << 30
    always: bool = False
    raw: tuple[str, ...] = ()  #: topics that are kept as they came, beside those of the envelope
    latched: tuple[str, ...] = ()  #: the same of those whose last message holds until the next
    raw_size: int = 256 << 20

    def topics(self, envelope: Envelope) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Topics that are kept as they came, and those of them that are latched, by the names that signals use."""
        spec = envelope.black_box
        names = {signal.topic.removeprefix("/"): signal.topic for signal in envelope.signals if signal.topic}
        for topic in (*spec.raw, *self.raw, *spec.latched, *self.latched):
            names.setdefault(topic.removeprefix("/"), topic)  # one topic, with or without the slash

        def named(*topics: str) -> tuple[str, ...]:
            return tuple(dict.fromkeys(names[topic.removeprefix("/")] for topic in topics))

        latched = named(*spec.latched, *self.latched)
        return named(*spec.raw, *self.raw, *latched), latched

    def open(self, monitor: Monitor, boot: bytes) -> tuple[Ring, Keeper, RawRecorder | None]:
        """Begin a tape, what keeps windows of it, and raw messages where some are asked for. Raises ``ConfigError``."""
        envelope = monitor.envelope
        ring = Ring(
            make_room(self.tapes) / f"{boot.hex()}.tape", boot=boot, envelope=bytes.fromhex(envelope.digest),
            plan=bytes.fromhex(monitor.plan.digest()), size=self.tape_size,
        )  # fmt: skip
        monitor.record(ring)
        try:
            raw = None
            topics, latched = self.topics(envelope)
            if topics:
                raw = RawRecorder(self.tapes / RAW, boot, topics, latched, size=self.raw_size)
            keeper = Keeper(
                self.tapes / INCIDENTS, ring, envelope.black_box, budget=self.keep_size, always=self.always,
                raws=self.tapes / RAW, raw=raw,
            )  # fmt: skip
        except OSError as error:
            raise ConfigError(
                f"{error.filename}: {error.strerror}; name a folder for --tapes that can be written to"
            ) from None
        return ring, keeper, raw


def make_room(folder: Path) -> Path:
    """The folder for tapes, with place for one more: the oldest beyond ``KEPT_TAPES`` are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    tapes = sorted(folder.glob("*.tape"), key=lambda path: path.stat().st_mtime)
    for path in tapes[: max(0, len(tapes) - KEPT_TAPES + 1)]:
        path.unlink()
    return folder
