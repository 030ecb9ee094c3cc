"""``edge-monitor people``."""

from __future__ import annotations

import time
from pathlib import Path

import click


@click.group()
def command() -> None:
    """Check the file of the people who may sign."""


@command.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check(file: Path) -> None:
    """Check a people file: every problem with its line, else who may do what, and until when.

    Exit code 3 if the file cannot be used.
    """
    from ..people import load
    from ..utc import utc_text

    now = time.time_ns()
    people = load(file)
    for person in people.persons.values():
        ends = [one.valid_until for one in (person, *person.keys) if one.valid_until is not None and not one.revoked]
        good = [key for key in person.keys if key.is_valid(now)] if person.is_valid(now) else []
        until = f", first end of validity {utc_text(min(ends))}" if ends else ""
        state = f"{len(good)} of {len(person.keys)} key(s) valid now{until}"
        click.echo(f"{person.id} ({person.name}): {', '.join(sorted(person.roles))}; {state}")
    click.echo(f"{file}: fine: {len(people.persons)} person(s), digest {people.digest[:16]}…")
