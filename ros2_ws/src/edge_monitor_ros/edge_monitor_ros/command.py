"""``ros2 edge-monitor …``: the command ``edge-monitor``, with all its verbs."""

from __future__ import annotations

import argparse
from typing import Any

from ros2cli.command import CommandExtension


class EdgeMonitorCommand(CommandExtension):
    """Run edge-monitor's own command line."""

    def add_arguments(self, parser: Any, cli_name: str) -> None:
        """All that follows belongs to edge-monitor."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER, help="see 'edge-monitor --help'")

    def main(self, *, parser: Any, args: Any) -> int:
        """Its exit code is ours."""
        from edge_monitor.cli import group

        try:
            group.main(args=args.arguments, prog_name="ros2 edge-monitor")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0
        return 0
