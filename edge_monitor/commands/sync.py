"""``edge-monitor sync``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..sync.session import Progress

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


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
@click.option("--registry", "link", required=True, type=FILE, help="Link file, from 'edge-monitor sync enrol'.")
@click.option("--key", required=True, type=FILE, help="The key that signs this journal.")
@click.option(
    "--rate", default=0, type=click.IntRange(0), metavar="BYTES", help="At most so many bytes a second; 0: no cap."
)
@click.option(
    "--patience", default=60.0, show_default=True, metavar="SECONDS", help="Give up after so long without progress."
)
def once(db: Path, link: Path, key: Path, rate: int, patience: float) -> int:
    """Bring journal DB to the registry, store its receipt, and stop. Exit code 1 when not everything is receipted.

    For a journal that a monitor writes just now, give the monitor itself --registry.
    """
    import os

    from .. import __version__
    from ..journal import Journal, load_signing_key
    from ..sync.enrolment import load_link
    from ..sync.uplink import Uplink

    registry = load_link(link)
    with Journal.create_or_open(db, load_signing_key(key)) as journal:
        last = [time.monotonic()]

        def keep(note: str) -> None:
            journal.receive(note, registry.receipts)
            last[0] = time.monotonic()

        uplink = Uplink(registry, db, os.urandom(16), f"edge-monitor {__version__}", keep, rate=rate)
        progress = uplink.progress

        def done() -> bool:
            complete = progress.size > 0 and progress.receipted >= progress.size
            final = progress.refusal is not None and not progress.refusal.again
            return complete or final or time.monotonic() - last[0] > patience

        uplink.run(done)
    click.echo(_summary(progress))
    return 0 if progress.receipted >= progress.size else 1


def _summary(progress: Progress) -> str:
    words = f"{progress.receipted} of {progress.size} records receipted, {progress.sent_bytes} bytes sent"
    if progress.receipted < progress.size:
        why = f"{progress.refusal.code}: {progress.refusal.words}" if progress.refusal else progress.state
        words += f"; {why}"
    return words
