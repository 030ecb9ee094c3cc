"""``edge-replay info``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from edge_monitor.core.messages import Damage

    from ..info import Info

SHOWN = 20  #: damages that are listed one by one
UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


@click.command(short_help="What is in a recording: topics, rates, gaps, damage.")
@click.argument("logs", nargs=-1, required=True, metavar="LOG...", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (a list, for several LOGs).")
def command(logs: tuple[Path, ...], as_json: bool) -> int:
    """Topics, types, counts, rates and longest gaps of each LOG (MCAP, rosbag2, ROS 1 bag, ULog, tlog, CSV, JSONL).

    The format is told from the content, not from the name. Exit code 4 when a part could not be read: the damage is
    listed, and everything else is counted.
    """
    from ..info import summarise
    from .run import progress

    found = []
    for log in logs:
        with progress(log, not sys.stderr.isatty()) as tell:
            found.append(summarise(log, tell))
    if as_json:
        documents = [info.document() for info in found]
        click.echo(json.dumps(documents[0] if len(documents) == 1 else documents, indent=2, ensure_ascii=False))
    else:
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else 160)
        for info in found:
            show(info, console)
    return 4 if any(info.damage for info in found) else 0


def show(info: Info, console: Console) -> None:
    """Print what is in one recording."""
    from rich.markup import escape
    from rich.table import Table

    def when(t: int | None) -> str:
        if t is None or info.first is None:
            return ""
        return f"+{(t - info.first) / 1e9:.3f} s" if info.start else f"{t / 1e9:.3f} s"

    document = info.document()
    head = f"[bold]{escape(info.path.name)}[/]  {info.format}, {size(info.size)}, {info.duration / 1e9:,.3f} s"
    console.print(head + (f" from {when(info.first)} to {when(info.last)}" if info.first and not info.start else ""))
    console.print(f"  starts {info.start}" if info.start else "", end="\n" if info.start else "")
    topics = [topic for topic in info.topics if topic.count]
    if info.format == "ulog":
        texts = document["texts"]
        named = len([topic for topic in topics if topic.name != "logged_message"])
        also = f" and {counted(texts, 'logged text')}" if texts else ""
        console.print(f"  {counted(document['samples'], 'sample')} of {counted(named, 'topic')}{also}")
    else:
        console.print(f"  {counted(info.messages, 'message')} of {counted(len(topics), 'topic')}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("  topic")
    if info.format != "ulog":  # where a topic is its type
        table.add_column("type")
    for name in ("messages", "mean rate", "longest gap", "from"):
        table.add_column(name, justify="right")
    table.add_column("can be decoded")
    for topic in sorted(info.topics, key=lambda topic: (topic.name, topic.instance)):
        name = escape(topic.name if not topic.instance else f"{topic.name}[{topic.instance}]")
        table.add_row(
            f"  {name}",
            *([] if info.format == "ulog" else [escape(topic.type)]),
            f"{topic.count:,}",
            "" if topic.rate is None else frequency(topic.rate),
            "" if not topic.intervals else seconds(topic.gap),
            "" if not topic.intervals else when(topic.gap_at),
            "yes" if topic.problem is None else f"[yellow]no: {escape(topic.problem)}[/]",
        )
    console.print(table)
    for before, after in info.steps_back:
        console.print(f"  [yellow]clock went back[/] from {when(before)} to {when(after)}")
    if info.dropouts:
        lost = sum(milliseconds for _, milliseconds in info.dropouts)
        console.print(
            f"  the logger itself was too slow {counted(len(info.dropouts), 'time')} and left out {lost} ms in all"
        )
    show_damage(info.damage, console, when)
    console.print()


def show_damage(damages: list[Damage], console: Console, when: Callable[[int | None], str]) -> None:
    """List what is damaged."""
    from rich.markup import escape

    if not damages:
        return
    console.print(f"  [red]damaged[/] in {counted(len(damages), 'place')}:")
    for damage in damages[:SHOWN]:
        lost = [] if damage.lost_messages is None else [f"{counted(damage.lost_messages, 'message')} lost"]
        lost += [] if not damage.lost_bytes else [f"{damage.lost_bytes:,} bytes"]
        where = f"after {when(damage.t)}; " if damage.t is not None else ""
        console.print(escape(f"    {damage.where}: {damage.what} ({where}{', '.join(lost) or 'loss not known'})"))
    if len(damages) > SHOWN:
        console.print(f"    … and {len(damages) - SHOWN} more (--json lists all)")


def counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def size(count: int) -> str:
    """A number of bytes to read."""
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def frequency(rate: float) -> str:
    return f"{rate:,.1f} Hz" if rate >= 10 else f"{rate:.2f} Hz" if rate >= 0.1 else f"{rate:.4f} Hz"


def seconds(ns: int) -> str:
    return f"{ns / 1e9:.3f} s" if ns >= 999_950_000 else f"{ns / 1e6:.1f} ms"
