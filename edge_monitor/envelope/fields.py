"""The kinds of field that an envelope's models are made of, and how they read in a JSON Schema and in the reference."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator, StringConstraints
from pydantic import WithJsonSchema as JsonSchema

from . import units
from .problems import shown

NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

_DURATION_SCHEMA = {"type": "string", "pattern": units.DURATION_PATTERN, "examples": ["200 ms", "3 s"]}


def _state(value: object) -> float | str:
    """A state by its number or its name."""
    if isinstance(value, bool):
        raise ValueError(f"expected a state's name or number, got {shown(value)} (write 1 or 0, or quote a name)")
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"expected a state's name or number, got {shown(value)}")


def _max_age(value: object) -> int | Literal["never"]:
    """A duration above zero, or `never`: the value counts for ever, and somebody has said so."""
    if value == "never":
        return "never"
    return units.positive_duration(value)


# mypy and editors see the plain types; pydantic sees how they are read.
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Identifier = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
SignalName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
CheckName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Text = Annotated[str, StringConstraints(min_length=1)]
Duration = Annotated[int, BeforeValidator(units.not_negative_duration), JsonSchema(_DURATION_SCHEMA)]
PositiveDuration = Annotated[int, BeforeValidator(units.positive_duration), JsonSchema(_DURATION_SCHEMA)]
SignedDuration = Annotated[int, BeforeValidator(units.duration), JsonSchema(_DURATION_SCHEMA)]
MaxAge = Annotated[
    int | Literal["never"],
    PlainValidator(_max_age),
    JsonSchema({"anyOf": [_DURATION_SCHEMA, {"const": "never"}]}),
]
Rate = Annotated[
    float,
    BeforeValidator(units.rate),
    JsonSchema({"type": "string", "pattern": units.RATE_PATTERN, "examples": ["50 Hz"]}),
]
Quantity = Annotated[
    units.Quantity,
    PlainValidator(units.quantity),
    # The unit must be the signal's, so it adds nothing to the content: `12 m/s` and `12` have one digest.
    PlainSerializer(lambda quantity: quantity.value, return_type=float),
    JsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": units.QUANTITY_PATTERN}]}),
]
State = Annotated[
    float | str,
    PlainValidator(_state),
    JsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "minLength": 1}]}),
]
Severity = Literal["catastrophic", "critical", "marginal", "negligible"]
Clearing = Literal["when_cleared", "on_mode_change", "on_mission_end", "manual"]
Risk = Literal["low", "medium", "high"]

#: What the reference calls a field of each kind.
CALLED: tuple[tuple[Any, str], ...] = (
    (SignalName, "signal"),
    (CheckName, "check"),
    (Duration, "duration"),
    (PositiveDuration, "duration"),
    (SignedDuration, "duration"),
    (MaxAge, "duration or `never`"),
    (Rate, "rate"),
    (Quantity, "number, or quantity with unit"),
    (State, "state's name or number"),
    (Name, "name"),
    (Identifier, "name"),
    (Text, "text"),
    (str, "text"),
    (float, "number"),
    (int, "whole number"),
)


class Model(BaseModel):
    """Base of all models: frozen, no unknown fields, no silent conversion of one type to another."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def doc(description: str, **more: Any) -> Any:
    """A required field with its line in the reference."""
    return Field(description=description, **more)
