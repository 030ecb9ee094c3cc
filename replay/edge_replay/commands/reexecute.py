"""``edge-replay reexecute``: the same items through the same code, held against what was signed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_monitor.errors import DamagedInputError, VerificationError

if TYPE_CHECKING:
    from edge_monitor.envelope import Envelope
    from edge_monitor.journal.records import Record
    from edge_monitor.reexecution import Report
    from edge_monitor.tape import Tape

CHANGED = "CHANGED: it is not the file that the journal names"
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Run a black box's tape again, and hold every decision against the journal.")
@click.argument("journal", type=FILE)
@click.argument("tape", type=FILE)
@click.option(
    "--envelope", "-e", "files", required=True, multiple=True, type=FILE,
    help="The envelope file that was active; may repeat, where another was put in force during the run.",
)  # fmt: skip
@click.option(
    "--key", "keys", multiple=True, type=FILE, help="Public key (.pub) of who signed the journal; may repeat."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(journal: Path, tape: Path, files: tuple[Path, ...], keys: tuple[Path, ...], as_json: bool) -> int:
    """Run TAPE again from its first state, and compare every event, state and digest with JOURNAL, bit for bit.

    With --key the journal is verified first: then nothing in TAPE or JOURNAL has to be believed. Exit code 5 when
    something differs, and where it differs first; 4 when a part of the tape is damaged and the rest is equal.
    """
    from edge_monitor.journal import load_verifier_key
    from edge_monitor.journal.verify import verify
    from edge_monitor.reexecution import reexecute
    from edge_monitor.tape import read

    for file in files:
        envelope(file, None)  # its mistakes come first
    if keys:
        checked = verify(journal, [load_verifier_key(key) for key in keys])
        if not checked.ok:
            raise VerificationError(f"{journal}: does not verify; see 'edge-monitor journal verify {journal}'")
    found = read(tape)
    report = reexecute(lambda digest, risk: found_among(files, digest, risk), found, records(journal))
    if report.difference is None and not report.events and report.incident is None:
        raise DamagedInputError(f"{journal}: holds no event of this tape's run ({found.boot.hex()}); name its journal")
    beside = raw_beside(report, tape)
    document = as_document(report, found, bool(keys))
    if as_json:
        click.echo(json.dumps({**document, **({"raw": beside} if beside else {})}, indent=2))
    else:
        for line in lines(report, found, bool(keys), beside):
            click.echo(line)
    if beside == CHANGED:
        return 5
    return 5 if report.difference is not None else 4 if report.damages else 0


def envelope(file: Path, risk: str | None) -> Envelope:
    """An envelope file under a risk profile."""
    from edge_monitor import envelope as envelopes

    return envelopes.load(file, risk=risk)


def found_among(files: tuple[Path, ...], digest: str, risk: str) -> Envelope | None:
    """The envelope with this digest among files, under a risk profile; None where it is none of them."""
    file = next((file for file in files if envelope(file, None).digest == digest), None)
    return None if file is None else envelope(file, risk)


def records(journal: Path) -> Iterator[tuple[Record, dict[str, Any]]]:
    """The records of a journal whose payloads are there."""
    from edge_monitor.journal.reader import Reader
    from edge_monitor.journal.records import decode_payload, decode_record

    with Reader(journal) as reader:
        for row in reader.rows():
            if row.payload is not None:
                yield decode_record(row.record), decode_payload(row.payload)


def as_document(report: Report, tape: Tape, verified: bool) -> dict[str, Any]:
    """The report as JSON."""
    return {
        "tape": str(tape.path),
        "boot": tape.boot.hex(),
        "journal_verified": verified,
        "equal": report.difference is None,
        "difference": None if report.difference is None else str(report.difference),
        "blocks": report.blocks,
        "items": report.items,
        "events": report.events,
        "events_not_in_journal": report.unmatched,
        "anchors": report.anchors,
        "states": report.snapshots,
        "damages": list(report.damages),
        **({"incident": incident(report, tape)} if tape.note is not None else {}),
    }


def incident(report: Report, tape: Tape) -> dict[str, Any]:
    """What an incident was kept for, and which record names it."""
    assert tape.note is not None
    return {
        "record": report.incident,
        "from_ns": tape.note.begin,
        "to_ns": tape.note.end,
        "causes": [[cause.t, cause.type, cause.subject] for cause in tape.note.causes],
        "count": tape.note.count,
    }


def raw_beside(report: Report, tape: Path) -> str:
    """What is to be said of the raw messages that were kept with an incident; nothing, where none were."""
    if "sha256" not in report.raw:
        return str(report.raw.get("cause", ""))
    path = tape.with_suffix(".mcap")
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError:
        return f"{report.raw['file']} is not beside it"
    return f"{report.raw['messages']:,} messages, as named" if digest.hexdigest() == report.raw["sha256"] else CHANGED


def lines(report: Report, tape: Tape, verified: bool, raw: str = "") -> list[str]:
    """The report for people; ``raw``: of the raw messages beside an incident."""
    whose = "verified" if verified else "not verified (give the public key with --key)"
    outside = f"; {report.unmatched} beside them have no payload in the journal" if report.unmatched else ""
    result = [
        f"journal   {whose}",
        f"tape      {report.blocks} blocks, {report.items:,} items; {report.anchors} of its digests stand in the journal",
        f"events    {report.events} came out as they stand in the journal, byte for byte{outside}",
        f"states    {report.snapshots} recorded states were reached, bit for bit",
    ]
    if tape.note is not None:
        note = tape.note
        causes = f"{note.causes[0]} at {note.causes[0].t / 1e9:.3f} s" if note.causes else "no cause is known"
        more = f" and {note.count - 1} more" if note.count > 1 else ""
        named = f"record {report.incident} names it" if report.incident is not None else "no record names it"
        result.insert(2, f"incident  {causes}{more}; {named}")
        result += [f"raw       {raw}"] if raw else []
    result += [f"damage    {damage}" for damage in report.damages]
    if report.difference is None:
        return [*result, "EQUAL"]
    return [*result, f"DIFFERS   {report.difference}"]
