"""The report of a run: a table of detection latencies and what the monitor used, as a signed note (docs: journal format)."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from deadlines import Scenario

from edge_monitor import __version__
from edge_monitor.journal import load_signing_key
from edge_monitor.journal.keys import make_key
from edge_monitor.journal.notes import sign_note


class Usage:
    """What a process of this machine used since a moment, all its threads together."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu, self._wall, self._begin = self._seconds(), time.monotonic(), self._memory()

    def report(self) -> str:
        """In words."""
        wall = time.monotonic() - self._wall
        share = (self._seconds() - self._cpu) / wall
        return f"{share:.1%} of one core over {wall:.0f} s, RSS {self._begin:.0f} to {self._memory():.0f} MB"

    def _seconds(self) -> float:
        words = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def _memory(self) -> float:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{self._pid}/status").read_text().splitlines())
        return int(lines["VmRSS"].split()[0]) / 1000


@dataclass
class Report:
    """Filled by the scenarios."""

    monitor: str
    nominal: str = "not run"
    usage: str = "not measured: the monitor runs elsewhere"
    rows: list[tuple[Scenario, float | None, float | None, float | None]] = field(default_factory=list)

    def add(self, scenario: Scenario, no_go: float | None, event: float | None, recovery: float | None) -> None:
        """One scenario, ms; None: it did not come."""
        self.rows.append((scenario, no_go, event, recovery))

    def text(self) -> str:
        """The report, in Markdown."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        lines = [
            "# HIL report", "",
            f"- edge-monitor {__version__}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {now}",
            f"- monitor: {self.monitor}", f"- used: {self.usage}", f"- nominal: {self.nominal}", "",
            "| # | fault | told by | deadline, ms | NO_GO, ms | event, ms | GO again, ms | |",
            "|---|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        for scenario, *found in self.rows:
            no_go, event, recovery = ("none" if ms is None else f"{ms:.1f}" for ms in found)
            held = all(ms is not None and ms <= scenario.deadline_ms for ms in found[:2])
            lines.append(
                f"| {scenario.number:02} | {scenario.fault} | {scenario.event} {scenario.subject} | {scenario.deadline_ms} "
                f"| {no_go} | {event} | {recovery} | {'held' if held else 'MISSED'} |"
            )
        return "\n".join(lines) + "\n"

    def write(self, folder: Path, key: Path | None) -> str:
        """Sign and write it; answers the text."""
        folder.mkdir(parents=True, exist_ok=True)
        if key is None:
            key = folder / "report.key"
            if not key.exists():
                make_key("hil-report", folder)
                (folder / "hil-report.key").rename(key)
                (folder / "hil-report.pub").rename(folder / "report.pub")
        signing = load_signing_key(key)
        text = self.text()
        (folder / "report.md").write_text(sign_note(text, signing))
        return text
