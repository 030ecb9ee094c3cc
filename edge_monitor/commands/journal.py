"""``edge-monitor journal``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..journal.records import Record
    from ..journal.store import Row
    from ..journal.verify import Report

DATABASE = click.argument("db", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group()
def command() -> None:
    """Show, verify, prove and export a signed journal."""


@command.command()
@DATABASE
@click.option("--type", "types", multiple=True, help="Only events of this type ('check.fail'), or family ('check.'); may repeat.")
@click.option("--from", "start", default=0, metavar="SEQ", help="First sequence to show.")
@click.option("--to", "end", type=int, metavar="SEQ", help="Last sequence to show.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--jsonl", is_flag=True, help="Print one JSON object a line.")
def show(db: Path, types: tuple[str, ...], start: int, end: int | None, as_json: bool, jsonl: bool) -> None:
    """Print the records of a journal. Nothing is verified here: that is what 'journal verify' is for."""
    from ..journal.records import decode_record
    from ..journal.store import Reader

    found = []
    with Reader(db) as reader:
        for row in reader.rows(max(start, 0), (1 << 62) if end is None else end + 1):
            record = decode_record(row.record)
            if types and not any(record.type == t or (t.endswith(".") and record.type.startswith(t)) for t in types):
                continue
            if as_json:
                found.append(as_document(row, record))
            elif jsonl:
                click.echo(json.dumps(as_document(row, record), ensure_ascii=False, separators=(",", ":")))
            else:
                click.echo(as_line(row, record))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))


def as_document(row: Row, record: Record) -> dict[str, Any]:
    """A record as JSON: the event's payload, and the record's own fields."""
    from ..journal.records import decode_payload

    payload: dict[str, Any] = {} if row.payload is None else decode_payload(row.payload)
    return {
        "seq": record.sequence,
        "type": record.type,
        "t_ns": record.t_effective,
        "t_s": record.t_effective / 1e9,
        "t_decided_ns": record.t_decided,
        "severity": record.severity,
        "wall_ns": record.wall_ns,
        "boot": record.boot_id.hex(),
        "actor": record.actor,
        "rules": list(record.rules),
        "causes": list(record.causes),
        "hazard": record.hazard,
        "claim": record.claim,
        "envelope_digest": record.digests.envelope.hex(),
        "erased": row.payload is None,
    } | payload


def as_line(row: Row, record: Record) -> str:
    """A record in one line: sequence, time, type, subject, and the why of it."""
    from ..journal.records import decode_payload

    payload: dict[str, Any] = {} if row.payload is None else decode_payload(row.payload)
    words = [str(payload.get("subject", ""))]
    if "from" in payload and "to" in payload:
        words.append(f"{payload['from']} → {payload['to']}:")
    if payload.get("value") is not None:
        words.append(f"value {_figure(payload['value'])}")
    if payload.get("limit") is not None:
        words.append(f"limit {_figure(payload['limit'])} {payload.get('unit', '')}".rstrip())
    words += [str(payload[key]) for key in ("cause", "what") if payload.get(key)]
    if row.payload is None:
        words = ["(payload erased)"]
    return f"{record.sequence:>6}  {record.t_effective / 1e9:>16.6f}  {record.type:<20} {' '.join(words)}"


def _figure(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@command.command()
@DATABASE
@click.option("--key", "keys", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Public key (.pub) of who must have signed; may repeat.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON document.")
def verify(db: Path, keys: tuple[Path, ...], as_json: bool) -> int:
    """Verify a journal from the file and public keys alone; exit code 5 when something does not hold.

    Without --key only integrity is checked: anyone could have made a journal that is whole in itself.
    """
    from ..journal.keys import load_verifier_key
    from ..journal.verify import verify as verify_journal

    report = verify_journal(db, [load_verifier_key(key) for key in keys])
    if as_json:
        click.echo(json.dumps(report.document(), indent=2, ensure_ascii=False))
    else:
        print_report(report)
    return 0 if report.ok else 5


def print_report(report: Report) -> None:
    """Print a verification report for people."""
    echo = click.echo
    echo(f"journal       {report.path}  ({report.origin})")
    echo(f"integrity     {report.integrity}")
    who = f" by {', '.join(report.signers)}" if report.signers else ""
    note = {"not checked": " (no --key was given)", "FAILED": f": {report.unsigned} checkpoint(s) not signed by a given key"}
    echo(f"authorship    {report.authorship}{who}{note.get(report.authorship, '')}")
    gapless = not any("missing" in finding.what for finding in report.findings)
    echo(f"completeness  {'no gap in the sequence' if gapless else 'RECORDS ARE MISSING'}; {_runs(report)}")
    echo("              tail: not provable locally (a cut end leaves a shorter journal that is whole); receipted up to: none yet")
    for sequence, ns in report.silences[:10]:
        echo(f"              silence of {ns / 1e9:.0f} s before record {sequence}: a heartbeat is due every 10 minutes")
    if report.t_first is not None and report.t_last is not None:
        echo(f"covers        {report.records} records, {report.t_first / 1e9:.3f} s to {report.t_last / 1e9:.3f} s, {report.checkpoints} checkpoints")
    else:
        echo("covers        0 records")
    if report.erased_payloads:
        echo(f"erased        {report.erased_payloads} payload(s); their records and proofs still hold")
    for finding in report.findings:
        place = f"record {finding.sequence}: " if finding.sequence >= 0 else ""
        echo(f"FAILED        {place}{finding.what}", file=sys.stdout)


def _runs(report: Report) -> str:
    unclean = [run for run in report.runs if not run.ended]
    words = f"{len(report.runs)} run(s)"
    if unclean:
        words += f", {len(unclean)} without a clean end (the last records: {', '.join(str(run.last) for run in unclean[:5])})"
    return words


@command.command()
@DATABASE
@click.argument("seq", type=click.IntRange(min=0))
def proof(db: Path, seq: int) -> None:
    """Print the proof that record SEQ is in the signed log (C2SP tlog-proof: index, audit path, checkpoint)."""
    from ..journal.export import prove_record

    click.echo(prove_record(db, seq), nl=False)


@command.command()
@DATABASE
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File for the exact record bytes; OUT.checkpoint goes beside it.")
def export(db: Path, out: Path) -> None:
    """Write the exact bytes of all signed records, length-prefixed, and the newest checkpoint beside them."""
    from ..journal.export import export_records

    click.echo(f"{export_records(db, out)} records in {out}, checkpoint in {out}.checkpoint")
