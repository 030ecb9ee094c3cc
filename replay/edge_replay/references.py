"""Which reference files an envelope's drift checks and hard cases need, and making them from recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_monitor.baselines import Baseline
from edge_monitor.core.formula.arx import Residual
from edge_monitor.core.messages import Damage
from edge_monitor.envelope import Envelope
from edge_monitor.envelope.drift import Drift
from edge_monitor.errors import ConfigError
from edge_monitor.residual_models import ResidualModel

from .arx import ModelRequest, fit_model
from .calibrate import Request, calibrate
from .signals import read, read_inputs, with_models
from .vector_calibration import calibrate_vector

#: Where the envelope does not say: false alarms of the whole robot, in seconds an alarm.
DEFAULT_INTERVAL_S = 36000.0


#: What a reference that only hard cases read is said to be for.
HARD_CASES = "hard_cases"


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


@dataclass(frozen=True, slots=True)
class MadeModel:
    """A model of a residual signal that was made, or why it could not be."""

    path: Path
    signal: str
    model: ResidualModel | None
    digest: str = ""
    problem: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        header = {} if self.model is None else dict(self.model.header)
        return {
            "file": str(self.path),
            "signal": self.signal,
            "sha256": self.digest,
            "problem": self.problem,
            **header,
        }


def drift_checks(envelope: Envelope) -> dict[str, Drift]:
    """The drift checks with a reference."""
    return {name: one for name, one in envelope.models.items() if isinstance(one, Drift) and one.reference is not None}


def requests(envelope: Envelope, *, interval_s: float | None, confidence: float, author: str) -> dict[str, Request]:
    """What each reference file is asked for, by its name in the envelope; nothing where no file is named.

    The false alarms of the robot are shared by all drift checks: those with a ``share`` take it, the others divide the
    rest evenly. Raises ``ConfigError`` when shares exceed 1 or checks of one file ask for different things.
    """
    checks = drift_checks(envelope)
    given = sum(one.share for one in checks.values())
    free = sum(one.share == 0 for one in checks.values())
    if given > 1 + 1e-9 or (free and given >= 1):
        raise ConfigError(
            f"{envelope.source}: the shares of the drift checks sum to {given:g}: more than all false alarms"
        )
    asked: dict[str, Request] = {}
    unit_of = {signal.name: signal.unit for signal in envelope.signals}
    for name, one in checks.items():
        assert one.reference is not None
        units = tuple(unit_of[name] for name in one.watched)
        seconds = interval_s or (one.false_alarms / 1e9 if one.false_alarms else DEFAULT_INTERVAL_S)
        request = Request(
            signal=", ".join(one.watched),
            interval_s=seconds,
            unit=units[0] if len(units) == 1 else "",
            mode_signal=one.mode,
            weight=one.share or (1 - given) / free,
            confidence=confidence,
            score=one.score,
            author=author,
            signals=one.signals,
            units=units if one.signals else (),
        )
        if asked.setdefault(one.reference.name, request) != request:
            raise ConfigError(
                f"{envelope.source}: checks.{name}: asks for another `{one.reference.name}` than a check before it"
            )
    return asked | _of_hard_cases(envelope, asked, interval_s or DEFAULT_INTERVAL_S, confidence, author)


def _of_hard_cases(
    envelope: Envelope, asked: dict[str, Request], interval_s: float, confidence: float, author: str
) -> dict[str, Request]:
    """References that only hard cases read: they rank, so that they have no part in the false alarms."""
    model = envelope.hard_case_model
    found: dict[str, Request] = {}
    for name, score in model.scores.items() if model else ():
        file = score.reference.name
        other = asked.get(file) or found.get(file)
        if other is not None and (other.signal, other.mode_signal) != (name, model.mode):
            raise ConfigError(f"{envelope.source}: hard_cases.scores.{name}: `{file}` is made of {other.signal}")
        if other is None:
            unit = next(signal.unit for signal in envelope.signals if signal.name == name)
            found[file] = Request(
                name, interval_s, unit=unit, mode_signal=model.mode, confidence=confidence, author=author
            )
    return found


def make_models(
    logs: Sequence[Path],
    envelope: Envelope,
    out: Path,
    *,
    author: str,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[MadeModel], Envelope]:
    """Fit the model of every residual signal to ``logs`` and write it into ``out``.

    Also the envelope with these models, in which a residual whose model could not be made is never received. Raises
    ``ConfigError`` where two files would have one name.
    """
    residuals = {signal.name: signal.residual for signal in envelope.signals if signal.residual is not None}
    if not residuals:
        return [], envelope
    names = {name: Path(envelope.residuals[name]).name for name in residuals}
    taken = [
        *names.values(),
        *{Path(one.reference.name).name for one in drift_checks(envelope).values() if one.reference},
    ]
    for name, file in names.items():
        if taken.count(file) > 1:
            raise ConfigError(f"{envelope.source}: signals.{name}: two files would be named {file}")
    units = {signal.name: signal.unit for signal in envelope.signals}
    inputs = read_inputs(logs, envelope, residuals, progress)
    out.mkdir(parents=True, exist_ok=True)
    made: list[MadeModel] = []
    models: dict[str, Residual] = {}
    for name, residual in residuals.items():
        path = out / names[name]
        command_units = tuple(units[command] for command in residual.commands)
        request = ModelRequest(residual.response, residual.commands, units[residual.response], command_units, author)
        try:
            model = fit_model(inputs[name], request)
        except ValueError as error:
            made.append(MadeModel(path, name, None, problem=str(error)))
            continue
        digest = model.save(path)
        made.append(MadeModel(path, name, model, digest))
        models[name] = replace(residual, model=model.arx, digest=digest)
    return made, with_models(envelope, models)


def make(
    logs: Sequence[Path],
    envelope: Envelope,
    out: Path,
    asked: dict[str, Request],
    progress: Callable[[int, int], None] | None = None,
    models: Sequence[MadeModel] = (),
) -> tuple[list[Made], list[Damage]]:
    """Calibrate every reference from ``logs`` and write it into ``out``; also the damage met in the recordings.

    ``models``: those just made, of which ``envelope`` has residuals; a reference of one is tied to it.
    """
    modes = {request.signal: request.mode_signal for request in asked.values()}
    for request in asked.values():
        if modes[request.signal] != request.mode_signal:
            raise ConfigError(f"{envelope.source}: signal {request.signal} has drift checks with different modes")
    one_by_one = {request.signal: request.mode_signal for request in asked.values() if not request.signals}
    vectors = {request.signals: request.mode_signal for request in asked.values() if request.signals}
    extract = read(logs, envelope, one_by_one, progress, vectors=vectors)
    out.mkdir(parents=True, exist_ok=True)
    made = []
    checks = drift_checks(envelope)
    for name, request in asked.items():
        path = out / Path(name).name
        users = tuple(
            check for check, one in checks.items() if one.reference is not None and one.reference.name == name
        ) or (HARD_CASES,)
        model = next((one for one in models if one.signal == request.signal), None)
        try:
            if model is not None and model.model is None:
                raise ValueError(f"signal {request.signal}: it has no model")
            if request.signals:
                baseline = calibrate_vector(extract.vectors[request.signals], request)
            else:
                baseline = calibrate(extract.series[request.signal], request)
            if model is not None:
                baseline = _of_model(baseline, model)
            made.append(Made(path, users, baseline, baseline.save(path)))
        except ValueError as error:
            made.append(Made(path, users, None, problem=str(error)))
    return made, extract.damages


def _of_model(baseline: Baseline, made: MadeModel) -> Baseline:
    """The reference of a residual, tied to its model, and no better than it."""
    assert made.model is not None
    header = dict(baseline.header) | {"model": made.digest}
    if not made.model.usable:
        said = f"the model of {made.signal} is not usable: {'; '.join(made.model.header['reasons'])}"
        header |= {"calibrated": False, "reasons": [*header["reasons"], said]}
    return replace(baseline, header=header)
