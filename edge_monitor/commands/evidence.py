"""``edge-monitor evidence``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UsageError

if TYPE_CHECKING:
    from ..evidence.packet import Attached
    from ..evidence.verify import Verdict

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def command() -> None:
    """Export part of a journal as a packet that a stranger can verify, and verify one."""


@command.command()
@click.argument("db", type=FILE)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Packet to write (.zip).")
@click.option("--key", required=True, type=FILE, help="Your own signing key: who exports signs the list of files.")
@click.option("--from", "start", default=0, metavar="SEQ", help="First record.")
@click.option("--to", "end", type=int, metavar="SEQ", help="Last record; by default all that are signed.")
@click.option(
    "--envelope",
    "envelopes",
    multiple=True,
    type=FILE,
    help="Envelope that was active, its approval beside it; may repeat.",
)
@click.option("--tape", "tapes", multiple=True, type=FILE, help="Black box of a run in the range; may repeat.")
def export(
    db: Path, out: Path, key: Path, start: int, end: int | None, envelopes: tuple[Path, ...], tapes: tuple[Path, ...]
) -> None:
    """Write records of journal DB, with all that proves them and a list of what is missing, as a packet.

    Works beside a running monitor, and without any registry; with receipts in the journal the packet can show that no tail
    was cut.
    """
    from ..evidence.packet import JournalSource
    from ..evidence.packet import export as write
    from ..journal import load_signing_key

    source = JournalSource(db)
    last = None if end is None else end + 1
    done = write(source, out, load_signing_key(key), start=start, end=last, attached=attached(envelopes, tapes))
    source.close()
    click.echo(f"{out}  {done.records} records; digest {done.digest}")
    for words in done.missing:
        click.echo(f"missing: {words}")


def attached(envelopes: tuple[Path, ...], tapes: tuple[Path, ...]) -> Attached:
    """The files that go along. Raises ``ConfigError`` for an envelope or a tape that is none."""
    from ..envelope import load
    from ..envelope.approval import approval_path, read_approval
    from ..evidence.packet import Attached
    from ..tape import read

    found: dict[str, tuple[bytes, bytes | None]] = {}
    for path in envelopes:
        found[load(path, references=False).digest] = path.read_bytes(), read_approval(approval_path(path))
    return Attached(found, [(read(path).boot.hex(), path) for path in tapes])


@command.command()
@click.argument("packet", type=FILE)
@click.option(
    "--exporter", "exporters", multiple=True, required=True, type=FILE, help="Public key of who may export; may repeat."
)
@click.option(
    "--robot", "robots", multiple=True, required=True, type=FILE, help="Identity key (.pub) of the robot; may repeat."
)
@click.option("--registry-key", "registries", multiple=True, type=FILE, help="Receipt key of the registry; may repeat.")
@click.option("--people", type=FILE, help="People file: who could approve the envelopes.")
@click.option(
    "--known", multiple=True, metavar="ORIGIN=SIZE", help="You know that the log has so many records; may repeat."
)
@click.option(
    "--revoked", multiple=True, metavar="ROBOT=SIZE", help="Of a revoked robot so many records count; may repeat."
)
@click.option("--reexecute", is_flag=True, help="Make the decisions again from the black boxes in the packet.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as one JSON document.")
def verify(
    packet: Path,
    exporters: tuple[Path, ...],
    robots: tuple[Path, ...],
    registries: tuple[Path, ...],
    people: Path | None,
    known: tuple[str, ...],
    revoked: tuple[str, ...],
    reexecute: bool,
    as_json: bool,
) -> int:
    """Verify a packet with keys that reached you another way; without network, and without trusting who exported it.

    VERIFIED (0): all holds, nothing is missing. INCOMPLETE (1): what is there holds, what is missing is listed. FAILED (5).
    """
    from ..evidence.verify import Trust
    from ..evidence.verify import verify as check
    from ..journal.cosignatures import load_cosigner_key
    from ..journal.keys import load_verifier_key
    from ..people import load as load_people

    trust = Trust(
        [load_verifier_key(path) for path in exporters],
        [load_verifier_key(path) for path in robots],
        [load_cosigner_key(path) for path in registries],
        load_people(people) if people is not None else None,
        _sizes(known, "--known"),
        _sizes(revoked, "--revoked"),
    )
    verdict = check(packet, trust)
    if reexecute and not verdict.failures:
        from ..evidence.reexecution import reexecute_packet

        reexecute_packet(packet, verdict)
    if as_json:
        click.echo(json.dumps(verdict.document(), indent=1, ensure_ascii=False))
    else:
        for line in lines(verdict):
            click.echo(line)
    return verdict.exit_code


def lines(verdict: Verdict) -> list[str]:
    """The verdict for people."""
    result = [verdict.word, f"packet    {verdict.path}"]
    if verdict.exporter:
        result.append(f"exporter  {verdict.exporter}")
    for log in verdict.logs:
        receipt = f"receipted up to record {log['receipted'] - 1}" if log["receipted"] else "no receipt"
        result.append(
            f"log       {log['origin']}: records {log['first']} to {log['end'] - 1} of {log['size']}; {receipt}"
        )
    result += [f"FAILED    {code}: {words}" for code, words in verdict.failures]
    result += [f"missing   {words}" for words in verdict.missing]
    return result + [f"note      {words}" for words in verdict.notes]


def _sizes(texts: tuple[str, ...], option: str) -> dict[str, int]:
    found = {}
    for text in texts:
        name, _, size = text.rpartition("=")
        if not name or not size.isdigit():
            raise UsageError(f"{option} {text}: expected NAME=SIZE, such as robot-7/…=1200")
        found[name] = int(size)
    return found
