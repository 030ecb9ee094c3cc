"""``edge-registry access``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from .options import BY, DATABASE, FOLDER


@click.group()
def command() -> None:
    """Hand out tokens with which people sign in to the pages, list and withdraw them."""


@command.command()
@click.argument("person")
@click.option(
    "--days", default=90, show_default=True, type=click.IntRange(1, 3650), help="After so long it counts no more."
)
@BY
@FOLDER
@DATABASE
def grant(person: str, days: int, by: str, folder: Path, database: str | None) -> None:
    """Print a token for PERSON, an id of the people file. It is shown once; the registry keeps a hash of it."""
    from ..house import open_house
    from ..web.access import grant as granted
    from ..web.pages_store import PagesStore

    store = PagesStore(open_house(folder, database).database)
    try:
        with store.own() as tx:
            number, token = granted(tx, person, by, days, int(time.time()))
    finally:
        store.close()
    click.echo(f"token {number} of {person}, for {days} days; whoever has it is {person} here:", err=True)
    click.echo(token)


@command.command("list")
@FOLDER
@DATABASE
def show(folder: Path, database: str | None) -> None:
    """List the tokens: whose, until when, and when last used."""
    from ..house import open_house
    from ..web.pages_store import PagesStore
    from ..web.people import tokens

    store = PagesStore(open_house(folder, database).database)
    try:
        with store.read() as tx:
            rows = tokens(tx, int(time.time()))
    finally:
        store.close()
    for row in rows:
        until = f"made {row.made} by {row.made_by}, expires {row.expires}, {row.used}"
        click.echo(f"{row.number:>4}  {row.person:20} {row.state.word:36} {until}")
    if not rows:
        click.echo("no token was handed out yet")


@command.command()
@click.argument("number", type=int)
@BY
@FOLDER
@DATABASE
def withdraw(number: int, by: str, folder: Path, database: str | None) -> None:
    """Let token NUMBER count no more; whoever signed in with it is out at once."""
    from ..house import open_house
    from ..web.access import withdraw as withdrawn
    from ..web.pages_store import PagesStore

    store = PagesStore(open_house(folder, database).database)
    try:
        with store.own() as tx:
            person = withdrawn(tx, number, by, int(time.time()))
    finally:
        store.close()
    click.echo(f"token {number} of {person} counts no more")
