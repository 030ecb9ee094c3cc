"""``edge-monitor warm``."""

from __future__ import annotations

import click


@click.command()
def command() -> None:
    """Compile all kernels now, so that the first start is quick.

    Run it once after installation. Compiled code is kept in the user's cache folder, or where EDGE_MONITOR_CACHE_DIR
    says; a later start loads it in a fraction of a second.
    """
    import time

    start = time.perf_counter()
    from ..core.engine import warm as warm_engine
    from ..core.jit import cache_base
    from ..core.layout import warm as warm_layout

    warm_engine()
    warm_layout()
    click.echo(f"kernels ready in {time.perf_counter() - start:.1f} s; kept in {cache_base()}")
