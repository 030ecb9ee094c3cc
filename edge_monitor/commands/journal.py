"""``edge-monitor journal``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..journal.records import Record
    from ..journal.report import Report

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
DATABASE = click.argument("db", type=FILE)


@click.group()
def command() -> None:
    """Show, verify, prove and export a signed journal."""


@command.command()
@DATABASE
@click.option(
    "--type", "types", multiple=True, help="Only events of this type ('check.fail') or family ('check'); may repeat."
)
@click.option("--from", "start", default=0, metavar="SEQ", help="First sequence to show.")
@click.option("--to", "end", type=int, metavar="SEQ", help="Last sequence to show.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--jsonl", is_flag=True, help="Print one JSON object a line.")
def show(db: Path, types: tuple[str, ...], start: int, end: int | None, as_json: bool, jsonl: bool) -> None:
    """Print the records of a journal. Nothing is verified here: that is what 'journal verify' is for."""
    from ..journal.reader import Reader
    from ..journal.records import decode_payload, decode_record

    separator = "["
    with Reader(db) as reader:
        for row in reader.rows(max(start, 0), 1 << 62 if end is None else max(end + 1, 0)):
            record = decode_record(row.record)
            if types and not any(record.type == t or record.type.startswith(t.rstrip(".") + ".") for t in types):
                continue
            payload = None if row.payload is None else decode_payload(row.payload)
            if as_json:
                click.echo(separator + _json(document(record, payload)), nl=False)
                separator = ",\n "
            elif jsonl:
                click.echo(_json(document(record, payload)))
            else:
                click.echo(line(record, payload))
    if as_json:
        click.echo("]" if separator != "[" else "[]")


def document(record: Record, payload: dict[str, Any] | None) -> dict[str, Any]:
    """A record as JSON: its own fields, and those of its event's payload that have other names."""
    own = {
        "seq": record.sequence,
        "type": record.type,
        "t_ns": record.t_effective,
        "t_s": record.t_effective / 1e9,
        "t_decided_ns": record.t_decided,
        "severity": record.severity.name.lower(),
        "rules": list(record.rules),
        "hazard": record.hazard,
        "claim": record.claim,
        "actor": record.actor,
        "caused_by": list(record.causes),
        "wall_ns": record.wall_ns,
        "wall_status": record.wall_status.name.lower(),
        "boot": record.boot_id.hex(),
        "envelope_digest": record.digests.envelope.hex(),
        "erased": payload is None,
    }
    return own | {key: value for key, value in (payload or {}).items() if key not in own}


def line(record: Record, payload: dict[str, Any] | None) -> str:
    """A record in one line: sequence, time, type, subject, and the why of it."""
    said = payload or {}
    words = [str(said.get("subject", ""))]
    if "from" in said and "to" in said:
        words.append(f"{said['from']} → {said['to']}:")
    if said.get("value") is not None:
        words.append(f"value {_figure(said['value'])}")
    if said.get("limit") is not None:
        words.append(f"limit {_figure(said['limit'])} {said.get('unit', '')}".rstrip())
    words += [str(said[key]) for key in ("cause", "what") if said.get(key)]
    if payload is None:
        words = ["(payload not there)"]
    return _printable(f"{record.sequence:>6}  {record.t_effective / 1e9:>16.6f}  {record.type:<20} {' '.join(words)}")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=bytes.hex)


