"""The summary on a terminal: who commanded, what breached, what each check found. Colour is always doubled by a word."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_monitor.core.samples import Verdict

from .replay import Replay
from .summary import WORDS, Breach, CheckLine, Span, breaches, check_lines, hard_cases, losses, spans

STYLES = {
    "GO": "green",
    "NO_GO": "red",
    "autonomy": "cyan",
    "human": "yellow",
    "fallback": "red",
    "none": "dim",
    "unknown": "magenta",
}
MARKS = {"autonomy": "A", "human": "H", "fallback": "F", "none": "·", "unknown": "?", "GO": "█", "NO_GO": "░"}
LEGEND = "A autonomy, H human, F fallback, · nobody, ? unknown; █ GO, ░ NO_GO"
NARROW, WIDE = 110, 140  #: columns below which what can be done without is left out
LISTED = 30  #: breaches, losses and damages that are listed one by one
WALL = 10**17  #: a time in ns beyond this counts from 1970, not from a boot


def seconds(ns: int, first: int) -> str:
    """A time on the recording's clock; since the start where that clock counts from 1970."""
    return f"{ns / 1e9:.3f}" if first < WALL else f"+{(ns - first) / 1e9:.3f}"


def duration(ns: int) -> str:
    """How long something lasted, in seconds; a dash for no time at all."""
    return "-" if ns == 0 else "< 0.01" if ns < 10_000_000 else f"{ns / 1e9:.2f}"


def figure(value: float | str | None, unit: str = "") -> str:
    """Four significant digits and the unit; a dash where there is no value."""
    if value is None:
        return "-"
    return f"{value if isinstance(value, str) else f'{value:.4g}'} {unit}".strip()


