"""``edge-registry import``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import DATABASE, FOLDER

AT_ONCE = 16  #: batches that one transaction takes


@click.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@FOLDER
@DATABASE
@click.option(
    "--receipt", "receipt_file", type=click.Path(dir_okay=False, path_type=Path),
    help="File for the receipt, which 'edge-monitor sync import' takes back on the robot. Default: FILE.receipt",
)  # fmt: skip
def command(file: Path, folder: Path, database: str | None, receipt_file: Path | None) -> int:
    """Take the records of an enrolled robot from FILE, which 'edge-monitor sync export' wrote, and write a receipt.

    Exit code 4 for a damaged file, 5 for records that do not verify, 1 for those that contradict what is held: the log is
    quarantined then. A second import of the same file changes nothing.
    """
    from itertools import islice

    from edge_monitor.errors import VerificationError
    from edge_monitor.sync import wire
    from edge_monitor.sync.stick import frames

    from ..house import open_house
    from ..ingest import Ingest

    house = open_house(folder, database)
    store = house.store()
    ingest = Ingest(house.key, former=house.former)
    messages = frames(file)
    hello = next(messages, None)
    if not isinstance(hello, wire.Hello):
        raise VerificationError(f"{file}: does not begin as an export does; export again")
    batches = (message for message in messages if isinstance(message, wire.Batch))
    try:
        log = None
        while some := list(islice(batches, AT_ONCE)):
            with store.begin() as tx:
                log, conflict = ingest.carried(tx, hello, some)
            if conflict:
                click.echo(f"edge-registry: {hello.origin} is quarantined: {conflict}", err=True)
                return 1
    finally:
        store.close()
    if log is None:
        click.echo(f"{file}: holds no records that are new; nothing is changed")
        return 0
    out = receipt_file or file.with_name(file.name + ".receipt")
    out.write_text(log.receipt, "utf-8")
    click.echo(
        f"{out}  {log.size} records of {log.robot} are held; take it back to the robot: 'edge-monitor sync import'"
    )
    return 0
