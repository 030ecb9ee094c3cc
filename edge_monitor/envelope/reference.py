"""The tables of docs/configuration.md, made from the models, so that they cannot tell another story.

Each stands between ``<!-- generated:NAME -->`` and ``<!-- end -->``;
``python -m edge_monitor.envelope.reference docs/configuration.md`` writes them anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .black_box import BlackBox
from .check_model import CheckModel
from .checks import CHECK_MODELS
from .delivery import Qos
from .domain import Domain, Odd
from .fields import CALLED, Model
from .hard_cases import HardCases, Score
from .models import (
    Active,
    Authority,
    Defaults,
    Gate,
    Handover,
    Header,
    Mission,
    ModeMap,
    Mrm,
    OnUnknown,
    Reasons,
    SignalModel,
    Then,
)  # fmt: skip
from .residual import Residual
from .sensors import KINDS
from .units import shown_duration

_MARKED = re.compile(r"(<!-- generated:(?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def check_kinds() -> str:
    """One row a kind: what it finds, and its own fields in short."""
    rows = [
        f"| [`{kind}`](#{kind}) | {_first_line(model)} | {', '.join(f'`{field}`' for field in own_fields(model))} |"
        for kind, model in CHECK_MODELS.items()
    ]
    return "\n".join(["| kind | fails when | fields |", "|---|---|---|", *rows]) + "\n"


def check_fields() -> str:
    """A section a kind, with a table of its own fields."""
    sections = [
        f"### {kind}\n\n{_first_line(model)}\n\n{field_table(model, own_fields(model))}"
        for kind, model in CHECK_MODELS.items()
    ]
    return "\n".join(sections)


def common_fields() -> str:
    """The fields that every check has."""
    return field_table(CheckModel, list(CheckModel.model_fields))


def own_fields(model: type[CheckModel]) -> list[str]:
    """The fields of a kind that not every check has; what must be given comes first."""
    own = [field for field in model.model_fields if field not in CheckModel.model_fields]
    return sorted(own, key=lambda field: not model.model_fields[field].is_required())


def field_table(model: type[Model], fields: list[str] | None = None) -> str:
    """A table of a model's fields."""
    hints = get_type_hints(model, include_extras=True)
    rows = ["| field | value | default | meaning |", "|---|---|---|---|"]
    for name in fields or list(model.model_fields):
        field = model.model_fields[name]
        given = field.get_default(call_default_factory=True)
        default = "required" if field.is_required() else _default(hints[name], given)
        rows.append(f"| `{name}` | {_called(hints[name])} | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def sensor_fields() -> str:
    """A section a kind of sensor, with a table of its fields."""
    return "\n".join(f"### {kind}\n\n{field_table(model)}" for kind, model in KINDS.items())


#: The tables by the name in their marker; each ends with a line break.
TABLES: dict[str, Callable[[], str]] = {
    "envelope-header": lambda: field_table(Header),
    "envelope-defaults": lambda: field_table(Defaults),
    "envelope-signals": lambda: field_table(SignalModel),
    "envelope-residual": lambda: field_table(Residual),
    "envelope-qos": lambda: field_table(Qos),
    "envelope-sensors": sensor_fields,
    "envelope-odd": lambda: field_table(Odd),
    "envelope-odd-domain": lambda: field_table(Domain),
    "envelope-hard-cases": lambda: field_table(HardCases),
    "envelope-hard-cases-score": lambda: field_table(Score),
    "envelope-check-kinds": check_kinds,
    "envelope-check-common": common_fields,
    "envelope-check-fields": check_fields,
    "envelope-authority": lambda: field_table(Authority),
    "envelope-authority-active": lambda: field_table(Active),
    "envelope-authority-map": lambda: field_table(ModeMap),
    "envelope-authority-reasons": lambda: field_table(Reasons),
    "envelope-gates": lambda: field_table(Gate),
    "envelope-gates-on-unknown": lambda: field_table(OnUnknown),
    "envelope-gates-then": lambda: field_table(Then),
    "envelope-handover": lambda: field_table(Handover),
    "envelope-handover-mrm": lambda: field_table(Mrm),
    "envelope-black-box": lambda: field_table(BlackBox),
    "envelope-mission": lambda: field_table(Mission),
}


def rewritten(text: str) -> str:
    """``text`` with its marked tables as they should be; parts that are made elsewhere stay as they are."""
    return _MARKED.sub(lambda m: m[1] + TABLES[m["name"]]() + m[3] if m["name"] in TABLES else m[0], text)


def _first_line(model: type[CheckModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _called(hint: Any) -> str:
    for known, words in CALLED:
        if hint == known:
            return words
    if hint is bool:
        return "`true` or `false`"
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    inner = [arg for arg in get_args(hint) if arg is not type(None)]
    if get_origin(hint) in (tuple, dict) or (inner and get_origin(inner[0]) is tuple):
        return "mapping" if get_origin(hint) is dict else "list"
    if isinstance(hint, type) and issubclass(hint, Model):
        return "mapping"
    return _called(inner[0]) if inner else "text"


def _default(hint: Any, value: Any) -> str:
    if value is None or value in ("", (), {}) or isinstance(value, Model):
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and "duration" in _called(hint):
        return f"`{shown_duration(value)}`" if value else "`0 s`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def main(path: str) -> None:
    """Rewrite the tables of one file."""
    file = Path(path)
    file.write_text(rewritten(file.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
