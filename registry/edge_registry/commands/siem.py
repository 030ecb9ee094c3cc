"""``edge-registry siem``."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import click

from .options import AS_JSON, DATABASE, FILE, FOLDER

FORM = click.option(
    "--format", "form", type=click.Choice(("ocsf", "ecs", "cef")), default="ocsf", show_default=True,
    help="What a record becomes; over OTLP it is a log record.",
)  # fmt: skip


@click.group()
def command() -> None:
    """Send every receipted record to a SIEM, and on from where it was acknowledged."""


@command.command()
@FOLDER
@DATABASE
@click.option(
    "--to", required=True, metavar="ADDRESS",
    help="syslog://HOST:PORT, syslog+tls://HOST:PORT, otlp://HOST:PORT or otlp+tls://HOST:PORT.",
)  # fmt: skip
@click.option("--name", default="siem", show_default=True, help="Of the output; its cursor is kept under it.")
@FORM
@click.option(
    "--from", "start", default="0", show_default=True, metavar="CURSOR",
    help="Where a new output begins: a cursor of 'edge-registry tail', 0: the beginning, now: only what comes.",
)  # fmt: skip
@click.option("--ca", "authority", type=FILE, help="Certificates that are trusted (PEM). Default: the machine's.")
@click.option("--cert", "certificate", type=FILE, help="Our own certificate (PEM), where the receiver asks for one.")
@click.option("--cert-key", "key", type=FILE, help="Its key, unless it is in the same file.")
@click.option(
    "--accept-eof", is_flag=True,
    help="For receivers of syslog over TLS that never send close_notify; what they took is less certain then.",
)  # fmt: skip
@click.option("--follow/--once", default=True, show_default=True, help="Wait for more at the end, or stop there.")
@click.option("--every", default=0.5, show_default=True, type=click.FloatRange(0.05), help="Seconds between two looks.")
def send(
    folder: Path, database: str | None, to: str, name: str, form: str, start: str, authority: Path | None,
    certificate: Path | None, key: Path | None, accept_eof: bool, follow: bool, every: float,
) -> int:  # fmt: skip
    """Send records in the order of the registry's receipts, each at least once; one that comes twice has the same id.

    With --follow a receiver that is away is tried again, for ever; with --once the exit code is then 1. Headers for a collector
    (NAME=VALUE,…) are taken from EDGE_REGISTRY_SIEM_HEADERS.
    """
    from ..house import open_house
    from ..siem.addresses import open_output, parse_address
    from ..siem.delivery import DeliveryError
    from ..siem.sending import Sender

    address = parse_address(to)
    output = open_output(address, form, authority=authority, certificate=certificate, key=key, accept_eof=accept_eof)
    store = open_house(folder, database).store()
    stop = threading.Event()
    if follow:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    shown = "otlp" if address.scheme.startswith("otlp") else form
    sender, sent, said = Sender(store, name, output, address.text(), shown, start=start), 0, ""
    try:
        while not stop.is_set():
            try:
                count = sender.step()
                sent, said = sent + count, ""
            except DeliveryError as error:
                if not follow:
                    raise
                if str(error) != said:
                    click.echo(f"edge-registry: {error}; trying again", err=True)
                said = str(error)
                stop.wait(sender.retry_s)
                continue
            if not count and not follow:
                break
            if not count:
                stop.wait(every)
    finally:
        sender.close()
        store.close()
    click.echo(f"{address.text()}: {sent} records acknowledged")
    return 0


@command.command()
@FOLDER
@DATABASE
@AS_JSON
def show(folder: Path, database: str | None, as_json: bool) -> None:
    """Show the outputs: where to, how much was acknowledged, and what was wrong last."""
    import json
    from dataclasses import asdict

    from edge_monitor.utc import SECOND, utc_text

    from ..house import open_house
    from ..siem.sending import states

    store = open_house(folder, database).store()
    with store.read() as tx:
        found = states(tx)
    store.close()
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found]))
        return
    for one in found:
        wrong = f"; not sent: {one.failure}" if one.failure else ""
        at = utc_text(one.at_s * SECOND)
        click.echo(
            f"{one.name}  {one.address}  {one.format}  {one.sent} records, last at {at}, cursor {one.cursor}{wrong}"
        )
    if not found:
        click.echo("no output yet: 'edge-registry siem send --to ADDRESS' makes one")


@command.command("print")
@FOLDER
@DATABASE
@FORM
@click.option(
    "--from", "start", default="0", show_default=True, metavar="CURSOR", help="As 'edge-registry tail' has it."
)
def print_(folder: Path, database: str | None, form: str, start: str) -> None:
    """Print every receipted record in a SIEM's form, one a line, for whoever brings files or pipes to one."""
    from ..house import open_house
    from ..siem.forms import FORMS
    from ..siem.shipment import shipment
    from ..tail import Tail, parse_cursor

    store = open_house(folder, database).store()
    try:
        tail = Tail(store, parse_cursor(start))
        while not tail.at_end:
            sys.stdout.buffer.write(b"".join(FORMS[form](shipment(one)) + b"\n" for one in tail.lines()))
            sys.stdout.buffer.flush()
    finally:
        store.close()
