"""``edge-registry serve``."""

from __future__ import annotations

import gc
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import DATABASE, FOLDER, HTTP_HELP, PEOPLE, TLS_CERT, TLS_KEY

if TYPE_CHECKING:
    from ..web.serving import Beside

GARBAGE = 100_000  #: new objects before the collector looks for cycles


@click.command()
@FOLDER
@DATABASE
@click.option("--name", default="registry", show_default=True, help="What it signs receipts as; fixed once it is made.")
@click.option("--sync", "sync", default="tcp://127.0.0.1:7381", show_default=True, help="Address where robots sync.")
@click.option("--enrol", default="tcp://127.0.0.1:7382", show_default=True, help="Address where robots enrol.")
@click.option("--http", metavar="HOST:PORT", help=HTTP_HELP)
@TLS_CERT
@TLS_KEY
@PEOPLE
def command(
    folder: Path, database: str | None, name: str, sync: str, enrol: str, http: str | None, tls_cert: Path | None,
    tls_key: Path | None, people_file: Path | None,
) -> None:  # fmt: skip
    """Take what enrolled robots have recorded, until stopped. Makes keys and database where they are missing.

    Only enrolled CURVE keys get in. Several may serve one PostgreSQL database, each at an address of its own. With --http
    the pages are served too, by a process of their own.
    """
    from ..blobs import Blobs
    from ..house import open_house
    from ..ingest import Ingest
    from ..server import Addresses, Server

    pages = _pages(folder, database, http, tls_cert, tls_key, people_file)
    house = open_house(folder, database, make=name)
    store = house.store()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = Server(
        store, Ingest(house.key, former=house.former), Blobs(house.blobs), Addresses(sync, enrol), house.curve,
        tell=lambda words: click.echo(f"edge-registry: {words}", err=True),
    )  # fmt: skip
    where = server.addresses
    click.echo(
        f"edge-registry: {house.name} takes records at {where.sync}, enrols at {where.enrol}; Ctrl-C stops it", err=True
    )
    # Rows come by the ten thousand, in lists that hold no cycle: looking for some among them would take a third of the time.
    gc.freeze()
    gc.set_threshold(GARBAGE)

    def done() -> bool:
        if pages is not None:
            pages.look()
        return stop.is_set()

    try:
        server.run(done)
    finally:
        if pages is not None:
            pages.stop()
        server.close()
        store.close()


def _pages(
    folder: Path,
    database: str | None,
    http: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    people: Path | None,
) -> Beside | None:
    """The process of the pages, not begun yet. Raises ``ConfigError`` for an address that can't be."""
    if http is None:
        return None
    from ..web.serving import Beside, parse_address

    parse_address(http, tls_cert, tls_key)
    arguments = ["--dir", str(folder), "--http", http]
    for option, value in (
        ("--database", database),
        ("--tls-cert", tls_cert),
        ("--tls-key", tls_key),
        ("--people", people),
    ):
        arguments += [option, str(value)] if value is not None else []
    return Beside(arguments, lambda words: click.echo(f"edge-registry: {words}", err=True))
