"""Tables as CSV and JSON. What a spreadsheet would run as a formula is written so that it does not."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Cell = str | int | float | None
#: With which a cell begins that a spreadsheet runs, or takes apart; white space before it is passed over there.
_ACTIVE = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


@dataclass(frozen=True, slots=True)
class Table:
    """What a page shows as a table. ``name`` is the file's."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def as_csv(table: Table) -> bytes:
    """RFC 4180, with a byte order mark so that spreadsheets read it as UTF-8."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(map(tamed, table.columns))
    writer.writerows([tamed(cell) for cell in row] for row in table.rows)
    return b"\xef\xbb\xbf" + stream.getvalue().encode("utf-8", "replace")


def as_json(table: Table) -> bytes:
    """A list of objects."""
    rows: list[dict[str, Any]] = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return json.dumps(rows, ensure_ascii=False, indent=1).encode("utf-8", "replace") + b"\n"


def tamed(cell: Cell) -> Cell:
    """A cell that no spreadsheet runs: text that could be a formula begins with an apostrophe. Numbers stay what they are."""
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\x00", "")
    return f"'{text}" if text.lstrip(" \u00a0\ufeff").startswith(_ACTIVE) else text
