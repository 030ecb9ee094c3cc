"""``edge-replay check``: thresholds from data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..exceedance import Survey


@click.command(short_help="How often would each limit have fired on past recordings?")
@click.argument("logs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--envelope",
    "-e",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The envelope file.",
)
@click.option("--risk", help="Mission risk profile of the envelope; its own default otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(logs: tuple[Path, ...], envelope: Path, risk: str | None, as_json: bool) -> int:
    """For each limit: how often and for how long it would have fired on past LOGs, and where the data lie.

    The columns with shares answer "which value is exceeded 1 % (0.1 %) of the time?", from both ends, so that a limit
    can be set from data. Times are weighted: a value counts for as long as it was in force.
    """
    from edge_monitor import envelope as envelopes

    from ..exceedance import survey
    from .run import progress

    loaded = envelopes.load(envelope, risk=risk)
    with progress(logs[0], not sys.stderr.isatty()) as tell:
        found = survey(logs, loaded, progress=lambda _, done, size: tell(done, size))
    if as_json:
        document = {
            "envelope": {"id": loaded.id, "version": loaded.version, "digest": loaded.digest, "risk": loaded.risk},
            "logs": [str(log) for log in logs],
            "checks": [check.document() for check in found.checks],
            "damage": [{"where": damage.where, "what": damage.what} for damage in found.damages],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        show(found, len(logs))
    return 4 if found.damages else 0


def show(found: Survey, logs: int) -> None:
    """Print the survey as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"Limits against {logs} recording(s)", title_justify="left", box=None, pad_edge=False)
    table.add_column("check")
    for name in (
        "fires",
        "in logs",
        "in breach s",
        "of time",
        "worst margin",
        "0.1 % below",
        "1 % below",
        "half",
        "1 % above",
        "0.1 % above",
    ):
        table.add_column(name, justify="right")
    table.add_column("unit")
    for check in found.checks:
        row = check.document()
        share = check.seconds / check.observed_s if check.observed_s else 0.0
        worst = row["worst_margin"]
        table.add_row(
            escape(check.name),
            str(check.fires) if check.fires else "-",
            f"{check.logs_fired}/{logs}" if check.fires else "-",
            f"{check.seconds:.2f}" if check.fires else "-",
            f"{share:.2%}" if check.fires else "-",
            "not known" if worst is None else figure(worst),
            *(figure(value) for value in row["quantiles"].values()),
            escape(check.unit),
        )
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for damage in found.damages:
        console.print(f"[red]damage:[/] {escape(damage.where)}: {escape(damage.what)}", highlight=False)


def figure(value: float | str | None) -> str:
    """Four significant digits; a dash where there is no value."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"
