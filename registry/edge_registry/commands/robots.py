"""``edge-registry robots``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from .options import DATABASE, FOLDER


@click.command()
@FOLDER
@DATABASE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(folder: Path, database: str | None, as_json: bool) -> None:
    """List the robots and their logs: how much is held, when each was heard of, and what is wrong."""
    import sqlalchemy as sa

    from edge_monitor.command_line import console

    from .. import tables as t
    from ..house import open_house

    store = open_house(folder, database).store()
    with store.read() as tx:
        robots = [dict(row) for row in tx.connection.execute(sa.select(t.robots).order_by(t.robots.c.id)).mappings()]
        names = ("robot", "origin", "size", "state", "seen_s", "receipt_s", "valid_size")
        columns = [t.logs.c[name] for name in names]
        logs = [dict(row) for row in tx.connection.execute(sa.select(*columns).order_by(t.logs.c.log)).mappings()]
    store.close()
    if as_json:
        click.echo(
            json.dumps([{**robot, "logs": [log for log in logs if log["robot"] == robot["id"]]} for robot in robots])
        )
        return
    from rich.table import Table

    table = Table("robot", "state", "log", "records", "log state", "heard of", box=None, pad_edge=False)
    table.columns[2].no_wrap = True
    for robot in robots:
        own: list[dict[str, Any] | None] = [log for log in logs if log["robot"] == robot["id"]]
        for log in own or [None]:
            words = ("-", "-", "-", "never") if log is None else (
                log["origin"].rpartition("/")[2], str(log["size"]), log["state"], f"{int(time.time()) - log['seen_s']} s ago"
            )  # fmt: skip
            table.add_row(robot["id"], robot["state"], *words)
    console().print(table)
