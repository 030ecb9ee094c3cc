"""``edge-registry revoke``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from .options import BY, DATABASE, FOLDER


@click.command()
@click.argument("robot")
@FOLDER
@DATABASE
@click.option("--after", type=click.IntRange(0), metavar="SEQUENCE", help="Last record that counts; default: all held.")
@click.option("--log", default="", help="Log that --after is about, where the robot has several.")
@click.option("--reason", required=True, help="Why; it is recorded.")
@BY
def command(robot: str, folder: Path, database: str | None, after: int | None, log: str, reason: str, by: str) -> None:
    """Take nothing more from ROBOT: its connections are refused, its logs closed. What is held stays.

    With --after, records of its log count up to that SEQUENCE only: what came later may be of whoever has the key.
    """
    from ..decisions import revoke
    from ..house import open_house

    store = open_house(folder, database).store()
    with store.begin() as tx:
        revoke(tx, robot, by, reason, int(time.time()), after=after, log=log)
    store.close()
    click.echo(f"{robot} is revoked")
