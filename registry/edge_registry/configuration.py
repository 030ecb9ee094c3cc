"""``registry.yaml`` in the registry's folder: who looks after exceptions, how long payloads are kept. It may be missing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Annotated, Any

from pydantic import Field, PlainValidator

from edge_monitor.envelope.document import MAX_BYTES, Document, Form
from edge_monitor.envelope.fields import ID_PATTERN, Model
from edge_monitor.envelope.problems import DocumentError, Finding, shown
from edge_monitor.envelope.validation import validate
from edge_monitor.errors import ConfigError
from edge_monitor.journal.event_types import EVENT_TYPES

FILE = "registry.yaml"
FORMAT = 1
DAY_S = 86_400
FLOOR_S = 183 * DAY_S  #: no window is shorter, whatever the file says: six months (AI Act, articles 19 and 26)
GRACE_S = 120  #: files come after the records that name them
DEFAULT_S = 1827 * DAY_S  #: five years
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": DAY_S, "w": 7 * DAY_S, "y": 366 * DAY_S}
_TERM = re.compile(r"([0-9]{1,5}) ?(s|min|h|d|w|y)", re.ASCII)


class ConfigurationError(DocumentError):
    """A configuration that cannot be used."""


FORM = Form("configuration", "`edge_registry: 1`, `retention:` …", ConfigurationError)


def _term(value: object) -> int:
    match = _TERM.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[1].strip("0") == "":
        raise ValueError(f"expected a term such as `2 min`, `72 h`, `400 d`, `52 w` or `5 y`, got {shown(value)}")
    return int(match[1]) * _SECONDS[match[2]]


Term = Annotated[int, PlainValidator(_term)]


class _Exceptions(Model):
    owner: str = Field(default="", description="person who looks after what has no owner", pattern=f"{ID_PATTERN}|^$")
    deadline: Term = Field(default=3 * DAY_S, description="time that there is to settle one")
    grace: Term = Field(default=GRACE_S, description="time that files have to come after the records that name them")


class _Retention(Model):
    floor: Term = Field(default=FLOOR_S, description="shortest window that may be set; 183 d at least")
    default: Term = Field(default=DEFAULT_S, description="window of event types that are not named")
    windows: dict[str, Term] = Field(
        default_factory=dict, description="windows by event type, or by family (`check.*`)"
    )


@dataclass(frozen=True, slots=True)
class Configuration:
    """``owner``: of exceptions that have none, empty: nobody; times in s. ``windows``: by event type or family (``check.*``)."""

    owner: str = ""
    deadline_s: int = 3 * DAY_S
    grace_s: int = GRACE_S
    floor_s: int = FLOOR_S
    default_s: int = DEFAULT_S
    windows: Mapping[str, int] = field(default_factory=dict)

    def window_s(self, kind: str) -> int:
        """How long payloads of an event type are kept: the type's own window, its family's, or the default."""
        family = f"{kind.partition('.')[0]}.*"
        return self.windows.get(kind, self.windows.get(family, self.default_s))


def load(folder: FilePath) -> Configuration:
    """The configuration of the registry in ``folder``; the defaults where there is none.

    Raises ``ConfigurationError``, a ``ConfigError`` with every problem as ``file:line:col: field: problem``.
    """
    path = folder / FILE
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Configuration()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    return loads(data, source=str(path))


def loads(data: bytes, *, source: str = "<configuration>") -> Configuration:
    """Like :func:`load`, of bytes; ``source`` is the file's name in errors."""
    document = Document(data, source, FORM)
    sections = ("edge_registry", "exceptions", "retention")
    findings = [Finding((name,), "unknown section", name, sections) for name in document.data if name not in sections]
    version = document.data.get("edge_registry")
    if version != FORMAT or isinstance(version, bool):
        findings.append(
            Finding(("edge_registry",) if version is not None else (), f"must have `edge_registry: {FORMAT}`")
        )
    models: dict[str, Any] = {}
    for name, model in (("exceptions", _Exceptions), ("retention", _Retention)):
        found, wrong, unknown = validate(model, document.data.get(name, {}), (name,))
        findings += [*wrong, *unknown]
        models[name] = found if found is not None else model()
    findings += _too_short(models["retention"])
    problems = [*document.problems, *(document.problem(one) for one in findings if not document.is_broken(one.path))]
    if problems:
        raise ConfigurationError(problems)
    exceptions, retention = models["exceptions"], models["retention"]
    return Configuration(
        exceptions.owner,
        exceptions.deadline,
        exceptions.grace,
        retention.floor,
        retention.default,
        dict(retention.windows),
    )


def _too_short(retention: _Retention) -> Iterator[Finding]:
    place = ("retention",)
    if retention.floor < FLOOR_S:
        yield Finding((*place, "floor"), f"is below {FLOOR_S // DAY_S} d: no registry keeps records for less")
    floor = max(retention.floor, FLOOR_S)
    words = f"is below the floor of {floor // DAY_S} d"
    if retention.default < floor:
        yield Finding((*place, "default"), words)
    families = {f"{kind.partition('.')[0]}.*" for kind in EVENT_TYPES}
    for name, window in retention.windows.items():
        if name not in EVENT_TYPES and name not in families:
            known = tuple(sorted({*EVENT_TYPES, *families}))
            yield Finding((*place, "windows", name), "is no event type or family", name, known)
        elif window < floor:
            yield Finding((*place, "windows", name), words)
