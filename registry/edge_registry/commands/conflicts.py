"""``edge-registry conflicts``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .options import DATABASE, FOLDER

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def command() -> None:
    """List rollbacks and forks, write their proofs to files, and check such a file with nothing but the robot's key."""


@command.command(name="list")
@FOLDER
@DATABASE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_(folder: Path, database: str | None, as_json: bool) -> None:
    """List what robots signed that can't both be true."""
    from datetime import datetime, timezone

    found = _conflicts(folder, database)
    if as_json:
        shown = [{**one, "proof": len(one["proof"])} for one in found]
        click.echo(json.dumps(shown))
        return
    for one in found:
        at = datetime.fromtimestamp(one["at_s"], timezone.utc).isoformat(timespec="seconds")
        end = f"; resolved: {one['resolution']}" if one["resolved_s"] is not None else ""
        click.echo(f"{one['id']}  {at}  {one['kind']}  {one['origin']}: {one['words']}{end}")


@command.command()
@click.argument("number", type=int)
@FOLDER
@DATABASE
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="New file for the proof.")
def show(number: int, folder: Path, database: str | None, out: Path | None) -> None:
    """Show conflict NUMBER, and write its proof to a file that 'conflicts check' takes anywhere."""
    from edge_monitor.errors import UsageError

    one = next((one for one in _conflicts(folder, database) if one["id"] == number), None)
    if one is None:
        raise UsageError(f"no conflict {number}; 'edge-registry conflicts list' shows them")
    click.echo(f"{one['kind']} of {one['origin']}: {one['words']}")
    if one["resolved_s"] is not None:
        click.echo(f"resolved: {one['resolution']}")
    if not one["proof"]:
        click.echo("no proof: an empty journal signs nothing")
    elif out is not None:
        try:
            with out.open("xb") as stream:
                stream.write(one["proof"])
        except OSError as error:
            raise UsageError(f"{out}: {error.strerror}; name a new file in a folder you can write to") from None
        click.echo(f"{out}: {len(one['proof'])} bytes of proof")


@command.command()
@click.argument("file", type=FILE)
@click.argument("key", type=FILE)
def check(file: Path, key: Path) -> None:
    """Check the proof in FILE with the robot's public identity KEY (.pub) alone. Exit code 5 when it proves nothing."""
    from edge_monitor.errors import VerificationError
    from edge_monitor.journal.keys import load_verifier_key
    from edge_monitor.journal.notes import parse_checkpoint, split_note

    from ..conflicts import check as checked

    identity = load_verifier_key(key)
    try:
        proof = checked(file.read_bytes(), identity)
    except VerificationError as error:
        raise VerificationError(f"{file}: {error}") from None
    ours, theirs = (parse_checkpoint(split_note(side.checkpoint)[0]) for side in (proof.ours, proof.theirs))
    what = f"two records {proof.ours.sequence}, under heads" if proof.kind == "fork" else "two heads, the later"
    click.echo(f"proven: {identity.name} signed {what} of {ours.size} and {theirs.size} records of {ours.origin}")


def _conflicts(folder: Path, database: str | None) -> list[dict[str, Any]]:
    import sqlalchemy as sa

    from .. import tables as t
    from ..house import open_house

    store = open_house(folder, database).store()
    with store.read() as tx:
        query = sa.select(t.conflicts, t.logs.c.origin).join(t.logs, t.logs.c.log == t.conflicts.c.log)
        found = [dict(row) for row in tx.connection.execute(query.order_by(t.conflicts.c.id)).mappings()]
    store.close()
    return found
