"""``edge-monitor``: what runs on the robot, and the tools that go with it."""

from __future__ import annotations

import click

from . import __version__
from .command_line import LazyGroup, run

EXIT_CODES = """\b
Exit codes:
  0  fine, or GO
  1  no-go or breach, where asked to fail on it
  2  wrong usage
  3  bad configuration
  4  unreadable or damaged input (a partial result was written)
  5  a signature, chain or re-execution does not hold
"""

COMMANDS = {
    "check": ("edge_monitor.commands.check", "Check envelope files; every problem with its line."),
    "doctor": (
        "edge_monitor.commands.doctor",
        "Is this machine ready to run the monitor? Its own numbers, and what to mend.",
    ),
    "envelope": ("edge_monitor.commands.envelope", "Propose and approve envelope files, and show who did."),
    "evidence": ("edge_monitor.commands.evidence", "Export a packet that a stranger can verify, and verify one."),
    "go": ("edge_monitor.commands.go", "Ask a running monitor: is this gate GO?"),
    "journal": ("edge_monitor.commands.journal", "Show, verify, prove and export a signed journal."),
    "keys": ("edge_monitor.commands.keys", "Make and show signing keys."),
    "operator": (
        "edge_monitor.commands.operator",
        "Take over, hand back, reset latches: a person's part at a running monitor.",
    ),
    "people": ("edge_monitor.commands.people", "Check the file of the people who may sign."),
    "run": ("edge_monitor.commands.run", "Monitor live inputs on board, until stopped."),
    "schema": ("edge_monitor.commands.schema", "Print the JSON Schema of envelope files, for editors."),
    "status": (
        "edge_monitor.commands.status",
        "How a running monitor stands: gates, checks, signals, command, journal.",
    ),
    "sync": ("edge_monitor.commands.sync", "Bring a journal to a registry, and enrol there."),
    "warm": ("edge_monitor.commands.warm", "Compile all kernels now, so that the first start is quick."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", prog_name="edge-monitor", message="%(prog)s %(version)s")
def group() -> None:
    """Runtime safety monitor for robots: go, no-go or unknown, with a margin, a reason and a signature."""


def main() -> None:
    """Entry point of ``edge-monitor``."""
    run(group, "edge-monitor")
