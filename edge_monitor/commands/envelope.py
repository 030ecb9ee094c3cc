"""``edge-monitor envelope``."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .reach import reaching

if TYPE_CHECKING:
    from ..envelope import Envelope
    from ..envelope.approval import Approval, Refused
    from ..onboard.client import Reach
    from ..people import People

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
ENVELOPE = click.argument("file", metavar="E.yaml", type=FILE)
PEOPLE = click.option("--people", "people_file", required=True, type=FILE, help="People file that is trusted.")
KEY = click.option("--key", "key_file", required=True, type=FILE, help="Your signing key (.key).")
PERSON = click.option("--person", required=True, metavar="ID", help="Your id in the people file.")

_TERM = re.compile(r"([0-9]{1,5}) ?(h|d|w)", re.ASCII)
_HOURS = {"h": 1, "d": 24, "w": 168}


@click.group()
def command() -> None:
    """Propose and approve envelope files, show who did, and put them in force."""


@command.command()
@ENVELOPE
@KEY
@PERSON
@PEOPLE
@click.option("--replace", is_flag=True, help="Replace the proposal that is there; its approval goes with it.")
def sign(file: Path, key_file: Path, person: str, people_file: Path, replace: bool) -> None:
    """Propose E.yaml as it stands: writes E.approval beside it, for another person to approve.

    Nothing is written when you have proposed this very file already.
    """
    from ..envelope import load
    from ..envelope.approval import (
        ApprovalError,
        Refused,
        approval_path,
        propose,
        read_approval,
        verify_proposal,
        write_approval,
    )
    from ..envelope.statements import Proposal
    from ..errors import ConfigError
    from ..journal.keys import load_signing_key
    from ..people import load as load_people
    from ..utc import utc_text

    envelope, people, key = load(file), load_people(people_file), load_signing_key(key_file)
    now, path = time.time_ns(), approval_path(file)
    made = propose(envelope, key, person, people, now)
    there = read_approval(path)
    if there is not None and not replace:
        found = verify_proposal(envelope, there, people, now)
        if isinstance(found, Refused) and found.proposal is None:
            raise ApprovalError(path, found.refusals)
        if isinstance(found, Proposal) and found.proposer == person:
            at = utc_text(found.time)
            click.echo(f"{path}: nothing to do: {_called(envelope)} was proposed by {person} at {at}")
            return
        old = found.proposal if isinstance(found, Refused) else found
        codes = [refusal.code for refusal in found.refusals] if isinstance(found, Refused) else ["another person"]
        assert old is not None
        raise ConfigError(
            f"{path}: holds a proposal of {old.envelope} v{old.version} by {old.proposer}, not this one by {person} "
            f"({', '.join(codes)}); replace it, and its approval, with --replace"
        )
    write_approval(path, made)
    click.echo(f"{path}: {_called(envelope)} proposed by {person}, digest {envelope.digest[:16]}…")
    click.echo(
        f"another person approves it with: edge-monitor envelope approve {file} --ticket … --people {people_file} …"
    )


@command.command()
@ENVELOPE
@KEY
@PERSON
@PEOPLE
@click.option("--ticket", required=True, metavar="ID", help="Change ticket that the approval cites.")
@click.option("--reason", default="", help="Why it may be used, in one line.")
@click.option(
    "--expires",
    default="90d",
    metavar="TERM",
    show_default=True,
    help="How long it holds (`12h`, `90d`, `4w`), or until when (`2027-03-01`, UTC); 366 days at most.",
)
@click.option("--replace", is_flag=True, help="Replace an approval that is there.")
def approve(
    file: Path,
    key_file: Path,
    person: str,
    people_file: Path,
    ticket: str,
    reason: str,
    expires: str,
    replace: bool,
) -> None:
    """Approve what E.approval proposes, if it is E.yaml as it stands and somebody else proposed it.

    Nothing is written when you have approved it already, on the same ticket and for the same reason.
    """
    from ..envelope import approval as approvals
    from ..envelope import load
    from ..envelope.statements import split_file
    from ..errors import ConfigError
    from ..journal.keys import load_signing_key
    from ..people import load as load_people
    from ..utc import utc_text

    envelope, people, key = load(file), load_people(people_file), load_signing_key(key_file)
    now, path = time.time_ns(), approvals.approval_path(file)
    there = approvals.read_approval(path)
    found = approvals.verify(envelope, there, people, now)
    if there is None:
        assert isinstance(found, approvals.Refused)
        raise approvals.ApprovalError(path, found.refusals)
    until = _moment(expires, now)
    made = approvals.approve(envelope, there, key, person, people, now, ticket=ticket, reason=reason, expires_ns=until)
    if isinstance(found, approvals.Approval) and not replace:
        same = (found.approver, found.ticket, found.reason) == (person, ticket, reason)
        until_text = utc_text(found.expires)
        if not same:
            raise ConfigError(
                f"{path}: is approved already, by {found.approver} on {found.ticket} until {until_text}; "
                f"approve it anew with --replace"
            )
        click.echo(f"{path}: nothing to do: {_called(envelope)} is approved by {person} until {until_text}")
        return
    if len(split_file(there)) > 1 and not replace:
        assert isinstance(found, approvals.Refused)
        why = found.refusals[0].message
        raise ConfigError(f"{path}: holds an approval that does not count ({why}); replace it with --replace")
    approvals.write_approval(path, made)
    click.echo(
        f"{path}: {_called(envelope)} approved by {person} on {ticket} until {utc_text(until)}, "
        f"digest {envelope.digest[:16]}…"
    )


@command.command("reload")
@ENVELOPE
@reaching
@click.option("--person", default="", metavar="ID", help="Who you are, where the monitor has a people file.")
@click.option("--reason", default="", help="Why, in a few words; it is written down.")
@click.option("--risk", default="", help="Mission risk profile; the one in force otherwise.")
def put_in_force(file: Path, control: Reach, person: str, reason: str, risk: str) -> int:
    """Put E.yaml, approved, in force in a running monitor, without a break. The monitor must see the file at this path.

    It is judged by the monitor: everything that stands against it is printed, and the envelope in force stays. What is
    looser is refused while the vehicle is under way. Exit code 1 when the monitor refuses, 3 or 5 when the file won't do.
    """
    from ..onboard.client import reload

    state = reload(control, file, person=person, reason=reason, risk=risk)
    found = state["reload"]
    if found["phase"] == "active":
        envelope = state["envelope"]
        click.echo(
            f"{envelope['id']} v{envelope['version']} is in force, risk {envelope['risk']}, digest {envelope['digest'][:16]}…"
        )
        return 0
    for code, message in found["reasons"]:
        click.echo(f"{code}: {message}", err=True)
    click.echo("the envelope in force stays", err=True)
    return int(found["exit_code"])


@command.command()
@ENVELOPE
@PEOPLE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(file: Path, people_file: Path, as_json: bool) -> int:
    """Print who proposed and who approved E.yaml, and whether that holds now, by this machine's clock.

    Exit code 0 if it is approved; 3 if not, or the envelope is another one now; 5 if a signature does not hold.
    """
    from ..envelope import load
    from ..envelope.approval import Refused, approval_path, exit_code, read_approval, verify
    from ..people import load as load_people

    envelope, people, path = load(file), load_people(people_file), approval_path(file)
    verdict = verify(envelope, read_approval(path), people, time.time_ns())
    if as_json:
        click.echo(json.dumps(document(envelope, verdict), indent=2, ensure_ascii=False))
    else:
        for line in lines(envelope, verdict, people, path):
            click.echo(line)
    return exit_code(verdict.refusals) if isinstance(verdict, Refused) else 0


def document(envelope: Envelope, verdict: Approval | Refused) -> dict[str, Any]:
    """The standing of an envelope as JSON; what a refused file says is under ``claimed``, since nobody vouches for it."""
    from ..envelope.approval import Approval

    own: dict[str, Any] = {
        "file": envelope.source,
        "envelope": envelope.id,
        "version": envelope.version,
        "digest": envelope.digest,
        "file_digest": envelope.file_digest,
        "approved": isinstance(verdict, Approval),
    }
    if isinstance(verdict, Approval):
        said = _said(verdict.proposer, verdict.proposed)
        return own | said | _agreed(verdict.approver, verdict.approved, verdict.ticket, verdict.reason, verdict.expires)
    refusals = [{"code": refusal.code, "message": refusal.message} for refusal in verdict.refusals]
    claimed: dict[str, Any] = {}
    if verdict.proposal is not None:
        one = verdict.proposal
        claimed |= {"envelope": one.envelope, "version": one.version, "digest": one.digest}
        claimed |= _said(one.proposer, one.time)
    if verdict.consent is not None:
        given = verdict.consent
        claimed |= _agreed(given.approver, given.time, given.ticket, given.reason, given.expires)
    return own | {"refusals": refusals, "claimed": claimed}


def lines(envelope: Envelope, verdict: Approval | Refused, people: People, path: Path) -> list[str]:
    """The standing of an envelope for people."""
    from ..envelope.approval import Approval

    said = document(envelope, verdict)
    good = isinstance(verdict, Approval)
    claimed = said if good else said["claimed"]
    mark = "" if good else " (as the file says)"
    told = [
        f"envelope   {_called(envelope)}, {envelope.source}",
        f"digest     {envelope.digest}",
    ]
    if "proposer" in claimed:
        told.append(f"proposed   by {_person(claimed['proposer'], people)} at {claimed['proposed']}{mark}")
    if "approver" in claimed:
        told.append(f"approved   by {_person(claimed['approver'], people)} at {claimed['approved_at']}{mark}")
        told.append(f"ticket     {claimed['ticket']}")
        told += [f"reason     {claimed['reason']}"] if claimed["reason"] else []
        told.append(f"until      {claimed['expires']}")
    told.append(f"standing   {'approved' if good else 'NOT APPROVED'}")
    return told + [f"           {path}: {refusal['message']}" for refusal in said.get("refusals", ())]


def _said(proposer: str, at: int) -> dict[str, Any]:
    from ..utc import utc_text

    return {"proposer": proposer, "proposed": utc_text(at)}


def _agreed(approver: str, at: int, ticket: str, reason: str, expires: int) -> dict[str, Any]:
    from ..utc import utc_text

    return {
        "approver": approver,
        "approved_at": utc_text(at),
        "ticket": ticket,
        "reason": reason,
        "expires": utc_text(expires),
    }


def _person(person: str, people: People) -> str:
    known = people.persons.get(person)
    return f"{person} ({known.name})" if known else person


def _called(envelope: Envelope) -> str:
    return f"{envelope.id} v{envelope.version}"


def _moment(text: str, now_ns: int) -> int:
    """A term from now, or a moment, in ns since 1970."""
    from ..errors import UsageError
    from ..utc import SECOND, utc_ns

    term = _TERM.fullmatch(text)
    if term:
        return now_ns + int(term[1]) * _HOURS[term[2]] * 3600 * SECOND
    try:
        return utc_ns(text)
    except ValueError:
        message = "expected a term such as 12h, 90d or 4w, or a moment in UTC such as 2027-03-01"
        raise UsageError(f"--expires '{text}': {message}") from None
