"""``edge-monitor operator``: what a person asks of a running monitor, signed with their own key where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .reach import reaching

if TYPE_CHECKING:
    from ..core.commands import Waive
    from ..onboard.client import Reach

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
Command = Callable[..., None]


@click.group()
def command() -> None:
    """Take over, hand back, waive, reset latches: a named person's part, while the monitor runs."""


def by(function: Command) -> Command:
    """Options that every act of a person has."""
    person = click.option("--person", required=True, help="Who you are: your id in the people file.")
    return person(reaching(function))


def reason(function: Command) -> Command:
    """Why."""
    return click.option("--reason", required=True, help="Why, in a few words; it is written down.")(function)


def key(function: Command) -> Command:
    """Your own key."""
    return click.option("--key", type=FILE, help="Your own signing key; without it the signature is owed.")(function)


@command.command()
@by
@reason
@key
@click.option("--to", type=click.Choice(("human", "autonomy", "fallback")), required=True, help="Who is to command.")
@click.option("--id", "id_", help="A name for it; one is made where none is given.")
def request(control: Reach, person: str, reason: str, key: Path | None, to: str, id_: str | None) -> None:
    """Ask for a handover of command; with --key the request is signed, and to autonomy that is all that is owed."""
    import time

    from ..attestation import attest
    from ..core.commands import RequestHandover
    from ..journal import load_signing_key
    from ..onboard.client import ask

    id_ = id_ or f"{person}-{time.time_ns() // 1_000_000}"
    order: dict[str, Any] = {"command": "handover.request", "id": id_, "to": to, "person": person, "reason": reason}
    if key is not None:
        head = ask(control, {"do": "status"})["state"]["journal"]["head"]
        signed = RequestHandover(t=0, id=id_, to=to, person=person, reason=reason).signed()
        order |= {"checkpoint": head, "signature": attest(load_signing_key(key), signed, head)}
    _order(control, order)
    click.echo(f"handover {id_} requested")


@command.command()
@by
@key
@click.option("--id", "id_", help="Which handover; the one that is open where none is given.")
def accept(control: Reach, person: str, key: Path | None, id_: str | None) -> None:
    """Accept a handover; with --key also sign it, over its terms and the journal's head, or sign one accepted before."""
    from ..attestation import attest
    from ..journal import load_signing_key
    from ..onboard.client import ask

    state = ask(control, {"do": "status"})["state"]
    handover = state.get("handover")
    if not handover:
        raise UsageError("this monitor's envelope has no section `handover`: there is nothing to accept")
    opened = handover["open"]
    if id_ is None and opened is None and len(handover["attestation_pending"]) == 1:
        id_ = handover["attestation_pending"][0]
    if id_ is None and opened is None:
        raise UsageError("no handover is open; see 'edge-monitor status'")
    id_ = id_ or opened["id"]
    order: dict[str, Any] = {"command": "handover.accept", "id": id_, "person": person}
    if key is not None:
        terms = ask(control, {"do": "terms", "id": id_})["terms"]
        head = state["journal"]["head"]
        order |= {"checkpoint": head, "signature": attest(load_signing_key(key), {**terms, "person": person}, head)}
    _order(control, order)
    click.echo(f"handover {id_} accepted by {person}, {'signed' if key else 'signature pending'}")


@command.command()
@by
@reason
@click.argument("id_", metavar="ID")
def refuse(control: Reach, person: str, reason: str, id_: str) -> None:
    """Refuse a handover."""
    _order(control, {"command": "handover.refuse", "id": id_, "person": person, "reason": reason})
    click.echo(f"handover {id_} refused")


@command.command()
@by
@reason
@click.argument("id_", metavar="ID")
def cancel(control: Reach, person: str, reason: str, id_: str) -> None:
    """Call back a handover that a person asked for."""
    _order(control, {"command": "handover.cancel", "id": id_, "person": person, "reason": reason})
    click.echo(f"handover {id_} cancelled")


