"""``edge-replay calibrate``: reference files for drift checks, hard cases and sensors, and models of residuals."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..references import Made, MadeModel
    from ..sensors import MadeSensor


@click.command(short_help="Make the files that an envelope names from recordings in which all was well.")
@click.argument("logs", nargs=-1, required=True, metavar="LOG...", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--envelope",
    "-e",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The envelope file; its drift checks, residuals, hard cases and sensors name the files.",
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
    Of cameras and lidars with a `reference`, learn the medians over all frames.

    Models of residuals are fitted first: how a response follows its commands. Their files need not exist before.

    LOGs are divided, whole, into one part to fit, one to set thresholds and one to certify them; at least three are
    needed. What is not calibrated is written as well, and says why: its thresholds are nominal. Exit code 4 when a part
    of a LOG could not be read.
    """
    from edge_monitor import envelope as envelopes
    from edge_monitor.envelope.units import positive_duration
    from edge_monitor.errors import ConfigError, UsageError

    from .. import sensors
    from ..references import make, make_models, requests
    from .run import progress

    interval_s = None
    if false_alarms is not None:
        try:
            interval_s = positive_duration(false_alarms.removeprefix("1 per ").strip()) / 1e9
        except ValueError as error:
            raise UsageError(f"--false-alarms: {error}") from None
    loaded = envelopes.load(envelope, risk=risk, references=False)
    asked = requests(loaded, interval_s=interval_s, confidence=confidence, author=author)
    if not asked and not sensors.referenced(loaded) and not any(signal.residual for signal in loaded.signals):
        raise ConfigError(
            f"{envelope}: no drift check, hard case or sensor names a `reference`, no signal a `residual`: there is nothing "
            "to calibrate"
        )
    with progress(logs[0], not sys.stderr.isatty()) as tell:
        measured, loaded, damages = sensors.make(logs, loaded, out, author, tell)
        models, loaded = make_models(logs, loaded, out, author=author, progress=tell)
        made: list[Made] = []
        if asked:
            made, more = make(logs, loaded, out, asked, tell, models)
            damages += [damage for damage in more if damage not in damages]
    if as_json:
        document = {
            "models": [one.document() for one in models],
            "references": [one.document() for one in made],
            "sensors": [one.document() for one in measured],
            "damage": [{"where": damage.where, "what": damage.what} for damage in damages],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        for model in models:
            show_model(model)
        for sensor in measured:
            show_sensor(sensor)
        for one in made:
            show(one)
        for damage in damages:
            click.echo(f"damage: {damage.where}: {damage.what}", err=True)
    return 4 if damages else 0


def show_model(made: MadeModel) -> None:
    """Print one model."""
    if made.model is None:
        click.echo(f"{made.path}: not made: {made.problem}")
        return
    header = made.model.header
    click.echo(f"{made.path}  {made.signal}: {header['response']} from {', '.join(header['commands'])}")
    click.echo("  usable" if made.model.usable else "  not usable:")
    for reason in header["reasons"]:
        click.echo(f"    - {reason}")
    click.echo(
        f"  {header['na']} past samples, {header['nb']} of each command, {header['delay']} late, each "
        f"{header['period_ns'] / 1e6:.4g} ms" + (", by ridge regression (ill-conditioned)" if header["ridge"] else "")
    )
    numbers = {
        "one-step R²": header["r2_certify"],
        "fitted": header["r2_fit"],
        "explained by the commands beyond the response's own past": header["explained"],
    }
    click.echo("  " + ", ".join(f"{name} {'-' if x is None else format(x, '.4g')}" for name, x in numbers.items()))
    if "white_p" in header:
        click.echo(
            f"  residuals white with p = {header['white_p']:.2g} (Ljung-Box, 20 lags); largest correlation "
            f"{header['largest_correlation']:.3g}"
        )
    click.echo(f"  sha256 {made.digest}")


def show_sensor(made: MadeSensor) -> None:
    """Print one sensor's reference, and how far its frames were from it: limits must leave that room."""
    from ..sensors import FEW

    if made.reference is None:
        click.echo(f"{made.path}: not made: {made.problem}")
        return
    header = made.reference.header
    size = f" of {header['width']} x {header['height']} pixels" if "width" in header else ""
    few = f" (few: {FEW} say more)" if header["frames"] < FEW else ""
    refused = f", {header['refused']} could not be measured" if header["refused"] else ""
    click.echo(f"{made.path}  {header['kind']} {made.topic}: {header['frames']} frames{size}{few}{refused}")
    for name, (least, low, _, high, most) in header["seen"].items():
        click.echo(f"  {name}: {least:.3g} to {most:.3g}, 98 % of frames {low:.3g} to {high:.3g}")
    click.echo(f"  sha256 {made.digest}")


def show(made: Made) -> None:
    """Print one reference."""
    from ..references import HARD_CASES

    if made.baseline is None:
        click.echo(f"{made.path}: not made: {made.problem}")
        return
    header = made.baseline.header
    promise = header["promise"]
    click.echo(f"{made.path}  {', '.join(made.baseline.signals)}, for {', '.join(made.checks)}")
    if made.checks == (HARD_CASES,):
        click.echo(f"  {int(sum(made.baseline.arrays['size']))} values to rank by")
    elif header["calibrated"]:
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
