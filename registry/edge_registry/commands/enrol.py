"""``edge-registry enrol``."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from .options import DATABASE, FOLDER


@click.command()
@click.argument("robot")
@FOLDER
@DATABASE
@click.option(
    "--sync", "sync", default="tcp://127.0.0.1:7381", show_default=True, help="Address that the robot will sync with."
)
@click.option("--enrol", default="tcp://127.0.0.1:7382", show_default=True, help="Address that it will enrol at.")
@click.option(
    "--hours", default=24.0, show_default=True, type=click.FloatRange(0.01, 24 * 90), help="How long the token is good."
)
def command(robot: str, folder: Path, database: str | None, sync: str, enrol: str, hours: float) -> None:
    """Print a one-time token for ROBOT, the name of its identity key; 'edge-monitor sync enrol' takes it on the robot.

    An enrolled robot that gets another token rotates its CURVE key with it.
    """
    from edge_monitor.journal.cosignatures import cosigner_of
    from edge_monitor.sync.enrolment import Token

    from ..house import open_house

    house = open_house(folder, database)
    secret = os.urandom(24)
    store = house.store()
    with store.begin() as tx:
        tx.invite(robot, secret, time.time_ns() + int(hours * 3600e9))
    store.close()
    click.echo(Token(robot, sync, enrol, house.curve[0], cosigner_of(house.key).text(), secret).text())
