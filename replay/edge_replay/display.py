"""The summary on a terminal: a time line of command and gates, and a table of checks. Colour is always doubled by a word."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_monitor.core.samples import Verdict

from .replay import Replay
from .summary import WORDS, Span, check_lines, spans

STYLES = {
    "GO": "green",
    "NO_GO": "red",
    "autonomy": "cyan",
    "human": "yellow",
    "fallback": "red",
    "none": "dim",
    "unknown": "magenta",
}
WIDTH = 48
MARKS = {"autonomy": "A", "human": "H", "fallback": "F", "none": "·", "unknown": "?", "GO": "█", "NO_GO": "░"}


def seconds(ns: int, first: int) -> str:
    """A time on the recording's clock; since the start where that clock counts from 1970."""
    return f"{ns / 1e9:.3f}" if first < 10**17 else f"+{(ns - first) / 1e9:.3f}"


def bar(found: list[Span], first: int, last: int) -> str:
    """A line of ``WIDTH`` marks over the whole recording; short spans still show."""
    marks = [" "] * WIDTH
    length = max(last - first, 1)
    for span in found:
        a = min(WIDTH - 1, (span.start - first) * WIDTH // length)
        b = max(a + 1, min(WIDTH, (span.end - first) * WIDTH // length))
        for i in range(int(a), int(b)):
            marks[i] = MARKS.get(span.what, "?")
    return "".join(marks)


def show(replay: Replay, console: Console) -> None:
    """Print the summary of one replay."""
    envelope = replay.monitor.envelope
    first, last = replay.first or 0, replay.last or 0
    console.print()
    console.print(
        f"[bold]{escape(replay.path.name)}[/]  {replay.format}, {(last - first) / 1e9:.1f} s, "
        f"{replay.messages:,} monitored messages; envelope [bold]{escape(envelope.id)}[/] v{envelope.version}"
        + (f", risk {envelope.risk}" if envelope.risk else "")
    )
    _time_line(replay, console, first, last)
    _checks(replay, console, first)
    _notes(replay, console)


def _time_line(replay: Replay, console: Console, first: int, last: int) -> None:
    subjects = [gate.name for gate in replay.monitor.envelope.gates]
    if replay.monitor.authority is not None:
        subjects.insert(0, "authority")
    if not subjects:
        return
    table = Table(title="Who was in command, and what the gates said", title_justify="left", box=None, pad_edge=False)
    for name in ("", "time line", "from", "what", "why"):
        table.add_column(name, overflow="fold")
    for subject in subjects:
        found = spans(replay, subject)
        for i, span in enumerate(found):
            style = STYLES.get(span.what, "")
            table.add_row(
                subject if i == 0 else "",
                bar(found, first, last) if i == 0 else "",
                seconds(span.start, first),
                f"[{style}]{span.what}[/]" if style else span.what,
                escape(span.cause),
            )
    console.print(table)
    console.print("[dim]A autonomy, H human, F fallback, · nobody, ? unknown; █ GO, ░ NO_GO[/]\n")


def _checks(replay: Replay, console: Console, first: int) -> None:
    table = Table(title="Checks", title_justify="left", box=None, pad_edge=False)
    table.add_column("check")
    table.add_column("kind")
    table.add_column("at the end")
    for name in ("fails", "in breach s", "unknown s", "worst margin"):
        table.add_column(name, justify="right")
    table.add_column("at")
    for line in check_lines(replay):
        word = WORDS[line.verdict] + (f" ({line.cause})" if line.cause else "")
        style = {Verdict.FAIL: "red", Verdict.UNKNOWN: "magenta", Verdict.PASS: "green"}[line.verdict]
        table.add_row(
            escape(line.name),
            line.kind,
            f"[{style}]{word}[/]",
            str(line.fails) if line.fails else "-",
            f"{line.fail_ns / 1e9:.2f}" if line.fail_ns else "-",
            f"{line.unknown_ns / 1e9:.2f}" if line.unknown_ns else "-",
            "not known" if line.worst is None else f"{line.worst:.4g} {line.unit}".strip(),
            "" if line.worst_t is None else seconds(line.worst_t, first),
        )
    console.print(table)


def _notes(replay: Replay, console: Console) -> None:
    for topic in replay.missing_topics:
        console.print(f"[magenta]not in this recording:[/] {escape(topic)}", highlight=False)
    for problem in replay.monitor.problems:
        console.print(f"[magenta]not readable:[/] {escape(problem)}", highlight=False)
    for damage in replay.damages:
        console.print(f"[red]damage:[/] {escape(damage.where)}: {escape(damage.what)}", highlight=False)
