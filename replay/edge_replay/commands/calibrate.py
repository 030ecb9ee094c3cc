"""``edge-replay calibrate``: reference files for drift checks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..references import Made


@click.command(short_help="Make the reference files of drift checks from recordings in which all was well.")
@click.argument("logs", nargs=-1, required=True, metavar="LOG...", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--envelope",
    "-e",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The envelope file; its drift checks name signals, modes and files.",
)
@click.option("--risk", help="Mission risk profile of the envelope; its own default otherwise.")
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the reference files."
)
@click.option(
    "--false-alarms",
    metavar="'1 per 10 h'",
    help="Of the whole robot; what the envelope says otherwise (1 per 10 h where it says nothing).",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 0.999),
    default=0.95,
    show_default=True,
    help="With which the interval between false alarms is certified.",
)
@click.option("--author", default="", help="Who answers for the references.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    logs: tuple[Path, ...],
    envelope: Path,
    risk: str | None,
    out: Path,
    false_alarms: str | None,
    confidence: float,
    author: str,
    as_json: bool,
) -> int:
    """Learn from LOGs how signals behave when all is well; set thresholds for a stated interval between false alarms.

    LOGs are divided, whole, into one part to fit, one to set thresholds and one to certify them; at least three are
    needed. What is not calibrated is written as well, and says why: its thresholds are nominal. Exit code 4 when a part
    of a LOG could not be read.
    """
    from edge_monitor import envelope as envelopes
    from edge_monitor.envelope.units import positive_duration
    from edge_monitor.errors import UsageError

    from ..references import make, requests
    from .run import progress

    interval_s = None
    if false_alarms is not None:
        try:
            interval_s = positive_duration(false_alarms.removeprefix("1 per ").strip()) / 1e9
        except ValueError as error:
            raise UsageError(f"--false-alarms: {error}") from None
    loaded = envelopes.load(envelope, risk=risk, references=False)
    asked = requests(loaded, interval_s=interval_s, confidence=confidence, author=author)
    with progress(logs[0], not sys.stderr.isatty()) as tell:
        made, damages = make(logs, loaded, out, asked, tell)
    if as_json:
        document = {
            "references": [one.document() for one in made],
            "damage": [{"where": damage.where, "what": damage.what} for damage in damages],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        for one in made:
            show(one)
        for damage in damages:
            click.echo(f"damage: {damage.where}: {damage.what}", err=True)
    return 4 if damages else 0


def show(made: Made) -> None:
    """Print one reference."""
    if made.baseline is None:
        click.echo(f"{made.path}: not made: {made.problem}")
        return
    header = made.baseline.header
    promise = header["promise"]
    click.echo(f"{made.path}  {header['signal']}, for {', '.join(made.checks)}")
    if header["calibrated"]:
        hours = promise["interval_s"] / 3600
        click.echo(
            f"  calibrated: at least {hours:g} h between false alarms of all drift checks together in the mean, with "
            f"{promise['confidence']:.0%} confidence; this check's share {promise['weight']:.3g}"
        )
    else:
        click.echo("  not calibrated (thresholds are nominal):")
        for reason in header["reasons"]:
            click.echo(f"    - {reason}")
    for mode in header["left_out"]:
        click.echo(f"  left out, the check is unknown there: {mode}")
    orders = ", ".join(f"{int(order)}" for order in made.baseline.arrays["order"])
    seconds = {
        name: sum(s["seconds"] for s in header["sources"] if s["fold"] == name) for name in ("fit", "set", "certify")
    }
    folds = ", ".join(f"{name} {length:.4g} s" for name, length in seconds.items())
    click.echo(
        f"  one value each {promise['block_s']:.3g} s ({header['block']} samples), autoregression of order {orders}; {folds}"
    )
    click.echo(f"  sha256 {made.digest}")
