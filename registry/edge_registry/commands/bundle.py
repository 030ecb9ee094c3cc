"""``edge-registry bundle``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from .options import DATABASE, FOLDER

FILES = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@FOLDER
@DATABASE
@click.option("--envelope", multiple=True, type=FILES, help="Envelope file; may repeat, as all of these.")
@click.option("--approval", multiple=True, type=FILES, help="Approval of an envelope.")
@click.option("--mission", multiple=True, type=FILES, help="Mission file.")
@click.option("--people", multiple=True, type=FILES, help="People file.")
@click.option("--revocations", multiple=True, type=FILES, help="Revoked keys and approvals.")
@click.option(
    "--sunset", multiple=True, type=FILES, help="Decision that a model or an envelope is no longer to be used."
)
@click.option(
    "--again", is_flag=True, help="Sign the files of the newest bundle anew, so that robots know it is in force."
)
@click.option("--empty", is_flag=True, help="Sign a bundle without files: robots hold nothing from then on.")
def command(folder: Path, database: str | None, again: bool, empty: bool, **files: tuple[Path, ...]) -> None:
    """Show the bundle that robots are sent, or sign a new one, which holds exactly the files that are named.

    Robots that are connected get it within ten seconds, the others with their next session. A robot takes no older one.
    """
    from edge_monitor.errors import UsageError
    from edge_monitor.sync.bundles import Bundle, gathered, opened, pack

    from ..house import open_house

    house = open_house(folder, database)
    named = {kind: paths for kind, paths in files.items() if paths}
    if sum((bool(named), again, empty)) > 1:
        raise UsageError("--again, --empty and files exclude each other: say what the new bundle holds in one way")
    store = house.store()
    try:
        with store.begin() as tx:
            newest = tx.bundle()
            bundle = opened(newest[1], house.receipts) if newest is not None else None
            if again and bundle is None:
                raise UsageError("there is no bundle yet: name the files of the first")
            if named or again or empty:
                now = int(time.time())
                items = bundle.items if again and bundle is not None else gathered(named)
                bundle = Bundle(house.name, (newest[0] if newest is not None else 0) + 1, now, items)
                tx.add_bundle(bundle.version, pack(bundle, house.key), now)
    finally:
        store.close()
    if bundle is None:
        click.echo("no bundle yet: robots are sent nothing")
        return
    click.echo(bundle.text().rstrip())