@command.command()
@by
@reason
@key
@click.argument("gate")
@click.argument("criterion")
@click.option("--for", "term", required=True, metavar="TERM", help="How long, such as '10 min'; a day at most.")
@click.option("--with", "second", metavar="ID", help="Who countersigns: critical criteria need two people.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path),
    help="File for the second person; default: CRITERION.waiver, here.",
)  # fmt: skip
def waive(
    control: Reach, person: str, reason: str, key: Path | None, gate: str, criterion: str, term: str, second: str | None,
    out: Path | None,
) -> None:  # fmt: skip
    """Accept CRITERION in GATE for a while, whatever its check says; signed with --key.

    For critical and catastrophic criteria a second person is needed: nothing is sent then, but a file is written, which
    they send with 'edge-monitor operator countersign'.
    """
    from ..core.commands import Waive
    from ..core.gates import TWO_PEOPLE
    from ..envelope.units import positive_duration
    from ..journal import load_signing_key
    from ..onboard.client import ask
    from ..waiver_files import write

    signing = load_signing_key(key) if key else None
    state = ask(control, {"do": "status"})["state"]
    severities = dict(zip(state["names"]["checks"], state["names"]["severities"], strict=True))
    if criterion not in severities:
        raise UsageError(f"the envelope in force has no check {criterion!r}; it has: {', '.join(severities)}")
    if severities[criterion] in TWO_PEOPLE and second is None:
        raise UsageError(
            f"{criterion} is {severities[criterion]}: two people must waive it; name the other one --with ID"
        )
    try:
        lasts = positive_duration(term)
    except ValueError as error:
        raise UsageError(f"--for '{term}': {error}") from None
    order = Waive(
        t=state["t_ns"], check=criterion, persons=(person, *([second] if second else [])), reason=reason,
        expires=state["t_ns"] + lasts, gates=(gate,), checkpoint=state["journal"]["head"] if key else "",
    )  # fmt: skip
    signatures = [signing.sign(order.text())] if signing else []
    if second is None or not signatures:
        _waive(control, order, signatures)
        return
    out = out or Path(f"{criterion}.waiver")
    write(out, order, signatures)
    click.echo(f"{out}: signed by {person}; {second} sends it with:")
    click.echo(f"edge-monitor operator countersign {out} --person {second} --key {second}.key")


@command.command()
@by
@click.option("--key", required=True, type=FILE, help="Your own signing key.")
@click.argument("file", metavar="FILE", type=FILE)
def countersign(control: Reach, person: str, key: Path, file: Path) -> None:
    """Sign a waiver that another person has signed, and send it. What it says is printed first."""
    from ..journal import load_signing_key
    from ..onboard.client import ask
    from ..waiver_files import read

    order, signatures = read(file)
    if order.persons[len(signatures) :] != (person,):
        waits = ", ".join(order.persons[len(signatures) :]) or "nobody"
        raise UsageError(f"{file}: waits for the signature of {waits}, not of {person}")
    left = (order.expires - ask(control, {"do": "status"})["state"]["t_ns"]) / 1e9
    first, gates = ", ".join(order.persons[:-1]), ", ".join(order.gates)
    click.echo(f"{first} waives {order.check} in {gates} for {left:.0f} s from now: {order.reason}")
    if left <= 0:
        raise UsageError(f"{file}: is over; have a new one signed")
    _waive(control, order, [*signatures, load_signing_key(key).sign(order.text())])


@command.command()
@by
@reason
@click.argument("criterion")
def withdraw(control: Reach, person: str, reason: str, criterion: str) -> None:
    """End the waivers of CRITERION before their time."""
    _order(control, {"command": "waiver.withdraw", "check": criterion, "person": person, "reason": reason})
    click.echo(f"waiver of {criterion} withdrawn")


@command.command("reset-latch")
@by
@reason
@click.argument("check")
def reset_latch(control: Reach, person: str, reason: str, check: str) -> None:
    """Reset the latch of CHECK, once its condition has cleared."""
    _order(control, {"command": "latch.reset", "check": check, "person": person, "reason": reason})
    click.echo(f"latch of {check} reset")


@command.command("end-mission")
@by
@reason
def end_mission(control: Reach, person: str, reason: str) -> None:
    """The mission is over: latches that last a mission go."""
    _order(control, {"command": "mission.end", "person": person, "reason": reason})
    click.echo("mission ended")


@command.command()
@by
@reason
def keep(control: Reach, person: str, reason: str) -> None:
    """Keep what the black box has of these seconds as an incident: before now, and after."""
    from ..onboard.client import ask

    ask(control, {"do": "keep", "person": person, "reason": reason})
    click.echo("kept, once the window has ended")


def _order(control: Reach, order: dict[str, Any]) -> None:
    from ..onboard.client import ask

    ask(control, {"do": "command", "command": order})


def _waive(control: Reach, order: Waive, signatures: list[bytes]) -> None:
    document = order.payload()
    del document["t"]
    _order(control, document | ({"signatures": signatures} if signatures else {}))
    click.echo(f"{order.check} waived in {', '.join(order.gates)} by {' and '.join(order.persons)}")
