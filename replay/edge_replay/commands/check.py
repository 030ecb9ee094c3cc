"""``edge-replay check``: thresholds from data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_monitor.command_line import console

if TYPE_CHECKING:
    from ..exceedance import Survey


@click.command(short_help="How often would each limit have fired on past recordings?")
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
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

    The last columns answer "which value is exceeded 1 % (0.1 %) of the time?", from both ends, so that a limit can be set
    from data. Values are weighted by time: each counts for as long as it was in force.
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
            "unreadable": found.unreadable,
            "problems": found.problems,
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        show(found, len(logs) - len(found.unreadable))
    for line in found.unreadable:
        click.echo(f"edge-replay: {line}", err=True)
    return 4 if found.damages or found.unreadable else 0


def show(found: Survey, logs: int) -> None:
    """Print the survey as a table."""
    from rich.markup import escape

    from ..display import NARROW, WIDE, duration, figure, plain_table

    terminal = console()
    width = terminal.width
    seconds = max((check.observed_s for check in found.checks), default=0.0)
    ends: tuple[str, ...] = ("0.1 % below", "1 % below", "half", "1 % above", "0.1 % above")
    fired: tuple[str, ...] = ("fires", "in logs", "for s", "of time")
    if width < WIDE:
        ends, fired = tuple(name for name in ends if name != "half"), ("fires", "of time")
    if width < NARROW:
        ends, fired = ("1 % below", "1 % above"), ("fires",)
    right = ("limit", *fired, "worst margin", *ends)
    table = plain_table(
        f"{len(found.checks)} checks on {logs} recording(s), {seconds:,.1f} s", "check", *right, "unit", right=right
    )
    for check in sorted(found.checks, key=lambda check: (check.fires == 0, check.name)):
        row = check.document()
        share = f"{check.seconds / check.observed_s:.2%}" if check.fires and check.observed_s else "-"
        told = {
            "fires": str(check.fires or "-"),
            "in logs": f"{check.logs_fired}/{logs}" if check.fires else "-",
            "for s": duration(round(check.seconds * 1e9)),
            "of time": share,
        }
        quantiles = dict(
            zip(
                ("0.1 % below", "1 % below", "half", "1 % above", "0.1 % above"), row["quantiles"].values(), strict=True
            )
        )
        table.add_row(
            escape(check.name),
            limit_text(*check.limits),
            *(told[name] for name in fired),
            figure(row["worst_margin"]),
            *(figure(quantiles[name]) for name in ends),
            escape(check.unit),
        )
    terminal.print(table, highlight=False)
    terminal.print(
        "[dim]x % below: so much of the time the value was less; x % above: so much of the time it was more[/]",
        highlight=False,
    )
    never = [check.name for check in found.checks if check.never_known]
    if never:
        terminal.print(f"[magenta]never known:[/] {escape(', '.join(never))}", highlight=False)
    for problem in dict.fromkeys(found.problems):
        terminal.print(f"[magenta]not readable:[/] {escape(problem)}", highlight=False)
    for damage in found.damages:
        terminal.print(f"[red]damage:[/] {escape(damage.where)}: {escape(damage.what)}", highlight=False)


def limit_text(low: float | None, high: float | None) -> str:
    """A check's limits in a few characters."""
    if low is None:
        return "" if high is None else f"≤ {high:.4g}"
    return f"≥ {low:.4g}" if high is None else f"{low:.4g} … {high:.4g}"
