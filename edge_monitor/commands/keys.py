"""``edge-monitor keys``."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def command() -> None:
    """Make and show signing keys."""


@command.command()
@click.argument("name")
@click.option(
    "--dir",
    "folder",
    default=".",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to; made if missing. Default: here.",
)
def new(name: str, folder: Path) -> None:
    """Make a key pair: NAME.key (secret, readable by you alone) and NAME.pub (give this to everyone who verifies)."""
    from ..journal.keys import make_key

    secret, public = make_key(name, folder)
    click.echo(f"{secret}  secret: keep it on this machine")
    click.echo(f"{public}  public: {public.read_text().strip()}")


@command.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def show(file: Path) -> None:
    """Print the public key of FILE (a .key or a .pub) as a C2SP verifier key. Secrets are never printed."""
    from ..journal.keys import load_signing_key, load_verifier_key

    key = load_signing_key(file).verifier if file.suffix == ".key" else load_verifier_key(file)
    click.echo(key.text())
