"""``edge-monitor check``."""

from __future__ import annotations

import json
import sys

import click


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--risk", metavar="PROFILE", help="Apply this risk profile instead of the file's own.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(files: tuple[str, ...], risk: str | None, as_json: bool) -> None:
    """Check envelope files (`-`: standard input); every problem with its line.

    All risk profiles of a file are checked. Exit code 3 if any file cannot be used; warnings don't count.
    """
    from ..envelope import Envelope, EnvelopeError, load, loads
    from ..errors import ConfigError

    documents: list[dict[str, object]] = []
    failed = False
    for file in files:
        document: dict[str, object] = {"file": file, "ok": True, "problems": [], "warnings": []}
        documents.append(document)
        try:
            read = sys.stdin.buffer.read
            envelope: Envelope = loads(read(), source="<stdin>", risk=risk) if file == "-" else load(file, risk=risk)
        except ConfigError as error:
            failed = True
            lines = [str(p) for p in error.problems] if isinstance(error, EnvelopeError) else [str(error)]
            document |= {"ok": False, "problems": lines}
            if not as_json:
                click.echo(str(error), err=True)
            continue
        document |= {
            "id": envelope.id,
            "version": envelope.version,
            "vehicle": envelope.vehicle,
            "digest": envelope.digest,
            "risk": envelope.risk,
            "signals": len(envelope.signals),
            "checks": len(envelope.checks),
            "gates": [gate.name for gate in envelope.gates],
            "warnings": list(envelope.warnings),
        }
        if not as_json:
            for warning in envelope.warnings:
                click.echo(f"{warning} (warning)", err=True)
            click.echo(
                f"{file}: fine: {envelope.id} v{envelope.version} for {envelope.vehicle}, "
                f"{len(envelope.signals)} signals, {len(envelope.checks)} checks, {len(envelope.gates)} gates, "
                f"risk {envelope.risk}, digest {envelope.digest[:16]}…"
            )
    if as_json:
        click.echo(json.dumps({"files": documents}, indent=2, ensure_ascii=False))
    if failed:
        raise click.exceptions.Exit(ConfigError.exit_code)
