"""``edge-registry catalogue``."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..catalogue.kinds import KINDS
from .options import AS_JSON, DATABASE, FILE, FOLDER, KEY, PEOPLE, PERSON

if TYPE_CHECKING:
    from ..catalogue.documents import ItemDocument, LineageDocument
    from ..catalogue.entering import Registration, Taken
    from ..catalogue.reading import Catalogue


@click.group()
def command() -> None:
    """Models, data, evaluations, envelopes, robots, missions: register them, bring evidence, see where they come from."""


@command.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("file", type=FILE)
@FOLDER
@DATABASE
@PEOPLE
@PERSON
@KEY
@click.option("--name", help="What it is called; of an envelope what it says itself, of a robot its key's name.")
@click.option("--version", "version", help="Its version; of an envelope what it says itself. Default: 1")
@click.option("--owner", default="", help="Person who answers for it; default: you.")
@click.option(
    "--about", multiple=True, metavar="WORD=TEXT", help="What else to say of it, such as sources=…; may repeat."
)
@click.option(
    "--link", "links", multiple=True, metavar="RELATION=REF",
    help="What it comes from, such as trained_on=dataset:yard@2; may repeat.",
)  # fmt: skip
def add(
    kind: str, file: Path, folder: Path, database: str | None, people_file: Path | None, person: str, key_file: Path,
    name: str | None, version: str | None, owner: str, about: tuple[str, ...], links: tuple[str, ...],
) -> None:  # fmt: skip
    """Register FILE, signed by you: its id is the file's SHA-256 (an envelope's: of what it says; a robot's: of its .pub line).

    Of a run say --about result=passed or result=failed. The approval file beside an envelope comes along, and
    registers it in its proposer's name.
    """
    from edge_monitor.errors import VerificationError

    from ..catalogue import approvals
    from ..catalogue.entering import Link, Registration, take
    from ..catalogue.opening import opened

    with opened(folder, database, people_file) as desk:
        key = desk.signer(key_file, person)
        assert desk.trust.people is not None
        digest, named, numbered, document = _identified(kind, file, Path(desk.trust.people.source))
        approval = file.with_suffix(".approval")
        given = approval.read_bytes() if kind == "envelope" and approval.is_file() else None
        with desk.writing() as catalogue:
            found = tuple(_link(catalogue, kind, text, Link) for text in links)
            documents = [document] if document is not None else []
            if given is not None:
                if (proposal := approvals.parse(given)) is None or proposal.digest != digest:
                    raise VerificationError(f"{approval}: is not the approval of this envelope")
                taken = approvals.take(catalogue.tx, given, desk.trust, catalogue.now_ns, documents)
                click.echo(f"{approval}: {taken.standing.word}{_because(taken.standing.reasons)}")
            one = Registration(
                kind, name or named, version or numbered, digest, owner or person, _said(kind, about), found,
                hashlib.sha256(document).hexdigest() if document is not None else "",
            )  # fmt: skip
            if catalogue.get(digest) is None or links or about:
                data = one.signed(person, key, catalogue.now_ns)
                taken = take(catalogue.tx, data, desk.trust, catalogue.now_ns, documents)
                _counts(taken, one)
        with desk.reading() as catalogue:
            item = catalogue.get(digest)
            assert item is not None
    click.echo(f"{item.alias}  sha256:{digest}")


@command.command(name="import")
@click.argument("files", nargs=-1, required=True, type=FILE)
@FOLDER
@DATABASE
@PEOPLE
def import_(files: tuple[Path, ...], folder: Path, database: str | None, people_file: Path | None) -> None:
    """Keep signed in-toto statements (DSSE envelopes): provenance, test results, registrations that others signed.

    What a key signed that the people file does not have is kept, shown as such, and counts for nothing. Exit code 5 for a file
    that is no statement.
    """
    from edge_monitor.errors import VerificationError

    from ..catalogue.entering import take
    from ..catalogue.opening import opened

    with opened(folder, database, people_file) as desk:
        for file in files:
            try:
                with desk.writing() as catalogue:
                    taken = take(catalogue.tx, file.read_bytes(), desk.trust, time.time_ns())
            except VerificationError as error:
                raise VerificationError(f"{file}: {error}") from None
            who = f" by {taken.standing.person}" if taken.standing.person else ""
            again = "" if taken.new else "; it is here already"
            click.echo(f"{file}: {taken.type}, {taken.standing.word}{who}{_because(taken.standing.reasons)}{again}")


@command.command()
@click.argument("subject", required=False)
@FOLDER
@DATABASE
@PEOPLE
@click.option("--kind", type=click.Choice(KINDS), help="List things of this kind only.")
@click.option("--search", default="", help="List things with this in their name, or whose digest begins so.")
@AS_JSON
def show(
    subject: str | None, folder: Path, database: str | None, people_file: Path | None, kind: str | None, search: str,
    as_json: bool,
) -> None:  # fmt: skip
    """List things, the newest first; or show SUBJECT (KIND:NAME@VERSION or a digest) with what is said of it."""
    from ..catalogue.opening import opened
    from ..catalogue.pages import item_page

    with opened(folder, database, people_file) as desk, desk.reading() as catalogue:
        if subject is None:
            found = catalogue.items(kind or "", search)
            click.echo(json.dumps(found) if as_json else "\n".join(map(_item_line, found)) or "the catalogue is empty")
            return
        page = item_page(catalogue, subject)
    if as_json:
        click.echo(json.dumps(page))
        return
    item = page["item"]
    click.echo(f"{item['alias']}  sha256:{item['digest']}")
    click.echo(f"registered  by {item['registered_by'] or '?'}, {item['standing']['word']}; owner {item['owner']}")
    for what in ("approval", "promotion"):
        decided = item[what]
        by = f" by {decided['person']}" if decided["person"] else ""
        click.echo(f"{what:<11} {decided['state']}{by}{_because(decided['reasons'])}")
    for word, text in item["about"].items():
        click.echo(f"{word:<11} {text}")
    for one in page["statements"]:
        standing = one["standing"]
        by = f" by {standing['person']}" if standing["person"] else ""
        click.echo(
            f"statement   {one['digest'][:16]}  {one['type']}: {standing['word']}{by}{_because(standing['reasons'])}"
        )
    for use in page["used"]:
        click.echo(f"used        by {use['robot']}, records {use['first']} to {use['last']} of {use['log']}")


@command.command()
@click.argument("subject")
@FOLDER
@DATABASE
@PEOPLE
@AS_JSON
def lineage(subject: str, folder: Path, database: str | None, people_file: Path | None, as_json: bool) -> None:
    """Show where SUBJECT comes from and what came of it: a thing, or a record as ROBOT/SEQUENCE; and who says so."""
    from ..catalogue.opening import opened
    from ..catalogue.pages import lineage_of

    with opened(folder, database, people_file) as desk, desk.reading() as catalogue:
        found = lineage_of(catalogue, subject)
    click.echo(json.dumps(found) if as_json else "\n".join(_lineage_lines(found)))


def _identified(kind: str, file: Path, people: Path) -> tuple[str, str, str, bytes | None]:
    """Digest, name and version of what is in a file, and the bytes that are to be kept."""
    from edge_monitor.errors import UsageError
    from edge_monitor.journal.keys import load_verifier_key

    from ..catalogue.reading import identity_digest

    if kind == "robot":
        key = load_verifier_key(file)
        return identity_digest(key.text()), key.name, "1", None
    if kind == "envelope":
        said = _envelope(file, people)
        return said["digest"], said["envelope"], str(said["version"]), file.read_bytes()
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    return digest.hexdigest(), file.stem, "1", None


def _envelope(file: Path, people: Path) -> dict[str, Any]:
    """What 'edge-monitor envelope show' says of a file. A process of its own: reading envelopes takes all that checks can be."""
    from edge_monitor.errors import ConfigError

    program = "from edge_monitor.cli import main; main()"
    words = ["envelope", "show", str(file), "--people", str(people), "--json"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise ConfigError(done.stderr.strip().removeprefix("edge-monitor: ") or f"{file}: can't be read") from None
    return said


def _said(kind: str, about: tuple[str, ...]) -> dict[str, str]:
    from edge_monitor.errors import UsageError

    found = {}
    for text in about:
        word, mark, rest = text.partition("=")
        if not mark or not word.strip():
            raise UsageError(f"--about {text[:80]!r}: expected WORD=TEXT")
        found[word.strip()] = rest.strip()
    if kind == "run" and found.get("result") not in ("passed", "failed"):
        raise UsageError("of a run say --about result=passed or --about result=failed")
    return found


def _link(catalogue: Catalogue, kind: str, text: str, link: Any) -> Any:
    from edge_monitor.errors import UsageError, VerificationError

    from ..catalogue.entering import check_link

    relation, mark, ref = text.partition("=")
    if not mark:
        raise UsageError(f"--link {text[:80]!r}: expected RELATION=REF, such as trained_on=dataset:yard@2")
    target = catalogue.find(ref)
    made = link(relation, target.kind, target.digest)
    try:
        check_link(kind, made)
    except VerificationError as error:
        raise UsageError(f"--link {text[:80]}: {error}") from None
    return made


def _counts(taken: Taken, one: Registration) -> None:
    from edge_monitor.errors import ConfigError

    if not taken.standing.holds:
        raise ConfigError(f"{one.name}: your signature does not count: {'; '.join(taken.standing.reasons)}")


def _because(reasons: tuple[str, ...] | list[str]) -> str:
    return f" ({'; '.join(reasons)})" if reasons else ""


def _item_line(item: ItemDocument) -> str:
    states = [item["approval"]["state"]] if item["kind"] not in ("run", "robot") else []
    states += [item["promotion"]["state"]] if item["kind"] in ("model", "baseline") else []
    said = f"  {', '.join(states)}" if states else ""
    word = "" if item["standing"]["word"] == "verified" else f"  registration {item['standing']['word']}"
    return f"{item['alias']}  sha256:{item['digest'][:16]}  owner {item['owner']}{said}{word}"


def _lineage_lines(found: LineageDocument) -> list[str]:
    names = {
        node["digest"]: node["alias"] or f"sha256:{node['digest'][:16]}… (not in the catalogue)"
        for node in found["nodes"]
    }
    lines = []
    for edge in found["edges"]:
        mark = f"says {edge['person']}" if edge["counts"] else f"NOT COUNTED: {edge['words']}"
        source, target = (names.get(end, end) for end in (edge["source"], edge["target"]))
        lines.append(f"{source}  {edge['relation']}  {target}  ({mark})")
    lines += [f"training data  {names[digest]}  sha256:{digest}" for digest in found["training_data"]]
    return [*lines, *(f"missing: {words}" for words in found["gaps"])] or ["nothing is known of where it comes from"]
