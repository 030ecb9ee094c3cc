"""Which reference files an envelope's drift checks need, and making them from recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_monitor.baselines import Baseline
from edge_monitor.core.messages import Damage
from edge_monitor.envelope import Envelope
from edge_monitor.envelope.drift import Drift
from edge_monitor.errors import ConfigError

from .calibrate import Request, calibrate
from .signals import read

#: Where the envelope does not say: false alarms of the whole robot, in seconds an alarm.
DEFAULT_INTERVAL_S = 36000.0


@dataclass(frozen=True, slots=True)
class Made:
    """A reference file that was made, or why it could not be."""

    path: Path
    checks: tuple[str, ...]
    baseline: Baseline | None
    digest: str = ""
    problem: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        header = {} if self.baseline is None else dict(self.baseline.header)
        return {
            "file": str(self.path),
            "checks": list(self.checks),
            "sha256": self.digest,
            "problem": self.problem,
            **header,
        }


def drift_checks(envelope: Envelope) -> dict[str, Drift]:
    """The drift checks with a reference."""
    return {name: one for name, one in envelope.models.items() if isinstance(one, Drift) and one.reference is not None}


def requests(envelope: Envelope, *, interval_s: float | None, confidence: float, author: str) -> dict[str, Request]:
    """What each reference file is asked for, by its name in the envelope.

    The false alarms of the robot are shared by all drift checks: those with a ``share`` take it, the others divide the
    rest evenly. Raises ``ConfigError`` when shares exceed 1 or checks of one file ask for different things.
    """
    checks = drift_checks(envelope)
    if not checks:
        raise ConfigError(f"{envelope.source}: has no drift check with a `reference`: there is nothing to calibrate")
    given = sum(one.share for one in checks.values())
    free = sum(one.share == 0 for one in checks.values())
    if given > 1 + 1e-9 or (free and given >= 1):
        raise ConfigError(
            f"{envelope.source}: the shares of the drift checks sum to {given:g}: more than all false alarms"
        )
    asked: dict[str, Request] = {}
    for name, one in checks.items():
        assert one.reference is not None
        signal = next(signal for signal in envelope.signals if signal.name == one.signal)
        seconds = interval_s or (one.false_alarms / 1e9 if one.false_alarms else DEFAULT_INTERVAL_S)
        request = Request(
            signal=one.signal,
            interval_s=seconds,
            unit=signal.unit,
            mode_signal=one.mode,
            weight=one.share or (1 - given) / free,
            confidence=confidence,
            score=one.score,
            author=author,
        )
        if asked.setdefault(one.reference.name, request) != request:
            raise ConfigError(
                f"{envelope.source}: checks.{name}: asks for another `{one.reference.name}` than a check before it"
            )
    return asked


def make(
    logs: Sequence[Path],
    envelope: Envelope,
    out: Path,
    asked: dict[str, Request],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Made], list[Damage]]:
    """Calibrate every reference from ``logs`` and write it into ``out``; also the damage met in the recordings."""
    by_signal = {request.signal: request.mode_signal for request in asked.values()}
    for request in asked.values():
        if by_signal[request.signal] != request.mode_signal:
            raise ConfigError(f"{envelope.source}: signal {request.signal} has drift checks with different modes")
    extract = read(logs, envelope, by_signal, progress)
    out.mkdir(parents=True, exist_ok=True)
    made = []
    checks = drift_checks(envelope)
    for name, request in asked.items():
        path = out / Path(name).name
        users = tuple(
            check for check, one in checks.items() if one.reference is not None and one.reference.name == name
        )
        try:
            baseline = calibrate(extract.series[request.signal], request)
        except ValueError as error:
            made.append(Made(path, users, None, problem=str(error)))
            continue
        made.append(Made(path, users, baseline, baseline.save(path)))
    return made, extract.damages
