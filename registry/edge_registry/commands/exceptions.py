"""``edge-registry exceptions``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import AS_JSON, DATABASE, FOLDER, KEY, PEOPLE, PERSON

if TYPE_CHECKING:
    from ..catalogue.documents import ExceptionDocument


@click.group()
def command() -> None:
    """What is not as it should be: list it, say who looks after it, settle it."""


@command.command(name="list")
@FOLDER
@DATABASE
@PEOPLE
@click.option("--all", "everything", is_flag=True, help="Settled ones too.")
@click.option("--robot", default="", help="Of this robot only.")
@AS_JSON
def list_(
    folder: Path, database: str | None, people_file: Path | None, everything: bool, robot: str, as_json: bool
) -> None:
    """Look through what came in, and list what is open, the newest first: what, whose, until when."""
    from ..blobs import Blobs
    from ..catalogue.exceptions import exceptions
    from ..catalogue.opening import opened
    from ..catalogue.watch import Watch
    from ..configuration import load

    with opened(folder, database, people_file) as desk:
        own = load(folder)
        blobs = Blobs(desk.house.blobs)
        Watch(
            desk.store, lambda: desk.trust, owner=own.owner, deadline_s=own.deadline_s, blobs=blobs, grace_s=own.grace_s
        ).run_to_end()
        with desk.reading() as catalogue:
            found = exceptions(catalogue, only_open=not everything, robot=robot)
    if as_json:
        click.echo(json.dumps(found))
        return
    for one in found:
        click.echo(_line(one))
    if not found:
        click.echo("no exception is open" if not everything else "there has been no exception")


@command.command()
@FOLDER
@DATABASE
@PEOPLE
def watch(folder: Path, database: str | None, people_file: Path | None) -> None:
    """Look through what comes in and open exceptions, until stopped. 'serve --http' does so too, beside the pages."""
    import signal

    from ..blobs import Blobs
    from ..catalogue.opening import PEOPLE_FILE
    from ..catalogue.watching import Watching
    from ..configuration import load
    from ..house import open_house
    from ..web.people import PeopleFile

    house = open_house(folder, database)
    store = house.store()
    people = PeopleFile(people_file or folder / PEOPLE_FILE)
    watching = Watching(
        store, people, load(folder), lambda words: click.echo(f"edge-registry: {words}", err=True), Blobs(house.blobs)
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: watching.end())
    try:
        watching.run()
    finally:
        store.close()


@command.command()
@click.argument("number", type=int)
@FOLDER
@DATABASE
@PEOPLE
@PERSON
@KEY
@click.option("--owner", required=True, help="Who looks after it from now on.")
@click.option("--reason", required=True, help="Why; it is signed too.")
def assign(
    number: int, folder: Path, database: str | None, people_file: Path | None, person: str, key_file: Path, owner: str,
    reason: str,
) -> None:  # fmt: skip
    """Give exception NUMBER an owner, who works on it."""
    _change(number, folder, database, people_file, person, key_file, "mitigating", reason, owner)


@command.command()
@click.argument("number", type=int)
@FOLDER
@DATABASE
@PEOPLE
@PERSON
@KEY
@click.option(
    "--as", "state", type=click.Choice(("mitigated", "accepted", "closed")), default="closed", show_default=True,
    help="How it ends. It opens again when it is seen anew, unless it is accepted.",
)  # fmt: skip
@click.option("--reason", required=True, help="Why; it is signed too.")
def close(
    number: int, folder: Path, database: str | None, people_file: Path | None, person: str, key_file: Path, state: str,
    reason: str,
) -> None:  # fmt: skip
    """Settle exception NUMBER. Its owner can't: another person with the role 'assurance' or 'approver' signs."""
    _change(number, folder, database, people_file, person, key_file, state, reason, "")


def _change(
    number: int, folder: Path, database: str | None, people_file: Path | None, person: str, key_file: Path, state: str,
    reason: str, owner: str,
) -> None:  # fmt: skip
    from ..catalogue.exceptions import changed, exception, record
    from ..catalogue.opening import opened

    with opened(folder, database, people_file) as desk:
        key = desk.signer(key_file, person)
        with desk.writing() as catalogue:
            record(catalogue, number, changed(catalogue, number, key, person, state, reason, owner))
        with desk.reading() as catalogue:
            click.echo(_line(exception(catalogue, number)))


def _line(one: ExceptionDocument) -> str:
    from edge_monitor.utc import utc_text

    late = " OVERDUE" if one["overdue"] else ""
    owner = one["owner"] or "nobody yet"
    return (
        f"{one['id']}  {utc_text(one['opened_ns'])}  {one['kind']}  {one['state']}{late}  owner {owner}, "
        f"until {utc_text(one['deadline_ns'])}: {one['words']}"
    )
