"""Options of all commands that ask a running monitor: where it is, and with which keys."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..errors import UsageError
from .run import CONTROL

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def reaching(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--control``, ``--curve-key`` and ``--server-key``; ``function`` gets them together as ``control``, a ``Reach``."""

    @functools.wraps(function)
    def reached(*arguments: Any, control: str, curve_key: Path | None, server_key: Path | None, **more: Any) -> Any:
        from ..curve_keys import load_pair, load_public
        from ..onboard.client import Reach

        if (curve_key is None) != (server_key is None):
            raise UsageError(
                "--curve-key and --server-key go together: whose key you have, and which monitor's you expect"
            )
        pair = None if curve_key is None else load_pair(curve_key)
        server = "" if server_key is None else load_public(server_key)
        return function(*arguments, control=Reach(control, pair, server), **more)

    for option in (
        click.option(
            "--server-key", type=FILE, envvar="EDGE_MONITOR_SERVER_KEY",
            help="The monitor's public CURVE key; default: $EDGE_MONITOR_SERVER_KEY.",
        ),
        click.option(
            "--curve-key", type=FILE, envvar="EDGE_MONITOR_CURVE_KEY",
            help="Your CURVE key, where the monitor asks for one; default: $EDGE_MONITOR_CURVE_KEY.",
        ),
        click.option(
            "--control", default=CONTROL, envvar="EDGE_MONITOR_CONTROL",
            help=f"The monitor's address for requests; default: $EDGE_MONITOR_CONTROL, else {CONTROL}.",
        ),
    ):  # fmt: skip
        reached = option(reached)
    return reached
