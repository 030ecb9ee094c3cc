"""``edge-registry promote``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import DATABASE, EXPIRES, FOLDER, KEY, PEOPLE, PERSON, REASON, TICKET


@click.command()
@click.argument("subject")
@FOLDER
@DATABASE
@PEOPLE
@PERSON
@KEY
@click.option("--robot", "robots", multiple=True, help="Enrolled robot that runs it from now on; may repeat: name all.")
@click.option("--withdraw", is_flag=True, help="No robot may run it any more.")
@TICKET
@REASON
@EXPIRES
def command(
    subject: str, folder: Path, database: str | None, people_file: Path | None, person: str, key_file: Path,
    robots: tuple[str, ...], withdraw: bool, ticket: str, reason: str, expires: str,
) -> None:  # fmt: skip
    """Sign that robots run SUBJECT, a model or baseline that others built, from now on. Exit code 3 and every reason where not.

    It must be registered by a signature that counts, approved by another person, and a test of a model must have passed.
    """
    from edge_monitor.errors import UsageError

    from ..catalogue.deciding import promote
    from ..catalogue.opening import opened, term

    if withdraw and robots:
        raise UsageError("--withdraw and --robot exclude each other")
    with opened(folder, database, people_file) as desk:
        key = desk.signer(key_file, person)
        with desk.writing() as catalogue:
            item = catalogue.find(subject)
            decision = "withdrawn" if withdraw else "promoted"
            until = term(expires, catalogue.now_ns)
            taken = promote(catalogue, item, key, person, decision, robots, ticket, reason, until)
    where = f" to {', '.join(sorted(set(robots)))}" if robots else ""
    click.echo(f"{item.alias} is {decision}{where} by {person} on {ticket}; statement sha256:{taken.digest}")
