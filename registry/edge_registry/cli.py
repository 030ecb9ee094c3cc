"""``edge-registry``: what holds and proves a fleet's records."""

from __future__ import annotations

import click

from edge_monitor import __version__
from edge_monitor.cli import EXIT_CODES
from edge_monitor.command_line import LazyGroup, run

COMMANDS = {
    "access": ("edge_registry.commands.access", "Hand out, list and withdraw tokens to sign in to the pages with."),
    "approve": ("edge_registry.commands.approve", "Sign that a model, envelope or data set may be used, or may not."),
    "backup": ("edge_registry.commands.backup", "Copy the database to a file while the registry serves."),
    "bundle": ("edge_registry.commands.bundle", "Show or sign what robots are sent: envelopes, people, revocations."),
    "catalogue": (
        "edge_registry.commands.catalogue",
        "Models, data, envelopes: register, bring evidence, see lineage.",
    ),
    "conflicts": ("edge_registry.commands.conflicts", "List rollbacks and forks; write and check their proofs."),
    "enrol": ("edge_registry.commands.enrol", "Print a one-time token with which a robot enrols."),
    "evidence": ("edge_registry.commands.evidence", "Export part of a log as a packet that a stranger can verify."),
    "exceptions": ("edge_registry.commands.exceptions", "What is not as it should be: list, assign, settle."),
    "import": ("edge_registry.commands.import_", "Take records of a robot from a file that was carried here."),
    "promote": ("edge_registry.commands.promote", "Sign that robots run a model from now on, if all of it stands."),
    "release": ("edge_registry.commands.release", "Take records of a quarantined log again."),
    "retention": ("edge_registry.commands.retention", "How long payloads are kept; erase those whose time is over."),
    "revoke": ("edge_registry.commands.revoke", "Take nothing more from a robot; say up to where its records count."),
    "robots": ("edge_registry.commands.robots", "List robots and their logs: how much is held, and what is wrong."),
    "rotate": ("edge_registry.commands.rotate", "Give the registry a new receipt key."),
    "serve": ("edge_registry.commands.serve", "Take what enrolled robots have recorded, until stopped."),
    "siem": (
        "edge_registry.commands.siem",
        "Send every record to a SIEM: OCSF, ECS, CEF over syslog, OpenTelemetry logs.",
    ),
    "tail": ("edge_registry.commands.tail", "Print every receipted record once, and on from any cursor."),
    "web": ("edge_registry.commands.web", "Serve the pages of a registry to people with a browser."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", prog_name="edge-registry", message="%(prog)s %(version)s")
def group() -> None:
    """Registry of what robots have recorded: receipted, provable, nothing missing unnoticed."""


def main() -> None:
    """Entry point of ``edge-registry``."""
    run(group, "edge-registry")
