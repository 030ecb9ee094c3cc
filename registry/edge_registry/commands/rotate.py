"""``edge-registry rotate``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from .options import BY, DATABASE, FOLDER


@click.command()
@FOLDER
@DATABASE
@BY
@click.option("--reason", required=True, help="Why; it is recorded.")
def command(folder: Path, database: str | None, by: str, reason: str) -> None:
    """Give the registry a new receipt key, and destroy the one before; its public half stays, for receipts that it gave.

    It counts from the next start of 'serve'. A robot takes the new key with a token only: nobody who has the old one can give it
    another. Until then it keeps what it records.
    """
    from edge_monitor.journal.cosignatures import cosigner_of

    from ..decisions import rotated
    from ..house import RECEIPTS, open_house, rotate

    house = open_house(folder, database)
    store = house.store()
    try:
        with store.begin() as tx:
            rotated(tx, house.name, cosigner_of(house.key).text(), by, reason, int(time.time()))
        before = rotate(house)
    finally:
        store.close()
    click.echo(f"{folder / RECEIPTS}  the new key; {before.name} is the one before: verifiers need both")
    click.echo("start 'serve' again; sign the bundle again ('bundle --again'); enrol each robot with another token")
