"""``edge-registry release``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from .options import BY, DATABASE, FOLDER


@click.command()
@click.argument("log")
@FOLDER
@DATABASE
@click.option("--reason", required=True, help="Why; it is recorded.")
@BY
def command(log: str, folder: Path, database: str | None, reason: str, by: str) -> None:
    """Take records of LOG again, which is quarantined or closed: a person has looked. Conflicts and their proofs stay.

    A device that still contradicts what is held is quarantined again.
    """
    from ..decisions import release
    from ..house import open_house

    store = open_house(folder, database).store()
    with store.begin() as tx:
        origin = release(tx, log, by, reason, int(time.time()))
    store.close()
    click.echo(f"{origin} is open again")
