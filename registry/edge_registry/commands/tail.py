"""``edge-registry tail``."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import click

from .options import DATABASE, FOLDER


@click.command()
@FOLDER
@DATABASE
@click.option(
    "--from", "start", default="0", show_default=True, metavar="CURSOR",
    help="Go on behind the line that has this cursor; 0: from the beginning, now: only what comes.",
)  # fmt: skip
@click.option("--robot", help="Only records of this robot.")
@click.option("--follow/--once", default=False, show_default=True, help="Wait for more at the end, or stop there.")
@click.option("--every", default=0.5, show_default=True, type=click.FloatRange(0.05), help="Seconds between two looks.")
def command(folder: Path, database: str | None, start: str, robot: str | None, follow: bool, every: float) -> None:
    """Print each receipted record once, as NDJSON, in the order of the registry's receipts, while ingest goes on.

    Each line has its cursor: who goes on with --from and the last one that was dealt with misses and doubles nothing. Exit code 5
    when the cursor is of another history than this registry's (it was restored from a backup), or a receipted record is missing.
    """
    from ..house import open_house
    from ..tail import Cursor, Tail, parse_cursor

    store = open_house(folder, database).store()
    stop = threading.Event()
    if follow:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    try:
        tail = Tail(store, Cursor() if start == "now" else parse_cursor(start), robot)
        if start == "now":
            tail.skip_to_end()
        while not stop.is_set():
            lines = tail.lines()
            sys.stdout.buffer.write(b"".join(line.json() for line in lines))
            sys.stdout.buffer.flush()
            if tail.at_end and not follow:
                return
            if tail.at_end:
                stop.wait(every)
    finally:
        store.close()
