"""``edge-replay run``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from edge_monitor.command_line import PatientInterrupt, console
from edge_monitor.errors import ConfigError, DamagedInputError, UsageError

if TYPE_CHECKING:
    from edge_monitor.events import Event

    from ..replay import Replay, Window

    Sink = Callable[[Event, Path], None]

FAIL_ON = ("breach", "no-go", "unknown")


@click.command(short_help="Replay recordings against an envelope; every breach and decision.")
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--envelope",
    "-e",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The envelope file.",
)
@click.option("--risk", help="Mission risk profile of the envelope; its own default otherwise.")
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all events to this signed journal (needs --key).",
)
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Signing key, from 'edge-monitor keys new'.",
)
@click.option(
    "--tape",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what decisions were made of to this file (needs --journal), for 'edge-replay reexecute'.",
)
@click.option(
    "--jsonl",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write events to this file, one JSON object a line; '-' is stdout.",
)
@click.option(
    "--matrix", "with_matrix", is_flag=True,
    help="Add what the sensors saw: time and events by weather, light, vibration and occlusion (section `odd`).",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
@click.option(
    "--from", "start", metavar="SECONDS", help="Start here: seconds on the recording's clock, or '+S' from its start."
)
@click.option("--to", "end", metavar="SECONDS", help="End here, likewise.")
@click.option(
    "--fail-on",
    type=click.Choice(FAIL_ON),
    multiple=True,
    help="Exit with 1 when this was found; may be given more than once.",
)
@click.option("--quiet", "-q", is_flag=True, help="No summary and no progress.")
def command(
    logs: tuple[Path, ...],
    envelope: Path,
    risk: str | None,
    journal: Path | None,
    key: Path | None,
    tape: Path | None,
    jsonl: str | None,
    with_matrix: bool,
    as_json: bool,
    start: str | None,
    end: str | None,
    fail_on: tuple[str, ...],
    quiet: bool,
) -> int:
    """Replay each LOG (MCAP, rosbag2 file or folder, ROS 1 bag, PX4 ULog, MAVLink tlog, CSV, JSONL) against an envelope.

    Reports every breach, every change of who was in command and every go/no-go, with times, margins and reasons.
    Each LOG is a stream of its own; a recording is not read from standard input, since readers go back and forth in it.
    Exit code 4 when a part of a recording could not be read: everything else was replayed.
    """
    from edge_monitor import envelope as envelopes

    from .. import summary
    from ..matrix import Matrix, merged
    from ..replay import replay

    if (journal is None) != (key is None):
        raise UsageError("--journal and --key go together: make a key with 'edge-monitor keys new NAME'")
    if tape is not None and (journal is None or len(logs) > 1):
        raise UsageError("--tape belongs to one LOG and its journal: give one LOG, --journal and --key")
    if jsonl == "-" and as_json:
        raise UsageError("--jsonl - and --json both want stdout: give --jsonl a file")
    if jsonl not in (None, "-") and Path(str(jsonl)).resolve() in {path.resolve() for path in (*logs, envelope)}:
        raise UsageError(f"--jsonl {jsonl}: would overwrite an input; name another file")
    loaded = envelopes.load(envelope, risk=risk)
    if with_matrix and not loaded.bins:
        raise UsageError(f"--matrix: {envelope} has no section `odd` that says which signals to tell the conditions by")
    if not quiet:
        for warning in loaded.warnings:
            click.echo(f"warning: {warning}", err=True)
    window = parse_window(start, end)
    results: list[Replay] = []
    unreadable = False
    with ExitStack() as stack:
        sinks: list[Sink] = []
        recorder = None
        if jsonl is not None:
            sinks.append(line_writer(stack, jsonl, name_log=len(logs) > 1))
        if journal is not None and key is not None:
            from ..journaling import JournalSink

            sink = JournalSink(stack, journal, key, loaded, tape)
            recorder = sink.record
            sinks.append(sink)
        for log in logs:
            interrupt = PatientInterrupt()

            def listener(event: Event, log: Path = log, interrupt: PatientInterrupt = interrupt) -> None:
                for write in sinks:
                    write(event, log)
                interrupt.check()

            try:
                with progress(log, quiet or not sys.stderr.isatty(), interrupt) as tell:
                    matrix = Matrix(mission=log.name) if with_matrix else None
                    result = replay(
                        log, loaded, window=window, listener=listener, matrix=matrix, recorder=recorder, progress=tell
                    )
                    results.append(result)
            except DamagedInputError as error:
                unreadable = True
                click.echo(f"edge-replay: {error}", err=True)
    if as_json:
        documents = [summary.document(result) for result in results]
        click.echo(json.dumps(documents[0] if len(documents) == 1 else documents, indent=2, ensure_ascii=False))
    elif not quiet:
        from ..display import show

        terminal = console(stderr=jsonl == "-")
        for result in results:
            show(result, terminal)
        if with_matrix:
            from .. import coverage

            whole = merged(result.matrix for result in results if result.matrix is not None)
            coverage.show(whole, loaded.odd, terminal)
    return exit_code(results, fail_on, unreadable)


def exit_code(results: list[Replay], fail_on: tuple[str, ...], unreadable: bool = False) -> int:
    """1 where something was found that the caller asked to fail on, else 4 where a recording is damaged, else 0."""
    from edge_monitor.core.samples import Verdict

    from .. import summary

    found = set()
    for result in results:
        lines = summary.check_lines(result)
        if any(line.fails for line in lines):
            found.add("breach")
        if any(line.verdict == Verdict.UNKNOWN for line in lines):
            found.add("unknown")
        if any(event.type == "check.unknown" for event in result.events):
            found.add("unknown")
        gone = [span.what for gate in result.monitor.envelope.gates for span in summary.spans(result, gate.name)[1:]]
        if "NO_GO" in gone or not all(result.monitor.gates.state().values()):
            found.add("no-go")
    if found.intersection(fail_on):
        return 1
    return 4 if unreadable or any(result.damages for result in results) else 0


def parse_window(start: str | None, end: str | None) -> Window | None:
    """``--from`` and ``--to``, exact to the nanosecond; raises ``UsageError`` for what is no time."""
    from ..replay import Window

    if start is None and end is None:
        return None
    times: list[int | None] = []
    for option, text in (("--from", start), ("--to", end)):
        try:
            times.append(None if text is None else int(Decimal(text) * 10**9))
        except (InvalidOperation, ValueError, OverflowError):
            raise UsageError(f"{option} {text}: expected seconds, such as 437.8, or +10 from the start") from None
    relative = [text is not None and text.startswith("+") for text in (start, end)]
    if times[0] is not None and times[1] is not None and relative[0] == relative[1] and times[0] > times[1]:
        raise UsageError(f"--from {start} is after --to {end}: swap them")
    return Window(times[0], times[1], *relative)


def line_writer(stack: ExitStack, target: str, *, name_log: bool) -> Sink:
    """Writes events as JSON lines; with ``name_log`` each says which recording it is from."""
    stream: IO[str]
    if target == "-":
        stream = sys.stdout
        stack.callback(stream.flush)
    else:
        try:
            stream = stack.enter_context(open(target, "w", encoding="utf-8"))  # noqa: SIM115
        except OSError as error:
            raise ConfigError(f"--jsonl {target}: {error.strerror}; name a file in a folder you can write to") from None

    def write(event: Event, log: Path) -> None:
        document = event.document() | ({"log": str(log)} if name_log else {})
        stream.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")

    return write


@contextmanager
def progress(
    log: Path, hidden: bool, interrupt: PatientInterrupt | None = None
) -> Iterator[Callable[[int, int], None]]:
    """What a reader tells its place (bytes read, bytes in all): a bar on stderr, unless ``hidden``. Ctrl-C comes there."""
    with interrupt or PatientInterrupt() as asked, ExitStack() as stack:
        if hidden:
            yield lambda done, size: asked.check()
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        bar = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        task = bar.add_task(log.name, total=None)

        def tell(done: int, size: int) -> None:
            asked.check()
            bar.update(task, completed=done, total=size)

        yield tell
