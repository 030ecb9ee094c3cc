"""Signals that are the error of a prediction, and the file that holds the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from .. import residual_models
from ..core.formula.arx import MAX_COMMANDS
from ..core.formula.arx import Residual as ResidualSpec
from ..core.signals import Signal
from .derived import below
from .dimension import dimension
from .fields import Model, SignalName
from .named_files import AS_DIGEST, AS_NAME, NamedFile, read_by
from .problems import Finding, Path, shown


class Residual(Model):
    """What a response does beyond what its commands explain: its sample less the prediction one sample ahead."""

    response: SignalName = Field(description="what is predicted; the residual has a value with each of its samples")
    command: Annotated[tuple[SignalName, ...], Field(min_length=1, max_length=MAX_COMMANDS)] = Field(
        description=f"the signals that it is predicted from, beside its own past; at most {MAX_COMMANDS}"
    )
    model: Annotated[
        NamedFile[residual_models.ResidualModel],
        read_by(residual_models.load, "model's file such as `baselines/yaw.npz`"),
        AS_DIGEST,
        AS_NAME,
    ] = Field(description="file made by `edge-replay calibrate`")

    def references(self) -> Iterator[tuple[Path, str]]:
        """The signals that it reads, each with its place."""
        yield ("response",), self.response
        yield from ((("command", i), name) for i, name in enumerate(self.command))

    def spec(self) -> ResidualSpec:
        """As the plan takes it."""
        found = self.model.content
        return ResidualSpec(self.response, self.command, found.arx if found else None, found.digest if found else "")


def residual_findings(residual: Residual, unit: str, signals: Mapping[str, Signal]) -> Iterator[Finding]:
    """What is wrong with a residual signal in ``unit`` whose inputs are all known."""
    seen = {residual.response}
    for i, name in enumerate(residual.command):
        if name in seen:
            what = "is the response itself" if name == residual.response else "is given twice"
            yield Finding(("residual", "command", i), f"`{name}` {what}")
        seen.add(name)
    own = signals[residual.response].unit
    if dict(dimension(own)) != dict(dimension(unit)):
        have = f"in {shown(own)}" if own else "without one"
        fix = f"write `unit: {own}`" if own else "leave `unit` out"
        yield Finding(("unit",), f"the response is {have}, and so is its residual: {fix}")
    if residual.model.content is not None:
        yield from _against_file(residual, residual.model.content.header, signals)


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


def unusable(residuals: Mapping[str, Residual]) -> Iterator[Finding]:
    """A warning for each model that its own file does not recommend; by the name of the residual signal."""
    for name, residual in residuals.items():
        model = residual.model.content
        if model is not None and not model.usable:
            reasons = "; ".join(model.header["reasons"])
            yield Finding(("signals", name, "residual", "model"), f"the model is not usable: {reasons}")


def of_residuals(signals: Mapping[str, Signal]) -> dict[str, str]:
    """Residuals that are made of another one, directly or through expressions: ``{name: the other}``."""
    residuals = {name for name, signal in signals.items() if signal.residual is not None}
    made = below(signals)
    return {name: min(found) for name in sorted(residuals) if (found := (made[name] & residuals) - {name})}