def bar(found: list[Span], first: int, last: int, width: int) -> str:
    """A line of ``width`` marks over the whole recording; a short span still shows, and the rarer thing wins."""
    marks = [" "] * width
    length = max(last - first, 1)
    for span in found:
        a = min(width - 1, (span.start - first) * width // length)
        b = max(a + 1, min(width, -((first - span.end) * width // length)))
        for i in range(int(a), int(b)):
            marks[i] = MARKS.get(span.what, "?")
    return "".join(marks)


def plain_table(title: str, *columns: str, right: Iterable[str] = ()) -> Table:
    """A table without lines; the columns in ``right`` hold numbers, the last one may wrap."""
    table = Table(title=f"[bold]{title}[/]", title_style="", title_justify="left", box=None, pad_edge=False)
    table.header_style = "dim"
    for name in columns:
        justify = "right" if name in right else "left"
        table.add_column(name, justify=justify, no_wrap=name in right or name != columns[-1], overflow="fold")
    return table


def show(replay: Replay, console: Console) -> None:
    """Print the summary of one replay."""
    envelope = replay.monitor.envelope
    first, last = replay.first or 0, replay.last or 0
    console.print()
    began = f", from {datetime.fromtimestamp(first / 1e9, timezone.utc):%Y-%m-%d %H:%M:%S} UTC" if first > WALL else ""
    risk = f", risk {escape(envelope.risk)}" if envelope.risk else ""
    console.print(
        f"[bold]{escape(replay.path.name)}[/]: {replay.format}{began}, {(last - first) / 1e9:.1f} s, "
        f"{replay.messages:,} monitored messages",
        highlight=False,
    )
    console.print(f"envelope [bold]{escape(envelope.id)}[/] version {envelope.version}{risk}", highlight=False)
    if replay.messages == 0:
        _nothing(replay, console)
    else:
        clock = "since its first monitored message" if first > WALL else "on the recording's own clock"
        console.print(f"[dim]times are in seconds {clock}[/]\n", highlight=False)
        _time_line(replay, console, first, last)
        _breaches(replay, console, first)
        _losses(replay, console, first)
        _checks(replay, console, first)
        _hard_cases(replay, console, first)
    _notes(replay, console)
    console.print(_bottom_line(replay), highlight=False)


def _nothing(replay: Replay, console: Console) -> None:
    if replay.recorded is None:
        console.print("[magenta]nothing to monitor:[/] it has no message on a topic that the envelope reads")
        return
    low, high = (seconds(t, replay.recorded[0]) for t in replay.recorded)
    console.print(f"[magenta]nothing between --from and --to:[/] the monitored messages are from {low} to {high} s")


def _time_line(replay: Replay, console: Console, first: int, last: int) -> None:
    subjects = [gate.name for gate in replay.monitor.envelope.gates]
    if replay.monitor.authority is not None:
        subjects.insert(0, "authority")
    if not subjects:
        return
    wide = console.width >= NARROW
    width = 48 if wide else max(20, console.width - max(map(len, subjects)) - 2)
    columns = ("", "time line") if wide else ("",)
    table = plain_table("Who was in command, and what the gates said", *columns, "from", "what", "why", right=("from",))
    for subject in subjects:
        found = spans(replay, subject)
        line = bar(found, first, last, width)
        if not wide:
            console.print(f"{escape(subject):<{max(map(len, subjects))}}  {line}", highlight=False)
        for i, span in enumerate(found):
            style = STYLES.get(span.what, "")
            table.add_row(
                escape(subject) if i == 0 else "",
                *((line if i == 0 else "",) if wide else ()),
                seconds(span.start, first),
                f"[{style}]{span.what}[/]" if style else span.what,
                escape(span.cause),
            )
    if not wide:
        console.print(f"[dim]{LEGEND}[/]\n", highlight=False)
    console.print(table, highlight=False)
    console.print(f"[dim]{LEGEND}[/]\n" if wide else "", highlight=False)


def _breaches(replay: Replay, console: Console, first: int) -> None:
    found = breaches(replay)
    if not found:
        return
    names = ("severity", "hazard", "rationale")
    more = names if console.width >= WIDE else names[:2] if console.width >= NARROW else names[:1]
    right = ("from", "for s", "value", "limit")
    table = plain_table("Breaches", "from", "for s", "check", "value", "limit", *more, right=right)
    for breach in found[:LISTED]:
        event = breach.event
        row = (event.severity, event.hazard, event.payload.get("rationale", ""))
        still = breach.end is None
        table.add_row(
            seconds(event.t_effective, first),
            ("> " if still else "")
            + duration((replay.monitor.now if breach.end is None else breach.end) - event.t_effective),
            escape(event.subject),
            escape(_measured(breach)),
            figure(event.payload["limit"], event.payload["unit"]),
            *(escape(cell) for cell in row[: len(more)]),
        )
    console.print(table, highlight=False)
    _rest(len(found), console)


def _measured(breach: Breach) -> str:
    """What was measured when a breach began: a number, a state's name, or why there is no number."""
    said = breach.event.payload
    if "state" in said:
        return str(said["state"])
    return (
        figure(said["value"], said["unit"]) if said["value"] is not None else said["cause"].replace("nan", "NaN") or "-"
    )


def _rest(count: int, console: Console) -> None:
    if count > LISTED:
        console.print(f"[dim]… and {count - LISTED} more: --json and --jsonl have them all[/]", highlight=False)
    console.print()


def _losses(replay: Replay, console: Console, first: int) -> None:
    found = losses(replay)
    if not found:
        return
    table = plain_table("Inputs lost", "from", "for s", "topic", "cause", "signals", right=("from", "for s"))
    for loss in found[:LISTED]:
        length = (replay.monitor.now if loss.end is None else loss.end) - loss.start
        table.add_row(
            seconds(loss.start, first),
            ("> " if loss.end is None else "") + duration(length),
            escape(loss.topic),
            loss.cause,
            escape(", ".join(loss.signals)),
        )
    console.print(table, highlight=False)
    _rest(len(found), console)


def _urgency(line: CheckLine) -> tuple[bool, bool, str]:
    return line.fails == 0, line.verdict != Verdict.UNKNOWN, line.name


def _checks(replay: Replay, console: Console, first: int) -> None:
    wide = console.width >= NARROW
    right = ("fails", "in breach s", "unknown s", "worst margin", *(("at",) if wide else ()))
    columns = ("check", *(("kind", "severity") if wide else ()), "at the end", *right)
    table = plain_table("Checks", *columns, right=right)
    for line in sorted(check_lines(replay), key=_urgency):
        word = WORDS[line.verdict] + (f" ({line.cause})" if line.cause else "")
        style = {Verdict.FAIL: "red", Verdict.UNKNOWN: "magenta", Verdict.PASS: "green"}[line.verdict]
        table.add_row(
            escape(line.name),
            *((line.kind, line.severity) if wide else ()),
            f"[{style}]{word}[/]",
            str(line.fails) if line.fails else "-",
            duration(line.fail_ns),
            duration(line.unknown_ns),
            figure(line.worst, line.unit),
            *(("" if line.worst_t is None else seconds(line.worst_t, first),) if wide else ()),
        )
    console.print(table, highlight=False)
    console.print()


def _hard_cases(replay: Replay, console: Console, first: int) -> None:
    found = hard_cases(replay)
    if not found:
        return
    right = ("rank", "at", "p", "value")
    table = plain_table("Hard cases: frames to look at again", *right, "signal", "topic", "mode", right=right)
    for event in found[:LISTED]:
        said = event.payload
        table.add_row(
            str(said["rank"]),
            seconds(said["frame_ns"], first),
            f"{said['p']:.3g}",
            figure(said["value"], said["unit"]),
            escape(said["signal"]),
            escape(said["topic"]),
            escape(said["mode"]),
        )
    console.print(table, highlight=False)
    _rest(len(found), console)


def _notes(replay: Replay, console: Console) -> None:
    for topic in replay.missing_topics:
        console.print(f"[magenta]not in this recording:[/] {escape(topic)}", highlight=False)
    for problem in replay.monitor.problems:
        console.print(f"[magenta]not readable:[/] {escape(problem)}", highlight=False)
    for damage in replay.damages[:LISTED]:
        console.print(f"[red]damage:[/] {escape(damage.where)}: {escape(damage.what)}", highlight=False)
    if len(replay.damages) > LISTED:
        console.print(f"[red]damage:[/] … and {len(replay.damages) - LISTED} more places", highlight=False)


def _bottom_line(replay: Replay) -> str:
    """The result in one line."""
    lines = check_lines(replay)
    failed, times = sum(line.fails > 0 for line in lines), sum(line.fails for line in lines)
    unknown = sum(line.verdict == Verdict.UNKNOWN for line in lines)
    parts = [f"{times} breaches of {failed} checks" if times != 1 else "1 breach"] if times else ["no breach"]
    if unknown:
        parts.append(f"{unknown} of {len(lines)} checks unknown at the end")
    parts += [
        f"{escape(name)} {'GO' if go else 'NO_GO'} at the end" for name, go in replay.monitor.gates.state().items()
    ]
    if replay.damages:
        places = len(replay.damages)
        parts.append(f"damaged in {places} place{'' if places == 1 else 's'}")
    return f"[bold]{'; '.join(parts)}[/]"
