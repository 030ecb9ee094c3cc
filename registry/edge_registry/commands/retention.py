"""``edge-registry retention``."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from .options import AS_JSON, BY, DATABASE, FOLDER, KEY, PEOPLE, PERSON, TICKET


@click.group()
def command() -> None:
    """How long payloads are kept, and erasing them when their time is over. Records and proofs stay for good."""


@command.command()
@FOLDER
@DATABASE
@AS_JSON
def show(folder: Path, database: str | None, as_json: bool) -> None:
    """Show the window of each event type, what is held, and what is past its window."""
    from dataclasses import asdict

    from ..configuration import load
    from ..house import open_house
    from ..retention import classes, days

    configuration = load(folder)
    store = open_house(folder, database).store()
    with store.read() as tx:
        found = classes(tx, configuration, int(time.time()))
    store.close()
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found]))
        return
    click.echo(f"floor {days(configuration.floor_s)}, default {days(configuration.default_s)}")
    for one in found:
        click.echo(
            f"{one.type or '(of a later version)'}  {days(one.window_s)}  {one.payloads} payloads, {one.over} past it"
        )


@command.command()
@FOLDER
@DATABASE
@BY
def apply(folder: Path, database: str | None, by: str) -> None:
    """Erase the payloads whose windows are over. Run it every night."""
    from .. import retention
    from ..configuration import load
    from ..house import open_house

    configuration = load(folder)
    store = open_house(folder, database).store()
    try:
        done = retention.apply(store, configuration, int(time.time()), by)
    finally:
        store.close()
    click.echo(done.words)


@command.command()
@click.argument("robot")
@FOLDER
@DATABASE
@click.option("--log", default="", help="Log, by its first characters, where the robot has several.")
@click.option("--from", "first", required=True, type=click.IntRange(0), metavar="SEQ", help="First record.")
@click.option("--to", "last", required=True, type=click.IntRange(0), metavar="SEQ", help="Last record.")
@click.option("--reason", required=True, help="Why; it is recorded.")
@BY
def delete(
    robot: str, folder: Path, database: str | None, log: str, first: int, last: int, reason: str, by: str
) -> None:
    """Erase the payloads of some records of ROBOT. Exit code 3 where one is within its window: nothing is erased then.

    That it was asked for is written down in either case.
    """
    from .. import retention
    from ..configuration import load
    from ..evidence import chosen
    from ..house import open_house

    configuration = load(folder)
    store = open_house(folder, database).store()
    try:
        with store.read() as tx:
            number = chosen(tx, robot, log or None).number
        done = retention.delete(store, configuration, number, first, last, int(time.time()), by, reason)
    finally:
        store.close()
    click.echo(done.words)


@command.command()
@click.argument("names", nargs=-1, required=True)
@FOLDER
@DATABASE
@PEOPLE
@PERSON
@KEY
@TICKET
@click.option("--reason", required=True, help="Why; it is signed too. Don't name the person in it.")
def erase(
    names: tuple[str, ...], folder: Path, database: str | None, people_file: Path | None, person: str, key_file: Path,
    ticket: str, reason: str,
) -> None:  # fmt: skip
    """Erase every payload that names a person (their id, their name: NAMES), whatever its window, and sign for it.

    You have the role 'assurance' and are not that person. Packets, backups and copies elsewhere are not reached.
    """
    from ..catalogue.opening import opened
    from ..retention import erase_person

    with opened(folder, database, people_file) as desk:
        key = desk.signer(key_file, person)
        done = erase_person(desk.store, desk.trust, key, person, names, ticket, reason, time.time_ns())
    click.echo(done.words)


@command.command()
@FOLDER
@DATABASE
@AS_JSON
def log(folder: Path, database: str | None, as_json: bool) -> None:
    """List what was erased, and what was refused: when, who, what."""
    from edge_monitor.utc import SECOND, utc_text

    from ..house import open_house
    from ..retention import written_down

    store = open_house(folder, database).store()
    with store.read() as tx:
        found = written_down(tx)
    store.close()
    if as_json:
        click.echo(json.dumps(found))
        return
    for one in found:
        said = f": {one['words']}" if one["words"] else ""
        click.echo(
            f"{utc_text(one['at_s'] * SECOND)}  {one['who']}  {one['what']}  {one['outcome']}, {one['payloads']} payloads, "
            f"records {one['first']} to {one['last']} of {one['origin']}{said}"
        )
    if not found:
        click.echo("nothing was erased, and nothing refused")
