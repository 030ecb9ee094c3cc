"""``edge-registry serve``."""

from __future__ import annotations

import gc
import signal
import threading
from pathlib import Path

import click

from .options import DATABASE, FOLDER

GARBAGE = 100_000  #: new objects before the collector looks for cycles


@click.command()
@FOLDER
@DATABASE
@click.option("--name", default="registry", show_default=True, help="What it signs receipts as; fixed once it is made.")
@click.option("--sync", "sync", default="tcp://127.0.0.1:7381", show_default=True, help="Address where robots sync.")
@click.option("--enrol", default="tcp://127.0.0.1:7382", show_default=True, help="Address where robots enrol.")
def command(folder: Path, database: str | None, name: str, sync: str, enrol: str) -> None:
    """Take what enrolled robots have recorded, until stopped. Makes keys and database where they are missing.

    Only enrolled CURVE keys get in. Several may serve one PostgreSQL database, each at an address of its own.
    """
    from ..blobs import Blobs
    from ..house import open_house
    from ..ingest import Ingest
    from ..server import Addresses, Server

    house = open_house(folder, database, make=name)
    store = house.store()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = Server(
        store, Ingest(house.key), Blobs(house.blobs), Addresses(sync, enrol), house.curve,
        tell=lambda words: click.echo(f"edge-registry: {words}", err=True),
    )  # fmt: skip
    where = server.addresses
    click.echo(
        f"edge-registry: {house.name} takes records at {where.sync}, enrols at {where.enrol}; Ctrl-C stops it", err=True
    )
    # Rows come by the ten thousand, in lists that hold no cycle: looking for some among them would take a third of the time.
    gc.freeze()
    gc.set_threshold(GARBAGE)
    try:
        server.run(stop.is_set)
    finally:
        server.close()
        store.close()