def _figure(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _printable(text: str) -> str:
    """Text from a file as a terminal may see it: control characters are shown, not obeyed."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


@command.command()
@DATABASE
@click.option("--key", "keys", multiple=True, type=FILE, help="Public key (.pub) of who must have signed; may repeat.")
@click.option(
    "--registry-key",
    "registries",
    multiple=True,
    type=FILE,
    help="Receipt key of a registry; its receipts are checked.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON document.")
def verify(db: Path, keys: tuple[Path, ...], registries: tuple[Path, ...], as_json: bool) -> int:
    """Verify a journal from the file and public keys alone; exit code 5 when something does not hold.

    Without --key only integrity is checked: anyone could have made a journal that is whole in itself.
    """
    from ..journal.cosignatures import load_cosigner_key
    from ..journal.keys import load_verifier_key
    from ..journal.verify import verify as verify_journal

    cosigners = [load_cosigner_key(registry) for registry in registries]
    report = verify_journal(db, [load_verifier_key(key) for key in keys], cosigners)
    if as_json:
        click.echo(json.dumps(report.document(), indent=2, ensure_ascii=False))
    else:
        for text in report_lines(report):
            click.echo(_printable(text))
    return 0 if report.ok else 5


def report_lines(report: Report) -> list[str]:
    """A verification report for people."""
    signers = ", ".join(report.signers)
    who = {
        "verified": f"verified, signed by {signers}",
        "FAILED": f"FAILED, {'signed only in part by ' + signers if signers else 'signed by no key that was given'}",
        "not checked": "not checked (give the public key with --key)",
    }
    lines = [
        f"journal       {report.path}",
        f"origin        {report.origin}",
        f"integrity     {report.integrity}",
        f"authorship    {who[report.authorship]}",
        f"completeness  {'no gap' if report.gapless else 'RECORDS MISSING OR MISPLACED'}; {_runs(report)}",
        f"              tail not provable locally (a journal cut short is whole in itself); {_receipted(report)}",
    ]
    for sequence, ns in report.silences[:10]:
        lines.append(
            f"              silence of {ns / 1e9:.0f} s before record {sequence}; a heartbeat is due every 600 s"
        )
    span = ""
    if report.t_first is not None and report.t_last is not None:
        span = f", {report.t_first / 1e9:.3f} s to {report.t_last / 1e9:.3f} s"
    lines.append(f"covers        {report.records} records under {report.checkpoints} checkpoints{span}")
    if report.erased_payloads:
        first = ", ".join(map(str, report.erased[:10]))
        lines.append(
            f"erased        {report.erased_payloads} payload(s), first of record {first}; their records still hold"
        )
    for finding in report.findings:
        place = f"record {finding.sequence}: " if finding.sequence >= 0 else ""
        lines.append(f"FAILED        {place}{finding.what}")
    return lines


def _receipted(report: Report) -> str:
    if report.receipted is None:
        return "receipts not checked (give the registry's key with --registry-key)"
    return f"receipted up to: {f'record {report.receipted - 1}' if report.receipted else 'none'}"


def _runs(report: Report) -> str:
    words = [f"{len(report.runs)} run(s)"]
    unbegun = [str(run.first) for run in report.runs if not run.begun]
    unclean = [str(run.last) for run in report.runs if not run.ended]
    if unbegun:
        words.append(f"{len(unbegun)} without a begin mark (first records: {', '.join(unbegun[:5])})")
    if unclean:
        words.append(f"{len(unclean)} without a clean end (last records: {', '.join(unclean[:5])})")
    return ", ".join(words)


@command.command()
@DATABASE
@click.argument("seq", type=click.IntRange(min=0))
@click.option("--no-payload", is_flag=True, help="Leave the payload out: prove that and when, not what.")
def proof(db: Path, seq: int, no_payload: bool) -> None:
    """Print the proof that record SEQ is in the signed log (a C2SP tlog-proof); 'check-proof' takes it."""
    from ..journal.export import prove_record

    click.echo(prove_record(db, seq, disclose=not no_payload), nl=False)


@command.command("check-proof")
@click.argument("file", type=FILE)
@click.option(
    "--key", "keys", multiple=True, required=True, type=FILE, help="Public key (.pub) of the log; may repeat."
)
@click.option("--json", "as_json", is_flag=True, help="Print the proven record as one JSON document.")
def check(file: Path, keys: tuple[Path, ...], as_json: bool) -> None:
    """Check a proof without the journal, and print the record that it proves; exit code 5 when it does not hold."""
    from ..journal.export import check_proof
    from ..journal.keys import load_verifier_key

    proven = check_proof(file, [load_verifier_key(key) for key in keys])
    if as_json:
        own = {"origin": proven.origin, "size": proven.size, "signers": list(proven.signers)}
        click.echo(_json({**own, "record": document(proven.record, proven.payload)}))
        return
    click.echo(line(proven.record, proven.payload))
    where = f"{proven.origin}, among the first {proven.size} records, signed by {', '.join(proven.signers)}"
    click.echo(_printable(f"proven to be in {where}"))


@command.command()
@DATABASE
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File for the records' bytes."
)
def export(db: Path, out: Path) -> None:
    """Write the exact bytes of all signed records to OUT, and the newest checkpoint to OUT.checkpoint."""
    from ..journal.export import export_records

    click.echo(f"{export_records(db, out)} records in {out}, checkpoint in {out}.checkpoint")
