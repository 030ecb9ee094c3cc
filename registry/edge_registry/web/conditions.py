"""Under which conditions a run was, as its records tell it: time in each cell of weather, light, vibration and occlusion, and the
limits passed and drifts found in each. No clock, no database.

What is here was chosen by a robot: an account that is not as expected counts as none, names are cut to words, and cells are
bounded. Time that no account covers stays on its own, as time of which nobody knows the conditions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from edge_monitor.journal.records import Record

AXES = ("weather", "light", "vibration", "occlusion")
UNKNOWN = "unknown"  #: the bin of what was not measured, or not known
UNTOLD = "///"  #: the cell of what no record tells the conditions of: four empty names
MOST_CELLS = 1024
MOST_NS = 1 << 62
ACCOUNTS = frozenset({"monitor.heartbeat", "monitor.stopped"})  #: records that tell the time in each cell
EVENTS = {"check.fail": 1, "drift.detected": 2}  #: what is counted in a cell, and where
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)  #: of a bin


class Stretch(msgspec.Struct):
    """A run of a monitor under one envelope, from its record ``first`` to ``last``. Times in ns."""

    first: int = -1
    last: int = -1
    mission: int = -1
    envelope: str = ""
    t_first: int = 0
    t_last: int = 0
    wall_first: int = 0
    account: int | None = None  #: the record that tells the time in each cell; None: none does yet
    cells: dict[str, list[int]] = {}  #: [ns, limits passed, drifts] by ``weather/light/vibration/occlusion``
    measured: list[str] = []
    domain: dict[str, list[str]] = {}

    def reach(self, sequence: int, record: Record) -> None:
        """A record of it."""
        self.last, self.t_last = sequence, max(self.t_last, record.t_decided)

    def happened(self, kind: str, said: Mapping[str, Any]) -> None:
        """Count an event in the cell that it names."""
        at = EVENTS.get(kind)
        if at is not None:
            self._cell(cell_of(said))[at] += 1

    def accounted(self, sequence: int, said: object) -> None:
        """Take an account of the time so far, in place of an earlier one; what is none changes nothing."""
        if (
            not isinstance(said, Mapping)
            or not isinstance(listed := said.get("cells"), list)
            or len(listed) > MOST_CELLS
        ):
            return
        times: dict[str, int] = {}
        for one in listed:
            *names, ns = one if isinstance(one, list) and len(one) == 5 else (None,)
            cell = joined(names)
            if not cell or not isinstance(ns, int) or isinstance(ns, bool) or ns < 0:
                return
            times[cell] = times.get(cell, 0) + ns
        if sum(times.values()) >= MOST_NS:
            return
        for counts in self.cells.values():
            counts[0] = 0
        for cell, ns in times.items():
            self._cell(cell)[0] += ns
        self.account = sequence
        self.measured = [axis for axis in AXES if axis in _words(said.get("measured"))]
        domain = said.get("domain")
        domain = domain if isinstance(domain, Mapping) else {}
        self.domain = {axis: _words(domain[axis]) for axis in AXES if axis in domain}

    def rows(self) -> list[dict[str, Any]]:
        """What is written down of it: a row for each cell, the untold one among them, whose time is what no account covers."""
        told = sum(ns for ns, *_ in self.cells.values())
        found = []
        for cell, (ns, breaches, drifts) in ({UNTOLD: [0, 0, 0]} | self.cells).items():
            left = max(0, self.t_last - self.t_first - told) if cell == UNTOLD else ns
            found.append({
                **dict(zip(AXES, cell.split("/"), strict=True)), "first": self.first, "last": self.last, "mission": self.mission,
                "envelope": self.envelope, "wall_first": self.wall_first, "ns": min(left, MOST_NS), "breaches": breaches,
                "drifts": drifts, "account": None if cell == UNTOLD else self.account,
            })  # fmt: skip
        return found

    def _cell(self, cell: str) -> list[int]:
        if cell not in self.cells and len(self.cells) >= MOST_CELLS:
            cell = UNTOLD
        return self.cells.setdefault(cell, [0, 0, 0])


def cell_of(said: Mapping[str, Any]) -> str:
    """The cell that an event names; the untold one where it names none."""
    bins = said.get("bins")
    return (joined([bins.get(axis) for axis in AXES]) if isinstance(bins, Mapping) else "") or UNTOLD


def joined(names: list[Any]) -> str:
    """A cell's bins as one text; empty where one of the four is no name."""
    whole = len(names) == len(AXES) and all(isinstance(name, str) and NAME.fullmatch(name) for name in names)
    return "/".join(names) if whole else ""


def _words(said: object) -> list[str]:
    """Names of a list, each once; empty for anything else."""
    if not isinstance(said, list) or len(said) > 32:
        return []
    return list(dict.fromkeys(one for one in said if isinstance(one, str) and NAME.fullmatch(one)))
