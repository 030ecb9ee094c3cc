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
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
PEOPLE = click.option(
    "--people", "people_file", type=FILE,
    help="People file that is trusted. Default: people.yaml in the folder; without it nobody is.",
)  # fmt: skip
KEY = click.option("--key", "key_file", required=True, type=FILE, help="Your signing key (.key); it stays in its file.")
PERSON = click.option("--person", required=True, metavar="ID", help="Your id in the people file.")
TICKET = click.option("--ticket", required=True, metavar="ID", help="Change ticket that the decision cites.")
REASON = click.option("--reason", default="", help="Why, in one line; it is signed too.")
EXPIRES = click.option(
    "--expires", default="90d", metavar="TERM", show_default=True,
    help="How long it holds (`12h`, `90d`, `4w`), or until when (`2027-03-01`, UTC); 366 days at most.",
)  # fmt: skip
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
HTTP_HELP = "Address of the pages, HOST:PORT; beyond this machine with TLS only."
TLS_CERT = click.option("--tls-cert", type=FILE, help="Certificate chain for the pages (PEM).")
TLS_KEY = click.option("--tls-key", type=FILE, help="Its private key (PEM).")
OIDC_ISSUER = click.option(
    "--oidc-issuer",
    metavar="URL",
    help="OpenID provider through which people sign in too; the people file says who is who.",
)
OIDC_CLIENT = click.option("--oidc-client", metavar="ID", help="As what the provider knows this registry.")
OIDC_SECRET = click.option(
    "--oidc-secret", type=FILE, help="File with the client's secret, for nobody else to read. Default: a public client."
)
URL = click.option(
    "--url",
    metavar="URL",
    help="Where browsers find the pages, to come back from the provider. Default: the address of --http.",
)
