"""``edge-registry backup``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import DATABASE, FOLDER


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@FOLDER
@DATABASE
def command(file: Path, folder: Path, database: str | None) -> None:
    """Copy the database, as it is at one moment and while the registry serves, to FILE. For SQLite; PostgreSQL has pg_dump.

    Keys and delivered files are not in it: copy the folder's *.key, *.curve and blobs too, the keys to a safe place.
    """
    from edge_monitor.errors import UsageError

    from ..house import open_house
    from ..web.pages_store import SUFFIX

    store = open_house(folder, database).store()
    source = store.engine.url.database if store.is_sqlite else None
    store.close()
    if source is None:
        raise UsageError("the database is PostgreSQL: back it up with 'pg_dump --format=custom'")
    if file.exists():
        raise UsageError(f"{file} exists; name another file")
    size = _copied(Path(source), file)
    beside = Path(source + SUFFIX)
    if beside.exists():  # who read what, and who may
        size += _copied(beside, file.with_name(file.name + SUFFIX))
    click.echo(f"{file}  {size} bytes; robots send again what came since, and the registry takes it up")


def _copied(source: Path, file: Path) -> int:
    """Copy a database as it is at one moment; answers its bytes. Raises ``UsageError``."""
    import os
    import sqlite3

    from edge_monitor.errors import UsageError

    part = file.with_name(file.name + ".part")
    try:
        with part.open("xb"):
            pass
        origin, copy = sqlite3.connect(source), sqlite3.connect(part)
        try:
            origin.backup(copy)
            copy.execute("pragma journal_mode = delete")
        finally:
            copy.close()
            origin.close()
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.rename(file)
    except (OSError, sqlite3.Error) as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"{file}: cannot be written ({error})") from None
    return file.stat().st_size
