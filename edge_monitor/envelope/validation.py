"""Pydantic's verdict on one entry of the file, in words for the person who wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .fields import NAME_PATTERN
from .problems import Finding, Path, shown

Some = TypeVar("Some", bound=BaseModel)

_NAME = re.compile(NAME_PATTERN)
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "`true` or `false`",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "tuple_type": "a list",
}


def validate(
    model: type[Some], raw: object, path: Path, context: Mapping[str, Any] | None = None
) -> tuple[Some | None, list[Finding], list[Finding]]:
    """``raw`` as a ``model``; what is wrong with it, and apart from that its unknown fields, under ``path``.

    ``context`` goes to pydantic (the folder that names of files are relative to). There is a model wherever unknown
    fields are all that is wrong, so that the rest of the entry is judged as well.
    """
    if not isinstance(raw, dict):
        return None, [Finding(path, f"expected a mapping, got {shown(raw)}")], []
    try:
        return model.model_validate(raw, context=context), [], []
    except ValidationError as error:
        details = error.errors(include_url=False)
    # Pydantic counts a list's good entries only: where one is bad, a list too short is no news.
    places = [detail["loc"] for detail in details]
    details = [
        d for d in details if d["type"] != "too_short" or sum(p[: len(d["loc"])] == d["loc"] for p in places) == 1
    ]
    strange = [detail for detail in details if detail["type"] == "extra_forbidden"]
    findings = [_finding(detail, path) for detail in details if detail["type"] != "extra_forbidden"]
    unknown = [_unknown(model, detail, path) for detail in strange]
    if findings:
        return None, findings, unknown
    for detail in strange:
        raw = _without(raw, _place(detail))
    return model.model_validate(raw, context=context), [], unknown


def _without(raw: Any, place: Path) -> Any:
    """``raw`` less the field at ``place``."""
    if isinstance(raw, tuple):
        return tuple(_without(item, place[1:]) if i == place[0] else item for i, item in enumerate(raw))
    if len(place) == 1:
        return {key: value for key, value in raw.items() if key != place[0]}
    return {key: _without(value, place[1:]) if key == place[0] else value for key, value in raw.items()}


def name_findings(names: Iterable[str], path: Path) -> Iterator[Finding]:
    """Names that are no identifiers; they stand in formulas, topics and file names."""
    for name in names:
        if not _NAME.fullmatch(name):
            yield Finding((*path, name), "is not a name: letters, digits and `_`, not a digit first, at most 64")


def _place(detail: ErrorDetails) -> Path:
    """The error's path without what pydantic puts between: tags of unions and marks of keys."""
    return tuple(part for part in detail["loc"] if isinstance(part, int) or not re.fullmatch(r"<\w+>|\[key\]", part))


def _unknown(model: type[BaseModel], detail: ErrorDetails, path: Path) -> Finding:
    place = _place(detail)
    fields = _fields_at(model, place[:-1])
    return Finding(path + place, "unknown field", str(place[-1]), fields)


def _fields_at(model: type[BaseModel], place: Path) -> tuple[str, ...]:
    """The fields of the model that stands at ``place`` inside ``model``; none where it is not a plain model."""
    for part in place:
        annotation = model.model_fields[str(part)].annotation if part in model.model_fields else None
        models = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not models:
            return ()
        model = models[0]
    return tuple(model.model_fields)


def _finding(detail: ErrorDetails, path: Path) -> Finding:
    place = path + _place(detail)
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "missing":
        return Finding(place, "is required")
    if kind == "value_error":
        return Finding(place, str(context["error"]))
    if kind == "literal_error":
        choices = tuple(re.findall(r"'([^']*)'", context["expected"]))
        listed = ", ".join(f"`{choice}`" for choice in choices)
        wrong = value if isinstance(value, str) else ""
        one_of = "one of " if len(choices) > 1 else ""
        return Finding(place, f"expected {one_of}{listed}, got {shown(value)}", wrong, choices)
    if kind in _EXPECTED:
        quote = " (quote it if it is text)" if kind == "string_type" and isinstance(value, (int, float)) else ""
        return Finding(place, f"expected {_EXPECTED[kind]}, got {shown(value)}{quote}")
    if kind == "string_pattern_mismatch":
        return Finding(place, f"expected letters, digits, `.`, `_` and `-`, at most 64, got {shown(value)}")
    if kind == "string_too_short":
        return Finding(place, "must not be empty")
    if kind == "too_short":
        return Finding(place, f"needs at least {context['min_length']} entries, got {context['actual_length']}")
    if kind == "too_long":
        return Finding(place, f"takes at most {context['max_length']} entries, got {context['actual_length']}")
    message = detail["msg"].removeprefix("Input ")
    return Finding(place, f"{message[:1].lower()}{message[1:]}, got {shown(value)}")
