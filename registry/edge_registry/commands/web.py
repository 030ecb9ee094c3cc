"""``edge-registry web``."""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import threading
from pathlib import Path

import click

from .options import DATABASE, FOLDER, HTTP_HELP, OIDC_CLIENT, OIDC_ISSUER, OIDC_SECRET, PEOPLE, TLS_CERT, TLS_KEY, URL

#: Threads that follow records work in stretches without a pause, and a page asks the database a dozen times: after each answer it
#: would wait for Python's usual 5 ms.
SWITCH_S = 0.0005


@click.command()
@FOLDER
@DATABASE
@click.option("--http", default="127.0.0.1:8480", show_default=True, metavar="HOST:PORT", help=HTTP_HELP)
@TLS_CERT
@TLS_KEY
@PEOPLE
@OIDC_ISSUER
@OIDC_CLIENT
@OIDC_SECRET
@URL
@click.option("--with-parent", is_flag=True, hidden=True, help="End when standard input closes.")
def command(
    folder: Path, database: str | None, http: str, tls_cert: Path | None, tls_key: Path | None, people_file: Path | None,
    oidc_issuer: str | None, oidc_client: str | None, oidc_secret: Path | None, url: str | None, with_parent: bool,
) -> None:  # fmt: skip
    """Serve the pages of a registry, until stopped. 'edge-registry serve --http' does so beside taking records.

    People sign in with a token of 'edge-registry access grant', or through an OpenID provider. Without TLS only addresses of this
    machine are served.
    """
    from ..house import open_house
    from ..web.serving import Serving, parse_address, provider, site

    address = parse_address(http, tls_cert, tls_key)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pages = site(open_house(folder, database), people_file, secure=address.secure)
    serving = Serving(pages, address, lambda words: click.echo(f"edge-registry: {words}", err=True))
    if oidc_issuer is not None or oidc_client is not None:
        pages.oidc = provider(oidc_issuer, oidc_client, oidc_secret, url or serving.url, pages.access.now)
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()  # what was loaded stays: the collector need not go through it while somebody waits for a page
    serving.start()
    click.echo(f"edge-registry: pages at {serving.url}; Ctrl-C stops them", err=True)
    while not stop.is_set():
        if not with_parent:
            stop.wait(1)
        elif select.select([sys.stdin.fileno()], [], [], 0.2)[0] and not os.read(sys.stdin.fileno(), 1):
            break
    serving.stop()
