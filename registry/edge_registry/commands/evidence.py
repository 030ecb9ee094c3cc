"""``edge-registry evidence``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from edge_monitor.errors import UsageError

from .options import DATABASE, FOLDER

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def command() -> None:
    """Export part of what robots have recorded as a packet that a stranger can verify."""


@command.command()
@FOLDER
@DATABASE
@click.option("--robot", required=True, help="Whose log.")
@click.option(
    "--log", "wanted", metavar="ID", help="Which of its logs, by the first characters; none where it has one."
)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Packet to write (.zip).")
@click.option("--key", required=True, type=FILE, help="Your own signing key: who exports signs the list of files.")
@click.option("--from", "start", default=0, metavar="SEQ", help="First record.")
@click.option("--to", "end", type=int, metavar="SEQ", help="Last record; by default all that are receipted.")
@click.option(
    "--envelope",
    "envelopes",
    multiple=True,
    metavar="DIGEST=FILE",
    help="Envelope that was active, its approval beside it; may repeat. What is missing names the digests.",
)
@click.option(
    "--tape", "tapes", multiple=True, metavar="BOOT=FILE", help="Black box of a boot in the range; may repeat.",
)  # fmt: skip
@click.option("--records-only", is_flag=True, help="Take along no envelope and no black box that the robot delivered.")
def export(
    folder: Path, database: str | None, robot: str, wanted: str | None, out: Path, key: Path, start: int, end: int | None,
    envelopes: tuple[str, ...], tapes: tuple[str, ...], records_only: bool,
) -> None:  # fmt: skip
    """Write records of a robot with the registry's receipt over them, as 'edge-monitor evidence export' does of a journal.

    Approved envelopes and kept black boxes that the robot delivered go along.

    'edge-monitor evidence verify' verifies it. Works while the registry serves: it reads one snapshot of the database.
    """
    from edge_monitor.evidence.packet import Attached
    from edge_monitor.evidence.packet import export as write
    from edge_monitor.journal import load_signing_key

    from ..blobs import Blobs
    from ..evidence import LogSource, chosen
    from ..house import open_house

    notes = {digest: _with_approval(path) for digest, path in _named(envelopes, "--envelope", 64)}
    files = Attached(notes, list(_named(tapes, "--tape", 32)))
    signer = load_signing_key(key)
    last = None if end is None else end + 1
    house = open_house(folder, database)
    store = house.store()
    blobs = None if records_only else Blobs(house.blobs)
    try:
        with store.read() as tx:
            source = LogSource(tx, chosen(tx, robot, wanted), last, blobs)
            done = write(source, out, signer, start=start, end=last, attached=files)
    finally:
        store.close()
    click.echo(f"{out}  {done.records} records; digest {done.digest}")
    for words in done.missing:
        click.echo(f"missing: {words}")


def _named(texts: tuple[str, ...], option: str, digits: int) -> Iterator[tuple[str, Path]]:
    """(name in hex, existing file) of NAME=FILE. Nothing in the file is read: a verifier holds it against its name."""
    for text in texts:
        name, _, file = text.partition("=")
        if not re.fullmatch(f"[0-9a-f]{{{digits}}}", name) or not Path(file).is_file():
            raise UsageError(f"{option} {text}: expected {digits} hexadecimal digits, '=' and a file that is there")
        yield name, Path(file)


def _with_approval(path: Path) -> tuple[bytes, bytes | None]:
    approval = path.with_suffix(".approval")
    return path.read_bytes(), approval.read_bytes() if approval.is_file() else None
