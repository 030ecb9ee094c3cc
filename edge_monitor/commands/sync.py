"""``edge-monitor sync``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import EdgeMonitorError
from .reach import reaching

if TYPE_CHECKING:
    from ..journal.cosignatures import CosignerKey
    from ..onboard.client import Reach
    from ..sync.session import Progress

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
LINK = click.option(
    "--registry", "link", required=True, type=FILE, help="Link file, from 'edge-monitor sync enrol'."
)  # fmt: skip


@click.group()
def command() -> None:
    """Bring a journal to a registry, and enrol there."""


@command.command()
@click.argument("token")
@click.option("--key", required=True, type=FILE, help="The robot's identity key, from 'edge-monitor keys new'.")
@click.option(
    "--out", default="registry.link", show_default=True, type=click.Path(dir_okay=False, path_type=Path),
    help="File to write: the registry's address and keys, and this robot's CURVE key.",
)  # fmt: skip
def enrol(token: str, key: Path, out: Path) -> None:
    """Enrol this robot with the one-time TOKEN that 'edge-registry enrol' printed."""
    from ..journal.keys import load_signing_key
    from ..sync.enrolment import enrol as ask
    from ..sync.enrolment import parse_token

    registry = ask(parse_token(token), load_signing_key(key), out)
    click.echo(
        f"{out}  secret: keep it on this machine; the registry is {registry.receipts.name} at {registry.address}"
    )


@command.command()
@click.argument("db", type=FILE)
@LINK
@click.option("--key", required=True, type=FILE, help="The key that signs this journal.")
@click.option(
    "--rate", default=0, type=click.IntRange(0), metavar="KIB", help="At most so many KiB a second; 0: no cap."
)
@click.option(
    "--patience", default=60.0, show_default=True, metavar="SECONDS", help="Give up after so long without progress."
)
@reaching
def once(db: Path, link: Path, key: Path, rate: int, patience: float, control: Reach) -> int:
    """Bring journal DB to the registry, store its receipts, and stop. Exit code 1 when not everything is receipted.

    Where a monitor writes the journal just now, receipts are handed to it at --control; it must run with --registry.
    """
    import os

    from .. import __version__
    from ..sync.enrolment import load_link
    from ..sync.outbox import Outbox
    from ..sync.uplink import Uplink

    registry = load_link(link)
    last = [time.monotonic()]
    with _keeping(db, key, registry.receipts, control) as store:

        def keep(note: str) -> None:
            store(note)
            last[0] = time.monotonic()

        size = Outbox(db).head().size
        uplink = Uplink(registry, db, os.urandom(16), f"edge-monitor {__version__}", keep, rate=rate << 10)
        progress = uplink.progress

        def done() -> bool:
            complete = progress.size > 0 and progress.receipted >= size
            final = progress.refusal is not None and not progress.refusal.again
            return complete or final or time.monotonic() - last[0] > patience

        uplink.run(done)
    click.echo(_summary(progress))
    return 0 if progress.receipted >= size else 1


@command.command()
@click.argument("db", type=FILE)
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--from", "first", type=click.IntRange(0), help="From this record on. Default: what has no receipt yet.")
def export(db: Path, out: Path, first: int | None) -> None:
    """Write what of journal DB has no receipt to file OUT, for a registry that no link reaches: 'edge-registry import'.

    A monitor may be writing the journal meanwhile.
    """
    from .. import __version__
    from ..sync.stick import fill

    filled = fill(db, out, f"edge-monitor {__version__}", first)
    click.echo(
        f"{out}  records {filled.first} to {filled.end}, {filled.bytes} bytes; take it to 'edge-registry import'"
    )


@command.command(name="import")
@click.argument("db", type=FILE)
@click.argument("receipt", type=FILE)
@LINK
@click.option("--key", required=True, type=FILE, help="The key that signs this journal.")
@reaching
def import_(db: Path, receipt: Path, link: Path, key: Path, control: Reach) -> None:
    """Store the RECEIPT that 'edge-registry import' wrote in journal DB, through the monitor where one writes it."""
    from ..sync.enrolment import load_link

    with _keeping(db, key, load_link(link).receipts, control) as store:
        size = store(receipt.read_text("utf-8", "replace")[:8192])
    click.echo(f"{db}  {size} records are receipted")


@command.command()
@LINK
@click.option(
    "--extract", "folder", type=click.Path(file_okay=False, path_type=Path), help="Write its files here, KIND/NAME."
)
def bundle(link: Path, folder: Path | None) -> None:
    """Show the bundle that the registry has sent, verified: version, when it was signed, and its files. Exit code 1: none."""
    from ..sync.bundles import Holding, extract
    from ..sync.enrolment import load_link

    held = Holding(link.with_suffix(".bundle"), load_link(link).receipts).bundle
    if held is None:
        raise EdgeMonitorError(f"{link.with_suffix('.bundle')}: no bundle has come yet")
    click.echo(held.text().rstrip())
    if folder is not None:
        for path in extract(held, folder):
            click.echo(str(path))


@contextmanager
def _keeping(db: Path, key: Path, receipts: CosignerKey, control: Reach) -> Iterator[Callable[[str], int]]:
    """Stores receipts in a journal: in its file, or through the monitor that writes it just now."""
    from ..journal import Journal, LockedError, load_signing_key
    from ..onboard.client import ask

    with ExitStack() as stack:
        try:
            journal = stack.enter_context(Journal.create_or_open(db, load_signing_key(key)))
        except LockedError:
            yield lambda note: int(ask(control, {"do": "receipt", "note": note})["size"])
        else:
            yield lambda note: journal.receive(note, receipts)


def _summary(progress: Progress) -> str:
    words = f"{progress.receipted} of {progress.size} records receipted, {progress.sent_bytes} bytes sent"
    if progress.receipted < progress.size:
        why = f"{progress.refusal.code}: {progress.refusal.words}" if progress.refusal else progress.state
        words += f"; {why}"
    return words
