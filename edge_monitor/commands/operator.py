"""``edge-monitor operator``: what a person asks of a running monitor, signed with their own key where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .reach import reaching

if TYPE_CHECKING:
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
@click.option("--to", type=click.Choice(("human", "autonomy", "fallback")), required=True, help="Who is to command.")
@click.option("--id", "id_", help="A name for it; one is made where none is given.")
def request(control: Reach, person: str, reason: str, to: str, id_: str | None) -> None:
    """Ask for a handover of command."""
    import time

    id_ = id_ or f"{person}-{time.time_ns() // 1_000_000}"
    _order(control, {"command": "handover.request", "id": id_, "to": to, "person": person, "reason": reason})
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
