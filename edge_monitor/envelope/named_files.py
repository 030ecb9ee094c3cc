"""Fields that name a file which calibration made, and what is in it: references, models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pydantic import PlainSerializer, PlainValidator, ValidationInfo
from pydantic import WithJsonSchema as JsonSchema

from ..errors import ConfigError
from .problems import shown


class Digested(Protocol):
    """What such a file holds."""

    @property
    def digest(self) -> str:
        """Of all its content, hex."""


Content = TypeVar("Content", bound=Digested)


@dataclass(frozen=True)
class NamedFile(Generic[Content]):
    """A file: as the envelope names it, and what is in it (None where it was not to be read)."""

    name: str
    content: Content | None


def read_by(load: Callable[[Path], Digested], what: str) -> PlainValidator:
    """Read the file with ``load``; its name is relative to the envelope's folder. ``what``: is expected, with an example."""

    def read(value: object, info: ValidationInfo) -> NamedFile[Digested]:
        if not isinstance(value, str) or not value:
            raise ValueError(f"expected the name of a {what}, got {shown(value)}")
        context = info.context or {}
        if not context.get("references", False):
            return NamedFile(value, None)
        try:
            return NamedFile(value, load(Path(context["folder"]) / value))
        except ConfigError as error:
            raise ValueError(str(error)) from None

    return PlainValidator(read)


#: The envelope's digest covers what the file holds, so that an approval is one of this reference or model.
AS_DIGEST = PlainSerializer(lambda file: [file.name, file.content.digest if file.content else ""], return_type=list)
AS_NAME = JsonSchema({"type": "string", "minLength": 1})
