"""``edge-replay``: what a field engineer and a mission planner run on a workstation."""

from __future__ import annotations

import click

from edge_monitor import __version__
from edge_monitor.cli import EXIT_CODES
from edge_monitor.command_line import LazyGroup, run

COMMANDS = {
    "calibrate": (
        "edge_replay.commands.calibrate",
        "Make the reference files of drift checks from recordings in which all was well.",
    ),
    "check": ("edge_replay.commands.check", "How often would each limit have fired on past recordings?"),
    "evaluate": (
        "edge_replay.commands.evaluate",
        "How often do drift checks alarm falsely, and how late do they find shifts?",
    ),
    "info": ("edge_replay.commands.info", "What is in a recording: topics, rates, gaps, damage."),
    "reexecute": (
        "edge_replay.commands.reexecute",
        "Run a black box's tape again, and hold every decision against the journal.",
    ),
    "run": ("edge_replay.commands.run", "Replay recordings against an envelope; every breach and decision."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", prog_name="edge-replay", message="%(prog)s %(version)s")
def group() -> None:
    """Replay recordings through the monitor: what fired, why, and would it have fired with that limit?"""


def main() -> None:
    """Entry point of ``edge-replay``."""
    run(group, "edge-replay")
