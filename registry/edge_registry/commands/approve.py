"""``edge-registry approve``."""

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
@click.option(
    "--decision", type=click.Choice(("approved", "refused", "withdrawn")), default="approved", show_default=True,
    help="What you decide; the newest word of somebody who may counts.",
)  # fmt: skip
@TICKET
@REASON
@EXPIRES
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File for what you signed, to carry on.")
def command(
    subject: str, folder: Path, database: str | None, people_file: Path | None, person: str, key_file: Path, decision: str,
    ticket: str, reason: str, expires: str, out: Path | None,
) -> None:  # fmt: skip
    """Sign that SUBJECT (KIND:NAME@VERSION or a digest) may be used. You have the role 'approver', and it is others' work.

    Of an envelope this makes the approval file that robots take; write it beside the envelope with --out.
    """
    from ..catalogue.deciding import approve
    from ..catalogue.opening import opened, term
    from .writing import write_out

    with opened(folder, database, people_file) as desk:
        key = desk.signer(key_file, person)
        with desk.writing() as catalogue:
            item = catalogue.find(subject)
            taken = approve(catalogue, item, key, person, decision, ticket, reason, term(expires, catalogue.now_ns))
        with desk.reading() as catalogue:
            data = next(one.data for one in catalogue.said_of(item.digest) if one.digest == taken.digest)
    write_out(out, data)
    click.echo(f"{item.alias} is {decision} by {person} on {ticket}; statement sha256:{taken.digest}")
