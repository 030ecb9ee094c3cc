"""``edge-monitor schema``."""

from __future__ import annotations

import click


@click.command()
@click.option("--out", metavar="FILE", default="-", help="Where to write it; `-` is standard output, the default.")
def command(out: str) -> None:
    """Print the JSON Schema of envelope files, for editors.

    Editors with the YAML language server use it when the file's first line names it:

    \b
      # yaml-language-server: $schema=envelope.schema.json
    """
    from ..envelope.schema import schema_text
    from ..errors import UsageError

    try:
        with click.open_file(out, "w", encoding="utf-8") as file:
            file.write(schema_text())
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"{out}: cannot write the schema: {error.strerror or error}") from None
