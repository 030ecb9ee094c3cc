"""``edge-monitor status``."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from .reach import reaching

if TYPE_CHECKING:
    from rich.console import Group

    from ..onboard.client import Reach

VERDICTS = ("pass", "unknown", "FAIL")
STYLES = {"pass": "green", "unknown": "magenta", "FAIL": "red", "GO": "green", "NO_GO": "red"}


@click.command(short_help="How a running monitor stands: gates, checks, signals, command, journal.")
@reaching
@click.option("--watch", "-w", is_flag=True, help="Show it anew twice a second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(control: Reach, watch: bool, as_json: bool) -> None:
    """Show how a running monitor stands. Exit code 3 when none answers."""
    from ..command_line import console
    from ..onboard.client import ask

    if as_json:
        click.echo(json.dumps(ask(control, {"do": "status"})["state"], default=bytes.hex, ensure_ascii=False))
        return
    terminal = console()
    if not watch:
        terminal.print(view(ask(control, {"do": "status"})["state"]))
        return
    from rich.live import Live

    with Live(console=terminal, screen=sys.stdout.isatty(), auto_refresh=False) as live:
        while True:
            live.update(view(ask(control, {"do": "status"})["state"]), refresh=True)
            time.sleep(0.5)


def view(state: dict[str, Any]) -> Group:
    """The state as tables: what decides on top."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from ..core.samples import Cause

    names, envelope, journal = state["names"], state["envelope"], state["journal"]
    now = state["t_ns"]
    head = Text(f"envelope {envelope['id']}, {'approved' if envelope['approved'] else 'NOT APPROVED'}")
    if state["authority"]:
        head.append(f"; decides {state['authority'][0]}, acts {state['authority'][1]}")
    health = (
        "FAILED: " + journal["failure"]
        if journal["failure"]
        else f"{journal['durable']} records durable, {journal['waiting']} wait"
    )
    head.append(f"\njournal {health}, {journal['refused']} refused; source lost {state['source']['lost']} messages")
    for what, words in (("incidents", "kept"), ("raw", "written")):
        box = state.get(what)
        if box:
            more = (
                f", {box['dropped']} dropped" if box.get("dropped") else ", a window is open" if box.get("open") else ""
            )
            failure = f"; FAILED: {box['failure']}" if box["failure"] else ""
            head.append(f"\n{what} {box[words]} {words}{more}{failure}", "red" if failure else "")
    if state["withheld"]:
        head.append(f"\nno GO is given: {state['withheld']}", "red")
    handover = state.get("handover")
    if handover:
        head.append(f"\nresponsible {handover['responsible']}")
        if handover["open"]:
            opened = handover["open"]
            head.append(
                f"; handover {opened['id']} to {opened['to']} open, due in {(opened['due_ns'] - now) / 1e9:.1f} s",
                "yellow",
            )
    gates = Table("gate", "", "why", box=None, pad_edge=False)
    for name, answer in state["gates"].items():
        reasons = ", ".join(f"{check} {verdict}" for check, verdict, _ in answer["reasons"][:6])
        gates.add_row(name, Text(answer["decision"], STYLES[answer["decision"]]), answer["cause"] or reasons)
    checks = Table("check", "verdict", "cause", "value", "limit", "margin", box=None, pad_edge=False)
    columns = (state["checks"][name] for name in ("verdict", "cause", "value", "limit", "margin"))
    rows = sorted(zip(names["checks"], *columns, strict=True), key=lambda row: -row[1])
    for name, verdict, cause, value, limit, margin in rows:
        word = VERDICTS[verdict]
        checks.add_row(
            name, Text(word, STYLES[word]), Cause(cause).name.lower() if cause else "", *map(figure, (value, limit, margin))
        )  # fmt: skip
    signals = Table("signal", "value", "age s", "cause", box=None, pad_edge=False)
    columns = (state["signals"][name] for name in ("value", "t", "count", "cause"))
    for name, value, t, count, cause in zip(names["signals"], *columns, strict=True):
        age = f"{(now - t) / 1e9:.2f}" if count else "-"
        signals.add_row(name, figure(value), age, Cause(cause).name.lower() if cause else "")
    return Group(head, Text(), gates, Text(), checks, Text(), signals)


def figure(value: float) -> str:
    """A number in few digits; a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:.4g}"
