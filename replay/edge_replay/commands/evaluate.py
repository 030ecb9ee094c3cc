"""``edge-replay evaluate``: false alarms and delays of drift checks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_monitor.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from ..evaluate import Evaluation


@click.command(short_help="How often do drift checks alarm falsely, and how late do they find shifts?")
@click.argument("logs", nargs=-1, required=True, metavar="LOG...", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--envelope",
    "-e",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The envelope file.",
)
@click.option("--risk", help="Mission risk profile of the envelope; its own default otherwise.")
@click.option("--shifts", default="0.5,1,2", show_default=True, help="Sizes of injected shifts, in deviations.")
@click.option("--within", default=60.0, show_default=True, help="Seconds after which a shift counts as missed.")
@click.option("--trials", default=100, show_default=True, type=click.IntRange(1, 100_000), help="Shifts of each size.")
@click.option("--seed", default=0, show_default=True, help="Of the times at which shifts begin.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    logs: tuple[Path, ...],
    envelope: Path,
    risk: str | None,
    shifts: str,
    within: float,
    trials: int,
    seed: int,
    as_json: bool,
) -> int:
    """Run the drift checks over LOGs in which all was well, ideally ones that calibration has not seen.

    Alarms are counted and bounded (exact Poisson, 95 %); then shifts are injected at random times, with several signals
    at once into one of them; also one of these is replaced by itself at another time, which breaks nothing but its
    correlation with the others. Beside it stands what a detector that always fires would get. Exit code 4 when a part
    of a LOG could not be read.
    """
    from edge_monitor import envelope as envelopes

    from ..evaluate import evaluate
    from ..references import drift_checks
    from ..signals import read
    from .run import progress

    try:
        sizes = [float(size) for size in shifts.split(",")]
    except ValueError:
        raise UsageError(f"--shifts: expected numbers such as `0.5,1,2`, got {shifts!r}") from None
    loaded = envelopes.load(envelope, risk=risk)
    checks = drift_checks(loaded)
    if not checks:
        raise ConfigError(f"{envelope}: has no drift check with a `reference`: there is nothing to evaluate")
    modes = {one.signal: one.mode for one in checks.values() if not one.signals}
    vectors = {one.signals: one.mode for one in checks.values() if one.signals}
    with progress(logs[0], not sys.stderr.isatty()) as tell:
        extract = read(logs, loaded, modes, tell, vectors=vectors)
    results: dict[str, Evaluation] = {}
    for name, one in checks.items():
        assert one.reference is not None
        assert one.reference.content is not None
        results[name] = evaluate(
            extract.vectors[one.signals] if one.signals else extract.series[one.signal],
            one.reference.content,
            one.detector,
            settings=one.settings,
            sizes=sizes,
            trials=trials,
            within_s=within,
            seed=seed,
        )
    if as_json:
        document = {
            "checks": {name: found.document() for name, found in results.items()},
            "damage": [{"where": damage.where, "what": damage.what} for damage in extract.damages],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        for name, found in results.items():
            show(name, found.document())
        for damage in extract.damages:
            click.echo(f"damage: {damage.where}: {damage.what}", err=True)
    return 4 if extract.damages else 0


def show(name: str, found: dict[str, Any]) -> None:
    """Print one check."""
    status = "calibrated" if found["calibrated"] else "not calibrated"
    click.echo(f"{name}  {found['detector']} on {found['signal']}, {status}")
    low, high = found["alarms_per_hour_95"]
    if high is None:
        click.echo("  no known sample in the recordings")
        return
    click.echo(
        f"  {found['alarms']} alarms in {found['hours']:.3g} h: {found['alarms_per_hour']:.3g} an hour "
        f"(95 %: {low:.3g} to {high:.3g}); always firing: {found['always_fire']['alarms_per_hour']:.4g}"
    )
    of_one = " in one of them" if "decoupled" in found else ""
    for shift in found["shifts"]:
        show_delays(f"shift of {shift['shift_deviations']:g} deviations{of_one}", shift, found["within_s"])
    if "decoupled" in found:
        show_delays("one of them as at another time", found["decoupled"], found["within_s"])


def show_delays(what: str, found: dict[str, Any], within_s: float) -> None:
    """Print how one kind of change was found."""
    if not found["trials"]:
        click.echo(f"  {what}: no trial: the recordings are shorter than run-up and {within_s:g} s")
        return
    mean = "-" if found["delay_mean_s"] is None else f"{found['delay_mean_s']:.3g} s"
    p95 = "missed" if found["delay_p95_s"] is None else f"{found['delay_p95_s']:.3g} s"
    click.echo(f"  {what}: delay mean {mean}, P95 {p95}; {found['missed_share']:.1%} missed in {within_s:g} s")
