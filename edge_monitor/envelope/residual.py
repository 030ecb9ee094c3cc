"""Signals that are the error of a prediction, and the file that holds the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field, PlainSerializer, PlainValidator, ValidationInfo
from pydantic import WithJsonSchema as JsonSchema

from .. import residual_models
from ..core.formula.arx import MAX_COMMANDS
from ..core.formula.arx import Residual as ResidualSpec
from ..core.signals import Signal
from ..errors import ConfigError
from .derived import below
from .dimension import dimension
from .fields import Model, SignalName
from .problems import Finding, Path, shown

if TYPE_CHECKING:
    from .models import SignalModel


class ModelFile(NamedTuple):
    """A model's file: as the envelope names it, and what is in it (None where it was not to be read)."""

    name: str
    model: residual_models.ResidualModel | None


def _model_file(value: object, info: ValidationInfo) -> ModelFile:
    """Read the file; its name is relative to the envelope's folder."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected the name of a model's file such as `baselines/yaw.npz`, got {shown(value)}")
    context = info.context or {}
    if not context.get("references", False):
        return ModelFile(value, None)
    try:
        return ModelFile(value, residual_models.load(FilePath(context["folder"]) / value))
    except ConfigError as error:
        raise ValueError(str(error)) from None


class Residual(Model):
    """What a response does beyond what its commands explain: its sample less the prediction one sample ahead."""

    response: SignalName = Field(description="what is predicted; the residual has a value with each of its samples")
    command: Annotated[tuple[SignalName, ...], Field(min_length=1, max_length=MAX_COMMANDS)] = Field(
        description=f"the signals that it is predicted from, beside its own past; at most {MAX_COMMANDS}"
    )
    model: Annotated[
        ModelFile,
        PlainValidator(_model_file),
        # The envelope's digest covers what the file holds, so that an approval is one of this model.
        PlainSerializer(lambda file: [file.name, file.model.digest if file.model else ""], return_type=list),
        JsonSchema({"type": "string", "minLength": 1}),
    ] = Field(description="file made by `edge-replay calibrate`")

    def references(self) -> Iterator[tuple[Path, str]]:
        """The signals that it reads, each with its place."""
        yield ("response",), self.response
        yield from ((("command", i), name) for i, name in enumerate(self.command))

    def spec(self) -> ResidualSpec:
        """As the plan takes it."""
        found = self.model.model
        return ResidualSpec(self.response, self.command, found.arx if found else None, found.digest if found else "")


def residual_findings(model: SignalModel, signals: Mapping[str, Signal]) -> Iterator[Finding]:
    """What is wrong with a residual signal whose inputs are all known."""
    residual = model.residual
    assert residual is not None
    seen = {residual.response}
    for i, name in enumerate(residual.command):
        if name in seen:
            what = "is the response itself" if name == residual.response else "is given twice"
            yield Finding(("residual", "command", i), f"`{name}` {what}")
        seen.add(name)
    unit = signals[residual.response].unit
    if dict(dimension(unit)) != dict(dimension(model.unit)):
        have = f"in {shown(unit)}" if unit else "without one"
        fix = f"write `unit: {unit}`" if unit else "leave `unit` out"
        yield Finding(("unit",), f"the response is {have}, and so is its residual: {fix}")
    if residual.model.model is not None:
        yield from _against_file(residual, residual.model.model.header, signals)


def _against_file(residual: Residual, header: Mapping[str, object], signals: Mapping[str, Signal]) -> Iterator[Finding]:
    """A model of other signals or units than the envelope's."""
    place = ("residual", "model")
    if header["response"] != residual.response:
        yield Finding(place, f"predicts {shown(header['response'])}, not `{residual.response}`: calibrate anew")
    elif header["commands"] != list(residual.command):
        named = ", ".join(map(shown, header["commands"]))  # type: ignore[call-overload]
        yield Finding(place, f"predicts from {named}, in this order: calibrate anew")
    else:
        units = [header["unit"], *header["command_units"]]  # type: ignore[misc]
        for name, unit in zip((residual.response, *residual.command), units, strict=True):
            if signals[name].unit != unit:
                yield Finding(place, f"was made with `{name}` in {shown(unit)}: calibrate anew")


def unusable(signals: Mapping[str, SignalModel]) -> Iterator[Finding]:
    """A warning for each model that its own file does not recommend."""
    for name, signal in signals.items():
        file = signal.residual.model if signal.residual is not None else None
        if file is not None and file.model is not None and not file.model.usable:
            reasons = "; ".join(file.model.header["reasons"])
            yield Finding(("signals", name, "residual", "model"), f"the model is not usable: {reasons}")


def of_residuals(signals: Mapping[str, Signal]) -> dict[str, str]:
    """Residuals that are made of another one, directly or through expressions: ``{name: the other}``."""
    residuals = {name for name, signal in signals.items() if signal.residual is not None}
    made = below(signals)
    return {name: min(found) for name in sorted(residuals) if (found := (made[name] & residuals) - {name})}
