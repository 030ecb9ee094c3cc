"""``edge-monitor go``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from .reach import reaching

if TYPE_CHECKING:
    from ..onboard.client import Reach


@click.command(short_help="Ask a running monitor: is this gate GO?")
@click.argument("gate")
@reaching
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(gate: str, control: Reach, as_json: bool) -> int:
    """Is GATE go or no-go, now, and why? Exit code 0 for GO, 1 for NO_GO.

    The answer is of the moment. A vehicle that acts on it must hold the lease: see the consumer's contract.
    """
    from ..onboard.client import ask

    answer = ask(control, {"do": "go", "gate": gate})
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False))
    else:
        reasons = ", ".join(
            f"{check} {verdict}" + (f"({cause})" if cause else "") for check, verdict, cause in answer["reasons"]
        )
        why = "; ".join(part for part in (answer["cause"], reasons) if part)
        click.echo(f"{gate} {answer['decision']}" + (f": {why}" if why else ""))
    return 0 if answer["decision"] == "GO" else 1
