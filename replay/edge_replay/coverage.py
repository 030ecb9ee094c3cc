"""The sensor-reality matrix on a terminal: the cells that were seen, what happened there, and what is still unseen."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from edge_monitor.core.odd import Axis, OddSpec

from .matrix import KINDS, Matrix

STYLES = {"shown": "green", "thin": "yellow", "seen-outside-envelope": "red", "unknown": "magenta"}


def show(matrix: Matrix, odd: OddSpec | None, console: Console) -> None:
    """Print a finished matrix; ``odd``: the declared domain, where there is one."""
    document = matrix.document(odd)
    table = Table(title="What the sensors saw", title_justify="left", box=None, pad_edge=False)
    for axis in Axis:
        table.add_column(axis.name.lower())
    table.add_column("seconds", justify="right")
    for kind in KINDS:
        table.add_column(kind.replace("_", " "), justify="right")
    if odd is not None:
        table.add_column("status")
    for row in document["cells"]:
        table.add_row(*_cells(row, odd is not None))
    console.print(table)
    console.print("[dim]counts; in brackets the rate an hour that they exclude at 95 %[/]", highlight=False)
    if odd is not None:
        console.print(
            f"declared cells: {document['declared']}, of which {len(document['unseen'])} never seen; "
            f"coverage {100 * document['coverage']:.0f} %",
            highlight=False,
        )


def _cells(row: dict[str, Any], declared: bool) -> list[str]:
    words = [str(row[axis.name.lower()]) for axis in Axis] + [f"{row['exposure_ns'] / 1e9:.3f}"]
    for kind in KINDS:
        upper = row[kind]["upper"]
        words.append(str(row[kind]["count"]) + ("" if upper is None else f" (> {upper:.3g})"))
    if declared:
        style = STYLES.get(row["status"], "")
        words.append(f"[{style}]{row['status']}[/]" if style else row["status"])
    return words
