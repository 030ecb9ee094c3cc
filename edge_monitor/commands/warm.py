"""``edge-monitor warm``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click


@click.command()
@click.argument("envelopes", metavar="[ENVELOPE]...", nargs=-1, type=click.Path(exists=True, path_type=Path))
def command(envelopes: tuple[Path, ...]) -> None:
    """Compile all kernels now, so that the first start is quick.

    Run it once after installation; it takes minutes. With ENVELOPEs, only what they need is compiled. Compiled code is
    kept in the user's cache folder, or where EDGE_MONITOR_CACHE_DIR says; a later start loads it in a fraction of a second.
    """
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from ..core.jit import cache_base

    start = time.perf_counter()
    steps = _steps(envelopes)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=Console(stderr=True), transient=True, auto_refresh=False, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("", total=len(steps))
        for name, step in steps:
            bar.update(task, description=f"compiling the {name}", refresh=True)
            step()
            bar.advance(task)
    click.echo(f"{len(steps)} kernels ready in {time.perf_counter() - start:.1f} s; kept in {cache_base()}")


def _steps(envelopes: tuple[Path, ...]) -> list[tuple[str, Callable[[], None]]]:
    """What to compile, each with its name."""
    from ..core.engine import VARIANTS, warm
    from ..core.layout import warm as warm_layout
    from ..mavlink.framing import warm as warm_framing

    variants, vehicles = set(VARIANTS), True
    if envelopes:
        from ..envelope import load
        from ..runtime import Monitor

        loaded = [load(path) for path in envelopes]
        variants = {Monitor(envelope).engine.variant for envelope in loaded}
        vehicles = any(signal.topic.startswith("mavlink/") for envelope in loaded for signal in envelope.signals)
    steps: list[tuple[str, Callable[[], None]]] = [("layout", warm_layout)]
    if vehicles:
        steps.append(("frames of MAVLink", warm_framing))
    for variant in VARIANTS:
        if variant in variants:
            parts = [name for name, has in zip(variant._fields, variant, strict=True) if has]
            steps.append((" with ".join(["engine", *([" and ".join(parts)] if parts else [])]), partial(warm, variant)))
    return steps
