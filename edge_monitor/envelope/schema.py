"""The JSON Schema of envelope files, for editors and for other languages' tools (draft 2020-12)."""

from __future__ import annotations

import json
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from .black_box import BlackBox
from .checks import CHECK_MODELS
from .domain import Odd
from .fields import NAME_PATTERN, Model
from .hard_cases import HardCases
from .models import Authority, Defaults, Gate, Handover, Header, Mission, SignalModel
from .sensors import AnySensor
from .units import shown_duration

SCHEMA_ID = "urn:edge-monitor:schema:envelope:1"
#: The copy that ships with the package: `edge-monitor schema --out` made it, and a test asserts that it still would.
SHIPPED = Path(__file__).with_name("envelope.schema.json")


def envelope_schema() -> dict[str, Any]:
    """One document for the whole file. Cross-references and units are beyond it: ``edge-monitor check`` knows those."""
    any_check: Any = Annotated[reduce(or_, CHECK_MODELS.values()), Field(discriminator="kind")]
    fields: dict[str, Any] = {
        "edge_monitor": (Literal[1], Field(description="format of this file")),
        "envelope": (Header, ...),
        "defaults": (Defaults, Field(Defaults.model_validate({}))),
        "signals": (dict[str, SignalModel], Field(min_length=1)),
        "sensors": (dict[str, AnySensor], Field(default_factory=dict)),
        "odd": (Odd | None, None),
        "hard_cases": (HardCases | None, None),
        "checks": (dict[str, any_check], Field(min_length=1)),
        "authority": (Authority | None, None),
        "gates": (dict[str, Gate], Field(default_factory=dict)),
        "handover": (Handover | None, None),
        "black_box": (BlackBox | None, None),
        "mission": (Mission, Field(Mission.model_validate({}))),
    }
    schema: dict[str, Any] = create_model("Envelope", __base__=Model, **fields).model_json_schema()
    schema["description"] = "What is measured, what must hold, who commands, and what a decision needs."
    for section in ("signals", "checks", "gates"):
        schema["properties"][section]["propertyNames"] = {"pattern": NAME_PATTERN}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID}
    return head | {key: _as_written(value) for key, value in schema.items()}


def schema_text() -> str:
    """The schema as the file that ``edge-monitor schema`` writes."""
    return json.dumps(envelope_schema(), indent=2, ensure_ascii=False) + "\n"


def _as_written(schema: Any) -> Any:
    """The models' schema as the file is written: nothing is null, and a default is what a planner could have typed."""
    if isinstance(schema, list):
        return [_as_written(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    cleaned = {key: _as_written(value) for key, value in schema.items()}
    default = cleaned.get("default")
    if isinstance(default, int) and cleaned.get("type") == "string":
        cleaned["default"] = shown_duration(default) if default else "0 s"
    elif default is None or default == "" or isinstance(default, (dict, list, tuple)):
        cleaned.pop("default", None)
    options = cleaned.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        left = [option for option in options if option != {"type": "null"}]
        del cleaned["anyOf"]
        cleaned = {**left[0], **cleaned} if len(left) == 1 else {**cleaned, "anyOf": left}
    return cleaned
