"""``edge-monitor status``."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError
from .reach import reaching

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

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
    from rich.text import Text

    with Live(console=terminal, screen=sys.stdout.isatty(), auto_refresh=False) as live:
        while True:
            try:
                live.update(view(ask(control, {"do": "status"})["state"]), refresh=True)
            except ConfigError as error:  # it may come back
                live.update(Text(str(error), "red"), refresh=True)
            time.sleep(0.5)


def view(state: dict[str, Any]) -> Group:
    """The state as tables: what decides on top."""
    from rich.console import Group
    from rich.text import Text

    parts = [head(state), gates(state), waivers(state), checks(state), signals(state)]
    spaced = [line for part in parts if part is not None for line in (part, Text())]
    return Group(*spaced[:-1])


def head(state: dict[str, Any]) -> Text:
    """Envelope, who commands, and the health of what must work: a line each."""
    from rich.text import Text

    envelope, now = state["envelope"], state["t_ns"]
    approved = "approved" if envelope["approved"] else "NOT APPROVED"
    text = Text(f"envelope {envelope['id']} v{envelope['version']}, risk {envelope['risk']}, {approved}")
    text.append(f", {envelope['digest'][:16]}…")
    if state["authority"]:
        text.append(f"; decides {state['authority'][0]}, acts {state['authority'][1]}")
    reload = state.get("reload")
    if reload and reload["phase"] not in ("active", "rejected"):
        text.append(f"\nreload {reload['path']} is {reload['phase']}", "yellow")
    elif reload and reload["phase"] == "rejected":
        text.append(f"\nreload {reload['path']} was rejected: {reload['reasons'][0][1]}", "red")
    for line, style in (*_journal(state), *_sync(state), *_loop(state)):
        text.append(f"\n{line}", style)
    if state["withheld"]:
        text.append(f"\nno GO is given: {state['withheld']}", "red")
    for line, style in _handover(state.get("handover"), now):
        text.append(f"\n{line}", style)
    return text


def _journal(state: dict[str, Any]) -> Iterator[tuple[str, str]]:
    journal = state["journal"]
    if journal["failure"]:
        yield f"journal FAILED: {journal['failure']}", "red"
    signed = journal["head"].split("\n")
    size = f"; {signed[1]} records signed" if len(signed) > 1 else ""
    yield (
        f"journal {journal['durable']} records durable, {journal['waiting']} wait, {journal['refused']} refused{size}",
        "red" if journal["refused"] else "",
    )


def _sync(state: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What the registry has; nothing where the monitor has none."""
    sync = state.get("sync")
    if not sync:
        return
    age = f", {time.time() - sync['receipt_time_s']:.0f} s ago" if sync["receipt_time_s"] else ""
    line = f"sync {sync['state']}; {sync['receipted']} of {sync['size']} records receipted{age}"
    yield line + (f"; {sync['failure']}" if "failure" in sync else ""), "" if sync["state"] == "connected" else "yellow"


def _loop(state: dict[str, Any]) -> Iterator[tuple[str, str]]:
    lost = state["source"]["lost"]
    line = f"source lost {lost} messages; {state['loop']['samples']} samples in {state['loop']['turns']} turns"
    yield line, "yellow" if lost else ""
    for what, words in (("incidents", "kept"), ("raw", "written")):
        box = state.get(what)
        if box:
            more = (
                f", {box['dropped']} dropped" if box.get("dropped") else ", a window is open" if box.get("open") else ""
            )
            failure = f"; FAILED: {box['failure']}" if box["failure"] else ""
            yield f"{what} {box[words]} {words}{more}{failure}", "red" if failure else ""


def _handover(handover: dict[str, Any] | None, now: int) -> Iterator[tuple[str, str]]:
    if not handover:
        return
    since = handover["no_controller_since_ns"]
    lost = f", for {(now - since) / 1e9:.1f} s" if since is not None else ""
    over = ", who took over" if handover["override"] else ""
    yield f"responsible {handover['responsible']}{lost}{over}", "red" if lost else ""
    if handover["open"]:
        opened = handover["open"]
        left = (opened["due_ns"] - now) / 1e9
        yield f"handover {opened['id']} to {opened['to']} waits for {opened['phase']}, due in {left:.1f} s", "yellow"
    if handover["mrm_due_ns"] is not None:
        yield f"minimal-risk manoeuvre asked for, due in {(handover['mrm_due_ns'] - now) / 1e9:.1f} s", "red"
    if handover["attestation_pending"]:
        yield f"not signed yet: {', '.join(handover['attestation_pending'])}", "yellow"


def gates(state: dict[str, Any]) -> Table:
    """What each gate says, and why."""
    from rich.table import Table
    from rich.text import Text

    table = Table("gate", "", "lease s", "why", box=None, pad_edge=False)
    for name, answer in state["gates"].items():
        reasons = ", ".join(
            f"{check} {verdict}" + (f"({cause})" if cause else "") for check, verdict, cause in answer["reasons"][:6]
        )
        why = "; ".join(part for part in (answer["cause"], reasons) if part)
        lease = f"{answer['lease_ns'] / 1e9:g}" if answer["lease_ns"] else "-"
        table.add_row(name, Text(answer["decision"], STYLES[answer["decision"]]), lease, why)
    return table


def waivers(state: dict[str, Any]) -> Table | None:
    """The waivers in force; None where there is none."""
    from rich.table import Table
    from rich.text import Text

    if not state["waivers"]:
        return None
    table = Table("waived", "in", "by", "for s", "why", box=None, pad_edge=False)
    for one in state["waivers"]:
        left = f"{(one['expires_ns'] - state['t_ns']) / 1e9:.0f}"
        row = (", ".join(one["gates"]), ", ".join(one["persons"]), left, one["reason"])
        table.add_row(Text(one["criterion"], "yellow"), *row)
    return table


def checks(state: dict[str, Any]) -> Table:
    """Each check with its numbers, the worst first."""
    from rich.table import Table
    from rich.text import Text

    from ..core.samples import Cause

    table = Table("check", "verdict", "cause", "value", "limit", "margin", "", box=None, pad_edge=False)
    names = state["names"]
    columns = (state["checks"][name] for name in ("verdict", "cause", "latched", "value", "limit", "margin"))
    rows = zip(names["checks"], names["units"], *columns, strict=True)
    for name, unit, verdict, cause, latched, *numbers in sorted(rows, key=lambda row: -row[2]):
        word = VERDICTS[verdict]
        why = "latched" if latched else Cause(cause).name.lower() if cause else ""
        table.add_row(name, Text(word, STYLES[word]), why, *map(figure, numbers), unit)
    return table


def signals(state: dict[str, Any]) -> Table:
    """Each signal with its value and how old it is."""
    from rich.table import Table

    from ..core.samples import Cause

    table = Table("signal", "value", "", "age s", "cause", box=None, pad_edge=False)
    names = state["names"]
    columns = (state["signals"][name] for name in ("value", "t", "count", "cause"))
    for name, unit, value, t, count, cause in zip(names["signals"], names["signal_units"], *columns, strict=True):
        age = f"{(state['t_ns'] - t) / 1e9:.2f}" if count else "-"
        table.add_row(name, figure(value), unit, age, Cause(cause).name.lower() if cause else "")
    return table


def figure(value: float) -> str:
    """A number in few digits; a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:.4g}"
