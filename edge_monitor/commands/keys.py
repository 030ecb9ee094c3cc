"""``edge-monitor keys``."""

from __future__ import annotations

from pathlib import Path

import click

FOLDER = click.option(
    "--dir",
    "folder",
    default=".",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to; made if missing. Default: here.",
)


@click.group()
def command() -> None:
    """Make and show keys: for signing, and for CURVE."""


@command.command()
@click.argument("name")
@FOLDER
def new(name: str, folder: Path) -> None:
    """Make a key pair: NAME.key (secret, readable by you alone) and NAME.pub (give this to everyone who verifies)."""
    from ..journal.keys import make_key

    secret, public = make_key(name, folder)
    click.echo(f"{secret}  secret: keep it on this machine")
    click.echo(f"{public}  public: {public.read_text().strip()}")


@command.command()
@click.argument("name")
@FOLDER
def curve(name: str, folder: Path) -> None:
    """Make a key pair for CURVE: NAME.curve (secret, readable by you alone) and NAME.curve.pub (for the other side)."""
    from ..curve_keys import make_pair

    secret, public = make_pair(name, folder)
    click.echo(f"{secret}  secret: keep it on this machine")
    click.echo(f"{public}  public: {public.read_text().strip()}")


@command.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def show(file: Path) -> None:
    """Print the public key of FILE: of a .key or .pub as a C2SP verifier key, of a .curve or .curve.pub with its fingerprint.

    Secrets are never printed.
    """
    from ..journal.keys import load_signing_key, load_verifier_key

    if ".curve" in file.suffixes[-2:]:
        from ..curve_keys import load_pair, load_public
        from ..sources.curve import key_fingerprint

        public = load_pair(file).public if file.suffix == ".curve" else load_public(file)
        click.echo(f"{public}  fingerprint {key_fingerprint(public)}")
        return
    key = load_signing_key(file).verifier if file.suffix == ".key" else load_verifier_key(file)
    click.echo(key.text())
