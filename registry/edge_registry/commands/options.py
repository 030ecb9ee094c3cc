"""Options that the commands share."""

from __future__ import annotations

import getpass
from pathlib import Path

import click

FOLDER = click.option(
    "--dir", "folder", default="registry-data", show_default=True, type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the registry: keys, blobs and, by default, the database.",
)  # fmt: skip
DATABASE = click.option(
    "--database", metavar="URL",
    help="sqlite:///FILE or postgresql://USER@HOST/NAME. Default: EDGE_REGISTRY_DATABASE, or registry.db in the folder.",
)  # fmt: skip
BY = click.option("--by", default=getpass.getuser, show_default="login name", help="Who decides; it is recorded.")
