"""``edge-registry serve``."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import DATABASE, FOLDER, HTTP_HELP, OIDC_CLIENT, OIDC_ISSUER, OIDC_SECRET, PEOPLE, TLS_CERT, TLS_KEY, URL

if TYPE_CHECKING:
    from ..web.serving import Beside

GARBAGE = 100_000  #: new objects before the collector looks for cycles
#: A thread unpacks what comes next while another waits for the database: after each answer that one would wait for Python's
#: usual 5 ms.
SWITCH_S = 0.0005


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
@OIDC_ISSUER
@OIDC_CLIENT
@OIDC_SECRET
@URL
def command(
    folder: Path, database: str | None, name: str, sync: str, enrol: str, http: str | None, tls_cert: Path | None,
    tls_key: Path | None, people_file: Path | None, oidc_issuer: str | None, oidc_client: str | None, oidc_secret: Path | None,
    url: str | None,
) -> None:  # fmt: skip
    """Take what enrolled robots have recorded, until stopped. Makes keys and database where they are missing.

    Only enrolled CURVE keys get in. Several may serve one PostgreSQL database, each at an address of its own. With --http
    the pages are served too, by a process of their own.
    """
    from ..blobs import Blobs
    from ..house import open_house
    from ..ingest import Ingest
    from ..server import Addresses, Server

    given = {
        "--database": database, "--tls-cert": tls_cert, "--tls-key": tls_key, "--people": people_file,
        "--oidc-issuer": oidc_issuer, "--oidc-client": oidc_client, "--oidc-secret": oidc_secret, "--url": url,
    }  # fmt: skip
    pages = _pages(folder, http, given)
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
    sys.setswitchinterval(SWITCH_S)

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


def _pages(folder: Path, http: str | None, given: Mapping[str, str | Path | None]) -> Beside | None:
    """The process of the pages, not begun yet; ``given``: options of 'edge-registry web'. Raises ``ConfigError`` for what can't
    be."""
    if http is None:
        return None
    from ..web.serving import Beside, parse_address, provider

    address = parse_address(http, _path(given["--tls-cert"]), _path(given["--tls-key"]))
    issuer, client = (None if (one := given[name]) is None else str(one) for name in ("--oidc-issuer", "--oidc-client"))
    if issuer is not None or client is not None:
        url = str(given["--url"] or f"{'https' if address.secure else 'http'}://{http.replace(':*', '')}/")
        provider(issuer, client, _path(given["--oidc-secret"]), url, time.time)
    arguments = ["--dir", str(folder), "--http", http]
    for option, value in given.items():
        arguments += [option, str(value)] if value is not None else []
    return Beside(arguments, lambda words: click.echo(f"edge-registry: {words}", err=True))


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)
